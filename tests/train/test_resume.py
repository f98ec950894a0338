"""What a killed, full or diverged training leaves, and how `resume=auto` goes on from it."""

import csv
import errno
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from lightning.pytorch.loggers import CSVLogger
from omegaconf import OmegaConf
from samples import ROOT, config

from fer.errors import ArtifactError, ConfigError, TrainingError
from fer.models import checkpoints
from fer.train import callbacks, resume
from fer.train import run as experiment

SMALL = [
    "data=synthetic",
    "+data.reader.train=112",
    "+data.reader.val=21",
    "+data.reader.test=21",
    "data.batch_size=16",  # 7 steps an epoch
    "+model={widths:[8,16],depths:[1,1],drop_rate:0.2}",
    "augment=strong",
    "mixup=0.4",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "threads=1",
    "logger=csv",
    "evaluate.test=false",
    "callbacks.progress=null",
]


def die_in_training(cfg: Any) -> None:
    step = experiment.EmotionClassifier.training_step

    def dying(self: Any, *arguments: Any) -> Any:
        if self.global_step == 11:  # in the second epoch
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments)

    experiment.EmotionClassifier.training_step = dying
    experiment.run(cfg)


def die_in_validation(cfg: Any) -> None:
    step = experiment.EmotionClassifier.validation_step

    def dying(self: Any, *arguments: Any) -> Any:
        if self.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments)

    experiment.EmotionClassifier.validation_step = dying
    experiment.run(cfg)


def die_while_writing(cfg: Any) -> None:
    calls = 0

    def dying(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = dying
    experiment.run(cfg)


def in_a_process_of_its_own(target: Any, *arguments: Any) -> int:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train"])
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def trained(folder: Path) -> dict[str, Any]:
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    keys = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "global_step")
    return {key: state[key] for key in keys}


