"""How an FFT tiles the output: tiles of each axis, blocks of tiles, vectors of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvmconv.declare.direct import TRANSPOSE_UNIT
from tvmconv.declare.form import Output
from tvmconv.declare.roots import Ring
from tvmconv.problem import Axis, Problem

Expr = Any
NO_TRANSFORM = Ring((), real=False)


def shared_zeros(problem: Problem, axis: Axis) -> int:
    """Zeros that both ends of an axis have: one transform of it may lay them upon each other."""
    if problem.padding_mode not in ("zeros", "constant") or problem.pad_value != 0:
        return 0
    return max(0, min(-axis.low, axis.high - axis.in_extent, (axis.taps - 1) * axis.step))


@dataclass(frozen=True)
class SpectralAxis:
    """One spatial axis: transformed in tiles of ``ring.samples``, or its taps summed one by one.

    What wraps around in a tile that holds the whole axis but for ``zeros`` meets zeros alone, so no
    output of it is wrong: 28 columns under 31 taps, 58 with their padding, need 43 samples.
    """

    axis: Axis
    ring: Ring = NO_TRANSFORM
    zeros: int = 0

    @classmethod
    def of(cls, problem: Problem, axis: Axis, ring: Ring = NO_TRANSFORM) -> SpectralAxis:
        """An axis of a problem, which says what its padding holds."""
        return cls(axis, ring, shared_zeros(problem, axis))

    @property
    def is_summed(self) -> bool:
        """True when the taps are part of the reduction and each output is a tile."""
        return self.ring == NO_TRANSFORM

    @property
    def span(self) -> int:
        """Inputs between the first and the last tap, both counted."""
        return (self.axis.taps - 1) * self.axis.step + 1

    @property
    def whole(self) -> int:
        """Inputs between the first and the last that any output reads, both counted."""
        return (self.axis.out_extent - 1) * self.axis.stride + self.span

    @property
    def enough(self) -> int:
        """Samples of a tile that has every output."""
        return self.whole - self.zeros

    @property
    def outputs(self) -> int:
        """Outputs of one tile; those that wrap around are dropped, strides skip the others."""
        if self.is_summed:
            return 1
        if self.ring.samples >= self.enough:
            return self.axis.out_extent
        return (self.ring.samples - self.span) // self.axis.stride + 1

    @property
    def tiles(self) -> int:
        """Tiles of the axis, rounded up."""
        return -(-self.axis.out_extent // self.outputs)

    @property
    def summed_taps(self) -> int:
        """Taps that the reduction runs over."""
        return self.axis.taps if self.is_summed else 1

    @property
    def extent(self) -> int:
        """Inputs that all tiles together read."""
        own = self.span if self.is_summed else self.ring.samples
        return (self.tiles - 1) * self.outputs * self.axis.stride + own

    def position(self, tile: Expr, sample: Expr, tap: Expr) -> Expr:
        """Input that a sample of a tile is, counted from the axis' low."""
        own = tap * self.axis.step if self.is_summed else sample
        return tile * (self.outputs * self.axis.stride) + own


