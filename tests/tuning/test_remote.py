"""Measuring over RPC on loopback: two servers and a tracker, one of which is killed."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import tvmconv as tc
from tests.ports import free_ports
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tuning.measure import Outcome, Trial
from tvmconv.tuning.records import read_records
from tvmconv.tuning.remote import Address, RemoteMeasurer, check_rpc, tracked_devices
from tvmconv.tuning.space_points import sample_valid
from tvmconv.tuning.tune import tune

SPEC = tc.conv2d((1, 16, 12, 12), 16, 3, padding=1)
HOST = load("host")
KEY = "loopback"
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Fleet:
    """A tracker and its servers, each a group of processes."""

    tracker: Address
    servers: list[subprocess.Popen[bytes]]

    def kill(self, number: int) -> None:
        os.killpg(self.servers[number].pid, signal.SIGKILL)
        self.servers[number].wait()


def start(*command: str) -> subprocess.Popen[bytes]:
    """A module's command, on loopback."""
    return subprocess.Popen(
        [sys.executable, "-m", *command, "--host", "127.0.0.1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """One of the servers is TVM's, the other ours."""
    # Fresh ones for each test: TVM's server does not take a port that was used a moment ago.
    ports = free_ports(3)
    started = [start("tvm.exec.rpc_tracker", *_only(ports[0]))]
    try:
        tracker = Address("127.0.0.1", ports[0], KEY, is_tracker=True)
        _wait_for(tracker, 0)
        known = ("--tracker", f"127.0.0.1:{ports[0]}", "--key", KEY)
        started.append(start("tvm.exec.rpc_server", *_only(ports[1]), *known))
        started.append(start("tvmconv", "device", "serve", "--port", str(ports[2]), *known))
        _wait_for(tracker, 2)
        yield Fleet(tracker, started[1:])
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _only(port: int) -> tuple[str, ...]:
    return "--port", str(port), "--port-end", str(port + 1)


def _wait_for(tracker: Address, devices: int) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        try:
            if tracked_devices(tracker) == devices:
                return
        except tc.DeviceUnreachable:
            pass
        time.sleep(0.5)
    pytest.fail(f"the tracker does not have {devices} devices")


@pytest.mark.slow
def test_a_fleet_goes_on_when_a_server_dies(fleet: Fleet, tmp_path: Path) -> None:
    task, template = Task(SPEC, HOST), get_template("x86.direct")
    drawn = sample_valid(template.space(task), 16, np.random.default_rng(0))
    trials = [Trial(task, template.id, config) for config in drawn]
    heard: Counter[int] = Counter()

    def done(index: int, outcome: Outcome) -> None:
        heard[index] += 1
        if sum(heard.values()) == 4:
            fleet.kill(0)

    with RemoteMeasurer(HOST, [fleet.tracker] * 2) as measurer:
        facts = measurer.connect()
        outcomes = measurer.measure(trials, done)
        again = measurer.remeasure(trials[:3], 2)
    assert facts[0] == facts[1]
    assert measurer.machine == facts[0].label
    assert set(heard.values()) == {1}
    assert [outcome.status for outcome in outcomes] == ["ok"] * 16
    for outcome in outcomes:
        assert len(outcome.seconds) in (2, 10)
        assert 1e-8 < outcome.score < 1e-1
        assert 0 < outcome.error < 1e-5
    assert [len(outcome.seconds) for outcome in again] == [2, 2, 2]


@pytest.mark.slow
def test_a_fleet_that_is_lost_invents_nothing(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    killed: list[int] = []

    def watch(progress: object) -> None:
        if not killed:
            killed.extend([0, 1])
            fleet.kill(0)
            fleet.kill(1)

    with RemoteMeasurer(HOST, [fleet.tracker] * 2, run_timeout=2.0, absence=4.0) as measurer:
        result = tune(
            SPEC, HOST, trials=6, records=path, measurer=measurer, prior=None, on_event=watch
        )
        assert not measurer.devices
    assert result.stopped == "device lost"
    records, _ = read_records(path)
    counted = Counter(record.status for record in records)
    assert counted["device_lost"] > 0
    assert counted["ok"] + counted["device_lost"] == len(records)
    assert all(not r.seconds and r.message for r in records if r.status == "device_lost")
    assert all(str(fleet.tracker.port) in record.cpu for record in records)


def test_nobody_there() -> None:
    task, template = Task(SPEC, HOST), get_template("x86.direct")
    trial = Trial(task, template.id, template.default(task))
    heard: dict[int, Outcome] = {}
    with RemoteMeasurer(HOST, [Address("127.0.0.1", 9)], absence=0.0) as measurer:
        with pytest.raises(tc.DeviceUnreachable, match=r"127\.0\.0\.1:9: "):
            measurer.connect()
        with pytest.raises(tc.DeviceUnreachable, match="no device is left"):
            measurer.measure([trial], heard.__setitem__)
    assert heard[0].status == "device_lost"
    assert not heard[0].seconds


def test_no_tracker_there() -> None:
    with pytest.raises(tc.DeviceUnreachable, match=r"no RPC tracker at 127\.0\.0\.1:9"):
        tracked_devices(Address("127.0.0.1", 9, KEY, is_tracker=True))


@pytest.mark.parametrize("text", ["", "host", "host:", ":9190", "host:port", "host:70000"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(tc.ArgumentError, match="HOST:PORT"):
        Address.parse(text)


def test_addresses() -> None:
    assert Address.parse("10.0.0.1:9190", "edge") == Address("10.0.0.1", 9190, "edge")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(tc.EnvironmentProblem, match="tornado"):
        check_rpc()