def assert_same(a: Any, b: Any, place: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), place
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a:
            assert_same(a[key], b[key], f"{place}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), place
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{place}[{number}]")
    else:
        assert a == b, place


def curves(folder: Path) -> dict[str, dict[str, float]]:
    """What metrics.csv holds of val and, of whole epochs, of train."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("val/accuracy", "val/loss", "train/accuracy", "train/loss")
    return {name: {row["step"]: float(row[name]) for row in rows if row[name]} for name in names}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_CACHE", str(tmp_path_factory.mktemp("cache")))
        experiment.run(config(*SMALL, run_dir=folder))
    return folder


@pytest.mark.parametrize(
    ("death", "reached"),
    [(die_in_training, 7), (die_in_validation, 7), (die_while_writing, 14)],
    ids=["in training", "in validation", "while writing"],
)
def test_a_killed_run_goes_on_to_the_same_weights(death, reached, undisturbed, tmp_path):
    cfg = config(*SMALL, run_dir=tmp_path)
    assert in_a_process_of_its_own(death, cfg) == -signal.SIGKILL
    assert resume.step_of(resume.newest(tmp_path / "checkpoints")) == reached
    metrics = experiment.run(config(*SMALL, "resume=auto", "data.workers=2", run_dir=tmp_path))
    assert_same(trained(tmp_path), trained(undisturbed))
    found, wanted = curves(tmp_path), curves(undisturbed)
    for name in wanted:
        if death is die_while_writing and name.startswith("train/"):
            # Killed at the end of this epoch, before or after its row was written: whether best.ckpt is among the files
            # counted depends on the last digits, and these on the processor.
            wanted[name].pop("13")
            found[name].pop("13", None)
        assert found[name] == wanted[name]
    assert metrics["train/epochs"] == 3


def program(*overrides: str, limit: int | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    def limited() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *SMALL, *overrides],
        capture_output=True, text=True, cwd=cwd, preexec_fn=limited,
    )  # fmt: skip


def test_a_full_disk_leaves_the_checkpoint_before_and_says_so(tmp_path):
    done = program(f"hydra.run.dir={tmp_path}", limit=60_000)  # the model's checkpoints need more
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "last.ckpt (File too large)" in line
    assert "resume=auto" in line
    assert not list(tmp_path.rglob(".*.part"))
    metrics = experiment.run(config(*SMALL, "resume=auto", run_dir=tmp_path))
    assert metrics["train/epochs"] == 3


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    files = callbacks.WholeFiles()
    files.save_checkpoint({"global_step": 1}, tmp_path / "last.ckpt")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(TrainingError, match=r"last\.ckpt \(No space left on device\)"):
        files.save_checkpoint({"global_step": 2}, tmp_path / "last.ckpt")
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert resume.step_of(str(tmp_path / "last.ckpt")) == 1


def test_torn_checkpoints_are_passed_over(tmp_path, caplog):
    files = callbacks.WholeFiles()
    assert resume.newest(tmp_path) is None
    for step in (1, 2, 3):
        files.save_checkpoint({"global_step": step}, tmp_path / "last.ckpt")
    assert resume.newest(tmp_path) == str(tmp_path / "last.ckpt")
    whole = (tmp_path / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    assert resume.newest(tmp_path) == str(tmp_path / "previous.ckpt")
    assert resume.step_of(str(tmp_path / "previous.ckpt")) == 2
    assert "last.ckpt is torn" in caplog.text
    (tmp_path / "previous.ckpt").write_bytes(b"")
    assert resume.newest(tmp_path) is None


def test_divergence_is_one_line_and_the_last_checkpoint_is_finite(tmp_path):
    diverging = ["optimizer.lr=1e30", "trainer.gradient_clip_val=null", "scheduler.div_factor=1e25"]
    with pytest.raises(TrainingError, match=r"diverged by step \d+.*lower optimizer\.lr"):
        experiment.run(config(*SMALL, *diverging, "checkpoint.every_n_steps=1", run_dir=tmp_path))
    path = resume.newest(tmp_path / "checkpoints")
    assert path is not None
    assert resume.step_of(path) > 0
    state = torch.load(path, weights_only=True)
    state.pop("callbacks")  # early stopping begins with a best score of minus infinity
    assert_finite(state)


def assert_finite(value: Any) -> None:
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            assert_finite(part)
    elif isinstance(value, torch.Tensor | float):
        assert torch.as_tensor(value).isfinite().all()


def test_the_newest_unfinished_run_of_the_same_overrides_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def leave(name: str, overrides: list[str], finished: str = "") -> Path:
        folder = Path("runs") / "small" / name
        (folder / ".hydra").mkdir(parents=True)
        OmegaConf.save(OmegaConf.create(overrides), folder / ".hydra" / "overrides.yaml")
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
    (leave("2026-01-06", []) / ".hydra" / "overrides.yaml").write_text("{cut sho")
    with FileLock(running / ".running"):
        assert resume.arguments(asked) == [*asked, f"hydra.run.dir='{newer}'"]
    assert resume.arguments(asked[1:]) == asked[1:]
    assert resume.arguments([*asked, "hydra.run.dir=here"]) == [*asked, "hydra.run.dir=here"]


def test_the_newest_unfinished_sweep_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for day, finished in ((1, False), (2, True)):
        folder = Path("runs") / "sweeps" / f"2026-01-0{day}"
        folder.mkdir(parents=True)
        OmegaConf.save({"hydra": {"overrides": {"task": ["seed=1,2", "augment=light"]}}}, folder / "multirun.yaml")
        if finished:
            (folder / "leaderboard.csv").touch()
    asked = ["-m", "augment=light", "seed=1,2", "resume=auto"]
    assert resume.arguments(asked) == [*asked, "hydra.sweep.dir='runs/sweeps/2026-01-01'"]


def test_a_sweep_in_another_order_numbers_its_jobs_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("runs") / "sweeps" / "2026-01-01"
    folder.mkdir(parents=True)
    OmegaConf.save({"hydra": {"overrides": {"task": ["seed=1,2", "augment=light,none"]}}}, folder / "multirun.yaml")
    asked = ["-m", "augment=light,none", "seed=1,2", "resume=auto"]
    assert resume.arguments(asked) == asked


def test_a_finished_run_is_not_trained_again(undisturbed):
    before = (undisturbed / "checkpoints" / "best.ckpt").stat().st_mtime_ns
    metrics = experiment.run(config(*SMALL, "resume=auto", run_dir=undisturbed))
    assert metrics["train/epochs"] == 3
    assert (undisturbed / "checkpoints" / "best.ckpt").stat().st_mtime_ns == before


def test_a_run_whose_export_failed_is_not_finished_and_is_only_exported(tmp_path, monkeypatch):
    def full(*_, **__):
        raise ArtifactError("cannot write model.ts: No space left on device; choose another out=")

    cfg = config(*SMALL, "trainer.max_epochs=1", "checkpoint.every_n_steps=null", run_dir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(experiment.artifact, "export", full)
        with pytest.raises(ArtifactError):
            experiment.run(cfg)
    assert (tmp_path / "metrics.json").exists() and not resume.finished(tmp_path)
    before = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    cfg.resume = "auto"
    experiment.run(cfg)
    assert resume.finished(tmp_path)
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == before


def test_a_second_run_does_not_mix_into_a_used_folder(undisturbed):
    before = (undisturbed / "metrics.json").read_bytes()
    with pytest.raises(ConfigError, match="holds a run already; go on with it by resume=auto"):
        experiment.run(config(*SMALL, run_dir=undisturbed))
    assert (undisturbed / "metrics.json").read_bytes() == before


def test_other_processes_of_this_run_find_its_folder_although_it_runs(tmp_path, monkeypatch):
    (tmp_path / ".hydra").mkdir()
    with FileLock(tmp_path / ".running", mode=0o644):
        assert resume._is_running(tmp_path)
        monkeypatch.setattr(resume.rank_zero_only, "rank", 1)
        assert not resume._is_running(tmp_path)


def test_two_processes_do_not_share_a_run_folder(tmp_path):
    with FileLock(tmp_path / ".running"), pytest.raises(ConfigError, match="another process"):
        experiment.run(config(*SMALL, run_dir=tmp_path))


def test_a_run_of_other_values_is_refused(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    with pytest.raises(ConfigError, match=r"mixup=0\.4, not 0\.1; set the same"):
        experiment.run(config(*SMALL, "resume=auto", "mixup=0.1", run_dir=tmp_path / "run"))


def test_a_checkpoint_that_a_program_of_ones_own_wrote_is_not_gone_on_with(undisturbed, tmp_path):
    whole = torch.load(undisturbed / "checkpoints" / "last.ckpt", weights_only=True)
    whole["hyper_parameters"]["config"] = None
    torch.save(whole, tmp_path / "own.ckpt")
    with pytest.raises(ConfigError, match=r"own\.ckpt does not say which training it is from"):
        experiment.run(config(*SMALL, f"ckpt_path='{tmp_path}/own.ckpt'", run_dir=tmp_path / "run"))


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
def test_only_the_rows_from_before_a_checkpoint_are_gone_on_with(tmp_path):
    (tmp_path / "metrics.csv").write_text("loss,step\n0.9,1\n0.8,2\n0.7,3\n0.6")  # the last was torn by the kill
    logger = CSVLogger(tmp_path, name="", version="")
    resume.restore_rows(logger, tmp_path, steps=3)  # step 3, counted from 0, is trained again
    assert (tmp_path / "metrics.csv").read_text().split() == ["loss,step", "0.9,1", "0.8,2"]
    logger.log_metrics({"loss": 0.6}, step=3)
    logger.save()
    assert (tmp_path / "metrics.csv").read_text().split()[1:] == ["0.9,1", "0.8,2", "0.6,3"]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_only_auto_is_understood(tmp_path):
    with pytest.raises(ConfigError, match="resume=yes is unknown"):
        experiment.run(config(*SMALL, "resume=yes", run_dir=tmp_path))


def test_the_id_of_the_wandb_run_is_found(tmp_path):
    assert resume.wandb_id(tmp_path) is None
    for name in ("offline-run-20260101_120000-first1", "run-20260102_120000-later-2", "latest-run"):
        (tmp_path / "wandb" / name).mkdir(parents=True)
    assert resume.wandb_id(tmp_path) == "later-2"


def test_ctrl_c_is_one_line_and_leaves_a_checkpoint(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), *SMALL, "trainer.max_epochs=1000", f"hydra.run.dir={tmp_path}"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    path = tmp_path / "checkpoints" / "last.ckpt"
    end = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "stopped"
    assert "Traceback" not in err
    assert checkpoints.load(str(path)).classes
    assert not (tmp_path / ".running").exists()
