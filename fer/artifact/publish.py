"""Publish models on the Hugging Face Hub. The files of a run and its card are one folder, ready to be pushed."""

import re
import shutil
import tempfile
from pathlib import Path

from fer.artifact import find, read_metadata
from fer.artifact.card import REPOSITORY, card
from fer.artifact.hub import explained
from fer.errors import ArtifactError
from fer.files import write_file

FILES = ("model.ts", "model.onnx", "model.int8.onnx")
"""The models of a run that are pushed, as far as they are there."""
CARD = "README.md"


def write_card(run: Path) -> None:
    """Write the card of a run from the metadata of its model, if it has one for `fer.artifact.load`."""
    if files := _models(run):
        write_file(run / CARD, card(read_metadata(next(iter(files.values())))))


def publish(run: str | Path, repository: str, private: bool = True) -> str:
    """Upload a run to the Hub as one commit. The repository is created if there is none.

    Args:
        run: A run's folder; one of several runs, of which the newest is taken; or an artifact, by its path or the name
            of an included model. An artifact is called model.ts, model.onnx or model.int8.onnx on the Hub.
        repository: owner/name.
        private: Whether a new repository is private. One that is there stays as it is.

    Returns:
        The link to this version, hf://owner/name@commit.

    Raises:
        ArtifactError: There is no model, or the Hub does not take it.
    """
    if not re.fullmatch("[^/]+/[^/]+", repository):
        raise ArtifactError(f"push={repository} must be owner/name, as in me/my-faces")
    source = find(run)
    files = _models(source) if source.is_dir() else {_name(source): source}
    if not files:
        raise ArtifactError(f"run={run} has none of {', '.join(FILES)}; give the folder of a finished run, or a model")
    edited = next(iter(files.values())).with_name(CARD)
    text = edited.read_text(encoding="utf-8") if source.is_dir() and edited.is_file() else ""
    if not text.startswith("---"):  # a README of something else
        text = card(read_metadata(next(iter(files.values()))))
    from huggingface_hub import HfApi  # takes time to import

    with tempfile.TemporaryDirectory() as folder:
        for name, file in files.items():
            shutil.copyfile(file, Path(folder) / name)
        write_file(Path(folder) / CARD, text.replace(REPOSITORY, repository))
        try:
            api = HfApi()
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload a model of fer")
        except Exception as error:  # of the Hub, of HTTP
            raise explained(f"push={repository}", repository, error) from error
    return f"hf://{repository}@{commit.oid}"


def _models(folder: Path) -> dict[str, Path]:
    """Return the models of a run, or those of the newest run in a folder, by name."""
    for run in (folder, *sorted(filter(Path.is_dir, folder.iterdir()), reverse=True)):
        if found := {name: run / name for name in FILES if (run / name).is_file()}:
            return found
    return {}


def _name(artifact: Path) -> str:
    return f"model{'.int8' if read_metadata(artifact).precision == 'int8' else ''}{artifact.suffix}"
