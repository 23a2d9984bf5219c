"""Winograd's algorithm in three passes over memory, for GPUs: transform, multiply, transform back.

    v[g, p, a, b, ic, t]     = sum over i, j of Bh[a][i] Bw[b][j] x[tile t at i, j][ic]
    gemm[g, p, a, b, c, m]   = sum over kd, ic of v[.., ic, t(m, kd)] * u[g, p, a, b, kd, ic, c]
    out[g, p, c, m, i, j]    = act(sum over a, b of Ah[i][a] Aw[j][b] gemm[.., a, b, c, m] + bias)

Each point (a, b) is a matrix product of its own, as large as the map: thousands of tiles by
channels (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016). Tiles t
count inputs' slices along d, m outputs'; d itself is summed directly. v and gemm are workspace. In
both, what lies together in x and y runs innermost, tiles or channels.

Whatever the tensors hold, v, u and gemm are float32. The packed buffer has the tensors' type, so
float16 specs keep u in two halves: its value rounded, and what that left, times 2^11. That costs
2^-23 of u at most beside its rounding to float32, which costs half as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import te, tirx

from tvmconv.declare.border import read_padded
from tvmconv.declare.declaration import (
    Declaration,
    Placement,
    by_phase,
    flat_index,
    pick,
    widened,
)
from tvmconv.declare.epilogue import epilogue
from tvmconv.declare.form import Output
from tvmconv.declare.packing import (
    arguments,
    declare_packed,
    output_channel,
    packed_elems,
    weight_offset,
)
from tvmconv.declare.product import ProductForm, packed_weight, stored
from tvmconv.declare.winograd import combine, weight_tap
from tvmconv.declare.winograd_form import TiledAxis
from tvmconv.problem import Problem
from tvmconv.spec import ConvSpec

Expr = Any
# By what the second half of a weight is scaled, so that it is no smaller than the first one.
REST_SCALE = 2.0**11


@dataclass(frozen=True)
class StagedForm:
    """A config's part that changes the compute.

    Attributes:
        h: rows, in one block of tiles.
        w: columns, the same.
        product: tiles of the matrix products.
        x_last: channels innermost in v.
        y_last: channels innermost in gemm.
        halves: elements of the packed buffer that make one value of u; two of float16.
    """

    h: TiledAxis
    w: TiledAxis
    product: ProductForm
    x_last: bool
    y_last: bool
    halves: int = 1
    per_lane: bool = False

    @property
    def tile_oc(self) -> int:
        """Output channels of one block, padded."""
        return self.product.tile_oc

    def channels(self, problem: Problem) -> int:
        """Output channels of a group."""
        return problem.ocg

    def blocks(self, problem: Problem) -> int:
        """Blocks of tile_oc channels, rounded up."""
        return self.product.blocks(problem)

    def lead(self, problem: Problem) -> tuple[int, ...]:
        """Extents of g, phases h w, and points h w."""
        points = (self.h.filtering.alpha, self.w.filtering.alpha)
        return (problem.g, self.h.axis.phases, self.w.axis.phases, *points)

    def channels_in(self, problem: Problem) -> int:
        """Input channels of a group in whole steps; the added ones hold zeros."""
        return _round_up(problem.icg, self.product.tile_k)

    def slices(self, problem: Problem) -> int:
        """Slices of x along d, padding included."""
        d = problem.axes[0]
        return d.high - d.low

    def tiles(self, problem: Problem, slices: int) -> int:
        """Tiles of all batches and so many slices."""
        return max(1, problem.n) * slices * self.h.tiles * self.w.tiles

    def tiles_in(self, problem: Problem) -> int:
        """Tiles of v, rounded up to whole tiles of the product."""
        return _round_up(self.tiles(problem, self.slices(problem)), self.product.tile_m)

    def tiles_out(self, problem: Problem) -> int:
        """Tiles of gemm, rounded up the same way."""
        return _round_up(self.tiles(problem, problem.axes[0].out_extent), self.product.tile_m)

    def weight_shape(self, problem: Problem) -> tuple[int, ...]:
        """Weights u: g, phases, points, block, term (kd, ic), channel."""
        terms = problem.axes[0].taps * self.channels_in(problem)
        return (*self.lead(problem), self.blocks(problem), terms, self.tile_oc)

    def packed_shape(self, problem: Problem) -> tuple[int, ...]:
        """Packed weight: as they are, or with the second halves behind a term's first ones."""
        shape = self.weight_shape(problem)
        return shape if self.halves == 1 else (*shape[:-1], self.halves, shape[-1])

    def weight_elems(self, problem: Problem) -> int:
        """Elements of the packed weight."""
        return prod(self.packed_shape(problem))

    def vector_elems(self, problem: Problem) -> int:
        """Elements of one packed epilogue vector."""
        return problem.g * self.blocks(problem) * self.tile_oc

    def at(self, index: tuple[Any, ...]) -> Output:
        """Group, block and channel of an index of ``out``; the tile stays counted through."""
        g, ph, pw, b, m, v, _, _ = index
        return Output(n=m, g=g, b=b, phase=(0, ph, pw), q=(0, 0, m), v=v)


