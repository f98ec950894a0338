"""The transforms of albumentations 2.0.8 for whole batches, each image with random parameters of its own.

Where albumentations rounds or truncates to whole grey levels, so do the functions here.
"""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Values = Sequence[Tensor]
"""One (B, 1, 1, 1) for each number that is drawn for an image."""
Step = Callable[[Tensor, Values, Tensor | None], Tensor]
"""(float32 (B, C, H, W) in whole grey levels, drawn numbers, normal noise (n, B, C, H, W)) to new images."""

_NEAREST, _LINEAR, _AREA = 0, 1, 3  # OpenCV's numbers
_PADDING = {0: ("zeros", False), 1: ("border", False), 2: ("reflection", False), 4: ("reflection", True)}
"""OpenCV's border modes as `padding_mode` and `align_corners` of `grid_sample`."""


class Unsupported(Exception):
    """A pipeline has a transform, or a transform an option, that only albumentations knows."""


class Plan:
    """What the steps of a pipeline draw for each image, counted while they are made."""

    def __init__(self, shape: tuple[int, int, int], device: torch.device) -> None:
        self.channels, self.height, self.width = shape
        self.device = device
        self.low: list[float] = []
        self.high: list[float] = []
        self.noises = 0

    def uniform(self, low: float, high: float) -> int:
        """Return the index of a number that is uniform between the two."""
        self.low.append(float(low))
        self.high.append(float(high))
        return len(self.low) - 1

    def whole(self, low: int, high: int) -> int:
        """Return the index of a number that, rounded down, is `low` … `high` with equal probabilities."""
        return self.uniform(low, low + (high - low + 1) * 0.9999)  # below the next one in float32, too

    def noise(self) -> int:
        """Return the index of normal noise for every pixel."""
        self.noises += 1
        return self.noises - 1


def _truncated(images: Tensor) -> Tensor:
    """Return what `numpy.clip(images, 0, 255).astype("uint8")` makes of images."""
    return images.clamp(0, 255).floor()


def _flip(dim: int) -> Callable[[Any, Plan], Step]:
    return lambda transform, plan: lambda images, values, noise: images.flip(dim)


def _affine(transform: Any, plan: Plan) -> Step:
    """Sample at S⁻¹ R⁻¹ H⁻¹ (p - t), p from the centre: scaling S, rotation R, shear H and shift t, in this order."""
    if transform.fit_output or transform.balanced_scale:
        raise Unsupported("Affine with fit_output or balanced_scale")
    if transform.interpolation not in (_NEAREST, _LINEAR) or transform.border_mode not in _PADDING:
        raise Unsupported(f"Affine with interpolation={transform.interpolation}, border_mode={transform.border_mode}")
    mode = "nearest" if transform.interpolation == _NEAREST else "bilinear"
    padding, corners = _PADDING[transform.border_mode]
    wide, high = max(plan.width - corners, 1), max(plan.height - corners, 1)  # pixels between -1 and 1 of a grid
    angle = plan.uniform(*map(math.radians, transform.rotate))
    shear = [plan.uniform(*(-math.radians(limit) for limit in transform.shear[axis])) for axis in "xy"]
    sheared = any(limit for axis in "xy" for limit in transform.shear[axis])
    scale = [plan.uniform(*(n / 2 * s for s in transform.scale[a])) for a, n in (("x", wide), ("y", high))]
    if transform.translate_px is not None:
        rounded = torch.floor
        shift = [plan.whole(*map(int, transform.translate_px[axis])) for axis in "xy"]
    else:
        rounded, size = torch.trunc, {"x": plan.width, "y": plan.height}
        shift = [plan.uniform(*(size[axis] * part for part in transform.translate_percent[axis])) for axis in "xy"]
    fill = _levels(transform.fill, plan) if padding == "zeros" else []

    def step(images: Tensor, values: Values, noise: Tensor | None) -> Tensor:
        height, width = images.shape[-2:]
        x = _positions(width, images).view(-1, 1) - (width - 1) / 2 - rounded(values[shift[0]])
        y = _positions(height, images).view(-1, 1, 1) - (height - 1) / 2 - rounded(values[shift[1]])
        cos, sin = values[angle].cos(), values[angle].sin()
        scales = [values[scale[0]], values[scale[0]] * (high / wide) if transform.keep_ratio else values[scale[1]]]
        of_x, of_y = [cos, sin], [-sin, cos]
        if sheared:
            a, b = values[shear[0]].tan(), values[shear[1]].tan()
            of_x, of_y = [cos + sin * b, sin - cos * b], [-(cos * a + sin), cos - sin * a]
            scales = [s * (1 - a * b) for s in scales]
        divisor = torch.cat(scales, -1)
        grid = torch.addcmul(torch.cat(of_x, -1) / divisor * x, torch.cat(of_y, -1) / divisor, y)
        if not fill:
            return F.grid_sample(images, grid, mode, padding, corners).round()
        outside = torch.cat([values[i] for i in fill], 1)
        return (F.grid_sample(images - outside, grid, mode, padding, corners) + outside).round()

    return step


