"""`tvmconv tune` as a user meets it: its output, and what is left when it is killed or stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tvmconv.cli import main
from tvmconv.tuning.records import read_records

ROOT = Path(__file__).resolve().parents[2]
SPEC = "conv2d_n1c4s9x9_o8k3x3_p1"


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(("tune", *arguments, "--json"))
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


def test_tune_and_resume(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    code, found = document(capsys, SPEC, "--trials", "4", "--records", str(path))
    assert code == 0
    assert found["ok"] is True
    (layer,) = found["layers"]
    assert layer["spec"] == SPEC
    assert layer["trials"] == 4
    assert 0 < layer["seconds"] < 1e-2
    assert layer["gain"] >= 0.99
    code, found = document(capsys, SPEC, "--trials", "2", "--records", str(path))
    assert found["trials"] == 2
    assert found["layers"][0]["trials"] == 6
    main(("compile", SPEC, "--records", str(path), "--json"))
    (kernel,) = json.loads(capsys.readouterr().out)["kernels"]
    assert (kernel["tier"], kernel["config"]) == ("tuned", found["layers"][0]["config"])


def test_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert main(("tune", SPEC, "--trials", "2", "--records", str(path))) == 0
    said = capsys.readouterr()
    for title in ("layer", "times", "us", "GF/s", "gain", "trials", "template", "config"):
        assert title in said.out
    assert "after 2 trials" in said.out
    assert f"--records {path}" in said.out


def test_bad_requests(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        ((SPEC, "--trials", "0"), "trials: got 0"),
        ((SPEC, "--rpc", "nowhere", "--target", "x86_64_v3"), "HOST:PORT"),
        ((SPEC, "--tracker", "127.0.0.1:9", "--target", "x86_64_v3"), "key: got None"),
        ((SPEC, "--rpc", "127.0.0.1:9"), "--target"),
        ((SPEC, "--records", "/dev/full"), "cannot write /dev/full"),
    ):
        assert main(("tune", *arguments)) == 1
        assert message in capsys.readouterr().err


def _start(path: Path) -> subprocess.Popen[str]:
    """Tune in a process of its own, and wait until some trials are recorded."""
    command = [sys.executable, "-m", "tvmconv", "tune", "resnet50:1", "--minutes", "2"]
    process = subprocess.Popen(
        [*command, "--records", str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 100
    while time.monotonic() < end:
        if path.exists() and path.read_bytes().count(b"\n") >= 5:
            return process
        time.sleep(0.05)
    process.kill()
    pytest.fail("no trials were recorded")


def _children_are_gone(group: int) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_kill_loses_at_most_the_trial_in_flight(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "records.jsonl"
    process = _start(path)
    process.kill()
    process.communicate()
    assert _children_are_gone(process.pid)
    before, problems = read_records(path)
    assert len(before) >= 5
    assert not problems
    code, found = document(capsys, "resnet50:1", "--trials", "3", "--records", str(path))
    assert code == 0
    after, _ = read_records(path)
    assert after[: len(before)] == before
    configs = [(r.template, r.config) for r in after if r.stage == "trial"]
    assert len(configs) == len(set(configs)) == len(before) + 3
    assert found["layers"][0]["trials"] == len(before) + 3


@pytest.mark.slow
def test_interrupt_stops_with_a_summary(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    process = _start(path)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "interrupted" in out
    assert "after" in out
    assert "Traceback" not in err
    assert _children_are_gone(process.pid)
    assert not read_records(path)[1]
