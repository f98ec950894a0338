"""Train a facial-emotion model, judge it and export it: `python train.py --help`."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations asks the network for news at import

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from fer.errors import hydra_in_one_line, one_line
from fer.train import resume, sweep
from fer.train import run as experiment

_CONF = Path(__file__).parent / "conf"


@hydra.main(version_base="1.3", config_path=str(_CONF), config_name="train")
def main(cfg: DictConfig) -> dict[str, float]:
    if experiment.in_sweep():
        return sweep.job(cfg)
    with one_line():
        if cfg.get("search"):
            from fer.train import search  # Optuna is an extra

            return search.run(cfg)
        return experiment.run(cfg)


if __name__ == "__main__":
    with hydra_in_one_line(_CONF, "train"), one_line():
        sys.argv[1:] = resume.arguments(sys.argv[1:])
        main()
