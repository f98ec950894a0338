"""`python train.py`, `fer-train` or `python -m fer.train`: one run, a sweep (`-m`) or a search (`search=`)."""

import importlib
import os
import re
import sys
from unittest.mock import patch

from lightning_utilities.core import imports
from omegaconf import DictConfig

from fer.config import in_sweep, program

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations would ask the network for news when imported


def _run(cfg: DictConfig) -> dict[str, float]:
    if "torchmetrics" not in sys.modules:
        _import_torchmetrics()
    if in_sweep():
        from fer.train import sweep

        return sweep.job(cfg)
    if cfg.get("search"):
        from fer.train import search  # Optuna is an extra

        return search.run(cfg)
    from fer.train import run

    return run.run(cfg)


def _import_torchmetrics() -> None:
    """Import what Lightning needs of torchmetrics, and none of the packages that its other metrics would like to use.

    If installed, transformers, librosa, SciPy's signals and others would be imported for metrics of texts and sounds,
    which takes seconds. They look absent for this import alone: whoever needs them later finds them.
    """
    check, package_available = imports.RequirementCache.__bool__, imports.package_available

    def kept(self: imports.RequirementCache) -> bool:
        return bool(re.match(r"(torch|torchvision|matplotlib)\b", str(self.requirement))) and check(self)

    def available(name: str) -> bool:
        return name != "scipy" and package_available(name)

    with (
        patch.object(imports.RequirementCache, "__bool__", kept),
        patch.object(imports, "package_available", available),
    ):
        importlib.import_module("torchmetrics")


def _resumed(arguments: list[str]) -> list[str]:
    """Return the command line with the folder of the run that `resume=auto` continues."""
    if not any(word.startswith(("resume=", "hydra.run.dir=")) for word in arguments):
        return arguments
    from fer.train import resume

    return resume.arguments(arguments)


main = program("train", _run, arguments=_resumed)

if __name__ == "__main__":
    main()
