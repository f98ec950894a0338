"""The sound of saved films: the film is saved whatever its sound is, and the sound is in time or its loss is named."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from samples import flat, served_folder

from fer.faces.types import Faces
from fer.stream.fakes import FakeSource
from fer.stream.sinks import Context
from fer.stream.sinks.sound import RATE, _Track, sound
from fer.stream.sinks.video import VideoFile
from fer.stream.sources import open_source
from fer.stream.types import FrameResult


def film(
    path: Path,
    codec: str = "aac",
    rate: int = 16_000,
    layout: str = "mono",
    picture: str = "mpeg4",
    begins: float = 0.0,
    seconds: float = 2.0,
    tracks: int = 1,
) -> Path:
    """A film of 2 s at 25 frames per second. Its tone is loud from second 1 on; the sound has other limits if given."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream(picture, rate=25, options={"g": "5", "preset": "ultrafast", "deadline": "realtime"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sounds: list[Any] = [out.add_stream(codec, rate=rate, layout=layout) for _ in range(tracks)]
        channels, packets = sounds[0].codec_context.layout.nb_channels, []
        for k in range(50):
            frame = av.VideoFrame.from_ndarray(flat(64, 48, 5 * k), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            packets += video.encode(frame)
        times = begins + np.arange(int((seconds - begins) * rate)) / rate
        tone = (np.sin(2 * np.pi * 440 * times) * (times > 1) * 20_000).astype(np.int16)
        for k in range(0, len(tone), 1024):
            samples = np.repeat(tone[k : k + 1024, None], channels, 1).reshape(1, -1)
            for track in sounds:
                piece = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
                piece.sample_rate, piece.pts, piece.time_base = rate, k + round(begins * rate), Fraction(1, rate)
                packets += track.encode(piece)
        for stream in (video, *sounds):
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return path


def save(source: Any, path: Path, most: int | None = None) -> list[str]:
    """Save a film, as infer.py would. Return the notes."""
    with open_source(str(source)) as opened, VideoFile(path, Context(opened, ("a",))) as video:
        for frame in opened:
            if most is not None and frame.index >= most:
                break
            video.write(FrameResult(frame, Faces.none(), ("a",), np.zeros((0, 1), np.float32)), frame.image)
    return opened.notes


def heard(path: Path) -> tuple[float, float, float]:
    """When the sound begins to be loud, ceases to be, and ends, in seconds."""
    with av.open(str(path)) as container:
        pieces = [(f.time, f.to_ndarray()) for f in container.decode(audio=0)]
    assert [p.shape[0] for _, p in pieces] == [2] * len(pieces), "stereo"
    loud = np.flatnonzero(np.abs(np.concatenate([p[0] for _, p in pieces])) > 0.2) / RATE + pieces[0][0]
    return loud[0], loud[-1], pieces[-1][0] + pieces[-1][1].shape[1] / RATE


def frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


ODD = [
    ("phone.avi", "adpcm_ima_wav", 44_100, "mono"),
    ("old.avi", "adpcm_ms", 22_050, "stereo"),
    ("canon.avi", "pcm_u8", 11_024, "mono"),
    ("nvr.mov", "pcm_mulaw", 8_000, "mono"),
    ("hi.mov", "pcm_s16le", 192_000, "stereo"),
    ("studio.mov", "pcm_s24le", 48_000, "hexadecagonal"),
    ("cinema.mkv", "flac", 96_000, "5.1"),
    ("dvd.mkv", "ac3", 48_000, "5.1"),
    ("three.mkv", "pcm_f32le", 48_000, "3 channels"),
    ("camera.m2ts", "pcm_bluray", 48_000, "stereo"),
    ("tv.mpg", "mp2", 32_000, "stereo"),
    ("call.mkv", "libopus", 16_000, "mono"),
    ("flash.flv", "nellymoser", 22_050, "mono"),
    ("disc.mov", "alac", 44_100, "stereo"),
    ("slow.mp4", "aac", 8_000, "mono"),
]


@pytest.mark.parametrize(("name", "codec", "rate", "layout"), ODD)
def test_sound_of_any_kind_is_kept_in_time(tmp_path: Path, name: str, codec: str, rate: int, layout: str) -> None:
    picture = {"flv": "flv", "m2ts": "mpeg2video", "mpg": "mpeg2video"}.get(name.split(".")[1], "mpeg4")
    clip = film(tmp_path / name, codec, rate, layout, picture)
    ending = ["mp4", "mkv", "mov"][len(name) % 3]
    assert save(clip, tmp_path / f"out.{ending}") == []
    begins, ceases, end = heard(tmp_path / f"out.{ending}")
    assert (begins, ceases) == (pytest.approx(1.0, abs=0.06), pytest.approx(2.0, abs=0.06))
    assert end == pytest.approx(2.0, abs=0.15) and frames(tmp_path / f"out.{ending}") == 50


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize(
    ("begins", "seconds"), [(0.7, 2.0), (0.0, 1.5), (0.0, 3.3), (1.3, 2.6)], ids=["late", "short", "long", "both"]
)
def test_sound_begins_and_ends_as_in_the_source(tmp_path: Path, ending: str, begins: float, seconds: float) -> None:
    clip, path = film(tmp_path / "a.mov", "pcm_s16le", begins=begins, seconds=seconds), tmp_path / f"out.{ending}"
    assert save(clip, path) == []
    first, last, end = heard(path)
    assert (first, last) == (pytest.approx(max(1.0, begins), abs=0.04), pytest.approx(seconds, abs=0.04))
    assert end == pytest.approx(seconds, abs=0.04) and frames(path) == 50
    with av.open(str(path)) as container:
        assert (container.duration or 0) / av.time_base == pytest.approx(max(2.0, seconds), abs=0.04)


def test_sound_ends_with_a_film_that_is_stopped(tmp_path: Path) -> None:
    save(film(tmp_path / "a.mp4", seconds=3), tmp_path / "out.mp4", most=40)
    assert heard(tmp_path / "out.mp4")[2] == pytest.approx(1.6, abs=0.04)


def test_the_track_that_players_choose_is_kept_and_the_others_are_named(tmp_path: Path) -> None:
    (note,) = save(film(tmp_path / "a.mkv", tracks=3), tmp_path / "out.mp4")
    assert "number 1 of its 3 sound tracks" in note and "-map 0:a:1" in note
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(container.streams.audio) == 1


@pytest.mark.parametrize(
    ("name", "codec", "picture"), [("a.avi", "mp2", "mpeg4"), ("a.ts", "ac3", "mpeg2video"), ("a.mkv", "aac", "mpeg4")]
)
def test_damaged_sound_becomes_silence_and_is_named(tmp_path: Path, name: str, codec: str, picture: str) -> None:
    clip = film(tmp_path / name, codec, 48_000, picture=picture)
    with av.open(str(clip)) as whole, av.open(str(tmp_path / f"broken_{name}"), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in whole.streams}
        for packet in whole.demux():
            if packet.dts is not None and packet.size:
                damaged = packet.stream.type == "audio" and 1.3 < packet.pts * packet.time_base < 1.6
                copy = av.Packet(b"\xff" * packet.size if damaged else bytes(packet))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.stream, copy.is_keyframe = streams[packet.stream.index], packet.is_keyframe
                out.mux(copy)
    (note,) = save(tmp_path / f"broken_{name}", tmp_path / "out.mkv")
    assert "damaged packets of its sound" in note
    begins, ceases, _ = heard(tmp_path / "out.mkv")
    assert (begins, ceases) == (pytest.approx(1.0, abs=0.06), pytest.approx(2.0, abs=0.06))
    assert frames(tmp_path / "out.mkv") == 50


def test_sound_that_cannot_be_decoded_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = film(tmp_path / "a.avi", "pcm_s16le")
    data = bytearray(clip.read_bytes())
    at = data.index(b"auds", data.index(b"auds") + 1 if data.count(b"auds") > 1 else 0)
    form = data.index(b"strf", at) + 8
    data[form : form + 2] = b"\x99\x99"  # an unknown codec
    (tmp_path / "unknown.avi").write_bytes(data)
    (note,) = save(tmp_path / "unknown.avi", tmp_path / "out.mp4")
    assert "sound" in note and "left out" in note and "-c:a aac" in note

    def fails(self: Any) -> Any:
        raise av.error.ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("fer.stream.sources.files.Video.reopen", fails)
    (note,) = save(clip, tmp_path / "second.mp4")
    assert "is left out: Connection refused" in note
    for name in ("out", "second"):
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            assert not container.streams.audio
        assert frames(tmp_path / f"{name}.mp4") == 50


def test_sound_that_breaks_off_is_kept_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def demux(container: Any, *streams: Any) -> Iterator[Any]:
        for packet in container.demux(*streams):
            if packet.pts and packet.pts * packet.time_base > 1.5:
                raise av.error.ConnectionResetError(104, "Connection reset by peer")
            yield packet

    monkeypatch.setattr("fer.stream.sinks.sound.demux", demux)
    (note,) = save(film(tmp_path / "a.mp4"), tmp_path / "out.mp4")
    assert "ends at 1.5 s: Connection reset by peer" in note
    assert heard(tmp_path / "out.mp4")[2] == pytest.approx(1.5, abs=0.1) and frames(tmp_path / "out.mp4") == 50


def test_a_film_by_url_keeps_its_sound(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", picture="libx264")
    with served_folder(tmp_path) as address:
        notes = save(f"{address}/a.mp4", tmp_path / "out.mp4")
    assert notes == [] and heard(tmp_path / "out.mp4")[0] == pytest.approx(1.0, abs=0.06)


def test_films_without_sound_have_none_and_no_note(tmp_path: Path) -> None:
    assert save(film(tmp_path / "a.mp4", tracks=1, begins=2.0), tmp_path / "out.mp4") == []
    source = FakeSource()
    assert list(sound(source)) == [] and source.notes == []


def piece(time: float | None, samples: Any, rate: int = RATE, layout: str = "stereo") -> Any:
    frame = av.AudioFrame.from_ndarray(np.asarray(samples, np.float32), format="fltp", layout=layout)
    frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
    frame.pts = None if time is None else round(time * rate)
    return frame


def on_track(frames: Sequence[Any]) -> np.ndarray:
    track = _Track()
    pieces = [each for frame in frames for each in track.add(frame)] + list(track.flush())
    ends = np.cumsum([each.samples for each in pieces])
    assert [each.pts for each in pieces] == [0, *ends[:-1]] and track.end == ends[-1]
    return np.concatenate([each.to_ndarray() for each in pieces], axis=1)


def test_gaps_are_silent_and_what_comes_too_early_is_cut() -> None:
    ones = np.ones((2, RATE // 10), np.float32)
    samples = on_track([piece(-0.08, ones), piece(0.02, ones), piece(0.5, ones), piece(0.52, ones), piece(None, ones)])
    assert samples.shape[1] == pytest.approx(0.72 * RATE, abs=2)
    assert set(np.unique(samples[:, : int(0.115 * RATE)])) == {1.0}
    assert set(np.unique(samples[:, int(0.125 * RATE) : int(0.49 * RATE)])) == {0.0}
    assert samples[:, int(0.51 * RATE) :].min() == 1.0


def test_times_that_tremble_do_not_cut_the_sound() -> None:
    ones = np.ones((2, 480), np.float32)
    samples = on_track([piece(0.01 * k + 0.012 * (-1) ** k, ones) for k in range(50)])
    assert samples.shape == (2, 50 * 480) and samples.min() == 1.0


def test_sound_may_change_its_rate_and_channels() -> None:
    loud = [piece(0, np.ones((2, 4800))), piece(0.1, np.ones((1, 800)), 8000, "mono"), piece(0.2, np.ones((2, 4800)))]
    samples = on_track(loud)
    assert samples.shape[1] == pytest.approx(0.3 * RATE, abs=100)
    assert np.median(samples) == pytest.approx(1.0, abs=0.01)


def test_values_that_are_not_finite_can_be_encoded() -> None:
    samples = np.full((2, 2048), 3.0, np.float32)
    samples[:, ::3], samples[:, 1::3] = np.nan, np.inf
    assert set(np.unique(on_track([piece(0, samples)]))) == {0.0, 1.0}


def test_sound_that_begins_after_hours_takes_no_memory() -> None:
    pieces = _Track().add(piece(7200.0, np.ones((2, 1024))))
    assert [next(pieces).samples for _ in range(3)] == [1024] * 3
