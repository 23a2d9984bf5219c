"""GPU schedules: every template computes torch's bits, and device code says how it is launched."""

import re
from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch

import tvmconv as tc
from tests.schedules.serial import run
from tests.schedules.test_configs import SMALL, spread
from tvmconv import fills
from tvmconv.cuda import driver
from tvmconv.elements import SHORT_FLOATS, numpy_dtype
from tvmconv.errors import ArgumentError, DeviceError, InvalidConfig, UnsupportedSpec
from tvmconv.reference import reference
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template, templates
from tvmconv.tolerance import DIRECT
from tvmconv.validate import judge, proof_cases

GPU = load("sm_80")
PADDED: dict[str, ConvSpec] = {
    "reflect": tc.conv2d((2, 3, 9, 11), 5, 3, padding=2, padding_mode="reflect"),
    "replicate": tc.conv2d((1, 9, 11, 3), 5, 3, padding=2, padding_mode="replicate", layout="NHWC"),
    "constant": tc.conv1d((2, 3, 30), 5, 3, padding=2, padding_mode="constant", pad_value=1.5),
    "infinite": tc.conv1d((1, 3, 9), 5, 3, padding=2, padding_mode="constant", pad_value=np.inf),
    "epilogue": tc.conv2d(
        (1, 4, 6, 7), 6, 3, bias=True, scale_shift=True, residual=True, activation="relu6"
    ),
    "one_channel": tc.conv2d((1, 1, 5, 5), 1, 3),
    "wide_dilation": tc.conv2d((1, 4, 7, 7), 5, 3, padding=6, dilation=6),
    "transposed_groups": tc.conv_transpose2d((1, 6, 4, 5), 6, 3, stride=2, groups=3, dilation=3),
    "transposed_3d": tc.conv_transpose3d((1, 2, 3, 2, 3), 3, (2, 3, 1), stride=(2, 1, 3)),
    "gradient": tc.conv2d((2, 3, 8, 8), 4, 3, stride=2, padding=1).grad_weight(),
}
SPECS = SMALL | PADDED


# Those of tests/emulated/test_tensor_gemm.py write their device code, so there are no loops to run.
SCHEDULED = [t for t in templates("cuda") if t.source is None]


def takers(spec: ConvSpec) -> list[str]:
    return [t.id for t in SCHEDULED if t.supports(Task(spec, GPU)) is None]


PAIRS = [(name, template_id) for name, spec in SPECS.items() for template_id in takers(spec)]
# The plainest template has no tiles to go wrong: a third of the specs is enough for it.
QUICK = [(name, t) for i, (name, t) in enumerate(PAIRS) if t != "cuda.general" or i % 3 == 0]


def check(kernel: tc.Kernel) -> None:
    """Integers bit by bit; what is not a direct sum, and real values, by their bounds."""
    cases = proof_cases(kernel.spec, kernel.accuracy, 0)
    if kernel.accuracy == DIRECT:
        operands = cases["integers"]
        expected = reference(kernel.spec, operands, "float32").astype(kernel.spec.dtype)
        assert np.array_equal(run(kernel, operands), expected, equal_nan=True)
    chosen = {"normal": cases["normal"]}
    for result in judge(
        kernel.spec, kernel.accuracy, chosen, {"normal": run(kernel, cases["normal"])}
    ):
        assert result.ok, result.text


@pytest.mark.parametrize(("name", "template_id"), QUICK)
def test_defaults_compute_what_torch_computes(name: str, template_id: str) -> None:
    check(tc.compile(SPECS[name], GPU, algorithm=template_id))


@pytest.mark.parametrize("name", SPECS)
def test_half_precision_rounds_once(name: str) -> None:
    spec = replace(SPECS[name], dtype="float16")
    check(tc.compile(spec, GPU, algorithm=takers(spec)[0]))


TILES = "tile_m=32,tile_oc=8,tile_k=4,thread_m=2,thread_oc=4,ahead=0"


def tiles(name: str, extra: str) -> str:
    """A config; samples of a deformable layer are no copies, so there are no stages."""
    return f"{TILES},{extra.partition(',')[2] if name == 'deformable' else extra}"


@pytest.mark.parametrize("extra", ["stages=1,slices=2", "stages=2,slices=4"])
@pytest.mark.parametrize("name", ["direct_first", "direct_last", "transposed_even", "deformable"])
def test_slices_add_up(name: str, extra: str) -> None:
    template_id = next(t for t in takers(SPECS[name]) if t != "cuda.general")
    kernel = tc.compile(SPECS[name], GPU, algorithm=template_id, config=tiles(name, extra))
    assert kernel.built.device is not None
    assert [name for name, _ in kernel.built.device.workspace] == ["part"]
    check(kernel)


