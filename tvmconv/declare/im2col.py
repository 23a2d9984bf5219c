"""Im2col: what an output reads is gathered side by side, and the sum becomes a matrix product.

    out[n, g, b, q, v]  = act(conv + bias[g, b, v])
    conv[n, g, b, q, v] = sum over k of xcol[n, g, q, k] * weight[g, b, k, v]
    xcol[n, g, q, k]    = xpad[n, g, q * stride + origin + tap(k) * step, ic(k)]

k counts taps and input channels together, in the order in which weights are packed anyway. The
schedule gathers one block of outputs at a time, so the k^2-fold copy of x is never in memory
(Chellapilla, Puri and Simard 2006 have the whole; blocks are what XNNPACK and oneDNN do).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tvm import te

from tvmconv.declare.declaration import Declaration
from tvmconv.declare.direct import output_placement, read_x, reduce_taps
from tvmconv.declare.epilogue import epilogue
from tvmconv.declare.form import Form
from tvmconv.declare.packing import arguments, packed_elems
from tvmconv.problem import Axis, Problem
from tvmconv.spec import ConvSpec

Expr = Any


def unfolded(problem: Problem) -> Problem:
    """The same outputs as sums without taps: each axis plain, all taps counted as channels."""
    d, h, w = (Axis(axis.quotients, axis.quotients) for axis in problem.axes)
    return replace(problem, icg=problem.reduction, axes=(d, h, w))


def declare_im2col(spec: ConvSpec, problem: Problem, form: Form) -> Declaration:
    """Declare ``run`` of a forward convolution: x, packed and, if any, residual, to y."""
    inputs = arguments(spec, problem, packed_elems(spec, problem, form))
    columns = _gather(problem, form, inputs["x"])
    taps = [axis.taps for axis in problem.axes]

    def read(n: Expr, g: Expr, b: Expr, v: Expr, k: Expr, at: Any) -> Expr:
        split = []
        for extent in (problem.icg, *reversed(taps)):
            split.append(k % extent)
            k = k // extent
        order = split[::-1]
        d, h, w = (quotient for _, quotient, _, _ in at)
        if columns_last(problem):
            return columns[n, g, d, h, *order, w]
        return columns[n, g, d, h, w, *order]

    conv = reduce_taps(unfolded(problem), form, read, inputs["packed"])
    placement = output_placement(problem, form)
    out = epilogue(spec, problem, form, conv.shape, conv, inputs, placement)
    return Declaration(inputs, ((out, placement),), "y", form.order)


def columns_last(problem: Problem) -> bool:
    """Whether ``xcol`` has output columns innermost: then channels-first rows are copied whole."""
    return not problem.channels_last


def neighbours(problem: Problem) -> int:
    """How many innermost axes of ``xcol`` walk through x element by element."""
    w = problem.axes[2]
    if columns_last(problem):
        return int(w.stride == 1)
    # A pixel's neighbour is the next tap; in place, other groups' channels may lie between them.
    return 2 if w.step == 1 and problem.g == 1 else 1


def _gather(problem: Problem, form: Form, x: te.Tensor) -> te.Tensor:
    """Stage ``xcol``; reads x in place or through ``xpad``, like the direct sum."""
    read = read_x(problem, form, x)
    taps = tuple(axis.taps for axis in problem.axes)
    d, h, w = form.quotients(problem)

    def gathered(n: Expr, g: Expr, q: tuple[Expr, ...], tap: tuple[Expr, ...], ic: Expr) -> Expr:
        at = [(axis, i, 0, k) for axis, i, k in zip(problem.axes, q, tap, strict=True)]
        return read(n, g, 0, 0, ic, at)

    lead = (max(1, problem.n), problem.g, d, h)
    if columns_last(problem):
        return te.compute(
            (*lead, *taps, problem.icg, w),
            lambda n, g, d, h, i, j, k, ic, w: gathered(n, g, (d, h, w), (i, j, k), ic),
            name="xcol",
        )
    return te.compute(
        (*lead, w, *taps, problem.icg),
        lambda n, g, d, h, w, i, j, k, ic: gathered(n, g, (d, h, w), (i, j, k), ic),
        name="xcol",
    )
