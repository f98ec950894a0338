"""`python -m fer.evaluate`: evaluate checkpoints and artifacts, alone or side by side."""

from typing import Any

from omegaconf import DictConfig

from fer.config import program


def _run(cfg: DictConfig) -> dict[str, Any]:
    from fer.evaluate.run import run  # takes seconds, and OpenCV may be missing, which `program` reports

    return run(cfg)


main = program("evaluate", _run)

if __name__ == "__main__":
    main()
