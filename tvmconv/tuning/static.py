"""Costs of kernels that nobody ran: from the loops that TVM lowered and the code that LLVM made.

Where no device is attached, `tvmconv tune --no-device` ranks candidates by it:

    cycles = sqrt(code * prediction)

`prediction` is the template's own, which knows caches and nothing of code. `code` knows the code:
the hot loop's cycles per multiply-add (bound by multiply-adds, loads, issue, the latency of the
longest chain, and what spills), times the multiply-adds of the loop nest, trip by trip, and the
vectors that everything else moves. llvm-mca's opinion of the hot loop is taken where it is good.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from math import exp, log
from typing import TYPE_CHECKING, Any

from tvmconv.cores import Core, core_of
from tvmconv.hot_loop import HotLoop, find_hot_loop
from tvmconv.tuning.measure import Outcome

if TYPE_CHECKING:
    from tvmconv.target import Target
    from tvmconv.tuning.measure import Trial

# To tell cycles as seconds; only the order matters.
NOMINAL_HZ = 1e9
# A store to the stack and the load that waits for it.
SPILL_CYCLES = 4.0
# LLVM's model of A72 told 0.96 multiply-adds a cycle where 16 took 29 instructions; its others rank
# no better than counting.
MCA_CORES = frozenset({"cortex-a72"})
MCA_ITERATIONS = 100


@dataclass(frozen=True)
class Work:
    """What a loop nest executes, in vectors of the target.

    Attributes:
        multiply_adds: of sums that are accumulated.
        moves: loads, stores and arithmetic of everything else.
    """

    multiply_adds: float
    moves: float


@dataclass(frozen=True)
class StaticCost:
    """What a kernel is expected to cost.

    Attributes:
        cycles: of the code alone, on one core.
        per_multiply_add: cycles of the hot loop per vector multiply-add.
        instructions: of the hot loop per vector multiply-add.
        loads: vectors that the hot loop loads per multiply-add.
        spills: instructions of the hot loop that use the stack.
    """

    cycles: float
    per_multiply_add: float
    instructions: float
    loads: float
    spills: int

    def __str__(self) -> str:
        """One line for records."""
        return (
            f"{self.instructions:.2f} instructions, {self.loads:.2f} loads, "
            f"{self.per_multiply_add:.2f} cycles per multiply-add, {self.spills} spills"
        )


def work_of(func: Any, lanes: int) -> Work:
    """Count what a function of plain loops executes; loops of unknown length count at their most.

    Args:
        func: as `tvmconv.build.lower` gives it.
        lanes: float32 values of a vector.
    """
    from tvm import sym, tirx

    analyzer = sym.Analyzer()
    found = [0.0, 0.0]

    def visit(node: Any, trips: float, vectors: bool) -> None:
        if isinstance(node, tirx.For):
            analyzer.bind(node.loop_var, _range(node))
            most = max(0, int(analyzer.const_int_bound(node.extent).max_value))
            visit(node.body, trips * most, vectors or node.kind == tirx.ForKind.VECTORIZED)
        elif isinstance(node, tirx.BufferStore):
            width = lanes if vectors or _is_contiguous(node) else 1
            if _is_sum(node):
                found[0] += trips / width
            else:
                found[1] += trips / width * (1 + _operations(node.value))
        elif isinstance(node, tirx.SeqStmt):
            for one in node.seq:
                visit(one, trips, vectors)
        else:
            for name in ("then_case", "else_case", "body"):
                inner = getattr(node, name, None)
                if inner is not None:
                    visit(inner, trips, vectors)

    visit(func.body, 1.0, False)
    return Work(*found)


def _range(loop: Any) -> Any:
    from tvm import ir

    return ir.Range.from_min_extent(loop.min, loop.extent)


def _is_contiguous(store: Any) -> bool:
    """Whether LLVM can make vectors of a scalar loop: its innermost index is a plain variable."""
    from tvm import tirx

    return isinstance(store.indices[-1], tirx.Var | tirx.Add)


def _is_sum(store: Any) -> bool:
    """``b[i] = b[i] + p * q``."""
    from tvm import ir, tirx

    value = store.value
    if not isinstance(value, tirx.Add):
        return False
    sides = (value.a, value.b)
    kept = [s for s in sides if isinstance(s, ir.TensorLoad) and s.source.same_as(store.buffer)]
    return bool(kept) and any(isinstance(s, tirx.Mul) for s in sides)


def _operations(value: Any) -> int:
    """Loads and arithmetic of an expression, indices left out."""
    from tvm import ir, tirx

    if isinstance(value, ir.TensorLoad):
        return 1
    if isinstance(value, ir.Call):
        return 1 + sum(_operations(one) for one in value.args[-2:])
    if isinstance(value, tirx.Select):
        return 1 + _operations(value.true_value) + _operations(value.false_value)
    if hasattr(value, "a") and hasattr(value, "b"):
        return 1 + _operations(value.a) + _operations(value.b)
    return 0


def loop_cycles(loop: HotLoop, core: Core, mca: float | None = None) -> float:
    """Cycles of one iteration of the hot loop."""
    bounds = (
        loop.arithmetic / core.fma_per_cycle,
        loop.loads / core.loads_per_cycle,
        loop.instructions / core.instructions_per_cycle,
        loop.chain * core.fma_latency_cycles,
        mca or 0.0,
    )
    return (
        max(bounds) + loop.instructions * core.instruction_cycles + len(loop.spills) * SPILL_CYCLES
    )


def cost_of(work: Work, asm: str, target: Target) -> StaticCost:
    """Cost of a kernel's code from its work and its assembly."""
    core, loop = core_of(target), find_hot_loop(asm)
    if loop is None:
        rest = (work.multiply_adds + work.moves) / core.instructions_per_cycle
        return StaticCost(rest, 0.0, 0.0, 0.0, 0)
    per = loop_cycles(loop, core, mca_cycles(loop.text, target)) / loop.arithmetic
    rest = work.moves * (1 / core.instructions_per_cycle + core.instruction_cycles)
    return StaticCost(
        cycles=work.multiply_adds * per + rest,
        per_multiply_add=per,
        instructions=loop.instructions / loop.arithmetic,
        loads=loop.loads / loop.arithmetic,
        spills=len(loop.spills),
    )


