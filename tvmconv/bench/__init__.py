"""Times kernels beside their peers, checks every answer, and reports the result.

`bench` gives rows; `measure` gives rows with the machine they were taken on, which is what the
command line prints (table.py) and writes (report.py).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tvmconv.bench.machine import Machine
from tvmconv.bench.peers import FAMILIES, Family, chosen, family_of, names_for
from tvmconv.bench.roofline import Roofline, measure_roofline
from tvmconv.bench.rows import Layer, Row, geometric_mean, layers
from tvmconv.bench.summary import Summary, by_kind

if TYPE_CHECKING:
    from tvmconv.bench.process import Processes
    from tvmconv.bench.timing import Timer
    from tvmconv.kernel import Kernel
    from tvmconv.spec import ConvSpec
    from tvmconv.target import Target

__all__ = ["Layer", "Machine", "Measured", "Row", "bench", "geometric_mean", "layers", "measure"]


@dataclass(frozen=True)
class Measured:
    """The rows of one run and the machine that gave them.

    Attributes:
        machine: where, and with what software.
        rows: for each layer the kernel's, then one per peer.
        roofline: what the machine could do at best.
        seconds: measuring time per layer and contestant.
        cold: whether caches were emptied before each timed call.
        complete: False when the run was interrupted; the rows are those measured before.
    """

    machine: Machine
    rows: tuple[Row, ...]
    roofline: Roofline | None = None
    seconds: float = 0.0
    cold: bool = False
    complete: bool = True

    @property
    def ok(self) -> bool:
        """Whether all that could run did, and every answer, the peers' too, was right."""
        return self.complete and all(row.ok or row.absent for row in self.rows)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Measured":
        """Read what `as_dict` gave; ratios and summaries follow from the rows."""
        roofline = content["roofline"]
        return cls(
            Machine.from_dict(content["machine"]),
            tuple(Row.from_dict(row) for row in content["rows"]),
            Roofline(**roofline) if roofline else None,
            content["seconds"],
            content["cold"],
            content["complete"],
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the ratios to the best peer."""
        compared = layers(self.rows)
        each = [
            {
                "spec": layer.ours.spec,
                "best_peer": layer.best_peer.contestant if layer.best_peer else None,
                "ratio": layer.ratio,
                "ratio_to_torch": layer.ratio_to(layer.best_of("torch")),
            }
            for layer in compared
        ]
        summary = Summary.of("all", compared)
        return {
            "machine": self.machine.as_dict(),
            "roofline": self.roofline.as_dict() if self.roofline else None,
            "seconds": self.seconds,
            "cold": self.cold,
            "complete": self.complete,
            "summary": summary.as_dict(),
            "kinds": [one.as_dict() for one in by_kind(compared)],
            "layers": each,
            "geometric_mean_ratio": summary.to_best,
            "rows": [row.as_dict() for row in self.rows],
        }


def bench(
    specs: "Sequence[ConvSpec]",
    target: "str | Target" = "host",
    peers: Sequence[str] = ("torch",),
    threads: int = 1,
    seconds: float = 0.25,
    cold: bool = False,
    **options: Any,
) -> list[Row]:
    """Compile convolutions for this machine and time them beside their peers.

    Args:
        specs: what to compile; each appears once, however often it is given.
        target: a target that this machine can run.
        peers: "all", families such as "torch" or "onnxruntime", or single contestants such as
            "torch_channels_last" or "metaschedule:32".
        threads: how many threads every contestant may use.
        seconds: measuring time per spec and contestant.
        cold: empty the caches before each timed call.
        options: passed on to `tvmconv.compile`: algorithm, config, max_error, records.

    Returns:
        For each spec the kernel's row, then one per peer.

    Raises:
        ArgumentError: for an unknown peer.
        TvmconvError: what `tvmconv.compile` raises.
    """
    from tvmconv.compile import compile

    kernels = (compile(spec, target, threads=threads, **options) for spec in dict.fromkeys(specs))
    measured = measure(kernels, peers, threads=threads, seconds=seconds, cold=cold)
    return list(measured.rows)


def measure(
    kernels: "Iterable[Kernel | Row]",
    peers: Sequence[str] = ("torch",),
    *,
    threads: int = 1,
    seconds: float = 0.25,
    cold: bool = False,
    on_layer: Callable[[Measured], None] = lambda measured: None,
    families: Mapping[str, Family] = FAMILIES,
    seed: int = 0,
) -> Measured:
    """Time kernels beside their peers, one after the other; Ctrl-C ends it and keeps what is there.

    Args:
        kernels: compiled with `threads` for a target that runs here; one that is made when it is
            asked for is let go when it was timed. A row stands for one that could not be compiled.
        peers: see `bench`.
        threads: how many threads each contestant uses.
        seconds: measuring time per kernel and contestant.
        cold: empty the caches before each timed call.
        on_layer: called after each layer with what has been measured.
        families: the libraries that `peers` can name.
        seed: of the inputs and of the order of turns.

    Raises:
        ArgumentError: for an unknown peer.
    """
    from tvmconv.bench.process import opened
    from tvmconv.bench.timing import Timer

    names = chosen(peers, families)
    packages = dict.fromkeys(
        package for name in names for package in families[family_of(name, families)].packages
    )
    measured = Measured(Machine.here(threads, packages), (), None, seconds, cold, complete=False)
    timer = Timer(one_thread=threads == 1, cold=cold)
    with opened(threads, timer, families) as host:
        run = _Run(host, timer, names, families, seed)
        try:
            for kernel in kernels:
                measured = run.add(kernel, measured)
                on_layer(measured)
            return replace(measured, complete=True)
        except KeyboardInterrupt:
            return measured


@dataclass
class _Run:
    """What stays the same over the layers of a run; overheads are known after the first."""

    host: "Processes"
    timer: "Timer"
    peers: Sequence[str]
    families: Mapping[str, Family]
    seed: int
    overheads: Mapping[str, float] | None = None

    def add(self, kernel: "Kernel | Row", measured: Measured) -> Measured:
        """Measure one layer more."""
        from tvmconv.bench.contest import compare

        if isinstance(kernel, Row):
            return replace(measured, rows=(*measured.rows, kernel))
        if kernel.target.gpu is not None:
            from tvmconv.bench.gpu import compare_on_gpu

            rows = compare_on_gpu(kernel, self.peers, seconds=measured.seconds, seed=self.seed)
            return replace(measured, rows=(*measured.rows, *rows))
        if measured.roofline is None:
            limits = measure_roofline(kernel.target.lanes, kernel.threads)
            measured = replace(measured, roofline=limits)
        if self.overheads is None:
            self.overheads = self._overheads(kernel)
        rows = compare(
            kernel,
            names_for(self.peers, kernel.spec, self.families),
            self.host,
            seconds=measured.seconds,
            timer=self.timer,
            overheads=self.overheads,
            seed=self.seed,
        )
        return replace(measured, rows=(*measured.rows, *rows))

    def _overheads(self, kernel: "Kernel") -> dict[str, float]:
        """Time every contestant on next to no work: the cost of a call itself."""
        from tvmconv.bench.contest import compare
        from tvmconv.compile import compile
        from tvmconv.make import conv2d, deform_conv2d

        found: dict[str, float] = {}
        for spec in (conv2d((1, 16, 1, 1), 16, 1), deform_conv2d((1, 16, 1, 1), 16, 1)):
            names = names_for(self.peers, spec, self.families)
            smallest = compile(spec, kernel.target, threads=kernel.threads)
            rows = compare(smallest, names, self.host, seconds=0.02, timer=self.timer)
            known = {row.contestant: row.min_seconds for row in rows if row.min_seconds}
            found = known | found
        return found
