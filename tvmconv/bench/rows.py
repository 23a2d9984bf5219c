"""One measured contestant on one convolution, as a frozen value."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tvmconv.spec import ConvSpec

OURS = "tvmconv"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A contestant's time and error on a spec; a failure is a row as well, and says so.

    Attributes:
        spec: canonical text of the convolution.
        contestant: "tvmconv" or the name of a peer.
        status: "ok", "wrong answer", "failed" (it crashed, hung or raised), "unsupported" (a peer
            without such a layer) or "not installed".
        detail: what went wrong, in one line; empty when all went well.
        threads: how many threads each contestant could use.
        flops: twice the multiply-adds of the direct algorithm.
        bytes_moved: x, weight, bias and output, each once.
        min_seconds: shortest call; None after a failure, as are the next three.
        median_seconds: what a caller usually sees.
        samples: number of timed calls.
        preempted: share of the slices that lost the CPU.
        overhead_seconds: the same contestant's time for a 1x1 layer of 16 channels on one pixel.
        max_error: difference to torch in float64; the kernel's own at the element that is closest
            to its bound, a peer's largest.
        bound: what that difference may be.
        relative_error: the largest difference as a share of the largest value of the output.
        code_bytes: machine code of the kernel; tvmconv only, as are the next five.
        packed_bytes: packed weights.
        compile_seconds: what compiling took.
        template: id of the template, such as "x86.direct".
        config: the template's settings, as text.
        tier: "tuned", "predicted" or "analytic".
    """

    spec: str
    contestant: str
    status: str
    threads: int
    flops: int
    bytes_moved: int
    detail: str = ""
    min_seconds: float | None = None
    median_seconds: float | None = None
    samples: int = 0
    preempted: float = 0.0
    overhead_seconds: float | None = None
    max_error: float | None = None
    bound: float | None = None
    relative_error: float | None = None
    code_bytes: int | None = None
    packed_bytes: int | None = None
    compile_seconds: float | None = None
    template: str = ""
    config: str = ""
    tier: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ran and its answer was right."""
        return self.status == "ok"

    @property
    def absent(self) -> bool:
        """Whether there was nothing to run: a peer that lacks the layer, or is not installed."""
        return self.status in ("unsupported", "not installed")

    @property
    def gflops(self) -> float | None:
        """Work per time of the shortest call, in 1e9 operations a second."""
        return self.flops / self.min_seconds / 1e9 if self.min_seconds else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"gflops": self.gflops}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Row":
        """Read what `as_dict` gave."""
        return cls(**{f.name: content[f.name] for f in fields(cls)})


@dataclass(frozen=True)
class Layer:
    """The rows of one spec side by side."""

    spec: ConvSpec
    ours: Row
    peers: tuple[Row, ...]

    def best_of(self, prefix: str) -> Row | None:
        """The fastest peer whose answer was right, among those whose names begin so."""
        named = [row for row in self.peers if row.contestant.startswith(prefix)]
        timed = [row for row in named if row.ok and row.min_seconds]
        return min(timed, key=lambda row: row.min_seconds or 0.0, default=None)

    @property
    def best_peer(self) -> Row | None:
        """The fastest peer whose answer was right."""
        return self.best_of("")

    def ratio_to(self, peer: Row | None) -> float | None:
        """How many times faster than a peer the kernel is; None without two right answers."""
        if peer is None or not peer.ok or not peer.min_seconds:
            return None
        if not self.ours.ok or not self.ours.min_seconds:
            return None
        return peer.min_seconds / self.ours.min_seconds

    @property
    def ratio(self) -> float | None:
        """How many times faster than the best peer the kernel is; above 1 it wins."""
        return self.ratio_to(self.best_peer)


def layers(rows: Iterable[Row]) -> list[Layer]:
    """Group rows by their spec, in the order of first appearance."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.spec, []).append(row)
    return [
        Layer(
            ConvSpec.parse(text),
            next(row for row in group if row.contestant == OURS),
            tuple(row for row in group if row.contestant != OURS),
        )
        for text, group in grouped.items()
    ]


def geometric_mean(ratios: Iterable[float | None]) -> float | None:
    """The mean of ratios that does not depend on which side is the denominator."""
    from math import exp, log

    known = [ratio for ratio in ratios if ratio]
    return exp(sum(map(log, known)) / len(known)) if known else None
