"""Programs, objects built from configs, resolvers."""

import errno
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from samples import ROOT

from fer import config
from fer.errors import ConfigError, DataError

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
KEYS = ("source", "artifact", "save", "log", "stats")


@pytest.fixture
def start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Run a program in an empty folder; return its exit status and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(name: str, *arguments: str, run: Callable[[DictConfig], object] = lambda _: None) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        before, status = os.environ.get("HYDRA_FULL_ERROR"), 0
        try:
            config.program(name, run, positional="source" if name == "infer" else None, paths=("source",))()
        except SystemExit as end:
            status = int(end.code or 0)
        assert os.environ.get("HYDRA_FULL_ERROR") == before
        return status, capsys.readouterr().err

    return call


def raising(error: BaseException) -> Callable[[DictConfig], object]:
    def run(_: DictConfig) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DataError("first\nsecond"), 2, "error: first second\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/a.ts"), 2, "error: /root/a.ts: Permission denied"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 999), 2, f"error: {'x' * 200}: File name too long"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: this disk: No space left on device; give"),
        (HydraException("no"), 1, "error: no\n"),
    ],
)
def test_an_error_is_one_line_and_an_exit_status(start, error, status, line, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert start("infer", run=raising(error))[0] == status
    err = start("infer", run=raising(error))[1]
    assert err.startswith(line) and err.count("\n") == 1


def test_a_bug_shows_its_traceback(start):
    status, err = start("infer", run=raising(ZeroDivisionError()))
    assert status == 1
    assert err.startswith("Traceback") and "ZeroDivisionError" in err


@pytest.mark.parametrize(
    ("name", "argument", "error"), [("train", "zzz=1", HydraException), ("infer", "threads=1", DataError)]
)
def test_hydra_full_error_shows_every_traceback(start, monkeypatch, name, argument, error):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(error):
        start(name, argument, run=raising(DataError("x")))


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("trainer.max_epoch=3", "trainer.max_epoch is not a key; did you mean trainer.max_epochs?"),
        ("batch_size=3", "did you mean data.batch_size?"),
        ("epochs=5", "epochs is not a key; did you mean trainer.max_epochs?"),
        ("zzz=1", "zzz is not a key; --help lists all keys"),
        ("~zzz", "'zzz' does not exist"),
        ("model=resnet_smal", "no model/resnet_smal in conf; choose convnext_nano, "),
        ("model=resnet_small,vgg_small", "--multirun"),
        ("seed=[1", "seed=[1 is not key=value"),
        ("quickstart", "quickstart is not key=value; --help"),
        ("--epochs=5", "--epochs=5 is not an option; values are given as key=value"),
        ("callbacks=null", "must be a string or a list"),
        ("augment=[1,2]", "--help lists keys and groups"),
        (f"threads={'9' * 5000}", "4300 digits"),
        ("name=${nothing}", "Interpolation key 'nothing' not found"),
        ("hydra.run.dir=/proc/version/run", "/proc/version/run: Not a directory; give another path (hydra.run.dir"),
    ],
)
def test_what_hydra_refuses_is_one_line(start, argument, words):
    status, err = start("train", argument, run=lambda cfg: cfg.name)
    assert status == (2 if "hydra.run" in argument else 1)
    assert err.startswith("error: ") and err.count("\n") == 1
    assert words in err


def test_a_misspelt_key_that_is_a_group_elsewhere_is_one_line(start):
    status, err = start("evaluate", "model=x")
    assert (status, err) == (1, "error: model is not a key; did you mean models?\n")


def test_an_output_that_is_not_read_to_its_end_is_no_error(tmp_path):
    code = "from fer.config import program\nprogram('infer', lambda _: [print(k) for k in range(100_000)])()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=ENVIRONMENT,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert (process.stderr.read(), process.wait(30)) == ("", 141)
    process.stderr.close()


def test_a_first_word_without_a_key_is_the_source(start):
    seen = []

    def run(cfg: DictConfig) -> None:
        seen.append(cfg.source)

    for word in ("a b.mp4", "0", "http://host/a?b=c", "source=x.mp4"):
        assert start("infer", word, "threads=1", run=run) == (0, "")
    assert seen == ["a b.mp4", 0, "http://host/a?b=c", "x.mp4"]


def test_trust_counts_on_the_command_line_only(start):
    assert start("infer", "trust=true") == (0, "")
    Path("conf/experiment").mkdir(parents=True)
    Path("conf/experiment/handed_on.yaml").write_text("# @package _global_\ntrust: true\n")
    status, err = start("train", "--config-dir=conf", "experiment=handed_on")
    assert status == 2 and "trust=true counts on the command line only" in err
    assert start("train", "--config-dir=conf", "experiment=handed_on", "trust=true") == (0, "")


