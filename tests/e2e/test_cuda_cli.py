"""The command line for GPU targets, on machines with the stand-in and without any GPU."""

import json
from pathlib import Path
from typing import Any

import pytest

import tvmconv as tc
from tests.stand_in.kernels import StandIn, add_kernels
from tvmconv.cli import main
from tvmconv.cuda.packing import device_packing
from tvmconv.kernel import Kernel

pytestmark = pytest.mark.usefixtures("cuda_compiler")

SPEC = "conv2d_n1c3s7x9_o5k3x3_p1"


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_targets_say_which_compiler_there_is(
    capsys: pytest.CaptureFixture[str], stand_in: StandIn
) -> None:
    stand_in.gpus("8.6")
    _, found = _json(capsys, "targets")
    by_id = {one["id"]: one for one in found["targets"]}
    link = by_id["sm_90"]["abilities"]["link"]
    assert link["able"]
    assert link["by"].startswith(("NVRTC ", "nvcc "))
    assert "native" in by_id["sm_80"]["run"]
    assert "native" in by_id["sm_86"]["run"]
    assert "native" not in by_id["sm_90"]["run"]


@pytest.mark.usefixtures("disassembler")
def test_inspect_shows_registers_and_machine_code(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("inspect", SPEC, "--target", "sm_90", "--show", "usage", "sass", "ptx", "cuda")
    code, found = _json(capsys, *arguments)
    (kernel,) = found["kernels"]
    assert code == 0
    first = kernel["usage"]["functions"][0]
    assert 0 < first["registers"] <= 255
    assert first["code_bytes"] > 0
    assert "--gpu-architecture=sm_90" in kernel["usage"]["flags"]
    assert "EXIT" in kernel["sass"]
    assert ".entry" in kernel["ptx"]
    assert "__global__" in kernel["cuda"]
    assert main(["inspect", SPEC, "--target", "sm_90"]) == 0
    said = capsys.readouterr().out
    assert "registers" in said
    assert "spilled: 0" in said


def test_packed_weights_of_float16_have_two_bytes_each(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = []
    for text in (SPEC, f"{SPEC}_f16"):
        algorithm = ("--algorithm", "cuda.general", "--target", "sm_80")
        code, found = _json(capsys, "compile", text, *algorithm)
        assert code == 0
        sizes.append(found["kernels"][0]["packed_bytes"])
    assert sizes[0] == 2 * sizes[1]


@pytest.mark.parametrize(("target", "section"), [("sm_90", "hot"), ("host", "sass")])
def test_sections_of_the_other_kind_are_refused(
    capsys: pytest.CaptureFixture[str], target: str, section: str
) -> None:
    assert main(["inspect", SPEC, "--target", target, "--show", section]) != 0
    assert f"got '{section}'" in capsys.readouterr().err


def test_export_without_a_gpu_and_validate_with_one(
    capsys: pytest.CaptureFixture[str], stand_in: StandIn, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    stand_in.gpus("")
    code, found = _json(capsys, "export", SPEC, "--target", "sm_80,sm_90", "-o", str(folder))
    assert code == 0
    assert found["selftest"] is None
    assert found["targets"] == ["sm_90", "sm_80"]
    assert found["sizes"]["machine code (cubin)"] < 2 * 2 * 60_000
    assert main(["export", SPEC, "--target", "sm_90", "-o", str(folder)]) == 0
    assert "tvmconv_load.py` runs it on a machine with such a GPU" in capsys.readouterr().out
    assert main(["validate", str(folder)]) != 0
    assert "NO_DEVICE" in capsys.readouterr().err
    _known(tc.compile(tc.ConvSpec.parse(SPEC), "sm_90"), folder, stand_in)
    stand_in.gpus("9.0")
    code, found = _json(capsys, "validate", str(folder))
    assert code == 0
    assert found["bundles"][0]["rows"][0]["text"] == "every output bit-equal"
    assert main(["validate", str(folder), "--emulate"]) != 0
    assert "CUDA source for sm_90: got 'none of " in capsys.readouterr().err


def test_export_with_source_says_how_to_prove_it(
    capsys: pytest.CaptureFixture[str], stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.gpus("")
    folder = tmp_path / "out"
    arguments = ["export", SPEC, "--target", "sm_90", "--source", "-o", str(folder)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "CUDA source" in said
    assert f"`tvmconv validate {folder} --emulate` proves its source here" in said
    assert len(list((folder / "code").glob("*.cu"))) == 2
    assert main(["export", SPEC, "--target", "x86_64_v2", "--source", "-o", str(folder)]) != 0
    assert "has no CUDA source" in capsys.readouterr().err


def _known(kernel: Kernel, folder: Path, stand_in: StandIn) -> None:
    assert kernel.built.device is not None
    for kind, code in (("run", kernel.built.device), ("pack", device_packing(kernel))):
        (file,) = (folder / "code").glob(f"*_{kind}-sm_90.cubin")
        add_kernels(code, [file.read_bytes()], stand_in.kernels)


def test_export_runs_the_selftest_where_there_is_a_gpu(
    capsys: pytest.CaptureFixture[str], stand_in: StandIn, tmp_path: Path
) -> None:
    spec = tc.ConvSpec.parse(SPEC)
    tc.export([tc.compile(spec, "sm_90")], tmp_path / "first")
    _known(tc.compile(spec, "sm_90"), tmp_path / "first", stand_in)
    code, found = _json(capsys, "export", SPEC, "--target", "sm_90", "-o", str(tmp_path / "out"))
    assert code == 0
    assert found["selftests"] == {"sm_90": True}
