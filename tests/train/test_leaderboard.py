"""Rows side by side, in the terminal and in the two files."""

import csv
import io
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from fer.errors import DataError
from fer.train import leaderboard
from fer.train.leaderboard import Row


def metrics(accuracy: float, **others: float) -> dict[str, float]:
    names = ("val/accuracy", "val/accuracy_flip", "val/f1_macro", "val/ece", "val/loss")
    costs = {"model/parameters": 1_400_000, "model/macs": 25_600_000, "train/images_per_second": 228.4}
    return {**dict.fromkeys(names, accuracy), **costs, "train/minutes": 1.5, **others}


ROWS = [
    Row(["model=b"], [metrics(0.5)]),
    Row(["model=c", "seed=1"], note="no room for /home/someone/runs/x.ckpt (full)"),
    Row(["model=a"], [metrics(0.6), metrics(0.8)]),
    Row(["init_from='/data/my models/x.ckpt'"], [metrics(0.5)]),
]


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, str]:
    out = io.StringIO()
    leaderboard.write(ROWS, tmp_path, "a sweep", Console(file=out, width=80))
    return tmp_path, out.getvalue()


def test_best_mean_first_and_failures_last(written):
    with (written[0] / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["configuration"] for row in rows] == ["model=a", "init_from='…/x.ckpt'", "model=b", "model=c seed=1"]
    assert [row["seeds"] for row in rows] == ["2", "1", "1", "0"]
    assert float(rows[0]["val/accuracy"]) == pytest.approx(0.7)
    assert float(rows[0]["val/accuracy_sd"]) == pytest.approx(0.141421, abs=1e-6)
    assert rows[1]["val/accuracy_sd"] == ""
    assert (rows[0]["parameters"], rows[0]["macs"]) == ("1400000", "25600000")
    assert rows[3]["note"] == "no room for …/x.ckpt (full)"


def test_what_is_monitored_ranks_and_tables_are_then_by_the_votes(tmp_path):
    votes = {"val_votes/accuracy": 0.25, "val_votes/nll": 0.7}
    rows = [
        Row(["model=a"], [metrics(0.9, **votes | {"val_votes/loss": 2.0})]),
        Row(["model=b"], [metrics(0.5, **votes | {"val_votes/loss": 1.0})]),
        Row(["model=c"], note="failed"),
    ]
    leaderboard.write(rows, tmp_path, "a sweep", Console(file=io.StringIO()), "val_votes/loss")
    with (tmp_path / "leaderboard.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["configuration"] for line in lines] == ["model=b", "model=a", "model=c"]
    assert (lines[0]["val/accuracy"], lines[0]["val_votes/accuracy"]) == ("0.5", "0.25")
    text = (tmp_path / "leaderboard.md").read_text()
    assert "On val_votes" in text
    assert "| model=b | 1 | 25.00% |" in text


def test_no_folder_of_the_machine_is_named(written):
    folder, shown = written
    for text in (shown, *(path.read_text() for path in folder.iterdir())):
        assert "someone" not in text
        assert "my models" not in text
        assert "x.ckpt" in text


def test_the_terminal_shows_whole_numbers_in_80_columns(written):
    shown = written[1]
    assert max(map(len, shown.split("\nmodel=c seed=1: ")[0].splitlines())) <= 80
    for number in ("70.00% ±14.14%", "1.40M", "25.6M", "228", "1.5"):
        assert number in shown
    assert "model=c seed=1: no room" in shown
    assert "…" not in shown.replace("…/", "")


SEEDS = [metrics(0.5), metrics(0.6)]
NAMES = {
    "one": [["optimizer.lr=0.01"], ["optimizer.lr=0.001"]],
    "three": [["optimizer.lr=0.01", "model=resnet_small", "data.batch_size=256"]],
    "twelve": [[f"optimizer.param_{k}=0.0001" for k in range(12)], ["model=a"]],
    "long": [["experiment=fer2013_small_distilled_from_three_teachers_by_flip_and_more"], ["model=[a]"]],
    "spaces": [["init_from='…/my old models/x.ckpt'", "model=vgg_small", "augment=camera"]],
    "wide letters": [["data.root=学習用の顔写真", "model=vgg_small"], ["data.root=b"]],
}


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("jobs", NAMES.values(), ids=NAMES)
def test_overrides_and_scores_are_whole_at_any_width(jobs: list[list[str]], width: int, tmp_path: Path):
    out = io.StringIO()
    leaderboard.write([Row(job, SEEDS) for job in jobs], tmp_path, "a sweep", Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    table = [line for line in lines if not line.startswith(("left out: ", "1: ", "2: "))]
    assert max(map(cell_len, table)) <= width
    for override in (override for job in jobs for override in job):
        assert any(override in line for line in lines), override
    assert sum("55.00% ±7.07%" in line for line in table) == len(jobs)
    assert sum("macro F1" in line for line in lines) == 1, "a column, or named as left out"


@pytest.mark.parametrize("text", ["null", "[1]", "{", "", '{"val/accuracy": "high"}', '{"a": [1]}'])
def test_what_holds_no_metrics_is_one_line(text, tmp_path):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(DataError, match=r"metrics\.json .*resume=auto") as caught:
        leaderboard.read_metrics(tmp_path / "metrics.json")
    assert "\n" not in str(caught.value)


def test_a_metric_that_is_nan_or_huge_is_left_out(tmp_path):
    (tmp_path / "metrics.json").write_text('{"val/accuracy": 0.5, "val/ece": NaN, "val/f1_macro": 1e308}')
    row = Row(["a"], [leaderboard.read_metrics(tmp_path / "metrics.json")] * 2)
    assert (row.mean("val/accuracy"), row.sd("val/accuracy")) == (0.5, 0)
    for name in ("val/ece", "val/f1_macro"):
        assert (row.mean(name), row.sd(name)) == (None, None)
    leaderboard.write([row, *ROWS], tmp_path, "a sweep", Console(file=io.StringIO()))


def test_markdown_has_a_line_for_each_row(written):
    lines = (written[0] / "leaderboard.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(ROWS)
    assert "| model=a | 2 | 70.00% ±14.14% |" in table[2]
    assert "| failed |" in table[5]
    assert len({line.count("|") for line in table}) == 1


def test_only_what_varies_is_named():
    jobs = [["data=synthetic", "model=a", "seed=1"], ["data=synthetic", "model=b", "seed=1"]]
    assert leaderboard.varying(jobs) == [["model=a"], ["model=b"]]
    assert leaderboard.varying(jobs[:1]) == jobs[:1]
