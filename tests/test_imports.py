"""What may import what: the core is free of torch and TVM until something needs them."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "tvm", "tvm_ffi", "xgboost", "matplotlib", "rich", "jinja2"}
# Pure Python (and numpy): importing these costs next to nothing.
LIGHT = (
    "tvmconv",
    "tvmconv.bundle",
    "tvmconv.cli",
    "tvmconv.environment",
    "tvmconv.errors",
    "tvmconv.spec",
    "tvmconv.target",
    "tvmconv.toolchain",
    "tvmconv.workloads",
)
# Only these import torch; whoever needs them imports them inside a function.
TORCH = {"reference.py", "deformable.py", "bench/torch_layers.py"}
# What a layer must not know: specs nothing of solving, schedules nothing of measuring.
FORBIDDEN = {
    "tvmconv/spec.py": {"target", "template", "declare", "kernel", "build"},
    "tvmconv/declare": {"kernel", "build", "bench", "cli", "validate", "schedules"},
    "tvmconv/bundle/loader.py": {"kernel", "build", "declare", "template", "validate"},
    "tvmconv/kernel.py": {"schedules", "cli", "bench"},
    "schedules": {"kernel", "build", "bench", "cli", "validate", "bundle", "schedules"},
}


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        path = ROOT / folder
        yield from [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))


def imported(path: Path, top_level_only: bool) -> set[str]:
    """Dotted names that a file imports; TYPE_CHECKING blocks do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    nodes = _executed_at_import(tree) if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def _executed_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _executed_at_import(node)


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_stay_light(module: str) -> None:
    code = f"import {module}, sys; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_public_names_resolve_and_are_the_functions() -> None:
    code = (
        "import tvmconv as tc, tvmconv.bench.rows, tvmconv.validate\n"
        "for name in tc.__all__: getattr(tc, name)\n"
        "assert callable(tc.validate) and callable(tc.bench) and callable(tc.compile)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_torch_is_imported_where_it_is_meant_to_be() -> None:
    found = {
        path.relative_to(ROOT / "tvmconv").as_posix()
        for path in sources("tvmconv")
        if any(name.split(".")[0] == "torch" for name in imported(path, top_level_only=True))
    }
    assert found == TORCH


@pytest.mark.parametrize("place", FORBIDDEN)
def test_dependency_direction(place: str) -> None:
    for path in sources(place):
        for name in imported(path, top_level_only=True):
            parts = name.split(".")
            if parts[0] == "tvmconv" and len(parts) > 1:
                where = path.relative_to(ROOT)
                assert parts[1] not in FORBIDDEN[place], f"{where} imports {name}"


def test_only_the_cost_model_imports_xgboost() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for path in sources("tvmconv", "schedules")
        if any(name.split(".")[0] == "xgboost" for name in imported(path, top_level_only=False))
    }
    assert found == {"tvmconv/tuning/boosters.py"}
