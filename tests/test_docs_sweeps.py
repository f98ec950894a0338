"""The commands of docs/, in a small form."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from samples import ROOT, TINY, config

TEXT = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if "train.py" in line]
FOREIGN = ("torchrun", "srun", "submitit_slurm", "launcher=ray", "trainer=ddp ")  # a cluster, a GPU; Ray: test_sweep.py
SMALL = [
    *(o for o in TINY if not o.startswith(("+model=", "trainer.accelerator="))),
    "callbacks.progress=null",
    "+trainer.enable_progress_bar=false",
    "hydra/job_logging=default",
]


def is_foreign(command: str) -> bool:
    return any(word in f"{command} " for word in FOREIGN)


def overrides(command: str) -> list[str]:
    words = shlex.split(command)
    return [word for word in words[words.index("train.py") + 1 :] if word != "-m"]


def first_of(override: str) -> str:
    """A sweep of one: the first of the values."""
    (parsed,) = OverridesParser.create().parse_overrides([override])
    if not parsed.is_sweep_override():
        return override
    return f"{parsed.get_key_element()}={next(iter(parsed.sweep_string_iterator()))}"


def test_there_are_commands():
    assert len(COMMANDS) >= 10
    assert any(is_foreign(command) for command in COMMANDS)


# With resume=auto in an empty folder a command does the same as without.
@pytest.mark.parametrize("command", [c for c in COMMANDS if not is_foreign(c) and f"{c} resume=auto" not in COMMANDS])
def test_a_command_runs(command, tmp_path):
    given = [first_of(o) for o in overrides(command)]
    sweep = " -m " in command
    extra = [f"hydra.{'sweep' if sweep else 'run'}.dir={tmp_path}"]
    if "search=" in command:
        given = [o for o in given if not o.startswith("search.trials")]
        extra += ["search.trials=1"]
    if "trainer=" not in command:
        extra += ["trainer=cpu"]
    if "launcher=joblib" in command:
        extra += ["hydra.launcher.n_jobs=1"]
    done = subprocess.run(
        [sys.executable, "train.py", *(["-m"] if sweep else []), *given, *SMALL, *extra],
        capture_output=True, text=True, cwd=ROOT, timeout=200,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ("leaderboard.csv" if sweep else "metrics.json")).exists()


@pytest.mark.filterwarnings("ignore:(?s).*is validated against ConfigStore schema")
@pytest.mark.parametrize("command", [c for c in COMMANDS if is_foreign(c)])
def test_a_command_for_a_cluster_is_a_config(command):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [first_of(o) for o in overrides(command)], return_hydra_config=True)
    if "trainer=ddp" in command:
        assert cfg.trainer.strategy["_target_"].endswith("DDPStrategy")
        assert cfg.trainer.accelerator == "gpu"
        assert not cfg.trainer.use_distributed_sampler
    else:
        launcher = OmegaConf.to_container(cfg.hydra.launcher, resolve=False)
        assert "ray" in launcher or launcher["partition"] == "gpu"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # wandb 0.31 leaves the file open
def test_the_sweep_of_wandb_gives_overrides_that_train_takes():
    from wandb.sdk.launch.sweeps import utils

    sweep = utils.load_sweep_config(str(ROOT / "sweep.yaml"))
    assert sweep["metric"] == {"name": "val/accuracy", "goal": "maximize"}
    command = utils.create_sweep_command(sweep["command"])
    for pick in (0, -1):
        values = {
            name: {"value": values["values"][pick] if "values" in values else values[("min", "max")[pick]]}
            for name, values in sweep["parameters"].items()
        }
        arguments = utils.create_sweep_command_args({"args": values})["args_no_hyphens"]
        own = [c for c in command if "=" in c and not c.startswith("hydra.")]
        cfg = config(*own, *arguments, "data=synthetic")
        for name, value in values.items():
            if name in ("scheduler", "augment"):
                continue
            assert OmegaConf.select(cfg, name) == pytest.approx(value["value"])
        assert not cfg.evaluate.test
    assert command[:3] == ["${env}", "python", "train.py"]
    assert (ROOT / Path(command[2])).exists()
