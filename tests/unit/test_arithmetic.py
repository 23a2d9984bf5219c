"""Counts: the worked numbers of tests/data/seed_vectors.json, and rules among them."""

import ast
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import tvmconv as tc
from tvmconv.arithmetic import receptive_field
from tvmconv.spec import ConvSpec

SEEDS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "data" / "seed_vectors.json").read_text()
)


@pytest.mark.parametrize(("arguments", "size"), SEEDS["outsizes"].items())
def test_output_sizes(arguments: str, size: int) -> None:
    length, kernel, pad, stride, *dilation = ast.literal_eval(arguments)
    options: dict[str, Any] = {"dilation": dilation[0]} if dilation else {}
    for make, rank in ((tc.conv1d, 1), (tc.conv2d, 2), (tc.conv3d, 3)):
        shape = (1, 1, *[length] * rank)
        spec = make(shape, 1, kernel, padding=pad, stride=stride, **options)
        assert spec.out_size == (size,) * rank


@pytest.mark.parametrize(("arguments", "size"), SEEDS["transposed"].items())
def test_transposed_sizes(arguments: str, size: int) -> None:
    length, kernel, pad, stride, *rest = ast.literal_eval(arguments)
    dilation, extra = rest or (1, 0)
    spec = tc.conv_transpose2d(
        (1, 1, length, length),
        1,
        kernel,
        padding=pad,
        stride=stride,
        dilation=dilation,
        output_padding=extra,
    )
    assert spec.out_size == (size, size)


def test_pooling_has_the_same_sizes() -> None:
    assert tc.conv1d((1, 1, 5), 1, 2, stride=2).out_size == (SEEDS["pool5_2"],)


@pytest.mark.parametrize(
    ("key", "ic", "oc", "kernel", "bias"),
    [
        ("3-64-3", 3, 64, 3, True),
        ("3-64-3nb", 3, 64, 3, False),
        ("64-128-3nb", 64, 128, 3, False),
        ("64-128-3", 64, 128, 3, True),
        ("128-64-3", 128, 64, 3, True),
        ("3-32-5", 3, 32, 5, True),
        ("3-16-3", 3, 16, 3, True),
        ("3-32-3", 3, 32, 3, True),
        ("rgb3x3filter", 3, 1, 3, False),
    ],
)
def test_parameters(key: str, ic: int, oc: int, kernel: int, bias: bool) -> None:
    assert tc.conv2d((1, ic, 8, 8), oc, kernel, bias=bias).params == SEEDS["params"][key]


def test_multiply_adds() -> None:
    macs = SEEDS["macs"]
    assert tc.conv2d((1, 128, 56, 56), 256, 3, padding=1).macs == macs["3x3 128-256 56"]
    dense = tc.conv2d((1, 128, 8, 8), 256, 3, padding=1)
    pair = tc.depthwise_separable((1, 128, 8, 8), 256, 3, padding=1)
    assert dense.macs == macs["std 8x8"]
    assert sum(spec.params for spec in pair) == macs["dws params"]
    assert sum(spec.macs for spec in pair) == macs["dws 8x8"]
    ratio = sum(spec.macs for spec in pair) / dense.macs
    assert ratio == pytest.approx(macs["ratio"]) == pytest.approx(1 / 256 + 1 / 9)
    assert dense.flops == 2 * dense.macs


def test_against_a_fully_connected_layer() -> None:
    """A fully connected layer is a convolution whose kernel is the whole picture."""
    facts, picture = SEEDS["fc"], (1, 3, 224, 224)
    full = tc.conv2d(picture, 1000, 224)
    assert full.params == full.macs == facts["150528x1000"]
    assert tc.conv2d(picture, 4096, 224).params == facts["150528x4096"]
    first = tc.conv2d(picture, 64, 3, padding=1, bias=True)
    later = tc.conv2d((1, 64, 224, 224), 64, 3, padding=1, bias=True)
    assert full.params / first.params == facts["ratio"]
    assert (first.params + 9 * later.params) / full.params == facts["ten 3->64 stack frac"]
    assert 10 * first.params / full.params == facts["ten*1792"]


def test_yolo_backbone_parameters() -> None:
    channels = (3, 64, 128, 256, 512)
    found = [tc.conv2d((1, i, 64, 64), o, 3, bias=True).params for i, o in pairwise(channels)]
    assert found == SEEDS["yolo_bb"]


@pytest.mark.parametrize(("dilation", "reach"), SEEDS["dil_eff"].items())
def test_effective_kernel(dilation: str, reach: int) -> None:
    spec = tc.conv2d((1, 1, 32, 32), 1, 3, dilation=int(dilation))
    assert spec.receptive_field == (reach, reach)


def chain(*layers: tuple[int, int, int], rank: int = 2) -> list[ConvSpec]:
    """Kernel, stride and dilation of each layer; every input is large enough."""
    make = (tc.conv1d, tc.conv2d, tc.conv3d)[rank - 1]
    shape = (1, 1, *[64] * rank)
    return [make(shape, 1, k, stride=s, dilation=d) for k, s, d in layers]


def test_receptive_fields() -> None:
    facts = SEEDS["rf"]
    same = (3, 1, 1)
    assert receptive_field(chain(same, same)) == (facts["2x3x3"],) * 2
    assert receptive_field(chain(same, same, same, rank=3)) == (facts["3x3x3"],) * 3
    dilated = chain((3, 1, 1), (3, 1, 2), (3, 1, 4), rank=1)
    assert receptive_field(dilated) == (facts["dil1,2,4"],)
    pool = (2, 2, 1)
    vgg16 = [layer for count in (2, 2, 3, 3, 3) for layer in (*[same] * count, pool)]
    assert receptive_field(chain(*vgg16)) == (facts["vgg16"],) * 2


def test_receptive_field_refuses() -> None:
    for bad in (
        [],
        [tc.conv_transpose2d((1, 1, 8, 8), 1, 3)],
        chain((3, 1, 1)) + chain((3, 1, 1), rank=1),
    ):
        with pytest.raises(tc.SpecError, match="specs"):
            receptive_field(bad)


def test_groups_divide() -> None:
    dense, grouped = (tc.conv2d((2, 8, 9, 9), 16, 3, groups=g) for g in (1, 4))
    assert (grouped.macs * 4, grouped.params * 4) == (dense.macs, dense.params)


def test_transposed_counts_as_its_adjoint() -> None:
    spec = tc.conv_transpose2d((2, 8, 5, 6), 12, 3, stride=2, groups=4, padding=1)
    assert spec.macs == spec.grad_input().macs == 2 * 8 * 30 * 3 * 9


def test_bytes_and_intensity() -> None:
    spec = tc.conv2d((2, 3, 8, 8), 4, 3, bias=True, residual=True, scale_shift=True)
    elements = 2 * 3 * 64 + 2 * (2 * 4 * 36) + 4 * 3 * 9 + 3 * 4
    assert spec.bytes_moved == 4 * elements
    assert spec.arithmetic_intensity == spec.flops / spec.bytes_moved
    deformed = tc.deform_conv2d((1, 2, 4, 4), 2, 1, mask=True)
    assert deformed.bytes_moved == 4 * (32 + 32 + 4 + 32 + 16)
    assert tc.conv2d((0, 3, 8, 8), 4, 3).arithmetic_intensity == 0.0
    half = tc.conv2d((2, 3, 8, 8), 4, 3, dtype="float16")
    assert half.bytes_moved * 2 == tc.conv2d((2, 3, 8, 8), 4, 3).bytes_moved
