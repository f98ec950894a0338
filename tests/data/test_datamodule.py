from dataclasses import replace
from pathlib import Path

import albumentations as A
import lightning as L
import numpy as np
import pytest
import torch

from fer.data import votes
from fer.data.base import Split
from fer.data.datamodule import EmotionDataModule
from fer.data.dataset import EpochSampler
from fer.errors import ConfigError, DataError
from fer.labels import EMOTIONS


def splits() -> dict[str, Split]:
    rng = np.random.default_rng(0)
    counts = {"train": 40, "val": 11, "test": 13}
    return {
        name: Split(
            rng.integers(0, 256, (n, 48, 48), dtype=np.uint8),
            np.minimum(np.arange(n) % 10, 1),
            ("rare", "common"),
        )
        for name, n in counts.items()
    }


def module(**options) -> EmotionDataModule:
    data = EmotionDataModule(splits, "small", batch_size=8, **options)
    data.setup()
    return data


def test_val_and_test_are_complete_and_in_order():
    labels = torch.cat([labels for _, labels in module().test_dataloader()])
    assert labels.tolist() == splits()["test"].labels.tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_train_batches_do_not_depend_on_workers(workers):
    pipeline = A.Compose([A.Affine(rotate=(-30, 30), p=1)])
    loader = module(augment=pipeline, workers=workers).train_dataloader()
    loader.sampler.set_epoch(5)
    images = torch.cat([images for images, _ in loader])
    reference = module(augment=pipeline, workers=0).train_dataloader()
    reference.sampler.set_epoch(5)
    assert torch.equal(images, torch.cat([images for images, _ in reference]))


def test_epochs_differ_and_repeat():
    sampler = EpochSampler(20, shuffle=True, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    assert [row for _, row in sampler] != [row for _, row in first]
    assert sorted(row for _, row in sampler) == list(range(20))
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_two_processes_share_evaluation_without_repeats_and_training_evenly():
    parts = [list(EpochSampler(13, shuffle=False, rank=r, world=2)) for r in (0, 1)]
    assert sorted(row for part in parts for _, row in part) == list(range(13))
    parts = [list(EpochSampler(13, shuffle=True, seed=2, rank=r, world=2)) for r in (0, 1)]
    assert [len(part) for part in parts] == [6, 6]
    assert not set(parts[0]) & set(parts[1])


def test_balanced_sampling_draws_classes_equally():
    loader = module(balanced=True, workers=0).train_dataloader()
    labels = []
    for epoch in range(20):
        loader.sampler.set_epoch(epoch)
        labels += [label for _, batch in loader for label in batch.tolist()]
    assert np.mean(labels) == pytest.approx(0.5, abs=0.06)
    plain = torch.cat([labels for _, labels in module(workers=0).train_dataloader()])
    assert plain.float().mean() == pytest.approx(0.9)


def test_statistics_are_those_of_the_pixels():
    data = module()
    pixels = splits()["train"].images / 255
    (mean,), (std,) = data.statistics()
    assert mean == pytest.approx(pixels.mean())
    assert std == pytest.approx(pixels.std())


def test_class_weights_favour_the_rare():
    rare, common = module().class_weights()
    assert rare / common == pytest.approx(9)
    assert (rare + common) / 2 == pytest.approx(1)


def test_lightning_sets_the_epoch_and_stores_the_next_one():
    seen, stored = [], []

    class Watch(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch, _):
            return self.weight * batch[0].float().mean()

        def validation_step(self, batch, _):
            pass

        def on_train_epoch_start(self):
            seen.append(self.trainer.train_dataloader.sampler.epoch)

        def on_train_epoch_end(self):
            stored.append(self.trainer.datamodule.state_dict())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_train_batches=1,
    )
    trainer.fit(Watch(), datamodule=module(workers=0))
    assert seen == [0, 1]
    assert stored == [{"epoch": 1}, {"epoch": 2}]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_starts_with_the_stored_epoch(workers):
    resumed, reference = module(workers=workers), module(workers=0).train_dataloader()
    resumed.load_state_dict({"epoch": 2})
    reference.sampler.set_epoch(2)
    pairs = zip(resumed.train_dataloader(), reference, strict=True)
    assert all(torch.equal(ours[0], theirs[0]) for ours, theirs in pairs)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("workers", -1),
        ("workers", "many"),
        ("batch_size", 0),
        ("balanced", "yes"),
        ("drop_duplicates", 1),
        ("votes", 5),
    ],
)
def test_bad_values_are_named_before_anything_is_read(key, value):
    with pytest.raises(ConfigError, match=f"data.{key}={value}"):
        EmotionDataModule(lambda: pytest.fail("was read"), "small", **{key: value})


def faces() -> dict[str, Split]:
    """24 happy and fearful images; row 0 of train is of one colour, row 1 stands in test, row 2 in val as well."""
    rng = np.random.default_rng(0)
    labels = np.array([3, 2] * 4)
    data = {n: Split(rng.integers(0, 256, (8, 48, 48), dtype=np.uint8), labels, EMOTIONS) for n in ("val", "test")}
    images = rng.integers(0, 256, (8, 48, 48), dtype=np.uint8)
    images[0], images[1], images[2] = 7, data["test"].images[5], data["val"].images[3]
    return data | {"train": Split(images, labels, EMOTIONS)}


def fer_plus(path: Path) -> Path:
    lines = ["Usage,Image name," + ",".join(votes.COLUMNS)]
    for usage in ("Training", "PublicTest", "PrivateTest"):
        lines += [f"{usage},,0,{9 - 8 * (k % 2)},0,0,0,0,{8 * (k % 2)},0,1,0" for k in range(8)]
    lines[1 + 6] = "Training,,0,3,0,0,0,0,0,0,0,7"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("given", [("test",), ("val", "test"), ("train", "val")])
