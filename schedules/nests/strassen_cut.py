"""How Strassen's product cuts the pixels: along which axis, in which blocks, and what is wasted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tvmconv.declare.strassen_form import is_sampled
from tvmconv.problem import Axis, Problem

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Cut:
    """One axis of every config: what a part's block covers."""

    axis: Axis
    block: Array
    span: Array

    @property
    def blocks(self) -> Array:
        """Blocks of the whole axis."""
        return -(-self.axis.quotients // self.span)

    @property
    def window(self) -> Array:
        """Inputs of one part, as StrassenForm.window has them."""
        window: Array = self.block if is_sampled(self.axis) else self._inputs(self.block)
        return window

    @property
    def padded(self) -> Array:
        """Inputs of one block, with those that a stride passes over."""
        return self._inputs(self.span)

    @property
    def waste(self) -> Array:
        """Outputs computed per output stored."""
        return self.blocks * self.span / self.axis.quotients

    def _inputs(self, outputs: Array) -> Array:
        taps = (self.axis.taps - 1) * self.axis.step + 1
        return (outputs - 1) * self.axis.stride + max(self.axis.origins) - self.axis.low + taps


def cut_rows(problem: Problem) -> bool:
    """Whether pixels are cut by rows; by columns where all of them are one row."""
    return problem.axes[1].quotients > 1


def columns_fill_lanes(problem: Problem) -> bool:
    """Whether output columns can be the lanes: neighbours in x and in y."""
    w = problem.axes[2]
    last = problem.channels_last or problem.output_channels_last
    return not last and w.stride == 1