def estimate(trial: Trial) -> Outcome:
    """What a trial is expected to take, as the outcome of a measurement.

    Raises:
        TvmconvError: what `tvmconv.build.build` raises.
    """
    from tvmconv.build import lower
    from tvmconv.lower.pipeline import lower_to_object
    from tvmconv.template import get_template
    from tvmconv.tuning.features import tabulate

    task, template = trial.task, get_template(trial.template_id)
    lowered = lower(task, template, trial.config, "candidate")
    compiled = lower_to_object({"candidate_run": lowered.run_loops}, task.target)
    cost = cost_of(work_of(lowered.run_loops, task.target.lanes), compiled.asm, task.target)
    # Threads share the code's cycles evenly; the prediction knows the remainders.
    code = log(cost.cycles / task.threads)
    cycles = exp((code + float(tabulate(task, template, [trial.config]).log_cycles[0])) / 2)
    return Outcome("ok", str(cost), (cycles / NOMINAL_HZ,))


def mca_cycles(loop: str, target: Target) -> float | None:
    """llvm-mca's cycles of one iteration; None where it is absent, or no good for the core."""
    program = _mca()
    if program is None or target.mcpu not in MCA_CORES:
        return None
    command = [program, f"-mtriple={target.triple}", f"-mcpu={target.mcpu}"]
    command += [f"-iterations={MCA_ITERATIONS}", "-"]
    done = subprocess.run(command, input=loop, capture_output=True, text=True, check=False)
    told = re.search(r"^Total Cycles:\s+(\d+)", done.stdout, re.M)
    return int(told[1]) / MCA_ITERATIONS if done.returncode == 0 and told else None


@cache
def _mca() -> str | None:
    return shutil.which("llvm-mca")
