"""ONNX: `model.onnx`, run by ONNX Runtime. It contains no code, so files from elsewhere need not be trusted."""

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer.artifact.formats.base import Format, Predict, register
from fer.artifact.metadata import METADATA_FILE, Metadata
from fer.errors import ArtifactError

if TYPE_CHECKING:
    from fer.artifact.network import InferenceModel


def save(model: "InferenceModel", metadata: Metadata, path: Path) -> None:
    """Export with any number of images and any height and width; the input is RGB, uint8 (N, 3, H, W)."""
    import onnx
    import torch  # takes a second

    from fer.artifact.network import exportable

    for package in ("onnx_ir", "onnxscript"):
        logging.getLogger(package).setLevel(logging.WARNING)  # else ten lines on each optimisation
    module, example, shapes = exportable(model.backbone, metadata)
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["probabilities"]}
    with warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(module, example, dynamo=True, dynamic_shapes=shapes, verbose=False, **names)
    assert program is not None
    proto = program.model_proto  # a new one each time
    for part in (proto.graph, *proto.graph.node):
        del part.metadata_props[:]  # PyTorch's own view of the network, with paths of source files
    onnx.helper.set_model_props(proto, {METADATA_FILE: metadata.to_json()})
    path.write_bytes(proto.SerializeToString())


def read_metadata(path: Path) -> Metadata:
    """Read the metadata from the model's properties."""
    from fer import ort

    text = ort.session(path, threads=1).get_modelmeta().custom_metadata_map.get(METADATA_FILE)
    if text is None:
        raise ArtifactError("it is not an artifact")
    return Metadata.from_json(text)


def load(path: Path, metadata: Metadata, device: str, raw: bool, threads: int | None) -> Predict:
    """Open a session. `raw` undoes the temperature, which is impossible with flip averaging."""
    from fer import ort

    if raw and metadata.flip:
        raise ArtifactError("evaluation cannot undo its flip averaging; export with flip=false")
    session = ort.session(path, device, threads)

    def predict(images: np.ndarray) -> np.ndarray:
        rgb = np.broadcast_to(images, (len(images), 3, *images.shape[2:]))
        probabilities: np.ndarray = session.run(None, {"images": np.ascontiguousarray(rgb)})[0]
        if not raw:
            return probabilities
        logits = np.log(probabilities.clip(1e-30)) * metadata.temperature
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(1, keepdims=True))

    return predict


register(Format("onnx", ".onnx", save, load, read_metadata, runs_code=False, arrays=True))
