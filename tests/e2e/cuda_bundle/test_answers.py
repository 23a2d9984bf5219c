"""Bundles for GPUs, end to end on the stand-in: C, the standalone Python loader, and tc.load."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tvmconv as tc
from tests.e2e.cuda_bundle.layers import COUNT, SPEC, SPECS, build, loaded_from, random_weights, run
from tests.stand_in.kernels import StandIn
from tests.stand_in.tensors import gpu_tensor
from tvmconv.elements import numpy_dtype
from tvmconv.errors import ArgumentError, EnvironmentProblem
from tvmconv.kernel import Kernel


@pytest.mark.parametrize(
    ("gpu", "target", "form"),
    [("9.0", "sm_90", "cubin"), ("8.6", "sm_80", "cubin"), ("12.0", "sm_90", "ptx")],
)
def test_selftests_in_c_and_python(
    bundle: Path, stand_in: StandIn, gpu: str, target: str, form: str
) -> None:
    stand_in.gpus(gpu)
    code, said = run([build(bundle, "selftest"), bundle])
    assert (code, said.splitlines()[0]) == (0, f"target: {target}"), said
    assert said.splitlines()[-1] == f"{COUNT} of {COUNT} kernels right"
    assert said.count("every output bit-equal") == len(SPECS)
    assert said.count("samples within the bound") == 1
    assert stand_in.calls("cuMemAllocAsync")
    code, said = run([sys.executable, "-S", "-I", "-c", _isolated(bundle)])
    assert code == 0, said
    assert said.startswith(f"target: {target}, on cuda:0 (Stand-in 0, sm_{gpu.replace('.', '')})")
    assert said.count("ok  ") == COUNT
    assert {line.split(" ")[1] for line in stand_in.calls("cuModuleLoadData")} == {form}
    assert loaded_from(bundle).selftest().ok


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
    code, said = run([build(bundle, "example"), bundle])
    assert (code, said) == (0, "96 outputs on the GPU, by the code for sm_90\n")


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake")
def test_cmake_builds_and_tests(bundle: Path, stand_in: StandIn) -> None:
    for command in (["cmake", "-S", ".", "-B", "build"], ["cmake", "--build", "build"]):
        subprocess.run(command, cwd=bundle, check=True, capture_output=True)
    code, said = run(["ctest", "--test-dir", str(bundle / "build")])
    assert code == 0, said
    assert "100% tests passed" in said


def test_answers_of_numpy_torch_and_shipped_weights(
    bundle: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tc.ConvSpec.parse(SPEC)
    given = random_weights(spec, np.random.default_rng(0))
    x = np.random.default_rng(1).integers(-4, 5, spec.x_shape).astype(np.float32)
    residual = np.random.default_rng(2).integers(-4, 5, spec.out_shape).astype(np.float32)
    wanted = tc.compile(spec)(x, **given, residual=residual)
    loaded = loaded_from(bundle)
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
    given = random_weights(spec, np.random.default_rng(0))
    x = np.random.default_rng(1).integers(-4, 5, spec.x_shape).astype(np.float32)
    exact = tc.compile(replace(spec, dtype="float32"), algorithm="direct")
    wanted = exact(x, **given).astype(bfloat16)
    kernel = loaded_from(bundle).kernel(text)
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
    given = random_weights(spec, np.random.default_rng(0))
    generator = np.random.default_rng(3)
    a, b, c, d = generator.uniform(0.5, 2, (4, spec.oc)).astype(np.float32)
    norm = (a, b, c, d, 1e-5)
    x = generator.standard_normal(spec.x_shape).astype(np.float32)
    residual = np.zeros(spec.out_shape, np.float32)
    wanted = tc.compile(spec)(x, **given, residual=residual, batch_norm=norm)
    got = loaded_from(bundle).kernel(SPEC)(x, **given, residual=residual, batch_norm=norm)
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_c_follows_the_threads_context(bundle: Path, stand_in: StandIn) -> None:
    stand_in.gpus("9.0,8.0")
    symbol = loaded_from(bundle).kernel(SPECS[1]).symbol
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
    code, said = run([build(bundle, "contexts"), bundle])
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
    assert run([program])[0] == 0