def test_plugins_are_imported_from_the_current_folder_before_the_run(start, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "my_plugin_of_a_test.py").write_text("from fer import errors\nerrors.plugged = True\n")

    def run(_: DictConfig) -> None:
        assert "my_plugin_of_a_test" in sys.modules

    assert start("infer", "plugins=[my_plugin_of_a_test]", run=run) == (0, "")
    status, err = start("infer", "plugins=[no_such_module]")
    assert status == 2 and "cannot import no_such_module" in err
    assert start("infer", "plugins=odd")[1].startswith("error: plugins=odd must be a list of modules")


NAMES = (
    "a b.mp4", "a=b&c.mp4", "a,b.mp4", "naïve 顔.mp4", "it's.mp4", 'say "hi".mp4', "back\\slash.mp4", "end\\",
    "[1]{2}.mp4", "$HOME.mp4", "${x}.mp4", "\\${x}.mp4", "\\\\${a}\\'.mp4", "(a): b!.mp4", "~a.mp4", "#1.mp4",
    "null.mp4", "true", "1.5", "007", "+1", "'", "\\'", "*", "a\nb.mp4", " lead", "trail ", "${oc.env:HOME}.mp4",
)  # fmt: skip


def as_hydra_reads(*arguments: str) -> dict[str, object]:
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        cfg = compose("infer", overrides=config._words(list(arguments), "source", KEYS))
        return {key: cfg[key] for key in KEYS}


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_what_the_shell_gave(name: str) -> None:
    assert as_hydra_reads(*(f"{key}={name}" for key in KEYS)) == dict.fromkeys(KEYS, name)


def test_no_path_is_mistaken_for_syntax() -> None:
    chance, parser = random.Random(7), OverridesParser.create()
    for _ in range(300):
        name = "x" + "".join(chance.choices("ab1 '\"\\${}[]()=,:#&*~é\t", k=chance.randint(1, 12)))
        (word,) = config._words([f"source={name}"], "source", KEYS)
        # what Hydra does with it, without composing the rest each time
        assert OmegaConf.create({"source": parser.parse_override(word).value()}).source == name


def test_cameras_and_null_stay_what_they_are() -> None:
    assert as_hydra_reads("source=0")["source"] == 0
    assert as_hydra_reads("save=null", "log=") == dict.fromkeys(KEYS) | {"log": ""}
    assert as_hydra_reads("save=12")["save"] == "12"
    assert config._words(["view=none", "--help", "detector.width=4"], "source", KEYS)[1:] == [
        "--help",
        "detector.width=4",
    ]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"_target_": "fer.data.nothing"}, r"data: .*fer\.data\.nothing"),
        ({"_target_": "fer.data.synthetic.read", "_partial_": "yes"}, "_partial_ flag must be a bool"),
        ({"_target_": "fractions.Fraction", "numerator": "x"}, "Invalid literal"),
        ({"_target_": "fractions.Fraction", "foo": 1}, "'foo'"),
    ],
)
def test_what_cannot_be_built_is_one_line_that_names_the_group(node, words):
    with pytest.raises(ConfigError, match=rf"^data: .*{words.removeprefix('data: ')}.*; see conf/data$") as caught:
        config.build(OmegaConf.create(node), "data")
    assert "\n" not in str(caught.value)


def test_anything_that_can_be_imported_is_built():
    assert config.build(OmegaConf.create({"_target_": "fractions.Fraction", "numerator": 3}), "optimizer") == 3


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"_target_": "fer.data.synthetic.read", "_partial_": True, "foo": 1}, "unexpected keyword argument 'foo'"),
        ({"_target_": "fer.data.folder.read", "_partial_": True}, "missing a required argument: 'root'"),
        ({"_target_": "fer.data.synthetic.read", "train": 7, "val": 7, "test": 7}, "not a function"),
        (None, "not a function"),
    ],
)
def test_a_reader_that_cannot_be_called_is_refused_before_it_reads(node, words):
    with pytest.raises(ConfigError, match=f"{words}.*; see conf/data"):
        config.reader(OmegaConf.create({"reader": node}).reader)


@pytest.mark.parametrize("value", [None, 3, "", [1]])
def test_a_group_that_lost_its_values_is_named(value):
    config.check_groups(OmegaConf.create({"a": {}, "b": value}), "a")
    for name in ("b", "c"):
        with pytest.raises(ConfigError, match=rf"{name}=.* must be a group; set its values .* {name}\.<key>"):
            config.check_groups(OmegaConf.create({"a": {}, "b": value}), name)


def test_help_needs_no_torch(tmp_path):
    code = (
        "import sys\nfrom fer.train.__main__ import main\n"
        "try: main()\nfinally: assert not {'torch', 'cv2'} & set(sys.modules)"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    assert "python train.py experiment=quickstart" in completed.stdout
    assert list(tmp_path.iterdir()) == []
