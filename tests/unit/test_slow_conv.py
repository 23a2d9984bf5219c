"""The slow twin itself: equal to torch on random legal specs, exactly, with small integers."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import tvmconv as tc
from tests.slow_conv import slow_conv
from tests.strategies import conv_specs
from tvmconv.spec import ConvSpec
from tvmconv.workloads import resolve


def torch_linear(spec: ConvSpec, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The convolution alone by torch; x and the result in the memory order of the spec."""
    last = spec.in_layout.endswith("C")
    given_x = x.movedim(-1, 1) if last else x
    w = weight.flip(tuple(range(2, weight.ndim))) if spec.flip else weight
    sides = [
        side
        for begin, end in zip(spec.pads_begin[::-1], spec.pads_end[::-1], strict=True)
        for side in (begin, end)
    ]
    if spec.op == "conv":
        mode = "constant" if spec.padding_mode == "zeros" else spec.padding_mode
        value = spec.pad_value if mode == "constant" else None
        padded = F.pad(given_x, sides, mode, value) if any(sides) else given_x
        conv: Any = (F.conv1d, F.conv2d, F.conv3d)[spec.rank - 1]
        y = conv(padded, w, None, spec.stride, 0, spec.dilation, spec.groups)
    else:
        transposed: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[
            spec.rank - 1
        ]
        y = transposed(given_x, w, None, spec.stride, 0, 0, spec.groups, spec.dilation)
        grow = [extra for a in spec.output_padding[::-1] for extra in (0, a)]
        y = F.pad(F.pad(y, grow), [-side for side in sides])
    result: torch.Tensor = y.movedim(1, -1) if last else y
    return result


@settings(max_examples=150, deadline=None, derandomize=True)
@given(spec=conv_specs(ops=("conv", "conv_transpose")), seed=st.integers(0, 9))
def test_equals_torch(spec: ConvSpec, seed: int) -> None:
    if spec.n == 0 or spec.macs > 300_000:
        return
    rng = np.random.default_rng(seed)
    spec = spec.linear()
    x = rng.integers(-4, 5, spec.x_shape).astype(np.float64)
    weight = rng.integers(-4, 5, spec.weight_shape).astype(np.float64)
    expected = torch_linear(spec, torch.from_numpy(x), torch.from_numpy(weight)).numpy()
    np.testing.assert_allclose(slow_conv(spec, x, weight), expected, rtol=1e-12, atol=1e-9)


def test_epilogue_order() -> None:
    text = "conv2d_n1c1s1x1_o2k1x1_bias_scale_res_clip-1x20"
    y = slow_conv(
        ConvSpec.parse(text),
        np.full((1, 1, 1, 1), 3.0),
        np.array([2.0, -2.0]).reshape(2, 1, 1, 1),
        bias=np.array([1.0, 1.0]),
        scale=np.array([2.0, 2.0]),
        shift=np.array([0.5, 0.5]),
        residual=np.full((1, 2, 1, 1), 5.0),
    )
    assert y.ravel().tolist() == [(3 * 2 + 1) * 2 + 0.5 + 5, -1.0]


@pytest.mark.parametrize("text", ["conv2d_n2c4s5x6_o4k3x3_p1_g2"])
def test_deformable_without_offsets_is_a_convolution(text: str) -> None:
    spec = resolve(text)[0].spec
    deformed = ConvSpec.parse(text.replace("conv2d", "deform2d") + "_og2_mask")
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=spec.x_shape), rng.normal(size=spec.weight_shape)
    y = slow_conv(
        deformed,
        x,
        weight,
        offset=np.zeros(deformed.offset_shape),
        mask=np.ones(deformed.mask_shape),
    )
    np.testing.assert_allclose(y, slow_conv(spec, x, weight), atol=1e-12)


def test_deformable_border_is_partial() -> None:
    """Within one pixel outside, a sample fades out linearly; from one pixel on it is 0."""
    spec = tc.deform_conv2d((1, 1, 1, 4), 1, 1)
    offset = np.zeros(spec.offset_shape)
    offset[0, 1, 0] = [-0.75, 0.5, -3.0, 0.25]
    x, one = np.array([8.0, 4.0, 2.0, 16.0]).reshape(1, 1, 1, 4), np.ones((1, 1, 1, 1))
    y = slow_conv(spec, x, one, offset=offset)
    assert y.ravel().tolist() == [0.25 * 8, (4 + 2) / 2, 0.0, 0.75 * 16]
