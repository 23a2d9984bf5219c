"""Templates on tensor cores: which tasks, which tiles, what is chosen, how it is launched."""

from dataclasses import replace

import numpy as np
import pytest

import tvmconv as tc
from tvmconv.choose import choose, consider
from tvmconv.errors import ArgumentError, InvalidConfig, UnsupportedSpec
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, Template, get_template
from tvmconv.tuning.collect import pick

WARPS, WARPGROUPS = "cuda.implicit_gemm", "cuda.warpgroup_gemm"
TF32_ERROR = 1e-3
LAYER = tc.conv2d((32, 28, 28, 128), 128, 3, padding=1, layout="NHWC", dtype="float16")
LAYERS = {
    "64@56": tc.conv2d((32, 56, 56, 64), 64, 3, padding=1, layout="NHWC", dtype="float16"),
    "128@28": LAYER,
    "first": tc.conv2d((8, 256, 14, 14), 256, 3, padding=1, dtype="float16"),
    "one image": tc.conv2d((1, 7, 7, 512), 512, 3, padding=1, layout="NHWC", dtype="float16"),
    "1x1": tc.conv2d((1, 14, 14, 1024), 256, 1, layout="NHWC", dtype="float16"),
    "stem": tc.conv2d((1, 3, 224, 224), 64, 7, stride=2, padding=3, dtype="float16"),
    "groups": tc.conv2d((4, 128, 14, 14), 128, 3, padding=1, groups=4, dtype="float16"),
    "upsampling": tc.conv_transpose2d((2, 64, 16, 16), 32, 4, stride=2, dtype="float16"),
}  # fmt: skip


def task_of(spec: ConvSpec, target_id: str = "sm_90", max_error: float = 1e-5) -> Task:
    return Task(spec, load(target_id), max_error=max_error)


def takers(task: Task) -> list[Template]:
    found = [get_template(WARPS), get_template(WARPGROUPS)]
    return [template for template in found if template.supports(task) is None]


@pytest.mark.parametrize(
    ("spec", "target_id", "reason"),
    [
        (tc.deform_conv2d((1, 32, 9, 9), 32, 3), "sm_90", "deformable"),
        (tc.conv2d((1, 32, 9, 9), 8, 3), "sm_90", "16 channels a group"),
        (tc.conv2d((1, 32, 9, 9), 32, 3, groups=4), "sm_90", "16 channels a group"),
        (replace(LAYER, dtype="float32"), "sm_75", "multiplies no float32"),
        (tc.conv2d((1, 3, 22000, 22000), 16, 3, padding=1, dtype="float16"), "sm_80", "2147483647"),
    ],
)
def test_what_tensor_cores_do_not_take(spec: ConvSpec, target_id: str, reason: str) -> None:
    assert reason in str(get_template(WARPS).supports(task_of(spec, target_id)))


def test_warpgroups_are_hoppers_alone_and_not_for_float32() -> None:
    template = get_template(WARPGROUPS)
    assert template.supports(task_of(LAYER)) is None
    assert "only for sm_90" in str(template.supports(task_of(LAYER, "sm_89")))
    assert "only for sm_90" in str(template.supports(task_of(LAYER, "sm_100")))
    single = task_of(replace(LAYER, dtype="float32"))
    assert "without rounding to tf32" in str(template.supports(single))


