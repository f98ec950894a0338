import json

from fer import report


def test_metrics_file_is_flat_and_sorted(tmp_path):
    report.write_metrics({"b": 1.0, "a": 0.5}, tmp_path / "metrics.json")
    assert list(json.loads((tmp_path / "metrics.json").read_text())) == ["a", "b"]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
