"""Measuring on this machine's GPU, which is the stand-in: outcomes, crashes, and a whole tuning."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import tvmconv as tc
from tests.stand_in.kernels import StandIn, add_kernels
from tvmconv.build import build
from tvmconv.cuda.code import DeviceCode
from tvmconv.cuda.compiler import compile_source
from tvmconv.cuda.packing import packing_code
from tvmconv.errors import DeviceError
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tuning.artifact import SYMBOL
from tvmconv.tuning.gpu_local import GpuMeasurer
from tvmconv.tuning.measure import Trial
from tvmconv.tuning.records import read_records

SPEC = tc.conv2d((1, 8, 6, 6), 8, 3, padding=1)
TASK = Task(SPEC, load("sm_90"))
GENERAL = get_template("cuda.general")
TRIALS = [Trial(TASK, GENERAL.id, config) for config in GENERAL.space(TASK).configs()]


def _code(trial: Trial) -> DeviceCode:
    code = build(trial.task, get_template(trial.template_id), trial.config, SYMBOL).device
    assert code is not None
    return code


def _known(trial: Trial, stand_in: StandIn, runs: DeviceCode | None = None) -> None:
    """Let the stand-in run a trial's machine code, or something else in its place."""
    template = get_template(trial.template_id)
    packing = packing_code(trial.task, template, trial.config, SYMBOL)
    code = _code(trial)
    for source, does in ((code, runs or code), (packing, packing)):
        add_kernels(does, [compile_source(source.source, "sm_90").cubin], stand_in.kernels)


pytestmark = pytest.mark.usefixtures("cuda_compiler")


@pytest.fixture
def measurer(stand_in: StandIn) -> Iterator[GpuMeasurer]:
    with GpuMeasurer(load("sm_90")) as opened:
        yield opened


@pytest.mark.parametrize(
    ("dtype", "loss"), [("float32", 1e-5), ("float16", 2.0**-11), ("bfloat16", 2.0**-8)]
)
def test_candidates_are_checked_and_timed(
    measurer: GpuMeasurer, stand_in: StandIn, dtype: str, loss: float
) -> None:
    task = replace(TASK, spec=replace(SPEC, dtype=dtype))
    trials = [replace(trial, task=task) for trial in TRIALS[:2]]
    for trial in trials:
        _known(trial, stand_in)
    outcomes = measurer.measure(trials)
    assert [one.status for one in outcomes] == ["ok", "ok"], outcomes
    for outcome in outcomes:
        assert 2 <= len(outcome.seconds) <= 10
        assert loss / 100 < outcome.error < loss
    assert measurer.machine == "Stand-in 0"
    again = measurer.remeasure(trials, 3)
    assert [len(one.seconds) for one in again] == [3, 3]


def test_wrong_answers_and_crashes_cost_themselves(
    measurer: GpuMeasurer, stand_in: StandIn
) -> None:
    wrong, crashing, right = TRIALS[:3]
    code = _code(wrong)
    body = re.sub(r"(y_ptr\[.*\]) = (.*);", r"\1 = 1.0f + \2;", code.source)
    _known(wrong, stand_in, replace(code, source=body))
    code = _code(crashing)
    body = re.sub(r"packed_ptr \+ \(", "packed_ptr + 9999 + (", code.source)
    body = re.sub(r"packed_ptr\[", "packed_ptr[9999 + ", body)
    assert body != code.source
    _known(crashing, stand_in, replace(code, source=body))
    _known(right, stand_in)
    outcomes = measurer.measure([wrong, crashing, right])
    assert [one.status for one in outcomes] == ["wrong_answer", "crashed", "ok"], outcomes
    assert "expected" in outcomes[0].message
    assert "CUDA_ERROR_LAUNCH_FAILED" in outcomes[1].message


def test_code_that_the_gpu_refuses(measurer: GpuMeasurer) -> None:
    (outcome,) = measurer.measure(TRIALS[:1])  # the stand-in does not know it
    assert outcome.status == "build_failed"
    assert "could not be loaded" in outcome.message


def test_tuning_on_the_gpu(stand_in: StandIn, tmp_path: Path) -> None:
    for trial in TRIALS:
        _known(trial, stand_in)
    path = tmp_path / "records.jsonl"
    result = tc.tune(SPEC, "cuda", trials=8, algorithm="cuda.general", records=path)
    assert result.layers[0].template == "cuda.general"
    records, _ = read_records(path)
    assert {r.status for r in records} == {"ok"}
    assert {r.cpu for r in records} == {"Stand-in 0"}
    assert {r.config for r in records} == {str(trial.config) for trial in TRIALS}
    kernel = tc.compile(SPEC, "sm_90", records=path, algorithm="cuda.general")
    assert kernel.tier == "tuned"


def test_no_gpu(stand_in: StandIn) -> None:
    stand_in.gpus("")
    with pytest.raises(DeviceError, match="CUDA_ERROR_NO_DEVICE"):
        GpuMeasurer(load("sm_90"))
    stand_in.gpus("8.0")
    with pytest.raises(DeviceError, match=r"sm_80.*one that runs code for sm_90"):
        GpuMeasurer(load("sm_90"))
