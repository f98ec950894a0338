"""Arbitrary input leads to a result or to one line with a fix.

Search for longer: pytest tests/test_fuzz.py --hypothesis-profile=many
"""

import contextlib
import dataclasses
import io
import json
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import assume, given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image
from samples import TINY, Reached
from torch import nn

from fer import artifact
from fer.artifact import trust
from fer.artifact.export import from_checkpoint
from fer.artifact.metadata import Metadata
from fer.config import CONF
from fer.errors import ArtifactError, DataError, FerError, SourceError
from fer.faces.types import Faces
from fer.images import IMAGE_SUFFIXES
from fer.models.classifier import EmotionClassifier
from fer.stream.__main__ import main as infer_main
from fer.stream.browser import page
from fer.stream.fakes import FakeSource
from fer.stream.sinks import Context
from fer.stream.sinks.video import VideoFile
from fer.stream.sources import open_source
from fer.stream.types import FrameResult
from fer.train import leaderboard
from fer.train.__main__ import main as train_main

ROOT = Path(__file__).parents[1]
META = Metadata(classes=("a", "b", "c"), channels=1, input_size=16, mean=(0.5,), std=(0.25,))

numbers = st.integers() | st.floats() | st.sampled_from([0, 1, 3, 16, 2**63, 10**400, 1e300, -0.0])
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder. Nothing is written beside it, or into the project."""
    root = tmp_path_factory.mktemp("fuzz") / "run"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("HOME", str(root))
        patch.setenv("FER_CACHE", str(root / "cache"))
        patch.setattr(signal, "signal", lambda *_: None)
        before = set(ROOT.iterdir())
        yield root
        assert list(root.parent.iterdir()) == [root]
        assert set(ROOT.iterdir()) - before <= {ROOT / ".hypothesis"}


def one_line_only(error: BaseException) -> None:
    """The message, as the programs print it, is one line of readable length."""
    text = str(error)
    assert 0 < len(text) < 3000
    assert "\n" not in text.strip()


# Model files


@given(st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(Metadata)]), anything, min_size=1))
def test_metadata(changes: dict[str, Any]) -> None:
    text = json.dumps(json.loads(META.to_json()) | changes)
    try:
        actual = Metadata.from_json(text)
        assert Metadata.from_json(actual.to_json()) == actual or "NaN" in text
    except ArtifactError as error:
        one_line_only(error)


@given(st.text() | st.binary() | anything.map(json.dumps))
def test_any_text_as_metadata(text: str | bytes) -> None:
    with contextlib.suppress(ArtifactError):
        Metadata.from_json(text)


@given(anything | st.dictionaries(st.sampled_from(["val/accuracy", "val/ece"]), numbers))
def test_any_metrics_are_a_row_or_one_line(folder: Path, value: Any) -> None:
    (folder / "metrics.json").write_text(json.dumps(value))
    try:
        actual = leaderboard.read_metrics(folder / "metrics.json")
    except DataError as error:
        return one_line_only(error)
    row = leaderboard.Row(["a=1"], [actual, actual])
    return leaderboard.write([row], folder, "fuzz", leaderboard.Console(file=io.StringIO()))


@dataclasses.dataclass
class Damage:
    """Some bytes changed, at positions given as shares of the length, and the end cut off."""

    edits: list[tuple[float, int]]
    left: float = 1.0

    def of(self, whole: bytes) -> bytes:
        data = bytearray(whole)
        for share, value in self.edits:
            data[int(share * (len(data) - 1))] = value
        return bytes(data[: round(self.left * len(data))])


places = st.floats(0, 1) | st.floats(0.9, 1)
damages = st.builds(
    Damage,
    st.lists(st.tuples(places, st.integers(0, 255)), max_size=6),
    st.just(1.0) | st.just(1.0) | st.floats(0, 1),
)


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, bytes]:
    """Small models, by suffix."""
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(16, 3))
    actual = {".ts": artifact.save(network, META, folder / "m.ts").read_bytes()}
    actual[".onnx"] = artifact.save(network, META, folder / "m.onnx", "onnx").read_bytes()
    small = {"name": "resnet_small", "widths": [4, 8], "depths": [1, 1], "drop_rate": 0.0}
    model = EmotionClassifier(small, classes=("a", "b"), channels=1, input_size=16, mean=[0.4], std=[0.3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / "m.ckpt")
    return actual | {".ckpt": (folder / "m.ckpt").read_bytes()}


def answers(path: Path) -> None:
    try:
        loaded = artifact.load(path)
        answer = loaded(torch.zeros(3, 1, 20, 20, dtype=torch.uint8))
        assert answer.shape == (3, len(loaded.metadata.classes))
    except ArtifactError as error:
        one_line_only(error)


@pytest.mark.parametrize("suffix", [".ts", ".onnx"])
@given(damage=damages)
def test_a_damaged_artifact(folder: Path, models: dict[str, bytes], suffix: str, damage: Damage) -> None:
    path = folder / f"damaged{suffix}"
    path.write_bytes(damage.of(models[suffix]))
    with contextlib.suppress(ArtifactError):
        artifact.read_metadata(path)
    answers(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust, "check", lambda path: None)
        answers(path)


@given(damage=damages)
def test_a_damaged_checkpoint(folder: Path, models: dict[str, bytes], damage: Damage) -> None:
    path = folder / "damaged.ckpt"
    path.write_bytes(damage.of(models[".ckpt"]))
    try:
        from_checkpoint(path)
    except ArtifactError as error:
        one_line_only(error)


# Sources


def pictures() -> dict[str, bytes]:
    """Small pictures of every kind, by name."""
    rgb = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture, files = Image.fromarray(rgb), {}

    def keep(name: str, image: Image.Image, kind: str, **options: Any) -> None:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files[name] = buffer.getvalue()

    keep("one pixel", picture.crop((0, 0, 1, 1)), "PNG")
    keep("one row", Image.new("RGB", (20_000, 1), (9, 90, 200)), "PNG")
    keep("one column", Image.new("L", (1, 20_000), 90), "JPEG")
    keep("CMYK", picture.convert("CMYK"), "JPEG")
    for mode in ("RGBA", "LA", "P", "L", "1"):
        keep(f"{mode} PNG", picture.convert(mode), "PNG")
    keep("16 bits", Image.fromarray(rgb[..., 0].astype(np.uint16) * 257), "PNG")
    keep("16 bits TIFF", Image.fromarray(rgb[..., 0].astype(np.uint16) * 257), "TIFF")
    keep("CMYK TIFF", picture.convert("CMYK"), "TIFF")
    for turn in (3, 6, 8):
        exif = Image.Exif()
        exif[0x112] = turn
        keep(f"EXIF {turn}", picture, "JPEG", exif=exif)
    for kind in ("GIF", "WEBP", "PNG"):
        keep(f"moving {kind}", picture, kind, save_all=True, append_images=[picture.rotate(90)], duration=40)
    for kind in ("BMP", "PPM", "WEBP", "JPEG2000", "ICO"):
        keep(kind, picture, kind)
    files["grey PFM"] = b"Pf\n4 4\n-1.0\n" + np.ones(16, np.float32).tobytes()
    files["PFM"] = b"PF\n4 4\n-1.0\n" + np.ones(48, np.float32).tobytes()
    files["HDR"] = cv2.imencode(".hdr", rgb.astype(np.float32))[1].tobytes()
    return files


PICTURES = pictures()


@given(
    name=st.sampled_from(sorted(PICTURES)),
    suffix=st.sampled_from([*sorted(IMAGE_SUFFIXES), ".gif", ""]),
    damage=damages,
)
def test_a_picture_of_any_kind(folder: Path, name: str, suffix: str, damage: Damage) -> None:
    path = folder / f"picture{suffix}"
    path.write_bytes(damage.of(PICTURES[name]))
    try:
        with open_source(str(path)) as source:
            frames = list(source)
    except SourceError as error:
        return one_line_only(error)
    assert frames and all(frame.image.dtype == np.uint8 and frame.image.shape[2:] == (3,) for frame in frames)
    if not damage.edits:  # what is left is whole, or that it is not is said
        path.write_bytes(PICTURES[name])
        with open_source(str(path)) as whole:
            expected = list(whole)
        assert source.notes or len(frames) == len(expected)
        for frame, as_before in zip(frames, expected, strict=False):
            np.testing.assert_array_equal(frame.image, as_before.image)
    return None


@pytest.mark.parametrize("name", sorted(PICTURES.keys() - {"ICO"}))  # an icon is read as .ico only
def test_a_picture_of_every_kind_is_read(name: str, tmp_path: Path) -> None:
    ending = "gif" if "GIF" in name else "png"
    (tmp_path / f"a.{ending}").write_bytes(PICTURES[name])
    with open_source(str(tmp_path / f"a.{ending}")) as source:
        assert next(iter(source)).image.size and not source.notes


@pytest.fixture(scope="module")
def clips(folder: Path) -> dict[str, bytes]:
    """Short videos, by suffix."""
    for suffix in (".mp4", ".mkv"):
        with VideoFile(folder / f"clip{suffix}", Context(FakeSource())) as video:
            for frame in FakeSource(4):
                nothing = FrameResult(frame, Faces.none(), ("a", "b"), np.zeros((0, 2), np.float32))
                video.write(nothing, frame.image)
    return {suffix: (folder / f"clip{suffix}").read_bytes() for suffix in (".mp4", ".mkv")}


@given(kind=st.sampled_from([".mp4", ".mkv"]), suffix=st.sampled_from([".mp4", ".avi", ".gif"]), damage=damages)
def test_a_damaged_film(folder: Path, clips: dict[str, bytes], kind: str, suffix: str, damage: Damage) -> None:
    path = folder / f"film{suffix}"
    path.write_bytes(damage.of(clips[kind]))
    try:
        with open_source(str(path), threads=1) as source:
            frames = list(source)
    except SourceError as error:
        return one_line_only(error)
    assert [frame.index for frame in frames] == list(range(source.total or 0))
    assert all(frame.image.dtype == np.uint8 and frame.image.shape[2:] == (3,) for frame in frames)
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))
    if damage.left == 1.0 and not damage.edits:
        assert len(frames) == 4 and not source.notes
    return None


words = ["-rf", "--help", " ", "\n", "a\nb", "é", "~", "~x", "*", "[", "[a]", "?", "%d", "\udcff", "a:b", "0", "$HOME"]
names = st.sampled_from([*words, ".png", "x" * 300]) | st.text(
    st.characters(exclude_characters="/\0", exclude_categories=()), min_size=1, max_size=40
)


@given(name=names, suffix=st.sampled_from([".png", ".PNG", "", ".mp4", ".gif"]), there=st.booleans())
def test_a_file_of_any_name(folder: Path, name: str, suffix: str, there: bool) -> None:
    assume(name + suffix not in (".", "..", "~") and not re.fullmatch(r"\d+", name + suffix))
    path = folder / "named" / (name + suffix)
    path.parent.mkdir(exist_ok=True)
    with contextlib.suppress(OSError, UnicodeEncodeError):
        if there:
            path.write_bytes(PICTURES["one pixel"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        for source in (name + suffix, str(path)):
            try:
                with open_source(source) as opened:
                    assert all(frame.image.size for frame in opened)
            except FerError as error:
                one_line_only(error)
    with contextlib.suppress(OSError, UnicodeEncodeError):
        path.unlink()


local = [f"{scheme}://127.0.0.1:1/" for scheme in ("http", "https", "rtsp", "rtmp", "tcp")]
other = ["file:///", "file://", "data://", "concat://", "pipe://", "crypto://", "x+y://", "fd://", "unix://"]
schemes = st.sampled_from([*local, *other, "hls+file://"])


@given(scheme=schemes, rest=names)
def test_an_address_of_any_kind(scheme: str, rest: str) -> None:
    with pytest.raises(FerError) as caught:
        open_source(scheme + rest)
    one_line_only(caught.value)


# The command line

VALUES = ["", "null", "true", "0", "-1", "1", "3.7", "nan", "inf", "1e999", "[]", "[1,2]", "[null]", "{}", "{a:1}"]
VALUES += ["a,b", "???", "auto", "${x}", "${name}", "-x", "..", "'é ü'", "a b", "x" * 300, "9" * 30]
values = st.sampled_from(VALUES) | st.text(st.characters(exclude_characters="/\0"), max_size=12).filter(
    lambda text: "~" not in text
)


def keys(config: Any, start: str = "") -> list[str]:
    """All keys of a config, groups and leaves."""
    if not isinstance(config, dict):
        return []
    here = [f"{start}{name}" for name in config]
    return here + [key for name, child in config.items() for key in keys(child, f"{start}{name}.")]


def call(main: Callable[[], None], *arguments: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Run a program. If it fails, the last line is its error, and there is no traceback."""
    capfd.readouterr()
    GlobalHydra.instance().clear()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(sys, "argv", ["program", *arguments])
        try:
            main()
        except SystemExit as end:
            err = capfd.readouterr().err
            last = err.rstrip("\n").rsplit("\n", 1)[-1]
            assert end.code in (0, 1, 2) and (not end.code or last.startswith("error: ")), err
            assert "Traceback" not in err


