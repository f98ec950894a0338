import os
import pwd
import shutil

import pytest
import torch
from torch import nn

from fer import artifact
from fer.artifact import Metadata, trust
from fer.errors import ArtifactError

META = Metadata(classes=("a", "b"), channels=1, input_size=8, mean=(0.5,), std=(0.25,))


def made(path):
    torch.manual_seed(0)
    return artifact.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), META, path)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A model that somebody else has made: this user's list, and this process, know nothing of it."""
    monkeypatch.setenv("FER_TRUST", str(tmp_path / "makers.txt"))
    monkeypatch.setattr(trust, "_in_this_process", set())
    path = made(tmp_path / "m.ts")
    monkeypatch.setenv("FER_TRUST", str(tmp_path / "home" / "trusted.txt"))
    trust._in_this_process.clear()
    return path


def test_what_was_made_here_is_trusted_wherever_it_is_moved(tmp_path, monkeypatch):
    monkeypatch.setattr(trust, "_in_this_process", set())
    path = made(tmp_path / "m.ts")
    assert trust.list_file().read_text().splitlines()[-1] == f"{trust.digest(path)} m.ts"
    trust._in_this_process.clear()  # as in another process: the list is on disk
    artifact.load(path.rename(tmp_path / "moved.ts"))


def test_a_file_from_elsewhere_is_not_run(elsewhere, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("its code was loaded"))
    uses = (
        artifact.load,
        artifact.backbone_weights,
        lambda path: artifact.save_ensemble([path, path], tmp_path / "mean.ts"),
    )
    for use in uses:
        with pytest.raises(ArtifactError, match=r"trust=true \(once\)") as caught:
            use(elsewhere)
        assert "\n" not in str(caught.value)
    assert artifact.read_metadata(elsewhere) == META  # which runs nothing


def test_trusted_once_it_is_remembered_until_it_changes(elsewhere, tmp_path):
    trust.accept([None, "bundled", "cuda", str(tmp_path / "nothing.ts"), elsewhere])
    trust._in_this_process.clear()
    artifact.load(elsewhere)
    assert trust.list_file().read_text() == f"{trust.digest(elsewhere)} m.ts\n"
    with elsewhere.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ArtifactError, match="was not made here"):
        trust.check(elsewhere)


def test_a_home_that_is_a_file_stops_nothing(elsewhere, tmp_path):
    (tmp_path / "home").write_text("")
    trust.add(elsewhere)
    artifact.load(elsewhere)


def test_a_list_without_an_end_or_that_cannot_be_read_is_no_list(elsewhere, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    for place in ("/dev/full", "/dev/zero", str(tmp_path / "pipe"), str(tmp_path)):
        monkeypatch.setenv("FER_TRUST", place)
        monkeypatch.setattr(trust, "_in_this_process", set())
        with pytest.raises(ArtifactError, match="was not made here"):
            trust.check(elsewhere)
        trust.add(elsewhere)
        trust.check(elsewhere)


def test_a_user_without_a_home_has_no_list(elsewhere, monkeypatch):
    monkeypatch.delenv("FER_TRUST")
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    with pytest.raises(ArtifactError, match="was not made here"):
        trust.check(elsewhere)
    trust.add(elsewhere)
    trust.check(elsewhere)
    assert trust.accept([str(elsewhere), "a\ufffdb"]) is None


def test_only_files_have_a_digest(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ArtifactError, match="it is no regular file"):
            trust.digest(path)


def test_a_name_cannot_forge_a_line(elsewhere, tmp_path):
    other = tmp_path / f"x\n{'0' * 64} y.ts"
    other.write_bytes(b"1")
    trust.add(other)
    assert len(trust.list_file().read_text().splitlines()) == 1


def test_the_included_models_need_no_list(monkeypatch, tmp_path):
    monkeypatch.setenv("FER_TRUST", str(tmp_path / "none"))
    for path in trust.INCLUDED.glob("*.ts"):
        trust.check(path)
        shutil.copy(path, tmp_path / "copy.ts")
        trust.check(tmp_path / "copy.ts")
