"""`infer.py` as its users meet it: most in this process, what depends on a fresh one in another."""

import csv
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from samples import MEDIA
from torch import nn

import infer
from fer import artifact
from fer.artifact import trust
from fer.errors import FerError
from fer.faces.types import Faces
from fer.labels import EMOTIONS
from fer.stream import pipeline, recognizer
from fer.stream.fakes import FakeDetector, FakeSource
from fer.stream.sinks import SINKS, Context, Sink, logs, window
from fer.stream.sinks.video import VideoFile
from fer.stream.sources import OPENERS
from fer.stream.types import Frame, FrameResult

ROOT = Path(__file__).parents[2]

Program = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(144, 7))
    metadata = artifact.Metadata(EMOTIONS, 1, 48, (0.5,), (0.25,))
    return artifact.save(network, metadata, tmp_path_factory.mktemp("model") / "model.ts")


@pytest.fixture
def program(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> Iterator[Program]:
    """Runs infer.py on the given arguments; returns its status, its standard output and its standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    threads = torch.get_num_threads(), cv2.getNumThreads()

    def run(*arguments: str) -> tuple[int, str, str]:
        with_model = any(a.startswith(("artifact=", "-")) for a in arguments)
        monkeypatch.setattr(sys, "argv", ["infer.py", *([] if with_model else [f"artifact={model}"]), *arguments])
        capfd.readouterr()
        status = 0
        try:
            infer.main()
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capfd.readouterr()
        return status, out, err

    yield run
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


@pytest.fixture
def face(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finds one face in every frame."""
    monkeypatch.setattr(recognizer, "Detector", lambda **_: FakeDetector((10.0, 8.0, 40.0, 44.0)))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4")


def make_clip(path: Path, frames: int = 8) -> Path:
    with VideoFile(path, Context(FakeSource())) as video:
        for frame in FakeSource(frames):
            nothing = FrameResult(frame, Faces.none(), ("a", "b"), np.zeros((0, 2), np.float32))
            video.write(nothing, frame.image)
    return path


def rows_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def shared(name: str) -> Path:
    return MEDIA / name


def decoded(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


# What goes well


def test_a_video_with_all_outputs(program: Program, clip: Path, face: None, tmp_path: Path) -> None:
    status, out, err = program("source=clip.mp4", "save=out.mp4", "log=out.jsonl", "stats=out.json", "view=none")
    assert (status, err) == (0, "")
    rows = rows_of(tmp_path / "out.jsonl")
    assert [row["frame"] for row in rows] == list(range(8))
    assert [row["time"] for row in rows] == pytest.approx([i / 25 for i in range(8)], abs=1e-3)
    for row in rows:
        assert list(row) == ["frame", "time", "faces", "model"] and row["model"] == "model.ts"
        (actual,) = row["faces"]
        fields = ["id", "box", "score", "yaw", "pitch", "roll", "emotion", "confidence", "uncertain"]
        assert list(actual) == [*fields, "probabilities", "smoothed"]
        assert list(actual["probabilities"]) == list(EMOTIONS)
        assert sum(actual["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert actual["confidence"] == actual["smoothed"][actual["emotion"]]
        assert actual["id"] == 1
    stats = json.loads((tmp_path / "out.json").read_text())
    assert (stats["frames"], stats["frames_with_faces"], stats["faces"], stats["dropped"]) == (8, 8, 8, 0)
    assert {"decode", "detect", "track", "classify", "annotate", "log", "save"} == set(stats["stages"])
    assert decoded(tmp_path / "out.mp4") == 8
    assert stats["model"] == "model.ts"
    for word in ("model    model.ts", "8, 8 with faces", "100.0%", "frames/s", "out.mp4", "out.jsonl", "out.json"):
        assert word in out
    assert "\x1b" not in out
    assert {p.name for p in tmp_path.iterdir()} == {"clip.mp4", "out.mp4", "out.jsonl", "out.json"}


def test_a_model_from_elsewhere_is_run_when_it_is_trusted(
    program: Program, clip: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_TRUST", str(tmp_path / "trusted.txt"))
    monkeypatch.setattr(trust, "_in_this_process", set())
    arguments = (f"source={clip}", f"artifact={model}", "log=a.jsonl")
    status, _, error = program(*arguments)
    assert status == 2 and "trust=true" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "a.jsonl").exists()
    assert program(*arguments, "trust=true")[0] == 0
    assert program(*arguments)[0] == 0  # remembered


def test_timeline_report_and_blur(program: Program, clip: Path, face: None, tmp_path: Path) -> None:
    status, out, err = program("source=clip.mp4", "timeline=a=b.png", "report=r.html", "blur=faces", "view=none")
    assert (status, err) == (0, "") and "a=b.png" in out and "r.html" in out
    assert (tmp_path / "a=b.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "r.html").read_text()
    assert "Emotions in clip.mp4" in page and "model.ts" in page and "8, 8 with faces" in page
    err = program("source=clip.mp4", "blur=others", "every=30", "view=none", "log=rows.jsonl")[2]
    assert "every=30 is not used" in err and err.count("\n") == 1
    assert not any("carried" in row for row in rows_of(tmp_path / "rows.jsonl"))
    for wrong, message in (("blur=all", "faces, others"), ("timeline=a.txt", ".png"), ("report=a.pdf", ".html")):
        status, out, err = program("source=clip.mp4", wrong, "view=none")
        assert status == 2 and message in err and err.count("\n") == 1
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((48, 64, 3), np.uint8))
    assert "report= does not fit photo.png" in program("source=photo.png", "report=r.html")[2]


def test_garbage_is_collected_while_frames_are_processed(
    program: Program, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(pipeline, "run", lambda *_: seen.append(gc.isenabled()))
    assert program("source=clip.mp4", "view=none")[0] == 0 and program("source=none.mp4")[0] == 2
    assert seen == [True] and gc.isenabled()


def test_csv_and_no_faces(program: Program, clip: Path, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    status, out, err = program("source=clip.mp4", "log=out.csv", "threads=1", "device=cpu")
    assert (status, err) == (0, "")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], row["emotion"]) for row in rows] == [(str(i), "") for i in range(8)]
    assert torch.get_num_threads() == 1
    assert "8, 0 with faces" in out


def test_an_image_and_a_folder(program: Program, face: None, tmp_path: Path) -> None:
    image = np.full((60, 80, 3), 90, np.uint8)
    for name in ("a.png", "b.jpg"):
        cv2.imencode(Path(name).suffix, image)[1].tofile(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"nonsense")
    status, out, err = program("source=a.png", "save=drawn.jpg", "log=a.jsonl")
    assert (status, err) == (0, "")
    assert (cv2.imdecode(np.fromfile(tmp_path / "drawn.jpg", np.uint8), 1) != image).any()
    (tmp_path / "drawn.jpg").unlink()
    status, out, err = program("source=.", "save=drawn", "log=b.jsonl")
    assert status == 0
    assert err.count("\n") == 1 and err.startswith("warning: c.png"), err
    assert "3, 2 with faces, 1 unreadable" in out
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["a.png", "b.jpg"]
    rows = rows_of(tmp_path / "b.jsonl")
    assert [row["file"] for row in rows] == ["a.png", "b.jpg", "c.png"]
    assert [("error" in row, len(row["faces"])) for row in rows] == [(False, 1), (False, 1), (True, 0)]


def test_a_cut_video_is_processed_and_its_loss_is_reported(program: Program, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mkv", 400)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    status, _, err = program("source=clip.mkv", "log=out.jsonl", "save=out.mp4")
    assert status == 0
    assert err.count("\n") == 1 and err.startswith("warning: clip.mkv")
    rows = rows_of(tmp_path / "out.jsonl")
    assert 0 < len(rows) < 400
    assert decoded(tmp_path / "out.mp4") == len(rows)


@pytest.mark.parametrize("name", ["a b=c&d,é'${x}.mp4", 'back\\slash "q" [1].mp4'])
def test_odd_names_all_the_way(program: Program, face: None, tmp_path: Path, name: str) -> None:
    make_clip(tmp_path / name, 3)
    status, _, err = program(f"source={name}", f"save=o {name}", f"log={name}.jsonl", f"stats={name}.json")
    assert (status, err) == (0, "")
    assert decoded(tmp_path / f"o {name}") == 3
    assert len(rows_of(tmp_path / f"{name}.jsonl")) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8_all_the_way(program: Program, face: None, tmp_path: Path) -> None:
    clip, photos = os.fsdecode(b"caf\xe9.mp4"), tmp_path / os.fsdecode(b"\xe9t\xe9")
    make_clip(tmp_path / "clip.mp4", 3).rename(tmp_path / clip)
    photos.mkdir()
    for name in (os.fsdecode(b"a\xe9.png"), "b.png"):
        cv2.imencode(".png", np.full((60, 80, 3), 90, np.uint8))[1].tofile(photos / name)
    written = ["log=a.jsonl", "stats=a.json", "timeline=a.png", "report=a.html", f"save=o{clip}"]
    status, out, err = program(f"source={clip}", "view=none", *written)
    assert (status, err) == (0, "") and "caf\\udce9.mp4" in out
    assert "Emotions in caf\\udce9.mp4" in (tmp_path / "a.html").read_text()
    assert len(rows_of(tmp_path / "a.jsonl")) == decoded(tmp_path / f"o{clip}") == 3
    assert json.loads((tmp_path / "a.json").read_text())["frames"] == 3
    status, _, err = program(f"source={photos}", "view=none", "log=b.csv", f"save={photos}/out")
    assert (status, err) == (0, "")
    assert "a\\udce9.png" in (tmp_path / "b.csv").read_text()
    assert len(list((photos / "out").iterdir())) == 2
    assert program(f"source={photos}", "view=none", "log=b.jsonl")[0] == 0
    assert rows_of(tmp_path / "b.jsonl")[0]["file"] == os.fsdecode(b"a\xe9.png")


@pytest.mark.parametrize("artifact", [None, "~/own.ts", "~nobody.ts"])
def test_home_and_names_like_it(
    program: Program, face: None, tmp_path: Path, model: Path, artifact: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_clip(tmp_path / "~nobody.mp4", 3)
    for name in ("own.ts", "~nobody.ts"):
        (tmp_path / name).write_bytes(model.read_bytes())
    given = [f"artifact={artifact}"] if artifact else []
    status, _, err = program("source=~nobody.mp4", "save=~nobody.mkv", "log=~/a.jsonl", "view=none", *given)
    assert (status, err) == (0, "")
    assert len(rows_of(tmp_path / "a.jsonl")) == decoded(tmp_path / "~nobody.mkv") == 3


def test_null_files_no_faces_and_no_snapshots(
    program: Program, clip: Path, face: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[object, ...]] = []

    class Window(Sink):
        def __init__(self, *given: object) -> None:
            opened.append(given)

        def write(self, *_: object) -> None: ...

    monkeypatch.setattr(window, "why_no_window", lambda: None)
    monkeypatch.setattr(window, "Window", Window)
    assert program("source=clip.mp4", "view=window", "collect=null", "snapshots=null")[0] == 0
    assert program("source=clip.mp4", "view=window", "collect=~no.one")[0] == 0
    assert opened[0] == ("clip.mp4", False, None, None, None)
    assert opened[1][2] == Path("snapshots") and opened[1][3].root == Path("~no.one")


MY_PARTS = """
from pathlib import Path
from fer.stream.fakes import FakeSource
from fer.stream.sinks import Sink, sink
from fer.stream.sources import opener

@opener("grey")
def open_grey(request):
    return FakeSource(7) if request.source == "grey" else None

@sink("my_count", ".txt")
class Count(Sink):
    def __init__(self, path, context):
        self.path, self.context, self.frames_seen = path, context, 0

    def write(self, result, picture):
        self.frames_seen += 1

    def close(self, complete):
        self.path.write_text(f"{self.frames_seen} frames of {self.context.classes[0]}, {complete}")
"""


def test_a_source_and_a_sink_of_ones_own(
    program: Program, face: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_parts.py").write_text(MY_PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(OPENERS, "grey", lambda request: None)
    monkeypatch.setitem(SINKS, "my_count", [])
    status, out, err = program("plugins=[my_parts]", "source=grey", "+my_count=count.txt", "view=none")
    assert (status, err) == (0, "") and "count.txt" in out
    assert (tmp_path / "count.txt").read_text() == "7 frames of angry, True"
    status, _, err = program("plugins=[my_parts]", "source=grey", "+my_count=count.csv")
    assert status == 2 and "my_count=count.csv" in err and ".txt" in err


def test_a_run_without_a_face_says_the_likeliest_cause(program: Program, tmp_path: Path) -> None:
    for level, said in ((0, "warning: a.png: no face was found: the picture is very dark"), (200, "")):
        cv2.imwrite(str(tmp_path / "a.png"), np.full((48, 64, 3), level, np.uint8))
        status, out, err = program("source=a.png")
        assert status == 0 and "1, 0 with faces" in out
        assert err.startswith(said) and err.count("\n") == bool(said)


def test_losses_are_said_even_if_the_run_fails(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    class Damaged(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            self.notes.append("fake: 3 damaged frames")
            yield from super().__iter__()

    monkeypatch.setitem(OPENERS, "grey", lambda request: Damaged(5, fails_at=4) if request.source == "grey" else None)
    status, out, err = program("source=grey", "view=none")
    assert (status, out) == (2, "")
    assert err == "warning: fake: 3 damaged frames\nerror: the fake source fails at frame 4\n"


@pytest.mark.parametrize("every", ["0", "1.5", "often"])
def test_blur_hides_no_wrong_every(every: str, program: Program, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 3)
    status, _, err = program("source=clip.mp4", "blur=faces", f"every={every}")
    assert status == 2 and f"every={every}" in err and err.count("\n") == 1


def test_blur_and_a_live_source(program: Program, face: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Camera(FakeSource):
        live = True

    monkeypatch.setitem(OPENERS, "grey", lambda request: Camera(5) if request.source == "grey" else None)
    status, _, err = program("source=grey", "blur=faces", "every=3", "log=rows.jsonl", "view=none")
    assert status == 2 and "every=1" in err and err.count("\n") == 1 and not (tmp_path / "rows.jsonl").exists()
    status, _, err = program("source=grey", "blur=faces", "view=none")
    assert status == 0 and "first detected" in err and err.count("\n") == 1


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A folder of two films, one of them without an ending, a broken one, a text, and a folder below."""
    folder = tmp_path / "films"
    (folder / "below").mkdir(parents=True)
    make_clip(folder / "a.mp4", 4)
    make_clip(folder / "b.mkv", 6).rename(folder / "b")
    shutil.copy(folder / "a.mp4", folder / "below" / "a.mp4")
    (folder / "broken.mov").write_bytes(b"no film")
    (folder / "text.txt").write_text("text")
    return folder


def test_a_folder_of_films_is_a_batch(
    program: Program, films: Path, face: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    load = recognizer.load_face_classifier
    monkeypatch.setattr(recognizer, "load_face_classifier", lambda *given: made.append(given) or load(*given))
    status, out, err = program("source=films", "save=out", "log=out", "stats=out/stats", "timeline=out", "report=out")
    assert status == 2 and len(made) == 1
    names = {"a.mp4", "a.jsonl", "a.png", "a.html", "b.mp4", "b.jsonl", "b.png", "b.html", "stats"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert {path.name for path in (tmp_path / "out" / "stats").iterdir()} == {"a.json", "b.json"}
    for name, frames in (("a", 4), ("b", 6)):
        rows = rows_of(tmp_path / "out" / f"{name}.jsonl")
        assert [(row["frame"], row["faces"][0]["id"]) for row in rows] == [(k, 1) for k in range(frames)]
        assert decoded(tmp_path / "out" / f"{name}.mp4") == frames
        assert f"{name}{'.mp4' if name == 'a' else ''}: {frames} frames, {frames} with faces" in out
    assert out.count("; model model.ts; wrote ") == 2
    assert "10, 10 with faces" in out and "films, 2 of 3 films" in out
    first, second, last = err.splitlines()
    assert "broken.mov" in first and '"films/**"' in second and last.startswith("error: 1 of 3 films")


def test_a_pattern_names_the_outputs_of_its_films(program: Program, films: Path, tmp_path: Path) -> None:
    (films / "broken.mov").unlink()
    assert program("source=films/**/*", "log=rows/x_*.csv", "max_frames=2")[0] == 0
    rows = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.csv"))
    assert rows == ["rows/x_a.csv", "rows/x_b.csv", "rows/x_below/a.csv"]
    shutil.copy(films / "a.mp4", films / "A.mov")
    status, _, err = program("source=films/*", "stats=out", "log=out.v2/", "max_frames=2", "blur=faces", "every=3")
    assert status == 0 and err.count("every=3 is not used") == 1, "once, not for each film"
    assert (tmp_path / "out.v2" / "b.jsonl").exists()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.mp4.json", "A.mov.json", "b.json"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["log=rows.csv"], '*.csv"'),
        (["save=out.mkv"], "one file for several films"),
        (["save=out.txt"], "save=out.txt/"),
        (["save=films"], "among the films"),
        (["source=films/**", "save=films/below/x_*.mkv"], "save=<another folder>"),
        (["view=window"], "one film"),
        (["source=none/*.mp4"], "no images and no films"),
        (["source=films/below/*.mov"], "no images and no films"),
        (["source=films/text*"], "no images and no films"),
    ],
)
def test_a_batch_that_cannot_work_is_refused_before_it_runs(
    program: Program, films: Path, arguments: list[str], words: str
) -> None:
    before = sorted(films.rglob("*"))
    status, out, err = program("source=films", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1) and words in err
    assert sorted(films.rglob("*")) == before


def test_films_in_a_folder_of_pictures_are_counted(program: Program, films: Path) -> None:
    cv2.imwrite(str(films / "photo.png"), np.full((48, 64, 3), 200, np.uint8))
    status, out, err = program("source=films")
    assert status == 0 and "1, 0 with faces" in out
    assert err == (
        "warning: films/: 3 files are not images and were not read, such as a.mp4; "
        'films are read with source="films/*.mp4"\n'
    )


# What goes wrong


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no source"),
        (["source=none.mp4"], "no file none.mp4"),
        (["source=empty"], "no images"),
        (["source=text.mp4"], "neither a video nor an image"),
        (["source=cut.mp4"], "without its index"),
        (["source=97"], "no camera 97"),
        (["source=-1"], "count from 0"),
        (["source=http://127.0.0.1:9/a.mp4"], "cannot open http://127.0.0.1:9/a.mp4"),
        (["source=rtsp://127.0.0.1:9/camera"], "cannot open rtsp://127.0.0.1:9/camera"),
        (["source=browser"], "does not go with source=browser"),
        (["source=clip.mp4", "log=rows.txt"], ".jsonl or .csv"),
        (["source=clip.mp4", "stats=stats.txt"], ".json"),
        (["source=clip.mp4", "save=out.png"], ".mp4"),
        (["source=clip.mp4", "save=text.mp4/out.mp4"], "cannot write"),
        (["source=clip.mp4", "save=clip.mp4"], "save= and source="),
        (["source=clip.mp4", "view=window"], "view=window"),
        (["source=clip.mp4", "view=loud"], "auto, window or none"),
        (["source=clip.mp4", "device=cuda"], "device=cpu"),
        (["source=clip.mp4", "device=tpu"], "auto, cpu or cuda"),
        (["source=clip.mp4", "threads=0"], "threads=0"),
        (["source=clip.mp4", "threads=many"], "threads=many"),
        (["source=clip.mp4", "threads=true"], "threads=True"),
        (["source=clip.mp4", "threads=1.5"], "threads=1.5"),
        (["source=clip.mp4", "detector.width=3"], "detector.width"),
        (["source=clip.mp4", "detector.score=2"], "detector.score"),
        (["source=clip.mp4", "detector=null"], "detector=None must be a group"),
        (["source=clip.mp4", "smoothing=3"], "as smoothing.<key>=<value>"),
        (["source=clip.mp4", "trust=no"], "choose true or false"),
        (["source=clip.mp4", f"retry_for={'9' * 400}"], "retry_for=9999"),
        (["source=clip.mp4", f"max_frames={'9' * 30}"], "must be a whole number from 1"),
        (["source=clip.mp4", "artifact=none.ts"], "no model file"),
        (["source=clip.mp4", "artifact=text.mp4"], "python -m fer.artifact"),
        (["source=clip.mp4", "artifact=foreign.ts"], "python -m fer.artifact"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_with_its_fix(
    program: Program,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    (tmp_path / "text.mp4").write_text("only text\n" * 100)
    (tmp_path / "empty").mkdir()
    data = clip.read_bytes()
    # Our own clips have the index in front; one as a camera writes it has it at the end, and loses it when cut.
    (tmp_path / "cut.mp4").write_bytes(data[: data.index(b"moov") - 4] + data[data.index(b"mdat") - 4 :])
    with zipped(tmp_path / "foreign.ts"):
        pass
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    before = {p.name for p in tmp_path.iterdir()}
    status, out, err = program(*arguments, *([] if any("save" in a for a in arguments) else ["save=new.mp4"]))
    assert (status, out) == (2, ""), err
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err, err
    assert {p.name for p in tmp_path.iterdir()} == before


def zipped(path: Path):
    """Any TorchScript that is not ours: a zip with a model's parts and no metadata."""
    import zipfile

    archive = zipfile.ZipFile(path, "w")
    archive.writestr("other/data.pkl", b"")
    archive.writestr("other/constants.pkl", b"")
    return archive


def test_a_break_halfway_keeps_the_results_so_far(
    program: Program, face: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from fer.stream import sources

    broken = FakeSource(40, fails_at=30)
    monkeypatch.setattr(sources, "open_source", lambda *_: broken)
    status, out, err = program("source=clip.mp4", "save=out.mp4", "log=out.jsonl", "stats=out.json")
    assert (status, out) == (2, "")
    assert err == "error: the fake source fails at frame 30\n"
    assert {p.name for p in tmp_path.iterdir()} == {"out.jsonl", "out.mp4"}
    assert len(rows_of(tmp_path / "out.jsonl")) == 30
    with av.open("out.mp4") as container:
        assert container.streams.video[0].frames == 30
    assert broken.closed


def test_the_traceback_is_there_for_those_who_ask(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(FerError, match="no file"):
        program("source=none.mp4")


def test_ctrl_c_ends_in_good_order(
    program: Program, face: None, clip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write = logs.JsonLines.write

    def stopped(self: logs.JsonLines, result: FrameResult, picture: np.ndarray | None = None) -> None:
        write(self, result, picture)
        if result.frame.index == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(logs.JsonLines, "write", stopped)
    status, out, err = program("source=clip.mp4", "save=out.mp4", "log=out.jsonl", "stats=out.json")
    assert (status, err) == (130, "stopped\n")
    assert len(rows_of(tmp_path / "out.jsonl")) == 6
    frames = json.loads((tmp_path / "out.json").read_text())["frames"]
    assert frames >= 6 and decoded(tmp_path / "out.mp4") - frames in (0, 1)
    assert "out.mp4" in out


# In a process of its own


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}


TRAINING = "lightning pytorch_lightning wandb timm albumentations"
HEAVY = f"{TRAINING} matplotlib torchvision supervision trackers pandas scipy sklearn"


def imported(*arguments: str) -> tuple[str, set[str]]:
    """Standard output, and the top-level modules of a run in a fresh process."""
    code = (
        "import runpy, sys\nsys.argv = sys.argv[1:]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\nexcept SystemExit:\n    pass\n"
        "print('MODULES', *{name.split('.')[0] for name in sys.modules})"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "infer.py"), *arguments],
        capture_output=True, text=True, env=environment(), timeout=240,
    )  # fmt: skip
    assert completed.returncode == 0 and completed.stderr == "", completed.stderr
    out, modules = completed.stdout.rsplit("MODULES", 1)
    return out, set(modules.split())


def test_help_is_for_people_and_needs_no_torch() -> None:
    out, modules = imported("--help")
    for word in (
        "python infer.py source=",
        "artifact=",
        "device=",
        "threads=",
        "view=",
        "save=",
        "log=",
        "stats=",
    ):
        assert word in out
    assert "hydra" not in out.lower().replace("hydra_full_error", "")
    assert max(map(len, out.splitlines())) <= 110
    assert not modules & {*HEAVY.split(), "torch", "cv2", "av", "numpy", "rich"}


def test_a_first_result_imports_little(model: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((60, 80, 3), 90, np.uint8))
    out, modules = imported(f"source={tmp_path}/a.png", f"artifact={model}", f"save={tmp_path}/b.png")
    assert "1, 0 with faces" in out and (tmp_path / "b.png").exists()
    assert "torch" in modules
    assert not modules & set(HEAVY.split())


def test_onnx_needs_no_pytorch_and_a_picture_no_tracker(model: Path, tmp_path: Path) -> None:
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(144, 7))
    path = artifact.save(network, artifact.read_metadata(model), tmp_path / "model.onnx", "onnx")
    cv2.imwrite(str(tmp_path / "a.png"), np.full((60, 80, 3), 90, np.uint8))
    make_clip(tmp_path / "clip.mp4", 3)
    training, tracking = {"torch", "torchvision", *TRAINING.split()}, {"trackers", "supervision"}
    for source, absent, present in (
        ("a.png", {"torch", *HEAVY.split()}, set()),
        ("clip.mp4", training, tracking),
    ):
        words = f"source={tmp_path / source}", f"artifact={path}", "view=none", f"log={tmp_path}/log.csv"
        out, modules = imported(*words)
        assert "model.onnx" in out
        assert not modules & absent and modules >= present
        (row, *_) = csv.DictReader((tmp_path / "log.csv").read_text().splitlines())
        assert row["model"] == "model.onnx"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT] * 2])
def test_kill_ends_a_run_as_ctrl_c_does_and_a_second_ctrl_c_cuts_nothing_off(
    signals: list[signal.Signals], model: Path, tmp_path: Path
) -> None:
    make_clip(tmp_path / "long.mp4", 1000)
    process = subprocess.Popen(
        [sys.executable, ROOT / "infer.py", "source=long.mp4", f"artifact={model}", "save=out.mp4", "log=out.jsonl"],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log = tmp_path / "out.jsonl"
    deadline = time.monotonic() + 240  # a busy machine takes its time
    while time.monotonic() < deadline and not (log.exists() and log.stat().st_size > 1000):
        time.sleep(0.05)
    for each in signals:
        process.send_signal(each)
        time.sleep(0.05)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130 and err.endswith("stopped\n") and "Traceback" not in err
    rows = rows_of(log)
    assert 10 < len(rows) < 1000
    assert abs(decoded(tmp_path / "out.mp4") - len(rows)) <= 1
    assert {p.name for p in tmp_path.iterdir()} == {"long.mp4", "out.mp4", "out.jsonl"}


# Real faces


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "frames", "with_faces"),
    [
        ("single_face.mp4", 72, range(72, 73)),
        ("no_face.mp4", 95, range(1)),
        ("face_noface.mov", 169, range(60, 90)),
    ],
)
def test_clips(program: Program, tmp_path: Path, name: str, frames: int, with_faces: range) -> None:
    path = shared(name)
    status, _, err = program(f"source={path}", "save=out.mp4", "log=out.jsonl", "stats=out.json", "view=none")
    assert status == 0
    assert err == "", "the three frames that the edit list of no_face.mp4 leaves out are no loss"
    rows = rows_of(tmp_path / "out.jsonl")
    assert len(rows) == frames == decoded(tmp_path / "out.mp4")
    assert sum(bool(row["faces"]) for row in rows) in with_faces
    with av.open(str(path)) as container:
        times = [float(frame.time or 0) for frame in container.decode(video=0)]
        rate = container.streams.video[0].average_rate
    assert [row["time"] for row in rows] == pytest.approx(times, abs=1e-5)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [float(f.time or 0) for f in container.decode(video=0)] == pytest.approx(times, abs=1e-3)
        if name == "single_face.mp4":
            assert container.streams.video[0].average_rate == rate == 30


@pytest.mark.shared
def test_a_photo_of_five(program: Program, tmp_path: Path) -> None:
    status, _, err = program(f"source={shared('multi_face.jpg')}", "save=out.png", "log=out.csv")
    assert (status, err) == (0, "")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 6
    assert (tmp_path / "out.png").exists()
