import math
from types import SimpleNamespace

import pytest
import torch

from fer.artifact import InferenceModel, Metadata, golden_batch
from fer.errors import ConfigError
from fer.models.classifier import EmotionClassifier

SMALL = {"name": "resnet_small", "widths": [8, 16], "depths": [1, 1], "drop_rate": 0.0}


def classifier(**options) -> EmotionClassifier:
    torch.manual_seed(0)
    values = {"model": SMALL, "classes": ["a", "b", "c"], "channels": 1, "input_size": 48, "mean": [0.4], "std": [0.3]}
    return EmotionClassifier(**(values | options))


def at_step(model: EmotionClassifier, step: int, total: int = 100) -> EmotionClassifier:
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=step, global_step=step))
    model._trainer = SimpleNamespace(global_step=step, estimated_stepping_batches=total, fit_loop=loop)
    return model


def test_prepares_as_the_artifact_does():
    model = classifier().eval()
    meta = Metadata(classes=("a", "b", "c"), channels=1, input_size=48, mean=(0.4,), std=(0.3,))
    for size in (48, 61):
        images = golden_batch(1, size)
        with torch.no_grad():
            wanted = model(model.prepare(images)).softmax(1)
            assert torch.allclose(InferenceModel(model.backbone, meta)(images), wanted, atol=1e-6)


def test_progressive_sizes_follow_the_share_of_steps_done():
    model = classifier(progressive=[[0.0, 0.67], [0.45, 0.83], [0.75, 1.0]])
    sizes = [at_step(model, step).train_size() for step in (0, 44, 45, 74, 75, 99)]
    assert sizes == [32, 32, 40, 40, 48, 48]
    assert at_step(classifier(), 0).train_size() == 48


def test_channels_last_everywhere():
    model = classifier()
    conv = model.backbone.stem[2][0].weight
    assert conv.is_contiguous(memory_format=torch.channels_last)


def test_norms_and_biases_are_not_decayed():
    model = at_step(classifier(optimizer={"_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 0.01}), 0)
    optimizer = model.configure_optimizers()
    for group in optimizer.param_groups:
        flat = {p.ndim <= 1 for p in group["params"]}
        assert flat == {group["weight_decay"] == 0}


@pytest.mark.parametrize(
    ("group", "change", "words"),
    [
        ("optimizer", {"momentum": "x"}, "optimizer: '<' not supported"),
        ("optimizer", {"momentum": -1}, "optimizer: Invalid momentum value: -1; see conf/optimizer"),
        ("optimizer", {"foo": 1}, "optimizer: .*unexpected keyword argument 'foo'"),
        ("scheduler", {"pct_start": 2}, "scheduler: Expected float between 0 and 1 pct_start"),
    ],
)
def test_what_an_optimizer_or_scheduler_refuses_is_one_line(group, change, words):
    one_cycle = "torch.optim.lr_scheduler.OneCycleLR"
    nodes = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1},
        "scheduler": {"_target_": one_cycle, "max_lr": 0.1, "total_steps": "total_steps"},
    }
    nodes[group] |= change
    with pytest.raises(ConfigError, match=words) as caught:
        at_step(classifier(**nodes), 0).configure_optimizers()
    assert "\n" not in str(caught.value)


def test_a_training_without_an_end_has_no_schedule():
    with pytest.raises(ConfigError, match=r"give trainer\.max_epochs or \+trainer\.max_steps"):
        at_step(classifier(), 0, total=math.inf).train_size()


def test_scheduler_learns_the_number_of_steps():
    node = {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.1, "total_steps": "total_steps"}
    model = at_step(classifier(optimizer={"_target_": "torch.optim.SGD", "lr": 0.1}, scheduler=node), 0, total=77)
    assert model.configure_optimizers()["lr_scheduler"]["scheduler"].total_steps == 77


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixed_batches_train(mix, monkeypatch):
    model = at_step(classifier(**{mix: 1.0}, label_smoothing=0.1, class_weights=[1.0, 2.0, 0.5]), 0)
    monkeypatch.setattr(model, "log", lambda *_, **__: None)
    before = model.backbone.stem[0][0].weight.grad
    loss = model.training_step((golden_batch(1, 48, 6), torch.arange(6) % 3), 0)
    loss.backward()
    assert before is None
    assert model.backbone.stem[0][0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"mixup": -1.0}, "mixup"),
        ({"progressive": [[0.5]]}, "progressive"),
        ({"progressive": [[0.5, 2.0]]}, "progressive"),
        ({"model": {"name": "resnet_smal"}}, "resnet_small"),
        ({"votes": {"use": "never", "weight": 0.5}}, "votes"),
        ({"votes": {"use": "targets", "weight": 1.5}}, "votes.weight"),
    ],
)
def test_bad_values_are_named(options, word):
    with pytest.raises(ConfigError, match=word):
        classifier(**options)


