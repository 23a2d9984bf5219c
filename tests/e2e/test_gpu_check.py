"""scripts/gpu_prepare.py and scripts/gpu_check.py, on the stand-in for a GPU and its driver."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.stand_in.kernels import StandIn, add_kernels, image_hash
from tvmconv.build import build
from tvmconv.cuda.code import DeviceCode
from tvmconv.cuda.compiler import CudaCompiler
from tvmconv.cuda.packing import packing_code
from tvmconv.errors import BundleError
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tuning.artifact import SYMBOL
from tvmconv.tuning.gpu_check import DONE, GpuCheck, Step, read_steps
from tvmconv.tuning.gpu_plan import Plan, Prepared, read_candidates
from tvmconv.tuning.gpu_report import LayerResult, kind, layer_results, report
from tvmconv.tuning.records import Record, read_records

ROOT = Path(__file__).resolve().parents[2]
SPECS = ("conv2d_n1c8s6x6_o8k3x3_p1", "conv2d_n2c8s5x5_o8k1x1_nhwc_f16")


@pytest.fixture(scope="module")
def prepared(cuda_compiler: CudaCompiler, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "out"
    assert _script("gpu_prepare.py", *SPECS, "--candidates", "3", "-o", str(folder)) == 0
    return folder


@pytest.fixture
def folder(prepared: Path, stand_in: StandIn, tmp_path: Path) -> Path:
    """A copy of the prepared folder whose code the stand-in runs."""
    out = Path(shutil.copytree(prepared, tmp_path / "out"))
    plan = Plan(out)
    for candidate in plan.candidates:
        _add(_codes(*candidate.key, SYMBOL), candidate.entry, out, stand_in)
    for kernel in plan.bundle.kernels.values():
        entry = kernel.entry["targets"]["sm_90"]
        name = entry["run"]["launches"][0]["kernel"].partition("_run_")[0]
        codes = _codes(kernel.spec, "sm_90", entry["template"], entry["config"], name)
        _add(codes, entry, out / "bundle", stand_in)
    return out


@cache
def _codes(
    spec: str, target: str, template: str, config: str, symbol: str
) -> dict[str, DeviceCode | None]:
    """Device code of what was compiled."""
    task = Task(ConvSpec.parse(spec), load(target), max_error=1.0)
    arguments = task, get_template(template), Config.parse(config), symbol
    return {"run": build(*arguments).device, "pack": packing_code(*arguments)}


def _add(codes: dict[str, DeviceCode | None], entry: Any, root: Path, stand_in: StandIn) -> None:
    for kind_, code in codes.items():
        assert code is not None
        add_kernels(code, [(root / entry[kind_]["cubin"]).read_bytes()], stand_in.kernels)


def _script(name: str, *arguments: str) -> int:
    """Run the main function of a script in this process."""
    return int(runpy.run_path(str(ROOT / "scripts" / name))["main"](list(arguments)))


def _check(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the script with numpy and the standard library alone."""
    bare = folder.parent / "bare"
    bare.mkdir(exist_ok=True)
    blocked = ("tvm", "torch", "rich", "jinja2", "matplotlib", "xgboost", "platformdirs")
    lines = ["import sys", *(f"sys.modules[{name!r}] = None" for name in blocked)]
    (bare / "sitecustomize.py").write_text("\n".join(lines) + "\n")
    environment = dict(os.environ) | {"PYTHONPATH": str(bare)}
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "gpu_check.py", folder, "--no-peers", *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_one_command_answers_everything(folder: Path, stand_in: StandIn) -> None:
    code, said = _check(folder)
    assert code == 0, said
    assert "Self-tests: 2 of 2 kernels right." in said
    assert "Stand-in 0 (sm_90, 4 multiprocessors)" in (folder / "report.md").read_text()
    records, problems = read_records(folder / "records.jsonl")
    plan = Plan(folder)
    wanted = {c.key for c in plan.candidates if not c.duplicate_of}
    assert {(r.spec, r.target, r.template, r.config) for r in records} == wanted
    assert not problems
    assert {r.status for r in records} == {"ok"}
    assert {r.cpu for r in records} == {"Stand-in 0"}
    assert all(r.versions["apache-tvm"] for r in records)
    assert stand_in.calls("cuGraphLaunch")
    # Nothing is measured again.
    launches = len(stand_in.calls("cuLaunchKernel"))
    assert _check(folder)[0] == 0
    assert len(stand_in.calls("cuLaunchKernel")) == launches


