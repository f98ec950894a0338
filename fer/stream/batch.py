"""A folder or pattern of films: which films it holds, and the names of their outputs."""

import os
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from fer.checks import check_path
from fer.errors import SinkError, SourceError
from fer.files import expand
from fer.images import is_image, is_side_file
from fer.stream.sinks import SINKS
from fer.stream.sources import Request, open_source
from fer.stream.sources.files import FILM_SUFFIXES
from fer.stream.sources.stills import SEARCHED, by_number, count, files_of


def films_of(source: Any) -> list[Path]:
    """Return the films of a folder or pattern that holds no image, in order; none for any other source.

    What ends like a film is taken for one, so that a broken one is missed.
    """
    path = Request(source).path if isinstance(source, str) else None
    files = files_of(path) if path else []
    if any(map(is_image, files)):
        return []
    return sorted(filter(_is_film, files), key=lambda file: (file.parent, by_number(file)))


def left_out(source: str, films: list[Path]) -> list[str]:
    """Return what is not read of the folder or pattern of the films, one line each."""
    path = expand(source)
    others = [file for file in set(files_of(path)).difference(films) if not is_side_file(file)]
    folders = [each for each in path.iterdir() if each.is_dir() and _holds_films(each)] if path.is_dir() else []
    notes = []
    if others:
        what = count(others, "file is not a film and was", "files are not films and were")
        notes.append(f"{source}: {what} not read, such as {min(others).name}")
    if folders:
        what = f"{count(folders, 'folder', 'folders')} of films below it not read, such as {min(folders).name}"
        notes.append(f'{source}: {what}; give source="{path}/**"')
    return notes


def _holds_films(folder: Path) -> bool:
    return any(file.suffix.lower() in FILM_SUFFIXES for file in islice(folder.rglob("*"), SEARCHED))


def _is_film(file: Path) -> bool:
    if file.suffix.lower() in FILM_SUFFIXES:
        return True
    try:
        open_source(str(file)).close()
        return True
    except SourceError:
        return False


def outputs_of(values: Mapping[str, Any], films: list[Path]) -> list[dict[str, Any]]:
    """Return the values of the keys of `SINKS` for each film.

    A path is a folder, in which each film has a file of its own name and the usual ending; `*` in the last part of the
    path stands for that name. If two films share a name, all keep their endings. Folders below are kept.

    Raises:
        SinkError: A path is a single file, or films would be saved among those that are read.
    """
    root = os.path.commonpath([film.parent for film in films])
    names = [film.relative_to(root) for film in films]
    if len({str(name.with_suffix("")).casefold() for name in names}) == len(names):
        names = [name.with_suffix("") for name in names]
    chosen = {key: values[key] for key in SINKS if values.get(key) not in (None, "")}
    outputs = [{key: _output(key, value, name) for key, value in chosen.items()} for name in names]
    saved = {each["save"].parent.resolve() for each in outputs if "save" in each}
    if mixed := saved.intersection(film.parent.resolve() for film in films):
        raise SinkError(f"save={chosen['save']} is among the films, in {min(mixed)}; give save=<another folder>")
    return outputs


def _output(key: str, value: Any, name: Path) -> Any:
    kind = next((kind for kind in SINKS[key] if "video" in kind.sources), SINKS[key][0])
    if kind.value == "other":
        return value
    check_path(key, value)
    path = expand(value)
    if "*" in path.name:
        return path.parent / path.name.replace("*", str(name))
    if path.suffix and not path.is_dir() and not str(value).endswith("/"):
        fix = f'{key}={path}/ or, to choose the ending, {key}="{path.with_stem("*")}"'
        raise SinkError(f"{key}={path} looks like one file for several films; give a folder, as {fix}")
    return path / f"{name}{kind.endings[0] if kind.endings else ''}"
