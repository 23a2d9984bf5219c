"""Every variant of the spec on other machines: random specs, many kernels to a program.

A spec is proven as `tc.validate` proves it on this machine: bit-equal to torch on integers, within
the bound on real values, NaN and infinities where torch has them, other threads no other bits.
"""

from collections.abc import Callable

import pytest

import tvmconv as tc
from tests.emulated.machines import runner_of, sample
from tests.strategies import ACTIVATIONS, PADDING_MODES, conv_specs
from tvmconv.emulate.proof import validate_kernels
from tvmconv.spec import ConvSpec

pytestmark = pytest.mark.emulated

# Specs per process, so that two workers of pytest share the work evenly.
BATCH = 25
SAMPLE = {"conv": 5, "conv_transpose": 2, "deform_conv": 2}  # batches of each operator
# Which core each batch is compiled for: all of 64-bit ARM take turns.
CORES = ("pi4", "pi3", "pi5", "aarch64", "neoverse_n1")
BATCHES = [(op, i) for op, count in SAMPLE.items() for i in range(count)]


def specs_of(op: str) -> list[ConvSpec]:
    return sample(conv_specs(ops=(op,)), SAMPLE[op] * BATCH)


def prove(target_id: str, specs: list[ConvSpec], algorithm: str | None = None) -> None:
    runner = runner_of(target_id)
    kernels = [
        tc.compile(spec, target_id, algorithm=algorithm, threads=1 + len(str(spec)) % 2)
        for spec in specs
    ]
    for report in validate_kernels(kernels, seed=1, runner=runner):
        report.require()


def test_sample_is_of_every_kind() -> None:
    specs = [spec for op in SAMPLE for spec in specs_of(op)]
    assert len(specs) >= 200
    assert len(set(map(str, specs))) == len(specs)
    assert max(spec.macs for spec in specs) < 10e6
    kinds: dict[str, Callable[[ConvSpec], bool]] = {
        "1-D": lambda s: s.rank == 1,
        "3-D": lambda s: s.rank == 3,
        "grouped": lambda s: 1 < s.groups < s.ic,
        "depthwise": lambda s: 1 < s.groups == s.ic,
        "channels last": lambda s: s.in_layout.endswith("C"),
        "no batch": lambda s: s.n == 0,
        "flipped": lambda s: s.flip,
        "residual": lambda s: s.residual,
        "scale": lambda s: s.scale_shift,
        "mask": lambda s: s.mask,
        "output padding": lambda s: any(s.output_padding),
        "dilated": lambda s: max(s.dilation) > 1,
    }
    assert [name for name, holds in kinds.items() if sum(map(holds, specs)) < 3] == []
    assert {spec.padding_mode for spec in specs} == set(PADDING_MODES)
    assert {spec.activation for spec in specs} == {name for name, _ in ACTIVATIONS}


@pytest.mark.parametrize(("op", "batch"), BATCHES)
def test_64_bit_arm(op: str, batch: int) -> None:
    core = CORES[BATCHES.index((op, batch)) % len(CORES)]
    prove(core, specs_of(op)[batch * BATCH : (batch + 1) * BATCH])


@pytest.mark.parametrize(("op", "batch"), BATCHES)
def test_32_bit_arm(op: str, batch: int) -> None:
    prove("armv7", specs_of(op)[batch * BATCH : (batch + 1) * BATCH])


@pytest.mark.parametrize("target_id", ["riscv64", "riscv64_v", "neoverse_v1", "x86_64_v2"])
def test_a_handful_elsewhere(target_id: str) -> None:
    """x86_64_v2 runs natively where there is no emulator, so this much is proven everywhere."""
    prove(target_id, [spec for op in SAMPLE for spec in specs_of(op)[:4]])


# What networks are made of, below 10 M multiply-adds.
LAYERS = {
    "3x3": tc.conv2d((1, 32, 28, 28), 32, 3, padding=1, bias=True, activation="relu"),
    "1x1": tc.conv2d((1, 64, 28, 28), 128, 1, bias=True, residual=True),
    "depthwise": tc.conv2d((1, 96, 28, 28), 96, 3, padding=1, groups=96, activation="relu6"),
    "stem": tc.conv2d((1, 3, 56, 56), 32, 7, stride=2, padding=3, bias=True),
    "grouped": tc.conv2d((1, 64, 28, 28), 64, 3, padding=1, groups=16),
    "last": tc.conv2d((1, 28, 28, 32), 32, 3, padding=1, layout="NHWC", bias=True),
    "5x5": tc.conv2d((1, 16, 28, 28), 24, 5, padding=2),
    "upsampling": tc.conv_transpose2d((1, 16, 14, 14), 16, 4, stride=2, padding=1),
    "3d": tc.conv3d((1, 8, 6, 14, 14), 16, 3, padding=1),
    "waves": tc.conv1d((1, 16, 1000), 32, 9, padding="causal", dilation=2),
    "deformable": tc.deform_conv2d((1, 16, 14, 14), 16, 3, padding=1, mask=True),
}


@pytest.mark.parametrize("target_id", ["pi4", "armv7", "riscv64", "riscv64_v", "neoverse_v1"])
def test_layers_of_networks(target_id: str) -> None:
    assert max(spec.macs for spec in LAYERS.values()) < 10e6
    prove(target_id, list(LAYERS.values()))


# Rows that are read where they lie, and cut by borders at one end or both, with and without phases
# that their strides and odd lengths give vectors.
ROWS = [
    tc.conv2d((1, 9, 14, 14), 9, 3, padding=1, groups=9),
    tc.conv2d((1, 5, 12, 30), 5, 5, padding=2, groups=5, bias=True),
    tc.conv2d((1, 3, 7, 7), 3, 3, padding=1, groups=3),
    tc.conv2d((1, 3, 9, 3), 3, 3, padding=1, groups=3),
    tc.conv2d((1, 4, 17, 40), 4, 7, padding=3, groups=4),
    tc.conv2d((1, 5, 20, 28), 5, 3, stride=2, padding=1, groups=5),
    tc.conv2d((1, 5, 15, 29), 5, 5, stride=2, padding=2, groups=5, residual=True),
    tc.conv2d((1, 5, 14, 18), 5, 5, stride=2, padding=2, groups=5),
    tc.conv2d((1, 4, 16, 31), 4, 3, stride=3, padding=1, groups=4),
    tc.conv2d((2, 3, 21, 37), 3, 4, stride=4, padding=(1, 2), groups=3),
    tc.conv2d((1, 2, 24, 70), 2, 3, stride=(1, 5), padding=1, groups=2),
    tc.conv2d((1, 3, 17, 23), 3, 3, dilation=2, padding=2, groups=3),
    tc.conv2d((1, 3, 17, 27), 6, 3, stride=2, dilation=3, padding=4, groups=3),
    tc.conv1d((1, 6, 61), 6, 5, stride=2, padding="causal", groups=6),
    tc.conv3d((1, 3, 5, 9, 22), 3, 3, padding=1, groups=3),
    tc.conv3d((1, 3, 5, 9, 22), 3, 3, stride=2, padding=1, groups=3),
]


@pytest.mark.parametrize("target_id", ["pi4", "armv7", "neoverse_v1"])
def test_rows_in_place(target_id: str) -> None:
    prove(target_id, ROWS, "arm.columns")
