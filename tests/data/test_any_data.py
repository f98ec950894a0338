"""Any bytes and any names, given to the readers: splits, or a `FerError`, and nothing written.

pytest tests/data/test_any_data.py --hypothesis-profile=many     looks for longer
"""

import contextlib
import io
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import write_csv, write_votes

from fer.data import audit, fer2013, folder, votes
from fer.data.base import Split
from fer.errors import FerError
from fer.labels import EMOTIONS

ROWS = [
    (k, np.full((48, 48), k, np.uint8), usage) for usage in ("Training", "PublicTest", "PrivateTest") for k in range(7)
]
PIECES = [b",", b"\n", b"\r", b'"', b"\0", b"\xff", b" ", b"-1", b"1e9", b"9" * 5000, b'"\n' * 40, b"\xef\xbb\xbf"]
FACE = cv2.imencode(".png", np.zeros((48, 48), np.uint8))[1].tobytes()
KAGGLE = [
    f"{home}/{emotion}/{usage}_{k}.png"
    for home, usage in (("train", "Training"), ("test", "PublicTest"), ("test", "PrivateTest"))
    for k, emotion in enumerate(EMOTIONS)
]


def text_of(write: Callable[..., Path]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder) / "file.csv", ROWS).read_bytes()


def zip_of(method: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name in KAGGLE:
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), FACE, method)
    return content.getvalue()


def tar_of(mode: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name in KAGGLE:
            info = tarfile.TarInfo(name)
            info.size = len(FACE)
            archive.addfile(info, io.BytesIO(FACE))
    return content.getvalue()


CSV, VOTES = text_of(write_csv), text_of(write_votes)
ARCHIVES = [zip_of(zipfile.ZIP_STORED), zip_of(zipfile.ZIP_DEFLATED), tar_of("w"), tar_of("w:gz")]


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with pieces replaced, inserted and removed, most often near its beginning and end, and cut short."""
    result = bytearray(data)
    for _ in range(draw(st.integers(0, 4))):
        near = draw(st.integers(0, 600))
        index = draw(st.sampled_from([near, max(0, len(result) - near)]) | st.integers(0, len(result)))
        result[index : index + draw(st.integers(0, 12))] = draw(st.binary(max_size=12) | st.sampled_from(PIECES))
    return bytes(result[: draw(st.integers(0, len(result)))] if draw(st.integers(0, 3)) == 0 else result)


@pytest.fixture
def new_folder(tmp_path: Path) -> Callable[[], contextlib.AbstractContextManager[Path]]:
    """A new empty folder at each call, since the cache goes by the names, sizes and times of files."""

    @contextlib.contextmanager
    def make() -> Iterator[Path]:
        path = Path(tempfile.mkdtemp(dir=tmp_path))
        try:
            yield path
        finally:
            shutil.rmtree(path)

    return make


def read(reader: Callable[..., dict[str, Split]], root: Path, **arguments: object) -> None:
    """The reader returns splits or raises a `FerError`, and leaves all below `root` as it is."""
    before = sorted((os.fsencode(path), path.lstat().st_size) for path in root.rglob("*"))
    with contextlib.suppress(FerError):
        assert all(len(split.images) == len(split.labels) > 0 for split in reader(root, **arguments).values())
    assert sorted((os.fsencode(path), path.lstat().st_size) for path in root.rglob("*")) == before


@given(data=mutated(CSV) | st.binary(max_size=300) | st.text(alphabet='emotinpxlsUga,"\n\r 0129\0é', max_size=300))
def test_any_csv(new_folder, data: bytes | str) -> None:
    with new_folder() as root:
        (root / "fer2013.csv").write_bytes(data.encode() if isinstance(data, str) else data)
        read(fer2013.read, root)


@given(data=mutated(VOTES) | st.binary(max_size=300))
def test_any_votes(new_folder, data: bytes) -> None:
    with new_folder() as root, contextlib.suppress(FerError):
        (root / "votes.csv").write_bytes(data)
        counts = votes.read(root / "votes.csv")
        assert all(c.shape[1:] == (10,) and (c >= 0).all() for c in counts.values())
        splits = {
            n: Split(np.zeros((len(c), 2, 2), np.uint8), np.arange(len(c)) % 7, EMOTIONS) for n, c in counts.items()
        }
        for split in votes.attach(splits, counts, "votes.csv").values():
            assert split.targets is not None
            assert np.allclose(split.targets.sum(1), 1)


@given(data=st.sampled_from(ARCHIVES).flatmap(mutated) | st.binary(max_size=300))
@pytest.mark.parametrize("name", ["archive.zip", "fer2013.tar.gz"])
def test_any_archive(new_folder, name: str, data: bytes) -> None:
    with new_folder() as root:
        (root / name).write_bytes(data)
        read(fer2013.read, root)


names = st.one_of(
    st.sampled_from(["train", "Val", "testing", "test", "happy", "Sad", "s1", "s2", " ", "-rf", "a\nb", "顔", "~"]),
    st.sampled_from([b"\xff\xfe", b"caf\xe9", b"..x", b"\x1b[31m", b"'\"", b"\\"]).map(os.fsdecode),
    st.binary(min_size=1, max_size=20).filter(lambda b: not {0, 47} & {*b} and b not in (b".", b"..")).map(os.fsdecode),
)


@given(
    files=st.lists(
        st.tuples(st.lists(names, max_size=3), names, mutated(FACE) | st.sampled_from([FACE, b""])), max_size=8
    ),
    homes=st.lists(st.sampled_from(["train", "val", "test", "a", "b", "c", "d"]), unique=True),
    classes=st.lists(names, max_size=3, unique=True),
)
def test_any_folder(
    new_folder, files: list[tuple[list[str], str, bytes]], homes: list[str], classes: list[str]
) -> None:
    with new_folder() as root:
        even = [([home, name], f"{k}", FACE) for home in homes for name in classes for k in range(2)]
        for above, name, content in files + even:
            with contextlib.suppress(OSError):  # a file of that name is there, or a folder
                root.joinpath(*above).mkdir(parents=True, exist_ok=True)
                root.joinpath(*above, f"{name}.png").write_bytes(content)
        read(folder.read, root, size=8)
        read(fer2013.read, root)
        read(audit.read, root)
