"""Activations as vector arithmetic: no library call, so they stay in registers.

exp, tanh and erf are minimax approximations of float32 accuracy; docs/tolerances.md states their
error. NaN passes through every one of them, as in torch: comparisons are written so that an
unordered operand takes the branch that returns it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

Expr = Any


def activate(v: Expr, name: str, args: tuple[float, ...]) -> Expr:
    """The activation ``name`` of v; ``args`` as in ConvSpec.activation_args."""
    if name == "none":
        return v
    return _let("v", v, lambda value: _ACTIVATIONS[name](value, *args))


def _let(name: str, value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """Bind a value that is used several times: without it the tree of gelu holds v 90 times."""
    var = tirx.Var(name, "float32")
    return tirx.Let(var, value, body(var))


def _f32(value: float) -> Expr:
    return tirx.const(value, "float32")


def _clip(v: Expr, low: float, high: float) -> Expr:
    raised = tirx.Select(v < _f32(low), _f32(low), v)
    return tirx.Select(raised > _f32(high), _f32(high), raised)


def _relu(v: Expr) -> Expr:
    return tirx.Select(v < _f32(0.0), _f32(0.0), v)


def _leaky_relu(v: Expr, slope: float) -> Expr:
    return tirx.Select(v < _f32(0.0), v * _f32(slope), v)


def _hardswish(v: Expr) -> Expr:
    return v * _clip(v + _f32(3.0), 0.0, 6.0) * _f32(1.0 / 6.0)


def _polynomial(t: Expr, coefficients: tuple[float, ...]) -> Expr:
    """Horner's rule, highest power first."""
    total: Expr = _f32(coefficients[0])
    for c in coefficients[1:]:
        total = total * t + _f32(c)
    return total


def _exp(v: Expr) -> Expr:
    """2^k e^r with |r| <= ln(2)/2 and a degree-6 polynomial (Cephes expf: error 2 ulp).

    Above 88.37 k is 128, whose bit pattern is infinity, so that x / (1 + e^-x) ends as torch's.
    """
    return _let("bounded", _clip(v, -87.3, 88.7), _exp_bounded)


def _exp_bounded(v: Expr) -> Expr:
    return _let("k", te.floor(v * _f32(1.44269504) + _f32(0.5)), lambda k: _exp_split(v, k))


def _exp_split(v: Expr, k: Expr) -> Expr:
    reduced = v - k * _f32(0.693359375) + k * _f32(2.12194440e-4)
    return _let("r", reduced, lambda r: _exp_reduced(r, k))


def _exp_reduced(r: Expr, k: Expr) -> Expr:
    tail = _polynomial(
        r,
        (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5),
    )
    scale = tirx.reinterpret("float32", (k.astype("int32") + 127) << 23)
    return (tail * r * r + r + _f32(1.0)) * scale


def _sigmoid(v: Expr) -> Expr:
    return _f32(1.0) / (_f32(1.0) + _exp(-v))


def _silu(v: Expr) -> Expr:
    return v / (_f32(1.0) + _exp(-v))


def _saturate(v: Expr, inside: Expr, limit: float) -> Expr:
    """Exactly -1 and 1 beyond the limit, where the rational function is an ulp off."""
    low = tirx.Select(v < _f32(-limit), _f32(-1.0), inside)
    return tirx.Select(v > _f32(limit), _f32(1.0), low)


def _tanh(v: Expr) -> Expr:
    """Odd rational function on |v| <= 7.9053, beyond which float32 tanh is 1 (Eigen's fit)."""
    limit = 7.90531110763549805
    bounded = _clip(v, -limit, limit)
    inside = _let("t", bounded, lambda t: _let("s", t * t, lambda s: _tanh_rational(t, s)))
    return _saturate(v, inside, limit)


def _tanh_rational(t: Expr, s: Expr) -> Expr:
    top = _polynomial(
        s,
        (
            -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11,
            5.12229709037114e-08, 1.48572235717979e-05, 6.37261928875436e-04,
            4.89352455891786e-03,
        ),
    )  # fmt: skip
    bottom = _polynomial(
        s, (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
    )
    return t * top / bottom


def _erf(v: Expr) -> Expr:
    """Odd rational function on |v| <= 4, beyond which float32 erf is 1 (Eigen's fit)."""
    bounded = _clip(v, -4.0, 4.0)
    inside = _let("t", bounded, lambda t: _let("s", t * t, lambda s: _erf_rational(t, s)))
    return _saturate(v, inside, 4.0)


def _erf_rational(t: Expr, s: Expr) -> Expr:
    top = _polynomial(
        s,
        (
            -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06,
            -5.69250639462346e-05, -7.34990630326855e-04, -2.95459980854025e-03,
            -1.60960333262415e-02,
        ),
    )  # fmt: skip
    bottom = _polynomial(
        s,
        (
            -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03,
            -7.37332916720468e-03, -1.42647390514189e-02,
        ),
    )  # fmt: skip
    return t * top / bottom


def _gelu(v: Expr) -> Expr:
    scaled = v * _f32(0.70710678118654752)
    return v * _f32(0.5) * (_f32(1.0) + _let("scaled", scaled, _erf))


def _gelu_tanh(v: Expr) -> Expr:
    inner = (v + v * v * v * _f32(0.044715)) * _f32(0.79788456080286536)
    return v * _f32(0.5) * (_f32(1.0) + _let("inner", inner, _tanh))


_ACTIVATIONS: dict[str, Any] = {
    "relu": _relu,
    "relu6": lambda v: _clip(v, 0.0, 6.0),
    "clip": _clip,
    "leaky_relu": _leaky_relu,
    "silu": _silu,
    "hardswish": _hardswish,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
}
