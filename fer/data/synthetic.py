"""Faces drawn from a seed: no download, labels that are correct by construction, and a fair test for a network.

Expressions are made of the action units (AU) of the Facial Action Coding System (Ekman & Friesen 1978;
Ekman, Friesen & Hager 2002), in the combinations that the FACS Investigator's Guide lists for the emotions.
Everything else (identity, pose, light) is independent of the label and moves the features by more than an
emotion does. So a linear model of the pixels fails (accuracy about 0.3 with seven classes) where a small
convolutional network succeeds (0.99).
"""

import math

import cv2
import numpy as np

from fer.checks import check_number
from fer.data.base import Split
from fer.labels import EMOTIONS

ACTION_UNITS: dict[str, tuple[int, ...]] = {
    "angry": (4, 5, 7, 23),
    "disgust": (9, 15, 16),
    "fear": (1, 2, 4, 5, 20, 25),
    "happy": (6, 12),
    "sad": (1, 4, 15),
    "surprise": (1, 2, 5, 26),
    "neutral": (),
}
"""FACS action units that make up each emotion.

1 inner brow raised · 2 outer brow raised · 4 brows lowered, drawn together · 5 upper lid raised ·
6 cheeks raised · 7 lids tightened · 9 nose wrinkled · 12 lip corners pulled up · 15 lip corners pulled down ·
16 lower lip lowered · 20 lips stretched · 23 lips tightened · 25 lips part · 26 jaw drops.
"""

_CANVAS = 192  # side in pixels that faces are drawn at; shrinking them smooths the edges
_TURN = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_T = np.linspace(0, 1, 11)


def read(seed: int = 0, train: int = 3500, val: int = 700, test: int = 700, size: int = 48) -> dict[str, Split]:
    """Draw a dataset of the seven emotions.

    An image depends only on (seed, split, row, size): a longer split begins with the shorter one, and no two splits
    share an image.

    Args:
        seed: Of all that is random.
        train, val, test: Images per split, one per emotion at least. The classes alternate.
        size: Side of the square images in pixels, 24 to 4096.

    Returns:
        The splits train, val and test: uint8 (N, size, size) grey, classes `fer.labels.EMOTIONS`.

    Raises:
        ConfigError: An argument is out of range.
    """
    check_number("seed", seed, whole=True)
    check_number("data.size", size, 24, 4096, whole=True)  # brows are not visible in smaller ones
    counts = {"train": train, "val": val, "test": test}
    for name, count in counts.items():
        check_number(name, count, len(EMOTIONS), 10**9, whole=True)
    splits = {}
    for number, (name, count) in enumerate(counts.items()):
        images = np.empty((count, size, size), dtype=np.uint8)
        labels = np.arange(count, dtype=np.int64) % len(EMOTIONS)
        for row in range(count):
            images[row] = draw(EMOTIONS[labels[row]], np.random.default_rng((seed, number, row)), size)
        splits[name] = Split(images, labels, EMOTIONS)
    return splits


def draw(emotion: str, rng: np.random.Generator, size: int = 48) -> np.ndarray:
    """Draw a face that shows `emotion`, one of `EMOTIONS`: uint8 (size, size), grey.

    `rng` decides everything else: the same state gives the same person in the same picture.
    """
    units = _intensities(emotion, rng)
    side = size * max(2, math.ceil(_CANVAS / size))
    pen, skin = _Pen(_background(rng, side), rng), rng.uniform(70, 225)
    hair = rng.uniform(150, 235) if rng.random() < 0.25 else rng.uniform(10, 80)
    _head(pen, rng, skin, hair, units)
    _nose(pen, rng, skin, units)
    _mouth(pen, rng, skin, units)
    _eyes(pen, rng, skin, hair, units)
    return _photograph(pen.canvas, rng, size)


