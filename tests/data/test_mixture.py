"""Several datasets as one."""

import logging
import sys
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf
from samples import TINY, config, fer_rows, options, write_csv, write_votes

from fer import config as programs
from fer.data import fer2013, folder, mixture, similar, synthetic, votes
from fer.data.base import Split
from fer.data.datamodule import EmotionDataModule
from fer.errors import ConfigError, DataError
from fer.labels import EMOTIONS
from fer.shorthand import written_out
from fer.train import run

RNG = np.random.default_rng(0)


def faces(count: int, seed: int = 0, size: int = 48) -> np.ndarray:
    """Pictures in which something can be recognised: blurred noise."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 12, 12), dtype=np.uint8)
    return np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC) for image in small])


def part(seed: int, classes: tuple[str, ...] = ("angry", "happy"), size: int = 48, **more: object) -> dict[str, Split]:
    images, labels = faces(24, seed, size), np.arange(8) % len(classes)
    return {
        name: Split(images[8 * k : 8 * k + 8], labels, classes, **more)
        for k, name in enumerate(("train", "val", "test"))
    }


def mixed(*parts: dict[str, Split], **options: object) -> dict[str, Split]:
    return mixture.read({"abc"[k]: {"reader": lambda own=own: own} for k, own in enumerate(parts)}, **options)


@pytest.fixture
def homes(tmp_path):
    """FER-2013 with votes, and class folders of colour pictures."""
    rows = fer_rows()
    write_csv(tmp_path / "fer2013.csv", rows)
    write_votes(tmp_path / "votes.csv", rows, no_faces=[3])
    for k, image in enumerate(faces(36, 5, 60)):
        path = tmp_path / "own" / ("train", "val", "test")[k % 3] / ("Happiness", "contempt")[k // 3 % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    return tmp_path


def test_splits_stay_what_they_are_and_labels_have_one_order():
    data = mixed(part(1, ("happy", "own")), part(2, ("angry", "happy"), size=30))
    assert data["train"].classes == ("angry", "happy", "own")
    assert {name: split.images.shape for name, split in data.items()} == dict.fromkeys(data, (16, 48, 48))
    assert data["val"].labels.tolist() == [1, 2] * 4 + [0, 1] * 4
    assert data["test"].names[0] == "a/test/0" and data["test"].names[-1] == "b/test/7"
    assert np.array_equal(data["train"].images[:8], part(1)["train"].images)


def test_a_part_may_have_a_test_split_alone():
    data = mixed(part(1), {"test": part(2)["test"]})
    assert {name: len(split) for name, split in data.items()} == {"train": 8, "val": 8, "test": 16}


@pytest.mark.parametrize(("channels", "shape"), [(1, (20, 20)), (3, (20, 20, 3))])
def test_grey_and_colour_become_one(channels, shape):
    colour = {name: replace(s, images=np.repeat(s.images[..., None], 3, 3)) for name, s in part(2).items()}
    data = mixed(part(1), colour, size=20, channels=channels)
    assert data["train"].images.shape == (16, *shape)
    assert data["train"].images.std() > 20


@pytest.mark.parametrize(
    ("classes", "kept", "rows"),
    [("all", ("angry", "happy", "own"), 16), ("shared", ("happy",), 0), (["happy", "Anger"], ("angry", "happy"), 12)],
)
def test_classes_are_kept_or_left_out_and_counted(classes, kept, rows, caplog):
    parts = part(1, ("happy", "own")), part(2, ("angry", "happy"))
    if rows == 0:
        with pytest.raises(ConfigError, match="keeps 1 classes, and the parts have a: happy, own; b: angry, happy"):
            mixed(*parts, classes=classes)
        return
    data = mixed(*parts, classes=classes)
    assert (data["train"].classes, len(data["train"])) == (kept, rows)
    assert caplog.messages == [
        "12 images are left out, since their classes are not in data.classes=" + str(classes)
    ] * (rows < 16)


def degraded(image: np.ndarray) -> list[np.ndarray]:
    jpeg = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_GRAYSCALE)
    return [image, jpeg, cv2.resize(image, (100, 100)), (image * 0.8 + 20).astype(np.uint8)]


@pytest.mark.parametrize("kind", range(4), ids=["equal", "JPEG", "larger", "brighter"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_what_one_part_tests_no_other_trains(kind, split, caplog):
    caplog.set_level(logging.INFO)
    first, second = part(1), part(2, size=100 if kind == 2 else 48)
    images = second["train"].images.copy()
    images[3] = degraded(first[split].images[5])[kind]
    second["train"] = replace(second["train"], images=images)
    data = mixed(first, second)
    assert [name for name in data["train"].names if name.startswith("b")] == [
        f"b/train/{k}" for k in range(8) if k != 3
    ]
    assert len(data["train"]) == 15 and len(data[split]) == 16
    equal = 1 if kind == 0 else 0
    assert f"1 of 8 images of b ({equal} of them pixel for pixel)" in caplog.text and len(caplog.messages) == 1


def test_images_of_one_colour_and_other_photographs_are_no_copies():
    flat = np.full((2, 48, 48), 9, np.uint8)
    assert not len(similar.find(np.concatenate([flat, faces(300, 1)]), np.concatenate([flat, faces(300, 2)])))
    same = faces(3, 3)
    assert similar.find(same, same[::-1]).tolist() == [[0, 2], [1, 1], [2, 0]]


def test_weights_say_how_often_images_are_drawn():
    def shares(**options: object) -> np.ndarray:
        data = EmotionDataModule(lambda: mixed(part(1), part(2, ("angry", "own")), weights={"b": 3}), "m", **options)
        data.setup()
        rows = data.train_dataloader().sampler
        counts = np.zeros(16)
        for epoch in range(400):
            rows.set_epoch(epoch)
            counts += np.bincount(rows.order(), minlength=16)
        return counts / counts.sum()

    drawn = shares()
    assert drawn[8:].sum() / drawn[:8].sum() == pytest.approx(3, rel=0.15)
    labels = np.array([0, 1] * 4 + [0, 2] * 4)
    even = shares(balanced=True)
    assert np.bincount(labels, even) == pytest.approx([1 / 3] * 3, abs=0.02)
    assert even[8:][::2].sum() / even[:8][::2].sum() == pytest.approx(3, rel=0.2)
    assert mixed(part(1), part(2))["train"].weights is None


def test_votes_are_for_the_part_that_they_fit(homes):
    parts = {
        "fer2013": {"reader": partial(fer2013.read, homes / "fer2013.csv")},
        "own": {"reader": partial(folder.read, homes / "own")},
    }
    data = mixture.read(parts, votes=homes / "votes.csv")
    alone = votes.attach(fer2013.read(homes / "fer2013.csv"), votes.read(homes / "votes.csv"), "votes.csv")["val"]
    val = data["val"]
    assert val.classes == (*EMOTIONS, "contempt")
    assert np.array_equal(val.targets[:14, :7], alone.targets)
    assert np.array_equal(val.targets[14:].argmax(1), val.labels[14:])
    assert np.array_equal(val.majority, np.r_[alone.majority, [-1] * 12])
    faces_only = mixture.read(parts, votes=homes / "votes.csv", drop_non_faces=True)
    assert len(data["train"]) - len(faces_only["train"]) == (fer_rows()[3][2] == "Training")
    with pytest.raises(DataError, match=r"has 21 rows of train, no part as many images; leave it out"):
        mixture.read({"own": parts["own"]}, votes=homes / "votes.csv")


@pytest.mark.parametrize("name", [name for name in options("data") if name not in ("mixture", "none")])
def test_every_dataset_can_be_a_part(name):
    cfg = config("data=mixture", f"+data@data.parts.x={name}", "data.size=52")
    node = OmegaConf.to_container(cfg.data, resolve=True)["parts"]["x"]["reader"]
    assert node["_target_"].startswith("fer.data.")
    assert node.get("size", 52) == 52


def test_a_list_on_the_command_line_is_a_mixture():
    words = written_out(["data=[fer2013, mine:image_folder]", "seed=2"])
    assert words == [
        "data=mixture",
        "+data@data.parts.fer2013=fer2013",
        "+data@data.parts.mine=image_folder",
        "seed=2",
    ]


def test_a_mixture_trains(homes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = written_out(["data=[fer2013,mine:image_folder]"])
    own = [f"data.parts.fer2013.root={homes}/fer2013.csv", f"data.parts.mine.root={homes}/own", "data.weights={mine:2}"]
    rest = ["data.batch_size=16", f"data.votes={homes}/votes.csv", "data.drop_non_faces=true"]
    small = [word for word in TINY if "data" not in word]
    metrics = run.run(config(*words, *own, *rest, *small, run_dir=tmp_path / "run"))
    assert metrics["val/support/contempt"] == 6
    assert metrics["val_votes/support/angry"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"weights": {"z": 1}}, "data.weights.z is for no part; the parts are a, b"),
        ({"weights": {"a": 0}}, "data.weights.a=0 must be a number above 0"),
        ({"weights": 2}, "data.weights=2 must be a number for each part"),
        ({"classes": "both"}, "data.classes=both is unknown; choose all or shared"),
        ({"classes": ["happy", "lazy"]}, "data.classes names lazy, but the parts have a: angry, happy"),
        ({"size": 3}, "data.size=3"),
        ({"channels": 2}, "data.channels=2"),
    ],
)
def test_bad_values_are_named(words, message):
    with pytest.raises(ConfigError, match=message):
        mixed(part(1), part(2), **words)


def test_bad_parts_are_named():
    with pytest.raises(ConfigError, match=r"data.parts names no dataset"):
        mixture.read({})
    with pytest.raises(DataError, match=r"^data.parts.mine: no folder nowhere"):
        mixture.read({"mine": {"reader": partial(folder.read, "nowhere")}})
    with pytest.raises(ConfigError, match=r"data.parts.mine.reader: .*'foo'"):
        mixture.read({"mine": {"reader": partial(synthetic.read, foo=1)}})


@pytest.mark.parametrize("word", ["data=[]", "data=[a,b],c", "data=[a+b]"])
def test_an_odd_list_is_one_line(word, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", word])
    with pytest.raises(SystemExit):
        programs.program("train", print)()
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "is no list of datasets; give names in conf/data, as in data=[fer2013,rafdb]" in err
