"""The rows of variants as specs, for ranks 1 to 3 and both layouts."""

from collections.abc import Iterator, Mapping
from typing import Any

import tvmconv as tc
from tvmconv.spec import ConvSpec

RANKS = (1, 2, 3)
LAYOUTS = ("NCHW", "NHWC")
SIZE = {1: (23,), 2: (9, 11), 3: (4, 6, 7)}
CONV = {1: tc.conv1d, 2: tc.conv2d, 3: tc.conv3d}
CONV_TRANSPOSE = {1: tc.conv_transpose1d, 2: tc.conv_transpose2d, 3: tc.conv_transpose3d}


def each_rank_and_layout() -> Iterator[tuple[int, str]]:
    for rank in RANKS:
        for layout in LAYOUTS:
            yield rank, layout


def x_shape(
    rank: int, layout: str, n: int, channels: int, size: tuple[int, ...]
) -> tuple[int, ...]:
    return (n, *size, channels) if layout == "NHWC" else (n, channels, *size)


def make(
    constructors: Mapping[int, Any], rank: int, layout: str, row: Mapping[str, Any]
) -> ConvSpec:
    """A spec from a row: per-axis values are given for three axes and cut to the rank."""
    options = {"ic": 5, "oc": 7, "n": 2, "kernel": 3, "size": SIZE[rank], **row}
    for name in ("stride", "padding", "dilation", "kernel", "size", "output_padding"):
        if isinstance(options.get(name), tuple):
            options[name] = options[name][:rank]
    shape = x_shape(rank, layout, options.pop("n"), options.pop("ic"), options.pop("size"))
    spec: ConvSpec = constructors[rank](
        shape, options.pop("oc"), options.pop("kernel"), layout=layout, **options
    )
    return spec


def table(
    constructors: Mapping[int, Any], rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, ConvSpec]:
    """Every row for every rank and layout, named ``<row>-<rank>d-<layout>``."""
    return {
        f"{name}-{rank}d-{'last' if layout == 'NHWC' else 'first'}": make(
            constructors, rank, layout, row
        )
        for name, row in rows.items()
        for rank, layout in each_rank_and_layout()
    }
