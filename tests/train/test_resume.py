"""What a killed, full or diverged training leaves, and how it is continued."""

import csv
import errno
import fcntl
import multiprocessing
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from lightning.pytorch.loggers import CSVLogger
from omegaconf import OmegaConf
from samples import TINY, config, tiny

from fer.errors import ArtifactError, ConfigError, TrainingError
from fer.models import checkpoints
from fer.train import callbacks, resume
from fer.train import run as experiment


def die(cfg: Any, method: str, when: str) -> None:
    """Train, and be killed in the step of `method` for which `when` is true."""
    step = getattr(experiment.EmotionClassifier, method)

    def dying(self: Any, *arguments: Any) -> Any:
        if eval(when, {"self": self}):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments)

    setattr(experiment.EmotionClassifier, method, dying)
    experiment.run(cfg)


def in_a_process_of_its_own(target: Any, *arguments: Any) -> int:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fer.train.run"])
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def trained(folder: Path) -> dict[str, Any]:
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    keys = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "global_step")
    return {key: state[key] for key in keys} | {"epochs": state["callbacks"]["History"]["epochs"]}


def assert_same(a: Any, b: Any, path: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{number}]")
    else:
        assert a == b, path


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Return the rows of metrics.csv but for the last, which has the speed."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["epoch"]]


@pytest.mark.parametrize(
    ("method", "when", "workers"),
    [("training_step", "self.global_step == 11", 0), ("validation_step", "self.current_epoch == 1", 2)],
    ids=["in training", "in validation"],
)
def test_a_killed_run_is_continued_to_the_same_weights(method, when, workers, finished, overrides, tmp_path):
    cfg = config(*overrides, "logger=csv", run_dir=tmp_path)
    assert in_a_process_of_its_own(die, cfg, method, when) == -signal.SIGKILL
    assert checkpoints.read(str(tmp_path / "checkpoints" / "last.ckpt"))["global_step"] == 7
    cfg.resume, cfg.data.workers = "auto", workers
    metrics = experiment.run(cfg)
    assert_same(trained(tmp_path), trained(finished))
    assert rows_of(tmp_path) == rows_of(finished)
    assert metrics["train/epochs"] == 3


def test_a_killed_run_with_the_data_on_the_device_is_continued_to_the_same_weights(overrides, tmp_path):
    words = [*overrides, "logger=csv", "trainer.max_epochs=2", "data.device=true"]
    whole, killed = (config(*words, run_dir=tmp_path / name) for name in ("a", "b"))
    experiment.run(whole)
    assert in_a_process_of_its_own(die, killed, "training_step", "self.global_step == 11") == -signal.SIGKILL
    killed.resume = "auto"
    experiment.run(killed)
    assert_same(trained(tmp_path / "b"), trained(tmp_path / "a"))


