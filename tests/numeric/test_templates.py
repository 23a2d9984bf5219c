"""Every template that takes a spec agrees with torch, in its default and in other configs."""

import random

import numpy as np
import pytest
from numpy.typing import NDArray

import tvmconv as tc
from tests.numeric.proving import level_of, named
from tvmconv.kernel import Kernel
from tvmconv.space import ConfigSpace
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, templates

SPECS: dict[str, ConvSpec] = {
    "dense": tc.conv2d((1, 19, 13, 14), 37, 3, padding=1, bias=True, activation="relu"),
    "dense_last": tc.conv2d((1, 14, 14, 32), 48, 3, padding=1, stride=2, layout="NHWC"),
    "wide_kernel": tc.conv2d((1, 3, 23, 29), 16, 7, padding=3, stride=2),
    "reflect": tc.conv2d((1, 9, 11, 10), 12, 3, padding=2, padding_mode="reflect"),
    "pointwise": tc.conv2d((1, 40, 7, 7), 24, 1, residual=True),
    "pointwise_last": tc.conv2d((2, 9, 9, 20), 33, 1, layout="NHWC"),
    "depthwise": tc.conv2d((1, 24, 15, 15), 24, 3, padding=1, groups=24),
    "depthwise_last": tc.conv2d((1, 15, 15, 37), 37, 5, padding=2, groups=37, layout="NHWC"),
    "multiplier": tc.conv2d((1, 9, 9, 8), 24, 3, padding=1, groups=8, layout="NHWC"),
    "grouped": tc.conv2d((1, 32, 10, 10), 32, 3, padding=1, groups=8),
    "grouped_last": tc.conv2d((1, 10, 10, 24), 48, 3, padding=1, groups=4, layout="NHWC"),
    "transposed": tc.conv_transpose2d((1, 16, 7, 9), 20, 4, stride=2, padding=1),
    "transposed_last": tc.conv_transpose2d((1, 7, 9, 12), 9, 3, stride=3, layout="NHWC"),
    "deformable": tc.deform_conv2d((1, 8, 9, 9), 20, 3, padding=1, mask=True),
    "line": tc.conv1d((1, 24, 100), 40, 5, padding="causal", dilation=3),
    "volume": tc.conv3d((1, 8, 5, 8, 9), 16, 3, padding=1),
    "gradient": tc.conv2d((2, 6, 9, 9), 10, 3, padding=1).grad_weight(),
}
# Configs per template and spec beside the default: a sample, the same each time.
OTHERS = 2
DRAWS = 100_000


def prove(spec: ConvSpec, level: str, template_id: str, config: str | None = None) -> None:
    kernel: Kernel = tc.compile(spec, level, algorithm=template_id, config=config)
    assert kernel.template_id == template_id
    tc.validate(kernel).require()


@named(SPECS)
def test_every_template_that_takes_it(spec: ConvSpec) -> None:
    level = level_of(spec)
    task = Task(spec, load(level))
    takers = [t for t in templates("x86") if t.supports(task) is None]
    assert takers
    for template in takers:
        prove(spec, level, template.id)


@named(SPECS)
def test_other_configs_change_nothing(spec: ConvSpec) -> None:
    level = level_of(spec)
    task = Task(spec, load(level))
    chosen: Kernel = tc.compile(spec, level)
    (template,) = [t for t in templates("x86") if t.id == chosen.template_id]
    space = template.space(task)
    drawn = random.Random(str(spec))
    valid = [c for c in space.configs(drawn_points(drawn, space)) if c != chosen.config]
    assert valid or len(space) <= 1 + OTHERS, "the space has more, but none was drawn"
    for config in valid[:OTHERS]:
        prove(spec, level, template.id, str(config))


def drawn_points(drawn: random.Random, space: ConfigSpace) -> NDArray[np.int64]:
    """Grid points: a Winograd grid has a valid one in thousands."""
    return np.array([drawn.randrange(space.grid_size) for _ in range(DRAWS)])


@pytest.mark.slow
@named(SPECS)
def test_configs_of_every_template(spec: ConvSpec) -> None:
    level = level_of(spec)
    task = Task(spec, load(level))
    for template in templates("x86"):
        if template.supports(task) is not None:
            continue
        space = template.space(task)
        drawn = random.Random(template.id)
        for config in space.configs(drawn_points(drawn, space))[:3]:
            prove(spec, level, template.id, str(config))
