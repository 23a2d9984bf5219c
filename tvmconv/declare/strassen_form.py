"""How the outputs of a Strassen product are cut: parts, blocks of them, register tiles."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from tvmconv.declare.declaration import by_phase
from tvmconv.declare.direct import TRANSPOSE_UNIT
from tvmconv.declare.form import Output
from tvmconv.problem import Axis, Problem
from tvmconv.strassen import parts, products

# Terms of a sum in one run; runs are added, so that the error hardly grows with the channels.
MOST_TERMS = 288


@dataclass(frozen=True)
class StrassenForm:
    """A config's part that changes the compute.

    Attributes:
        levels: of the recursion; x is cut into 2 or 4 parts of its pixels and of its channels.
        along: which axis the pixels are cut on, 1 for rows and 2 for columns.
        vector: "oc" puts output channels in the lanes, "ow" output columns.
        tile_oc: output channels of a register tile, padded.
        tile_oh: output rows of a register tile.
        tile_ow: output columns of a register tile.
        block_oh: output rows of one part in a block; a multiple of tile_oh.
        block_ow: output columns of one part in a block; a multiple of tile_ow.
        chunk: blocks of tile_oc whose products are kept before they are added up.
        staged: whether x is copied, with its padding, before it is added.
        channels_last: whether x has its channels innermost.
        output_channels_last: whether y has.
        square: side of the squares in which results are transposed.
    """

    levels: int
    along: int
    vector: str
    tile_oc: int
    tile_oh: int
    tile_ow: int
    block_oh: int
    block_ow: int
    chunk: int
    staged: bool
    channels_last: bool
    output_channels_last: bool
    square: int = TRANSPOSE_UNIT
    per_lane: bool = False

    @property
    def parts(self) -> int:
        """Parts of the pixels, of the input and of the output channels."""
        return parts(self.levels)

    @property
    def products(self) -> int:
        """Products of parts that are computed."""
        return products(self.levels)

    @property
    def turned(self) -> bool:
        """Whether results are transposed: lanes of channels for a y with its columns innermost."""
        return self.vector == "oc" and not self.output_channels_last

    @property
    def block(self) -> tuple[int, int, int]:
        """Outputs of one part along d, h and w."""
        return 1, self.block_oh, self.block_ow

    @property
    def span(self) -> tuple[int, int, int]:
        """Outputs of one block, all parts together, along d, h and w."""
        d, h, w = self.block
        return (d, h * self.parts, w) if self.along == 1 else (d, h, w * self.parts)

    @property
    def columns(self) -> int:
        """Columns of a part's block of ``out``: whole squares where they are transposed."""
        unit = self.square if self.turned else 1
        return -(-self.block_ow // unit) * unit

    def channels(self, problem: Problem) -> int:
        """Output channels of a group."""
        return problem.ocg

    def channels_in(self, problem: Problem) -> int:
        """Input channels of a part; the last part is filled up with zeros."""
        return -(-problem.icg // self.parts)

    def runs(self, problem: Problem) -> tuple[int, int]:
        """Runs that the sum over a part's input channels is cut into, and channels of each."""
        channels = self.channels_in(problem)
        count = runs_of(channels, prod(axis.taps for axis in problem.axes))
        return count, channels // count

    def part_blocks(self, problem: Problem) -> int:
        """Blocks of tile_oc channels in one part, rounded up to whole chunks.

        Parts take turns: block b of part j is block b * parts + j of all.
        """
        needed = -(-problem.ocg // (self.parts * self.tile_oc))
        return -(-needed // self.chunk) * self.chunk

    def blocks(self, problem: Problem) -> int:
        """Blocks of tile_oc channels, all parts together."""
        return self.parts * self.part_blocks(problem)

    def blocks_of_outputs(self, problem: Problem) -> tuple[int, int, int]:
        """Blocks along d, h and w."""
        d, h, w = (
            -(-axis.quotients // span) for axis, span in zip(problem.axes, self.span, strict=True)
        )
        return d, h, w

    def block_shape(self, problem: Problem) -> tuple[int, ...]:
        """Extents of the axes n, g, and blocks."""
        return (max(1, problem.n), problem.g, *self.blocks_of_outputs(problem))

    def phase_shape(self, problem: Problem) -> tuple[int, ...]:
        """The same and the phases."""
        return (*self.block_shape(problem), *(axis.phases for axis in problem.axes))

    def window(self, problem: Problem) -> tuple[int, int, int]:
        """Inputs of one part: a single tap reads one per output, whatever the stride."""
        d, h, w = (
            block if is_sampled(axis) else axis.window(block) - axis.low
            for axis, block in zip(problem.axes, self.block, strict=True)
        )
        return d, h, w

    def padded_window(self, problem: Problem) -> tuple[int, int, int]:
        """Inputs of one block, with those that a stride passes over."""
        d, h, w = (
            axis.window(span) - axis.low for axis, span in zip(problem.axes, self.span, strict=True)
        )
        return d, h, w

    def out_shape(self, problem: Problem) -> tuple[int, ...]:
        """Shape of ``out``: block of channels, parts, and what is contiguous in y last."""
        outer = (*self.phase_shape(problem), self.part_blocks(problem), self.parts, self.parts)
        if self.output_channels_last:
            return (*outer, self.block_oh, self.columns, self.tile_oc)
        return (*outer, self.tile_oc, self.block_oh, self.columns)

    def at(self, index: tuple[Any, ...]) -> Output:
        """Name the parts of an index of ``out``."""
        n, g, bd, bh, bw, pd, ph, pw, b, i, j, *rest = index
        row, column, lane = rest if self.output_channels_last else (rest[1], rest[2], rest[0])
        first = [at * span for at, span in zip((bd, bh, bw), self.span, strict=True)]
        first[self.along] = first[self.along] + i * self.block[self.along]
        q = (first[0], first[1] + row, first[2] + column)
        return Output(n, g, b * self.parts + j, (pd, ph, pw), q, lane)

    def weight_shape(self, problem: Problem) -> tuple[int, ...]:
        """Packed weight: g, phases, chunk, product, block of the chunk, run, taps, ic, channel."""
        count, channels = self.runs(problem)
        return (
            problem.g,
            *(axis.phases for axis in problem.axes),
            self.part_blocks(problem) // self.chunk,
            self.products,
            self.chunk,
            count,
            *(axis.taps for axis in problem.axes),
            channels,
            self.tile_oc,
        )

    def weight_elems(self, problem: Problem) -> int:
        """Float32 values of the packed weight; the epilogue's vectors follow it."""
        return prod(self.weight_shape(problem))

    def vector_elems(self, problem: Problem) -> int:
        """Float32 values of one packed epilogue vector."""
        return problem.g * self.blocks(problem) * self.tile_oc


def runs_of(channels: int, taps: int) -> int:
    """Equal runs of at most MOST_TERMS terms, or of one channel."""
    needed = -(-channels * taps // MOST_TERMS)
    return next(n for n in range(min(needed, channels), channels + 1) if channels % n == 0)


def is_sampled(axis: Axis) -> bool:
    """Whether a window holds an input per output: one tap, at the same place in all phases."""
    return axis.taps == 1 and len(set(axis.origins)) == 1


def tap_of(axis: Axis, q: Any, phase: Any, tap: Any) -> Any:
    """Place in a part's window that output q of a phase reads for a tap."""
    if is_sampled(axis):
        return q
    return q * axis.stride + by_phase(axis.origins, phase) - axis.low + tap * axis.step


def input_of(axis: Axis, i: Any) -> Any:
    """Input coordinate, from the first that its part reads, of a place in the window."""
    return i * axis.stride if is_sampled(axis) else i
