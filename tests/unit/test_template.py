"""The registry: ids are paths, and what is not there is told with what is."""

import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import tvmconv as tc
from tvmconv import template as registry
from tvmconv.errors import UnsupportedSpec
from tvmconv.space import Config, ConfigSpace
from tvmconv.target import load
from tvmconv.template import Task, Template, get_template, register, templates

SPEC = tc.conv2d((1, 8, 9, 9), 8, 3)
FAMILIES = ("x86", "arm", "riscv")


@pytest.mark.parametrize("family", FAMILIES)
def test_id_is_the_path_of_the_file(family: str) -> None:
    package = importlib.import_module(f"tvmconv.schedules.{family}")
    files = {path.stem for folder in package.__path__ for path in Path(folder).glob("*.py")}
    found = {template.id for template in templates(family)}
    assert found == {f"{family}.{name}" for name in files - {"__init__"}}


@pytest.mark.parametrize("template_id", [t.id for f in FAMILIES for t in templates(f)])
def test_file_draws_its_loop_nest(template_id: str) -> None:
    text = inspect.getdoc(importlib.import_module(f"tvmconv.schedules.{template_id}"))
    assert text is not None
    assert re.search(r"parallel \w+, ", text)
    assert get_template(template_id).family == template_id.split(".")[0]


def test_templates_come_in_the_order_of_their_ids() -> None:
    ids = [template.id for template in templates("x86")]
    assert ids == sorted(ids)
    assert templates("x86") == templates("x86")


def test_unknown_template_lists_the_known() -> None:
    with pytest.raises(UnsupportedSpec) as error:
        get_template("x86.magic")
    assert str(error.value).startswith("template: got 'x86.magic'; allowed: x86.columns, ")


@pytest.mark.parametrize("name", ["z80", "z80.direct"])
def test_unknown_family_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedSpec) as error:
        get_template(name)
    assert error.value.argument == "target family"
    assert error.value.given == "z80"


def test_task_has_the_canonical_problem() -> None:
    task = Task(SPEC, load("x86_64_v3"))
    assert task.problem is Task(SPEC, load("x86_64_v2")).problem
    assert task.problem.icg == 8
    assert task == Task(SPEC, load("x86_64_v3"))


@pytest.fixture
def stranger() -> Iterator[Template]:
    """A registered template that declines everything, removed again."""
    made = replace(
        get_template("x86.general"),
        id="x86.stranger",
        supports=lambda task: "never takes anything",
        space=lambda task: ConfigSpace({}, lambda config: None),
        default=lambda task: Config(()),
    )
    register(made)
    yield made
    del registry._REGISTRY[made.id]


def test_registered_template_is_found(stranger: Template) -> None:
    assert get_template("x86.stranger") is stranger
    assert stranger in templates("x86")
    with pytest.raises(UnsupportedSpec, match=r"x86\.stranger: never takes anything"):
        tc.compile(SPEC, algorithm="x86.stranger")
