"""Small CUDA kernels by hand, many to a program, for tests of the emulator itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tvmconv.compilers import find_cxx
from tvmconv.cuda.code import DeviceCode, Dim3, Launch
from tvmconv.emulate.cuda import Call, Order, Program, build_program, run_calls
from tvmconv.errors import DeviceFault, EnvironmentProblem

Array = NDArray[Any]
FLOAT = np.dtype(np.float32)


def need_cxx() -> None:
    """Skip with the reason where no C++ compiler is found."""
    try:
        find_cxx()
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))


def kernel(
    body: str,
    *,
    args: str = "const float *x, float *y",
    outside: str = "",
    grid: Dim3 = (1, 1, 1),
    block: Dim3 = (32, 1, 1),
    shared: int = 0,
    workspace: tuple[tuple[str, int], ...] = (),
) -> DeviceCode:
    """Device code of one kernel; `args` are its arguments in C, by whose names it gets tensors."""
    source = (
        "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n#include <mma.h>\n"
        "using namespace nvcuda;\n"
        f'{outside}\nextern "C" __global__ void k({args}) {{\n{body}\n}}\n'
    )
    names = tuple(arg.split("*")[-1].strip() for arg in args.split(","))
    return DeviceCode(source, (Launch("k", grid, block, shared, names),), workspace)


def together(codes: Mapping[str, DeviceCode], folder: Path) -> "Bench":
    """One program of all of them: a compiler's start costs more than a kernel."""
    need_cxx()
    return Bench(build_program(list(codes.values()), folder / "kernels"), tuple(codes))


class Bench:
    """A program whose kernels are run by name."""

    def __init__(self, program: Program, names: tuple[str, ...]) -> None:
        self.program, self.names = program, names

    def answer(
        self, name: str, tensors: Mapping[str, Array], size: int, order: Order | None = None
    ) -> Array | DeviceFault:
        """What the kernel makes of its tensors: y, of `size` floats."""
        outputs = {"y": ((size,), FLOAT)}
        call = Call(self.names.index(name), tensors, outputs, order or Order())
        (found,) = run_calls(self.program, [call], timeout=60)
        return found if isinstance(found, DeviceFault) else found["y"]


def warpgroup(
    *, swizzle: str = "((row & 7) << 4)", show: str = "{} __syncthreads();", late: str = ""
) -> DeviceCode:
    """y = a b, 64 x 64 times 64 x 16, of halves, by four wgmma of 16 elements of depth.

    Matrices lie in rows of 128 bytes whose chunks are exchanged by the row. `late` stands between
    the start of the multiplications and the wait for them; `show` is what makes the copies visible,
    with a place for the fence.
    """
    sums = ", ".join(f'"+f"(c[{i}])' for i in range(8))
    registers = ", ".join(f"%{i}" for i in range(8))
    fence = 'asm volatile("fence.proxy.async.shared::cta;");'
    return kernel(
        f"""
__shared__ __align__(1024) unsigned char sa[64 * 128];
__shared__ __align__(1024) unsigned char sb[16 * 128];
for (int i = threadIdx.x; i < (64 + 16) * 32; i += 128) {{
  int row = i / 32, at = i % 32 * 4;
  unsigned char *to = row < 64 ? sa + row * 128 : sb + (row - 64) * 128;
  *(int *)(to + (at ^ {swizzle})) = row < 64 ? ((const int *)a)[i] : ((const int *)b)[i - 2048];
}}
{show.format(fence)}
float c[8] = {{0, 0, 0, 0, 0, 0, 0, 0}};
asm volatile("wgmma.fence.sync.aligned;");
for (int step = 0; step < 4; ++step) {{
  unsigned long long at_a = (unsigned)__cvta_generic_to_shared(sa) + 32 * step;
  unsigned long long at_b = (unsigned)__cvta_generic_to_shared(sb) + 32 * step;
  unsigned long long kind = 1ull << 16 | 64ull << 32 | 1ull << 62;
  asm volatile("{{ .reg .pred p; setp.ne.b32 p, %10, 0; "
    "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {{{registers}}}, %8, %9, p, 1, 1, 0, 0; }}"
    : {sums} : "l"(at_a >> 4 | kind), "l"(at_b >> 4 | kind), "r"(step));
}}
asm volatile("wgmma.commit_group.sync.aligned;");
{late}
asm volatile("wgmma.wait_group.sync.aligned 0;");
int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
for (int i = 0; i < 8; ++i)
  y[(row + i / 2 % 2 * 8) * 16 + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2] = c[i];""",
        args="const void *a, const void *b, float *y",
        block=(128, 1, 1),
    )
