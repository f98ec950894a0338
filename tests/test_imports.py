"""The house's walls: who may import whom, and how long a file and a function may be.

Imports inside functions and for type checking count as well.
"""

import ast
from pathlib import Path

import pytest
from samples import ROOT

FILES = sorted((ROOT / "fer").rglob("*.py"))
NAMES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}

BELOW = {
    "ground": set(),
    "faces": {"ground"},
    "data": {"ground", "faces"},
    "models": {"ground"},
    "artifact": {"ground", "models"},
    "evaluate": {"ground", "faces", "data", "models", "artifact"},
    "stream": {"ground", "faces", "artifact"},
    "train": {"ground", "faces", "data", "models", "artifact", "evaluate"},
}
"""The rooms that each room may import from, beside itself."""

TRAINING = (
    "fer.data",
    "fer.evaluate",
    "fer.train",
    "fer.models.classifier",
    "lightning",
    "wandb",
    "timm",
    "albumentations",
)
HYDRA = {"fer.config", "fer.train.sweep", "fer.train.search", "fer.train.resume"}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, its own and others', at the top or in a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                names.add(name if name in NAMES or not str(node.module).startswith("fer") else str(node.module))
    return names


GRAPH = {name: imports(path) for name, path in NAMES.items()}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in BELOW else "ground"


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def reachable(start: str) -> set[str]:
    """The project's modules that a module imports, directly or not."""
    seen: set[str] = set()
    left = [start]
    while left:
        for name in GRAPH[left.pop()] & NAMES.keys() - seen:
            seen.add(name)
            left.append(name)
    return seen


def test_the_graph_is_that_of_the_project():
    assert "fer.errors" in GRAPH["fer.config"]
    assert "fer.train.run" in GRAPH["fer.train.__main__"]  # inside a function
    assert "fer.errors" in reachable("fer.train.__main__")


@pytest.mark.parametrize("rooms", BELOW)
def test_arrows_point_downwards(rooms):
    upwards = {
        f"{module} → {name}"
        for module, names in GRAPH.items()
        for name in names & NAMES.keys()
        if room(module) == rooms != room(name) and room(name) not in BELOW[rooms]
    }
    assert not upwards


def test_no_module_imports_itself_by_way_of_others():
    assert not {module for module in GRAPH if module in reachable(module)}


def test_streaming_knows_nothing_of_training():
    modules = {module for module in NAMES if room(module) == "stream"}
    modules |= {name for module in modules for name in reachable(module)}
    assert not {f"{m} → {name}" for m in modules for name in GRAPH[m] if within(name, TRAINING)}


def test_hydra_is_known_in_four_places():
    assert {module for module, names in GRAPH.items() if any(within(name, ("hydra",)) for name in names)} <= HYDRA


def test_plots_and_tables_know_no_dataset():
    assert not {name for module in ("fer.plots", "fer.tables") for name in reachable(module) if room(name) != "ground"}


@pytest.mark.parametrize("module", NAMES)
def test_files_and_functions_fit_on_a_screen(module):
    text = NAMES[module].read_text()
    assert len(text.splitlines()) <= 350
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not {f.name for f in functions if (f.end_lineno or 0) - f.lineno + 1 > 60}
