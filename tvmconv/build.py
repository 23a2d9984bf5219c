"""From a task and a config to machine code or device code: declare, schedule, lower, compile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvmconv.cuda.code import DeviceCode
from tvmconv.environment import check_environment
from tvmconv.space import Config
from tvmconv.template import Task, Template


@dataclass(frozen=True)
class Built:
    """Machine code of one kernel and how it came to be.

    Attributes:
        object_bytes: ELF object with ``__tvm_ffi_<symbol>_run`` and ``_pack``; empty for GPUs.
        run_args: arguments of run, in order.
        pack_args: arguments of pack, in order.
        packed_elems: values of the packed buffer.
        trace: the schedule's steps as Python text; empty where a template writes device code.
        loops: the loop nest before vectors and unrolling are expanded; empty likewise.
        asm: assembly text; empty for GPUs.
        workspace_bytes: most memory that run takes beside its stack, with one thread; on a GPU,
            device memory beside the tensors.
        pack_workspace_bytes: the same of pack.
        device: CUDA source and launches of run; None for processors. Pack runs on the host.
    """

    object_bytes: bytes
    run_args: tuple[str, ...]
    pack_args: tuple[str, ...]
    packed_elems: int
    trace: str
    loops: str
    asm: str
    workspace_bytes: int
    pack_workspace_bytes: int
    device: DeviceCode | None = None


def schedule(task: Task, template: Template, config: Config) -> tuple[Any, Any, Any]:
    """Declarations of run and pack, and run's schedule; None of templates that do not schedule.

    Raises:
        InvalidConfig: when the config is not in the template's space for this task.
    """
    template.space(task).check(config)
    run, pack = template.declare(task, config)
    return run, pack, template.apply(task, config, run) if template.apply is not None else None


@dataclass(frozen=True)
class Lowered:
    """A kernel as plain loops, before TVM's and LLVM's code generation.

    Attributes:
        run: declaration of run.
        pack: declaration of pack.
        schedule: run's schedule, or None where the template writes device code itself.
        run_loops: run as a function over plain loops, or None likewise.
        pack_loops: the same of pack.
        device: what the template wrote.
    """

    run: Any
    pack: Any
    schedule: Any
    run_loops: Any
    pack_loops: Any
    device: DeviceCode | None = None

    @property
    def packed_elems(self) -> int:
        """Values of the packed buffer."""
        return int(self.pack.placements[0].elems)


def lower(task: Task, template: Template, config: Config, symbol: str) -> Lowered:
    """Schedule a kernel and bring it to loops.

    Raises:
        InvalidConfig: when the config does not apply.
        EnvironmentProblem: when TVM and its FFI do not fit together.
    """
    check_environment()
    run, pack, sch = schedule(task, template, config)
    pack_loops = _pack_loops(task, template, config, pack, symbol)
    if template.source is not None:
        device = template.source(task, config, f"{symbol}_run")
        return Lowered(run, pack, None, None, pack_loops, device)
    run_loops = _run_loops(task, run, sch.mod["main"], f"{symbol}_run")
    return Lowered(run, pack, sch, run_loops, pack_loops)


def _run_loops(task: Task, run: Any, func: Any, symbol: str) -> Any:
    from tvmconv.lower.pipeline import to_loops, without_work

    if task.target.gpu is not None:
        from tvmconv.cuda.lowering import to_threads

        loops = to_threads(func, run, symbol)
    else:
        loops = to_loops(func, run, symbol, task.problem, masks=task.target.masks)
    return without_work(loops) if task.spec.n == 0 else loops


def _pack_loops(task: Task, template: Template, config: Config, pack: Any, symbol: str) -> Any:
    from tvmconv.lower.pipeline import to_loops

    func = template.apply_pack(task, config, pack)
    return to_loops(func, pack, f"{symbol}_pack", masks=task.target.masks)


def build(task: Task, template: Template, config: Config, symbol: str) -> Built:
    """Compile a kernel.

    Raises:
        InvalidConfig: when the config does not apply.
        BuildFailed: when TVM or LLVM refuse the code.
        EnvironmentProblem: when TVM and its FFI do not fit together.
    """
    lowered = lower(task, template, config, symbol)
    if task.target.gpu is not None:
        return _for_device(lowered, task)
    from tvmconv.lower.pipeline import lower_to_object

    funcs = {f"{symbol}_run": lowered.run_loops, f"{symbol}_pack": lowered.pack_loops}
    compiled = lower_to_object(funcs, task.target)
    return Built(
        object_bytes=compiled.object_bytes,
        run_args=lowered.run.args,
        pack_args=lowered.pack.args,
        packed_elems=lowered.packed_elems,
        trace=str(lowered.schedule.trace),
        loops=lowered.run_loops.script(),
        asm=compiled.asm,
        workspace_bytes=compiled.workspace_bytes[f"{symbol}_run"],
        pack_workspace_bytes=compiled.workspace_bytes[f"{symbol}_pack"],
    )


def _for_device(lowered: Lowered, task: Task) -> Built:
    """Device code of run; pack is compiled for the host once weights are there (packing.py)."""
    from tvmconv.cuda.lowering import to_device_code

    device = lowered.device or to_device_code(lowered.run_loops, task.target)
    scheduled = lowered.device is None
    return Built(
        object_bytes=b"",
        run_args=lowered.run.args,
        pack_args=lowered.pack.args,
        packed_elems=lowered.packed_elems,
        trace=str(lowered.schedule.trace) if scheduled else "",
        loops=lowered.run_loops.script() if scheduled else "",
        asm="",
        workspace_bytes=device.workspace_bytes,
        pack_workspace_bytes=0,
        device=device,
    )
