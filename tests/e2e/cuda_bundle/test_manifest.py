"""What a bundle for GPUs says of itself, and what it may hold."""

import json
from pathlib import Path

import pytest

import tvmconv as tc
from tvmconv.bundle.cuda_texts import file_hash
from tvmconv.errors import ArgumentError
from tvmconv.kernel import Kernel


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


def test_a_file_is_known_by_its_hash() -> None:
    assert file_hash(b"") == 0xCBF29CE484222325
    assert file_hash(b"a") == 0xAF63DC4C8601EC8C  # from the authors of FNV
