import warnings
from itertools import islice

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import MEDIA

from fer.faces import pose as module
from fer.faces.detect import Detector
from fer.faces.pose import HeadPose, head_pose
from fer.faces.types import Array, Faces
from fer.stream.sources import open_source
from fer.stream.types import Frame

HEAD = np.array([[-31, 0, 2], [31, 0, 2], [0, 33, -27], [-25, 59, 0], [25, 59, 0]], float)
"""Eyes, nose and mouth of a head that faces the camera, in millimetres: x to the right, y down, z away."""


def seen(yaw: float = 0, pitch: float = 0, roll: float = 0) -> Array:
    """The points of that head, 1 m from a camera, turned right, then up, then clockwise: float32 (1, 5, 2)."""
    y, p, r = np.radians([yaw, pitch, roll])
    turned = HEAD - HEAD.mean(axis=0)
    turned = turned @ np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]]).T
    turned = turned @ np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]]).T
    turned = turned @ np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]]).T
    return (800 * turned[:, :2] / (1000 + turned[:, 2:]) + (640, 360)).astype(np.float32)[None]


def mirrored(points: Array) -> Array:
    """The points of mirrored pictures, in the same order: what was on the left is on the right."""
    return (points * np.float32([-1, 1]))[:, [1, 0, 2, 4, 3]]


def test_the_head_of_these_tests_turns_as_it_is_told() -> None:
    left, right, nose, *_ = seen()[0]
    assert left[0] < nose[0] < right[0] and nose[1] > left[1]
    assert seen(yaw=30)[0, 2, 0] > nose[0], "the nose moves to the right"
    assert seen(pitch=20)[0, 2, 1] < nose[1], "the nose moves up"
    assert seen(roll=20)[0, 1, 1] > right[1], "the eye on the right moves down"


@pytest.mark.parametrize("yaw", [-40, -15, 0, 25])
@pytest.mark.parametrize("pitch", [-20, 0, 15])
@pytest.mark.parametrize("roll", [-150, -30, 0, 10, 90])
def test_a_turned_head_is_measured_with_these_signs(yaw: float, pitch: float, roll: float) -> None:
    (pose,) = head_pose(seen(yaw, pitch, roll))
    np.testing.assert_allclose(pose, [yaw, pitch, roll], atol=6)


def test_a_rotated_picture_changes_only_roll_and_a_mirrored_one_the_signs_of_yaw_and_roll() -> None:
    points = np.concatenate([seen(20, 10, 5), seen(-35, -5, -20)])
    pose = head_pose(points)
    turn = cv2.getRotationMatrix2D((0, 0), -30, 1)[:, :2].astype(np.float32)  # clockwise
    np.testing.assert_allclose(head_pose(points @ turn.T), pose + np.array([0, 0, 30]), atol=0.2)
    np.testing.assert_allclose(head_pose(mirrored(points)), pose * [-1, 1, -1], atol=0.2)
    np.testing.assert_allclose(head_pose(3 * points + 100), pose, atol=0.2)


def test_no_faces_have_no_poses() -> None:
    assert head_pose(np.zeros((0, 5, 2), np.float32)).shape == (0, 3)


def test_the_pose_of_points_that_coincide_is_unknown() -> None:
    pose = head_pose(np.concatenate([np.full((1, 5, 2), 7, np.float32), seen(yaw=20)]))
    assert np.isnan(pose[0]).all() and pose[1, 0] == pytest.approx(20, abs=6) and pose.dtype == np.float32


