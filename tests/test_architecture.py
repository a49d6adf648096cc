"""Imports point down only; what is slow or foreign stays behind few doors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import normbench

ROOT = Path(normbench.__file__).parent
FLOORS = (  # from the ground up; a module imports from floors below its own, and its own room
    "errors machine signals source_tree console",
    "words choices",
    "ops",
    "norms",
    "settings",
    "models data record",
    "training",
    "study report",
    "bench",
    "cli",
    "__main__",
)
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts.split()}
HYDRA = ("cli",)  # the only ones that know it


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, of the whole package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(name: str, path: Path, top_only: bool = False) -> tuple[str, ...]:
    """What a module imports, as dotted names of modules where those are ours."""
    return tuple(imported(name, path, top_only))


def imported(name: str, path: Path, top_only: bool) -> Iterator[str]:
    nodes = statements(tree(path)) if top_only else ast.walk(tree(path))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            for _ in range(node.level - 1):
                package = package.rpartition(".")[0]
            base = ".".join(filter(None, [package if node.level else "", node.module]))
            deeper = [f"{base}.{alias.name}" for alias in node.names]
            known = modules()
            yield from (one if one in known else base for one in deeper)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Those that run when the module is imported: no functions, no TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from statements(child)


def part(name: str) -> str:
    """normbench.norms.plane -> norms; the package itself -> an empty string."""
    return [*name.split("."), ""][1]


MODULES = modules()


def test_every_module_has_a_floor() -> None:
    """A new one must be given its place in the table above."""
    assert {part(name) for name in MODULES} - {""} <= set(FLOOR)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "normbench"])
def test_imports_point_down(name: str) -> None:
    own = part(name)
    for other in imports(name, MODULES[name]):
        if other == "normbench" or not other.startswith("normbench."):
            continue
        target = part(other)
        if target in ("", "conf", own):
            continue
        assert FLOOR[target] < FLOOR[own], f"{name} imports {other}, which is not below it"


DATA = [
    "download",
    "feed",
    "augment",
    "held_out",
    "domains",
    "photos",
    "info",
    "packed",
    "prepare",
]  # the lowest first


def test_imports_point_down_inside_data() -> None:
    """Those in functions, and those for types alone, too."""
    inside = [name for name in MODULES if name.startswith("normbench.data.")]
    assert {name.split(".")[2] for name in inside} == set(DATA)
    for name in inside:
        for other in imports(name, MODULES[name]):
            if other.startswith("normbench.data."):
                low, high = (DATA.index(one.split(".")[2]) for one in (other, name))
                assert low <= high, f"{name} imports {other}, which is above it"


def reached(name: str) -> set[str]:
    """All that importing a module imports, ours and others'."""
    seen, waiting = set(), [name]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if one in MODULES:
            waiting += imports(one, MODULES[one], top_only=True)
            if "." in one:
                waiting.append(one.rpartition(".")[0])
    return seen


def others(name: str) -> set[str]:
    """The first words of what is not ours."""
    return {one.split(".")[0] for one in reached(name)}


def test_no_circles() -> None:
    """No module, when it is imported, comes back to itself."""
    ours = {
        name: {i for i in imports(name, path, top_only=True) if i in MODULES and i != name}
        for name, path in MODULES.items()
    }
    while ours:
        ready = [name for name, needs in ours.items() if not needs & ours.keys()]
        assert ready, f"a circle among {', '.join(ours)}"
        for name in ready:
            del ours[name]


@pytest.mark.parametrize("name", MODULES)
def test_hydra_stays_at_the_door(name: str) -> None:
    words = {other.split(".")[0] for other in imports(name, MODULES[name])}
    assert part(name) in HYDRA or not words & {"hydra", "omegaconf", "hydra_plugins"}


@pytest.mark.parametrize("name", [name for name in MODULES if part(name) == "models"])
def test_models_know_no_norm(name: str) -> None:
    every = set(imports(name, MODULES[name]))
    assert not {other for other in every if part(other) in ("norms", "ops")}


LIGHT = (
    *("cli", "settings", "record", "errors", "report", "study", "words", "choices", "signals"),
)
LIGHT_NORMS = ("normbench.norms", "normbench.norms.registry")


@pytest.mark.parametrize(
    "name", [name for name in MODULES if part(name) in LIGHT or name in LIGHT_NORMS]
)
def test_reading_and_reporting_need_no_torch(name: str) -> None:
    assert not others(name) & {"torch", "torchvision"}


@pytest.mark.parametrize("name", [name for name in MODULES if part(name) == "report"])
def test_report_never_imports_torch(name: str) -> None:
    words = {other.split(".")[0] for other in imports(name, MODULES[name])}
    assert not words & {"torch", "torchvision"}


def test_the_checks_see_something() -> None:
    assert "torch" in others("normbench.training.run")
    assert "hydra" in set(imports("normbench.cli.hydra", MODULES["normbench.cli.hydra"]))
    assert "normbench.ops" in set(imports("normbench.norms.base", MODULES["normbench.norms.base"]))
    assert len(MODULES) > 30
