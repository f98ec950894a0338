"""`python -m fer.artifact`."""

import json
import sys
from typing import Any

from fer.artifact.export import export
from fer.errors import ConfigError, one_line

_USAGE = (
    "python -m fer.artifact checkpoint=<run>/checkpoints/best.ckpt out=model.ts"
    " [format=torchscript|onnx|pt2] [flip=true|false] [crop_margin=0.0] [temperature=1.0]"
)


def main(arguments: list[str]) -> None:
    """The command above. Raises `ConfigError` for arguments that it does not know."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    if given.keys() & {"-h", "--help"}:
        print(_USAGE)
        return
    known = {"checkpoint", "out", "format", "flip", "crop_margin", "temperature"}
    if given.keys() - known or not {"checkpoint", "out"} <= given.keys():
        raise ConfigError(f"usage: {_USAGE}")
    options: dict[str, Any] = dict(given)
    try:
        for name in {"flip", "crop_margin", "temperature"} & given.keys():
            options[name] = json.loads(given[name])
    except (ValueError, RecursionError):
        raise ConfigError(f"{name}={given[name][:40]} is no value; usage: {_USAGE}") from None
    print(export(**options))


if __name__ == "__main__":
    with one_line():
        main(sys.argv[1:])
