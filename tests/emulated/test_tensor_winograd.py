"""Winograd on tensor cores, on emulated GPUs: variants, random specs, tiles, packing, mistakes."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

import tvmconv as tc
from tests.emulated.cuda_sources import need_cxx
from tests.emulated.mutants import Mistake, mutants
from tvmconv import fills
from tvmconv.cuda.packing import device_packing
from tvmconv.emulate.cuda import emulate
from tvmconv.emulate.cuda.proof import Subject, prove, validate_kernels
from tvmconv.kernel import Kernel
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.validate import proof_cases

pytestmark = pytest.mark.emulated

TENSOR, PLAIN = "cuda.tensor_winograd", "cuda.winograd"
# F(2, r) alone, and everything.
SMALL_TILES, ALL_TILES = 1e-3, 5e-3

VARIANTS = {
    "3x3": tc.conv2d((1, 9, 8, 24), 40, 3, padding=1, bias=True, activation="relu", layout="NHWC"),
    "first": tc.conv2d((2, 17, 9, 7), 33, (3, 2), padding=1, bias=True, residual=True),
    "odd channels": tc.conv2d((1, 5, 6, 19), 21, 3, padding=1, residual=True, layout="NHWC"),
    "one row": tc.conv2d((3, 1, 5, 16), 16, (1, 3), layout="NHWC", scale_shift=True),
    "columns": tc.conv2d((1, 16, 7, 6), 20, (3, 1), padding=(1, 0), activation="gelu"),
    "reflected": tc.conv2d((1, 16, 9, 8), 16, 3, padding=(1, 2), padding_mode="reflect"),
    "circular": tc.conv2d((1, 6, 5, 16), 18, 3, padding=1, padding_mode="circular", layout="NHWC"),
    "constant": tc.conv2d((1, 16, 6, 5), 16, 3, padding=1, padding_mode="constant", pad_value=2.0),
    "dilated": tc.conv2d((1, 11, 9, 32), 34, 3, padding=2, dilation=2, groups=2, layout="NHWC"),
    "flipped": tc.conv2d((1, 36, 5, 6), 36, 3, padding=1, groups=2, flip=True),
    "phases": tc.conv_transpose2d((1, 7, 6, 24), 16, 4, stride=2, padding=1, layout="NHWC"),
    "phases of a column": tc.conv_transpose2d((2, 32, 5, 4), 40, (4, 3), stride=(2, 1), groups=2),
    "1d": tc.conv1d((3, 21, 19), 24, 3, dilation=2, padding="causal", activation="silu"),
    "3d": tc.conv3d((1, 4, 5, 7, 16), 24, 3, padding=1, stride=(2, 1, 1), layout="NDHWC"),
    "deep": tc.conv2d((1, 4, 4, 320), 16, 3, padding=1, bias=True, layout="NHWC"),
}
# Four and five taps need more than the smallest tiles' error.
LONG = {
    "five": tc.conv2d((1, 16, 9, 8), 20, 5, padding=2, bias=True),
    "four": tc.conv1d((2, 19, 16), 24, 4, padding="causal", residual=True, layout="NWC"),
}
SPECS = {name: replace(spec, dtype="float16") for name, spec in VARIANTS.items()}
LONG_SPECS = {name: replace(spec, dtype="float16") for name, spec in LONG.items()}


def compiled(
    spec: ConvSpec, target_id: str, max_error: float, seed: int | None = None, id_: str = TENSOR
) -> Kernel:
    """The template's default config, or one from anywhere in its space."""
    task, template = Task(spec, load(target_id), max_error=max_error), get_template(id_)
    config = template.default(task)
    if seed is not None:
        configs = template.space(task).configs()
        config = configs[Random(seed).randrange(len(configs))]
    return tc.compile(spec, target_id, algorithm=id_, config=config, max_error=max_error)


def prove_all(kernels: list[Kernel], seed: int = 3) -> None:
    need_cxx()
    for report in validate_kernels(kernels, seed=seed):
        report.require()


# One chip has every variant; the others, which differ in instructions alone, have some each.
@pytest.mark.parametrize(
    ("target_id", "max_error", "every"),
    [("sm_80", SMALL_TILES, 1), ("sm_75", ALL_TILES, 4), ("sm_90", ALL_TILES, 3)],
)
def test_variants(target_id: str, max_error: float, every: int) -> None:
    specs = list(SPECS.values())[::every]
    if max_error == ALL_TILES:
        specs += LONG_SPECS.values()
    prove_all([compiled(spec, target_id, max_error) for spec in specs])


