"""The configs of a GPU template that are worth a look: all that are valid, cheapest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tvmconv.errors import UnsupportedSpec
from tvmconv.space import Config
from tvmconv.template import Task

# How many configs the cost model ranks.
SHORTLIST = 32


def cheapest(
    template_id: str,
    task: Task,
    configs: Iterable[Config],
    cycles: Callable[[Task, Config], float],
) -> tuple[Config, ...]:
    """The best by predicted cycles, the first of them the default.

    Raises:
        UnsupportedSpec: there is none.
    """
    ranked = sorted(configs, key=lambda config: cycles(task, config))
    if not ranked:
        raise UnsupportedSpec(f"{template_id}: no config fits {task.spec} on {task.target.id}")
    return tuple(ranked[:SHORTLIST])
