"""The FFT algorithm: overlap-save tiles, products of spectra, and the way back.

    xrow[g, tb, h, w, u]          the padded samples of a block of tiles, side by side in the lanes
    spectrum[g, tb, bin, part, u] = transform over w, then over h
    conv[g, tb, bin, t, b, part, v] = sum over k of spectrum[.., t * K + k] * weight[g, b, bin, k]
    image[g, tb, t, b, h, w, v]   = transform back over h, then over w
    out                           = act(image + bias), the outputs that did not wrap

A tile of N samples and a kernel that spans s of them have N - s + 1 outputs that circular and
negacyclic products get right (Oppenheim and Schafer's overlap-save). One tile that holds a whole
axis has them all, though padding hangs over at both ends: only zeros wrap around. Weights are
transformed while they are packed: their spectrum is the conjugate of the taps', with 1 / N folded
in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from tvm import te, tirx

from tvmconv.declare.border import read_padded
from tvmconv.declare.declaration import Declaration, Placement, flat_index
from tvmconv.declare.epilogue import epilogue
from tvmconv.declare.fft_form import FftForm, SpectralAxis
from tvmconv.declare.packing import (
    arguments,
    declare_packed,
    kernel_index,
    packed_elems,
    weight_offset,
)
from tvmconv.declare.roots import Complex, unit
from tvmconv.declare.transform import Powers, transform, transform_back
from tvmconv.problem import Problem
from tvmconv.spec import ConvSpec

Expr = Any
Index = Sequence[Expr]


def declare_fft(spec: ConvSpec, problem: Problem, form: FftForm) -> Declaration:
    """Declare ``run`` of a forward convolution: x, packed and, if any, residual, to y."""
    inputs = arguments(spec, problem, packed_elems(spec, problem, form))
    packed = inputs["packed"]

    def powers(axis: SpectralAxis) -> Powers:
        def power(level: int, node: Index, m: int) -> Complex:
            at = form.twiddle_offset(problem, axis, level)
            shape = axis.ring.twiddle_shape(level)
            real, imaginary = (
                packed[flat_index((*node, m - 1, part), shape) + at] for part in range(2)
            )
            return real, imaginary

        return power

    lead = (form.groups(problem), form.tile_blocks(problem))
    tail = (form.batch(problem), form.lanes)
    samples = _gather(problem, form, inputs["x"], (*lead, form.h.ring.samples), tail)
    spectrum = _spectrum(form, lead, tail, samples, powers)
    product = _multiply(problem, form, spectrum, packed)
    image = _image(problem, form, product, powers)
    placement = _placement(problem, form)
    shape = form.out_shape(problem)
    out = epilogue(spec, problem, form, shape, image, inputs, placement)
    return Declaration(inputs, ((out, placement),), "y", repeats=False)


def _gather(
    problem: Problem, form: FftForm, x: te.Tensor, lead: tuple[int, ...], tail: tuple[int, int]
) -> te.Tensor:
    """Stage ``xrow``: padded samples. Lanes without work repeat the last one's.

    Channels-first rows are staged as they lie, ``xline``, and transposed.
    """
    extents = [axis.extent for axis in form.axes]
    terms, tiles = form.reduction(problem), form.tiles(problem)
    blocks = form.tile_blocks(problem)

    def sample(g: Expr, tb: Expr, row: Expr, column: Expr, u: Expr, v: Expr) -> Expr:
        if form.per_lane:
            channels, padded = form.channels(problem), form.groups(problem) * form.lanes
            group = _clipped(g * form.lanes + v, channels, padded) // problem.ocg
            ti, k = u // terms, u % terms
        else:
            group = g
            at = _clipped(u * form.lanes + v, form.block * terms, form.batch(problem) * form.lanes)
            ti, k = at // terms, at % terms
        n, *tile = form.tile_at(_clipped(tb * form.block + ti, tiles, blocks * form.block))
        taps, ic = form.term_at(problem, k)
        local = [
            axis.position(*at)
            for axis, *at in zip(form.axes, tile, (0, row, column), taps, strict=True)
        ]
        return read_padded(x, problem, extents, n, group, ic, local)

    shape = (*lead, form.w.ring.samples, *tail)
    if not form.rows_in:
        return te.compute(shape, sample, name="xrow")
    line = te.compute(
        (*lead, *tail, form.w.ring.samples),
        lambda g, tb, row, u, v, column: sample(g, tb, row, column, u, v),
        name="xline",
    )
    return te.compute(
        shape, lambda g, tb, row, column, u, v: line[g, tb, row, u, v, column], name="xrow"
    )


def _clipped(at: Expr, count: int, padded: int) -> Expr:
    """An index that runs up to ``padded``, kept below ``count``."""
    return at if padded == count else te.min(at, count - 1)


def _spectrum(
    form: FftForm,
    lead: tuple[int, ...],
    tail: tuple[int, ...],
    samples: te.Tensor,
    powers: Callable[[SpectralAxis], Powers],
) -> Callable[..., Expr]:
    """Both transforms; the result reads (lead, bin, part, tail)."""
    points, size = form.w.ring.points, len(lead)

    def row(at: Index, n: Expr, part: Expr, rest: Index) -> Expr:
        return samples[(*at, part * points + n, *rest)]

    columns = form.w.ring.radices
    in_rows = transform(form.w.ring, (*lead, form.h.ring.samples), tail, row, powers(form.w), "row")

    def column(at: Index, n: Expr, part: Expr, rest: Index) -> Expr:
        return in_rows((*at[:size], n), at[size:], part, rest)

    if not form.h.ring.radices:
        return lambda at, bin, part, rest: in_rows((*at, 0), bin, part, rest)
    both = transform(form.h.ring, (*lead, *columns), tail, column, powers(form.h), "column")
    split = len(columns)
    return lambda at, bin, part, rest: both((*at, *bin[:split]), bin[split:], part, rest)


def _multiply(
    problem: Problem, form: FftForm, spectrum: Callable[..., Expr], packed: te.Tensor
) -> te.Tensor:
    """Stages ``conv``, sums in registers, and ``product``, where they are kept."""
    lead = (form.groups(problem), form.tile_blocks(problem))
    terms, shape = form.reduction(problem), form.weight_shape(problem)
    k = te.reduce_axis((0, terms), name="k")
    half = te.reduce_axis((0, 2), name="half")
    bins = len(form.radices)

    def term(*index: Expr) -> Expr:
        g, tb, *bin, ti, b, part, v = index
        u = ti * terms + k
        lane = (u, v) if form.per_lane else (u // form.lanes, u % form.lanes)
        value = spectrum((g, tb), bin, half, lane)

        def weight(of: int) -> Expr:
            return packed[flat_index(form.weight_at(g, b, bin, k, of, v), shape)]

        # (a + ib)(c + id): real parts a c - b d, imaginary a d + b c.
        crossed = tirx.Select(part == 0, tirx.const(0.0, "float32") - weight(1), weight(0))
        factor = tirx.Select(half == 0, tirx.Select(part == 0, weight(0), weight(1)), crossed)
        return te.sum(value * factor, axis=[k, half])

    extents = (*lead, *form.radices, form.block, form.vectors(problem), 2, form.lanes)
    assert len(extents) == 6 + bins
    conv = te.compute(extents, term, name="conv")
    return te.compute(extents, lambda *index: conv[index], name="product")


def _image(
    problem: Problem,
    form: FftForm,
    product: te.Tensor,
    powers: Callable[[SpectralAxis], Powers],
) -> Callable[..., Expr]:
    """Transform back; the result reads an index of ``out``."""
    lead = (
        form.groups(problem), form.tile_blocks(problem), form.block, form.vectors(problem)
    )  # fmt: skip
    tail, size, columns = (form.lanes,), len(lead), form.w.ring.radices

    def bins(at: Index, bin: Index, part: Expr, rest: Index) -> Expr:
        g, tb, ti, b, *column = at
        return product[(g, tb, *column, *bin, ti, b, part, *rest)]

    in_columns = transform_back(
        form.h.ring, (*lead, *columns), tail, bins, powers(form.h), "column_back"
    )

    def row(at: Index, bin: Index, part: Expr, rest: Index) -> Expr:
        position = at[size] * form.h.axis.stride
        return in_columns((*at[:size], *bin), position, part, rest)

    in_rows = transform_back(
        form.w.ring, (*lead, form.h.outputs), tail, row, powers(form.w), "row_back"
    )
    points, stride = form.w.ring.points, form.w.axis.stride

    def image(g: Expr, tb: Expr, ti: Expr, b: Expr, h: Expr, w: Expr, v: Expr) -> Expr:
        position = _clipped(w, form.w.outputs, form.columns) * stride
        return in_rows((g, tb, ti, b, h), position % points, position // points, (v,))

    if not form.rows_out:
        return image
    shape = form.out_shape(problem)
    rows = te.compute(
        shape, lambda g, tb, ti, b, h, v, w: image(g, tb, ti, b, h, w, v), name="yrow"
    )
    return lambda *index: rows[index]


def _placement(problem: Problem, form: FftForm) -> Placement:
    """Tiles to the user's layout; outputs, tiles and channels that do not exist are left out."""
    channels, tiles = form.channels(problem), form.tiles(problem)

    def offset(*index: Expr) -> Expr:
        o = form.at(index)
        return problem.y.offset(o.n, o.g, o.b * form.lanes + o.v, o.q)

    def guards(*index: Expr) -> list[Expr]:
        o = form.at(index)
        tests = [
            q < each.axis.out_extent
            for q, each in zip(o.q, form.axes, strict=True)
            if each.tiles * each.outputs > each.axis.out_extent
        ]
        if form.tile_blocks(problem) * form.block > tiles:
            tests.append(index[1] * form.block + index[2] < tiles)
        if form.columns > form.w.outputs:
            tests.append(index[-1] < form.w.outputs)
        if form.blocks(problem) * form.lanes > channels:
            tests.append(o.b * form.lanes + o.v < channels)
        return tests

    return Placement("out", "y", max(1, problem.y_elems), offset, guards)