def test_records_that_come_back_can_be_shipped(folder: Path, stand_in: StandIn) -> None:
    assert _check(folder)[0] == 0
    shipped = folder.parent / "tuned"
    arguments = [str(folder / "records.jsonl"), "--no-prior", "--output", str(shipped)]
    assert _script("build_prior.py", *arguments) == 0
    records, _ = read_records(shipped / "sm_90.jsonl")
    assert {r.spec for r in records} == {str(ConvSpec.parse(text)) for text in SPECS}


def test_it_goes_on_where_it_was_stopped(folder: Path, stand_in: StandIn) -> None:
    code, said = _check(folder, "--budget", "1")
    assert (code, "time is up" in said) == (1, True)
    assert not (folder / "records.jsonl").exists()
    steps = (folder / "steps.jsonl").read_text()
    (folder / "steps.jsonl").write_text(steps + '{"key": "layer')  # as a killed process leaves it
    assert _check(folder)[0] == 0
    assert read_records(folder / "records.jsonl")[0]


def test_a_crash_costs_one_candidate(folder: Path, stand_in: StandIn) -> None:
    plan = Plan(folder)
    victim = next(c for c in plan.candidates if not c.duplicate_of)
    # It reads weights where x is, which is shorter: the emulator faults, as a GPU would.
    entry = dict(victim.entry)
    launch = entry["run"]["launches"][0]
    args = ["x" if name == "packed" else name for name in launch["args"]]
    entry["run"] = entry["run"] | {"launches": [launch | {"args": args}]}
    _rewrite(folder, {victim.key: replace(victim, entry=entry)})
    code, said = _check(folder)
    assert "going on in another" in said
    records = {(r.spec, r.target, r.template, r.config): r
               for r in read_records(folder / "records.jsonl")[0]}  # fmt: skip
    assert records[victim.key].status == "crashed"
    assert [r.status for r in records.values()].count("ok") == len(records) - 1
    assert code == 0


def _rewrite(folder: Path, changed: dict[Any, Prepared]) -> None:
    path = folder / "candidates.jsonl"
    lines = [json.dumps(asdict(changed.get(c.key, c))) for c in read_candidates(path)]
    path.write_text("\n".join(lines) + "\n")


def test_wrong_answers_are_recorded(folder: Path, stand_in: StandIn) -> None:
    plan = Plan(folder)
    victim = next(c for c in plan.candidates if not c.duplicate_of)
    code = _codes(*victim.key, SYMBOL)["run"]
    assert code is not None
    cubin = (folder / victim.entry["run"]["cubin"]).read_bytes()
    body = re.sub(r"(y_ptr\[.*\]) = (.*);", r"\1 = 1.0f + \2;", code.source)
    assert body != code.source
    for path in stand_in.kernels.glob(f"{image_hash(cubin)}*"):
        path.unlink()
    add_kernels(replace(code, source=body), [cubin], stand_in.kernels)
    check = GpuCheck(plan, folder, float("inf"), say=lambda text: None)
    assert check.run() == DONE
    records = {(r.spec, r.target, r.template, r.config): r
               for r in read_records(folder / "records.jsonl")[0]}  # fmt: skip
    assert records[victim.key].status == "wrong_answer"
    assert "expected" in records[victim.key].message


def test_machines_without_a_gpu(folder: Path, stand_in: StandIn) -> None:
    stand_in.gpus("")
    code, said = _check(folder)
    assert (code, "CUDA_ERROR_NO_DEVICE" in said) == (2, True)
    stand_in.gpus("7.5")
    code, said = _check(folder)
    assert (code, "sm_75" in said) == (2, True)


def test_a_process_that_dies_is_known(folder: Path, stand_in: StandIn) -> None:
    plan = Plan(folder)
    kernel = next(iter(plan.bundle.kernels.values()))
    line = {"key": f"layer {kernel.spec}", "state": "begun", "result": {}}
    (folder / "steps.jsonl").write_text(json.dumps(line) + "\n")
    check = GpuCheck(plan, folder, float("inf"), say=lambda text: None)
    assert check.run() == DONE
    done = [s for s in read_steps(folder / "steps.jsonl") if s.key == line["key"]]
    assert done[-1].result == {"ok": False, "text": "the process died in it"}
    assert f"not timed: {kernel.spec}: the process died in it" in report(folder, plan)


