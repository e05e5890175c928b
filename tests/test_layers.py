"""Imports point downwards only; packages of one layer never import each other."""

import ast
import re
from pathlib import Path

import pytest

import energeia

ROOT = Path(energeia.__file__).parent
LAYERS = [
    {"core"},
    {"energies", "samplers", "stats"},
    {"search"},
    {"objectives", "partition"},
    {"report", "train", "data", "tasks"},
    {
        "arguments",
        "trust",
        "testing",
        "sklearn",
        "settings",
        "run",
        "examination",
        "pages",
        "predictions",
        "cli",
        "__main__",
        "recipes",
    },
]


def _rank(package):
    return next(number for number, layer in enumerate(LAYERS) if package in layer)


def _imports():
    for path in sorted(ROOT.rglob("*.py")):
        package = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if package == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("energeia"):
                parts = (node.module or "").split(".")
                names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
            for name in names:
                yield path.relative_to(ROOT), package, name


def test_every_room_has_a_layer():
    rooms = {path.name.removesuffix(".py") for path in ROOT.iterdir() if path.suffix in ("", ".py")}
    assert rooms - {"__pycache__", "__init__"} == set().union(*LAYERS)


@pytest.mark.parametrize(("path", "package", "name"), sorted(set(_imports())), ids=str)
def test_imports_point_downwards(path, package, name):
    if package == name:
        return
    top = len(LAYERS) - 1
    assert _rank(name) < _rank(package) or _rank(package) == top, f"{path} imports energeia.{name}"


def test_only_the_engine_knows_fabric():
    imports = re.compile(r"^\s*(import|from) lightning_fabric", re.MULTILINE)
    users = [p.name for p in ROOT.rglob("*.py") if imports.search(p.read_text())]
    assert users == ["engine.py"]


def test_only_gradient_differentiates():
    users = {
        str(p.relative_to(ROOT))
        for p in ROOT.rglob("*.py")
        if any(word in p.read_text() for word in ("autograd.grad(", "torch.func.", "fabric.backward("))
    }
    # The engine calls backward on the loss; testing compares gradients.
    assert users == {"core/gradient.py", "train/engine.py", "testing.py"}


def test_no_settings_at_import_and_nothing_hidden():
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        for forbidden in ("set_num_threads", "set_default_dtype", "rcParams[", "nan_to_num", "hasattr(", "except:"):
            assert forbidden not in text, f"{path.name}: {forbidden}"