def test_a_step_ahead_has_one_copy_in_registers() -> None:
    """The source reads memory before the barrier and writes shared memory behind the products."""
    configs = [f"{TILES[:-1]}{ahead},stages=1,slices=1" for ahead in (0, 1)]
    spec = SPECS["direct_first"]
    now, ahead = (
        tc.compile(spec, GPU, algorithm="cuda.direct", config=c).inspect("cuda") for c in configs
    )
    assert now.count("__syncthreads") == 2
    assert ahead.count("__syncthreads") == 3
    assert "xcol_shared_local" in ahead


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_stages_are_filled_by_asynchronous_copies(stages: int) -> None:
    """One barrier a step, as many buffers, and a wait for all groups but those of later steps."""
    config = f"{TILES},stages={stages},slices=1"
    now = tc.compile(
        SPECS["direct_first"], GPU, algorithm="cuda.direct", config=f"{TILES},stages=1,slices=1"
    )
    kernel = tc.compile(SPECS["direct_first"], GPU, algorithm="cuda.direct", config=config)
    source = kernel.inspect("cuda")
    assert source.count("__syncthreads") == 1
    assert source.count("close_group();") == stages
    assert f"await_group<{stages - 2}>();" in source
    assert shared_elems(source) == stages * shared_elems(now.inspect("cuda"))
    assert "cp.async" not in now.inspect("cuda")
    check(kernel)


def shared_elems(source: str) -> int:
    """Floats of a source's static arrays in shared memory."""
    found = re.findall(r"__shared__ alignas\(64\) float(4?) \w+\[(\d+)\]", source)
    return sum(int(count) * (4 if wide else 1) for wide, count in found)


@pytest.mark.parametrize(
    ("spec", "target_id"),
    [
        (SPECS["direct_first"], "sm_75"),
        (replace(SPECS["direct_first"], dtype="float16"), "sm_80"),
        (SPECS["constant"], "sm_80"),
        (SPECS["deformable"], "sm_80"),
    ],
)
def test_there_are_no_stages_where_nothing_is_copied_as_it_is(
    spec: ConvSpec, target_id: str
) -> None:
    task = Task(spec, load(target_id))
    ids = [t for t in takers(spec) if t not in ("cuda.general", "cuda.winograd")]
    for template_id in ids:
        assert "stages" not in get_template(template_id).space(task).knobs
    assert "stages" in get_template("cuda.direct").space(Task(SPECS["direct_first"], GPU)).knobs


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (f"{TILES[:-1]}1,stages=2,slices=1", "does not go through registers"),
        (f"{TILES},stages=4,slices=16", "4 stages of 2 steps"),
        (f"{TILES.replace('tile_k=4', 'tile_k=32')},stages=4,slices=1", "4 stages of 3 steps"),
        ("tile_m=256,tile_oc=128,tile_k=16,thread_m=8,thread_oc=8,ahead=0,stages=4,slices=1",
         "98304 bytes exceed 49152 of shared memory"),
    ],
)  # fmt: skip
def test_stages_that_cannot_be(config: str, reason: str) -> None:
    spec = tc.conv2d((1, 8, 9, 11), 128, 3)
    with pytest.raises(InvalidConfig, match=reason):
        get_template("cuda.direct").space(Task(spec, GPU)).check(Config.parse(config))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "template_id"), PAIRS)
def test_other_configs_compute_the_same(name: str, template_id: str) -> None:
    for config in spread(get_template(template_id).space(Task(SPECS[name], GPU)), 3):
        check(tc.compile(SPECS[name], GPU, algorithm=template_id, config=config))


@pytest.mark.parametrize("template_id", [t.id for t in SCHEDULED])
def test_launches_name_tensors_and_workspace(template_id: str) -> None:
    spec = next(s for s in SPECS.values() if template_id in takers(s) and not s.residual)
    kernel = tc.compile(spec, GPU, algorithm=template_id)
    device = kernel.built.device
    assert device is not None
    assert GPU.gpu is not None
    buffers = {name for name, _ in device.workspace}
    known = {*kernel.built.run_args, *buffers}
    for launch in device.launches:
        assert set(launch.args) <= known
        assert f"{launch.kernel}(" in device.source
        assert launch.threads <= GPU.gpu.threads_per_block
        assert min(launch.grid) >= 1
    assert {"x", "packed", "y"} <= {a for launch in device.launches for a in launch.args}
    assert ("v" in buffers) == (template_id == "cuda.winograd")
    assert device.workspace_bytes == kernel.workspace_bytes


