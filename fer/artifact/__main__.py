"""Turn a checkpoint into an artifact: `python -m fer.artifact checkpoint=<run>/checkpoints/best.ckpt out=model.ts`."""

from omegaconf import DictConfig

from fer.artifact.formats import FORMATS
from fer.checks import check_choice, check_path
from fer.config import program


def run(cfg: DictConfig) -> None:
    """Export for the values of `conf/artifact.yaml` and print the path. Raises `FerError`."""
    check_path("checkpoint", cfg.checkpoint, optional=False)
    check_path("out", cfg.out, optional=False)
    check_choice("format", cfg.format, (None, *FORMATS))
    from fer.artifact.export import export  # Lightning takes seconds to import

    overrides = {name: cfg[name] for name in ("format", "flip", "crop_margin", "prior", "temperature")}
    print(export(cfg.checkpoint, cfg.out, **overrides))


main = program("artifact", run, paths=("checkpoint", "out"))

if __name__ == "__main__":
    main()
