"""A bundle of real kernels: exported, loaded, altered, and called like a kernel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tvmconv as tc
from tvmconv.bundle import Bundle, loader
from tvmconv.bundle.checks import manifest_digest, of_target
from tvmconv.kernel import Kernel

TEXTS = (
    "conv2d_n1c8s12x12_o16k3x3_p1_bias_relu",
    "conv2d_n2c37s7x7_o5k1x1_res_silu_nhwc",
    "convt2d_n1c4s5x5_o6k4x4_g2_s2_bias",
    "deform2d_n1c4s6x6_o4k3x3_p1_mask_scale",
)
SPECS = tuple(map(tc.ConvSpec.parse, TEXTS))


@pytest.fixture(scope="module")
def kernels() -> list[Kernel]:
    return [tc.compile(spec) for spec in SPECS]


@pytest.fixture(scope="module")
def exported(kernels: list[Kernel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "four kernels"
    weight = np.random.default_rng(3).standard_normal(SPECS[0].weight_shape, np.float32)
    packed = kernels[0].pack(weight, np.ones(16, np.float32))
    tc.export(kernels, folder, weights={str(SPECS[0]): packed})
    return folder


@pytest.fixture
def bundle(exported: Path) -> Bundle:
    return loader.load(exported)


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def random(shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_selftest_passes(bundle: Bundle) -> None:
    result = bundle.selftest(threads=(1, 2, 5))
    assert result.ok, str(result)
    assert [row.symbol for row in result.rows] == list(bundle.kernels)


def test_manifest_says_what_is_there(bundle: Bundle, kernels: list[Kernel], exported: Path) -> None:
    manifest = bundle.manifest
    files = {p.relative_to(exported).as_posix() for p in exported.rglob("*") if p.is_file()}
    assert files == {*manifest["files"], "manifest.json"}
    assert manifest["name"] == "four_kernels"
    assert [k["spec"] for k in manifest["kernels"]] == [str(spec) for spec in SPECS]
    target = kernels[0].target.id
    assert [t["id"] for t in manifest["targets"]] == [target]
    assert bundle.targets == (bundle.target,) == (target,)
    assert manifest["made_with"]["apache-tvm"] == "0.27.0.post1"
    assert bundle.size == sum((exported / name).stat().st_size for name in manifest["files"])
    for shared, kernel in zip(manifest["kernels"], kernels, strict=True):
        entry = of_target(shared, target)
        assert 0 < entry["text_bytes"] < 200_000
        exact = "silu" not in entry["spec"] and kernel.accuracy == "direct"
        assert entry["tolerance"]["exact"] == exact
        assert (entry["tolerance"]["absolute"] == 0.0) == exact
        assert set(entry["tensors"]) >= {"x", "weight", "packed", "y"}


def test_same_machine_code_gives_the_same_bits(bundle: Bundle, kernels: list[Kernel]) -> None:
    kernel, spec = kernels[0], SPECS[0]
    x, weight, bias = random(spec.x_shape), random(spec.weight_shape, 1), random((16,), 2)
    here = kernel(x, weight, bias)
    loaded = bundle.kernel(str(spec))
    assert np.array_equal(loaded(x, weight, bias), here)
    layer = bundle.kernel(kernel.symbol).bind(weight, bias)
    assert np.array_equal(layer(x, threads=3), here)
    two = loaded.bind(weight, bias, threads=2)
    assert two.threads == 2
    assert np.array_equal(two(x), here)


def test_calls_take_what_a_kernel_takes(bundle: Bundle, kernels: list[Kernel]) -> None:
    kernel, spec = bundle.kernel(str(SPECS[1])), SPECS[1]
    x, weight, residual = (
        random(spec.x_shape),
        random(spec.weight_shape, 1),
        random(spec.out_shape, 2),
    )
    expected = kernels[1](x, weight, residual=residual)
    turned = np.asfortranarray(x)
    assert np.array_equal(kernel(turned, weight, residual=residual), expected)
    out = np.empty(spec.out_shape, np.float32)
    assert kernel(x, weight, residual=residual, out=out) is out
    assert np.array_equal(out, expected)
    over = residual.copy()
    assert np.array_equal(kernel(x, weight, residual=over, out=over), expected)
    wide = np.zeros((*spec.out_shape[:-1], 10), np.float32)
    kernel(x, weight, residual=residual, out=wide[..., ::2])
    assert np.array_equal(wide[..., ::2], expected)
    tensors = (torch.from_numpy(a).requires_grad_() for a in (x, weight))
    y = kernel(*tensors, residual=torch.from_numpy(residual))
    assert isinstance(y, torch.Tensor)
    assert np.array_equal(y.numpy(), expected)


def test_batch_norm_is_folded_as_kernels_do(bundle: Bundle, kernels: list[Kernel]) -> None:
    for i in (0, 2):
        spec = SPECS[i]
        x, weight = random(spec.x_shape), random(spec.weight_shape, 1)
        mean, gamma, beta = (random((spec.oc,), seed) for seed in (2, 3, 4))
        norm = (mean, np.abs(random((spec.oc,), 5)), gamma, beta, 1e-5)
        folded = bundle.kernel(str(spec))(x, weight, batch_norm=norm)
        assert np.array_equal(folded, kernels[i](x, weight, batch_norm=norm))


def test_exported_weights_come_back(bundle: Bundle, kernels: list[Kernel]) -> None:
    weight = np.random.default_rng(3).standard_normal(SPECS[0].weight_shape, np.float32)
    x = random(SPECS[0].x_shape)
    expected = kernels[0](x, weight, np.ones(16, np.float32))
    assert np.array_equal(bundle.layer(str(SPECS[0]))(x), expected)
    with pytest.raises(tc.ArgumentError, match="exported with weights"):
        bundle.layer(str(SPECS[1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": np.zeros((1, 8, 12, 11), np.float32)}, r"x: shape: got \(1, 8, 12, 11\)"),
        ({"x": np.zeros((1, 8, 12, 12))}, "x: dtype: got 'float64'"),
        ({"bias": None}, "bias: got None; allowed: float32 of shape"),
        ({"scale": np.zeros(16, np.float32)}, "scale: got 'a tensor'; allowed: none"),
        ({"residual": np.zeros(1, np.float32)}, "residual: got 'a tensor'; allowed: none"),
        ({"out": np.zeros(3, np.float32)}, "out: shape"),
    ],
)
def test_wrong_arguments_are_named(bundle: Bundle, arguments: Any, message: str) -> None:
    spec = SPECS[0]
    right = {"x": random(spec.x_shape), "weight": random(spec.weight_shape), "bias": random((16,))}
    with pytest.raises(tc.ArgumentError, match=message):
        bundle.kernel(str(spec))(**(right | arguments))
    with pytest.raises(tc.ArgumentError, match="kernel: got 'nothing'; allowed: conv2d"):
        bundle.kernel("nothing")


def test_many_threads_call_one_kernel(bundle: Bundle) -> None:
    spec = SPECS[0]
    layer = bundle.kernel(str(spec)).bind(random(spec.weight_shape), random((16,)))
    inputs = [random(spec.x_shape, seed) for seed in range(8)]
    expected = [layer(x) for x in inputs]
    wrong: list[int] = []

    def call(i: int) -> None:
        for _ in range(200):
            if not np.array_equal(layer(inputs[i], threads=i % 4 + 1), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_every_damaged_file_is_refused_by_name(copy: Path) -> None:
    for name in sorted(json.loads((copy / "manifest.json").read_text())["files"]):
        path = copy / name
        data = path.read_bytes()
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 1
        for damage, word in ((data[:-1], "truncated"), (bytes(flipped), "altered")):
            path.write_bytes(damage)
            with pytest.raises(tc.BundleError, match=rf"{path.name}: {word}"):
                tc.load(copy)
        path.unlink()
        with pytest.raises(tc.BundleError, match=f"{path.name}: cannot be read"):
            tc.load(copy)
        path.write_bytes(data)
    tc.load(copy)


def test_bundle_of_version_1_still_loads(copy: Path) -> None:
    """The manifest as it was; that the library can do more does not matter."""
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    (target,), (library,) = manifest.pop("targets"), manifest.pop("libraries")
    for entry in manifest["kernels"]:
        entry |= entry.pop("targets")[target["id"]]
        del entry["packed_elems"], entry["workspace_bytes"], entry["pack_workspace_bytes"]
    del manifest["kind"], manifest["sha256"]
    library = {key: library[key] for key in ("shared", "static")}
    manifest |= {"version": 1, "target": target, "library": library}
    manifest["sha256"] = manifest_digest(manifest)
    path.write_text(json.dumps(manifest))
    bundle = tc.load(copy)
    assert bundle.targets == (bundle.target,) == (target["id"],)
    assert bundle.selftest().ok
    x = random(SPECS[0].x_shape)
    assert bundle.layer(str(SPECS[0]))(x).shape == SPECS[0].out_shape


def test_altered_manifest_is_refused(copy: Path) -> None:
    path = copy / "manifest.json"
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 9'))
    with pytest.raises(tc.BundleError, match=r"manifest\.json: altered"):
        tc.load(copy)


def test_loader_alone_runs_without_tvm_torch_or_tvmconv(exported: Path, tmp_path: Path) -> None:
    script = (
        "import sys, tvmconv_load\n"
        f"assert tvmconv_load.main([{str(exported)!r}]) == 0\n"
        "assert not {'torch', 'tvm', 'tvm_ffi', 'tvmconv'} & set(sys.modules), sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(exported)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok  ") == len(SPECS)


def test_package_loads_bundles_without_tvm_and_torch(exported: Path) -> None:
    script = (
        "import sys, tvmconv\n"
        f"assert tvmconv.load({str(exported)!r}).selftest().ok\n"
        "assert not {'torch', 'tvm', 'tvm_ffi', 'jinja2'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_export_replaces_bundles_and_nothing_else(kernels: list[Kernel], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    first = tc.export(kernels[:1], out)  # an empty folder may be used
    again = tc.export(kernels[:1], out)
    assert first.manifest == again.manifest
    assert list(tc.export(kernels[1:2], out).kernels) == [kernels[1].symbol]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    (tmp_path / "file").write_text("")
    for name in ("work", "file"):
        with pytest.raises(tc.ArgumentError, match="out_dir"):
            tc.export(kernels[:1], tmp_path / name)
    assert (tmp_path / "work" / "thesis.txt").read_text() == "years"


def test_failed_export_leaves_nothing(
    kernels: list[Kernel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tc.export(kernels[:1], tmp_path / "out")
    monkeypatch.setenv("CC", "false")
    with pytest.raises(tc.BuildFailed):
        tc.export(kernels[1:2], tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert list(tc.load(tmp_path / "out").kernels) == [kernels[0].symbol]


def test_wrong_exports_are_refused(kernels: list[Kernel], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(tc.ArgumentError, match="at least one kernel"):
        tc.export([], out)
    with pytest.raises(tc.ArgumentError, match="twice"):
        tc.export([kernels[0], kernels[0]], out)
    with pytest.raises(tc.ArgumentError, match="name"):
        tc.export(kernels[:1], out, name="no-name")
    with pytest.raises(tc.ArgumentError, match="weights: got 'nobody'"):
        tc.export(kernels[:1], out, weights={"nobody": np.zeros(1, np.float32)})
    with pytest.raises(tc.ArgumentError, match="weights of"):
        tc.export(kernels[:1], out, weights={kernels[0].symbol: np.zeros(1, np.float32)})
    assert not out.exists()
