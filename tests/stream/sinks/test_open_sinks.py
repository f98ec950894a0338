"""What a run is asked to write, checked before the first frame."""

import os
import tempfile
from pathlib import Path

import pytest
from samples import frame_result

from fer.errors import ConfigError, SinkError
from fer.stream.fakes import FakeSource
from fer.stream.sinks import FILMS, SINKS, Context, Sink, open_sinks, sink
from fer.stream.sinks.logs import Csv, JsonLines, StatsFile
from fer.stream.sinks.pictures import Pictures
from fer.stream.sinks.report import Report
from fer.stream.sinks.video import VideoFile
from fer.stream.sources import Kind, open_source


def context(kind: Kind = "video", path: Path | None = None) -> Context:
    source = FakeSource()
    source.kind, source.path = kind, path
    return Context(source, ("a", "b"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("video", {"log": "rows.txt"}, r"log=rows\.txt.*\.jsonl or \.csv"),
        ("video", {"log": "rows"}, r"log=rows .*\.csv"),
        ("video", {"stats": "stats.yaml"}, r"stats=stats\.yaml.*\.json"),
        ("video", {"save": "out.png"}, r"save=out\.png.*video.*\.mp4"),
        ("camera", {"save": "out.avi"}, r"save=out\.avi.*camera.*\.mp4"),
        ("video", {"save": "out"}, r"save=out .*\.mp4"),
        ("video", {"timeline": "a.txt"}, r"timeline=a\.txt.*\.png"),
        ("image", {"save": "out.mp4"}, r"save=out\.mp4.*image.*\.png"),
        ("image", {"timeline": "a.png"}, "timeline= does not fit"),
        ("folder", {"report": "a.html"}, "report= does not fit"),
        ("folder", {"save": "out.mp4"}, "save=<another folder>"),
        ("folder", {"save": "out.png"}, "save=<another folder>"),
        ("folder", {"save": "file"}, "cannot write file"),
        ("video", {"save": "folder.mp4"}, "save=folder.mp4 is a folder"),
        ("video", {"log": "a/../same.jsonl", "stats": "file/x.json"}, "cannot write"),
        ("video", {"save": "file/out.mp4"}, "cannot write"),
    ],
)
def test_what_cannot_be_written_is_refused(kind: Kind, values: dict[str, str], message: str) -> None:
    Path("file").write_text("x")
    Path("folder.mp4").mkdir()
    with pytest.raises(SinkError, match=message):
        open_sinks(values, context(kind))


def test_a_path_is_text() -> None:
    with pytest.raises(ConfigError, match="log=3 must be a path"):
        open_sinks({"log": 3}, context())


def test_no_two_names_for_one_file(tmp_path: Path) -> None:
    Path("clip.mp4").write_text("x")
    Path("linked.mp4").symlink_to("clip.mp4")
    clip = tmp_path / "clip.mp4"
    for name in ("clip.mp4", "./clip.mp4", str(clip), "linked.mp4"):
        with pytest.raises(SinkError, match="save= and source="):
            open_sinks({"save": name}, context(path=clip))
    with pytest.raises(SinkError, match="save= and source="):
        open_sinks({"save": "."}, context("folder", tmp_path))
    Path("model.json").write_text("x")
    with pytest.raises(SinkError, match="stats= and artifact="):
        open_sinks({"stats": "model.json"}, context(), "model.json")
    open_sinks({"save": "fast"}, context("folder", Path("photos")), "fast")  # the name of an included model is no path


def test_two_keys_for_one_file_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SINKS, "other", SINKS["log"])
    with pytest.raises(SinkError, match="other= and log="):
        open_sinks({"log": "a.csv", "other": "./a.csv"}, context())


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
            open_sinks({"save": save}, Context(open_source(pattern)))
    for pattern, save in (("photos/*", "annotated"), ("party/*/*.png", "photos"), ("party/one/*.png", "party")):
        (pictures,) = open_sinks({"save": save}, Context(open_source(pattern)))
        assert isinstance(pictures, Pictures) and pictures.path == Path(save)


def test_checking_leaves_nothing_but_folders() -> None:
    run = context()
    open_sinks({"save": "new/sub/out.mp4", "log": "rows.csv", "stats": "./stats.json", "report": None}, run)
    assert [p.name for p in Path().rglob("*")] == ["new", "sub"]
    assert run.paths == {"save": Path("new/sub/out.mp4"), "log": Path("rows.csv"), "stats": Path("stats.json")}
    open_sinks({"save": "pictures"}, context("folder"))
    assert Path("pictures").is_dir()


def test_home_is_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value, path in (("~/rows.csv", tmp_path / "home" / "rows.csv"), ("~nobody.csv", Path("~nobody.csv"))):
        run = context()
        open_sinks({"log": value}, run)
        assert run.paths["log"] == path


def test_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("locked").mkdir(mode=0o500)
    if os.access("locked", os.W_OK):  # root may write anywhere, so the system's answer is imitated

        def refuse(**_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(SinkError, match="ermission"):
        open_sinks({"log": "locked/rows.csv"}, context())


def test_the_sink_fits_the_source_and_the_ending() -> None:
    def kinds(kind: Kind, **values: str) -> set[type[Sink]]:
        return {type(sink) for sink in open_sinks(values, context(kind))}

    assert kinds("video") == kinds("video", save="", log="") == set()
    assert kinds("video", save="a.MP4", log="a.jsonl") == {JsonLines, VideoFile}
    assert kinds("image", save="a.png", log="a.CSV") == {Csv, Pictures}
    assert kinds("folder", save="a", stats="a.json") == {Pictures, StatsFile}
    assert kinds("camera", timeline="a.png", report="a.html") == {Report}


def test_statistics_are_closed_last() -> None:
    sinks = open_sinks({"log": "a.csv", "stats": "a.json", "report": "a.html"}, context())
    assert isinstance(sinks[0], StatsFile), "the sink that is entered first is closed last"


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> type[Sink]:
    """A sink that is registered from outside, under two keys."""
    for key in ("count", "topic"):
        monkeypatch.setitem(SINKS, key, [])

    @sink("count", ".txt", sources=FILMS)
    @sink("topic", value="other")
    class Count(Sink):
        def __init__(self, value: object, context: Context) -> None:
            self.value, self.frames_seen = value, 0

        def write(self, result: object, picture: object) -> None:
            self.frames_seen += 1

    return Count


def test_a_sink_of_ones_own_is_checked_as_any_other(own: type[Sink]) -> None:
    (made,) = open_sinks({"count": "a.txt"}, context())
    assert isinstance(made, own) and made.value == Path("a.txt")
    with made:
        made.write(frame_result(0), None)
    with pytest.raises(SinkError, match=r"count=a\.csv.*\.txt"):
        open_sinks({"count": "a.csv"}, context())
    with pytest.raises(SinkError, match="count= does not fit"):
        open_sinks({"count": "a.txt"}, context("image"))
    (made,) = open_sinks({"topic": ["faces", 3]}, context())
    assert isinstance(made, own) and made.value == ["faces", 3], "what is no path is passed as it is"
