"""Copies that run ahead: steps of a loop in several stages of shared memory, filled by cp.async.

    for k in steps:                     steps 0 to stages - 2 are on their way, a group each
        barrier                         for k in steps:
        tile = x                            wait for the group of step k; barrier
        barrier                             start step k + stages - 1; close its group
        sums += tile                        sums += tile[k % stages]

The one barrier does for both: behind it all threads see what each has waited for, and all have left
the stage of step k - 1, which is where step k + stages - 1 goes. Groups are closed in every step,
empty ones at the end, so that each wait is for the same number of groups (as in Thakkar et al.,
CUTLASS, 2017 on).

This runs when barriers are in place, and copies are still loads and stores. A store that is no
copy, as of a padding value, stays one: the same barriers order it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import tvm_ffi
from tvm import ir, tirx

from tvmconv.arithmetic import ITEM_BYTES
from tvmconv.lower.masked import is_choice, replace
from tvmconv.lower.sums import is_zero

# Annotation of a loop over steps: stages of shared memory, two at least.
STAGES = "tvmconv.stages"
# Bytes that one cp.async moves.
_WIDTHS = (4, 8, 16)

Expr = Any


@dataclass(frozen=True)
class _Steps:
    """A loop over steps, taken apart.

    Attributes:
        loop: as it was.
        stages: copies of its buffers in shared memory.
        buffers: of one step, and of all stages.
        copies: statements that fill the buffers.
        barrier: one of those that ordered them.
        rest: statements that read the buffers.
    """

    loop: tirx.For
    stages: int
    buffers: tuple[tuple[tirx.Buffer, tirx.Buffer], ...]
    copies: tuple[tirx.Stmt, ...]
    barrier: tirx.Stmt
    rest: tuple[tirx.Stmt, ...]

    def grown(self, buffer: tirx.Buffer) -> tirx.Buffer | None:
        """The buffer of all stages in place of that of one step."""
        return next((new for old, new in self.buffers if old.same_as(buffer)), None)

    def at(self, buffer: tirx.Buffer, index: Expr, step: Expr) -> Expr:
        """Where an element of a step's stage lies."""
        shift = tirx.floormod(step, _int(self.stages)) * _elems(buffer)
        if isinstance(index, tirx.Ramp):
            return tirx.Ramp(index.base + shift, index.stride, index.lanes)
        return index + shift


