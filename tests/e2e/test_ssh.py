"""Tuning through OpenSSH itself, on loopback: this machine is the board."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

import pytest

import tvmconv as tc
from tests.ports import free_ports
from tvmconv.tuning.boards import BoardMeasurer, Host
from tvmconv.tuning.records import read_records
from tvmconv.tuning.transport import SSH

SPEC = tc.conv2d((1, 16, 12, 12), 16, 3, padding=1)
TARGET = "x86_64_v2"
SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PidFile none
"""
CLIENT = """
Host *
  Port {port}
  User {user}
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking no
"""


@dataclass
class Sshd:
    """A server of one's own."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ["PATH"])
        assert program is not None
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        end = time.monotonic() + 20
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return
            except OSError:
                time.sleep(0.05)
        pytest.skip(f"sshd does not start: {(self.folder / 'sshd.log').read_text()}")

    def kill(self) -> None:
        """End it, with every connection that it has."""
        if self.process is not None:
            found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
            for pid in (*map(int, found.split()), self.process.pid):
                os.kill(pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    @property
    def transport(self) -> str:
        """The command that is used by default, told where this server and its keys are."""
        return shlex.join(["ssh", "-F", str(self.folder / "ssh_config"), *SSH[1:]])


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    for tool in ("ssh", "ssh-keygen", "/usr/sbin/sshd"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian: apt install openssh-server)")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd locks itself in
    folder = tmp_path / "ssh"
    folder.mkdir()
    (port,) = free_ports(1)
    values = {"folder": folder, "port": port, "user": getuser()}
    (folder / "sshd_config").write_text(SERVER.format(**values))
    (folder / "ssh_config").write_text(CLIENT.format(**values))
    for key in ("host_key", "user_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    server = Sshd(folder, port)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.mark.slow
def test_tuning_goes_on_when_the_connection_breaks(sshd: Sshd, tmp_path: Path) -> None:
    place, path = tmp_path / "board", tmp_path / "records.jsonl"
    place.mkdir()
    host = Host("127.0.0.1", sshd.transport, "nice -n 1", str(place))
    heard: list[object] = []

    def watch(progress: object) -> None:
        heard.append(progress)
        if len(heard) == 1:
            sshd.kill()
            sshd.start()

    result = tc.tune(SPEC, TARGET, trials=9, records=path, ssh=host, prior=None, on_event=watch)
    assert result.stopped == "budget"
    assert result.layers[0].final
    trials = [record for record in read_records(path)[0] if record.stage == "trial"]
    assert Counter(record.status for record in trials) == {"ok": 9}
    assert (sshd.folder / "sshd.log").read_text().count("Accepted publickey") >= 2


def test_why_there_is_no_connection(sshd: Sshd, tmp_path: Path) -> None:
    host = Host("127.0.0.1", sshd.transport, folder=str(tmp_path))
    (sshd.folder / "user_key.pub").write_text("")
    denied = pytest.raises(tc.DeviceUnreachable, match=r"Permission denied.*ssh-copy-id")
    with BoardMeasurer(tc.compile(SPEC, TARGET).target, [host]) as measurer:
        with denied:
            measurer.connect()
        sshd.kill()
        with pytest.raises(tc.DeviceUnreachable, match=r"Connection refused"):
            measurer.connect()
