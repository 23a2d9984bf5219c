"""The matrix product that a convolution is: rows of pixels, columns of channels, a depth of runs.

    y[slice][row][channel] = sum over taps and e in the run of
        x[pixel(row) * stride + origin(phase) + tap * step][e] * weight[slice][tap, e][channel]

A slice is a group and a phase. A *run* is what lies side by side in x: the input channels of a
pixel, or, where these are few, the channels of all taps of a row. Runs are read in chunks of 16
bytes, so x must have its channels last at multiples of 16 bytes, or is staged that way first. In
channels-first x of a 1x1 layer pixels lie side by side instead: chunks are of pixels, and matrices
are turned when they are loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd, prod

from tvmconv.problem import Axis, Problem, Strides

# Bytes of one asynchronous copy, and of one row of the matrices that ldmatrix reads.
CHUNK_BYTES = 16
SMALLEST_COPY = 4


@dataclass(frozen=True)
class Staging:
    """A padded copy of x in workspace: group, n, d, h, w, channel.

    Attributes:
        extents: sizes d, h, w; coordinates count from each axis' low.
        channels: of one group, with those that are zero.
        every: what part of x is copied along d, h, w: each column, or each stride-th.
    """

    extents: tuple[int, int, int]
    channels: int
    every: tuple[int, int, int] = (1, 1, 1)

    def elems(self, problem: Problem) -> int:
        """Elements of the copy."""
        return problem.g * max(1, problem.n) * prod(self.extents) * self.channels


@dataclass(frozen=True)
class Product:
    """A problem as the kernels read it.

    Attributes:
        problem: the canonical problem.
        chunk: elements of 16 bytes.
        axes: d, h, w as the kernels walk them; of a folded w the taps are part of the run.
        x: strides of what is read, x itself or its copy.
        run: elements of one run, whole chunks.
        filled: those of them that are read; the others are zero.
        channels: elements of the run that belong to one tap of a folded w; else the run.
        staging: the copy, or None where x is read in place.
        together: pixels that are copied at once where chunks are of pixels, else 0.
    """

    problem: Problem
    chunk: int
    axes: tuple[Axis, Axis, Axis]
    x: Strides
    run: int
    filled: int
    channels: int
    staging: Staging | None
    together: int = 0

    @property
    def phases(self) -> int:
        """Phases of all axes together."""
        return prod(axis.phases for axis in self.axes)

    @property
    def slices(self) -> int:
        """Matrix products that are independent: groups times phases."""
        return self.problem.g * self.phases

    @property
    def rows(self) -> int:
        """Pixels of one phase, of the whole batch."""
        return max(1, self.problem.n) * prod(axis.quotients for axis in self.axes)

    @property
    def depth(self) -> int:
        """Elements that the largest phase sums, rounded runs counted whole."""
        return prod(axis.taps for axis in self.axes) * self.run

    @property
    def is_folded(self) -> bool:
        """Whether the taps of a row are one run."""
        return self.channels < self.run

    def is_guarded(self, axis: int) -> bool:
        """Whether taps along an axis may leave x, so that reading needs a test."""
        return self.staging is None and self.problem.axes[axis].is_padded


def product_of(problem: Problem, elem_bytes: int, turns: bool = False) -> Product:
    """The matrix product of a problem; x is staged where it cannot be read in place.

    Args:
        problem: the canonical problem.
        elem_bytes: of an element.
        turns: whether matrices of 16-bit elements can be turned when they are loaded.
    """
    chunk = CHUNK_BYTES // elem_bytes
    if turns and (together := _pixels_together(problem, chunk)):
        run = problem.icg
        return Product(problem, chunk, problem.axes, problem.x, run, run, run, None, together)
    plain = pixels_of(problem, elem_bytes)
    folded = None if plain.staging is None else _folded(problem, chunk)
    return folded if folded is not None and folded.depth < plain.depth else plain


def pixels_of(problem: Problem, elem_bytes: int) -> Product:
    """The product whose runs are the channels of single pixels, of x or of its copy."""
    chunk = CHUNK_BYTES // elem_bytes
    if not _reads_in_place(problem, chunk):
        return _staged(problem, chunk)
    channels = problem.icg
    return Product(problem, chunk, problem.axes, problem.x, channels, channels, channels, None)


def _reads_in_place(problem: Problem, chunk: int) -> bool:
    """Whether every run starts at a multiple of 16 bytes and what lies outside x is zero."""
    strides = (problem.x.n, problem.x.g, *problem.x.space)
    extents = (problem.n, problem.g, *(axis.in_extent for axis in problem.axes))
    aligned = all(s % chunk == 0 for s, e in zip(strides, extents, strict=True) if e > 1)
    zeros = not problem.is_padded or (problem.padding_mode == "zeros")
    return problem.x.c == 1 and problem.icg % chunk == 0 and aligned and zeros


def _pixels_together(problem: Problem, chunk: int) -> int:
    """Pixels that one copy moves where they are a channel's neighbours; 0 where none can."""
    d, h, w = problem.axes
    plain = w.is_plain and d.out_extent == h.out_extent == 1 and d.is_plain and h.is_plain
    if not plain or problem.x.space[2] != 1 or problem.x.c == 1:
        return 0
    strides = ((problem.x.n, problem.n), (problem.x.g, problem.g), (problem.x.c, problem.icg))
    together = gcd(chunk, w.in_extent, *(stride for stride, extent in strides if extent > 1))
    return together if together * CHUNK_BYTES // chunk >= SMALLEST_COPY else 0