def stage_copies(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Rewrite every annotated loop. Calls are those of tvmconv/cuda/async_copy.cuh."""
    found: list[_Steps] = []

    def visit(loop: tirx.For) -> tirx.Stmt:
        if STAGES not in loop.annotations:
            return loop
        found.append(_take_apart(loop))
        return _pipeline(found[-1])

    def allocate(node: tirx.AllocBuffer) -> tirx.AllocBuffer:
        for steps in found:
            if (grown := steps.grown(node.buffer)) is not None:
                return tirx.AllocBuffer(grown, node.annotations)
        return node

    body = tvm_ffi.structural_map(func.body, (tirx.For, visit))
    return func.with_body(tvm_ffi.structural_map(body, (tirx.AllocBuffer, allocate)))


def _take_apart(loop: tirx.For) -> _Steps:
    stages = int(loop.annotations[STAGES])
    barriers = [part for part in loop.body.seq if _is_barrier(part)]
    filled = [(part, _filled(part)) for part in loop.body.seq if not _is_barrier(part)]
    buffers = [buffer for _, buffers in filled for buffer in buffers]
    return _Steps(
        loop,
        stages,
        tuple((buffer, _grow(buffer, stages)) for buffer in buffers),
        tuple(part for part, buffers in filled if buffers),
        barriers[0],
        tuple(part for part, buffers in filled if not buffers),
    )


def _filled(part: tirx.Stmt) -> list[tirx.Buffer]:
    """Buffers in shared memory that a statement stores to, each once."""
    found: list[tirx.Buffer] = []

    def store(node: tirx.BufferStore) -> tirx.BufferStore:
        buffer = node.buffer
        if buffer.scope() == "shared" and not any(buffer.same_as(one) for one in found):
            found.append(buffer)
        return node

    tvm_ffi.structural_map(part, (tirx.BufferStore, store))
    return found


def _pipeline(steps: _Steps) -> tirx.Stmt:
    """The copies of the first steps, and the loop."""
    loop, ahead, close = steps.loop, steps.stages - 1, _call("close_group")
    first = [part for i in range(ahead) for part in (*_started(steps, _int(i)), close)]
    wait = _call(f"await_group<{ahead - 1}>")
    later = tirx.SeqStmt(_started(steps, loop.loop_var + ahead))
    start = tirx.IfThenElse(loop.loop_var + ahead < loop.extent, later, None)
    body = tirx.SeqStmt([wait, steps.barrier, start, close, *_read(steps)])
    kept = {k: v for k, v in loop.annotations.items() if k != STAGES}
    made = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, None, kept)
    return tirx.SeqStmt([*first, made])


def _started(steps: _Steps, step: Expr) -> list[tirx.Stmt]:
    """The copies of a step, into its stage."""

    def store(node: tirx.BufferStore) -> tirx.Stmt:
        grown = steps.grown(node.buffer)
        if grown is None:
            return node
        at = steps.at(node.buffer, node.indices[0], step)
        return _copy(grown, at, node.value) or tirx.BufferStore(grown, node.value, [at])

    parts = [_fresh(replace(part, steps.loop.loop_var, step)) for part in steps.copies]
    return [tvm_ffi.structural_map(part, (tirx.BufferStore, store)) for part in parts]


def _read(steps: _Steps) -> Sequence[tirx.Stmt]:
    """What a step does with its stage."""

    def load(node: ir.TensorLoad) -> ir.TensorLoad:
        grown = steps.grown(node.source)
        if grown is None:
            return node
        at = steps.at(node.source, node.indices[0], steps.loop.loop_var)
        return tirx.BufferLoad(grown, [at])

    return [tvm_ffi.structural_map(part, (ir.TensorLoad, load)) for part in steps.rest]


def _copy(to: tirx.Buffer, at: Expr, value: Expr) -> tirx.Stmt | None:
    """A copy that is started, in place of a store of what is read, or of zero where a test fails.

    None where the value is something else.
    """
    inside: Expr = tirx.const(True, "bool")
    if is_choice(value):
        inside, value, other = value.args
        if not is_zero(other):
            return None
    if not isinstance(value, ir.TensorLoad) or value.source.scope() != "global":
        return None
    (index,) = value.indices
    size = _lanes(index) * ITEM_BYTES[str(value.source.dtype)]
    if size not in _WIDTHS:
        return None
    places = (_address(to, at), _address(value.source, index))
    return _call(f"start_copy<{size}>", *places, inside)


def _address(buffer: tirx.Buffer, index: Expr) -> Expr:
    first = index.base if isinstance(index, tirx.Ramp) else index
    return tirx.address_of(tirx.BufferLoad(buffer, [first]))


def _lanes(index: Expr) -> int:
    """Neighbours that an index means."""
    return int(index.lanes) if isinstance(index, tirx.Ramp) else 1


def _grow(buffer: tirx.Buffer, stages: int) -> tirx.Buffer:
    shape = (stages * _elems(buffer),)
    return tirx.decl_buffer(shape, buffer.dtype, buffer.name, scope=buffer.scope())


def _elems(buffer: tirx.Buffer) -> int:
    return prod(int(extent) for extent in buffer.shape)


def _fresh(part: tirx.Stmt) -> tirx.Stmt:
    """The same with loop variables of its own."""

    def loop(node: tirx.For) -> tirx.For:
        var = tirx.Var(node.loop_var.name, "int32")
        body = replace(node.body, node.loop_var, var)
        return tirx.For(var, node.min, node.extent, node.kind, body, None, node.annotations)

    return tvm_ffi.structural_map(part, (tirx.For, loop))


def _is_barrier(part: tirx.Stmt) -> bool:
    if not isinstance(part, tirx.Evaluate) or not isinstance(part.value, ir.Call):
        return False
    return bool(part.value.op.name == "tirx.tvm_storage_sync")


def _call(name: str, *args: Expr) -> tirx.Stmt:
    return tirx.Evaluate(tirx.call_extern("int32", name, *args))


def _int(value: int) -> Expr:
    return tirx.const(value, "int32")
