"""Where peers run: in this process, or with several threads in one of their own.

Thread pools of two systems in one process inherit each other's CPU pinning and spin on each
other's cores, so a comparison with more than one thread keeps the peers in a process apart. The
slices still alternate: the parent asks for one at a time.
"""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from numpy.typing import NDArray

from tvmconv.bench.timing import Slice, local_slice
from tvmconv.errors import ArgumentError, EnvironmentProblem
from tvmconv.operands import Operands
from tvmconv.spec import ConvSpec

FAMILIES = ("torch",)
SETTLE_SECONDS = 2e-3  # OpenMP's workers spin for about a millisecond after their last loop


@dataclass(frozen=True)
class Prepared:
    """A peer that is ready to be timed on one spec, or the reason why it is not."""

    name: str
    answer: NDArray[Any] | None = None
    slice: Slice | None = None
    problem: str = ""


class Peers(Protocol):
    """Something that holds peers and times slices of them."""

    def prepare(self, names: Sequence[str], spec: ConvSpec, operands: Operands) -> list[Prepared]:
        """Set the named peers up for a spec and compute each one's answer."""


def names_for(peers: Sequence[str], spec: ConvSpec) -> list[str]:
    """Expand families ("torch") into the peers that make sense for a spec.

    Raises:
        ArgumentError: a name that is neither a family nor a peer of this spec's kind.
    """
    from tvmconv.bench import torch_peers

    names: list[str] = []
    for peer in peers:
        if peer in FAMILIES:
            names += torch_peers.names_for(spec)
        elif peer in torch_peers.NAMES:
            names += [peer] if peer in torch_peers.names_for(spec) else []
        else:
            raise ArgumentError("peers", peer, ", ".join((*FAMILIES, *torch_peers.NAMES)))
    return list(dict.fromkeys(names))


@contextmanager
def opened(threads: int) -> Iterator[Peers]:
    """Give the peers a place to run with so many threads."""
    if threads > 1:
        with _process(threads) as remote:
            yield remote
        return
    from tvmconv.bench import torch_peers

    with torch_peers.limited_to(1):
        yield Local(one_thread=True)


@dataclass(frozen=True)
class Local:
    """Peers in this process."""

    one_thread: bool

    def prepare(self, names: Sequence[str], spec: ConvSpec, operands: Operands) -> list[Prepared]:
        """See Peers."""
        return [self._prepare(name, spec, operands) for name in names]

    def _prepare(self, name: str, spec: ConvSpec, operands: Operands) -> Prepared:
        from tvmconv.bench import torch_peers

        try:
            call = torch_peers.prepare(name, spec, operands)
            answer = torch_peers.answer(spec, call())
            return Prepared(name, answer, local_slice(call, one_thread=self.one_thread))
        except Exception as error:  # a peer's failure is a result, whatever it is
            return Prepared(name, problem=_one_line(error))


@dataclass(frozen=True)
class Remote:
    """Peers in a process that answers one request at a time."""

    requests: IO[bytes]
    replies: IO[bytes]

    def prepare(self, names: Sequence[str], spec: ConvSpec, operands: Operands) -> list[Prepared]:
        """See Peers."""
        found = self._ask(("prepare", list(names), spec, operands))
        return [
            Prepared(
                name,
                answer,
                None if answer is None else partial(self._slice, name),
                problem,
            )
            for name, answer, problem in found
        ]

    def _slice(self, name: str) -> tuple[list[float], bool]:
        samples: list[float] = self._ask(("slice", name))
        time.sleep(SETTLE_SECONDS)
        return samples, False

    def _ask(self, request: tuple[Any, ...]) -> Any:
        try:
            pickle.dump(request, self.requests)
            self.requests.flush()
            return pickle.load(self.replies)
        except (BrokenPipeError, EOFError):
            raise EnvironmentProblem("the process that ran the peers died") from None


@contextmanager
def _process(threads: int) -> Iterator[Remote]:
    checkout = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, (checkout, os.environ.get("PYTHONPATH"))))
    with subprocess.Popen(
        [sys.executable, "-m", "tvmconv.bench.peers", str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Remote(process.stdin, process.stdout)


def _serve(threads: int) -> None:
    """Answer requests on stdin until it closes; whatever torch prints goes to stderr."""
    from tvmconv.bench import torch_peers

    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    local = Local(one_thread=False)
    ready: dict[str, Slice] = {}
    with torch_peers.limited_to(threads):
        while True:
            try:
                request = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            if request[0] == "prepare":
                prepared = local.prepare(*request[1:])
                ready = {p.name: p.slice for p in prepared if p.slice is not None}
                reply: Any = [(p.name, p.answer, p.problem) for p in prepared]
            else:
                reply = ready[request[1]]()[0]
            pickle.dump(reply, replies)
            replies.flush()


def _one_line(error: Exception) -> str:
    """The type of an error and the first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
