"""The GPU benchmark's measurements, tables and markers, on a CPU and a few images."""

import pytest
from samples import benchmark


@pytest.fixture(scope="module")
def bench():
    with benchmark("gpu") as module:
        yield module


def test_training_and_bare_loop_are_measured(bench, monkeypatch):
    given = bench.arguments(["--device=cpu", "--rows=64", "--steps=2", "train", "--batches", "16"])
    small = ["+model={widths:[4,8],depths:[1,1]}"]
    row = bench.train([*bench.overrides_of(given, 16, False), *small], bench.Clock())
    assert row["images"] == 2 * 64  # the first epoch warms up
    assert min(row["steps"], row["epochs"], row["warm-up"]) > 0
    config = bench.config
    monkeypatch.setattr(bench, "config", lambda: config(*small))
    assert bench.bare(16, "eager", "cpu", 64, 2)["steps"] > 0
    assert bench.missing("graphs", "cpu") == "needs CUDA"
    monkeypatch.setattr(bench.shutil, "which", lambda name: None)
    assert bench.missing("compiled", "cpu") == "no C compiler"


def test_tables_say_what_is_missing(bench, monkeypatch, tmp_path):
    given = bench.arguments(["--device=cpu", "train", "--batches", "64", "256"])
    rows = {"one-bare": {"steps": 2000.0}, "one-train": {"steps": 1500.0, "epochs": 1000.0, "warm-up": 7.4}}
    monkeypatch.setattr(bench, "apart", lambda given, *words: words)
    monkeypatch.setattr(bench, "finished", lambda words: "out of time" if words[1] == 256 else rows[words[0]])
    monkeypatch.setattr(bench, "missing", lambda kind, device: "needs CUDA" if kind == "graphs" else None)
    lines = bench.train_table(given)
    assert lines[2] == "| 64 | 2,000 | 2,000 | needs CUDA | 1,500, 1,000 | 1,500, 1,000 | 7 | 0.75 |"
    assert lines[3].startswith("| 256 | out of time | out of time | needs CUDA | out of time |")
    assert {line.count("|") for line in lines} == {9}

    page = tmp_path / "speed.md"
    page.write_text("a\n<!-- benchmarks/gpu.py train: begin -->\nold\n<!-- benchmarks/gpu.py train: end -->\nb\n")
    bench.write("train", lines, page)
    text = page.read_text()
    assert text.startswith("a\n<!--") and text.endswith("-->\nb\n") and "old" not in text
    assert "torch 2" in text and lines[2] in text


def test_the_page_has_a_place_for_every_table(bench):
    text = bench.PAGE.read_text(encoding="utf-8")
    for name in ("train", "packed", "recipe"):
        assert text.index(f"gpu.py {name}: begin") < text.index(f"gpu.py {name}: end")
