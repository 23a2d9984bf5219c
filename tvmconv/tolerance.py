"""How far a float result may be from the exact one; derived in docs/tolerances.md.

The sums obey ``c(algorithm) * eps * sqrt(K) * rms`` with ``rms`` the root of the sum of squared
products of that very output (Higham and Mary 2020: mean-zero data, rounding errors with random
signs). The epilogue adds one rounding per operation, the activation multiplies by its Lipschitz
constant and adds the error of its approximation. Tensors of 16-bit floats have float32 sums: what
they add is the one rounding of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.elements import SHORT_FLOATS
from tvmconv.errors import UnsupportedSpec
from tvmconv.fills import sum_length

if TYPE_CHECKING:
    from tvmconv.operands import Operands
    from tvmconv.spec import ConvSpec

Array = NDArray[Any]

# eps is the gap from 1 to the next number, twice the unit roundoff.
EPS = {"float32": 2.0**-23}
# What an algorithm's answers may lose against the largest result unless the caller says otherwise.
DEFAULT_MAX_ERROR = 1e-5


@dataclass(frozen=True)
class Accuracy:
    """How exact a way to compute is.

    Attributes:
        constant: c of the bound.
        relative_error: ceiling of max |error| / max |result| on standard normal data; what
            ``max_error`` is compared with.
    """

    constant: float
    relative_error: float


def half(name: str) -> str:
    """The class of an algorithm whose products have their factors rounded to float16."""
    return f"half_{name}"


# Direct: one output in exp(sqrt(3) pi c) of a single running sum passes its bound
# (docs/tolerances.md): one in 3e9 at c = 4. Blocked sums and fused multiply-adds stay further away.
DIRECT = "direct"
ACCURACIES = {DIRECT: Accuracy(4.0, 4e-6)}
# FFT: twice what the largest of 1e6 outputs loses at two taps and 2^14 samples; its relative error
# is that of the sum over channels.
ACCURACIES["fft"] = Accuracy(16.0, 4e-6)
# Tensor cores cut what a float32 sum cannot hold where others round, so errors lean towards zero:
# in a model of them that cuts to 24 bits, 2.7 at 18432 terms, and 1e-5 of the largest result.
TENSOR_CORES = "tensor_cores"
ACCURACIES[TENSOR_CORES] = Accuracy(8.0, 1e-5)
# tf32 keeps eleven bits of each factor, so a product is off by 2^-10 at most, and a sum, by Cauchy
# and Schwarz, by 2^-10 sqrt(K) rms: 2^13 eps. Measured: 5485, at one term, and 4.7e-4.
TF32 = "tf32"
ACCURACIES[TF32] = Accuracy(2.0**13 + 16.0, 6e-4)
# Sums of an output's own products: no other output feels their errors, and small integers and
# infinities go through them as they are.
OWN_PRODUCTS = frozenset({DIRECT, TENSOR_CORES, TF32})
# Winograd with the points of tvmconv/winograd.py. What one axis loses multiplies what the other
# does, and grows twofold with alpha = m + r - 1, so a class is the sum of both axes' alphas; one
# tap counts as LEAST_ALPHA. At least 1.2 times the largest error, and twice the largest c, of
# hundreds of layers of 1 to 512 channels (docs/tolerances.md). Sums are of 128 terms at most, and
# above LONG_SUMS of 32.
LEAST_ALPHA = 4
LONG_SUMS = 14
_WINOGRAD = {
    8: Accuracy(4.0, 2e-6),
    9: Accuracy(8.0, 2.5e-6),
    10: Accuracy(8.0, 3e-6),
    11: Accuracy(16.0, 4e-6),
    12: Accuracy(16.0, 5e-6),
    13: Accuracy(32.0, 7e-6),
    14: Accuracy(32.0, 1e-5),
    15: Accuracy(40.0, 1e-5),
    16: Accuracy(80.0, 2e-5),
    17: Accuracy(140.0, 3e-5),
    18: Accuracy(140.0, 5e-5),
}


def winograd(h: tuple[int, int], w: tuple[int, int]) -> str:
    """The class of F(m_h x m_w, r_h x r_w), of (m, r) along h and w, (1, 1) if there is one tap."""
    if h == w:
        return f"winograd_f{h[0]}_{h[1]}"
    return f"winograd_f{h[0]}x{w[0]}_{h[1]}x{w[1]}"


def _alpha(axis: tuple[int, int]) -> int:
    return max(sum(axis) - 1, LEAST_ALPHA)


_AXES = [(1, 1), *((m, r) for r in range(2, 6) for m in range(2, 8) if m + r <= 10)]
ACCURACIES |= {
    winograd(h, w): _WINOGRAD[_alpha(h) + _alpha(w)]
    for h, w in product(_AXES, repeat=2)
    if h != (1, 1) or w != (1, 1)
}
# Long filters over few outputs lose less than F(6, 3).
ACCURACIES |= {name: Accuracy(48.0, 1e-5) for name in ("winograd_f4_5", "winograd_f5_4")}

# The same with both factors of the products rounded to float16, of 16 channels and more, by the
# longer axis' alpha: at least 2.7 times the largest error seen.
_HALF_WINOGRAD = {
    3: Accuracy(2.0**13, 1e-3),
    4: Accuracy(2.0**13, 1e-3),
    5: Accuracy(2.0**14, 2.5e-3),
    6: Accuracy(2.0**15, 5e-3),
}
ACCURACIES |= {
    half(winograd(h, w)): _HALF_WINOGRAD[max(sum(h), sum(w)) - 1]
    for h, w in product(_AXES, repeat=2)
    if max(sum(h), sum(w)) - 1 in _HALF_WINOGRAD
}

# Strassen's products of parts by their levels.
ACCURACIES |= {"strassen_1": Accuracy(8.0, 6e-6), "strassen_2": Accuracy(12.0, 1e-5)}

# Largest slope of each activation, where it is not an argument. Smooth ones were maximised
# numerically and are rounded up.
LIPSCHITZ = {
    "none": 1.0,
    "relu": 1.0,
    "relu6": 1.0,
    "clip": 1.0,
    "silu": 1.1,
    "hardswish": 1.5,
    "gelu": 1.13,
    "gelu_tanh": 1.13,
    "sigmoid": 0.25,
    "tanh": 1.0,
}
# Error of computing the activation itself, in eps: a multiple of |v|, and an absolute part. The
# second bounds sigmoid, tanh and erf, whose float32 approximations are off by some units in the
# last place of results near 1.
RELATIVE_ERROR = {
    "leaky_relu": 1.0,
    "hardswish": 3.0,
    "silu": 4.0,
    "gelu": 4.0,
    "gelu_tanh": 4.0,
}
ABSOLUTE_ERROR = {"sigmoid": 4.0, "tanh": 6.0}
# These are exact on exact sums: compare, clamp, or one correctly rounded product.
EXACT_ACTIVATIONS = frozenset({"none", "relu", "relu6", "clip", "leaky_relu"})


def get_accuracy(name: str) -> Accuracy:
    """The accuracy of a name such as "direct" or "winograd_f4_3".

    Raises:
        UnsupportedSpec: for a name that has none yet; none borrows another's.
    """
    if name not in ACCURACIES:
        known = [name for name in ACCURACIES if "winograd" not in name]
        known += ["winograd_f{m}_{r}", "winograd_f{m_h}x{m_w}_{r_h}x{r_w}"]
        raise UnsupportedSpec("accuracy", name, f"one with a bound: {', '.join(known)}")
    return ACCURACIES[name]


def error_bound(
    spec: ConvSpec, sums: Array, squares: Array, operands: Operands, accuracy: str = DIRECT
) -> Array:
    """Bound |computed - exact| for each output.

    Args:
        spec: the convolution.
        sums: reference.accumulate in float64, [n, oc, *out].
        squares: reference.accumulate_squares, the same shape.
        operands: the call's tensors.
        accuracy: whose constant to use. Transforms mix neighbouring outputs, so for all but plain
            sums the squares are the largest of an output channel's map, and at least what the
            loudest input makes with an average weight: it may stand where no output sees it.

    Returns:
        Bounds in canonical order [n, oc, *out], in the units of the result.
    """
    from tvmconv.reference import per_channel, to_canonical

    eps = EPS[spec.acc_dtype]
    bias = _or_zero(spec, operands.bias, per_channel)
    terms = sum_length(spec) + 1
    if accuracy not in OWN_PRODUCTS and squares.size:
        largest = squares.max(axis=tuple(range(2, squares.ndim)), keepdims=True)
        loudest = max(np.square(operands.x, dtype=np.float64).max(), spec.pad_value**2)
        weight = np.square(operands.weight, dtype=np.float64).mean()
        squares = np.maximum(largest, loudest * weight)
    error = get_accuracy(accuracy).constant * eps * sqrt(terms) * np.sqrt(squares + bias**2)
    value = sums + bias
    if operands.scale is not None:
        scale = per_channel(spec, operands.scale, np.float64)
        shift = _or_zero(spec, operands.shift, per_channel)
        error = np.abs(scale) * error + eps * (np.abs(value * scale) + np.abs(shift))
        value = value * scale + shift
    if operands.residual is not None:
        residual = to_canonical(
            operands.residual, spec.out_layout, spec.n, spec.oc, 1, spec.out_size
        )
        error = error + eps * (np.abs(value) + np.abs(residual))
        value = value + residual
    return activation_bound(spec, value, error)


def activation_bound(spec: ConvSpec, value: Array, error: Array) -> Array:
    """Carry an error of the activation's argument `value` through it and add its own."""
    eps, name = EPS[spec.acc_dtype], spec.activation
    slope = max(1.0, abs(spec.activation_args[0])) if name == "leaky_relu" else LIPSCHITZ[name]
    size = np.where(np.isfinite(value), np.abs(value), 0.0)
    own = RELATIVE_ERROR.get(name, 0.0) * size + ABSOLUTE_ERROR.get(name, 0.0)
    bound: Array = slope * error + eps * own
    return bound


