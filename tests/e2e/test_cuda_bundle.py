"""Bundles for GPUs, end to end on the stand-in: C, the standalone Python loader, and tc.load."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tvmconv as tc
from tests.stand_in.kernels import StandIn, add_kernels
from tests.stand_in.tensors import gpu_tensor
from tvmconv.bundle import CudaBundle
from tvmconv.bundle.cuda_texts import file_hash
from tvmconv.cuda.driver import driver
from tvmconv.cuda.packing import device_packing
from tvmconv.elements import numpy_dtype
from tvmconv.errors import ArgumentError, BundleError, DeviceError, EnvironmentProblem
from tvmconv.kernel import Kernel

SPECS = (
    "conv2d_n1c6s5x7_o8k3x3_g2_s2_p1_bias_scale_res_relu_nhwc",
    "convt2d_n1c3s5x6_o7k2x3_s3x1_d2_a2x0",
    "deform2d_n1c4s5x6_o4k3x3_p1_mask",
    "conv2d_n0c3s7x9_o5k3x3",
    "conv2d_n1c6s5x7_o8k3x3_p1_bias_f16",
    "conv2d_n2c32s8x8_o32k3x3_p1_f16_nhwc",  # in tensor cores
    "conv2d_n1c6s5x7_o8k3x3_p1_bias_bf16",
    "conv2d_n2c32s8x8_o32k3x3_p1_res_bf16_nhwc",  # in tensor cores
)
# Not exact, and three launches with workspace between them.
WINOGRAD = "conv2d_n1c8s8x8_o8k3x3_p1_nhwc"
COUNT = len(SPECS) + 1
SPEC = SPECS[0]
TARGETS = ("sm_80", "sm_90")


@pytest.fixture(scope="module")
def kernels() -> list[Kernel]:
    found = [tc.compile(tc.ConvSpec.parse(text), target) for text in SPECS for target in TARGETS]
    spec = tc.ConvSpec.parse(WINOGRAD)
    for target in TARGETS:
        found.append(tc.compile(spec, target, algorithm="cuda.winograd", max_error=1e-3))
    assert found[-1].workspace_bytes > 0
    return found


@pytest.fixture(scope="module")
def exported(kernels: list[Kernel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuda") / "layers"
    generator = np.random.default_rng(0)
    weights = {}
    for text in SPECS[:1]:
        spec = tc.ConvSpec.parse(text)
        given = _weights(spec, generator)
        weights[text] = {k.target.id: k.pack(**given) for k in kernels if str(k.spec) == text}
    tc.export(kernels, folder, weights=weights)
    return folder


@pytest.fixture
def bundle(exported: Path, kernels: list[Kernel], stand_in: StandIn, tmp_path: Path) -> Path:
    """A copy of the bundle whose code the stand-in runs."""
    folder = Path(shutil.copytree(exported, tmp_path / "layers"))
    manifest = json.loads((folder / "manifest.json").read_text())
    entries = {entry["spec"]: entry for entry in manifest["kernels"]}
    for kernel in kernels:
        code = entries[str(kernel.spec)]["targets"][kernel.target.id]
        device = kernel.built.device
        assert device is not None
        for kind, what in (("run", device), ("pack", device_packing(kernel))):
            files = [code[kind][form] for form in ("cubin", "ptx") if code[kind][form]]
            add_kernels(what, [(folder / file).read_bytes() for file in files], stand_in.kernels)
    return folder


def _weights(spec: tc.ConvSpec, generator: np.random.Generator) -> dict[str, Any]:
    shapes = {"weight": spec.weight_shape}
    shapes |= {"bias": (spec.oc,)} if spec.bias else {}
    shapes |= {"scale": (spec.oc,), "shift": (spec.oc,)} if spec.scale_shift else {}
    return {n: generator.integers(-4, 5, s).astype(np.float32) for n, s in shapes.items()}


def _build(folder: Path, program: str) -> Path:
    out = folder.parent / program
    subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-Iinclude", "-Isrc",
         f"{program}.c", "src/kernels.c", "-ldl", "-lpthread", "-lm", "-o", str(out)],
        cwd=folder, check=True,
    )  # fmt: skip
    return out


def _run(command: list[str | Path], stand_in: StandIn) -> tuple[int, str]:
    environment = dict(os.environ) | {"LD_LIBRARY_PATH": str(stand_in.library.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def _loaded(folder: Path) -> CudaBundle:
    loaded = tc.load(folder)
    assert isinstance(loaded, CudaBundle)
    return loaded


@pytest.mark.parametrize(
    ("gpu", "target", "form"),
    [("9.0", "sm_90", "cubin"), ("8.6", "sm_80", "cubin"), ("12.0", "sm_90", "ptx")],
)
def test_selftests_in_c_and_python(
    bundle: Path, stand_in: StandIn, gpu: str, target: str, form: str
) -> None:
    stand_in.gpus(gpu)
    code, said = _run([_build(bundle, "selftest"), bundle], stand_in)
    assert (code, said.splitlines()[0]) == (0, f"target: {target}"), said
    assert said.splitlines()[-1] == f"{COUNT} of {COUNT} kernels right"
    assert said.count("every output bit-equal") == len(SPECS)
    assert said.count("samples within the bound") == 1
    assert stand_in.calls("cuMemAllocAsync")
    code, said = _run([sys.executable, "-S", "-I", "-c", _isolated(bundle)], stand_in)
    assert code == 0, said
    assert said.startswith(f"target: {target}, on cuda:0 (Stand-in 0, sm_{gpu.replace('.', '')})")
    assert said.count("ok  ") == COUNT
    assert {line.split(" ")[1] for line in stand_in.calls("cuModuleLoadData")} == {form}
    assert _loaded(bundle).selftest().ok


def _isolated(bundle: Path) -> str:
    """Run the loader with numpy and the standard library alone."""
    numpy_home = Path(np.__file__).parent.parent
    return f"""
