"""Random legal specs, the same each time; `scripts/fuzz.py` makes new ones for as long as told.

Without shrinking: the report already carries the line that reproduces it, and fuzz.py shrinks.
"""

import pytest
from hypothesis import Phase, given, settings

import tvmconv as tc
from tests.numeric.proving import level_of
from tests.strategies import conv_specs
from tvmconv.spec import ConvSpec


def _same_each_time(examples: int) -> settings:
    return settings(
        derandomize=True,
        max_examples=examples,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        print_blob=False,
    )


def _prove(spec: ConvSpec) -> None:
    threads = 1 + len(str(spec)) % 2
    tc.validate(tc.compile(spec, level_of(spec), threads=threads), seed=1).require()


@_same_each_time(100)
@given(conv_specs(ops=("conv",)))
def test_forward(spec: ConvSpec) -> None:
    _prove(spec)


@_same_each_time(60)
@given(conv_specs(ops=("conv_transpose",)))
def test_transposed(spec: ConvSpec) -> None:
    _prove(spec)


@_same_each_time(60)
@given(conv_specs(ops=("deform_conv",)))
def test_deformable(spec: ConvSpec) -> None:
    _prove(spec)


@pytest.mark.slow
@_same_each_time(120)
@given(conv_specs())
def test_more_of_everything(spec: ConvSpec) -> None:
    _prove(spec)