def stored_bound(spec: ConvSpec, exact: Array, bound: Array) -> Array:
    """The bound of a result within `bound` of `exact` once it is rounded to the spec's dtype.

    A float32 result is not rounded again. Others are off by half the distance of their numbers.
    """
    if spec.dtype == spec.acc_dtype:
        return bound
    short = SHORT_FLOATS[spec.dtype]
    half = 2.0**-short.bits
    rounded: Array = bound + half * (np.abs(exact) + bound) + short.spacing / 2
    return rounded


def result_bound(
    spec: ConvSpec,
    sums: Array,
    squares: Array,
    operands: Operands,
    exact: Array,
    accuracy: str = DIRECT,
) -> Array:
    """Bound |y - exact| for each element of y, in its memory order, its last rounding included.

    Args:
        spec: the convolution.
        sums: as for `error_bound`.
        squares: as for `error_bound`.
        operands: the call's tensors.
        exact: reference.finish of the sums.
        accuracy: as for `error_bound`.
    """
    from tvmconv.reference import from_canonical

    bound = np.broadcast_to(error_bound(spec, sums, squares, operands, accuracy), sums.shape)
    return stored_bound(spec, exact, from_canonical(bound, spec.out_layout))


def _or_zero(spec: ConvSpec, values: Array | None, shape: Any) -> Array:
    zero = np.zeros(spec.oc)
    shaped: Array = shape(spec, zero if values is None else values, np.float64)
    return shaped