def declare_fft_packing(spec: ConvSpec, problem: Problem, form: FftForm) -> Declaration:
    """Declare ``pack``: the kernel's spectrum, the powers of roots, the epilogue's vectors."""
    elems = packed_elems(spec, problem, form)
    tables: dict[tuple[str, int], te.Tensor] = {}
    outputs: list[tuple[te.Tensor, Placement]] = []
    for name, axis in (("w", form.w), ("h", form.h)):
        for level in range(len(axis.ring.radices)):
            if axis.ring.has_twiddles(level):
                table = _powers(axis, level, f"powers_{name}{level}")
                start = form.twiddle_offset(problem, axis, level)
                tables[name, level] = table
                outputs.append(_kept(table, start, elems))

    def powers(axis: SpectralAxis) -> Powers:
        name = "w" if axis is form.w else "h"

        def power(level: int, node: Index, m: int) -> Complex:
            table = tables[name, level]
            return table[(*node, m - 1, 0)], table[(*node, m - 1, 1)]

        return power

    def pack_weight(weight: te.Tensor) -> te.Tensor:
        lead = (form.groups(problem), form.reduction(problem), form.vectors(problem))
        taps = _place_taps(spec, problem, form, weight, (*lead, form.h.ring.samples))
        return _arrange(problem, form, _spectrum(form, lead, (form.lanes,), taps, powers))

    packing = declare_packed(spec, problem, form, form.weight_shape(problem), pack_weight)
    return replace(packing, outputs=(*packing.outputs, *outputs), repeats=False)


