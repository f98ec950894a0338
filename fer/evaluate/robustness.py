"""Accuracy on images corrupted as bad cameras and bad light do.

After Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations".
"""

import itertools
import zlib
from collections.abc import Callable

import cv2
import numpy as np

STRENGTHS = (1, 2, 3)

# (image uint8 (S, S) or (S, S, 3), strength 0 to 2, generator) → the same shape and type.
Corrupt = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def _blur(image: np.ndarray, strength: int, _: np.random.Generator) -> np.ndarray:
    """Gaussian; standard deviation 1.5, 3 or 4.5 % of the side."""
    return cv2.GaussianBlur(image, (0, 0), (0.015, 0.03, 0.045)[strength] * image.shape[0])


def _noise(image: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian; standard deviation 8, 16 or 32 of 255."""
    noisy = image + rng.normal(0, (8, 16, 32)[strength], image.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _low_light(image: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """A half, a quarter or an eighth of the light, with the shot noise of a sensor that counts four photons a level."""
    photons = rng.poisson(image * 4.0 * (0.5, 0.25, 0.125)[strength])
    return np.minimum(np.rint(photons / 4), 255).astype(np.uint8)


def _low_resolution(image: np.ndarray, strength: int, _: np.random.Generator) -> np.ndarray:
    """A half, a third or a quarter of the side, scaled up again."""
    side = max(2, image.shape[0] // (2, 3, 4)[strength])
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _jpeg(image: np.ndarray, strength: int, _: np.random.Generator) -> np.ndarray:
    """Quality 30, 15 or 7."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, (30, 15, 7)[strength]])[1]
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR if image.ndim == 3 else cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    return decoded


def _occlusion(image: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """A grey square over 10, 20 or 35 % of the image, anywhere in it."""
    height, width = image.shape[:2]
    side = round((0.1, 0.2, 0.35)[strength] ** 0.5 * height)
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    covered = image.copy()
    covered[top : top + side, left : left + side] = 127
    return covered


CORRUPTIONS: dict[str, Corrupt] = {
    "blur": _blur,
    "noise": _noise,
    "low light": _low_light,
    "low resolution": _low_resolution,
    "jpeg": _jpeg,
    "occlusion": _occlusion,
}


def corrupted(images: np.ndarray, name: str, strength: int, seed: int = 0) -> np.ndarray:
    """Corrupt images.

    Args:
        images: uint8 (N, S, S), or RGB (N, S, S, 3).
        name: One of `CORRUPTIONS`.
        strength: 1 to 3.
        seed: Randomness depends only on this, the corruption, the strength and the row of the image.

    Returns:
        The same shape and dtype.
    """
    corrupt, key = CORRUPTIONS[name], zlib.crc32(name.encode())
    result = np.empty_like(images)
    for row, image in enumerate(images):
        bgr = np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image  # OpenCV's order
        worse = corrupt(bgr, strength - 1, np.random.default_rng((seed, key, strength, row)))
        result[row] = worse[..., ::-1] if image.ndim == 3 else worse
    return result


def evaluate(
    predict: Callable[[np.ndarray], dict[str, np.ndarray]], images: np.ndarray, labels: np.ndarray, seed: int
) -> dict[str, dict[str, float]]:
    """Measure the accuracy of models under every corruption and strength.

    Args:
        predict: Images → {name of the model: logits (N, K)}.
        images: As in `corrupted`.
        labels: Int (N,).
        seed: As in `corrupted`.

    Returns:
        Name of the model → `robustness/<corruption>/<strength>`, and `robustness/mean` over all of them.
    """
    result: dict[str, dict[str, float]] = {}
    for name, strength in itertools.product(CORRUPTIONS, STRENGTHS):
        for model, logits in predict(corrupted(images, name, strength, seed)).items():
            accuracy = float((logits.argmax(1) == labels).mean())
            result.setdefault(model, {})[f"robustness/{name.replace(' ', '_')}/{strength}"] = accuracy
    return {
        model: by_key | {"robustness/mean": float(np.mean(list(by_key.values())))} for model, by_key in result.items()
    }
