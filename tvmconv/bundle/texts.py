"""The generated texts of a bundle: header, CMake file, example, self-test and README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tvmconv.runtime.wrapper import (
    PACK_ARGUMENTS,
    RUN_ARGUMENTS,
    KernelSymbol,
    cpu_mask,
    kinds,
    prototype,
)

if TYPE_CHECKING:
    from tvmconv.target import Target

_FILES: Final = {
    "include/{name}.h": "header.h.jinja",
    "CMakeLists.txt": "CMakeLists.txt.jinja",
    "example.c": "example.c.jinja",
    "selftest.c": "selftest.c.jinja",
    "README.md": "README.md.jinja",
}
# In the order of the fields of selftest.c's table.
_FILLED: Final = ("weight", "bias", "scale", "shift", "x", "residual", "offset", "mask")
# The order of memory follows that of another tensor.
_LIKE: Final = {"residual": "y", "offset": "x", "mask": "x"}


def render(
    name: str, target: Target, entries: Sequence[Mapping[str, Any]], symbols: Sequence[KernelSymbol]
) -> dict[str, str]:
    """Path in the bundle to text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    import tvmconv

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    kernels = [_described(e, s) for e, s in zip(entries, symbols, strict=True)]
    values = {
        "name": name,
        "macro": name.upper(),
        "version": tvmconv.__version__,
        "target": target,
        "cpu_mask": cpu_mask(target.cpu_features),
        "kernels": kernels,
        "selftest": [_tested(kernel) for kernel in kernels],
        "example": _example(kernels[0]),
    }
    return {
        path.format(name=name): environment.get_template(file).render(values)
        for path, file in _FILES.items()
    }


def _described(entry: Mapping[str, Any], symbol: KernelSymbol) -> dict[str, Any]:
    layouts = dict(entry["layouts"])
    return {
        **entry,
        "has_pack": "pack" in kinds(symbol),
        "pack_prototype": prototype(symbol, "pack"),
        "run_prototype": prototype(symbol, "run"),
        "packed_elems": entry["tensors"]["packed"]["shape"][0],
        "layouts": layouts | {name: layouts[other] for name, other in _LIKE.items()},
    }


def _tested(kernel: Mapping[str, Any]) -> dict[str, Any]:
    """One row of the table in selftest.c."""
    return {
        "symbol": kernel["symbol"],
        "pack": f"{kernel['symbol']}_pack" if kernel["has_pack"] else "NULL",
        "fills": [_fill(kernel["tensors"].get(name)) for name in _FILLED],
        "packed": kernel["packed_elems"],
        "y": prod(kernel["tensors"]["y"]["shape"]),
    }


def _fill(tensor: Mapping[str, Any] | None) -> str:
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
        "pack_arguments": _arguments(PACK_ARGUMENTS, used) if kernel["has_pack"] else "",
        "run_arguments": _arguments(RUN_ARGUMENTS, used),
        "outputs": prod(tensors["y"]["shape"]),
    }


def _arguments(names: Sequence[str], used: Sequence[str]) -> str:
    return ", ".join(name if name in used else "NULL" for name in names)
