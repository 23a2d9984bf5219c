"""The forms in which padding, and other values per axis, may be given.

Padding of a forward convolution:

| given        | 2-D example      | meaning                                                       |
| ------------ | ---------------- | ------------------------------------------------------------- |
| int          | 1                | 1 on every side                                               |
| one per axis | (1, 2)           | 1 above and below, 2 left and right                           |
| pairs        | ((0, 1), (2, 3)) | 0 above, 1 below, 2 left, 3 right                             |
| "valid"      |                  | none                                                          |
| "same"       |                  | d(k-1) in all, an odd one at the end; only with stride 1      |
| "full"       |                  | d(k-1) on both sides                                          |
| "causal"     |                  | d(k-1) before the first axis (time), none after; the further  |
|              |                  | axes as "same", so an output never sees a later input         |

A transposed convolution takes ints and pairs (what is cut off the output, as in torch) and "valid".
"""

from __future__ import annotations

from collections.abc import Sequence

from tvmconv.errors import SpecError
from tvmconv.spec import Size, as_int, as_ints

IntOrInts = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]

_NAMES = "'valid', 'same', 'full' or 'causal'"


def per_axis(name: str, value: IntOrInts, rank: int) -> Size:
    """Return one int per axis from an int or a sequence of `rank` ints.

    A sequence of one int stands for all axes, as in torch, but not for a kernel.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        return (as_int(name, value),) * rank
    values = as_ints(name, value)
    if len(values) == 1 and name != "kernel_size":
        return values * rank
    if len(values) != rank:
        raise SpecError(name, value, f"an int or one per axis ({rank})")
    return values


def sides(
    op: str, padding: Padding, kernel: Size, stride: Size, dilation: Size
) -> tuple[Size, Size]:
    """Return the padding before and the padding after each axis; see the table at the top."""
    if isinstance(padding, str):
        return _named(op, padding, kernel, stride, dilation)
    rank = len(kernel)
    if isinstance(padding, Sequence) and any(isinstance(pair, Sequence) for pair in padding):
        pairs = [as_ints("padding", pair) for pair in padding]  # type: ignore[arg-type]
        if len(pairs) != rank or any(len(pair) != 2 for pair in pairs):
            raise SpecError("padding", padding, f"{rank} pairs (before, after)")
        begin, end = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
    else:
        begin = end = per_axis("padding", padding, rank)  # type: ignore[arg-type]
    if min(begin + end) < 0:
        raise SpecError("padding", padding, f"ints >= 0, pairs of them, or {_NAMES}")
    return begin, end


def _named(op: str, name: str, kernel: Size, stride: Size, dilation: Size) -> tuple[Size, Size]:
    none = (0,) * len(kernel)
    if name == "valid":
        return none, none
    if op == "conv_transpose" or name not in ("same", "full", "causal"):
        allowed = "'valid'" if op == "conv_transpose" else _NAMES
        raise SpecError("padding", name, f"ints, pairs of them, or {allowed}")
    if name == "same" and max(stride) > 1:
        raise SpecError("padding", name, "'same' only with stride 1, as in torch")
    total = tuple(d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    first = tuple(length // 2 for length in total)
    last = tuple(length - length // 2 for length in total)
    if name == "full":
        return total, total
    if name == "causal":
        return (total[0], *first[1:]), (0, *last[1:])
    return first, last
