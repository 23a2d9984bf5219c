"""Implicit GEMM on tensor cores, on emulated GPUs: variants, tiles, element types, and mistakes."""

import re
from dataclasses import replace
from random import Random

import pytest

import tvmconv as tc
from tests.emulated.cuda_sources import need_cxx
from tests.emulated.mutants import Mistake, mutants
from tvmconv.emulate.cuda.proof import Subject, prove, validate_kernels
from tvmconv.kernel import Kernel
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.validate import proof_cases

pytestmark = pytest.mark.emulated

WARPS, WARPGROUPS = "cuda.implicit_gemm", "cuda.warpgroup_gemm"
MAX_ERROR = 1e-3

VARIANTS = {
    "3x3": tc.conv2d((1, 9, 11, 64), 24, 3, padding=1, activation="relu", layout="NHWC"),
    "odd": tc.conv2d((2, 9, 10, 11), 20, (3, 2), stride=2, padding=1, residual=True),
    "stem": tc.conv2d((2, 3, 15, 17), 20, 7, stride=2, padding=3, scale_shift=True),
    "pointwise": tc.conv2d((2, 8, 9, 64), 72, 1, bias=True, residual=True, layout="NHWC"),
    "pixels by 8": tc.conv2d((2, 37, 8, 9), 24, 1, bias=True),
    "pixels by 4": tc.conv2d((3, 40, 6, 6), 36, 1, groups=2, residual=True),
    "pixels by 2": tc.conv1d((2, 30, 42), 20, 1, scale_shift=True),
    "odd plane": tc.conv2d((2, 20, 3, 7), 17, 1),
    "1x1 stride 2": tc.conv2d((1, 32, 9, 8), 16, 1, stride=2, activation="gelu"),
    "reflected": tc.conv2d((1, 16, 9, 8), 16, 3, padding=(1, 2), padding_mode="reflect"),
    "circular": tc.conv2d((1, 6, 5, 16), 18, 3, padding=1, padding_mode="circular", layout="NHWC"),
    "constant": tc.conv2d((1, 16, 6, 5), 16, 3, padding=1, padding_mode="constant", pad_value=2.0),
    "dilated": tc.conv2d((1, 7, 9, 48), 34, 3, padding=2, dilation=2, groups=2, layout="NHWC"),
    "groups of 18": tc.conv2d((1, 36, 5, 6), 36, 3, padding=1, groups=2, flip=True),
    "deep": tc.conv2d((1, 3, 3, 320), 16, 3, padding=1, bias=True, layout="NHWC"),
    "phases": tc.conv_transpose2d((1, 7, 6, 24), 16, (4, 3), stride=2, padding=1, layout="NHWC"),
    "empty phases": tc.conv_transpose2d((1, 16, 4, 3), 16, (1, 2), stride=3, output_padding=1),
    "1d": tc.conv1d((3, 21, 19), 24, 5, dilation=2, padding="causal", activation="silu"),
    "3d": tc.conv3d((1, 5, 6, 4, 8), 17, (3, 1, 2), stride=(1, 2, 1), padding=1, layout="NDHWC"),
    "long taps": tc.conv1d((1, 16, 40), 16, 33, padding=16),
}  # fmt: skip


def of_type(spec: ConvSpec, dtype: str) -> ConvSpec:
    return replace(spec, dtype=dtype)


def compiled(spec: ConvSpec, target_id: str, template_id: str, seed: int | None = None) -> Kernel:
    """The template's default config, or one from anywhere in its space."""
    task, template = Task(spec, load(target_id), max_error=MAX_ERROR), get_template(template_id)
    config = template.default(task)
    if seed is not None:
        configs = template.space(task).configs()
        config = configs[Random(seed).randrange(len(configs))]
    return tc.compile(spec, target_id, algorithm=template_id, config=config, max_error=MAX_ERROR)


def prove_all(kernels: list[Kernel]) -> None:
    need_cxx()
    for report in validate_kernels(kernels, seed=3):
        report.require()


