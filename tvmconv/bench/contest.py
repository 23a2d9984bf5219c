"""One convolution: a compiled kernel and its peers, timed in turn, every answer checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvmconv import fills
from tvmconv.bench.peers import Peers, Prepared, names_for
from tvmconv.bench.rows import OURS, Row
from tvmconv.bench.timing import Timing, interleave, local_slice
from tvmconv.operands import Operands
from tvmconv.spec import ConvSpec

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel

Array = NDArray[Any]
ALIGNMENT_BYTES = 64  # what torch's allocator gives, so both sides read equally placed inputs
# Peers are not ours to prove; this catches one that computes something else. Sums of K terms are
# right to about 1e-6 of their size, a peer that normalises coordinates (grid_sample) to 1e-4.
PEER_TOLERANCE = 1e-3


def compare(
    kernel: "Kernel",
    peers: Sequence[str],
    host: Peers,
    *,
    seconds: float,
    overheads: Mapping[str, float] | None = None,
    seed: int = 0,
) -> list[Row]:
    """Time one kernel beside its peers; the first row is the kernel's.

    Args:
        kernel: compiled for a target that runs here.
        peers: names or families, see `tvmconv.bench.peers.names_for`.
        host: where the peers run.
        seconds: measuring time per contestant.
        overheads: seconds that a contestant takes for next to no work, by name.
        seed: of the inputs and of the order of turns.
    """
    spec = kernel.spec
    operands = _aligned(fills.normal(spec, seed))
    call = bound_call(kernel, operands)
    expected = _Expected.of(kernel, operands)
    prepared = host.prepare(names_for(peers, spec), spec, operands)
    slices = {p.name: p.slice for p in prepared if p.slice is not None}
    ours = {OURS: local_slice(call, one_thread=kernel.threads == 1)}
    timings = interleave(ours | slices, seconds, seed=seed)
    known = overheads or {}
    rows = [_our_row(kernel, call(), expected, timings[OURS])]
    rows += [_peer_row(kernel, p, expected, timings.get(p.name)) for p in prepared]
    return [replace(row, overhead_seconds=known.get(row.contestant)) for row in rows]


def bound_call(kernel: "Kernel", operands: Operands) -> Callable[[], Array]:
    """Pack the weights and return the call that a user makes for every input."""
    keywords: dict[str, Any] = operands.keywords()
    per_call = {k: keywords.pop(k) for k in ("residual", "offset", "mask") if k in keywords}
    layer = kernel.bind(operands.weight, keywords.pop("bias", None), **keywords)
    x = operands.x
    if per_call:
        return lambda: layer(x, **per_call)
    return lambda: layer(x)


@dataclass(frozen=True)
class _Expected:
    """torch's answer in float64, and how far a kernel may be from it, in memory order."""

    values: Array
    bound: Array

    @classmethod
    def of(cls, kernel: "Kernel", operands: Operands) -> "_Expected":
        from tvmconv.reference import accumulate, accumulate_squares, finish, from_canonical
        from tvmconv.tolerance import error_bound

        spec = kernel.spec
        sums, squares = accumulate(spec, operands), accumulate_squares(spec, operands)
        bound = error_bound(spec, sums, squares, operands, kernel.accuracy)
        return cls(finish(spec, sums, operands), from_canonical(bound, spec.out_layout))

    def error(self, answer: Array) -> Array:
        difference: Array = np.abs(answer - self.values)
        return difference

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


def _our_row(kernel: "Kernel", answer: Array, expected: _Expected, timing: Timing) -> Row:
    error, bound = expected.worst(answer)
    right = error <= bound  # False for NaN
    return replace(
        _timed(kernel.spec, OURS, kernel.threads, timing),
        status="ok" if right else "wrong answer",
        detail="" if right else f"off by {error:.3g}; run: {kernel.spec.reproducer}",
        max_error=error,
        bound=bound,
        code_bytes=kernel.text_bytes,
        packed_bytes=4 * kernel.packed_elems,
        compile_seconds=kernel.compile_seconds,
        template=kernel.template_id,
        config=str(kernel.config),
        tier=kernel.tier,
    )


def _peer_row(kernel: "Kernel", peer: Prepared, expected: _Expected, timing: Timing | None) -> Row:
    if timing is None or peer.answer is None:
        row = _timed(kernel.spec, peer.name, kernel.threads, None)
        return replace(row, status="failed", detail=peer.problem)
    row = _timed(kernel.spec, peer.name, kernel.threads, timing)
    worst = float(expected.error(peer.answer).max(initial=0.0))
    bound = PEER_TOLERANCE * float(np.abs(expected.values).max(initial=0.0))
    # Written so that a NaN is a wrong answer.
    right = worst <= bound
    return replace(
        row,
        status="ok" if right else "wrong answer",
        detail="" if right else f"off by {worst:.3g}, allowed {bound:.3g}",
        max_error=worst,
        bound=bound,
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


def _aligned(operands: Operands) -> Operands:
    """Copy every tensor to an address that is a multiple of a cache line."""
    found: dict[str, Any] = {}
    for field in fields(operands):
        array = getattr(operands, field.name)
        found[field.name] = None if array is None else _at_cache_line(array)
    return Operands(**found)


def _at_cache_line(array: Array) -> Array:
    spare = ALIGNMENT_BYTES // array.itemsize
    memory = np.empty(array.size + spare, array.dtype)
    skip = -memory.ctypes.data % ALIGNMENT_BYTES // array.itemsize
    copy = memory[skip : skip + array.size].reshape(array.shape)
    copy[...] = array
    return copy
