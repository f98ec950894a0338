"""Sessions of ONNX Runtime, which runs the face detector and ONNX artifacts."""

import re
from pathlib import Path
from typing import Any

import cv2
import onnxruntime

from fer.errors import ConfigError

onnxruntime.disable_telemetry_events()  # on Windows, earlier releases do not know the variable that `fer` sets

CORES = cv2.getNumberOfCPUs()
"""CPU cores that this process may use."""

HALF = max(1, CORES // 2)
"""Half of them, for a stage of a film, beside which others run."""

_DOT_PRODUCTS = ("AVX512VNNI", "AVX_VNNI", "NEON_DOTPROD")
"""Names that OpenCV gives the instructions."""


def gpu() -> bool:
    """Whether the installed ONNX Runtime can run on a CUDA GPU. The usual package cannot; `onnxruntime-gpu` can."""
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def session(model: bytes | Path, device: str = "cpu", threads: int | None = None) -> Any:
    """Open a model.

    Args:
        model: A file, or the content of one.
        device: cpu, cuda, or cuda:1; "auto" is the GPU where this ONNX Runtime can run on one.
        threads: CPU threads, None for one on each core.

    Returns:
        An `onnxruntime.InferenceSession`, which several threads may use.

    Raises:
        ConfigError: The device is unknown, or a GPU that is not there or that this ONNX Runtime cannot use.
        Exception: The model cannot be read.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(device)):
        raise ConfigError(f"device={device} is unknown; choose auto, cpu, cuda or cuda:1")
    if device.startswith("cuda") and not gpu():
        raise ConfigError(f"device={device}: this ONNX Runtime has no CUDA; use device=cpu, or install onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or CORES
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would take the cores of other stages
    options.log_severity_level = 4  # errors are raised anyway
    on_gpu = device.startswith("cuda") or (device == "auto" and gpu())
    index = int(device.partition(":")[2] or 0)
    gpus = [("CUDAExecutionProvider", {"device_id": index})] if on_gpu else []
    source = model if isinstance(model, bytes) else str(model)
    opened = onnxruntime.InferenceSession(
        source,
        options,
        providers=[*gpus, "CPUExecutionProvider"],
        enable_fallback=int(device == "auto"),  # it prints lines of its own, and takes the CPU for a GPU that fails
    )
    if device.startswith("cuda") and "CUDAExecutionProvider" not in opened.get_providers():
        raise ConfigError(f"device={device}: ONNX Runtime finds no such GPU; use device=cpu or device=auto")
    return opened


def fast_int8() -> bool:
    """Whether this CPU multiplies int8 with sums of 32 bits in one instruction (VNNI, or the dot product of ARM).

    On others, int8 is hardly faster than float32, and on older Intel and AMD CPUs its sums can overflow 16 bits.
    """
    return any(cv2.getHardwareFeatureName(k) in _DOT_PRODUCTS and cv2.checkHardwareSupport(k) for k in range(256))
