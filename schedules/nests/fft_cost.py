"""Predicted cycles of the FFT algorithm on one x86 core, and what the cost model sees of a config.

Butterflies are bound by arithmetic, loads or stores; the product by FMAs and by its stream of
weights; samples by the copy. Fitted like cost.py's constants: the order matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log2, prod

from tvmconv.cores import X86, Core, core_of
from tvmconv.declare.fft_form import FftForm
from tvmconv.declare.roots import Ring
from tvmconv.problem import Problem
from tvmconv.target import Target

from .cost import L2_SHARE, STALLED
from .fft_nest import neighbours

# Additions and multiplications of a butterfly of r points without its powers of roots.
BUTTERFLY_OPS = {2: 4, 3: 16, 4: 16, 5: 40, 8: 56}
STORES_PER_CYCLE = 1.0
# What LLVM's order of a straight line loses, and the loop around it.
LINE_FACTOR = 1.15
BUTTERFLY_OVERHEAD = 3.0
# Copies of one element: along channels, or by squares that are transposed.
COPY_CHANNELS, COPY_ROWS = 0.15, 0.4
STORE_CHANNELS, STORE_ROWS = 0.2, 0.5
# On machines without masks and wide registers a copy moves four elements at a time; or one, with
# its tests, where channels-last lanes are not neighbours in x.
NARROW_COPIES, SCATTERED = 4.0, 10.0
# Around the sums of one register tile of the product.
TILE_OVERHEAD = 4.0
# Spectra of many channels exceed the third-level cache; memory is this much slower than it.
L3_BYTES = 20_000_000
FROM_MEMORY = 2.0


def level_cycles(radix: int, core: Core = X86) -> float:
    """One butterfly with its powers."""
    ops = BUTTERFLY_OPS[radix] + 4 * (radix - 1)
    loads = 2 * radix + 2 * (radix - 1)
    bound = max(
        ops / core.fma_per_cycle, loads / core.loads_per_cycle, 2 * radix / STORES_PER_CYCLE
    )
    each = (ops + loads + 2 * radix) * core.instruction_cycles
    return LINE_FACTOR * (bound + each) + BUTTERFLY_OVERHEAD


def ring_cycles(ring: Ring, core: Core) -> float:
    """One vector of whole transforms."""
    return sum(ring.points / r * level_cycles(r, core) for r in ring.radices)


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


def stage_elems(problem: Problem, form: FftForm) -> int:
    """Elements of the largest stage over all groups and blocks of tiles, as it is declared."""
    blocks = form.groups(problem) * form.tile_blocks(problem)
    return blocks * max(spectrum_elems(problem, form), product_elems(problem, form))


@dataclass(frozen=True)
class Parts:
    """Cycles of one block of tiles by what they are spent on."""

    there: float
    products: float
    back: float
    streamed: float

    @property
    def total(self) -> float:
        """All four."""
        return self.there + self.products + self.back + self.streamed


def block_parts(problem: Problem, form: FftForm, target: Target) -> Parts:
    """Cycles of one block of tiles of one group."""
    narrow = 1.0 if target.fma else 1.5
    core = core_of(target)
    rows, columns = ring_cycles(form.w.ring, core), ring_cycles(form.h.ring, core)
    samples = form.h.ring.samples * form.w.ring.samples * form.lanes
    there = form.h.ring.samples * rows + form.w.ring.points * columns
    copies = 1.0 if target.masks else NARROW_COPIES
    copy = copies * (COPY_ROWS if form.rows_in else COPY_CHANNELS)
    if not (target.masks or form.rows_in or neighbours(problem, form)):
        copy = SCATTERED
    there += samples * copy
    stored = form.h.outputs * form.w.outputs * form.lanes
    back = form.h.outputs * rows + form.w.ring.points * columns
    back += stored * copies * (STORE_ROWS if form.rows_out else STORE_CHANNELS)
    outputs = form.block * form.vectors(problem)
    tiles = form.bins * outputs / (form.tile_t * form.tile_b)
    products = tiles * (_tile_cycles(problem, form, target) + TILE_OVERHEAD)
    return Parts(
        there=narrow * form.batch(problem) * there,
        products=narrow * products,
        back=narrow * outputs * back,
        streamed=STALLED * _streamed_bytes(problem, form, target) / core.far_bytes_per_cycle,
    )


def _tile_cycles(problem: Problem, form: FftForm, target: Target) -> float:
    """One register tile of the product: FMAs, loads, or the latency of two FMAs on each sum."""
    terms, vectors = form.reduction(problem), form.vectors(problem)
    weights = 2.0 * form.tile_b
    if 8.0 * terms * vectors * form.lanes > target.l1_bytes / 2:
        weights *= 2
    core = core_of(target)
    loads = weights + 2 * form.tile_t
    fma = 4 * form.tile_t * form.tile_b / core.fma_per_cycle
    latency = 2 * core.fma_latency_cycles if terms > 1 else 0.0
    each = (4 * form.tile_t * form.tile_b + loads) * core.instruction_cycles
    return terms * (max(fma, loads / core.loads_per_cycle, latency) + each)


def _streamed_bytes(problem: Problem, form: FftForm, target: Target) -> float:
    """Bytes that one block reads from beyond the second-level cache."""
    kept = 4.0 * (spectrum_elems(problem, form) + product_elems(problem, form))
    weights = weight_bytes(problem, form)
    streamed = 0.0
    if weights + kept > L2_SHARE * target.l2_bytes:
        streamed += weights
    if weights * form.groups(problem) > L3_BYTES:
        streamed += weights * FROM_MEMORY
    if kept > L2_SHARE * target.l2_bytes:
        streamed += 2 * kept
    return streamed


def weight_bytes(problem: Problem, form: FftForm) -> float:
    """Bytes of one group's packed spectrum."""
    return 4.0 * prod(form.weight_shape(problem)) / form.groups(problem)


