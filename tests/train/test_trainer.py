"""Lightning's switches: each run ends with an artifact, or is refused in one line that names it."""

import errno
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar
from samples import TINY, config, golden_images, tiny

from fer import artifact, plots
from fer.data import synthetic
from fer.data.datamodule import EmotionDataModule
from fer.errors import ConfigError, TrainingError
from fer.evaluate import gradcam, report
from fer.models import checkpoints
from fer.train import run as experiment
from fer.train import trainer
from fer.train.callbacks import Monitors


@pytest.fixture
def quick(monkeypatch):
    """No pictures and no report: the training and its artifact are what counts."""
    monkeypatch.setattr(plots, "curves", lambda *_: None)
    monkeypatch.setattr(gradcam, "draw", lambda *_: None)
    monkeypatch.setattr(report, "draw", lambda *_: None)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("switches", "said"),
    [
        (["+trainer.fast_dev_run=true"], "are of the last step"),
        (["+trainer.overfit_batches=2", "trainer.max_epochs=2"], ""),
        (["+trainer.limit_val_batches=0", "scheduler=plateau"], "scheduler.monitor=val/loss; no epoch"),
        (["+trainer.max_steps=1", "trainer.max_epochs=-1"], "are of the last step"),
        (["+trainer.check_val_every_n_epoch=2", "trainer.max_epochs=3", "scheduler=plateau"], ""),
        (["+trainer.enable_checkpointing=false", "+trainer.enable_progress_bar=false"], "are of the last step"),
        (["+trainer.max_time={seconds:30}", "trainer.precision=bf16-true", "class_weights=true"], ""),
        (
            [
                "trainer.precision=bf16-mixed",
                "+trainer.accumulate_grad_batches=3",
                "+trainer.val_check_interval=0.5",
                "+trainer.limit_test_batches=0",
            ],
            "",
        ),
        (["callbacks.checkpoint.filename='{epoch}'", "+trainer.logger=false", "callbacks.last=null"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_switch_of_lightning_runs_to_an_artifact(switches, said, tmp_path, caplog):
    metrics = tiny(tmp_path, *switches)
    assert artifact.load(tmp_path / "model.ts")(golden_images(1, 48, 2)).shape == (2, 7)
    assert metrics == json.loads((tmp_path / "metrics.json").read_text())
    assert ("test/accuracy" in metrics) == ("+trainer.limit_test_batches=0" not in switches)
    assert (tmp_path / "metrics.csv").exists() == (
        not {"+trainer.logger=false", "+trainer.fast_dev_run=true"} & {*switches}
    )
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [said in line for line in lines] == ([True] if said else [])
    meta = artifact.read_metadata(tmp_path / "model.ts")
    assert (meta.temperature, meta.metrics) == (metrics["val/temperature"], metrics)
    model, last = checkpoints.load(str(tmp_path / "checkpoints" / "best.ckpt")), tmp_path / "checkpoints" / "last.ckpt"
    if said and last.exists():
        assert all(torch.equal(v, checkpoints.load(str(last)).state_dict()[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("switches", "error", "words"),
    [
        (["+trainer.limit_val_batches=0.1"], ConfigError, r"trainer: .*Try at least `limit_val_batches=0\.5`"),
        (["+trainer.overfit_batches=0.01"], ConfigError, r"trainer: .*Try at least `overfit_batches=0\.25`"),
        (["+trainer.val_check_interval=100"], ConfigError, r"trainer: `val_check_interval` \(100\) must be"),
        (["+trainer.limit_train_batches=0"], ConfigError, "limit_train_batches leaves no step"),
        (["+trainer.max_steps=0", "scheduler=plateau", "progressive=[]"], TrainingError, r"raise trainer\.max_steps"),
        (["trainer.max_epochs=-1"], ConfigError, r"set trainer\.max_epochs or \+trainer\.max_steps"),
        (["+trainer.accumulate_grad_batches=0"], ConfigError, r"trainer\.accumulate_grad_batches=0 must be a whole"),
        (["+trainer.check_val_every_n_epoch=0"], ConfigError, r"trainer\.check_val_every_n_epoch=0 must be a whole"),
        (["+trainer.val_check_interval=0"], ConfigError, r"trainer\.val_check_interval=0 must be a number above 0"),
        (["+trainer.val_check_interval=00:05:00:00"], ConfigError, r"trainer\.val_check_interval=.* must be a number"),
        (["+trainer.limit_train_batches=abc"], ConfigError, r"given: .*trainer\.limit_train_batches=abc$"),
        (["+trainer.fast_dev_run=abc", "trainer.devices=2"], ConfigError, r"devices=2, .*trainer\.fast_dev_run=abc"),
        (["+callbacks.checkpoint.save_top_k=2"], ConfigError, r"checkpoint\.save_top_k=2 is unknown; choose 0 or 1"),
        (["+trainer.max_time=10"], ConfigError, r"trainer\.max_time=10 must be days:hours"),
        (["+trainer.callbacks=[1]"], ConfigError, r"trainer\.callbacks .* \+callbacks\.<name>"),
        (["+trainer.logger=true"], ConfigError, r"trainer\.logger .* logger=csv"),
        (["callbacks.early_stopping.monitor=val/acc"], ConfigError, r"early_stopping\.monitor=val/acc .* val/accuracy"),
        (["callbacks.early_stopping.monitor=loss"], ConfigError, "early_stopping.monitor=loss .* train/loss"),
        (["scheduler=plateau", "scheduler.monitor=val/los"], ConfigError, r"scheduler\.monitor=val/los .* val/loss"),
        (["monitor=val/acc"], ConfigError, "^monitor=val/acc .* val/accuracy"),
        (["callbacks.checkpoint.monitor=val/acc"], ConfigError, r"checkpoint\.monitor=val/acc .* val/accuracy"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_switch_that_cannot_run_is_refused_in_one_line(switches, error, words, tmp_path):
    with pytest.raises(error, match=words) as caught:
        tiny(tmp_path, *switches)
    assert "\n" not in str(caught.value)


def test_a_fault_of_ours_stays_a_traceback(monkeypatch, tmp_path):
    def fail(*_):
        raise ValueError("ours")

    monkeypatch.setattr(experiment.EmotionClassifier, "training_step", fail)
    with pytest.raises(ValueError, match="ours"):
        tiny(tmp_path)


def test_what_cannot_be_compiled_is_one_line(monkeypatch, tmp_path):
    from torch._inductor.exc import InvalidCxxCompiler

    def fail(*_):
        raise InvalidCxxCompiler

    monkeypatch.setattr(experiment.EmotionClassifier, "training_step", fail)
    with pytest.raises(TrainingError, match=r"compile: No working C\+\+ compiler.*set compile=false") as caught:
        tiny(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_no_fault_of_the_config(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(experiment.EmotionClassifier, "training_step", full)
    monkeypatch.setattr(trainer, "_LIGHTNING", Path(__file__).parent)  # as if a logger of Lightning raised it
    with pytest.raises(OSError, match="No space left"):
        tiny(tmp_path)


def test_useless_callbacks_are_left_out():
    cfg = config(*TINY, "+trainer.enable_checkpointing=false", "+trainer.enable_progress_bar=false")
    kinds = {type(callback) for callback in trainer.build(cfg, [], []).callbacks}
    assert not kinds & {ModelCheckpoint, RichProgressBar, LearningRateMonitor}
    assert Monitors in kinds


def test_the_table_of_a_profiler_is_shown():
    name = "lightning.pytorch.profilers"
    for profile, level in ((True, logging.INFO), (False, logging.WARNING)):
        experiment._quiet(profile)
        assert logging.getLogger(name).getEffectiveLevel() == level


def test_a_few_batches_are_learnt_by_heart_in_the_same_form_and_from_all_classes():
    data = EmotionDataModule(lambda: synthetic.read(train=64, val=21, test=21), "synthetic", batch_size=16)
    data.setup()
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(overfit_batches=1, global_rank=0, world_size=1, strategy=strategy)
    loader = data.train_dataloader()
    first = next(iter(loader))
    loader.sampler.set_epoch(3)
    again = next(iter(loader))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(first[1].unique()) > 3


def test_a_finished_training_that_is_continued_has_nothing_to_say():
    monitors = Monitors({"callbacks.early_stopping.monitor": "val/accuracy", "scheduler.monitor": None})
    ended = SimpleNamespace(global_step=4, callback_metrics={}, sanity_checking=True)
    assert monitors.idle(ended) == []  # Lightning does not even start it
    monitors.on_train_start(ended, L.LightningModule())
    monitors.on_validation_end(ended, L.LightningModule())
    assert monitors.idle(ended) == []
    ended.global_step = 5
    assert monitors.idle(ended) == ["callbacks.early_stopping.monitor=val/accuracy"]


@pytest.mark.parametrize(("amx", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_automatic_precision_is_bf16_on_cpus_that_are_fast_at_it(amx, precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    cfg = config(*TINY, "trainer.precision=auto")
    assert trainer.build(cfg, [], []).precision == precision
    assert trainer.build(config(*TINY, "trainer.precision=64-true"), [], []).precision == "64-true"
