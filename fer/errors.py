"""The exception tree, whole:

FerError               anything a user can mend; the text is one line that names the fix
├── ConfigError        a value in the configuration that cannot work
├── DataError          a dataset that is missing, broken or not what it says
├── TrainingError      a training that cannot go on
├── ArtifactError      a checkpoint or model file that cannot be used
├── SourceError        a camera, video, image or folder that cannot be read
└── SinkError          a video, log or window that cannot be written
"""

import difflib
import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class FerError(Exception):
    """Base of all errors that a user can mend."""


class ConfigError(FerError):
    """A value in the configuration cannot work."""


class DataError(FerError):
    """A dataset is missing, broken or not what it says."""


class TrainingError(FerError):
    """A training cannot go on: the loss is no number any more, or a checkpoint cannot be written."""


class ArtifactError(FerError):
    """A checkpoint or model file cannot be used."""


class SourceError(FerError):
    """A camera, video, image or folder cannot be read."""


class SinkError(FerError):
    """A video, log or window cannot be written."""


@contextmanager
def one_line() -> Iterator[None]:
    """Turn a `FerError` into one line on standard error and exit status 2, Ctrl-C into status 130, and an
    output that nobody reads any more into status 141.

    With `HYDRA_FULL_ERROR=1` in the environment the error goes up with its traceback instead.
    """
    try:
        yield
    except FerError as error:
        if _wants_traceback():
            raise
        _say(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever reads the output, such as `head`, has had enough
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes
        sys.exit(141)
    except OSError as error:
        # of a path that somebody named: to ask whether it exists raises where a folder above it may not be looked into
        if _wants_traceback() or error.errno not in (errno.EACCES, errno.ENAMETOOLONG):
            raise
        _say(f"{str(error.filename)[:200]}: {error.strerror}; give another path")
        sys.exit(2)


@contextmanager
def hydra_in_one_line(config_dir: Path, config_name: str) -> Iterator[None]:
    """Turn what Hydra refuses, such as an override of a key that does not exist, into one line too, with status 1.

    So also a launcher's cluster that does not answer; and, with status 2, a folder that Hydra cannot make.

    Goes around the whole program. The keys of the config are searched for one that may have been meant.
    """
    traceback, before = _wants_traceback(), {name: os.environ.get(name) for name in (_TRACEBACK, "HYDRA_FULL_ERROR")}
    # Hydra then lets its exceptions go up, in place of printing several lines; child processes inherit both.
    os.environ |= {_TRACEBACK: str(int(traceback)), "HYDRA_FULL_ERROR": "1"}
    try:
        for word in sys.argv[1:]:
            option = word.split("=")[0]
            if word.startswith("--") and not any(known.startswith(option) for known in _HYDRA_OPTIONS):
                key = _nearest(option.strip("-").replace("-", "_"), config_dir, config_name) or "key"
                _say(f"{word} is no option; values are given without dashes, as {key}=…, and --help shows all of them")
                sys.exit(1)
        yield
    except Exception as error:
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        if isinstance(error, OSError) and error.errno in _NO_FOLDER and not traceback:
            _say(f"cannot write {error.filename} ({error.strerror}); set hydra.run.dir")
            sys.exit(2)
        if isinstance(error, RecursionError) or "integer string conversion" in str(error):  # of Hydra's parser
            error = HydraException("a value has more digits or brackets than anybody needs; give a shorter one")
        elif not isinstance(error, HydraException) and _raised_in(error, "defaults_list.py"):  # null, true, a list
            groups = [word for word in sys.argv[1:] if (config_dir / word.split("=")[0]).is_dir()]
            error = HydraException(f"{' '.join(groups)}: a group takes the name of an option; --help lists them")
        if traceback or not isinstance(error, HydraException | OmegaConfBaseException | ConnectionError):
            raise
        text = str(error).split("Config search path")[0]
        if unknown := re.search(r"Could not (?:override|append|delete)[^']*'([^']+)'", text):
            near = _nearest(unknown[1], config_dir, config_name)
            text = f"{unknown[1]} is no key; " + (f"did you mean {near}?" if near else "--help shows all of them")
        elif bare := re.match(r"Error parsing override '([^'=]+)'\s+missing EQUAL", text):
            text = f"{bare[1]} is no key=value; give it to a key, as in {_TAKES.get(config_name, 'key')}={bare[1]}"
        elif several := re.match(r"Ambiguous value for argument '([^']+)'", text):
            text = f"{several[1]} has several values; add -m for a run of each, or give one; a list is [a,b]"
        _say(text)
        sys.exit(1)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _raised_in(error: BaseException, file: str) -> bool:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and place.tb_frame.f_code.co_filename.endswith(file)


_TRACEBACK = "FER_TRACEBACK"
_HYDRA_OPTIONS = (
    "--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--info",
    "--shell-completion", "--config-path", "--config-name", "--config-dir", "--experimental-rerun",
)  # fmt: skip
# What a word without a key is meant for most often.
_TAKES = {"infer": "source", "evaluate": "models", "distil": "teacher", "train": "experiment"}
_NO_FOLDER = (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT)


def _wants_traceback() -> bool:
    return os.environ.get(_TRACEBACK, os.environ.get("HYDRA_FULL_ERROR")) == "1"


def _say(text: str) -> None:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)


def _nearest(key: str, config_dir: Path, config_name: str) -> str | None:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    def keys(node: object, place: str = "") -> Iterator[str]:
        if isinstance(node, dict):
            for name, child in node.items():
                yield f"{place}{name}"
                yield from keys(child, f"{place}{name}.")

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir), version_base="1.3"):
        known = list(keys(OmegaConf.to_container(compose(config_name))))
    endings = {k.rsplit(".", 1)[-1]: k for k in reversed(known)}
    near = difflib.get_close_matches(key, known, 1, 0.75)
    by_ending = difflib.get_close_matches(key.rsplit(".", 1)[-1], endings, 1, 0.7)
    return next(iter(near or [endings[name] for name in by_ending]), None)