@dataclass(frozen=True)
class FftForm:
    """A config's part that changes the compute.

    Attributes:
        d: the depth, never transformed.
        h: rows.
        w: columns, a real transform.
        block: tiles whose spectra are kept together; the rows of each matrix product.
        tile_t: tiles of one register tile; divides block.
        tile_b: vectors of output channels of one register tile.
        lanes: float32 values in a vector.
        fused: multiply while a tile is transformed back, not for a block of tiles at once.
        per_lane: lanes run across groups of one input channel.
        rows_in: rows of x are staged and transposed, since its columns are neighbours.
        rows_out: rows of y are transposed and stored, for the same reason.
    """

    d: SpectralAxis
    h: SpectralAxis
    w: SpectralAxis
    block: int
    tile_t: int
    tile_b: int
    lanes: int
    fused: bool
    per_lane: bool = False
    rows_in: bool = False
    rows_out: bool = False

    @property
    def axes(self) -> tuple[SpectralAxis, SpectralAxis, SpectralAxis]:
        """All three, outermost first."""
        return self.d, self.h, self.w

    @property
    def tile_oc(self) -> int:
        """One vector of channels is transformed at a time."""
        return self.lanes

    @property
    def radices(self) -> tuple[int, ...]:
        """Digits of a frequency: columns first, then rows."""
        return self.w.ring.radices + self.h.ring.radices

    @property
    def bins(self) -> int:
        """Complex frequencies of one tile."""
        return prod(self.radices)

    def channels(self, problem: Problem) -> int:
        """Output channels that share the loop over groups."""
        return problem.g * problem.ocg if self.per_lane else problem.ocg

    def groups(self, problem: Problem) -> int:
        """Outer loop: groups, or vectors of channels where each lane has a group."""
        return -(-self.channels(problem) // self.lanes) if self.per_lane else problem.g

    def blocks(self, problem: Problem) -> int:
        """Vectors of channels as the epilogue counts them."""
        vectors = -(-self.channels(problem) // self.lanes)
        return vectors if self.per_lane else -(-vectors // self.tile_b) * self.tile_b

    def vectors(self, problem: Problem) -> int:
        """Vectors of output channels per outer group."""
        return 1 if self.per_lane else self.blocks(problem)

    def reduction(self, problem: Problem) -> int:
        """Products per frequency and output: input channels, and taps of axes that are summed."""
        return problem.icg * prod(axis.summed_taps for axis in self.axes)

    def tiles(self, problem: Problem) -> int:
        """Tiles of all images."""
        return max(1, problem.n) * prod(axis.tiles for axis in self.axes)

    def tile_blocks(self, problem: Problem) -> int:
        """Blocks of tiles, rounded up."""
        return -(-self.tiles(problem) // self.block)

    def batch(self, problem: Problem) -> int:
        """Vectors of transforms of one block: tiles and channels side by side in the lanes."""
        transforms = self.block * self.reduction(problem)
        return transforms if self.per_lane else -(-transforms // self.lanes)

    def tile_at(self, t: Expr) -> tuple[Expr, Expr, Expr, Expr]:
        """Image and tile along each axis of a tile's number."""
        d, h, w = (axis.tiles for axis in self.axes)
        return t // (d * h * w), t // (h * w) % d, t // w % h, t % w

    def term_at(self, problem: Problem, k: Expr) -> tuple[tuple[Expr, Expr, Expr], Expr]:
        """Summed taps and input channel of a term of the reduction."""
        d, h, w = (axis.summed_taps for axis in self.axes)
        tap = k // problem.icg
        return (tap // (h * w) % d, tap // w % h, tap % w), k % problem.icg

    def weight_shape(self, problem: Problem) -> tuple[int, ...]:
        """Packed spectrum, in the order in which the product reads it."""
        g, k, vectors = self.groups(problem), self.reduction(problem), self.vectors(problem)
        if self.fused:
            return (g, vectors, *self.radices, k, 2, self.lanes)
        return (g, *self.radices, vectors // self.tile_b, k, 2, self.tile_b, self.lanes)

    def weight_at(self, g: Expr, b: Expr, bin: Sequence[Expr], k: Expr, part: Expr, v: Expr) -> Any:
        """Index into ``weight_shape``."""
        if self.fused:
            return (g, b, *bin, k, part, v)
        return (g, *bin, b // self.tile_b, k, part, b % self.tile_b, v)

    def twiddle_offset(self, problem: Problem, axis: SpectralAxis, level: int) -> int:
        """Where a level's powers lie in the packed buffer, behind the spectrum."""
        offset = prod(self.weight_shape(problem))
        for each in (self.w, self.h):
            for i in range(len(each.ring.radices)):
                if each is axis and i == level:
                    return offset
                offset += twiddle_elems(each.ring, i)
        return offset

    def weight_elems(self, problem: Problem) -> int:
        """Float32 values of the packed spectrum and of all powers of roots."""
        tables = (
            twiddle_elems(axis.ring, level)
            for axis in (self.w, self.h)
            for level in range(len(axis.ring.radices))
        )
        return prod(self.weight_shape(problem)) + sum(tables)

    def vector_elems(self, problem: Problem) -> int:
        """Float32 values of one packed epilogue vector (bias, scale or shift)."""
        return (1 if self.per_lane else problem.g) * self.blocks(problem) * self.lanes

    def out_shape(self, problem: Problem) -> tuple[int, ...]:
        """Shape of ``out``: group, block of tiles, tile, vector, rows; columns and lanes."""
        g, blocks, vectors = self.groups(problem), self.tile_blocks(problem), self.vectors(problem)
        lead = (g, blocks, self.block, vectors, self.h.outputs)
        if self.rows_out:
            return (*lead, self.lanes, self.columns)
        return (*lead, self.columns, self.lanes)

    @property
    def columns(self) -> int:
        """Columns of one tile of ``out``: whole squares where they are transposed."""
        if not self.rows_out:
            return self.w.outputs
        return -(-self.w.outputs // TRANSPOSE_UNIT) * TRANSPOSE_UNIT

    def at(self, index: tuple[Any, ...]) -> Output:
        """Name the parts of an index of ``out``."""
        g, tb, ti, b, row, column, v = index
        if self.rows_out:
            column, v = v, column
        n, d, h, w = self.tile_at(tb * self.block + ti)
        q = (d, h * self.h.outputs + row, w * self.w.outputs + column)
        group, block = (0, g) if self.per_lane else (g, b)
        return Output(n=n, g=group, b=block, phase=(0, 0, 0), q=q, v=v)


def twiddle_elems(ring: Ring, level: int) -> int:
    """Float32 values of a level's powers."""
    return prod(ring.twiddle_shape(level)) if ring.has_twiddles(level) else 0