# One chip has every variant; the others, which differ in instructions alone, have some each.
@pytest.mark.parametrize(
    ("template_id", "target_id", "dtype", "every"),
    [
        (WARPS, "sm_75", "float16", 4),
        (WARPS, "sm_80", "float16", 1),
        (WARPS, "sm_86", "float32", 3),
        (WARPS, "sm_89", "bfloat16", 2),
        (WARPGROUPS, "sm_90", "float16", 2),
        (WARPGROUPS, "sm_90", "bfloat16", 3),
    ],
)
def test_variants(template_id: str, target_id: str, dtype: str, every: int) -> None:
    specs = [of_type(spec, dtype) for spec in VARIANTS.values()][::every]
    prove_all([compiled(spec, target_id, template_id) for spec in specs])


def test_weights_in_one_piece() -> None:
    """Default tiles with bulk copies, every other variant of those that are not proven above."""
    kernels = []
    for spec in list(VARIANTS.values())[1::4]:
        half = of_type(spec, "float16")
        config = str(get_template(WARPGROUPS).default(Task(half, load("sm_90"))))
        assert "bulk=0" in config
        config = config.replace("bulk=0", "bulk=1")
        kernels.append(tc.compile(half, "sm_90", algorithm=WARPGROUPS, config=config))
    assert all("cp.async.bulk" in kernel.inspect("cuda") for kernel in kernels)
    prove_all(kernels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template_id", "target_id", "dtype"),
    [
        (WARPS, "sm_75", "float16"),
        (WARPS, "sm_90", "float16"),
        (WARPS, "sm_100", "float32"),
        (WARPS, "sm_80", "bfloat16"),
        (WARPGROUPS, "sm_90", "float16"),
    ],
)
def test_tiles_from_anywhere(template_id: str, target_id: str, dtype: str) -> None:
    kernels = [
        compiled(of_type(spec, dtype), target_id, template_id, seed)
        for seed, spec in enumerate(VARIANTS.values())
    ]
    assert any(kernel.config.integer("split") > 1 for kernel in kernels)
    prove_all(kernels)


