"""The tiled product on a GPU, as named steps.

    blocks over group, phase, pixel tile, channel block:
        acc[thread_m][thread_oc] = 0                        registers of each thread
        for k0 in steps of tile_k:
            xcol[tile_k][tile_m], weight[tile_k][tile_oc]   to shared memory, all threads  (share)
                                                            or, one step ahead, by way of registers,
                                                            or several ahead, by cp.async
            for k in tile_k:
                a[thread_m], b[thread_oc]                   to registers, by vectors       (hold)
                acc += a outer b
        y = epilogue(acc)

A thread's pixels and channels are vectors of four, one per virtual thread, so that the threads of
a warp read neighbouring vectors of shared memory: no bank conflicts (Nath, Tomov and Dongarra, "An
Improved MAGMA GEMM for Fermi GPUs", 2010).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tvm import s_tir

from tvmconv.declare.declaration import Declaration
from tvmconv.declare.product import ProductForm
from tvmconv.lower.stages import STAGES

from . import threads

Loop = Any


@dataclass(frozen=True)
class ProductNest:
    """How a product is spread over threads.

    Attributes:
        thread_m: pixels of a thread; a divisor of the form's tile_m.
        thread_oc: channels of a thread; a divisor of tile_oc.
        pixels_inside: threads run over pixels fastest when they write y, else over channels.
        terms_inside: threads run over terms fastest when they read x: channels-last x.
        weight_vector: weights that a thread copies at once.
        x_vector: pixels of one term that a thread copies at once.
        ahead: whether a step's elements are on their way while the step before is multiplied.
        stages: steps in shared memory; all but one are on their way while that one is multiplied.
        pixels_last: the root has its pixels innermost.
        whole_vectors: channels of y are neighbours and come in whole vectors.
    """

    thread_m: int
    thread_oc: int
    pixels_inside: bool
    terms_inside: bool
    weight_vector: int = 1
    x_vector: int = 1
    ahead: bool = False
    stages: int = 1
    pixels_last: bool = False
    whole_vectors: bool = False

    def threads(self, form: ProductForm) -> int:
        """Threads of a block."""
        return (form.tile_m // self.thread_m) * (form.tile_oc // self.thread_oc)


def schedule_product(
    declaration: Declaration, form: ProductForm, nest: ProductNest
) -> s_tir.Schedule:
    """Apply all steps to a product declaration."""
    sch = s_tir.Schedule(declaration.prim_func())
    if form.slices == 1:
        tile_product(sch, "out", form, nest)
    else:
        _add_slices(sch, form, nest)
        tile_product(sch, "part", form, replace(nest, pixels_last=form.pixels_last))
    return sch


def _add_slices(sch: s_tir.Schedule, form: ProductForm, nest: ProductNest) -> None:
    """A second launch: a thread per output adds the slices' sums and stores the result."""
    out, total = sch.get_sblock("out"), sch.get_sblock("total")
    *lead, m, v = sch.get_loops(out)
    order = (v, m) if nest.pixels_inside else (m, v)
    sch.reorder(*lead, *order)
    thread = threads.spread(sch, (*lead, *order))
    sch.set_scope(total, 0, "local")
    sch.compute_at(total, thread, preserve_unit_loops=True)
    threads.unroll(sch, sch.get_loops(total)[-1])


def tile_product(sch: s_tir.Schedule, root: str, form: ProductForm, nest: ProductNest) -> None:
    """Schedule ``xcol``, ``weight`` and ``conv`` for the stage ``root`` that takes the sums.

    The root's axes end in block, pixels and channels; or in block, channels and pixels, where
    ``nest.pixels_last`` says so.
    """
    thread = _tile_output(sch, sch.get_sblock(root), form, nest)
    conv = sch.get_sblock("conv")
    step, inner = _reduce_in_registers(sch, conv, thread, form)
    _stage_operands(sch, conv, step, inner, form, nest)
    sch.decompose_reduction(conv, step)
    threads.unroll(sch, sch.get_loops(sch.get_sblock("conv_init"))[-2])
    if nest.ahead:
        _load_ahead(sch)
    if nest.stages > 1:
        sch.annotate(_steps(sch), STAGES, nest.stages)


