"""From a task and a config to an object file: declare, schedule, lower, compile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvmconv.environment import check_environment
from tvmconv.space import Config
from tvmconv.template import Task, Template


@dataclass(frozen=True)
class Built:
    """Machine code of one kernel and how it came to be.

    Attributes:
        object_bytes: ELF object with ``__tvm_ffi_<symbol>_run`` and ``_pack``.
        run_args: arguments of run, in order.
        pack_args: arguments of pack, in order.
        packed_elems: float32 values of the packed buffer.
        trace: the schedule's steps as Python text.
        loops: the loop nest before vectors and unrolling are expanded.
        asm: assembly text.
        workspace_bytes: most memory that run takes beside its stack, with one thread.
        pack_workspace_bytes: the same of pack.
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


def schedule(task: Task, template: Template, config: Config) -> tuple[Any, Any, Any]:
    """Declarations of run and pack, and run's schedule.

    Raises:
        InvalidConfig: when the config is not in the template's space for this task.
    """
    template.space(task).check(config)
    run, pack = template.declare(task, config)
    return run, pack, template.apply(task, config, run)


@dataclass(frozen=True)
class Lowered:
    """A kernel as plain loops, before TVM's and LLVM's code generation.

    Attributes:
        run: declaration of run.
        pack: declaration of pack.
        schedule: run's schedule.
        run_loops: run as a function over plain loops.
        pack_loops: the same of pack.
    """

    run: Any
    pack: Any
    schedule: Any
    run_loops: Any
    pack_loops: Any

    @property
    def packed_elems(self) -> int:
        """Float32 values of the packed buffer."""
        return int(self.pack.placements[0].elems)


def lower(task: Task, template: Template, config: Config, symbol: str) -> Lowered:
    """Schedule a kernel and bring it to loops.

    Raises:
        InvalidConfig: when the config does not apply.
        EnvironmentProblem: when TVM and its FFI do not fit together.
    """
    check_environment()
    from tvmconv.lower.pipeline import to_loops, without_work

    run, pack, sch = schedule(task, template, config)
    masks = task.target.masks
    run_loops = to_loops(sch.mod["main"], run, f"{symbol}_run", task.problem, masks=masks)
    if task.spec.n == 0:
        run_loops = without_work(run_loops)
    pack_func = template.apply_pack(task, config, pack)
    pack_loops = to_loops(pack_func, pack, f"{symbol}_pack", masks=masks)
    return Lowered(run, pack, sch, run_loops, pack_loops)


def build(task: Task, template: Template, config: Config, symbol: str) -> Built:
    """Compile a kernel.

    Raises:
        InvalidConfig: when the config does not apply.
        BuildFailed: when TVM or LLVM refuse the code.
        EnvironmentProblem: when TVM and its FFI do not fit together.
    """
    lowered = lower(task, template, config, symbol)
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
