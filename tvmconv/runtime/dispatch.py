"""The plain C functions of a bundle, each over the machine code of several targets.

A library holds every target of its machine side by side. The generated source has a table of the
targets, and per function a table of their entry points; dispatch.c finds the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from tvmconv.errors import BuildFailed

from .wrapper import KernelSymbol, cpu_mask, empty_run, kinds, pointers, prototype, unused

# What compilers define, by Target.machine; another machine is taken on trust.
_MACHINES: Final = {
    "x86_64": "defined(__x86_64__)",
    "aarch64": "defined(__aarch64__)",
    "armv7l": "defined(__arm__)",
    "riscv64": "defined(__riscv) && __riscv_xlen == 64",
}


@dataclass(frozen=True)
class TargetCode:
    """One target as the C dispatcher sees it.

    Attributes:
        id: its name.
        machine: as ``Target.machine``.
        system: as ``Target.system``.
        cpu_features: what its code needs.
        core: the core that it was scheduled for, as ``Target.core``; 0 for none.
    """

    id: str
    machine: str
    system: str
    cpu_features: tuple[str, ...]
    core: int = 0

    @property
    def library(self) -> tuple[str, str]:
        """Targets of which this is the same share a library."""
        return self.machine, self.system


@dataclass(frozen=True)
class Dispatched:
    """A pair of public functions, and the kernel behind it for each target.

    Attributes:
        symbol: of the public functions, before ``_pack`` and ``_run``.
        kernels: one per target of the bundle, in that order.
    """

    symbol: str
    kernels: tuple[KernelSymbol, ...]

    def __post_init__(self) -> None:
        """Refuse kernels that are not called alike."""
        calls = {(k.run_args, k.pack_args, k.empty) for k in self.kernels}
        if len(calls) != 1:
            raise BuildFailed(f"arguments of {self.symbol}", sorted(calls), "the same everywhere")

    @property
    def public(self) -> KernelSymbol:
        """Arguments of the public functions."""
        first = self.kernels[0]
        return KernelSymbol(self.symbol, first.run_args, first.pack_args, (), first.empty)


def dispatch_source(name: str, targets: Sequence[TargetCode], kernels: Sequence[Dispatched]) -> str:
    """C source of a bundle's public functions; every library of the bundle takes it once.

    Args:
        name: of the library, which the functions about its targets begin with.
        targets: best first; those of one machine stand together.
        kernels: each with one kernel per target.
    """
    parts = ['#include "runtime.h"\n', "TVMCONV_DEFINE_HOOKS\n"]
    word = "#if"
    for (machine, system), group in groupby(enumerate(targets), key=lambda item: item[1].library):
        parts.append(f"{word} {_condition(machine, system)}")
        parts += _tables(list(group), kernels)
        word = "#elif"
    parts += ["#else", '#error "this bundle holds no code for this machine"', "#endif\n"]
    parts.append(_ABOUT_TARGETS.replace("NAME", name))
    for kernel in kernels:
        parts += [_definition(kernel.public, kind) for kind in kinds(kernel.public)]
    return "\n".join(parts)


_ABOUT_TARGETS: Final = """\
static tvmconv_targets all = {targets, (int32_t)(sizeof targets / sizeof *targets), 0};

TVMCONV_API const char *NAME_target(void);
const char *NAME_target(void) { return tvmconv_target_id(&all); }

TVMCONV_API int32_t NAME_use_target(const char *id);
int32_t NAME_use_target(const char *id) { return tvmconv_use_target(&all, id); }

TVMCONV_API uint64_t NAME_cpu_missing(char *names, size_t size);
uint64_t NAME_cpu_missing(char *names, size_t size) {
  return tvmconv_target_missing(&all, names, size);
}
"""


def _condition(machine: str, system: str) -> str:
    if machine not in _MACHINES:
        return "1"
    return f"{_MACHINES[machine]} && {'' if system == 'darwin' else '!'}defined(__APPLE__)"


def _tables(targets: list[tuple[int, TargetCode]], kernels: Sequence[Dispatched]) -> list[str]:
    rows = [f'    {{"{t.id}", {cpu_mask(t.cpu_features)}, {t.core:#x}}},' for _, t in targets]
    lines = ["static const tvmconv_target targets[] = {", *rows, "};"]
    for kernel in kernels:
        for kind in kinds(kernel.public):
            if kind == "run" and kernel.public.empty:
                continue
            entries = [f"__tvm_ffi_{kernel.kernels[i].symbol}_{kind}" for i, _ in targets]
            lines += [
                '__attribute__((visibility("hidden"))) int32_t '
                f"{entry}(void *, const tvmconv_any *, int32_t, tvmconv_any *);"
                for entry in entries
            ]
            table = f"static const tvmconv_entry {_table(kernel.symbol, kind)}[] = {{"
            lines.append(table + ", ".join(entries) + "};")
    return lines


def _table(symbol: str, kind: str) -> str:
    return f"{symbol}_{kind}_entries"


def _definition(kernel: KernelSymbol, kind: str) -> str:
    if kind == "run" and kernel.empty:
        return empty_run(kernel)
    used = kernel.run_args if kind == "run" else kernel.pack_args
    lines = [
        f"TVMCONV_API {prototype(kernel, kind)};",
        prototype(kernel, kind) + " {",
        *unused(kernel, kind),
        f"  const tvmconv_pointer pointers[] = {{{pointers(used)}}};",
        f"  return tvmconv_dispatch(&all, {_table(kernel.symbol, kind)}, pointers, {len(used)},",
        f"                          {'threads' if kind == 'run' else '1'});",
        "}",
    ]
    return "\n".join(lines) + "\n"
