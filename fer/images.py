"""Pictures: what a file is by its content, and its pixels, for datasets and for the stream alike."""

import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import IO, Any, Literal

import cv2
import numpy as np
from PIL import Image
from PIL.Image import Transpose

from fer import hdr

# Our own errors say it once.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .gif .webp .avif .heic .heif .hif .jxl "
    ".tif .tiff .bmp .dib .jp2 .j2k .pbm .pgm .ppm .pnm .hdr .qoi .psd".split()
)
"""Endings that promise a picture. What a file is, its content says."""

_SIDE_FILES = frozenset(
    ".txt .csv .tsv .json .jsonl .xml .yaml .yml .md .html .log .ini .db .npy .npz .pts .aae .xmp".split()
)
"""Endings of files that belong beside pictures; nobody expects a picture in them."""

_SIGNATURES = {  # by Pillow's name of the format
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF....WEBP",
    "AVIF": rb"....ftyp(avi[fs]|mif1....(....)*avif)",
    "HEIF": rb"....ftyp(hei[cxms]|mif1)",  # films have brands of their own, and so have sequences (hevc, msf1)
    "JXL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "TIFF": rb"II\*\0|MM\0\*|II\+\0|MM\0\+",
    "BMP": rb"BM....\0\0\0\0",
    "PPM": rb"P[1-6]\s+[#\d]",
    "JPEG2000": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
    "QOI": rb"qoif",
    "PSD": rb"8BPS",
    "HDR": rb"#\?(RADIANCE|RGBE)",  # by OpenCV
}
_PLUGINS = {"HEIF": ("pillow_heif.HeifImagePlugin", "pillow-heif"), "JXL": ("pillow_jxl", "pillow-jxl-plugin")}
"""The modules that teach Pillow a format when they are imported, and the packages that contain them."""
_ENOUGH = 1 << 26
"""Bytes that are searched for a second and a third JPEG in the same file. Phones append one."""
_HEAD = 1 << 16
_TRANSFER = re.compile(rb"(?:colrnclx..\0|cICP.)(.)", re.DOTALL)
"""The transfer function of HEIF, AVIF and PNG, as ITU-T H.273 numbers it."""
_MOVING = ("GIF", "PNG", "WEBP", "AVIF")
_PAGED = ("TIFF", "HEIF")
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What turns a picture upright, by its EXIF orientation."""


def kind_of(source: Path | bytes) -> Literal["still", "animation"] | None:
    """Tell what a file is by its content: a still picture, an animation of several frames, or neither.

    A picture that is damaged is a still, so that reading it says what is wrong. Files of several pages are stills.

    Args:
        source: The file, or its content.

    Raises:
        OSError: The file cannot be opened.
    """
    with _opened(source) as file:
        name = _format(file)
        if name in _MOVING and _frames(file, name) > 1:
            return "animation"
        if name == "JPEG" and file.read(_ENOUGH).count(b"\xff\xd9\xff\xd8\xff") > 1:
            return None  # Motion JPEG, a film of JPEGs in a row
        return "still" if name else None


def count_frames(source: Path | bytes) -> int:
    """Return the number of frames of an animation, or of pages of a TIFF or HEIF file; 1 for anything else.

    An animation that is damaged has at least as many.

    Raises:
        OSError: The file cannot be opened.
    """
    with _opened(source) as file:
        name = _format(file)
        return _frames(file, name) if name in _MOVING + _PAGED else 1


def is_image(path: Path) -> bool:
    """Whether a file of a folder is to be read as an image.

    Its ending promises one, so that a broken image is missed, or its content is one.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    try:
        return kind_of(path) is not None
    except OSError:
        return False


def is_side_file(path: Path) -> bool:
    """Whether a file that is no image is expected in a folder of images, such as their labels as text."""
    return path.suffix.lower() in _SIDE_FILES or path.name.startswith(".")


def read_image(source: Path | bytes) -> np.ndarray:
    """Read an image; of several frames or pages the first.

    The image is turned upright by its orientation (EXIF, or HEIF's and AVIF's own), reduced to 8 bits, tone-mapped
    if it is HDR (PQ, HLG), and laid over white where it is transparent.

    Args:
        source: The file, or its content.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        OSError: Not an image, cut short, or more pixels than `OPENCV_IO_MAX_IMAGE_PIXELS` (see `fer/__init__.py`).
    """
    with _opened(source) as file:
        return _read(file)


