"""Forward convolution: stride, padding, dilation, sizes and channels; all ranks and layouts."""

from typing import Any

from tests.numeric.proving import named, prove
from tests.numeric.rows import CONV, table
from tvmconv.spec import ConvSpec

ROWS: dict[str, dict[str, Any]] = {
    "cross_correlation": {},
    "true_convolution": {"flip": True, "kernel": (3, 2, 2)},
    "stride": {"stride": 2},
    "stride_per_axis": {"stride": (3, 1, 2), "padding": 1},
    "stride_beyond_kernel": {"stride": 3, "kernel": 2},
    "padding_int": {"padding": 1},
    "padding_per_axis": {"padding": (1, 2, 0)},
    "padding_per_side": {"padding": ((0, 2), (3, 1), (1, 0))},
    "padding_valid": {"padding": "valid", "kernel": (2, 5, 3)},
    "padding_same": {"padding": "same"},
    "padding_same_even_kernel": {"padding": "same", "kernel": (4, 2, 2)},
    "padding_full": {"padding": "full"},
    "padding_causal": {"padding": "causal", "dilation": 2},
    "padding_beyond_kernel": {"padding": 5, "kernel": 2},
    "dilation": {"dilation": 2, "padding": 2},
    "dilation_per_axis": {"dilation": (1, 3, 2), "padding": (0, 3, 2), "stride": (1, 2, 1)},
    "kernel_beyond_input": {"kernel": (7, 5, 5), "size": (3, 2, 4), "padding": (3, 2, 2)},
    "batch_3": {"n": 3, "padding": 1},
    "batch_0": {"n": 0, "padding": 1, "bias": True},
    "one_channel": {"ic": 1, "oc": 1, "padding": 1},
    "three_to_37": {"ic": 3, "oc": 37, "stride": 2, "padding": 1},
    "37_to_three": {"ic": 37, "oc": 3, "padding": 1, "n": 1},
    "vectors": {"ic": 16, "oc": 32, "padding": 1, "n": 1},
    "one_pixel": {"size": (1, 1, 1), "padding": 1},
}
SPECS = table(CONV, ROWS)


@named(SPECS)
def test_forward(spec: ConvSpec) -> None:
    prove(spec)
