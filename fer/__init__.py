"""Facial emotion recognition: labelled faces in, one artifact out, emotions on live video."""

import os

# Photos have up to 200 million pixels; what claims many more would fill the memory. OpenCV reads this once, when it is
# first imported.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "250000000")
# From 1.29 on, ONNX Runtime reports to its makers when it is imported, and names the models that it opens.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
