"""Measures on boards that are reached by ssh, or by any command that runs a line of shell there.

Nothing has to be on the board: what is measured is a static program (batch.py), copied there with
a file of tensors. A batch is small, so that a board which is lost costs little; what it had
answered until then counts.
"""

from __future__ import annotations

import os
import secrets
import shlex
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tvmconv.compilers import find_compiler
from tvmconv.errors import (
    ArgumentError,
    BuildFailed,
    DeviceError,
    DeviceFull,
    DeviceUnreachable,
    TargetError,
)
from tvmconv.tuning.batch import (
    END,
    MACHINE,
    MOST,
    WARM_SECONDS,
    Programs,
    arguments,
    frames,
    judge_of,
    make_programs,
    outcomes_of,
    result_elems,
    write_operands,
)
from tvmconv.tuning.client import ClientDevice, ClientPool
from tvmconv.tuning.facts import Facts, of_another_machine
from tvmconv.tuning.measure import Outcome
from tvmconv.tuning.pool import ABSENCE, BUILD_TIMEOUT, RUN_TIMEOUT
from tvmconv.tuning.transport import ConnectionLost, Finished, Transport, open_transport

if TYPE_CHECKING:
    from tvmconv.target import Target
    from tvmconv.tuning.runner import Request

# Candidates of one program. A connection that breaks costs one of them; linking and copying take
# about a second, measuring a candidate about as long on a small board.
BATCH = 8
# Seconds for a command that does next to nothing, signing in included.
SHORT = 20.0
# The slowest copy that is waited for, in bytes a second.
SLOWEST = 100_000
# For all that comes before and after the candidates: signing in, tensors of the largest layers.
ALLOWANCE = 120.0
# Tensors that stay on a board: `/tmp` is memory on some, and a search returns to its layers.
KEPT_BYTES = 64 << 20
FULL = "No space left on device"


@dataclass(frozen=True)
class Host:
    """A board, as the command line names it.

    Attributes:
        name: as ssh takes it: "user@name", "name:port".
        transport: a command in place of ssh, see transport.open_transport.
        wrapper: what stands before programs there: "nice -n -5", or an emulator.
        folder: where a folder of our own is made; shell expands it.
    """

    name: str
    transport: str | None = None
    wrapper: str = ""
    folder: str = "${TMPDIR:-/tmp}"

    def open(self, shared: Path) -> Transport:
        """The way to it.

        Raises:
            ArgumentError: a name or command that makes no sense.
        """
        return open_transport(self.name, self.transport, shared)


@dataclass
class Board:
    """A board's client (client.Client): copies programs, runs them, reads what they say.

    Attributes:
        transport: the way to the board.
        target: what it should be.
        programs: links programs for it.
        wrapper: see Host.
        folder: see Host.
        work: folder here for what is linked.
        name: of our folder in that folder, the same for every client of the board: what one left
            behind, another finds.
    """

    transport: Transport
    target: Target
    programs: Programs
    wrapper: str
    folder: str
    work: Path
    name: str
    _place: str = ""  # folder on the board, once it was reached
    _sent: dict[str, int] = field(default_factory=dict)  # tensors there, and their bytes

    def facts(self) -> Facts:
        """What the board is.

        Raises:
            DeviceUnreachable: no connection.
            WrongDevice: it cannot run the target's programs.
            DeviceFull: no space there.
            DeviceError: no programs may be started there.
        """
        try:
            self._arrive()
            self._copy(self.programs.probe, "probe")
            done = self._run("./probe", SHORT)
            return self._recognised(done)
        except ConnectionLost as lost:
            raise DeviceUnreachable(_advice(str(lost))) from lost

    def _recognised(self, done: Finished) -> Facts:
        said = [f for f in frames(done.out) if f.kind == MACHINE]
        if said:
            facts = Facts.parse(said[0].content.decode(errors="replace"))
            facts.check(self.transport.name, self.target)
            return facts
        reason = (done.err.splitlines() or [f"status {done.status}"])[-1]
        if "Permission denied" in reason:
            where = f"{self.transport.name}: {self._place} is no place for programs"
            raise DeviceError(f"{where}: {reason}. Name another folder (`--folder`)")
        found = self.transport.run("uname -m", SHORT).out.decode(errors="replace").strip()
        error = of_another_machine(self.transport.name, found, self.target)
        raise type(error)(f"{error}. The program did not start: {reason}")

    def answer(self, request: Request) -> list[Outcome]:
        """The outcomes of a request's first candidates."""
        name = self.transport.name
        try:
            if not self._place:
                self._arrive()
            self._send(request)
        except BuildFailed as error:
            if len(request.artifacts) == 1:
                return [Outcome("build_failed", str(error))]
            # Whose fault it is shows when each is linked alone; the others will come again.
            return self.answer(replace(request, artifacts=request.artifacts[:1]))
        except (ConnectionLost, DeviceFull, DeviceUnreachable) as error:
            self._place = ""
            return [Outcome("device_lost", f"{name}: {error}", begun=False)]
        line = " ".join(["./batch", *arguments(_operands(request), request)])
        limit = request.timeout * len(request.artifacts) + WARM_SECONDS + SHORT
        try:
            done = self._run(line, limit)
            told = list(frames(done.out))
            whole = any(frame.kind == END for frame in told)
            lost = None if whole else f"{name}: status {done.status}: {done.err}"
        except ConnectionLost as error:
            lost, told = str(error), list(frames(error.out))
        judge = judge_of(Path(request.answers), request.artifacts)
        outcomes, begun = outcomes_of(told, len(request.artifacts), request.threads, judge)
        if lost is not None:
            self._place = ""
            outcomes.append(Outcome("device_lost", lost[:500], begun=begun))
        return outcomes

    @property
    def spent(self) -> bool:
        """Never: it holds nothing that could not be had again."""
        return False

    def leave(self) -> None:
        """Remove the folder from the board."""
        with suppress(ConnectionLost):
            self.transport.run(f'rm -rf "{self.folder}/{self.name}"', SHORT)

    def _arrive(self) -> None:
        """Make a folder on the board; after a restart it may be gone, and what was in it."""
        path = f'"{self.folder}/{self.name}"'
        done = self.transport.run(f"umask 077 && mkdir -p {path} && cd {path} && pwd", SHORT)
        lines = done.out.decode(errors="replace").splitlines()
        if done.status or not lines or not lines[-1].endswith(self.name):
            raise self._problem("no folder can be made", done)
        self._place, self._sent = lines[-1], {}

    def _send(self, request: Request) -> None:
        """Copy the program, and the tensors unless they are there."""
        answers, name = Path(request.answers), _operands(request)
        elems = result_elems(answers)
        program = self.programs.link(request.artifacts, elems, self.work / "batch")
        if name not in self._sent:
            write_operands(answers, self.work / name)
            self._make_room((self.work / name).stat().st_size)
            self._copy(self.work / name, name)
            self._sent[name] = (self.work / name).stat().st_size
            (self.work / name).unlink()
        self._copy(program, "batch")

    def _make_room(self, size: int) -> None:
        """Remove the tensors that were sent first, until ``size`` bytes more are not too many."""
        old: list[str] = []
        while self._sent and sum(self._sent.values()) + size > KEPT_BYTES:
            old.append(next(iter(self._sent)))
            del self._sent[old[-1]]
        if old:
            self._run(f"rm -f {' '.join(old)}", SHORT)

    def _copy(self, file: Path, name: str) -> None:
        seconds = SHORT + file.stat().st_size / SLOWEST
        done = self.transport.copy(file, f"{self._place}/{name}", seconds)
        if done.status:
            raise self._problem(f"{name} cannot be copied", done)

    def _run(self, line: str, timeout: float) -> Finished:
        place, wrapper = shlex.quote(self._place), f"{self.wrapper} " if self.wrapper else ""
        program = line.startswith("./")
        return self.transport.run(f"cd {place} && {wrapper if program else ''}{line}", timeout)

    def _problem(self, what: str, done: Finished) -> DeviceFull | DeviceUnreachable:
        text = f"{self.transport.name}: {what}: {done.err or f'status {done.status}'}"
        return DeviceFull(text) if FULL in done.err else DeviceUnreachable(text)


