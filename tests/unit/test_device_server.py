"""The server for boards survives what TVM's own does not: sessions that crash or hang."""

import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_ports
from tvmconv.cli import main
from tvmconv.tuning import server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection; the first is the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    with ours, theirs:
        yield ours, theirs


def session(
    loop: Callable[..., None],
    ours: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    **options: float,
) -> float:
    """Serve a session that consists of ``loop``; how long it took."""
    from tvm.rpc import server as rpc

    monkeypatch.setattr(rpc, "_serve_loop", loop)
    begun = time.monotonic()
    server._serve_session(ours, ("10.0.0.5", 4711), options, None)
    return time.monotonic() - begun


def _crash(connection: socket.socket, library: None, folder: Any) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang(connection: socket.socket, library: None, folder: Any) -> None:
    time.sleep(600)


def test_a_crash_ends_one_session(
    ends: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        session(_crash, ends[0], monkeypatch)
    assert "10.0.0.5:4711: a candidate ended it (SIGSEGV)" in caplog.text


def test_a_session_that_hangs_ends_when_its_tuner_has_left(
    ends: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ends[1].close()
    with caplog.at_level(logging.INFO):
        session(_hang, ends[0], monkeypatch)
    assert "the tuner left, and a candidate hung" in caplog.text
    assert not multiprocessing.active_children()


def test_a_session_ends_when_its_time_is_over(
    ends: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        session(_hang, ends[0], monkeypatch, timeout=0.1)
    assert "its time was over" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_end_that_was_lost_comes_again(number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    lost = 0
    begun = time.monotonic()
    with server.until_told_to_end():
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        except KeyboardInterrupt:  # as Python does while it frees a connection
            lost += 1
        time.sleep(60)
    assert (lost, time.monotonic() - begun < 30) == (1, True)
    after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    assert after == before


def test_a_server_in_a_scripts_background_ignores_ctrl_c() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with server.until_told_to_end():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_serve_says_what_it_is_and_ends_on_ctrl_c() -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "tvmconv", "device", "serve", "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--key", "desk", "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or lines[-1] != "}\n":
        lines.append(process.stdout.readline())
        assert lines[-1], process.communicate()
    said = json.loads("".join(lines))
    assert said["tune"].endswith(f"--target {said['targets'][0]} --rpc 127.0.0.1:{port} --key desk")
    socket.create_connection(("127.0.0.1", port)).close()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(("device", "serve", "--host", "127.0.0.1", "--port", port)) == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in capsys.readouterr().err


def test_no_tracker_there(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("device", "serve", "--host", "127.0.0.1", "--port", "45679")
    assert main((*arguments, "--tracker", "127.0.0.1:9")) == 1
    assert "no RPC tracker at 127.0.0.1:9" in capsys.readouterr().err
