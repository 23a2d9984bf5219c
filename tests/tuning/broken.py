"""Templates that go wrong in every way in which a candidate can, made from a good one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tvmconv import template as registry
from tvmconv.space import Config
from tvmconv.template import Task, Template, get_template


def declared_as(change: Callable[[Task], Task]) -> Callable[[Task, Config], Any]:
    """Declare another problem than the one asked for."""

    def declare(task: Task, config: Config) -> Any:
        return get_template(f"{task.target.family}.direct").declare(change(task), config)

    return declare


def _other_answer(task: Task) -> Task:
    return replace(task, spec=replace(task.spec, flip=True))


def _far_too_large(task: Task) -> Task:
    return replace(task, spec=replace(task.spec, n=100_000))


def _never_ends(task: Task, config: Config) -> Any:
    time.sleep(600)


def _compiler_dies(task: Task, config: Config) -> Any:
    os.abort()


def _refused(task: Task, config: Config) -> Any:
    raise ValueError("no such loop")


WAYS: dict[str, Callable[[Task, Config], Any]] = {
    "wrong": declared_as(_other_answer),
    "crashing": declared_as(_far_too_large),
    "endless": _never_ends,
    "aborting": _compiler_dies,
    "refused": _refused,
}


def register(monkeypatch: pytest.MonkeyPatch, family: str = "x86") -> dict[str, Template]:
    """Put them beside the good ones until the test ends; builders are forked and have them too."""
    good = get_template(f"{family}.direct")
    made = {
        f"{family}.{name}": replace(good, id=f"{family}.{name}", declare=declare)
        for name, declare in WAYS.items()
    }
    monkeypatch.setattr(registry, "_REGISTRY", {**registry._REGISTRY, **made})
    return made
