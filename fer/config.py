"""Hydra: the start of every program, building objects from configs, and the resolvers in configs.

A config is code: it can call any function by a `_target_`. Run only configs that you trust.
"""

import difflib
import errno
import functools
import importlib
import inspect
import io
import netrc
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import env_override
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from fer.errors import ConfigError, FerError
from fer.files import without_folders
from fer.shorthand import written_out

_PACKAGE = Path(__file__).parent
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"
"""The folder of the configs: inside the package once it is installed, beside it in a checkout."""

_DISK = (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT)
_JOBS_ON_A_GPU = 6
_GPU_MEMORY_OF_A_JOB = 4 * 2**30  # bytes: the GPU's own share of each process, and a small network with its batch
_OVERRIDE = re.compile(r"[\w.+~/@-]+=")


def program(
    name: str,
    run: Callable[[DictConfig], Any],
    *,
    positional: str | None = None,
    paths: Sequence[str] = (),
    arguments: Callable[[list[str]], list[str]] | None = None,
) -> Callable[[], None]:
    """Return the `main()` of a program that is configured by conf/<name>.yaml and the command line.

    It composes the config, imports the modules of `plugins`, and calls `run`. Errors become one line on standard error:
    exit status 2 for a `FerError`, 1 for an unknown key or option, 130 for Ctrl-C, 141 for a closed output. With
    `HYDRA_FULL_ERROR=1` in the environment, the traceback is shown instead.

    Args:
        name: Name of the config.
        run: The program. Its lazy imports do not slow down `--help`.
        positional: Key of the first word if that has none. Such a program starts quickly: `hydra.mode` has no effect.
        paths: Keys with literal values: spaces, commas, brackets and `${` have no meaning in them.
        arguments: A function that changes the command line before Hydra reads it.
    """

    def main() -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # the terminal may lack characters of file names
        full_error = os.environ.get("HYDRA_FULL_ERROR", "0")

        def task(cfg: DictConfig) -> Any:
            with env_override({"HYDRA_FULL_ERROR": full_error}), _one_line():
                _import_plugins(cfg.get("plugins"))
                if cfg.get("trust") and not any(word.lstrip("+").startswith("trust=") for word in given):
                    raise ConfigError("trust=true counts on the command line only; remove it from the config")
                return run(cfg)

        with _one_line(name):
            given = _words(sys.argv[1:], positional, paths)
            _check_options(given)
            sys.argv[1:] = arguments(given) if arguments else given
            # conf/hydra/launcher/joblib.yaml completes the schema that the launcher registers under the same name
            warnings.filterwarnings("ignore", "(?s).*hydra/launcher/.* is validated against ConfigStore schema")
            # what they warn of in a picture, such as damaged EXIF, either costs nothing or is an error of ours
            warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif|pillow_jxl)\b")
            if positional:  # Hydra would compose the config twice, first for `hydra.mode` alone
                hydra._internal.hydra.Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]
            with env_override({"HYDRA_FULL_ERROR": "1"}):  # Hydra then raises its errors instead of printing them
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(task)()

    return main


def _words(given: list[str], positional: str | None, paths: Sequence[str]) -> list[str]:
    """Add the key to the first word and quote paths. Whole numbers are not quoted: `source=0` is a camera."""
    words = written_out(given)
    if positional and words and not words[0].startswith("-") and not _OVERRIDE.match(words[0]):
        words[0] = f"{positional}={words[0]}"
    return [word if re.fullmatch(rf"{positional}=-?\d+", word) else _quoted(word, paths) for word in words]


def _quoted(word: str, paths: Sequence[str]) -> str:
    key, _, value = word.partition("=")
    if key not in paths or value in ("", "null"):
        return word
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # only before `${` is a backslash an escape for OmegaConf
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


def _check_options(given: list[str]) -> None:
    for word in get_args_parser().parse_known_args(given)[1]:
        if word.startswith("-"):
            raise HydraException(f"{word} is not an option; values are given as key=value; --help lists the keys")


def _import_plugins(modules: Any) -> None:
    if modules is not None and not (isinstance(modules, ListConfig) and all(isinstance(m, str) for m in modules)):
        raise ConfigError(f"plugins={modules} must be a list of modules, such as [my_module]")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    for module in modules or ():
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ConfigError(f"plugins: cannot import {module} ({error}); install it or run beside it") from error


