"""One convolution: a compiled kernel and its peers, timed in turn, every answer checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvmconv import fills
from tvmconv.arithmetic import ITEM_BYTES
from tvmconv.bench.peers import Peers, Prepared
from tvmconv.bench.plain import Plain, aligned, at_cache_line
from tvmconv.bench.rows import OURS, Row
from tvmconv.bench.timing import HOT, Timer, Timing, interleave
from tvmconv.elements import SHORT_FLOATS
from tvmconv.operands import Operands
from tvmconv.spec import ConvSpec

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel

Array = NDArray[Any]
# Peers are not ours to prove; this catches one that computes something else. Sums of K terms are
# right to about 1e-6 of their size, a peer that normalises coordinates (grid_sample) to 1e-4.
PEER_TOLERANCE = 1e-3
# Of layers in 16 bits torch rounds folded weights, and its result after each step.
PEER_ROUNDINGS = 4


def compare(
    kernel: "Kernel",
    names: Sequence[str],
    host: Peers,
    *,
    seconds: float,
    timer: Timer = HOT,
    overheads: Mapping[str, float] | None = None,
    seed: int = 0,
) -> list[Row]:
    """Time one kernel beside its peers; the first row is the kernel's.

    Args:
        kernel: compiled for a target that runs here.
        names: the peers, see `tvmconv.bench.peers.names_for`.
        host: where the peers run.
        seconds: measuring time per contestant.
        timer: how a slice of the kernel is timed.
        overheads: seconds that a contestant takes for next to no work, by name.
        seed: of the inputs and of the order of turns.
    """
    spec = kernel.spec
    operands = aligned(fills.normal(spec, seed))
    call = bound_call(kernel, operands)
    expected = Expected.of(kernel, operands)
    prepared = host.prepare(names, Plain.of(spec, operands)) if names else []
    slices = {p.name: p.slice for p in prepared if p.slice is not None}
    timings = interleave({OURS: timer.slice(call)} | slices, seconds, seed=seed)
    known = overheads or {}
    rows = [our_row(kernel, call(), expected, timings.timed[OURS])]
    for peer in prepared:
        if peer.name in timings.lost:
            peer = replace(peer, status="failed", problem=timings.lost[peer.name])
        rows.append(peer_row(kernel, peer, expected, timings.timed.get(peer.name)))
    return [replace(row, overhead_seconds=known.get(row.contestant)) for row in rows]


def bound_call(kernel: "Kernel", operands: Operands) -> Callable[[], Array]:
    """Pack the weights and return the call that a user makes for every input.

    The result is written over the last one, as in onnxruntime's and OpenVINO's bound outputs.
    """
    keywords: dict[str, Any] = operands.keywords()
    per_call = {k: keywords.pop(k) for k in ("residual", "offset", "mask") if k in keywords}
    layer = kernel.bind(operands.weight, keywords.pop("bias", None), **keywords)
    x, out = operands.x, at_cache_line(np.zeros(kernel.spec.out_shape, np.float32))
    if per_call:
        return lambda: layer(x, out=out, **per_call)
    return lambda: layer(x, out=out)


@dataclass(frozen=True)
class Expected:
    """torch's answer in float64, and how far a kernel may be from it, in memory order."""

    values: Array
    bound: Array

    @classmethod
    def of(cls, kernel: "Kernel", operands: Operands) -> "Expected":
        """Compute them from a kernel's operands."""
        from tvmconv.reference import accumulate, accumulate_squares, finish
        from tvmconv.tolerance import result_bound

        spec = kernel.spec
        sums, squares = accumulate(spec, operands), accumulate_squares(spec, operands)
        exact = finish(spec, sums, operands)
        return cls(exact, result_bound(spec, sums, squares, operands, exact, kernel.accuracy))

    def error(self, answer: Array) -> Array:
        """How far each element is off."""
        difference: Array = np.abs(answer - self.values)
        return difference

    @property
    def largest(self) -> float:
        """The largest value of the output."""
        return float(np.abs(self.values).max(initial=0.0))

    def relative(self, answer: Array) -> float:
        """The largest error as a share of the largest value."""
        error = float(self.error(answer).max(initial=0.0))
        return error / self.largest if self.largest else error

    def worst(self, answer: Array) -> tuple[float, float]:
        """Error and bound of the element that is closest to its bound, or furthest beyond it."""
        error = self.error(answer)
        if not error.size:
            return 0.0, 0.0
        with np.errstate(invalid="ignore", divide="ignore"):
            # NaN compares greater than everything in argmax, which is what is wanted here.
            share = np.where(error == 0, 0.0, error / self.bound)
        at = np.unravel_index(int(np.argmax(share)), share.shape)
        return float(error[at]), float(self.bound[at])


def our_row(kernel: "Kernel", answer: Array, expected: Expected, timing: Timing) -> Row:
    """The kernel's row: its answer is held against the bound."""
    error, bound = expected.worst(answer)
    right = error <= bound  # False for NaN
    return replace(
        _timed(kernel.spec, OURS, kernel.threads, timing),
        status="ok" if right else "wrong answer",
        detail="" if right else f"off by {error:.3g}; run: {kernel.spec.reproducer}",
        max_error=error,
        bound=bound,
        relative_error=expected.relative(answer),
        code_bytes=kernel.text_bytes,
        packed_bytes=ITEM_BYTES[kernel.spec.dtype] * kernel.packed_elems,
        compile_seconds=kernel.compile_seconds,
        template=kernel.template_id,
        config=str(kernel.config),
        tier=kernel.tier,
    )


def peer_row(kernel: "Kernel", peer: Prepared, expected: Expected, timing: Timing | None) -> Row:
    """A peer's row: its answer has to be about right."""
    from tvmconv.reference import from_canonical

    if timing is None or peer.answer is None:
        row = _timed(kernel.spec, peer.name, kernel.threads, None)
        return replace(row, status=peer.status, detail=peer.problem)
    row = _timed(kernel.spec, peer.name, kernel.threads, timing)
    if peer.answer.shape != (kernel.spec.n, kernel.spec.oc, *kernel.spec.out_size):
        problem = f"its shape is {peer.answer.shape}"
        return replace(row, status="wrong answer", detail=problem)
    answer = from_canonical(peer.answer, kernel.spec.out_layout)
    worst = float(expected.error(answer).max(initial=0.0))
    short = SHORT_FLOATS.get(kernel.spec.dtype)
    rounding = 0.0 if short is None else PEER_ROUNDINGS * 2.0**-short.bits
    bound = (PEER_TOLERANCE + rounding) * expected.largest
    # Written so that a NaN is a wrong answer.
    right = worst <= bound
    return replace(
        row,
        status="ok" if right else "wrong answer",
        detail="" if right else f"off by {worst:.3g}, allowed {bound:.3g}",
        max_error=worst,
        bound=bound,
        relative_error=expected.relative(answer),
    )


def _timed(spec: ConvSpec, contestant: str, threads: int, timing: Timing | None) -> Row:
    row = Row(
        spec=str(spec),
        contestant=contestant,
        status="ok",
        threads=threads,
        flops=spec.flops,
        bytes_moved=spec.bytes_moved,
    )
    if timing is None:
        return row
    return replace(
        row,
        min_seconds=timing.min_seconds,
        median_seconds=timing.median_seconds,
        samples=timing.samples,
        preempted=round(timing.preempted, 3),
    )
