"""What a tiled product costs on a GPU: threads, registers, shared memory, traffic, cycles."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import prod

from tvmconv.declare.product import ProductForm, pixels
from tvmconv.gpu import WARP, Gpu
from tvmconv.problem import Problem
from tvmconv.template import Task

from .occupancy import LATENCY_CYCLES, SHARED_BYTES_PER_CYCLE, Footprint, Work, kernel_cycles
from .product_nest import ProductNest
from .threads import SPREAD_THREADS, VECTOR

# Registers of a thread beside its sums and one step's factors: addresses and what is on its way.
OTHER_REGISTERS = 40
# What a barrier costs of waiting for memory, where that was asked for ahead.
BARRIER = 0.1
# Instructions that gather one element of x: its place, its tests, and storing it.
GATHER_INSTRUCTIONS = 12
# Those of one copy of weights, of which an asynchronous one has a store less.
COPY_INSTRUCTIONS = 4


def part_bytes(problem: Problem, form: ProductForm) -> int:
    """Bytes of the slices' sums."""
    sums = prod(form.phases(problem)) * form.pixels(problem) * form.blocks(problem) * form.tile_oc
    return 4 * form.slices * problem.g * sums


def add_cycles(gpu: Gpu, problem: Problem, form: ProductForm) -> float:
    """Predicted cycles of adding the slices' sums."""
    size, count = SPREAD_THREADS[0], part_bytes(problem, form) // (4 * form.slices)
    work = Work(
        multiply_adds=size * form.slices,
        integers=size * (2 * form.slices + GATHER_INSTRUCTIONS),
        shared_bytes=0.0,
        cached_bytes=4.0 * size * (form.slices + 1),
        independent=form.slices,
        rounds=1.0,
    )
    # The sums were just written, and are still in the second-level cache.
    return kernel_cycles(gpu, Footprint(size, 32), work, -(-count // size), 4.0 * count)


def product_work(
    gpu: Gpu,
    form: ProductForm,
    nest: ProductNest,
    terms: int,
    gather: float,
    size: int,
    spread: float,
) -> Work:
    """What a block does.

    Args:
        gpu: facts of the target.
        form: its tiles.
        nest: its threads.
        terms: of a sum.
        gather: instructions of reading one element of x.
        size: bytes of an element.
        spread: bytes that come with each byte of x that is read.
    """
    threads = nest.threads(form)
    loads = threads * terms * (nest.thread_m + nest.thread_oc) / VECTOR
    stored = int(nest.stages > 1)
    copied = (gather - stored) * form.tile_m / nest.x_vector
    copied += (COPY_INSTRUCTIONS - stored) * form.tile_oc / nest.weight_vector
    return Work(
        multiply_adds=form.tile_m * form.tile_oc * terms,
        integers=terms * copied + loads + GATHER_INSTRUCTIONS * form.tile_m * form.tile_oc,
        shared_bytes=terms * (4.0 * (form.tile_m + form.tile_oc) + shared_reads(form, nest)),
        cached_bytes=size * terms * (form.tile_m * spread + form.tile_oc),
        independent=nest.thread_m * nest.thread_oc,
        # Nothing covers the wait for the first step.
        rounds=1.0 + (terms / form.tile_k - 1.0) * waits(gpu, form, nest),
    )


def waits(gpu: Gpu, form: ProductForm, nest: ProductNest) -> float:
    """Round trips to memory that a block, alone on its SM, waits for in a step.

    What is asked for some steps ahead arrives while those are multiplied, if that takes so long.
    """
    ahead = nest.stages - 1 or int(nest.ahead)
    if not ahead:
        return 1.0
    multiplying = form.tile_m * form.tile_oc * form.tile_k / gpu.fp32_lanes_per_sm
    barriers = 2 * BARRIER if nest.ahead else BARRIER
    return barriers + max(0.0, 1.0 - ahead * multiplying / LATENCY_CYCLES)


def covers_more(gpu: Gpu, form: ProductForm, nest: ProductNest) -> bool:
    """Whether a stage less would leave a block waiting for what was asked for ahead."""
    return nest.stages <= 2 or waits(gpu, form, replace(nest, stages=nest.stages - 1)) > BARRIER


def footprint(form: ProductForm, nest: ProductNest) -> Footprint:
    """Threads, registers and shared memory of a block."""
    held = nest.thread_m * nest.thread_oc + nest.thread_m + nest.thread_oc
    if nest.ahead:
        held += form.tile_k * (form.tile_m + form.tile_oc) // nest.threads(form)
    row = form.tile_m + (VECTOR if nest.terms_inside else 0)
    shared = 4 * nest.stages * form.tile_k * (row + form.tile_oc)
    return Footprint(nest.threads(form), held + OTHER_REGISTERS, shared)


def shared_reads(form: ProductForm, nest: ProductNest) -> float:
    """Bytes of shared memory that a block's reads of one term keep busy.

    Threads of a warp that want the same are served at once, but a read of 16 bytes per thread takes
    two cycles of 128 bytes at least.
    """
    m, oc = form.tile_m // nest.thread_m, form.tile_oc // nest.thread_oc
    inner, outer = (m, oc) if nest.pixels_inside else (oc, m)
    inside = min(WARP, inner)
    beside = min(WARP // inside, outer)
    distinct = (inside, beside) if nest.pixels_inside else (beside, inside)
    total = 0.0
    for each, count in zip((nest.thread_m, nest.thread_oc), distinct, strict=True):
        width = min(VECTOR, each)
        cycles = max(2.0 if width == VECTOR else 1.0, 4 * width * count / SHARED_BYTES_PER_CYCLE)
        total += each / width * cycles * SHARED_BYTES_PER_CYCLE
    return nest.threads(form) / WARP * total


def grid(problem: Problem, form: ProductForm) -> int:
    """Blocks of a launch."""
    tiles = form.pixels(problem) // form.tile_m * form.blocks(problem)
    return form.slices * problem.g * prod(form.phases(problem)) * tiles


@lru_cache(maxsize=64)
def traffic(task: Task) -> float:
    """Bytes that memory moves at least: every tensor once, without those of the epilogue."""
    return float(task.spec.linear().bytes_moved)


def coalescing(problem: Problem, form: ProductForm, nest: ProductNest) -> float:
    """Bytes that come with each byte of x that is read: sectors are 32 bytes."""
    stride = 1 if nest.terms_inside else problem.axes[2].stride
    run = min(form.tile_k, problem.icg) if nest.terms_inside else min(WARP, pixels(problem))
    return max(min(8.0, float(stride)), 8.0 / max(1, run))


def gpu_of(task: Task) -> Gpu:
    """The target's facts; templates of this family are asked about GPUs alone."""
    assert task.target.gpu is not None
    return task.target.gpu