def declare_staged_winograd(spec: ConvSpec, problem: Problem, form: StagedForm) -> Declaration:
    """Declare ``run``: x, packed and, where the spec has one, residual, to y."""
    inputs = arguments(spec, problem, packed_elems(spec, problem, form))
    v = _transform_input(problem, form, inputs["x"])
    gemm = _multiply(problem, form, v, inputs["packed"])
    placement = _placement(problem, form)
    sums = _transform_output(problem, form, gemm)
    lead = (*form.lead(problem)[:3], form.blocks(problem), form.tiles_out(problem))
    shape = (*lead, form.tile_oc, form.h.m, form.w.m)
    out = epilogue(spec, problem, form, shape, sums, inputs, placement)
    return Declaration(inputs, ((out, placement),), "y")


def _split_tile(form: StagedForm, t: Expr, slices: int) -> tuple[Expr, Expr, Expr, Expr]:
    """Batch, slice, and tile along h and w."""
    t, w = t // form.w.tiles, t % form.w.tiles
    t, h = t // form.h.tiles, t % form.h.tiles
    return t // slices, t % slices, h, w


def _transform_input(problem: Problem, form: StagedForm, x: te.Tensor) -> te.Tensor:
    """Stages ``patch``, ``half_v`` along w, and ``v`` along h."""
    h, w, slices = form.h, form.w, form.slices(problem)
    extents = (slices, h.window, w.window)
    tiles, count = form.tiles_in(problem), form.tiles(problem, slices)
    channels = form.channels_in(problem)
    outer = (*form.lead(problem)[:3], tiles, channels)
    alpha_h, alpha_w = h.filtering.alpha, w.filtering.alpha

    def element(g: Expr, ph: Expr, pw: Expr, t: Expr, c: Expr, i: Expr, j: Expr) -> Expr:
        n, d, th, tw = _split_tile(form, t, slices)
        row = h.position(th, i) + by_phase(h.axis.origins, ph) - h.axis.low
        column = w.position(tw, j) + by_phase(w.axis.origins, pw) - w.axis.low
        valid = [t < count] if tiles > count else []
        if channels > problem.icg:
            valid.append(c < problem.icg)
        return read_padded(x, problem, extents, n, g, c, (d, row, column), valid)

    patch = te.compute((*outer, alpha_h, alpha_w), element, name="patch")

    def along_w(*index: Expr) -> Expr:
        *at, i, b = index
        return pick(w.filtering.transform_input([patch[(*at, i, j)] for j in range(alpha_w)]), b)

    half = te.compute((*outer, alpha_h, alpha_w), along_w, name="half_v")

    def along_h(g: Expr, ph: Expr, pw: Expr, a: Expr, b: Expr, *rest: Expr) -> Expr:
        t, c = rest if form.x_last else rest[::-1]
        columns = [half[g, ph, pw, t, c, i, b] for i in range(alpha_h)]
        return pick(h.filtering.transform_input(columns), a)

    last = (tiles, channels) if form.x_last else (channels, tiles)
    return te.compute((*form.lead(problem), *last), along_h, name="v")


def _multiply(problem: Problem, form: StagedForm, v: te.Tensor, packed: te.Tensor) -> te.Tensor:
    """Stages ``xcol``, ``weight``, ``conv`` and ``gemm``: a product per point."""
    depth, channels = problem.axes[0], form.channels_in(problem)
    terms, tiles = depth.taps * channels, form.tiles_out(problem)

    def factor(*index: Expr) -> Expr:
        *lead, k, m = index
        t = m
        if depth.taps > 1 or depth.stride > 1:
            n, qd, th, tw = _split_tile(form, m, depth.out_extent)
            slice_d = qd * depth.stride + k // channels * depth.step
            t = ((n * form.slices(problem) + slice_d) * form.h.tiles + th) * form.w.tiles + tw
            if form.tiles_out(problem) > form.tiles(problem, depth.out_extent):
                t = te.min(t, form.tiles_in(problem) - 1)
        c = k % channels
        return v[(*lead, t, c) if form.x_last else (*lead, c, t)]

    xcol = te.compute((*form.lead(problem), terms, tiles), factor, name="xcol")
    weight = _weights(problem, form, packed)
    k = te.reduce_axis((0, terms), name="k")

    def term(*index: Expr) -> Expr:
        *lead, b, m, c = index
        return te.sum(xcol[(*lead, k, m)] * weight[(*lead, b, k, c)], axis=k)

    outer = (*form.lead(problem), form.blocks(problem))
    conv = te.compute((*outer, tiles, form.tile_oc), term, name="conv")
    return stored(conv, "gemm", pixels_last=not form.y_last)