@given(st.lists(st.integers(-2000, 2000) | st.sampled_from([0, 100]), min_size=10, max_size=10))
def test_any_points_have_a_pose(values: list[int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pose = head_pose(np.array(values, np.float32).reshape(1, 5, 2))
    assert np.isnan(pose).all() if len({*zip(values[::2], values[1::2], strict=True)}) == 1 else np.isfinite(pose).all()


class FakeNet:
    """Finds the points of `HEAD` with this roll, which it underrates, in every crop, and counts its calls."""

    def __init__(self, roll: float = 0, share: float = 1) -> None:
        self.roll, self.share, self.turns, self.calls = roll, share, 0.0, 0

    def __call__(self, crop: Array) -> Array:
        self.calls += 1
        sign = 1 if self.calls % 2 else -1  # every second crop is mirrored
        points = (seen(roll=sign * self.share * (self.roll - self.turns)) - np.float32([640, 360]) + 80).reshape(1, 10)
        return np.hstack([np.float32([[10, 10, 140, 140]]), points, np.float32([[0.9]])])


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> FakeNet:
    made, turn = FakeNet(), cv2.getRotationMatrix2D

    def noted(centre: tuple[float, float], degrees: float, scale: float) -> Array:
        made.turns = degrees
        return turn(centre, degrees, scale)

    monkeypatch.setattr(module, "_net", lambda: made)
    monkeypatch.setattr(cv2, "getRotationMatrix2D", noted)
    return made


IMAGE = np.full((100, 200, 3), 90, np.uint8)


def face(identity: int | None = 1, points: Array | None = None) -> Faces:
    ids = None if identity is None else np.array([identity])
    boxes = np.array([[20, 20, 80, 90]], np.float32)
    return Faces(boxes, np.ones(1, np.float32), ids, seen() if points is None else points)


def test_a_roll_that_the_points_underrate_is_found_by_turning_the_face_upright(net: FakeNet) -> None:
    net.roll, net.share = 30, 0.4
    (once,) = HeadPose()(IMAGE, face(None), 0.0)
    assert 20 < once[2] < 31
    pose = HeadPose()
    for k in range(8):
        (tracked,) = pose(IMAGE, face(), k * 0.25)
    assert tracked[2] == pytest.approx(30, abs=0.5)


def test_a_tracked_face_is_measured_five_times_a_second_and_one_without_an_id_always(net: FakeNet) -> None:
    pose = HeadPose()
    first = [pose(IMAGE, face(), k / 25) for k in range(25)]
    assert net.calls == 2 * (2 + 4) and all((each == first[0]).all() for each in first)
    pose(IMAGE, face(), 3.0)
    assert net.calls == 12 + 4, "long out of sight, it is measured like a new one"
    pose(IMAGE, face(2), 3.0)
    assert net.calls == 16 + 4, "and so is another face"
    for _ in range(3):
        pose(IMAGE, face(None), 4.0)
    assert net.calls == 20 + 12


def test_without_points_there_is_no_pose_and_where_none_are_found_it_is_unknown(net: FakeNet) -> None:
    assert HeadPose()(IMAGE, Faces(face().boxes, face().scores), 0.0) is None and net.calls == 0
    net.__class__ = type("Blind", (FakeNet,), {"__call__": lambda self, crop: np.zeros((0, 15), np.float32)})
    assert np.isnan(HeadPose()(IMAGE, face(), 0.0)).all()


@pytest.mark.shared
@pytest.mark.parametrize("name", ["single_face.mp4", "face_noface.mov"])
def test_in_rotated_and_mirrored_frames_of_clips_roll_and_yaw_follow(name: str) -> None:
    detect = Detector()

    def pose(image: Array) -> Array | None:
        faces = detect(Frame(image, 0, 0.0))
        poses = HeadPose()(image, faces, 0.0)
        return poses[0] if len(faces) == 1 else None

    errors, mirrored = [], []
    with open_source(str(MEDIA / name)) as source:
        for frame in islice(source, 0, 60, 20):
            height, width = frame.image.shape[:2]
            upright = pose(frame.image)
            assert upright is not None
            for angle in (-30, -15, 10, 20, 30):
                turn = cv2.getRotationMatrix2D((width / 2, height / 2), -angle, 1)
                rotated = pose(cv2.warpAffine(frame.image, turn, (width, height)))
                errors += [] if rotated is None else [rotated[2] - upright[2] - angle]
            other = pose(np.ascontiguousarray(frame.image[:, ::-1]))
            assert other is not None
            mirrored.append(other - upright * [-1, 1, -1])
    assert len(errors) >= 14 and np.abs(errors).max() < 4
    assert np.abs(mirrored).max() < 4


@pytest.mark.shared
def test_the_yaw_of_five_faces_of_a_photo_changes_its_sign_when_it_is_mirrored() -> None:
    with open_source(str(MEDIA / "multi_face.jpg")) as source:
        (frame,) = source
    yaws = []
    for image in (frame.image, np.ascontiguousarray(frame.image[:, ::-1])):
        faces = Detector()(image)
        order = np.argsort(faces.boxes[:, 0])
        yaws.append(HeadPose()(image, faces[order], 0.0)[:, 0])
    here, there = yaws[0], yaws[1][::-1]
    assert (np.abs(here) > 3).all() and (np.sign(here) == -np.sign(there)).all()
    np.testing.assert_allclose(here, -there, atol=4)
