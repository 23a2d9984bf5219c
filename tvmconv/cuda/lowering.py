"""From a schedule to device code: TVM's passes for GPUs with ours in between, and CUDA source.

No driver, no GPU and no compiler is needed: TVM writes source, and the host function that it would
launch from tells grids, blocks and arguments. Buffers between launches are allocated in that host
function; here they become named workspace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any, Final

import tvm
import tvm_ffi
from tvm import ir, s_tir, tirx

from tvmconv.arithmetic import ITEM_BYTES
from tvmconv.cuda.code import DeviceCode, Launch
from tvmconv.declare.declaration import Declaration
from tvmconv.errors import BuildFailed
from tvmconv.lower.place import place_outputs
from tvmconv.lower.stages import stage_copies
from tvmconv.target import Target

Passes = Sequence[Callable[[], Any]]
# Schedules to loops over threads: tvm.s_tir.pipeline in its order.
_TO_LOOPS: Passes = (
    s_tir.transform.CanonicalizeLoop,
    s_tir.transform.LowerCrossThreadReduction,
    s_tir.transform.LowerInitBlock,
    s_tir.transform.PlanAndUpdateBufferAllocationLocation,
    s_tir.transform.ConvertBlocksToOpaque,
    s_tir.transform.LiftThreadBinding,
    s_tir.transform.ManifestSharedMemoryLocalStage,
    s_tir.transform.CompactBufferAllocation,
    s_tir.transform.LowerAutoCopy,
    s_tir.transform.UnifyThreadBinding,
    s_tir.transform.LowerMatchBuffer,
    s_tir.transform.StmtSimplify,
    s_tir.transform.InjectPermutedLayout,
    s_tir.transform.AnnotateIrregularLoop,
    s_tir.transform.InjectSoftwarePipeline,
    s_tir.transform.TransformMmaBufferLayout,
    s_tir.transform.LowerOpaqueBlock,
)
# Behind the placement of the result: vectors, virtual threads, unrolling. Repeated expressions are
# left to nvcc: TVM names them and then does not use the names.
_TO_STRAIGHT_LINES: Passes = (
    tirx.transform.FlattenBuffer,
    lambda: tirx.transform.NarrowDataType(32),
    s_tir.transform.LoopPartition,
    lambda: tirx.transform.VectorizeLoop(True),
    s_tir.transform.InjectVirtualThread,
    s_tir.transform.InjectDoubleBuffer,
)
_SHARE_STORAGE: Passes = (tirx.transform.StorageRewrite,)
_TO_SHORT_CODE: Passes = (
    s_tir.transform.HoistIfThenElse,
    tirx.transform.UnrollLoop,
    s_tir.transform.RenormalizeSplitPattern,
    tirx.transform.StmtSimplify,
    tirx.transform.RemoveNoOp,
    s_tir.transform.RewriteUnsafeSelect,
)
# Barriers where shared memory is reused, copies that run ahead of them, one function per launch.
_TO_FUNCTIONS: Passes = (
    tirx.transform.VerifyMemory,
    tirx.transform.AnnotateEntryFunc,
    lambda: s_tir.transform.ThreadSync("shared"),
    lambda: s_tir.transform.ThreadSync("shared.dyn"),
    lambda: s_tir.transform.ThreadSync("warp"),
    lambda: tirx.transform.prim_func_pass(lambda func, *_: stage_copies(func), opt_level=0),
    s_tir.transform.InferFragment,
    s_tir.transform.LowerThreadAllreduce,
    s_tir.transform.MergeSharedMemoryAllocations,
    tirx.transform.SplitHostDevice,
)
_TO_SOURCE: Passes = (
    tirx.transform.LowerWarpMemory,
    tirx.transform.StmtSimplify,
    tirx.transform.LowerIntrin,
)
# TVM includes it for sm_80 and later chips alone; conversions, all that is needed, work on any.
_WITH_BFLOAT16: Final = "#include <cuda_bf16.h>\n"
_IS_KERNEL: Final = "tirx.is_global_func"
_DYNAMIC_SHARED: Final = "tirx.use_dyn_shared_memory"
_LAUNCH: Final = "tirx.call_ffi_kernel"
_DIMENSIONS: Final = tuple(f"{of}Idx.{axis}" for of in ("block", "thread") for axis in "xyz")
# Attribute of a function whose buffers must not share storage: wmma fragments, and float16 in
# dynamic shared memory, which TVM would lay over buffers of another type.
KEEP_STORAGE: Final = "tvmconv.keep_storage"
# What lower/stages.py calls; kernels without such calls have nothing of it.
_ASYNC_COPY: Final = Path(__file__).with_name("async_copy.cuh")


def to_threads(func: tirx.PrimFunc, declaration: Declaration, symbol: str) -> tirx.PrimFunc:
    """Loops over blocks and threads that write the flat result; what ``inspect`` shows as tir."""
    with tvm.transform.PassContext(opt_level=3):
        func = _run(_TO_LOOPS, tvm.IRModule({"main": func}))["main"]
    placed = place_outputs(func, declaration.placements, declaration.result, masks=False)
    return placed.with_attr("global_symbol", symbol)


def to_device_code(func: tirx.PrimFunc, target: Target) -> DeviceCode:
    """CUDA source of a function over threads, and how to launch it.

    Raises:
        BuildFailed: when TVM refuses the function.
    """
    try:
        module, source = _compile(func, target)
    except (RuntimeError, ValueError) as error:
        raise BuildFailed(f"TVM refused the lowered kernel: {error}") from error
    launches, workspace = _read_host(_split(module)[1])
    if "await_group<" in source:
        source = _ASYNC_COPY.read_text(encoding="utf-8") + source
    return DeviceCode(source, launches, workspace)


def _run(passes: Passes, module: tvm.IRModule) -> tvm.IRModule:
    return tvm.transform.Sequential([p() for p in passes])(module)


def _compile(func: tirx.PrimFunc, target: Target) -> tuple[tvm.IRModule, str]:
    device = tvm.target.Target(target.tvm())
    bound = device.with_host(tvm.target.Target({"kind": "llvm"}))
    passes = [*_TO_STRAIGHT_LINES]
    passes += () if KEEP_STORAGE in func.attrs else _SHARE_STORAGE
    passes += _TO_SHORT_CODE
    with device, tvm.transform.PassContext(opt_level=3):
        module = tirx.transform.BindTarget(bound)(tvm.IRModule({"main": func}))
        module = _run([*passes, *_TO_FUNCTIONS], module)
        kernels, _ = _split(module)
        if not kernels.functions:
            return module, ""
        built = tvm.get_global_func("target.build.cuda")(_run(_TO_SOURCE, kernels), device)
    source = str(built.inspect_source("cuda"))
    return module, _WITH_BFLOAT16 + source if "nv_bfloat16" in source else source


def _split(module: tvm.IRModule) -> tuple[tvm.IRModule, tirx.PrimFunc]:
    """The functions that run on the device, and the one that would launch them."""
    kernels = {var: f for var, f in module.functions.items() if _IS_KERNEL in f.attrs}
    (host,) = (f for f in module.functions.values() if _IS_KERNEL not in f.attrs)
    return tvm.IRModule(kernels), host


def _read_host(host: tirx.PrimFunc) -> tuple[tuple[Launch, ...], tuple[tuple[str, int], ...]]:
    """Launches in their order, and the buffers that the host function allocates."""
    launches: list[Launch] = []
    workspace: dict[str, int] = {}

    def allocated(node: tirx.AllocBuffer) -> None:
        shape, dtype = node.buffer.shape, str(node.buffer.dtype)
        workspace[node.buffer.name] = prod(int(e) for e in shape) * ITEM_BYTES[dtype]

    def called(node: tirx.Evaluate) -> None:
        if isinstance(node.value, ir.Call) and node.value.op.name == _LAUNCH:
            launches.append(_launch(node.value))

    tvm_ffi.structural_walk(
        host.body, [(tirx.AllocBuffer, allocated), (tirx.Evaluate, called)], order="pre"
    )
    return tuple(launches), tuple(workspace.items())


def _launch(call: ir.Call) -> Launch:
    """A launch from its call: name, pointers to buffers' data, then sizes by ``launch_params``."""
    tags = [str(tag) for tag in call.attrs.launch_params]
    name, *args = call.args
    pointers, values = args[: -len(tags)], args[-len(tags) :]
    sizes = dict(zip(tags, map(int, values), strict=True))
    dims = [sizes.pop(tag, 1) for tag in _DIMENSIONS]
    shared = sizes.pop(_DYNAMIC_SHARED, 0)
    assert not sizes, f"launch parameters without a meaning: {sizes}"
    return Launch(
        kernel=str(name.value),
        grid=(dims[0], dims[1], dims[2]),
        block=(dims[3], dims[4], dims[5]),
        shared_bytes=shared,
        args=tuple(str(pointer.args[0].name) for pointer in pointers),
    )
