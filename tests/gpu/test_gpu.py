"""What only a GPU can tell; skipped, with the reason, where there is none."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tvmconv as tc
from tvmconv.choose import consider
from tvmconv.cuda.driver import driver
from tvmconv.target import load
from tvmconv.template import Task
from tvmconv.tuning.records import read_records

pytestmark = pytest.mark.gpu

SPECS = (
    "conv2d_n2c16s14x14_o32k3x3_p1_bias_relu",
    "conv2d_n1c64s28x28_o64k3x3_s2_p1_nhwc",
    "conv2d_n2c64s14x14_o128k1x1_bias_f16_nhwc",
    "conv2d_n1c64s28x28_o64k3x3_p1_f16_nhwc",
    "conv2d_n1c64s28x28_o64k3x3_p1_res_bf16_nhwc",
    "conv2d_n1c64s28x28_o64k3x3_g64_p1_bf16",
    "conv2d_n1c32s15x17_o32k3x3_g32_p1",
    "conv2d_n1c32s15x17_o64k3x3_g4_p2_d2_res",
    "convt2d_n1c16s9x11_o24k4x4_s2_p1",
    "deform2d_n1c16s9x11_o16k3x3_p1_mask",
    "conv3d_n1c8s5x9x9_o16k3x3x3_p1",
    "conv1d_n2c16s101_o32k5_p2_gelu",
)


@pytest.mark.parametrize("text", SPECS)
def test_every_template_is_right(text: str) -> None:
    spec, target = tc.ConvSpec.parse(text), load("cuda")
    for candidate in consider(Task(spec, target, max_error=1.0)):
        if candidate.fits:
            kernel = tc.compile(spec, target, algorithm=candidate.template.id, max_error=1.0)
            report = tc.validate(kernel)
            assert report.ok, f"{kernel.template_id} {kernel.config}\n{report}"


def test_torch_tensors_in_place_on_the_current_stream() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no GPU")
    spec = tc.conv2d((2, 16, 14, 14), 32, 3, padding=1, bias=True)
    x, weight, bias = (torch.randn(s, device="cuda") for s in
                       (spec.x_shape, spec.weight_shape, (spec.oc,)))  # fmt: skip
    layer = tc.compile(spec, "cuda").bind(weight, bias)
    wanted = torch.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        y = layer(x)
    stream.synchronize()
    assert y.device == x.device
    assert float((y - wanted).abs().max()) < 1e-4
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = layer(x)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(captured, y)


def test_bundles_test_themselves(tmp_path: Path) -> None:
    target = load("cuda").id
    kernels = [tc.compile(tc.ConvSpec.parse(text), target) for text in SPECS]
    bundle = tc.export(kernels, tmp_path / "layers")
    assert bundle.selftest().ok, str(bundle.selftest())
    command = [sys.executable, str(tmp_path / "layers" / "tvmconv_load.py")]
    subprocess.run(command, check=True)
    if shutil.which("gcc"):
        subprocess.run(
            ["gcc", "-std=c11", "-O2", "-Iinclude", "-Isrc", "selftest.c", "src/kernels.c", "-ldl",
             "-lpthread", "-lm", "-o", "selftest"],
            cwd=tmp_path / "layers", check=True,
        )  # fmt: skip
        subprocess.run(["./selftest"], cwd=tmp_path / "layers", check=True)


def test_tuning_and_benchmarking(tmp_path: Path) -> None:
    spec = tc.conv2d((8, 64, 28, 28), 64, 3, padding=1)
    records = tmp_path / "records.jsonl"
    tc.tune(spec, "cuda", trials=16, records=records)
    found, _ = read_records(records)
    assert {r.cpu for r in found} == {driver().device(0).name}
    assert not [r for r in found if r.status in ("wrong_answer", "crashed")]
    ours, *_ = tc.bench([spec], "cuda", peers=["torch"], seconds=0.1, records=records)
    assert ours.status == "ok"
    assert ours.tier == "tuned"


def test_numpy_arrays_come_back() -> None:
    spec = tc.conv2d((1, 8, 9, 9), 8, 3)
    generator = np.random.default_rng(0)
    x, w = (generator.integers(-4, 5, s).astype(np.float32) for s in
            (spec.x_shape, spec.weight_shape))  # fmt: skip
    np.testing.assert_array_equal(tc.compile(spec, "cuda")(x, w), tc.compile(spec)(x, w))