def test_an_empty_batch_launches_nothing() -> None:
    kernel = tc.compile(tc.conv2d((0, 3, 9, 9), 4, 3), GPU)
    assert kernel.built.device is not None
    assert kernel.built.device.launches == ()


def test_arguments_come_in_the_order_of_each_function() -> None:
    """TVM sorts a device function's parameters as it likes; the launch says how."""
    device = tc.compile(PADDED["epilogue"], GPU, algorithm="cuda.general").built.device
    assert device is not None
    (launch,) = device.launches
    start = device.source.rindex(f"{launch.kernel}(") + len(launch.kernel) + 1
    parameters = device.source[start : device.source.index(")", start)].split(",")
    named = [parameter.split()[-1].removesuffix("_ptr") for parameter in parameters]
    assert tuple(named) == launch.args
    assert sorted(named) == ["packed", "residual", "x", "y"]


@pytest.mark.parametrize("dtype", SHORT_FLOATS)
def test_packed_weights_are_of_the_specs_dtype(dtype: str) -> None:
    spec = replace(SMALL["direct_first"], dtype=dtype)
    kernel = tc.compile(spec, GPU)
    operands = fills.integers(spec)
    packed = kernel.pack(operands.weight, operands.bias)
    assert packed.dtype == numpy_dtype(dtype)
    assert packed.shape == (kernel.packed_elems,)
    assert prod(spec.weight_shape) <= packed.size
    with pytest.raises(ArgumentError, match=f"weight.dtype: got 'float32'; allowed: {dtype}"):
        kernel.pack(operands.weight.astype(np.float32), operands.bias)


@pytest.mark.parametrize("dtype", SHORT_FLOATS)
def test_torch_weights_are_packed_as_numpys_are(dtype: str) -> None:
    spec = replace(SMALL["direct_first"], dtype=dtype, bias=True)
    kernel = tc.compile(spec, GPU)
    operands = fills.normal(spec)
    assert operands.bias is not None
    packed = kernel.pack(operands.weight, operands.bias)
    weight, bias = (
        torch.from_numpy(values.astype(np.float32)).to(getattr(torch, dtype))
        for values in (operands.weight, operands.bias)
    )
    weight.requires_grad_()
    np.testing.assert_array_equal(kernel.pack(weight, bias), packed)
    one, zero = torch.ones_like(bias), torch.zeros_like(bias)
    changes_nothing = (zero, one, one, zero, 0.0)
    np.testing.assert_array_equal(kernel.pack(weight, bias, batch_norm=changes_nothing), packed)


def test_source_is_shown_and_calls_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SMALL["pointwise_last"]
    kernel = tc.compile(spec, GPU)
    assert "__global__" in kernel.inspect("cuda")
    assert "threadIdx" in kernel.inspect("tir")
    with pytest.raises(ArgumentError, match="trace, tir, cuda"):
        kernel.inspect("asm")
    # By its own name a stand-in that another test loaded would be found.
    monkeypatch.setattr(driver, "LIBRARY", "libcuda-of-no-machine.so")
    operands = fills.integers(spec)
    with pytest.raises(DeviceError, match="an NVIDIA GPU and its driver"):
        kernel(operands.x, operands.weight, **operands.keywords())


def test_types_that_no_template_has_are_refused() -> None:
    half = tc.conv2d((1, 3, 9, 9), 16, 3, dtype="float16")
    for dtype in SHORT_FLOATS:
        with pytest.raises(UnsupportedSpec, match=f"dtype on x86_64_v3: got '{dtype}'"):
            tc.compile(replace(half, dtype=dtype), "x86_64_v3")
    with pytest.raises(UnsupportedSpec, match=r"dtype on sm_80: got 'int8'; .*, bfloat16"):
        tc.compile(replace(half, dtype="int8"), GPU)
    with pytest.raises(UnsupportedSpec, match=r"acc_dtype: got 'float16'"):
        tc.compile(replace(half, acc_dtype="float16"), GPU)
    other = replace(half, dtype="bfloat16")
    with pytest.raises(UnsupportedSpec, match="sm_75 multiplies no bfloat16 on tensor cores"):
        tc.compile(other, "sm_75", algorithm="cuda.implicit_gemm")


def test_winograd_keeps_its_workspace_in_bounds() -> None:
    """5x5 of two outputs a tile makes nine of every input; larger tiles have other bounds."""
    large = tc.conv2d((64, 256, 112, 112), 256, 5, padding=2)
    template = get_template("cuda.winograd")
    with pytest.raises(UnsupportedSpec, match="no config fits"):
        template.default(Task(large, GPU))
    config = template.default(Task(replace(large, n=1), GPU))
    with pytest.raises(InvalidConfig, match="bytes of workspace exceed 2147483648"):
        template.space(Task(large, GPU)).check(config)
