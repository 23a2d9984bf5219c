"""Pack-time sums of weights for Strassen's product of parts, in the order that conv reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

from tvmconv.declare.declaration import Declaration, flat_index, pick
from tvmconv.declare.packing import declare_packed, kernel_index, weight_offset
from tvmconv.declare.strassen_form import StrassenForm
from tvmconv.problem import Problem
from tvmconv.spec import ConvSpec
from tvmconv.strassen import sums_of_w

Expr = Any


def declare_strassen_packing(spec: ConvSpec, problem: Problem, form: StrassenForm) -> Declaration:
    """Declare ``pack``: sums of parts of w in float64, rounded once, in the order conv reads."""
    shape = form.weight_shape(problem)
    kernel = (1,) * (3 - spec.rank) + spec.kernel
    channels, (_, length) = form.channels_in(problem), form.runs(problem)

    def pack_weight(weight: te.Tensor) -> te.Tensor:
        def value(*index: Expr) -> Expr:
            g, pd, ph, pw, chunk, r, inside, run, *taps, ic, lane = index
            at = [
                kernel_index(axis, phase, tap, size, spec.flip)
                for axis, phase, tap, size in zip(
                    problem.axes, (pd, ph, pw), taps, kernel, strict=True
                )
            ]

            def element(k: int, j: int) -> Expr:
                c = k * channels + run * length + ic
                o = ((chunk * form.chunk + inside) * form.parts + j) * form.tile_oc + lane
                valid = []
                if form.parts * channels > problem.icg:
                    valid.append(c < problem.icg)
                if form.blocks(problem) * form.tile_oc > problem.ocg:
                    valid.append(o < problem.ocg)
                offset = weight_offset(spec, problem, g, o, c, flat_index(at, kernel))
                read = weight[offset].astype("float64")
                zero = tirx.const(0.0, "float64")
                return tirx.if_then_else(tirx.all(*valid), read, zero) if valid else read

            return _weighted(element, form, r).astype("float32")

        return te.compute(shape, value, name="packed_weight")

    return declare_packed(spec, problem, form, shape, pack_weight)


def _weighted(element: Callable[[int, int], Expr], form: StrassenForm, r: Expr) -> Expr:
    """The r-th sum of w as all of its parts times coefficients, which depend on r alone."""
    total = None
    for k in range(form.parts):
        for j in range(form.parts):
            coefficients = [float(c) for c in _coefficients(form, k, j)]
            term = element(k, j) * pick([tirx.const(c, "float64") for c in coefficients], r)
            total = term if total is None else total + term
    return total


def _coefficients(form: StrassenForm, k: int, j: int) -> list[int]:
    """By how much part (k, j) of w counts in each product."""
    unit = [
        [int((row, column) == (k, j)) for column in range(form.parts)] for row in range(form.parts)
    ]
    return sums_of_w(unit)
