"""The im2col template against torch, bit by bit: random specs, and what its gather treats apart."""

import random

from hypothesis import assume, given, settings

import tvmconv as tc
from tests.numeric.proving import level_of, named
from tests.strategies import conv_specs
from tvmconv.kernel import Kernel
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template

TEMPLATE = get_template("x86.im2col")

SPECS: dict[str, ConvSpec] = {
    "stem": tc.conv2d((1, 3, 31, 33), 20, 7, stride=2, padding=3, bias=True, activation="relu"),
    "stem_last": tc.conv2d((1, 31, 33, 3), 20, 7, stride=2, padding=3, layout="NHWC"),
    "in_place": tc.conv2d((1, 5, 14, 16), 16, 3),
    "in_place_last": tc.conv2d((1, 14, 16, 6), 16, 3, groups=2, layout="NHWC"),
    "dilated_last": tc.conv2d((2, 13, 15, 8), 9, 3, dilation=4, padding=4, layout="NHWC"),
    "few_channels": tc.conv1d((1, 2, 300), 24, 65, padding=32),
    "tiny_map": tc.conv2d((1, 70, 3, 3), 40, 3, padding=1, residual=True),
    "volume": tc.conv3d((1, 3, 6, 7, 8), 10, (3, 1, 2), stride=(1, 2, 1), padding=1),
    "replicate": tc.conv2d((1, 5, 9, 10), 8, 3, padding=2, padding_mode="replicate"),
    "depthwise": tc.conv2d((1, 9, 11, 12), 18, 3, padding=1, groups=9),
}


def prove(spec: ConvSpec, level: str, config: str | None = None) -> None:
    kernel: Kernel = tc.compile(spec, level, algorithm=TEMPLATE.id, config=config)
    assert kernel.algorithm == "im2col"
    assert kernel.accuracy == "direct"
    tc.validate(kernel).require()


@named(SPECS)
def test_im2col(spec: ConvSpec) -> None:
    prove(spec, level_of(spec))


@settings(max_examples=20)
@given(conv_specs(("conv",)))
def test_random_specs_and_configs(spec: ConvSpec) -> None:
    level = level_of(spec)
    task = Task(spec, load(level))
    assume(TEMPLATE.supports(task) is None)
    listed = TEMPLATE.shortlist(task)
    prove(spec, level, str(random.Random(str(spec)).choice(listed)))
