"""Deformable convolution (Dai et al. 2017; with masks, Zhu et al. 2019): sample, then multiply.

    sample[n, o, tap, c] = mask * bilinear(x[n, c], o * stride - pad + tap * dilation + offset)
    conv[n, g, b, o, v]  = sum over tap, ic of sample[n, o, tap, ic] * weight[g, b, tap, ic, v]

What a sample is, and the rule at borders, stands in sampling.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te

from tvmconv.declare.declaration import Declaration
from tvmconv.declare.direct import output_placement, reduce_taps
from tvmconv.declare.epilogue import epilogue
from tvmconv.declare.form import Form
from tvmconv.declare.packing import arguments, packed_elems
from tvmconv.declare.sampling import sampler
from tvmconv.problem import Problem
from tvmconv.spec import ConvSpec

Expr = Any


def declare_deformable(spec: ConvSpec, problem: Problem, form: Form) -> Declaration:
    """Declare ``run``: x, packed, [residual,] offset, [mask] to y."""
    inputs = arguments(spec, problem, packed_elems(spec, problem, form))
    sample = _sample(spec, problem, form, inputs)
    per_offset_group = spec.ic // spec.offset_groups

    def read(n: Expr, g: Expr, b: Expr, v: Expr, ic: Expr, at: Any) -> Expr:
        (_, _, _, _), (_, qh, _, kh), (_, qw, _, kw) = at
        c = g * problem.icg + ic
        if spec.offset_groups == 1:
            return sample[n, 0, qh, qw, kh, kw, c]
        return sample[n, c // per_offset_group, qh, qw, kh, kw, c % per_offset_group]

    conv = reduce_taps(problem, form, read, inputs["packed"])
    placement = output_placement(problem, form)
    out = epilogue(spec, problem, form, conv.shape, conv, inputs, placement)
    return Declaration(inputs, ((out, placement),), "y", form.order)


def _sample(
    spec: ConvSpec, problem: Problem, form: Form, inputs: dict[str, te.Tensor]
) -> te.Tensor:
    """Stage ``sample``; the offset group is an axis, so that positions do not depend on c."""
    _, h, w = problem.axes
    _, rows, columns = form.quotients(problem)
    per_group = spec.ic // spec.offset_groups
    value = sampler(spec, problem, inputs, _channels_last(spec, problem, inputs["x"]))
    shape = (max(1, problem.n), spec.offset_groups, rows, columns, h.taps, w.taps, per_group)
    return te.compute(shape, value, name="sample")


def _channels_last(
    spec: ConvSpec, problem: Problem, x: te.Tensor
) -> Callable[[Expr, Expr, Expr, Expr], Expr]:
    """X with neighbouring channels: as it is, or through the stage ``xlast``."""
    _, h, w = problem.axes

    def at(n: Expr, row: Expr, column: Expr, c: Expr) -> Expr:
        # Channels of all groups lie one stride apart in both layouts that this operator has.
        return x[problem.x.offset(n, 0, c, (0, row, column))]

    if problem.channels_last:
        return at
    shape = (max(1, problem.n), h.in_extent, w.in_extent, spec.ic)
    xlast = te.compute(shape, at, name="xlast")
    return lambda n, row, column, c: xlast[n, row, column, c]
