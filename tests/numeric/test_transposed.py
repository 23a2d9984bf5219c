"""Transposed convolution in all ranks and layouts."""

from typing import Any

from tests.numeric.proving import named, prove
from tests.numeric.rows import CONV_TRANSPOSE, table
from tvmconv.spec import ConvSpec

SMALL = {"size": (5, 4, 3)}
ROWS: dict[str, dict[str, Any]] = {
    "stride_1": SMALL,
    "stride_2": {**SMALL, "kernel": 4, "stride": 2, "padding": 1},
    "stride_per_axis": {**SMALL, "stride": (3, 1, 2)},
    "uneven_phases": {**SMALL, "kernel": 3, "stride": 2, "padding": 1, "output_padding": 1},
    "holes": {**SMALL, "kernel": 2, "stride": 3, "output_padding": 2, "bias": True},
    "dilation": {**SMALL, "dilation": 2, "stride": 3, "padding": 1},
    "dilation_shares_a_factor": {**SMALL, "dilation": 2, "stride": 4, "output_padding": 3},
    "dilation_equals_stride": {**SMALL, "dilation": 2, "stride": 2, "output_padding": 1},
    "output_padding_below_dilation": {**SMALL, "dilation": 3, "stride": 1, "output_padding": 2},
    "groups": {**SMALL, "groups": 2, "ic": 6, "oc": 8, "stride": 2},
    "depthwise": {**SMALL, "groups": 8, "ic": 8, "oc": 8, "stride": 2, "padding": 1},
    "padding_per_side": {**SMALL, "stride": 2, "padding": ((0, 2), (2, 1), (1, 0))},
    "flip": {**SMALL, "kernel": (3, 2, 2), "stride": 2, "flip": True},
    "odd_channels": {**SMALL, "ic": 3, "oc": 37, "stride": 2, "n": 1},
    "one_channel": {**SMALL, "ic": 37, "oc": 1, "kernel": 4, "stride": 2, "padding": 1},
    "batch_0": {**SMALL, "n": 0, "stride": 2},
    "epilogue": {
        **SMALL,
        "kernel": 4,
        "stride": 2,
        "padding": 1,
        "bias": True,
        "residual": True,
        "activation": "relu",
    },
}
SPECS = table(CONV_TRANSPOSE, ROWS)


@named(SPECS)
def test_transposed(spec: ConvSpec) -> None:
    prove(spec)
