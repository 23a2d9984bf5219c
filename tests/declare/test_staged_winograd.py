"""Winograd's packed weights on GPUs: u by its definition, in two halves for float16 tensors."""

import numpy as np
import pytest

import tvmconv as tc
from tests.declare.evaluate import evaluate
from tvmconv.declare.product import ProductForm
from tvmconv.declare.staged_winograd import REST_SCALE, StagedForm, declare_staged_packing
from tvmconv.declare.winograd_form import TiledAxis
from tvmconv.problem import canonical
from tvmconv.spec import ConvSpec

SHAPE = (1, 3, 9, 9)


def form_of(spec: ConvSpec, m: int, halves: int) -> StagedForm:
    _, h, w = canonical(spec).axes
    rows, columns = (TiledAxis(axis, m, TiledAxis(axis, m, 1).bands) for axis in (h, w))
    return StagedForm(rows, columns, ProductForm(16, 4, 4), True, True, halves)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("m", [2, 4])
def test_two_halves_hold_nearly_all_of_float32(m: int, size: float) -> None:
    spec = tc.conv2d(SHAPE, 6, 3, bias=True, dtype="float16")
    form, problem = form_of(spec, m, 2), canonical(spec)
    rng = np.random.default_rng(m)
    weight = (size * rng.standard_normal(spec.weight_shape)).astype(np.float16)
    bias = rng.standard_normal(6).astype(np.float16)
    packed = evaluate(declare_staged_packing(spec, problem, form), {"weight": weight, "bias": bias})
    assert packed.dtype == np.float16
    elems, shape = form.weight_elems(problem), form.packed_shape(problem)
    assert np.array_equal(packed[elems : elems + 6], bias)
    first, second = np.moveaxis(packed[:elems].reshape(shape).astype(np.float64), -2, 0)
    found = (first + second / REST_SCALE).reshape(m + 2, m + 2, 2, 4, 4)
    matrix = np.array(form.h.filtering.weight, dtype=np.float64)
    wanted = np.einsum("ak,oikl,bl->abio", matrix, weight.astype(np.float64), matrix)
    for block in range(2):
        real = wanted[..., block * 4 : block * 4 + 4]
        got = found[:, :, block, :3, : real.shape[-1]]
        # Rounded to float32, and once more as a second half; below float16's normal numbers the
        # second half's own steps are what is left.
        allowed = (2.0**-24 + 2.0**-23) * np.abs(real) + 2.0**-36
        assert np.all(np.abs(got - real) <= allowed)
    assert not found[:, :, :, 3].any()
    assert not found[:, :, 1, :, 2:].any()


def test_float32_needs_no_second_half() -> None:
    spec = tc.conv2d(SHAPE, 6, 3)
    form, problem = form_of(spec, 2, 1), canonical(spec)
    assert form.packed_shape(problem) == form.weight_shape(problem)
    weight = np.ones(spec.weight_shape, np.float32)
    packed = evaluate(declare_staged_packing(spec, problem, form), {"weight": weight})
    assert packed.size == form.weight_elems(problem)
    sums = np.array(form.h.filtering.weight, dtype=np.float64).sum(axis=1)
    assert set(packed.tolist()) == {0.0, *np.outer(sums, sums).ravel().tolist()}
