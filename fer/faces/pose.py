"""The head pose of faces, from five points of each."""

from functools import cache

import cv2
import numpy as np

from fer.faces.crop import crop_face
from fer.faces.types import Array, Faces
from fer.faces.yunet import YuNet

_FACE = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.52, -0.45], [-0.42, 0.93, 0], [0.42, 0.93, 0]])
"""The points of an upright face in front of the camera, x to the right, y down and z away from it.

The unit is the distance between the eyes. Lengths in the plane of eyes and mouth are means of YuNet's points in photos
of faces that look at the camera. The nose stands out by 0.45: in photos of faces that look elsewhere, its tip moves
aside so far (as 0.45 sin yaw) where the eyes seem nearer to each other (as cos yaw).
"""

_DISTANCE = 10.0
"""From the camera to the face, in distances between the eyes: 63 cm. The true one is unknown and matters little."""

_SIDE = 160
"""Side in pixels of the crop in which a face's points are found again. A face fills it."""

_SCORE = 0.3
"""Confidence, 0 to 1, from which YuNet's points are used: that there is a face is known."""

_GAIN = 2.0
"""By how much more than the roll that is seen the next crop is turned, since YuNet's points underrate it."""

_STEPS = 2
"""Crops in which the points of a new face are found, one after another; a third one would change little."""

_MIRRORED = [1, 0, 2, 4, 3]
"""The order of the points in a mirrored picture. YuNet's mean points are not quite symmetric; those of both are."""

_INTERVAL = 0.2
"""Seconds for which the pose of a tracked face is used again."""

_FORGET = 1.0
"""Seconds after which a face is measured like a new one."""

_MODEL = _FACE - _FACE.mean(axis=0)
_CAMERA = np.diag([_DISTANCE, _DISTANCE, 1.0])


def head_pose(points: Array) -> Array:
    """Return where heads are turned, relative to the line from the camera to each face.

    The pose is approximate: all faces are taken to have the same proportions, and five points tell little of pitch. It
    is found by SQPnP (Terzakis and Lourakis 2020, "A Consistently Fast and Globally Optimal Solution to the
    Perspective-n-Point Problem").

    Args:
        points: float32 (N, 5, 2), as in `Faces`.

    Returns:
        float32 (N, 3), degrees: yaw, positive to the right of the picture, which is the left of the person; pitch,
        positive up; roll, -180 to 180, positive clockwise in the picture. Roll is applied last, so that turning a
        picture changes nothing else. NaN where points coincide.
    """
    pose = np.full((len(points), 3), np.nan, np.float32)
    centred = points - points.mean(axis=1, keepdims=True, dtype=np.float64)
    sizes = np.sqrt(np.square(centred).sum(axis=(1, 2)) / np.square(_MODEL[:, :2]).sum())
    for i in np.flatnonzero(sizes > 0):
        _, vector, _ = cv2.solvePnP(_MODEL, centred[i] / sizes[i], _CAMERA, None, flags=cv2.SOLVEPNP_SQPNP)
        turn, _ = cv2.Rodrigues(vector)
        (right, _, _), (down, _, _), (x, y, z) = turn.tolist()
        pose[i] = np.arctan2(x, np.hypot(y, z)), np.arctan2(-y, z), np.arctan2(down, right)
    return np.degrees(pose)


class HeadPose:
    """`pose(image, faces, time)` → the head poses of one source's next frame.

    YuNet's own points stay nearly upright where a face is tilted: of a small face, they show a quarter of its roll. So
    each face is cut out, turned upright as far as is known, and its points are found again there, until nothing is left
    to turn. A face with an id is measured five times a second, in one crop, which is turned by the roll measured last.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[float, float, Array]] = {}  # by id: time, degrees to turn by, pose

    def __call__(self, image: Array, faces: Faces, time: float) -> Array | None:
        """Return the poses of faces as `head_pose` does, NaN where no points are found; None if `faces` has no points.

        Args:
            image: uint8 (H, W, 3) RGB.
            faces: The N faces in it.
            time: Seconds, increasing from frame to frame.
        """
        if faces.points is None:
            return None
        self._known = {key: known for key, known in self._known.items() if time - known[0] < _FORGET}
        poses = head_pose(faces.points)
        for i, box in enumerate(faces.boxes):
            key = 0 if faces.ids is None else int(faces.ids[i])
            since, turn, pose = self._known.get(key, (-np.inf, _GAIN * np.nan_to_num(poses[i, 2]), poses[i]))
            if time - since >= _INTERVAL:
                turn, pose = self._measure(image, box, turn, 1 if key in self._known else _STEPS)
                if key:
                    self._known[key] = time, turn, pose
            poses[i] = pose
        return poses

    def _measure(self, image: Array, box: Array, turn: float, steps: int) -> tuple[float, Array]:
        """Return by how many degrees to turn the next crop of a face, anticlockwise, and its pose, float32 (3,)."""
        square = crop_face(image, box, 0.25, _SIDE * 3 // 2)
        for _ in range(steps):
            turn = float(np.clip(turn, -90, 90))
            matrix = cv2.getRotationMatrix2D((_SIDE * 0.75, _SIDE * 0.75), turn, 1)
            matrix[:, 2] -= _SIDE // 4
            crop = cv2.warpAffine(square, matrix, (_SIDE, _SIDE), borderMode=cv2.BORDER_REPLICATE)
            points, other = _points(crop), _points(crop[:, ::-1])
            if points is None or other is None:
                return 0.0, np.full(3, np.nan, np.float32)
            mirrored = other[_MIRRORED] * (-1, 1) + (_SIDE - 1, 0)
            (pose,) = head_pose((points + mirrored)[None])
            seen, pose[2] = np.nan_to_num(pose[2]), (pose[2] + turn + 180) % 360 - 180
            turn += _GAIN * float(seen)
        return turn, pose


def _points(crop: Array) -> Array | None:
    """Return the five points of the face in the middle of a crop, (5, 2), None if none is found."""
    found = _net()(crop)
    distances = np.abs(found[:, :2] + found[:, 2:4] / 2 - _SIDE / 2).sum(axis=1)
    return found[distances.argmin(), 4:14].reshape(5, 2) if len(found) else None


@cache
def _net() -> YuNet:
    return YuNet(_SCORE, threads=1)
