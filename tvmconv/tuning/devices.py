"""From what a caller names, servers, a tracker or boards, to a measurer that is connected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvmconv.errors import ArgumentError, DeviceUnreachable

if TYPE_CHECKING:
    from tvmconv.target import Target
    from tvmconv.tuning.boards import Host
    from tvmconv.tuning.client import ClientPool


@dataclass(frozen=True)
class Named:
    """Devices as a caller names them; without any, this machine measures.

    Attributes:
        rpc: servers, HOST:PORT.
        tracker: a tracker of servers, HOST:PORT.
        key: which of the tracker's servers, or what the servers were given as theirs.
        ssh: boards.
    """

    rpc: tuple[str, ...] = ()
    tracker: str | None = None
    key: str | None = None
    ssh: tuple[Host, ...] = ()

    @classmethod
    def of(
        cls,
        rpc: str | Sequence[str] | None,
        tracker: str | None,
        key: str | None,
        ssh: str | Host | Sequence[str | Host] | None,
    ) -> Named:
        """Take one name or several.

        Raises:
            ArgumentError: devices of both roads, whose clocks differ; or half of a tracker's name.
        """
        from tvmconv.tuning.boards import Host

        servers = (rpc,) if isinstance(rpc, str) else tuple(rpc or ())
        boards = (ssh,) if isinstance(ssh, str | Host) else tuple(ssh or ())
        hosts = tuple(Host(board) if isinstance(board, str) else board for board in boards)
        if hosts and (servers or tracker):
            allowed = "either ssh, or rpc and tracker: their times do not compare"
            raise ArgumentError("ssh", ", ".join(host.name for host in hosts), allowed)
        if tracker and not key:
            raise ArgumentError("key", key, "the key of the tracker's devices")
        if key and not (tracker or servers):
            raise ArgumentError("key", key, "nothing without rpc or tracker")
        return cls(servers, tracker, key, hosts)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.rpc or self.tracker or self.ssh)

    def connected(self, target: Target, threads: int) -> ClientPool:
        """A measurer of them, each of which has answered; the caller closes it.

        Raises:
            ArgumentError: a name that makes no sense.
            EnvironmentProblem: no compiler for the target here, or nothing for TVM's RPC.
            TargetError: the target is firmware.
            DeviceError: a device or the tracker does not answer, or it is not the target.
        """
        measurer = self._measurer(target, threads)
        try:
            measurer.connect()
        except BaseException:
            measurer.close()
            raise
        return measurer

    def _measurer(self, target: Target, threads: int) -> ClientPool:
        if self.ssh:
            from tvmconv.tuning.boards import BoardMeasurer

            return BoardMeasurer(target, self.ssh, threads)
        from tvmconv.tuning.remote import Address, RemoteMeasurer, check_rpc, tracked_devices

        addresses = [Address.parse(text, self.key) for text in self.rpc]
        check_rpc()
        if self.tracker is not None:
            tracker = Address.parse(self.tracker, self.key, is_tracker=True)
            devices = tracked_devices(tracker)
            if not devices:
                raise DeviceUnreachable(f"the tracker at {tracker} has no device of this key")
            addresses += [tracker] * devices
        return RemoteMeasurer(target, addresses, threads)
