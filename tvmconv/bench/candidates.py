"""Which config of a spec ships: candidates in turn, warm and after other layers' memory.

A tuner's loop of one kernel keeps its packed weights in the second-level cache. In a network the
layers between two calls have taken that cache, and so do the other contestants of a benchmark:
1x1 512 to 128 channels at 65x65 by Strassen, whose weights are 1.75 times as large, read 2.30 ms in
such a loop and 2.70 in a contest; direct sums 2.25 and 2.34. So each candidate is timed both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from tvmconv import fills
from tvmconv.bench.contest import bound_call
from tvmconv.bench.plain import aligned
from tvmconv.bench.timing import Timer, interleave
from tvmconv.choose import predict_shortlist
from tvmconv.compile import compile as compile_kernel
from tvmconv.errors import RecordsError, TvmconvError, UnsupportedSpec
from tvmconv.kernel import Kernel
from tvmconv.template import Task, templates
from tvmconv.tolerance import OWN_PRODUCTS
from tvmconv.tuning.model import CostModel

# Part of a candidate's score, a weighted geometric mean, that its warm calls have: the same layer
# is mostly asked for again and again, or measured so.
WARM_SHARE = 2 / 3
# What is this much slower when warm does not win by its cold calls.
MOST_LOST_WARM = 1.015
# Three rounds tell apart what differs by more than this.
OUT_OF_REACH = 1.12
# A candidate that is predicted to be so much slower than the best is left out.
UNLIKELY = 1.6


@dataclass(frozen=True)
class Entry:
    """A candidate that was timed.

    Attributes:
        kernel: what was timed.
        warm: least seconds of a call that follows its like.
        cold: least seconds of a call after 64 MB of other memory.
    """

    kernel: Kernel
    warm: float
    cold: float

    @property
    def score(self) -> float:
        """Seconds, both kinds of call weighed; the least wins."""
        return float(self.warm**WARM_SHARE * self.cold ** (1 - WARM_SHARE))

    @property
    def is_exact(self) -> bool:
        """Whether sums of integers come out exact."""
        return self.kernel.accuracy in OWN_PRODUCTS


def likely(task: Task, model: CostModel, count: int) -> list[tuple[str, str]]:
    """Template and config of what a cost model likes best, each template's best before others."""
    found: list[tuple[bool, float, str, str]] = []
    for template in templates(task.target.family):
        if template.supports(task) is not None or not model.knows(template.id):
            continue
        try:
            configs, seconds = predict_shortlist(model, task, template, template.default(task))
        except (UnsupportedSpec, RecordsError):
            continue
        for rank, at in enumerate(np.argsort(seconds)[:count]):
            found.append((rank > 0, float(seconds[at]), template.id, str(configs[int(at)])))
    least = min((seconds for _, seconds, _, _ in found), default=0.0)
    kept = sorted(one for one in found if one[1] <= UNLIKELY * least)
    return [(template, config) for _, _, template, config in kept[:count]]


def contest(
    task: Task, candidates: Iterable[tuple[str, str]], *, seconds: float = 0.1, seed: int = 0
) -> list[Entry]:
    """Time candidates in turn: all of them in three rounds, then those within reach.

    Within reach of the best one, that is, or of the best that is exact on integers.

    Args:
        task: what they compute.
        candidates: template id and config of each; those that cannot be compiled are left out.
        seconds: measuring time of each that is within reach, warm and as much cold.
        seed: of the inputs and of the turns.

    Returns:
        those within reach, the best score first.
    """
    operands = aligned(fills.normal(task.spec, seed))
    kernels = {}
    for number, (template, config) in enumerate(dict.fromkeys(candidates)):
        with suppress(TvmconvError):
            kernels[number] = compile_kernel(
                task.spec, task.target, algorithm=template, config=config,
                threads=task.threads, max_error=task.max_error,
            )  # fmt: skip
    calls = {number: bound_call(kernel, operands) for number, kernel in kernels.items()}
    entries: list[Entry] = []
    for given in (0.0, seconds):
        timed = _take_turns(task, calls, given, seed)
        found = {n: Entry(kernels[n], *timed[n]) for n in calls}
        entries = sorted(found.values(), key=lambda entry: entry.score)
        reach = _reach(entries), _reach([entry for entry in entries if entry.is_exact])
        calls = {n: call for n, call in calls.items() if found[n].score <= reach[found[n].is_exact]}
    return entries


def _take_turns(
    task: Task, calls: Mapping[int, Callable[[], object]], seconds: float, seed: int
) -> dict[int, tuple[float, float]]:
    """Least seconds of each call, warm and cold."""
    slices = {}
    for number, call in calls.items():
        for cold in (False, True):
            timer = Timer(one_thread=task.threads == 1, cold=cold)
            slices[f"{number} {cold}"] = timer.slice(call)
    timed = interleave(slices, seconds, seed=seed).timed
    least = {name: timing.min_seconds for name, timing in timed.items()}
    return {number: (least[f"{number} False"], least[f"{number} True"]) for number in calls}


def _reach(entries: Sequence[Entry]) -> float:
    return OUT_OF_REACH * min((entry.score for entry in entries), default=0.0)


def winners(entries: Sequence[Entry]) -> list[Entry]:
    """The best, and after it the best that is exact on integers where the first is not."""
    if not entries:
        return []
    least = min(entry.warm for entry in entries)
    best = min((e for e in entries if e.warm <= MOST_LOST_WARM * least), key=lambda e: e.score)
    if best.is_exact:
        return [best]
    exact = [e for e in entries if e.is_exact and e.warm > best.warm]
    return [best, *sorted(exact, key=lambda e: e.score)[:1]]
