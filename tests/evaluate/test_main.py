"""The command."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from samples import ROOT, faces_in

from fer import artifact, metrics
from fer.data import synthetic, votes
from fer.data.base import Split
from fer.data.folder import read_part
from fer.errors import ArtifactError, ConfigError, DataError
from fer.evaluate import predict
from fer.labels import EMOTIONS, canonical


def test_checkpoint_and_artifact_of_a_run_score_as_the_run_says(run_folder, run, no_pictures):
    models = f"models=['{run_folder}/checkpoints/best.ckpt','{run_folder}/model.ts']"
    expected = json.loads((run_folder / "metrics.json").read_text())
    for split in ("val", "test"):
        result = run(models, f"split={split}", "robustness=false")
        assert len(result["models"]) == 2
        for figures in result["models"].values():
            for name in ("accuracy", "accuracy_flip", "f1_macro", "recall/happy"):
                assert figures[name] == pytest.approx(expected[f"{split}/{name}"]), name
            for name in ("ece", "ece_raw", "loss", "nll"):
                assert figures[name] == pytest.approx(expected[f"{split}/{name}"], abs=1e-4), name
            assert figures["temperature"] == pytest.approx(expected["val/temperature"], abs=1e-3)
            assert figures["accuracy_low"] <= figures["accuracy"] <= figures["accuracy_high"]
        assert result["mcnemar"][0]["p"] == 1


def test_everything_is_written(run_folder, make_model, run, tmp_path, capsys):
    out, other = tmp_path / "out", make_model(tmp_path / "other.ts", 3)
    result = run(f"models=['{run_folder}/model.ts','{other}']")
    assert list(result["models"]) == [f"{run_folder.parent.name}/today", "other"]
    assert json.loads((out / "metrics.json").read_text()) == result
    assert 0 <= result["models"]["other"]["robustness/noise/3"] <= 1
    text, printed = (out / "report.md").read_text(), capsys.readouterr().out
    for words in ("McNemar's exact test", "Accuracy under corruptions", "Classes of other", "95 % interval"):
        assert words in text
        assert words in printed
    names = {path.name for path in (out / "2_other").iterdir()}
    assert names == {"confusion_matrix.png", "reliability.png", "mistakes.png"}
    assert str(tmp_path) not in text + (out / "metrics.json").read_text()


def test_no_folder_leads_out_of_the_report(make_model, run, tmp_path, no_pictures):
    odd = make_model(tmp_path / "..; rm *.ts", 0)
    run(f"models=['{odd}','{make_model(tmp_path / 'b.ts', 1)}']", "robustness=false")
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"1_..__rm__", "2_b"}


def test_figures_are_those_of_the_artifact_itself(make_model, run, splits, tmp_path, no_pictures):
    path = make_model(tmp_path / "m.ts", 0, std=(0.02,))
    result = run(f"models='{path}'", "robustness=false")["models"]["m"]
    split, model = splits["val"], artifact.load(path)
    images = torch.from_numpy(split.images.copy())[:, None]
    plain, mirrored = model(images).numpy(), model(images.flip(3)).numpy()
    assert not np.allclose(plain, mirrored, atol=1e-3)
    assert result["ece"] == pytest.approx(metrics.ece(plain, split.labels), abs=1e-5)
    assert result["nll"] == pytest.approx(metrics.nll(plain, split.labels), abs=1e-5)
    assert result["accuracy_flip"] == pytest.approx(((plain + mirrored).argmax(1) == split.labels).mean())


def test_figures_of_an_artifact_that_averages_with_the_mirror_image_are_its_own(
    make_model, run, splits, tmp_path, no_pictures
):
    path = make_model(tmp_path / "m.ts", 0, std=(0.02,), flip=True)
    figures = run(f"models='{path}'", "robustness=false")["models"]["m"]
    split = splits["val"]
    shares = artifact.load(path)(torch.from_numpy(split.images.copy())[:, None]).numpy()
    for name, key in (("accuracy", "accuracy"), ("loss", "nll"), ("ece", "ece")):
        assert figures[key] == pytest.approx(metrics.compute(shares, split.labels, EMOTIONS)[name], abs=1e-5), name
    assert figures["accuracy_flip"] == figures["accuracy"]
    assert figures["loss"] != pytest.approx(figures["nll"], abs=1e-3)  # before the temperature


def test_an_onnx_model_scores_like_the_same_model_in_torchscript(make_model, run, tmp_path, no_pictures):
    paths = [make_model(tmp_path / "a.ts", 0), make_model(tmp_path / "b.onnx", 0, format="onnx")]
    models = run(f"models={[str(path) for path in paths]}", "robustness=false")["models"]
    assert models["b"] == pytest.approx(models["a"], abs=1e-3)


def test_the_average_is_one_artifact_with_the_figures_of_the_report(run_folder, make_model, run, tmp_path, no_pictures):
    paths = [make_model(tmp_path / "a.ts", 0), make_model(tmp_path / "b.ts", 1, flip=True, temperature=0.4)]
    given = ",".join(f"'{path}'" for path in [*paths, run_folder / "checkpoints" / "best.ckpt"])
    result = run(f"models=[{given}]", "average=true", "split=test")
    assert (len(result["models"]), len(result["mcnemar"])) == (4, 6)
    *members, average = result["models"].values()
    metadata = artifact.read_metadata(tmp_path / "out" / "average.ts")
    assert metadata.metrics["test/accuracy"] == average["accuracy"]
    assert metadata.parameters == average["parameters"] == sum(figures["parameters"] for figures in members)
    assert len(metadata.config["members"]) == 3
    again = run(f"models='{tmp_path}/out/average.ts'", "split=test", out=tmp_path / "again")["models"]["average"]
    assert again["temperature"] == average["temperature"] == metadata.temperature
    assert again["nll"] == pytest.approx(average["nll"], abs=1e-4)  # although b.ts averages with the mirror image
    assert again["robustness/blur/2"] == average["robustness/blur/2"]


def test_the_average_is_that_of_calibrated_probabilities(make_model, run, splits, tmp_path, no_pictures):
    colour = {"channels": 3, "mean": [0.5] * 3, "std": [0.1] * 3, "input_size": 40, "temperature": 0.4}
    paths = [make_model(tmp_path / "a.ts", 0), make_model(tmp_path / "b.ts", 1, **colour)]
    run(f"models=['{paths[0]}','{paths[1]}']", "average=true", "robustness=false")
    images = torch.from_numpy(splits["val"].images.copy())[:, None]
    mean = sum(artifact.load(path)(images) for path in paths) / 2
    loaded = artifact.load(tmp_path / "out" / "average.ts")
    assert torch.allclose(loaded(images), (mean.log() / loaded.metadata.temperature).softmax(1), atol=1e-6)
    fitted = metrics.fit_temperature(mean.log().numpy(), splits["val"].labels)
    assert loaded.metadata.temperature == pytest.approx(fitted, rel=1e-3)


def test_a_model_that_is_called_average_keeps_its_own_figures(make_model, run, tmp_path, no_pictures):
    a, b = make_model(tmp_path / "average.ts", 0), make_model(tmp_path / "b.ts", 1)
    alone = run(f"models='{a}'")["models"]["average"]
    result = run(f"models=['{a}','{b}']", "average=true")
    assert list(result["models"]) == ["average'", "b", "average"]
    assert result["models"]["average'"] == alone


def test_models_that_do_not_fit_together_are_refused_before_they_are_evaluated(make_model, run, tmp_path):
    paths = [make_model(tmp_path / "a.ts", 0), make_model(tmp_path / "b.ts", 1, crop_margin=0.2)]
    with pytest.raises(ArtifactError, match=r"b\.ts has crop_margin 0\.2"):
        run(f"models=['{paths[0]}','{paths[1]}']", "average=true")
    assert not (tmp_path / "out").exists()


def test_duplicates_are_left_out(make_model, run, splits, tmp_path, monkeypatch, no_pictures):
    copied = splits["val"].images.copy()
    copied[:4] = splits["train"].images[:4]
    changed = splits | {"val": Split(copied, splits["val"].labels, EMOTIONS)}
    read(monkeypatch, changed)
    path = make_model(tmp_path / "m.ts", 0)
    counts = [
        run(f"models='{path}'", "robustness=false", f"without_duplicates={flag}")["images"] for flag in (False, True)
    ]
    assert counts == [21, 17]


def read(monkeypatch, splits: dict[str, Split]) -> None:
    """Let `data=synthetic` give these splits."""

    def reader(**_):
        return splits

    reader.__module__ = synthetic.__name__
    monkeypatch.setattr(synthetic, "read", reader)


def test_colour_folders_with_classes_of_their_own(make_model, run, tmp_path, no_pictures):
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name, tint in (("bored", 60), ("keen", 190)):
            (tmp_path / "faces" / split / name).mkdir(parents=True)
            for k in range(4):
                image = np.clip(rng.normal(tint, 30, (50, 50, 3)), 0, 255).astype(np.uint8)
                cv2.imwrite(str(tmp_path / "faces" / split / name / f"{k}.png"), image)
    path = make_model(tmp_path / "m.ts", 0, classes=("bored", "keen"))
    data = ["data=image_folder", f"data.root='{tmp_path}/faces'", "data.channels=3"]
    assert run(f"models='{path}'", "split=test", data=data)["images"] == 8


@pytest.mark.parametrize("name", ["image_folder", "listed"])
def test_another_seed_than_that_of_the_training_is_warned_of(
    name, make_model, run, splits, tmp_path, capsys, no_pictures
):
    rows = ["path,label,group"]
    for k, image in enumerate(splits["train"].images[:56]):
        path = tmp_path / "faces" / EMOTIONS[k % 7] / f"person {k // 7}" / f"{k}.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), image)
        rows.append(f"{path.relative_to(tmp_path / 'faces')},{path.parts[-3]},{path.parts[-2]}")
    if name == "listed":
        (tmp_path / "faces" / "list.csv").write_text("\n".join(rows))
    trained = {"data": {"name": name, "fingerprint": "of another cut"}, "config": {"seed": 3}}
    path = make_model(tmp_path / "m.ts", 0, **trained)
    for seed, warned in ((3, False), (1, True)):
        data = [f"data={name}", f"data.root='{tmp_path}/faces'"]
        run(f"models='{path}'", "robustness=false", f"seed={seed}", data=data)
        assert ("m was trained with seed=3" in capsys.readouterr().err) == warned


SIX = EMOTIONS[:6]


def votes_file(path, splits: dict[str, Split]):
    """Votes that agree with the labels, but for the first image of a split, called happy, and the second, no face."""
    columns = [canonical(name) or name for name in votes.COLUMNS]
    lines = [",".join(("Usage", "Image name", *votes.COLUMNS))]
    for name, usage in (("train", "Training"), ("val", "PublicTest"), ("test", "PrivateTest")):
        for voted in ["happy", "NF", *(EMOTIONS[label] for label in splits[name].labels[2:])]:
            lines.append(f"{usage},x.png," + ",".join("9" if column == voted else "0" for column in columns))
    path.write_text("\n".join(lines))
    return path


def test_the_majority_of_the_votes_and_folders_are_judged_as_well(make_model, run, splits, tmp_path, capsys):
    paths = [str(make_model(tmp_path / f"{n}.ts", n, input_size=40 + n)) for n in range(2)]
    table = votes_file(tmp_path / "v.csv", splits)
    faces, other = faces_in(tmp_path / "a" / "press"), faces_in(tmp_path / "b" / "press", 1, [*SIX, "contempt"])
    result = run(f"models={paths}", f"data.votes='{table}'", f"also=['{faces}','{other}']", "robustness=false")
    assert list(result["sets"]) == ["val_votes", "a/press", "b/press"]
    supports = {
        name: [models["0"][f"support/{e}"] for e in EMOTIONS if f"support/{e}" in models["0"]]
        for name, models in result["sets"].items()
    }
    assert (sum(supports["val_votes"]), supports["a/press"], supports["b/press"]) == (20, [2] * 7, [1] * 6)
    assert "b/press: judged on the 6 classes" in result["note"]
    assert result["images"] == 21
    majority = votes.attach(splits, votes.read(table), table)["val"].by_majority()
    network = artifact.load(paths[1])
    right = network(torch.from_numpy(majority.images.copy())[:, None]).argmax(1).numpy() == majority.labels
    assert result["sets"]["val_votes"]["1"]["accuracy"] == pytest.approx(right.mean())
    whole = read_part("also", faces, "all", 41, 1, "auto")
    right = network(torch.from_numpy(whole.images.copy())[:, None]).argmax(1).numpy() == whole.labels
    assert result["sets"]["a/press"]["1"]["accuracy"] == pytest.approx(right.mean())
    assert [pair["set"] for pair in result["mcnemar"]] == ["val", *result["sets"]]
    assert (tmp_path / "out" / "2_1" / "a_press" / "confusion_matrix.png").is_file()
    text, printed = (tmp_path / "out" / "report.md").read_text(), capsys.readouterr().out
    for words in ("val_votes: 20 images", "press: 14 images", "Classes of 1, a/press", "b/press, 0", "All sets"):
        assert words in text
        assert (words in printed) == (words in ("b/press, 0", "All sets"))


@pytest.mark.parametrize("monitor", ["val/accuracy", "val_votes/accuracy"])
def test_the_temperature_of_a_checkpoint_is_fitted_on_what_chose_it(
    monitor, classifier, checkpoint, run, splits, tmp_path, no_pictures
):
    table = votes_file(tmp_path / "v.csv", splits)
    val = votes.attach(splits, votes.read(table), table)["val"]
    fitted = val if monitor == "val/accuracy" else val.by_majority()
    result = run(f"models='{checkpoint(monitor=monitor)}'", f"data.votes='{table}'", "robustness=false", "split=test")
    logits = predict.logits(predict.network_of(classifier), fitted.images)
    (figures,) = result["models"].values()
    assert figures["temperature"] == pytest.approx(metrics.fit_temperature(logits, fitted.labels), rel=1e-3)


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (["models=null"], ConfigError, "models= names no model"),
        (["models=[]"], ConfigError, "models= names no model"),
        (["models=nowhere.ts"], ArtifactError, r"nowhere\.ts"),
        (["models=nowhere.ckpt"], ArtifactError, r"nowhere\.ckpt"),
        (["models=conf"], ArtifactError, "conf is a folder"),
        (["models=README.md"], ArtifactError, r"README\.md"),
        (["models=bundled", "split=valid"], ConfigError, "split=valid is unknown; choose train, val or test"),
        (["models=bundled", "split=[val]"], ConfigError, "split=.* is unknown; choose train, val or test"),
        (["models=bundled", "average=true"], ConfigError, "two models or more"),
        (["models=bundled", "trust=no"], ConfigError, "trust=no is unknown; choose true or false"),
        (["models=bundled", "average=maybe"], ConfigError, "average=maybe is unknown; choose true or false"),
        (["models=bundled", "threads=many"], ConfigError, "threads=many must be"),
        (["models=bundled", "seed=-1"], ConfigError, "seed=-1 must be"),
        (["models=bundled", "also=[nowhere]"], DataError, "no folder nowhere; set also to the folder with"),
        (["models=bundled", "also=[null]"], ConfigError, "also=null must be a path"),
        (["models=bundled", "data.votes=nowhere.csv"], DataError, "cannot read data.votes=nowhere.csv"),
        (["models=slow"], ArtifactError, "no model file slow; .*fast"),
        (["models=bundled", "device=tpu"], ConfigError, "device=tpu is unknown; choose auto, cpu or cuda"),
    ],
)
def test_a_bad_value_is_one_line(overrides, error, words, run, tmp_path):
    with pytest.raises(error, match=words) as raised:
        run(*overrides)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_data_that_does_not_fit_is_one_line(make_model, run, splits, tmp_path, monkeypatch):
    path = make_model(tmp_path / "m.ts", 0, classes=("bored", "keen"))
    with pytest.raises(ConfigError, match=r"m\.ts has the classes bored, keen, but the data has angry, disgust"):
        run(f"models='{path}'")
    read(monkeypatch, splits | {"test": splits["test"].only(np.zeros(21, dtype=bool))})
    with pytest.raises(DataError, match="split=test has no images"):
        run("models=bundled", "split=test")
    read(monkeypatch, splits | {"val": splits["train"]})
    with pytest.raises(DataError, match="without_duplicates=false"):
        run("models=bundled", "without_duplicates=true")
    assert not (tmp_path / "out").exists()


def test_the_program_runs(make_model, tmp_path):
    path = make_model(tmp_path / "m.ts", 0)
    command = [
        sys.executable,
        "-m",
        "fer.evaluate",
        "data=synthetic",
        "+data.reader.val=21",
        f"models={path}",
        "robustness=false",
    ]
    completed = subprocess.run(
        [*command, f"hydra.run.dir={tmp_path}/out"], capture_output=True, text=True, cwd=ROOT, env=os.environ
    )
    assert (completed.returncode, completed.stderr) == (0, "")
    assert "95 % interval" in completed.stdout
