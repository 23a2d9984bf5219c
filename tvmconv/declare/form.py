"""The part of a config that changes the compute: what a vector holds, and the padded extents."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

from tvmconv.problem import Problem


@dataclass(frozen=True)
class Output:
    """One output, as expressions: batch, group, block, phases and quotients d h w, channel."""

    n: Any
    g: Any
    b: Any
    phase: tuple[Any, Any, Any]
    q: tuple[Any, Any, Any]
    v: Any


class Blocking(Protocol):
    """What packing and the epilogue need to know of a form: its blocks of output channels."""

    @property
    def tile_oc(self) -> int:
        """Output channels of one block, padded."""

    @property
    def per_lane(self) -> bool:
        """Whether lanes run across groups."""

    def at(self, index: tuple[Any, ...]) -> Output:
        """Name the parts of an index of ``out``."""

    def channels(self, problem: Problem) -> int:
        """Output channels that share the outer loop over groups."""

    def blocks(self, problem: Problem) -> int:
        """Blocks of tile_oc channels, rounded up."""

    def weight_elems(self, problem: Problem) -> int:
        """Float32 values of the packed weight."""

    def vector_elems(self, problem: Problem) -> int:
        """Float32 values of one packed epilogue vector."""


@dataclass(frozen=True)
class Form:
    """How the output is blocked and the input staged.

    Attributes:
        vector: "oc" puts output channels in the lanes, "ow" puts output columns there.
        tile_oc: output channels of one block, padded; a multiple of the lanes when vector is "oc".
        tile_oh: output rows of one register tile.
        tile_ow: output columns of one register tile; a multiple of the lanes when vector is "ow".
        block_oh: output rows that share one staged window; a multiple of tile_oh.
        block_ow: output columns that share one staged window; a multiple of tile_ow.
        stage: "none" reads x in place, "pixels" copies it channels-last, "planes" copies it
            channels-first (with columns of equal remainder by the stride together, so that a vector
            of outputs reads consecutive elements), "transposed" and "turned" make pixels of planes
            and planes of pixels, "guarded" reads x in place under tests.
        per_lane: each lane has its own input channels (depthwise and small groups); otherwise all
            lanes of a block share one group.
        square: side of the squares in which channels-first x becomes pixels.
    """

    vector: str
    tile_oc: int
    tile_oh: int
    tile_ow: int
    block_oh: int
    block_ow: int
    stage: str
    per_lane: bool = False
    square: int = 16

    def groups(self, problem: Problem) -> int:
        """Outer loop over groups: one when lanes run across groups."""
        return 1 if self.per_lane else problem.g

    def channels(self, problem: Problem) -> int:
        """Output channels that share the outer loop over groups."""
        return problem.g * problem.ocg if self.per_lane else problem.ocg

    def blocks(self, problem: Problem) -> int:
        """Blocks of tile_oc channels, rounded up."""
        return -(-self.channels(problem) // self.tile_oc)

    def quotients(self, problem: Problem) -> tuple[int, int, int]:
        """Outputs per phase and axis, rounded up to whole blocks."""
        d, h, w = (a.quotients for a in problem.axes)
        return d, _round_up(h, self.block_oh), _round_up(w, self.block_ow)

    @property
    def order(self) -> tuple[str, ...]:
        """Axes of ``conv`` and ``out``, innermost last: what the lanes hold lies together."""
        tile = ("qh", "qw", "v") if self.vector == "oc" else ("v", "qh", "qw")
        return ("n", "g", "b", "pd", "ph", "pw", "qd", *tile)

    def extents(self, problem: Problem) -> dict[str, int]:
        """Extent of each axis of ``order``."""
        named = {"n": max(1, problem.n), "g": self.groups(problem), "b": self.blocks(problem)}
        for axis, name, q in zip(problem.axes, "dhw", self.quotients(problem), strict=True):
            named[f"p{name}"] = axis.phases
            named[f"q{name}"] = q
        return {**named, "v": self.tile_oc}

    def blocked_shape(self, problem: Problem) -> tuple[int, ...]:
        """Shape of ``conv`` and ``out``."""
        extents = self.extents(problem)
        return tuple(extents[name] for name in self.order)

    def at(self, index: tuple[Any, ...]) -> Output:
        """Name the parts of an index of ``conv`` or ``out``."""
        named = dict(zip(self.order, index, strict=True))
        return Output(
            n=named["n"],
            g=named["g"],
            b=named["b"],
            phase=(named["pd"], named["ph"], named["pw"]),
            q=(named["qd"], named["qh"], named["qw"]),
            v=named["v"],
        )

    def weight_shape(self, problem: Problem) -> tuple[int, ...]:
        """Shape of the packed weight: g, block, phases d h w, taps d h w, ic, channel."""
        return (
            self.groups(problem),
            self.blocks(problem),
            *(a.phases for a in problem.axes),
            *(a.taps for a in problem.axes),
            problem.icg,
            self.tile_oc,
        )

    def weight_elems(self, problem: Problem) -> int:
        """Float32 values of the packed weight; the epilogue's vectors follow it."""
        return prod(self.weight_shape(problem))

    def vector_elems(self, problem: Problem) -> int:
        """Float32 values of one packed epilogue vector (bias, scale or shift)."""
        return self.groups(problem) * self.blocks(problem) * self.tile_oc


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
