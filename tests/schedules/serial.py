"""GPU schedules run on this CPU: threads one after another, shared memory as plain memory.

It checks indices, tiles and borders; not barriers, since a thread here fills shared memory alone.
"""

from math import prod
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm import s_tir, tirx

from tvmconv.build import schedule
from tvmconv.kernel import Kernel
from tvmconv.lower.place import place_outputs
from tvmconv.operands import Operands
from tvmconv.template import Task, get_template

Array = NDArray[Any]
PASSES = (
    s_tir.transform.CanonicalizeLoop,
    s_tir.transform.LowerInitBlock,
    s_tir.transform.PlanAndUpdateBufferAllocationLocation,
    s_tir.transform.ConvertBlocksToOpaque,
    s_tir.transform.CompactBufferAllocation,
    s_tir.transform.LowerMatchBuffer,
    s_tir.transform.StmtSimplify,
    s_tir.transform.LowerOpaqueBlock,
)


def serial(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Every loop over blocks and threads as an ordinary loop, and nvcc's hints left out."""

    def unbound(loop: tirx.For) -> tirx.For:
        bound = loop.kind == tirx.ForKind.THREAD_BINDING
        kind = tirx.ForKind.SERIAL if bound else loop.kind
        return tirx.For(loop.loop_var, loop.min, loop.extent, kind, loop.body)

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, unbound)))


def run(kernel: Kernel, operands: Operands) -> Array:
    """What the kernel's schedule computes."""
    task = Task(kernel.spec, kernel.target)
    template = get_template(kernel.template_id)
    declaration, _, sch = schedule(task, template, kernel.config)
    module = tvm.IRModule({"main": serial(sch.mod["main"])})
    loops = tvm.transform.Sequential([p() for p in PASSES])(module)["main"]
    placed = place_outputs(loops, declaration.placements, declaration.result, masks=False)
    library = tvm.compile(placed.with_attr("global_symbol", "main"), target="llvm")
    packed = kernel.pack(operands.weight, operands.bias, scale=operands.scale, shift=operands.shift)
    given = {"x": operands.x, "packed": packed, **operands.keywords()}
    inputs = [tvm.runtime.tensor(given[name].reshape(-1)) for name in declaration.inputs]
    y = tvm.runtime.tensor(np.full(prod(kernel.spec.out_shape), np.nan, kernel.spec.dtype))
    library(*inputs, y)
    found: Array = y.numpy()
    return found.reshape(kernel.spec.out_shape)