@contextmanager
def _one_line(composing: str | None = None) -> Iterator[None]:
    """Turn errors into one line and an exit status.

    Args:
        composing: Name of the config that Hydra composes in the block; all its exceptions concern the command line or
            the launcher.
    """
    try:
        yield
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would change the exit status
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it flushes
        sys.exit(141)
    except Exception as error:
        status, text = _explained(error) or (1, None)
        if composing and (group := re.match(r"Could not override '([^'@]+)'\. No match", str(error))):
            text = _unknown(group[1], OmegaConf.load(CONF / f"{composing}.yaml"))
        elif composing and text is None:
            text = f"Hydra cannot start this ({error}); --help lists keys and groups, HYDRA_FULL_ERROR=1 shows where"
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        if text is None:
            traceback.print_exc()
        else:
            for line in (text, *getattr(error, "__notes__", ())):
                print(f"error: {' '.join(line.split())}", file=sys.stderr)
        sys.exit(status)


def _explained(error: Exception) -> tuple[int, str] | None:
    """Return exit status and message of an error that the user can fix, None for a bug."""
    if isinstance(error, FerError):
        return 2, str(error)
    if missing := _missing_opencv(error):
        return 2, missing
    if isinstance(error, MissingConfigException) and error.options:
        return 1, f"no {error.missing_cfg_file} in conf; choose {', '.join(error.options)}"
    if isinstance(error, OverrideParseException):
        return 1, f"{error.override[:200]} is not key=value; --help lists the keys; quote odd values, as in key='a,b'"
    if isinstance(error, HydraException | OmegaConfBaseException):
        cause = error.__cause__ or error
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
            return 1, _unknown(cause.full_key, cause.parent_node)
        return 1, str(error)
    if isinstance(error, OSError) and error.errno in _DISK:
        where = str(error.filename or "this disk")[:200]
        return 2, f"{where}: {error.strerror}; give another path (hydra.run.dir for a run's folder) or make room"
    return None


def _missing_opencv(error: BaseException | None) -> str | None:
    """Return what to install if OpenCV cannot be loaded, as on a server without libGL; None for other errors."""
    while error is not None:
        if isinstance(error, ImportError) and error.name == "cv2":
            return (
                f"OpenCV cannot be loaded ({error}); apt-get install libgl1 libglib2.0-0 or, to do without a window, "
                "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python-headless"
            )
        error = error.__cause__ or error.__context__
    return None


def _unknown(key: str, node: Any) -> str:
    """Return a message that `key` does not exist in `node`, with the most similar key."""

    def keys(values: Any, start: str = "") -> Iterator[str]:
        for name, value in values.items() if isinstance(values, dict) else ():
            yield f"{start}{name}"
            yield from keys(value, f"{start}{name}.")

    start = key.rpartition(".")[0]
    known = [k for k in keys(OmegaConf.to_container(node)) if not k.startswith("hydra")] if node is not None else []
    endings = {k.rsplit(".", 1)[-1]: k for k in reversed(known)}
    near = difflib.get_close_matches(key.rsplit(".", 1)[-1], endings, 1, 0.7)
    if near:
        return f"{key} is not a key; did you mean {f'{start}.' if start else ''}{endings[near[0]]}?"
    return f"{key} is not a key; --help lists all keys, and +{key}=… adds one"


def build(node: Any, group: str, *values: Any, **arguments: Any) -> Any:
    """Build the objects that a config node describes by its `_target_`s, as `hydra.utils.instantiate` does.

    Args:
        node: The node of the config.
        group: Key of the node, such as "optimizer", for the message.
        *values, **arguments: Further arguments of the outermost target.

    Raises:
        ConfigError: A target does not exist or does not take its arguments.
    """
    try:
        return instantiate(node, *values, **arguments)
    except (InstantiationException, TypeError) as error:  # Hydra raises TypeError for its own flags
        if isinstance(error.__cause__, FerError):
            raise error.__cause__ from None
        if _missing_opencv(error):
            raise
        raise _refused(group, error) from error


def reader(node: Any) -> Callable[[], Any]:
    """Return the function that reads the splits, from the config node `data.reader`.

    Raises:
        ConfigError: It cannot be called, or an argument is unknown or missing.
    """
    function = build(node, "data.reader")
    if not callable(function):
        raise ConfigError("data.reader is not a function, as in data=none; see conf/data")
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError) as error:
        raise _refused("data.reader", error) from error
    return function


