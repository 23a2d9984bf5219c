"""Predicted cycles of the FFT algorithm on one x86 core.

Butterflies are bound by arithmetic, loads or stores; the product by FMAs and by its stream of
weights; samples by the copy. Fitted like cost.py's constants: the order matters.
"""

from __future__ import annotations

from math import prod

from tvmconv.declare.fft_form import FftForm
from tvmconv.declare.roots import Ring
from tvmconv.problem import Problem
from tvmconv.target import Target

from .cost import L2_SHARE, L3_BYTES_PER_CYCLE, STALLED

# Additions and multiplications of a butterfly of r points without its powers of roots.
BUTTERFLY_OPS = {2: 4, 3: 16, 4: 16, 5: 40, 8: 56}
OPS_PER_CYCLE = 2.0
LOADS_PER_CYCLE = 2.0
STORES_PER_CYCLE = 1.0
# What LLVM's order of a straight line loses, and the loop around it.
LINE_FACTOR = 1.3
BUTTERFLY_OVERHEAD = 3.0
# Spectra of many channels exceed the third-level cache; memory is this much slower than it.
L3_BYTES = 16_000_000
FROM_MEMORY = 3.5


def level_cycles(radix: int) -> float:
    """One butterfly with its powers."""
    ops = BUTTERFLY_OPS[radix] + 4 * (radix - 1)
    loads = 2 * radix + 2 * (radix - 1)
    bound = max(ops / OPS_PER_CYCLE, loads / LOADS_PER_CYCLE, 2 * radix / STORES_PER_CYCLE)
    return LINE_FACTOR * bound + BUTTERFLY_OVERHEAD


def ring_cycles(ring: Ring) -> float:
    """One vector of whole transforms."""
    return sum(ring.points / r * level_cycles(r) for r in ring.radices)


def spectrum_elems(problem: Problem, form: FftForm) -> int:
    """Values of the spectra of one block."""
    return form.bins * 2 * form.batch(problem) * form.lanes


def product_elems(problem: Problem, form: FftForm) -> int:
    """Values of the products that are kept at once."""
    tiles = 1 if form.fused else form.block * form.vectors(problem)
    return form.bins * 2 * form.lanes * tiles


def scratch_bytes(problem: Problem, form: FftForm) -> int:
    """Bytes of all stages, about: spectra, products, one tile of rows each way."""
    tile = form.bins * 2 * form.lanes
    return 4 * (spectrum_elems(problem, form) + product_elems(problem, form) + 3 * tile)


def cycles(problem: Problem, form: FftForm, target: Target) -> float:
    """All tiles, rounding up included."""
    blocks = form.groups(problem) * form.tile_blocks(problem)
    narrow = 1.0 if target.fma else 1.5
    rows, columns = ring_cycles(form.w.ring), ring_cycles(form.h.ring)
    samples = form.h.ring.samples * form.w.ring.samples
    copied = samples * form.lanes * (0.15 if problem.channels_last else 1.0)
    there = form.h.ring.samples * rows + form.w.ring.points * columns + copied
    stored = form.h.outputs * form.w.outputs * form.lanes
    back = form.h.outputs * rows + form.w.ring.points * columns
    back += stored * (0.2 if problem.output_channels_last else 1.2)
    outputs = form.block * form.vectors(problem)
    products = form.bins * form.reduction(problem) * outputs * 4 / OPS_PER_CYCLE
    products *= 1.6 if form.fused or form.tile_t * form.tile_b < 4 else 1.15
    kept = 4.0 * (spectrum_elems(problem, form) + product_elems(problem, form))
    weights = 4.0 * prod(form.weight_shape(problem)) / form.groups(problem)
    streamed = 0.0
    if weights + kept > L2_SHARE * target.l2_bytes:
        streamed += weights
    if weights * form.groups(problem) > L3_BYTES:
        streamed += weights * FROM_MEMORY
    if kept > L2_SHARE * target.l2_bytes:
        streamed += 2 * kept
    arithmetic = narrow * (form.batch(problem) * there + outputs * back + products)
    return blocks * (arithmetic + STALLED * streamed / L3_BYTES_PER_CYCLE)
