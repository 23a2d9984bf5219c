"""The loops that are compiled: taps in the padding are skipped, and buffers stay small."""

import importlib
import re
from math import prod
from typing import Any

import numpy as np
import pytest

import tvmconv as tc
from tests.schedules.cases import CASES, LEVELS
from tvmconv import workloads
from tvmconv.build import schedule
from tvmconv.choose import choose
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, Template, get_template
from tvmconv.tuning.space_points import sample_valid

# What a kernel may need beyond input, output and packed weights, and room for tails; transforms
# of a whole deep map pay, sums need but a window.
TILE_BYTES = 256 << 10
# The schedule's own count leaves out what rounds columns of x up and sets them apart: its 16 MB are
# held to 16 MiB, and its weights to as much more.
APART = 1.05
WORKSPACE_BYTES = (4 << 20) + (4 << 10)
TRANSFORMED_BYTES = (16 << 20) + TILE_BYTES
BUFFER = re.compile(r"(\w+?)(?:_local)? = T\.alloc_(?:buffer|local)\(\(([\d, ]+)\)")


def loops(task: Task, template: Template, config: Config) -> str:
    """The loop nest as text, without compiling it."""
    from tvmconv.lower.pipeline import to_loops

    run, _, sch = schedule(task, template, config)
    masks = task.target.masks
    text: str = to_loops(sch.mod["main"], run, "run", task.problem, masks=masks).script()
    return text


def chosen_loops(spec: ConvSpec, level: str, algorithm: str | None = None) -> str:
    task = Task(spec, load(level))
    candidate = choose(task, algorithm)
    assert candidate.config is not None
    return loops(task, candidate.template, candidate.config)


def too_much(spec: ConvSpec, level: str) -> dict[str, int]:
    """Buffers of the chosen kernel where they exceed its algorithm's share."""
    task = Task(spec, load(level))
    candidate = choose(task)
    assert candidate.config is not None
    found = workspace(loops(task, candidate.template, candidate.config))
    algorithm = candidate.template.algorithm
    transforms = algorithm in ("winograd", "fft", "strassen")
    most = TRANSFORMED_BYTES if transforms else WORKSPACE_BYTES
    if algorithm == "winograd":
        # Or what the weights take, which each block reads again.
        weights = transformed_weight_bytes(task, candidate.config)
        most = max(most, int(APART * weights) + TILE_BYTES)
    return found if sum(found.values()) > most else {}


def transformed_weight_bytes(task: Task, config: Config) -> int:
    """Of Winograd's packed weights."""
    form = importlib.import_module("tvmconv.schedules.nests.winograd").form
    return 4 * int(form(task, config).weight_elems(task.problem))


def workspace(text: str) -> dict[str, int]:
    """Bytes of every buffer by name."""
    found: dict[str, int] = {}
    for name, shape in BUFFER.findall(text):
        elems = prod(int(extent) for extent in shape.split(",") if extent.strip())
        found[name] = found.get(name, 0) + 4 * elems
    return found


def moving_bounds(text: str) -> list[str]:
    """Loops whose first value or extent depends on the tile."""
    return re.findall(r"for \w+ in range\(T\.(?:max|min)\(.*|for .*T\.max\(T\.min\(.*", text)


CLIPPED = {
    "dilated": tc.conv2d((1, 28, 28, 32), 32, 3, padding=4, dilation=4, layout="NHWC"),
    "deep": tc.conv3d((1, 2, 14, 14, 32), 32, 3, padding=1, layout="NDHWC"),
    "causal": tc.conv1d((1, 64, 32), 32, 3, dilation=8, padding="causal", layout="NWC"),
}
WHOLE = {
    "unpadded": tc.conv2d((1, 28, 28, 32), 32, 3, layout="NHWC"),
    "reflect": tc.conv2d((1, 28, 28, 32), 32, 3, padding=1, padding_mode="reflect", layout="NHWC"),
    "constant": tc.conv2d(
        (1, 28, 28, 32), 32, 3, padding=1, padding_mode="constant", pad_value=2.0, layout="NHWC"
    ),
}


@pytest.mark.parametrize("name", CLIPPED)
def test_taps_in_the_padding_are_skipped(name: str) -> None:
    assert moving_bounds(chosen_loops(CLIPPED[name], "x86_64_v4", "x86.direct"))


@pytest.mark.parametrize("name", WHOLE)
def test_taps_that_always_count_have_fixed_bounds(name: str) -> None:
    assert not moving_bounds(chosen_loops(WHOLE[name], "x86_64_v4", "x86.direct"))


