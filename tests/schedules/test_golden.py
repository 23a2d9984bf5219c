"""Golden traces: what each template does to two specs on each level, as text to review.

A change of a schedule, of a default or of TVM shows here as a change of text. When it is meant:
``pytest tests/schedules/test_golden.py --update-golden``, and read the difference.
"""

import re
from collections.abc import Callable

import pytest

from tests.schedules.cases import CASES, FAMILY_CASES, FAMILY_TARGETS
from tvmconv.build import schedule
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, Template, get_template, templates

CHOICES = [
    pytest.param(template_id, spec, level, id=f"{template_id}-{level}-{spec}")
    for family, cases in FAMILY_CASES.items()
    for template_id, specs in cases.items()
    for spec in specs
    for level in FAMILY_TARGETS[family]
    if get_template(template_id).supports(Task(spec, load(level))) is None
]


def heading(task: Task, template_id: str, config: object) -> str:
    import tvm

    return f"# tvm {tvm.__version__}\n# {template_id}: {task.spec}\n# {task.target.id}: {config}\n"


@pytest.mark.parametrize("family", FAMILY_CASES)
def test_every_template_has_cases(family: str) -> None:
    assert set(FAMILY_CASES[family]) == {template.id for template in templates(family)}


def written(task: Task, template: Template, config: Config) -> str:
    """Launches, workspace and constants of device code: what differs from spec to spec."""
    assert template.source is not None
    device = template.source(task, config, "conv_run")
    launches = "".join(f"{launch}\n" for launch in device.launches)
    constants = re.findall(r"^constexpr \w+ [A-Z_]+ = [-\w.+]+;$", device.source, re.M)
    return "\n".join((f"{launches}{device.workspace}", *constants))


@pytest.mark.parametrize(("template_id", "spec", "level"), CHOICES)
def test_trace(template_id: str, spec: ConvSpec, level: str, golden: Callable[[str], None]) -> None:
    task, template = Task(spec, load(level)), get_template(template_id)
    config = template.default(task)
    _, _, sch = schedule(task, template, config)
    text = written(task, template, config) if sch is None else str(sch.trace)
    golden(f"{heading(task, template_id, config)}{text}")


def test_trace_for_two_threads(golden: Callable[[str], None]) -> None:
    task, template = Task(CASES["x86.direct"][0], load("x86_64_v4"), 2), get_template("x86.direct")
    config = template.default(task)
    _, _, sch = schedule(task, template, config)
    golden(f"{heading(task, template.id, config)}{sch.trace}")


@pytest.mark.parametrize("template_id", ["x86.direct", "x86.transposed"])
def test_loop_nest(template_id: str, golden: Callable[[str], None]) -> None:
    """The whole nest, after placement and clipping, of a layer that people run."""
    from tvmconv.lower.pipeline import to_loops

    task, template = Task(CASES[template_id][0], load("x86_64_v4")), get_template(template_id)
    config = template.default(task)
    run, _, sch = schedule(task, template, config)
    loops = to_loops(sch.mod["main"], run, "conv_run", task.problem)
    golden(f"{heading(task, template_id, config)}{loops.script()}")
