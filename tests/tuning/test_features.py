"""Features of any spec are finite, of the same columns for one template, and never its epilogue."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.schedules.cases import LEVELS
from tests.strategies import conv_specs
from tvmconv.spec import ConvSpec
from tvmconv.target import Target, load
from tvmconv.template import Task, templates
from tvmconv.tuning.features import tabulate

COLUMNS: dict[str, tuple[str, ...]] = {}


@settings(max_examples=60, deadline=None)
@given(conv_specs(), st.sampled_from(LEVELS).map(load), st.sampled_from((1, 2)))
def test_features_of_any_spec(spec: ConvSpec, target: Target, threads: int) -> None:
    check(Task(spec, target, threads), Task(spec.linear(), target, threads))


@settings(max_examples=15, deadline=None)
@given(conv_specs(), st.sampled_from(("sm_80", "sm_90")).map(load))
def test_features_on_gpus(spec: ConvSpec, target: Target) -> None:
    check(Task(spec, target), Task(spec.linear(), target))


def check(task: Task, plain: Task) -> None:
    for template in templates(task.target.family):
        if template.supports(task) is not None:
            continue
        configs = [template.default(task), *template.shortlist(task)[:8]]
        table = tabulate(task, template, configs)
        assert np.isfinite(table.rows).all()
        assert np.isfinite(table.log_cycles).all()
        assert len(table.rows) == len(table.log_cycles) == len(configs)
        assert COLUMNS.setdefault(template.id, table.names) == table.names
        assert np.array_equal(tabulate(plain, template, configs).rows, table.rows)
