"""What recipes choose from: sizes of tiles, ways to read x, and taps that may be skipped."""

from __future__ import annotations

from tvmconv.declare import Form
from tvmconv.problem import Problem
from tvmconv.template import Task

# Half vectors of a tile on a core that makes two of each vector; whole ones would round them up.
# Beyond seven the half is less than a sixteenth.
ODD_HALVES = (1, 3, 5, 7)


def covers(problem: Problem, form: Form) -> bool:
    """True when rounding up to whole blocks reads nothing that is not there."""
    quotients = form.quotients(problem)
    return all(a.window(q) <= a.in_extent for a, q in zip(problem.axes, quotients, strict=True))


def tile_choices(extent: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes up to the extent; the extent itself when it is smaller than all of them."""
    return tuple(s for s in sizes if s <= extent) or (min(sizes),)


def input_stages(task: Task) -> tuple[str, ...]:
    """Ways to read x for broadcasts: in place when no tap leaves x, else copied by rows of pixels.

    Channels-first x is read in place or copied as planes when it has few channels: broadcasts from
    planes touch a cache line per channel, which costs a sixth of the speed from sixteen on.
    """
    problem = task.problem
    in_place = () if problem.is_padded else ("none",)
    if problem.channels_last:
        return (*in_place, "pixels")
    return (*in_place, *(("transposed",) if problem.icg >= 8 else ()), "planes")


def worth_clipping(problem: Problem, i: int) -> bool:
    """Clip where phases differ in taps, or where padding of zeros can hide a tap."""
    axis = problem.axes[i]
    return axis.is_uneven or (problem.padding_mode == "zeros" and axis.is_padded)


def may_clip(form: Form, i: int) -> bool:
    """Whether a tap whose regular place is padding for a whole tile adds nothing.

    Offsets move samples; and where each lane has its own tests, the lanes' columns differ.
    """
    return form.stage != "sample" and not (form.stage == "guarded" and form.vector == "ow" and i)
