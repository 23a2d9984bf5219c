"""A convolution as Strassen's product of parts, in TE; tvmconv/strassen.py has the algorithm.

    xsum[r][window][ic]  = r-th sum of parts of x: of its pixels (i) and its input channels (k)
    gemm[r][pixel][oc]   = sum over taps, ic of xsum[r][pixel at tap][ic] * w[r][tap][ic][oc]
    out[i][j][pixel][oc] = act(sum of gemm[r][pixel][oc] over some r + bias)

w[r] are sums of parts of the weight, taken by ``pack``. Of two levels, the first are stages of
their own (xhalf, yhalf), so that no line has more than seven results. A part's pixels are a block
of neighbours, its output channels every second (or fourth) block of tile_oc.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import te

from tvmconv.declare.border import read_padded
from tvmconv.declare.declaration import Declaration, Placement, flat_index, pick
from tvmconv.declare.epilogue import epilogue
from tvmconv.declare.packing import arguments, packed_elems
from tvmconv.declare.strassen_form import StrassenForm, input_of, tap_of
from tvmconv.problem import Problem
from tvmconv.spec import ConvSpec
from tvmconv.strassen import (
    HALVES,
    PRODUCTS,
    blocks_of_y,
    parts,
    sums_of_x,
)

Expr = Any
# Index of an element within its part: window d h w and channel, in the order of x.
Reader = Callable[[Sequence[Expr], Expr, Expr, Sequence[Expr]], Expr]


def declare_strassen(spec: ConvSpec, problem: Problem, form: StrassenForm) -> Declaration:
    """Declare ``run``: x, packed and, where the spec has one, residual, to y."""
    inputs = arguments(spec, problem, packed_elems(spec, problem, form))
    xsum = _add_parts(problem, form, _read_parts(problem, form, inputs["x"]))
    gemm = _multiply(problem, form, xsum, inputs["packed"])
    placement = _placement(problem, form)
    sums = _add_products(problem, form, gemm)
    shape = form.out_shape(problem)
    out = epilogue(spec, problem, form, shape, sums, inputs, placement)
    tile = ("row", "column", "v") if form.vector == "oc" else ("v", "row", "column")
    order = ("n", "g", "bd", "bh", "bw", "pd", "ph", "pw", "r", "b", "run", *tile)
    return Declaration(inputs, ((out, placement),), "y", order)


def _read_parts(problem: Problem, form: StrassenForm, x: te.Tensor) -> Reader:
    """How an element of pixel part i and channel part k is read: in place, or from ``xpad``."""
    channels = form.channels_in(problem)

    def place(i: Expr, local: Sequence[Expr]) -> list[Expr]:
        """Coordinates from the first input that the block reads."""
        at = [input_of(axis, p) for axis, p in zip(problem.axes, local, strict=True)]
        axis = problem.axes[form.along]
        at[form.along] = at[form.along] + i * form.block[form.along] * axis.stride
        return at

    if form.staged:
        xpad = _stage_input(problem, form, x)

        def read_copy(outer: Sequence[Expr], i: Expr, k: Expr, index: Sequence[Expr]) -> Expr:
            local, c = _window_of(form, index)
            at = place(i, local)
            where = (*at, k * channels + c) if form.channels_last else (k * channels + c, *at)
            return xpad[(*outer, *where)]

        return read_copy

    starts = _block_starts(problem, form)
    padded = form.padded_window(problem)

    def read_x(outer: Sequence[Expr], i: Expr, k: Expr, index: Sequence[Expr]) -> Expr:
        n, g, *blocks = outer
        local, c = _window_of(form, index)
        space = []
        for axis, b, start, count, size, at in zip(
            problem.axes,
            blocks,
            starts,
            form.blocks_of_outputs(problem),
            padded,
            place(i, local),
            strict=True,
        ):
            position = b * start + at + axis.low
            if axis.low + (count - 1) * start + size > axis.in_extent:
                # Outputs that do not exist: any value will do.
                position = te.min(position, axis.in_extent - 1)
            space.append(position)
        return x[problem.x.offset(n, g, k * channels + c, tuple(space))]

    return read_x


def _block_starts(problem: Problem, form: StrassenForm) -> list[int]:
    """Inputs from one block to the next along d, h and w."""
    return [axis.stride * span for axis, span in zip(problem.axes, form.span, strict=True)]


def _window_of(form: StrassenForm, index: Sequence[Expr]) -> tuple[Sequence[Expr], Expr]:
    """Window d h w and channel of the last four axes."""
    if form.channels_last:
        return index[:3], index[3]
    return index[1:], index[0]


def _window_shape(form: StrassenForm, window: Sequence[int], channels: int) -> tuple[int, ...]:
    return (*window, channels) if form.channels_last else (channels, *window)


def _stage_input(problem: Problem, form: StrassenForm, x: te.Tensor) -> te.Tensor:
    """Stage ``xpad``: what one block reads, padding and missing channels filled in."""
    window, starts = form.padded_window(problem), _block_starts(problem, form)
    counts = form.blocks_of_outputs(problem)
    extents = [
        (count - 1) * start + size
        for count, start, size in zip(counts, starts, window, strict=True)
    ]
    channels = form.parts * form.channels_in(problem)

    def element(*index: Expr) -> Expr:
        n, g, *rest = index
        at, c = _window_of(form, rest[3:])
        local = [b * start + i for b, start, i in zip(rest[:3], starts, at, strict=True)]
        valid = [c < problem.icg] if channels > problem.icg else []
        return read_padded(x, problem, extents, n, g, c, local, valid)

    shape = (*form.block_shape(problem), *_window_shape(form, window, channels))
    return te.compute(shape, element, name="xpad")


def _add_parts(problem: Problem, form: StrassenForm, read: Reader) -> te.Tensor:
    """Stage ``xsum``, by way of ``xhalf`` where there are two levels.

    The axis of products is the last one here, so that all of them are computed from what was read.
    """
    outer = form.block_shape(problem)
    inner = _window_shape(form, form.window(problem), form.channels_in(problem))
    lead = len(outer)
    half = None
    if form.levels > 1:
        rest = parts(form.levels - 1)

        def first(*index: Expr) -> Expr:
            r, i, k = index[-3:]
            quarters = [
                [
                    read(index[:lead], a * rest + i, b * rest + k, index[lead:-3])
                    for b in range(HALVES)
                ]
                for a in range(HALVES)
            ]
            return pick(sums_of_x(quarters), r)

        half = te.compute((*outer, *inner, PRODUCTS, rest, rest), first, name="xhalf")

    def last(*index: Expr) -> Expr:
        r = index[-1]

        def block(i: int, k: int) -> Expr:
            if half is None:
                return read(index[:lead], i, k, index[lead:-1])
            return half[(*index[:-1], r // PRODUCTS, i, k)]

        return pick(
            sums_of_x([[block(i, k) for k in range(HALVES)] for i in range(HALVES)]), r % PRODUCTS
        )

    return te.compute((*outer, *inner, form.products), last, name="xsum")


def _multiply(
    problem: Problem, form: StrassenForm, xsum: te.Tensor, packed: te.Tensor
) -> te.Tensor:
    """Stages ``conv``, a register tile's sum over a run of ic, and ``gemm``, that of all runs."""
    count, length = form.runs(problem)
    taps = [
        te.reduce_axis((0, axis.taps), name=f"k{name}")
        for axis, name in zip(problem.axes, "dhw", strict=True)
    ]
    ic = te.reduce_axis((0, length), name="ic")
    weights = form.weight_shape(problem)

    def term(*index: Expr) -> Expr:
        n, g, bd, bh, bw, pd, ph, pw, r, b, run, *tile = index
        row, column, lane = tile if form.vector == "oc" else (tile[1], tile[2], tile[0])
        phases = (pd, ph, pw)
        at = [
            tap_of(axis, q, phase, tap)
            for axis, q, phase, tap in zip(
                problem.axes, (0, row, column), phases, taps, strict=True
            )
        ]
        c = run * length + ic
        where = (*at, c) if form.channels_last else (c, *at)
        place = (g, *phases, b // form.chunk, r, b % form.chunk, run, *taps, ic, lane)
        product = xsum[(n, g, bd, bh, bw, *where, r)] * packed[flat_index(place, weights)]
        return te.sum(product, axis=[*taps, ic])

    pixels = (form.block_oh, form.block_ow)
    tile = (*pixels, form.tile_oc) if form.vector == "oc" else (form.tile_oc, *pixels)
    outer = (*form.phase_shape(problem), form.products, form.part_blocks(problem))
    conv = te.compute((*outer, count, *tile), term, name="conv")
    if count == 1:
        return te.compute(
            (*outer, *tile), lambda *index: conv[(*index[:-3], 0, *index[-3:])], name="gemm"
        )
    run = te.reduce_axis((0, count), name="run")
    return te.compute(
        (*outer, *tile),
        lambda *index: te.sum(conv[(*index[:-3], run, *index[-3:])], axis=run),
        name="gemm",
    )


def _add_products(problem: Problem, form: StrassenForm, gemm: te.Tensor) -> Any:
    """Stage ``ytile``, all parts of y, by way of ``yhalf``; ``yrow`` where it is transposed."""
    outer, blocks = form.phase_shape(problem), form.part_blocks(problem)
    lead = len(outer)
    shape = (*outer, blocks, *(int(extent) for extent in gemm.shape[lead + 2 :]))
    half = None
    if form.levels > 1:
        rest = parts(form.levels - 1)

        def inner(*index: Expr) -> Expr:
            r, i, j = index[-3:]
            at = index[lead:-3]
            p = [gemm[(*index[:lead], r * PRODUCTS + last, *at)] for last in range(PRODUCTS)]
            return _chosen(blocks_of_y(p), i, j)

        half = te.compute((*shape, PRODUCTS, rest, rest), inner, name="yhalf")

    def total(*index: Expr) -> Expr:
        i, j = index[-2:]
        if half is None:
            p = [gemm[(*index[:lead], r, *index[lead:-2])] for r in range(PRODUCTS)]
            return _chosen(blocks_of_y(p), i, j)
        rest = parts(form.levels - 1)
        p = [half[(*index[:-2], r, i % rest, j % rest)] for r in range(PRODUCTS)]
        return _chosen(blocks_of_y(p), i // rest, j // rest)

    ytile = te.compute((*shape, form.parts, form.parts), total, name="ytile")

    def at_tile(index: Sequence[Expr]) -> Expr:
        b, i, j, *rest = index[lead:]
        row, column, lane = rest if form.output_channels_last else (rest[1], rest[2], rest[0])
        if form.columns > form.block_ow:
            # Columns that fill the last square are not stored: any value will do.
            column = te.min(column, form.block_ow - 1)
        at = (row, column, lane) if form.vector == "oc" else (lane, row, column)
        return ytile[(*index[:lead], b, *at, i, j)]

    if not form.turned:
        return lambda *index: at_tile(index)
    yrow = te.compute(form.out_shape(problem), lambda *index: at_tile(index), name="yrow")
    return lambda *index: yrow[index]


def _chosen(blocks: Sequence[Sequence[Expr]], i: Expr, j: Expr) -> Expr:
    return pick([pick(row, j) for row in blocks], i)


def _placement(problem: Problem, form: StrassenForm) -> Placement:
    """``out`` to the user's layout; blocks that reach beyond y are cropped."""
    channels, counts = form.channels(problem), form.blocks_of_outputs(problem)

    def position(index: tuple[Expr, ...]) -> tuple[Any, Expr, list[Expr]]:
        o = form.at(index)
        space = [q * axis.phases + p for axis, p, q in zip(problem.axes, o.phase, o.q, strict=True)]
        return o, o.b * form.tile_oc + o.v, space

    def offset(*index: Expr) -> Expr:
        o, c, space = position(index)
        return problem.y.offset(o.n, o.g, c, tuple(space))

    def guards(*index: Expr) -> list[Expr]:
        _, c, space = position(index)
        tests = [
            at < axis.out_extent
            for axis, at, count, span in zip(problem.axes, space, counts, form.span, strict=True)
            if count * span * axis.phases > axis.out_extent
        ]
        if form.columns > form.block_ow:
            tests.append(index[-1] < form.block_ow)
        if form.blocks(problem) * form.tile_oc > channels:
            tests.append(c < channels)
        return tests

    return Placement("out", "y", max(1, problem.y_elems), offset, guards)
