"""The exceptions of this project. Their text is one line that names the fix.

FerError
├── ConfigError
├── DataError
├── TrainingError
├── ArtifactError
├── SourceError
└── SinkError
"""


class FerError(Exception):
    """Base of all errors that a user can fix."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())  # one line, whatever it quotes


class ConfigError(FerError):
    """A value in the configuration cannot work."""


class DataError(FerError):
    """A dataset is missing, broken or not what it claims to be."""


class TrainingError(FerError):
    """A training cannot continue: the loss is NaN, or a checkpoint cannot be written."""


class ArtifactError(FerError):
    """A checkpoint or model file cannot be used."""


class SourceError(FerError):
    """A camera, video, image or folder cannot be read."""


class SinkError(FerError):
    """A video, log or window cannot be written."""
