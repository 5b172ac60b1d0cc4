"""Rules that hold for every file: which package may import which, no print, a docstring."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "service", "trainer")
MAY_IMPORT = {
    "models": {"models"},
    "service": {"service", "models"},
    "trainer": {"trainer", "models"},
}
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported_packages(tree: ast.Module, package: str) -> set[str]:
    """Top-level names of every import, those inside functions and relative ones too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(package if node.level else (node.module or "").split(".")[0])
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            found |= {
                str(argument.value).split(".")[0]
                for argument in node.args
                if isinstance(argument, ast.Constant)
            }
    return found


def _called(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=label)
def test_imports_run_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = imported_packages(parse(path), package) & {*PACKAGES, "tests"}
    assert ours <= MAY_IMPORT[package]


# the way of the data through the trainer; a layer may use those before it
TRAINER_LAYERS = ("data", "evaluation", "pictures", "training", "export", "commands")


@pytest.mark.parametrize("layer", TRAINER_LAYERS)
def test_the_trainers_layers_import_one_way(layer: str) -> None:
    later = TRAINER_LAYERS[TRAINER_LAYERS.index(layer) + 1 :]
    files = sorted((ROOT / "trainer" / layer).glob("*.py"))
    assert len(files) > 3
    for path in files:
        modules = [n.module or "" for n in ast.walk(parse(path)) if isinstance(n, ast.ImportFrom)]
        wrong = [m for m in modules if m.startswith(tuple(f"trainer.{name}" for name in later))]
        assert not wrong, label(path)


@pytest.mark.parametrize("path", FILES, ids=label)
def test_a_file_says_what_it_holds_and_prints_nothing(path: Path) -> None:
    tree = parse(path)
    assert ast.get_docstring(tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_rules_were_applied_to_something(package: str) -> None:
    assert len([path for path in FILES if path.relative_to(ROOT).parts[0] == package]) > 5


@pytest.mark.parametrize(
    "source",
    [
        "import service.app",
        "from service import app",
        "def f():\n    from service.app import create",
        "import os, service",
        "importlib.import_module('service.app')",
    ],
)
def test_the_walk_sees_every_way_to_import(source: str) -> None:
    assert "service" in imported_packages(ast.parse(source), "trainer")
