"""Turn a checkpoint into an artifact, or publish a run on the Hugging Face Hub.

python -m fer.artifact checkpoint=<run>/checkpoints/best.ckpt out=model.ts
python -m fer.artifact push=owner/name run=<run>
"""

from omegaconf import DictConfig

from fer.artifact.formats import FORMATS
from fer.checks import check_choice, check_flag, check_path
from fer.config import program
from fer.errors import ConfigError


def run(cfg: DictConfig) -> None:
    """Export or push for the values of `conf/artifact.yaml`, and print the path or the link. Raises `FerError`."""
    check_flag("private", cfg.private)
    if cfg.push is not None:
        if cfg.checkpoint is not None or cfg.out is not None:
            raise ConfigError("push= takes what is exported; export first, then push=owner/name run=<folder or file>")
        check_path("run", cfg.run, optional=False)
        from fer.artifact.publish import publish

        print(publish(cfg.run, str(cfg.push), cfg.private))
        return
    check_path("checkpoint", cfg.checkpoint, optional=False)
    check_path("out", cfg.out, optional=False)
    check_choice("format", cfg.format, (None, *FORMATS))
    from fer.artifact.export import export  # Lightning takes seconds to import

    overrides = {name: cfg[name] for name in ("format", "flip", "crop_margin", "prior", "temperature")}
    print(export(cfg.checkpoint, cfg.out, **overrides))


main = program("artifact", run, paths=("checkpoint", "out", "run"))

if __name__ == "__main__":
    main()
