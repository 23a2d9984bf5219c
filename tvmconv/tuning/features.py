"""What the cost model sees of a config: the template's columns, its knobs, the spec, the target.

A template gives derived columns (``Template.features``); here every template gets the same columns
of the problem and of the target, so that one model serves all specs and targets of a template.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.space import Config, columns_of
from tvmconv.template import Task, Template

OPS = ("conv", "conv_transpose", "deform_conv")
# Natural logarithm of the analytic prediction in cycles; what the model corrects.
ANALYTIC = "log_cycles"


@dataclass(frozen=True, eq=False)
class Table:
    """Features of some configs: names of the columns, and one row per config."""

    names: tuple[str, ...]
    rows: NDArray[np.float32]
    log_cycles: NDArray[np.float64]


def tabulate(task: Task, template: Template, configs: Sequence[Config]) -> Table:
    """All features of configs of one task."""
    count = len(configs)
    own = dict(template.features(task, configs))
    if ANALYTIC not in own:
        cycles = [template.cycles(task, config) for config in configs]
        own[ANALYTIC] = np.log(np.array(cycles, dtype=np.float64))
    knobs = {f"knob_{name}": _numbers(column) for name, column in columns_of(configs).items()}
    fixed = {**problem_features(task), **target_features(task)}
    columns = [*own.values(), *knobs.values(), *(np.full(count, v) for v in fixed.values())]
    table = np.empty((count, len(columns)), dtype=np.float32)
    for at, column in enumerate(columns):
        table[:, at] = column
    return Table((*own, *knobs, *fixed), table, np.asarray(own[ANALYTIC], dtype=np.float64))


def _numbers(column: NDArray[Any]) -> NDArray[np.float64]:
    """Integers as they are; a word as a number that is its own, whatever its neighbours are."""
    if column.dtype != object:
        return column.astype(np.float64)
    words = {word: zlib.crc32(str(word).encode()) % 1009 for word in set(column)}
    return np.array([words[word] for word in column], dtype=np.float64)


def problem_features(task: Task) -> dict[str, float]:
    """The canonical problem in numbers; sizes as logarithms, the epilogue left out."""
    spec, problem = task.spec, task.problem
    d, h, w = problem.axes
    taps = prod(a.taps for a in problem.axes)
    moved = problem.x_elems + problem.y_elems + problem.g * problem.ocg * problem.icg * taps
    return {
        "op": float(OPS.index(spec.op)),
        "log_macs": _log(problem.macs),
        "log_reduction": _log(problem.reduction),
        "log_intensity": _log(problem.macs) - _log(moved),
        "log_n": _log(problem.n),
        "log_g": _log(problem.g),
        "log_icg": _log(problem.icg),
        "log_ocg": _log(problem.ocg),
        "log_od": _log(d.out_extent),
        "log_oh": _log(h.out_extent),
        "log_ow": _log(w.out_extent),
        "log_x": _log(problem.x_elems),
        "log_y": _log(problem.y_elems),
        "kd": float(d.taps),
        "kh": float(h.taps),
        "kw": float(w.taps),
        "stride_h": float(h.stride),
        "stride_w": float(w.stride),
        "step_h": float(h.step),
        "step_w": float(w.step),
        "phases": float(prod(a.phases for a in problem.axes)),
        "padded": float(problem.is_padded),
        "x_channels_last": float(problem.channels_last),
        "y_channels_last": float(problem.output_channels_last),
    }


def target_features(task: Task) -> dict[str, float]:
    """The target in numbers, and the threads."""
    target = task.target
    return {
        "lanes": float(target.lanes),
        "registers": float(target.registers),
        "fma": float(target.fma),
        "log_l1": log2(target.l1_bytes),
        "log_l2": log2(target.l2_bytes),
        "log_threads": log2(task.threads),
    }


def _log(count: int) -> float:
    return log2(max(1, count))
