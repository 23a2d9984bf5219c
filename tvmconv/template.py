"""Templates: one schedule family for one algorithm on one hardware family, and their registry.

A template lives in ``schedules/<family>/<name>.py`` and registers one :class:`Template` under the
id ``<family>.<name>``. The core never imports a template by name; the registry walks the folder.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.errors import ArgumentError, UnsupportedSpec
from tvmconv.problem import Problem, canonical
from tvmconv.space import Config, ConfigSpace
from tvmconv.spec import ConvSpec
from tvmconv.target import FAMILIES, Target
from tvmconv.tolerance import DEFAULT_MAX_ERROR, DIRECT

if TYPE_CHECKING:
    from tvmconv.cuda.code import DeviceCode
    from tvmconv.declare.declaration import Declaration


Features = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Task:
    """What a template is asked to solve: the spec, its canonical form, the target, the threads.

    ``max_error`` is the largest relative error that an algorithm may have (tvmconv/tolerance.py).
    """

    spec: ConvSpec
    target: Target
    threads: int = 1
    max_error: float = DEFAULT_MAX_ERROR

    @property
    def problem(self) -> Problem:
        """Canonical form of the spec."""
        return _canonical(self.spec)


@cache
def _canonical(spec: ConvSpec) -> Problem:
    return canonical(spec)


@dataclass(frozen=True)
class Template:
    """One way to compute a convolution.

    Attributes:
        id: ``<family>.<file name>``.
        algorithm: what ``algorithm=`` selects, e.g. "direct".
        supports: None when the template takes the task, else the reason why not.
        space: the configs it can apply.
        default: the config to use untuned, from the target's facts; always in the space.
        cycles: predicted cycles of a config on one core; ranks templates and configs.
        declare: TE of ``run`` and of ``pack`` for a config.
        apply: schedules ``run`` (an s_tir.Schedule is returned) for a config; None where the
            template writes device code itself.
        source: device code of ``run`` for a config and a symbol, where it is not scheduled.
        accuracy: which entry of tolerance.ACCURACIES bounds a config's answers.
        features: what the cost model sees of configs beside their knobs, the spec and the target:
            named columns with one float64 per config.
        shortlist: configs worth ranking by the cost model beside the default.
        apply_pack: schedules ``pack``; gives its function. As declared unless told otherwise.
        spread: a config that is good for one thread, changed to feed the task's threads.
    """

    id: str
    algorithm: str
    supports: Callable[[Task], str | None]
    space: Callable[[Task], ConfigSpace]
    default: Callable[[Task], Config]
    cycles: Callable[[Task, Config], float]
    declare: Callable[[Task, Config], tuple[Declaration, Declaration]]
    apply: Callable[[Task, Config, Declaration], Any] | None = None
    source: Callable[[Task, Config, str], DeviceCode] | None = None
    accuracy: Callable[[Task, Config], str] = lambda task, config: DIRECT
    features: Callable[[Task, Sequence[Config]], Features] = lambda task, configs: {}
    shortlist: Callable[[Task], tuple[Config, ...]] = lambda task: ()
    apply_pack: Callable[[Task, Config, Declaration], Any] = lambda task, config, pack: (
        pack.prim_func()
    )
    spread: Callable[[Task, Config], Config] = lambda task, config: config

    def __post_init__(self) -> None:
        """A template schedules or writes, not both."""
        if (self.apply is None) == (self.source is None):
            raise ArgumentError(f"template {self.id}", "apply, source", "one of the two")

    @property
    def family(self) -> str:
        """Hardware family, the first part of the id."""
        return self.id.split(".")[0]


_REGISTRY: dict[str, Template] = {}


def register(template: Template) -> Template:
    """Add a template; called once at the end of each file under schedules/."""
    _REGISTRY[template.id] = template
    return template


def families() -> tuple[str, ...]:
    """The hardware families that have templates."""
    folders = pkgutil.iter_modules(importlib.import_module("tvmconv.schedules").__path__)
    return tuple(sorted(m.name for m in folders if m.ispkg and m.name in FAMILIES))


@cache
def _load_family(family: str) -> None:
    package = importlib.import_module(f"tvmconv.schedules.{family}")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def templates(family: str) -> tuple[Template, ...]:
    """All templates of a hardware family, by id.

    Raises:
        UnsupportedSpec: when no schedules exist for the family.
    """
    try:
        _load_family(family)
    except ModuleNotFoundError as error:
        raise UnsupportedSpec("target family", family, ", ".join(families())) from error
    return tuple(t for _, t in sorted(_REGISTRY.items()) if t.family == family)


def get_template(template_id: str) -> Template:
    """The template of an id such as "x86.direct".

    Raises:
        UnsupportedSpec: when there is none.
    """
    family = template_id.split(".")[0]
    known = {t.id: t for t in templates(family)}
    if template_id not in known:
        raise UnsupportedSpec("template", template_id, ", ".join(known))
    return known[template_id]
