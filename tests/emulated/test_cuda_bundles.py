"""Bundles for GPUs, proven by the CUDA source that they were exported with."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvmconv as tc
from tests.emulated.cuda_sources import need_cxx
from tvmconv.bundle.cuda_loader import CudaBundle, read
from tvmconv.bundle.manifest import sealed
from tvmconv.cli import main
from tvmconv.cuda.compiler import CudaCompiler
from tvmconv.emulate.cuda.bundles import SourceReport, validate_source
from tvmconv.errors import ArgumentError, BundleError
from tvmconv.spec import ConvSpec

pytestmark = pytest.mark.emulated

SPECS = (
    "conv2d_n1c6s5x7_o8k3x3_g2_s2_p1_bias_scale_res_relu_nhwc",
    "conv2d_n0c3s7x9_o5k3x3",
    "deform2d_n1c4s5x6_o4k3x3_p1_mask",
    "conv2d_n1c24s7x6_o20k3x3_p1_bias_gelu_f16",
    "conv2d_n1c16s7x6_o16k3x3_p1_bias_bf16_nhwc",
)
WINOGRAD = "conv2d_n1c16s7x8_o16k3x3_p1_bias_f16_nhwc"
TARGETS = ("sm_80", "sm_90")
COUNT = len(SPECS) + 1


@pytest.fixture(scope="module")
def exported(cuda_compiler: CudaCompiler, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kernels = [tc.compile(ConvSpec.parse(text), target) for text in SPECS for target in TARGETS]
    for target in TARGETS:
        spec = ConvSpec.parse(WINOGRAD)
        kernels.append(tc.compile(spec, target, algorithm="cuda.tensor_winograd", max_error=1e-3))
    folder = tmp_path_factory.mktemp("cuda") / "layers"
    spec = kernels[0].spec
    given: dict[str, Any] = {"weight": np.ones(spec.weight_shape, np.float32)}
    given |= {name: np.ones(spec.oc, np.float32) for name in ("bias", "scale", "shift")}
    weights = {str(spec): {k.target.id: k.pack(**given) for k in kernels[: len(TARGETS)]}}
    tc.export(kernels, folder, weights=weights, source=True)
    return folder


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    """A copy, to be altered."""
    return Path(shutil.copytree(exported, tmp_path / "layers"))


def altered(folder: Path, change: Callable[[dict[str, Any]], None]) -> CudaBundle:
    """A bundle whose manifest was changed and sealed again."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    path.unlink()
    change(manifest)
    kept = {key: value for key, value in manifest.items() if key not in ("files", "sha256")}
    path.write_text(json.dumps(sealed(folder, kept)))
    return read(folder)


def entry_of(manifest: dict[str, Any], spec: str, target: str = "sm_90") -> dict[str, Any]:
    (entry,) = (e for e in manifest["kernels"] if e["spec"] == spec)
    code: dict[str, Any] = entry["targets"][target]
    return code


def wrong(report: SourceReport) -> dict[str, str]:
    """What the self-test says of the kernels that failed it."""
    return {row.symbol: row.text for row in report.selftest.rows if not row.ok}


def test_every_target_is_proven(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need_cxx()
    assert main(["validate", str(exported), "--emulate", "--seed", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["bundles"]
    assert [one["target"] for one in found] == ["sm_90", "sm_80"]
    for one in found:
        assert "machine code was not run" in one["proven"]
        texts = [row["text"] for row in one["selftest"]["rows"]]
        assert texts.count("every output bit-equal") == 4
        assert texts.count("samples within the bound") == COUNT - 4
        assert len(one["reports"]) == COUNT
        assert all(check["ok"] for report in one["reports"] for check in report["checks"])
        assert one["reports"][0]["reproducer"].endswith("--emulate --seed 4")


def test_the_output_says_what_was_not_run(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need_cxx()
    assert main(["validate", str(exported), "--emulate"]) == 0
    said = capsys.readouterr().out
    assert said.count("source and launches on this processor; the machine code was not run") == 2
    assert said.count(f"self-test: {COUNT} of {COUNT} kernels right") == 2
    assert said.count(f"against torch: {COUNT} of {COUNT} passed every check") == 2


def test_sources_are_listed_and_checked(bundle: Path) -> None:
    manifest = read(bundle).manifest
    sources = {path for path in manifest["files"] if path.endswith(".cu")}
    # Pack of every kernel, and run of those that have anything to do; twice.
    assert len(sources) == 2 * (2 * COUNT - 1)
    code = entry_of(manifest, SPECS[0])
    assert code["run"]["source"] in sources
    assert entry_of(manifest, SPECS[1])["run"]["source"] is None
    file = bundle / code["run"]["source"]
    file.write_text(file.read_text().replace("__syncthreads();", "__syncthreadz();", 1))
    with pytest.raises(BundleError, match=f"{file.name}: altered"):
        read(bundle)


def test_without_source_there_is_nothing_to_prove(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def forget(manifest: dict[str, Any]) -> None:
        for entry in manifest["kernels"]:
            for code in entry["targets"].values():
                for kind in ("run", "pack"):
                    del code[kind]["source"]

    found = altered(bundle, forget)
    with pytest.raises(BundleError, match=r"CUDA source for sm_80: got 'none of .*\.cubin'"):
        validate_source(found, "sm_80")
    assert main(["validate", str(bundle), "--emulate"]) != 0
    assert "tvmconv export --source" in capsys.readouterr().err


def test_mistakes_of_the_bundle_are_found(bundle: Path) -> None:
    """In the source, in the launches, in packing and in shipped weights; one kernel each."""
    need_cxx()
    specs = (SPECS[0], SPECS[2], SPECS[3], WINOGRAD)

    def change(manifest: dict[str, Any]) -> None:
        shipped = bundle / entry_of(manifest, specs[0])["weights"]
        shipped.write_bytes(shipped.read_bytes()[:-64])
        packing = bundle / entry_of(manifest, specs[1])["pack"]["source"]
        packing.write_text(packing.read_text().replace("packed_ptr[", "packed_ptr[1 + "))
        entry_of(manifest, specs[2])["run"]["launches"][-1]["grid"][0] -= 1
        finish = bundle / entry_of(manifest, specs[3])["run"]["source"]
        text = finish.read_text()
        assert "at[2] - at[1]" in text
        finish.write_text(text.replace("at[2] - at[1]", "at[2] + at[1]", 1))

    report = validate_source(altered(bundle, change), "sm_90")
    symbols = {row.symbol: str(one) for row, one in zip(report.selftest.rows, report.reports,
                                                        strict=True)}  # fmt: skip
    found = wrong(report)
    assert not report.ok
    assert len(found) == len(specs)
    texts = [next(t for s, t in found.items() if s.startswith(spec)) for spec in specs]
    assert texts[0].startswith("shipped: bounds: ")
    assert "bounds" in texts[1]
    assert texts[2].startswith("golden: launch: ")
    assert texts[3].startswith("output ")
    passed = [symbol for symbol, text in symbols.items() if "FAIL" not in text]
    # Shipped weights are the self-test's alone; everything else fails the checks as well.
    assert len(passed) == COUNT - len(specs) + 1


def test_processors_have_no_source(tmp_path: Path) -> None:
    kernel = tc.compile(tc.conv1d((1, 4, 9), 4, 3), "x86_64_v2")
    with pytest.raises(ArgumentError, match=r"source: got True; .*x86_64_v2 has no CUDA"):
        tc.export([kernel], tmp_path / "out", source=True)
