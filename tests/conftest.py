"""An environment that touches nothing of the user's, needs no network and asks for nothing."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, one on each core
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"

import logging
import signal
import tempfile
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings
from samples import SHARED

from fer.data.base import Split

# `pytest --hypothesis-profile=many` looks for longer, and elsewhere each time.
_fuzz = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("few", max_examples=25, derandomize=True, **_fuzz)
settings.register_profile("many", max_examples=2000, print_blob=True, **_fuzz)
settings.load_profile("few")

# For the whole session, since the models that tests make are loaded by programs that they start.
_home = tempfile.TemporaryDirectory()
os.environ["FER_TRUST"] = f"{_home.name}/trusted.txt"

# Where the tests run in the background the shell has made them, and all that they start, deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not SHARED.is_dir():
        for item in items:
            if item.get_closest_marker("shared"):
                item.add_marker(pytest.mark.skip(reason="../shared is not on this machine"))
    for item in items:
        if item.get_closest_marker("gpu") and _without_gpu():
            item.add_marker(pytest.mark.skip(reason="no CUDA GPU; FER_TEST_DEVICE=cpu runs it on the CPU"))


def _without_gpu() -> bool:
    import torch  # most tests do not need it

    return os.environ.get("FER_TEST_DEVICE", "cuda") == "cuda" and not torch.cuda.is_available()


@pytest.fixture(autouse=True)
def clean_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_CACHE", str(tmp_path_factory.mktemp("cache")))
    for name in ("FER2013_ROOT", "WANDB_API_KEY", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def signals_restored() -> Generator[None]:
    """A stopped program ignores Ctrl-C until its process ends; here that process runs other tests, too."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def logging_restored() -> Generator[None]:
    """Programs that a test, or a fixture of several tests, runs set up logging for the whole process."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    root.setLevel(logging.WARNING)
    yield
    for handler in set(root.handlers).difference(handlers):
        root.removeHandler(handler)
        handler.close()


@pytest.fixture
def bundled_fonts(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """A machine without any font but those that matplotlib brings."""
    from matplotlib import font_manager

    from fer import fonts
    from fer.stream.draw import annotate, text

    caches = fonts.fit, fonts._search, text.letters, annotate._fitting_label
    bundled = [entry for entry in font_manager.fontManager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", bundled)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    monkeypatch.setattr(fonts, "_named", set())
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Names that are no UTF-8 are printed by some tests, and cannot be sent from a worker to the terminal."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    """The real FER-2013, read once per worker."""
    from fer.data import fer2013

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_CACHE", str(tmp_path_factory.mktemp("real")))
        return fer2013.read(SHARED / "fer2013")
