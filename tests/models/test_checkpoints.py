import lightning as L
import pytest
import torch
from samples import small_classifier

from fer.errors import ArtifactError
from fer.models import checkpoints


@pytest.fixture
def checkpoint(tmp_path):
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(small_classifier())
    trainer.save_checkpoint(tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


def test_a_checkpoint_needs_nothing_but_its_path(checkpoint):
    wanted = small_classifier().state_dict()
    model = checkpoints.load(str(checkpoint))
    assert not model.training
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())


def test_files_that_are_not_checkpoints_are_one_line(tmp_path):
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    for name in ("text.ckpt", "foreign.ckpt", "absent.ckpt", ""):
        with pytest.raises(ArtifactError, match=f"{tmp_path / name}.*best.ckpt") as caught:
            checkpoints.load(str(tmp_path / name))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [{"checkpoint_path": "x.pth"}, {"pretrained_cfg_overlay": {"file": "x.pth"}}])
def test_a_checkpoint_cannot_make_timm_load_other_files(model, checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    state["hyper_parameters"]["model"] |= model
    torch.save(state, checkpoint)
    with pytest.raises(ArtifactError, match=rf"best\.ckpt is not a checkpoint.*{next(iter(model))}"):
        checkpoints.load(str(checkpoint))


def test_a_checkpoint_cannot_ask_for_pretrained_weights(checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    state["hyper_parameters"]["model"]["pretrained"] = True  # resnet_small has none and would refuse
    torch.save(state, checkpoint)
    assert checkpoints.load(str(checkpoint)).hparams["model"]["pretrained"] is False
