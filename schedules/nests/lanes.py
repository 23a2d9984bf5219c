"""Loads and registers of a reduction step on machines with 128-bit registers, as ARM's are.

On aarch64 a multiply-add takes one lane of a vector as its factor (``Target.lanes_multiply``), so
one load brings four factors: four channels of a pixel, four pixels of a channel, or the weights of
four output channels (tvmconv/lower/elements.py). ``ldp`` loads two vectors that lie together.
Counted are instructions, the loop's own included: cores that issue one vector load a cycle, or
nothing beside a load, have no spare slots for them.
"""

from __future__ import annotations

from tvmconv.declare import Form
from tvmconv.problem import Problem
from tvmconv.target import Target
from tvmconv.template import Task

from .cost import accumulators

# Multiply-adds of a straight line: longer ones measured no fewer instructions, and LLVM pairs fewer
# of their loads (Winograd's products: 8.47 M in lines of 256, 8.89 M in lines of 512).
LONGEST_LINE = 256
# Without lanes each factor is a load of its own, and LLVM puts those of a long line in front of it,
# where 16 registers do not hold them: 260 moves to the stack in a line of 256.
SHORT_LINE = 16
# Instructions of a loop: two pointers, the count, the branch.
CONTROL = 4.0
# Stages that hold the channels of a pixel side by side.
BY_PIXEL = ("pixels", "transposed", "sample")
WRITTEN_OUT = 5
# Input channels that are unrolled inside the taps instead of looped over.
FEW_CHANNELS = 4


def unroll_ic(problem: Problem, form: Form, target: Target) -> int:
    """Input channels per iteration: as many as a straight line may hold, all of a few."""
    if problem.icg <= FEW_CHANNELS:
        return problem.icg
    most = longest_line(target) // accumulators(form, target.lanes)
    return next((u for u in (16, 8, 4, 3, 2) if problem.icg % u == 0 and u <= most), 1)


def longest_line(target: Target) -> int:
    """Multiply-adds that are written out at most."""
    return LONGEST_LINE if target.lanes_multiply else SHORT_LINE


def pixel_vectors(task: Task, form: Form) -> int:
    """Registers that hold the factors of all of a tile's pixels, channels in the lanes."""
    pixels, lanes = form.tile_oh * form.tile_ow, task.target.lanes
    if not task.target.lanes_multiply:
        return 1
    if _by_pixel(task, form) or task.problem.axes[2].stride > 1:
        return pixels
    return form.tile_oh * -(-form.tile_ow // lanes)


def _by_pixel(task: Task, form: Form) -> bool:
    return form.stage in BY_PIXEL or (form.stage == "none" and task.problem.channels_last)


def channel_operands(task: Task, form: Form) -> int:
    """Registers beside the accumulators where the lanes hold output channels."""
    weights = form.tile_oc // task.target.lanes
    spare = 0 if task.target.lanes_multiply else 2
    return pixel_vectors(task, form) + weights + spare + _written_out(task)


def _written_out(task: Task) -> int:
    """Registers more where LLVM writes out a loop over few channels, all loads in front of it."""
    few = task.problem.icg <= FEW_CHANNELS and task.target.registers < 32
    return WRITTEN_OUT if few else 0


def channel_loads(task: Task, form: Form, unrolled: int) -> float:
    """Load instructions of a step where the lanes hold output channels."""
    problem, lanes = task.problem, task.target.lanes
    weights = form.tile_oc / lanes / (1 if task.target.sve_bits else 2)
    pixels = factor_loads(task.target) * form.tile_oh * form.tile_ow
    if task.target.lanes_multiply:
        pixels = float(pixel_vectors(task, form))
        if _by_pixel(task, form):
            pixels /= lanes if unrolled % lanes == 0 else 1
            # Both halves of eight channels are one load while there are registers for them.
            spare = task.target.registers - accumulators(form, lanes) - channel_operands(task, form)
            pixels /= 2 if unrolled % (2 * lanes) == 0 and pixels <= spare else 1
    return pixels + weights + CONTROL / _iteration(problem, unrolled)


def factor_loads(target: Target) -> float:
    """Instructions for one factor in all lanes: a load, and on SVE a copy as LLVM writes it."""
    return 2.0 if target.sve_bits else 1.0


def column_operands(task: Task, form: Form) -> int:
    """Registers beside the accumulators where the lanes hold output columns."""
    lanes = task.target.lanes
    vectors = form.tile_oh * form.tile_ow // lanes
    factors = -(-form.tile_oc // lanes) if task.target.lanes_multiply else 3
    return vectors + factors + _written_out(task)


def column_loads(task: Task, form: Form, unrolled: int) -> float:
    """Load instructions of a step where the lanes hold output columns."""
    lanes = task.target.lanes
    weights = form.tile_oc / lanes / 2
    if not task.target.lanes_multiply:
        weights = factor_loads(task.target) * form.tile_oc
    if task.target.lanes_multiply and form.tile_oc % lanes:
        weights = form.tile_oc // lanes + (form.tile_oc % lanes + 1) // 2
    vectors = form.tile_oh * form.tile_ow / lanes
    return vectors + weights + CONTROL / _iteration(task.problem, unrolled)


def _iteration(problem: Problem, unrolled: int) -> int:
    """Steps of one iteration; a few channels' loop is outside, over taps."""
    taps = problem.axes[2].taps if problem.icg <= FEW_CHANNELS else 1
    return unrolled * taps
