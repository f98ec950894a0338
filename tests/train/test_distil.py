import contextlib
import copy
import io
import os
import warnings
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fer import artifact
from fer.artifact import Metadata, golden_batch
from fer.data.base import Split
from fer.errors import ArtifactError, ConfigError, FerError
from fer.models import create
from fer.train import distil
from fer.train.distil import Teachers, soft_labels, taught

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    for seed in (0, 1):
        torch.manual_seed(seed)
        backbone = create("resnet_small", 3, 1, widths=[8, 16], depths=[1, 1])
        meta = Metadata(classes=CLASSES, channels=1, input_size=48, mean=(0.5,), std=(0.25,))
        artifact.save(backbone, meta, folder / f"{seed}.ts")
    return [str(folder / f"{seed}.ts") for seed in (0, 1)]


def test_teachers_answer_with_their_mean(teachers):
    images = golden_batch(1, 48)
    alone = [artifact.load(path)(images) for path in teachers]
    assert torch.allclose(Teachers(teachers, CLASSES)(images), (alone[0] + alone[1]) / 2, atol=1e-6)
    assert not torch.allclose(*alone, atol=1e-3)


def test_they_are_not_copied_with_a_model(teachers):
    both = Teachers(teachers, CLASSES)
    both(golden_batch(1, 48))
    assert copy.deepcopy(both) is both


def test_other_classes_and_other_files_are_refused(teachers, tmp_path):
    with pytest.raises(ConfigError, match=r"0\.ts knows a, b, c, but the data has a, c, b"):
        Teachers(teachers, ("a", "c", "b"))
    with pytest.raises(ArtifactError, match="nowhere"):
        Teachers([str(tmp_path / "nowhere.ts")], CLASSES)


def _split(images, targets=None):
    labels = np.arange(len(images), dtype=np.int64) % 3
    return Split(images, labels, CLASSES, targets)


def test_soft_labels_are_what_the_teachers_say_of_originals_and_mirror_images(teachers):
    images = golden_batch(1, 48, 300)
    both = Teachers(teachers, CLASSES)
    wanted = (both(images) + both(images.flip(3))) / 2
    assert np.allclose(soft_labels(teachers, _split(images[:, 0].numpy())), wanted.numpy(), atol=1e-5)


def test_written_soft_labels_are_read_back_for_the_same_images_alone(teachers, tmp_path):
    split, path = _split(golden_batch(1, 48, 6)[:, 0].numpy()), str(tmp_path / "soft.npz")
    answers = soft_labels(teachers, split)
    distil.write(path, answers, split)
    assert np.allclose(soft_labels([path], split), answers, atol=1e-3)
    assert np.allclose(soft_labels([path], split).sum(1), 1)
    with pytest.raises(ConfigError, match="other images"):
        soft_labels([path], _split(split.images[::-1]))
    with pytest.raises(ConfigError, match=r"teacher_sees=originals"):
        Teachers([path], CLASSES)
    (tmp_path / "torn.npz").write_bytes((tmp_path / "soft.npz").read_bytes()[:200])
    for name in ("torn.npz", "nowhere.npz"):
        with pytest.raises(ArtifactError, match="no soft labels"):
            soft_labels([str(tmp_path / name)], split)


def test_damaged_soft_labels_are_one_line(teachers, tmp_path):
    split = _split(golden_batch(1, 48, 50)[:, 0].numpy())
    distil.write(tmp_path / "s.npz", soft_labels(teachers, split), split)
    whole = (tmp_path / "s.npz").read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        (tmp_path / "d.npz").write_bytes(data)
        try:
            soft_labels([str(tmp_path / "d.npz")], split)
        except (ArtifactError, ConfigError):
            refused += 1
    assert refused > 150
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(ArtifactError, match="holds no soft labels"):
        soft_labels([str(tmp_path / "array.npz")], split)


