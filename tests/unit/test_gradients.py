"""Gradients as specs: evaluated by the slow twin they are what torch.autograd says."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

import tvmconv as tc
from tests.slow_conv import Array, slow_conv
from tests.strategies import conv_specs
from tests.unit.test_slow_conv import torch_linear
from tvmconv import gradients
from tvmconv.spec import ConvSpec

BY_HAND = [
    # The stride divides; it does not, so that rows are cropped; padding beyond the kernel.
    "conv1d_n2c4s9_o6k3_g2_s2_p1",
    "conv1d_n2c4s10_o6k3_g2_s3",
    "conv2d_n3c2s5x6_o4k2x1_s2x3_d2x1_p3x0",
    "conv2d_n1c1s1x1_o1k1x1",
    "conv2d_n2c3s7x8_o3k3x3_g3_s2_p1.0x0.2",
    "conv2d_n2c3s6x7_o4k3x2_s2_p1.2x2.0_flip_bias_relu",
    "conv2d_n2c4s6x7_o6k3x2_g2_s2_p1_nhwc",
    "conv2d_n2c4s6x7_o6k3x2_g2_s2_p1_nhwc_io",
    "conv2d_n2c3s6x7_o4k3x3_s2_p2_const1.5",
    "conv3d_n2c2s3x4x5_o4k2x3x1_g2_s1x2x2_p1x1x0",
    "convt1d_n2c4s5_o6k3_g2_s2_p1_a1",
    "convt1d_n2c4s5_o6k3_s2_d3_a2",
    "convt2d_n2c4s3x4_o6k3x2_g2_s3x1_d1x2_p1.0x0.2_a2x1",
    "convt2d_n2c4s3x4_o6k3x2_s2_p1_flip_nhwc",
    "convt2d_n2c4s3x4_o6k3x2_g2_s2_p1_oi",
    "convt3d_n1c2s2x3x2_o2k2x2x3_s2_a1",
]


def by_torch(spec: ConvSpec) -> tuple[Array, Array, Array, Array, Array, Array]:
    """x, weight and dy of small integers, and torch's gradients by x, weight and bias."""
    rng = np.random.default_rng(0)
    x, weight = (rng.integers(-4, 5, s).astype(float) for s in (spec.x_shape, spec.weight_shape))
    dy = rng.integers(-4, 5, spec.out_shape).astype(float)
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, weight, np.zeros(spec.oc))]
    bias_shape = (1, -1, *(1,) * spec.rank) if spec.out_layout[1] == "C" else (-1,)
    natural = {"conv": "OI", "conv_transpose": "IO"}[spec.op]
    torch_weight = leaves[1] if spec.weight_layout == natural else leaves[1].transpose(0, 1)
    y = torch_linear(spec, leaves[0], torch_weight) + leaves[2].reshape(bias_shape)
    dx, dw, db = (g.numpy() for g in torch.autograd.grad(y, leaves, torch.from_numpy(dy)))
    return x, weight, dy, dx, dw, db


def check(spec: ConvSpec) -> None:
    x, weight, dy, dx, dw, db = by_torch(spec)
    if spec.padding_mode in ("zeros", "constant"):
        by_input = spec.grad_input()
        assert (by_input.out_shape, by_input.x_shape) == (spec.x_shape, spec.out_shape)
        np.testing.assert_array_equal(slow_conv(by_input, dy, weight), dx)
    by_weight = spec.grad_weight()
    assert by_weight.out_shape == spec.weight_shape
    result = slow_conv(by_weight, *gradients.weight_operands(spec, x, dy))
    # Exact but for a pad_value that is no integer.
    np.testing.assert_allclose(gradients.weight_result(spec, result), dw, rtol=0, atol=1e-9)
    by_bias = spec.grad_bias()
    planar = gradients.channels_first(dy, spec.out_layout).reshape(by_bias.x_shape)
    ones = np.ones(by_bias.weight_shape)
    np.testing.assert_array_equal(slow_conv(by_bias, planar, ones).ravel(), db)


@pytest.mark.parametrize("text", BY_HAND)
def test_as_autograd(text: str) -> None:
    check(ConvSpec.parse(text))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(conv_specs(ops=("conv", "conv_transpose")))
def test_random_as_autograd(spec: ConvSpec) -> None:
    if spec.n > 0 and spec.macs < 100_000:
        check(spec)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes(mode: str) -> None:
    """The gradient by the weight reads padding in place, also where the end is cropped."""
    for text in ("s10x9_o4k3x4_s2x3_p2x3", "s10x9_o4k3x3_s3x3_p2.0x3.0"):
        spec = ConvSpec.parse(f"conv2d_n2c3{text}_{mode}")
        check(spec)
        with pytest.raises(tc.UnsupportedSpec, match="pad x outside"):
            spec.grad_input()


def test_flip_changes_only_the_order_of_the_weight() -> None:
    spec = ConvSpec.parse("conv2d_n2c3s6x7_o4k3x2_s2_p1_flip")
    assert spec.grad_input().flip
    assert not spec.grad_weight().flip
    dw = torch.arange(72.0).reshape(spec.weight_shape)
    turned = gradients.weight_result(spec, dw)
    np.testing.assert_array_equal(turned.numpy(), gradients.weight_result(spec, dw.numpy()))
    assert turned[0, 0, 0, 0] == 5.0


def test_operands_of_torch_tensors() -> None:
    spec = ConvSpec.parse("conv2d_n2c4s6x7_o6k3x2_g2_nhwc")
    x, dy = np.random.default_rng(0).normal(size=spec.x_shape), np.zeros(spec.out_shape)
    ours = gradients.weight_operands(spec, torch.from_numpy(x), torch.from_numpy(dy))
    for mine, theirs in zip(gradients.weight_operands(spec, x, dy), ours, strict=True):
        np.testing.assert_array_equal(mine, theirs.numpy())


@pytest.mark.parametrize("name", ["grad_input", "grad_weight", "grad_bias"])
def test_refused(name: str) -> None:
    refused: list[Any] = [tc.conv2d((2, 4, 8, 8), 4, 3).grad_weight()]
    if name != "grad_input":
        refused = [tc.conv2d((0, 4, 8, 8), 4, 3)]
    if name != "grad_bias":
        refused += [tc.deform_conv2d((2, 4, 8, 8), 4, 3), tc.conv2d((2, 4, 8, 8), 4, 3).grad_bias()]
    for spec in refused:
        with pytest.raises(tc.UnsupportedSpec):
            getattr(spec, name)()


def test_gradient_of_a_gradient() -> None:
    """The adjoint of the adjoint is the convolution itself, whatever the stride leaves over."""
    for text in BY_HAND:
        spec = ConvSpec.parse(text).linear()
        if spec.op == "conv" and spec.padding_mode == "zeros":
            assert spec.grad_input().grad_input() == spec
