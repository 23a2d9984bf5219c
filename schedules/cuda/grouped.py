"""Groups of few channels: each thread has one output channel and holds windows of its inputs.

    blocks over n, channel block, d, row block, column block:
        threads over channels of several groups, rows and columns of tiles:
            acc[tile_oh][tile_ow] = 0
            for ic of the channel's group:
                xpad[rows][columns] = x, padded         registers; other channels read the same
                for kh, kw: unrolled
                    acc[i][j] += xpad[i * s + kh][j * s + kw] * packed[ic][kh][kw][channel]
            y[tile] = epilogue(acc)

A matrix product per group would have tiles of as few channels as a group has.
"""

from __future__ import annotations

from tvmconv.template import Task, register

from ..nests import takes
from ..nests.window import WindowRecipe


def supports(task: Task) -> str | None:
    """Several small groups, whose phases have as many taps each."""
    if any(axis.is_uneven for axis in task.problem.axes):
        return "phases differ in their number of taps"
    return takes.small_groups(task)


TEMPLATE = register(WindowRecipe(id="cuda.grouped", supports=supports).template())