import sys
sys.path[:0] = [{str(bundle)!r}, {str(numpy_home)!r}]
for name in ("tvmconv", "torch", "tvm"):
    sys.modules[name] = None
import tvmconv_load
sys.exit(tvmconv_load.main([{str(bundle)!r}]))
"""


def test_the_example_runs(bundle: Path, stand_in: StandIn) -> None:
    code, said = _run([_build(bundle, "example"), bundle], stand_in)
    assert (code, said) == (0, "96 outputs on the GPU, by the code for sm_90\n")


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake")
def test_cmake_builds_and_tests(bundle: Path, stand_in: StandIn) -> None:
    for command in (["cmake", "-S", ".", "-B", "build"], ["cmake", "--build", "build"]):
        subprocess.run(command, cwd=bundle, check=True, capture_output=True)
    code, said = _run(["ctest", "--test-dir", str(bundle / "build")], stand_in)
    assert code == 0, said
    assert "100% tests passed" in said


def test_answers_of_numpy_torch_and_shipped_weights(
    bundle: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tc.ConvSpec.parse(SPEC)
    given = _weights(spec, np.random.default_rng(0))
    x = np.random.default_rng(1).integers(-4, 5, spec.x_shape).astype(np.float32)
    residual = np.random.default_rng(2).integers(-4, 5, spec.out_shape).astype(np.float32)
    wanted = tc.compile(spec)(x, **given, residual=residual)
    loaded = _loaded(bundle)
    kernel = loaded.kernel(SPEC)
    np.testing.assert_array_equal(kernel(x, **given, residual=residual), wanted)
    np.testing.assert_array_equal(loaded.layer(SPEC)(x, residual=residual), wanted)
    on_gpu = gpu_tensor(x, monkeypatch)
    y = loaded.layer(SPEC)(on_gpu, residual=gpu_tensor(residual, monkeypatch))
    np.testing.assert_array_equal(y.content, wanted)


def test_bfloat16_of_numpy_and_of_torch(
    bundle: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "conv2d_n1c6s5x7_o8k3x3_p1_bias_bf16"
    spec, bfloat16 = tc.ConvSpec.parse(text), numpy_dtype("bfloat16")
    given = _weights(spec, np.random.default_rng(0))
    x = np.random.default_rng(1).integers(-4, 5, spec.x_shape).astype(np.float32)
    exact = tc.compile(replace(spec, dtype="float32"), algorithm="direct")
    wanted = exact(x, **given).astype(bfloat16)
    kernel = _loaded(bundle).kernel(text)
    narrow = {name: value.astype(bfloat16) for name, value in given.items()}
    np.testing.assert_array_equal(kernel(x.astype(bfloat16), **narrow), wanted)
    layer = kernel.bind(
        **{name: torch.from_numpy(value).to(torch.bfloat16) for name, value in given.items()}
    )
    y = layer(gpu_tensor(x.astype(bfloat16), monkeypatch))
    np.testing.assert_array_equal(y.content, wanted)
    with pytest.raises(ArgumentError, match="weight: dtype: got 'float32'; allowed: bfloat16"):
        kernel.pack(**given)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(EnvironmentProblem, match="pip install ml_dtypes"):
        kernel.bind(**narrow)


def test_batch_norm_is_folded(bundle: Path, stand_in: StandIn) -> None:
    spec = tc.ConvSpec.parse(SPEC)
    given = _weights(spec, np.random.default_rng(0))
    generator = np.random.default_rng(3)
    a, b, c, d = generator.uniform(0.5, 2, (4, spec.oc)).astype(np.float32)
    norm = (a, b, c, d, 1e-5)
    x = generator.standard_normal(spec.x_shape).astype(np.float32)
    residual = np.zeros(spec.out_shape, np.float32)
    wanted = tc.compile(spec)(x, **given, residual=residual, batch_norm=norm)
    got = _loaded(bundle).kernel(SPEC)(x, **given, residual=residual, batch_norm=norm)
    np.testing.assert_allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize("how", ["missing", "truncated", "altered", "longer"])
@pytest.mark.parametrize("suffix", ["cubin", "ptx"])
def test_damaged_files_are_refused_by_name(
    bundle: Path, stand_in: StandIn, how: str, suffix: str
) -> None:
    file = sorted((bundle / "code").glob(f"*_run-sm_90.{suffix}"))[0]
    _damage(file, how)
    with pytest.raises(BundleError, match=f"{file.name}"):
        tc.load(bundle)
    code, said = _run([sys.executable, bundle / "tvmconv_load.py"], stand_in)
    assert (code, file.name in said) == (2, True)
    code, said = _run([_build(bundle, "selftest"), bundle], stand_in)
    assert code == 2
    word = {"missing": "cannot be read", "truncated": "truncated"}.get(how, "altered")
    assert f"{file.name}: {word}" in said


def _damage(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    if how == "missing":
        file.unlink()
        return
    if how == "altered":
        data[len(data) // 2] ^= 1
    file.write_bytes(data[:-1] if how == "truncated" else data + b"\0" * (how == "longer"))


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        (lambda s: s.gpus(""), "there is no GPU"),
        (
            lambda s: s.gpus("7.5"),
            "no code for this GPU (made for sm_90, sm_80: this GPU is sm_75)",
        ),
        (lambda s: s.fail("cuInit=999"), "a call of the driver failed"),
    ],
)
def test_machines_that_cannot_run_it(
    bundle: Path, stand_in: StandIn, arrange: Callable[[StandIn], None], message: str
) -> None:
    arrange(stand_in)
    code, said = _run([_build(bundle, "selftest"), bundle], stand_in)
    assert (code, message in said) == (2, True), said
    code, said = _run([sys.executable, bundle / "tvmconv_load.py"], stand_in)
    assert (code, said.startswith("refused: ")) == (2, True), said


def test_without_a_driver(bundle: Path) -> None:
    program = _build(bundle, "selftest")
    plain = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    done = subprocess.run([program, bundle], env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no NVIDIA driver" in done.stdout


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("cuLaunchKernel=719@2", "CUDA_ERROR_LAUNCH_FAILED"),
        ("cuMemAlloc_v2=2@3", "not enough memory"),
        ("cuModuleGetFunction=500", "CUDA_ERROR_NOT_FOUND"),
        ("cuStreamSynchronize=700@9", "CUDA_ERROR_ILLEGAL_ADDRESS"),
    ],
)
def test_failures_on_the_way_are_told(
    bundle: Path, stand_in: StandIn, plan: str, message: str
) -> None:
    program = _build(bundle, "selftest")
    stand_in.fail(plan)
    code, said = _run([program, bundle], stand_in)
    assert (code, message in said) == (1, True), said
    code, said = _run([sys.executable, bundle / "tvmconv_load.py"], stand_in)
    assert code == 1, said
    assert "FAIL" in said


def test_wrong_answers_are_found(bundle: Path, kernels: list[Kernel], stand_in: StandIn) -> None:
    kernel = next(k for k in kernels if str(k.spec) == SPEC and k.target.id == "sm_90")
    device = kernel.built.device
    assert device is not None
    wrong = replace(device, source=device.source.replace("+ residual_ptr[", "- residual_ptr["))
    for link in stand_in.kernels.glob("*"):
        link.unlink()
    for other in kernels:
        if other is kernel:
            add_kernels(wrong, [kernel.image.cubin], stand_in.kernels)
            packing = device_packing(kernel)
            entry = _loaded(bundle).kernel(SPEC).entry["targets"]["sm_90"]["pack"]
            add_kernels(packing, [(bundle / entry["cubin"]).read_bytes()], stand_in.kernels)
    code, said = _run([_build(bundle, "selftest"), bundle], stand_in)
    assert code == 1
    assert f"FAIL {_loaded(bundle).kernel(SPEC).symbol}: output" in said
    row = _loaded(bundle).test(_loaded(bundle).kernel(SPEC))
    assert not row.ok


def test_arguments_are_checked_in_c(bundle: Path, stand_in: StandIn) -> None:
    symbol = _loaded(bundle).kernel(SPEC).symbol
    text = f"""
