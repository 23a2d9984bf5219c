"""The plain C functions of a kernel, generated around the entry points that TVM emits.

Each kernel has a pair with the same signature whatever its spec; what the spec lacks is ignored and
may be NULL::

    int32_t <symbol>_pack(weight, bias, scale, shift, packed)
    int32_t <symbol>_run(x, packed, residual, offset, mask, y, threads)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tvmconv.errors import BuildFailed

from .sources import cpu_features

RUN_ARGUMENTS: Final = ("x", "packed", "residual", "offset", "mask", "y")
PACK_ARGUMENTS: Final = ("weight", "bias", "scale", "shift", "packed")

_WRITTEN: Final = {"run": "y", "pack": "packed"}


@dataclass(frozen=True)
class KernelSymbol:
    """What the wrappers need to know of one kernel.

    Attributes:
        symbol: C identifier; TVM's entry points are `__tvm_ffi_<symbol>_run` and `..._pack`.
        run_args: tensor arguments of the run entry point, in its order.
        pack_args: the same of the pack entry point.
        cpu_features: instruction sets that the code uses, spelled as in /proc/cpuinfo.
        empty: the batch is 0, so run has nothing to do, and its pointers may be NULL (torch gives
            empty tensors no address).
    """

    symbol: str
    run_args: tuple[str, ...]
    pack_args: tuple[str, ...]
    cpu_features: tuple[str, ...] = ()
    empty: bool = False

    def __post_init__(self) -> None:
        """Refuse names that would not compile, or that the runtime cannot check."""
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.symbol):
            raise BuildFailed("symbol", self.symbol, "a C identifier")
        for given, known in ((self.run_args, RUN_ARGUMENTS), (self.pack_args, PACK_ARGUMENTS)):
            if not set(given) <= set(known) or len(set(given)) != len(given):
                raise BuildFailed(f"arguments of {self.symbol}", given, f"each once of {known}")
        for feature in self.cpu_features:
            if feature not in cpu_features():
                raise BuildFailed("cpu feature", feature, f"one of {', '.join(cpu_features())}")


def cpu_mask(features: Iterable[str]) -> str:
    """The C expression for a set of instruction sets."""
    return " | ".join(f"TVMCONV_CPU_{name}" for name in sorted(set(features))) or "0"


def prototype(kernel: KernelSymbol, kind: str) -> str:
    """The C prototype of `kind` ("run" or "pack"), without the semicolon."""
    names = RUN_ARGUMENTS if kind == "run" else PACK_ARGUMENTS
    params = [f"{'' if name == _WRITTEN[kind] else 'const '}float *{name}" for name in names]
    if kind == "run":
        params.append("int32_t threads")
    lines = [", ".join(params[:3]), ", ".join(params[3:])]
    return f"int32_t {kernel.symbol}_{kind}(\n    " + ",\n    ".join(lines) + ")"


def wrapper_source(kernels: Sequence[KernelSymbol]) -> str:
    """C source that defines the public functions of `kernels`; a library takes exactly one such."""
    parts = ['#include "runtime.h"\n', "TVMCONV_DEFINE_HOOKS\n"]
    for kernel in kernels:
        parts += [_definition(kernel, kind) for kind in kinds(kernel)]
    return "\n".join(parts)


def kinds(kernel: KernelSymbol) -> tuple[str, ...]:
    """The functions that the kernel has: without tensors to pack, "run" alone."""
    return ("pack", "run") if kernel.pack_args else ("run",)


def unused(kernel: KernelSymbol, kind: str) -> list[str]:
    """The lines that tell the compiler which arguments are meant to be ignored."""
    names = RUN_ARGUMENTS if kind == "run" else PACK_ARGUMENTS
    used = kernel.run_args if kind == "run" else kernel.pack_args
    ignored = [f"(void){name};" for name in names if name not in used]
    return [f"  {' '.join(ignored)}"] if ignored else []


def pointers(used: Sequence[str]) -> str:
    """The initialisers of the table of pointers that the runtime checks."""
    return ", ".join(f"{{{name}, TVMCONV_ARG_{name.upper()}}}" for name in used)


def empty_run(kernel: KernelSymbol) -> str:
    """The run function of a batch of zero."""
    ignored = " ".join(f"(void){name};" for name in (*RUN_ARGUMENTS, "threads"))
    head = prototype(kernel, "run")
    return f"TVMCONV_API {head};\n{head} {{\n  {ignored}\n  return TVMCONV_OK;\n}}\n"


def _definition(kernel: KernelSymbol, kind: str) -> str:
    if kind == "run" and kernel.empty:
        return empty_run(kernel)
    used = kernel.run_args if kind == "run" else kernel.pack_args
    entry = f"__tvm_ffi_{kernel.symbol}_{kind}"
    lines = [
        '__attribute__((visibility("hidden"))) int32_t '
        f"{entry}(void *, const tvmconv_any *, int32_t, tvmconv_any *);",
        f"TVMCONV_API {prototype(kernel, kind)};",
        prototype(kernel, kind) + " {",
        *unused(kernel, kind),
        f"  const tvmconv_pointer pointers[] = {{{pointers(used)}}};",
        f"  return tvmconv_invoke({entry}, {cpu_mask(kernel.cpu_features)},",
        f"                        pointers, {len(used)}, {'threads' if kind == 'run' else '1'});",
        "}",
    ]
    return "\n".join(lines) + "\n"
