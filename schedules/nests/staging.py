"""Steps of copying x that the nests share: padded rows, transposed squares, strides taken apart."""

from __future__ import annotations

from typing import Any

from tvm import s_tir

from tvmconv.declare.direct import TRANSPOSE_UNIT
from tvmconv.lower.rows import AHEAD, ROWS
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


def shuffle_rows(sch: s_tir.Schedule, along: Loop, across: Loop, side: int) -> None:
    """Transposition of squares: vectors along the source, unrolled along the destination.

    LLVM turns this form into shuffles (10 to 12 Gelem/s); vectors along the destination become
    inserts (6 Gelem/s). ``along`` is contiguous in the source, ``across`` in the destination.
    """
    blocks_w, lane = sch.split(along, [None, side])
    blocks_c, row = sch.split(across, [None, side])
    sch.reorder(blocks_w, blocks_c, row, lane)
    sch.unroll(row)
    sch.vectorize(lane)


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
    """Columns in the padding get loops of their own, so that the others need no test."""
    if problem.padding_mode in ("zeros", "constant"):
        sch.annotate(columns, "pragma_loop_partition_hint", 1)


def copy_rows(sch: s_tir.Schedule, columns: Loop, problem: Problem, lanes: int) -> None:
    """Copy a row of x with its padding, by masked vectors where its columns are neighbours.

    For rows that are transposed at once; where rows are only copied, loops for borders and interior
    measured a tenth faster. With one lane the machine has no masked loads.
    """
    if lanes > 1 and problem.x.space[2] == 1 and problem.padding_mode in ("zeros", "constant"):
        sch.annotate(columns, ROWS, lanes)
        if problem.axes[1].in_extent > 1 and problem.x_elems > NEAR_ELEMS:
            sch.annotate(columns, AHEAD, problem.x.space[1])
    else:
        split_off_borders(sch, columns, problem)


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
