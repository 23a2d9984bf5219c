"""What LLVM makes of the hot loops: the right instructions, and sums that stay in registers.

Nothing here runs, so every level is checked on every machine.
"""

import re
from functools import cache

import pytest

import tvmconv as tc
from tests.schedules.cases import CASES, FAMILY_CASES, LEVELS
from tvmconv.hot_loop import find_hot_loop
from tvmconv.kernel import Kernel
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template

DIRECT = {
    "first": CASES["x86.direct"][0],
    "last": tc.conv2d((1, 56, 56, 64), 64, 3, padding=1, bias=True, layout="NHWC"),
    "1d": tc.conv1d((1, 200, 64), 64, 5, layout="NWC"),
    "3d": tc.conv3d((1, 8, 14, 14, 64), 64, 3, padding=1, layout="NDHWC"),
}
FMA = {"x86_64_v3": r"vfn?madd\d+ps\s.*%ymm", "x86_64_v4": r"vfn?madd\d+ps\s.*%zmm"}


@cache
def compiled(spec: ConvSpec, level: str, algorithm: str) -> Kernel:
    kernel: Kernel = tc.compile(spec, level, algorithm=algorithm)
    return kernel


def hot_loop(kernel: Kernel) -> str:
    found = find_hot_loop(kernel.inspect("asm"))
    assert found is not None
    return found.text


def count(pattern: str, text: str) -> int:
    return len(re.findall(pattern, text))


