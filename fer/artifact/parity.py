"""The images on which an exported file is compared with its model."""

import numpy as np

PARITY = 1e-5
"""Largest difference between the probabilities of an exported file and those of its model."""


def golden_batch(channels: int, size: int, count: int = 5) -> np.ndarray:
    """Return the images of all parity checks: uint8 (count, channels, size, size), noise over smooth ramps."""
    noise = np.random.default_rng(2013).integers(0, 96, (count, channels, size, size))
    ramp = np.linspace(0, 159, size)
    tilt = np.linspace(0, 1, count).reshape(-1, 1, 1, 1)
    return (noise + tilt * ramp + (1 - tilt) * ramp[:, None]).astype(np.uint8)
