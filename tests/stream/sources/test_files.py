import gc
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image as PIL
from samples import as_a_browser_records

from fer.errors import SourceError
from fer.stream.sources import files, open_source
from fer.stream.sources.files import demux

Clip = Callable[..., Path]


def test_a_video_gives_every_frame_at_its_own_time(make_clip: Clip) -> None:
    with open_source(str(make_clip())) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.time for frame in frames] == pytest.approx([0.04 * i for i in range(6)], abs=1e-3)
    assert frames[0].image.shape == (48, 64, 3)
    assert [int(frame.image[40, 50, 0]) for frame in frames] == pytest.approx([60 + 5 * i for i in range(6)], abs=3)
    red, green, _ = (int(v) for v in frames[0].image[4, 4])
    assert red > 180 and green < 80, "RGB, not BGR"
    assert source.notes == []
    assert (source.kind, source.total, source.rate) == ("video", 6, 25)


def test_uneven_times_are_kept(make_clip: Clip) -> None:
    times = [0.0, 0.04, 0.08, 0.5, 0.54, 1.2]
    with open_source(str(make_clip(times=times))) as source:
        assert [frame.time for frame in source] == pytest.approx(times, abs=1e-3)


def test_times_count_from_the_start_of_the_file(make_clip: Clip) -> None:
    path = make_clip("clip.ts", times=[9.0 + i / 25 for i in range(6)])
    with av.open(str(path)) as container:
        assert container.start_time == 9_000_000
    with open_source(str(path)) as source:
        assert next(iter(source)).time == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("name", ["a.ts", "a.flv"])
def test_a_recording_that_is_joined_to_itself_goes_on(name: str, make_clip: Clip) -> None:
    path = make_clip(name, frames=30, times=[9.0 + i / 25 for i in range(30)])
    body = path.read_bytes()
    path.write_bytes(body + body[13 * name.endswith("flv") :])  # without the head of a second FLV
    with open_source(str(path)) as source:
        times = [frame.time for frame in source]
    assert times == pytest.approx([i / 25 for i in range(60)], abs=0.05)
    assert times == sorted(set(times)) and source.notes == []


def test_a_clock_that_wraps_goes_on(make_clip: Clip) -> None:
    wrap = 2**33 / 90_000
    with open_source(str(make_clip("a.ts", times=[wrap - 0.1 + i / 25 for i in range(6)]))) as source:
        assert [frame.time for frame in source] == pytest.approx([i / 25 for i in range(6)], abs=1e-3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_slow_films_and_gaps_are_believed(name: str, make_clip: Clip) -> None:
    times = [0.0, 2.0, 4.0, 7.0, 7.04, 12.0]
    with open_source(str(make_clip(name, times=times))) as source:
        assert [frame.time for frame in source] == pytest.approx(times, abs=1e-3)


def test_a_film_can_be_opened_again_with_the_same_clock(make_clip: Clip) -> None:
    path = make_clip("a.ts")
    path.write_bytes(2 * path.read_bytes())
    with open_source(str(path)) as source, source.reopen() as container:
        frames = [frame.time for frame in source]
        packets = [p.pts * p.time_base for p in demux(container, container.streams.video[0]) if p.pts is not None]
    assert [float(time) for time in packets] == pytest.approx(frames)


@pytest.mark.parametrize(("quarter", "corner"), [(90, "right upper"), (180, "right lower"), (270, "left lower")])
def test_a_phone_video_is_turned_upright(make_clip: Clip, quarter: int, corner: str) -> None:
    path = make_clip()
    data = bytearray(path.read_bytes())
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[quarter]  # clockwise, as players turn it
    matrix = [v << 16 for v in (cosine, sine, 0, -sine, cosine, 0, 0, 0)]
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 32] = struct.pack(">8i", *matrix)
    path.write_bytes(data)
    with open_source(str(path)) as source:
        image = next(iter(source)).image
    assert image.shape == ((48, 64, 3) if quarter == 180 else (64, 48, 3))
    side, level = corner.split()
    y, x = (4 if level == "upper" else -4), (4 if side == "left" else -4)
    assert image[y, x, 0] > 180 and image[y, x, 1] < 80


def test_a_cut_video_gives_what_decodes_and_says_so(make_clip: Clip) -> None:
    path = make_clip("clip.mkv", frames=60, size=(160, 120))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with open_source(str(path)) as source:
        frames = list(source)
    assert 5 < len(frames) < 50
    assert source.notes and "clip.mkv" in source.notes[0]