def _levels(fill: Any, plan: Plan) -> list[int]:
    """Return the indices of a fixed grey level for each channel, none if all are 0."""
    levels = [fill] * plan.channels if isinstance(fill, int | float) else list(fill)[: plan.channels]
    return [plan.uniform(int(level), int(level)) for level in levels] if any(levels) else []


def _positions(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, device=like.device, dtype=like.dtype)


def _brightness_contrast(transform: Any, plan: Plan) -> Step:
    if transform.ensure_safe_range:
        raise Unsupported("RandomBrightnessContrast with ensure_safe_range")
    factor = plan.uniform(*(1 + limit for limit in transform.contrast_limit))
    added = plan.uniform(*(limit * (255 if transform.brightness_by_max else 1) for limit in transform.brightness_limit))

    def step(images: Tensor, values: Values, noise: Tensor | None) -> Tensor:
        level = values[added]
        if not transform.brightness_by_max:
            level = level * images.mean((1, 2, 3), keepdim=True)
        return _truncated(torch.addcmul(level, images, values[factor]))

    return step


def _gamma(transform: Any, plan: Plan) -> Step:
    gamma = plan.uniform(*(limit / 100 for limit in transform.gamma_limit))
    return lambda images, values, noise: _truncated((images / 255) ** values[gamma] * 255)


def _noise(transform: Any, plan: Plan) -> Step:
    if transform.noise_scale_factor != 1:
        raise Unsupported("GaussNoise with noise_scale_factor")
    index, shared = plan.noise(), not transform.per_channel
    std, mean = (plan.uniform(*(255 * limit for limit in r)) for r in (transform.std_range, transform.mean_range))

    def step(images: Tensor, values: Values, noise: Tensor | None) -> Tensor:
        assert noise is not None
        normal = noise[index, :, :1] if shared else noise[index]
        return (images + torch.addcmul(values[mean], normal, values[std]).trunc()).clamp(0, 255)

    return step


