"""The FFT template against torch: borders, odd sizes, layouts, padding modes, epilogues, chance."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tvmconv as tc
from tests.numeric.proving import level_of, named
from tests.strategies import conv_specs
from tvmconv.choose import consider
from tvmconv.kernel import Kernel
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template

TEMPLATE = get_template("x86.fft")

SPECS: dict[str, ConvSpec] = {
    "plane": tc.conv2d((1, 19, 23, 29), 37, 7, padding=3, bias=True, activation="relu"),
    "plane_last": tc.conv2d((2, 23, 29, 16), 20, 9, padding=4, layout="NHWC", residual=True),
    "no_padding": tc.conv2d((1, 3, 31, 17), 5, (9, 4)),
    "uneven_padding": tc.conv2d((1, 4, 12, 13), 6, 5, padding=((3, 0), (1, 4))),
    "kernel_of_the_map": tc.conv2d((1, 5, 11, 13), 7, (11, 13)),
    "wider_than_the_map": tc.conv2d((1, 3, 5, 6), 4, 11, padding=6),
    "strided": tc.conv2d((1, 3, 40, 37), 16, 7, stride=(2, 3), padding=3),
    "dilated": tc.conv2d((1, 8, 30, 31), 9, 3, dilation=(5, 4), padding=4),
    "flipped": tc.conv2d((1, 3, 14, 15), 4, (5, 6), flip=True),
    "groups": tc.conv2d((1, 12, 15, 15), 18, 5, padding=2, groups=3, scale_shift=True),
    "depthwise": tc.conv2d((1, 21, 28, 28), 21, 31, padding=15, groups=21),
    "depthwise_last": tc.conv2d((2, 20, 21, 32), 32, 13, padding=6, groups=32, layout="NHWC"),
    "multiplier": tc.conv2d((1, 7, 17, 15), 21, 5, padding=2, groups=7),
    "reflect": tc.conv2d((1, 6, 13, 14), 8, 7, padding=3, padding_mode="reflect"),
    "replicate": tc.conv2d((1, 13, 14, 6), 8, 7, padding=5, padding_mode="replicate",
                           layout="NHWC"),
    "circular": tc.conv2d((1, 6, 13, 14), 8, 7, padding=6, padding_mode="circular"),
    "constant": tc.conv1d((1, 6, 90), 8, 17, padding=9, padding_mode="constant", pad_value=-2.5),
    "line": tc.conv1d((2, 3, 1000), 17, 128),
    "line_last": tc.conv1d((1, 500, 20), 33, 31, padding=15, layout="NWC", activation="silu"),
    "long_line": tc.conv1d((1, 1, 5000), 4, 1024),
    "causal": tc.conv1d((1, 16, 300), 16, 9, dilation=16, padding="causal", groups=16),
    "volume": tc.conv3d((1, 4, 6, 12, 13), 6, (3, 5, 7), padding=(1, 2, 3), stride=(2, 1, 1)),
    "rows_summed": tc.conv2d((1, 4, 9, 60), 5, (1, 21), padding=(0, 10)),
    "one_output": tc.conv2d((3, 7, 8, 9), 2, (8, 9)),
    "empty": tc.conv2d((0, 3, 20, 20), 4, 7),
}  # fmt: skip


def prove(spec: ConvSpec, level: str, config: str | None = None, threads: int = 1) -> None:
    kernel: Kernel = tc.compile(spec, level, algorithm=TEMPLATE.id, config=config, threads=threads)
    assert kernel.accuracy == "fft"
    tc.validate(kernel).require()


@named(SPECS)
def test_fft(spec: ConvSpec) -> None:
    prove(spec, level_of(spec))


CONFIGS = (
    "size_h=12,size_w=16,radix=4,tile_t=3,tile_b=2,blocks=2,product=block",
    "size_h=16,size_w=24,radix=8,tile_t=1,tile_b=1,blocks=3,product=tile",
    "size_h=1,size_w=12,radix=4,tile_t=7,tile_b=1,blocks=1,product=block",
    "size_h=24,size_w=24,radix=8,tile_t=2,tile_b=4,blocks=1,product=block",
)


@pytest.mark.parametrize("config", CONFIGS)
def test_configs_agree(config: str) -> None:
    spec = tc.conv2d((2, 5, 19, 21), 40, 7, padding=3, bias=True)
    prove(spec, "host", config)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("groups", [1, 12])
def test_zeros_at_both_ends_wrap_around(layout: str, groups: int) -> None:
    """48 samples hold 28 columns and their padding of 15 on both sides, 32 hold 14."""
    shape = (2, 12, 28, 14) if layout == "NCHW" else (2, 28, 14, 12)
    spec = tc.conv2d(shape, 12, 31, padding=15, groups=groups, layout=layout)
    product = "tile" if groups == 12 else "block"
    config = f"size_h=48,size_w=32,radix=8,tile_t=1,tile_b=1,blocks=1,product={product}"
    prove(spec, "host", config)


def test_threads_share_the_tiles() -> None:
    prove(tc.conv2d((1, 8, 40, 40), 24, 9, padding=4), "host", threads=2)


def takes(spec: ConvSpec, level: str = "host") -> bool:
    return TEMPLATE.supports(Task(spec, load(level))) is None


@settings(max_examples=15)
@given(conv_specs(("conv",)), st.integers(0, 1 << 20))
def test_random_specs_and_configs(spec: ConvSpec, at: int) -> None:
    level = level_of(spec)
    assume(takes(spec, level))
    task = Task(spec, load(level))
    listed = TEMPLATE.shortlist(task)
    prove(spec, level, str(listed[at % len(listed)]))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (tc.conv_transpose2d((1, 3, 9, 9), 4, 5), "template of its own"),
        (tc.conv2d((1, 3, 9, 9), 4, (5, 1)), "one tap"),
        (tc.conv1d((1, 1, 40000), 1, 20000), "longer than the longest transform"),
    ],
)
def test_reasons(spec: ConvSpec, reason: str) -> None:
    found = TEMPLATE.supports(Task(spec, load("x86_64_v4")))
    assert found is not None
    assert reason in found


LONG = {
    "depthwise_31": tc.conv2d((1, 384, 28, 28), 384, 31, padding=15, groups=384),
    "line_1024": tc.conv1d((1, 1, 16000), 32, 1024),
    "dense_9": tc.conv2d((1, 64, 56, 56), 64, 9, padding=4),
}
SHORT = {
    "pointwise_like": tc.conv2d((1, 256, 14, 14), 256, (1, 2)),
    "strided_3": tc.conv2d((1, 128, 56, 56), 128, 3, stride=2, padding=1),
    "depthwise_3": tc.conv2d((1, 144, 56, 56), 144, 3, padding=1, groups=144),
}


def order(spec: ConvSpec) -> list[str]:
    return [c.template.algorithm for c in consider(Task(spec, load("x86_64_v4"))) if c.fits]


@pytest.mark.parametrize("name", LONG)
def test_long_kernels_are_transformed(name: str) -> None:
    assert order(LONG[name])[0] == "fft"


@pytest.mark.parametrize("name", SHORT)
def test_short_kernels_are_not(name: str) -> None:
    assert order(SHORT[name])[0] != "fft"


def test_an_error_below_the_ceiling_excludes_it() -> None:
    task = Task(LONG["dense_9"], load("x86_64_v4"), max_error=1e-6)
    declined: Any = [c for c in consider(task) if c.template.id == TEMPLATE.id]
    assert not declined[0].fits
