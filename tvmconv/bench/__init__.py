"""Times kernels beside their peers, checks every answer, and reports the result.

`bench` gives rows; `measure` gives rows with the machine they were taken on, which is what the
command line prints (table.py) and writes (report.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvmconv.bench.machine import Machine
from tvmconv.bench.roofline import Roofline, measure_roofline
from tvmconv.bench.rows import Layer, Row, geometric_mean, layers

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel
    from tvmconv.spec import ConvSpec
    from tvmconv.target import Target

__all__ = ["Layer", "Machine", "Measured", "Row", "bench", "geometric_mean", "layers", "measure"]

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """The rows of one run and the machine that gave them."""

    machine: Machine
    rows: tuple[Row, ...]
    roofline: Roofline | None = None

    @property
    def ok(self) -> bool:
        """Whether every kernel ran and every answer, the peers' too, was right."""
        return all(row.ok for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the ratios to the best peer."""
        compared = layers(self.rows)
        summary = [
            {
                "spec": layer.ours.spec,
                "best_peer": layer.best_peer.contestant if layer.best_peer else None,
                "ratio": layer.ratio,
            }
            for layer in compared
        ]
        return {
            "machine": self.machine.as_dict(),
            "roofline": self.roofline.as_dict() if self.roofline else None,
            "layers": summary,
            "geometric_mean_ratio": geometric_mean(layer.ratio for layer in compared),
            "rows": [row.as_dict() for row in self.rows],
        }


def bench(
    specs: "Sequence[ConvSpec]",
    target: "str | Target" = "host",
    peers: Sequence[str] = ("torch",),
    threads: int = 1,
    seconds: float = 0.25,
    **options: Any,
) -> list[Row]:
    """Compile convolutions for this machine and time them beside their peers.

    Args:
        specs: what to compile; each appears once, however often it is given.
        target: a target that this machine can run.
        peers: "torch", or single ones such as "torch_channels_last".
        threads: how many threads every contestant may use.
        seconds: measuring time per spec and contestant.
        options: passed on to `tvmconv.compile`: algorithm, config, max_error, records.

    Returns:
        For each spec the kernel's row, then one per peer.

    Raises:
        ArgumentError: for an unknown peer.
        TvmconvError: what `tvmconv.compile` raises.
    """
    from tvmconv.kernel import compile

    kernels = [compile(spec, target, threads=threads, **options) for spec in dict.fromkeys(specs)]
    return list(measure(kernels, peers, seconds=seconds).rows)


def measure(
    kernels: "Sequence[Kernel]",
    peers: Sequence[str] = ("torch",),
    *,
    seconds: float = 0.25,
    on_step: Progress = lambda text: None,
    seed: int = 0,
) -> Measured:
    """Time compiled kernels beside their peers; all kernels have the same number of threads.

    Args:
        kernels: compiled for a target that runs here.
        peers: see `bench`.
        seconds: measuring time per kernel and contestant.
        on_step: called with a spec's text before it is measured.
        seed: of the inputs and of the order of turns.
    """
    from tvmconv.bench.contest import compare
    from tvmconv.bench.peers import names_for, opened

    if not kernels:
        return Measured(Machine.here(1), ())
    threads = kernels[0].threads
    machine = Machine.here(threads)
    for kernel in kernels:
        names_for(peers, kernel.spec)
    roofline = measure_roofline(kernels[0].target.lanes, threads)
    rows: list[Row] = []
    with opened(threads) as host:
        overheads = _overheads(kernels, peers, host)
        for kernel in kernels:
            on_step(str(kernel.spec))
            rows += compare(kernel, peers, host, seconds=seconds, overheads=overheads, seed=seed)
    return Measured(machine, tuple(rows), roofline)


def _overheads(kernels: "Sequence[Kernel]", peers: Sequence[str], host: Any) -> dict[str, float]:
    """Time every contestant on a convolution of one multiply-add: the cost of a call itself."""
    from tvmconv.bench.contest import compare
    from tvmconv.kernel import compile
    from tvmconv.make import conv2d

    smallest = compile(conv2d((1, 1, 1, 1), 1, 1), kernels[0].target, threads=kernels[0].threads)
    rows = compare(smallest, peers, host, seconds=0.02)
    return {row.contestant: row.min_seconds for row in rows if row.min_seconds}
