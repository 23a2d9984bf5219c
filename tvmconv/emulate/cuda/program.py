"""One program of any number of device codes: their sources beside the emulator."""

from __future__ import annotations

import functools
import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tvmconv.compilers import Compiler, find_cxx, run
from tvmconv.cuda.code import DeviceCode
from tvmconv.errors import BuildFailed
from tvmconv.toolchain import cache_folder

from .source import kernel_table, translate

CPP_DIR: Final = Path(__file__).parent / "cpp"
RUNTIME_SOURCES: Final = (
    "fiber", "block", "memory", "notes", "hooks", "async", "mbarrier", "warpgroup",
    "main",
)  # fmt: skip
# Lines and frames for messages; DWARF 4, since addr2line takes the lines of 5 for those of another
# file.
COMMON: Final = (
    "-std=c++20", "-g1", "-gdwarf-4", "-fno-omit-frame-pointer", "-fPIE", "-fno-exceptions",
    "-fno-rtti", "-fno-stack-protector", "-U_FORTIFY_SOURCE",
)  # fmt: skip
RUNTIME_FLAGS: Final = (*COMMON, "-O2")
# `thread`: a call of hooks.cpp before each load and store; `alignment`: one where the type of an
# access asks for more than its address has, told before a vector is taken apart; `bounds`: one
# where an index leaves its array, which may be a thread's own. Products and sums stay apart:
# whether nvcc fuses them is its own choice.
KERNEL_FLAGS: Final = (
    *COMMON, "-O1", "-w", "-fsanitize=thread,alignment,bounds", "-ffp-contract=off",
    "-fno-strict-aliasing", "-fno-delete-null-pointer-checks",
)  # fmt: skip
# zig 0.15 keeps `thread` alone of those, and says nothing; its clang takes them by the other way.
ZIG_FLAGS: Final = (
    "-Xclang", "-fsanitize=alignment,array-bounds",
    "-Xclang", "-fsanitize-recover=alignment,array-bounds",
)  # fmt: skip
# Variables that nobody has written hold a number of the size 1e38. GCC has it since 12.
UNWRITTEN: Final = "-ftrivial-auto-var-init=pattern"


@dataclass(frozen=True)
class Program:
    """An executable with the kernels of some device codes.

    Attributes:
        path: of the executable.
        codes: what it holds.
        kernels: the number of each kernel, by the code's number and its name.
    """

    path: Path
    codes: tuple[DeviceCode, ...]
    kernels: Mapping[tuple[int, str], int]


def build_program(codes: Sequence[DeviceCode], out: Path, *, arch: str = "sm_90") -> Program:
    """Compile device codes with the emulator into the executable `out`.

    Args:
        codes: what it shall run.
        out: where the program goes.
        arch: what __CUDA_ARCH__ tells the sources.

    Raises:
        EnvironmentProblem: no C++ compiler.
        EmulationGap: a source has what the emulator does not model.
        BuildFailed: the compiler refused a source; carries its message.
    """
    compiler = find_cxx()
    table, kernels = kernel_table(codes)
    number = "".join(letter for letter in arch if letter.isdigit())
    parts = [
        f"#define __CUDA_ARCH__ {number}0",
        '#include "device.h"',
        '#include "kernels.h"',
        *(translate(code, i) for i, code in enumerate(codes)),
        table,
    ]
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        source = Path(folder) / "program.cpp"
        source.write_text("\n".join(parts), encoding="utf-8")
        made = source.with_suffix(".o")
        flags = (*KERNEL_FLAGS, *(ZIG_FLAGS if compiler.is_zig else ()))
        flags += (UNWRITTEN,) if _takes(compiler, UNWRITTEN) else ()
        run([*compiler.command, *flags, f"-I{CPP_DIR}", f"-I{CPP_DIR / 'include'}", "-c",
             str(source), "-o", str(made)])  # fmt: skip
        # Without -fsanitize: its runtime is what hooks.cpp takes the place of.
        objects = [str(path) for path in runtime_objects(compiler)]
        run([*compiler.command, "-pie", str(made), *objects, "-o", str(out)])
    return Program(out, tuple(codes), kernels)


def runtime_objects(compiler: Compiler) -> tuple[Path, ...]:
    """The emulator's own object files, compiled once, from the user's cache folder."""
    folder = cache_folder() / f"emulator-{_runtime_key(compiler)}"
    found = tuple(folder / f"{name}.o" for name in RUNTIME_SOURCES)
    if folder.is_dir():
        return found
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=cache_folder()) as work:
        making = Path(work) / folder.name
        making.mkdir()
        for name in RUNTIME_SOURCES:
            run([*compiler.command, *RUNTIME_FLAGS, "-c", str(CPP_DIR / f"{name}.cpp"),
                 "-o", str(making / f"{name}.o")])  # fmt: skip
        if not folder.is_dir():  # else another process was faster, with the same files
            shutil.move(making, folder)
    return found


@functools.cache
def _takes(compiler: Compiler, flag: str) -> bool:
    """Whether the compiler knows a flag."""
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        source = Path(folder) / "empty.cpp"
        source.touch()
        try:
            run([*compiler.command, flag, "-c", str(source), "-o", str(source.with_suffix(".o"))])
        except BuildFailed:
            return False
    return True


@functools.cache
def _runtime_key(compiler: Compiler) -> str:
    sources = [(path.name, path.read_bytes()) for path in sorted(CPP_DIR.glob("*.*"))]
    parts = (sources, compiler, compiler.version, RUNTIME_FLAGS)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
