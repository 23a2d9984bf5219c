"""The sum as a product of matrices: pixels by terms, times terms by channels.

    conv[g, p, b, m, v] = sum over k of xcol[g, p, k, m] * weight[g, p, b, k, v]
    xcol[g, p, k, m]    = x at pixel m = (n, qd, qh, qw) under term k = (kd, kh, kw, ic)

p are the phases of a transposed convolution, b blocks of tile_oc channels v. Pixels and terms are
counted through, so that tiles of any size fit maps of any size: all batches and pixels share the
one axis m, all taps and channels the one axis k, and each is rounded up to whole tiles once.
A schedule keeps tiles of ``xcol`` in shared memory; the whole is never in memory ("implicit GEMM",
Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any

from tvm import te, tirx

from tvmconv.declare.border import read_padded
from tvmconv.declare.declaration import (
    Declaration,
    Placement,
    by_phase,
    flat_index,
    tap_position,
    widened,
)
from tvmconv.declare.epilogue import epilogue
from tvmconv.declare.form import Output
from tvmconv.declare.packing import (
    arguments,
    declare_packed,
    kernel_index,
    moved_dtype,
    output_channel,
    packed_elems,
    weight_offset,
)
from tvmconv.declare.sampling import sampler
from tvmconv.problem import Problem
from tvmconv.spec import ConvSpec

Expr = Any
# Gives x in float32 for group, phases, pixel (n and quotients), taps, channel and further tests.
Reader = Callable[..., Expr]


@dataclass(frozen=True)
class ProductForm:
    """Tiles of the product.

    Attributes:
        tile_m: pixels of a tile, counted over batches.
        tile_oc: output channels of a tile, padded.
        tile_k: terms of a step.
        slices: parts of the terms that are summed apart, by blocks of their own, where a map has
            too few tiles for all of a GPU's processors.
        pixels_last: pixels innermost in the slices' sums, else channels.
    """

    tile_m: int
    tile_oc: int
    tile_k: int
    slices: int = 1
    pixels_last: bool = False
    per_lane: bool = False

    @property
    def order(self) -> tuple[str, ...]:
        """Axes of ``conv`` and ``out``."""
        return ("g", "pd", "ph", "pw", "b", "m", "v")

    def channels(self, problem: Problem) -> int:
        """Output channels of a group."""
        return problem.ocg

    def blocks(self, problem: Problem) -> int:
        """Blocks of tile_oc channels, rounded up."""
        return -(-problem.ocg // self.tile_oc)

    def pixels(self, problem: Problem) -> int:
        """Pixels of a phase, rounded up to whole tiles."""
        return _round_up(pixels(problem), self.tile_m)

    def terms(self, problem: Problem) -> int:
        """Terms of a sum, rounded up to whole steps of each slice."""
        return _round_up(problem.reduction, self.tile_k * self.slices)

    def phases(self, problem: Problem) -> tuple[int, int, int]:
        """Phases of each axis."""
        d, h, w = problem.axes
        return d.phases, h.phases, w.phases

    def at(self, index: tuple[Any, ...]) -> Output:
        """Not all parts exist: an index counts pixels through (see ``split_pixel``)."""
        g, *phase, b, m, v = index
        return Output(n=m, g=g, b=b, phase=tuple(phase), q=(0, 0, m), v=v)

    def weight_shape(self, problem: Problem) -> tuple[int, ...]:
        """Shape of the packed weight: g, phases d h w, block, term, channel."""
        lead = (problem.g, *self.phases(problem), self.blocks(problem))
        return (*lead, self.terms(problem), self.tile_oc)

    def weight_elems(self, problem: Problem) -> int:
        """Elements of the packed weight."""
        return prod(self.weight_shape(problem))

    def vector_elems(self, problem: Problem) -> int:
        """Elements of one packed epilogue vector."""
        return problem.g * self.blocks(problem) * self.tile_oc


def pixels(problem: Problem) -> int:
    """Outputs of one phase and channel, over all batches."""
    return max(1, problem.n) * prod(axis.quotients for axis in problem.axes)


def split_pixel(problem: Problem, m: Expr) -> tuple[Expr, tuple[Expr, Expr, Expr]]:
    """Batch and quotients d h w of a pixel."""
    quotients = []
    for axis in reversed(problem.axes):
        quotients.append(m % axis.quotients)
        m = m // axis.quotients
    w, h, d = quotients
    return m, (d, h, w)


def split_term(problem: Problem, k: Expr) -> tuple[tuple[Expr, Expr, Expr], Expr]:
    """Taps d h w and input channel of a term."""
    ic, k = k % problem.icg, k // problem.icg
    _, h, w = (axis.taps for axis in problem.axes)
    return (k // (h * w), k // w % h, k % w), ic


def declare_product(spec: ConvSpec, problem: Problem, form: ProductForm) -> Declaration:
    """Declare ``run`` of any spec: x, packed, [residual,] [offset, [mask]] to y."""
    inputs = arguments(spec, problem, packed_elems(spec, problem, form))
    xcol = _gather(problem, form, reader(spec, problem, inputs))
    weight = packed_weight(form.weight_shape(problem), inputs["packed"])
    lead = (problem.g, *form.phases(problem), form.blocks(problem))
    shape = (*lead, form.pixels(problem), form.tile_oc)
    multiply = _multiply if form.slices == 1 else _multiply_slices
    sums = multiply(form, shape, form.terms(problem), xcol, weight)
    placement = output_placement(problem, form)
    out = epilogue(spec, problem, form, shape, sums, inputs, placement)
    return Declaration(inputs, ((out, placement),), "y", form.order)


def _multiply(
    form: ProductForm, shape: tuple[int, ...], terms: int, xcol: te.Tensor, weight: te.Tensor
) -> te.Tensor:
    """Stage ``conv``."""
    k = te.reduce_axis((0, terms), name="k")

    def product(*index: Expr) -> Expr:
        *lead, b, m, v = index
        return te.sum(xcol[(*lead, k, m)] * weight[(*lead, b, k, v)], axis=k)

    return te.compute(shape, product, name="conv")


def _multiply_slices(
    form: ProductForm, shape: tuple[int, ...], terms: int, xcol: te.Tensor, weight: te.Tensor
) -> te.Tensor:
    """Stages ``conv`` and ``part``, the sums of slices, and ``total``, the sum of those."""
    length = terms // form.slices
    k = te.reduce_axis((0, length), name="k")
    s = te.reduce_axis((0, form.slices), name="s")

    def product(part: Expr, *index: Expr) -> Expr:
        *lead, b, m, v = index
        at = part * length + k
        return te.sum(xcol[(*lead, at, m)] * weight[(*lead, b, at, v)], axis=k)

    conv = te.compute((form.slices, *shape), product, name="conv")
    part = stored(conv, "part", form.pixels_last)

    def total(*index: Expr) -> Expr:
        *lead, m, v = index
        last = (v, m) if form.pixels_last else (m, v)
        return te.sum(part[(s, *lead, *last)], axis=s)

    return te.compute(shape, total, name="total")


def stored(sums: te.Tensor, name: str, pixels_last: bool) -> te.Tensor:
    """A stage of the sums by pixels and channels, in the order in which threads write them."""
    *lead, pixels_, channels = (int(extent) for extent in sums.shape)
    if not pixels_last:
        return te.compute(sums.shape, lambda *index: sums[index], name=name)
    return te.compute(
        (*lead, channels, pixels_),
        lambda *index: sums[(*index[:-2], index[-1], index[-2])],
        name=name,
    )


def packed_weight(shape: tuple[int, ...], packed: te.Tensor) -> te.Tensor:
    """Stage ``weight``: the packed weight by its axes, in float32."""
    return te.compute(shape, lambda *i: widened(packed[flat_index(i, shape)]), name="weight")


def reader(spec: ConvSpec, problem: Problem, inputs: dict[str, te.Tensor]) -> Reader:
    """How a term's element is read: padded, or sampled for deformable specs."""
    if spec.op == "deform_conv":
        return _read_samples(spec, problem, inputs)
    x = inputs["x"]
    extents = tuple(axis.high - axis.low for axis in problem.axes)

    def read(
        g: Expr,
        phase: Sequence[Expr],
        pixel: tuple[Expr, tuple[Expr, ...]],
        taps: Sequence[Expr],
        ic: Expr,
        valid: Sequence[Expr],
    ) -> Expr:
        n, quotients = pixel
        tests, local = list(valid), []
        for axis, q, p, tap in zip(problem.axes, quotients, phase, taps, strict=True):
            if axis.is_uneven:
                tests.append(tap < by_phase(axis.tap_counts, p))
            local.append(tap_position(axis, q, p, tap) - axis.low)
        if isfinite(problem.pad_value):
            return read_padded(x, problem, extents, n, g, ic, local, tests)
        # Where a test fails, the weight is zero; an infinite padding value would make NaN of it.
        return _or_zero(tests, read_padded(x, problem, extents, n, g, ic, local))

    return read