def test_tiles_from_anywhere() -> None:
    kernels = [compiled(spec, "sm_80", ALL_TILES, seed) for seed, spec in enumerate(SPECS.values())]
    for side in ("m_h", "m_w"):
        assert {kernel.config.integer(side) for kernel in kernels} >= {2, 3, 4}
    assert any(kernel.config.integer("split") > 1 for kernel in kernels)
    prove_all(kernels)


def some_spec(rng: Random) -> ConvSpec:
    """A forward spec that the template takes, of any layout, padding and epilogue."""
    make, spatial = rng.choice(((tc.conv1d, "W"), (tc.conv2d, "HW"), (tc.conv3d, "DHW")))
    groups = rng.choice((1, 1, 2))
    layout = rng.choice((f"NC{spatial}", f"N{spatial}C"))
    extents = {letter: rng.randint(6, 11) for letter in spatial}
    extents |= {"N": rng.randint(1, 2), "C": groups * rng.randint(16, 27)}
    taps = (*(rng.choice((1, 2, 3, 4)) for _ in spatial[1:]), rng.choice((2, 3, 4)))
    spec = make(
        tuple(extents[letter] for letter in layout), groups * rng.randint(16, 27), taps,
        padding=rng.randint(0, 2), groups=groups, layout=layout,
        padding_mode=rng.choice(("zeros", "replicate", "reflect", "circular")),
        bias=rng.random() < 0.5, residual=rng.random() < 0.3, scale_shift=rng.random() < 0.3,
        activation=rng.choice(("none", "relu", "hardswish")),
    )  # fmt: skip
    return replace(spec, dtype="float16")


@pytest.mark.parametrize("batch", range(2))
def test_random_specs(batch: int) -> None:
    rng = Random(batch)
    specs = [some_spec(rng) for _ in range(16)]
    chosen = [(spec, TENSOR if i % 3 else PLAIN) for i, spec in enumerate(specs)]
    kernels = [
        compiled(spec, "sm_80", ALL_TILES, seed=i if i % 2 else None, id_=id_)
        for i, (spec, id_) in enumerate(chosen)
    ]
    prove_all(kernels, seed=batch)


@pytest.mark.parametrize("template_id", [TENSOR, PLAIN])
@pytest.mark.parametrize("name", ["first", "phases of a column", "3d"])
def test_the_device_packs_what_the_host_packs(name: str, template_id: str) -> None:
    need_cxx()
    kernel = compiled(SPECS[name], "sm_80", SMALL_TILES, id_=template_id)
    operands = fills.normal(kernel.spec)
    wanted = np.asarray(
        kernel.pack(operands.weight, operands.bias, scale=operands.scale, shift=operands.shift)
    )
    given = {"weight": operands.weight, "bias": operands.bias}
    tensors = {name: np.asarray(value) for name, value in given.items() if value is not None}
    outputs = {"packed": (wanted.shape, wanted.dtype)}
    found = emulate(device_packing(kernel), tensors, outputs, arch="sm_80")["packed"]
    assert np.array_equal(found.view(np.uint16), wanted.view(np.uint16))


