"""The text of a spec: canonical, safe as a file name, read back to an equal spec."""

import re

import pytest
from hypothesis import given, settings

import tvmconv as tc
from tests.strategies import conv_specs
from tvmconv.errors import UnsupportedSpec
from tvmconv.spec import ConvSpec

CANONICAL = [
    "conv2d_n1c64s56x56_o64k3x3_p1_bias_relu",
    "conv1d_n2c4s100_o8k3_g4_s2_d3_p4.0_circular_nlc",
    "conv3d_n1c3s8x9x10_o4k1x2x3_s1x2x2_p0x1x1_flip",
    "convt2d_n1c8s7x7_o4k4x4_s2_p1_a1x0_bias_scale_res_hardswish",
    "deform2d_n1c8s9x9_o8k3x3_p1_og2_mask_bias_nhwc",
    "conv2d_n1c1s5x5_o1k3x3_p0.1x1.0_const-0.5",
    "conv2d_n1c1s5x5_o1k3x3_p1_const-inf_clip-1.5x6",
    "conv2d_n1c1s5x5_o1k3x3_p1_const1e16_leakyrelu1e-05",
    "conv2d_n0c1s5x5_o1k3x3_relu6_f16",
    "conv2d_n1c1s5x5_o1k3x3_gelutanh_i8_acci32_io",
    "conv2d_n4c6s9x9_o8k7x7_g2_p1.-1_cgnhw.cnhw_io",
]


@pytest.mark.parametrize("text", CANONICAL)
def test_canonical_text(text: str) -> None:
    assert str(ConvSpec.parse(text)) == text


@settings(max_examples=300, deadline=None, derandomize=True)
@given(conv_specs())
def test_parse_is_the_inverse(spec: ConvSpec) -> None:
    specs = [spec]
    for gradient in (spec.grad_input, spec.grad_weight, spec.grad_bias):
        try:
            specs.append(gradient())
        except UnsupportedSpec:
            assert spec.op == "deform_conv" or spec.n == 0 or spec.padding_mode != "zeros"
    for each in specs:
        assert ConvSpec.parse(str(each)) == each
        assert re.fullmatch(r"[a-z0-9_.-]{1,200}", str(each))


def test_reading_is_lenient() -> None:
    spec = tc.conv2d((1, 4, 8, 8), 4, 3, padding=1, bias=True, activation="relu")
    for text in (
        " conv2d_n1c4s8_o4k3_p1_bias_relu\n",
        "CONV2D_N1C4S8x8_O4K3x3_RELU_BIAS_P1.1x1.1",
        "conv2d_n1c4s8x8_o4k3x3_g1_s1_d1x1_p1_bias_relu_nchw",
    ):
        assert ConvSpec.parse(text) == spec


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("conv2d_n1c4s8_o4k3_p1_bios_relu", "bios"),
        ("conv4d_n1c4s8_o4k3", "conv4d"),
        ("conv2d_n1c4_o4k3", "n1c4"),
        ("conv2d_n1c4s8_k3", "k3"),
        ("conv2d_n1c4s8_o4k3x3x3", "o4k3x3x3"),
        ("conv2d_n1c4s8_o4k3_relu_gelu", "gelu"),
        ("conv2d_n1c4s8_o4k3_p1_p2", "p2"),
        ("conv2d_n1c4s8_o4k3_p1.2.3", "p1.2.3"),
        ("conv2d_n1c4s8_o4k3_nhcw", "nhcw"),
        ("conv2d_n1c4s8_o4k3_ncl", "ncl"),
        ("conv2d_n1c4s8_o4k3_constnan", "constnan"),
        ("conv2d_n1c4s8_o4k3__relu", ""),
    ],
)
def test_errors_point_at_the_part(text: str, marked: str) -> None:
    with pytest.raises(tc.SpecError) as caught:
        ConvSpec.parse(text)
    *_, line, carets = str(caught.value).splitlines()
    assert line == text
    start, end = carets.index("^"), len(carets)
    assert text[start:end] == (marked or "_")
    assert text[:start].endswith("_") or start == 0
    assert caught.value.given == marked


@pytest.mark.parametrize("text", ["", "resnet50", "conv2d_n1c4s8"])
def test_too_short(text: str) -> None:
    with pytest.raises(tc.SpecError, match="conv2d_n1c64s56x56_o64k3x3_p1_bias_relu"):
        ConvSpec.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "conv2d_n1c4s8_o4k9",
        "conv2d_n1c4s8_o4k3_g3",
        "conv2d_n1c4s8_o4k3_a1",
        "conv2d_n1c4s8_o4k3_clip1",
        "conv2d_n1c4s8_o4k3_s0",
        "conv2d_n1c4s8_o4k3_p1x1x1",
        "conv2d_n1c4s8_o4k3_relu6x7",
        "conv2d_n1c4s8x8x8_o4k3",
    ],
)
def test_a_readable_text_of_an_illegal_spec(text: str) -> None:
    with pytest.raises(tc.SpecError):
        ConvSpec.parse(text)