ROWS = np.full((6, 3), 1 / 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"probabilities": ROWS - 1}, "rows that are no probabilities"),
        ({"probabilities": ROWS * 2}, "rows that are no probabilities"),
        ({"probabilities": ROWS * 0}, "rows that are no probabilities"),
        ({"probabilities": ROWS * np.nan}, "rows that are no probabilities"),
        ({"probabilities": ROWS * np.inf}, "rows that are no probabilities"),
        ({"probabilities": np.array([[2.0, -1.0, 0.0]] * 6)}, "rows that are no probabilities"),
        ({"probabilities": ROWS.astype(object)}, "holds no soft labels"),
        ({"probabilities": ROWS.astype(complex)}, "holds no soft labels"),
        ({"probabilities": ROWS.astype(str)}, "holds no soft labels"),
        ({"classes": np.array([1, 2, 3])}, "holds no soft labels"),
    ],
)
def test_what_is_no_probability_is_not_learnt(tmp_path, change, said):
    split, path = _split(np.zeros((6, 48, 48), np.uint8)), tmp_path / "soft.npz"
    right = {"probabilities": ROWS, "classes": np.array(CLASSES), "fingerprint": np.array(split.fingerprint)}
    np.savez(path, **right)
    assert np.allclose(soft_labels([str(path)], split), ROWS)
    np.savez(path, **right | change)
    with pytest.raises(ArtifactError, match=said):
        soft_labels([str(path)], split)


def test_soft_labels_without_end_are_refused(tmp_path):
    split = _split(np.zeros((6, 48, 48), np.uint8))
    os.mkfifo(tmp_path / "pipe.npz")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("probabilities.npy", bytes(300 << 20))
    for name in ("pipe.npz", "bomb.npz"):
        with pytest.raises(ArtifactError, match=r"it is no regular file|it unpacks to more than 256 MB"):
            soft_labels([str(tmp_path / name)], split)


@given(data=st.data())
def test_any_soft_labels_are_probabilities_or_one_line(tmp_path, data):
    split = _split(np.zeros((6, 48, 48), np.uint8))
    kind = data.draw(st.sampled_from(["f2", "f4", "f8", "i8", "c8", "U3", "?"]))
    number = st.floats(-1, 2) | st.sampled_from([0, 1, 1 / 3, -1, 5e-324, 1e300])
    values = np.array(data.draw(st.lists(number, min_size=18, max_size=18)), dtype=np.float64)
    rows = data.draw(st.sampled_from([ROWS, values.reshape(6, 3), values.reshape(3, 6), values[0]]))
    file = io.BytesIO()
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        rows = rows.astype(kind)
    np.savez(file, probabilities=rows, classes=np.array(CLASSES), fingerprint=np.array(split.fingerprint))
    whole = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=8))
    (tmp_path / "any.npz").write_bytes(whole)
    with contextlib.suppress(FerError):
        found = soft_labels([str(tmp_path / "any.npz")], split)
        assert (found >= 0).all()
        assert np.allclose(found.sum(1), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["any.npz"]


def test_taught_mixes_labels_votes_and_teachers():
    images = np.zeros((6, 48, 48), np.uint8)
    votes, said = np.full((6, 3), 1 / 3, np.float32), np.tile(np.float32([0.5, 0.25, 0.25]), (6, 1))
    plain = taught(_split(images), said, 0.75, {"use": "targets", "weight": 0.5})
    assert np.allclose(plain.targets, 0.25 * np.eye(3)[plain.labels] + 0.75 * said)
    voted = taught(_split(images, votes), said, 0.5, {"use": "targets", "weight": 1})
    assert np.allclose(voted.targets, 0.5 * votes + 0.5 * said)


def test_votes_of_a_second_head_stay_beside_what_is_taught():
    votes, said = np.full((6, 3), 1 / 3, np.float32), np.tile(np.float32([0.5, 0.25, 0.25]), (6, 1))
    both = taught(_split(np.zeros((6, 48, 48), np.uint8), votes), said, 0.75, {"use": "auxiliary", "weight": 2.0})
    assert np.allclose(both.targets, np.concatenate([0.25 * np.eye(3)[both.labels] + 0.75 * said, votes], 1))
    assert both.only(np.arange(6) < 2).targets.shape == (2, 6)


def test_taught_refuses_a_weight_out_of_range():
    votes = np.full((6, 3), 1 / 3, np.float32)
    split = _split(np.zeros((6, 48, 48), np.uint8), votes)
    with pytest.raises(ConfigError, match=r"teacher_weight=1\.5"):
        taught(split, votes, 1.5, {"use": "targets", "weight": 0.5})
