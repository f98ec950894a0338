from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from samples import MEDIA
from torch import nn

from fer import artifact
from fer.faces.types import Array
from fer.stream import Recognizer, recognizer
from fer.stream.fakes import FakeDetector


def picture(index: int, width: int, height: int) -> Array:
    """A grey picture whose level depends on `index`, with a red left upper corner that shows which way is up."""
    image = np.full((height, width, 3), 60 + 5 * (index % 30), np.uint8)
    image[: height // 4, : width // 4] = (220, 30, 30)
    return image


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    def make(
        name: str = "clip.mp4",
        frames: int = 6,
        rate: int = 25,
        size: tuple[int, int] = (64, 48),
        times: Sequence[float] | None = None,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(f"file:{path}", "w") as container:
            stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "g": "2"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            for i in range(frames):
                frame = av.VideoFrame.from_ndarray(picture(i, *size), format="rgb24")
                frame.pts = round(1000 * (times[i] if times else i / rate))
                frame.time_base = Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return make


@pytest.fixture
def shared() -> Path:
    return MEDIA


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny artifact of three classes."""
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(16, 3))
    metadata = artifact.Metadata(("a", "b", "c"), 1, 16, (0.5,), (0.25,))
    return artifact.save(network, metadata, tmp_path_factory.mktemp("model") / "model.ts")


@pytest.fixture
def one(model: Path, monkeypatch: pytest.MonkeyPatch) -> Recognizer:
    """A recognizer with that artifact and a detector that sees one face in every frame."""
    monkeypatch.setattr(recognizer, "Detector", lambda **_: FakeDetector((8.0, 8.0, 40.0, 40.0)))
    return Recognizer(model)
