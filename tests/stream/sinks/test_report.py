import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer.faces.types import Faces
from fer.labels import EMOTIONS
from fer.stream.faces.smooth import Smoother
from fer.stream.faces.track import Tracker
from fer.stream.fakes import FakeDetector, FakeFaceClassifier, FakeSource
from fer.stream.pipeline import results, run
from fer.stream.sinks import Context, open_sinks
from fer.stream.sinks.report import Report
from fer.stream.sources import Source
from fer.stream.state import TemporalState
from fer.stream.types import Frame, FrameResult


def page(path: Path, source: Source, *boxes: tuple[float, float, float, float], until: int | None = None) -> str:
    context, state = Context(source, EMOTIONS, "<b>model.ts</b>"), TemporalState(Tracker(), Smoother())
    stats = context.stats
    stream = results(source, FakeDetector(*boxes), FakeFaceClassifier(EMOTIONS, 3), state, stats)

    def interrupt() -> None:
        if stats.frames == until:
            raise KeyboardInterrupt

    try:
        run(stream, open_sinks({"report": str(path)}, context), stats, interrupt)
    except KeyboardInterrupt:
        assert until
    return path.read_text()


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.all if tag == name]


def pictures(text: str) -> list[np.ndarray]:
    encoded = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    read = [cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_COLOR) for data in encoded]
    assert all(image is not None for image in read)
    return [image for image in read if image is not None]


def test_a_page_with_shares_areas_and_key_frames(tmp_path: Path) -> None:
    text = page(tmp_path / "report.html", FakeSource(50), (4, 4, 24, 28), (36, 8, 60, 40))
    tags = Tags(text)
    assert len(tags.of("svg")) == 2 and len(pictures(text)) == 2
    assert re.findall(r"Face (\d)</h2>", text) == ["1", "2"]
    assert "<bdi>happy</bdi> <b>100 %</b>" in text and "50, 50 with faces" in text and "100 in all frames" in text
    first = next(a["d"] for a in tags.of("path") if a["fill"] == "#808c98")  # neutral lies behind all others
    assert first and first.startswith("M0.0 100.0L0.0 0.0") and first.endswith("L1000.0 100.0Z")
    assert all(image.shape == (128, 128, 3) for image in pictures(text))
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_nothing_is_asked_of_the_network_and_all_is_escaped(tmp_path: Path) -> None:
    source = FakeSource(10)
    source.name = "http://me:secret@host/<script>alert(1)</script>?token=5"
    text = page(tmp_path / "report.html", source, (4, 4, 24, 28))
    tags = Tags(text)
    assert "secret" not in text and "token" not in text
    assert not tags.of("script") and "<b>model" not in text and "&lt;script&gt;" in text
    for _, attributes in tags.all:
        for name in ("src", "href", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"url\(|@import", text)
    assert "default-src 'none'" in text


def test_a_source_is_named_without_its_folders(tmp_path: Path) -> None:
    source = FakeSource(3)
    source.name, source.path = str(tmp_path / "clip.mp4"), tmp_path / "clip.mp4"
    text = page(tmp_path / "report.html", source)
    assert "Emotions in clip.mp4" in text and str(tmp_path) not in text
    assert "No face was found" in text


def test_ctrl_c_writes_what_was_seen(tmp_path: Path) -> None:
    text = page(tmp_path / "report.html", FakeSource(100), (4, 4, 24, 28), until=20)
    assert re.search(r"\d+, \d+ with faces", text) and len(pictures(text)) == 1


def test_the_timeline_and_the_report_share_one_sink(tmp_path: Path) -> None:
    context = Context(FakeSource(20), EMOTIONS)
    outputs = {"report": str(tmp_path / "report.html"), "timeline": str(tmp_path / "timeline.svg")}
    (report,) = open_sinks(outputs, context)
    with report:
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "timeline.svg"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    context = Context(FakeSource(), EMOTIONS)
    outputs = {"report": str(tmp_path / "report.html"), "timeline": str(tmp_path / "timeline.png")}
    (report,) = open_sinks(outputs, context)
    with pytest.raises(ZeroDivisionError), report:
        _ = 1 / 0
    assert not list(tmp_path.iterdir())


def test_the_clearest_moment_of_each_emotion_and_few_of_them(tmp_path: Path) -> None:
    (report,) = open_sinks({"report": str(tmp_path / "report.html")}, Context(FakeSource(), ("a", "b")))
    assert isinstance(report, Report)
    box, score = np.array([[0, 0, 40, 40]], np.float32), np.ones(1, np.float32)
    with report:
        for i in range(400):
            sure = 0.6 + 0.3 * np.sin(np.pi * i / 400)
            frame = Frame(np.full((48, 64, 3), i // 2, np.uint8), i, i / 30)
            faces = Faces(box, score, ids=np.array([1 + i // 4], np.int64))
            report.write(FrameResult(frame, faces, ("a", "b"), np.array([[sure, 1 - sure]], np.float32)))
        assert len(report._keys) <= 2 * 64 + 9, "key frames of many passers-by do not pile up"
    text = (tmp_path / "report.html").read_text()
    assert len(pictures(text)) == 12 and "and 88 more" in text
