"""Steps of copying x that the nests share: padded rows, transposed squares, strides taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any

from tvm import s_tir

from tvmconv.declare.direct import TRANSPOSE_UNIT
from tvmconv.lower.rows import AHEAD, ROWS
from tvmconv.lower.squares import QUAD, SQUARES
from tvmconv.problem import Problem
from tvmconv.target import Target

Loop = Any

# Floats of a row that LLVM 22 may take apart into registers; unrolled, it then fails to verify its
# own shuffles ("instruction does not dominate all uses").
SHORT_ROW = 128
# Of a larger x, more than 1 MB, rows are asked for ahead of their copy; of a smaller one, which
# stays in the second-level cache, that cost up to 1 %.
NEAR_ELEMS = 1 << 18


def transpose_square(target: Target) -> int:
    """Side of the squares in which rows are transposed.

    16x16 values in ARM's registers spill: a quarter more instructions than by squares of 4x4.
    """
    return TRANSPOSE_UNIT if target.masks else target.lanes


def shuffle_rows(sch: s_tir.Schedule, along: Loop, across: Loop, side: int, lanes: int) -> Loop:
    """Transposition of squares of up to ``side``: vectors along the source, rows unrolled.

    LLVM turns this form into shuffles of 128 bits; vectors along the destination become inserts,
    half as fast. Where a vector is wider than that, ``lanes`` says so, and the shuffles are written
    out (lower/squares.py). ``along`` is contiguous in the source, ``across`` in the destination.
    Gives the loop over the rows of a square.
    """
    wide, high = (gcd(int(sch.get(loop).extent), side) for loop in (along, across))
    blocks_w, lane = sch.split(along, [None, wide])
    blocks_c, row = sch.split(across, [None, high])
    sch.reorder(blocks_w, blocks_c, row, lane)
    sch.unroll(row)
    sch.vectorize(lane)
    if lanes > QUAD:
        sch.annotate(row, SQUARES, lanes)
    return row


def turn_rows(
    sch: s_tir.Schedule, loops: Sequence[Loop], problem: Problem, side: int, lanes: int
) -> None:
    """Stage ``xpad``, channels last, from channels-first x by way of its padded rows, ``xrow``.

    ``loops`` are those over rows, squares, a square's columns, and channels. Squares of wide
    vectors are read from x itself under masks, all columns of some channels and then those of the
    next: a copy of the rows took 3 to 7 % of a 3x3 layer of 64 channels. Else each row is copied
    first; with one lane the machine has no masks.
    """
    at, squares, columns, channels = loops
    row = shuffle_rows(sch, columns, channels, side, lanes)
    xrow = sch.get_sblock("xrow")
    if lanes > QUAD and _lie_in_rows(problem):
        *_, channels, row, _ = sch.get_loops(sch.get_sblock("xpad"))
        sch.reorder(channels, squares)
        sch.compute_inline(xrow)
        _ask_ahead(sch, row, problem)
    else:
        sch.compute_at(xrow, at, preserve_unit_loops=True)
        copy_rows(sch, sch.get_loops(xrow)[-1], problem, lanes)


def turn_sums(sch: s_tir.Schedule, at: Loop, phases: int, lanes: int) -> None:
    """A row of ``conv``'s tile, channels in the lanes, turned in registers before it is stored.

    Of several ``phases`` along w the columns come in turn.

    LLVM takes the lanes of 5 to 14 sums apart by fours: a first layer of 4x4 patches, 48 terms a
    sum, spent a tenth of its time there, and one of a single channel a third.
    """
    out = sch.get_sblock("out")
    reads = [region.source.name for region in sch.get(out).reads]
    turned = sch.cache_read(out, reads.index("conv"), "local")
    sch.compute_at(turned, at, preserve_unit_loops=True)

    def by_channel(*index: Any) -> list[Any]:
        *outer, pw, qd, qh, qw, v = index
        if phases == 1:
            return [*outer, pw, qd, qh, v, qw]
        return [*outer, qd, qh, v, qw * phases + pw]

    sch.transform_layout(turned, ("write", 0), by_channel)
    *_, pw, _, _, qw, channel = sch.get_loops(turned)
    vector, lane = sch.split(channel, [None, lanes])
    sch.reorder(vector, qw, pw, lane)
    column = sch.fuse(qw, pw)
    sch.unroll(vector)
    sch.unroll(column)
    sch.vectorize(lane)
    sch.annotate(column, SQUARES, lanes)
    # A square is stored whole, spare columns too.
    sch.storage_align(turned, 0, -2, lanes, 0)


def gather_phases(sch: s_tir.Schedule, h: Loop, r: Loop, w: Loop) -> None:
    """Columns r, r + stride, r + 2 stride.. side by side.

    Plain loops: LLVM's vectorizer knows this interleaving (8 Gelem/s), while vectors along either
    side become inserts or extracts (3 to 4 Gelem/s).
    """
    sch.compute_at(sch.get_sblock("xrow"), h, preserve_unit_loops=True)
    if int(sch.get(r).extent) * int(sch.get(w).extent) <= SHORT_ROW:
        return
    blocks, column = sch.split(w, [None, TRANSPOSE_UNIT])
    sch.reorder(blocks, r, column)
    sch.unroll(r)
    sch.unroll(column)


def split_off_borders(sch: s_tir.Schedule, columns: Loop, problem: Problem) -> None:
    """Columns in the padding get loops of their own, so that the others need no test.

    Not where a window may lie beyond x: of the loop behind the interior TVM bounds the start by
    that loop's end alone, and columns before the window would be written.
    """
    if problem.padding_mode in ("zeros", "constant") and not problem.axes[2].is_beyond:
        sch.annotate(columns, "pragma_loop_partition_hint", 1)


def copy_rows(sch: s_tir.Schedule, columns: Loop, problem: Problem, lanes: int) -> None:
    """Copy a row of x with its padding, by masked vectors where its columns are neighbours.

    For rows that are transposed or summed at once; where rows are only copied, loops for borders
    and interior measured a tenth faster. With one lane the machine has no masked loads.
    """
    if lanes > 1 and _lie_in_rows(problem):
        sch.annotate(columns, ROWS, lanes)
        _ask_ahead(sch, columns, problem)
    else:
        split_off_borders(sch, columns, problem)


def _lie_in_rows(problem: Problem) -> bool:
    """Whether columns of x are neighbours, and what stands in the padding is no other column."""
    return problem.x.space[2] == 1 and problem.padding_mode in ("zeros", "constant")


def _ask_ahead(sch: s_tir.Schedule, loop: Loop, problem: Problem) -> None:
    """Ask for the next row of a large x."""
    if problem.axes[1].in_extent > 1 and problem.x_elems > NEAR_ELEMS:
        sch.annotate(loop, AHEAD, problem.x.space[1])


def vectorize_channels(sch: s_tir.Schedule, c: Loop, lanes: int) -> None:
    """Vectors along channels, or all of an odd number of them."""
    width = staging_width(int(sch.get(c).extent), lanes)
    if width > 1:
        _, lane = sch.split(c, [None, width])
        sch.vectorize(lane)


def staging_width(extent: int, lanes: int) -> int:
    """Largest vector, up to four registers, that divides the extent; odd extents go whole."""
    fitting = [w for w in range(1, 4 * lanes + 1) if extent % w == 0]
    return max(fitting)