def test_the_rest_of_a_cut_avi_is_missed_and_frames_that_it_repeats_are_not(make_clip: Clip) -> None:
    path = make_clip("clip.avi", frames=8, times=[0.0, 0.04, 0.2, 0.24, 1.0, 1.04, 2.96, 3.0])
    with open_source(str(path)) as source:
        assert len(list(source)) == 8 and source.notes == []
    content = make_clip("clip.avi", frames=100, size=(160, 120)).read_bytes()
    path.write_bytes(content[: content.index(b"idx1") // 2])
    with open_source(str(path)) as source:
        assert 30 < len(list(source)) < 70
    assert any("frames that its header lists" in note for note in source.notes)


def test_the_end_of_a_file_is_no_error(make_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*given: Any) -> Any:
        yield from demux(*given)
        raise av.error.EOFError(541478725, "End of file")

    monkeypatch.setattr(files, "demux", ended)
    with open_source(str(make_clip())) as source:
        assert len(list(source)) == 6 and source.notes == []


def test_a_damaged_video_goes_on_behind_the_damage(make_clip: Clip) -> None:
    path = make_clip("clip.mp4", frames=40, size=(160, 120))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    stop = data.index(b"moov") - 4
    third = (stop - start) // 3
    data[start + third : start + 2 * third] = bytes(third)
    path.write_bytes(data)
    with open_source(str(path)) as source:
        frames = list(source)
    assert 5 < len(frames) < 40
    assert frames[-1].time > 1.4
    assert source.notes and "clip.mp4" in " ".join(source.notes)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.flv"])
def test_frames_with_damage_are_counted(name: str, make_clip: Clip) -> None:
    path = make_clip(name, frames=60, size=(160, 120))
    with open_source(str(path)) as source:
        assert len(list(source)) == 60 and source.notes == []
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 3, len(data) * 2 // 3, len(data) // 30):
        data[at] ^= 255
    path.write_bytes(data)
    with open_source(str(path)) as source:
        assert len(list(source)) > 50
    assert any("damaged" in note and name in note for note in source.notes)


def test_a_stream_that_appears_in_the_middle_does_not_end_a_film(make_clip: Clip) -> None:
    path = make_clip("clip.flv", frames=300)
    data, at, tags = path.read_bytes(), 13, 0
    while tags < 250:  # each is a type, its length in 3 bytes, 7 bytes, the content, and 4 bytes
        at, tags = at + 15 + int.from_bytes(data[at + 1 : at + 4], "big"), tags + 1
    sound = bytes([8, 0, 0, 3, *data[at + 4 : at + 8], 0, 0, 0, 0x2F, 0, 0, 0, 0, 0, 14])
    path.write_bytes(data[:at] + sound + data[at:])
    with open_source(str(path)) as source:
        assert len(list(source)) == 300


def test_stopping_early_is_no_loss(make_clip: Clip) -> None:
    with open_source(str(make_clip())) as source:
        frames = iter(source)
        next(frames)
        frames.close()
    assert source.notes == []


def test_an_mp4_without_its_index_says_so(make_clip: Clip) -> None:
    path = make_clip(frames=30)
    path.write_bytes(path.read_bytes()[:-200])
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov")])
    with pytest.raises(SourceError, match="without its index"):
        open_source(str(path))


def test_a_picture_in_a_format_without_a_decoder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    with pytest.raises(SourceError, match="no video that can be decoded"):
        open_source(str(tmp_path / "a.gif"))


@pytest.mark.parametrize("codec", [b"V_NOBODY/ISO/AVC", b"V_XXXX"])
def test_a_video_of_an_unknown_codec_is_refused(codec: bytes, make_clip: Clip) -> None:
    path = make_clip("clip.mkv")
    data = path.read_bytes()
    name = b"V_MPEG4/ISO/AVC"
    assert data.count(name) == 1
    path.write_bytes(data.replace(name, codec.ljust(len(name), b"\0")[: len(name)]))
    with pytest.raises(SourceError, match="no video that can be decoded"):
        open_source(str(path), threads=1)


def add(
    out: Any, codec: str, level: int, seconds: float = 1, size: int = 64, cover: bool = False
) -> Callable[[], None]:
    """Add a stream of a grey level, or a tone, to a container; the function that is returned writes it."""
    audio = codec in ("aac", "mp3", "flac", "pcm_s16le")
    stream = out.add_stream(codec, rate=8_000 if audio else 25, **({"layout": "mono"} if audio else {}))
    if not audio:
        stream.width, stream.height, stream.pix_fmt = size, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
    if cover:
        stream.disposition = Disposition.attached_pic

    def write() -> None:
        for k in range(round(seconds * 25)):
            if audio:
                frame = av.AudioFrame.from_ndarray(np.full((1, 320), level, np.int16), format="s16", layout="mono")
                frame.sample_rate, frame.pts = 8_000, 320 * k
            else:
                frame = av.VideoFrame.from_ndarray(np.full((48, size, 3), level, np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))

    return write


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_a_cover_picture_is_no_film(name: str, tmp_path: Path) -> None:
    with av.open(str(tmp_path / name), "w") as out:
        cover, film = add(out, "mjpeg", 250, 0.04, 640, cover=True), add(out, "libx264", 100)
        cover()
        film()
    with open_source(str(tmp_path / name)) as source:
        images = [frame.image for frame in source]
    assert len(images) == 25 and images[0].shape == (48, 64, 3) and images[0].mean() == pytest.approx(100, abs=3)


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "mp3"), ("a.m4a", "aac"), ("a.wav", "pcm_s16le"), ("a", "flac")])
def test_a_sound_file_is_no_film(name: str, codec: str, tmp_path: Path) -> None:
    with av.open(str(tmp_path / name), "w", format=None if "." in name else "flac") as out:
        add(out, codec, 99)()
    with pytest.raises(SourceError, match="holds sound only; give a video"):
        open_source(str(tmp_path / name))


