"""`python train.py`, `fer-train` or `python -m fer.train`: one run, a sweep (`-m`) or a search (`search=`)."""

import os

from omegaconf import DictConfig

from fer.config import in_sweep, program

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations would ask the network for news when imported


def _run(cfg: DictConfig) -> dict[str, float]:
    if in_sweep():
        from fer.train import sweep

        return sweep.job(cfg)
    if cfg.get("search"):
        from fer.train import search  # Optuna is an extra

        return search.run(cfg)
    from fer.train import run

    return run.run(cfg)


def _resumed(arguments: list[str]) -> list[str]:
    """Return the command line with the folder of the run that `resume=auto` continues."""
    if not any(word.startswith(("resume=", "hydra.run.dir=")) for word in arguments):
        return arguments
    from fer.train import resume

    return resume.arguments(arguments)


main = program("train", _run, arguments=_resumed)

if __name__ == "__main__":
    main()