def losses(model: EmotionClassifier, batch: tuple[torch.Tensor, ...], monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(model, "log", lambda *_, **__: None)
    model.eval()
    with torch.no_grad():
        return float(at_step(model, 0).training_step(batch, 0))


def test_votes_are_mixed_into_the_labels(monkeypatch):
    images, labels = golden_batch(1, 48, 6), torch.arange(6) % 3
    votes = torch.rand(6, 3).softmax(1)
    found = losses(classifier(votes={"use": "targets", "weight": 0.25}), (images, labels, votes), monkeypatch)
    model = classifier().eval()
    targets = 0.75 * torch.nn.functional.one_hot(labels, 3) + 0.25 * votes
    with torch.no_grad():
        wanted = torch.nn.functional.cross_entropy(model(model.prepare(images)), targets)
    assert found == pytest.approx(float(wanted), rel=1e-5)


def test_votes_are_learnt_by_a_second_head_that_the_artifact_lacks(monkeypatch, tmp_path):
    images, labels = golden_batch(1, 48, 6), torch.arange(6) % 3
    votes = torch.rand(6, 3).softmax(1)
    model = classifier(votes={"use": "auxiliary", "weight": 2.0}, mixup=0.5)
    monkeypatch.setattr(model, "log", lambda *_, **__: None)
    at_step(model, 0).training_step((images, labels, votes), 0).backward()
    head = model.backbone.head[-1].weight
    assert head.shape[0] == 6
    assert (head.grad.abs().sum(1) > 0).all()
    model.eval()
    backbone = model.deployable().eval()
    x = model.prepare(images)
    with torch.no_grad():
        assert torch.allclose(backbone(x), model(x), atol=1e-6)
        assert model(x).shape == (6, 3)
    assert model.backbone.head[-1].weight.shape[0] == 6
    plain = classifier(votes={"use": "auxiliary", "weight": 2.0}).eval()
    with torch.no_grad():
        heads = plain._heads(plain.prepare(images))
        entropy = torch.nn.functional.cross_entropy
        wanted = entropy(heads[:, :3], labels) + 2 * entropy(heads[:, 3:], votes)
    assert losses(plain, (images, labels, votes), monkeypatch) == pytest.approx(float(wanted), rel=1e-5)


def test_targets_of_both_heads_are_learnt_as_they_are(monkeypatch):
    images, labels = golden_batch(1, 48, 6), torch.arange(6) % 3
    taught, votes = torch.rand(6, 3).softmax(1), torch.rand(6, 3).softmax(1)
    model = classifier(votes={"use": "auxiliary", "weight": 2.0}).eval()
    with torch.no_grad():
        heads = model._heads(model.prepare(images))
        entropy = torch.nn.functional.cross_entropy
        wanted = entropy(heads[:, :3], taught) + 2 * entropy(heads[:, 3:], votes)
    found = losses(model, (images, labels, torch.cat([taught, votes], 1)), monkeypatch)
    assert found == pytest.approx(float(wanted), rel=1e-5)


def test_teachers_are_a_share_of_the_target(monkeypatch):
    images, labels = golden_batch(1, 48, 6), torch.arange(6) % 3
    answers = torch.rand(6, 3).softmax(1)
    model = classifier().eval()
    model.teach(lambda given: answers if torch.equal(given, images) else answers * 0, 0.6)
    targets = 0.4 * torch.nn.functional.one_hot(labels, 3) + 0.6 * answers
    with torch.no_grad():
        wanted = torch.nn.functional.cross_entropy(model(model.prepare(images)), targets)
    assert losses(model, (images, labels), monkeypatch) == pytest.approx(float(wanted), rel=1e-5)
    with pytest.raises(ConfigError, match="teacher_weight=0"):
        model.teach(lambda given: answers, 0)
