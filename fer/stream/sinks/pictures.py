"""Annotated stills, and the encoding of pictures."""

from pathlib import Path

import cv2

from fer.errors import SinkError
from fer.faces.types import Array
from fer.stream.sinks.base import Context, Sink, sink, write_output
from fer.stream.sources.stills import Stills
from fer.stream.types import FrameResult

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@sink("save", sources=("folder",), value="folder")
@sink("save", *IMAGE_ENDINGS, sources=("image",))
class Pictures(Sink):
    """One annotated picture for each still. In a folder, pictures keep the names of the stills, with `.png` appended if
    their format cannot be written.

    Raises:
        SinkError: A picture would overwrite a file of the source.
    """

    stage = "save"
    draws = True

    def __init__(self, path: Path, context: Context) -> None:
        self.path, self._in_folder = path, context.source.kind == "folder"
        self._names = set(getattr(context.source, "names", ()))
        if self._in_folder and isinstance(context.source, Stills):
            originals = {file.resolve() for file in context.source.files}
            for target in map(self._target, context.source.names):
                if target.resolve() in originals:
                    raise SinkError(f"save={path} would replace {target} itself; give save=<another folder>")

    def _target(self, name: str) -> Path:
        if not name.lower().endswith(IMAGE_ENDINGS):
            name += ".png"
            while name in self._names:  # `photo` lies beside `photo.png`
                name += ".png"
        return self.path / name

    def write(self, result: FrameResult, picture: Array | None) -> None:
        if picture is not None:
            path = self._target(result.frame.file or "") if self._in_folder else self.path
            write_output(path, encode(picture, path))


def encode(picture: Array, path: Path) -> bytes:
    """Encode uint8 (H, W, 3) RGB in the format of a path's ending. Raise `SinkError` if it is too large."""
    try:
        good, data = cv2.imencode(path.suffix.lower(), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except cv2.error:
        good = False
    if not good:
        raise SinkError(f"cannot write {path}: {path.suffix} does not hold a picture of this size; use .png")
    return data.tobytes()
