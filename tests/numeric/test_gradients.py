"""Gradients as specs, compiled, against torch.autograd."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from tests.numeric.proving import DIRECT_SUMS_ONLY, named, prove
from tests.numeric.rows import CONV, CONV_TRANSPOSE, table
from tvmconv import fills
from tvmconv.errors import UnsupportedSpec
from tvmconv.gradients import weight_operands, weight_result
from tvmconv.reference import canonical_weight, from_canonical, to_canonical
from tvmconv.spec import ConvSpec

Array = NDArray[Any]
FORWARD: dict[str, dict[str, Any]] = {
    "plain": {"padding": 1},
    "strided": {"stride": 2, "padding": 1, "bias": True},
    "remainder": {"stride": 3, "kernel": 2, "padding": ((0, 1), (1, 0), (0, 0))},
    "dilated_groups": {"dilation": 2, "padding": 2, "groups": 2, "ic": 6, "oc": 4},
    "depthwise": {"padding": 1, "groups": 6, "ic": 6, "oc": 12, "stride": 2},
    "flip": {"flip": True, "kernel": (3, 2, 2)},
}
TRANSPOSED: dict[str, dict[str, Any]] = {
    "plain": {"size": (5, 4, 3), "stride": 2, "padding": 1},
    "output_padding": {"size": (5, 4, 3), "stride": 3, "output_padding": 2, "kernel": 2},
    "groups": {"size": (4, 3, 3), "stride": 2, "groups": 2, "ic": 4, "oc": 6, "dilation": 2},
}
SPECS = {f"conv-{k}": v for k, v in table(CONV, FORWARD).items()} | {
    f"transposed-{k}": v for k, v in table(CONV_TRANSPOSE, TRANSPOSED).items()
}


def autograd(spec: ConvSpec, x: Array, weight: Array, dy: Array) -> tuple[Array, Array]:
    """torch's dx and dw for canonical arrays, in float64."""
    inputs, weights = (torch.tensor(a, dtype=torch.float64).requires_grad_() for a in (x, weight))
    kernel = weights.flip([*range(2, 2 + spec.rank)]) if spec.flip else weights
    sizes: dict[str, Any] = {
        "stride": spec.stride,
        "dilation": spec.dilation,
        "groups": spec.groups,
    }
    if spec.op == "conv_transpose":
        operator: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[spec.rank - 1]
        assert spec.pads_begin == spec.pads_end
        sizes |= {"padding": spec.pads_begin, "output_padding": spec.output_padding}
        y = operator(inputs, kernel, **sizes)
    else:
        operator = (F.conv1d, F.conv2d, F.conv3d)[spec.rank - 1]
        pairs = zip(spec.pads_begin[::-1], spec.pads_end[::-1], strict=True)
        y = operator(F.pad(inputs, [p for pair in pairs for p in pair]), kernel, **sizes)
    y.backward(torch.tensor(dy, dtype=torch.float64))
    assert inputs.grad is not None
    assert weights.grad is not None
    return inputs.grad.numpy(), weights.grad.numpy()


def case(spec: ConvSpec) -> tuple[Array, Array, Array, Array, Array]:
    """x, weight and dy in the spec's memory order, and torch's dx (that order too) and dw."""
    operands = fills.integers(spec)
    rng = np.random.default_rng(5)
    dy = rng.integers(-3, 4, spec.out_shape).astype(np.float32)
    x = to_canonical(operands.x, spec.in_layout, spec.n, spec.ic, 1, spec.in_size)
    weight = canonical_weight(spec, operands.weight)
    gradient = to_canonical(dy, spec.out_layout, spec.n, spec.oc, 1, spec.out_size)
    dx, dw = autograd(spec, x, weight, gradient)
    return operands.x, operands.weight, dy, from_canonical(dx, spec.in_layout), dw


@named(SPECS)
def test_grad_input(spec: ConvSpec) -> None:
    _, weight, dy, dx, _ = case(spec)
    got = prove(spec.grad_input(), max_error=DIRECT_SUMS_ONLY)(dy, weight)
    np.testing.assert_array_equal(got.reshape(spec.x_shape), dx)


@named(SPECS)
def test_grad_weight(spec: ConvSpec) -> None:
    x, _, dy, _, dw = case(spec)
    kernel = prove(spec.grad_weight(), max_error=DIRECT_SUMS_ONLY)
    got = weight_result(spec, kernel(*weight_operands(spec, x, dy)))
    np.testing.assert_array_equal(got.reshape(spec.weight_shape), dw)


@pytest.mark.parametrize("name", ["conv-strided-1d-first", "conv-strided-2d-last"])
def test_grad_bias(name: str) -> None:
    spec = SPECS[name]
    dy = case(spec)[2]
    canonical = to_canonical(dy, spec.out_layout, spec.n, spec.oc, 1, spec.out_size)
    gradient = spec.grad_bias()
    ones = np.ones(gradient.weight_shape, np.float32)
    got = prove(gradient, max_error=DIRECT_SUMS_ONLY)(canonical.reshape(gradient.x_shape), ones)
    expected = canonical.sum(axis=(0, *range(2, canonical.ndim)))
    np.testing.assert_array_equal(got.reshape(-1), expected)


def test_padding_that_repeats_input_has_no_gradient_spec() -> None:
    spec = table(CONV, {"r": {"padding": 1, "padding_mode": "reflect"}})["r-2d-first"]
    with pytest.raises(UnsupportedSpec, match="reflect"):
        spec.grad_input()
