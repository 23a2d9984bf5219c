"""The benchmark with stand-in kernels and peers: what it reports, not how fast anything is."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tvmconv as tc
from tests.e2e.fake_peers import FAMILIES
from tests.e2e.stand_in import StandIn
from tvmconv.bench import Measured, contest, measure
from tvmconv.bench.peers import Prepared
from tvmconv.bench.process import opened
from tvmconv.bench.rows import Row
from tvmconv.bench.timing import Timer

ROOT = Path(__file__).resolve().parents[2]
POINTWISE = tc.conv2d((1, 4, 6, 6), 8, 1, bias=True, activation="relu")


def compare(kernel: StandIn, *names: str, threads: int = 1, cold: bool = False) -> list[Row]:
    timer = Timer(one_thread=threads == 1, cold=cold)
    with opened(threads, timer, FAMILIES) as host:
        return contest.compare(kernel, names, host, seconds=0.0, timer=timer)  # type: ignore[arg-type]


def run(kernels: Any, *peers: str, **options: Any) -> Measured:
    return measure(kernels, peers, families=FAMILIES, seconds=0.0, **options)


@pytest.mark.parametrize("cold", [False, True])
def test_right_answers_give_ok_rows(cold: bool) -> None:
    ours, peer = compare(StandIn(POINTWISE), "fake_right", cold=cold)
    assert (ours.contestant, peer.contestant) == ("tvmconv", "fake_right")
    for one in (ours, peer):
        assert one.ok, one.detail
        assert one.spec == str(POINTWISE)
        assert one.max_error is not None
        assert one.bound is not None
        assert 0 <= one.max_error <= one.bound
        assert one.relative_error is not None
        assert one.relative_error < 1e-5
        assert one.min_seconds is not None
        assert one.median_seconds is not None
        assert 0 < one.min_seconds <= one.median_seconds
        assert one.samples >= 3
    assert (ours.code_bytes, ours.packed_bytes) == (1234, 40)


def test_answers_are_compared_in_the_layers_own_order() -> None:
    spec = tc.conv2d((2, 3, 5, 4), 6, 1, layout="NHWC")
    _, peer = compare(StandIn(spec), "fake_right")
    assert peer.ok, peer.detail


def test_a_wrong_answer_is_said() -> None:
    ours, right, wrong, shape = compare(
        StandIn(POINTWISE, error=1.0), "fake_right", "fake_wrong", "fake_shape"
    )
    assert ours.status == "wrong answer"
    assert "tvmconv validate" in ours.detail
    assert right.ok
    assert (wrong.status, wrong.detail[:9]) == ("wrong answer", "off by 1,")
    assert (shape.status, shape.detail) == ("wrong answer", "its shape is (1, 1, 6, 6)")


def test_every_way_to_fail_is_a_row_and_harms_nobody() -> None:
    found = {
        one.contestant: one
        for one in compare(
            StandIn(POINTWISE),
            "fake_raises",
            "fake_missing",
            "fake_unsupported",
            "fake_crashes",
            "fake_right",
        )
    }
    assert found["tvmconv"].ok
    assert found["fake_right"].ok
    said = {name: (one.status, one.detail) for name, one in found.items() if not one.ok}
    assert said["fake_raises"] == ("failed", "RuntimeError: could not create a primitive")
    assert said["fake_missing"][0] == "not installed"
    assert said["fake_unsupported"] == ("unsupported", "it has no such layer")
    assert said["fake_crashes"] == ("failed", "its process died (SIGSEGV): about to fall")
    assert all(found[name].min_seconds is None for name in said)


def test_a_peer_that_dies_while_it_is_timed_is_a_row() -> None:
    ours, peer = compare(StandIn(POINTWISE), "fake_crashes_later")
    assert ours.ok
    assert (peer.status, peer.detail) == ("failed", "its process died (exit code 7)")


def test_a_peer_that_hangs_is_ended() -> None:
    began = time.monotonic()
    ours, peer = compare(StandIn(POINTWISE), "fake_hangs")
    assert time.monotonic() - began < 30
    assert ours.ok
    assert (peer.status, peer.detail) == ("failed", "no answer within 3 s; its process was ended")


def test_the_layer_after_a_crash_is_measured() -> None:
    measured = run([StandIn(POINTWISE), StandIn(replace(POINTWISE, oc=16))], "fake_crashes_later")
    statuses = [one.status for one in measured.rows if one.contestant != "tvmconv"]
    assert statuses == ["failed", "failed"]
    assert not measured.ok


def test_threads_reach_the_peers_and_their_processes() -> None:
    ours, peer = compare(StandIn(POINTWISE, threads=2), "fake_right", threads=2)
    assert ours.ok
    assert peer.ok, peer.detail
    assert (peer.threads, peer.preempted) == (2, 0.0)


def test_tensors_of_a_single_call_are_not_packed() -> None:
    class Nobody:
        def prepare(self, names: Any, plain: Any) -> list[Prepared]:
            return []

    spec = tc.deform_conv2d((1, 4, 6, 6), 4, 3, padding=1, mask=True, residual=True)
    (ours,) = contest.compare(StandIn(spec), [], Nobody(), seconds=0.0)  # type: ignore[arg-type]
    assert ours.ok, ours.detail


def test_overheads_are_in_every_row() -> None:
    measured = run([StandIn(POINTWISE)], "fake_right", "fake_slow")
    assert [one.contestant for one in measured.rows] == ["tvmconv", "fake_right", "fake_slow"]
    assert all(one.overhead_seconds for one in measured.rows)
    assert measured.complete
    assert measured.ok
    assert dict(measured.machine.versions)["numpy"] != "not installed"


def test_interrupting_keeps_what_was_measured() -> None:
    def kernels() -> Iterator[StandIn]:
        yield StandIn(POINTWISE)
        raise KeyboardInterrupt

    heard: list[int] = []
    measured = run(kernels(), "fake_right", on_layer=lambda now: heard.append(len(now.rows)))
    assert [one.contestant for one in measured.rows] == ["tvmconv", "fake_right"]
    assert heard == [2]
    assert not measured.complete
    assert not measured.ok
    assert measured.as_dict()["complete"] is False


def test_a_layer_that_was_not_compiled_is_a_row() -> None:
    failed = Row(
        spec=str(POINTWISE),
        contestant="tvmconv",
        status="failed",
        detail="no template",
        threads=1,
        flops=1,
        bytes_moved=1,
    )
    measured = run([failed, StandIn(replace(POINTWISE, oc=16))], "fake_right")
    assert [one.status for one in measured.rows] == ["failed", "ok", "ok"]
    assert measured.as_dict()["summary"]["compared"] == 1


def test_a_killed_run_leaves_no_process() -> None:
    code = (
        "import sys, time, tvmconv as tc\n"
        "from tests.e2e.fake_peers import FAMILIES\n"
        "from tvmconv.bench.plain import Plain\n"
        "from tvmconv.bench.process import opened\n"
        "from tvmconv.bench.timing import HOT\n"
        "from tvmconv.fills import normal\n"
        "spec = tc.conv2d((1, 4, 6, 6), 8, 1)\n"
        "with opened(1, HOT, FAMILIES) as host:\n"
        "    host.prepare(['fake_right'], Plain.of(spec, normal(spec)))\n"
        "    print(host.running['fake'].popen.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as run:
        assert run.stdout is not None
        child = Path("/proc", run.stdout.readline().strip())
        assert child.exists()
        run.kill()
    deadline = time.monotonic() + 10
    while child.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.exists()
