from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fer import artifact, ort
from fer.errors import ArtifactError, ConfigError
from fer.faces.types import Faces
from fer.stream.faces.classify import FaceClassifier, load_face_classifier
from fer.stream.types import Frame

IMAGE = np.arange(100, dtype=np.uint8).reshape(10, 10, 1).repeat(3, axis=2)


class FakeArtifact:
    """Remembers the batches that it gets."""

    def __init__(self) -> None:
        self.metadata = artifact.Metadata(("a", "b"), 3, 8, (0.5,) * 3, (0.5,) * 3, crop_margin=0.0)
        self.batches: list[np.ndarray] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(images)
        return np.tile(np.array([0.25, 0.75], np.float32), (len(images), 1))


def test_all_faces_of_several_frames_are_one_batch_of_rgb() -> None:
    model = FakeArtifact()
    classify = FaceClassifier(model)
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :20], image[:, 20:] = (200, 0, 0), (0, 0, 100)
    faces = Faces(np.array([[2, 2, 18, 18], [22, 2, 38, 18]], np.float32), np.ones(2, np.float32))
    first, none, last = classify([(Frame(image, 0, 0.0), f) for f in (faces, Faces.none(), faces)])
    assert (none.shape, last.shape) == ((0, 2), (2, 2))
    answer = first
    (batch,) = model.batches
    assert batch.shape == (4, 3, 8, 8) and batch.dtype == np.uint8
    assert batch[:, :, 4, 4].tolist() == [[200, 0, 0], [0, 0, 100]] * 2
    assert answer.shape == (2, 2) and answer.dtype == np.float32


def test_without_faces_the_model_is_not_run() -> None:
    model = FakeArtifact()
    (answer,) = FaceClassifier(model)([(Frame(IMAGE, 0, 0.0), Faces.none())])
    assert answer.shape == (0, 2) and answer.dtype == np.float32 and model.batches == []


def test_a_real_artifact_classifies(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    metadata = artifact.Metadata(("a", "b", "c"), 1, 8, (0.5,), (0.5,))
    path = artifact.save(model, metadata, tmp_path / "model.ts")
    classify = load_face_classifier(str(path), "auto" if not torch.cuda.is_available() else "cpu")
    assert classify.classes == ("a", "b", "c")
    faces = Faces(np.array([[2, 2, 8, 8]], np.float32), np.ones(1, np.float32))
    (answer,) = classify([(Frame(IMAGE, 0, 0.0), faces)])
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)


def test_int8_warns_on_a_cpu_that_is_slow_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = artifact.Metadata(("a", "b", "c"), 1, 8, (0.5,), (0.5,), precision="int8")
    path = artifact.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), metadata, tmp_path / "m.int8.onnx", "onnx")
    caplog.clear()
    for fast, warnings in ((True, 0), (False, 1)):
        monkeypatch.setattr(ort, "fast_int8", lambda fast=fast: fast)
        assert load_face_classifier(path).model == "m.int8.onnx"
        assert [r.levelname for r in caplog.records if "use the .onnx" in r.getMessage()] == ["WARNING"] * warnings


def test_a_missing_file_or_gpu_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match="no model file"):
        load_face_classifier(str(tmp_path / "none.ts"), "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"device=cuda.*device=cpu"):
        load_face_classifier(None, "cuda")
