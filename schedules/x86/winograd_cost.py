"""Predicted cycles of a Winograd form on one x86 core, with constants fitted on a Zen 5 core."""

from __future__ import annotations

from math import prod

from tvmconv.declare.winograd_form import WinogradForm
from tvmconv.problem import Problem
from tvmconv.target import Target

from . import cost

# Loads, stores and address arithmetic of a transform, per point of a tile and vector of channels.
MOVE_CYCLES = 2.0
# Setting sums to zero and storing them, per accumulator.
TILE_CYCLES = 2.0
STAGE_CYCLES_PER_ELEM = {"pixels": 0.15, "transposed": 0.4}
STORE_ROWS_CYCLES_PER_ELEM = 0.35


def predicted_cycles(problem: Problem, form: WinogradForm, target: Target, parts: int) -> float:
    """Matrix products, transforms, staging, and what streams from the third-level cache."""
    blocks = prod(form.phase_shape(problem))
    per_block = (
        _product_cycles(problem, form, target)
        + _transform_cycles(problem, form) * 1.0
        + _stored_cycles(problem, form)
    )
    staged = prod(form.block_shape(problem)) * _staged_elems(problem, form) * parts
    stage = staged * STAGE_CYCLES_PER_ELEM[form.stage]
    return blocks * per_block + stage + _streamed_cycles(problem, form, target)


def _points(form: WinogradForm) -> int:
    return form.h.filtering.alpha * form.w.filtering.alpha


def _product_cycles(problem: Problem, form: WinogradForm, target: Target) -> float:
    """Products of one block and phase."""
    vectors = form.tile_oc / target.lanes
    held = form.tile_t * vectors
    fma = held / cost.FMA_PER_CYCLE * (1.0 if target.fma else 2.0)
    step = max(fma, (form.tile_t + vectors) / cost.LOADS_PER_CYCLE, cost.FMA_LATENCY_CYCLES)
    if 4.0 * form.tile_oc * problem.icg * problem.axes[0].taps > target.l1_bytes / 2:
        step += 4.0 * form.tile_oc * cost.L2_CYCLES_PER_BYTE
    tiles = _points(form) * form.depth * form.blocks(problem) * form.tiles / form.tile_t
    return tiles * (problem.icg * problem.axes[0].taps * step + TILE_CYCLES * held)


def _transform_cycles(problem: Problem, form: WinogradForm) -> float:
    """Both transforms of one block and phase."""
    h, w = form.h.filtering, form.w.filtering
    moved = MOVE_CYCLES * _points(form)
    vectors_in = form.windows(problem)[0] * form.channels_in(problem) / form.lanes
    ops_in = h.alpha * w.input_ops + w.alpha * h.input_ops
    vectors_out = form.depth * form.blocks(problem) * form.tile_oc / form.lanes
    ops_out = h.alpha * w.output_ops + w.m * h.output_ops
    per_tile = vectors_in * (ops_in / 2 + moved) + vectors_out * (ops_out / 2 + moved)
    return form.tiles * per_tile


def _stored_cycles(problem: Problem, form: WinogradForm) -> float:
    if form.channels_last:
        return 0.0
    elems = form.depth * form.blocks(problem) * form.tile_oc * form.h.outputs * form.columns
    return STORE_ROWS_CYCLES_PER_ELEM * elems


def _staged_elems(problem: Problem, form: WinogradForm) -> float:
    return prod(form.windows(problem)) * form.channels_in(problem)


def _streamed_cycles(problem: Problem, form: WinogradForm, target: Target) -> float:
    """Weights once per block unless they fit beside it; v once per chunk where it does not fit."""
    l2 = cost.L2_SHARE * target.l2_bytes
    points = 4.0 * _points(form) * form.tiles
    v = points * form.windows(problem)[0] * form.channels_in(problem)
    gemm = points * form.chunk * form.tile_oc
    weights = 4.0 * form.weight_elems(problem)
    runs = prod(form.phase_shape(problem))
    groups = max(1, problem.g) * form.h.axis.phases * form.w.axis.phases
    chunks = form.blocks(problem) // form.chunk
    bytes_moved = weights
    if weights / groups + v + gemm > l2:
        bytes_moved = weights / groups * runs * form.depth
    if v + gemm > l2:
        bytes_moved += runs * (v * (1 + chunks * form.depth) + 2 * gemm * chunks * form.depth)
    return bytes_moved / cost.L3_BYTES_PER_CYCLE
