import copy

import albumentations as A
import numpy as np
import pytest
import torch

from fer.data.base import Split
from fer.data.dataset import EmotionDataset, EpochSampler
from fer.errors import DataError


def split(count: int = 6, colour: bool = False) -> Split:
    shape = (count, 48, 48, 3) if colour else (count, 48, 48)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Split(images, np.arange(count) % 3, ("a", "b", "c"))


@pytest.mark.parametrize("colour", [False, True])
def test_batches_are_uint8_with_channels_first(colour):
    data = EmotionDataset(split(colour=colour))
    images, labels = data.__getitems__([(0, 1), (0, 4)])
    assert images.shape == (2, 3 if colour else 1, 48, 48)
    assert images.dtype == torch.uint8
    assert labels.tolist() == [1, 1]
    assert torch.equal(data[(0, 4)][0], images[1])


def test_augmentation_depends_on_seed_epoch_and_row_alone():
    pipeline = A.Compose([A.Affine(rotate=(-30, 30), p=1), A.RandomBrightnessContrast(p=1)])
    data = EmotionDataset(split(), pipeline, seed=3)
    together = data.__getitems__([(2, row) for row in range(6)])[0]
    alone = torch.stack([data[(2, row)][0] for row in reversed(range(6))]).flip(0)
    assert torch.equal(together, alone)
    assert not torch.equal(together, data.__getitems__([(1, row) for row in range(6)])[0])
    other = EmotionDataset(split(), pipeline, seed=4).__getitems__([(2, row) for row in range(6)])[0]
    assert not torch.equal(together, other)


def test_augmentation_that_changes_the_size_is_refused():
    data = EmotionDataset(split(), A.Compose([A.CenterCrop(40, 40)]))
    with pytest.raises(DataError, match="conf/augment"):
        data[(0, 0)]


def test_the_transforms_of_a_sample_draw_numbers_of_their_own():
    twice = A.Compose([A.HorizontalFlip(p=0.5), A.HorizontalFlip(p=0.5)])
    data = EmotionDataset(split(400), twice)
    images = data.__getitems__([(0, row) for row in range(400)])[0]
    turned = (images[:, 0].numpy() != data.split.images).any(axis=(1, 2)).mean()
    assert 0.35 < turned < 0.65  # none, if both drew the same number


def test_neighbouring_seeds_epochs_and_rows_draw_differently():
    brightness = A.Compose([A.RandomBrightnessContrast(p=1.0)])
    grey = Split(np.full((50, 8, 8), 100, np.uint8), np.zeros(50, np.int64), ("a",))
    seen = [
        EmotionDataset(grey, brightness, seed)
        .__getitems__([(epoch, row) for row in range(50)])[0]
        .float()
        .mean((1, 2, 3))
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(torch.cat(seen).unique()) > 60  # of 200, in some hundred levels of grey
    assert all(not torch.equal(a, b) for k, a in enumerate(seen) for b in seen[:k])


def test_python_draws_start_anew_with_every_sample_and_travel_to_workers():
    class Drawing:
        """What a transform may ask of Python's generator."""

        def set_random_state(self, numpy, python):
            self.python = python

        def __call__(self, image):
            draw = self.python
            drawn = [draw.gauss(0, 1), draw.randint(0, 9), draw.choice(range(7)), draw.uniform(0, 1), draw.random()]
            drawn += [draw.getrandbits(70), *(draw.random() for _ in range(40))]
            assert 0 <= drawn[5] < 2**70 and 0 <= drawn[1] <= 9
            image[0, 0, 0] = hash(tuple(drawn)) % 251
            return {"image": image}

    split = Split(np.zeros((60, 8, 8), np.uint8), np.zeros(60, np.int64), ("a",))
    indices = [(3, row) for row in range(60)]
    dataset = EmotionDataset(split, Drawing(), seed=1)
    drawn = dataset.__getitems__(indices)[0][:, 0, 0, 0]
    assert len(drawn.unique()) > 40
    assert torch.equal(dataset.__getitems__(indices[::-1])[0].flip(0)[:, 0, 0, 0], drawn)
    other = copy.deepcopy(dataset)  # as pickling for a worker that is started anew does
    assert torch.equal(other.__getitems__(indices)[0][:, 0, 0, 0], drawn)


@pytest.mark.parametrize("weights", [None, np.array([1.0, 1.0, 4.0])])
def test_an_epoch_may_draw_images_again_each_time_with_another_augmentation(weights):
    drawn = list(EpochSampler(3, True, weights=weights, drawn=30))
    assert len(drawn) == len(set(drawn)) == 30
    brightness = A.Compose([A.RandomBrightnessContrast(brightness_limit=0.3, p=1.0)])
    images = EmotionDataset(split(3), brightness).__getitems__([index for index in drawn if index[1] == 2])[0]
    assert len({image.numpy().tobytes() for image in images}) == len(images)


def test_an_epoch_may_be_shorter_than_the_data_and_draws_others_next_time():
    sampler = EpochSampler(100, True, drawn=10)
    first = sampler.order().tolist()
    sampler.set_epoch(1)
    assert len(first) == len(set(first)) == len(sampler) == 10
    assert first != sampler.order().tolist()
