"""From CUDA source to machine code: by NVRTC where it is installed, or else by nvcc.

Neither needs a GPU or its driver. Both give, for one architecture, a cubin, the PTX that newer
chips can compile for themselves, and what each kernel needs.
"""

from __future__ import annotations

import functools
import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tvmconv.compilers import run
from tvmconv.cuda.cubin import Usage, assembler_version, usage
from tvmconv.cuda.nvrtc import Nvrtc, find_nvrtc
from tvmconv.cuda.places import program
from tvmconv.errors import BuildFailed, EnvironmentProblem

# Which of the two compiles: "nvrtc", "nvcc", or, unset, what is there.
CHOICE: Final = "TVMCONV_CUDA_COMPILER"
_CHOICES: Final = ("", "nvrtc", "nvcc")

# Chosen, where TVM itself would pass --use_fast_math: multiply and add are fused, as on CPUs, but
# denormals are kept, and division and square root are rounded as IEEE 754 says.
FLAGS: Final = (
    "--std=c++17", "--fmad=true", "--ftz=false", "--prec-div=true", "--prec-sqrt=true",
)  # fmt: skip
FAST_MATH: Final = ("--std=c++17", "--use_fast_math")
_INSTALL: Final = "`pip install 'tvmconv[cuda]'` (NVRTC), or nvcc of a CUDA toolkit"


@dataclass(frozen=True)
class Spills:
    """Bytes that a thread of a kernel stores to and loads from its stack for want of registers."""

    store_bytes: int
    load_bytes: int


@dataclass(frozen=True)
class Image:
    """Machine code of a source for one architecture.

    Attributes:
        arch: "sm_90".
        cubin: machine code; runs on chips of the same major number, and at least the minor one.
        ptx: intermediate code, which the driver compiles on any newer chip.
        usage: what each kernel needs, in the order of their names.
        spills: of each kernel, by name.
        compiler: what made it, "NVRTC 13.0.88".
        flags: what it was told.
        seconds: that took.
    """

    arch: str
    cubin: bytes
    ptx: str
    usage: tuple[Usage, ...]
    spills: tuple[tuple[str, Spills], ...]
    compiler: str
    flags: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Nvcc:
    """A toolkit's compiler program.

    Attributes:
        path: of the program, which may be a script that starts another one.
    """

    path: str

    @property
    def version(self) -> str:
        """Release, as "13.0"; empty where its text has none."""
        found = re.search(r"release ([0-9.]+)", run([self.path, "--version"]))
        return found[1] if found else ""

    def compile(self, source: str, flags: tuple[str, ...]) -> tuple[bytes, str, str]:
        """Machine code, PTX, and the assembler's text.

        Raises:
            BuildFailed: the source was refused; carries the compiler's text.
        """
        with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
            text, code = Path(folder) / "kernel.cu", Path(folder) / "kernel.cubin"
            text.write_text(source, encoding="utf-8")
            # ptxas reports on stderr; kept files are where the PTX comes from.
            keep = ("--keep", "--keep-dir", folder)
            log = run([self.path, "--cubin", *flags, *keep, str(text), "-o", str(code)], both=True)
            return code.read_bytes(), (Path(folder) / "kernel.ptx").read_text("ascii"), log


CudaCompiler = Nvrtc | Nvcc


def find_cuda_compiler() -> CudaCompiler:
    """NVRTC, or else nvcc; the variable TVMCONV_CUDA_COMPILER decides.

    Raises:
        EnvironmentProblem: there is none; says what to install.
    """
    return _find(os.environ.get(CHOICE, ""))


@functools.cache
def _find(choice: str) -> CudaCompiler:
    if choice not in _CHOICES:
        raise EnvironmentProblem(CHOICE, choice, "nvrtc, nvcc, or unset")
    found: CudaCompiler | None = find_nvrtc() if choice != "nvcc" else None
    if found is None and choice != "nvrtc":
        path = program("nvcc")
        found = None if path is None else Nvcc(path)
    if found is None:
        raise EnvironmentProblem("CUDA compiler", None, _INSTALL)
    return found


def label(compiler: CudaCompiler) -> str:
    """A compiler for people: "NVRTC 13.0"."""
    return f"{'NVRTC' if isinstance(compiler, Nvrtc) else 'nvcc'} {compiler.version}"


def compile_source(
    source: str, arch: str, *, fast_math: bool = False, compiler: CudaCompiler | None = None
) -> Image:
    """Compile CUDA C++ for one architecture.

    Args:
        source: of one or more ``extern "C" __global__`` functions.
        arch: "sm_90", "sm_90a".
        fast_math: let division, square root and denormals be inexact.
        compiler: which; default: the one that `find_cuda_compiler` finds.

    Raises:
        EnvironmentProblem: there is no compiler.
        BuildFailed: it refused the source or the architecture; carries its text.
    """
    if not re.fullmatch(r"sm_\d+[af]?", arch):
        raise BuildFailed("arch", arch, '"sm_" and a number, as in sm_90')
    found = find_cuda_compiler() if compiler is None else compiler
    started = time.perf_counter()
    flags = (f"--gpu-architecture={arch}", *(FAST_MATH if fast_math else FLAGS))
    code, ptx, log = found.compile(source, (*flags, "--ptxas-options=-v"))
    made = label(found).partition(" ")[0], assembler_version(code)
    return Image(
        arch=arch,
        cubin=code,
        ptx=ptx,
        usage=usage(code),
        spills=_spills(log),
        compiler=" ".join(made),
        flags=flags,
        seconds=time.perf_counter() - started,
    )


def _spills(log: str) -> tuple[tuple[str, Spills], ...]:
    """What ptxas -v says of each function."""
    pattern = (
        r"Function properties for (\S+)[^,]*, (\d+) bytes spill stores, (\d+) bytes spill loads"
    )
    found = re.findall(pattern, log)
    return tuple(sorted((name, Spills(int(store), int(load))) for name, store, load in found))
