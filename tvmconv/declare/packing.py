"""Pack-time layout of weight, bias, scale and shift: one flat buffer, read front to back.

    packed = [ weight: g, block, phases, taps, ic, channel | bias | scale | shift ]

Channels and taps that do not exist (blocks rounded up, phases with fewer taps) hold zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from tvm import te, tirx

from tvmconv.declare.declaration import Declaration, Placement, by_phase, flat_index
from tvmconv.declare.form import Blocking, Form
from tvmconv.problem import Axis, Problem
from tvmconv.spec import ConvSpec

Expr = Any


def vector_names(spec: ConvSpec) -> tuple[str, ...]:
    """Epilogue vectors of one value per output channel, in packed order."""
    return ("bias",) * spec.bias + ("scale", "shift") * spec.scale_shift


def packed_elems(spec: ConvSpec, problem: Problem, form: Blocking) -> int:
    """Float32 values of the packed buffer."""
    vectors = len(vector_names(spec)) * form.vector_elems(problem)
    return form.weight_elems(problem) + vectors


def arguments(spec: ConvSpec, problem: Problem, packed: int) -> dict[str, te.Tensor]:
    """Placeholders of ``run``'s arguments, flat and of the spec's dtype; ``packed`` elements."""
    elems = {"x": problem.x_elems, "packed": packed}
    if spec.residual:
        elems["residual"] = problem.y_elems
    if spec.op == "deform_conv":
        elems["offset"] = prod(spec.offset_shape)
    if spec.mask:
        elems["mask"] = prod(spec.mask_shape)
    return {
        name: te.placeholder((max(1, count),), spec.dtype, name=name)
        for name, count in elems.items()
    }


def moved_dtype(spec: ConvSpec) -> str:
    """Type of what ``pack`` moves: the spec's, but words of 16 bits for bfloat16.

    Nothing is computed with them, and TVM's code for LLVM ends the process on a bfloat16 constant.
    """
    return "uint16" if spec.dtype == "bfloat16" else spec.dtype


def vector_at(spec: ConvSpec, problem: Problem, form: Blocking, name: str, at: Expr) -> Expr:
    """Offset of an epilogue value; ``at`` counts padded channels."""
    row = vector_names(spec).index(name)
    return at + (form.weight_elems(problem) + row * form.vector_elems(problem))


def declare_packing(spec: ConvSpec, problem: Problem, form: Form) -> Declaration:
    """Declare ``pack``: weight and the epilogue's vectors, to packed."""
    shape = form.weight_shape(problem)
    return declare_packed(
        spec, problem, form, shape, lambda weight: _pack_weight(spec, problem, form, weight)
    )


def declare_packed(
    spec: ConvSpec,
    problem: Problem,
    form: Blocking,
    shape: tuple[int, ...],
    pack_weight: Callable[[te.Tensor], te.Tensor],
) -> Declaration:
    """Declare ``pack`` where ``pack_weight`` makes the stage ``packed_weight`` of that shape."""
    names = vector_names(spec)
    dtype = moved_dtype(spec)
    inputs = {"weight": te.placeholder((prod(spec.weight_shape),), dtype, name="weight")}
    inputs |= {name: te.placeholder((spec.oc,), dtype, name=name) for name in names}
    elems = packed_elems(spec, problem, form)
    weight = pack_weight(inputs["weight"])
    outputs = [(weight, _at(0, elems, "packed_weight", shape))]
    if names:
        rows = _pack_vectors(problem, form, [inputs[name] for name in names])
        shape = (len(names), form.vector_elems(problem))
        start = form.weight_elems(problem)
        outputs.append((rows, _at(start, elems, "packed_vectors", shape)))
    return Declaration(inputs, tuple(outputs), "packed")


def _at(start: int, elems: int, stage: str, shape: tuple[int, ...]) -> Placement:
    def offset(*index: Expr) -> Expr:
        return flat_index(index, shape) + start

    return Placement(stage, "packed", elems, offset, lambda *index: [])


def _pack_weight(spec: ConvSpec, problem: Problem, form: Form, weight: te.Tensor) -> te.Tensor:
    def value(*index: Expr) -> Expr:
        g, b, *rest = index
        phase, taps, ic, v = rest[:3], rest[3:6], rest[6], rest[7]
        group, o, valid = output_channel(problem, form, g, b, v)
        kernel = (1,) * (3 - spec.rank) + spec.kernel
        k = []
        for axis, p, tap, size in zip(problem.axes, phase, taps, kernel, strict=True):
            if axis.is_uneven:
                valid.append(tap < by_phase(axis.tap_counts, p))
            k.append(kernel_index(axis, p, tap, size, spec.flip))
        element = weight[weight_offset(spec, problem, group, o, ic, flat_index(k, kernel))]
        zero = tirx.const(0, moved_dtype(spec))
        return tirx.if_then_else(tirx.all(*valid), element, zero) if valid else element

    return te.compute(form.weight_shape(problem), value, name="packed_weight")


def kernel_index(axis: Axis, phase: Expr, tap: Expr, size: int, flip: bool) -> Expr:
    """Where a phase's tap lies along one axis of the user's kernel."""
    k = by_phase(axis.first_taps, phase) + tap * axis.tap_stride
    return (size - 1) - k if flip else k


def output_channel(
    problem: Problem, form: Blocking, g: Expr, b: Expr, v: Expr
) -> tuple[Expr, Expr, list[Expr]]:
    """Group, channel within it, and the tests that both exist."""
    c, channels = b * form.tile_oc + v, form.channels(problem)
    valid = [c < channels] if form.blocks(problem) * form.tile_oc > channels else []
    if not form.per_lane:
        return g, c, valid
    return c // problem.ocg, c % problem.ocg, valid


def weight_offset(spec: ConvSpec, problem: Problem, g: Expr, o: Expr, i: Expr, tap: Expr) -> Expr:
    """Flat offset in the user's weight; groups stay with the axis that torch keeps them on."""
    if spec.op == "conv_transpose":
        outputs, inputs = (o, problem.ocg), (g * problem.icg + i, spec.ic)
    else:
        outputs, inputs = (g * problem.ocg + o, spec.oc), (i, problem.icg)
    first, second = (outputs, inputs) if spec.weight_layout == "OI" else (inputs, outputs)
    return (first[0] * second[1] + second[0]) * prod(spec.kernel) + tap


def _pack_vectors(problem: Problem, form: Blocking, rows: list[te.Tensor]) -> te.Tensor:
    padded = form.blocks(problem) * form.tile_oc
    channels = form.channels(problem)

    def value(row: Expr, at: Expr) -> Expr:
        g, c = at // padded, at % padded
        source = g * channels + te.min(c, channels - 1)
        picked = rows[-1][source]
        for i in range(len(rows) - 2, -1, -1):
            picked = tirx.if_then_else(row == i, rows[i][source], picked)
        return tirx.if_then_else(c < channels, picked, tirx.const(0, str(rows[0].dtype)))

    return te.compute((len(rows), form.vector_elems(problem)), value, name="packed_vectors")
