"""Deformable convolution, version 1 (offsets) and version 2 (offsets and mask)."""

from typing import Any

import numpy as np
import pytest

import tvmconv as tc
from tests.numeric.proving import named, prove
from tvmconv.operands import Operands
from tvmconv.reference import reference
from tvmconv.spec import ConvSpec

ROWS: dict[str, dict[str, Any]] = {
    "v1": {"padding": 1},
    "v2": {"padding": 1, "mask": True},
    "groups": {"padding": 1, "groups": 2, "ic": 8, "oc": 6},
    "offset_groups": {"padding": 1, "offset_groups": 4, "ic": 8, "mask": True},
    "offset_groups_across_groups": {"groups": 3, "offset_groups": 2, "ic": 12, "oc": 9},
    "offset_group_per_channel": {"offset_groups": 5, "mask": True},
    "stride_dilation": {"stride": (2, 1), "dilation": (1, 2), "padding": (2, 1)},
    "kernel_per_axis": {"kernel": (1, 4)},
    "pointwise": {"kernel": 1, "mask": True},
    "padding_per_side": {"padding": ((0, 3), (2, 1)), "mask": True},
    "odd_channels": {"ic": 37, "oc": 3, "padding": 1, "n": 1},
    "vectors": {"ic": 16, "oc": 32, "padding": 1, "n": 1, "mask": True},
    "one_channel": {"ic": 1, "oc": 1, "padding": 1},
    "batch_0": {"n": 0, "mask": True},
    "epilogue": {
        "padding": 1,
        "bias": True,
        "scale_shift": True,
        "residual": True,
        "activation": "silu",
    },
}


def spec_of(row: dict[str, Any], layout: str) -> ConvSpec:
    options = {"n": 2, "ic": 5, "oc": 7, "kernel": 3, **row}
    n, ic = options.pop("n"), options.pop("ic")
    shape = (n, 6, 7, ic) if layout == "NHWC" else (n, ic, 6, 7)
    oc, kernel = options.pop("oc"), options.pop("kernel")
    spec: ConvSpec = tc.deform_conv2d(shape, oc, kernel, layout=layout, **options)
    return spec


SPECS = {
    f"{name}-{'last' if layout == 'NHWC' else 'first'}": spec_of(row, layout)
    for name, row in ROWS.items()
    for layout in ("NCHW", "NHWC")
}


@named(SPECS)
def test_deformable(spec: ConvSpec) -> None:
    prove(spec)


BORDER = (-2.0, -1.5, -1.0, -0.75, -0.25, 0.0, 0.25, 0.5, 1.0, 1.25, 1.75, 2.0, 9.0, 1e9, -1e9)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_border_rule(layout: str) -> None:
    """A tap moved in quarter pixels over each border: partial weight outside, then nothing."""
    spec = spec_of({"n": 1, "ic": 2, "oc": 2, "kernel": 1}, layout)
    kernel = tc.compile(spec)
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, spec.x_shape).astype(np.float32)
    weight = rng.integers(-4, 5, spec.weight_shape).astype(np.float32)
    for dy in BORDER:
        for dx in (0.0, -0.5, 1.5):
            offset = np.zeros((1, 2, *spec.out_size), np.float32)
            offset[:, 0], offset[:, 1] = dy, dx
            if layout == "NHWC":
                offset = np.moveaxis(offset, 1, -1).copy()
            expected = reference(spec, Operands(x, weight, offset=offset), "float32")
            np.testing.assert_array_equal(kernel(x, weight, offset=offset), expected)


def test_infinite_offsets_sample_nothing() -> None:
    spec = spec_of({"n": 1, "ic": 1, "oc": 1, "kernel": 1}, "NCHW")
    x, weight = np.ones(spec.x_shape, np.float32), np.ones(spec.weight_shape, np.float32)
    offset = np.zeros(spec.offset_shape, np.float32)
    offset[0, 0, 0, :2] = [np.inf, -np.inf]
    y = tc.compile(spec)(x, weight, offset=offset)
    assert y[0, 0, 0, 0] == y[0, 0, 0, 1] == 0
    assert y.sum() == y.size - 2
