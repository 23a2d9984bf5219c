"""Memory orders of tensors, written as letters from the outermost axis to the innermost.

Letters: N batch, C channels, G groups, and the spatial letters DHW, HW or W. Without a G, C counts
all channels; with a G, C counts the channels of one group.

| use                | in_layout                    | out_layout                   |
| ------------------ | ---------------------------- | ---------------------------- |
| channels first     | NCW, NCHW, NCDHW             | the same                     |
| channels last      | NWC, NHWC, NDHWC             | the same                     |
| gradient by weight | CGNW, CGNHW, CGNDHW          | CNW.. or NCW..               |

For one axis, L is accepted for W (NCL, NLC), as torch writes it.
"""

from __future__ import annotations

from tvmconv.errors import SpecError

SPATIAL = {1: "W", 2: "HW", 3: "DHW"}


def channels_first(rank: int) -> str:
    """Return NCW, NCHW or NCDHW."""
    return "NC" + SPATIAL[rank]


def channels_last(rank: int) -> str:
    """Return NWC, NHWC or NDHWC."""
    return "N" + SPATIAL[rank] + "C"


def is_channels_last(layout: str) -> bool:
    """Tell whether the channels are the innermost axis."""
    return layout.endswith("C")


def allowed_in(rank: int) -> tuple[str, ...]:
    """List the memory orders an input can have."""
    return (channels_first(rank), channels_last(rank), "CGN" + SPATIAL[rank])


def allowed_out(rank: int) -> tuple[str, ...]:
    """List the memory orders an output can have."""
    return (channels_first(rank), channels_last(rank), "CN" + SPATIAL[rank])


def canonical(layout: str, rank: int, allowed: tuple[str, ...], argument: str) -> str:
    """Return the one spelling of a layout, or raise SpecError naming `argument`."""
    name = layout.upper() if isinstance(layout, str) else ""
    if rank == 1:
        name = name.replace("L", "W")
    if name not in allowed:
        also = " (L may be written for W)" if rank == 1 else ""
        raise SpecError(argument, layout, " or ".join(allowed) + also)
    return name


def of_rank(layout: str, rank: int) -> str:
    """Return the memory order for a rank from its own name, or from NCHW or NHWC at any rank."""
    first, last = channels_first(rank), channels_last(rank)
    name = {"NCHW": first, "NHWC": last}.get(str(layout).upper(), layout)
    return canonical(name, rank, (first, last), "layout")


def shape(
    layout: str, n: int, channels: int, groups: int, size: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the shape in memory order; `channels` is the total, `size` one int per space axis."""
    length = {"N": n, "G": groups, "C": channels // groups if "G" in layout else channels}
    length.update(zip(SPATIAL[len(size)], size, strict=True))
    return tuple(length[letter] for letter in layout)