def _tile_output(sch: s_tir.Schedule, root: Any, form: ProductForm, nest: ProductNest) -> Loop:
    """Blocks, virtual threads, threads, and the vectors of one; returns the loop over threads."""
    *lead, b, m, v = sch.get_loops(root)
    if nest.pixels_last:
        m, v = v, m
    tile, vm, tm, im = sch.split(m, [None, *_shares(form.tile_m, nest.thread_m)])
    vv, tv, iv = sch.split(v, _shares(form.tile_oc, nest.thread_oc))
    order = (tv, tm) if nest.pixels_inside else (tm, tv)
    inner = (iv, im) if nest.pixels_last else (im, iv)
    sch.reorder(*lead, tile, b, vm, vv, *order, *inner)
    threads.bind_blocks(sch, (*lead, tile, b))
    sch.bind(vm, "vthread.x")
    sch.bind(vv, "vthread.y")
    thread = threads.bind_threads(sch, order)
    threads.unroll(sch, inner[0])
    # Workspace is in the order of the root's axes; y may be in another one.
    if nest.whole_vectors or sch.get(root).name_hint != "out":
        sch.vectorize(inner[1])
    return thread


def _shares(tile: int, thread: int) -> tuple[int, int, int]:
    """Virtual threads, threads and neighbours along an axis of a tile."""
    inner = min(thread, threads.VECTOR)
    return thread // inner, tile // thread, inner


def _reduce_in_registers(
    sch: s_tir.Schedule, conv: Any, thread: Loop, form: ProductForm
) -> tuple[Loop, Loop]:
    """The sums of a thread, terms outside; returns the loops over steps and over a step's terms."""
    sch.set_scope(conv, 0, "local")
    sch.compute_at(conv, thread, preserve_unit_loops=True)
    *_, m, v, k = sch.get_loops(conv)
    step, inner = sch.split(k, [None, form.tile_k])
    sch.reorder(step, inner, m, v)
    threads.unroll(sch, inner)
    return step, inner


def _stage_operands(
    sch: s_tir.Schedule, conv: Any, step: Loop, inner: Loop, form: ProductForm, nest: ProductNest
) -> None:
    """Tiles of both factors in shared memory, and a step's part of them in registers."""
    xcol, weight = sch.get_sblock("xcol"), sch.get_sblock("weight")
    count = nest.threads(form)
    order = (-1, -2) if nest.terms_inside else (-2, -1)
    threads.share(sch, xcol, step, order, count, nest.x_vector)
    if nest.terms_inside:
        # Neighbouring terms of a warp would all fall into one bank: rows are four floats longer.
        sch.storage_align(xcol, 0, -2, 32, threads.VECTOR)
    threads.share(sch, weight, step, (-2, -1), count, nest.weight_vector)
    for read, thread in enumerate((nest.thread_m, nest.thread_oc)):
        threads.hold(sch, conv, inner, read, min(thread, threads.VECTOR))


def _load_ahead(sch: s_tir.Schedule) -> None:
    """Read the next step's elements into registers, multiply, and store them when all are done.

    Both copies become two: from memory to registers and from there to shared memory. So the body of
    a step has five parts; the first four belong to the step after the one that is multiplied.
    """
    for name in ("xcol", "weight"):
        sch.annotate(sch.get_sblock(name), "tirx.manifest_shared_memory_local_stage", 1)
    sch.annotate(_steps(sch), "software_pipeline_stage", [0, 0, 0, 0, 1])
    sch.annotate(_steps(sch), "software_pipeline_order", [0, 3, 1, 4, 2])


def _steps(sch: s_tir.Schedule) -> Loop:
    """The loop over steps, once the sums' start is apart."""
    return sch.get_loops(sch.get_sblock("conv_update"))[-4]
