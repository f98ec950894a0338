"""Reading image files, for datasets and for the stream alike."""

import errno
from pathlib import Path

import cv2
import numpy as np

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # our own errors say it once


def read_image(path: Path) -> np.ndarray:
    """Read an image file; see `decode_image`. Works for names that `cv2.imread` cannot open on Windows.

    Raises:
        OSError: The file cannot be read or is not an image. Its `strerror` says which.
    """
    return decode_image(path.read_bytes())


def decode_image(data: bytes) -> np.ndarray:
    """Decode the content of an image file.

    The image is turned upright by its EXIF orientation, reduced from 16 bits to 8, and loses its alpha channel.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        OSError: Not an image, cut short, or more pixels than `OPENCV_IO_MAX_IMAGE_PIXELS` (see `fer/__init__.py`).
    """
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        if "_MAX_IMAGE_" in str(error):
            raise OSError(errno.EFBIG, "more pixels than can be processed; save it smaller") from None
        image = None
    if image is None or image.ndim != 3 or image.dtype != np.uint8:  # OpenCV returns grey PFM files as float32
        raise OSError(errno.EINVAL, "unknown format, or cut short")
    return image
