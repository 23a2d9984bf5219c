"""A program that runs calls of kernels: one executable with the runtime inside."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tvmconv.compilers import Compiler, find_compiler, run
from tvmconv.errors import EnvironmentProblem
from tvmconv.runtime.objects import hide_symbols
from tvmconv.runtime.sources import SOURCE_DIR, feature_mask
from tvmconv.runtime.wrapper import KernelSymbol, kinds, prototype, wrapper_source
from tvmconv.toolchain import CFLAGS, runtime_objects

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel
    from tvmconv.target import Target

CALLS_DIR: Final = Path(__file__).parent / "c"


@dataclass(frozen=True)
class Part:
    """One kernel of a program.

    Attributes:
        symbol: its C functions.
        packed: floats of its packed weights.
        y: floats of its output.
    """

    symbol: KernelSymbol
    packed: int
    y: int

    @staticmethod
    def of(kernel: Kernel) -> Part:
        """The part that a compiled kernel is."""
        return Part(kernel.c_symbol, kernel.packed_elems, prod(kernel.spec.out_shape))


def build_program(
    kernels: Sequence[Kernel], out: Path, target: Target, *, static: bool = True
) -> Path:
    """Link compiled kernels, the runtime and calls.c into the program `out`.

    Args:
        kernels: at least one, all for `target`.
        out: where the program goes.
        target: whose programs.
        static: need nothing on the device, not even a C library. zig makes musl for that when it
            first has to, in 45 s; programs for glibc are there in 1 s, and need one on the device.

    Raises:
        EnvironmentProblem: no compiler for the target, or the target has no programs.
        BuildFailed: the compiler refused.
    """
    compiler = program_compiler(target, static=static)
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        work = Path(folder)
        inputs = list(runtime_objects(compiler))
        for i, kernel in enumerate(kernels):
            inputs.append(work / f"kernel{i}.o")
            inputs[-1].write_bytes(hide_symbols(kernel.object_bytes))
        wrappers = work / "wrappers.c"
        wrappers.write_text(wrapper_source([kernel.c_symbol for kernel in kernels]))
        return link_program([*inputs, wrappers], [Part.of(k) for k in kernels], out, compiler)


def program_compiler(target: Target, *, static: bool) -> Compiler:
    """What compiles programs for a target.

    Raises:
        EnvironmentProblem: there is none, or the target has no operating system to run them.
    """
    if target.system == "none":
        raise EnvironmentProblem(f"{target.id} is firmware: no program runs on it by itself")
    return find_compiler(target, static=static)


def link_program(
    inputs: Sequence[Path],
    parts: Sequence[Part],
    out: Path,
    compiler: Compiler,
    *,
    include: Path = SOURCE_DIR,
    prepare: str = "return TVMCONV_OK;",
) -> Path:
    """Link object files, C sources and libraries with calls.c into the program `out`.

    Args:
        inputs: what defines the kernels; a shared library is found again where it lies.
        parts: the kernels, in the order that calls count them in.
        out: where the program goes.
        compiler: of the target.
        include: folder of the runtime's headers.
        prepare: C statements that run before the first call and return a code.
    """
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        table = Path(folder) / "table.c"
        table.write_text(table_source(parts, prepare), encoding="utf-8")
        sources = [CALLS_DIR / "calls.c", table]
        return compile_program([*sources, *inputs], out, compiler, include)


def compile_program(
    inputs: Sequence[Path], out: Path, compiler: Compiler, include: Path = SOURCE_DIR
) -> Path:
    """Compile C sources and link them with objects and libraries into the program `out`."""
    shared = [path for path in inputs if path.suffix == ".so"]
    found = [f"-Wl,-rpath,{path.resolve().parent}" for path in shared]
    run([*compiler.command, *CFLAGS, f"-I{include}", f"-I{CALLS_DIR}", *map(str, inputs), *found,
         "-lpthread", "-lm", "-o", str(out)])  # fmt: skip
    return out


def table_source(parts: Sequence[Part], prepare: str = "return TVMCONV_OK;") -> str:
    """C text of the table that calls.c goes through."""
    lines = ['#include "calls.h"', ""]
    for part in parts:
        lines += [f"{prototype(part.symbol, kind)};" for kind in kinds(part.symbol)]
    lines += ["", "const calls_kernel calls_kernels[] = {"]
    for part in parts:
        name = part.symbol.symbol
        pack = f"{name}_pack" if "pack" in kinds(part.symbol) else "0"
        lines.append(f"  {{{pack}, {name}_run, {part.packed}u, {part.y}u}},")
    features = {feature for part in parts for feature in part.symbol.cpu_features}
    lines += [
        "};",
        f"const uint32_t calls_kernel_count = {len(parts)};",
        f"const uint64_t calls_cpu = UINT64_C({feature_mask(features)});",
        f"int32_t calls_prepare(void) {{ {prepare} }}",
        "",
    ]
    return "\n".join(lines)
