"""Every variant of the spec on emulated GPUs: random specs, many kernels to a program.

A spec is proven as `tc.validate` proves it on this machine: bit-equal to torch on integers, within
the bound on real values, NaN and infinities where torch has them, another order of threads no other
bits; and no access out of bounds, misaligned, or unordered.
"""

import importlib
from dataclasses import replace
from functools import cache

import pytest

import tvmconv as tc
from tests.emulated.cuda_sources import need_cxx
from tests.emulated.machines import sample
from tests.strategies import conv_specs
from tvmconv.choose import Candidate, consider
from tvmconv.emulate.proof import validate_kernels
from tvmconv.kernel import Kernel
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, templates

pytestmark = pytest.mark.emulated

# Specs per process, so that two workers of pytest share the work evenly.
BATCH = 25
SAMPLE = {"conv": 5, "conv_transpose": 2, "deform_conv": 2}  # batches of each operator
BATCHES = [(op, i) for op, count in SAMPLE.items() for i in range(count)]
GPUS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100")
# Element types take turns.
SHARES = ("float32", "float32", "float16", "float32", "float32", "bfloat16")
# Whatever is allowed for speed is proven within its own bound.
MAX_ERROR = 1e-2


@cache
def specs_of(op: str) -> list[ConvSpec]:
    return sample(conv_specs(ops=(op,)), SAMPLE[op] * BATCH)


def candidates(task: Task) -> list[Candidate]:
    """What takes the task, by name."""
    return sorted((c for c in consider(task) if c.fits), key=lambda c: c.template.id)


def one_of_many(spec: ConvSpec, target_id: str, turn: int) -> Kernel:
    """Templates take turns, and every other time a config from anywhere in the space."""
    task = Task(spec, load(target_id), max_error=MAX_ERROR)
    found = candidates(task)
    template, config = found[turn % len(found)].template, found[turn % len(found)].config
    if turn // 2 % 2:
        space = template.space(task)
        places = (turn * 7919 + i * 104729 for i in range(50))
        configs = (space.at(place % space.grid_size) for place in places)
        config = next((c for c in configs if space.valid(c) is None), config)
    return tc.compile(spec, target_id, algorithm=template.id, config=config, max_error=MAX_ERROR)


@pytest.mark.parametrize(("op", "batch"), BATCHES)
def test_random_specs(op: str, batch: int) -> None:
    need_cxx()
    target_id = GPUS[BATCHES.index((op, batch)) % len(GPUS)]
    specs = specs_of(op)[batch * BATCH : (batch + 1) * BATCH]
    mixed = [replace(s, dtype=SHARES[i % len(SHARES)]) for i, s in enumerate(specs)]
    kernels = [one_of_many(spec, target_id, turn) for turn, spec in enumerate(mixed)]
    for report in validate_kernels(kernels, seed=batch):
        report.require()


# Small enough for seconds, wide enough for tensor cores; each by every template that takes it.
WIDE = (
    tc.conv2d((1, 32, 9, 7), 48, 3, padding=1, bias=True, activation="relu"),
    tc.conv2d((2, 8, 6, 40), 64, 3, stride=2, padding=2, layout="NHWC", residual=True),
    tc.conv2d((1, 3, 17, 19), 32, 5, stride=2, padding=2, scale_shift=True, activation="silu"),
    tc.conv2d((1, 64, 7, 7), 40, 3, padding=1, groups=2, padding_mode="replicate"),
    tc.conv1d((2, 48, 37), 64, 1, bias=True),
    tc.conv3d((1, 4, 6, 5, 16), 32, 3, padding=1, dilation=(1, 2, 1), layout="NDHWC"),
    tc.conv_transpose2d((1, 24, 7, 5), 32, 4, stride=2, padding=1, bias=True),
)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("target_id", ["sm_75", "sm_80", "sm_90"])
def test_every_template_on_wide_layers(target_id: str, dtype: str) -> None:
    need_cxx()
    specs = [replace(spec, dtype=dtype) for spec in WIDE]
    tasks = [Task(spec, load(target_id), max_error=MAX_ERROR) for spec in specs]
    kernels = [
        tc.compile(task.spec, target_id, algorithm=candidate.template.id, max_error=MAX_ERROR)
        for task in tasks
        for candidate in candidates(task)
        if candidate.template.id != "cuda.general"
    ]
    for report in validate_kernels(kernels, seed=3):
        report.require()


def test_every_template_has_its_turn() -> None:
    specs = [*(spec for op in SAMPLE for spec in specs_of(op)[:BATCH]), *WIDE]
    specs += [replace(spec, dtype="float16") for spec in WIDE]
    tasks = [Task(spec, load("sm_90"), max_error=MAX_ERROR) for spec in specs]
    seen = {candidate.template.id for task in tasks for candidate in candidates(task)}
    assert seen == {template.id for template in templates("cuda")}


