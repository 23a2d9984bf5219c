"""How Winograd's algorithm cuts a problem into tiles, and the matrix product that it becomes.

A product has a slice for each group, phase and point (a, b), and a row for each tile. Nothing is
transformed along d: there it has taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tvmconv.cuda.gemm.product import CHUNK_BYTES, Product, pixels_of
from tvmconv.declare.winograd_form import TiledAxis
from tvmconv.problem import Axis, Problem, Strides


@dataclass(frozen=True)
class Tiles:
    """How a problem's outputs are cut into tiles, and what that makes of it.

    Attributes:
        problem: the canonical problem.
        h: rows, in one block of tiles.
        w: columns, the same.
        elem_bytes: of an element of x, v and u.
    """

    problem: Problem
    h: TiledAxis
    w: TiledAxis
    elem_bytes: int = 2

    @cached_property
    def pixels(self) -> Product:
        """How x is read: in place, or from a copy with its padding and whole chunks of channels."""
        return pixels_of(self.problem, self.elem_bytes)

    @property
    def points(self) -> int:
        """Products of a tile and a pair of channels."""
        return self.h.filtering.alpha * self.w.filtering.alpha

    @property
    def outer(self) -> int:
        """Groups times phases."""
        return self.problem.g * self.h.axis.phases * self.w.axis.phases

    @property
    def depth(self) -> Axis:
        """The axis d over the slices of v, which has no padding."""
        d, read = self.problem.axes[0], self.pixels.axes[0]
        return Axis(
            in_extent=max(1, read.high - read.low),
            out_extent=d.out_extent,
            stride=read.stride,
            step=read.step,
            tap_counts=(d.taps,),
        )

    @property
    def tiles_in(self) -> int:
        """Tiles of v: of all batches and slices."""
        return max(1, self.problem.n) * self.depth.in_extent * self.h.tiles * self.w.tiles

    @property
    def v_elems(self) -> int:
        """Elements of v."""
        return self.outer * self.points * self.tiles_in * self.pixels.run

    @cached_property
    def product(self) -> Product:
        """The matrix products of all points, as one product of a slice for each."""
        run, tiles = self.pixels.run, self.h.tiles * self.w.tiles
        image = self.depth.in_extent * tiles * run
        v = Strides(image, self.tiles_in * run, 1, (tiles * run, tiles * run, run))
        rows = max(1, self.problem.n) * self.depth.out_extent * tiles
        slices = self.outer * self.points
        problem = Problem(
            n=max(1, self.problem.n),
            g=slices,
            icg=run,
            ocg=self.problem.ocg,
            axes=(self.depth, Axis(1, 1), Axis(tiles, tiles)),
            x=v,
            y=Strides(0, 0, 1, (0, 0, 0)),
            x_elems=self.v_elems,
            y_elems=slices * rows * self.problem.ocg,
            padding_mode="zeros",
            pad_value=0.0,
        )
        chunk = CHUNK_BYTES // self.elem_bytes
        return Product(problem, chunk, problem.axes, v, run, run, run, None)
