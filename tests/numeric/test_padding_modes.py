"""Padding modes at their limits, with stride and dilation."""

from typing import Any

from tests.numeric.proving import named, prove
from tests.numeric.rows import CONV, table
from tvmconv.spec import ConvSpec

ROWS: dict[str, dict[str, Any]] = {
    "constant": {"padding_mode": "constant", "pad_value": -2.5, "padding": 2},
    "constant_inexact": {"padding_mode": "constant", "pad_value": 0.1, "padding": 1},
    "constant_infinite": {
        "padding_mode": "constant",
        "pad_value": float("-inf"),
        "padding": ((1, 0), (0, 1), (1, 1)),
    },
    "reflect": {"padding_mode": "reflect", "padding": 1},
    "reflect_widest": {"padding_mode": "reflect", "size": (6, 5, 4), "padding": (5, 4, 3)},
    "reflect_strided": {
        "padding_mode": "reflect",
        "padding": ((2, 1), (0, 3), (1, 2)),
        "stride": 2,
        "dilation": (2, 1, 1),
    },
    "replicate": {"padding_mode": "replicate", "padding": 1},
    "replicate_wider_than_input": {"padding_mode": "replicate", "size": (3, 2, 2), "padding": 6},
    "replicate_one_pixel": {"padding_mode": "replicate", "size": (1, 1, 1), "padding": (2, 1, 1)},
    "circular": {"padding_mode": "circular", "padding": 1},
    "circular_widest": {"padding_mode": "circular", "size": (5, 4, 3), "padding": (5, 4, 3)},
    "circular_strided": {
        "padding_mode": "circular",
        "padding": ((3, 0), (1, 2), (0, 1)),
        "stride": (2, 3, 1),
        "flip": True,
    },
}
SPECS = table(CONV, ROWS)


@named(SPECS)
def test_padding_mode(spec: ConvSpec) -> None:
    prove(spec)


@named(
    table(
        CONV,
        {
            f"{mode}_depthwise": {"padding_mode": mode, "padding": 1, "ic": 6, "oc": 6, "groups": 6}
            for mode in ("constant", "reflect", "replicate", "circular")
        },
    )
)
def test_padding_mode_depthwise(spec: ConvSpec) -> None:
    prove(spec)
