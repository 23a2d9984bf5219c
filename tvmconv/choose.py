"""Which template compiles a spec, and why: each candidate with its predicted time or reason."""

from __future__ import annotations

from dataclasses import dataclass

from tvmconv.errors import UnsupportedSpec
from tvmconv.space import Config
from tvmconv.template import Task, Template, templates


@dataclass(frozen=True)
class Candidate:
    """A template's answer to a task: a config and its predicted cycles, or why it declined."""

    template: Template
    config: Config | None
    cycles: float
    reason: str

    @property
    def fits(self) -> bool:
        """True when the template takes the task."""
        return self.config is not None


def consider(task: Task) -> tuple[Candidate, ...]:
    """Every template of the target's family, the fastest by prediction first."""
    found = []
    for template in templates(task.target.family):
        reason = template.supports(task)
        if reason is not None:
            found.append(Candidate(template, None, float("inf"), reason))
            continue
        try:
            config = template.default(task)
        except UnsupportedSpec as error:
            found.append(Candidate(template, None, float("inf"), error.message))
            continue
        cycles = template.cycles(task, config)
        found.append(Candidate(template, config, cycles, f"{cycles:.3g} cycles predicted"))
    return tuple(sorted(found, key=lambda c: c.cycles))


def choose(task: Task, algorithm: str | None = None) -> Candidate:
    """The best candidate, or the best one of a forced algorithm or template id.

    Raises:
        UnsupportedSpec: when nothing fits; the error lists every template's reason.
    """
    considered = consider(task)
    wanted = [c for c in considered if algorithm in (None, c.template.algorithm, c.template.id)]
    if not wanted:
        known = sorted({c.template.algorithm for c in considered})
        ids = [c.template.id for c in considered]
        raise UnsupportedSpec("algorithm", algorithm, ", ".join((*known, *ids)))
    if not wanted[0].fits:
        reasons = "; ".join(f"{c.template.id}: {c.reason}" for c in wanted)
        raise UnsupportedSpec(f"{task.spec} on {task.target.id}: no template fits ({reasons})")
    return wanted[0]
