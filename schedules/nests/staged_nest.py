"""Winograd's three launches on a GPU, as named steps.

threads over tiles and channels of x (what is innermost in v fastest):
    patch[alpha][alpha] = x, padded             registers
    v[a][b] = Bh patch Bw
blocks over points, tiles and channels:         a product per point      (product_nest.py)
    gemm[a][b] = v[a][b] times u[a][b]
threads over tiles and channels of y:
    points[alpha][alpha] = gemm                 registers
    y[m][m] = epilogue(Ah points Aw)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import s_tir

from tvmconv.declare.declaration import Declaration
from tvmconv.declare.staged_winograd import StagedForm

from . import threads
from .product_nest import ProductNest, tile_product

Loop = Any


def schedule_staged(
    declaration: Declaration, form: StagedForm, nest: ProductNest
) -> s_tir.Schedule:
    """Apply all steps."""
    sch = s_tir.Schedule(declaration.prim_func())
    _transform_output(sch, form)
    tile_product(sch, "gemm", form.product, nest)
    _transform_input(sch)
    return sch


def _transform_output(sch: s_tir.Schedule, form: StagedForm) -> None:
    out = sch.get_sblock("out")
    *outer, m, v, i, j = sch.get_loops(out)
    if not form.y_last:
        sch.reorder(*outer, v, m, i, j)
        m, v = v, m
    thread = threads.spread(sch, (*outer, m, v))
    threads.unroll(sch, i)
    _in_registers(sch, ("ytile", "half_y", "points"), thread)


def _transform_input(sch: s_tir.Schedule) -> None:
    v = sch.get_sblock("v")
    *lead, a, b, outer, inner = sch.get_loops(v)
    sch.reorder(*lead, outer, inner, a, b)
    thread = threads.spread(sch, (*lead, outer, inner))
    sch.unroll(a)
    sch.unroll(b)
    _in_registers(sch, ("half_v", "patch"), thread)


def _in_registers(sch: s_tir.Schedule, stages: Sequence[str], thread: Loop) -> None:
    """Stages of a thread, the last consumer first; unrolled, so that choices become sums."""
    for name in stages:
        stage = sch.get_sblock(name)
        sch.set_scope(stage, 0, "local")
        sch.compute_at(stage, thread, preserve_unit_loops=True)
        for loop in sch.get_loops(stage)[-2:]:
            sch.unroll(loop)
