import numpy as np
import pytest

from fer.data import synthetic
from fer.evaluate import robustness
from fer.evaluate.robustness import CORRUPTIONS, STRENGTHS, corrupted

IMAGES = synthetic.read(train=14, val=14, test=14)["val"].images
COLOUR = np.stack([IMAGES, IMAGES // 2, 255 - IMAGES], axis=-1)


@pytest.mark.parametrize("images", [IMAGES, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_keeps_the_form_and_gets_worse(name, images):
    moved = []
    for strength in STRENGTHS:
        worse = corrupted(images, name, strength)
        assert (worse.dtype, worse.shape) == (images.dtype, images.shape)
        moved.append(np.abs(worse.astype(float) - images).mean())
    assert 0 < moved[0] < moved[1] < moved[2]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_follows_from_its_seed(name):
    once = corrupted(IMAGES, name, 2, seed=1)
    assert np.array_equal(once, corrupted(IMAGES, name, 2, seed=1))
    assert np.array_equal(once[:5], corrupted(IMAGES[:5], name, 2, seed=1))
    if name in ("noise", "low light", "occlusion"):
        assert not np.array_equal(once, corrupted(IMAGES, name, 2, seed=2))
        first, second = corrupted(np.stack([IMAGES[0], IMAGES[0]]), name, 2)
        assert not np.array_equal(first, second)  # every image in its own way


def test_accuracy_of_a_model_by_corruption_and_strength():
    labels, dark = np.arange(14) % 2, 0.35 * IMAGES.mean()

    def predict(images):
        sure = np.eye(2)[labels]
        return {"good": sure, "afraid of the dark": sure if images.mean() > dark else 1 - sure}

    result = robustness.evaluate(predict, IMAGES, labels, seed=0)
    assert set(result["good"].values()) == {1.0}
    assert len(result["good"]) == len(CORRUPTIONS) * len(STRENGTHS) + 1
    afraid = result["afraid of the dark"]
    assert [afraid[f"robustness/low_light/{strength}"] for strength in STRENGTHS] == [1, 0, 0]
    assert afraid["robustness/mean"] == pytest.approx(16 / 18)


def test_colours_keep_their_order():
    red = np.zeros((1, 48, 48, 3), dtype=np.uint8)
    red[..., 0] = 200
    for name in set(CORRUPTIONS) - {"noise", "occlusion"}:
        means = corrupted(red, name, 1).reshape(-1, 3).mean(0)
        assert means[0] > 90 > means[2], name


def test_occlusion_covers_its_share():
    white = np.full((20, 48, 48), 255, dtype=np.uint8)
    shares = [(corrupted(white, "occlusion", strength) == 127).mean() for strength in STRENGTHS]
    assert shares == pytest.approx([0.1, 0.2, 0.35], abs=0.01)
