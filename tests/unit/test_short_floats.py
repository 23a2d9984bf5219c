"""Floats of 16 bits: how far one rounding moves a value, and who has to allow for it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tvmconv as tc
from tvmconv import fills
from tvmconv.bench.contest import Expected
from tvmconv.bundle.answers import _operands, golden_for
from tvmconv.reference import accumulate, finish
from tvmconv.tolerance import DIRECT, stored_bound
from tvmconv.tuning import answers
from tvmconv.validate import judge

HALF = tc.conv2d((1, 64, 6, 7), 8, 3, bias=True, residual=True, activation="tanh", dtype="float16")
# Few terms: rounding the result is what an answer loses.
FEW = tc.conv2d((1, 2, 6, 7), 8, 1, bias=True, activation="tanh", dtype="float16")


def test_float16_adds_one_rounding_to_the_bound_of_float32() -> None:
    single = replace(HALF, dtype="float32")
    exact, bound = np.array([0.0, 1.0, -3.0]), np.array([0.0, 1e-6, 1e-5])
    assert stored_bound(single, exact, bound) is bound
    got = stored_bound(HALF, exact, bound)
    assert got == pytest.approx([2.0**-25, 2.0**-11, 3 * 2.0**-11], rel=0.03)
    assert np.all(got > np.abs(exact - exact.astype(np.float16)) + bound)


def test_half_an_ulp_of_float16_is_within_the_stored_bound() -> None:
    """Over all magnitudes: rounding moves a value by no more than the bound says."""
    rng = np.random.default_rng(0)
    exact = rng.standard_normal(20000) * 10.0 ** rng.integers(-9, 5, 20000)
    exact = exact[np.abs(exact) < 65504]
    moved = np.abs(exact.astype(np.float16).astype(np.float64) - exact)
    bound = stored_bound(HALF, exact, np.zeros_like(exact))
    assert np.all(moved <= bound)
    assert np.max(moved / bound) > 0.99


def test_a_half_kernel_that_rounds_twice_is_caught() -> None:
    """Bias added in float16 in place of float32: beyond the bound on some outputs."""
    spec = replace(HALF, residual=False, activation="none")
    operands = fills.normal(spec)
    sums = accumulate(spec, operands, "float32")
    once = finish(spec, sums, operands).astype(np.float16)
    twice = finish(spec, sums.astype(np.float16).astype(np.float32), operands).astype(np.float16)
    cases = {"normal": operands}
    assert all(check.ok for check in judge(spec, DIRECT, cases, {"normal": once}))
    assert not all(check.ok for check in judge(spec, DIRECT, cases, {"normal": twice}))


def test_benchmarks_and_tuning_allow_the_rounding_of_the_result(tmp_path: Path) -> None:
    operands = fills.normal(FEW, answers.SEED)
    y = finish(FEW, accumulate(FEW, operands, "float32"), operands).astype(np.float16)
    kernel: Any = SimpleNamespace(spec=FEW, accuracy=DIRECT)
    error, bound = Expected.of(kernel, operands).worst(y.astype(np.float32))
    assert 0.5 * bound < error <= bound
    answers.write_answer(FEW, DIRECT, tmp_path)
    expected, allowed = (np.load(tmp_path / f"{n}.npy") for n in ("expected", f"bound-{DIRECT}"))
    assert answers.compare(y.astype(np.float32), expected, allowed)[0] is None


def test_golden_answers_allow_the_rounding_of_the_result() -> None:
    operands = _operands(FEW)
    y = finish(FEW, accumulate(FEW, operands), operands).astype(np.float16)
    golden = golden_for(FEW, DIRECT)
    assert not golden.exact
    assert golden.problem(y.astype(np.float32)) is None
