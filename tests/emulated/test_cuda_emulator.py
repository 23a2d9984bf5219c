"""What the CUDA emulator computes: threads, warps, copies and tensor cores as a GPU has them."""

from dataclasses import replace

import numpy as np
import pytest

from tests.emulated.cuda_sources import Array, Bench, kernel, together
from tvmconv.cuda.code import Launch
from tvmconv.emulate.cuda import ORDERS, Order
from tvmconv.errors import DeviceFault

pytestmark = pytest.mark.emulated

X = np.arange(1, 257, dtype=np.float32)
SUM_OF_A_WARP = "for (int m = 16; m > 0; m /= 2) v += __shfl_xor_sync(0xffffffff, v, m);"
COPY = (
    'asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" :: "r"((unsigned)'
    '__cvta_generic_to_shared({})), "l"({}), "n"(16));'
)
COMMIT = 'asm volatile("cp.async.commit_group;");'
WAIT = 'asm volatile("cp.async.wait_group {};");'

# Name: (code, floats of y, what y is).
KERNELS = {
    "reversed through shared memory": (
        kernel(
            "__shared__ float s[64]; s[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];\n"
            "__syncthreads(); y[blockIdx.x * 64 + threadIdx.x] = s[63 - threadIdx.x];",
            block=(64, 1, 1), grid=(4, 1, 1),
        ),
        256, X.reshape(4, 64)[:, ::-1],
    ),
    "three axes of threads and blocks": (
        kernel(
            "int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);\n"
            "int b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);\n"
            "y[b * 12 + t] = x[b * 12 + t];",
            block=(3, 2, 2), grid=(2, 2, 2),
        ),
        96, X[:96],
    ),
    "two-dimensional and dynamic shared memory": (
        kernel(
            "extern __shared__ __align__(16) unsigned char raw[]; float *d = (float *)raw;\n"
            "__shared__ __align__(16) float s[4][8]; s[threadIdx.x / 8][threadIdx.x % 8] = "
            "x[threadIdx.x];\nd[threadIdx.x] = 2 * x[threadIdx.x]; __syncthreads();\n"
            "y[threadIdx.x] = s[threadIdx.x % 4][threadIdx.x / 4] + d[31 - threadIdx.x];",
            shared=128,
        ),
        32, X[:32].reshape(4, 8).T.reshape(-1) + 2 * X[31::-1][:32],
    ),
    "a thousand barriers": (
        kernel(
            "__shared__ float s[256]; float v = x[threadIdx.x];\n"
            "for (int i = 0; i < 1000; ++i) { s[threadIdx.x] = v; __syncthreads();"
            " v = s[(threadIdx.x + 1) % 256]; __syncthreads(); }\ny[threadIdx.x] = v;",
            block=(256, 1, 1),
        ),
        256, np.roll(X, -1000),
    ),
    "sum of a warp": (kernel(f"float v = x[threadIdx.x]; {SUM_OF_A_WARP} y[threadIdx.x] = v;"), 32,
                      np.full(32, X[:32].sum())),
    "shuffles up and down": (
        kernel(
            "float v = x[threadIdx.x]; y[threadIdx.x] = __shfl_up_sync(0xffffffff, v, 3);\n"
            "y[32 + threadIdx.x] = __shfl_down_sync(0xffffffff, v, 3, 8);\n"
            "y[64 + threadIdx.x] = __shfl_sync(0xffffffff, v, 5, 16);"
        ),
        96,
        np.concatenate([
            [X[i - 3] if i >= 3 else X[i] for i in range(32)],
            [X[i + 3] if i % 8 + 3 < 8 else X[i] for i in range(32)],
            [X[i // 16 * 16 + 5] for i in range(32)],
        ]),
    ),
    "votes": (
        kernel(
            "unsigned b = __ballot_sync(0xffffffff, threadIdx.x % 3 == 0);\n"
            "y[threadIdx.x] = (b >> threadIdx.x & 1) + 2 * __any_sync(0xffffffff, threadIdx.x == 7)"
            " + 4 * __all_sync(0xffffffff, threadIdx.x < 31);"
        ),
        32, 2.0 + (np.arange(32) % 3 == 0),
    ),
    "lanes agree": (
        kernel(
            "__shared__ float s[64]; s[threadIdx.x] = x[threadIdx.x]; __syncwarp();\n"
            "y[threadIdx.x] = s[threadIdx.x ^ 1];",
            block=(64, 1, 1),
        ),
        64, X[np.arange(64) ^ 1],
    ),
    "part of a block at a named barrier": (
        kernel(
            "__shared__ float s[64]; if (threadIdx.x >= 64) { y[threadIdx.x] = 0; return; }\n"
            's[threadIdx.x] = x[threadIdx.x]; asm volatile("bar.sync 1, 64;");\n'
            "y[threadIdx.x] = s[63 - threadIdx.x];",
            block=(96, 1, 1),
        ),
        96, np.concatenate([X[63::-1], np.zeros(32)]),
    ),
    "copies behind each other": (
        kernel(
            "__shared__ __align__(16) float s[2][128];\n"
            + COPY.format("&s[0][threadIdx.x * 4]", "x + threadIdx.x * 4") + COMMIT
            + "\nfor (int i = 0; i < 2; ++i) {"
            + "if (i == 0) {" + COPY.format("&s[1][threadIdx.x * 4]", "x + 128 + threadIdx.x * 4")
            + "}" + COMMIT + WAIT.format(1) + "\n__syncthreads();\n"
            + "for (int j = 0; j < 4; ++j) y[i * 128 + j * 32 + threadIdx.x] = "
            + "s[i][127 - j * 32 - threadIdx.x]; __syncthreads(); }"
        ),
        256, X.reshape(2, 128)[:, ::-1],
    ),
    "copies filled up with zeros": (
        kernel(
            "__shared__ __align__(16) float s[128];\n"
            'asm volatile("{ .reg .pred p; setp.ne.b32 p, %3, 0; @p cp.async.cg.shared.global '
            '[%0], [%1], 16, %2; @!p st.shared.v4.f32 [%0], {%4, %4, %4, %4}; }" :: '
            '"r"((unsigned)__cvta_generic_to_shared(s + threadIdx.x * 4)), "l"(x+4*threadIdx.x),'
            '"r"(threadIdx.x % 4 * 4), "r"((int)(threadIdx.x < 16)), "f"(-1.0f));\n'
            'asm volatile("cp.async.wait_all;"); __syncthreads();\n'
            "for (int j = 0; j < 4; ++j) y[j * 32 + threadIdx.x] = s[j * 32 + threadIdx.x];"
        ),
        128,
        [(X[i] if i % 4 < i // 4 % 4 else 0) if i < 64 else -1 for i in range(128)],
    ),
    "constants and loads of read-only data": (
        kernel("y[threadIdx.x] = table[threadIdx.x % 4] * __ldg(x + threadIdx.x);",
               outside="__constant__ float table[4] = {1, 2, 3, 4};"),
        32, X[:32] * (np.arange(32) % 4 + 1),
    ),
    "an own max beside CUDA's": (
        kernel(
            "int i = max((int)threadIdx.x - 5, 3 - (int)threadIdx.x);"
            "half h = max((half)i, (half)2);"
            "y[threadIdx.x] = (float)h + min(x[threadIdx.x], 9.0f);",
            outside="__device__ half max(half a, half b) { return __hgt(a, b) ? a : b; }",
        ),
        32, [max(i - 5, 3 - i, 2) + min(X[i], 9) for i in range(32)],
    ),
    "vectors": (
        kernel(
            "float4 v = *(const float4 *)(x + threadIdx.x * 4);\n"
            "*(float2 *)(y + threadIdx.x * 2) = make_float2(v.x + v.w, v.y * v.z);"
        ),
        64, np.stack([X[:128:4] + X[3:128:4], X[1:128:4] * X[2:128:4]], 1),
    ),
    "inline assembly with a loop": (
        kernel(
            'int n = threadIdx.x, r; asm("{ .reg .pred p; mov.s32 %0, 0; LOOP: '
            'setp.ge.s32 p, %1, 5; @p bra DONE; add.s32 %0, %0, %1; add.s32 %1, %1, 1; bra LOOP; '
            'DONE: }" : "=r"(r), "+r"(n)); y[threadIdx.x] = r;'
        ),
        32, [sum(range(i, 5)) for i in range(32)],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    codes = {name: code for name, (code, _, _) in KERNELS.items()}
    return together(codes, tmp_path_factory.mktemp("kernels"))


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
@pytest.mark.parametrize("name", KERNELS)
def test_answers(bench: Bench, name: str, order: Order) -> None:
    _, size, expected = KERNELS[name]
    found = bench.answer(name, {"x": X}, size, order)
    assert isinstance(found, np.ndarray), found
    np.testing.assert_array_equal(found, np.asarray(expected, np.float32).reshape(-1))


def test_orders_are_what_they_say(tmp_path_factory: pytest.TempPathFactory) -> None:
    code = kernel(
        "y[atomicAdd(counter, 1)] = threadIdx.x;", args="float *y, int *counter",
        outside='extern "C" __global__ void zero(int *counter) { *counter = 0; }',
        workspace=(("counter", 4),), block=(40, 1, 1),
    )  # fmt: skip
    first = Launch("zero", (1, 1, 1), (1, 1, 1), 0, ("counter",))
    code = replace(code, launches=(first, *code.launches))
    bench = together({"order": code}, tmp_path_factory.mktemp("orders"))

    def answer(order: Order) -> Array | DeviceFault:
        return bench.answer("order", {}, 40, order)

    np.testing.assert_array_equal(answer(Order("forward")), np.arange(40))
    np.testing.assert_array_equal(answer(Order("reverse")), np.arange(40)[::-1])
    shuffled = [np.asarray(answer(Order("random", seed))) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(shuffled[0], shuffled[1])
    assert not np.array_equal(shuffled[0], shuffled[2])
    np.testing.assert_array_equal(np.sort(shuffled[2]), np.arange(40))
