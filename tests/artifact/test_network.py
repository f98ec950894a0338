import dataclasses

import cv2
import numpy as np
import pytest
import torch
from samples import golden_images

from fer import artifact
from fer.artifact.network import InferenceModel


def test_probabilities_are_softmax_over_temperature_of_the_normalised_image(net, meta):
    images = golden_images(1, 24)
    with torch.no_grad():
        expected = torch.softmax(net((images.float() / 255 - 0.5) / 0.25) / 1.7, 1)
        assert torch.allclose(InferenceModel(net, meta)(images), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 3, 90, 61), (1, 1, 7, 5), (2, 3, 24, 24), (0, 3, 9, 9)])
def test_any_shape_and_colour(model, shape):
    probabilities = artifact.load(model)(torch.randint(0, 256, shape, dtype=torch.uint8))
    assert probabilities.shape == (shape[0], 3)
    assert probabilities.dtype == torch.float32
    assert torch.allclose(probabilities.sum(1), torch.ones(shape[0]))


def test_grey_is_opencv_luma(model):
    rgb = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    grey = torch.from_numpy(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))[None, None]
    loaded = artifact.load(model)
    assert torch.allclose(loaded(torch.from_numpy(rgb).permute(2, 0, 1)[None]), loaded(grey), atol=0.01)


def test_colour_networks_take_grey_images(colour_model):
    loaded, grey = artifact.load(colour_model), golden_images(1, 30)
    assert torch.allclose(loaded(grey), loaded(grey.expand(-1, 3, -1, -1)), atol=1e-6)


def test_flip_averages_with_the_mirrored_image(net, meta):
    plain, both = (InferenceModel(net, dataclasses.replace(meta, flip=flip)) for flip in (False, True))
    images = golden_images(1, 24)
    with torch.no_grad():
        assert torch.allclose(both(images), (plain(images) + plain(images.flip(3))) / 2, atol=1e-6)


def test_other_images_are_refused_inside_the_file(model):
    with pytest.raises(torch.jit.Error, match="expected uint8"):
        artifact.load(model)(torch.zeros(1, 1, 24, 24))
