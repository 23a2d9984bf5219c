"""Compiling CUDA: both compilers, what kernels need, and what is refused."""

import re
from pathlib import Path

import pytest

from tests.unit.cuda_source import SOURCE, SPILLING
from tvmconv.compilers import run
from tvmconv.cuda import cubin, sass
from tvmconv.cuda.compiler import (
    CHOICE,
    CudaCompiler,
    Nvcc,
    compile_source,
    find_cuda_compiler,
    label,
)
from tvmconv.cuda.nvrtc import find_nvrtc
from tvmconv.cuda.places import program
from tvmconv.errors import BuildFailed, EnvironmentProblem

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


def _compiler(name: str) -> CudaCompiler:
    if name == "nvrtc":
        found: CudaCompiler | None = find_nvrtc()
    else:
        path = program("nvcc")
        found = None if path is None else Nvcc(path)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(params=["nvrtc", "nvcc"])
def compiler(request: pytest.FixtureRequest) -> CudaCompiler:
    return _compiler(request.param)


def test_cubin_and_ptx(compiler: CudaCompiler) -> None:
    image = compile_source(SOURCE, "sm_90", compiler=compiler)
    assert cubin.architecture(image.cubin) == "sm_90"
    assert re.search(r"^\.target sm_90$", image.ptx, re.M)
    assert ".entry staged(" in image.ptx
    staged = next(u for u in image.usage if u.kernel == "staged")
    assert (staged.shared_bytes, staged.stack_bytes) == (256, 0)
    assert "--gpu-architecture=sm_90" in image.flags
    assert not any("fast" in flag for flag in image.flags)
    assert re.fullmatch(r"(NVRTC|nvcc) \d+\.\d+\.\d+", image.compiler)
    assert image.compiler.startswith(label(compiler))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_usage_is_what_the_assembler_reports(arch: str, cuda_compiler: CudaCompiler) -> None:
    flags = (f"--gpu-architecture={arch}", "--std=c++17", "--ptxas-options=-v")
    code, _, log = cuda_compiler.compile(SOURCE, flags)
    assert cubin.architecture(code) == arch
    usage = {one.kernel: one for one in cubin.usage(code)}
    assert sorted(usage) == ["on_stack", "staged"]
    parts = re.split(r"Compiling entry function '(\w+)'", log)[1:]
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        told = {
            what: int(found[1]) if (found := re.search(pattern, text)) else 0
            for what, pattern in (
                ("registers", r"Used (\d+) registers"),
                ("stack_bytes", r"(\d+) bytes stack frame"),
                ("shared_bytes", r"(\d+) bytes smem"),
            )
        }
        assert {what: getattr(usage[name], what) for what in told} == told
    assert usage["on_stack"].stack_bytes == 2400


def test_spills_are_told(compiler: CudaCompiler) -> None:
    image = compile_source(SPILLING, "sm_80", compiler=compiler)
    spills = dict(image.spills)["spilling"]
    assert spills.store_bytes > 0
    assert spills.load_bytes > 0
    assert image.usage[0].stack_bytes > 0


def test_bad_source_carries_the_compilers_text(compiler: CudaCompiler) -> None:
    with pytest.raises(BuildFailed, match=r"(?s)kernel\.cu\(2\): error.*no_such_thing"):
        compile_source('extern "C" __global__ void k() {\n no_such_thing(); }', "sm_90",
                       compiler=compiler)  # fmt: skip


@pytest.mark.parametrize("arch", ["sm_70", "sm_990"])
def test_unknown_architectures_are_refused(arch: str, compiler: CudaCompiler) -> None:
    with pytest.raises(BuildFailed, match="arch"):
        compile_source(SOURCE, arch, compiler=compiler)


@pytest.mark.parametrize("arch", ["90", "sm90", "sm_90 --use_fast_math", "compute_90"])
def test_an_architecture_is_no_place_for_flags(arch: str) -> None:
    with pytest.raises(BuildFailed, match="arch: got"):
        compile_source(SOURCE, arch)


def test_fast_math_only_when_asked(cuda_compiler: CudaCompiler) -> None:
    source = 'extern "C" __global__ void k(float *x) { x[0] = x[1] / x[2]; }'
    exact = compile_source(source, "sm_90", compiler=cuda_compiler)
    fast = compile_source(source, "sm_90", fast_math=True, compiler=cuda_compiler)
    assert "div.rn.f32" in exact.ptx
    assert "div.approx.ftz.f32" in fast.ptx
    assert "--use_fast_math" in fast.flags


def test_half_precision_headers_are_found(compiler: CudaCompiler) -> None:
    source = """#include <cuda_fp16.h>
#include <mma.h>
extern "C" __global__ void k(const half *a, const half *b, float *c) {
  nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, half, nvcuda::wmma::row_major> fa;
  nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, half, nvcuda::wmma::col_major> fb;
  nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> fc;
  nvcuda::wmma::fill_fragment(fc, 0.0f);
  nvcuda::wmma::load_matrix_sync(fa, a, 16);
  nvcuda::wmma::load_matrix_sync(fb, b, 16);
  nvcuda::wmma::mma_sync(fc, fa, fb, fc);
  nvcuda::wmma::store_matrix_sync(c, fc, 16, nvcuda::wmma::mem_row_major);
}"""
    image = compile_source(source, "sm_80", compiler=compiler)
    try:
        text = sass.listing(image.cubin)
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))
    assert sass.instructions(text)["HMMA"] == 2


def test_the_choice_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOICE, "clang")
    with pytest.raises(EnvironmentProblem, match="nvrtc, nvcc"):
        find_cuda_compiler()


def test_nothing_installed_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tvmconv.cuda import compiler, nvrtc, places

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setattr(places, "_USUAL", tmp_path)
    monkeypatch.setattr(places, "wheel_folders", lambda part: iter(()))
    monkeypatch.setattr(nvrtc, "wheel_folders", lambda part: iter(()))
    with pytest.raises(EnvironmentProblem, match=r"pip install 'tvmconv\[cuda\]'"):
        compiler._find.__wrapped__("")


def test_a_named_toolkit_goes_before_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = program("nvcc")
    if path is None:
        pytest.skip("nvcc is not installed")
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "nvcc"
    wrapper.write_text(f'#!/bin/sh\nexec {path} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    found = program("nvcc")
    assert found == str(wrapper)
    assert Nvcc(found).version == Nvcc(path).version != ""


@pytest.mark.usefixtures("disassembler")
def test_a_listing_has_no_encodings(cuda_compiler: CudaCompiler) -> None:
    image = compile_source(SOURCE, "sm_90", compiler=cuda_compiler)
    text = sass.listing(image.cubin)
    found = sass.instructions(text)
    assert found["BAR"] >= 1
    assert found["FFMA"] >= 64
    assert found["EXIT"] >= 2
    assert not re.search(r"/\* 0x[0-9a-f]{16} \*/", text)


def test_run_returns_both_streams() -> None:
    assert run(["sh", "-c", "echo out; echo err >&2"]) == "out\n"
    assert run(["sh", "-c", "echo out; echo err >&2"], both=True) == "out\nerr\n"
