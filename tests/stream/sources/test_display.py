"""Films as a player shows them."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import ExifTags
from PIL import Image as PIL

from fer.stream.sources import open_source
from fer.stream.sources.display import shown, turns_of

COLOURS = np.array([[(200, 40, 40), (40, 200, 40)], [(40, 40, 200), (200, 200, 40)]], np.uint8)
PICTURE = COLOURS.repeat(24, 0).repeat(32, 1)
"""Four colours, uint8 (48, 64, 3)."""


def film(path: Path, aspect: Fraction = Fraction(1), size: tuple[int, int] = (64, 48), **display: Any) -> Path:
    """Write ten frames of the picture. `display` goes to `set_display_rotation`."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "1", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        stream.codec_context.sample_aspect_ratio = aspect
        if display:
            stream.set_display_rotation(**display)
        for _ in range(10):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(PICTURE, format="rgb24").reformat(*size)))
        out.mux(stream.encode(None))
    return path


def pictures(path: Path) -> list[np.ndarray]:
    with open_source(str(path)) as source:
        return [frame.image for frame in source]


def colours(image: np.ndarray) -> np.ndarray:
    """The middle of each quarter."""
    height, width = image.shape[:2]
    return image[height // 4 :: height // 2, width // 4 :: width // 2][:2, :2]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize(("hflip", "vflip"), [(False, False), (True, False), (False, True)])
def test_a_film_is_turned_and_mirrored(name: str, quarters: int, hflip: bool, vflip: bool, tmp_path: Path) -> None:
    image = pictures(film(tmp_path / name, degrees=90 * quarters, hflip=hflip, vflip=vflip))[0]
    expected = np.rot90(COLOURS, quarters)
    expected = expected[:, ::-1] if hflip else expected[::-1] if vflip else expected
    assert image.shape == ((64, 48, 3) if quarters % 2 else (48, 64, 3))
    assert colours(image) == pytest.approx(expected.astype(int), abs=6)


@pytest.mark.parametrize(("degrees", "quarters"), [(30, 0), (-40, 0), (60, 1), (100, 1), (200, 2)])
def test_other_angles_are_rounded_to_quarter_turns(degrees: int, quarters: int, tmp_path: Path) -> None:
    image = pictures(film(tmp_path / "a.mp4", degrees=degrees))[0]
    assert colours(image) == pytest.approx(np.rot90(COLOURS, quarters).astype(int), abs=6)


def test_frames_with_data_that_pyav_does_not_know_are_turned(tmp_path: Path) -> None:
    exif = PIL.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for k in range(4):
        PIL.fromarray(PICTURE).save(tmp_path / f"{k}.jpg", exif=exif, subsampling=0, quality=95)
    (tmp_path / "a.mjpeg").write_bytes(b"".join((tmp_path / f"{k}.jpg").read_bytes() for k in range(4)))
    images = pictures(tmp_path / "a.mjpeg")
    assert len(images) == 4 and images[0].shape == (64, 48, 3)
    assert colours(images[0]) == pytest.approx(np.rot90(COLOURS, -1).astype(int), abs=12)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mov"])
@pytest.mark.parametrize(
    ("aspect", "width"), [((4, 3), 85), ((16, 9), 114), ((1, 2), 32), ((1, 90), 64), ((99, 1), 64)]
)
def test_pixels_are_square_unless_their_aspect_is_nonsense(
    name: str, aspect: tuple[int, int], width: int, tmp_path: Path
) -> None:
    image = pictures(film(tmp_path / name, Fraction(*aspect)))[0]
    assert image.shape == (48, width, 3)
    assert colours(image) == pytest.approx(COLOURS.astype(int), abs=6)


def test_a_turned_film_keeps_the_height_that_is_seen(tmp_path: Path) -> None:
    assert pictures(film(tmp_path / "a.mp4", Fraction(4, 3), degrees=90))[0].shape == (64, 36, 3)


def test_size_and_aspect_may_change_within_a_film(tmp_path: Path) -> None:
    parts = [film(tmp_path / "a.ts"), film(tmp_path / "b.ts", Fraction(3, 2)), film(tmp_path / "c.ts", size=(32, 64))]
    (tmp_path / "all.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    shapes = [image.shape[:2] for image in pictures(tmp_path / "all.ts")]
    assert shapes == 10 * [(48, 64)] + 10 * [(48, 96)] + 10 * [(64, 32)]


@pytest.mark.parametrize("matrix", [1, 5])  # BT.709, BT.601
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("layout", ["yuv420p", "yuv422p", "yuv420p10le", "yuv444p12le"])
def test_colours_are_right_in_every_matrix_and_range(matrix: int, full: bool, layout: str) -> None:
    frame = av.VideoFrame.from_ndarray(PICTURE, format="rgb24")
    frame = frame.reformat(format=layout, dst_colorspace=matrix, dst_color_range=2 if full else 1)
    assert colours(shown(frame, None, turns_of(frame))) == pytest.approx(COLOURS.astype(int), abs=4)


def hdr(codes: np.ndarray, transfer: int) -> av.VideoFrame:
    """Grey patches of the given codes, 0 to 1, in a frame as HDR films have it."""
    image = np.round(codes * 65535).astype(np.uint16).repeat(16)[None, :, None].repeat(16, 0).repeat(3, 2)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb48le")
    frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
    frame.color_trc, frame.color_primaries = transfer, 9
    return frame


@pytest.mark.parametrize(
    ("transfer", "codes"),
    [(16, [0, 0.1499, 0.338, 0.5081, 0.5807, 0.7518, 1]), (18, [0, 0.0974, 0.3092, 0.6296, 0.7499, 1, 1])],
)
def test_hdr_is_tone_mapped(transfer: int, codes: list[float]) -> None:
    """Patches of 0, 1, 16, 100, 203, 1000 and 10,000 cd/m²; of HLG's as far as they go."""
    levels = shown(hdr(np.array(codes), transfer), None, (False, 1, 1))[8, 8::16].astype(int)
    assert (np.ptp(levels, axis=1) <= 2).all(), "grey remains grey"
    dark, low, mid, bright, white, peak, most = levels[:, 1]
    assert dark == 0 and peak >= 254 and most >= 254
    assert low in range(18, 32) and mid in range(80, 96) and bright in range(175, 200) and white in range(222, 238)


def test_hdr_colours_keep_their_hue_and_leave_bt2020() -> None:
    frame = hdr(np.full(4, 0.5), 16)
    image = frame.to_ndarray(format="rgb48le", src_colorspace=9)
    image[..., 1:] = image[..., 1:] * 0.8
    red = av.VideoFrame.from_ndarray(image, format="rgb48le").reformat(format="yuv420p10le", dst_colorspace=9)
    red.color_trc = 16
    red, green, blue = (int(v) for v in shown(red, None, (False, 1, 1))[8, 8])
    plain = (255 * np.array([0.5, 0.4, 0.4])).astype(int)
    assert red > 200 and abs(green - blue) < 15 and red - green > 2 * (plain[0] - plain[1])


def test_an_hdr_film_is_read_as_one(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("libx265", rate=25, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        codec = stream.codec_context
        codec.color_trc, codec.color_primaries, codec.colorspace, codec.color_range = 16, 9, 9, 1
        for _ in range(3):
            out.mux(stream.encode(hdr(np.full(4, 0.5081), 16).reformat(64, 48)))
        out.mux(stream.encode(None))
    image = pictures(tmp_path / "a.mkv")[0]
    assert image.mean() == pytest.approx(189, abs=6), "untouched it would be 130"
