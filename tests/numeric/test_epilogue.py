"""Bias, scale and shift, residual and every activation, over three shapes of kernel."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tvmconv as tc
from tests.numeric.proving import named, per_level, prove
from tests.numeric.rows import CONV, LAYOUTS, RANKS, make
from tests.strategies import ACTIVATIONS
from tvmconv.reference import activate
from tvmconv.spec import ConvSpec
from tvmconv.tolerance import activation_bound

SHAPES: dict[str, dict[str, Any]] = {
    "dense": {"padding": 1, "oc": 13},
    "depthwise": {"padding": 1, "ic": 11, "oc": 11, "groups": 11},
    "pointwise": {"kernel": 1, "ic": 9, "oc": 19},
}
PARTS: dict[str, dict[str, Any]] = {
    "bias": {"bias": True},
    "scale_shift": {"scale_shift": True},
    "residual": {"residual": True},
    "bias_relu": {"bias": True, "activation": "relu"},
    "all": {"bias": True, "scale_shift": True, "residual": True, "activation": "relu6"},
    "residual_hardswish": {"residual": True, "activation": "hardswish"},
}


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=[name for name, _ in ACTIVATIONS])
@per_level()
def test_activation(activation: tuple[str, tuple[float, ...]], level: str) -> None:
    """Each at each level: approximations differ with the fused multiply-add."""
    name, args = activation
    row = {"padding": 1, "oc": 13, "bias": True, "activation": name, "activation_args": args}
    layout = "NHWC" if len(name) % 2 else "NCHW"
    prove(make(CONV, 2, layout, row), level)


@named(
    {
        f"{shape}-{part}-{rank}d-{layout}": make(CONV, rank, layout, {**row, **options})
        for shape, row in SHAPES.items()
        for part, options in PARTS.items()
        for rank, layout in zip(RANKS, ("NHWC", "NCHW", "NHWC"), strict=True)
    }
)
def test_epilogue(spec: ConvSpec) -> None:
    prove(spec)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=[name for name, _ in ACTIVATIONS])
def test_activation_over_its_range(activation: tuple[str, tuple[float, ...]]) -> None:
    """A pointwise identity shows the activation itself, also far outside of normal data."""
    name, args = activation
    count = 4096
    spec = tc.conv1d((1, 1, count), 1, 1, activation=name, activation_args=args)
    values = np.linspace(-40, 40, count, dtype=np.float32)
    values[:8] = [-1e30, 1e30, -100, 100, -1e-30, 1e-30, 0.0, -88.5]
    x = values.reshape(1, 1, count)
    y = tc.compile(spec)(x, np.ones((1, 1, 1), np.float32))
    exact = activate(spec, torch.from_numpy(x).double()).numpy()
    bound = activation_bound(spec, x.astype(np.float64), np.zeros(x.shape))
    assert (np.abs(y - exact) <= bound).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rank", RANKS)
def test_batch_norm_folds_at_pack_time(rank: int, layout: str) -> None:
    """pack(batch_norm=...) gives what torch's batch_norm after its convolution gives."""
    spec = make(CONV, rank, layout, {"padding": 1, "bias": True, "activation": "relu"})
    rng = np.random.default_rng(1)
    x = rng.standard_normal(spec.x_shape, dtype=np.float32)
    weight = rng.standard_normal(spec.weight_shape, dtype=np.float32)
    bias, mean, gamma, beta = rng.standard_normal((4, spec.oc), dtype=np.float32)
    variance = rng.uniform(0.5, 2.0, spec.oc).astype(np.float32)
    y = tc.compile(spec)(x, weight, bias, batch_norm=(mean, variance, gamma, beta, 1e-5))
    first = np.moveaxis(x, -1, 1) if layout == "NHWC" else x
    operator = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    double = [torch.from_numpy(np.array(a, np.float64)) for a in (first, weight, bias)]
    sums = operator(double[0], double[1], double[2], padding=1)
    m, v, g, b = (torch.from_numpy(a.astype(np.float64)) for a in (mean, variance, gamma, beta))
    expected = F.batch_norm(sums, m, v, g, b, eps=1e-5).relu().numpy()
    got = np.moveaxis(y, -1, 1) if layout == "NHWC" else y
    # 46 terms near 1, scaled by gamma / sqrt(variance) below 5; see docs/tolerances.md.
    np.testing.assert_allclose(got, expected, rtol=0, atol=4 * 2**-23 * 46 * 5)


@pytest.mark.parametrize("rank", RANKS)
def test_batch_norm_may_come_without_a_bias(rank: int) -> None:
    spec = make(CONV, rank, "NCHW", {"bias": True})
    rng = np.random.default_rng(2)
    x, weight = (
        rng.integers(-4, 5, s).astype(np.float32) for s in (spec.x_shape, spec.weight_shape)
    )
    ones = np.ones(spec.oc, np.float32)
    kernel = tc.compile(spec)
    folded = kernel(x, weight, batch_norm=(3 * ones, ones, 2 * ones, 5 * ones, 0.0))
    np.testing.assert_array_equal(folded, kernel(x, 2 * weight, 5 * ones - 6))


def test_batch_norm_takes_the_parameters_of_a_module() -> None:
    spec = tc.conv2d((1, 3, 6, 6), 4, 3, bias=True)
    module, norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, -1.0, 2.0, 4.0]))
    learnt = (norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)
    x = torch.randn(spec.x_shape)
    got = tc.compile(spec)(x, module.weight, module.bias, batch_norm=learnt)
    torch.testing.assert_close(got, norm(module(x)).detach())
