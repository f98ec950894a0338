"""Wrong labels, found by what a model answers for other images."""

import csv
import sys

import cv2
import numpy as np
import pytest
from samples import fer_rows, run_program, write_csv, write_votes

from fer.data.audit import Audit, examine
from fer.data.base import Split
from fer.errors import ConfigError, DataError
from fer.evaluate import suspects

CLASSES = ("angry", "happy", "own")


def faces(count: int, seed: int = 0) -> np.ndarray:
    """Blurred noise, uint8 (count, 24, 24)."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    return np.stack([cv2.resize(image, (24, 24), interpolation=cv2.INTER_CUBIC) for image in small])


def audit(labels: np.ndarray, groups: tuple[str, ...] | None = None) -> Audit:
    return examine({"train": Split(faces(len(labels)), labels, CLASSES, groups=groups)})


def answers(truth: np.ndarray) -> np.ndarray:
    """Log-probabilities of four classes, of which three tell the truth, more or less."""
    noise = np.random.default_rng(1).normal(0, 0.5, (len(truth), 4))
    logits = noise + 3 * np.eye(4)[truth]
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def test_wrong_labels_come_first_with_what_they_should_be():
    truth = np.arange(90) % 3
    labels = truth.copy()
    labels[[4, 40, 77]] = (truth[[4, 40, 77]] + 1) % 3
    found = suspects.find(answers(truth), audit(labels))
    assert set(found.rows[:3].tolist()) == {4, 40, 77}
    assert found.probabilities[found.rows].argmax(1)[:3].tolist() == truth[found.rows[:3]].tolist()
    assert found.judged.all() and found.estimate[[4, 40, 77]].all() and found.estimate.sum() <= 5


def test_copies_and_images_of_a_person_are_judged_together_and_classes_are_dealt_evenly():
    labels = np.arange(60) % 3
    groups = tuple("anna" if k in (3, 20, 31) else "" for k in range(60))
    data = audit(labels, groups)
    images = data.splits["train"].images.copy()
    images[9], images[14] = images[5], cv2.GaussianBlur(images[5], (3, 3), 0.4)
    data = examine({"train": Split(images, labels, CLASSES, groups=groups)})
    fold = suspects.folds_of(data, labels, 5, seed=0)
    assert len(set(fold[[5, 9, 14]])) == 1 == len(set(fold[[3, 20, 31]]))
    assert all(2 <= n <= 6 for k in range(3) for n in np.bincount(fold[labels == k], minlength=5))


def test_what_has_one_image_of_its_class_is_not_judged_and_said(capsys):
    truth = np.array([0, 1] * 6 + [2])
    found = suspects.find(answers(truth), audit(truth))
    assert found.judged.tolist() == [True] * 12 + [False]
    assert 12 not in found.rows
    assert capsys.readouterr().err.count("\n") == 1
    two = np.array([0, 1, 0, 1, 2, 2])
    assert suspects.find(answers(two), audit(two)).judged.all()
    with pytest.raises(DataError, match="too few images to judge labels"):
        suspects.find(answers(np.array([0, 1])), audit(np.array([0, 1])))


def test_without_cleanlab_one_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(ConfigError, match=r"model= needs .*: pip install cleanlab"):
        suspects.find(answers(np.arange(6) % 3), audit(np.arange(6) % 3))


def test_votes_tell_how_many_suspects_are_wrong():
    labels = np.array([0, 1] * 10)
    targets = np.eye(3, dtype=np.float32)[labels]
    majority = labels.copy()
    targets[4], majority[4] = (0, 1, 0), 1
    targets[7], majority[7] = (0.6, 0.4, 0), -1
    data = examine({"train": Split(faces(20), labels, CLASSES, targets, None, majority)})
    found = suspects.Suspects(np.array([4, 7, 2]), np.zeros((20, 3)), np.ones(20, bool), np.zeros(20, bool))
    (table,) = suspects._precision(found, data)
    assert table.rows[0][0] == "the first 3 suspects"
    assert [cell.partition(" (")[0] for cell in table.rows[0][1:]] == ["50.0% of 2", "66.7% of 3"]
    assert [cell.partition(" (")[0] for cell in table.rows[-1][1:]] == ["5.3% of 19", "10.0% of 20"]


def test_the_program_on_fer2013_with_votes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = fer_rows()
    write_csv(tmp_path / "fer2013.csv", rows)
    write_votes(tmp_path / "votes.csv", rows)
    run_program(["fer.data.audit", "fer2013.csv", "votes=votes.csv", "model=fast", "out=out"], monkeypatch)
    out, err = capsys.readouterr()
    assert [line[:5] for line in err.splitlines()] == ["fast ", "fast:"]
    assert "has learnt votes for these images" in err
    assert "How many are wrong by the votes" in out and "out/suspects.csv" in out and "out/suspects.png" in out
    assert "Labels that out-of-fold predictions contradict" in (tmp_path / "out" / "audit.md").read_text()
    with (tmp_path / "out" / "suspects.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert found and [row["rank"] for row in found] == [str(k + 1) for k in range(len(found))]
    scores = [float(row["score"]) for row in found]
    assert scores == sorted(scores)
    for row in found:
        assert row["label"] != row["suggested"]
        assert row["score"] == row[f"p_{row['label']}"] < row[f"p_{row['suggested']}"]
    assert (tmp_path / "out" / "suspects.png").read_bytes().startswith(b"\x89PNG")


def test_the_program_on_classes_that_the_model_does_not_know(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for k, image in enumerate(faces(24, 3)):
        path = tmp_path / "own" / ("train", "val", "test")[k % 3] / ("awake", "tired")[k // 3 % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    run_program(["fer.data.audit", "own", "model=fer2013", "out=out"], monkeypatch)
    assert capsys.readouterr().err == ""
    header = (tmp_path / "out" / "suspects.csv").read_text().splitlines()[0]
    assert header == "rank,split,row,file,label,suggested,score,p_awake,p_tired"
    with pytest.raises(SystemExit):
        run_program(["fer.data.audit", "own", "model=none.ts", "out=second"], monkeypatch)
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "none.ts" in err
