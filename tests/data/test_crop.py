"""`data.crop=auto`: pictures are cut to the face in them."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from samples import ROOT

from fer.data import folder
from fer.data import pictures as pictures_
from fer.data.crop import FaceCropper
from fer.data.groups import Image
from fer.errors import ConfigError
from fer.faces import detect
from fer.faces.crop import crop_face
from fer.faces.detect import Detector
from fer.faces.types import Faces, Picture

RED, WHITE = (220, 30, 30), (250, 250, 250)
FACES = ROOT.parent / "shared" / "faces"


def face(side: int) -> np.ndarray:
    """A red square with a white strip on top: what `RedSquares` finds, best where the strip is on top."""
    image = np.full((side, side, 3), RED, np.uint8)
    image[: side // 5] = WHITE
    return image


def picture(*places: tuple[int, int, int], size: tuple[int, int] = (300, 200)) -> np.ndarray:
    """A dark picture with faces of a side at x and y."""
    image = np.full((size[1], size[0], 3), 20, np.uint8)
    for side, x, y in places:
        image[y : y + side, x : x + side] = face(side)
    return image


class RedSquares(Detector):
    """Finds what `face` draws: upright with a score of 0.9, upside down with 0.7, and not on its side."""

    def __init__(self) -> None:
        super().__init__()
        self.searched: list[int] = []

    def search(self, picture: Picture, widths: Iterable[int]) -> Faces:
        self.searched.append(picture.image.shape[1])
        found = []
        _, _, boxes, _ = cv2.connectedComponentsWithStats((picture.image[..., 0] > 120).astype(np.uint8))
        for x, y, w, h, _ in boxes[1:]:
            white = (picture.image[y : y + h, x : x + w, 1] > 120).astype(float)
            top, bottom = white[: h // 5].mean(), white[-(h // 5) :].mean()
            if w >= 20 and max(top, bottom) > 0.8:
                found.append((x, y, x + w, y + h, 0.9 if top > bottom else 0.7))
        rows = np.array(found, np.float32).reshape(-1, 5)
        return Faces(rows[:, :4], rows[:, 4])


@pytest.fixture
def cropper() -> FaceCropper:
    return FaceCropper(detector=RedSquares())


def is_face(image: np.ndarray) -> bool:
    """Whether an image, grey or RGB, shows a whole face, upright, and nothing else."""
    wanted = cv2.resize(face(100), image.shape[1::-1])
    wanted = wanted if image.ndim == 3 else cv2.cvtColor(wanted, cv2.COLOR_RGB2GRAY)
    return bool(np.abs(image.astype(int) - wanted).mean() < 12)


@pytest.mark.parametrize("turns", range(4))
def test_a_face_is_cut_out_and_turned_upright(turns: int, cropper: FaceCropper) -> None:
    turned = np.ascontiguousarray(np.rot90(picture((60, 200, 90)), turns))
    assert is_face(cropper(turned, 40, "a.png"))
    expected = ["pictures that are turned upright: 1, such as a.png"] if turns else []
    assert list(cropper.notes()) == expected


def test_the_crop_is_that_of_inference(cropper: FaceCropper) -> None:
    image = picture((60, 200, 90))
    assert np.array_equal(cropper(image, 24, "a"), crop_face(image, np.array([200, 90, 260, 150]), 0, 24))


def test_the_largest_of_several_faces_is_taken_and_the_pictures_are_counted(cropper: FaceCropper) -> None:
    assert is_face(cropper(picture((30, 10, 10), (60, 200, 90)), 40, "two.png"))
    cropper(picture((30, 10, 10), (31, 200, 90)), 40, "again.png")
    assert list(cropper.notes()) == ["pictures of several faces, of which the largest is used: 2, such as two.png"]


@pytest.mark.parametrize("image", [picture(), picture((90, 5, 5), size=(100, 100))], ids=["no face", "nothing else"])
def test_a_picture_without_a_face_and_one_that_is_a_face_already_stay_whole(
    image: np.ndarray, cropper: FaceCropper
) -> None:
    assert cropper(image, 40, "a.png") is image
    (*notes,) = cropper.notes()
    assert len(notes) == int(image.max() < 100)


def test_a_face_as_high_as_a_wide_picture_is_still_cut_out(cropper: FaceCropper) -> None:
    assert is_face(cropper(picture((95, 190, 3), size=(300, 100)), 40, "a.png"))


def test_larger_copies_of_a_photo_are_searched_only_if_the_small_one_shows_no_face() -> None:
    near, far = RedSquares(), RedSquares()
    assert is_face(FaceCropper(detector=near)(picture((700, 900, 300), size=(3000, 1500)), 40, "near"))
    assert max(near.searched) == 320
    assert is_face(FaceCropper(detector=far)(picture((100, 2000, 300), size=(3000, 1500)), 40, "far"))
    assert max(far.searched) > 900


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two classes whose faces are not in the middle; `RedSquares` finds them."""
    monkeypatch.setattr(detect, "Detector", RedSquares)
    for name in ("happy", "sad"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        for k in range(4):
            image = picture((60, 30 * k, 90)) if k else picture()
            cv2.imwrite(str(tmp_path / "faces" / name / f"{k}.png"), image[..., ::-1])
    return tmp_path / "faces"


@pytest.mark.parametrize("channels", [1, 3])
def test_folders_are_cropped_and_what_is_unusual_is_said_once(
    channels: int, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = folder.read(pictures, 20, channels, val_fraction=0.3, test_fraction=0.3, crop="auto")
    images = {name: image for split in splits.values() for name, image in zip(split.names, split.images, strict=True)}
    assert {name for name, image in images.items() if not is_face(image)} == {"happy/0.png", "sad/0.png"}
    (line,) = [record.message for record in caplog.records]
    assert "no face is found, which are cut to their central square: 2, such as" in line
    whole = folder.read_part("also", pictures, "all", 20, channels, "auto")
    assert sum(map(is_face, whole.images)) == 6


def test_a_picture_with_a_box_of_its_own_is_not_searched(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxed = [Image(pictures / "happy" / "1.png", "happy", box=(0, 0, 10, 10))]
    cropper = FaceCropper(detector=RedSquares())
    split = pictures_.load("train", boxed, ("happy",), 10, 1, pictures, [], cropper)
    assert (split.images == 20).all()
    assert list(cropper.notes()) == []


def test_an_unknown_crop_is_one_line(pictures: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.crop=face is unknown; choose null or auto"):
        folder.read(pictures, crop="face")


@pytest.mark.shared
def test_real_faces_are_found_however_they_are_turned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cropper = FaceCropper()
    for path in [sorted((FACES / "jaffe" / "happy").iterdir())[k] for k in (0, 12, 24)]:
        small = cv2.imread(str(path))
        canvas = rng.integers(90, 110, (1200, 900, 3), np.uint8)
        canvas[700:956, 500:756] = small
        expected = cropper(canvas, 48, "upright")
        for turns in (1, 2, 3):
            found = cropper(np.ascontiguousarray(np.rot90(canvas, turns)), 48, "turned")
            assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.6
    assert list(cropper.notes()) == ["pictures that are turned upright: 9, such as turned"]