def _refused(group: str, error: Exception) -> ConfigError:
    cause = error.__cause__ or error
    if isinstance(cause, ZeroDivisionError):  # a one-cycle schedule without warm-up steps
        return ConfigError(f"{group}: too few steps; raise trainer.max_epochs or set scheduler=cosine")
    reason = " ".join(str(cause).split()) or type(cause).__name__
    easy = ", or set trainer=auto, which uses what is there" if group == "trainer" else ""
    return ConfigError(f"{group}: {reason}; see conf/{group.split('.')[0]}{easy}")


def check_groups(cfg: DictConfig, *names: str) -> None:
    """Raise `ConfigError` if one of `names` is not a group of values, as after `callbacks=null`."""
    for name in names:
        group = cfg.get(name)
        if not isinstance(group, DictConfig):
            raise ConfigError(f"{name}={group} must be a group; set its values one by one, as {name}.<key>=<value>")


def in_sweep() -> bool:
    """Whether this is a job of a sweep, `-m`."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def name_of(overrides: Sequence[str]) -> str:
    """Return overrides as the name of a run, without folders."""
    return " ".join(without_folders(override, spaces=True) for override in overrides)


def _job_overrides() -> list[str]:
    """Return the overrides of this job of a sweep; none outside a sweep."""
    overrides = HydraConfig.get().overrides.task if in_sweep() else []
    return [str(override) for override in overrides if not str(override).startswith("resume=")]


def _has_gpu() -> bool:
    import torch  # takes seconds to import; most programs do not use this resolver

    return torch.cuda.is_available()


def _jobs_at_once() -> int:
    """Return how many jobs of a sweep run side by side: one on each core or, with GPUs, up to six on each."""
    cores = os.cpu_count() or 1
    if not _has_gpu():
        return cores
    import torch

    gpus = torch.cuda.device_count()
    memory = min(torch.cuda.get_device_properties(gpu).total_memory for gpu in range(gpus))
    return gpus * max(1, min(_JOBS_ON_A_GPU, cores // gpus, memory // _GPU_MEMORY_OF_A_JOB))


def _devices_of_a_job(accelerator: str) -> int | ListConfig:
    """Return `trainer.devices`: one or, for a job that joblib starts on a machine with several GPUs, which one.

    Other launchers give each job a GPU of its own. `CUDA_VISIBLE_DEVICES` would come too late: CUDA reads it once in a
    process, and joblib runs many jobs in each of its processes.
    """
    if accelerator == "cpu" or not in_sweep() or "joblib" not in str(HydraConfig.get().launcher.get("_target_")):
        return 1
    import torch

    return ListConfig([_gpu_of_this_process()]) if torch.cuda.device_count() > 1 else 1


@functools.cache
def _gpu_of_this_process() -> int:
    """Return the number of the first job modulo that of GPUs.

    Later jobs of the process stay there: it holds memory on each GPU that it has used, and the GPUs stay evenly filled
    however long jobs take.
    """
    import torch

    return int(HydraConfig.get().job.num) % torch.cuda.device_count()


def _wandb_login() -> bool:
    try:
        return bool(os.environ.get("WANDB_API_KEY") or netrc.netrc().authenticators("api.wandb.ai"))
    except (OSError, netrc.NetrcParseError):
        return False


_RESOLVERS: dict[str, Callable[..., Any]] = {
    "not_in_sweep": lambda: not in_sweep(),
    "one_in_sweep": lambda: 1 if in_sweep() else None,
    "no_wandb_login": lambda: not _wandb_login(),
    "auto_precision": lambda accelerator: "bf16-mixed" if accelerator != "cpu" and _has_gpu() else "32-true",
    "jobs_at_once": _jobs_at_once,
    "devices_of_a_job": _devices_of_a_job,
    "gpus_of_a_job": lambda: int(_has_gpu()),
    "job_name": lambda otherwise: name_of(_job_overrides())[:128] or otherwise,  # the longest name in W&B
    "job_tags": lambda: ListConfig([name_of([override])[:64] for override in _job_overrides()]),
    "mode_of": lambda key: importlib.import_module("fer.metrics").mode_of(key),  # NumPy takes time to import
    "sweep_name": lambda: Path(HydraConfig.get().sweep.dir).name[:128] if in_sweep() else None,
}
for _name, _resolver in _RESOLVERS.items():
    OmegaConf.register_new_resolver(_name, _resolver, replace=True)
