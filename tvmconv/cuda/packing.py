"""Packing on the GPU itself, for bundles: no code for a host processor is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tvmconv.cuda.code import DeviceCode
from tvmconv.template import Task, Template, get_template

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel
    from tvmconv.space import Config

# Threads of a block: packing happens once, any whole number of warps does.
_THREADS: Final = 256


def device_packing(kernel: Kernel) -> DeviceCode:
    """Device code of a kernel's pack function.

    Raises:
        BuildFailed: TVM refused it.
    """
    return packing_code(kernel.task, get_template(kernel.template_id), kernel.config, kernel.symbol)


def packing_code(task: Task, template: Template, config: Config, symbol: str) -> DeviceCode:
    """A launch for each stage of pack, a thread for each value.

    Raises:
        BuildFailed: TVM refused it.
    """
    from tvmconv.cuda.lowering import to_device_code, to_threads

    _, pack = template.declare(task, config)
    func = to_threads(_bind(pack.prim_func()), pack, f"{symbol}_pack")
    return to_device_code(func, task.target)


def _bind(func: Any) -> Any:
    """Each stage over all threads of a grid; sums are loops within a thread."""
    from tvm import s_tir, tirx

    sch = s_tir.Schedule(func)
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        kinds = [var.iter_type for var in sch.get(block).iter_vars]
        pairs = zip(sch.get_loops(block), kinds, strict=True)
        each = [loop for loop, kind in pairs if kind == tirx.IterVar.DataPar]
        blocks, threads = sch.split(sch.fuse(*each), [None, _THREADS])
        sch.bind(blocks, "blockIdx.x")
        sch.bind(threads, "threadIdx.x")
    return sch.mod["main"]
