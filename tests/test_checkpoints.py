import pytest
import torch

from fer import checkpoints
from fer.errors import ArtifactError


def test_files_that_are_no_checkpoints(tmp_path):
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    for name in ("text.ckpt", "foreign.ckpt", "absent.ckpt"):
        with pytest.raises(ArtifactError, match=name) as caught:
            checkpoints.load(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_a_continued_run_keeps_the_earlier_best(tmp_path):
    class Checkpoint:
        state_key, dirpath, best_model_path = "key", str(tmp_path), "of this run"
        best_model_score = torch.tensor(0.5)

    (tmp_path / "old.ckpt").write_bytes(b"earlier")
    for score, wanted in ((0.6, str(tmp_path / "best.ckpt")), (0.4, "of this run")):
        state = {"best_model_path": str(tmp_path / "old.ckpt"), "best_model_score": torch.tensor(score)}
        torch.save({"callbacks": {"key": state}}, tmp_path / "last.ckpt")
        assert checkpoints.best_of(Checkpoint, str(tmp_path / "last.ckpt")) == wanted
    assert (tmp_path / "best.ckpt").read_bytes() == b"earlier"
