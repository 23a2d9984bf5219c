"""Sums of few channels on a GPU: each thread keeps the window that its outputs share in registers.

    blocks over n, channel block, phase, d, row block, column block:
        threads over channels, rows and columns of tiles:
            acc[tile_oh][tile_ow] = 0
            for ic, kd [, kh]:
                xpad[rows][columns] = x, padded        registers; loads that the cache serves
                acc[i][j] += xpad[i + kh][j + kw] * packed[..][kh][kw][channel]
            y[tile] = epilogue(acc)

Nothing is shared between threads but through the first-level cache, so there is no barrier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import s_tir

from tvmconv.declare.declaration import Declaration
from tvmconv.declare.form import Form

from . import threads

Loop = Any


@dataclass(frozen=True)
class WindowNest:
    """How windows are spread over threads.

    Attributes:
        by_row: one row of taps is staged at a time, and rows of taps are a loop; otherwise the
            whole window is staged and all taps are unrolled.
        channels_inside: threads run over channels fastest, else over columns.
    """

    by_row: bool
    channels_inside: bool


def schedule_windows(declaration: Declaration, form: Form, nest: WindowNest) -> s_tir.Schedule:
    """Apply all steps to a direct declaration whose lanes have their own channels."""
    sch = s_tir.Schedule(declaration.prim_func())
    thread = _tile_output(sch, form, nest)
    conv, xpad = sch.get_sblock("conv"), sch.get_sblock("xpad")
    sch.set_scope(conv, 0, "local")
    sch.compute_at(conv, thread, preserve_unit_loops=True)
    outer, window = _order_taps(sch, conv, nest)
    sch.set_scope(xpad, 0, "local")
    sch.compute_at(xpad, window, preserve_unit_loops=True)
    threads.unroll(sch, sch.get_loops(xpad)[-7])
    sch.decompose_reduction(conv, outer)
    threads.unroll(sch, sch.get_loops(sch.get_sblock("conv_init"))[-1])
    return sch


def _tile_output(sch: s_tir.Schedule, form: Form, nest: WindowNest) -> Loop:
    """Blocks, threads and the tile of one; returns the loop over threads."""
    out = sch.get_sblock("out")
    loops = dict(zip(form.order, sch.get_loops(out), strict=True))
    *outer, qh, qw, v = (loops[a] for a in ("n", "g", "b", "pd", "ph", "pw", "qd", "qh", "qw", "v"))
    rows, row, th = sch.split(qh, [None, form.block_oh // form.tile_oh, form.tile_oh])
    columns, column, tw = sch.split(qw, [None, form.block_ow // form.tile_ow, form.tile_ow])
    order = (row, column, v) if nest.channels_inside else (v, row, column)
    sch.reorder(*outer, rows, columns, *order, th, tw)
    threads.bind_blocks(sch, (*outer, rows, columns))
    thread = threads.bind_threads(sch, order)
    threads.unroll(sch, th)
    return thread


def _order_taps(sch: s_tir.Schedule, conv: Any, nest: WindowNest) -> tuple[Loop, Loop]:
    """Channels and taps around the tile; returns the outermost and the one that a window serves."""
    *_, th, tw, _, kd, kh, kw, ic = sch.get_loops(conv)
    sch.reorder(ic, kd, kh, kw, th, tw)
    threads.unroll(sch, kw if nest.by_row else kh)
    return ic, kh if nest.by_row else kd
