import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fer.errors import SourceError
from fer.stream.sources import open_source
from fer.stream.sources.memory import as_rgb

GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
RGB = np.stack([GREY, GREY // 2, 255 - GREY], axis=2)


def encoded(image: np.ndarray, orientation: int = 1) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(image).save(file, "PNG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(
    "given",
    [
        RGB,
        np.asfortranarray(RGB),
        np.repeat(RGB, 2, axis=1)[:, ::2],
        np.dstack([RGB, np.full_like(GREY, 255)]),
        np.moveaxis(RGB, 2, 0),
        RGB.astype(np.uint16) * 257,
        RGB.astype(">u2") * 257,
        torch.from_numpy(RGB),
        torch.from_numpy(RGB).permute(2, 0, 1),
        Image.fromarray(RGB),
        Image.fromarray(np.dstack([RGB, np.full_like(GREY, 255)])),
        encoded(RGB),
        bytearray(encoded(RGB)),
        io.BytesIO(encoded(RGB)),
        Image.open(io.BytesIO(encoded(np.rot90(RGB), 6))),
        Image.open(io.BytesIO(encoded(RGB[:, ::-1], 2))),
        encoded(np.rot90(RGB), 6),
    ],
)
def test_every_form_of_a_picture_is_the_same_picture(given: Any) -> None:
    actual = as_rgb(given)
    np.testing.assert_array_equal(actual, RGB)
    assert actual.dtype == np.uint8 and actual.flags.c_contiguous


@pytest.mark.parametrize(
    "given", [GREY, GREY[..., None], GREY[None], torch.from_numpy(GREY), Image.fromarray(GREY), encoded(GREY)]
)
def test_grey_becomes_rgb(given: Any) -> None:
    np.testing.assert_array_equal(as_rgb(given), np.dstack([GREY] * 3))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I;16"])
def test_pil_images_of_any_mode(mode: str) -> None:
    white = Image.new(mode, (6, 4), 65535) if mode == "I;16" else Image.new("RGB", (6, 4), "white").convert(mode)
    np.testing.assert_array_equal(as_rgb(white), np.full((4, 6, 3), 255))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparent_parts_are_white_in_memory_as_in_files(dtype: type) -> None:
    array = np.dstack([RGB, np.full_like(GREY, 255)])
    array[0] = 0
    array[1, :, 3] = 51
    expected = RGB.copy()
    expected[0] = 255
    expected[1] = np.round(RGB[1] * 0.2 + 255 * 0.8)
    actual = as_rgb(array.astype(dtype) * (257 if dtype == np.uint16 else 1))
    np.testing.assert_allclose(actual.astype(int), expected, atol=1)
    np.testing.assert_array_equal(as_rgb(Image.fromarray(array)), actual)
    np.testing.assert_array_equal(as_rgb(encoded(array)), actual)


def test_masks_are_black_and_white() -> None:
    assert np.unique(as_rgb(GREY > 100)).tolist() == [0, 255]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (RGB / 255, r"image \* 255"),
        (RGB.astype(np.float16), "astype"),
        (RGB.astype(np.int64), "astype"),
        (RGB.astype(np.uint16), "astype"),
        (torch.rand(3, 4, 6), "astype"),
        (Image.fromarray(GREY).convert("F"), "astype"),
        (RGB[:0], "empty"),
        (RGB[:, :0], "empty"),
        (np.zeros((9, 9, 2), np.uint8), r"\(H, W, 3\)"),
        (RGB.ravel(), r"\(H, W, 3\)"),
        (np.stack([RGB, RGB]), r"stream\(\)"),
        (b"", "cannot be read"),
        (encoded(RGB)[:20], "cannot be read"),
        (io.StringIO("text"), "give a path"),
        (None, "give a path"),
        ({"image": RGB}, "give a path"),
        ([[1, 2], [3]], "give a path"),
    ],
)
def test_what_is_no_picture_names_the_fix(given: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        as_rgb(given)


def test_sources_from_memory(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), RGB)
    for given, kind, frames in (
        (RGB, "image", 1),
        (encoded(RGB), "image", 1),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "folder", 2),
        ([tmp_path / "a.png"], "folder", 1),
        (tmp_path.glob("*.png"), "folder", 1),
        (map(np.copy, [RGB, RGB]), "video", 2),
    ):
        with open_source(given) as source:
            assert (source.kind, len(list(source))) == (kind, frames)
    (tmp_path / "clip.mp4").write_bytes(b"no picture")
    for wrong in (
        [tmp_path / "clip.mp4"],
        [],
        iter([]),
        True,
        1.5,
        {1: RGB},
        [tmp_path / "a.png", RGB],
        [tmp_path / "none.png"],
        [None],
        [3],
    ):
        with pytest.raises(SourceError), open_source(wrong) as source:
            list(source)


def test_a_program_may_use_one_array_for_all_its_frames() -> None:
    one = np.zeros((4, 6, 3), np.uint8)

    def frames():
        for k in range(3):
            one[:] = k
            yield one

    assert [int(frame.image[0, 0, 0]) for frame in list(open_source(frames()))] == [0, 1, 2]


def test_a_camera_by_its_index_in_any_form() -> None:
    for index in (97, "97", np.int64(97), np.str_("97")):
        with pytest.raises(SourceError, match="no camera 97"):
            open_source(index)


def test_an_animation_in_bytes_is_a_video() -> None:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "GIF", save_all=True, append_images=[Image.fromarray(255 - RGB)])
    with open_source(file.getvalue()) as source:
        assert (source.kind, len(list(source))) == ("video", 2)
