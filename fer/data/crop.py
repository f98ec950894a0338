"""`data.crop=auto`: pictures in which a face is one thing among others are cut to the face as `infer.py` cuts it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from fer.faces.crop import crop_face
from fer.faces.types import Array, Picture

if TYPE_CHECKING:
    from fer.faces.detect import Detector

_WHOLE = 0.8
"""Share of a picture's longer side from which a face's box is that of a picture which is cut already."""

_SEVERAL = "pictures of several faces, of which the largest is used"
_TURNED = "pictures that are turned upright"
_NONE = "pictures in which no face is found, which are cut to their central square"


class FaceCropper:
    """`crop(image, size, name)` → the square of the face in it. Counts what is unusual for `notes`.

    Pictures are searched as they are and turned by 90, 180 and 270 degrees. The turn with the clearest face counts,
    since YuNet also finds many faces upside down, with lower scores. A reduced copy of the width that frames of films
    have is enough for most; larger ones are searched if it shows no face.

    Args:
        margin: As in `crop_face`.
        detector: Finds the faces.
    """

    def __init__(self, margin: float = 0.0, detector: "Detector | None" = None) -> None:
        from fer.faces.detect import Detector  # with ONNX Runtime, which trainings without crop= do without

        self.margin = margin
        self._detector = detector or Detector()
        self._unusual: dict[str, list[str]] = {_SEVERAL: [], _TURNED: [], _NONE: []}

    def __call__(self, image: Array, size: int, name: str) -> Array:
        """Cut a face.

        Args:
            image: uint8 (H, W, 3) RGB.
            size: Side of the result in pixels.
            name: Of the picture, for `notes`.

        Returns:
            uint8 (size, size, 3), or the image itself, whole but turned upright, if it shows no face or is one.
        """
        turns, boxes = self._search(image)
        if not len(boxes):
            self._unusual[_NONE].append(name)
            return image
        if turns:
            self._unusual[_TURNED].append(name)
            image = np.ascontiguousarray(np.rot90(image, turns))
        if len(boxes) > 1:
            self._unusual[_SEVERAL].append(name)
        box = max(boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
        if max(box[2] - box[0], box[3] - box[1]) >= _WHOLE * max(image.shape[:2]):
            return image
        return crop_face(image, box, self.margin, size)

    def _search(self, image: Array) -> tuple[int, Array]:
        """Return by how many quarters `image` is to be turned to the left, and the boxes of the faces then, (N, 4)."""
        picture = Picture(image)
        for width in self._detector.widths(picture):
            copy = picture.reduced(width)
            turned = [Picture(np.ascontiguousarray(np.rot90(copy, turns))) for turns in range(4)]
            found = [self._detector.search(each, [each.image.shape[1]]) for each in turned]
            turns = max(range(4), key=lambda k: found[k].scores.max(initial=0))
            if len(found[turns]):
                return turns, found[turns].boxes * (image.shape[1] / copy.shape[1])
        return 0, np.empty((0, 4), np.float32)

    def notes(self) -> Iterator[str]:
        """Yield a line for each kind of unusual picture, with their number and the first of them."""
        for what, names in self._unusual.items():
            if names:
                yield f"{what}: {len(names)}, such as {names[0]}"