#include <stdio.h>
#include "layers.h"
int main(void) {{
  void *a;
  int32_t code = {symbol}_run(NULL, NULL, NULL, NULL, NULL, NULL, NULL);
  printf("%d %s\\n", code, layers_error(code));
  code = layers_allocate(&a, 4096);
  code = {symbol}_run(a, a, (char *)a + 4, NULL, NULL, a, NULL);
  printf("%d %s\\n", code, layers_error(code));
  code = {symbol}_run(a, a, a, NULL, NULL, a, NULL);
  printf("%d %s\\n", code, layers_error(code));
  return 0;
}}"""
    (bundle / "check.c").write_text(text)
    code, said = _run([_build(bundle, "check")], stand_in)
    lines = said.splitlines()
    assert (code, lines[0]) == (0, "-101 an argument does not fit (x: is NULL)")
    assert lines[1].startswith("-203 an argument does not fit (residual: is no multiple of 16")
    assert lines[2] == "-603 a file is missing, truncated or altered (layers_open: call it first)"


def test_c_follows_the_threads_context(bundle: Path, stand_in: StandIn) -> None:
    stand_in.gpus("9.0,8.0")
    symbol = _loaded(bundle).kernel(SPECS[1]).symbol
    text = f"""
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include "layers.h"
static void *library;
static int32_t call(const char *name, void *out, int value) {{
  int32_t (*function)(void *, int) = (int32_t (*)(void *, int))dlsym(library, name);
  return function(out, value);
}}
static void *on_device(void *argument) {{
  void *context, *x, *packed, *y, *weight;
  call("cuDevicePrimaryCtxRetain", &context, *(int *)argument);
  int32_t (*push)(void *) = (int32_t (*)(void *))dlsym(library, "cuCtxPushCurrent_v2");
  push(context);
  const char *target = "none";
  int32_t code = layers_target(&target);
  for (void **one = (void *[]){{&x, &packed, &y, &weight, NULL}}; *one; ++one)
    code |= layers_allocate(*one, 1 << 16);
  for (int i = 0; i < 3 && code == 0; ++i) {{
    code = {symbol}_pack(weight, NULL, NULL, NULL, packed, NULL);
    if (code == 0) code = {symbol}_run(x, packed, NULL, NULL, NULL, y, NULL);
  }}
  printf("%d %s %d %s\\n", *(int *)argument, target, code, layers_error(code));
  return NULL;
}}
int main(int argc, char **argv) {{
  library = dlopen("libcuda.so.1", RTLD_NOW);
  if (argc < 2 || layers_open(argv[1]) != 0) return 1;
  int32_t (*init)(unsigned) = (int32_t (*)(unsigned))dlsym(library, "cuInit");
  init(0);
  pthread_t threads[4];
  int devices[] = {{0, 1, 0, 1}};
  for (int i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, on_device, &devices[i]);
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  return 0;
}}"""
    (bundle / "contexts.c").write_text(text)
    code, said = _run([_build(bundle, "contexts"), bundle], stand_in)
    wanted = ["0 sm_90 0 no error"] * 2 + ["1 sm_80 0 no error"] * 2
    assert (code, sorted(said.splitlines())) == (0, wanted), said
    loads = stand_in.calls("cuModuleLoadData")
    assert len(loads) == 4  # run and pack, once for each GPU


def test_two_bundles_in_one_program(
    bundle: Path, kernels: list[Kernel], stand_in: StandIn, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    tc.export([k for k in kernels if k.target.id == "sm_90"][:1], other)
    names = [(bundle, "layers"), (other, "other")]
    objects = []
    for folder, name in names:
        objects.append(tmp_path / f"{name}.o")
        subprocess.run(
            ["gcc", "-std=c11", "-c", "-Iinclude", "-Isrc", "src/kernels.c", "-o", objects[-1]],
            cwd=folder, check=True,
        )  # fmt: skip
    main = tmp_path / "main.c"
    main.write_text(
        "int layers_open(const char *); int other_open(const char *);\n"
        f'int main(void) {{ return layers_open("{bundle}") + other_open("{other}"); }}\n'
    )
    program = tmp_path / "both"
    subprocess.run(["gcc", main, *objects, "-ldl", "-lpthread", "-o", program], check=True)
    assert _run([program], stand_in)[0] == 0


def test_the_manifest_says_how_it_was_made(exported: Path) -> None:
    manifest = json.loads((exported / "manifest.json").read_text())
    assert (manifest["version"], manifest["kind"], manifest["ptx"]) == (3, "cuda", "sm_90")
    assert [target["id"] for target in manifest["targets"]] == ["sm_90", "sm_80"]
    run = manifest["kernels"][0]["targets"]["sm_80"]["run"]
    assert "--gpu-architecture=sm_80" in run["flags"]
    assert run["compiler"].startswith(("NVRTC ", "nvcc "))
    (usage,) = run["usage"].values()
    assert 0 < usage["registers"] <= 255
    assert run["ptx"] is None
    assert run["launches"][0]["args"][-1] == "y"
    sizes = [f["bytes"] for name, f in manifest["files"].items() if name.endswith(".cubin")]
    assert sizes


def test_processors_and_gpus_make_two_bundles(kernels: list[Kernel], tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="processors or GPUs, not both"):
        tc.export([kernels[0], tc.compile(kernels[0].spec)], tmp_path / "out")
    with pytest.raises(ArgumentError, match="format: got 'static'"):
        tc.export(kernels[:1], tmp_path / "out", format="static")


def test_a_gpu_of_another_target_is_refused(bundle: Path, stand_in: StandIn) -> None:
    stand_in.gpus("9.0,8.0")
    loaded = _loaded(bundle)
    assert [loaded.pick(driver().device(i)) for i in (0, 1)] == [
        ("sm_90", "cubin"),
        ("sm_80", "cubin"),
    ]
    kernel = loaded.kernel(SPEC)
    with pytest.raises(DeviceError, match="one that runs the code for sm_90, as the first GPU"):
        kernel._program(driver().device(1), "run")


def test_code_of_one_very_gpu_has_no_ptx(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.gpus("10.0")
    spec = tc.ConvSpec.parse("conv2d_n8c64s28x28_o64k3x3_p1_f16_nhwc")
    kernel = tc.compile(spec, "sm_90", algorithm="cuda.warpgroup_gemm")
    assert kernel.image.arch == "sm_90a"
    folder = tmp_path / "layers"
    tc.export([kernel], folder)
    loaded = _loaded(folder)
    device = driver().device(0)
    with pytest.raises(DeviceError, match="there is no PTX of this kernel"):
        loaded.kernel(str(spec))._program(device, "run")
    packing = loaded.kernel(str(spec)).entry["targets"]["sm_90"]["pack"]
    add_kernels(device_packing(kernel), [(folder / packing["ptx"]).read_bytes()], stand_in.kernels)
    code, said = _run([_build(folder, "selftest"), folder], stand_in)
    assert code == 1
    assert "no code for this GPU" in said
    assert "it has no PTX" in said


def test_a_file_is_known_by_its_hash() -> None:
    assert file_hash(b"") == 0xCBF29CE484222325
    assert file_hash(b"a") == 0xAF63DC4C8601EC8C  # from the authors of FNV
