"""The command line as a user meets it."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tvmconv.cli import main

ROOT = Path(__file__).resolve().parents[2]
SPEC = "conv2d_n1c4s9x9_o8k3x3_p1_bias_relu"
WAYS = ("native", "emulated", "rpc", "ssh")


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


class Command:
    """Runs commands in this process: TVM is loaded once for all of them."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str) -> Done:
        try:
            code = main(arguments)
        except SystemExit as stopped:
            code = int(str(stopped.code))
        said = self.capsys.readouterr()
        return Done(code, said.out, said.err)

    def document(self, *arguments: str) -> dict[str, Any]:
        """Run a command with --json and return its document."""
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["command"] == arguments[0]
        assert found["ok"] is True
        return found


@pytest.fixture
def tvmconv(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def test_targets(tvmconv: Command) -> None:
    found = tvmconv.document("targets")
    assert {one["id"] for one in found["targets"]} >= {"x86_64_v2", "x86_64_v3", "x86_64_v4"}
    assert [one["id"] for one in found["targets"] if one["host"]] == [found["host"]]
    for one in found["targets"]:
        can = one["abilities"]
        assert one["run"] == [way for way in WAYS if can[way]["able"]]
        assert all(can[what]["by"] for what in ("compile", "link", *WAYS))
    board = next(one for one in found["targets"] if one["id"] == "cortex_m7")
    assert board["abilities"]["emulated"]["by"] == "it is firmware, which needs a board"
    text = tvmconv("targets").stdout
    assert "to run: it is firmware, which needs a board: cortex_m7" in text


def test_workloads(tvmconv: Command) -> None:
    networks = tvmconv.document("workloads")["networks"]
    (resnet,) = [one for one in networks if one["name"] == "resnet50"]
    assert (resnet["distinct"], resnet["convolutions"]) == (23, 53)
    layers = tvmconv.document("workloads", "resnet50", "--fused")["layers"]
    assert layers[0]["spec"] == "conv2d_n1c3s224x224_o64k7x7_s2_p3_bias_relu"


def test_compile(tvmconv: Command) -> None:
    (kernel,) = tvmconv.document("compile", SPEC, "--target", "x86_64_v2")["kernels"]
    assert kernel["spec"] == SPEC
    assert kernel["target"] == "x86_64_v2"
    assert kernel["code_bytes"] > 0


def test_validate(tvmconv: Command) -> None:
    (report,) = tvmconv.document("validate", SPEC, "--seed", "3")["reports"]
    assert report["ok"]
    assert {"integers", "normal", "borders"} <= {check["name"] for check in report["checks"]}
    assert report["reproducer"].startswith(f"tvmconv validate {SPEC}")


def test_the_reproducer_is_a_command_that_runs(tvmconv: Command) -> None:
    (report,) = tvmconv.document("validate", SPEC, "--layout", "last", "--threads", "2")["reports"]
    again = tvmconv(*report["reproducer"].split()[1:])
    assert again.returncode == 0, again.stderr


def test_bench_with_report(tvmconv: Command, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    arguments = ("--seconds", "0.01", "--report", str(report), "--peers", "torch_nchw,torch_frozen")
    found = tvmconv.document("bench", SPEC, *arguments)
    ours, *peers = found["rows"]
    assert ours["contestant"] == "tvmconv"
    assert [peer["contestant"] for peer in peers] == ["torch_nchw", "torch_frozen"]
    assert all(row["overhead_seconds"] > 0 for row in found["rows"])
    assert ours["max_error"] <= ours["bound"]
    assert found["layers"][0]["ratio"] > 0
    assert found["machine"]["threads"] == 1
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_bench_writes_its_document_and_prints_for_people(tvmconv: Command, tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.json"
    done = tvmconv(
        "bench", SPEC, "--peers", "none", "--seconds", "0.01", "--cold", "--json", str(path)
    )
    assert done.returncode == 0, done.stderr
    assert "best peer" in done.stdout
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["cold"], found["complete"], len(found["rows"])) == (True, True, 1)
    assert [one.name for one in path.parent.iterdir()] == ["bench.json"]


def test_bench_says_before_the_run_that_a_file_cannot_be_written(
    tvmconv: Command, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    done = tvmconv("bench", SPEC, "--json", str(tmp_path / "file" / "bench.json"))
    assert done.returncode == 1
    assert "--json: got" in done.stderr


def test_bench_of_a_network_goes_on_after_a_layer_that_cannot_be_compiled(
    tvmconv: Command, tmp_path: Path
) -> None:
    path = tmp_path / "bench.json"
    arguments = ("--algorithm", "x86.pointwise", "--peers", "none", "--seconds", "0.01")
    done = tvmconv("bench", "squeezenet1_0:0", "squeezenet1_0:1", *arguments, "--json", str(path))
    assert done.returncode == 1
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [row["status"] for row in rows] == ["failed", "ok"]


def test_export(tvmconv: Command, tmp_path: Path) -> None:
    found = tvmconv.document("export", SPEC, "--output", str(tmp_path / "bundle"))
    assert found["selftest"] is True
    assert sum(found["sizes"].values()) > 0
    assert (tmp_path / "bundle" / "manifest.json").is_file()


@pytest.mark.emulated
def test_validate_emulate(tvmconv: Command, tmp_path: Path) -> None:
    """x86-64-v2 in an emulator, or in a program of its own where there is none."""
    common = (SPEC, "conv1d_n2c3s9_o4k3", "--target", "x86_64_v2")
    found = tvmconv.document("validate", *common, "--emulate")["reports"]
    assert [report["ok"] for report in found] == [True, True]
    assert found[0]["reproducer"].endswith("--emulate")
    out = str(tmp_path / "out")
    assert tvmconv("export", *common, "--output", out).returncode == 0
    done = tvmconv("validate", out)
    assert done.returncode == 0
    assert "x86_64_v2, shared library, on this machine" in done.stdout
    assert "self-test: 2 of 2 kernels right" in done.stdout
    assert "against torch: 2 of 2 passed every check" in done.stdout
    assert tvmconv("validate", out, SPEC).returncode == 1


def test_inspect(tvmconv: Command) -> None:
    shown = ("arithmetic", "choice", "loops", "tir", "hot")
    (kernel,) = tvmconv.document("inspect", SPEC, "--algorithm", "direct", "--show", *shown)[
        "kernels"
    ]
    assert kernel["arithmetic"]["multiply-adds"] == 8 * 81 * 4 * 9
    assert kernel["template"] in [
        c["template"] for c in kernel["choice"]["candidates"] if c["chosen"]
    ]
    assert all(c["reason"] for c in kernel["choice"]["candidates"])
    assert "def " in kernel["tir"]
    assert "conv += " in kernel["loops"]
    assert kernel["hot"]["arithmetic"] > 0


def test_records_and_max_error(tvmconv: Command, tmp_path: Path) -> None:
    (plain,) = tvmconv.document("inspect", SPEC, "--target", "x86_64_v3", "--show", "choice")[
        "kernels"
    ]
    fitting = [c for c in plain["choice"]["candidates"] if c["fits"]]
    lost = next(c for c in fitting if not c["chosen"])
    fields = {"format": 1, "spec": SPEC, "target": "x86_64_v3", "threads": 1, "status": "ok"}
    good = {"template": lost["template"], "config": lost["config"], "seconds": [1e-5]}
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(fields | good) + "\n{torn", encoding="utf-8")
    arguments = ["inspect", SPEC, "--target", "x86_64_v3", "--records", str(path)]
    (tuned,) = tvmconv.document(*arguments, "--show", "choice")["kernels"]
    assert (tuned["tier"], tuned["template"]) == ("tuned", lost["template"])
    assert tuned["choice"]["candidates"][0]["reason"].startswith("10 us measured")
    assert any("records.jsonl:2: not JSON" in note for note in tuned["choice"]["notes"])
    exact = tvmconv("compile", SPEC, "--algorithm", "fft", "--max-error", "1e-9")
    assert exact.returncode == 1
    assert "above max_error 1e-09" in exact.stderr
    missing = tvmconv("compile", SPEC, "--records", str(tmp_path / "none.jsonl"))
    assert missing.returncode == 1
    assert "No such file" in missing.stderr


def test_text_for_people(tvmconv: Command) -> None:
    done = tvmconv("inspect", SPEC)
    assert done.returncode == 0, done.stderr
    for heading in ("Arithmetic", "Why this template", "Roofline", "Loop nest", "Hot loop"):
        assert heading in done.stdout
    assert "\x1b[" not in done.stdout, "no terminal codes into a pipe"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compile", "resnet5"), "did you mean resnet50?"),
        (("compile", "conv2d_n1c3s8x8_o4k3x3_s0"), "stride"),
        (("compile", SPEC, "--target", "z80"), "target: got 'z80'; allowed: host"),
        (("compile", SPEC, "--algorithm", "magic"), "algorithm: got 'magic'"),
        (("compile", SPEC, "--threads", "0"), "threads: got 0"),
        (("bench", SPEC, "--peers", "tourch", "--seconds", "0.01"), "peers: got 'tourch'"),
        (("inspect", "mobilenet_v2:99"), "mobilenet_v2:0 to mobilenet_v2:29"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_one_line(tvmconv: Command, arguments: tuple[str, ...], message: str) -> None:
    done = tvmconv(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(f"tvmconv {arguments[0]}: ")
    assert done.stderr.count("\n") == 1


def test_mistakes_are_a_document_too(tvmconv: Command) -> None:
    done = tvmconv("compile", "resnet5", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert found["error"]["type"] == "SpecError"


def test_a_command_line_without_sense_is_exit_2(tvmconv: Command) -> None:
    assert tvmconv("compile").returncode == 2
    assert tvmconv("conjure").returncode == 2


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m tvmconv workloads | head -1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tvmconv", "targets", "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True
