"""The notebook for Colab, from top to bottom on drawn faces."""

import re
from pathlib import Path
from zipfile import ZipFile

import nbclient
import nbformat
import pytest
from samples import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COLAB = ROOT / "notebooks" / "train_on_colab.ipynb"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_has_no_outputs(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and not [cell.id for cell in code if cell.outputs or cell.execution_count]


def test_the_badge_opens_the_notebook_of_the_same_repository():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    repository, path = re.search(
        r"colab\.research\.google\.com/github/([\w-]+/[\w-]+)/blob/main/(\S+?)\)", readme
    ).groups()
    assert (ROOT / path).samefile(COLAB)
    assert f'REPOSITORY = \\"{repository}\\"' in COLAB.read_text(encoding="utf-8")


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_NOTEBOOK_DATA", "synthetic")
    monkeypatch.setenv("FER_NOTEBOOK_EPOCHS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(COLAB, 4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    cells = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    text = {name: "".join(each.get("text", "") for each in outputs) for name, outputs in cells.items()}
    pictures = {name: sum("image/png" in each.get("data", {}) for each in outputs) for name, outputs in cells.items()}
    assert "installed already" in text["install"]
    assert "test/accuracy" in text["report"] and pictures["report"] == 4
    assert "happy" in text["export"] and "parameters" in text["export"]
    assert pictures["photo"] == 1 and "left out" in text["webcam"]
    assert {"model.ts", "model.onnx", "README.md"} <= set(ZipFile(tmp_path / "fer_model.zip").namelist())
