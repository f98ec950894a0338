"""Augmentation of whole batches on their device, as an albumentations pipeline describes it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fer.data.transforms import STEPS, Plan, Step, Unsupported, Values

Gate = Callable[[Values], Tensor]
"""Drawn numbers to bool (B, 1, 1, 1): which images are changed."""


class BatchAugmentation:
    """An albumentations pipeline for batches.

    Args:
        pipeline: An albumentations `Compose`. Only its parameters are read.
        shape: (C, H, W) of the images.
        device: Of the images.

    Raises:
        Unsupported: The pipeline cannot be applied to batches; the message is the name of what is not supported.
    """

    def __init__(self, pipeline: Any, shape: tuple[int, int, int], device: torch.device) -> None:
        plan = Plan(shape, device)
        self._steps, self._noises = _read(pipeline, plan, None), plan.noises
        self._low = torch.tensor(plan.low, device=device).view(-1, 1, 1, 1, 1)
        self._span = torch.tensor(plan.high, device=device).view(-1, 1, 1, 1, 1) - self._low
        self._function: Callable[[Tensor, Tensor, Tensor | None], Tensor] = self.apply

    def compile(self, **options: Any) -> None:
        """Compile the augmentation by `torch.compile(**options)`."""
        self._function = torch.compile(self.apply, **options)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment uint8 (B, C, H, W). What is drawn depends on the generator, which is on their device."""
        uniforms = torch.rand(len(self._low), len(images), 1, 1, 1, device=images.device, generator=generator)
        noise = None
        if self._noises:
            noise = torch.randn(self._noises, *images.shape, device=images.device, generator=generator)
        # The conversion is not compiled: it also copies, and CUDA graphs write all batches to the same memory.
        return self._function(images, uniforms, noise).to(torch.uint8)

    def apply(self, images: Tensor, uniforms: Tensor, noise: Tensor | None) -> Tensor:
        """Augment without drawing.

        Args:
            images: uint8 (B, C, H, W).
            uniforms: (D, B, 1, 1, 1) from 0 to 1, 1 excluded.
            noise: (n, B, C, H, W) from the standard normal distribution, or None if n is 0.

        Returns:
            float32 (B, C, H, W) in whole grey levels.
        """
        values = torch.addcmul(self._low, self._span, uniforms).unbind() if len(uniforms) else ()
        images = images.float()
        for step in self._steps:
            images = step(images, values, noise)
        return images


def _read(transform: Any, plan: Plan, parent: Gate | None, forced: bool = False) -> list[Step]:
    """Return the steps of a transform.

    Args:
        transform: Of albumentations.
        plan: Gets what they draw.
        parent: Which images reach it; None for all.
        forced: It was chosen by a `OneOf`, whose members ignore their own probability.
    """
    kind, step = type(transform).__name__, None
    if type(transform).__module__.partition(".")[0] == "albumentations":
        if kind == "OneOf":
            return _one_of(transform, plan, parent, 1.0 if forced else transform.p)
        gate = parent if forced or transform.p >= 1 else _between(plan.uniform(0, 1), 0, transform.p, parent)
        if kind in ("Compose", "Sequential"):
            return [step for part in transform.transforms for step in _read(part, plan, gate)]
        step = STEPS.get(kind)
    if step is None:
        raise Unsupported(kind)
    change = step(transform, plan)
    return [change if gate is None else lambda x, v, n: torch.where(gate(v), change(x, v, n), x)]


def _one_of(transform: Any, plan: Plan, parent: Gate | None, p: float) -> list[Step]:
    steps: list[Step] = []
    drawn, low = plan.uniform(0, 1), 0.0
    for part, share in zip(transform.transforms, transform.transforms_ps, strict=True):
        high = low + p * share
        steps += _read(part, plan, _between(drawn, low, high, parent), forced=True)
        low = high
    return steps


def _between(drawn: int, low: float, high: float, parent: Gate | None) -> Gate:
    """Return a gate for the images whose number is in [low, high), of those that pass `parent`."""

    def gate(values: Values) -> Tensor:
        chosen = values[drawn] < high
        if low > 0:
            chosen = chosen & (values[drawn] >= low)
        return chosen if parent is None else parent(values) & chosen

    return gate
