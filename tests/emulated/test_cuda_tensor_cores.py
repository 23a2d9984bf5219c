"""Tensor cores of the CUDA emulator: wmma, ldmatrix with mma.sync, and 16-bit numbers."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.emulated.cuda_sources import Bench, kernel, together, warpgroup
from tvmconv.emulate.cuda import ORDERS, Order

pytestmark = pytest.mark.emulated

Array = NDArray[Any]
SHAPES = ((16, 16, 16), (32, 8, 16), (8, 32, 16))
TF32 = "wmma::precision::tf32"


def wmma(kind: str, m: int, n: int, k: int, a_rows: bool, b_rows: bool) -> str:
    """y = 2 (a b) + x, with the operands' matrices by rows or by columns."""
    a, b = ("row_major" if rows else "col_major" for rows in (a_rows, b_rows))
    element = "float" if kind == "wmma::precision::tf32" else kind
    rounded = "for (auto &v : {0}.x) v = wmma::__float_to_tf32(v);" if element == "float" else ""
    return f"""
wmma::fragment<wmma::matrix_a, {m}, {n}, {k}, {kind}, wmma::{a}> fa;
wmma::fragment<wmma::matrix_b, {m}, {n}, {k}, {kind}, wmma::{b}> fb;
wmma::fragment<wmma::accumulator, {m}, {n}, {k}, float> zero, product, sum;
wmma::fill_fragment(zero, 0.0f);
wmma::load_matrix_sync(fa, ({element} *)a, {k if a_rows else m});
wmma::load_matrix_sync(fb, ({element} *)b, {n if b_rows else k});
{rounded.format("fa")} {rounded.format("fb")}
wmma::mma_sync(product, fa, fb, zero);
wmma::load_matrix_sync(sum, x, {n}, wmma::mem_row_major);
for (int i = 0; i < sum.num_elements; ++i) sum.x[i] += 2 * product.x[i];
wmma::store_matrix_sync(y, sum, {n}, wmma::mem_row_major);"""


