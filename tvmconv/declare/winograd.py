"""Winograd's algorithm in TE: tiles of m outputs per axis, a product per point, blocks explicit.

    v[a][b][tile][ic]     = sum over i, j of Bh[a][i] Bw[b][j] xpad[tile at i][tile at j][ic]
    gemm[a][b][tile][oc]  = sum over k = kd, e, ic of v[d + kd, e][a][b][tile][ic] * u[a][b][k][oc]
    out[tile at i][at j]  = act(sum over a, b of Ah[i][a] Aw[j][b] gemm[a][b][tile] + bias)

u = Gh w Gw is what ``pack`` stores. The block of tiles that shares v is an axis of its own in every
stage, so each stage is computed whole under it and no size has to be inferred. Dilated axes are
interleaved sub-images, one per remainder by the step; the phases of a transposed convolution are
stride-1 convolutions of their own. With a stride, e runs over the residues of taps, whose products
are summed before the way back. The axis d, where there is one, is summed directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx

from tvmconv.declare.border import read_padded
from tvmconv.declare.declaration import (
    Declaration,
    Placement,
    by_phase,
    flat_index,
    pick,
)
from tvmconv.declare.epilogue import epilogue
from tvmconv.declare.packing import (
    arguments,
    declare_packed,
    kernel_index,
    output_channel,
    packed_elems,
    weight_offset,
)
from tvmconv.declare.winograd_form import WinogradForm
from tvmconv.problem import Problem
from tvmconv.spec import ConvSpec
from tvmconv.winograd import Filtering

Expr = Any
# Axes of every stage that come before its own: n, g, and the blocks of outputs.
BLOCK_AXES = ("n", "g", "bd", "bh", "bw")
# The same for what depends on the phases of a transposed convolution.
PHASE_AXES = (*BLOCK_AXES, "ph", "pw")


def declare_winograd(spec: ConvSpec, problem: Problem, form: WinogradForm) -> Declaration:
    """Declare ``run``: x, packed and, where the spec has one, residual, to y."""
    inputs = arguments(spec, problem, packed_elems(spec, problem, form))
    v = _transform_input(problem, form, _stage_input(problem, form, inputs["x"]))
    gemm = _multiply(problem, form, v, inputs["packed"])
    placement = _placement(problem, form)
    sums = _transform_output(problem, form, gemm)
    shape = form.out_shape(problem)
    out = epilogue(spec, problem, form, shape, sums, inputs, placement)
    # Taps along d can be clipped where an output's place does not depend on its block.
    depth = "qd" if form.depth >= problem.axes[0].out_extent else "d"
    order = (*PHASE_AXES, depth, "b", "a", "c", "part", "chain", "t", "v")
    return Declaration(inputs, ((out, placement),), "y", order)


def _stage_input(problem: Problem, form: WinogradForm, x: te.Tensor) -> te.Tensor:
    """Stage ``xpad``: the window of each block, channels last; channels-first x by way of rows."""
    d, h, w = form.windows(problem)
    outer = form.block_shape(problem)
    transposed = form.stage == "transposed"
    columns = -(-w // form.square) * form.square if transposed else w
    starts = form.block_strides(problem)
    blocks = form.blocks_of_outputs(problem)
    extents = [
        (count - 1) * start + size
        for count, start, size in zip(blocks, starts, (d, h, columns), strict=True)
    ]
    channels = form.channels_in(problem)

    def element(n: Expr, g: Expr, block: Sequence[Expr], at: Sequence[Expr], c: Expr) -> Expr:
        local = [b * start + i for b, start, i in zip(block, starts, at, strict=True)]
        valid = [c < problem.icg] if channels > problem.icg else []
        return read_padded(x, problem, extents, n, g, c, local, valid)

    if not transposed:
        return te.compute(
            (*outer, d, h, w, channels),
            lambda n, g, bd, bh, bw, i, j, k, c: element(n, g, (bd, bh, bw), (i, j, k), c),
            name="xpad",
        )
    rows = te.compute(
        (*outer, d, h, channels, columns),
        lambda n, g, bd, bh, bw, i, j, c, k: element(n, g, (bd, bh, bw), (i, j, k), c),
        name="xrow",
    )
    # Columns by squares, so that whole squares are staged however many columns are read.
    return te.compute(
        (*outer, d, h, columns // form.square, form.square, channels),
        lambda *index: rows[(*index[:7], index[-1], index[7] * form.square + index[8])],
        name="xpad",
    )


def _transform_input(problem: Problem, form: WinogradForm, xpad: te.Tensor) -> te.Tensor:
    """Stages ``half_v``, along w, and ``v``, along h; one where h has no taps."""
    h, w = form.h, form.w
    residues = form.residues
    shape = (*form.phase_shape(problem), form.windows(problem)[0] * residues)

    def along_w(index: Sequence[Expr], t: Expr, i: Expr, b: Expr, c: Expr) -> Expr:
        ph, pw = index[5], index[6]
        slice_d, (e_h, e_w) = index[7] // residues, form.residue_of(index[7] % residues)
        row = h.read_at(t // w.tiles, i, e_h) + (by_phase(h.axis.origins, ph) - h.axis.low)
        first = by_phase(w.axis.origins, pw) - w.axis.low
        columns = [w.read_at(t % w.tiles, j, e_w) + first for j in range(w.filtering.alpha)]
        d = [xpad[(*index[:5], slice_d, row, *form.column_at(column), c)] for column in columns]
        return pick(w.filtering.transform_input(d), b)

    # Channels by vectors, so that whole vectors are stored however many channels are read.
    lanes = form.lanes
    vectors = form.channels_in(problem) // lanes
    if h.filtering.alpha == 1:
        return te.compute(
            (*shape, 1, w.filtering.alpha, form.tiles, vectors, lanes),
            lambda *index: along_w(
                index[:8], index[10], 0, index[9], index[11] * lanes + index[12]
            ),
            name="v",
        )
    half = te.compute(
        (*shape, form.tiles, h.filtering.alpha, w.filtering.alpha, vectors, lanes),
        lambda *index: along_w(
            index[:8], index[8], index[9], index[10], index[11] * lanes + index[12]
        ),
        name="half_v",
    )

    def along_h(*index: Expr) -> Expr:
        a, b, t, *c = index[8:]
        d = [half[(*index[:8], t, i, b, *c)] for i in range(h.filtering.alpha)]
        return pick(h.filtering.transform_input(d), a)

    tail = (h.filtering.alpha, w.filtering.alpha, form.tiles, vectors, lanes)
    return te.compute((*shape, *tail), along_h, name="v")


def _multiply(problem: Problem, form: WinogradForm, v: te.Tensor, packed: te.Tensor) -> te.Tensor:
    """Stages ``conv``, a register tile's sum over part of ic, and ``gemm``, the sum of the parts.

    Sums of at most MOST_SUMMED channels keep the error from growing with ic: 512 in one run lose
    two and a half times as much as 64.
    """
    depth = problem.axes[0]
    parts, length = form.ic_parts(problem)
    chains = form.chains
    kd = te.reduce_axis((0, depth.taps), name="kd")
    e_h = te.reduce_axis((0, form.h.axis.residues), name="e_h")
    e_w = te.reduce_axis((0, form.w.axis.residues), name="e_w")
    ic = te.reduce_axis((0, length), name="ic")
    weights = form.weight_shape(problem)

    def term(*index: Expr) -> Expr:
        n, g, bd, bh, bw, ph, pw, qd, ob, a, b, part, chain, t, lane = index
        c = (part * length + ic) * chains + chain
        e = e_h * form.w.axis.residues + e_w
        slice_d = (qd * depth.stride + kd * depth.step) * form.residues + e
        lanes = form.lanes
        at = v[n, g, bd, bh, bw, ph, pw, slice_d, a, b, t, c // lanes, c % lanes]
        place = (g, ph, pw, ob // form.chunk, a, b, ob % form.chunk, kd, e, c, lane)
        product = at * packed[flat_index(place, weights)]
        if parts * length * chains > problem.icg:
            product = tirx.if_then_else(c < problem.icg, product, 0.0)
        return te.sum(product, axis=[kd, e_h, e_w, ic])

    outer = (
        *form.phase_shape(problem),
        form.depth,
        form.blocks(problem),
        form.h.filtering.alpha,
        form.w.filtering.alpha,
    )
    tail = (form.tiles, form.tile_oc)
    conv = te.compute((*outer, parts, chains, *tail), term, name="conv")

    def joined(index: Sequence[Expr], part: Expr) -> Expr:
        *place, t, lane = index
        return sum(conv[(*place, part, chain, t, lane)] for chain in range(chains))

    if parts == 1:
        return te.compute((*outer, *tail), lambda *index: joined(index, 0), name="gemm")
    part = te.reduce_axis((0, parts), name="part")
    return te.compute(
        (*outer, *tail), lambda *index: te.sum(joined(index, part), axis=part), name="gemm"
    )


def _transform_output(problem: Problem, form: WinogradForm, gemm: te.Tensor) -> Any:
    """Stages ``half_y``, along w, and ``ytile``, along h; ``yrow``, transposed, channels-first.

    ``ytile`` keeps the epilogue and the tests at the borders out of straight-line code.
    """
    h, w = form.h, form.w
    outer = (*form.phase_shape(problem), form.depth, form.blocks(problem))

    def along_w(index: Sequence[Expr], t: Expr, a: Expr, j: Expr, lane: Expr) -> Expr:
        products = [gemm[(*index, a, b, t, lane)] for b in range(w.filtering.alpha)]
        return pick(w.filtering.transform_output(products), j)

    half = None
    if h.filtering.alpha > 1:
        half = te.compute(
            (*outer, form.tiles, h.filtering.alpha, w.filtering.m, form.tile_oc),
            lambda *index: along_w(index[:9], *index[9:]),
            name="half_y",
        )

    def value(*index: Expr) -> Expr:
        band_h, i, sub_h, band_w, j, sub_w, lane = index[9:]
        t = (band_h * h.step + sub_h) * w.tiles + band_w * w.step + sub_w
        if half is None:
            return along_w(index[:9], t, 0, j, lane)
        products = [half[(*index[:9], t, a, j, lane)] for a in range(h.filtering.alpha)]
        return pick(h.filtering.transform_output(products), i)

    # Rows and columns as band, output of a tile and sub-image, so that exactly a tile is computed.
    tile = te.compute(
        (*outer, h.block, h.m, h.step, w.block, w.m, w.step, form.tile_oc), value, name="ytile"
    )

    def at(index: Sequence[Expr], row: Expr, column: Expr, lane: Expr) -> Expr:
        if form.spare_columns:
            # Columns that fill the last square are not stored: any value will do.
            column = te.min(column, w.outputs - 1)
        return tile[(*index, *h.parts(row), *w.parts(column), lane)]

    if form.channels_last:
        return lambda *index: at(index[:9], *index[9:])
    row = te.compute(
        (*outer, h.outputs, form.tile_oc, form.columns),
        lambda *index: at(index[:9], index[9], index[11], index[10]),
        name="yrow",
    )
    return lambda *index: row[(*index[:9], index[10], index[9], index[11])]


def _placement(problem: Problem, form: WinogradForm) -> Placement:
    """``out`` to the user's layout: tiles interleave with phases, whole blocks are cropped."""
    channels = form.channels(problem)

    def position(index: tuple[Expr, ...]) -> tuple[Any, Expr, list[Expr]]:
        o = form.at(index)
        space = [q * axis.phases + p for axis, p, q in zip(problem.axes, o.phase, o.q, strict=True)]
        return o, o.b * form.tile_oc + o.v, space

    def offset(*index: Expr) -> Expr:
        o, c, space = position(index)
        return problem.y.offset(o.n, o.g, c, tuple(space))

    def guards(*index: Expr) -> list[Expr]:
        _, c, space = position(index)
        covered = form.covered(problem)
        tests = [
            at < axis.out_extent
            for axis, at, outputs in zip(problem.axes, space, covered, strict=True)
            if outputs * axis.phases > axis.out_extent
        ]
        if form.spare_columns and form.w.blocks > 1:
            tests.append(index[-1] < form.w.outputs)
        if form.blocks(problem) * form.tile_oc > channels:
            tests.append(c < channels)
        return tests

    return Placement("out", "y", max(1, problem.y_elems), offset, guards)


