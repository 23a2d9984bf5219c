"""How Winograd's outputs are blocked: tiles of an axis, blocks of tiles, chunks of channels."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from tvmconv.declare.direct import TRANSPOSE_UNIT
from tvmconv.declare.form import Output
from tvmconv.problem import Axis, Problem
from tvmconv.tolerance import LONG_SUMS
from tvmconv.winograd import Filtering, filtering

# Terms that are summed in one run; their weights for 32 outputs take a third of L1.
MOST_SUMMED = 128
# The same of transforms that enlarge what the sums lose more than F(5, 3) does.
FEWER_SUMMED = 32


def run_of_sums(alphas: int) -> int:
    """Most terms that are summed in one run, by the sum of both axes' alphas."""
    return MOST_SUMMED if alphas <= LONG_SUMS else FEWER_SUMMED


def parts_of_sum(channels: int, taps: int, run: int, chains: int) -> int:
    """Parts of a sum over channels, with so many taps each, of at most ``run`` terms a chain.

    Twice as many where that makes them equal: a test in each step costs more.
    """
    least = -(-channels // (chains * max(1, run // taps)))
    equal = (p for p in range(least, 2 * least + 1) if channels % (p * chains) == 0)
    return next(equal, least)


@dataclass(frozen=True)
class TiledAxis:
    """One spatial axis in tiles of m outputs, ``block`` bands of them at a time.

    A band is m outputs of each of the ``step`` interleaved sub-images: m * step neighbouring
    outputs, ``step`` tiles. A stride takes x and the taps apart by their residues: the taps k of
    one residue k % stride are a filter of unit stride over every stride-th input.
    """

    axis: Axis
    m: int
    block: int

    @property
    def filtering(self) -> Filtering:
        """F(m, taps of one residue)."""
        return filtering(self.m, self.axis.residue_taps)

    @property
    def step(self) -> int:
        """Distance of neighbouring taps; one where there is a single tap."""
        return self.axis.step if self.axis.taps > 1 else 1

    @property
    def bands(self) -> int:
        """Bands of the whole axis."""
        return -(-self.axis.quotients // (self.m * self.step))

    @property
    def blocks(self) -> int:
        """Blocks of the whole axis, rounded up."""
        return -(-self.bands // self.block)

    @property
    def tiles(self) -> int:
        """Tiles of one block."""
        return self.block * self.step

    @property
    def outputs(self) -> int:
        """Outputs of one block, per phase."""
        return self.tiles * self.m

    @property
    def window(self) -> int:
        """Inputs that one block reads, all phases together."""
        spread = max(self.axis.origins) - self.axis.low
        whole = (self.block * self.m + self.axis.residue_taps - 1) * self.step + spread
        return (whole - 1) * self.axis.stride + self.axis.residues

    def position(self, tile: Any, i: Any) -> Any:
        """Place of a tile's i-th input of a residue, or output, within the block."""
        if self.step == 1:
            return tile * self.m + i
        return (tile // self.step * self.m + i) * self.step + tile % self.step

    def read_at(self, tile: Any, i: Any, residue: Any) -> Any:
        """Place in x of a tile's i-th input of a residue, within the block."""
        at = self.position(tile, i)
        return at if self.axis.stride == 1 else at * self.axis.stride + residue

    def parts(self, output: Any) -> tuple[Any, Any, Any]:
        """Band, output of a tile and sub-image of an output of the block."""
        width = self.m * self.step
        return output // width, output % width // self.step, output % self.step


@dataclass(frozen=True)
class WinogradForm:
    """A config's part that changes the compute.

    Attributes:
        depth: outputs along d of one block.
        h: rows.
        w: columns.
        tile_t: tiles of one register tile; divides the tiles of a block.
        tile_oc: output channels of one register tile, padded; whole vectors.
        chunk: blocks of tile_oc whose products are kept before their outputs are transformed.
        stage: "pixels" copies x channels-last, "transposed" does so from channels-first x.
        channels_last: whether y has its channels innermost.
        lanes: float32 values in a vector.
        square: side of the squares in which rows are transposed.
        woven: channels-first rows and vectors of channels are woven by the machine's own moves (ld4
            and st4 of ARM), so outputs are stored without squares.
        chains: runs of sums that a register tile keeps side by side, of every chains-th channel.
    """

    depth: int
    h: TiledAxis
    w: TiledAxis
    tile_t: int
    tile_oc: int
    chunk: int
    stage: str
    channels_last: bool
    lanes: int
    square: int = TRANSPOSE_UNIT
    woven: bool = False
    chains: int = 1
    per_lane: bool = False

    @property
    def tiles(self) -> int:
        """Tiles of one block: the rows of each matrix product."""
        return self.h.tiles * self.w.tiles

    @property
    def columns(self) -> int:
        """Columns of one block of ``out``: whole squares of the transposition, channels-first."""
        if self.channels_last or self.woven:
            return self.w.outputs
        return -(-self.w.outputs // self.square) * self.square

    @property
    def spare_columns(self) -> int:
        """Columns of ``out`` beyond the block's own, which are not stored."""
        return self.columns - self.w.outputs

    def column_at(self, column: Any) -> tuple[Any, ...]:
        """Indices of a column of ``xpad``: by squares where it is transposed."""
        if self.stage == "transposed":
            return column // self.square, column % self.square
        return (column,)

    @property
    def residues(self) -> int:
        """Residues along h and w together."""
        return self.h.axis.residues * self.w.axis.residues

    def residue_of(self, e: Any) -> tuple[Any, Any]:
        """Those of one of them along h and along w."""
        return e // self.w.axis.residues, e % self.w.axis.residues

    def channels(self, problem: Problem) -> int:
        """Output channels of a group."""
        return problem.ocg

    def channels_in(self, problem: Problem) -> int:
        """Input channels of a group in whole vectors; the added ones hold zeros."""
        unit = self.square if self.stage == "transposed" else self.lanes
        return -(-problem.icg // unit) * unit

    def ic_parts(self, problem: Problem) -> tuple[int, int]:
        """Parts that the sum over input channels is cut into, and channels of each chain."""
        run = run_of_sums(self.h.filtering.alpha + self.w.filtering.alpha)
        taps = problem.axes[0].taps * self.residues
        parts = parts_of_sum(problem.icg, taps, run, self.chains)
        return parts, -(-problem.icg // (parts * self.chains))

    def blocks(self, problem: Problem) -> int:
        """Blocks of tile_oc channels, rounded up to whole chunks."""
        needed = -(-problem.ocg // self.tile_oc)
        return -(-needed // self.chunk) * self.chunk

    def blocks_of_outputs(self, problem: Problem) -> tuple[int, int, int]:
        """Blocks along d, h and w."""
        return -(-problem.axes[0].out_extent // self.depth), self.h.blocks, self.w.blocks

    def block_strides(self, problem: Problem) -> tuple[int, int, int]:
        """Inputs from one block to the next along d, h and w."""
        h, w = (tiled.outputs * tiled.axis.stride for tiled in (self.h, self.w))
        return self.depth * problem.axes[0].stride, h, w

    def windows(self, problem: Problem) -> tuple[int, int, int]:
        """Inputs that one block reads along d, h and w."""
        d = problem.axes[0]
        return d.window(self.depth) - d.low, self.h.window, self.w.window

    def block_shape(self, problem: Problem) -> tuple[int, ...]:
        """Extents of the axes n, g, and blocks."""
        return (max(1, problem.n), problem.g, *self.blocks_of_outputs(problem))

    def phase_shape(self, problem: Problem) -> tuple[int, ...]:
        """The same and the phases along h and w."""
        return (*self.block_shape(problem), self.h.axis.phases, self.w.axis.phases)

    def covered(self, problem: Problem) -> tuple[int, int, int]:
        """Outputs per phase along d, h and w in whole blocks."""
        d, h, w = self.blocks_of_outputs(problem)
        columns = (w - 1) * self.w.outputs + self.columns
        return d * self.depth, h * self.h.outputs, columns

    def out_shape(self, problem: Problem) -> tuple[int, ...]:
        """Shape of ``out``: what is contiguous in y comes last."""
        outer = (*self.phase_shape(problem), self.depth, self.blocks(problem))
        if self.channels_last:
            return (*outer, self.h.outputs, self.columns, self.tile_oc)
        return (*outer, self.tile_oc, self.h.outputs, self.columns)

    def at(self, index: tuple[Any, ...]) -> Output:
        """Name the parts of an index of ``out``."""
        n, g, bd, bh, bw, ph, pw, qd, b, *rest = index
        row, column, lane = rest if self.channels_last else (rest[1], rest[2], rest[0])
        q = (bd * self.depth + qd, bh * self.h.outputs + row, bw * self.w.outputs + column)
        return Output(n, g, b, (0, ph, pw), q, lane)

    def weight_shape(self, problem: Problem) -> tuple[int, ...]:
        """Packed weight: g, phases, chunk, a, b, block of the chunk, kd, residue, ic, channel."""
        return (
            problem.g,
            self.h.axis.phases,
            self.w.axis.phases,
            self.blocks(problem) // self.chunk,
            self.h.filtering.alpha,
            self.w.filtering.alpha,
            self.chunk,
            problem.axes[0].taps,
            self.residues,
            problem.icg,
            self.tile_oc,
        )

    def weight_elems(self, problem: Problem) -> int:
        """Float32 values of the packed weight; the epilogue's vectors follow it."""
        return prod(self.weight_shape(problem))

    def vector_elems(self, problem: Problem) -> int:
        """Float32 values of one packed epilogue vector."""
        return problem.g * self.blocks(problem) * self.tile_oc