# Layers whose pixels, or Winograd's tiles, are copied four at a time, and what runs ahead of them.
TOGETHER = {
    "batches": (tc.conv2d((2, 40, 6, 6), 24, 1, bias=True), "cuda.pointwise"),
    "groups": (tc.conv1d((3, 40, 28), 40, 1, groups=2, residual=True), "cuda.pointwise"),
    "a tile and a bit": (tc.conv3d((1, 24, 3, 3, 12), 17, 1), "cuda.pointwise"),
    "tiles": (tc.conv2d((2, 24, 9, 9), 24, 3, padding=1), "cuda.winograd"),
    "tiles of slices": (tc.conv3d((1, 8, 3, 6, 6), 16, (3, 1, 3), padding=1), "cuda.winograd"),
}
AHEAD = ("ahead=0,stages=1", "ahead=1,stages=1", "ahead=0,stages=2", "ahead=0,stages=3")


@pytest.mark.parametrize("name", TOGETHER)
def test_pixels_are_copied_together(name: str) -> None:
    need_cxx()
    spec, template_id = TOGETHER[name]
    tiles = "tile_m=64,tile_oc=16,tile_k=8,thread_m=4,thread_oc=4"
    if template_id == "cuda.pointwise":
        configs = [f"{tiles},{ahead},slices=1" for ahead in AHEAD]
        configs.append(f"{tiles},ahead=0,stages=1,slices=2")
    else:
        outputs = "m_h=1,m_w=2" if spec.rank == 3 else "m_h=2,m_w=2"
        configs = [f"{outputs},{tiles},{ahead}" for ahead in AHEAD]
    kernels = [tc.compile(spec, "sm_80", algorithm=template_id, config=c) for c in configs]
    copied = [kernel.inspect("cuda").count("start_copy<16>((&(xcol_shared") for kernel in kernels]
    assert copied[:4] == ([0, 0, 2, 3] if name != "tiles of slices" else [0] * 4)
    for report in validate_kernels(kernels, seed=5):
        report.require()


@pytest.mark.parametrize("name", ["constant", "deformable"])
def test_stages_of_what_is_no_copy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space has them, since little is won; x is then stored by hand, weights are copied."""
    need_cxx()
    product = importlib.import_module("tvmconv.schedules.nests.product")
    monkeypatch.setattr(product, "stages_of_x", lambda task: product.STAGES)
    specs = {
        "constant": tc.conv1d((2, 6, 30), 8, 3, padding=2, padding_mode="constant", pad_value=1.5),
        "deformable": tc.deform_conv2d((1, 4, 7, 6), 8, 3, padding=1, mask=True),
    }
    tiles = "tile_m=32,tile_oc=8,tile_k=4,thread_m=2,thread_oc=4,ahead=0,stages=3,slices=1"
    algorithm = "cuda.deformable" if name == "deformable" else "cuda.direct"
    kernel = tc.compile(specs[name], "sm_80", algorithm=algorithm, config=tiles)
    source = kernel.inspect("cuda")
    assert source.count("start_copy<4>((&(weight") == 3
    assert "start_copy<4>((&(xcol" not in source
    (report,) = validate_kernels([kernel], seed=5)
    report.require()


# What networks are made of, below 2 M multiply-adds, as it is chosen by default.
LAYERS = {
    "3x3": tc.conv2d((1, 32, 14, 14), 32, 3, padding=1, bias=True, activation="relu"),
    "1x1": tc.conv2d((1, 64, 14, 14), 64, 1, bias=True, residual=True),
    "depthwise": tc.conv2d((1, 96, 28, 28), 96, 3, padding=1, groups=96, activation="relu6"),
    "stem": tc.conv2d((1, 3, 32, 32), 32, 7, stride=2, padding=3, bias=True),
    "grouped": tc.conv2d((1, 64, 14, 14), 64, 3, padding=1, groups=16),
    "last": tc.conv2d((1, 14, 14, 32), 32, 3, padding=1, layout="NHWC", bias=True),
    "upsampling": tc.conv_transpose2d((1, 16, 14, 14), 16, 4, stride=2, padding=1),
    "3d": tc.conv3d((1, 8, 4, 8, 8), 16, 3, padding=1),
    "waves": tc.conv1d((1, 16, 256), 32, 9, padding="causal", dilation=2),
    "deformable": tc.deform_conv2d((1, 16, 14, 14), 16, 3, padding=1, mask=True),
}


@pytest.mark.parametrize("target_id", ["sm_75", "sm_90"])
def test_layers_of_networks(target_id: str) -> None:
    need_cxx()
    assert max(spec.macs for spec in LAYERS.values()) < 2e6
    kernels = [tc.compile(spec, target_id) for spec in LAYERS.values()]
    for report in validate_kernels(kernels, seed=1):
        report.require()