def mma(kind: str, k: int) -> str:
    """Y = a b for 16 x k and k x 8: a by ldmatrix, b by columns, sums in the ISA's places."""
    wide = kind == "tf32"
    registers = {"a": 16 * k // (32 if wide else 64), "b": 8 * k // (32 if wide else 64)}
    bytes_of_row = k * (4 if wide else 2)
    chunk = 4 if wide else 8  # elements of 16 bytes
    loads = [
        f'asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%0}}, [%1];" : "=r"({into}) : '
        f'"r"((unsigned)__cvta_generic_to_shared({matrix} + (lane % 8 + {row}) * {bytes_of_row} + '
        f"{column} * 16)));"
        for matrix, into, row, column in [
            *(("sa", f"a{r}", 8 * (r % 2), r // 2) for r in range(registers["a"])),
            *(("sb", f"b{r}", 0, r) for r in range(registers["b"])),
        ]
    ]
    assert k // chunk in (1, 2)
    names = [f"a{r}" for r in range(registers["a"])] + [f"b{r}" for r in range(registers["b"])]
    inputs = ", ".join(f'"r"({name})' for name in names)
    a = ", ".join(f"%{4 + i}" for i in range(registers["a"]))
    b = ", ".join(f"%{4 + registers['a'] + i}" for i in range(registers["b"]))
    return f"""
__shared__ __align__(16) unsigned char sa[16 * {bytes_of_row}];
__shared__ __align__(16) unsigned char sb[8 * {bytes_of_row}];
int lane = threadIdx.x; unsigned {", ".join(names)}; float c[4] = {{0, 0, 0, 0}};
for (int i = lane; i < {16 * bytes_of_row // 4}; i += 32) ((int *)sa)[i] = ((const int *)a)[i];
for (int i = lane; i < {8 * bytes_of_row // 4}; i += 32) ((int *)sb)[i] = ((const int *)b)[i];
__syncwarp();
{" ".join(loads)}
asm volatile("mma.sync.aligned.m16n8k{k}.row.col.f32.{kind}.{kind}.f32 {{%0, %1, %2, %3}}, "
  "{{{a}}}, {{{b}}}, {{%0, %1, %2, %3}};"
  : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : {inputs});
for (int i = 0; i < 4; ++i) y[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = c[i];"""


WMMA = {
    f"{kind} {m}x{n}x{k} {'row' if a else 'col'} {'row' if b else 'col'}": (kind, m, n, k, a, b)
    for kind, shapes in (("half", SHAPES), ("__nv_bfloat16", SHAPES), (TF32, ((16, 16, 8),)))
    for m, n, k in shapes
    for a in (True, False)
    for b in (True, False)
}
MMA = {f"{kind} k{k}": (kind, k) for kind, k in
       (("f16", 8), ("f16", 16), ("bf16", 16), ("tf32", 4), ("tf32", 8))}  # fmt: skip
ARGS = "const float *x, const void *a, const void *b, float *y"
CONVERSIONS = {
    "half of float": "y[i] = (float)__float2half(x[i]);",
    "float of half": "y[i] = __half2float(((const half *)x)[i]);",
    "bfloat16 of float": "y[i] = (float)__float2bfloat16(x[i]);",
    "half arithmetic": "half a = x[i], b = x[i + 1]; y[i] = (float)(a * b + __hfma(a, b, -b) / a);",
    "pairs": "half2 p = __floats2half2_rn(x[i], x[i + 1]); uint32_t r; asm("
    '"cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(x[i + 1]), "f"(x[i]));'
    "y[i] = (*(uint32_t *)&p == r) + __high2float(__hadd2(p, p));",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    codes = {name: kernel(wmma(*row), args=ARGS) for name, row in WMMA.items()}
    codes |= {name: kernel(mma(*row), args=ARGS) for name, row in MMA.items()}
    codes |= {
        name: kernel(f"int i = blockIdx.x * 256 + threadIdx.x; {body}", block=(256, 1, 1),
                     grid=(256, 1, 1))
        for name, body in CONVERSIONS.items()
    }  # fmt: skip
    codes["wgmma"] = warpgroup()
    return together(codes, tmp_path_factory.mktemp("kernels"))


def stored(kind: str, values: Array) -> Array:
    """Values as the kernel reads them: float16, the upper half of a float, or a float."""
    if kind in ("half", "f16"):
        return values.astype(np.float16)
    if kind in ("__nv_bfloat16", "bf16"):
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(np.float32)


def kept_exactly(values: Array) -> Array:
    """Eight bits of each number, which every type has."""
    return (values.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


def answer(bench: Bench, name: str, kind: str, a: Array, b: Array, order: Order) -> Array:
    tensors = {"x": np.arange(256, dtype=np.float32), "a": stored(kind, a), "b": stored(kind, b)}
    found = bench.answer(name, tensors, 256, order)
    assert isinstance(found, np.ndarray), found
    return found


@pytest.mark.parametrize("name", WMMA)
@pytest.mark.parametrize("seed", range(2))
def test_wmma(bench: Bench, name: str, seed: int) -> None:
    kind, m, n, k, a_rows, b_rows = WMMA[name]
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-8, 9, (m, k)), rng.integers(-8, 9, (k, n))
    found = answer(bench, name, kind, a if a_rows else a.T, b if b_rows else b.T, ORDERS[seed])
    expected = 2 * (a @ b) + np.arange(m * n).reshape(m, n)
    np.testing.assert_array_equal(found[: m * n].reshape(m, n), expected)


@pytest.mark.parametrize("name", MMA)
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
def test_mma(bench: Bench, name: str, order: Order) -> None:
    kind, k = MMA[name]
    rng = np.random.default_rng(k)
    a = kept_exactly(rng.standard_normal((16, k)))
    b = kept_exactly(rng.standard_normal((k, 8)))
    found = answer(bench, name, kind, a, b.T, order)[:128].reshape(16, 8)
    exact, terms = a.astype(np.float64) @ b, np.abs(a) @ np.abs(b)
    assert np.all(np.abs(found - exact) <= 2.0**-21 * terms)
    assert not np.array_equal(found, (a @ b))  # it is not float arithmetic


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.name)
def test_wgmma(bench: Bench, order: Order) -> None:
    rng = np.random.default_rng(7)
    a, b = rng.integers(-8, 9, (64, 64)), rng.integers(-8, 9, (16, 64))
    tensors = {"a": a.astype(np.float16), "b": b.astype(np.float16)}
    found = bench.answer("wgmma", tensors, 64 * 16, order)
    assert isinstance(found, np.ndarray), found
    np.testing.assert_array_equal(found.reshape(64, 16), a @ b.T)


def test_sums_are_cut_as_hardware_does(bench: Bench) -> None:
    """Next to 1, products below 2^-23 are lost one by one, whatever they sum up to."""
    a, b = np.zeros((16, 16)), np.zeros((16, 8))
    a[:, 0], b[0] = 1, 1
    a[:, 1:8], b[1:8] = 2.0**-12, -(2.0**-12)  # each -2^-24
    found = answer(bench, "f16 k16", "f16", a, b.T, ORDERS[0])
    assert np.all(found[:128] == 1)
    a[:, 1:8] = 2.0**-11  # each -2^-23, a unit of the last bit below 1
    found = answer(bench, "f16 k16", "f16", a, b.T, ORDERS[0])
    assert np.all(found[:128] == 1 - 7 * 2.0**-23)


def test_infinities_and_nan_go_through(bench: Bench) -> None:
    a, b = np.ones((16, 16)), np.ones((16, 8))
    a[1, 3], a[2, 5], a[3, 0], a[3, 9], a[4, 15] = np.inf, np.nan, np.inf, -np.inf, -np.inf
    found = answer(bench, "f16 k16", "f16", a, b.T, ORDERS[0])[:128].reshape(16, 8)
    expected = np.full(16, 16.0)
    expected[1:5] = [np.inf, np.nan, np.nan, -np.inf]
    np.testing.assert_array_equal(found, np.repeat(expected[:, None], 8, 1))


def converted(bench: Bench, name: str, x: Array) -> Array:
    found = bench.answer(name, {"x": np.append(x, x[:1])}, 65536)
    assert isinstance(found, np.ndarray), found
    return found


def test_every_half_has_its_value(bench: Bench) -> None:
    x = np.arange(65536, dtype=np.uint16)
    found = bench.answer("float of half", {"x": x}, 65536)
    np.testing.assert_array_equal(found, x.view(np.float16).astype(np.float32))


def floats() -> Array:
    """All over float32, and densely where half rounds, ends and gets subnormal."""
    rng = np.random.default_rng(5)
    anything = rng.integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)
    scaled = [rng.standard_normal(15000) * 2.0**e for e in (0, -14, -24)]
    ties = np.arange(65536 - 65000, dtype=np.float32) * 2.0**-25 + np.float32(2.0**-14)
    with np.errstate(invalid="ignore"):  # some of anything is NaN
        return np.concatenate([anything, *scaled, ties]).astype(np.float32)[:65536]


def test_half_rounds_to_even(bench: Bench) -> None:
    x = floats()
    with np.errstate(over="ignore", invalid="ignore"):
        np.testing.assert_array_equal(
            converted(bench, "half of float", x)[: x.size], x.astype(np.float16).astype(np.float32)
        )


def test_bfloat16_rounds_to_even(bench: Bench) -> None:
    import torch

    x = floats()
    expected = torch.from_numpy(x).to(torch.bfloat16).to(torch.float32).numpy()
    np.testing.assert_array_equal(converted(bench, "bfloat16 of float", x)[: x.size], expected)


def test_half_computes_in_float_and_rounds(bench: Bench) -> None:
    x = np.random.default_rng(2).uniform(0.5, 2, 65536).astype(np.float32)
    a, b = x.astype(np.float16), np.append(x[1:], x[:1]).astype(np.float16)
    wide = a.astype(np.float64) * b - b
    expected = a * b + wide.astype(np.float16) / a
    np.testing.assert_array_equal(
        converted(bench, "half arithmetic", x), expected.astype(np.float32)
    )


def test_pairs_of_halves(bench: Bench) -> None:
    x = np.random.default_rng(2).uniform(0.5, 2, 65536).astype(np.float32)
    high = np.append(x[1:], x[:1]).astype(np.float16)
    expected = 1 + (high + high).astype(np.float32)
    np.testing.assert_array_equal(converted(bench, "pairs", x), expected)