def _blur(transform: Any, plan: Plan) -> Step:
    """Multiply by a Gaussian's matrices, as a separable filter does. The image is mirrored about its last pixels."""
    least, most = transform.blur_limit
    sigma = plan.uniform(*(max(limit, 1e-3) for limit in transform.sigma_limit))
    length = plan.whole(least, most)
    radius = max(most // 2, 0 if least else int(transform.sigma_limit[1] * 3.5))
    if radius >= min(plan.height, plan.width):
        raise Unsupported("GaussianBlur with a kernel larger than the image")
    mirrored = {size: _mirrored(size, plan.device) for size in (plan.height, plan.width)}

    def step(images: Tensor, values: Values, noise: Tensor | None) -> Tensor:
        radius = (values[length] / 2).floor()
        if not least:  # then the length follows from sigma
            radius = torch.where(values[length] < 1, (values[sigma] * 3.5).floor(), radius)
        matrices = {}
        for size, distance in mirrored.items():
            weights = torch.exp(distance**2 / (-2 * values[sigma] ** 2)) * (distance <= radius)
            matrix = weights.sum(1, keepdim=True)
            matrices[size] = matrix / matrix.sum(-1, keepdim=True)
        return _transformed(images, matrices)

    return step


def _transformed(images: Tensor, matrices: dict[int, Tensor]) -> Tensor:
    """Multiply all columns and rows of images by the matrices, (B, 1, S, S), for their length S."""
    height, width = images.shape[-2:]
    return (matrices[height] @ images @ matrices[width].mT).round()


def _mirrored(size: int, device: torch.device) -> Tensor:
    """Return (3, S, S): distances of pixel i from pixel j and from its two mirror images, infinite if there is none."""
    i, j = torch.arange(size).view(-1, 1), torch.arange(size).view(1, -1)
    before = torch.where(j > 0, i + j, torch.inf)
    after = torch.where(j < size - 1, 2 * (size - 1) - i - j, torch.inf)
    return torch.stack([(i - j).abs().float(), before, after]).to(device)


def _downscale(transform: Any, plan: Plan) -> Step:
    """Multiply rows and columns by matrices that shrink and enlarge them."""
    down, up = (transform.interpolation_pair[way] for way in ("downscale", "upscale"))
    if down not in (_NEAREST, _LINEAR, _AREA) or up not in (_NEAREST, _LINEAR):
        raise Unsupported(f"Downscale with interpolations {down} and {up}")
    scale = plan.uniform(*transform.scale_range)

    def step(images: Tensor, values: Values, noise: Tensor | None) -> Tensor:
        sizes = {plan.height, plan.width}
        return _transformed(images, {n: _resampling(values[scale], _positions(n, images), down, up) for n in sizes})

    return step


def _resampling(scale: Tensor, pixels: Tensor, down: int, up: int) -> Tensor:
    """Return (B, 1, S, S), shrinking by `scale`, (B, 1, 1, 1), as `cv2.resize` does, and enlarging to the S pixels."""
    size, row = len(pixels), pixels.view(-1, 1)
    small = (scale * size).round().clamp(min=1)
    place = (row * small / size).floor() if up == _NEAREST else (row + 0.5) * small / size - 0.5
    place = torch.minimum(place.clamp(min=0), small - 1)
    needed = place if up == _NEAREST else row  # of the pixels of the small image
    if down == _AREA:
        overlap = torch.minimum(pixels + 1, (needed + 1) / scale) - torch.maximum(pixels, needed / scale)
        shrink = overlap.clamp(min=0)
        shrink = shrink / shrink.sum(-1, keepdim=True).clamp(min=1e-6)
    else:
        source = (needed / scale).floor() if down == _NEAREST else (needed + 0.5) / scale - 0.5
        shrink = _interpolation(source.clamp(0, size - 1), pixels)
    return shrink if up == _NEAREST else _interpolation(place, pixels) @ shrink


def _interpolation(source: Tensor, pixels: Tensor) -> Tensor:
    """Return the weights of the pixels in a linear interpolation at `source`."""
    return (1 - (source - pixels).abs()).clamp(min=0)


def _jpeg(transform: Any, plan: Plan) -> Step:
    """Quantise the cosines of 8 x 8 blocks (ITU-T T.81), of colours at half the size (JFIF), as libjpeg does."""
    if transform.compression_type != "jpeg" or plan.channels not in (1, 3):
        raise Unsupported(f"ImageCompression to {transform.compression_type} with {plan.channels} channels")
    quality, blocks = plan.whole(*transform.quality_range), -(-max(plan.height, plan.width) // 8)
    grey, colour = _quantisation().to(plan.device)
    # The first channel is taken for blue, as albumentations hands images to OpenCV.
    shares = torch.tensor([0.114, 0.587, 0.299], device=plan.device).view(3, 1, 1)
    numbers = torch.arange(8.0, device=plan.device)
    waves = F.normalize(torch.cos((numbers + 0.5) * numbers.view(-1, 1) * math.pi / 8))
    cosines = {n: torch.block_diag(*[waves] * n) for n in range(1, blocks + 1)}

    def coded(plane: Tensor, scale: Tensor, table: Tensor) -> Tensor:
        height, width = plane.shape[-2:]
        down, across = -(-height // 8), -(-width // 8)
        plane = F.pad(plane - 128, (0, 8 * across - width, 0, 8 * down - height), "replicate")
        steps = (table * scale + 0.5).floor().clamp(1, 255).repeat(1, 1, down, across)
        level = (cosines[down] @ plane @ cosines[across].mT * 8).round() / (8 * steps)
        level = (level.abs() + 0.5).floor().copysign(level)
        plane = cosines[down].mT @ (level * steps) @ cosines[across]
        return (plane.round() + 128).clamp(0, 255)[..., :height, :width]

    def coded_at_half_size(plane: Tensor, scale: Tensor) -> Tensor:
        height, width = plane.shape[-2:]
        half = F.avg_pool2d(F.pad(plane, (0, -width % 16, 0, height % 2), "replicate"), 2)
        half = (half + 0.25 + 0.25 * (_positions(half.shape[-1], half) % 2)).floor()  # up and down by turns
        half = coded(half, scale, colour)[..., : (width + 1) // 2]
        return F.interpolate(half, scale_factor=2, mode="bilinear").round()[..., :height, :width]

    def step(images: Tensor, values: Values, noise: Tensor | None) -> Tensor:
        percent = values[quality].floor()
        scale = torch.where(percent < 50, (5000 / percent).floor(), 200 - 2 * percent) / 100
        if plan.channels == 1:
            return coded(images, scale, grey)
        light = (images * shares).sum(1, keepdim=True)
        blue, red = (
            coded_at_half_size(((channel - light) / factor + 128).round(), scale) - 128
            for channel, factor in ((images[:, :1], 1.772), (images[:, 2:], 1.402))
        )
        light = coded(light.round(), scale, grey)
        channels = [light + 1.772 * blue, light - 0.344136 * blue - 0.714136 * red, light + 1.402 * red]
        return torch.cat(channels, 1).round().clamp(0, 255)

    return step


def _quantisation() -> Tensor:
    """Return the steps of quality 50 for grey and for colour, float32 (2, 8, 8), as JPEG files have them."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=50)
    tables = Image.open(file).quantization  # type: ignore[attr-defined]  # of JPEG images alone
    return torch.tensor([tables[0], tables[1]], dtype=torch.float32).view(2, 8, 8)


def _dropout(transform: Any, plan: Plan) -> Step:
    fill, (fewest, most) = transform.fill, transform.num_holes_range
    if isinstance(fill, str) and fill not in ("random", "random_uniform"):
        raise Unsupported(f"CoarseDropout with fill={fill}")
    number, noise_index = plan.whole(fewest, most), plan.noise() if fill == "random" else 0
    sides, places = [], []
    for size, (low, high) in ((plan.height, transform.hole_height_range), (plan.width, transform.hole_width_range)):
        if transform.hole_height_range[1] >= 1:  # in pixels
            sides.append([plan.whole(int(low), int(min(high, size))) for _ in range(most)])
        else:
            sides.append([plan.uniform(low * size, high * size) for _ in range(most)])
        places.append([plan.uniform(0, 0.9999) for _ in range(most)])
    levels = [plan.uniform(0, 255.99) for _ in range(most * plan.channels)] if fill == "random_uniform" else []
    fixed = [] if isinstance(fill, str) else _levels(fill, plan)

    def step(images: Tensor, values: Values, noise: Tensor | None) -> Tensor:
        inside = []  # of rows and of columns
        for size, side, place in zip(images.shape[-2:], sides, places, strict=True):
            length = torch.stack([values[i] for i in side]).floor()
            start = (torch.stack([values[i] for i in place]) * (size + 1 - length)).floor()
            pixels = _positions(size, images).view(-1, 1)
            inside.append(((pixels >= start) & (pixels < start + length)).unbind())
        content: Tensor | float = 0.0
        if fill == "random":
            assert noise is not None
            content = (torch.special.ndtr(noise[noise_index]) * 255.99).floor()
        elif fixed:
            content = torch.cat([values[i] for i in fixed], 1)
        for k, (rows, columns) in enumerate(zip(*inside, strict=True)):
            if levels:
                content = torch.cat([values[i] for i in levels[k * plan.channels :][: plan.channels]], 1).floor()
            hole = rows & columns.mT
            images = torch.where(hole & (values[number] >= k + 1) if k >= fewest else hole, content, images)
        return images

    return step


STEPS: dict[str, Callable[[Any, Plan], Step]] = {
    "NoOp": lambda transform, plan: lambda images, values, noise: images,
    "HorizontalFlip": _flip(-1),
    "VerticalFlip": _flip(-2),
    "Affine": _affine,
    "RandomBrightnessContrast": _brightness_contrast,
    "RandomGamma": _gamma,
    "GaussianBlur": _blur,
    "GaussNoise": _noise,
    "Downscale": _downscale,
    "ImageCompression": _jpeg,
    "CoarseDropout": _dropout,
}
"""For each transform of albumentations, the function that reads it."""
