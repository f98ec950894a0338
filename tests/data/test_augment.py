"""Both engines of augmentation mean the same by a pipeline."""

from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from samples import config, operations
from scipy.stats import ks_2samp

from fer.data import synthetic
from fer.data.augment import BatchAugmentation
from fer.data.base import Split
from fer.data.dataset import EmotionDataset
from fer.data.transforms import Unsupported

CPU = torch.device("cpu")
FACES = synthetic.read(train=28, val=7, test=7, size=48)["train"].images
COLOUR = np.stack([FACES, FACES[:, ::-1], 255 - FACES], -1)


def batch(pipeline: Any, images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Augment uint8 (N, H, W, C) by the batch engine."""
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    augmentation = BatchAugmentation(pipeline, tuple(tensor.shape[1:]), CPU)
    parts = [augmentation(part, torch.Generator().manual_seed(seed + k)) for k, part in enumerate(tensor.split(2_000))]
    return torch.cat(parts).permute(0, 2, 3, 1).numpy()


def one_by_one(pipeline: Any, images: np.ndarray) -> np.ndarray:
    """Augment uint8 (N, H, W, C) by albumentations, as the loader does."""
    split = Split(images if images.shape[3] == 3 else images[..., 0], np.zeros(len(images), np.int64), ("a",))
    return (
        EmotionDataset(split, pipeline)
        .__getitems__([(0, row) for row in range(len(images))])[0]
        .permute(0, 2, 3, 1)
        .numpy()
    )


def affine(**options: Any) -> A.Affine:
    by_axis = {"scale": {"x": 1.2, "y": 0.8}, "shear": {"x": 7, "y": -4}, "translate_percent": {"x": 0.07, "y": -0.1}}
    return A.Affine(**({"rotate": 17, "border_mode": 2, "p": 1} | by_axis | options))


def downscale(scale: float, down: int, up: int) -> A.Downscale:
    return A.Downscale((scale, scale), {"downscale": down, "upscale": up}, p=1)


@pytest.mark.parametrize(
    "transforms",
    [
        [A.HorizontalFlip(p=1)],
        [A.VerticalFlip(p=1)],
        [affine(border_mode=mode, interpolation=i, fill=90) for mode in (0, 1, 2, 4) for i in (0, 1)],
        [affine(translate_percent=None, translate_px={"x": -3, "y": 5}), A.Affine(scale=0.7, keep_ratio=True, p=1)],
        [A.RandomBrightnessContrast((b, b), (c, c), m, p=1) for b, c, m in [(0.1, -0.2, True), (-0.2, 0.3, False)]],
        [A.RandomGamma((gamma, gamma), p=1) for gamma in (60, 150)],
        [A.GaussianBlur((k, k), (s, s), p=1) for k, s in [(3, 1.0), (4, 0.5), (7, 3.0), (0, 1.5), (1, 1.0)]],
        [downscale(scale, 0, 0) for scale in (0.25, 0.37, 0.5, 0.61, 0.8, 1.0)],
        [downscale(scale, down, up) for scale in (0.37, 0.5) for down in (0, 1, 3) for up in (0, 1)],
        [A.ImageCompression(quality_range=(q, q), p=1) for q in (1, 10, 30, 50, 80, 100)],
        [A.CoarseDropout((1, 1), (48, 48), (48, 48), fill=77, p=1)],
        [A.NoOp(p=1)],
    ],
    ids=lambda transforms: type(transforms[0]).__name__,
)
def test_the_same_parameters_give_the_same_pixels(transforms):
    for transform in transforms:
        for images in (FACES[..., None], COLOUR, COLOUR[:, :40], FACES[:, :, :30, None]):
            pipeline = A.Compose([transform])
            if isinstance(transform, A.CoarseDropout) and images.shape[1:3] != (48, 48):
                continue
            error = batch(pipeline, images).astype(int) - one_by_one(pipeline, images)
            assert np.abs(error).mean() < 0.3, transform
            if isinstance(transform, A.ImageCompression):  # where a coefficient is half a step, rounding decides
                assert (np.abs(error) > 1).mean() < 0.07, transform
                continue
            assert np.abs(error).max() <= (5 if isinstance(transform, A.Affine) else 1), transform  # OpenCV: 1/32 pixel


def same(ours: np.ndarray, theirs: np.ndarray, what: str, within: float) -> None:
    """Check that two samples have the same mean, spread, distribution and range, within chance and `within`."""
    ours, theirs = ours.astype(float), theirs.astype(float)
    spread, chance = theirs.std(), 5.5 * np.sqrt(2 / len(ours))  # 5.5 standard errors
    assert abs(ours.mean() - theirs.mean()) <= chance * spread + within, f"{what}: mean"
    fourth = ((theirs - theirs.mean()) ** 4).mean() / max(spread, 1e-9) ** 4
    assert abs(ours.std() - theirs.std()) <= chance * spread * np.sqrt(max(fourth - 1, 0)) / 2 + within, (
        f"{what}: spread"
    )
    if spread > 10 * within:
        ours, theirs = ours.round(1), theirs.round(1)  # or rounding in the last digit would part equal values
        assert ks_2samp(ours, theirs, method="asymp").statistic < chance / 2.2, f"{what}: distribution"
    margin = 0.3 * np.ptp(theirs) + within
    assert abs(ours.min() - theirs.min()) <= margin, f"{what}: least"
    assert abs(ours.max() - theirs.max()) <= margin, f"{what}: most"


def engines(pipeline: Any, image: np.ndarray, count: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """Augment (H, W) or (H, W, C) so many times by both engines; (count, H, W, C) uint8 of each."""
    image = image[..., None] if image.ndim == 2 else image
    images = np.broadcast_to(image, (count, *image.shape))
    return batch(pipeline, images), one_by_one(pipeline, images)


def dots() -> np.ndarray:
    """Three blurred dots of different colours on black, from which an affine map can be computed."""
    y, x = np.mgrid[:48, :48]
    places = ((23.5, 23.5), (31.5, 23.5), (23.5, 31.5))
    return np.stack([255 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 6) for a, b in places], -1).astype(np.uint8)


def maps(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return for each image of dots where the centre goes, and what becomes of the two axes."""
    weights = images.astype(np.float32)
    total = weights.sum((1, 2))
    y = (weights.sum(2) * np.arange(48)[:, None]).sum(1) / total
    x = (weights.sum(1) * np.arange(48)[:, None]).sum(1) / total
    axes = {"xx": x[:, 1] - x[:, 0], "xy": y[:, 1] - y[:, 0], "yx": x[:, 2] - x[:, 0], "yy": y[:, 2] - y[:, 0]}
    flipped = np.sign(axes["xx"] * axes["yy"] - axes["xy"] * axes["yx"])
    return {"centre x": x[:, 0], "centre y": y[:, 0], "flipped": flipped, **axes}


@pytest.mark.parametrize(
    "transforms",
    [
        [A.HorizontalFlip(p=0.3), A.VerticalFlip(p=0.6)],
        [A.Affine(rotate=(-10, 40), p=0.7)],
        [A.Affine(scale=(0.8, 1.3), p=1), A.HorizontalFlip(p=0.5)],
        [A.Affine(scale=(0.8, 1.3), keep_ratio=True, translate_percent=0.04, rotate=5, p=0.5)],
        [A.Affine(shear=(-15, 10), translate_percent=(-0.1, 0.05), p=1)],
        [A.Affine(shear={"x": (0, 15)}, translate_px={"x": (-4, 1), "y": (0, 3)}, p=0.9)],
        [A.OneOf([A.HorizontalFlip(p=1), A.OneOf([A.VerticalFlip(), A.NoOp(p=0.25)], p=0.5)], p=0.8)],
        [A.Sequential([A.VerticalFlip(p=0.5), A.HorizontalFlip(p=0.25)], p=0.6), A.VerticalFlip(p=0.1)],
    ],
    ids=lambda transforms: "-".join(type(transform).__name__ for transform in transforms),
)
def test_geometry_is_drawn_alike(transforms):
    ours, theirs = (maps(images) for images in engines(A.Compose(transforms), dots(), 3_000))
    for name in ours:
        same(ours[name], theirs[name], name, 0.02)


def levels(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return statistics of each image that tell of light, noise and holes."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    rows = images.astype(np.float32).mean((2, 3))
    first, last = np.array_split(flat, 2, 1)
    return {
        "mean": flat.mean(1),
        "spread": flat.std(1),
        "dark half": first.mean(1),
        "bright half": last.mean(1),
        "pixel": images[:, 15, 15, 0].astype(np.float32),
        "rows": rows.std(1),
        "roughness": np.abs(np.diff(flat, axis=1)).mean(1),
    }


RAMP = np.broadcast_to(np.linspace(20, 235, 48).astype(np.uint8)[:, None], (48, 48))
FLAT = np.full((48, 48), 120, np.uint8)
SHARP = np.where((np.indices((48, 48)).sum(0) // 3) % 2, 200, 60).astype(np.uint8)


@pytest.mark.parametrize(
    ("transforms", "image"),
    [
        ([A.RandomBrightnessContrast(0.2, 0.3, p=0.6)], RAMP),
        ([A.RandomBrightnessContrast((-0.1, 0.4), (0, 0.5), brightness_by_max=False, p=1), A.RandomGamma(p=0.5)], RAMP),
        ([A.RandomGamma([60, 160], p=0.7)], RAMP),
        ([A.GaussianBlur([3, 5], p=0.8)], SHARP),
        ([A.GaussianBlur(4, (0.3, 2.5), p=1)], SHARP),
        ([A.GaussNoise((0.02, 0.2), (-0.1, 0.2), p=0.8)], FLAT),
        ([A.GaussNoise((0.1, 0.2), per_channel=False, p=1), A.GaussNoise((0.1, 0.1), p=0.5)], FLAT),
        ([A.Downscale((0.3, 0.9), p=0.8)], SHARP),
        ([A.Downscale((0.4, 0.7), {"downscale": 3, "upscale": 1}, p=1)], SHARP),
        ([A.ImageCompression(quality_range=(5, 60), p=0.9)], SHARP),
        ([A.CoarseDropout((1, 3), (0.1, 0.4), (0.2, 0.3), fill="random_uniform", p=0.7)], FLAT),
        ([A.CoarseDropout((2, 4), (3, 20), (5, 9), fill=255, p=1)], FLAT),
        ([A.CoarseDropout((1, 2), (0.3, 0.5), (0.1, 0.9), fill="random", p=1)], FLAT),
        ([A.OneOf([A.GaussNoise(p=1), A.CoarseDropout(p=0.5), A.RandomGamma((150, 300), p=0.2)], p=0.9)], RAMP),
    ],
    ids=lambda value: "-".join(type(part).__name__ for part in value) if isinstance(value, list) else "",
)
def test_light_noise_and_holes_are_drawn_alike(transforms, image):
    ours, theirs = (levels(images) for images in engines(A.Compose(transforms), image, 3_000))
    for name in ours:
        same(ours[name], theirs[name], name, 0.3)


@pytest.mark.parametrize("override", ["augment=light", "augment=standard", "augment=camera", "experiment=fer2013"])
def test_every_config_means_the_same_in_both_engines(override):
    pipeline = instantiate(config(override).augment.pipeline)
    ours, theirs = engines(pipeline, FACES[0, 8:40, 8:40])
    expected = levels(theirs)
    for statistic, values in levels(ours).items():
        same(values, expected[statistic], statistic, 0.3)
    # Each pixel of the mean image: 1024 comparisons, so more standard errors.
    errors = np.abs(ours.astype(np.float32).mean(0) - theirs.astype(np.float32).mean(0))
    assert (errors / (np.sqrt(2 / len(ours)) * theirs.std(0) + 0.01)).max() < 6.5


def test_channels_have_noise_and_holes_of_their_own_colour_and_fill_values_by_channel():
    colour = np.full((48, 48, 3), 100, np.uint8)
    noise, _ = engines(A.Compose([A.GaussNoise(p=1)]), colour, 50)
    assert abs(np.corrcoef(noise.reshape(-1, 3).T)[0, 1]) < 0.05
    shared, _ = engines(A.Compose([A.GaussNoise(per_channel=False, p=1)]), colour, 50)
    assert (np.ptp(shared, axis=-1) == 0).all()
    holes, theirs = engines(A.Compose([A.CoarseDropout((1, 1), (48, 48), (48, 48), fill=(1, 2, 3), p=1)]), colour, 20)
    assert np.array_equal(holes, theirs)
    assert (holes == (1, 2, 3)).all()
    filled, theirs = engines(A.Compose([A.Affine(translate_px=50, fill=(1, 2, 3), p=1)]), colour, 20)
    assert np.array_equal(filled, theirs)
    holes, theirs = engines(
        A.Compose([A.CoarseDropout((1, 2), (0.5, 0.9), (0.5, 0.9), fill="random_uniform", p=1)]), colour, 2_000
    )
    for channels in ((0,), (0, 1)):  # the spread of the difference tells whether channels are independent
        values = [images[:, 24, 24, channels].astype(float) for images in (holes, theirs)]
        same(*(np.ptp(v, axis=-1) if len(channels) > 1 else v[:, 0] for v in values), "colour", 0)


class Mine(A.HorizontalFlip):
    """A transform of a user's own."""


@pytest.mark.parametrize(
    ("transform", "named"),
    [
        (A.CLAHE(), "CLAHE"),
        (A.OneOf([A.HorizontalFlip(), A.Sequential([A.MedianBlur()])]), "MedianBlur"),
        (Mine(), "Mine"),
        (A.SomeOf([A.HorizontalFlip()]), "SomeOf"),
        (A.Rotate(), "Rotate"),
        (A.Affine(fit_output=True), "Affine with fit_output"),
        (A.Affine(balanced_scale=True, scale=(0.5, 2)), "balanced_scale"),
        (A.Affine(interpolation=2), "Affine with interpolation=2"),
        (A.Affine(border_mode=3), "border_mode=3"),
        (A.RandomBrightnessContrast(ensure_safe_range=True), "ensure_safe_range"),
        (A.GaussNoise(noise_scale_factor=0.5), "noise_scale_factor"),
        (A.GaussianBlur((99, 99)), "GaussianBlur with a kernel"),
        (A.Downscale(interpolation_pair={"downscale": 2, "upscale": 0}), "Downscale with interpolations 2"),
        (A.ImageCompression("webp"), "ImageCompression to webp"),
        (A.CoarseDropout(fill="inpaint_telea"), "inpaint_telea"),
    ],
    ids=str,
)
def test_what_only_albumentations_knows_is_named(transform, named):
    with pytest.raises(Unsupported, match=named):
        BatchAugmentation(A.Compose([A.VerticalFlip(), transform]), (1, 48, 48), CPU)


@pytest.mark.parametrize(("name", "most"), [("light", 50), ("standard", 50), ("camera", 270)])
def test_an_augmentation_takes_few_operations(name, most):
    pipeline = instantiate(config(f"augment={name}").augment.pipeline)
    augmentation = BatchAugmentation(pipeline, (1, 48, 48), CPU)
    counts = operations(augmentation, torch.from_numpy(FACES)[:, None], torch.Generator().manual_seed(1))
    assert counts.total() <= most


@pytest.mark.parametrize("faces", [FACES[:, None], COLOUR.transpose(0, 3, 1, 2)], ids=["grey", "colour"])
def test_the_compiler_takes_an_augmentation_as_one_graph(faces):
    images = torch.from_numpy(faces.copy())
    pipeline = instantiate(config("augment=camera").augment.pipeline)
    augmentation = BatchAugmentation(pipeline, tuple(images.shape[1:]), CPU)
    expected = augmentation(images, torch.Generator().manual_seed(1))
    augmentation.compile(backend="aot_eager", fullgraph=True)
    compiled = augmentation(images, torch.Generator().manual_seed(1))
    assert (compiled.int() - expected.int()).abs().max() <= 1
