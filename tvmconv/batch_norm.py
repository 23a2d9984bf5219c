"""Folding a batch norm that follows a convolution into its weight and bias, at pack time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmconv import tensors
from tvmconv.bundle.tensors import fold_batch_norm as fold
from tvmconv.elements import numpy_dtype, readable
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
    dtype = numpy_dtype(spec.dtype)
    plain, _ = tensors.dense("weight", weight, spec.weight_shape, dtype)
    vectors = {"mean": mean, "variance": variance, "gamma": gamma, "beta": beta, "bias": bias}
    m, v, g, b, start = (
        np.zeros(spec.oc) if value is None else _vector(name, value, spec.oc, dtype)
        for name, value in vectors.items()
    )
    axis = 0 if spec.weight_layout == "OI" else 1
    # Only a transposed convolution keeps its groups on the axis of the inputs.
    groups = spec.groups if spec.op == "conv_transpose" else 1
    folded = fold(_as_numpy(plain), start, (m, v, g, b, eps), axis, groups)
    return folded[0].astype(dtype, copy=False), folded[1].astype(dtype, copy=False)


def _vector(name: str, value: Tensor, oc: int, dtype: np.dtype[Any]) -> NDArray[np.float64]:
    return _as_numpy(tensors.dense(name, value, (oc,), dtype)[0]).astype(np.float64)


def _as_numpy(value: Tensor) -> NDArray[Any]:
    return np.asarray(readable(value))