def test_peers_are_timed_in_turns(folder: Path, stand_in: StandIn) -> None:
    asked: list[str] = []

    def peers(kernel: Any) -> dict[str, Any]:
        asked.append(kernel.spec)
        return {"torch_cuda_nchw": lambda: 1e-3, "torch_cuda_nchw_tf32": lambda: 1e-4,
                "torch_cuda_channels_last": "no memory"}  # fmt: skip

    plan = Plan(folder)
    check = GpuCheck(plan, folder, float("inf"), peers=peers, say=lambda text: None)
    assert check.run() == DONE
    records = read_records(folder / "records.jsonl")[0]
    results = layer_results(read_steps(folder / "steps.jsonl"), records, {})
    assert [str(one.spec) for one in results] == asked
    for one in results:
        assert one.peer == 1e-3
        assert one.best <= one.ours
        assert one.ratio == 1e-3 / one.best
        assert one.problems == {"torch_cuda_channels_last": "no memory"}
    text = report(folder, plan)
    assert "| float32, 3x3 stride 1, batch 1 | 1 |" in text
    assert "| float16, dense, batch 2 | 1 |" in text
    assert "no memory" in text


def test_candidates_with_equal_code_are_kept_once(prepared: Path) -> None:
    found = list(read_candidates(prepared / "candidates.jsonl"))
    firsts = [(c.spec, c.template, c.entry["run"]["cubin"]) for c in found if not c.duplicate_of]
    assert len(set(firsts)) == len(firsts)
    for candidate in found:
        code = prepared / candidate.entry["run"]["cubin"]
        assert code.stat().st_size < 150_000
    assert 0 < len(list((prepared / "code").iterdir())) <= 2 * len(found)


def test_preparing_again_adds_nothing(prepared: Path) -> None:
    before = (prepared / "candidates.jsonl").read_bytes()
    assert _script("gpu_prepare.py", *SPECS, "--candidates", "3", "-o", str(prepared)) == 0
    assert (prepared / "candidates.jsonl").read_bytes() == before


def test_a_damaged_folder_is_refused(prepared: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(prepared, tmp_path / "out"))
    lines = (folder / "candidates.jsonl").read_text().splitlines()
    (folder / "candidates.jsonl").write_text("\n".join(["nonsense", *lines]) + "\n")
    with pytest.raises(BundleError, match=r"candidates\.jsonl:1: altered"):
        Plan(folder)
    (folder / "plan.json").unlink()
    with pytest.raises(BundleError, match=r"plan\.json: no prepared folder is here"):
        Plan(folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("conv2d_n32c64s56x56_o64k3x3_p1", "float32, 3x3 stride 1, batch 32"),
        ("conv2d_n32c64s56x56_o64k3x3_s2_p1", "float32, other dense, batch 32"),
        ("conv2d_n1c64s56x56_o64k1x1_f16", "float16, dense, batch 1"),
        ("conv2d_n1c64s56x56_o64k3x3_g64_p1",
         "float32, depthwise, grouped, transposed, dilated, 3-D, batch 1"),
        ("deform2d_n1c64s56x56_o64k3x3_p1", "deformable, batch 1"),
    ],
)  # fmt: skip
def test_kinds_are_those_of_the_figures(text: str, expected: str) -> None:
    assert kind(ConvSpec.parse(text)) == expected


def test_tf32_counts_among_its_like() -> None:
    spec = "conv2d_n1c8s6x6_o8k3x3_p1"
    samples = {"tvmconv": [4.0], "torch_cuda_nchw": [3.0]}
    result = {"ok": True, "spec": spec, "samples": samples, "problems": {}}
    steps = [Step(f"layer {spec}", "done", result)]
    given = {"spec": spec, "target": "sm_90", "template": "t", "threads": 1, "status": "ok"}
    records = [Record(config=c, seconds=(s,), **given) for c, s in (("a=1", 2.0), ("b=1", 1.0))]  # type: ignore[arg-type]
    key = (spec, "sm_90", "t")
    (found,) = layer_results(steps, records, {(*key, "a=1"): "direct", (*key, "b=1"): "tf32"})
    assert (found.best, found.best_tf32) == (2.0, 1.0)


def test_tf32_does_not_count_as_the_best_peer() -> None:
    spec = ConvSpec.parse(SPECS[0])
    result = LayerResult(spec, 2.0, 1.0, 0.25, {"a": 3.0, "a_tf32": 0.5}, (0, 0), {})
    assert result.peer == 3.0
    assert result.ratio == 3.0
