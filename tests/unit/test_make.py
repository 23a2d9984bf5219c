"""Constructors: forms of padding, layouts, keywords, and pairs that compose."""

from typing import Any

import numpy as np
import pytest

import tvmconv as tc
from tests.slow_conv import slow_conv
from tvmconv.spec import ConvSpec


@pytest.mark.parametrize(
    ("padding", "begin", "end"),
    [
        (2, (2, 2), (2, 2)),
        ((2,), (2, 2), (2, 2)),
        ((1, 2), (1, 2), (1, 2)),
        ([1, 2], (1, 2), (1, 2)),
        (((0, 1), (2, 3)), (0, 2), (1, 3)),
        ([[0, 1], [2, 3]], (0, 2), (1, 3)),
        ("valid", (0, 0), (0, 0)),
        ("same", (3, 1), (3, 2)),
        ("full", (6, 3), (6, 3)),
        ("causal", (6, 1), (0, 2)),
    ],
)
def test_padding_forms(padding: Any, begin: tuple[int, ...], end: tuple[int, ...]) -> None:
    spec = tc.conv2d((1, 2, 9, 9), 3, (3, 4), padding=padding, dilation=(3, 1))
    assert (spec.pads_begin, spec.pads_end) == (begin, end)


@pytest.mark.parametrize(
    ("name", "size"), [("valid", 8), ("same", 10), ("full", 12), ("causal", 10)]
)
def test_named_padding_sizes(name: str, size: int) -> None:
    assert tc.conv1d((1, 2, 10), 3, 3, padding=name).out_size == (size,)


def test_causal_is_left_only() -> None:
    spec = tc.conv1d((1, 2, 10), 3, 3, padding="causal", dilation=4)
    assert (spec.pads_begin, spec.pads_end, spec.out_size) == ((8,), (0,), (10,))


@pytest.mark.parametrize(
    ("padding", "stride"),
    [
        ("same", 2),
        ("same", (1, 2)),
        ("near", 1),
        (-1, 1),
        (((0, -1), (0, 0)), 1),
        (((0, 1),), 1),
        (((0, 1), 2), 1),
        (((0, 1, 2), (0, 1, 2)), 1),
        ((1, 2, 3), 1),
        (1.5, 1),
        (None, 1),
    ],
)
def test_padding_refused(padding: Any, stride: Any) -> None:
    with pytest.raises(tc.SpecError, match="padding"):
        tc.conv2d((1, 2, 9, 9), 3, 3, padding=padding, stride=stride)


def test_transposed_padding() -> None:
    assert tc.conv_transpose1d((1, 2, 5), 3, 4, padding=((1, 2),), stride=2).out_size == (9,)
    assert tc.conv_transpose1d((1, 2, 5), 3, 4, padding="valid").out_size == (8,)
    for name in ("same", "full", "causal"):
        with pytest.raises(tc.SpecError, match="valid"):
            tc.conv_transpose1d((1, 2, 5), 3, 4, padding=name)


@pytest.mark.parametrize(
    ("make", "first", "last", "names"),
    [
        (tc.conv1d, (2, 3, 9), (2, 9, 3), ("NWC", "NLC", "nlc", "NHWC")),
        (tc.conv2d, (2, 3, 9, 8), (2, 9, 8, 3), ("NHWC", "nhwc")),
        (tc.conv3d, (2, 3, 9, 8, 7), (2, 9, 8, 7, 3), ("NDHWC", "NHWC")),
    ],
)
def test_layouts(make: Any, first: Any, last: Any, names: tuple[str, ...]) -> None:
    planar = make(first, 4, 3)
    for name in names:
        spec = make(last, 4, 3, layout=name)
        assert (spec.n, spec.ic, spec.in_size) == (planar.n, planar.ic, planar.in_size)
        assert spec.x_shape == last
        assert spec.in_layout == spec.out_layout
    with pytest.raises(tc.SpecError, match="layout"):
        make(first, 4, 3, layout="CHWN")


