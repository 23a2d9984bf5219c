"""Tuning over TVM's RPC on an emulated board that has `apache-tvm` and nothing else."""

import os
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

import tvmconv as tc
from tests.emulated.board import interpreter
from tests.emulated.machines import runner_of
from tests.emulated.test_boards import SPECS
from tests.ports import free_ports
from tests.tuning import broken
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tuning.measure import Trial
from tvmconv.tuning.records import read_records
from tvmconv.tuning.remote import Address, RemoteMeasurer

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
# TVM starts its server in a fresh interpreter, which the kernel here cannot start by itself.
PLAIN = """
import sys
sys.executable, *sys.argv = sys.argv[1:]
import runpy
runpy.run_module("tvm.exec.rpc_server", run_name="__main__")
"""


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a group of processes of its own, once it listens."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    try:
        end = time.monotonic() + 90
        while process.poll() is None and time.monotonic() < end:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1.0).close()
                break
            time.sleep(0.2)
        else:
            pytest.fail(f"the server does not listen: {log.read_text()}")
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def serving(board: Path, port: int, log: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """`tvmconv device serve` on the board."""
    command = [*interpreter(board, ROOT), "-m", "tvmconv", "device", "serve"]
    return running([*command, "--host", "127.0.0.1", "--port", str(port)], port, log)


def plain(board: Path, port: int, log: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """`python -m tvm.exec.rpc_server` on the board."""
    wrapper = log.with_suffix(".python")
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(interpreter(board))} "$@"\n')
    wrapper.chmod(0o700)
    ports = ["--port", str(port), "--port-end", str(port + 1)]
    command = [*interpreter(board), "-c", PLAIN, str(wrapper), "rpc_server"]
    return running([*command, "--host", "127.0.0.1", *ports], port, log)


def test_two_servers_one_of_which_is_killed(rpc_board: Path, tmp_path: Path) -> None:
    runner_of("pi4")
    ports, path = free_ports(2), tmp_path / "records.jsonl"
    heard: list[object] = []

    with (
        serving(rpc_board, ports[0], tmp_path / "own") as own,
        plain(rpc_board, ports[1], tmp_path / "plain") as other,
    ):

        def watch(progress: object) -> None:
            heard.append(progress)
            if len(heard) == 3:
                kill(other)

        servers = [f"127.0.0.1:{port}" for port in ports]
        result = tc.tune(
            SPECS,
            "pi4",
            trials=4,
            records=path,
            algorithm="direct",
            rpc=servers,
            on_event=watch,
        )
        assert own.poll() is None
    assert result.stopped == "budget"
    assert all(layer.final for layer in result.layers)
    records, problems = read_records(path)
    assert not problems
    trials = [record for record in records if record.stage == "trial"]
    assert Counter(record.status for record in trials) == {"ok": 8}
    assert len({(record.spec, record.template, record.config) for record in trials}) == 8
    for spec in SPECS:
        assert tc.compile(spec, "pi4", records=path).tier == "tuned"


def test_a_server_outlives_bad_candidates_and_knows_what_it_is(
    rpc_board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner_of("pi4")
    broken.register(monkeypatch, "arm")
    (port,), target = free_ports(1), load("pi4")
    task, direct = Task(SPECS[0], target), get_template("arm.direct")
    names = ("arm.crashing", "arm.wrong", "arm.direct")
    with serving(rpc_board, port, tmp_path / "log"):
        address = [Address("127.0.0.1", port)]
        with RemoteMeasurer(target, address) as measurer:
            (facts,) = measurer.connect()
            outcomes = measurer.measure([Trial(task, n, direct.default(task)) for n in names])
        refused = pytest.raises(tc.WrongDevice, match=r"cannot load code for armv7 .*ELFCLASS32")
        with RemoteMeasurer(load("armv7"), address) as measurer, refused:
            measurer.connect()
    assert (facts.machine, facts.missing) == ("aarch64", ())
    assert [outcome.status for outcome in outcomes] == ["crashed", "wrong_answer", "ok"]
    log = (tmp_path / "log").read_text()
    assert "target one of aarch64" in log
    assert f"--rpc 127.0.0.1:{port}" in log
    assert log.count("a candidate ended it") == 2
