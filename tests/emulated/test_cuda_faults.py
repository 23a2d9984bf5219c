"""What a GPU would refuse or leave to chance: the CUDA emulator finds it, and says where."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.emulated.cuda_sources import FLOAT, Bench, kernel, need_cxx, together, warpgroup
from tvmconv.compilers import find_cxx
from tvmconv.cuda.code import Launch
from tvmconv.emulate.cuda import ORDERS, Call, Order, build_program, emulate, run_calls
from tvmconv.errors import BuildFailed, DeviceFault, EmulationGap, ProgramFailed

pytestmark = pytest.mark.emulated

X = np.arange(1, 129, dtype=np.float32)
ADDRESS = '"r"((unsigned)__cvta_generic_to_shared(s + threadIdx.x * 4))'
COPY = (
    f'asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: {ADDRESS},'
    ' "l"(x + threadIdx.x * 4));'
)
COMMIT = 'asm volatile("cp.async.commit_group;");'
TWO_LAUNCHES = kernel(
    "y[blockIdx.x] = w[1 - blockIdx.x]; w[blockIdx.x] = 1;", args="float *y, float *w",
    grid=(2, 1, 1), block=(1, 1, 1), workspace=(("w", 8),),
)  # fmt: skip

# Name: (code, kind of the fault, what its text says).
FAULTS = {
    "no barrier between write and read": (
        kernel(
            "__shared__ float s[64]; s[threadIdx.x] = x[threadIdx.x]; y[threadIdx.x] = "
            "s[63 - threadIdx.x];", block=(64, 1, 1),
        ),
        "race", r"(reads|writes) byte \d+ of s, which thread \(\d+, 0, 0\) (wrote|read),.* line 7$",
    ),
    "no barrier between read and write": (
        kernel(
            "__shared__ float s[64]; s[threadIdx.x] = x[threadIdx.x]; __syncthreads();\n"
            "float v = s[63 - threadIdx.x];\ns[threadIdx.x] = v; y[threadIdx.x] = v;",
            block=(64, 1, 1),
        ),
        "race", r"(writes byte \d+ of s, which .* read|reads byte \d+ of s, which .* wrote)",
    ),
    "two threads write the same": (
        kernel("y[threadIdx.x / 2] = x[threadIdx.x];"), "race", r"writes byte 0 of y|of y, which",
    ),
    "lanes do not agree": (
        kernel("__shared__ float s[32]; s[threadIdx.x] = x[threadIdx.x]; "
               "y[threadIdx.x] = s[threadIdx.x ^ 1];"),
        "race", "of s, which thread",
    ),
    "a shuffle orders nothing": (
        kernel("__shared__ float s[32]; s[threadIdx.x] = x[threadIdx.x]; "
               "float v = __shfl_sync(0xffffffff, x[threadIdx.x], 0); "
               "y[threadIdx.x] = s[threadIdx.x ^ 1] + v;"),
        "race", "of s, which thread",
    ),
    "warps agree only within themselves": (
        kernel("__shared__ float s[64]; s[threadIdx.x] = x[threadIdx.x]; __syncwarp(); "
               "y[threadIdx.x] = s[63 - threadIdx.x];", block=(64, 1, 1)),
        "race", "of s, which thread",
    ),
    "a block reads what another writes": (
        TWO_LAUNCHES, "race", "byte [04] of w, which another block of the launch (wrote|read)",
    ),
    "a copy is not waited for": (
        kernel(f"__shared__ __align__(16) float s[128]; {COPY}{COMMIT} __syncthreads(); "
               "y[threadIdx.x] = s[threadIdx.x];"),
        "async", r"reads byte \d+ of s, which an asynchronous copy that was not waited for writes",
    ),
    "the wait is one group late": (
        kernel(f"__shared__ __align__(16) float s[128]; {COPY}{COMMIT}"
               'asm volatile("cp.async.wait_group 1;"); __syncthreads(); '
               "y[threadIdx.x] = s[threadIdx.x];"),
        "async", "that was not waited for",
    ),
    "a copy is never committed": (
        kernel(f"__shared__ __align__(16) float s[128]; {COPY}"
               'asm volatile("cp.async.wait_group 0;"); __syncthreads(); '
               "y[threadIdx.x] = s[threadIdx.x];"),
        "async", "that was not waited for",
    ),
    "waiting is for the own copies alone": (
        kernel(f"__shared__ __align__(16) float s[128]; {COPY}{COMMIT}"
               'asm volatile("cp.async.wait_group 0;"); '
               "y[threadIdx.x] = s[127 - threadIdx.x * 4];"),
        "race|async", "of s, which",
    ),
    "a copy into what is being read": (
        kernel("__shared__ __align__(16) float s[128]; for (int i = 0; i < 4; ++i) "
               "s[i * 32 + threadIdx.x] = 0; __syncthreads();\n"
               f"y[threadIdx.x] = s[threadIdx.x];\n{COPY}{COMMIT}"
               'asm volatile("cp.async.wait_group 0;");'),
        "race|async", "of s, which",
    ),
    "reads beyond the end": (
        kernel("y[threadIdx.x] = x[threadIdx.x + 97];"),
        "bounds", r"reads 4 bytes at byte 512 of x, which has 512, line 7",
    ),
    "reads before the start": (
        kernel("y[threadIdx.x] = x[(int)threadIdx.x - 1];"),
        "bounds", r"reads 4 bytes at byte -4 of x",
    ),
    "writes beyond the end": (
        kernel("y[threadIdx.x * 2] = 1;"),
        "bounds", r"writes 4 bytes at byte \d+ of y, which has 128",
    ),
    "writes to an input": (
        kernel("((float *)x)[threadIdx.x] = 1;"), "bounds", "writes to x, an input",
    ),
    "a vector beyond the end": (
        kernel("y[threadIdx.x] = ((const float4 *)x)[threadIdx.x + 1].w;"),
        "bounds", "of x, which has 512",
    ),
    "beyond a static shared array": (
        kernel("__shared__ float s[31]; s[threadIdx.x] = 1; y[threadIdx.x] = 1;"),
        "bounds", "writes 4 bytes at byte 124 of s, which has 124|index 31 of",
    ),
    "beyond a thread's own array": (
        kernel("float v[4] = {1, 2, 3, 4}; y[threadIdx.x] = v[threadIdx.x / 7];"),
        "bounds", "index 4 of 'float ?.4.', line 7",
    ),
    "beyond dynamic shared memory": (
        kernel("extern __shared__ float d[]; d[threadIdx.x] = 1; y[threadIdx.x] = 1;", shared=124),
        "bounds", "writes 4 bytes at byte 124 of d, which has 124",
    ),
    "far away": (kernel("y[threadIdx.x] = x[1 << 28];"), "bounds", "reads 4 bytes where there is"),
    "the null pointer": (kernel("const float *p = 0; y[0] = *p;"), "bounds", "where there is"),
    "a misaligned float4": (
        kernel("float4 v = *(const float4 *)(x + threadIdx.x);\ny[threadIdx.x] = v.x + v.w;"),
        "misaligned", r"float4.*no multiple of 16, line 7",
    ),
    "a part of a misaligned float4": (
        kernel("y[threadIdx.x] = ((const float4 *)(x + threadIdx.x))->y;"), "misaligned", "float4",
    ),
    "a misaligned pair of halves": (
        kernel("half2 v = *((const half2 *)((const half *)x + threadIdx.x)); y[0] = v.x;"),
        "misaligned", "(half2|reads 4 bytes).*no multiple of 4",
    ),
    "a misaligned vector by PTX": (
        kernel('float a, b; asm("ld.global.v2.f32 {%0, %1}, [%2];" : "=f"(a), "=f"(b) : '
               '"l"(x + threadIdx.x)); y[threadIdx.x] = a + b;'),
        "misaligned", "no multiple of 8",
    ),
    "a misaligned copy": (
        kernel(f"__shared__ __align__(16) float s[129]; "
               f"{COPY.replace('s + threadIdx.x * 4', 's + threadIdx.x * 4 + 1')} y[0] = 0;"),
        "misaligned", "writes 16 bytes of s at an address that is no multiple of 16",
    ),
    "a misaligned matrix": (
        kernel("wmma::fragment<wmma::accumulator, 16, 16, 16, float> f; "
               "wmma::fill_fragment(f, 0.f); "
               "wmma::store_matrix_sync(y + 4, f, 16, wmma::mem_row_major);"),
        "misaligned", "store_matrix_sync at an address that is no multiple of 32",
    ),
    "a barrier that some miss": (
        kernel("if (threadIdx.x < 7) __syncthreads(); y[threadIdx.x] = 1;"),
        "divergence", r"waits for __syncthreads in line 7, thread \(\d+, 0, 0\) has ended",
    ),
    "different barriers": (
        kernel("if (threadIdx.x < 7)\n__syncthreads();\nelse\n__syncthreads();\ny[0] = 1;"),
        "divergence", "at __syncthreads in line (8|10), others in line (8|10)",
    ),
    "half of a warp shuffles": (
        kernel("float v = 0; if (threadIdx.x < 16) v = __shfl_xor_sync(0xffffffff, v, 1); "
               "y[threadIdx.x] = v;"),
        "divergence", "waits for a shuffle in line 7",
    ),
    "lanes load different matrices": (
        kernel("wmma::fragment<wmma::accumulator, 16, 16, 16, float> f;"
               "wmma::load_matrix_sync(f, x + threadIdx.x / 16 * 8, 8, wmma::mem_row_major);"),
        "divergence", "different addresses",
    ),
    "a named barrier for more than come": (
        kernel('asm volatile("bar.sync 1, 64;"); y[threadIdx.x] = 1;'),
        "deadlock", "all threads wait for a named barrier in line 7",
    ),
    "too many threads": (
        replace(kernel(""), launches=(Launch("k", (1, 1, 1), (1025, 1, 1), 0, ("x", "y")),)),
        "launch", "1025 threads a block, of at most 1024",
    ),
    "more threads than the kernel says": (
        replace(kernel(""), source='extern "C" __global__ void __launch_bounds__(16) k(float *x, '
                "float *y) {}"),
        "launch", "32 threads a block, of at most 16",
    ),
    "too large a grid": (
        kernel("", grid=(1, 65536, 1)), "launch", "at most 65535 along y and z",
    ),
    "too much shared memory": (kernel("", shared=300 << 10), "launch", "shared memory"),
    "too many arguments": (
        replace(kernel(""), launches=(Launch("k", (1, 1, 1), (32, 1, 1), 0, ("x", "y", "y")),)),
        "launch", "is given 3 arguments and takes 2",
    ),
    "no end of the stack": (
        kernel("y[threadIdx.x] = deep(threadIdx.x);", outside="__device__ __noinline__ float deep("
               "int n) { volatile float a[64]; a[n % 64] = n; return n < 0 ? 0 : deep(n + 1) + "
               "a[n % 64]; }"),
        "bounds", "ended with SIGSEGV|where there is nothing",
    ),
}  # fmt: skip


# A struct that is copied whole, which zig's clang reads in halves; of its parts it knows.
NOT_BY_ZIG = {"a misaligned float4"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    codes = {name: code for name, (code, _, _) in FAULTS.items()}
    return together(codes, tmp_path_factory.mktemp("kernels"))


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found(bench: Bench, name: str, order: Order) -> None:
    """In every order: it is what the code does that is judged, not what came of it."""
    code, kind, text = FAULTS[name]
    if name in NOT_BY_ZIG and find_cxx().is_zig:
        pytest.skip("zig's clang does not check the alignment of what is copied whole")
    tensors = {"x": X} if "x" in code.launches[0].args else {}
    found = bench.answer(name, tensors, 64 if code.launches[0].threads == 64 else 32, order)
    assert isinstance(found, DeviceFault), found
    assert re.fullmatch(kind, found.kind), found
    assert re.search(text, str(found)), found


WARPGROUPS = {
    "copies are not shown": (
        warpgroup(show="__syncthreads();"), "async",
        r"of s[ab] past the ordinary path, to which thread .* has not shown what it wrote",
    ),
    "nobody waits for the copies": (warpgroup(show="{}"), "race", "of s[ab], which thread"),
    "the fence comes too early": (
        warpgroup(show="{} sb[threadIdx.x] = 0; __syncthreads();"), "async|race", "of sb",
    ),
    "written while it is read": (
        warpgroup(late="__syncthreads(); ((short *)sa)[threadIdx.x] = 1;"), "async",
        "wgmma in line .* reads was written before it was waited for",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def warpgroups(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    codes = {name: code for name, (code, _, _) in WARPGROUPS.items()}
    codes["shown by the reader"] = warpgroup(show="__syncthreads(); {}")
    codes["read too early"] = warpgroup(late="y[threadIdx.x] = c[0]; return;")
    return together(codes, tmp_path_factory.mktemp("warpgroups"))


MATRICES = {"a": np.ones((64, 64), np.float16), "b": np.ones((16, 64), np.float16)}


@pytest.mark.parametrize("name", WARPGROUPS)
def test_fault_of_warpgroups(warpgroups: Bench, name: str) -> None:
    _, kind, text = WARPGROUPS[name]
    found = warpgroups.answer(name, MATRICES, 1024)
    assert isinstance(found, DeviceFault), found
    assert re.fullmatch(kind, found.kind), found
    assert re.search(text, str(found)), found


def test_the_reader_may_show_too(warpgroups: Bench) -> None:
    found = warpgroups.answer("shown by the reader", MATRICES, 1024)
    np.testing.assert_array_equal(found, np.full(1024, 64))


def test_sums_are_poison_until_they_are_waited_for(warpgroups: Bench) -> None:
    found = warpgroups.answer("read too early", MATRICES, 1024)
    assert isinstance(found, np.ndarray), found
    assert np.isnan(found[:128]).all()


def test_a_fault_does_not_touch_other_calls(bench: Bench) -> None:
    good = kernel("y[threadIdx.x] = x[threadIdx.x];")
    faults = [emulate_or_fault(bench) for _ in range(2)]
    assert [fault.kind for fault in faults] == ["bounds", "bounds"]
    found = emulate(good, {"x": X}, {"y": ((32,), FLOAT)})
    np.testing.assert_array_equal(found["y"], X[:32])


def emulate_or_fault(bench: Bench) -> DeviceFault:
    found = bench.answer("far away", {"x": X}, 32)
    assert isinstance(found, DeviceFault)
    return found


def test_emulate_raises_the_fault() -> None:
    need_cxx()
    bad = kernel("y[threadIdx.x + 1] = 0;")
    with pytest.raises(DeviceFault, match=r"k, block \(0, 0, 0\), thread \(31, 0, 0\): writes"):
        emulate(bad, {"x": X}, {"y": ((32,), FLOAT)})


def test_what_nobody_writes_is_nan(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    code = kernel(
        "__shared__ float s[32]; __shared__ half h[32]; extern __shared__ float d[];\n"
        "if (threadIdx.x < 3) y[threadIdx.x] = threadIdx.x == 0 ? s[0] : threadIdx.x == 1 ? "
        "(float)h[1] : d[2]; if (threadIdx.x == 4) y[4] = w[0];",
        args="float *y, float *w", workspace=(("w", 4),), shared=12,
    )  # fmt: skip
    found = together({"nan": code}, tmp_path_factory.mktemp("nan")).answer("nan", {}, 6)
    assert isinstance(found, np.ndarray)
    assert np.isnan(found).all()


def test_variables_that_nobody_writes_are_huge(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    code = kernel("float v[4]; for (int i = 0; i < 3; ++i) v[i] = x[i]; y[threadIdx.x] = "
                  "v[threadIdx.x % 4];")  # fmt: skip
    found = together({"v": code}, tmp_path_factory.mktemp("v")).answer("v", {"x": X}, 32)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found[:3], X[:3])
    assert not abs(found[3]) < 1e37  # clang takes NaN


def test_poison_comes_back_for_each_block(tmp_path_factory: pytest.TempPathFactory) -> None:
    code = kernel("__shared__ float s[1]; y[blockIdx.x] = s[0]; s[0] = 1;", grid=(4, 1, 1),
                  block=(1, 1, 1), args="float *y")  # fmt: skip
    found = together({"again": code}, tmp_path_factory.mktemp("again")).answer("again", {}, 4)
    assert isinstance(found, np.ndarray)
    assert np.isnan(found).all()


def test_endless_kernels_are_ended(tmp_path_factory: pytest.TempPathFactory) -> None:
    need_cxx()
    code = kernel("volatile int go = 1; while (go) {} y[0] = 0;")
    program = build_program([code], tmp_path_factory.mktemp("endless") / "program")
    with pytest.raises(ProgramFailed, match=r"did not end within 0\.5 s"):
        run_calls(program, [Call(0, {"x": X}, {"y": ((1,), FLOAT)})], timeout=0.5)


def test_unknown_instructions_are_named() -> None:
    need_cxx()
    code = kernel('asm volatile("wmma.nonsense.b1 %0;" :: "r"(1));')
    with pytest.raises(EmulationGap, match=r"PTX instruction: got 'wmma\.nonsense\.b1'"):
        emulate(code, {"x": X}, {"y": ((32,), FLOAT)})


def test_what_is_no_cuda_is_refused() -> None:
    need_cxx()
    with pytest.raises(BuildFailed, match=r"source0\.cu:7"):
        emulate(kernel("not_a_function();"), {"x": X}, {"y": ((32,), FLOAT)})
