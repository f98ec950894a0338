import albumentations as A
import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fer.data import resident
from fer.data.base import Split
from fer.data.datamodule import EmotionDataModule
from fer.data.dataset import EpochSampler
from fer.data.resident import ResidentLoader

CPU = torch.device("cpu")
TURNED = A.Compose([A.Affine(rotate=(-30, 30), p=1), A.GaussNoise(p=0.5)])


def splits(colour: bool = False, targets: bool = False) -> dict[str, Split]:
    rng = np.random.default_rng(0)

    def split(rows: int) -> Split:
        images = rng.integers(0, 256, (rows, 16, 16, 3) if colour else (rows, 16, 16), dtype=np.uint8)
        labels = np.minimum(np.arange(rows) % 10, 1)
        votes = rng.random((rows, 2), dtype=np.float32) if targets else None
        return Split(images, labels, ("rare", "common"), votes)

    return {name: split(rows) for name, rows in {"train": 43, "val": 11, "test": 13}.items()}


def module(device: bool | str = True, batch_size: int = 8, **options) -> EmotionDataModule:
    shape = {name: options.pop(name) for name in ("colour", "targets") if name in options}
    data = EmotionDataModule(lambda: splits(**shape), "small", batch_size=batch_size, device=device, **options)
    data.setup()
    return data


def test_batches_are_those_of_the_loader():
    for options in (
        {},
        {"colour": True},
        {"targets": True},
        {"balanced": True},
        {"batch_size": 50},
        {"batch_size": 43},
    ):
        ours, theirs = (module(device, seed=3, **options).train_dataloader() for device in (True, False))
        assert (type(ours), type(theirs)) == (ResidentLoader, DataLoader)
        assert len(ours) == len(theirs)
        for epoch in (0, 1, 7):
            ours.sampler.set_epoch(epoch)
            theirs.sampler.set_epoch(epoch)
            pairs = list(zip(ours, theirs, strict=True))
            assert len(pairs) == len(ours)
            for a, b in pairs:
                assert [(t.dtype, t.shape) for t in a] == [(t.dtype, t.shape) for t in b]
                assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_evaluation_is_complete_in_order_and_not_augmented():
    data = module(augment=TURNED)
    for name in ("val", "test"):
        images, labels = (torch.cat(part) for part in zip(*getattr(data, f"{name}_dataloader")(), strict=True))
        assert np.array_equal(images[:, 0], data.splits[name].images)
        assert labels.tolist() == data.splits[name].labels.tolist()


def loader(rank: int = 0, seed: int = 1, world: int = 2, epoch: int = 0) -> ResidentLoader:
    sampler = EpochSampler(43, shuffle=True, seed=seed, rank=rank, world=world)
    sampler.set_epoch(epoch)
    augmentation = resident.BatchAugmentation(TURNED, (1, 16, 16), CPU)
    return ResidentLoader(splits()["train"], sampler, 8, True, CPU, augmentation)


def test_two_processes_share_an_epoch_as_the_sampler_says():
    for rank in (0, 1):
        rows = [row for _, row in loader(rank).sampler]
        labels = torch.cat([labels for _, labels in loader(rank)])
        assert labels.tolist() == splits()["train"].labels[rows[:16]].tolist()


def test_what_is_drawn_depends_on_seed_epoch_and_process_alone():
    def images(**options) -> torch.Tensor:
        torch.rand(3)  # the global generator has no part in it
        return torch.cat([batch[0] for batch in loader(**options)])

    first = images()
    assert torch.equal(first, images())
    assert all(not torch.equal(first, images(**other)) for other in ({"rank": 1}, {"seed": 2}, {"epoch": 1}))
    # not only the rows differ
    same_rows = [loader(), loader(epoch=1), loader(rank=1), loader(seed=2)]
    for one in same_rows:
        one.sampler.order = lambda: np.arange(43)
    first, *others = (next(iter(one))[0] for one in same_rows)
    assert not any(torch.equal(first, other) for other in others)


def test_a_resumed_run_starts_with_the_stored_epoch():
    resumed, reference = module(augment=TURNED), module(augment=TURNED).train_dataloader()
    resumed.load_state_dict({"epoch": 2})
    reference.sampler.set_epoch(2)
    pairs = zip(resumed.train_dataloader(), reference, strict=True)
    assert all(torch.equal(ours[0], theirs[0]) for ours, theirs in pairs)


def test_auto_is_for_gpus_on_which_the_data_fits(monkeypatch):
    assert isinstance(module("auto").train_dataloader(), DataLoader)
    data = module("auto")
    needed = sum(data.splits[name].images.nbytes + data.splits[name].labels.nbytes for name in ("train", "val"))
    for free, answer in ((4 * needed, True), (4 * needed - 1, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**12))
        data = module("auto")
        assert data._resides(torch.device("cuda", 0)) is answer
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 10**12))
        assert data._resides(torch.device("cuda", 0)) is answer, "that of train is that of val"
    assert not module(False)._resides(torch.device("cuda", 0))


def test_a_pipeline_that_only_albumentations_knows_goes_through_the_loader(caplog):
    caplog.set_level("INFO")
    data = module(augment=A.Compose([A.HorizontalFlip(), A.OneOf([A.CLAHE(), A.MedianBlur()])]))
    assert isinstance(data.train_dataloader(), DataLoader)
    data.compile_augmentation()
    assert isinstance(data.val_dataloader(), ResidentLoader)
    (line,) = caplog.messages
    assert "in the loader" in line and "CLAHE" in line


def test_compiling_changes_no_pixel():
    data, plain = module(augment=TURNED), module(augment=TURNED)
    compiled = data.train_dataloader()
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph

    data.compile_augmentation(backend=backend, fullgraph=True)
    for ours, theirs in zip(compiled, plain.train_dataloader(), strict=True):
        assert (ours[0].int() - theirs[0].int()).abs().max() <= 1
    assert graphs


class Watch(L.LightningModule):
    """Records the labels of all training batches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.labels: list[list[int]] = []
        self.epochs: list[int] = []

    def training_step(self, batch, _):
        self.labels.append(batch[1].tolist())
        return self.weight * batch[0].float().mean()

    def validation_step(self, batch, _):
        pass

    def on_train_epoch_start(self) -> None:
        self.epochs.append(self.trainer.train_dataloader.sampler.epoch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize(
    "options",
    [{}, {"limit_train_batches": 2}, {"fast_dev_run": True}, {"overfit_batches": 2}],
    ids=["whole", "limited", "fast_dev_run", "overfit"],
)
def test_lightning_trains_on_it_as_on_the_loader(options):
    seen = []
    for device in (True, False):
        watch = Watch()
        silent = {f"enable_{name}": False for name in ("checkpointing", "progress_bar", "model_summary")}
        trainer = L.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, use_distributed_sampler=False, **silent, **options
        )
        trainer.fit(watch, datamodule=module(device, workers=0))
        seen.append((watch.labels, watch.epochs))
    assert seen[0] == seen[1]
