"""What the cost model sees of a form: what bounds it, not what its knobs are called.

Sizes and counts are logarithms, so that one model serves layers of all sizes; footprints are
measured against the target's own caches and registers, so that it serves all targets.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tvmconv.cores import core_of
from tvmconv.space import Columns
from tvmconv.template import Features, Task

from .forms import Forms, Tiles

if TYPE_CHECKING:
    from .recipe import Recipe

# Order of code for a way to read x: in place, tested per tap, copied as it is or to planes, copied
# and transposed, computed, transposed to planes.
STAGES = ("none", "guarded", "pixels", "planes", "transposed", "sample", "turned")


def valid_rows(recipe: Recipe, task: Task, columns: Columns, limit: float) -> NDArray[np.bool_]:
    """As Recipe.invalid, for many configs."""
    forms = Forms.of(recipe, task, columns)
    fits = Tiles.of(recipe, task, columns).fits > 0
    even = forms.channel_blocks % forms.parts == 0
    inside = (forms.stage != "none") | forms.covers(task.problem)
    smallest = (forms.block_oh == forms.tile_oh) & (forms.block_ow == forms.tile_ow)
    copied = (forms.stage != "guarded") | forms.per_lane
    small = ~copied | smallest | (forms.window_bytes <= limit)
    valid: NDArray[np.bool_] = fits & even & inside & small
    return valid


def form_features(recipe: Recipe, task: Task, columns: Columns) -> Features:
    """Some thirty columns for configs of a recipe."""
    problem, target = recipe.problem(task), task.target
    core = core_of(target)
    forms = Forms.of(recipe, task, columns)
    tiles = Tiles.of(recipe, task, columns)
    compute = forms.compute_cycles(tiles)
    stage_elem, store_elem = recipe.stage_elem(problem), recipe.store_elem(problem)
    cycles = compute + forms.memory_cycles(stage_elem, store_elem)
    restaged = (forms.parts - 1) * forms.staged_elems * stage_elem
    tasks = forms.tasks()
    rounds = np.ceil(tasks / task.threads)
    _, h, w = problem.axes
    tile_rows = (forms.tile_oh - 1) * h.stride + (h.taps - 1) * h.step + 1
    tile_columns = (forms.tile_ow - 1) * w.stride + (w.taps - 1) * w.step + 1
    own = forms.tile_oc if recipe.per_lane else 1.0
    patch = 4.0 * tile_rows * tile_columns * problem.icg * own
    weights = 4.0 * forms.tile_oc * problem.reduction
    block = forms.block_oh * forms.block_ow
    taps = [a.taps for a in problem.axes][::-1]
    straight = np.ones(len(tasks))
    for depth, count in enumerate(taps):
        straight *= np.where(tiles.unroll_taps > depth, count, 1)
    return {
        # The analytic prediction, which the model corrects.
        "log_cycles": np.log((cycles + restaged) * rounds / tasks),
        "compute_share": compute / cycles,
        "step_over_fma": tiles.step / tiles.fma,
        # Register tile.
        "accumulators": tiles.held,
        "registers_used": tiles.held / target.registers,
        "vectors": forms.tile_oc / target.lanes,
        "tile_oh": forms.tile_oh,
        "tile_ow": forms.tile_ow,
        "loads_per_fma": tiles.loads / tiles.held,
        "latency_cover": tiles.held / (core.fma_per_cycle * core.fma_latency_cycles),
        "unroll_taps": tiles.unroll_taps,
        "log_straight_line": np.log2(tiles.held * tiles.unroll_ic * straight),
        # Footprints.
        "log_weights_l1": np.log2(weights / target.l1_bytes),
        "log_patch_l1": np.log2(patch / target.l1_bytes),
        "log_window_l1": np.log2(forms.window_bytes / target.l1_bytes),
        "log_window_l2": np.log2(forms.window_bytes / target.l2_bytes),
        "log_all_weights_l2": np.log2(forms.weight_bytes / target.l2_bytes),
        "log_both_l2": np.log2((forms.window_bytes + forms.weight_bytes) / target.l2_bytes),
        # Remainders: what part of the computed is wanted.
        "channel_fill": forms.channels / (forms.channel_blocks * forms.tile_oc),
        "row_fill": h.quotients / forms.rows,
        "column_fill": w.quotients / forms.columns,
        # Trip counts.
        "log_tiles_per_block": np.log2(block / (forms.tile_oh * forms.tile_ow)),
        "log_tiles_across": np.log2(forms.block_ow / forms.tile_ow),
        "log_windows": np.log2(forms.windows),
        "log_channel_blocks": np.log2(forms.channel_blocks),
        # Reuse.
        "log_weight_reuse": np.log2(block),
        "log_input_reuse": np.log2(forms.tile_oc * prod(taps)),
        "halo": forms.window_elems / (block * h.stride * w.stride),
        "staged_per_output": forms.staged_elems / forms.outputs,
        "stage": _stage_codes(forms),
        # Threads.
        "log_tasks": np.log2(tasks),
        "balance": tasks / (rounds * task.threads),
        "log_parts": np.log2(forms.parts),
    }


def _stage_codes(forms: Forms) -> NDArray[np.float64]:
    codes = np.zeros(len(forms.stage))
    for code, word in enumerate(STAGES):
        codes[forms.stage == word] = code
    return codes
