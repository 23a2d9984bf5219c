"""The generated texts of a hosted bundle: header, CMake file, example, self-test and README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Final

from tvmconv.runtime.wrapper import PACK_ARGUMENTS, RUN_ARGUMENTS, KernelSymbol, kinds, prototype

from .checks import of_target
from .contents import Contents

_TEMPLATES: Final = {
    "include/{name}.h": "header.h.jinja",
    "CMakeLists.txt": "CMakeLists.txt.jinja",
    "example.c": "example.c.jinja",
    "selftest.c": "selftest.c.jinja",
    "README.md": "README.md.jinja",
}
# In the order of the fields of selftest.c's table.
FILLED: Final = ("weight", "bias", "scale", "shift", "x", "residual", "offset", "mask")
# The order of memory follows that of another tensor.
LIKE: Final = {"residual": "y", "offset": "x", "mask": "x"}


def render(name: str, contents: Contents, entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Path in a hosted bundle to text; static.py has those of static ones."""
    return fill_in(_TEMPLATES, values(name, contents, entries))


def fill_in(templates: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, str]:
    """Path to text, from path to template file."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return {
        path.format(name=given["name"]): environment.get_template(file).render(given)
        for path, file in templates.items()
    }


def values(name: str, contents: Contents, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the templates know."""
    import tvmconv

    kernels = [
        _described(e, c.dispatched.public)
        for e, c in zip(entries, contents.convolutions, strict=True)
    ]
    return {
        "name": name,
        "macro": name.upper(),
        "version": tvmconv.__version__,
        "static": False,
        "targets": contents.targets,
        "libraries": contents.libraries,
        "kernels": kernels,
        "selftest": [_tested(kernel, contents) for kernel in kernels],
        "example": _example(kernels[0]),
    }


def _described(entry: Mapping[str, Any], symbol: KernelSymbol) -> dict[str, Any]:
    layouts = dict(entry["layouts"])
    codes = [of_target(entry, target) for target in entry["targets"]]
    return {
        **entry,
        "codes": list(zip(entry["targets"], codes, strict=True)),
        "text_bytes": sum(code["text_bytes"] for code in codes),
        "workspace_bytes": max(code["workspace_bytes"] for code in codes),
        "pack_workspace_bytes": max(code["pack_workspace_bytes"] for code in codes),
        "has_pack": "pack" in kinds(symbol),
        "pack_prototype": prototype(symbol, "pack"),
        "run_prototype": prototype(symbol, "run"),
        "packed_elems": entry["tensors"]["packed"]["shape"][0],
        "layouts": layouts | {name: layouts[other] for name, other in LIKE.items()},
    }


def _tested(kernel: Mapping[str, Any], contents: Contents) -> dict[str, Any]:
    """One row of the table in selftest.c."""
    return {
        "symbol": kernel["symbol"],
        "pack": f"{kernel['symbol']}_pack" if kernel["has_pack"] else "NULL",
        "golden": [kernel["targets"][target.id]["golden"] for target in contents.targets],
        "fills": [fill_of(kernel["tensors"].get(name)) for name in FILLED],
        "packed": kernel["packed_elems"],
        "y": prod(kernel["tensors"]["y"]["shape"]),
    }


def fill_of(tensor: Mapping[str, Any] | None) -> str:
    """The C initialiser of a tensor's test values; of one without any, that of no tensor."""
    if tensor is None or "fill" not in tensor:
        return "{0, 0, 0, 0, 0}"
    seed, count, low, step = tensor["fill"]
    return f"{{{seed}, {count}, {float(low)}f, {float(step)}f, {prod(tensor['shape'])}}}"


def _example(kernel: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors and calls of example.c: inputs of ones, everything else of zeros."""
    tensors = kernel["tensors"]
    used = [n for n in PACK_ARGUMENTS if n in tensors and (kernel["has_pack"] or n == "packed")]
    used += [n for n in RUN_ARGUMENTS if n in tensors and n not in used]
    ones = {"x", "weight", "scale", "mask"}
    return {
        "tensors": [
            {"name": n, "size": prod(tensors[n]["shape"]), "value": "1" if n in ones else "0"}
            for n in used
        ],
        "pack_arguments": example_arguments(PACK_ARGUMENTS, used) if kernel["has_pack"] else "",
        "run_arguments": example_arguments(RUN_ARGUMENTS, used),
        "outputs": prod(tensors["y"]["shape"]),
    }


def example_arguments(names: Sequence[str], used: Sequence[str]) -> str:
    """Arguments of a call, NULL for those that the kernel does not have."""
    return ", ".join(name if name in used else "NULL" for name in names)
