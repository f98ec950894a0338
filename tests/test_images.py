"""Every kind of image that people have becomes uint8 RGB; anything else is one `OSError` that says why."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fer.images import decode_image, read_image


def _images() -> dict[str, bytes]:
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    grey, frames = colour.convert("L"), {"save_all": True, "append_images": [colour.rotate(90)]}
    images = {
        "one pixel.png": (colour.resize((1, 1)), {}),
        "wide.png": (colour.resize((20_000, 1)), {}),
        "tall.tif": (grey.resize((1, 20_000)), {}),
        "sixteen.png": (Image.fromarray(np.arange(384, dtype=np.uint16).reshape(24, 16) * 170), {}),
        "cmyk.jpg": (colour.convert("CMYK"), {}),
        "cmyk.tif": (colour.convert("CMYK"), {}),
        "alpha.png": (colour.convert("RGBA"), {}),
        "alpha.webp": (colour.convert("RGBA"), {}),
        "grey alpha.png": (colour.convert("LA"), {}),
        "palette.png": (colour.convert("P"), {}),
        "bits.png": (colour.convert("1"), {}),
        "palette.bmp": (colour.convert("P"), {}),
        "moving.gif": (colour, frames),
        "moving.webp": (colour, frames),
        "pages.tif": (colour, frames),
        "packed.tif": (colour, {"compression": "tiff_lzw"}),
        "turned.jpg": (colour, {"exif": exif}),
        "turned.png": (colour, {"exif": exif}),
        "turned.webp": (colour, {"exif": exif}),
        "progressive.jpg": (colour, {"progressive": True}),
    }
    result = {}
    for name, (image, options) in images.items():
        content = io.BytesIO()
        kind = {"jpg": "JPEG", "tif": "TIFF"}.get(name[-3:], name.rsplit(".", 1)[1])
        image.save(content, kind, **options)
        result[name] = content.getvalue()
    return result


IMAGES = _images()


@pytest.mark.parametrize("name", IMAGES)
def test_every_kind_of_image_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "ñ 顔").write_bytes(IMAGES[name])
    image = read_image(tmp_path / "ñ 顔")
    sizes = {"one": (1, 1), "wide": (1, 20_000), "tall": (20_000, 1), "turned": (16, 24)}
    assert (image.dtype, image.shape) == (np.uint8, (*sizes.get(name.split(".")[0].split()[0], (24, 16)), 3))


def test_colours_are_in_the_order_of_rgb() -> None:
    content = io.BytesIO()
    Image.new("RGB", (2, 2), (200, 100, 50)).save(content, "PNG")
    assert np.unique(decode_image(content.getvalue()).reshape(-1, 3), axis=0).tolist() == [[200, 100, 50]]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "unknown format"),
        (b"no image at all", "unknown format"),
        (b"Pf\n1 1\n-1.0\n\0\0\0\0", "unknown format"),
        (IMAGES["alpha.png"][:-60], "cut short, damaged, or of a rare variant"),
    ],
)
def test_what_is_not_an_image_is_refused_in_one_line(data: bytes, why: str, capfd) -> None:
    with pytest.raises(OSError) as caught:
        decode_image(data)
    assert caught.value.strerror == why
    assert not capfd.readouterr().err


def test_an_image_that_would_fill_the_memory_is_refused() -> None:
    small = IMAGES["alpha.png"]
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 6, 0, 0, 0)
    with pytest.raises(OSError) as caught:
        decode_image(small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:])
    assert "more pixels" in caught.value.strerror


@given(data=st.sampled_from([*IMAGES.values()]), cut=st.integers(0, 900), piece=st.binary(max_size=12))
def test_damaged_images_are_read_or_refused(data: bytes, cut: int, piece: bytes) -> None:
    with contextlib.suppress(OSError):
        image = decode_image(data[:cut] + piece + data[cut + len(piece) :])
        assert (image.dtype, image.ndim) == (np.uint8, 3)