def blocks(problem: Problem, form: FftForm) -> int:
    """Blocks of tiles of all groups: what threads share."""
    return form.groups(problem) * form.tile_blocks(problem)


def cycles(problem: Problem, form: FftForm, target: Target) -> float:
    """All tiles, rounding up included."""
    return blocks(problem, form) * block_parts(problem, form, target).total


def features(problem: Problem, form: FftForm, target: Target, threads: int) -> dict[str, float]:
    """Columns for the cost model; sizes as logarithms, footprints against the target's caches."""
    parts, tasks = block_parts(problem, form, target), blocks(problem, form)
    rounds = -(-tasks // threads)
    spectrum, kept = spectrum_elems(problem, form), product_elems(problem, form)
    outputs = form.h.outputs * form.w.outputs
    samples = form.h.ring.samples * form.w.ring.samples
    wanted = prod(axis.axis.out_extent for axis in form.axes) * max(1, problem.n)
    sums = 2 * form.tile_t * form.tile_b
    return {
        "log_cycles": log(parts.total * rounds),
        "there_share": parts.there / parts.total,
        "products_share": parts.products / parts.total,
        "back_share": parts.back / parts.total,
        "streamed_share": parts.streamed / parts.total,
        "log_bins": log2(form.bins),
        "levels": float(len(form.radices)),
        "smallest_radix": float(min(form.radices)),
        "largest_radix": float(max(form.radices)),
        "log_row": log2(form.w.ring.samples),
        "log_column": log2(form.h.ring.samples),
        "kept_samples": outputs / samples,
        "tile_fill": wanted / (form.tiles(problem) * outputs),
        "block_fill": form.tiles(problem) / (form.tile_blocks(problem) * form.block),
        "lane_fill": form.channels(problem) / (form.blocks(problem) * form.lanes),
        "log_terms": log2(form.reduction(problem)),
        "log_block": log2(form.block),
        "log_batch": log2(form.batch(problem)),
        "sums": float(sums),
        "registers_used": sums / target.registers,
        "log_spectrum_l2": log2(4 * spectrum / target.l2_bytes),
        "log_product_l2": log2(4 * kept / target.l2_bytes),
        "log_weights_l2": log2(weight_bytes(problem, form) / target.l2_bytes),
        "log_all_weights_l2": log2(
            weight_bytes(problem, form) * form.groups(problem) / target.l2_bytes
        ),
        "log_bin_stride": log2(8 * kept / form.bins),
        "log_tile_l1": log2(8 * form.bins * form.lanes / target.l1_bytes),
        "log_tasks": log2(tasks),
        "balance": tasks / (rounds * threads),
    }
