import shutil
from pathlib import Path

import pytest
import torch

from fer import artifact
from fer.artifact import trust
from fer.artifact.ensemble import save_ensemble
from fer.errors import ArtifactError


@pytest.fixture
def elsewhere(model, tmp_path, monkeypatch):
    """A model from somebody else: neither this user's list nor this process knows it."""
    monkeypatch.setenv("FER_TRUST", str(tmp_path / "home" / "trusted.txt"))
    monkeypatch.setattr(trust, "_in_this_process", set())
    return Path(shutil.copy(model, tmp_path / "m.ts"))


def test_a_file_made_here_is_trusted_wherever_it_is_moved(net, meta, tmp_path, monkeypatch):
    monkeypatch.setenv("FER_TRUST", str(tmp_path / "trusted.txt"))
    monkeypatch.setattr(trust, "_in_this_process", set())
    path = artifact.save(net, meta, tmp_path / "m.ts")
    assert trust.list_file().read_text() == f"{trust.digest(path)} m.ts\n"
    trust._in_this_process.clear()  # as in another process
    artifact.load(path.rename(tmp_path / "moved.ts"))


def test_a_file_from_elsewhere_is_not_run(elsewhere, meta, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("its code was loaded"))
    uses = (
        artifact.load,
        artifact.backbone_weights,
        lambda path: save_ensemble([path, path], tmp_path / "mean.ts"),
    )
    for use in uses:
        with pytest.raises(ArtifactError, match="trust=true on the command line") as error:
            use(elsewhere)
        assert "\n" not in str(error.value)
    assert artifact.read_metadata(elsewhere) == meta  # which runs nothing


def test_a_file_trusted_once_is_remembered_until_it_changes(elsewhere, tmp_path):
    trust.accept([None, "bundled", str(tmp_path / "nothing.ts"), elsewhere])
    trust._in_this_process.clear()
    artifact.load(elsewhere)
    assert trust.list_file().read_text() == f"{trust.digest(elsewhere)} m.ts\n"
    with elsewhere.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ArtifactError, match="trust=true"):
        trust.check(elsewhere)


def test_a_list_that_cannot_be_written_lasts_for_this_process(elsewhere, tmp_path):
    (tmp_path / "home").write_text("")
    trust.add(elsewhere)
    artifact.load(elsewhere)


def test_a_name_cannot_forge_a_line(elsewhere, tmp_path):
    other = tmp_path / f"x\n{'0' * 64} y.ts"
    other.write_bytes(b"1")
    trust.add(other)
    assert len(trust.list_file().read_text().splitlines()) == 1


def test_the_included_models_and_copies_of_them_need_no_list(monkeypatch, tmp_path):
    monkeypatch.setenv("FER_TRUST", str(tmp_path / "none"))
    for path in trust.INCLUDED.glob("*.ts"):
        trust.check(path)
        shutil.copy(path, tmp_path / "copy.ts")
        trust.check(tmp_path / "copy.ts")
