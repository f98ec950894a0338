"""The card of a run, and what a push hands to the Hub."""

import dataclasses
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import huggingface_hub
import numpy as np
import pytest
import yaml
from huggingface_hub import errors
from samples import tiny

from fer import artifact
from fer.artifact import Metadata, publish
from fer.artifact.__main__ import main
from fer.artifact.card import card
from fer.errors import ArtifactError
from fer.metrics import interval

METRICS = {
    "val/accuracy": 0.8, "val/recall_macro": 0.7, "val/ece": 0.051, "val/recall/a": 0.9, "val/support/a": 6.0,
    "val/support/b": 2.0, "val/support/c": 2.0, "test/accuracy": 0.55, "train/minutes": 3.0, "train/seed": 1.0,
    "train/epochs": 4.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, whose data lies in a folder with a name that is nobody's business."""
    folder = tmp_path_factory.mktemp("private of anna") / "runs" / "mine" / "2026-01-02_03-04-05"
    tiny(folder, "export.onnx=true")
    return folder


class Hub:
    """What reaches `HfApi`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.created: list[tuple[Any, ...]] = []
        self.files: dict[str, bytes] = {}
        self.error: Exception | None = None
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        self.created.append((repo_id, private, exist_ok))

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> SimpleNamespace:
        if self.error:
            raise self.error
        assert commit_message and self.created[-1][0] == repo_id
        self.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        return SimpleNamespace(oid="0123abc")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(monkeypatch)


def header(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


def test_a_card_has_a_header_figures_with_intervals_and_limits(meta):
    text = card(dataclasses.replace(meta, metrics=METRICS, data={"name": "image_folder"}, config={"name": "mine"}))
    known = header(text)
    assert (known["pipeline_tag"], known["library_name"]) == ("image-classification", "fer-lightning")
    assert "license" not in known, "it is left to the user"
    (model,) = known["model-index"]
    assert model["name"] == "mine"
    values = {r["dataset"]["split"]: r["metrics"][0]["value"] for r in model["results"]}
    assert values == {"val": 0.8, "test": 0.55}
    low, high = interval(np.arange(10) < 8)
    assert (
        f"| val, by its labels | 10 | 80.0 | {100 * low:.1f} – {100 * high:.1f} | 70.0 | 0.051 | 90.0 | – | – |" in text
    )
    assert "| test, by its labels | – | 55.0 | – | – | – |" in text
    assert "a, b, c" in text and "image_folder" in text and "Art. 5(1)(f)" in text and "4 epochs" in text
    huggingface_hub.ModelCard(text)  # the Hub's own reader


def test_a_card_without_figures_is_one(meta):
    assert "model-index" not in header(card(meta))


@pytest.mark.parametrize("name", ["a: b", "- x", "'quote", "yes", "{x}", "[a, b]", "ü|ü", "{{ x }}"])
def test_any_name_is_fit_for_the_header(meta, name):
    text = card(dataclasses.replace(meta, metrics=METRICS, data={"name": name}, config={"name": name}))
    assert header(text)["model-index"][0]["name"] == name and f"# {name}\n" in text


def test_a_run_is_a_folder_ready_to_be_pushed(run, hub):
    text = (run / "README.md").read_text(encoding="utf-8")
    assert "anna" not in text and str(Path.home()) not in text
    metadata = artifact.read_metadata(run / "model.ts")
    assert f"{100 * metadata.metrics['test/accuracy']:.1f}" in text and "hf://owner/name" in text
    assert publish.publish(run, "me/faces") == "hf://me/faces@0123abc"
    assert hub.created == [("me/faces", True, True)]
    assert set(hub.files) == {"model.ts", "model.onnx", "README.md"}
    assert hub.files["model.ts"] == (run / "model.ts").read_bytes()
    assert hub.files["README.md"].decode() == text.replace("owner/name", "me/faces")


def test_what_the_user_wrote_into_the_card_is_pushed_and_another_readme_is_not(run, hub, tmp_path):
    shutil.copy(run / "model.onnx", tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Mine, see owner/name\n")
    publish.publish(tmp_path, "me/faces", private=False)
    assert hub.files["README.md"] == b"---\nlicense: mit\n---\n# Mine, see me/faces\n"
    assert hub.created == [("me/faces", False, True)]
    (tmp_path / "README.md").write_text("# My diary\n")
    publish.publish(tmp_path, "me/faces")
    assert b"diary" not in hub.files["README.md"] and b"pipeline_tag" in hub.files["README.md"]


def test_of_several_runs_the_newest_finished_one_is_pushed(run, hub, meta, net):
    newest = run.parent / "2026-02-01_00-00-00"
    artifact.save(net, meta, newest / "model.ts")
    (run.parent / "2026-03-01_00-00-00").mkdir()  # was killed
    publish.publish(run.parent, "me/faces")
    assert set(hub.files) == {"model.ts", "README.md"} and hub.files["model.ts"] == (newest / "model.ts").read_bytes()
    shutil.rmtree(newest)


def test_a_file_and_an_included_model_are_pushed_under_the_usual_name(run, hub):
    publish.publish(run / "checkpoints" / ".." / "model.onnx", "me/faces")
    assert set(hub.files) == {"model.onnx", "README.md"}
    publish.publish(artifact.BUNDLED.with_suffix(".int8.onnx"), "me/faces")
    assert set(hub.files) == {"model.int8.onnx", "README.md"}
    publish.publish("accurate", "me/faces")
    assert set(hub.files) == {"model.ts", "README.md"}


def of_status(kind: type[errors.HfHubHTTPError], status: int) -> Exception:
    return kind("no", response=httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co")))


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (errors.LocalTokenNotFoundError("no token"), "hf auth login"),
        (of_status(errors.HfHubHTTPError, 401), "hf auth login"),
        (of_status(errors.HfHubHTTPError, 403), "hf auth login"),
        (errors.HFValidationError("no"), "owner/name"),
        (errors.OfflineModeIsEnabled("no"), "HF_HUB_OFFLINE is set; unset it"),
        (ConnectionError("refused\nby all"), r"\(refused by all\).*check the connection"),
    ],
)
def test_a_refusal_of_the_hub_is_one_line(run, hub, error, fix):
    hub.error = error
    with pytest.raises(ArtifactError, match=f"^push=me/faces: .*{fix}") as raised:
        publish.publish(run, "me/faces")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["push=me/faces"], "run=null must be a path"),
        (["push=me/faces", "run=nothing"], "no model file nothing"),
        (["push=me/faces", "run=empty"], "run=empty has none of model.ts, model.onnx"),
        (["push=me/faces", "run=text.ts"], "text.ts cannot be used"),
        (["push=me/faces", "run=empty", "private=maybe"], "private=maybe"),
        (["push=me/faces", "checkpoint=a.ckpt", "out=b.ts"], "run=<folder or file>"),
        (["push=faces", "run=fast"], "owner/name"),
        (["push=[a]", "run=fast"], "owner/name"),
    ],
)
def test_wrong_arguments_are_one_line(words, fix, hub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text.ts").write_text("x")
    monkeypatch.setattr(sys, "argv", ["fer.artifact", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert fix in error and not hub.created


def test_the_program_prints_the_link(run, hub, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fer.artifact", "push=me/my-faces", f"run={run.parent}", "private=false"])
    main()
    assert capsys.readouterr().out == "hf://me/my-faces@0123abc\n"
    assert hub.created == [("me/my-faces", False, True)]


def test_metadata_for_a_card_has_no_folders(run):
    metadata: Metadata = artifact.read_metadata(run / "model.onnx")
    assert "anna" not in metadata.to_json()
    for name in publish.FILES[:2]:
        assert b"private of anna" not in (run / name).read_bytes()