class _Pen:
    """Draws in face units (the face's half height is 1, x to the right, y down) on a head that is turned.

    Points move as on a sphere of radius 1 under yaw and pitch; then the picture is rolled, scaled and shifted.
    """

    def __init__(self, canvas: np.ndarray, rng: np.random.Generator) -> None:
        side = canvas.shape[0]
        self.canvas = canvas
        self.scale = 0.45 * side * rng.uniform(0.86, 1.14)
        self.shift = side / 2 + rng.uniform(-5 / 48, 5 / 48, 2) * side
        turn = np.radians((rng.uniform(-16, 16), rng.uniform(-10, 10)))  # yaw and pitch
        self.slide, self.shrink = 0.6 * np.sin(turn), np.cos(turn)
        roll = np.radians(rng.uniform(-18, 18))
        rotation = np.array([(np.cos(roll), np.sin(roll)), (-np.sin(roll), np.cos(roll))])
        stretch = rng.uniform(0.94, 1.06)
        self.matrix = self.scale * np.diag((stretch, 1 / stretch)) @ rotation

    def fill(self, points: np.ndarray, grey: float, flat: bool = False) -> None:
        """Draw a filled polygon; `flat` for outlines of the head, which do not move with its surface."""
        cv2.fillPoly(self.canvas, [self._pixels(points, flat)], grey)

    def line(self, points: np.ndarray, grey: float, width: float, closed: bool = False) -> None:
        """Draw an open or closed line, `width` in face units."""
        cv2.polylines(self.canvas, [self._pixels(points)], closed, grey, max(1, round(width * self.scale)))

    def _pixels(self, points: np.ndarray, flat: bool = False) -> np.ndarray:
        if not flat:
            depth = np.sqrt(np.clip(1 - np.square(points).sum(axis=1, keepdims=True), 0, 1))
            points = points * self.shrink + depth * self.slide
        return np.rint(points @ self.matrix + self.shift).astype(np.int32)


def _oval(x: float, y: float, width: float, height: float) -> np.ndarray:
    """(24, 2) points, from the right downwards."""
    return _CIRCLE * (width, height) + (x, y)


def _curve(*points: tuple[float, float]) -> np.ndarray:
    """(11, 2) points of the parabola through three: its start, its middle and its end."""
    weights = np.stack([(1 - _T) * (1 - 2 * _T), 4 * _T * (1 - _T), _T * (2 * _T - 1)], axis=1)
    return weights @ np.array(points)


def _apart(grey: float, skin: float, least: float) -> float:
    """`grey`, moved away from that of the skin to differ by at least `least`, which must be 60 or less."""
    darker = grey < skin or skin + least > 250
    return min(grey, skin - least) if darker else max(grey, skin + least)


