"""Deterministic inputs for proving a kernel, each made to expose one kind of error.

| fill      | what it exposes                                                    |
| --------- | ------------------------------------------------------------------ |
| integers  | a wrong index, a missing term: float32 sums of them are exact      |
| normal    | lost precision                                                     |
| impulses  | a tap or channel in the wrong place                                |
| borders   | wrong padding                                                      |
| nonfinite | reading what torch does not read; a NaN dropped by an activation   |

Everything is numpy and depends only on the spec and the seed. The values are of the spec's dtype;
those of the exact fills have few enough bits for any float.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import gcd, prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.elements import numpy_dtype
from tvmconv.operands import Operands

if TYPE_CHECKING:
    from tvmconv.spec import ConvSpec

Array = NDArray[Any]
# float32 holds every integer up to 2^24; the margin pays for bias, scale, shift and residual.
EXACT_SUM = 2.0**24 / 16
# Sampling positions that are multiples of 2^-10 below 2^13 are exact in float32, as is every
# product of two bilinear weights; coarser in the integer fill, whose sums must be exact as well.
OFFSET_STEP = 2.0**-10
EXACT_OFFSET_STEP = 0.25


def integers(spec: ConvSpec, seed: int = 0) -> Operands:
    """Fill with integers so small that every sum, scaled and shifted, is exact in float32."""
    rng = np.random.default_rng((seed, 1))
    limit = integer_limit(spec)

    def values(shape: tuple[int, ...]) -> Array:
        return rng.integers(-limit, limit, shape, endpoint=True).astype(np.float32)

    return _fill(spec, rng, values, values(spec.x_shape), EXACT_OFFSET_STEP)


def integer_limit(spec: ConvSpec) -> int:
    """Largest magnitude m, at most 4, for which K * m * m stays exact under the epilogue."""
    # Bilinear weights are multiples of 1/16, masks of 1/2: 5 bits less for the sums.
    room = EXACT_SUM / 32 if spec.op == "deform_conv" else EXACT_SUM
    magnitude = max(1.0, abs(spec.pad_value)) if spec.padding_mode == "constant" else 1.0
    return max(1, min(4, int((room / (sum_length(spec) * magnitude)) ** 0.5)))


def sum_length(spec: ConvSpec) -> int:
    """Most terms that are added into one output: K = ic/g times the taps that can meet."""
    taps = prod(spec.kernel)
    if spec.op == "conv_transpose":
        # Only taps that agree modulo stride / gcd(stride, dilation) reach the same output.
        axes = zip(spec.kernel, spec.stride, spec.dilation, strict=True)
        taps = prod(-(-k * gcd(s, d) // s) for k, s, d in axes)
    return spec.ic // spec.groups * taps


def normal(spec: ConvSpec, seed: int = 0) -> Operands:
    """Fill with independent standard normal values; their products have mean zero."""
    rng = np.random.default_rng((seed, 2))

    def values(shape: tuple[int, ...]) -> Array:
        return rng.standard_normal(shape, dtype=np.float32)

    return _fill(spec, rng, values, values(spec.x_shape), OFFSET_STEP)


def impulses(spec: ConvSpec, seed: int = 0) -> Operands:
    """Put about one 1 into every ninth receptive field; each corner of the input has one too."""
    rng = np.random.default_rng((seed, 3))
    x = np.zeros(spec.x_shape, np.float32)
    flat = x.reshape(-1)
    if flat.size:
        count = max(1, flat.size // (9 * prod(spec.kernel)))
        flat[rng.integers(0, flat.size, count)] = 1.0
        flat[0] = flat[-1] = 1.0
    # Distinct neighbours: a tap taken from next door cannot give the same number.
    ramp = np.arange(prod(spec.weight_shape), dtype=np.int64) * 7 % 61 - 30

    def values(shape: tuple[int, ...]) -> Array:
        return rng.integers(-4, 4, shape, endpoint=True).astype(np.float32)

    operands = _fill(spec, rng, values, x, EXACT_OFFSET_STEP)
    weight = ramp.reshape(spec.weight_shape).astype(numpy_dtype(spec.dtype))
    return replace(operands, weight=weight)


def borders(spec: ConvSpec, seed: int = 0) -> Operands:
    """Fill the outermost ring of the input with integers and leave the inside zero."""
    operands = integers(spec, seed)
    x = operands.x.copy()
    inside = tuple(slice(1, -1) if axis in "DHW" else slice(None) for axis in spec.in_layout)
    x[inside] = 0.0
    return replace(operands, x=x)


def nonfinite(spec: ConvSpec, seed: int = 0) -> Operands:
    """Put NaN, +inf and -inf at a few places of an integer input; weights are never zero."""
    rng = np.random.default_rng((seed, 4))
    operands = integers(spec, seed)
    x, weight = operands.x.copy(), operands.weight.copy()
    flat = x.reshape(-1)
    if flat.size:
        flat[rng.integers(0, flat.size, 2)] = np.nan, np.inf
        # At the ends of memory they are next to every kind of border, and few outputs see them.
        flat[0], flat[-1] = np.inf, -np.inf
    weight[weight == 0] = 1.0
    return replace(operands, x=x, weight=weight)


def _fill(
    spec: ConvSpec,
    rng: np.random.Generator,
    values: Callable[[tuple[int, ...]], Array],
    x: Array,
    offset_step: float,
) -> Operands:
    channels, dtype = (spec.oc,), numpy_dtype(spec.dtype)

    def stored(array: Array) -> Array:
        return array.astype(dtype, copy=False)

    # Powers of two keep integers exact and normal data well scaled, whichever way it is folded.
    powers = np.array([-2.0, -1.0, 0.5, 1.0, 2.0], np.float32)
    offsets, masks = spec.offset_shape, spec.mask_shape
    return Operands(
        x=stored(x),
        weight=stored(values(spec.weight_shape)),
        bias=stored(values(channels)) if spec.bias else None,
        scale=stored(rng.choice(powers, channels)) if spec.scale_shift else None,
        shift=stored(values(channels)) if spec.scale_shift else None,
        residual=stored(values(spec.out_shape)) if spec.residual else None,
        offset=stored(_offsets(rng, offsets, offset_step)) if offsets else None,
        mask=stored(_masks(rng, masks, offset_step)) if masks else None,
    )


def _offsets(rng: np.random.Generator, shape: tuple[int, ...], step: float) -> Array:
    """Draw offsets of some pixels, enough to leave small pictures through every border."""
    pixels = rng.standard_normal(shape) * 2.0
    return (np.round(pixels / step) * step).astype(np.float32)


def _masks(rng: np.random.Generator, shape: tuple[int, ...], step: float) -> Array:
    steps = 2 if step == EXACT_OFFSET_STEP else 1024
    return (rng.integers(0, steps, shape, endpoint=True) / steps).astype(np.float32)
