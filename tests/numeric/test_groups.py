"""Groups, depthwise with multipliers, pointwise, and convolutions that come as pairs."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tvmconv as tc
from tests.numeric.proving import DIRECT_SUMS_ONLY, named, prove
from tests.numeric.rows import CONV, table
from tvmconv.kernel import Kernel
from tvmconv.spec import ConvSpec

ROWS: dict[str, dict[str, Any]] = {
    "groups": {"groups": 2, "ic": 6, "oc": 4, "padding": 1},
    "groups_of_one_output": {"groups": 3, "ic": 9, "oc": 3, "padding": 1},
    "groups_of_vectors": {"groups": 2, "ic": 16, "oc": 32, "padding": 1, "n": 1},
    "many_small_groups": {"groups": 8, "ic": 32, "oc": 32, "padding": 1, "n": 1},
    "groups_strided_dilated": {
        "groups": 3,
        "ic": 6,
        "oc": 15,
        "stride": 2,
        "dilation": 2,
        "padding": 1,
    },
    "depthwise": {"groups": 37, "ic": 37, "oc": 37, "padding": 1, "n": 1},
    "depthwise_vectors": {"groups": 32, "ic": 32, "oc": 32, "padding": 1, "n": 1},
    "depthwise_strided": {"groups": 16, "ic": 16, "oc": 16, "padding": 1, "stride": 2},
    "depthwise_wide_kernel": {"groups": 3, "ic": 3, "oc": 3, "kernel": (7, 5, 3), "padding": 3},
    "depthwise_multiplier": {"groups": 8, "ic": 8, "oc": 24, "padding": 1, "flip": True},
    "depthwise_dilated": {"groups": 8, "ic": 8, "oc": 8, "dilation": 2, "padding": 2},
    "pointwise": {"kernel": 1, "ic": 37, "oc": 16},
    "pointwise_strided": {"kernel": 1, "stride": 2, "ic": 16, "oc": 37},
    "pointwise_padded": {"kernel": 1, "padding": 1, "bias": True},
    "pointwise_groups": {"kernel": 1, "groups": 4, "ic": 16, "oc": 12},
    "pointwise_one_pixel": {"kernel": 1, "ic": 64, "oc": 40, "size": (1, 1, 1), "n": 3},
}
SPECS = table(CONV, ROWS)


@named(SPECS)
def test_groups(spec: ConvSpec) -> None:
    prove(spec)


def exact(spec: ConvSpec) -> Kernel:
    return prove(spec, max_error=DIRECT_SUMS_ONLY)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_depthwise_separable_pair(layout: str) -> None:
    shape = (1, 9, 8, 12) if layout == "NHWC" else (1, 12, 9, 8)
    depthwise, pointwise = tc.depthwise_separable(shape, 20, 3, padding=1, layout=layout)
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, depthwise.x_shape).astype(np.float32)
    first = rng.integers(-3, 4, depthwise.weight_shape).astype(np.float32)
    second = rng.integers(-3, 4, pointwise.weight_shape).astype(np.float32)
    y = exact(pointwise)(exact(depthwise)(x, first), second)
    canonical = torch.from_numpy(np.moveaxis(x, -1, 1).copy() if layout == "NHWC" else x)
    middle = F.conv2d(canonical, torch.from_numpy(first), padding=1, groups=12)
    expected = F.conv2d(middle, torch.from_numpy(second)).numpy()
    np.testing.assert_array_equal(np.moveaxis(y, -1, 1) if layout == "NHWC" else y, expected)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_spatially_separable_pair_is_the_rank_one_kernel(layout: str) -> None:
    """A column and a row, one after the other, are the kernel that is their outer product."""
    shape = (1, 9, 8, 3) if layout == "NHWC" else (1, 3, 9, 8)
    column, row = tc.spatially_separable(shape, 5, 3, padding=1, layout=layout)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, column.x_shape).astype(np.float32)
    first = rng.integers(-3, 4, column.weight_shape).astype(np.float32)
    second = rng.integers(-3, 4, row.weight_shape).astype(np.float32)
    y = exact(row)(exact(column)(x, first), second)
    # column [ic, 1, kh, 1] times row [oc, ic, 1, kw] is [oc, ic, kh, kw].
    whole = torch.from_numpy(first.reshape(1, 3, 3, 1) * second)
    canonical = np.moveaxis(x, -1, 1).copy() if layout == "NHWC" else x
    expected = F.conv2d(torch.from_numpy(canonical), whole, padding=1).numpy()
    np.testing.assert_array_equal(np.moveaxis(y, -1, 1) if layout == "NHWC" else y, expected)
