import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from samples import golden_images, small_classifier
from torch.nn.functional import cross_entropy, one_hot

from fer import metrics, models
from fer.artifact import Metadata
from fer.artifact.network import InferenceModel
from fer.errors import ConfigError
from fer.models.classifier import EmotionClassifier

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}
SCHEDULERS = "torch.optim.lr_scheduler"
IMAGES, LABELS = golden_images(1, 48, 6), torch.arange(6) % 3
DISTRIBUTIONS = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)).softmax(1)


def at_step(model: EmotionClassifier, step: int = 0, total: float = 100) -> EmotionClassifier:
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=step, global_step=step))
    model._trainer = SimpleNamespace(global_step=step, estimated_stepping_batches=total, fit_loop=loop, world_size=1)
    model._trainer.__dict__.update(precision="32-true", current_epoch=0, global_rank=0)
    model.log = lambda *_, **__: None
    return model


def loss(model: EmotionClassifier, *batch: torch.Tensor) -> float:
    with torch.no_grad():
        return float(at_step(model.eval()).training_step((IMAGES, LABELS, *batch), 0))


def test_images_are_prepared_as_the_artifact_does():
    model = small_classifier().eval()
    meta = Metadata(classes=("a", "b", "c"), channels=1, input_size=48, mean=(0.4,), std=(0.3,))
    for size in (48, 61):
        images = golden_images(1, size)
        with torch.no_grad():
            wanted = model(model.prepare(images)).softmax(1)
            assert torch.allclose(InferenceModel(model.backbone, meta)(images), wanted, atol=1e-6)


def test_progressive_sizes_follow_the_share_of_steps_done():
    model = small_classifier(progressive=[[0.0, 0.67], [0.45, 0.83], [0.75, 1.0]])
    sizes = [at_step(model, step).train_size() for step in (0, 44, 45, 74, 75, 99)]
    assert sizes == [32, 32, 40, 40, 48, 48]
    assert at_step(small_classifier()).train_size() == 48


def test_weights_are_channels_last():
    assert small_classifier().backbone.stem[2][0].weight.is_contiguous(memory_format=torch.channels_last)


def test_pretrained_weights_are_not_asked_for_again():
    model = small_classifier(model={"name": "resnet_small"})
    assert model.hparams["model"] == {"name": "resnet_small", "pretrained": False}


def test_norms_and_biases_are_not_decayed():
    optimizer = at_step(small_classifier(optimizer=SGD | {"weight_decay": 0.01})).configure_optimizers()
    for group in optimizer.param_groups:
        assert {p.ndim <= 1 for p in group["params"]} == {group["weight_decay"] == 0}


@pytest.mark.parametrize("scheduler", [None, {"max_lr": 0.1, "total_steps": "total_steps", "div_factor": 1}])
def test_earlier_layers_learn_more_slowly(scheduler):
    node = scheduler and {"_target_": f"{SCHEDULERS}.OneCycleLR"} | scheduler
    model = at_step(small_classifier(optimizer=SGD | {"lr": 0.1}, layer_decay=0.5, scheduler=node))
    built = model.configure_optimizers()
    groups = (built["optimizer"] if node else built).param_groups
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    layers = (model.backbone.stem, *model.backbone.blocks, model.backbone.head)
    by_layer = [{rates[id(parameter)] for parameter in layer.parameters()} for layer in layers]
    assert all(len(rates) == 1 for rates in by_layer)
    assert [rate for (rate,) in by_layer] == pytest.approx([0.0125, 0.025, 0.05, 0.1])
    assert groups[0]["lr"] == pytest.approx(0.1)  # the rate that is logged


