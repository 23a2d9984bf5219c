"""Depthwise convolution, any multiplier: each thread holds the window of its outputs.

    blocks over n, channel block, d, row block, column block:
        threads over channels (fastest where they are neighbours), rows and columns of tiles:
            acc[tile_oh][tile_ow] = 0
            xpad[rows][columns] = x, padded             registers
            for kh, kw: unrolled
                acc[i][j] += xpad[i * s + kh][j * s + kw] * packed[kh][kw][channel]
            y[tile] = epilogue(acc)

There is one multiply-add per weight and output, so memory is the bound: x comes from it once, and
the rest of a window from the first-level cache. With channels first a tile is a column, since
neighbouring threads then read neighbouring elements.
"""

from __future__ import annotations

from tvmconv.template import Task, register

from ..nests import takes
from ..nests.window import WindowRecipe


def supports(task: Task) -> str | None:
    """Depthwise specs whose phases have as many taps each."""
    if any(axis.is_uneven for axis in task.problem.axes):
        return "phases differ in their number of taps"
    return takes.depthwise(task)


TEMPLATE = register(WindowRecipe(id="cuda.depthwise", supports=supports).template())