def _weights(problem: Problem, form: StagedForm, packed: te.Tensor) -> te.Tensor:
    """Stage ``weight``: u in float32."""
    if form.halves == 1:
        return packed_weight(form.weight_shape(problem), packed)
    shape = form.packed_shape(problem)

    def value(*index: Expr) -> Expr:
        *lead, channel = index
        first, second = (widened(packed[flat_index((*lead, i, channel), shape)]) for i in range(2))
        return first + second * (1 / REST_SCALE)

    return te.compute(form.weight_shape(problem), value, name="weight")


def _transform_output(problem: Problem, form: StagedForm, gemm: te.Tensor) -> te.Tensor:
    """Stages ``points``, ``half_y`` along w, and ``ytile`` along h."""
    h, w = form.h.filtering, form.w.filtering
    outer = (*form.lead(problem)[:3], form.blocks(problem), form.tiles_out(problem), form.tile_oc)

    def point(*index: Expr) -> Expr:
        *lead, block, m, c, a, b = index
        return gemm[(*lead, a, b, block, m, c) if form.y_last else (*lead, a, b, block, c, m)]

    points = te.compute((*outer, h.alpha, w.alpha), point, name="points")

    def along_w(*index: Expr) -> Expr:
        *at, a, j = index
        return pick(w.transform_output([points[(*at, a, b)] for b in range(w.alpha)]), j)

    half = te.compute((*outer, h.alpha, w.m), along_w, name="half_y")

    def along_h(*index: Expr) -> Expr:
        *at, i, j = index
        return pick(h.transform_output([half[(*at, a, j)] for a in range(h.alpha)]), i)

    return te.compute((*outer, h.m, w.m), along_h, name="ytile")


def _placement(problem: Problem, form: StagedForm) -> Placement:
    """``out`` to the user's layout: tiles interleave with phases, spare ones are cropped."""
    depth = problem.axes[0].out_extent
    count = form.tiles(problem, depth)

    def position(index: tuple[Expr, ...]) -> tuple[Expr, list[Expr], Expr]:
        _, ph, pw, b, m, v, i, j = index
        n, d, th, tw = _split_tile(form, m, depth)
        h, w = form.h, form.w
        row = h.position(th, i) * h.axis.phases + ph
        column = w.position(tw, j) * w.axis.phases + pw
        return n, [d, row, column], b * form.tile_oc + v

    def offset(*index: Expr) -> Expr:
        n, space, c = position(index)
        return problem.y.offset(n, index[0], c, tuple(space))

    def guards(*index: Expr) -> list[Expr]:
        _, (_, row, column), c = position(index)
        tests = [index[4] < count] if form.tiles_out(problem) > count else []
        for axis, at in ((form.h, row), (form.w, column)):
            if axis.outputs * axis.axis.phases > axis.axis.out_extent:
                tests.append(at < axis.axis.out_extent)
        if form.blocks(problem) * form.tile_oc > problem.ocg:
            tests.append(c < problem.ocg)
        return tests

    return Placement("out", "y", max(1, problem.y_elems), offset, guards)


def declare_staged_packing(spec: ConvSpec, problem: Problem, form: StagedForm) -> Declaration:
    """Declare ``pack``: u = Gh w Gw in float64, rounded once, in the order that conv reads."""
    channels = form.channels_in(problem)

    def transformed(weight: te.Tensor, index: tuple[Expr, ...]) -> tuple[Expr, list[Expr]]:
        """A value of u in float32, and the tests that it exists."""
        g, ph, pw, a, b, block, k, lane = index
        kd, ic = k // channels, k % channels
        group, o, valid = output_channel(problem, form, g, block, lane)
        if channels > problem.icg:
            valid.append(ic < problem.icg)

        def tap(kh: int, kw: int) -> Expr:
            at = weight_tap(spec, problem, (0, ph, pw), (kd, kh, kw))
            element = weight[weight_offset(spec, problem, group, o, ic, at)]
            return element.astype("float64")

        return combine(form.h.filtering, form.w.filtering, a, b, tap).astype("float32"), valid

    def pack_weight(weight: te.Tensor) -> te.Tensor:
        def whole(*index: Expr) -> Expr:
            total, valid = transformed(weight, index)
            return _where(valid, total, spec.dtype)

        def half(*index: Expr) -> Expr:
            *lead, second, lane = index
            total, valid = transformed(weight, (*lead, lane))
            rounded = total.astype(spec.dtype)
            rest = (total - rounded.astype("float32")) * REST_SCALE
            both = tirx.if_then_else(second == 0, rounded, rest.astype(spec.dtype))
            return _where(valid, both, spec.dtype)

        value = whole if form.halves == 1 else half
        return te.compute(form.packed_shape(problem), value, name="packed_weight")

    return declare_packed(spec, problem, form, form.packed_shape(problem), pack_weight)


def _where(valid: list[Expr], value: Expr, dtype: str) -> Expr:
    """The value where all tests hold, else 0."""
    return tirx.if_then_else(tirx.all(*valid), value, tirx.const(0.0, dtype)) if valid else value


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
