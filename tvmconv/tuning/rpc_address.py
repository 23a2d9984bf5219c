"""Where devices are: TVM RPC servers, or a tracker that knows them by key."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvmconv.errors import ArgumentError, DeviceUnreachable

# Connecting to a device, or waiting until the tracker has one to give; half of it for each of the
# two attempts that a request may make.
CONNECT_TIMEOUT = 40.0
PROBE_TIMEOUT = 5.0


@dataclass(frozen=True)
class Address:
    """Where a device is: a server, or a tracker and the key of the servers it has.

    Attributes:
        host: name or number.
        port: of the server or tracker.
        key: of the tracker's devices, or what a server was given; None for a server without.
        is_tracker: whether it is a tracker.
    """

    host: str
    port: int
    key: str | None = None
    is_tracker: bool = False

    @classmethod
    def parse(cls, text: str, key: str | None = None, *, is_tracker: bool = False) -> Address:
        """Read HOST:PORT.

        Raises:
            ArgumentError: it is something else.
        """
        host, colon, port = text.rpartition(":")
        if not (colon and host and port.isdigit() and 0 < int(port) < 65536):
            raise ArgumentError("address", text, "HOST:PORT")
        return cls(host, int(port), key, is_tracker)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" + (f" ({self.key})" if self.key else "")

    def connect(self, timeout: float) -> Any:
        """An RPC session, whose server ends what it runs after ``timeout`` seconds."""
        from tvm import rpc

        if not self.is_tracker:
            return rpc.connect(self.host, self.port, self.key or "", session_timeout=timeout)
        with _tracker(self) as tracker:
            if not _known(tracker, self.key):
                raise OSError(f"the tracker has no device of key {self.key}")
            return tracker.request(self.key, session_timeout=timeout, max_retry=1)


@contextmanager
def _tracker(address: Address) -> Iterator[Any]:
    """A connection to a tracker; TVM's own would try for a minute where nobody listens.

    Raises:
        OSError: nobody listens.
    """
    from tvm import rpc

    socket.create_connection((address.host, address.port), PROBE_TIMEOUT).close()
    tracker = rpc.connect_tracker(address.host, address.port)
    try:
        yield tracker
    finally:
        tracker.close()


def tracked_devices(tracker: Address) -> int:
    """How many devices of its key a tracker knows now.

    Raises:
        DeviceUnreachable: the tracker does not answer.
    """
    try:
        with _tracker(tracker) as connected:
            return _known(connected, tracker.key)
    except (OSError, RuntimeError) as error:
        raise DeviceUnreachable(f"no RPC tracker at {tracker}: {error}") from error


def _known(tracker: Any, key: str | None) -> int:
    """How many devices of a key are registered, busy ones included."""
    servers = tracker.summary()["server_info"]
    return sum(server["key"] == f"server:{key}" for server in servers)