def _operands(request: Request) -> str:
    return f"{Path(request.answers).name}.operands"


def _advice(text: str) -> str:
    """A failed connection with what to do about it."""
    if "Permission denied" in text:
        return f"{text}. Nobody can type a password here: `ssh-copy-id` the key, or name another"
    if "Host key verification failed" in text:
        return f"{text}. Connect once by hand with `ssh`, to confirm the key"
    return text


class BoardMeasurer(ClientPool):
    """A Measurer of boards that have nothing but a way in; a context manager."""

    def __init__(
        self,
        target: Target,
        hosts: Sequence[Host],
        threads: int = 1,
        *,
        cores: Sequence[int] | None = None,
        build_timeout: float = BUILD_TIMEOUT,
        run_timeout: float = RUN_TIMEOUT,
        absence: float = ABSENCE,
        batch: int = BATCH,
    ) -> None:
        """Connect to nothing yet; ``connect`` does.

        Args:
            target: what is compiled for.
            hosts: the boards, all of one kind.
            threads: of the kernels that will be measured.
            cores: cores to build on; default: those this process may use.
            build_timeout: seconds after which a build is given up.
            run_timeout: seconds after which checking and timing a candidate is given up.
            absence: seconds without an answer after which a board is given up.
            batch: candidates of one program.

        Raises:
            ArgumentError: a host or a batch that makes no sense.
            EnvironmentProblem: nothing here links static programs for the target.
            BuildFailed: the compiler refused.
            TargetError: the target has no system that runs programs.
        """
        if not hosts:
            raise ArgumentError("hosts", (), "at least one board")
        if not 1 <= batch <= MOST:
            raise ArgumentError("batch", batch, f"1 to {MOST}")
        if target.system != "linux":
            raise TargetError(f"{target.id} has no Linux, whose programs are copied to boards")
        compiler = find_compiler(target, static=True)
        usable = sorted(os.sched_getaffinity(0)) if cores is None else list(cores)

        def devices(folder: Path) -> list[ClientDevice]:
            made = []
            programs = make_programs(folder, target, compiler)
            for number, host in enumerate(hosts):
                work = folder / f"board{number}"
                work.mkdir()
                transport = host.open(Path(tempfile.gettempdir()) / f"tvmconv-{os.getpid()}-%C")
                options = (host.wrapper, host.folder, work, f"tvmconv-{secrets.token_hex(6)}")
                client = partial(Board, transport, target, programs, *options)
                made.append(
                    ClientDevice(host.name, client, batch=batch, allowance=ALLOWANCE, leaves=True)
                )
            return made

        super().__init__(
            devices,
            threads,
            usable,
            machine=", ".join(sorted({f"ssh {host.name}" for host in hosts})),
            form="objects",
            build_timeout=build_timeout,
            run_timeout=run_timeout,
            absence=absence,
        )