def test_a_frozen_backbone_keeps_its_features_and_statistics():
    model = small_classifier(freeze=True, optimizer=SGD, label_smoothing=0.0)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    optimizer = model.configure_optimizers()
    model.train()
    loss, _ = model._forward_and_loss(torch.randn(6, 1, 48, 48), torch.arange(6) % 3)
    loss.backward()
    optimizer.step()
    changed = {n for n, value in model.backbone.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {"head.2.weight", "head.2.bias"}


@pytest.mark.parametrize(
    ("group", "change", "words"),
    [
        ("optimizer", {"lr": -1}, r"optimizer\.lr=-1 must be a number from 0"),
        ("optimizer", {"lr": "fast"}, r"optimizer\.lr=fast must be a number"),
        ("optimizer", {"momentum": "x"}, "optimizer: '<' not supported"),
        ("optimizer", {"foo": 1}, "optimizer: .*unexpected keyword argument 'foo'"),
        ("scheduler", {"pct_start": 2}, "scheduler: Expected float between 0 and 1 pct_start"),
        (
            "scheduler",
            {"pct_start": 0.01},
            r"too few steps; raise trainer\.max_epochs or set scheduler=cosine",
        ),
        ("scheduler", {"interval": "week"}, r"scheduler\.interval=week is unknown; choose step or epoch"),
    ],
)
def test_what_an_optimizer_or_scheduler_refuses_is_one_line(group, change, words):
    one_cycle = {"_target_": f"{SCHEDULERS}.OneCycleLR", "max_lr": 0.1, "total_steps": "total_steps"}
    nodes = {"optimizer": SGD, "scheduler": one_cycle}
    nodes[group] = nodes[group] | change
    with pytest.raises(ConfigError, match=words) as caught:
        at_step(small_classifier(**nodes)).configure_optimizers()
    assert "\n" not in str(caught.value)


def test_a_training_without_an_end_has_no_schedule():
    with pytest.raises(ConfigError, match=r"set trainer\.max_epochs or \+trainer\.max_steps"):
        at_step(small_classifier(progressive=[[0, 1.0]]), total=math.inf).train_size()


def test_a_schedule_may_know_the_number_of_steps():
    node = {"_target_": f"{SCHEDULERS}.OneCycleLR", "max_lr": 0.1, "total_steps": "total_steps"}
    model = at_step(small_classifier(optimizer=SGD, scheduler=node), total=77)
    schedule = model.configure_optimizers()["lr_scheduler"]
    assert schedule["scheduler"].total_steps == 77
    assert (schedule["interval"], schedule["monitor"]) == ("step", None)


def test_a_schedule_may_be_stepped_by_epoch_and_by_a_metric():
    node = {"_target_": f"{SCHEDULERS}.ReduceLROnPlateau", "interval": "epoch", "monitor": "val/loss"}
    schedule = at_step(small_classifier(optimizer=SGD, scheduler=node)).configure_optimizers()["lr_scheduler"]
    assert isinstance(schedule["scheduler"], torch.optim.lr_scheduler.ReduceLROnPlateau)
    assert (schedule["interval"], schedule["monitor"]) == ("epoch", "val/loss")


def test_every_process_and_epoch_draws_for_itself_and_always_the_same():
    def drawn(seed: int, epoch: int, rank: int) -> float:
        model = at_step(small_classifier())
        model.hparams["seed"] = seed
        model._trainer.__dict__.update(current_epoch=epoch, global_rank=rank)
        model.on_train_batch_start((), 0)
        return float(torch.rand(()))

    draws = {key: drawn(*key) for key in itertools.product((0, 5), (0, 7), (0, 1, 2))}
    assert len(set(draws.values())) == len(draws)
    assert all(drawn(*key) == value for key, value in draws.items()), "as after a resumption"


def test_train_metrics_are_means_over_the_images_of_the_epoch_so_far():
    model = at_step(small_classifier())
    losses = [model.training_step((IMAGES[:n], LABELS[:n]), 0).item() for n in (6, 2)]
    assert float(model.train_metrics()["train/loss"]) == pytest.approx((6 * losses[0] + 2 * losses[1]) / 8)
    assert float(model.train_metrics()["train/accuracy"]) * 8 % 1 == pytest.approx(0, abs=1e-6)
    model.on_train_batch_start((), 0)
    model.training_step((IMAGES[:2], LABELS[:2]), 0)
    assert float(model.train_metrics()["train/loss"]) != pytest.approx(losses[0])


def test_a_compiled_step_has_the_same_loss_and_gradients():
    def trained(compiled: bool) -> tuple[float, torch.Tensor]:
        model = at_step(small_classifier())
        if compiled:
            model.compile_step(backend="aot_eager", fullgraph=True)
        value = model.training_step((IMAGES, LABELS), 0)
        value.backward()
        return value.item(), model.backbone.stem[0][0].weight.grad

    (one, first), (other, second) = trained(False), trained(True)
    assert one == pytest.approx(other, rel=1e-5)
    assert torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixed_batches_train(mix):
    model = at_step(small_classifier(**{mix: 1.0}, label_smoothing=0.1, class_weights=[1.0, 2.0, 0.5]))
    model.training_step((IMAGES, LABELS), 0).backward()
    assert model.backbone.stem[0][0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_another_precision_train(dtype):
    model = at_step(small_classifier(mixup=1.0, class_weights=[1.0, 2.0, 0.5])).to(dtype)
    model.training_step((IMAGES, LABELS), 0).backward()
    assert model(model.prepare(IMAGES)).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label_smoothing": 1}, "label_smoothing=1 leaves nothing"),
        ({"label_smoothing": 2}, "label_smoothing=2 must be a number from 0 to 1"),
        ({"label_smoothing": math.nan}, "label_smoothing=nan must be"),
        ({"mixup": -1.0}, "mixup=-1.0 must be a number from 0"),
        ({"cutmix": None}, "cutmix=null must be a number"),
        ({"input_size": 2}, "input_size=2 must be a whole number from 8"),
        ({"progressive": None}, "progressive=None must be a list of"),
        ({"progressive": [0.5, 0.67]}, r"progressive=\[0.5, 0.67\] must be a list of"),
        ({"progressive": [[0.5, 2.0]]}, "progressive=2.0 must be a number above 0 to 1"),
        ({"model": {"name": "resnet_smal"}}, "resnet_small"),
    ],
)
def test_bad_values_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        small_classifier(**options)


