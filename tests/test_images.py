"""Every kind of image that people have becomes uint8 RGB; anything else is one `OSError` that says why."""

import contextlib
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pillow_heif.HeifImagePlugin
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fer.images import count_frames, is_image, kind_of, read_image


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
    assert np.unique(read_image(content.getvalue()).reshape(-1, 3), axis=0).tolist() == [[200, 100, 50]]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"no image at all", "unknown format"),
        (b"Pf\n1 1\n-1.0\n\0\0\0\0", "unknown format"),
        (IMAGES["alpha.png"][:-60], "cut short, damaged, or of a rare variant"),
    ],
)
def test_what_is_not_an_image_is_refused_in_one_line(data: bytes, why: str, capfd) -> None:
    with pytest.raises(OSError) as caught:
        read_image(data)
    assert caught.value.strerror == why
    assert not capfd.readouterr().err


def test_an_image_that_would_fill_the_memory_is_refused() -> None:
    small = IMAGES["alpha.png"]
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 6, 0, 0, 0)
    with pytest.raises(OSError) as caught:
        read_image(small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:])
    assert "more pixels" in caught.value.strerror


@given(data=st.sampled_from([*IMAGES.values()]), cut=st.integers(0, 900), piece=st.binary(max_size=12))
def test_damaged_images_are_read_or_refused(data: bytes, cut: int, piece: bytes) -> None:
    with contextlib.suppress(OSError):
        image = read_image(data[:cut] + piece + data[cut + len(piece) :])
        assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3) and image.size


@given(name=st.sampled_from([*IMAGES]), left=st.floats(0, 1))
def test_what_is_left_of_an_image_is_whole_or_refused(name: str, left: float) -> None:
    data = IMAGES[name]
    try:
        image = read_image(data[: round(left * len(data))])
    except OSError as error:
        assert left < 1 and error.strerror
    else:
        np.testing.assert_array_equal(image, read_image(data))


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Red, green, blue and yellow, clockwise from the top left with blue and yellow below."""
    image = Image.new("RGB", (width, height), (250, 0, 0))
    for colour, (x, y) in {(0, 250, 0): (1, 0), (0, 0, 250): (0, 1), (250, 250, 0): (1, 1)}.items():
        image.paste(colour, (x * width // 2, y * height // 2, (x + 1) * width // 2, (y + 1) * height // 2))
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def corners(pixels: np.ndarray) -> list[str]:
    """The names of the colours in the corners, row by row."""
    names = {(True, False, False): "red", (False, True, False): "green", (False, False, True): "blue"}
    names |= {(True, True, False): "yellow", (True, True, True): "white"}
    return [names[tuple(bool(v > 128) for v in pixels[y, x])] for y in (6, -6) for x in (6, -6)]


KINDS = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {},
    "TIFF": {},
    "TIFF in LZW": {"compression": "tiff_lzw"},
    "HEIF": {},
    "HEIF in tiles": {"tile_size": 32},
    "AVIF": {},
}
STORED = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
"""Pillow's transposition that makes the stored picture from the upright one, by EXIF orientation."""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", KINDS)
def test_a_picture_is_turned_and_mirrored_once(name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    stored = quarters().transpose(Image.Transpose(STORED[orientation])) if orientation > 1 else quarters()
    pixels = read_image(encoded(stored, name.split()[0], exif=exif.tobytes(), **KINDS[name]))
    assert pixels.shape == (48, 64, 3)
    assert corners(pixels) == ["red", "green", "blue", "yellow"]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # as in fer.config.program
def test_a_damaged_exif_costs_a_picture_its_orientation_and_no_more() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 9
    assert corners(read_image(encoded(quarters(), "JPEG", exif=exif))) == ["red", "green", "blue", "yellow"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("HEIF", {}),
        ("AVIF", {}),
        ("JPEG2000", {}),
        ("QOI", {}),
    ],
)
def test_transparent_parts_are_white_whatever_colour_they_hide(kind: str, options: dict[str, object]) -> None:
    image = quarters().convert("RGBA")
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, 32, 24))
    image.putalpha(alpha)
    assert corners(read_image(encoded(image, kind, **options))) == ["white", "green", "blue", "yellow"]


@pytest.mark.parametrize("mode", ["LA", "P", "L", "RGB"])
def test_transparency_of_every_mode_is_white(mode: str) -> None:
    colours = quarters().convert(mode)
    if mode == "LA":
        colours.putalpha(Image.new("L", colours.size, 0))
        pixels = read_image(encoded(colours, "PNG"))
    else:
        pixels = read_image(encoded(colours, "PNG", transparency=colours.getpixel((0, 0))))
    assert pixels[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_grey_of_sixteen_bits_keeps_its_brightness(kind: str) -> None:
    deep = Image.fromarray(np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64))
    pixels = read_image(encoded(deep, kind))
    np.testing.assert_array_equal(pixels[..., 0], np.asarray(deep) >> 8)


def test_ten_bits_become_eight() -> None:
    content = io.BytesIO()
    deep = np.asarray(quarters()).astype(np.uint16) * 257
    pillow_heif.encode("RGB;16", (64, 48), deep.tobytes(), content)
    assert corners(read_image(content.getvalue())) == ["red", "green", "blue", "yellow"]


FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "HEIF", "AVIF", "BMP", "PPM", "JPEG2000", "QOI"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_is_known_by_its_content_and_whole_or_refused(kind: str, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = encoded(noise, kind)
    for name in ("photo", "photo.mp4", "photo.JPG.txt"):
        (tmp_path / name).write_bytes(content)
        assert kind_of(tmp_path / name) == "still" and is_image(tmp_path / name)
    for part in (0.1, 0.5, 0.9):
        cut = content[: int(len(content) * part)]
        assert kind_of(cut) == "still"
        with pytest.raises(OSError) as caught:
            read_image(cut)
        assert "cut short" in str(caught.value.strerror)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_limit_of_pixels_holds_for_every_format(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", "3000")
    with pytest.raises(OSError) as caught:
        read_image(encoded(quarters(), kind))
    assert "more pixels" in str(caught.value.strerror)


def test_a_new_process_knows_every_format(tmp_path: Path) -> None:
    """Pillow learns most formats late; the other tests taught it all when they saved pictures."""
    more = {"save_all": True, "append_images": [quarters().rotate(180)], "duration": 40}
    for kind in FORMATS:
        (tmp_path / kind).write_bytes(encoded(quarters(), kind))
    for kind in ("GIF", "PNG", "WEBP", "AVIF"):
        (tmp_path / f"moving {kind}").write_bytes(encoded(quarters(), kind, **more))
    (tmp_path / "pages").write_bytes(encoded(quarters(), "TIFF", **more))
    code = """
import sys; from pathlib import Path; from fer import images
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, images.kind_of(path), images.count_frames(path), images.read_image(path).shape, sep=", ")
"""
    out = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    lines = out.stdout.splitlines()
    for kind in FORMATS:
        assert f"{kind}, still, 1, (48, 64, 3)" in lines
    for kind in ("GIF", "PNG", "WEBP", "AVIF"):
        assert f"moving {kind}, animation, 2, (48, 64, 3)" in lines
    assert "pages, still, 2, (48, 64, 3)" in lines


def test_files_of_several_pages_are_stills_and_rows_of_jpegs_are_films() -> None:
    for kind, pages in {"TIFF": 2, "HEIF": 2, "MPO": 1}.items():  # an MPO's second picture is a preview, or for 3-D
        content = encoded(quarters(), kind, save_all=True, append_images=[quarters(32, 24)])
        assert (kind_of(content), count_frames(content)) == ("still", pages)
        assert read_image(content).shape == (48, 64, 3)
    jpeg = encoded(quarters(), "JPEG")
    assert kind_of(jpeg + b"\0\0\0\x18ftypmp42" + bytes(99)) == "still"  # phones append a short film
    assert kind_of(jpeg * 3) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"BMW is a car",
        b"P1 is the first",
        b"Python",
        b"RIFF\0\0\0\0AVI LIST",
        b"\0\0\0\x18ftypmp42" + bytes(99),
        b"\0\0\0\x18ftypqt  " + bytes(99),
        b"\xff\xfb\x90\x00",
        b"\x1aE\xdf\xa3",
        b"<svg/>",
        b"%PDF-1.7",
    ],
)
def test_other_files_are_no_pictures(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    assert kind_of(content) is None and not is_image(tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "module", "package"),
    [
        (b"\xff\x0a" + bytes(60), "pillow_jxl", "pillow-jxl-plugin"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "pillow_heif.HeifImagePlugin", "pillow-heif"),
    ],
)
def test_a_format_without_its_package_names_it(
    content: bytes, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert kind_of(content) == "still"
    with pytest.raises(OSError) as caught:
        read_image(content)
    assert f"pip install {package}" in str(caught.value.strerror)


def test_jpeg_xl_is_read_with_its_package() -> None:
    pytest.importorskip("pillow_jxl")
    assert corners(read_image(encoded(quarters(), "JXL"))) == ["red", "green", "blue", "yellow"]


def test_previews_of_raw_files_and_floating_point_are_refused() -> None:
    raw = encoded(quarters(), "TIFF", tiffinfo={254: 1})
    deep = encoded(Image.new("F", (8, 8), 0.5), "TIFF")
    for content, why in ((raw, "raw file"), (deep, "floating point")):
        with pytest.raises(OSError) as caught:
            read_image(content)
        assert why in str(caught.value.strerror)


def with_transfer(image: Image.Image, kind: str, transfer: int) -> bytes:
    """A picture that claims BT.2020 and a transfer function (ITU-T H.273)."""
    if kind == "HEIF":
        options = {"color_primaries": 9, "transfer_characteristics": transfer, "matrix_coefficients": 9}
        return encoded(image, kind, save_nclx_profile=True, **options)
    content = encoded(image, kind)
    if kind == "AVIF":
        start = content.index(b"colrnclx") + 8
        return content[:start] + struct.pack(">HH", 9, transfer) + content[start + 4 :]
    chunk = b"cICP" + bytes([9, transfer, 0, 1])
    return content[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]


@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "PNG"])
def test_high_dynamic_range_is_tone_mapped(kind: str) -> None:
    grey = Image.new("RGB", (64, 48), (148, 148, 148))  # 203 cd/m² in PQ, the white of a display
    levels = {t: float(read_image(with_transfer(grey, kind, t)).mean()) for t in (1, 13, 16, 18)}
    assert levels[1] == pytest.approx(148, abs=3) and levels[13] == pytest.approx(148, abs=3)
    assert levels[16] > 215 and levels[18] > 155