def declare_winograd_packing(spec: ConvSpec, problem: Problem, form: WinogradForm) -> Declaration:
    """Declare ``pack``: u = Gh w Gw in float64, rounded once, in the order that conv reads."""
    shape = form.weight_shape(problem)
    h, w = form.h.filtering, form.w.filtering

    def pack_weight(weight: te.Tensor) -> te.Tensor:
        def value(*index: Expr) -> Expr:
            g, ph, pw, chunk, a, b, inside, kd, e, ic, lane = index
            block = chunk * form.chunk + inside
            group, o, valid = output_channel(problem, form, g, block, lane)

            def tap(kh: int, kw: int) -> Expr:
                residues = zip((kh, kw), (form.h, form.w), form.residue_of(e), strict=True)
                taps = [k * tiled.axis.stride + r for k, tiled, r in residues]
                at = weight_tap(spec, problem, (0, ph, pw), (kd, *taps))
                element = weight[weight_offset(spec, problem, group, o, ic, at)]
                exists = [k < axis.taps for k, axis in zip(taps, problem.axes[1:], strict=True)]
                return zero_unless(exists, element).astype("float64")

            total = combine(h, w, a, b, tap).astype("float32")
            return tirx.if_then_else(tirx.all(*valid), total, 0.0) if valid else total

        return te.compute(shape, value, name="packed_weight")

    return declare_packed(spec, problem, form, shape, pack_weight)


