"""Values of this room: pictures and the faces in them. Each is checked when it is created."""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def check_array(
    name: str, values: Array | None, dtype: type, shape: tuple[int, ...], low: float = -np.inf, high: float = np.inf
) -> None:
    """Raise `ValueError` unless `values` is None or has this dtype, this shape and values from `low` to `high`."""
    if values is None:
        return
    if values.dtype != dtype or values.shape != shape or not ((low <= values) & (values <= high)).all():
        expected = f"{dtype.__name__} {shape} from {low:g} to {high:g}"
        raise ValueError(f"{name} must be {expected}, not {values.dtype} {values.shape}")


@dataclass(frozen=True, eq=False)
class Picture:
    """An image and its reduced copies.

    Attributes:
        image: uint8 (H, W, 3), RGB, upright.

    Raises:
        ValueError: The image has another shape or dtype.
    """

    image: Array
    _copies: dict[int, Array] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        dtype, shape = self.image.dtype, self.image.shape
        if dtype != np.uint8 or shape[2:] != (3,):
            raise ValueError(f"image must be uint8 (H, W, 3), not {dtype} {shape}")

    @property
    def still(self) -> bool:
        """Whether this is a photo, not one of many frames."""
        return True

    def reduced(self, width: int) -> Array:
        """Return a copy of the image that is `width` pixels wide, or the image itself if it is no wider.

        A pixel of the copy is the mean of its area. Each copy is made once.
        """
        full_height, full_width = self.image.shape[:2]
        width = max(1, width)
        if width >= full_width:
            return self.image
        if width not in self._copies:
            self._copies[width] = _reduced(self.image, width, max(1, round(full_height * width / full_width)))
        return self._copies[width]


def _reduced(image: Array, width: int, height: int) -> Array:
    """Return a smaller copy. OpenCV is fastest at halving, so that comes first where it ends at the same pixels."""
    half = 2 * height, 2 * width
    while image.shape[0] % half[0] == image.shape[1] % half[1] == 0 and image.shape[:2] != half:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True, eq=False)
class Faces:
    """The N faces of one frame.

    Attributes:
        boxes: float32 (N, 4), x1 y1 x2 y2 in pixels of the original frame, clipped to it, x1 < x2 and y1 < y2.
        scores: float32 (N,), confidence of the detector, 0 to 1.
        ids: int64 (N,), track of each face, from 1; None without tracking.
        points: float32 (N, 5, 2), x y in pixels of the original frame, perhaps outside it: the eye on the left of an
            upright face in the picture and that on the right, the tip of the nose, the corners of the mouth on the left
            and on the right; None if the detector finds none.

    Raises:
        ValueError: A value has the wrong shape, dtype or range.
    """

    boxes: Array
    scores: Array
    ids: Array | None = None
    points: Array | None = None

    def __post_init__(self) -> None:
        n = len(self)
        check_array("boxes", self.boxes, np.float32, (n, 4))
        if not (self.boxes[:, :2] < self.boxes[:, 2:]).all():
            raise ValueError("boxes must have x1 < x2 and y1 < y2")
        check_array("scores", self.scores, np.float32, (n,), 0, 1)
        check_array("ids", self.ids, np.int64, (n,), 0)
        check_array("points", self.points, np.float32, (n, 5, 2))

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Array | list[int]) -> "Faces":
        """Return the faces with these indices, or those for which a mask, bool (N,), is true."""
        ids, points = (None if values is None else values[index] for values in (self.ids, self.points))
        return Faces(self.boxes[index], self.scores[index], ids, points)

    @classmethod
    def none(cls) -> "Faces":
        """Return zero faces."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