def _powers(axis: SpectralAxis, level: int, name: str) -> te.Tensor:
    def value(*index: Expr) -> Expr:
        *node, m, part = index
        real, imaginary = unit(*axis.ring.twiddle(level, node, m + 1))
        return tirx.Select(part == 0, real, imaginary).astype("float32")

    return te.compute(axis.ring.twiddle_shape(level), value, name=name)


def _kept(table: te.Tensor, start: int, elems: int) -> tuple[te.Tensor, Placement]:
    """A copy in the packed buffer: lowering takes outputs away, and transforms read the table."""
    shape = tuple(int(extent) for extent in table.shape)
    copy = te.compute(shape, lambda *index: table[index], name=f"packed_{table.op.name}")

    def offset(*index: Expr) -> Expr:
        return flat_index(index, shape) + start

    return copy, Placement(copy.op.name, "packed", elems, offset, lambda *index: [])


def _place_taps(
    spec: ConvSpec, problem: Problem, form: FftForm, weight: te.Tensor, lead: tuple[int, ...]
) -> te.Tensor:
    """Stage ``wrow``: taps at the samples that they meet, zeros between and behind them."""
    kernel = (1,) * (3 - spec.rank) + spec.kernel
    channels = form.channels(problem)

    def sample(g: Expr, k: Expr, b: Expr, row: Expr, column: Expr, v: Expr) -> Expr:
        o = (g if form.per_lane else b) * form.lanes + v
        tests = [o < channels] if form.blocks(problem) * form.lanes > channels else []
        group, oc = (o // problem.ocg, o % problem.ocg) if form.per_lane else (g, o)
        summed, ic = form.term_at(problem, k)
        taps = []
        for each, tap, at in zip(form.axes, summed, (0, row, column), strict=True):
            if not each.is_summed:
                tap = at // each.axis.step
                tests.append(at < each.span)
                if each.axis.step > 1:
                    tests.append(at % each.axis.step == 0)
            taps.append(tap)
        indices = [
            kernel_index(each.axis, 0, tap, size, spec.flip)
            for each, tap, size in zip(form.axes, taps, kernel, strict=True)
        ]
        element = weight[weight_offset(spec, problem, group, oc, ic, flat_index(indices, kernel))]
        return tirx.if_then_else(tirx.all(*tests), element, tirx.const(0.0, "float32"))

    return te.compute((*lead, form.w.ring.samples, form.lanes), sample, name="wrow")


def _arrange(problem: Problem, form: FftForm, spectrum: Callable[..., Expr]) -> te.Tensor:
    """Stage ``packed_weight``: conjugated, scaled, in the order in which it is read."""
    shape, bins = form.weight_shape(problem), len(form.radices)
    scale = tirx.const(1.0 / prod(form.radices), "float32")

    def value(*index: Expr) -> Expr:
        if form.fused:
            g, b, *bin, k, part, v = index
        else:
            g, *bin, outer, k, part, inner, v = index
            b = outer * form.tile_b + inner
        assert len(bin) == bins
        element = spectrum((g, k, b), bin, part, (v,)) * scale
        return tirx.Select(part == 0, element, tirx.const(0.0, "float32") - element)

    return te.compute(shape, value, name="packed_weight")
