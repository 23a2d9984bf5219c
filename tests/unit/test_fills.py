"""The fills are deterministic, and integers are as exact as they claim."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings

import tvmconv as tc
from tests.strategies import conv_specs
from tvmconv import fills
from tvmconv.elements import SHORT_FLOATS, numpy_dtype
from tvmconv.operands import Operands
from tvmconv.reference import accumulate
from tvmconv.spec import ConvSpec

FILLS = [fills.integers, fills.normal, fills.impulses, fills.borders, fills.nonfinite]


@pytest.mark.parametrize("fill", FILLS)
def test_same_seed_same_operands(fill: object) -> None:
    assert callable(fill)
    spec = tc.deform_conv2d((1, 4, 6, 6), 4, 3, mask=True, bias=True, residual=True)
    first, again, other = fill(spec, 3), fill(spec, 3), fill(spec, 4)
    for field in fields(Operands):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))
    assert not np.array_equal(first.offset, other.offset)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(conv_specs())
def test_shapes_are_the_specs(spec: ConvSpec) -> None:
    for fill in FILLS:
        operands = fill(spec, 0)
        assert operands.x.shape == spec.x_shape
        assert operands.weight.shape == spec.weight_shape
        present = {*operands.keywords()}
        assert ("bias" in present) == spec.bias
        assert ("residual" in present) == spec.residual
        assert ("offset" in present) == (spec.op == "deform_conv")
        assert ("mask" in present) == spec.mask
        assert operands.x.dtype == operands.weight.dtype == np.float32


def test_long_sums_get_smaller_integers() -> None:
    long = tc.conv2d((1, 512, 224, 224), 8, 7)
    assert fills.integer_limit(long) == 4
    longest = tc.conv2d((1, 64, 224, 224), 8, 224)
    assert fills.integer_limit(longest) == 1
    assert fills.sum_length(longest) < 2**24


def test_transposed_sums_are_shorter_than_the_kernel() -> None:
    assert fills.sum_length(tc.conv_transpose2d((1, 3, 4, 4), 2, 4, stride=2)) == 3 * 4
    assert fills.sum_length(tc.conv_transpose1d((1, 1, 4), 1, 5, stride=2, dilation=2)) == 5


def test_impulses_see_each_tap_alone() -> None:
    """Corner impulses reproduce single weights, so a displaced tap changes the answer."""
    spec = tc.conv2d((1, 1, 5, 5), 1, 2)
    x = np.zeros(spec.x_shape, np.float32)
    x[0, 0, 0, 0] = 1
    operands = fills.impulses(spec)
    corner = accumulate(spec, Operands(x, operands.weight))[0, 0, 0, 0]
    assert corner == operands.weight[0, 0, 0, 0]
    assert np.unique(operands.weight).size == operands.weight.size


def test_borders_are_empty_inside() -> None:
    for layout, shape in (("NCHW", (2, 3, 5, 6)), ("NHWC", (2, 5, 6, 3))):
        x = fills.borders(tc.conv2d(shape, 2, 3, layout=layout)).x
        ring = np.abs(x).max(axis=tuple(i for i, letter in enumerate(layout) if letter in "NC"))
        assert not ring[1:-1, 1:-1].any()
        assert ring[0].all()
        assert ring[:, -1].all()


def test_nonfinite_has_no_zero_weights() -> None:
    operands = fills.nonfinite(tc.conv2d((1, 3, 8, 8), 4, 3))
    assert operands.weight.all()
    assert np.isnan(operands.x).any()
    assert np.isinf(operands.x).any()


@pytest.mark.parametrize("dtype", SHORT_FLOATS)
@pytest.mark.parametrize("fill", FILLS)
def test_short_fills_are_of_that_type_and_lose_nothing(
    fill: Callable[..., Operands], dtype: str
) -> None:
    spec = tc.deform_conv2d(
        (1, 4, 6, 6), 4, 3, mask=True, bias=True, scale_shift=True, residual=True
    )
    short, single = fill(replace(spec, dtype=dtype), 3), fill(spec, 3)
    exact = fill in (fills.integers, fills.impulses, fills.borders, fills.nonfinite)
    for field in fields(Operands):
        narrow, wide = getattr(short, field.name), getattr(single, field.name)
        assert narrow.dtype == numpy_dtype(dtype)
        narrow = narrow.astype(np.float32)
        np.testing.assert_array_equal(narrow, wide.astype(numpy_dtype(dtype)).astype(np.float32))
        if exact:
            np.testing.assert_array_equal(narrow, wide)
