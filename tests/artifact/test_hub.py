"""Models from the Hugging Face Hub, of which a server on this computer has as much as a download needs."""

import hashlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import huggingface_hub
import lightning as L
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from samples import ROOT, served, small_classifier
from torch import nn

from fer import artifact
from fer.artifact import hub, trust
from fer.errors import ArtifactError
from fer.evaluate import predict
from fer.labels import EMOTIONS
from fer.stream import Recognizer
from fer.train import initial_weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class StandIn:
    """The repository me/faces. `damage` spoils what it sends; `requests` are methods and addresses."""

    def reset(self, files: dict[str, bytes]) -> None:
        self.files, self.damage = dict(files), ""
        self.requests: list[str] = []
        self.tokens: set[str | None] = set()

    def handler(hub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(False)

            def do_GET(self) -> None:
                self.answer(True)

            def answer(self, body: bool) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                hub.tokens.add(self.headers.get("Authorization"))
                found = re.fullmatch(r"/me/faces/resolve/([^/]+)/(.+)", self.path)
                if not found:
                    return self.refuse(401, "")  # as the Hub answers for what may be private
                if hub.damage.isdigit():
                    return self.refuse(int(hub.damage), "GatedRepo" if hub.damage == "403" else "")
                if found[1] not in ("main", "v1", COMMIT):
                    return self.refuse(404, "RevisionNotFound")
                if found[2] not in hub.files:
                    return self.refuse(404, "EntryNotFound")
                content = hub.files[found[2]]
                start = int((re.findall(r"\d+", self.headers.get("Range") or "") or ["0"])[0])
                sent = content[start:]
                self.send_response(206 if start else 200)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                if body and hub.damage == "short":  # than HEAD has said
                    sent = sent[: len(sent) // 2]
                if body and hub.damage == "other":
                    sent = bytes(len(sent))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                if body:
                    self.wfile.write(sent[: len(sent) // 2] if hub.damage == "break" else sent)
                    self.close_connection = True
                return None

            def refuse(self, status: int, code: str) -> None:
                self.send_response(status)
                if code:
                    self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        return Handler


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same small network as TorchScript and ONNX, made elsewhere: this computer does not know the file."""
    folder = tmp_path_factory.mktemp("models")
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(144, 7))
    metadata = artifact.Metadata(EMOTIONS, 1, 48, (0.5,), (0.25,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust, "add", lambda _: None)
        artifact.save(network, metadata, folder / "model.ts")
        artifact.save(network, metadata, folder / "model.onnx", "onnx")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[StandIn, str]]:
    standin = StandIn()
    with served(standin.handler()) as url:
        yield standin, url


@pytest.fixture
def standin(
    server: tuple[StandIn, str], models: dict[str, bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StandIn]:
    standin, url = server
    standin.reset(models)
    monkeypatch.setattr("time.sleep", lambda _: None)  # between attempts
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    hub._download.cache_clear()
    yield standin
    hub._download.cache_clear()
    huggingface_hub.close_session()


def kept(cache: Path) -> list[str]:
    """The files in the cache under their name or digest, whole or not; links to nothing are not files."""
    return sorted(p.name for p in cache.rglob("*") if p.parent.name in ("blobs", COMMIT) and p.is_file())


def test_a_file_is_downloaded_once_and_its_digest_is_one_line(standin, models, cache, capsys):
    path = artifact.find("hf://me/faces/model.onnx")
    digest = hashlib.sha256(models["model.onnx"]).hexdigest()
    assert path.read_bytes() == models["model.onnx"] and path.is_relative_to(cache)
    assert capsys.readouterr().err.splitlines()[-1] == f"hf://me/faces@{COMMIT}/model.onnx has sha256 {digest}"
    seen = len(standin.requests)
    assert artifact.find("hf://me/faces/model.onnx") == path and len(standin.requests) == seen
    hub._download.cache_clear()  # another process
    assert artifact.find("hf://me/faces/model.onnx") == path
    assert standin.requests[seen:] == ["HEAD /me/faces/resolve/main/model.onnx"]


def test_in_a_program_that_logs_the_line_is_in_its_log(standin, caplog, capsys):
    with caplog.at_level(logging.INFO):
        artifact.find("hf://me/faces/model.onnx")
    assert [r.getMessage() for r in caplog.records if "sha256" in r.getMessage()]
    assert "sha256" not in capsys.readouterr().err


@pytest.mark.parametrize("link", ["hf://me/faces@v1/model.onnx", f"hf://me/faces@{COMMIT}", Path("hf://me/faces@v1")])
def test_a_branch_tag_or_commit_is_asked_for(standin, link):
    assert artifact.find(link).name == "model.onnx"
    revision = re.split("[@/]", str(link))[-1 if "model" not in str(link) else -2]
    assert standin.requests[0] == f"HEAD /me/faces/resolve/{revision}/model.onnx"


def test_without_a_file_it_is_the_onnx_or_else_the_torchscript(standin):
    assert artifact.find("hf://me/faces").name == "model.onnx"
    del standin.files["model.onnx"]
    hub._download.cache_clear()
    assert artifact.find("hf://me/faces@v1").name == "model.ts"
    del standin.files["model.ts"]
    with pytest.raises(ArtifactError, match=r"hf://me/faces: there is no such file; see http.*/me/faces/tree/main"):
        artifact.find("hf://me/faces")


def test_a_file_in_the_cache_needs_no_connection(standin, monkeypatch):
    path = artifact.find("hf://me/faces")
    hub._download.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    seen = len(standin.requests)
    assert artifact.find("hf://me/faces") == path
    with pytest.raises(ArtifactError, match=r"not in the cache, and HF_HUB_OFFLINE is set; unset it$"):
        artifact.find("hf://me/faces@v2/model.ts")
    assert len(standin.requests) == seen


@pytest.mark.parametrize(
    ("link", "fix"),
    [
        ("hf://me", "must be hf://owner/name/file"),
        ("hf://me/faces/", "must be hf://owner/name/file"),
        ("hf://me/fa ces/model.onnx", "must be owner/name"),
        ("hf://you/nothing/model.onnx", "no such repository, or you may not use it; .*hf auth login"),
        ("hf://me/faces/other.onnx", "no such file; see http.*/me/faces/tree/main"),
        ("hf://me/faces@v9/model.onnx", "no such branch, tag or commit; see http.*/me/faces/commits/main"),
        ("hf://me/faces/../../x", "nothing half is kept"),
    ],
)
def test_a_link_to_nothing_is_one_line(standin, cache, link, fix):
    with pytest.raises(ArtifactError, match=fix) as error:
        artifact.load(link)
    assert str(error.value).startswith(link) and "\n" not in str(error.value)
    assert not kept(cache)


@pytest.mark.parametrize(
    ("damage", "fix"),
    [
        ("break", "nothing half is kept; check the connection, try again"),
        ("short", "nothing half is kept; check the connection, try again"),
        ("other", "not the file that the Hub has, and was deleted; try again"),
        ("401", "hf auth login"),
        ("403", "its owner has to let you in; ask at http.*/me/faces"),
        ("500", "try again"),
    ],
)
def test_a_broken_download_is_one_line_and_leaves_nothing_half(standin, models, cache, damage, fix):
    standin.damage = damage
    with pytest.raises(ArtifactError, match=fix) as error:
        artifact.load("hf://me/faces/model.onnx")
    assert "\n" not in str(error.value)
    assert not kept(cache)
    standin.damage = ""
    assert artifact.find("hf://me/faces/model.onnx").read_bytes() == models["model.onnx"]


def test_a_server_that_is_away_is_one_line(standin, monkeypatch):
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    )
    with pytest.raises(ArtifactError, match=r"cannot be used \(.*\); nothing half is kept; check the connection"):
        artifact.find("hf://me/faces")


def test_torchscript_from_the_hub_needs_trust_and_onnx_does_not(standin):
    images = np.zeros((1, 1, 48, 48), np.uint8)
    assert artifact.load("hf://me/faces")(images).shape == (1, 7)
    with pytest.raises(ArtifactError, match="trust=true"):
        artifact.load("hf://me/faces/model.ts")
    with pytest.raises(ArtifactError, match="trust=true"):
        Recognizer("hf://me/faces/model.ts", device="cpu")
    recognizer = Recognizer("hf://me/faces/model.ts", device="cpu", trust=True)
    assert recognizer.model == "model.ts" and recognizer.classes == EMOTIONS


def test_every_key_that_takes_a_model_takes_a_link(standin, tmp_path):
    trust.accept(["hf://me/faces/model.ts"])
    (model,) = predict.load_models(["hf://me/faces"], "cpu")
    assert model.name == "me/faces" and model.metadata.classes == EMOTIONS
    assert set(artifact.backbone_weights("hf://me/faces/model.ts")) == {"2.weight", "2.bias"}
    assert initial_weights._read("hf://me/faces")[2] == EMOTIONS, "of the two it is the one with weights"
    classifier = small_classifier()
    saved = {
        "state_dict": classifier.state_dict(),
        "hyper_parameters": dict(classifier.hparams),
        "pytorch-lightning_version": L.__version__,
    }
    torch.save(saved, tmp_path / "best.ckpt")
    standin.files["runs/best.ckpt"] = (tmp_path / "best.ckpt").read_bytes()
    (model,) = predict.load_models(["hf://me/faces/runs/best.ckpt"], "cpu")
    assert model.metadata.classes == ("a", "b", "c")
    assert initial_weights._read("hf://me/faces/runs/best.ckpt")[2] == ("a", "b", "c")


def test_programs_use_the_variables_of_the_hub(standin, tmp_path):
    """HF_ENDPOINT, HF_HOME and HF_TOKEN."""
    environment = os.environ | {
        "HF_ENDPOINT": constants.ENDPOINT, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_secret",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    code = "from fer import artifact; print(artifact.load('hf://me/faces').metadata.channels)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr
    assert "Bearer hf_secret" in standin.tokens
    assert list((tmp_path / "home" / "hub").rglob("model.onnx"))
    assert "hf_secret" not in done.stderr


def test_start_up_does_not_wait_for_the_hub():
    code = "import sys, fer.artifact, fer.stream.recognizer; assert 'huggingface_hub' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)


def test_trust_is_given_to_the_file_that_a_training_starts_from(standin, monkeypatch, tmp_path):
    monkeypatch.setenv("FER_TRUST", str(tmp_path / "trusted.txt"))
    monkeypatch.setattr(trust, "_in_this_process", set())
    trust.accept(["hf://me/faces"])
    with pytest.raises(ArtifactError, match="trust=true"):
        initial_weights._read("hf://me/faces")
    trust.accept(["hf://me/faces"], initial_weights.FILES)
    assert initial_weights._read("hf://me/faces")[2] == EMOTIONS
