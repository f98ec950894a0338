import copy
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from samples import small_classifier
from torch.utils.data import DataLoader, TensorDataset

from fer.errors import ConfigError
from fer.train.callbacks import EMA, Compile, History

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}


def trained(*callbacks: L.Callback, epochs: int = 2, **options: Any) -> L.LightningModule:
    images = torch.randint(0, 256, (20, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = DataLoader(TensorDataset(images, torch.arange(20) % 3), batch_size=4)
    module = small_classifier(input_size=16, optimizer=SGD)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        limit_val_batches=0,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, data, data)
    return module


@pytest.mark.parametrize("every", [1, 3])
def test_the_average_is_that_of_lightning(every):
    ours = trained(EMA(0.9, every)).state_dict()
    theirs = trained(EMAWeightAveraging(decay=0.9**every, update_every_n_steps=every)).state_dict()
    for name, value in ours.items():
        if value.is_floating_point():  # Lightning averages the counters of batch norm, too
            assert torch.allclose(value, theirs[name], rtol=1e-5, atol=1e-6), name
    assert not torch.allclose(ours["backbone.stem.0.0.weight"], trained().state_dict()["backbone.stem.0.0.weight"])


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed", "64-true"])
def test_weights_of_any_precision_are_averaged(precision):
    weights = trained(EMA(0.5, 2), epochs=1, precision=precision).state_dict()
    assert all(value.isfinite().all() for value in weights.values())


def test_the_average_lies_on_the_device_of_the_training():
    average = EMA()
    average.setup(
        SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta"))), small_classifier(), "fit"
    )
    assert {p.device.type for p in average._average_model.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((1.5,), r"callbacks\.ema\.decay=1\.5"), ((0.9, 0), r"every_n_steps=0"), ((0.9, 2.5), r"every_n_steps=2\.5")],
)
def test_an_average_out_of_range_is_refused(arguments, words):
    with pytest.raises(ConfigError, match=words):
        EMA(*arguments)


class Recorded(SimpleNamespace):
    """A classifier on a GPU that records what it is asked to compile."""

    def __init__(self, device: str, sizes: set[int]) -> None:
        super().__init__(device=torch.device(device), teachers=None, sizes=lambda: sizes, options=None)

    def compile_step(self, **options: Any) -> None:
        self.options = options


GRAPHS, PLAIN = {"mode": "reduce-overhead"}, {}


@pytest.mark.parametrize(
    ("when", "device", "steps", "sizes", "parallel", "options"),
    [
        ("auto", "cuda", 20_000, {48}, {}, GRAPHS),
        ("auto", "cuda", 500, {48}, {}, None),
        ("auto", "cuda", 9_000, {32, 48}, {}, None),
        ("auto", "cuda", 10_000, {32, 48}, {}, GRAPHS),
        ("auto", "cpu", 20_000, {48}, {}, None),
        (True, "cpu", 1, {48}, {}, PLAIN),
        (True, "cuda", 1, {32, 48}, {}, GRAPHS),
        (True, "cuda", 1, {48}, {"accumulate_grad_batches": 2}, PLAIN),
        (True, "cuda", 1, {48}, {"world_size": 4}, PLAIN),
        (False, "cuda", 20_000, {48}, {}, None),
    ],
)
def test_what_is_compiled_and_how(when, device, steps, sizes, parallel, options, monkeypatch):
    monkeypatch.setattr(torch.utils._triton, "has_triton", lambda: True)
    module, compiled = Recorded(device, sizes), []
    module.teachers = SimpleNamespace(compile=lambda **given: compiled.append(given))
    data = SimpleNamespace(compile_augmentation=lambda: compiled.append("augmentation"))
    trainer = {"world_size": 1, "accumulate_grad_batches": 1} | parallel
    Compile(when).on_train_start(SimpleNamespace(estimated_stepping_batches=steps, datamodule=data, **trainer), module)
    assert module.options == options
    assert compiled == ([] if options is None else ["augmentation", options])


def test_without_a_compiler_compile_true_is_refused_and_auto_does_without(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    module = Recorded("cuda", {48})
    trainer = SimpleNamespace(estimated_stepping_batches=20_000, world_size=1, accumulate_grad_batches=1)
    for triton, words in ((False, "Triton is missing"), (True, "there is no C compiler")):
        monkeypatch.setattr(torch.utils._triton, "has_triton", lambda found=triton: found)
        with pytest.raises(ConfigError, match=f"compile=true: {words}.*set compile=false"):
            Compile(True).on_train_start(trainer, module)
        Compile("auto").on_train_start(trainer, module)
        assert words in caplog.messages[-1]
    assert module.options is None


def test_anything_else_is_no_answer_to_compile():
    with pytest.raises(ConfigError, match="compile=maybe is unknown; choose true, false or auto"):
        Compile("maybe")


class Slow(L.Callback):
    """A clock that goes a second in every step, and ten in every validation and checkpoint."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("fer.train.callbacks.time.perf_counter", lambda: self.now)

    def on_before_backward(self, *_: Any) -> None:
        self.now += 1

    def on_train_epoch_end(self, *_: Any) -> None:
        self.now += 10


def test_speed_counts_the_steps_after_the_first_ones_and_wall_time_all_between_epochs(monkeypatch):
    history, resumed = History(), History()
    trained(history, Slow(monkeypatch), epochs=3)  # of 5 steps with 4 images each
    assert history.warm_up == 4
    assert history.images_per_second() == 4
    assert history.images_per_second(wall=True) == pytest.approx(44 / (11 + 20))
    resumed.load_state_dict(copy.deepcopy(history.state_dict()))
    assert resumed.images_per_second() == 4
    assert [row["epoch"] for row in resumed.epochs] == [1, 2, 3]


def test_a_training_of_a_few_steps_has_a_speed(monkeypatch):
    history = History()
    trained(history, Slow(monkeypatch), limit_train_batches=2, epochs=1)
    assert history.images_per_second() == history.images_per_second(wall=True) == 4