def test_target_distributions_are_mixed_into_the_labels():
    model = small_classifier(target_distribution={"use": "mixed", "weight": 0.25}).eval()
    targets = 0.75 * one_hot(LABELS, 3) + 0.25 * DISTRIBUTIONS
    with torch.no_grad():
        wanted = cross_entropy(model(model.prepare(IMAGES)), targets)
    assert loss(model, DISTRIBUTIONS) == pytest.approx(float(wanted), rel=1e-5)


def test_target_distributions_are_learnt_by_a_second_head_that_the_artifact_lacks():
    model = at_step(small_classifier(target_distribution={"use": "auxiliary", "weight": 2.0}, mixup=0.5))
    model.training_step((IMAGES, LABELS, DISTRIBUTIONS), 0).backward()
    head = model.backbone.head[-1].weight
    assert head.shape[0] == 6
    assert (head.grad.abs().sum(1) > 0).all()
    backbone, x = model.eval().deployable().eval(), model.prepare(IMAGES)
    with torch.no_grad():
        assert torch.allclose(backbone(x), model(x), atol=1e-6)
        assert model(x).shape == (6, 3)
    assert model.backbone.head[-1].weight.shape[0] == 6


@pytest.mark.parametrize("mixed", [False, True], ids=["labels", "soft labels"])
def test_the_loss_of_the_second_head_is_added(mixed):
    """The first head learns the labels, or soft labels that precede the distributions of the second head."""
    model = small_classifier(target_distribution={"use": "auxiliary", "weight": 2.0}).eval()
    first = DISTRIBUTIONS.flip(0) if mixed else one_hot(LABELS, 3).float()
    with torch.no_grad():
        heads = model._heads(model.prepare(IMAGES))
        wanted = cross_entropy(heads[:, :3], first) + 2 * cross_entropy(heads[:, 3:], DISTRIBUTIONS)
    batch = torch.cat([first, DISTRIBUTIONS], 1) if mixed else DISTRIBUTIONS
    assert loss(model, batch) == pytest.approx(float(wanted), rel=1e-5)


def test_teachers_are_a_share_of_the_target():
    model = small_classifier().eval()
    model.distil(lambda images: DISTRIBUTIONS if torch.equal(images, IMAGES) else DISTRIBUTIONS * 0, 0.6)
    targets = 0.4 * one_hot(LABELS, 3) + 0.6 * DISTRIBUTIONS
    with torch.no_grad():
        wanted = cross_entropy(model(model.prepare(IMAGES)), targets)
    assert loss(model) == pytest.approx(float(wanted), rel=1e-5)


def test_prior_is_added_to_the_logits_of_the_loss_alone():
    prior = torch.tensor([0.7, 0.2, 0.1])
    plain, model = small_classifier().eval(), small_classifier(prior=0.5, class_prior=prior.tolist()).eval()
    with torch.no_grad():
        logits = model(model.prepare(IMAGES))
        wanted = cross_entropy(logits + 0.5 * prior.log(), LABELS)
    assert torch.equal(logits, plain(plain.prepare(IMAGES)))
    assert loss(model) == pytest.approx(float(wanted), rel=1e-5)
    assert loss(model) != pytest.approx(loss(plain), rel=1e-3)