def test_a_sound_file_with_a_cover_is_no_film(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        sound, cover = add(out, "aac", 99), add(out, "mjpeg", 250, 0.04, cover=True)
        cover()
        sound()
    with pytest.raises(SourceError, match="holds sound only; give a video"):
        open_source(str(tmp_path / "a.mp4"))


@pytest.mark.parametrize("content", [b"%PDF-1.4\n", b"PK\x03\x04" + bytes(60), b"\x7fELF" + bytes(999), b"note " * 99])
def test_what_is_no_film_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(SourceError, match="; give") as error:
        open_source(str(tmp_path / "a.mp4"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mov"])
def test_a_picture_that_begins_after_the_sound_is_late(name: str, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "whole.mp4"), "w") as out:
        for write in (add(out, "libx264", 100), add(out, "aac", 99, 3)):
            write()
    with av.open(str(tmp_path / "whole.mp4")) as whole, av.open(str(tmp_path / name), "w") as out:
        copies = [out.add_stream_from_template(stream) for stream in whole.streams]
        for packet in sorted((p for p in whole.demux() if p.size), key=lambda p: p.dts * p.time_base):
            if packet.stream_index == 0:
                packet.pts, packet.dts = packet.pts + 2 * 12_800, packet.dts + 2 * 12_800
            packet.stream = copies[packet.stream_index]
            out.mux(packet)
    with open_source(str(tmp_path / name)) as source:
        times = [frame.time for frame in source]
    # Encoders of AAC begin 1024 samples early, which some formats count.
    assert times == pytest.approx([2 + k / 25 for k in range(25)], abs=0.15) and source.notes == []


def test_frames_that_the_edit_list_leaves_out_are_no_loss(make_clip: Clip, tmp_path: Path) -> None:
    with av.open(str(make_clip(frames=12))) as whole, av.open(str(tmp_path / "cut.mp4"), "w") as out:
        copy = out.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.size:
                packet.pts, packet.dts = packet.pts - 640 * 3, packet.dts - 640 * 3  # three frames and a bit
                packet.stream = copy
                out.mux(packet)
    with open_source(str(tmp_path / "cut.mp4")) as source:
        frames = list(source)
    assert source.total == len(frames) < 12 and source.notes == []
    assert frames[0].time == pytest.approx(0, abs=0.04)


def test_the_clock_of_a_recording_is_not_its_rate(tmp_path: Path) -> None:
    with open_source(str(as_a_browser_records(tmp_path / "a.webm"))) as source:
        assert source.rate == 30 and source.total in range(145, 156)


def test_a_moving_gif_moves(tmp_path: Path) -> None:
    pictures = [PIL.new("RGB", (32, 32), (60 * i, 0, 0)) for i in range(4)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    (tmp_path / "a.gif").write_bytes(buffer.getvalue())
    with open_source(str(tmp_path / "a.gif")) as source:
        assert [round(frame.time, 1) for frame in source] == [0.0, 0.1, 0.2, 0.3]


def test_frames_are_freed_as_they_are_read(make_clip: Clip) -> None:
    def alive() -> int:
        return sum(type(each) is av.VideoFrame for each in gc.get_objects())

    clip = make_clip(frames=20)
    gc.collect()
    gc.disable()
    try:
        before = alive()
        with open_source(str(clip)) as source:
            assert max(alive() - before for _ in source) <= 8, "without waiting for the garbage collector"
    finally:
        gc.enable()
