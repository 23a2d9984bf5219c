"""The generated texts of a bundle for GPUs: header, tables, example, self-test and the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tvmconv.arithmetic import ITEM_BYTES
from tvmconv.cuda.arch import parse_arch
from tvmconv.cuda.code import DeviceCode
from tvmconv.cuda.program import workspace_offsets
from tvmconv.runtime.wrapper import PACK_ARGUMENTS, RUN_ARGUMENTS

from .checks import of_target
from .texts import FILLED, LIKE, example_arguments, fill_in, fill_of

if TYPE_CHECKING:
    from tvmconv.target import Target

_TEMPLATES: Final = {
    "include/{name}.h": "cuda/header.h.jinja",
    "src/tables.h": "cuda/tables.h.jinja",
    "src/kernels.c": "cuda/kernels.c.jinja",
    "CMakeLists.txt": "cuda/CMakeLists.txt.jinja",
    "example.c": "cuda/example.c.jinja",
    "selftest.c": "cuda/selftest.c.jinja",
    "README.md": "cuda/README.md.jinja",
}
# In the order of the fields of launch.h's tables: TVMCONV_ARG_X is 1.
_ARGUMENTS: Final = (*RUN_ARGUMENTS, *(name for name in PACK_ARGUMENTS if name != "packed"))
_FNV_START: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3


def render(
    folder: Path,
    name: str,
    targets: Sequence[Target],
    portable: str,
    entries: Sequence[Mapping[str, Any]],
) -> dict[str, str]:
    """Path in the bundle to text.

    Args:
        folder: of the bundle, with the files of machine code.
        name: of the bundle.
        targets: of the bundle.
        portable: id of the target that has PTX.
        entries: of the manifest, one per convolution.
    """
    import tvmconv

    kernels = [_described(entry) for entry in entries]
    return fill_in(
        _TEMPLATES,
        {
            "name": name,
            "macro": name.upper(),
            "version": tvmconv.__version__,
            "targets": [_target(target, portable) for target in targets],
            "ptx_target": portable,
            "kernels": kernels,
            "codes": [
                _code(folder, entry["targets"][target.id][kind])
                for entry in entries
                for kind in ("run", "pack")
                for target in targets
            ],
            "selftest": [_tested(kernel, targets) for kernel in kernels],
            "example": _example(kernels[0]),
        },
    )


def file_hash(data: bytes) -> int:
    """FNV-1a of 64 bits, by which the C loader knows a file again."""
    value = _FNV_START
    for byte in data:
        value = (value ^ byte) * _FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    return value


def _target(target: Target, portable: str) -> dict[str, Any]:
    (major, minor), special = parse_arch(target.isa)
    return {"id": target.id, "description": target.description, "major": major, "minor": minor,
            "special": int(bool(special)), "ptx": int(target.id == portable)}  # fmt: skip


def _described(entry: Mapping[str, Any]) -> dict[str, Any]:
    layouts, symbol = dict(entry["layouts"]), entry["symbol"]
    codes = [of_target(entry, target) for target in entry["targets"]]
    return {
        **entry,
        "codes": list(zip(entry["targets"], codes, strict=True)),
        "text_bytes": sum(code["text_bytes"] for code in codes),
        "itemsize": ITEM_BYTES[entry["dtype"]],
        "packed_elems": entry["tensors"]["packed"]["shape"][0],
        "layouts": layouts | {name: layouts[other] for name, other in LIKE.items()},
        "run_prototype": _prototype(symbol, "run", RUN_ARGUMENTS, "y"),
        "pack_prototype": _prototype(symbol, "pack", PACK_ARGUMENTS, "packed"),
        "run_used": _used((*entry["run"], "y")),
        "pack_used": _used((*entry["pack"], "packed")),
    }


def _prototype(symbol: str, kind: str, names: Sequence[str], written: str) -> str:
    params = [f"{'' if name == written else 'const '}void *{name}" for name in names]
    lines = [", ".join(params[:3]), ", ".join([*params[3:], "void *stream"])]
    return f"int32_t {symbol}_{kind}(\n    " + ",\n    ".join(lines) + ")"


def _used(names: Sequence[str]) -> str:
    """The bits of arguments that a function reads or writes."""
    bits = [f"1u << TVMCONV_ARG_{name.upper()}" for name in _ARGUMENTS if name in names]
    return " | ".join(bits)


def _code(folder: Path, part: Mapping[str, Any]) -> dict[str, Any]:
    """One row of the table `codes`."""
    code = DeviceCode.from_entry(part)
    offsets = workspace_offsets(code.workspace)
    numbers = {name: f"TVMCONV_ARG_{name.upper()}" for name in _ARGUMENTS}
    numbers |= {name: f"WORKSPACE + {i}" for i, name in enumerate(offsets)}
    return {
        "cubin": _file(folder, part["cubin"]),
        "ptx": _file(folder, part["ptx"]),
        "launches": [
            {"kernel": one.kernel, "grid": one.grid, "block": one.block,
             "shared_bytes": one.shared_bytes, "args": [numbers[name] for name in one.args]}
            for one in code.launches
        ],
        "offsets": list(offsets.values()),
        "workspace": code.workspace_bytes,
    }  # fmt: skip


def _file(folder: Path, path: str | None) -> str:
    if path is None:
        return "{NULL, 0, 0}"
    data = (folder / path).read_bytes()
    return f'{{"{path}", {len(data)}, UINT64_C({file_hash(data):#018x})}}'


def _tested(kernel: Mapping[str, Any], targets: Sequence[Target]) -> dict[str, Any]:
    """One row of the table in selftest.c."""
    return {
        "symbol": kernel["symbol"],
        "golden": [kernel["targets"][target.id]["golden"] for target in targets],
        "fills": [fill_of(kernel["tensors"].get(name)) for name in FILLED],
        "packed": kernel["packed_elems"],
        "y": prod(kernel["tensors"]["y"]["shape"]),
        "kind": kernel["dtype"].upper(),
    }


def _example(kernel: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors and calls of example.c."""
    tensors = kernel["tensors"]
    used = [name for name in (*PACK_ARGUMENTS, *RUN_ARGUMENTS) if name in tensors]
    return {
        "tensors": [
            {"name": name, "bytes": prod(tensors[name]["shape"]) * kernel["itemsize"]}
            for name in dict.fromkeys(used)
        ],
        "pack_arguments": example_arguments(PACK_ARGUMENTS, used),
        "run_arguments": example_arguments(RUN_ARGUMENTS, used),
        "outputs": prod(tensors["y"]["shape"]),
    }