BLOCK = (
    Mistake("stages are read one copy early", r"wait_copies<STAGES - (?P<n>\d)>",
            "wait_copies<STAGES - {n-1}>"),
    Mistake("the last tile of depth is left out", r"tile < part\.last; \+\+tile",
            "tile < part.last - 1; ++tile"),
    Mistake("chunks of x are exchanged by other rows", r"swizzled\(row, chunk\)",
            "swizzled(row + 2, chunk)"),
    Mistake("copies go where the tile is read", r"copy_stage\(shared, written",
            "copy_stage(shared, read"),
    Mistake("no test of a row", r"if \(PADDED_H\) found &=", "if (PADDED_H) found |="),
    Mistake("a row of padding too many", r"PADDED_W = true", "PADDED_W = false"),
    Mistake("taps of a row in a column", r"STEP_W \* X_W", "STEP_W * X_H"),
    Mistake("chunks beyond the depth are read", r"bytes = k < depth \?", "bytes = k <= depth ?"),
    Mistake("a half of a chunk", r"copied \? bytes : 0\);", "copied ? bytes / 2 : 0);"),
    Mistake("weights of the next tile", r"part\.weights \+ \(size_t\)tile",
            "part.weights + (size_t)(tile ^ 1)"),
    Mistake("the other channels' bias", r"VECTORS_AT \+ channel", "VECTORS_AT + (channel ^ 8)"),
    Mistake("rows beyond the last are stored", r"row < PIXELS \? row \* Y_ROW",
            "true ? row * Y_ROW"),
    Mistake("channels beyond the last are stored", r"\|\| channel >= CHANNELS", ""),
    Mistake("strips overlap", r"STRIP_FLOATS = 16", "STRIP_FLOATS = 15"),
    Mistake("lanes swap columns", r"lane % 4 \* 2", "(lane % 4 * 2 ^ 2)"),
    Mistake("no barrier before strips", r"__syncthreads\(\);", "", -1),
    Mistake("no barrier before a stage is read", r"__syncthreads\(\);", "", -2),
    Mistake("no barrier between strips", r"__syncwarp\(\);", ""),
    Mistake("no barrier in a strip", r"__syncwarp\(\);", "", 1),
)  # fmt: skip
OF_WARPS = (
    *BLOCK,
    Mistake("lanes load each other's rows", r"row \+= lane % 16;", "row += (lane ^ 1) % 16;"),
    Mistake("lanes load the other chunk", r"step \* 2 \+ lane / 16", "step * 2 + (lane / 16 ^ 1)"),
    Mistake("weights' halves are swapped", r"b\.x, b\.y\)", "b.y, b.x)"),
    Mistake("the block's other channels", r"\+ warp_n \* \(WARP_N / 16\)", ""),
)
OF_WARPGROUPS = (
    *BLOCK,
    Mistake("sums are not waited for", r"wait_multiplications<0>\(\);", ""),
    Mistake("matrices are overwritten", r"wait_multiplications<1>", "wait_multiplications<3>"),
    Mistake("weights a step ahead", r"weights \+ 2 \* step\)", "weights + 2 * (step ^ 1))"),
    Mistake("rows of the other warpgroup", r"threadIdx\.x / 128 \* STRIPS", "STRIPS * 0"),
    Mistake("warps of a warpgroup swapped", r"warp % 4 \* 16", "(warp % 4 ^ 1) * 16"),
)
OF_BULK = (
    Mistake("weights are not waited for", r"weights\.wait\(read\);", ""),
    Mistake("the other parity", r"parity = 0;", "parity = 1;"),
    Mistake("parity stays", r"parity \^= 1;", "parity ^= 0;"),
    Mistake("parity changes early", r"stage == STAGES - 1\) parity", "stage == 0) parity"),
    Mistake("the next stage is waited for", r"weights\.wait\(read\)", "weights.wait(written)"),
    Mistake("more bytes than come", r'"n"\(B_BYTES\) : "memory"', '"n"(B_BYTES + 16) : "memory"'),
    Mistake("fewer bytes than come", r'"n"\(B_BYTES\) : "memory"', '"n"(B_BYTES - 16) : "memory"'),
    Mistake("half of the weights", r'"l"\(source\), "n"\(B_BYTES\)',
            '"l"(source), "n"(B_BYTES / 2)'),
    Mistake("no bytes are expected", r"arrive\.expect_tx\.shared::cta\.b64 _, \[%0\], %1",
            "arrive.shared::cta.b64 _, [%0]"),
    Mistake("every warp starts a copy", r"threadIdx\.x != 0\)", "threadIdx.x % 32 != 0)"),
    Mistake("two arrivals are wanted", r"\[%0\], 1;", "[%0], 2;"),
    Mistake("mbarriers are not shown", r'asm volatile\("fence\.proxy[^;]*;" ::: "memory"\);', ""),
    Mistake("nobody waits for the mbarriers' start", r"__syncthreads\(\);\n    \}", "}"),
    Mistake("one mbarrier for all stages", r"8 \* stage;", "0;"),
    Mistake("mbarriers lie in the stages", r"shared \+ ARRIVALS_AT", "shared"),
    Mistake("the last stage has no mbarrier", r"stage < STAGES; \+\+stage",
            "stage < STAGES - 1; ++stage"),
)  # fmt: skip
SPLITS = (
    Mistake("the last split is left out", r"split < SPLIT; \+\+split",
            "split < SPLIT - 1; ++split"),
    Mistake("splits overlap", r"\(\(int\)blockIdx\.z \+ 1\) \* tiles / SPLIT",
            "((int)blockIdx.z + 1) * tiles / SPLIT + 1"),
    Mistake("strips of another warp", r"int strip = index % STRIPS, warp",
            "int strip = (index ^ 1) % STRIPS, warp"),
)  # fmt: skip
STAGED = (
    Mistake("staging without a barrier", r"__syncthreads\(\);", "", -1),
    Mistake("padding is read a column late", r"EVERY_W \+ LOW_W", "EVERY_W + LOW_W + 1"),
    Mistake("channels that are none", r"c >= STAGED_FROM", "c > STAGED_FROM"),
)

