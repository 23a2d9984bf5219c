"""How commands and files get to a device: through a command such as ssh, which need not be ssh."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tvmconv.errors import ArgumentError, EnvironmentProblem

# Never ask for a password: nobody sits there. A connection that says nothing for 15 s is dead.
SSH_OPTIONS: Final = (
    "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5",
    "-o", "ServerAliveCountMax=3",
)  # fmt: skip
# One connection for all commands: signing in takes a small board half a second.
SHARED: Final = (
    "-o", "ControlMaster=auto", "-o", "ControlPersist=30", "-o", "ControlPath={shared}",
)  # fmt: skip
SSH: Final = ("ssh", *SSH_OPTIONS, *SHARED, "{host}", "{command}")
# With this status ssh says that it failed itself, not the command.
SSH_FAILED: Final = 255


@dataclass(frozen=True)
class Finished:
    """A command that ended on the device.

    Attributes:
        status: its exit status.
        out: what it wrote to stdout.
        err: what it wrote to stderr.
    """

    status: int
    out: bytes
    err: str


class ConnectionLost(Exception):
    """The way to the device failed, or the command did not end in time.

    Attributes:
        out: what the command had written to stdout.
    """

    def __init__(self, message: str, out: bytes = b"") -> None:
        """Take the reason, and what had arrived."""
        super().__init__(message)
        self.out = out


class Transport(Protocol):
    """A way to a device."""

    @property
    def name(self) -> str:
        """Of the device, for messages."""

    def run(self, command: str, timeout: float, given: Path | None = None) -> Finished:
        """Run a line of shell there, with a file of this machine as its stdin.

        Raises:
            ConnectionLost: no connection, or no end after ``timeout`` seconds.
        """

    def copy(self, file: Path, to: str, timeout: float) -> Finished:
        """Copy a file there; it is whole or not at all.

        Raises:
            ConnectionLost: as ``run``.
        """


@dataclass(frozen=True)
class CommandTransport:
    """A transport that is a command of this machine.

    Attributes:
        name: of the device, for messages.
        command: its words; "{command}" among them becomes the line of shell.
        failed: the exit status with which it says that there is no connection; None: it always
            has one.
    """

    name: str
    command: tuple[str, ...]
    failed: int | None = None

    def run(self, command: str, timeout: float, given: Path | None = None) -> Finished:
        """See ``Transport``."""
        words = [word.replace("{command}", command) for word in self.command]
        # Files, not pipes: a shared connection stays in the background and would keep pipes open.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with (given or Path(os.devnull)).open("rb") as source:
                try:
                    process = subprocess.Popen(
                        words, stdin=source, stdout=out, stderr=err, start_new_session=True
                    )
                except OSError as error:
                    raise EnvironmentProblem(f"cannot start {words[0]}: {error}") from error
            try:
                status: int | None = process.wait(timeout)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                with suppress(ProcessLookupError):
                    if process.poll() is None:
                        os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            written, said = (_read(file) for file in (out, err))
        text = said.decode(errors="replace").strip()
        if status is None:
            raise ConnectionLost(f"{self.name}: no answer after {timeout:.0f} s", written)
        if status == self.failed or status < 0:
            last = (text.splitlines() or [f"{words[0]} ended with status {status}"])[-1]
            raise ConnectionLost(f"{self.name}: {last}", written)
        return Finished(status, written, text)

    def copy(self, file: Path, to: str, timeout: float) -> Finished:
        """See ``Transport``; by `cat`, since small boards have no server for scp."""
        part = shlex.quote(f"{to}.part")
        return self.run(f"cat >{part} && chmod 700 {part} && mv {part} {shlex.quote(to)}",
                        timeout, file)  # fmt: skip


def _read(file: object) -> bytes:
    file.seek(0)  # type: ignore[attr-defined]
    content: bytes = file.read()  # type: ignore[attr-defined]
    return content


def open_transport(host: str, template: str | None, shared: Path) -> CommandTransport:
    """The transport to a host.

    Args:
        host: as ssh takes it, "user@name" or a name of its configuration; "name:port" sets a port.
        template: the command in place of ssh's own, with "{host}" and "{command}" in it: "ssh -F
            other.conf {host} {command}", or "sh -c {command}" for this machine itself. Default: ssh
            that never asks and keeps one connection.
        shared: the socket of that connection.

    Raises:
        ArgumentError: a host or a template that makes no sense.
    """
    if not host or host.startswith("-") or any(c.isspace() for c in host):
        raise ArgumentError("ssh", host, "[user@]host[:port]")
    words: Sequence[str] = SSH
    if template is not None:
        words = shlex.split(template)
        if "{command}" not in words:
            raise ArgumentError("transport", template, "a command with the word {command} in it")
    name, port = host, ""
    before, colon, after = host.rpartition(":")
    if template is None and colon and ":" not in before:
        if not after.isdigit():
            raise ArgumentError("ssh", host, "[user@]host[:port]")
        name, port = before, after
    filled = [w.replace("{host}", name).replace("{shared}", str(shared)) for w in words]
    if port:
        filled[1:1] = ["-p", port]
    is_ssh = Path(filled[0]).name == "ssh"
    return CommandTransport(host, tuple(filled), SSH_FAILED if is_ssh else None)
