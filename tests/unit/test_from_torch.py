"""ConvSpec.from_torch: every convolution module, its padding, and what may follow it."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tvmconv as tc
from tvmconv.spec import ConvSpec

SHAPES = {1: (2, 4, 9), 2: (2, 4, 9, 8), 3: (2, 4, 5, 6, 7)}
MODULES = {
    1: (nn.Conv1d, nn.ConvTranspose1d),
    2: (nn.Conv2d, nn.ConvTranspose2d),
    3: (nn.Conv3d, nn.ConvTranspose3d),
}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    rank=st.sampled_from((1, 2, 3)),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from((1, 2, 4)),
    padding=st.sampled_from((0, 1, 3, "same", "valid")),
    mode=st.sampled_from(("zeros", "reflect", "replicate", "circular")),
    bias=st.booleans(),
)
def test_forward(
    rank: int, kernel: int, padding: Any, stride: int, mode: Any, **options: Any
) -> None:
    module, _ = MODULES[rank]
    if padding == "same":
        stride = 1
    conv = module(4, 8, kernel, stride=stride, padding=padding, padding_mode=mode, **options)
    try:
        shape = tuple(conv(torch.zeros(SHAPES[rank])).shape)
    except RuntimeError:
        with pytest.raises(tc.SpecError):
            ConvSpec.from_torch(conv, SHAPES[rank])
        return
    spec = ConvSpec.from_torch(conv, SHAPES[rank])
    assert spec.out_shape == shape
    assert spec.weight_shape == tuple(conv.weight.shape)
    assert spec.bias == options["bias"]
    last = ConvSpec.from_torch(conv, SHAPES[rank], layout="NHWC")
    assert last.out_shape == (shape[0], *shape[2:], shape[1])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed(rank: int, groups: int) -> None:
    _, module = MODULES[rank]
    conv = module(
        4, 6, 3, stride=2, padding=1, output_padding=1, dilation=2, groups=groups, bias=False
    )
    spec = ConvSpec.from_torch(conv, SHAPES[rank])
    assert spec.out_shape == tuple(conv(torch.zeros(SHAPES[rank])).shape)
    assert spec.weight_shape == tuple(conv.weight.shape)
    assert not spec.bias


def test_even_kernel_same() -> None:
    spec = ConvSpec.from_torch(nn.Conv2d(4, 4, (2, 4), padding="same", dilation=(3, 1)), SHAPES[2])
    assert (spec.pads_begin, spec.pads_end) == ((1, 1), (2, 2))


@pytest.mark.parametrize(
    ("module", "activation", "args"),
    [
        (nn.ReLU(), "relu", ()),
        (nn.ReLU6(), "relu6", ()),
        (nn.Hardtanh(-2, 3), "clip", (-2.0, 3.0)),
        (nn.LeakyReLU(0.2), "leaky_relu", (0.2,)),
        (nn.SiLU(), "silu", ()),
        (nn.Hardswish(), "hardswish", ()),
        (nn.GELU(), "gelu", ()),
        (nn.GELU(approximate="tanh"), "gelu_tanh", ()),
        (nn.Sigmoid(), "sigmoid", ()),
        (nn.Tanh(), "tanh", ()),
        (nn.Identity(), "none", ()),
    ],
)
def test_sequence(module: nn.Module, activation: str, args: tuple[float, ...]) -> None:
    block = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), module)
    spec = ConvSpec.from_torch(block, SHAPES[2])
    assert spec.scale_shift
    assert (spec.activation, spec.activation_args) == (activation, args)
    bare = ConvSpec.from_torch(nn.Sequential(nn.Conv2d(4, 6, 3), module), SHAPES[2])
    assert (bare.scale_shift, bare.activation) == (False, activation)


def test_a_lazy_module_that_ran_is_a_convolution() -> None:
    lazy = nn.LazyConv2d(6, 3)
    with pytest.raises(tc.SpecError, match="lazy"):
        ConvSpec.from_torch(lazy, SHAPES[2])
    lazy(torch.zeros(SHAPES[2]))
    assert ConvSpec.from_torch(lazy, SHAPES[2]).ic == 4


@pytest.mark.parametrize(
    ("module", "shape", "argument"),
    [
        (nn.Linear(4, 4), SHAPES[2], "module"),
        (nn.LazyConvTranspose1d(4, 3), SHAPES[1], "module"),
        (nn.Sequential(nn.Conv2d(4, 6, 3), nn.Dropout()), SHAPES[2], "module"),
        (nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.ReLU()), SHAPES[2], "module"),
        (nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(5)), SHAPES[2], "module"),
        (
            nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, track_running_stats=False)),
            SHAPES[2],
            "module",
        ),
        (nn.Sequential(), SHAPES[2], "module"),
        (nn.Conv2d(4, 6, 3), (4, 9, 8), "input_shape"),
        (nn.Conv2d(4, 6, 3), (1, 5, 9, 8), "input_shape"),
        (nn.Conv2d(4, 6, 3), (1, 4, 2, 8), "kernel"),
        (nn.Conv2d(4, 6, 3, padding=4, padding_mode="reflect"), (1, 4, 4, 8), "padding"),
        (nn.Conv2d(4, 6, 3).double(), SHAPES[2], "module.weight.dtype"),
        ("conv", SHAPES[2], "module"),
    ],
)
def test_refused(module: Any, shape: tuple[int, ...], argument: str) -> None:
    with pytest.raises(tc.SpecError) as caught:
        ConvSpec.from_torch(module, shape)
    assert caught.value.argument == argument


def test_half_precision_is_told() -> None:
    assert ConvSpec.from_torch(nn.Conv1d(4, 4, 3).half(), SHAPES[1]).dtype == "float16"
    assert ConvSpec.from_torch(nn.Conv1d(4, 4, 3).bfloat16(), SHAPES[1]).dtype == "bfloat16"