def compose_config(name: str, *overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, list(overrides))


INFER = keys(OmegaConf.to_container(compose_config("infer")))


@given(key=st.sampled_from(INFER), value=values, still=st.booleans())
def test_any_value_of_infer(folder, clips, models, capfd, key: str, value: str, still: bool) -> None:
    assume(key != "source" or not re.fullmatch(r"\d+|\.\.?", value))  # no camera of whoever runs this
    (folder / "photo.png").write_bytes(PICTURES["16 bits"])
    (folder / "clip.mp4").write_bytes(clips[".mp4"])
    (folder / "model.ts").write_bytes(models[".ts"])
    given = {"source": "photo.png" if still else "clip.mp4", "artifact": "model.ts", "view": "none", "log": "log.jsonl"}
    given |= {"threads": "1"} | {key: value}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "serve", page.check)
        call(infer_main, *(f"{name}={text}" for name, text in given.items()), capfd=capfd)


@given(key=st.sampled_from([k for k in INFER if k.startswith("browser")]), value=values)
def test_any_value_of_the_browser(capfd, key: str, value: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "serve", page.check)
        call(infer_main, "source=browser", f"{key}={value}", capfd=capfd)


TRAIN = [k for k in keys(OmegaConf.to_container(compose_config("train", *TINY, "run_dir=x"))) if "_target_" not in k]


@given(key=st.sampled_from(TRAIN), value=values)
def test_any_value_of_train(folder, capfd, key: str, value: str) -> None:
    def reach(*_: Any, **__: Any) -> None:
        raise Reached

    number = len(list((folder / "runs").glob("*")))
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Reached):
        patch.setattr(L.Trainer, "fit", reach)
        call(train_main, *TINY, f"hydra.run.dir=runs/{number}", f"{key}={value}", capfd=capfd)