@pytest.mark.parametrize("level", ["x86_64_v3", "x86_64_v4"])
@pytest.mark.parametrize("name", DIRECT)
def test_direct_multiplies_and_adds_whole_vectors(name: str, level: str) -> None:
    kernel = compiled(DIRECT[name], level, "x86.direct")
    loop, config = hot_loop(kernel), kernel.config
    tile = config.integer("tile_oc") * config.integer("tile_oh") * config.integer("tile_ow")
    # Every accumulator has its multiply-add, and nothing else multiplies.
    assert count(FMA[level], loop) % (tile // load(level).lanes) == 0
    assert count(FMA[level], loop) > 0
    assert count(r"v(?:mul|add)[ps]s", loop) == 0
    assert count(r"vfn?madd\d+s[sd]", loop) == 0


def test_a_core_of_two_halves_takes_short_rows_by_one() -> None:
    spec = tc.conv2d((1, 64, 7, 7), 64, 3, padding=1, groups=64)
    task = Task(spec, load("zen4"))
    config = next(
        c for c in get_template("x86.columns").shortlist(task) if c.integer("tile_ow") == 8
    )
    loop = hot_loop(tc.compile(spec, task.target, algorithm="x86.columns", config=config))
    assert count(FMA["x86_64_v3"], loop) > 0
    assert count(FMA["x86_64_v4"], loop) == 0


def test_a_core_of_two_halves_takes_24_channels_by_three() -> None:
    spec = tc.conv2d((1, 56, 56, 144), 24, 1, layout="NHWC")
    task = Task(spec, load("zen4"))
    config = next(
        c for c in get_template("x86.pointwise").shortlist(task) if c.integer("tile_oc") == 24
    )
    loop = hot_loop(tc.compile(spec, task.target, algorithm="x86.pointwise", config=config))
    tile = config.integer("tile_oh") * config.integer("tile_ow")
    assert count(FMA["x86_64_v3"], loop) % (3 * tile) == 0
    assert count(FMA["x86_64_v3"], loop) > 0
    assert count(FMA["x86_64_v4"], loop) == 0


@pytest.mark.parametrize("name", DIRECT)
def test_direct_without_fma_multiplies_and_adds_xmm(name: str) -> None:
    loop = hot_loop(compiled(DIRECT[name], "x86_64_v2", "x86.direct"))
    assert count(r"\smulps\s", loop) == count(r"\saddps\s", loop) > 0


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("template_id", CASES)
def test_no_instruction_beyond_the_level(template_id: str, level: str) -> None:
    """The whole object, not the hot loop: one stray instruction is a crash on an older CPU."""
    asm = compiled(CASES[template_id][0], level, template_id).inspect("asm")
    if level != "x86_64_v4":
        assert count(r"%zmm|%k[1-7]|%[xy]mm(?:1[6-9]|2\d|3[01])", asm) == 0
    if level == "x86_64_v2":
        assert count(r"%ymm|\sv[a-z]+\s|\sandn|\sshlx|\sbextr|\sblsr|\stzcnt|\slzcnt", asm) == 0


@pytest.mark.parametrize("template_id", ["x86.direct", "x86.pointwise", "x86.transposed"])
@pytest.mark.parametrize("level", ["x86_64_v3", "x86_64_v4"])
def test_sums_stay_in_registers(template_id: str, level: str) -> None:
    assert spills(hot_loop(compiled(CASES[template_id][0], level, template_id))) == []


def spills(loop: str) -> list[str]:
    """Vector registers that are saved on the stack."""
    return re.findall(r"v?mov[aud]p[sd]\s+%[xyz]mm\d+, -?\d*\(%rsp\)", loop)


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_called_from_a_kernel(level: str) -> None:
    """Activations are arithmetic; only the runtime's own functions and memset may be called."""
    spec = tc.conv2d((1, 9, 9, 16), 16, 3, layout="NHWC", bias=True, activation="gelu")
    asm = compiled(spec, level, "x86.direct").inspect("asm")
    called = set(re.findall(r"call[lq]?\s+([A-Za-z_]\w*)", asm))
    own = {name for name in called if name.startswith(("conv", "__TVM", "__tvm", "TVM"))}
    assert called - own <= {"memset", "memcpy"}


# Layers whose hot loops are of kinds that the templates' own cases lack.
LAYERS = {
    "stem": ("arm.columns", tc.conv2d((1, 3, 224, 224), 64, 7, stride=2, padding=3)),
    "stem_last": (
        "arm.direct",
        tc.conv2d((1, 224, 224, 3), 64, 7, stride=2, padding=3, layout="NHWC"),
    ),
    "depthwise": ("arm.columns", tc.conv2d((1, 96, 28, 28), 96, 3, padding=1, groups=96)),
    "strided": ("arm.columns", tc.conv2d((1, 9, 56, 56), 9, 3, stride=2, padding=1, groups=9)),
    "few": ("arm.columns", tc.conv2d((1, 64, 28, 28), 64, 3, padding=1, groups=16)),
}
NEON = ("pi3", "pi4", "pi5", "neoverse_n1", "armv7")
OTHERS = {"arm": (*NEON, "neoverse_v1"), "riscv": ("riscv64", "riscv64_v")}
FOREIGN = [
    pytest.param(template_id, specs[0], target, id=f"{template_id}-{target}")
    for family, targets in OTHERS.items()
    for template_id, specs in FAMILY_CASES[family].items()
    for target in targets
] + [
    pytest.param(template_id, spec, target, id=f"{name}-{target}")
    for name, (template_id, spec) in LAYERS.items()
    for target in OTHERS["arm"]
]
# A butterfly of eight complex points and their powers is more than the registers hold.
BEYOND_REGISTERS = {"arm.fft": 0.25}
# A weight that is kept on the stack across the loop, and loaded from there, is no slower.
RELOADS = 0.02


@pytest.mark.parametrize(("template_id", "spec", "target"), FOREIGN)
def test_hot_loops_use_no_stack(template_id: str, spec: ConvSpec, target: str) -> None:
    if (reason := get_template(template_id).supports(Task(spec, load(target)))) is not None:
        pytest.skip(reason)
    found = find_hot_loop(compiled(spec, target, template_id).inspect("asm"))
    assert found is not None
    share = BEYOND_REGISTERS.get(template_id, RELOADS)
    assert len(found.spills) <= share * found.instructions, found.spills


@pytest.mark.parametrize("chunks", [1, 4])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_products_of_parts_keep_their_sums_in_registers(layout: str, chunks: int) -> None:
    """49 columns fill three squares and a column; 28 half sums of a vector are local memory."""
    spec = tc.conv2d((1, 384, 14, 14), 1536, 1).laid_out(layout)
    tile = "levels=2,vector=oc,tile_oc=48,tile_oh=1,tile_ow=7,block_oh=1,block_ow=49"
    config = f"{tile},chunks={chunks}"
    kernel = tc.compile(spec, "zen4", algorithm="x86.strassen", config=config)
    loop = find_hot_loop(kernel.inspect("asm"))
    assert loop is not None
    assert loop.arithmetic == 21
    assert loop.spills == ()


@pytest.mark.parametrize(("size", "lines"), [(126, 4), (28, 0)])
def test_columns_of_large_planes_are_asked_for(size: int, lines: int) -> None:
    """A line for each of four channels; x of 28x28 stays in the second-level cache."""
    spec = tc.conv2d((1, 256, size, size), 64, 1)
    tile = "tile_oc=32,tile_oh=1,tile_ow=7,block_oh=1,block_ow=1,parts=1,stage=none"
    kernel = tc.compile(spec, "x86_64_v4", algorithm="x86.pointwise", config=tile)
    loop = find_hot_loop(kernel.inspect("asm"))
    assert loop is not None
    assert loop.text.count("prefetcht0") == lines


@pytest.mark.parametrize("block", [3200, 2667])
def test_tests_of_a_row_read_in_place_are_masks_or_gone(block: int) -> None:
    """Dilated by a vector, a test is the same for all lanes; as a branch it parts every step."""
    spec = tc.conv1d((1, 32, 16000), 32, 2, padding="causal", dilation=16)
    tile = f"tile_oc=8,tile_oh=1,tile_ow=48,block_oh=1,block_ow={block},parts=1,stage=guarded"
    kernel = tc.compile(spec, "x86_64_v4", algorithm="x86.columns", config=tile)
    blocks = re.split(r"^\.L\w+:", kernel.inspect("asm"), flags=re.MULTILINE)
    steps = [text for text in blocks if count(FMA["x86_64_v4"], text)]
    assert all(count(FMA["x86_64_v4"], text) % 24 == 0 for text in steps)
    assert any("{%k" in text for text in steps)
    assert any("{%k" not in text for text in steps)


LONG_TRANSFORMS = {
    "96x96": tc.conv2d((1, 64, 56, 56), 64, 31, padding=15, groups=64),
    "192x128": tc.conv2d((1, 3, 512, 512), 8, 21, padding=10),
    "6144": tc.conv1d((1, 1, 16000), 32, 1024),
}


@pytest.mark.parametrize("target", ["x86_64_v4", "pi4"])
@pytest.mark.parametrize("name", LONG_TRANSFORMS)
def test_long_transforms_are_short_code(name: str, target: str) -> None:
    """Levels are loops around one butterfly each: compiling does not grow with the points."""
    asm = compiled(LONG_TRANSFORMS[name], target, "fft").inspect("asm")
    assert asm.count("\n") < 16_000


@pytest.mark.parametrize("template_id", ["direct", "depthwise", "general"])
def test_vectors_of_risc_v_multiply_by_scalars(template_id: str) -> None:
    spec = FAMILY_CASES["riscv"][f"riscv.{template_id}"][0]
    loop = hot_loop(compiled(spec, "riscv64_v", f"riscv.{template_id}"))
    kind = "v" if template_id == "depthwise" else "f"
    assert count(rf"\svfm(?:acc|add)\.v{kind}\s", loop) > 0
    assert count(r"\sfn?m(?:add|sub)\.s\s", loop) == 0


@pytest.mark.parametrize("template_id", ["arm.direct", "arm.columns", "arm.winograd"])
def test_sve_is_used_for_sums(template_id: str) -> None:
    loop = hot_loop(compiled(DIRECT["first"], "neoverse_v1", template_id))
    assert count(r"\sfml[as]\s+z", loop) > 0
    assert count(r"\sfml[as]\s+v", loop) == 0


@pytest.mark.parametrize("template_id", ["arm.direct", "arm.columns", "arm.winograd"])
def test_factors_are_lanes_of_loaded_vectors(template_id: str) -> None:
    """At most a quarter of the multiply-adds needs a load, and none a broadcast of its own."""
    loop = find_hot_loop(compiled(DIRECT["first"], "pi4", template_id).inspect("asm"))
    assert loop is not None
    products = count(r"\sfmla\s", loop.text)
    assert products == loop.arithmetic >= 64
    assert count(r"\sfmla\s.*v\d+\.s\[\d\]", loop.text) == products
    assert count(r"\s(?:ldr|ldur|ldp)\s", loop.text) <= products / 4
    assert count(r"\s(?:dup|ld1r|mov\s+v)", loop.text) == 0


@pytest.mark.parametrize(
    ("level", "wide"), [("x86_64_v3", "vperm2f128"), ("x86_64_v4", "vshuff64x2")]
)
@pytest.mark.parametrize("algorithm", ["x86.winograd", "x86.direct"])
def test_channels_first_is_transposed_by_whole_vectors(
    algorithm: str, level: str, wide: str
) -> None:
    text = compiled(DIRECT["first"], level, algorithm).inspect("asm")
    assert count(rf"\s{wide}\s|\svinsertf128\s", text) >= load(level).lanes
    # What LLVM made of scattered lanes: 4x4 values at a time.
    assert count(r"vblendps", text) == 0
