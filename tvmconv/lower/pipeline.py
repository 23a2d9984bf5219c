"""TVM's lowering passes for CPUs with ours in between, and the object file at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import s_tir, tirx

from tvmconv.declare.declaration import Declaration
from tvmconv.errors import BuildFailed
from tvmconv.lower.certain import without_certain_tests
from tvmconv.lower.clip import bound_loops, find_bounds, without_cancelled_terms
from tvmconv.lower.elements import share_elements
from tvmconv.lower.fused import fuse_products
from tvmconv.lower.guarded import vectorize_guarded
from tvmconv.lower.indices import widen_indices
from tvmconv.lower.place import place_outputs
from tvmconv.lower.prefetch import insert_prefetches
from tvmconv.lower.rows import vectorize_rows
from tvmconv.lower.squares import turn_squares
from tvmconv.lower.stack import keep_on_stack
from tvmconv.lower.sums import start_sums
from tvmconv.lower.workspace import workspace_bytes
from tvmconv.problem import Problem
from tvmconv.target import Target

# Blocks to plain loops. The CPU part of tvm.s_tir.pipeline, in its order, with ours in between.
_TO_PLACED_BUFFERS = (
    s_tir.transform.CanonicalizeLoop,
    s_tir.transform.LowerInitBlock,
    s_tir.transform.PlanAndUpdateBufferAllocationLocation,
)
_TO_COMPACT_BUFFERS = (
    s_tir.transform.ConvertBlocksToOpaque,
    s_tir.transform.CompactBufferAllocation,
    s_tir.transform.LowerMatchBuffer,
)
_TO_LOOPS = (
    s_tir.transform.StmtSimplify,
    s_tir.transform.LowerOpaqueBlock,
)
# Plain loops to straight-line vector code.
_TO_STRAIGHT_LINES: tuple[Callable[[], Any], ...] = (
    s_tir.transform.CanonicalizeLoop,
    tirx.transform.FlattenBuffer,
    lambda: tirx.transform.NarrowDataType(32),
    s_tir.transform.LoopPartition,
    lambda: tirx.transform.VectorizeLoop(True),
    tirx.transform.StorageRewrite,
    s_tir.transform.HoistIfThenElse,
    tirx.transform.UnrollLoop,
    s_tir.transform.RenormalizeSplitPattern,
    tirx.transform.StmtSimplify,
    tirx.transform.RemoveNoOp,
)
# The same behind TVM's packed calling convention. The asserts on arguments are left out: the C
# wrapper checks what they would (tvmconv/runtime).
_TO_CALLS = (
    s_tir.transform.RewriteUnsafeSelect,
    tirx.transform.CommonSubexprElim,
    tirx.transform.SplitHostDevice,
    tirx.transform.MakePackedAPI,
    tirx.transform.SkipAssert,
)
_TO_INTRINSICS = (tirx.transform.LowerTVMBuiltin, tirx.transform.LowerIntrin)

# Attribute of a function: whether repeated values are looked for before LLVM does.
REPEATS = "tvmconv.repeats"


def to_loops(
    func: tirx.PrimFunc,
    declaration: Declaration,
    symbol: str,
    clipped: Problem | None = None,
    *,
    masks: bool = True,
) -> tirx.PrimFunc:
    """Plain loops that write the flat result; what ``inspect`` shows as the loop nest.

    ``clipped`` is the problem whose taps are clipped. That comes after buffers got their places and
    sizes: TVM puts a buffer outside every loop whose bounds vary, where the accumulators must stay
    inside, and allocates the whole axis that such a loop reads. ``masks`` is the target's.
    """
    with tvm.transform.PassContext(opt_level=3):
        func = _run(_TO_PLACED_BUFFERS, func)
        bounds = None if clipped is None else find_bounds(func, clipped, declaration.order)
        func = _run(_TO_COMPACT_BUFFERS, func)
        if bounds is not None:
            func = bound_loops(func, bounds)
        func = without_certain_tests(_run(_TO_LOOPS, func))
        func = vectorize_rows(insert_prefetches(func))
        guarded = vectorize_guarded(func)
    placed = place_outputs(guarded or func, declaration.placements, declaration.result, masks=masks)
    # TVM fails on a repeated mask of constants.
    if guarded is not None or not declaration.repeats:
        placed = placed.with_attr(REPEATS, False)
    return placed.with_attr("global_symbol", symbol)


def _run(passes: Sequence[Callable[[], Any]], func: tirx.PrimFunc) -> tirx.PrimFunc:
    module = tvm.transform.Sequential([p() for p in passes])(tvm.IRModule({"main": func}))
    return module["main"]


@dataclass(frozen=True)
class Compiled:
    """Machine code of functions.

    Attributes:
        object_bytes: object file; the entries are ``__tvm_ffi_<symbol>``.
        asm: assembly text; empty when it was not asked for.
        workspace_bytes: most workspace that each function takes (lower/workspace.py).
    """

    object_bytes: bytes
    asm: str
    workspace_bytes: dict[str, int]


def lower_to_object(
    funcs: dict[str, tirx.PrimFunc], target: Target, *, listing: bool = True
) -> Compiled:
    """Machine code of loop-level functions, with assembly text when `listing` is set.

    Raises:
        BuildFailed: when TVM or LLVM refuse the functions.
    """
    try:
        library, workspace = _compile(funcs, target)
    except (RuntimeError, ValueError) as error:
        raise BuildFailed(f"TVM refused the lowered kernel: {error}") from error
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        path = Path(folder) / "kernel.o"
        library.write_to_file(str(path), "o")
        asm = library.inspect_source("asm") if listing else ""
        return Compiled(path.read_bytes(), asm, workspace)


def _compile(
    funcs: dict[str, tirx.PrimFunc], target: Target
) -> tuple[tvm.runtime.Module, dict[str, int]]:
    config = {
        # Remainders of vectors become masked stores.
        "tirx.enable_buffer_level_predication": True,
        # Rows without padding tests for all but the first and last columns.
        "s_tir.LoopPartition": {"partition_const_loop": True},
    }
    with tvm.transform.PassContext(opt_level=3, config=config):
        funcs = {s: without_cancelled_terms(_turned(func)) for s, func in funcs.items()}
        machine = tvm.target.Target(target.tvm())
        narrow = tvm.target.Target(target.tvm(scalable=False))
        module = tirx.transform.BindTarget(narrow.with_host(narrow))(tvm.IRModule(funcs))
        module = tvm.transform.Sequential([p() for p in _TO_STRAIGHT_LINES])(module)
        if target.lanes_multiply:
            module = _each(share_elements, module)
        if not target.masks:
            module = _each(start_sums, module)
        if target.machine == "armv7l" and target.fma and target.lanes > 2:
            module = _each(fuse_products, module)
        if target.pointer_bits == 64 and not target.masks:
            module = _each(widen_indices, module)
        repeats = all(func.attrs.get(REPEATS, True) for func in funcs.values())
        passes = [p for p in _TO_CALLS if repeats or p is not tirx.transform.CommonSubexprElim]
        module = tvm.transform.Sequential([p() for p in passes])(module)
        module = _each(keep_on_stack, module)
        module = tvm.transform.Sequential([p() for p in _TO_INTRINSICS])(module)
        workspace = {
            str(func.attrs["global_symbol"]).removeprefix("__tvm_ffi_"): workspace_bytes(func)
            for func in module.functions.values()
        }
        return tvm.get_global_func("target.build.llvm")(module, machine), workspace


def _turned(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """With its transpositions written out, which make its listing hard to read."""
    turned = turn_squares(func)
    return func if turned is None else turned.with_attr(REPEATS, False)


def _each(change: Callable[[tirx.PrimFunc], tirx.PrimFunc], module: tvm.IRModule) -> tvm.IRModule:
    return tvm.IRModule({var: change(func) for var, func in module.functions.items()})


def without_work(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """The same function with an empty body: what a batch of zero needs."""
    return func.with_body(tirx.Evaluate(0))