@pytest.mark.parametrize(
    ("make", "options", "argument"),
    [
        (tc.conv2d, {"strides": 2}, "keyword"),
        (tc.conv2d, {"output_padding": 1}, "keyword"),
        (tc.conv2d, {"mask": True}, "keyword"),
        (tc.conv_transpose2d, {"offset_groups": 1}, "keyword"),
        (tc.conv2d, {"kernel_size": (3,)}, "kernel_size"),
        (tc.conv2d, {"kernel_size": "3"}, "kernel_size"),
        (tc.conv2d, {"x_shape": (4, 8, 8)}, "x_shape"),
        (tc.conv2d, {"x_shape": 4}, "x_shape"),
        (tc.conv2d, {"x_shape": (1, 4.0, 8, 8)}, "ic"),
        (tc.conv2d, {"activation": "swish"}, "activation"),
        (tc.conv2d, {"dtype": "float64"}, "dtype"),
        (tc.conv_transpose2d, {"padding_mode": "reflect", "padding": 1}, "padding_mode"),
        (tc.conv_transpose2d, {"output_padding": 1}, "output_padding"),
        (tc.conv_transpose2d, {"padding": 9}, "padding"),
    ],
)
def test_errors_name_the_argument(make: Any, options: dict[str, Any], argument: str) -> None:
    given = {"x_shape": (1, 4, 8, 8), "out_channels": 4, "kernel_size": 3, **options}
    with pytest.raises(tc.SpecError) as caught:
        make(**given)
    assert caught.value.argument == argument


def run(pair: tuple[ConvSpec, ConvSpec], x: Any, first: Any, second: Any, bias: Any) -> Any:
    middle = slow_conv(pair[0], x, first)
    assert middle.shape == pair[1].x_shape
    return slow_conv(pair[1], middle, second, bias=bias)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("multiplier", [1, 3])
def test_depthwise_separable_is_dense(layout: str, multiplier: int) -> None:
    rng = np.random.default_rng(0)
    shape = (2, 4, 7, 8) if layout == "NCHW" else (2, 7, 8, 4)
    options: dict[str, Any] = {
        "padding": 1,
        "stride": 2,
        "bias": True,
        "activation": "relu",
        "layout": layout,
        "padding_mode": "replicate",
    }
    pair = tc.depthwise_separable(shape, 5, (3, 2), multiplier=multiplier, **options)
    assert pair[0].groups == 4
    assert not pair[0].bias
    assert pair[1].is_pointwise
    dense = tc.conv2d(shape, 5, (3, 2), **options)
    x, bias = rng.normal(size=shape), rng.normal(size=5)
    first, second = (rng.normal(size=spec.weight_shape) for spec in pair)
    weight = np.einsum(
        "imuv,oim->oiuv", first.reshape(4, multiplier, 3, 2), second.reshape(5, 4, multiplier)
    )
    np.testing.assert_allclose(
        run(pair, x, first, second, bias), slow_conv(dense, x, weight, bias=bias), atol=1e-12
    )


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_spatially_separable_is_dense(mode: str, flip: bool) -> None:
    rng = np.random.default_rng(0)
    options: dict[str, Any] = {
        "padding": ((1, 2), (0, 3)),
        "padding_mode": mode,
        "stride": (2, 1),
        "dilation": (1, 2),
        "bias": True,
        "activation": "tanh",
        "flip": flip,
    }
    pair = tc.spatially_separable((2, 4, 7, 8), 5, (3, 2), **options)
    dense = tc.conv2d((2, 4, 7, 8), 5, (3, 2), **options)
    assert pair[1].out_shape == dense.out_shape
    x, bias = rng.normal(size=dense.x_shape), rng.normal(size=5)
    column, row = (rng.normal(size=spec.weight_shape) for spec in pair)
    weight = column[:, 0, :, 0][None, :, :, None] * row[:, :, 0, :][:, :, None, :]
    np.testing.assert_allclose(
        run(pair, x, column, row, bias), slow_conv(dense, x, weight, bias=bias), atol=1e-12
    )


def test_pairs_refuse() -> None:
    with pytest.raises(tc.SpecError, match="groups"):
        tc.depthwise_separable((1, 4, 8, 8), 4, 3, groups=2)
    with pytest.raises(tc.SpecError, match="multiplier"):
        tc.depthwise_separable((1, 4, 8, 8), 4, 3, multiplier=1.5)  # type: ignore[arg-type, unused-ignore]
    with pytest.raises(tc.SpecError, match="pad_value"):
        tc.spatially_separable(
            (1, 4, 8, 8), 4, 3, padding=1, padding_mode="constant", pad_value=1.0
        )
