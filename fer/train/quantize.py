"""int8 copies of ONNX artifacts, which take a third of the time where `fer.ort.fast_int8`.

Static quantisation after training: weights per output channel and symmetric, activations per tensor, stored as pairs of
QuantizeLinear and DequantizeLinear (Krishnamoorthi 2018, section 3). The range of an activation is the mean of its
minimum and maximum over small batches, so that no single image widens it.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fer import artifact
from fer.artifact.metadata import METADATA_FILE
from fer.data.base import Split, as_batch
from fer.data.folder import read_each
from fer.errors import ArtifactError
from fer.evaluate import classes, predict
from fer.evaluate.predict import Model
from fer.files import atomic_write

AGREEMENT, LOSS = 0.98, 0.003
"""The gate: least share of equal answers on the first set, and most accuracy that may be lost on any."""
_IMAGES, _BATCH, _SEED = 512, 8, 0
_WITH_WEIGHTS = ("Conv", "Gemm", "MatMul")
_IN_FLOAT32 = ("Normalization", "Softmax")  # those of transformers need the digits


def read_folders(paths: Sequence[str], known: Sequence[str], size: int, channels: int) -> dict[str, Split]:
    """Read the folders of `export.also` by name, without images of classes that the data does not have.

    Args:
        paths: Folders, in one of the layouts of `fer.data.folder`.
        known: Classes of the data.
        size, channels: Of the network's input.

    Raises:
        DataError: A folder cannot be read.
        ConfigError: A folder shares fewer than two classes with the data.
    """
    folders = read_each("export.also", paths, size, channels, ("val", "val_votes"))
    names = {name: classes.shared([("the data", known)], split.classes, name) for name, split in folders.items()}
    return {name: classes.only(split, names[name]) for name, split in folders.items()}


def quantize(source: Path, out: Path, images: np.ndarray, judged: Mapping[str, Split]) -> dict[str, float]:
    """Write an int8 copy of a float32 `.onnx` artifact, if its answers are good enough.

    Preprocessing, the last layer and softmax stay float32, so images of any size work as before.

    Args:
        source: The artifact.
        out: The copy, whose metadata also has `precision` and what is returned.
        images: Training images, uint8 (N, H, W) or (N, H, W, 3); ranges are taken from 512 of them.
        judged: Sets with two or more classes, all known to the model. On the first, `AGREEMENT` is required as well.

    Returns:
        `int8/agreement`, `int8/<set>/accuracy` and, of the source, `int8/<set>/accuracy_float32`, from 0 to 1.

    Raises:
        ArtifactError: The gate fails, or the network cannot be quantised. Nothing is written.
    """
    metadata = artifact.read_metadata(source)
    try:
        with atomic_write(out) as part:
            model = _quantized(source, part, images)
            _save(model, replace(metadata, precision="int8"), part)
            figures = _figures([_model(source), _model(part)], judged)
            if failure := _failure(figures, judged):
                raise ArtifactError(failure)
            _save(model, replace(metadata, precision="int8", metrics=metadata.metrics | figures), part)
    except ArtifactError:
        raise
    except Exception as error:  # networks vary, and ONNX Runtime raises anything
        raise ArtifactError(f"{source} cannot be quantised ({' '.join(str(error).split())[:200]})") from error
    return figures


def _quantized(source: Path, out: Path, images: np.ndarray) -> Any:
    """Quantise what lies between the first and the last layer with weights; return the `onnx.ModelProto`."""
    import onnx
    from onnxruntime import quantization as ort  # takes a second

    class Images(ort.CalibrationDataReader):
        """Batches of training images, by chance and whatever their class."""

        def __init__(self) -> None:
            self._batches = _batches(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._batches, None)

    model = onnx.load(source)
    if not (nodes := _between_weights(model.graph)):  # ONNX Runtime would take an empty list for all nodes
        raise ArtifactError("int8 needs a network with two or more layers")
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")  # else it warns
    with warnings.catch_warnings(action="ignore"):
        ort.quantize_static(
            model,
            out,
            Images(),
            quant_format=ort.QuantFormat.QDQ,
            per_channel=True,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            nodes_to_quantize=nodes,
            calibrate_method=ort.CalibrationMethod.MinMax,
            extra_options={"CalibMovingAverage": True},  # in fact the mean of all batches
        )
    return onnx.load(out)


def _batches(images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    chosen = np.random.default_rng(_SEED).choice(len(images), min(_IMAGES, len(images)), replace=False)
    for rows in np.split(np.sort(chosen), range(_BATCH, len(chosen), _BATCH)):
        yield {"images": as_batch(images[rows]).expand(-1, 3, -1, -1).numpy()}


def _between_weights(graph: Any) -> list[str]:
    """Return the names of the nodes that come after a layer with weights, or are one, and whose result reaches another.

    So neither preprocessing, nor the layer that makes the logits and what follows, even where `export.flip` repeats it;
    nor `_IN_FLOAT32`.
    """
    after: set[str] = set()
    before: set[str] = set()
    for node in graph.node:
        if node.op_type in _WITH_WEIGHTS or after.intersection(node.input):
            after.update(node.output)
    for node in reversed(graph.node):
        if node.op_type in _WITH_WEIGHTS or before.intersection(node.output):
            before.update(node.input)
    between = (node for node in graph.node if after.intersection(node.output) and before.intersection(node.output))
    return [node.name for node in between if not node.op_type.endswith(_IN_FLOAT32)]


def _save(model: Any, metadata: artifact.Metadata, path: Path) -> None:
    import onnx

    onnx.helper.set_model_props(model, {METADATA_FILE: metadata.to_json()})
    path.write_bytes(model.SerializeToString())


def _model(path: Path) -> Model:
    loaded = artifact.load(path, threads=torch.get_num_threads())
    return Model(path.name, path, loaded.metadata, lambda images: loaded(images).clamp_min(1e-30).log(), None)


def _figures(models: Sequence[Model], judged: Mapping[str, Split]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, split in judged.items():
        on_split = [classes.restrict(model, split.classes) for model in models]
        source, copy = (logits.argmax(1) for logits in predict.logits_of_all(on_split, split.images, False).values())
        figures.setdefault("int8/agreement", float((source == copy).mean()))
        figures[f"int8/{name}/accuracy"] = float((copy == split.labels).mean())
        figures[f"int8/{name}/accuracy_float32"] = float((source == split.labels).mean())
    return figures


def _failure(figures: Mapping[str, float], judged: Mapping[str, Split]) -> str:
    """Return why the gate fails, in one line with all figures, or ""."""
    pairs = {name: [figures[f"int8/{name}/accuracy{source}"] for source in ("_float32", "")] for name in judged}
    kept = all(before - after <= LOSS + 1e-9 for before, after in pairs.values())  # 0.5 - 0.497 is more than 0.003
    if figures["int8/agreement"] >= AGREEMENT and kept:
        return ""
    first = next(iter(judged))
    agreement, needed = (f"{100 * share:.4g} %" for share in (figures["int8/agreement"], AGREEMENT))
    accuracies = ", ".join(f"{name} {after:.2%} (float32 {before:.2%})" for name, (before, after) in pairs.items())
    return (
        f"the int8 model is too different: {agreement} of its answers on {first} are those of float32 ({needed} "
        f"needed); accuracy {accuracies} ({100 * LOSS:.1f} points may be lost); use model.onnx"
    )
