from pathlib import Path

import numpy as np
import pytest
import torch

from fer import artifact
from fer.evaluate import predict


def test_predictions_of_an_artifact_are_its_probabilities(make_model, splits, tmp_path):
    path = make_model(tmp_path / "m.ts", 0, flip=True)
    (model,) = predict.load_models([str(path)], "cpu")
    split = splits["val"]
    plain, mirrored = (predict.logits(model.network, split.images, flip) for flip in (False, True))
    predictions = predict.Predictions(plain, mirrored, split.labels, model.temperature)
    images = torch.from_numpy(split.images.copy())[:, None]
    assert predictions.flip == pytest.approx(artifact.load(path)(images).numpy(), abs=1e-5)
    assert not np.allclose(predictions.calibrated, predictions.raw, atol=1e-3)
    assert (predictions.correct == (predictions.calibrated.argmax(1) == split.labels)).all()


def test_artifacts_run_on_the_threads_of_pytorch(make_model, tmp_path, monkeypatch):
    given, load = {}, artifact.load
    monkeypatch.setattr(artifact, "load", lambda *words, **values: given.update(values) or load(*words, **values))
    predict.load_models([str(make_model(tmp_path / "m.ts", 0))], "cpu")
    assert given["threads"] == torch.get_num_threads()


def test_a_classifier_its_checkpoint_and_its_artifact_agree(classifier, run_folder, splits):
    images = splits["val"].images
    wanted = predict.softmax(predict.logits(predict.network_of(classifier), images))
    files = [str(run_folder / "checkpoints" / "best.ckpt"), str(run_folder / "model.ts")]
    checkpoint, exported = predict.load_models(files, "cpu")
    assert checkpoint.temperature is None
    assert exported.temperature == exported.metadata.temperature
    for model in (checkpoint, exported):
        assert predict.softmax(predict.logits(model.network, images)) == pytest.approx(wanted, abs=1e-5)


def test_more_images_than_a_batch(classifier, splits, monkeypatch):
    network, images = predict.network_of(classifier), splits["val"].images
    wanted = predict.logits(network, images)
    monkeypatch.setattr(predict, "BATCH", 8)
    assert predict.logits(network, images) == pytest.approx(wanted, abs=1e-5)


def test_names_are_short_and_differ():
    paths = [Path(p) for p in ("/a/x.ts", "/b/x.ts", "/runs/net/day/model.ts", "/runs/net/day/checkpoints/best.ckpt")]
    paths += [Path("/runs/net/day/model.int8.onnx"), Path("/runs/net/night/model.int8.onnx")]
    names = ["x'", "x''", "net/day", "net/day/best.ckpt", "net/day/model.int8.onnx", "net/night"]
    assert predict._names(paths, reserved=["x"]) == names