def test_taps_in_the_padding_do_not_read_their_weights() -> None:
    """Infinite weights of the first slice of taps meet nothing but padding at the first output."""
    spec = CLIPPED["deep"]
    x = np.ones(spec.x_shape, np.float32)
    weight = np.ones(spec.weight_shape, np.float32)
    weight[:, :, 0] = np.inf
    y: Any = tc.compile(spec, algorithm="x86.direct")(x, weight)
    assert np.isfinite(y[:, 0]).all()
    assert not np.isfinite(y[:, 1]).any()


UNEVEN: dict[str, tuple[ConvSpec, tuple[str, ...]]] = {
    "3_by_2_last": (
        tc.conv_transpose2d((1, 5, 6, 4), 8, 3, stride=2, padding=1, layout="NHWC"),
        ("x86.transposed", "x86.general"),
    ),
    "3_by_2_first": (
        tc.conv_transpose2d((1, 4, 5, 6), 8, 3, stride=2, padding=1),
        ("x86.transposed", "x86.columns", "x86.general"),
    ),
    "gaps": (
        tc.conv_transpose1d((1, 4, 9), 8, 2, stride=3),
        ("x86.transposed", "x86.columns", "x86.general"),
    ),
    "depthwise": (
        tc.conv_transpose2d((1, 8, 5, 6), 8, 3, stride=2, groups=8),
        ("x86.depthwise", "x86.columns"),
    ),
    "grouped": (tc.conv_transpose2d((1, 8, 5, 6), 8, 3, stride=2, groups=2), ("x86.grouped",)),
}


@pytest.mark.parametrize("name", UNEVEN)
def test_phases_with_fewer_taps_do_not_touch_infinities(name: str) -> None:
    """A missing tap has weight 0 in packed; 0 * inf would turn an infinity into NaN."""
    import torch

    spec, algorithms = UNEVEN[name]
    x = np.full(spec.x_shape, np.inf, np.float32)
    weight = np.ones(spec.weight_shape, np.float32)
    for algorithm in algorithms:
        y: Any = tc.compile(spec, algorithm=algorithm)(x, weight)
        assert not np.isnan(y).any(), algorithm
        inputs = [torch.from_numpy(np.moveaxis(x, -1, 1) if spec.in_layout == "NHWC" else x)]
        operator = getattr(torch.nn.functional, f"conv_transpose{spec.rank}d")
        expected = operator(
            *inputs,
            torch.from_numpy(weight),
            stride=spec.stride,
            padding=spec.pads_begin,
            groups=spec.groups,
        ).numpy()
        got = np.moveaxis(y, -1, 1) if spec.in_layout == "NHWC" else y
        assert np.array_equal(got, expected), algorithm


LARGE = {
    "wide": tc.conv2d((1, 512, 128, 128), 256, 3, padding=1),
    "video": tc.conv3d((1, 256, 16, 56, 56), 256, 3, padding=1),
    "video_last": tc.conv3d((1, 16, 56, 56, 256), 256, 3, padding=1, layout="NDHWC"),
    "upsampling": tc.conv_transpose2d((1, 512, 64, 64), 256, 4, stride=2, padding=1),
    "large_kernel": tc.conv2d((1, 384, 56, 56), 384, 31, padding=15, groups=384),
}
# Rows of a window that no tap reads are not staged: 25 x 25 positions of 2048 channels are 5 MB.
FAR_ROWS = tc.conv2d((1, 2048, 64, 64), 256, 3, padding=12, dilation=12)
# Columns are, and the window of a single tile is larger already.
TOO_WIDE = {
    "far_taps": tc.conv1d((1, 1024, 16000), 1024, 3, dilation=512, padding="same"),
}
NETWORKS = ("resnet50", "vgg16", "resnext50_32x4d", "mobilenet_v2", "fcn_resnet50", "c3d", "unet")


@pytest.mark.parametrize("level", ["x86_64_v2", "x86_64_v4"])
@pytest.mark.parametrize("name", LARGE)
def test_workspace_of_large_layers(name: str, level: str) -> None:
    assert not too_much(LARGE[name], level)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("level", ["x86_64_v2", "x86_64_v4"])
