"""Where results go. Every file of this folder is imported, so a new sink is one new file and a line in the config."""

import importlib
import pkgutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fer.checks import check_path
from fer.errors import SinkError
from fer.files import expand
from fer.stream.sinks.base import FILMS, SINKS, STILLS, Context, Sink, SinkType, Stop, sink, sink_errors

__all__ = ["FILMS", "SINKS", "STILLS", "Context", "Sink", "Stop", "open_sinks", "sink"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def open_sinks(values: Mapping[str, Any], context: Context, artifact: str | None = None) -> list[Sink]:
    """Make the sinks of a run, after checking that their files can be written.

    Args:
        values: The value of each key of `SINKS`; keys that are missing, null or empty are left out.
        context: The run. Its `paths` are filled in here; its `classes` and `model` may be set later.
        artifact: The model file, which must not be overwritten.

    Raises:
        SinkError: A key does not fit the source, an ending is wrong, two keys name one file, or a path cannot be
            written.
    """
    chosen = {key: _chosen(key, values[key], context) for key in SINKS if values.get(key) not in (None, "")}
    model = expand(artifact) if artifact else None
    known = {"source": context.source.path, "artifact": model if model and model.is_file() else None}
    for key, path in context.paths.items():
        for other, used in known.items():
            if used is not None and path.resolve() == used.resolve():
                raise SinkError(f"{key}= and {other}= are both {path}; give {key}= another name")
        known[key] = path
    for key, path in context.paths.items():
        _check_writable(key, path, chosen[key].value == "folder")
    # Keys that share a class share the sink.
    makers = {kind.make: context.paths.get(key, values[key]) for key, kind in chosen.items()}
    sinks = [make(value, context) for make, value in makers.items()]
    return sorted(sinks, key=lambda sink: sink.frames)  # statistics first, so that they are closed and written last


def _chosen(key: str, value: Any, context: Context) -> SinkType:
    """Return the sink for the source and the ending, and add its path to `context.paths`."""
    source = context.source
    fitting = [kind for kind in SINKS[key] if source.kind in kind.sources]
    if not fitting:
        raise SinkError(f"{key}= does not fit {source.name}, a source of kind {source.kind}; leave it out")
    if fitting[0].value == "other":
        return fitting[0]
    check_path(key, value)
    path = context.paths[key] = expand(value)
    ending, others = path.suffix.lower(), {ending for kind in SINKS[key] for ending in kind.endings}
    for kind in fitting:
        if ending in kind.endings or (not kind.endings and ending not in others):
            return kind
    endings = " or ".join(ending for kind in fitting for ending in kind.endings)
    fix = f"use {endings}" if endings else f"give {key}=<another folder>"
    raise SinkError(f"{key}={path} has the wrong ending for a source of kind {source.kind}; {fix}")


def _check_writable(key: str, path: Path, folder: bool) -> None:
    """Make the folder, and try to make a file in it; a long run must not fail at its end."""
    if not folder and path.is_dir():
        raise SinkError(f"{key}={path} is a folder; give {key}=<another file>")
    with sink_errors(path):
        parent = path if folder else path.parent
        parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=parent).close()
