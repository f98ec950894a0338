"""Any bytes and any names, given to the readers: splits, or one line of a `FerError`, and nothing written anywhere.

pytest tests/data/test_any_data.py --hypothesis-profile=many     looks for longer
"""

import contextlib
import io
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from samples import write_csv, write_votes

from fer.data import audit, fer2013, folder, votes
from fer.data.base import Split
from fer.errors import FerError
from fer.labels import EMOTIONS

ROWS = [
    (k, np.full((48, 48), k, np.uint8), usage) for usage in ("Training", "PublicTest", "PrivateTest") for k in range(7)
]
PIECES = [b",", b"\n", b"\r", b'"', b"\0", b"\xff", b" ", b"-1", b"1e9", b"9" * 5000, b'"\n' * 40, b"\xef\xbb\xbf"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty working directory."""
    before, place = Path.cwd(), tmp_path_factory.mktemp("here")
    os.chdir(place)
    yield place
    os.chdir(before)


@contextlib.contextmanager
def contained(place: Path) -> Iterator[None]:
    """What is done inside ends well or in a `FerError`, and leaves all below `place` as it is."""

    def listing() -> list[tuple[bytes, int]]:
        return sorted((os.fsencode(path), path.lstat().st_size) for path in place.rglob("*"))

    before = listing()
    with contextlib.suppress(FerError):
        yield
    assert listing() == before


@contextlib.contextmanager
def empty_folder(here: Path) -> Iterator[Path]:
    """A new one each time: the cache goes by the names, sizes and times of files."""
    place = Path(tempfile.mkdtemp(dir=here))
    try:
        yield place
    finally:
        shutil.rmtree(place)


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` with pieces replaced, put in and left out, most often near its beginning and end, and cut short."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        near = draw(st.integers(0, 600))
        place = draw(st.sampled_from([near, max(0, len(data) - near)]) | st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 12))] = draw(st.binary(max_size=12) | st.sampled_from(PIECES))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 3)) == 0 else data)


def check(splits: dict[str, Split]) -> None:
    for split in splits.values():
        assert split.images.shape[0] == len(split.labels) > 0


# FER-2013 as text, and its votes


def text_of(write: Any) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        return write(Path(place) / "file.csv", ROWS).read_bytes()


CSV, VOTES = text_of(write_csv), text_of(write_votes)


@given(data=mutated(CSV) | st.binary(max_size=300) | st.text(alphabet='emotinpxlsUga,"\n\r 0129\0é', max_size=300))
def test_any_csv(here: Path, data: bytes | str) -> None:
    with empty_folder(here) as place:
        (place / "fer2013.csv").write_bytes(data.encode() if isinstance(data, str) else data)
        with contained(here):
            check(fer2013.read(place))


@given(data=mutated(VOTES) | st.binary(max_size=300))
def test_any_votes(here: Path, data: bytes) -> None:
    with empty_folder(here) as place:
        (place / "votes.csv").write_bytes(data)
        with contained(here):
            counts = votes.read(place / "votes.csv")
            assert all(c.shape[1:] == (10,) and (c >= 0).all() for c in counts.values())
            split = {
                n: Split(np.zeros((len(c), 2, 2), np.uint8), np.arange(len(c)) % 7, EMOTIONS) for n, c in counts.items()
            }
            for found in votes.attach(split, counts, "votes.csv").values():
                assert found.targets is not None
                assert np.allclose(found.targets.sum(1), 1)


# archives


FACE = cv2.imencode(".png", np.zeros((48, 48), np.uint8))[1].tobytes()
KAGGLE = [
    f"{home}/{emotion}/{usage}_{k}.png"
    for home, usage in (("train", "Training"), ("test", "PublicTest"), ("test", "PrivateTest"))
    for k, emotion in enumerate(EMOTIONS)
]
Entry = tuple[str, bytes, bytes]
"""(name, content, tar's type of it)."""


def zip_of(entries: list[Entry], method: int = zipfile.ZIP_STORED) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as archive:
        for name, content, kind in entries:
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode(), (1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            info.external_attr = (0o120777 if kind == tarfile.SYMTYPE else 0o100644) << 16
            archive.writestr(info, content)
    return whole.getvalue()


def tar_of(entries: list[Entry], mode: str = "w", form: int = tarfile.GNU_FORMAT) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, content, kind in entries:
            info = tarfile.TarInfo(name.encode("utf-8", "replace").decode() if form == tarfile.PAX_FORMAT else name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd"
            archive.addfile(info, io.BytesIO(content))
    return whole.getvalue()


PLAIN: list[Entry] = [(name, FACE, tarfile.REGTYPE) for name in KAGGLE]
ZIPS = [zip_of(PLAIN), zip_of(PLAIN, zipfile.ZIP_DEFLATED), zip_of(PLAIN[:7], zipfile.ZIP_LZMA)]
LONG: list[Entry] = [("train/happy/" + "ü" * 200 + ".png", FACE, tarfile.REGTYPE), *PLAIN]
TARS = [tar_of(PLAIN), tar_of(LONG), tar_of(LONG, form=tarfile.PAX_FORMAT), tar_of(PLAIN, "w:gz")]
PARTS = [
    "../",
    "/",
    "C:\\",
    "C:/",
    "..\\",
    "\0",
    "\n",
    "é",
    "顔",
    "\udcff",
    " ",
    "-",
    ".",
    "__MACOSX/",
    "train/",
    "TEST/",
]
PARTS += ["happy/", "Sad/", "Training_1", ".png", ".JPG", "fer2013.csv", "icml_face_data.csv", "~", "*", "x" * 300]
entries = st.lists(
    st.tuples(
        st.lists(st.sampled_from(PARTS), min_size=1, max_size=6).map("".join),
        st.sampled_from([FACE, CSV, b"", b"emotion,pixels,Usage\n0"]) | st.binary(max_size=40),
        st.sampled_from([b"0", b"0", b"1", b"2", b"3", b"5", b"6", b"7", b"S", b"x", b"L"]),
    ),
    max_size=5,
)


@given(data=st.sampled_from(ZIPS).flatmap(mutated) | st.sampled_from(TARS).flatmap(mutated) | st.binary(max_size=300))
@pytest.mark.parametrize("name", ["archive.zip", "fer2013.tar.gz"])
def test_any_archive(here: Path, name: str, data: bytes) -> None:
    with empty_folder(here) as place:
        (place / name).write_bytes(data)
        with contained(here):
            check(fer2013.read(place))


@given(odd=entries, form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_any_names_in_archives(here: Path, odd: list[Entry], form: int) -> None:
    with empty_folder(here) as place:
        for name, data in (("archive.zip", zip_of(odd + PLAIN)), ("fer2013.tar.gz", tar_of(odd + PLAIN, "w:gz", form))):
            (place / name).write_bytes(data)
            with contained(here):
                check(fer2013.read(place / name))


# images


def _images() -> dict[str, bytes]:
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    grey, frames = colour.convert("L"), {"save_all": True, "append_images": [colour.rotate(90)]}
    found = {
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
        "moving.png": (colour, frames),
        "pages.tif": (colour, frames),
        "packed.tif": (colour, {"compression": "tiff_lzw"}),
        "turned.jpg": (colour, {"exif": exif}),
        "turned.png": (colour, {"exif": exif}),
        "turned.webp": (colour, {"exif": exif}),
        "progressive.jpg": (colour, {"progressive": True}),
    }
    result = {}
    for name, (image, options) in found.items():
        whole = io.BytesIO()
        kind = {"jpg": "JPEG", "tif": "TIFF"}.get(name[-3:], name.rsplit(".", 1)[1])
        image.save(whole, kind, **options)
        result[name] = whole.getvalue()
    return result


IMAGES = _images()


@pytest.mark.parametrize("name", IMAGES)
def test_every_kind_of_image_is_read(name: str) -> None:
    image = folder.load_image(IMAGES[name], name, 3)
    sizes = {"one": (1, 1), "wide": (1, 20_000), "tall": (20_000, 1), "turned": (16, 24)}
    assert image.shape[:2] == sizes.get(name.split(".")[0].split()[0], (24, 16))


@given(
    data=st.sampled_from([*IMAGES.values()]).flatmap(mutated) | st.binary(max_size=100),
    channels=st.sampled_from([1, 3]),
)
def test_any_image(data: bytes, channels: int) -> None:
    with contextlib.suppress(FerError):
        image = folder.load_image(data, "any.png", channels)
        assert image.dtype == np.uint8
        assert image.ndim == (2 if channels == 1 else 3)


names = st.one_of(
    st.sampled_from(
        ["train", "Val", "testing", "test", "happy", "Sad", "s1", "s2", " ", "-rf", "a\nb", "顔", "~", "*"]
    ),
    st.sampled_from([b"\xff\xfe", b"caf\xe9", b"..x", b"\x1b[31m", b"'\"", b"\\"]).map(os.fsdecode),
    st.binary(min_size=1, max_size=20).filter(lambda b: not {0, 47} & {*b} and b not in (b".", b"..")).map(os.fsdecode),
)
contents = st.sampled_from([*IMAGES.values(), FACE, FACE, FACE, b"", b"x"])


@given(
    files=st.lists(st.tuples(st.lists(names, max_size=3), names, contents), max_size=8),
    homes=st.lists(st.sampled_from(["train", "val", "test", "a", "b", "c", "d"]), unique=True),
    classes=st.lists(names, max_size=3, unique=True),
)
def test_any_folder(
    here: Path, files: list[tuple[list[str], str, bytes]], homes: list[str], classes: list[str]
) -> None:
    with empty_folder(here) as place:
        even = [([home, name], f"{k}", FACE) for home in homes for name in classes for k in range(2)]
        for above, name, content in files + even:
            with contextlib.suppress(OSError):  # a file of that name is there, or a folder
                place.joinpath(*above).mkdir(parents=True, exist_ok=True)
                place.joinpath(*above, f"{name}.png").write_bytes(content)
        with contained(here):
            check(folder.read(place, size=8))
        with contained(here):
            check(fer2013.read(place))
        with contained(here):
            audit.read(place)


numbers = st.integers() | st.floats() | st.sampled_from([0, 1, 3, 8, 48, 0.2, 4096, 10**6, 2**63, 10**400, True])
values = numbers | st.none() | st.text(max_size=3) | st.lists(numbers, max_size=2)


@given(given=st.fixed_dictionaries({}, optional=dict.fromkeys(("size", "channels", "seed", "val_fraction"), values)))
def test_any_arguments(here: Path, given: dict[str, Any]) -> None:
    with empty_folder(here) as place:
        for k, home in enumerate(("train", "val", "test", "train", "val", "test")):
            (place / home / "ab"[k // 3]).mkdir(parents=True)
            (place / home / "ab"[k // 3] / "x.png").write_bytes(FACE)
        with contained(here):
            check(folder.read(place, **given))


@given(root=values | st.text())
def test_any_root(here: Path, root: Any) -> None:
    for read in (folder.read, fer2013.read, votes.read):
        with contained(here):
            read(root)
