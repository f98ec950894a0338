import albumentations as A
import lightning as L
import numpy as np
import pytest
import torch

from fer.data.datamodule import EmotionDataModule, EpochSampler
from fer.data.dataset import Split
from fer.errors import ConfigError


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


def test_lightning_sets_the_epoch():
    seen = []

    class Watch(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch, _):
            return self.weight * batch[0].float().mean()

        def on_train_epoch_start(self):
            seen.append(self.trainer.train_dataloader.sampler.epoch)

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
    trainer.fit(Watch(), module(workers=0).train_dataloader())
    assert seen == [0, 1]


@pytest.mark.parametrize("options", [{"workers": -1}, {"workers": "many"}])
def test_bad_options_are_named(options):
    with pytest.raises(ConfigError, match=r"data\.workers"):
        module(**options)


def test_batch_size_is_checked():
    with pytest.raises(ConfigError, match=r"data\.batch_size=0"):
        EmotionDataModule(splits, "small", batch_size=0)
