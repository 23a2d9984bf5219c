"""The epilogue: bias, scale and shift, residual, activation; fused into the store of a tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import te

from tvmconv.declare.activation import activate
from tvmconv.declare.declaration import Placement, widened
from tvmconv.declare.form import Blocking
from tvmconv.declare.packing import vector_at
from tvmconv.problem import Problem
from tvmconv.spec import ConvSpec

Expr = Any


def epilogue(
    spec: ConvSpec,
    problem: Problem,
    form: Blocking,
    shape: Sequence[int],
    sums: Callable[..., Expr],
    inputs: dict[str, te.Tensor],
    placement: Placement,
) -> te.Tensor:
    """Stage ``out``: v = sums + bias; v = v * scale + shift; v += residual; activation(v)."""

    def value(*index: Expr) -> Expr:
        o = form.at(index)
        channel = (o.g * form.blocks(problem) + o.b) * form.tile_oc + o.v

        def vector(name: str) -> Expr:
            return widened(inputs["packed"][vector_at(spec, problem, form, name, channel)])

        v = sums(*index)
        if spec.bias:
            v = v + vector("bias")
        if spec.scale_shift:
            v = v * vector("scale") + vector("shift")
        if spec.residual:
            v = v + widened(inputs["residual"][placement.offset(*index)])
        y = activate(v, spec.activation, spec.activation_args)
        return y if spec.dtype == "float32" else y.astype(spec.dtype)

    return te.compute(shape, value, name="out")