def _or_zero(tests: Sequence[Expr], value: Expr) -> Expr:
    """The value where all tests hold."""
    if not tests:
        return value
    return tirx.if_then_else(tirx.all(*tests), value, tirx.const(0.0, "float32"))


def _read_samples(spec: ConvSpec, problem: Problem, inputs: dict[str, te.Tensor]) -> Reader:
    sample = sampler(spec, problem, inputs)
    per_group = spec.ic // spec.offset_groups

    def read(
        g: Expr,
        phase: Sequence[Expr],
        pixel: tuple[Expr, tuple[Expr, ...]],
        taps: Sequence[Expr],
        ic: Expr,
        valid: Sequence[Expr],
    ) -> Expr:
        n, (_, qh, qw) = pixel
        c = g * problem.icg + ic
        return _or_zero(valid, sample(n, c // per_group, qh, qw, taps[1], taps[2], c % per_group))

    return read


def _gather(problem: Problem, form: ProductForm, read: Reader) -> te.Tensor:
    """Stage ``xcol``, zero in the pixels and terms that do not exist."""
    shape = (problem.g, *form.phases(problem), form.terms(problem), form.pixels(problem))

    def value(g: Expr, *rest: Expr) -> Expr:
        *phase, k, m = rest
        valid = [m < pixels(problem)] if form.pixels(problem) > pixels(problem) else []
        if form.terms(problem) > problem.reduction:
            valid.append(k < problem.reduction)
        return read(g, phase, split_pixel(problem, m), *split_term(problem, k), valid)

    return te.compute(shape, value, name="xcol")


def output_placement(problem: Problem, form: ProductForm) -> Placement:
    """Blocked ``out`` to the user's layout: phases interleave, whole tiles are cropped."""

    def position(index: tuple[Expr, ...]) -> tuple[Expr, tuple[Expr, ...], Expr]:
        _, *phase, b, m, v = index
        n, quotients = split_pixel(problem, m)
        space = (q * a.phases + p for a, q, p in zip(problem.axes, quotients, phase, strict=True))
        return n, tuple(space), b * form.tile_oc + v

    def offset(*index: Expr) -> Expr:
        n, space, c = position(index)
        return problem.y.offset(n, index[0], c, space)

    def guards(*index: Expr) -> list[Expr]:
        _, space, c = position(index)
        m, tests = index[-2], []
        if form.pixels(problem) > pixels(problem):
            tests.append(m < pixels(problem))
        tests += [
            at < axis.out_extent
            for axis, at in zip(problem.axes, space, strict=True)
            if axis.quotients * axis.phases > axis.out_extent
        ]
        if form.blocks(problem) * form.tile_oc > problem.ocg:
            tests.append(c < problem.ocg)
        return tests

    return Placement("out", "y", max(1, problem.y_elems), offset, guards)


def declare_product_packing(spec: ConvSpec, problem: Problem, form: ProductForm) -> Declaration:
    """Declare ``pack``: weight and the epilogue's vectors, to packed."""
    kernel = (1,) * (3 - spec.rank) + spec.kernel

    def pack_weight(weight: te.Tensor) -> te.Tensor:
        def value(g: Expr, *rest: Expr) -> Expr:
            *phase, b, k, v = rest
            group, o, valid = output_channel(problem, form, g, b, v)
            taps, ic = split_term(problem, k)
            if form.terms(problem) > problem.reduction:
                valid.append(k < problem.reduction)
            at = []
            for axis, p, tap, size in zip(problem.axes, phase, taps, kernel, strict=True):
                if axis.is_uneven:
                    valid.append(tap < by_phase(axis.tap_counts, p))
                at.append(kernel_index(axis, p, tap, size, spec.flip))
            tap = flat_index(at, kernel)
            element = weight[weight_offset(spec, problem, group, o, ic, tap)]
            if not valid:
                return element
            return tirx.if_then_else(tirx.all(*valid), element, tirx.const(0, moved_dtype(spec)))

        return te.compute(form.weight_shape(problem), value, name="packed_weight")

    return declare_packed(spec, problem, form, form.weight_shape(problem), pack_weight)


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