def test_a_split_that_training_needs_is_asked_for(given):
    lacking = next(name for name in ("train", "val", "test") if name not in given)
    module = EmotionDataModule(lambda: {name: splits()[name] for name in given}, "few")
    with pytest.raises(DataError, match=f"no .*put images in {lacking}/<class>/"):
        module.setup()


def test_votes_become_the_third_part_of_a_batch(tmp_path):
    data = EmotionDataModule(faces, "f", batch_size=8, votes=str(fer_plus(tmp_path / "v.csv")))
    data.setup()
    images, labels, targets = next(iter(data.train_dataloader()))
    assert (images.shape, targets.dtype) == ((8, 1, 48, 48), torch.float32)
    assert torch.equal(targets.argmax(1), labels)
    assert targets.sum(1).tolist() == pytest.approx([1.0] * 8)
    assert len(data.splits["train"]) == 8


@pytest.mark.parametrize("device", [False, True])
def test_their_majority_is_the_third_part_of_a_batch_of_validation(tmp_path, device):
    data = EmotionDataModule(faces, "f", batch_size=8, votes=str(fer_plus(tmp_path / "v.csv")), device=device)
    data.setup()
    _, labels, majority = next(iter(data.val_dataloader()))
    assert majority.dtype == torch.int64
    assert torch.equal(majority, labels)


def test_a_dataset_with_votes_of_its_own_is_learnt_by_them_and_judged_by_their_majority():
    def voted() -> dict[str, Split]:
        shares = np.full((8, 7), 1 / 7, np.float32)
        return {n: replace(s, targets=shares, majority=s.labels) for n, s in faces().items()}

    data = EmotionDataModule(voted, "f", batch_size=8)
    data.setup()
    assert [part.dtype for part in next(iter(data.train_dataloader()))] == [torch.uint8, torch.int64, torch.float32]
    assert [part.dtype for part in next(iter(data.val_dataloader()))] == [torch.uint8, torch.int64, torch.int64]


def test_class_prior_is_that_of_what_is_learnt(tmp_path):
    def prior(use="mixed", weight=1.0, class_weights=None, **options):
        data = EmotionDataModule(uneven, "f", **options)
        data.setup()
        return np.array(data.class_prior({"use": use, "weight": weight}, class_weights))

    def uneven():
        return {n: replace(s, labels=np.array([3] * 6 + [2] * 2)) for n, s in faces().items()}

    wanted = np.zeros(7)
    wanted[[3, 2]] = 0.75, 0.25
    path = str(fer_plus(tmp_path / "v.csv"))
    assert prior() == pytest.approx(wanted)
    assert prior(use="auxiliary", votes=path) == pytest.approx(wanted)  # the votes have a head of their own
    wanted[[3, 2]] = 0.5, 0.5
    assert prior(balanced=True) == pytest.approx(wanted)
    assert prior(class_weights=[1, 1, 3, 1, 1, 1, 1]) == pytest.approx(wanted)
    votes = np.array([[0, 9 - 8 * (k % 2), 8 * (k % 2)] for k in range(8)])
    wanted[[3, 2]] = (votes[:, 1:] / votes.sum(1, keepdims=True)).mean(0)
    assert prior(votes=path) == pytest.approx(wanted)
    wanted[[3, 2]] = (wanted[[3, 2]] + [0.75, 0.25]) / 2
    assert prior(weight=0.5, votes=path) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"drop_non_faces": True}, [1, 2, 3, 4, 5, 6, 7]),
        ({"drop_non_faces": True, "votes": "v.csv"}, [1, 2, 3, 4, 5, 7]),
        ({"drop_duplicates": True}, [0, 3, 4, 5, 6, 7]),
        ({"drop_duplicates": True, "drop_non_faces": True, "votes": "v.csv"}, [3, 4, 5, 7]),
    ],
)
def test_training_images_are_dropped(options, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fer_plus(tmp_path / "v.csv")
    data = EmotionDataModule(faces, "f", **options)
    data.setup()
    train = data.splits["train"]
    assert np.array_equal(train.images, faces()["train"].images[rows])
    assert np.array_equal(train.labels, faces()["train"].labels[rows])
    assert train.targets is None or len(train.targets) == len(rows)
    assert len(data.splits["test"]) == len(data.splits["val"]) == 8


def test_a_class_must_not_vanish():
    def two() -> dict[str, Split]:
        return {name: Split(s.images, s.labels - 2, ("fear", "happy")) for name, s in faces().items()}

    def one_colour() -> dict[str, Split]:
        data = two()
        images = data["train"].images.copy()
        images[::2] = 9
        return data | {"train": Split(images, data["train"].labels, data["train"].classes)}

    EmotionDataModule(two, "f", drop_non_faces=True).setup()
    with pytest.raises(DataError, match="all training images of happy"):
        EmotionDataModule(one_colour, "f", drop_non_faces=True).setup()


def test_an_augmentation_that_changes_the_size_is_refused_before_training():
    with pytest.raises(DataError, match=r"changes an image of \(48, 48, 1\) to \(40, 40, 1\); end the pipeline"):
        module(augment=A.Compose([A.RandomCrop(40, 40)]))


def test_a_transform_for_other_images_is_refused_in_one_line():
    with pytest.raises(DataError, match="augment: a transform cannot take these images") as caught:
        module(augment=A.Compose([A.RandomFog(p=1)]))
    assert "\n" not in str(caught.value)
