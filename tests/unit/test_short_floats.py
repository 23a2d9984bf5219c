"""Floats of 16 bits: what they hold, how far one rounding moves a value, who allows for it."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import tvmconv as tc
from tvmconv import fills
from tvmconv.bench.contest import Expected
from tvmconv.bundle.answers import _operands, golden_for
from tvmconv.elements import SHORT_FLOATS, numpy_dtype, readable
from tvmconv.errors import EnvironmentProblem
from tvmconv.reference import accumulate, finish
from tvmconv.tolerance import DIRECT, stored_bound
from tvmconv.tuning import answers
from tvmconv.validate import judge

HALF = tc.conv2d((1, 64, 6, 7), 8, 3, bias=True, residual=True, activation="tanh", dtype="float16")
# Few terms: rounding the result is what an answer loses.
FEW = tc.conv2d((1, 2, 6, 7), 8, 1, bias=True, activation="tanh", dtype="float16")
TYPES = pytest.mark.parametrize("dtype", SHORT_FLOATS)


def short(values: Any, dtype: str) -> Any:
    """Rounded to the type, in float64 again."""
    return values.astype(np.float32).astype(numpy_dtype(dtype)).astype(np.float64)


def magnitudes(dtype: str) -> Any:
    """Floats of every magnitude that the type has, as float32 holds them."""
    rng, kind = np.random.default_rng(0), SHORT_FLOATS[dtype]
    lowest, highest = np.log2(kind.spacing) - 2, np.log2(kind.largest)
    found = rng.choice([-1.0, 1.0], 20000) * 2.0 ** rng.uniform(lowest, highest, 20000)
    return found.astype(np.float32).astype(np.float64)


@TYPES
def test_the_nearest_number_is_that_of_numpy(dtype: str) -> None:
    kind = SHORT_FLOATS[dtype]
    ties = [1 + 2.0**-kind.bits, 1 + 3 * 2.0**-kind.bits, kind.spacing / 2, kind.spacing * 1.5]
    values = [*magnitudes(dtype), *ties, 0.0, kind.largest, -kind.largest]
    found = np.array([kind.nearest(float(value)) for value in values])
    np.testing.assert_array_equal(found, short(np.array(values), dtype))
    assert kind.nearest(kind.largest * (1 + 2.0**-kind.bits)) > kind.largest


@TYPES
def test_one_rounding_is_added_to_the_bound_of_float32(dtype: str) -> None:
    spec, kind = replace(HALF, dtype=dtype), SHORT_FLOATS[dtype]
    exact, bound = np.array([0.0, 1.0, -3.0]), np.array([0.0, 1e-6, 1e-5])
    assert stored_bound(replace(HALF, dtype="float32"), exact, bound) is bound
    got, half = stored_bound(spec, exact, bound), 2.0**-kind.bits
    assert got == pytest.approx([kind.spacing / 2, half, 3 * half], rel=0.03, abs=0)
    assert np.all(got > np.abs(exact - short(exact, dtype)) + bound)


@TYPES
def test_half_an_ulp_is_within_the_stored_bound(dtype: str) -> None:
    """Over all magnitudes: rounding moves a value by no more than the bound says."""
    exact = magnitudes(dtype)
    moved = np.abs(short(exact, dtype) - exact)
    bound = stored_bound(replace(HALF, dtype=dtype), exact, np.zeros_like(exact))
    assert np.all(moved <= bound)
    assert np.max(moved / bound) > 0.99


@TYPES
def test_a_kernel_that_rounds_twice_is_caught(dtype: str) -> None:
    """Bias added in the short type in place of float32: beyond the bound on some outputs."""
    spec, stored = replace(HALF, residual=False, activation="none", dtype=dtype), numpy_dtype(dtype)
    operands = fills.normal(spec)
    sums = accumulate(spec, operands, "float32")
    once = finish(spec, sums, operands).astype(stored)
    twice = finish(spec, sums.astype(stored).astype(np.float32), operands).astype(stored)
    cases = {"normal": operands}
    assert all(check.ok for check in judge(spec, DIRECT, cases, {"normal": once}))
    assert not all(check.ok for check in judge(spec, DIRECT, cases, {"normal": twice}))


@TYPES
def test_benchmarks_and_tuning_allow_the_rounding_of_the_result(tmp_path: Path, dtype: str) -> None:
    spec = replace(FEW, dtype=dtype)
    operands = fills.normal(spec, answers.SEED)
    y = finish(spec, accumulate(spec, operands, "float32"), operands).astype(numpy_dtype(dtype))
    kernel: Any = SimpleNamespace(spec=spec, accuracy=DIRECT)
    error, bound = Expected.of(kernel, operands).worst(y.astype(np.float32))
    assert 0.5 * bound < error <= bound
    answers.write_answer(spec, DIRECT, tmp_path)
    expected, allowed = (np.load(tmp_path / f"{n}.npy") for n in ("expected", f"bound-{DIRECT}"))
    assert answers.compare(y.astype(np.float32), expected, allowed)[0] is None
    for name, array in answers.read_operands(tmp_path).items():
        assert array.dtype == numpy_dtype(dtype)
        np.testing.assert_array_equal(array, getattr(operands, name))


@TYPES
def test_golden_answers_allow_the_rounding_of_the_result(dtype: str) -> None:
    spec = replace(FEW, dtype=dtype)
    operands = _operands(spec)
    y = finish(spec, accumulate(spec, operands), operands).astype(numpy_dtype(dtype))
    golden = golden_for(spec, DIRECT)
    assert not golden.exact
    assert golden.problem(y.astype(np.float32)) is None


def test_bfloat16_asks_for_the_package_that_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert numpy_dtype("bfloat16").itemsize == 2
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(EnvironmentProblem, match="ml_dtypes: got None; allowed: `pip install"):
        numpy_dtype("bfloat16")
    assert numpy_dtype("float16") == np.float16


def test_a_torch_tensor_is_read_in_place() -> None:
    values = torch.tensor([[1.5, -2.0], [float("inf"), 0.0]], dtype=torch.bfloat16)
    array = readable(values)
    np.testing.assert_array_equal(array.astype(np.float32), values.float().numpy())
    assert array.ctypes.data == values.data_ptr()
    parameter = torch.nn.Parameter(torch.ones(3))
    np.testing.assert_array_equal(np.asarray(readable(parameter)), np.ones(3))
    plain = np.ones(3)
    assert readable(plain) is plain