MISTAKES = (
    Mistake("no test of a row", r"if \(READ_TESTED_H\) inside &=", "if (READ_TESTED_H) inside |="),
    Mistake("no test of a column", r"READ_TESTED_W = true", "READ_TESTED_W = false"),
    Mistake("tiles of x overlap more", r"tile / dilation \* m \+ i", "tile / dilation * m - i"),
    Mistake("columns start late", r"tile_w, j\) \+ from_w", "tile_w, j) + from_w + 1"),
    Mistake("both channels are the first", r"row\[1\]\[j\] = float_of\(pair\.at\[1\]\)",
            "row[1][j] = float_of(pair.at[0])"),
    Mistake("a sign of the transform of x", r"at\[2\] - at\[1\]", "at[2] + at[1]"),
    Mistake("rows and columns of points swapped", r"\(i \* POINTS_W \+ j\) \* \(TILES_IN",
            "(j * POINTS_W + i) * (TILES_IN"),
    Mistake("v of the next tile", r"TILES_IN \+ tile\) \* RUN", "TILES_IN + (tile ^ 1)) * RUN"),
    Mistake("v beside its channel", r"\* RUN \+ channel;", "* RUN + (channel ^ 2);"),
    Mistake("the last transform is left out", r"index >= TRANSFORMS",
            "index >= TRANSFORMS - RUN / 2"),
    Mistake("sums of the other half", r"within % 2 \* 8", "(within % 2 ^ 1) * 8"),
    Mistake("sums of other rows", r"within / 8 \+", "(within / 8 ^ 1) +"),
    Mistake("sums of other channels", r"within / 2 % 4 \* 2", "(within / 2 % 4 ^ 1) * 2"),
    Mistake("fragments of another strip", r"strip_row\(warp, rest % STRIPS\)",
            "strip_row(warp, (rest ^ 1) % STRIPS)"),
    Mistake("the last split is left out", r"split < SPLIT; \+\+split",
            "split < SPLIT - 1; ++split"),
    Mistake("points in another order", r"sums_at\(sums, i \* POINTS_W \+ j\)",
            "sums_at(sums, j * POINTS_W + i)"),
    Mistake("rows beyond the last are stored", r"h >= OUT_H \|\| w >= OUT_W", "w >= OUT_W"),
    Mistake("columns beyond the last are stored", r"h >= OUT_H \|\| w >= OUT_W", "h >= OUT_H"),
    Mistake("tiles beyond the last are stored", r"row >= PIXELS \|\| channel", "channel"),
    Mistake("channels beyond the last are stored",
            r"row >= PIXELS \|\| channel >= CHANNELS", "row >= PIXELS"),
    Mistake("the second channel's bias", r"VECTORS_AT \+ channel", "VECTORS_AT + (channel ^ 2)"),
    Mistake("rows and columns of outputs swapped", r"float both\[2\] = \{values\[0\]\[i\]",
            "float both[2] = {values[0][M_H - 1 - i]"),
    Mistake("the last tile of depth is left out", r"tile < part\.last; \+\+tile",
            "tile < part.last - 1; ++tile"),
    Mistake("weights of the next tile", r"part\.weights \+ \(size_t\)tile",
            "part.weights + (size_t)(tile ^ 1)"),
    Mistake("sums of the other warp", r"\* WARPS \+ warp\) \* STRIPS",
            "* WARPS + (warp ^ 1)) * STRIPS"),
    Mistake("splits in one place", r"blockIdx\.z \* STRIPS_PER_SPLIT", "0"),
)  # fmt: skip
# Of cuda.winograd, whose weights are two float16s each.
HALVES = (
    Mistake("a second half is left out", r"make_float4\(0x1p-11f", "make_float4(0x0p+0f"),
    Mistake("a second half is too large", r"make_float4\(0x1p-11f", "make_float4(0x1p-10f"),
    Mistake("second halves of the next term", r"\+ (?P<n>\d+)\)\);(?=\s+__4\.x)", "+ 48));"),
    Mistake("first halves twice", r"\+ (?P<n>\d+)\)\);(?=\s+__4\.x)", "));"),
)
# Why nobody can see a mistake.
EQUIVALENT = {
    "channels beyond the last are stored": "each of a pair is tested once more",
}


def survivors(kernel: Kernel, mistakes: tuple[Mistake, ...]) -> list[str]:
    """Which mistakes the proof of a kernel does not find."""
    need_cxx()
    device = kernel.built.device
    assert device is not None
    made = dict(mutants(device, mistakes))
    assert made.keys() == {mistake.name for mistake in mistakes}
    cases = proof_cases(kernel.spec, kernel.accuracy, 0)
    right, *wrong = prove([Subject(kernel, code, cases) for code in (device, *made.values())], 0)
    right.require()
    return [found for found, report in zip(made, wrong, strict=True) if report.ok]


def test_half_a_weight_is_missed() -> None:
    """Though it moves most outputs by less than their own rounding."""
    spec = replace(tc.conv2d((1, 16, 9, 9), 32, 3, padding=1), dtype="float16")
    config = "m_h=2,m_w=2,tile_m=32,tile_oc=16,tile_k=8,thread_m=4,thread_oc=4,ahead=0"
    assert survivors(tc.compile(spec, "sm_80", algorithm=PLAIN, config=config), HALVES) == []


def test_mistakes_are_found() -> None:
    spec = replace(tc.conv2d((1, 9, 7, 72), 24, 3, padding=1, bias=True, layout="NHWC"),
                   dtype="float16")  # fmt: skip
    config = "m_h=2,m_w=2,tile_m=64,tile_n=32,tile_k=32,warp_m=32,warp_n=16,stages=2,split=2"
    kernel = tc.compile(spec, "sm_80", algorithm=TENSOR, config=config, max_error=SMALL_TILES)
    assert survivors(kernel, MISTAKES) == list(EQUIVALENT)
