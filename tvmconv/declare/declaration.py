"""What a declaration is: TE tensors, the order of the arguments, and where blocked results go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx

from tvmconv.problem import Axis

Expr = Any


@dataclass(frozen=True)
class Placement:
    """Where a blocked stage is written: ``buffer[offset(*indices)]`` where all guards hold.

    TE writes whole tensors, so a declaration ends in a blocked tensor whose extents are whole
    tiles. Lowering replaces each of its stores by this one (tvmconv/lower/place.py): transposition
    to the user's layout, interleaving of phases and cropping cost no pass over memory.
    """

    stage: str
    buffer: str
    elems: int
    offset: Callable[..., Expr]
    guards: Callable[..., list[Expr]]


@dataclass(frozen=True)
class Declaration:
    """One function to schedule.

    Attributes:
        inputs: TE placeholders by argument name, in call order.
        outputs: blocked TE tensors, each with its placement.
        result: name of the flat buffer argument that the placements write, last in call order.
        order: names of the axes of ``conv``; empty where nothing is reduced.
        repeats: whether TVM looks for repeated values; in long straight lines LLVM is faster.
    """

    inputs: dict[str, te.Tensor]
    outputs: tuple[tuple[te.Tensor, Placement], ...]
    result: str
    order: tuple[str, ...] = ()
    repeats: bool = True

    @property
    def args(self) -> tuple[str, ...]:
        """Argument names in call order."""
        return (*self.inputs, self.result)

    @property
    def placements(self) -> tuple[Placement, ...]:
        """Where each output goes."""
        return tuple(p for _, p in self.outputs)

    def prim_func(self) -> tirx.PrimFunc:
        """The unscheduled function; its last parameters are the blocked outputs."""
        return te.create_prim_func([*self.inputs.values(), *(t for t, _ in self.outputs)])


def widened(value: Expr) -> Expr:
    """An element in float32, in which everything is computed whatever the tensors hold."""
    return value if str(value.dtype) == "float32" else value.astype("float32")


def flat_index(indices: Sequence[Expr], shape: Sequence[int]) -> Expr:
    """Row-major offset of an element; extents of one contribute nothing."""
    offset: Expr = 0
    for index, extent in zip(indices, shape, strict=True):
        offset = offset * extent + (index if extent > 1 else 0)
    return offset


def by_phase(values: Sequence[int], phase: Expr) -> Expr:
    """``values[phase]`` as an expression: a constant, an affine form, or a chain of selects."""
    if len(set(values)) == 1:
        return values[0]
    step = values[1] - values[0]
    if all(value == values[0] + i * step for i, value in enumerate(values)):
        return phase * step + values[0]
    chain: Expr = tirx.const(values[-1], "int32")
    for i in range(len(values) - 2, -1, -1):
        chain = tirx.Select(phase == i, tirx.const(values[i], "int32"), chain)
    return chain


def pick(values: Sequence[Expr], index: Expr) -> Expr:
    """``values[index]``; folds to one of them where the loop over the index is unrolled."""
    chain = values[-1]
    for i in range(len(values) - 2, -1, -1):
        chain = tirx.Select(index == i, values[i], chain)
    return chain


def tap_position(axis: Axis, quotient: Expr, phase: Expr, tap: Expr) -> Expr:
    """Input coordinate that output ``quotient * phases + phase`` reads for a tap."""
    return quotient * axis.stride + by_phase(axis.origins, phase) + tap * axis.step