def test_rows_between_far_taps_are_not_staged(level: str, layout: str) -> None:
    spec = FAR_ROWS.laid_out(layout)
    found = workspace(chosen_loops(spec, level, "x86.direct"))
    assert sum(found.values()) <= WORKSPACE_BYTES


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_interleaved_maps_take_a_quarter_more_than_their_weights(layout: str) -> None:
    """All of them are one block, which cannot be cut."""
    task = Task(FAR_ROWS.laid_out(layout), load("x86_64_v4"))
    candidate = choose(task, "winograd")
    assert candidate.config is not None
    found = workspace(loops(task, candidate.template, candidate.config))
    weights = transformed_weight_bytes(task, candidate.config)
    assert sum(found.values()) <= 1.25 * APART * weights


@pytest.mark.xfail(
    reason="1-D taps lie along w, whose columns are staged by squares, those between taps too: the "
    "window of one tile exceeds 4 MB",
    strict=True,
)
@pytest.mark.parametrize("level", ["x86_64_v2", "x86_64_v4"])
@pytest.mark.parametrize("name", TOO_WIDE)
def test_workspace_of_layers_with_far_taps(name: str, level: str) -> None:
    found = workspace(chosen_loops(TOO_WIDE[name], level, "x86.direct"))
    assert sum(found.values()) <= WORKSPACE_BYTES


@pytest.mark.parametrize("name", TOO_WIDE)
def test_layers_with_far_taps_need_no_more_than_a_tile(name: str) -> None:
    found = workspace(chosen_loops(TOO_WIDE[name], "x86_64_v4", "x86.direct"))
    assert sum(found.values()) <= 3 * WORKSPACE_BYTES


@pytest.mark.parametrize("network", NETWORKS)
def test_workspace_of_a_network(network: str) -> None:
    for i, layer in enumerate(workloads.load(network)):
        level = LEVELS[i % len(LEVELS)]
        assert not too_much(layer.spec, level), f"{layer.spec} {level}"


@pytest.mark.parametrize("template_id", CASES)
def test_accumulators_fit_the_registers(template_id: str) -> None:
    """The buffer of sums is one register tile, or one of each phase where they share rows of y."""
    for spec in CASES[template_id]:
        for level in LEVELS:
            target = load(level)
            task, template = Task(spec, target), get_template(template_id)
            text = loops(task, template, template.default(task))
            # The second buffer of that name is a row of the tile, turned.
            shape = next(shape for name, shape in BUFFER.findall(text) if name == "conv")
            woven = template_id in ("x86.columns", "x86.transposed")
            tiles = task.problem.axes[2].phases if woven else 1
            tile_elems = target.lanes * target.registers
            assert prod(map(int, shape.split(","))) <= tiles * tile_elems, f"{spec} {level}"


def test_many_phases_wait_for_none() -> None:
    """Stores of 32 phases in one line took half a minute to compile."""
    target = load("x86_64_v4")
    task = Task(tc.conv_transpose2d((1, 21, 8, 8), 21, 64, stride=32), target)
    template = get_template("x86.columns")
    found = workspace(loops(task, template, template.default(task)))
    assert found["conv"] <= 4 * target.lanes * target.registers


def test_large_outputs_are_asked_for_before_they_are_stored() -> None:
    large = tc.conv2d((1, 8, 300, 300), 64, 3)
    small = tc.conv2d((1, 8, 100, 100), 64, 3)
    for algorithm in ("x86.direct", "x86.columns", "x86.winograd"):
        assert asked_for_writing(chosen_loops(large, "x86_64_v4", algorithm)) > 0
        assert asked_for_writing(chosen_loops(small, "x86_64_v4", algorithm)) == 0


@pytest.mark.parametrize("template_id", [name for name in CASES if name.startswith("x86.")])
def test_every_config_asks_for_large_outputs(
    template_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if all outputs were large; Strassen's parts, stored under masks, were taken for them."""
    monkeypatch.setattr("tvmconv.lower.place.FAR_BYTES", 0)
    template, rng = get_template(template_id), np.random.default_rng(1)
    for spec in CASES[template_id]:
        task = Task(spec, load("x86_64_v4"))
        for config in (template.default(task), *sample_valid(template.space(task), 4, rng)):
            text = loops(task, template, config)
            written = re.findall(r"T\.prefetch\(T\.address_of\((\w+)\[.*, 1, 3, 1\)", text)
            assert set(written) <= {"y"}, f"{spec} {config}"


def test_machines_without_masks_do_not_ask_for_outputs() -> None:
    large = tc.conv2d((1, 8, 300, 300), 64, 3)
    assert asked_for_writing(chosen_loops(large, "pi4", "arm.direct")) == 0


def asked_for_writing(text: str) -> int:
    return len(re.findall(r"T\.prefetch\(T\.address_of\(y\[.*\), 1, 3, 1\)", text))