def test_a_run_that_a_full_disk_ended_can_be_continued(tmp_path):
    """The limit of a file's size is below that of a checkpoint."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            tiny(tmp_path, "callbacks.progress=null", "evaluate.test=false")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.rglob("*.part*"))
    assert not resume.is_running(tmp_path)
    assert tiny(tmp_path, "callbacks.progress=null", "evaluate.test=false", "resume=auto")["train/epochs"] == 1


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    files = callbacks.AtomicCheckpoints()
    files.save_checkpoint({"global_step": 1}, tmp_path / "last.ckpt")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        files.save_checkpoint({"global_step": 2}, tmp_path / "last.ckpt")
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert checkpoints.read(str(tmp_path / "last.ckpt"))["global_step"] == 1


def test_divergence_is_one_line_and_no_bad_checkpoint_is_left(tmp_path):
    diverging = ["optimizer.lr=1e30", "trainer.gradient_clip_val=null", "scheduler.div_factor=1e25"]
    with pytest.raises(TrainingError, match=r"diverged by step \d+.*lower optimizer\.lr"):
        tiny(tmp_path, *diverging, "trainer.max_epochs=3", "callbacks.progress=null")
    for path in (tmp_path / "checkpoints").glob("*.ckpt"):
        assert all(value.isfinite().all() for value in checkpoints.read(str(path))["state_dict"].values())


class Interrupt(callbacks.L.Callback):
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def test_ctrl_c_leaves_a_checkpoint_and_no_lock(tmp_path):
    cfg = config(*TINY, "trainer.max_epochs=9", "callbacks.progress=null", run_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        experiment.run(cfg, watchers=[Interrupt()])
    assert checkpoints.load(str(tmp_path / "checkpoints" / "last.ckpt")).classes
    assert not resume.is_running(tmp_path)


def test_the_newest_unfinished_run_of_the_same_overrides_is_continued(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def leave(name: str, overrides: list[str], finished: str = "") -> Path:
        folder = Path("runs") / "small" / name
        (folder / ".hydra").mkdir(parents=True)
        OmegaConf.save({"hydra": {"overrides": {"task": overrides}}}, folder / ".hydra" / "hydra.yaml")
        if finished:
            (folder / "metrics.json").write_text("{}")
            (folder / finished).touch()
        return folder

    asked = ["resume=auto", "seed=2", "augment=light"]
    assert resume.arguments(asked) == asked
    leave("2026-01-01", ["augment=light", "seed=2"])
    newer = leave("2026-01-02", ["augment=light", "seed=2", "resume=auto"])
    leave("2026-01-03", ["augment=light", "seed=3"])
    leave("2026-01-04", ["augment=light", "seed=2"], finished="model.ts")
    leave("2026-01-04b", ["augment=light", "seed=2"], finished="leaderboard.csv")  # a search
    running = leave("2026-01-05", ["augment=light", "seed=2"])
    (leave("2026-01-06", []) / ".hydra" / "hydra.yaml").write_text("{cut sho")
    with FileLock(running / ".running"):
        assert resume.arguments(asked) == [*asked, f"hydra.run.dir='{newer}'"]
    assert resume.arguments(asked[1:]) == asked[1:]
    assert resume.arguments([*asked, "hydra.run.dir=here"]) == [*asked, "hydra.run.dir=here"]


def test_the_newest_unfinished_sweep_is_continued(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for day, finished in ((1, False), (2, True)):
        folder = Path("runs") / "sweeps" / f"2026-01-0{day}"
        folder.mkdir(parents=True)
        overrides = ["seed=1,2", "augment=light,none"]
        OmegaConf.save({"hydra": {"overrides": {"task": overrides}}}, folder / "multirun.yaml")
        if finished:
            (folder / "leaderboard.csv").touch()
    asked = ["-m", *overrides, "resume=auto"]
    assert resume.arguments(asked) == [*asked, "hydra.sweep.dir='runs/sweeps/2026-01-01'"]
    other_order = ["-m", *overrides[::-1], "resume=auto"]  # numbers its jobs otherwise
    assert resume.arguments(other_order) == other_order


def test_a_finished_run_is_not_trained_again(finished, overrides):
    before = (finished / "checkpoints" / "best.ckpt").stat().st_mtime_ns
    assert experiment.run(config(*overrides, "resume=auto", run_dir=finished))["train/epochs"] == 3
    assert (finished / "checkpoints" / "best.ckpt").stat().st_mtime_ns == before


def test_a_run_whose_export_failed_is_only_exported(finished, overrides, tmp_path):
    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    (tmp_path / "metrics.json").write_text("{}")
    assert not resume.finished(tmp_path)
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    metrics = experiment.run(config(*overrides, "logger=csv", "resume=auto", run_dir=tmp_path))
    assert resume.finished(tmp_path)
    assert metrics["train/images_per_second"] > 0
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize(("format", "left", "done"), [
    ("torchscript", ["model.onnx", "model.int8.onnx"], False),
    ("torchscript", ["model.onnx", "model.ts"], True),
    ("onnx", ["model.onnx"], True),
    ("tflite", ["model.onnx"], False),
    (None, ["model.onnx"], True),
])  # fmt: skip
def test_a_run_is_finished_with_the_artifact_of_its_format(format, left, done, tmp_path):
    for name in ("metrics.json", *left):
        (tmp_path / name).touch()
    if format:
        (tmp_path / ".hydra").mkdir()
        OmegaConf.save({"export": {"format": format}}, tmp_path / ".hydra" / "config.yaml")
    assert resume.finished(tmp_path) is done


def test_a_second_run_does_not_mix_into_a_used_folder(finished, overrides):
    before = (finished / "metrics.json").read_bytes()
    with pytest.raises(ConfigError, match="contains a run; continue it with resume=auto"):
        experiment.run(config(*overrides, run_dir=finished))
    with pytest.raises(ConfigError, match="contains a run"):
        resume.arguments([*overrides, f"hydra.run.dir='{finished}'"])
    assert (finished / "metrics.json").read_bytes() == before


def test_further_processes_of_a_run_do_not_mistake_the_first_for_another(finished, tmp_path, monkeypatch):
    with FileLock(tmp_path / ".running", mode=0o644):
        assert resume.is_running(tmp_path)
        monkeypatch.setattr(resume.rank_zero_only, "rank", 1)
        assert not resume.is_running(tmp_path)
        with resume.alone_in(tmp_path):
            resume.check_unused(finished)


def test_a_process_that_opens_the_lock_before_its_release_excludes_others(tmp_path):
    with resume.alone_in(tmp_path):
        waiting = os.open(tmp_path / ".running", os.O_RDWR)
    try:
        fcntl.flock(waiting, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert resume.is_running(tmp_path)
    finally:
        os.close(waiting)
    assert not resume.is_running(tmp_path)


def test_two_processes_do_not_share_a_run_folder(overrides, tmp_path):
    with FileLock(tmp_path / ".running"), pytest.raises(ConfigError, match="another process"):
        experiment.run(config(*overrides, run_dir=tmp_path))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("mixup=0.1", r"mixup=0\.4, not 0\.1; set the same"),
        ("trainer.max_epochs=5", r"trainer\.max_epochs=3, not 5"),
        ("data.batch_size=32", r"data\.batch_size=16, not 32"),
        ("augment=light", "augment=camera, not light"),
        ("optimizer=adamw", "optimizer="),
    ],
)
def test_a_checkpoint_of_other_values_is_refused(override, words, finished, overrides, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(finished / "checkpoints" / "last.ckpt", tmp_path / "checkpoints")
    with pytest.raises(ConfigError, match=words):
        experiment.run(config(*overrides, override, "resume=auto", run_dir=tmp_path))


def test_a_checkpoint_of_an_older_version_is_refused(finished, overrides, tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    path.parent.mkdir()
    checkpoint = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    del checkpoint["hyper_parameters"]["config"]["compile"]
    torch.save(checkpoint, path)
    with pytest.raises(ConfigError, match=r"older version of fer; train anew, with init_from=.*last\.ckpt"):
        experiment.run(config(*overrides, "resume=auto", run_dir=tmp_path))


def test_a_broken_checkpoint_is_one_line(overrides, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"PK")
    with pytest.raises(ArtifactError, match=r"last\.ckpt is not a checkpoint"):
        experiment.run(config(*overrides, "resume=auto", run_dir=tmp_path))


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
def test_only_the_rows_from_before_a_checkpoint_stay(tmp_path):
    (tmp_path / "metrics.csv").write_text("loss,step\n0.9,1\n0.8,2\n0.7,3\n0.6")  # the last was torn by the kill
    logger = CSVLogger(tmp_path, name="", version="")
    resume.restore_rows(logger, tmp_path, steps=3)  # step 3, counted from 0, is trained again
    assert (tmp_path / "metrics.csv").read_text().split() == ["loss,step", "0.9,1", "0.8,2"]
    logger.log_metrics({"loss": 0.6}, step=3)
    logger.save()
    assert (tmp_path / "metrics.csv").read_text().split()[1:] == ["0.9,1", "0.8,2", "0.6,3"]


def test_the_id_of_the_newest_wandb_run_is_found(tmp_path):
    assert resume.wandb_id(tmp_path) is None
    for name in ("offline-run-20260101_120000-first1", "run-20260102_120000-later-2", "latest-run"):
        (tmp_path / "wandb" / name).mkdir(parents=True)
    assert resume.wandb_id(tmp_path) == "later-2"