TURNED = (
    Mistake("matrices are not turned", r"m8n8\.x4\.trans", "m8n8.x4"),
    Mistake("halves of the depth are swapped", r"matrix / 2 \* 8", "(matrix / 2 ^ 1) * 8"),
    Mistake("channels that are none", r"bool exists = k < depth;", "bool exists = true;"),
    Mistake("parts in the wrong place", r"\+ part \* TOGETHER", "+ (part ^ 1) * TOGETHER"),
    Mistake("the first image alone", r"row / PIXELS_W \* X_N", "0"),
)

BFLOAT16 = (
    Mistake("elements are shifted too little", r"\(unsigned\)bits << 16", "(unsigned)bits << 15"),
    Mistake("results are cut, not rounded", r'asm\("cvt\.rn\.bf16x2[^;]*;[^;]*;',
            "bits = __float_as_uint(value) >> 16;"),
)  # fmt: skip

MADE = of_type(
    tc.conv2d((1, 9, 8, 24), 40, 3, padding=1, bias=True, activation="relu", layout="NHWC"),
    "float16",
)
FIRST = of_type(tc.conv2d((1, 36, 9, 7), 40, 3, padding=1, bias=True), "float16")
PIXELS = of_type(tc.conv2d((3, 37, 6, 6), 40, 1, bias=True), "float16")
_WARPS = "tile_m=64,tile_n=64,tile_k=32,warp_m=32,warp_n=32,stages=3,split="
_WARPGROUPS = "tile_m=128,tile_n=64,tile_k=64,warp_m=16,stages=3,bulk={},split="
KERNELS = {
    "warps": (MADE, WARPS, f"{_WARPS}1", OF_WARPS),
    "warpgroups": (MADE, WARPGROUPS, f"{_WARPGROUPS.format(0)}1", OF_WARPGROUPS),
    "bulk": (MADE, WARPGROUPS, f"{_WARPGROUPS.format(1)}1", (*OF_WARPGROUPS, *OF_BULK)),
    "splits": (MADE, WARPS, f"{_WARPS}4", SPLITS),
    "turned": (PIXELS, WARPS, f"{_WARPS}1", TURNED),
    "staged": (FIRST, WARPS, f"{_WARPS}1", STAGED),
    "bfloat16": (of_type(MADE, "bfloat16"), WARPS, f"{_WARPS}1", BFLOAT16),
}
# Why nobody can see a mistake.
EQUIVALENT = {
    ("warpgroups", "no barrier between strips"): "a warp has one strip",
    ("bulk", "no barrier between strips"): "a warp has one strip",
}


@pytest.mark.parametrize("name", KERNELS)
def test_mistakes_are_found(name: str) -> None:
    need_cxx()
    spec, template_id, config, mistakes = KERNELS[name]
    kernel = tc.compile(spec, "sm_90", algorithm=template_id, config=config)
    device = kernel.built.device
    assert device is not None
    made = dict(mutants(device, mistakes))
    assert made.keys() == {mistake.name for mistake in mistakes}
    cases = proof_cases(spec, kernel.accuracy, 0)
    right, *wrong = prove([Subject(kernel, code, cases) for code in (device, *made.values())], 0)
    right.require()
    survivors = [found for found, report in zip(made, wrong, strict=True) if report.ok]
    assert survivors == [found for at, found in EQUIVALENT if at == name]


def test_a_source_says_nothing_of_the_template_that_it_does_not_use() -> None:
    kernel = compiled(MADE, "sm_90", WARPGROUPS)
    source = kernel.inspect("cuda")
    assert "wgmma.mma_async" in source
    assert not re.search(r"\breduce\(", source) or kernel.config.integer("split") > 1
    assert "mbarrier" not in source