def read_frames(source: Path | bytes) -> Iterator[tuple[np.ndarray, float]]:
    """Yield the frames of an animation, each as in `read_image`, and the seconds that it is shown.

    As in browsers, frames of 10 ms or less are shown for 100 ms.

    Raises:
        OSError: The file, or a frame, cannot be read.
    """
    with _opened(source) as file, _errors():
        image = _open(file, _format(file))
        for number in count(_hidden(image)):
            try:
                image.seek(number)
            except EOFError:
                return
            pixels, milliseconds = pixels_of(image), image.info.get("duration", 0)
            yield pixels, milliseconds / 1000 if milliseconds > 10 else 0.1


def _opened(source: Path | bytes) -> IO[bytes]:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _format(file: IO[bytes]) -> str | None:
    """Return Pillow's name of a picture's format, None if the file is no picture."""
    head = file.read(64)
    file.seek(0)
    return next((name for name, start in _SIGNATURES.items() if re.match(start, head, re.DOTALL)), None)


def _open(file: IO[bytes], name: str | None) -> Any:
    """Open a picture with Pillow, its pixels unread. `Image.open` would warn of large photos, and at times refuse."""
    if name in _PLUGINS:
        module, package = _PLUGINS[name]
        try:
            import_module(module)
        except ImportError:
            raise OSError(errno.ENOTSUP, f"{name} needs a package; pip install {package}") from None
    if name not in Image.OPEN:
        Image.preinit()  # imports the five most common
    if name not in Image.OPEN:
        Image.init()  # imports all of Pillow's own
    return Image.OPEN[name or ""][0](file, "")


def _frames(file: IO[bytes], name: str | None) -> int:
    if name == "PNG" and b"acTL" not in file.read(_HEAD):
        return 1  # nearly all, found out at once
    file.seek(0)
    try:
        image = _open(file, name)
    except Exception:  # Pillow raises errors of many types; reading the picture says what is wrong
        return 1
    try:
        return image.n_frames - _hidden(image)
    except Exception:
        return image.tell() + 2  # the next frame is damaged


def _hidden(image: Any) -> int:
    """Return the number of pictures, 0 or 1, that an animated PNG has only for programs that play none."""
    return int(getattr(image, "default_image", False))


@contextmanager
def _errors() -> Iterator[None]:
    """Turn whatever Pillow raises into `OSError`s with a `strerror`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise
        raise OSError(errno.EINVAL, "cut short, damaged, or of a rare variant") from None


def _read(file: IO[bytes]) -> np.ndarray:
    name = _format(file)
    if name is None:
        raise OSError(errno.EINVAL, "unknown format" if file.read(1) else "empty")
    with _errors():
        try:
            image = _open(file, name)
        except (KeyError, ValueError):  # a format that Pillow does not know, or more metadata than it reads
            if name == "JPEG":
                raise  # of a damaged one, OpenCV gives half, and grey
            file.seek(0)
            return _by_opencv(file.read())
        pixels = pixels_of(image)
        file.seek(0)
        told = _TRANSFER.search(file.read(_HEAD)) if name in ("AVIF", "HEIF", "PNG") else None
        if told and told[1][0] in hdr.TRANSFERS:
            return hdr.tone_mapped(pixels.astype(np.uint16) * 257, told[1][0])
        return pixels


def _by_opencv(data: bytes) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        if "_MAX_IMAGE_" in str(error):
            raise _too_large() from None
        raise
    if image is None or image.ndim != 3 or image.dtype != np.uint8:
        raise ValueError
    return image


def _too_large() -> OSError:
    return OSError(errno.EFBIG, "more pixels than can be processed; save it smaller")


def pixels_of(image: Any) -> np.ndarray:
    """Return the pixels of a Pillow image as uint8 (H, W, 3) RGB; see `read_image`."""
    if image.width * image.height > int(os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"]):
        raise _too_large()
    tags = getattr(image, "tag_v2", {})  # of TIFF
    if 50706 in tags or tags.get(254, 0) & 1:  # DNGVersion; the first page is a preview
        raise OSError(errno.EINVAL, "a camera's raw file; export it as JPEG")
    image.load()
    turn = None
    with suppress(Exception):  # a damaged EXIF costs a picture its orientation, no more
        turn = _TURNS.get(image.getexif().get(0x112))
    if image.mode == "F":
        raise OSError(errno.EINVAL, "pixels of floating point; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # grey of 16 bits, which Pillow would clip
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(image.transpose(turn) if turn is not None else image)
