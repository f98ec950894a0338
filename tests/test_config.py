import pytest
from omegaconf import OmegaConf

from fer import config as targets
from fer.errors import ConfigError


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.exec",
        "torch.load",
        "fer.files.write_file",
        "fer.data.cache.shutil.rmtree",  # known modules hand on nothing of others
        "torch.optim.optimizer.torch.load",
        "lightning.pytorch.callbacks.model_checkpoint.os.remove",
        "albumentations_evil.Compose",
    ],
)
@pytest.mark.parametrize("place", ["itself", "nested"])
def test_nothing_else_is_built(target, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    node = {"_target_": target, "path": "x", "_partial_": True}
    if place == "nested":
        node = {"_target_": "albumentations.Compose", "transforms": [node]}
    with pytest.raises(ConfigError, match="nothing that a config may build"):
        targets.build(OmegaConf.create(node), "optimizer")


def test_what_does_not_exist_is_said():
    with pytest.raises(ConfigError, match=r"fer\.data\.nothing does not exist"):
        targets.build({"_target_": "fer.data.nothing"}, "data")


def test_flags_that_are_none_are_one_line():
    node = OmegaConf.create({"_target_": "fer.data.synthetic.read", "_partial_": "yes"})
    with pytest.raises(ConfigError, match=r"data: .*_partial_ flag must be a bool.*; see conf/data") as caught:
        targets.build(node, "data")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [{"n_warmup_steps": -1}, {"foo": 1}])
def test_values_that_a_target_refuses_are_one_line(values):
    pytest.importorskip("optuna")
    with pytest.raises(ConfigError, match=rf"^search\.pruner: .*{next(iter(values))}.*; see conf/search$"):
        targets.build({"_target_": "optuna.pruners.MedianPruner", **values}, "search.pruner")


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"_target_": "fer.data.synthetic.read", "_partial_": True, "foo": 1}, "unexpected keyword argument 'foo'"),
        ({"_target_": "fer.data.folder.read", "_partial_": True}, "missing a required argument: 'root'"),
        ({"_target_": "fer.data.synthetic.read", "size": 4}, "data.size must be 24 pixels or more"),
        ({"_target_": "fer.data.synthetic.read", "train": 7, "val": 7, "test": 7}, "nothing that reads data"),
        (None, "nothing that reads data"),
    ],
)
def test_a_reader_that_cannot_be_called_is_told_before_it_reads(node, words):
    with pytest.raises(ConfigError, match=f"{words}.*; see conf/data"):
        targets.reader(OmegaConf.create({"reader": node}).reader)


@pytest.mark.parametrize("value", [None, 3, "", [1]])
def test_a_group_that_is_none_any_more_is_named(value):
    targets.check_groups(OmegaConf.create({"a": {}, "b": value}), "a")
    for name in ("b", "c"):
        with pytest.raises(ConfigError, match=rf"{name}=.* cannot work; give its values one by one, as {name}\.<key>"):
            targets.check_groups(OmegaConf.create({"a": {}, "b": value}), name)


def test_a_package_that_the_user_names_is_built(monkeypatch):
    node = OmegaConf.create({"_target_": "fractions.Fraction", "numerator": 3})
    with pytest.raises(ConfigError, match="set FER_TARGETS=fractions"):
        targets.build(node, "optimizer")
    monkeypatch.setenv(targets.OWN, "other, fractions")
    assert targets.build(node, "optimizer") == 3