def _intensities(emotion: str, rng: np.random.Generator) -> np.ndarray:
    """(27,) intensity of each action unit, 0 or, for those of the emotion, 0.7 to 1."""
    strength, laughs = rng.uniform(0.7, 1, 27), rng.random() < 0.5
    lips = (25,) if emotion == "happy" and laughs else ()  # people smile with closed lips and with parted ones
    active = ACTION_UNITS[emotion] + lips
    return np.where(np.isin(np.arange(27), active), strength, 0)


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """A room: float32 (side, side), a wall with up to four boxes on it."""
    canvas = np.full((side, side), rng.uniform(0, 255), dtype=np.float32)
    for _ in range(rng.integers(0, 5)):
        (x, y), (w, h) = rng.integers(0, side, 2).tolist(), rng.integers(side // 8, side, 2).tolist()
        cv2.rectangle(canvas, (x - w // 2, y - h // 2), (x + w // 2, y + h // 2), rng.uniform(0, 255), -1)
    return canvas


def _head(pen: _Pen, rng: np.random.Generator, skin: float, hair: float, u: np.ndarray) -> None:
    """Neck and shoulders, ears, face and hair; AU26 lengthens the jaw."""
    style = rng.choice(("bald", "short", "long"), p=(0.15, 0.5, 0.35))
    width, shade = rng.uniform(0.74, 0.9), 0.8 * skin
    if style == "long":
        pen.fill(_oval(0, 0.1, width + 0.2, 1.25), hair, flat=True)
    neck = 0.5 * width
    pen.fill(np.array([(-neck, 0.5), (neck, 0.5), (neck, 1.5), (-neck, 1.5)]), shade, flat=True)
    pen.fill(_oval(0, 2, 1.4, 0.75), rng.uniform(0, 255), flat=True)
    if style == "short":
        pen.fill(_oval(0, -0.3, width + 0.07, 0.82), hair, flat=True)
    if style != "long":
        for side in (-1, 1):
            pen.fill(_oval(side * width, -0.05, 0.1, 0.2), shade, flat=True)
    face = _oval(0, 0, width, 1)
    down = np.clip(face[:, 1], 0, 1)
    face *= np.stack([1 - rng.uniform(-0.1, 0.15) * down, 1 + 0.12 * u[26] * down], axis=1)
    pen.fill(face, skin, flat=True)
    if rng.random() < 0.15:  # a beard lies under the mouth, which is drawn on it
        cheeks = _curve((-0.9 * width, 0.2), (0, 0.42), (0.9 * width, 0.2))
        pen.fill(np.concatenate([face[face[:, 1] > 0.2], cheeks]), 0.5 * (skin + hair), flat=True)
    if style != "bald":
        line, parting = rng.uniform(-0.74, -0.66), rng.uniform(-0.4, 0.4)
        top = _oval(0, -0.02, width + 0.03, 1.08)
        temple = 0.7 * width
        fringe = [(width, -0.35), (temple, line), (parting, line - 0.1), (-temple, line), (-width, -0.35)]
        pen.fill(np.concatenate([top[top[:, 1] < -0.35], fringe]), hair, flat=True)


def _nose(pen: _Pen, rng: np.random.Generator, skin: float, u: np.ndarray) -> None:
    """AU9 raises the nose and wrinkles its bridge; AU6, 9 and 12 deepen the folds from nose to mouth."""
    tip, wing = rng.uniform(0.17, 0.25) - 0.04 * u[9], rng.uniform(0.09, 0.13) + 0.03 * u[9]
    pen.line(_curve((-wing, tip - 0.04), (0, tip + 0.05), (wing, tip - 0.04)), 0.68 * skin, 0.045)
    lit = rng.choice((-1, 1))
    pen.line(np.array([(lit * 0.04, -0.12), (lit * 0.8 * wing, tip - 0.06)]), 0.85 * skin, 0.035)
    if u[9]:
        for y in (-0.22, -0.11, 0.0):
            pen.line(_curve((-0.12, y + 0.04), (0, y - 0.03), (0.12, y + 0.04)), 0.5 * skin, 0.035)
    if u[6] or u[9] or u[12]:
        top, low = tip - 0.04, 0.42 - 0.06 * u[12]
        for side in (-1, 1):
            fold = _curve((wing + 0.05, top), (wing + 0.24, (top + low) / 2 - 0.02), (wing + 0.33, low + 0.04))
            pen.line(fold * (side, 1), 0.68 * skin, 0.035)


def _mouth(pen: _Pen, rng: np.random.Generator, skin: float, u: np.ndarray) -> None:
    """AU12 and 15 move the corners, 20 and 23 the width, 16, 25 and 26 the opening; 23 thins the lips."""
    half = rng.uniform(0.27, 0.33) + 0.11 * u[12] + 0.12 * u[20] - 0.08 * u[23] - 0.08 * u[26]
    y = rng.uniform(0.5, 0.56) + 0.06 * u[26]
    corner, skew = y - 0.13 * u[12] + 0.13 * u[15] + rng.uniform(-0.02, 0.02), rng.uniform(-0.02, 0.02)
    middle = y + 0.03 * u[12] - 0.04 * u[15]
    top = middle - 0.05 * u[25] - 0.14 * u[26] - 0.05 * u[16]
    low = middle + 0.07 * u[25] + 0.20 * u[26] + 0.11 * u[16]
    thin = 1 - 0.65 * u[23]
    upper, lower = thin * rng.uniform(0.05, 0.08), thin * rng.uniform(0.06, 0.1)
    painted = rng.uniform(1.1, 1.3) if rng.random() < 0.2 else rng.uniform(0.5, 0.75)
    lips, dark = min(_apart(painted * skin, skin, 30), 250), min(0.25 * skin, 40)

    def lip(height: float, pushed: float) -> np.ndarray:
        """A line from corner to corner; stretched lips (AU20) part as a slot, so push its sides out."""
        line = _curve((-half, corner - skew), (0, height), (half, corner + skew))
        line[:, 1] += pushed * 0.06 * u[20] * np.clip(4 * _T * (1 - _T), 0, 0.7)
        return line

    above, below = lip(top, -1), lip(low, 1)
    pen.fill(np.concatenate([lip(top - upper, -1), lip(low + lower, 1)[::-1]]), lips)
    if low - top > 0.04:
        pen.fill(np.concatenate([above, below[::-1]]), dark)
        bite = (above + below) / 2
        if u[25]:
            pen.fill(np.concatenate([above, bite[::-1]]), 240)
        if u[16]:  # the lowered lip bares the lower teeth
            pen.fill(np.concatenate([bite, below[::-1]]), 240)
    else:
        pen.line(above, dark, 0.045)
    if u[15] or u[23]:  # the chin bulges under corners pulled down and under pressed lips
        chin = low + lower + 0.09
        pen.line(_curve((-0.13, chin + 0.03), (0, chin), (0.13, chin + 0.03)), 0.75 * skin, 0.035)


def _eyes(pen: _Pen, rng: np.random.Generator, skin: float, hair: float, u: np.ndarray) -> None:
    """Both eyes and brows alike, the furrows between and above the brows, and sometimes glasses.

    AU5, 6, 7 and 9 move the lids, 1, 2, 4 and 9 the brows.
    """
    apart, level, half = rng.uniform(0.31, 0.38), rng.uniform(-0.19, -0.12), rng.uniform(0.17, 0.21)
    raised = rng.uniform(0.085, 0.105) + 0.085 * u[5] - 0.03 * u[9] - 0.025 * u[1] * u[15]
    lowered = rng.uniform(0.06, 0.08) - 0.06 * u[6] - 0.05 * u[7] - 0.03 * u[9]
    gaze = rng.uniform(-0.05, 0.05)
    iris, white = rng.uniform(5, 70), max(rng.uniform(215, 255), min(skin + 40, 255))
    brow, thick, arch = _apart(hair, skin, 55), rng.uniform(0.06, 0.1), rng.uniform(0.02, 0.05)
    height, tilt = level - rng.uniform(0.2, 0.24), rng.uniform(-0.015, 0.015)
    # AU4 alone draws the inner ends of the brows together and down; with AU1, together and up.
    inner = -0.14 * u[1] + (0.03 if u[1] else 0.13) * u[4] + 0.09 * u[9] + tilt
    outer = -0.13 * u[2] + 0.01 * u[4] + 0.02 * u[9] + (0 if u[2] else 0.06) * u[1] + 0.02
    straight = 0.7 if u[4] else 0
    bow = (inner + outer) / 2 - 0.01 - arch * (1 - straight) - 0.03 * u[2] * (1 - straight)
    for side in (-1, 1):
        x = side * apart
        a, b = (x - side * half, level + 0.02), (x + side * half, level - 0.01)  # inner and outer corner
        upper, lower = _curve(a, (x, level - raised), b), _curve(a, (x, level + lowered), b)
        pen.fill(np.concatenate([upper, lower[::-1]]), white)
        disc = _oval(x + gaze, level + 0.005, 0.085, 0.095)  # of constant size, so that AU5 shows white above it
        along = (disc[:, 0] - a[0]) / (b[0] - a[0])
        disc[:, 1] = np.clip(disc[:, 1], np.interp(along, _T, upper[:, 1]), np.interp(along, _T, lower[:, 1]))
        pen.fill(disc, iris)
        pen.line(upper, 0.35 * skin, 0.05)
        pen.line(lower, 0.7 * skin, 0.03)
        if u[6] or u[7]:  # a bag under raised cheeks and under tightened lids
            bag = level + (0.09 if u[6] else 0.06)
            pen.line(_curve((a[0], bag), (x, bag + lowered), (b[0], bag - 0.01)), 0.7 * skin, 0.03)
        near, far = x - side * (half + 0.01 + 0.06 * u[4]), x + side * (half + 0.03)
        pen.line(_curve((near, height + inner), (x, height + bow), (far, height + outer)), brow, thick)
        if u[4]:
            furrow = height + 0.05 - 0.06 * u[1]
            pen.line(np.array([(side * 0.055, furrow - 0.07), (side * 0.045, furrow + 0.07)]), 0.6 * skin, 0.035)
    if u[1]:
        pen.line(_curve((-0.28, level - 0.46), (0, level - 0.49), (0.28, level - 0.46)), 0.75 * skin, 0.03)
    if rng.random() < 0.2:
        _glasses(pen, rng, _apart(rng.uniform(0, 255), skin, 55), apart, level)


def _glasses(pen: _Pen, rng: np.random.Generator, grey: float, apart: float, level: float) -> None:
    """The bridge and two rims, in shape between a rounded box and an oval."""
    wide, tall, round_ = rng.uniform(0.24, 0.27), rng.uniform(0.2, 0.25), rng.uniform(0.5, 1)
    rim = np.sign(_CIRCLE) * np.abs(_CIRCLE) ** round_ * (wide, tall)
    for side in (-1, 1):
        pen.line(rim + np.array((side * apart, level + 0.03)), grey, 0.035, closed=True)
    pen.line(np.array([(wide - apart, level), (apart - wide, level)]), grey, 0.035)


def _photograph(canvas: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """Simulate light from one side, a lens and a sensor: float32 (side, side) → uint8 (size, size)."""
    image = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    angle, slope, ramp = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.5), np.linspace(-1, 1, size)
    light = 1 + slope * (np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None])
    image = image * light * rng.uniform(0.65, 1) + rng.uniform(0, 30)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.2, 0.7) * size / 48)
    image += rng.normal(0, rng.uniform(1, 7), (size, size))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
