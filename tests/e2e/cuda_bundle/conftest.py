"""Bundles for two GPUs, whose code the stand-in runs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tvmconv as tc
from tests.e2e.cuda_bundle.layers import (
    SPECS,
    TARGETS,
    WINOGRAD,
    random_weights,
)
from tests.stand_in.kernels import StandIn, add_kernels
from tvmconv.cuda.compiler import CudaCompiler
from tvmconv.cuda.packing import device_packing
from tvmconv.kernel import Kernel


@pytest.fixture(scope="session")
def kernels(cuda_compiler: CudaCompiler) -> list[Kernel]:
    found = [tc.compile(tc.ConvSpec.parse(text), target) for text in SPECS for target in TARGETS]
    spec = tc.ConvSpec.parse(WINOGRAD)
    for target in TARGETS:
        found.append(tc.compile(spec, target, algorithm="cuda.winograd", max_error=1e-3))
    assert found[-1].workspace_bytes > 0
    return found


@pytest.fixture(scope="session")
def exported(kernels: list[Kernel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuda") / "layers"
    generator = np.random.default_rng(0)
    weights = {}
    for text in SPECS[:1]:
        spec = tc.ConvSpec.parse(text)
        given = random_weights(spec, generator)
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
