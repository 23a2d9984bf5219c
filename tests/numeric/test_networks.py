"""Layers of real networks at their own size, at every level that this CPU has."""

import pytest

import tvmconv as tc
from tests.numeric.proving import named, per_level, prove
from tvmconv.spec import ConvSpec

LAYERS = {
    "resnet_stem": tc.conv2d(
        (1, 3, 224, 224), 64, 7, stride=2, padding=3, bias=True, activation="relu"
    ),
    "resnet_3x3_56": tc.conv2d((1, 64, 56, 56), 64, 3, padding=1, bias=True, activation="relu"),
    "resnet_3x3_7": tc.conv2d((1, 512, 7, 7), 512, 3, padding=1, bias=True),
    "resnet_1x1_7": tc.conv2d((1, 7, 7, 512), 2048, 1, bias=True, residual=True, layout="NHWC"),
    "mobilenet_depthwise": tc.conv2d(
        (1, 112, 112, 96), 96, 3, stride=2, padding=1, groups=96, layout="NHWC", activation="relu6"
    ),
    "convnext_depthwise_7x7": tc.conv2d((1, 96, 56, 56), 96, 7, padding=3, groups=96, bias=True),
    "resnext_32_groups": tc.conv2d((1, 128, 56, 56), 128, 3, padding=1, groups=32),
    "dcgan_transposed": tc.conv_transpose2d((1, 256, 8, 8), 128, 4, stride=2, padding=1),
    "tcn_causal": tc.conv1d((1, 64, 1000), 64, 3, padding="causal", dilation=8),
    "c3d": tc.conv3d((1, 16, 8, 28, 28), 32, 3, padding=1),
    "deformable_v2": tc.deform_conv2d((1, 64, 28, 28), 64, 3, padding=1, mask=True),
}


@pytest.mark.slow
@named(LAYERS)
@per_level()
def test_layer(spec: ConvSpec, level: str) -> None:
    prove(spec, level)


@named({name: LAYERS[name] for name in ("resnet_3x3_7", "mobilenet_depthwise")})
def test_two_threads(spec: ConvSpec) -> None:
    tc.validate(tc.compile(spec, threads=2)).require()