@pytest.mark.parametrize("auxiliary", [None, {"use": "auxiliary", "weight": 1.0}])
@pytest.mark.parametrize("bias", [True, False])
def test_answers_are_divided_by_the_prior(auxiliary, bias):
    prior = torch.tensor([0.6, 0.4, 0.0])
    model = small_classifier(class_prior=prior.tolist(), target_distribution=auxiliary).eval()
    if not bias:
        model.backbone.head[-1].bias = None
    with torch.no_grad():
        before = model(model.prepare(IMAGES)).softmax(1)
        model.divide_by_prior(0.75)
        after = model.deployable()(model.prepare(IMAGES)).softmax(1)
    wanted = before / torch.tensor([0.6, 0.4, 1 / 3]) ** 0.75  # a class without images is not corrected
    assert torch.allclose(after, wanted / wanted.sum(1, keepdim=True), atol=1e-5)
    assert torch.allclose(model(model.prepare(IMAGES)).softmax(1), after, atol=1e-6)


class TwoHeads(torch.nn.Module):
    """As in DeiT: the mean of the heads of the class token and of the distillation token."""

    def __init__(self, classes: int, channels: int, **_: object) -> None:
        super().__init__()
        self.head, self.head_dist = torch.nn.Linear(channels, classes), torch.nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.head(x.mean((2, 3))) + self.head_dist(x.amax((2, 3)))) / 2


def test_the_two_heads_of_distilled_transformers_are_one(monkeypatch):
    monkeypatch.setattr(models, "create", TwoHeads)
    prior, second = torch.tensor([0.6, 0.3, 0.1]), {"use": "auxiliary", "weight": 1.0}
    model = small_classifier(class_prior=prior.tolist(), target_distribution=second)
    with torch.no_grad():
        before = model(IMAGES.float())
        model.divide_by_prior(0.5)
        after = model.deployable()(IMAGES.float())
    assert torch.allclose(before - after, 0.5 * (3 * prior).log(), atol=1e-4)
    assert model.head_weights() == {f"{head}.{name}" for head in ("head", "head_dist") for name in ("weight", "bias")}


def test_a_checkpoint_without_a_class_prior_says_so():
    with pytest.raises(ConfigError, match=r"prior=0\.75: .*earlier version"):
        small_classifier().divide_by_prior(0.75)


def test_validation_by_votes_counts_only_images_with_a_majority():
    model, logged = at_step(small_classifier().eval()), {}
    model.log = lambda name, value, **_: logged.setdefault(name, value)
    majority = torch.tensor([2, -1, 0, 0, -1, 2])
    with torch.no_grad():
        for part in (slice(0, 4), slice(4, 6)):
            model.validation_step((IMAGES[part], LABELS[part], majority[part]), 0)
        known = majority >= 0
        wanted = cross_entropy(model(model.prepare(IMAGES[known])), majority[known])
        right = model(model.prepare(IMAGES)).argmax(1) == majority
    model.on_validation_epoch_end()
    assert logged["val_votes/loss"] == pytest.approx(float(wanted), rel=1e-5)
    assert logged["val_votes/accuracy"] == pytest.approx(float(right[known].float().mean()))
    assert "val_votes/recall_macro" in logged
    assert logged["val/loss"] != pytest.approx(logged["val_votes/loss"])


def test_validation_without_any_majority_logs_nothing_by_votes():
    model, logged = at_step(small_classifier().eval()), {}
    model.log = lambda name, value, **_: logged.setdefault(name, value)
    with torch.no_grad():
        model.validation_step((IMAGES, LABELS, torch.full((6,), -1)), 0)
    model.on_validation_epoch_end()
    assert "val/loss" in logged and not [name for name in logged if name.startswith("val_votes")]


def test_every_metric_that_is_one_number_is_logged_in_validation(monkeypatch):
    monkeypatch.setattr(metrics, "METRICS", dict(metrics.METRICS))
    metrics.metric("count")(lambda probabilities, labels: len(labels))
    model, logged = at_step(small_classifier().eval()), {}
    model.log = lambda name, value, **_: logged.setdefault(name, value)
    with torch.no_grad():
        for batch in ((IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])):
            model.validation_step(batch, 0)
        wanted = cross_entropy(model(model.prepare(IMAGES)), LABELS)
    model.on_validation_epoch_end()
    assert logged["val/count"] == 6
    assert logged["val/loss"] == pytest.approx(float(wanted), rel=1e-5)
    assert {"val/accuracy", "val/f1_macro"} <= logged.keys()
    assert "val/recall/a" not in logged
