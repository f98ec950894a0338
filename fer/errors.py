"""The exception tree, whole:

FerError               anything a user can mend; the text is one line that names the fix
├── ConfigError        a value in the configuration that cannot work
├── DataError          a dataset that is missing, broken or not what it says
├── TrainingError      a training that cannot go on
├── ArtifactError      a checkpoint or model file that cannot be used
├── SourceError        a camera, video, image or folder that cannot be read
└── SinkError          a video, log or window that cannot be written
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
    """Turn a `FerError` into one line on standard error and exit status 2, and Ctrl-C into status 130.

    With `HYDRA_FULL_ERROR=1` in the environment the error goes up with its traceback instead.
    """
    try:
        yield
    except FerError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
