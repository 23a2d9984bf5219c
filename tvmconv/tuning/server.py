"""An RPC server for a board that others tune on: TVM's own, kept alive.

TVM's server listens no more after a candidate has crashed one of its sessions, and a candidate
that hangs blocks it until its session expires, even when the tuner has left. Here a session is a
process that is watched; whatever becomes of it, the next one can begin. Needs `apache-tvm` and
neither torch nor a compiler.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import select
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tvmconv import host_cpu
from tvmconv import target as targets
from tvmconv.errors import DeviceUnreachable, EnvironmentProblem, TargetError
from tvmconv.tuning.processes import die_with_parent, signal_name

# How often a session is looked at, and what it may take to end once its tuner has left.
LOOK: Final = 0.5
LEAVING: Final = 2.0
# Seconds until a tuner whose machine went away without a word is missed: 10 + 3 * 5.
KEEPALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
# After a signal to end that was lost.
AGAIN: Final = 0.5
# Before listening again after an error of the loop itself.
PAUSE: Final = 1.0

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Server:
    """A server that is to be.

    Attributes:
        host: address to listen on; "0.0.0.0" for all.
        port: to listen on.
        key: what tuners call it by; may be empty without a tracker.
        tracker: host and port of the tracker to tell, or None.
    """

    host: str
    port: int
    key: str
    tracker: tuple[str, int] | None

    def listen(self) -> socket.socket:
        """Take the port.

        Raises:
            EnvironmentProblem: it is in use, or not ours to take.
        """
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self.host, self.port))
        except OSError as error:
            listening.close()
            where = f"{self.host}:{self.port}"
            raise EnvironmentProblem(f"cannot listen on {where}: {error.strerror}") from error
        listening.listen(1)
        return listening

    def serve(self, listening: socket.socket) -> None:
        """Serve one session after the other, until KeyboardInterrupt.

        Raises:
            DeviceUnreachable: there is no tracker where one should be.
        """
        rpc = load_server()
        rpc._serving = _serve_session
        if self.tracker is not None:
            try:
                socket.create_connection(self.tracker, 5.0).close()
            except OSError as error:
                where = "{}:{}".format(*self.tracker)
                raise DeviceUnreachable(f"no RPC tracker at {where}: {error}") from error
        while True:
            try:
                rpc._listen_loop(listening, self.port, self.key, self.tracker, None, None)
            except Exception as error:
                # What a stranger sends to an open port, or a tracker that was replaced.
                _LOG.warning("%s: %s; listening again", type(error).__name__, error)
                time.sleep(PAUSE)


def load_server() -> Any:
    """TVM's server; unless TVM was imported before, of TVM only the runtime: a tenth of the memory.

    Raises:
        EnvironmentProblem: TVM or what its RPC needs is missing.
    """
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
    try:
        from tvm.rpc import server
    except ImportError as error:
        wanted = "`pip install apache-tvm cloudpickle psutil tornado`"
        raise EnvironmentProblem("TVM's RPC", str(error), wanted) from error
    server.logger.setLevel(logging.ERROR)
    return server


def _serve_session(
    connection: socket.socket, address: Sequence[Any], options: Mapping[str, float], library: None
) -> None:
    """In place of TVM's function of this place: serve a tuner, whatever its candidates do."""
    from tvm.rpc.server import _serve_loop
    from tvm.support import utils

    begun, name = time.monotonic(), f"{address[0]}:{address[1]}"
    _LOG.info("%s: session", name)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    folder = utils.tempdir()
    context = multiprocessing.get_context("fork")
    worker = context.Process(target=_work, args=(_serve_loop, connection, folder, os.getpid()))
    worker.start()
    try:
        ended = _watch(worker, connection, begun + options.get("timeout", float("inf")))
        if worker.exitcode and not ended:
            ended = f"a candidate ended it ({signal_name(worker.exitcode)})"
        seconds = time.monotonic() - begun
        _LOG.info("%s: %s after %.0f s", name, ended or "session ended", seconds)
    finally:
        worker.kill()
        worker.join()
        connection.close()
        folder.remove()


def _work(loop: Any, connection: socket.socket, folder: Any, parent: int) -> None:
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(folder.path)
    loop(connection, None, folder)


def _watch(worker: Any, connection: socket.socket, deadline: float) -> str:
    """Wait for a session's end; what it was ended for, empty when it ended by itself."""
    poller = select.poll()
    poller.register(connection, select.POLLRDHUP)
    left: float | None = None
    while worker.is_alive():
        worker.join(LOOK)
        now = time.monotonic()
        if now > deadline:
            return "its time was over"
        if left is None and poller.poll(0):
            left = now
        if left is not None and now > left + LEAVING and worker.is_alive():
            return "the tuner left, and a candidate hung"
    return ""


def own_targets() -> list[str]:
    """Ids of the targets that this machine can be, the best first."""
    with contextlib.suppress(TargetError):
        return [targets.host().id]
    known = map(targets.load, targets.ids())
    return [one.id for one in known if one.is_this_machine]


def own_name() -> str:
    """What this machine is called: the board's model, or the processor."""
    model = Path("/proc/device-tree/model")
    with contextlib.suppress(OSError):
        return model.read_text(errors="replace").strip("\0 \n")
    return host_cpu.this_machine()


def own_address(host: str) -> str:
    """The address by which others reach a server that listens on ``host``."""
    if host not in ("", "0.0.0.0"):
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # nothing is sent: this only picks an interface
        return str(probe.getsockname()[0])
    return socket.gethostname()


@contextlib.contextmanager
def until_told_to_end() -> Iterator[None]:
    """Leave the block at Ctrl-C, unless that is ignored as in a script's background, and at `kill`.

    KeyboardInterrupt is raised again until it gets through. TVM leaves connections unclosed, and
    Python formats a warning, by code of its own, as it frees one: what a signal raises in there is
    lost. 36 of 200 were, that came within 0.2 ms of a connection's end.
    """
    told = False

    def end(number: int, frame: object) -> None:
        nonlocal told
        told = True
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
        raise KeyboardInterrupt

    signals = [signal.SIGTERM, signal.SIGALRM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signals.append(signal.SIGINT)
    before = {number: signal.signal(number, end) for number in signals}
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        if told:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
