"""What this machine can do for a target: compile, link, run here, tune on boards of its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvmconv.compilers import find_compiler, find_cxx
from tvmconv.emulate.runner import Runner, find_runner
from tvmconv.errors import EnvironmentProblem
from tvmconv.target import Target


@dataclass(frozen=True)
class Ability:
    """One thing that this machine can do, or why it cannot.

    Attributes:
        able: whether it can.
        by: the tool that does it, or what is missing.
    """

    able: bool
    by: str


@dataclass(frozen=True)
class Abilities:
    """What this machine can do for a target.

    Attributes:
        compile: make machine code of kernels.
        link: make libraries of it.
        native: run kernels in this process.
        emulated: run programs in an emulator.
        rpc: measure on a device of that kind over TVM's RPC.
        ssh: measure on one that has nothing but ssh.
    """

    compile: Ability
    link: Ability
    native: Ability
    emulated: Ability
    rpc: Ability
    ssh: Ability

    @property
    def run(self) -> tuple[str, ...]:
        """The ways to run it, best first."""
        return tuple(way for way in ("native", "emulated", "rpc", "ssh") if getattr(self, way).able)


def abilities(target: Target) -> Abilities:
    """Look at what is installed; nothing is compiled or started but version queries."""
    if target.gpu is not None:
        return _gpu_abilities(target)
    link = _found(lambda: find_compiler(target).label)
    emulated = _found(lambda: _emulator(target).label)
    return Abilities(
        _compile(target), link, _native(target), emulated, _rpc(target, link), _ssh(target)
    )


def _gpu_abilities(target: Target) -> Abilities:
    """TVM writes source without any tool; a CUDA compiler makes code of it, a C++ one emulates."""
    from tvmconv.cuda.compiler import find_cuda_compiler, label

    native = Ability(True, "the GPU of this machine")
    if not target.runs_here:
        native = Ability(False, f"needs a GPU of {target.isa} or newer")
    return Abilities(
        compile=Ability(True, f"CUDA source, {target.isa}"),
        link=_found(lambda: label(find_cuda_compiler())),
        native=native,
        emulated=_found(lambda: f"threads as fibers, {find_cxx().label}"),
        rpc=Ability(False, "scripts/gpu_check.py measures on another machine's GPU"),
        ssh=Ability(False, "scripts/gpu_check.py measures on another machine's GPU"),
    )


def _found(search: Callable[[], str]) -> Ability:
    try:
        return Ability(True, search())
    except EnvironmentProblem as problem:
        return Ability(False, problem.allowed or str(problem).partition(" does not run here: ")[2])


def _emulator(target: Target) -> Runner:
    found = find_runner(target)
    if not found.command:
        name = target.emulator.program if target.emulator else "an emulator"
        raise EnvironmentProblem("emulator", None, f"{name}; it runs natively")
    return found


def _compile(target: Target) -> Ability:
    from importlib.util import find_spec

    # Not the registry: listing targets need not load TVM.
    if find_spec(f"tvmconv.schedules.{target.family}") is None:
        return Ability(False, f"no templates for family {target.family}")
    return Ability(True, f"LLVM, {target.mcpu}")


def _native(target: Target) -> Ability:
    if target.runs_here:
        return Ability(True, "this machine")
    missing: Any = ", ".join(target.missing_features) if target.is_this_machine else target.machine
    return Ability(False, f"needs {missing}")


def _rpc(target: Target, link: Ability) -> Ability:
    from tvmconv.tuning.remote import check_rpc

    if target.system != "linux" or not link.able:
        return Ability(False, "needs a shared library for Linux")
    try:
        check_rpc()
    except EnvironmentProblem as problem:
        return Ability(False, problem.allowed)
    return Ability(True, "a server on the device")


def _ssh(target: Target) -> Ability:
    if target.system != "linux":
        return Ability(False, "needs programs for Linux")
    return _found(lambda: f"{find_compiler(target, static=True).label}, static programs")
