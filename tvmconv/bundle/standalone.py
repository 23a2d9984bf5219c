"""The loader as one file that needs numpy alone: the modules here, one after the other."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

# In the order in which they use each other.
_MODULES: Final = ("checks", "tensors", "golden", "kernels", "loader")
_CUDA_MODULES: Final = (
    "checks", "../elements", "tensors", "golden", "../cuda/code", "../cuda/arch", "../cuda/driver",
    "../cuda/program", "../cuda/calls", "cuda_kernels", "cuda_loader",
)  # fmt: skip


def standalone_source(*, cuda: bool = False) -> str:
    """Text of tvmconv_load.py: errors, then every module without its imports of tvmconv.

    Args:
        cuda: of bundles for GPUs.
    """
    here, modules = Path(__file__).parent, _CUDA_MODULES if cuda else _MODULES
    files = [here.parent / "errors.py", *(here / f"{name}.py" for name in modules)]
    texts = [path.read_text(encoding="utf-8") for path in files]
    docstring = ast.get_docstring(ast.parse(texts[-1]))
    head = f'"""{docstring}\n"""\n\nfrom __future__ import annotations\n'
    return "\n\n".join([head + _imports(texts), *map(_body, texts)])


def _is_ours(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and (
        node.level > 0 or str(node.module).split(".")[0] in ("tvmconv", "__future__")
    )


def _imports(texts: list[str]) -> str:
    """Every import from outside tvmconv, once."""
    modules: set[str] = set()
    names: dict[str, set[str]] = {}
    for node in (node for text in texts for node in ast.parse(text).body):
        if isinstance(node, ast.Import):
            modules.add(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom) and not _is_ours(node):
            names.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
    froms = [f"from {m} import {', '.join(sorted(found))}" for m, found in sorted(names.items())]
    return "\n" + "\n".join([*sorted(modules), *froms]) + "\n"


def _body(text: str) -> str:
    """Everything but the docstring and the imports."""
    lines = text.splitlines()
    for node in reversed(ast.parse(text).body):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_docstring or isinstance(node, ast.Import | ast.ImportFrom):
            del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines).strip() + "\n"