@pytest.mark.parametrize("target_id", ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100"])
@pytest.mark.parametrize("spec", LAYERS.values(), ids=LAYERS)
def test_half_precision_is_for_tensor_cores(spec: ConvSpec, target_id: str) -> None:
    assert choose(task_of(spec, target_id)).template.id in (WARPS, WARPGROUPS)


def test_large_layers_on_hopper_are_for_warpgroups() -> None:
    assert choose(task_of(LAYER)).template.id == WARPGROUPS
    assert choose(task_of(LAYER, "sm_100")).template.id == WARPS


def test_tf32_only_where_the_caller_allows_its_error() -> None:
    spec = replace(LAYER, dtype="float32")
    assert choose(task_of(spec, "sm_80", TF32_ERROR)).template.id == WARPS
    strict = {c.template.id: c for c in consider(task_of(spec, "sm_80"))}
    assert not strict[WARPS].fits
    assert "above max_error" in strict[WARPS].reason
    with pytest.raises(UnsupportedSpec, match="max_error"):
        tc.compile(spec, "sm_80", algorithm=WARPS)


@pytest.mark.parametrize("spec", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("target_id", ["sm_75", "sm_90"])
def test_every_tile_of_a_space_fits_the_gpu(spec: ConvSpec, target_id: str) -> None:
    task = task_of(spec, target_id)
    gpu = task.target.gpu
    assert gpu is not None
    for template in takers(task):
        space = template.space(task)
        configs = space.configs()
        assert len(configs) > 20
        for at in np.random.default_rng(0).choice(len(configs), 12, replace=False):
            config = configs[int(at)]
            space.check(config)
            assert template.source is not None
            device = template.source(task, config, "run")
            shared = max(launch.shared_bytes for launch in device.launches)
            assert shared <= gpu.shared_bytes_per_block_optin
            assert all(launch.threads <= gpu.threads_per_block for launch in device.launches)
            names = {"x", "packed", "y", *(name for name, _ in device.workspace)}
            assert {arg for launch in device.launches for arg in launch.args} == names
            split = config.integer("split")
            multiply = device.launches[-1 if split == 1 else -2]
            assert multiply.grid[2] == split
            assert ("partial" in names) == (split > 1)


def test_tiles_that_do_not_fit_are_refused_by_reason() -> None:
    space = get_template(WARPS).space(task_of(LAYER))
    for wrong in (
        "tile_m=64,tile_n=32,tile_k=32,warp_m=64,warp_n=64,stages=3,split=1",
        "tile_m=256,tile_n=128,tile_k=64,warp_m=16,warp_n=16,stages=3,split=1",
        "tile_m=256,tile_n=128,tile_k=64,warp_m=64,warp_n=64,stages=5,split=1",
    ):
        with pytest.raises(InvalidConfig, match="do not divide the tile, or an SM"):
            space.check(Config.parse(wrong))


def test_bulk_copies_are_tried_and_not_taken() -> None:
    """The default has none until they are timed; what is prepared for a GPU has some."""
    for spec in LAYERS.values():
        task, template = task_of(spec), get_template(WARPGROUPS)
        config = template.default(task)
        assert config.integer("bulk") == 0
        assert replace_knob(config, "bulk", 1) in pick(task, template, 16, seed=0)


def test_few_tiles_split_the_depth() -> None:
    """One 7x7 image has 8 tiles of 64 by 64: a GPU of 132 SMs would idle."""
    task = task_of(LAYERS["one image"])
    for template in takers(task):
        config = template.default(task)
        assert config.integer("split") > 1
        unsplit = replace_knob(config, "split", 1)
        assert template.cycles(task, config) < 0.5 * template.cycles(task, unsplit)
    assert get_template(WARPS).default(task_of(LAYER, "sm_80")).integer("split") == 1


def replace_knob(config: Config, name: str, value: int) -> Config:
    return Config(tuple((knob, value if knob == name else old) for knob, old in config.items))


def test_features_are_numbers_that_differ() -> None:
    task = task_of(LAYER)
    for template in takers(task):
        configs = template.shortlist(task)
        columns = template.features(task, configs)
        assert {len(column) for column in columns.values()} == {len(configs)}
        assert all(np.isfinite(column).all() for column in columns.values())
        assert len(np.unique(columns["log_cycles"])) > 1
        assert list(columns["log_cycles"]) == sorted(columns["log_cycles"])


def test_a_template_schedules_or_writes() -> None:
    template = get_template(WARPS)
    with pytest.raises(ArgumentError, match="one of the two"):
        replace(template, source=None)


def test_inspecting_shows_the_source_alone() -> None:
    kernel = tc.compile(LAYERS["64@56"], "sm_80")
    assert "mma.sync" in kernel.inspect("cuda")
    with pytest.raises(ArgumentError, match="allowed: cuda"):
        kernel.inspect("trace")


def test_an_empty_batch_launches_nothing() -> None:
    kernel = tc.compile(replace(LAYER, n=0), "sm_80", algorithm=WARPS)
    assert kernel.built.device is not None
    assert kernel.built.device.launches == ()
