"""Dilated taps that lie farther apart than a block is high: the rows between are not staged."""

import hypothesis
import numpy as np
from hypothesis import strategies as st

import tvmconv as tc
from tests.numeric.proving import named, per_level, prove, prove_some
from tvmconv.problem import canonical
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template, templates
from tvmconv.tuning.space_points import sample_valid

SPECS: dict[str, ConvSpec] = {
    "aspp": tc.conv2d((1, 24, 33, 33), 20, 3, padding=12, dilation=12, bias=True),
    "aspp_last": tc.conv2d((1, 33, 33, 24), 20, 3, padding=12, dilation=12, layout="NHWC"),
    "beyond": tc.conv2d((1, 16, 13, 14), 32, 3, padding=18, dilation=18),
    "unpadded": tc.conv2d((1, 8, 29, 20), 16, (3, 2), dilation=(11, 5), activation="relu"),
    "rows_alone": tc.conv2d((2, 21, 9, 10), 12, 3, padding=(9, 1), dilation=(9, 1), layout="NHWC"),
    "columns_stride": tc.conv2d((1, 9, 21, 18), 8, 3, padding=9, dilation=9, stride=(1, 2)),
    "even_kernel": tc.conv2d((1, 10, 26, 29), 6, 4, padding=(4, 0), dilation=7),
    "grouped": tc.conv2d((1, 19, 23, 40), 40, 3, padding=8, dilation=8, groups=2, layout="NHWC"),
    "depthwise": tc.conv2d((1, 33, 19, 23), 33, 3, padding=8, dilation=8, groups=33),
    "reflected": tc.conv2d(
        (1, 8, 19, 17), 16, 3, padding=7, dilation=7, padding_mode="reflect", residual=True
    ),
    "few_outputs": tc.conv2d((1, 27, 19, 16), 3, 3, padding=11, dilation=11, layout="NHWC"),
    "volume": tc.conv3d((1, 4, 14, 12, 8), 8, 3, padding=5, dilation=5, layout="NDHWC"),
}


@per_level(("x86_64_v2", "x86_64_v4"))
@named(SPECS)
def test_blocks_of_few_rows(spec: ConvSpec, level: str) -> None:
    task = Task(spec, load(level))
    proven = 0
    for template in templates("x86"):
        if template.supports(task) is not None or "block_oh" not in template.space(task).knobs:
            continue
        few = [c for c in some_configs(task, template.id) if c.integer("block_oh") <= 4]
        if few:
            prove_some(spec, level, template.id, few)
            proven += 1
    assert proven >= 2


def some_configs(task: Task, template_id: str) -> list[Config]:
    template = get_template(template_id)
    return list(sample_valid(template.space(task), 40, np.random.default_rng(0)))


def test_winograd_takes_all_interleaved_maps_at_once() -> None:
    spec = tc.conv2d((1, 512, 33, 33), 64, 3, padding=12, dilation=12)
    kernel = tc.compile(spec, "x86_64_v3", algorithm="winograd")
    tc.validate(kernel).require()


def test_a_row_of_outputs_reads_its_taps_rows() -> None:
    axis = canonical(SPECS["aspp"]).axes[1]
    assert [axis.rows(count) for count in (1, 4, 12, 33)] == [3, 12, 36, 57]
    assert canonical(SPECS["columns_stride"]).axes[2].rows(1) == 19


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    size=st.tuples(st.integers(1, 26), st.integers(1, 26)),
    kernel=st.tuples(st.integers(2, 4), st.integers(1, 3)),
    dilation=st.tuples(st.integers(2, 14), st.integers(1, 14)),
    padding=st.tuples(st.integers(0, 15), st.integers(0, 15)),
    channels=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    last=st.booleans(),
)
def test_random(
    size: tuple[int, int],
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int],
    channels: tuple[int, int],
    last: bool,
) -> None:
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    hypothesis.assume(all(n + 2 * p >= r for n, p, r in zip(size, padding, reach, strict=True)))
    shape = (1, *size, channels[0]) if last else (1, channels[0], *size)
    layout = "NHWC" if last else "NCHW"
    prove(tc.conv2d(shape, channels[1], kernel, padding=padding, dilation=dilation, layout=layout))
