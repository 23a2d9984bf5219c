"""Folding a batch norm that follows a convolution into its weight and bias, at pack time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmconv import tensors
from tvmconv.errors import ArgumentError
from tvmconv.spec import ConvSpec

Tensor = Any
Array = NDArray[np.float32]
# mean, variance, gamma, beta and eps, as torch.nn.BatchNorm has them.
BatchNorm = tuple[Tensor, Tensor, Tensor, Tensor, float]


def fold_batch_norm(
    spec: ConvSpec, weight: Tensor, bias: Tensor | None, batch_norm: BatchNorm
) -> tuple[Array, Array]:
    """W' = W gamma / sqrt(v + eps) and b' = (b - m) gamma / sqrt(v + eps) + beta, in float64.

    Raises:
        ArgumentError: the spec has no bias to hold the shift, or a wrong shape.
    """
    if not spec.bias:
        raise ArgumentError(
            "batch_norm", "a tuple", "only a spec with bias=True can hold its shift"
        )
    mean, variance, gamma, beta, eps = batch_norm
    plain, _ = tensors.dense("weight", weight, spec.weight_shape)
    vectors = {"mean": mean, "variance": variance, "gamma": gamma, "beta": beta, "bias": bias}
    m, v, g, b, start = (
        np.zeros(spec.oc) if value is None else _as_numpy(*_dense_vector(name, value, spec.oc))
        for name, value in vectors.items()
    )
    factor = g / np.sqrt(v + eps)
    w = _as_numpy(plain, 0)
    scaled = _scale_outputs(spec, w, factor).astype(np.float32)
    return scaled, ((start - m) * factor + b).astype(np.float32)


def _dense_vector(name: str, value: Tensor, oc: int) -> tuple[Tensor, int]:
    return tensors.dense(name, value, (oc,))


def _as_numpy(value: Tensor, _address: int) -> NDArray[np.float64]:
    return np.asarray(value.numpy() if tensors.is_torch(value) else value, np.float64)


def _scale_outputs(
    spec: ConvSpec, weight: NDArray[np.float64], factor: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Multiply every weight by its output channel's factor, whichever axis holds it."""
    axis = 0 if spec.weight_layout == "OI" else 1
    if spec.op != "conv_transpose":
        shape = [1] * weight.ndim
        shape[axis] = spec.oc
        return weight * factor.reshape(shape)
    # Transposed: the axis holds the outputs of one group, the groups lie along the inputs.
    groups, ocg, icg = spec.groups, spec.oc // spec.groups, spec.ic // spec.groups
    per_input = np.repeat(factor.reshape(groups, ocg), icg, axis=0)
    matrix = per_input if axis == 1 else per_input.T
    return weight * matrix.reshape(*matrix.shape, *(1,) * spec.rank)
