import os
from pathlib import Path

import pytest

from fer.errors import ConfigError, SinkError
from fer.stream import outputs as module
from fer.stream.fakes import FakeSource
from fer.stream.outputs import Outputs
from fer.stream.sinks import window
from fer.stream.sinks.base import Csv, JsonLines, Pictures, Sink
from fer.stream.sinks.video import VideoFile
from fer.stream.sources import Kind, open_source


def source(kind: Kind = "video", path: Path | None = None) -> FakeSource:
    made = FakeSource()
    made.kind, made.path = kind, path
    return made


def check(kind: Kind = "video", path: Path | None = None, **given: str | None) -> Outputs:
    return Outputs.of(source(kind, path), **{"artifact": None, "save": None, "log": None, "stats": None, **given})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("video", {"log": "rows.txt"}, r"rows\.txt.*\.jsonl or \.csv"),
        ("video", {"log": "rows"}, r"\.jsonl or \.csv"),
        ("video", {"stats": "stats.yaml"}, r"\.json"),
        ("video", {"save": "out.png"}, r"is a video.*\.mp4"),
        ("camera", {"save": "out.avi"}, r"is a camera.*\.mp4"),
        ("video", {"save": "out"}, r"\.mp4"),
        ("image", {"save": "out.mp4"}, r"is an image.*\.png"),
        ("folder", {"save": "out.mp4"}, "another folder"),
        ("folder", {"save": "out.png"}, "another folder"),
        ("folder", {"save": "file"}, "is a file"),
        ("video", {"save": "folder.mp4"}, "is a folder"),
        ("video", {"log": "a/../same.jsonl", "stats": "file/x.json"}, "cannot write"),
        ("video", {"save": "file/out.mp4"}, "cannot write"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_run(kind: Kind, given: dict[str, str], message: str) -> None:
    Path("file").write_text("x")
    Path("folder.mp4").mkdir()
    with pytest.raises(SinkError, match=message):
        check(kind, **given)


def test_no_two_names_for_one_file(tmp_path: Path) -> None:
    Path("clip.mp4").write_text("x")
    Path("linked.mp4").symlink_to("clip.mp4")
    Path("hard.mp4").hardlink_to("clip.mp4")
    clip = tmp_path / "clip.mp4"
    for name in ("clip.mp4", "./clip.mp4", str(clip), "linked.mp4", "hard.mp4"):
        with pytest.raises(SinkError, match="save= and source="):
            check(path=clip, save=name)
    with pytest.raises(SinkError, match="save= and source="):
        check("folder", path=tmp_path, save=".")
    with pytest.raises(SinkError, match="stats= and log="):
        Outputs(source(), None, Path("a.json"), Path("./a.json"))._check_distinct(None)
    with pytest.raises(SinkError, match="stats= and artifact="):
        check(artifact="model.json", stats="model.json")


def test_no_original_is_replaced_by_its_annotated_copy(tmp_path: Path) -> None:
    for name in ("a.png", "photos/a.png", "photos/b.gif", "party/one/c.png", "party/two/d.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(name.encode())
    Path("linked").symlink_to("photos")
    for pattern, save in (
        ("photos/*.png", "photos"),
        ("photos/*", f"{tmp_path}/photos/../photos"),
        (f"{tmp_path}/photos/?.png", "linked"),
        ("*.png", "."),
        ("party/*/*.png", "party"),
    ):
        with pytest.raises(SinkError, match=r"would replace .*\.png itself; give save="):
            Outputs.of(open_source(pattern), None, save, None, None)
    for pattern, save in (("photos/*", "annotated"), ("party/*/*.png", "photos"), ("party/one/*.png", "party")):
        assert Outputs.of(open_source(pattern), None, save, None, None).save == Path(save)


def test_checking_leaves_nothing_but_folders() -> None:
    made = check(save="new/sub/out.mp4", log="rows.csv", stats="~/stats.json".replace("~", "."))
    assert [p.name for p in Path().rglob("*")] == ["new", "sub"]
    assert made.paths() == [Path("new/sub/out.mp4"), Path("rows.csv"), Path("stats.json")]
    check("folder", save="pictures")
    assert Path("pictures").is_dir()


def test_home_is_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert check(log="~/rows.csv").log == tmp_path / "home" / "rows.csv"
    assert check(log="~nobody.csv").log == Path("~nobody.csv"), "there is no such user"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission() -> None:
    Path("locked").mkdir(mode=0o500)
    with pytest.raises(SinkError, match="ermission"):
        check(log="locked/rows.csv")


def test_the_right_sinks() -> None:
    def kinds(kind: Kind, **given: str) -> list[type[Sink]]:
        return [type(sink) for sink in check(kind, **given).sinks(("a", "b"))]

    assert kinds("video") == []
    assert kinds("video", save="a.MP4", log="a.jsonl") == [JsonLines, VideoFile]
    assert kinds("image", save="a.png", log="a.CSV") == [Csv, Pictures]
    assert kinds("folder", save="a", stats="a.json") == [Pictures]


class Terminal:
    def isatty(self) -> bool:
        return True


def test_when_a_window_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "why_no_window", lambda: None)
    assert not check().wants_window("none")
    assert check().wants_window("window")
    monkeypatch.setattr(module.sys, "stdin", None)
    assert not check().wants_window("auto"), "nobody is there"
    monkeypatch.setattr(module.sys, "stdin", Terminal())
    assert check().wants_window("auto")
    assert check("image").wants_window("auto")
    assert not check("image", log="a.csv").wants_window("auto")
    with pytest.raises(ConfigError, match="view=big"):
        check().wants_window("big")
    monkeypatch.setattr(window, "why_no_window", lambda: "no screen")
    assert not check().wants_window("auto")
    with pytest.raises(SinkError, match="view=window: no screen"):
        check().wants_window("window")


def test_why_there_is_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(window.cv2, "getBuildInformation", lambda: "  GUI:                           QT5\n")
    assert "DISPLAY is not set" in str(window.why_no_window())
    monkeypatch.setattr(window.cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    assert "pip install --force-reinstall --no-deps opencv-python," in str(window.why_no_window())
