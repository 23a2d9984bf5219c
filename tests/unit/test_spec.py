"""ConvSpec: one form for each problem, shapes, and values that cannot be."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tvmconv as tc
from tvmconv.errors import SpecError
from tvmconv.spec import ConvSpec


def test_defaults_fill_in() -> None:
    spec = ConvSpec(op="conv", n=1, ic=4, oc=6, in_size=(8, 9), kernel=(3, 2))
    assert (spec.stride, spec.dilation) == ((1, 1), (1, 1))
    assert (spec.pads_begin, spec.pads_end, spec.output_padding) == ((0, 0),) * 3
    assert (spec.in_layout, spec.out_layout, spec.weight_layout) == ("NCHW", "NCHW", "OI")
    assert ConvSpec(op="conv_transpose", n=1, ic=4, oc=6, in_size=(8,), kernel=(3,)) == (
        tc.conv_transpose1d((1, 4, 8), 6, 3)
    )


def test_equal_problems_are_equal_specs() -> None:
    plain = tc.conv2d((1, 4, 8, 8), 6, 3, padding=0)
    assert tc.conv2d((1, 4, 8, 8), 6, 3, padding=0, padding_mode="reflect") == plain
    zero = tc.conv2d((1, 4, 8, 8), 6, 3, padding=1, padding_mode="constant", pad_value=0.0)
    assert zero == tc.conv2d((1, 4, 8, 8), 6, 3, padding=1)
    six: Any = np.int64(6)
    assert tc.conv2d((1, 4, 8, 8), six, 3) == plain
    assert len({plain, replace(plain), pickle.loads(pickle.dumps(plain))}) == 1
    assert tc.conv1d((1, 8, 4), 6, 3, layout="NLC") == tc.conv1d((1, 8, 4), 6, 3, layout="NHWC")


@pytest.mark.parametrize(
    ("text", "x", "weight", "out"),
    [
        ("conv2d_n2c8s5x6_o4k3x2_g2", (2, 8, 5, 6), (4, 4, 3, 2), (2, 4, 3, 5)),
        ("conv2d_n2c8s5x6_o4k3x2_g2_nhwc", (2, 5, 6, 8), (4, 4, 3, 2), (2, 3, 5, 4)),
        ("conv2d_n2c8s5x6_o4k3x2_g2_io", (2, 8, 5, 6), (4, 4, 3, 2), (2, 4, 3, 5)),
        ("conv2d_n2c8s5x6_o6k3x2_g2_io", (2, 8, 5, 6), (4, 6, 3, 2), (2, 6, 3, 5)),
        ("convt1d_n1c6s5_o4k3_g2_s2", (1, 6, 5), (6, 2, 3), (1, 4, 11)),
        ("convt1d_n1c6s5_o4k3_g2_s2_oi", (1, 6, 5), (2, 6, 3), (1, 4, 11)),
        ("conv3d_n1c2s3x4x5_o4k1x2x3_ndhwc", (1, 3, 4, 5, 2), (4, 2, 1, 2, 3), (1, 3, 3, 3, 4)),
        ("conv2d_n3c8s5x6_o4k3x2_g2_cgnhw.cnhw_io", (4, 2, 3, 5, 6), (4, 4, 3, 2), (4, 3, 3, 5)),
    ],
)
def test_shapes_in_memory_order(
    text: str, x: tuple[int, ...], weight: tuple[int, ...], out: tuple[int, ...]
) -> None:
    spec = ConvSpec.parse(text)
    assert (spec.x_shape, spec.weight_shape, spec.out_shape) == (x, weight, out)
    assert spec.output_shape == out


def test_offset_and_mask_follow_the_layout() -> None:
    options: dict[str, Any] = {"padding": 1, "offset_groups": 2, "mask": True}
    first = tc.deform_conv2d((2, 4, 5, 6), 8, 3, **options)
    last = tc.deform_conv2d((2, 5, 6, 4), 8, 3, layout="NHWC", **options)
    assert (first.offset_shape, first.mask_shape) == ((2, 36, 5, 6), (2, 18, 5, 6))
    assert (last.offset_shape, last.mask_shape) == ((2, 5, 6, 36), (2, 5, 6, 18))
    assert tc.conv2d((2, 4, 5, 6), 8, 3).offset_shape == ()


def test_kinds() -> None:
    assert tc.conv2d((1, 8, 5, 5), 16, 3, groups=8).is_depthwise
    assert not tc.conv2d((1, 8, 5, 5), 16, 3, groups=4).is_depthwise
    assert not tc.conv2d((1, 1, 5, 5), 16, 3).is_depthwise
    assert tc.conv2d((1, 8, 5, 5), 16, 1, stride=2).is_pointwise
    assert not tc.conv2d((1, 8, 5, 5), 16, 1, padding=1).is_pointwise


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", -1),
        ("n", 1.0),
        ("n", True),
        ("ic", 0),
        ("ic", 5),
        ("oc", 0),
        ("groups", 0),
        ("groups", 3),
        ("in_size", (8,)),
        ("in_size", (0, 8)),
        ("in_size", (2, 8)),
        ("kernel", (3, 0)),
        ("kernel", ()),
        ("kernel", (1, 1, 1, 1)),
        ("kernel", (9, 1)),
        ("stride", (0, 1)),
        ("stride", (1, 1, 1)),
        ("stride", "11"),
        ("stride", (1.5, 1)),
        ("dilation", (1, 0)),
        ("dilation", (4, 1)),
        ("pads_begin", (-1, 0)),
        ("output_padding", (1, 0)),
        ("op", "convolution"),
        ("padding_mode", "symmetric"),
        ("pad_value", 1.0),
        ("activation", "swish"),
        ("activation", "clip"),
        ("activation_args", (1.0,)),
        ("dtype", "float64"),
        ("acc_dtype", "int8"),
        ("in_layout", "CNHW"),
        ("out_layout", "CGNHW"),
        ("weight_layout", "HWIO"),
        ("bias", 1),
        ("mask", True),
        ("offset_groups", 2),
    ],
)
def test_errors_name_the_field(field: str, value: Any) -> None:
    spec = tc.conv2d((1, 4, 8, 8), 6, 3, groups=2)
    with pytest.raises(tc.SpecError) as caught:
        replace(spec, **{field: value})
    error = caught.value
    expected = {"in_size": {"in_size", "kernel"}, "dilation": {"dilation", "kernel"}}
    expected |= {"activation": {"activation", "activation_args"}, "groups": {"groups", "ic"}}
    assert error.argument in expected.get(field, {field})
    assert error.allowed
    assert str(error).startswith(f"{error.argument}: got ")


def test_an_error_survives_pickling() -> None:
    error = tc.SpecError("stride", 0, "an int >= 1")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "stride: got 0; allowed: an int >= 1"
    assert (again.argument, again.given, again.allowed) == ("stride", 0, "an int >= 1")
    assert str(pickle.loads(pickle.dumps(tc.UnsupportedSpec("no")))) == "no"


@pytest.mark.parametrize("value", [float("nan"), "high"])
def test_pad_value_is_a_number(value: Any) -> None:
    with pytest.raises(tc.SpecError, match="pad_value"):
        tc.conv2d((1, 1, 4, 4), 1, 3, padding=1, padding_mode="constant", pad_value=value)


def test_reproducer() -> None:
    assert tc.conv2d((1, 3, 8, 8), 4, 3).reproducer == "tvmconv validate conv2d_n1c3s8x8_o4k3x3"


def test_a_padding_value_is_one_that_the_tensors_can_hold() -> None:
    half = tc.conv1d(
        (1, 3, 9), 4, 3, padding=1, padding_mode="constant", pad_value=0.1, dtype="float16"
    )
    assert half.pad_value == 0.0999755859375
    assert ConvSpec.parse(str(half)) == half
    infinite = replace(half, pad_value=float("-inf"))
    assert infinite.pad_value == float("-inf")
    with pytest.raises(SpecError, match=r"pad_value: got 70000.0; allowed: at most 65504"):
        replace(half, pad_value=70000.0)
    brain = replace(half, dtype="bfloat16", pad_value=70000.0)
    assert brain.pad_value == 70144.0
    assert ConvSpec.parse(str(brain)) == brain
    with pytest.raises(SpecError, match=r"pad_value: got 3.4e\+38; .* at most 3.38953e\+38 in bf"):
        replace(brain, pad_value=3.4e38)
