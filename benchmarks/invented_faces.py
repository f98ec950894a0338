"""Make fer/weights/rehearsal.png, the faces that fine-tuning rehearses where there is no FER-2013.

    python benchmarks/invented_faces.py --count 1536 --out fer/weights/rehearsal.png

takes half an hour on one core with AMX, and draws other faces for another seed. The sheet in the repository is of an
earlier version of this file, in two runs: 512 faces of 200 steps and 1,024 of 150.

The faces are nobody's: each begins as a random point of a Gaussian that has the mean and covariance of a class of
FER-2013, and is then changed until the included model's batch norm sees what it saw in its training (Yin et al. 2020,
"Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", section 3.2, with the answer to the first image
as the wanted class).
"""

import argparse
import copy
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fer import artifact, models
from fer.data import fer2013

SIDE, COLUMNS, BATCH = 48, 48, 256


def gaussian_faces(count: int, components: int, rng: np.random.Generator) -> np.ndarray:
    """Draw uint8 (count, 48, 48), as many of each class, in random order."""
    train = fer2013.read()["train"]
    pixels = train.images.reshape(len(train), -1).astype(np.float32)
    mean = pixels.mean(0)
    basis = np.linalg.eigh(np.cov((pixels - mean).T))[1][:, ::-1][:, :components].astype(np.float32)
    points, drawn = (pixels - mean) @ basis, []
    for label in range(len(train.classes)):
        own = points[train.labels == label]
        drawn.append(rng.multivariate_normal(own.mean(0), np.cov(own.T), -(-count // len(train.classes))))
    faces = np.concatenate(drawn) @ basis.T + mean
    return rng.permutation(faces.clip(0, 255).astype(np.uint8))[:count].reshape(-1, SIDE, SIDE)


class Dreamer:
    """Changes images until a network's batch norm sees the statistics that it keeps."""

    def __init__(self, name: str) -> None:
        metadata = artifact.read_metadata(name)
        arguments = {k: v for k, v in metadata.config["model"].items() if k != "pretrained"}
        net = models.create(classes=len(metadata.classes), channels=1, **arguments)
        net.load_state_dict(artifact.backbone_weights(name))
        self.net = copy.deepcopy(net).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.mean, self.std = metadata.mean[0], metadata.std[0]
        self._misses: list[Tensor] = []
        for module in self.net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_hook(self._compare)

    def _compare(self, norm: nn.BatchNorm2d, inputs: tuple[Tensor], _: Tensor) -> None:
        seen = inputs[0].float()
        mean, variance = seen.mean((0, 2, 3)), seen.var((0, 2, 3), unbiased=False)
        kept = norm.running_var + 1e-3
        self._misses.append(((mean - norm.running_mean) ** 2 / kept).mean() + ((variance / kept - 1) ** 2).mean())

    def logits(self, images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.net(((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)).float()

    def __call__(self, faces: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
        """Return the faces, uint8 (N, 48, 48), after `steps` steps."""
        images = torch.tensor(faces).float().unsqueeze(1) / 255
        wanted = self.logits(images).softmax(1) ** 2
        wanted = wanted / wanted.sum(1, keepdim=True)
        images.requires_grad_()
        optimizer = torch.optim.Adam([images], lr=0.02)
        for step in range(steps):
            self._misses.clear()
            optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
            moved = torch.roll(images, tuple(rng.integers(-2, 3, 2).tolist()), (2, 3))
            logits = self.logits(moved.flip(3) if rng.random() < 0.5 else moved)
            statistics = torch.stack(self._misses).mean()
            roughness = (images.diff(dim=2).abs().mean() + images.diff(dim=3).abs().mean()) * 0.3
            loss = statistics + 0.1 * F.cross_entropy(logits, wanted) + roughness
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                images.clamp_(0, 1)
        print(f"{len(faces)} faces, statistics {statistics:.4f}", flush=True)
        return (images.detach()[:, 0] * 255).round().byte().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1536, help="a multiple of 48")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--model", default="fast")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    faces, dream = gaussian_faces(arguments.count, 300, rng), Dreamer(arguments.model)
    made = [dream(faces[k : k + BATCH], arguments.steps, rng) for k in range(0, len(faces), BATCH)]
    rows = np.concatenate(made).reshape(-1, COLUMNS, SIDE, SIDE).swapaxes(1, 2)
    cv2.imwrite(str(arguments.out), rows.reshape(-1, COLUMNS * SIDE), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
