"""NaN, infinities, subnormals and overflow, beyond what tc.validate puts into every kernel."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tvmconv as tc
from tests.numeric.proving import DIRECT_SUMS_ONLY, level_of, named, per_level
from tvmconv import fills
from tvmconv.reference import reference
from tvmconv.spec import ConvSpec

Array = NDArray[Any]
SPECS = {
    "dense": tc.conv2d((1, 5, 8, 9), 20, 3, bias=True),
    "dense_last": tc.conv2d((1, 8, 9, 5), 20, 3, bias=True, layout="NHWC"),
    "depthwise": tc.conv2d((1, 8, 9, 20), 20, 3, bias=True, groups=20, layout="NHWC"),
    "pointwise": tc.conv2d((1, 9, 8, 9), 20, 1, bias=True),
    "grouped": tc.conv2d((1, 20, 8, 9), 20, 3, bias=True, groups=5),
}


@named(SPECS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_touch_their_own_channel_only(spec: ConvSpec, value: float) -> None:
    """Without padding every product is formed, so torch's answer is the same everywhere.

    A transposed convolution always has padding around its input, see docs/tolerances.md.
    """
    operands = fills.integers(spec)
    weight = operands.weight.copy()
    weight[weight == 0] = 1
    weight[2, 0] = value
    x = np.where(operands.x == 0, 1, operands.x).astype(np.float32)
    spoilt = replace(operands, x=x, weight=weight)
    y = tc.compile(spec, level_of(spec), max_error=DIRECT_SUMS_ONLY)(
        spoilt.x, spoilt.weight, spoilt.bias
    )
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(y, reference(spec, spoilt, "float32"))


@named(SPECS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bias_touches_its_own_channel_only(spec: ConvSpec, value: float) -> None:
    operands = fills.integers(spec)
    assert operands.bias is not None
    bias = operands.bias.copy()
    bias[-1] = value
    y = tc.compile(spec, level_of(spec), max_error=DIRECT_SUMS_ONLY)(
        operands.x, operands.weight, bias
    )
    expected = reference(spec, replace(operands, bias=bias), "float32")
    np.testing.assert_array_equal(y, expected)


@per_level()
def test_subnormals_are_kept(level: str) -> None:
    spec = tc.conv1d((1, 1, 37), 1, 1)
    x = np.linspace(-1e-39, 1e-39, 37, dtype=np.float32).reshape(spec.x_shape)
    y = tc.compile(spec, level, max_error=DIRECT_SUMS_ONLY)(
        x, np.full(spec.weight_shape, 0.5, np.float32)
    )
    np.testing.assert_array_equal(y, x * np.float32(0.5))
    assert np.count_nonzero(y) == 36


@per_level()
def test_overflow_is_infinity(level: str) -> None:
    spec = tc.conv1d((1, 1, 37), 3, 1, activation="relu")
    x = np.full(spec.x_shape, 3e38, np.float32)
    weight = np.array([2, -2, 0.5], np.float32).reshape(spec.weight_shape)
    y = tc.compile(spec, level, max_error=DIRECT_SUMS_ONLY)(x, weight)
    np.testing.assert_array_equal(y[0, 0], np.full(37, np.inf))
    np.testing.assert_array_equal(y[0, 1], np.zeros(37))
    np.testing.assert_array_equal(y[0, 2], x[0, 0] * np.float32(0.5))


def test_nan_in_the_residual_passes_the_activation() -> None:
    for activation in ("relu", "relu6", "silu", "hardswish", "gelu", "sigmoid", "tanh"):
        spec = tc.conv2d((1, 3, 5, 7), 8, 3, padding=1, residual=True, activation=activation)
        operands = fills.integers(spec)
        assert operands.residual is not None
        residual = operands.residual.copy()
        residual[0, 3, 2, 4] = np.nan
        y = tc.compile(spec, level_of(spec), max_error=DIRECT_SUMS_ONLY)(
            operands.x, operands.weight, residual=residual
        )
        assert np.isnan(y[0, 3, 2, 4]), activation
        assert np.isnan(y).sum() == 1, activation