def _window(axis: Axis) -> int:
    return max(1, axis.high - axis.low)


def _staged(problem: Problem, chunk: int) -> Product:
    channels = -(-problem.icg // chunk) * chunk
    # Without taps each stride-th column is all that is read.
    sparse = [axis.taps == 1 and axis.phases == 1 for axis in problem.axes]
    d, h, w = (
        replace(axis, stride=1) if alone else axis
        for axis, alone in zip(problem.axes, sparse, strict=True)
    )
    every = [axis.stride if alone else 1 for axis, alone in zip(problem.axes, sparse, strict=True)]
    staging = Staging(
        (_window(d), _window(h), _window(w)), channels, (every[0], every[1], every[2])
    )
    return _reading(problem, chunk, staging, (d, h, w), channels, channels)


def _folded(problem: Problem, chunk: int) -> Product | None:
    """Taps of a row and their channels as one run: few channels then fill whole chunks."""
    d, h, w = problem.axes
    if w.step != 1 or w.phases != 1 or w.taps == 1:
        return None
    channels = next(c for c in range(problem.icg, problem.icg + chunk) if w.stride * c % chunk == 0)
    # Rows start at whole chunks too.
    columns = next(e for e in range(_window(w), _window(w) + chunk) if e * channels % chunk == 0)
    staging = Staging((_window(d), _window(h), columns), channels)
    filled = w.taps * channels
    run = -(-filled // chunk) * chunk
    row = replace(w, tap_counts=(1,), first_taps=(0,))
    return _reading(problem, chunk, staging, (d, h, row), run, filled)


def _reading(
    problem: Problem,
    chunk: int,
    staging: Staging,
    axes: tuple[Axis, Axis, Axis],
    run: int,
    filled: int,
) -> Product:
    """A product that reads the copy, whose coordinates count from each axis' low."""
    d, h, w = staging.extents
    c = staging.channels
    strides = Strides(d * h * w * c, max(1, problem.n) * d * h * w * c, 1, (h * w * c, w * c, c))
    shifted = tuple(
        replace(axis, origins=tuple(origin - axis.low for origin in axis.origins)) for axis in axes
    )
    return Product(problem, chunk, shifted, strides, run, filled, c, staging)  # type: ignore[arg-type]