def zero_unless(tests: Sequence[Any], value: Expr) -> Expr:
    """The value where all tests hold; nothing is tested where they always do."""
    open_ones = [test for test in tests if test is not True]
    return tirx.if_then_else(tirx.all(*open_ones), value, 0.0) if open_ones else value


def weight_tap(
    spec: ConvSpec, problem: Problem, phases: Sequence[Expr], taps: Sequence[Expr]
) -> Expr:
    """Where phases' taps lie in the user's kernel, counted through."""
    kernel = (1,) * (3 - spec.rank) + spec.kernel
    at = [
        kernel_index(axis, phase, tap, size, spec.flip)
        for axis, phase, tap, size in zip(problem.axes, phases, taps, kernel, strict=True)
    ]
    return flat_index(at, kernel)


def combine(h: Filtering, w: Filtering, a: Expr, b: Expr, tap: Any) -> Expr:
    """Sum over kh, kw of Gh[a][kh] Gw[b][kw] w[kh][kw]; the factors are chosen once per (a, b)."""
    total = None
    for kh in range(h.r):
        row = None
        for kw in range(w.r):
            factor = pick([tirx.const(float(g[kw]), "float64") for g in w.weight], b)
            term = tap(kh, kw) * factor
            row = term if row is None else row + term
        factor = pick([tirx.const(float(g[kh]), "float64") for g in h.weight], a)
        scaled = row * factor
        total = scaled if total is None else total + scaled
    return total
