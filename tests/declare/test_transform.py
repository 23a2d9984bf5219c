"""Transforms against polynomial evaluation: every root, every radix, there and back."""

from cmath import exp, pi
from itertools import product
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm import te, tirx

from tvmconv.declare.roots import Ring, butterfly, unit
from tvmconv.declare.transform import transform, transform_back

Array = NDArray[Any]
LANES = 2

RINGS = {
    "cyclic_8": Ring((8,), real=False),
    "cyclic_4_3": Ring((4, 3), real=False),
    "cyclic_2_2_5": Ring((2, 2, 5), real=False),
    "real_2": Ring((2,), real=True),
    "real_3_4": Ring((3, 4), real=True),
    "real_8_2": Ring((8, 2), real=True),
    "real_2_3_2": Ring((2, 3, 2), real=True),
}


def roots(ring: Ring) -> dict[tuple[int, ...], complex]:
    """Root of each path of digits: ``turn <- (turn + j) / r`` from the whole ring down."""
    found = {}
    for digits in product(*map(range, ring.radices)):
        turn = 0.25 if ring.real else 0.0
        for radix, digit in zip(ring.radices, digits, strict=True):
            turn = (turn + digit) / radix
        found[digits] = exp(2j * pi * turn)
    return found


def powers(ring: Ring) -> Any:
    """Exact powers as constants, chosen by the node."""

    def power(level: int, node: Any, m: int) -> tuple[Any, Any]:
        number, whole = ring.twiddle(level, [tirx.convert(digit) for digit in node], m)
        real, imaginary = unit(tirx.convert(number) + tirx.const(0, "int32"), whole)
        return real.astype("float32"), imaginary.astype("float32")

    return power


def run(inputs: te.Tensor, values: Array, result: te.Tensor) -> Array:
    library = tvm.compile(te.create_prim_func([inputs, result]), target="llvm")
    out = tvm.runtime.tensor(np.zeros([int(e) for e in result.shape], np.float32))
    library(tvm.runtime.tensor(values.astype(np.float32)), out)
    found: Array = out.numpy().astype(np.float64)
    return found


def spectrum(ring: Ring, samples: Array) -> Array:
    """By stages: [digits..., part, lane]."""
    x = te.placeholder(samples.shape, name="x")

    def sample(at: Any, n: Any, part: Any, rest: Any) -> Any:
        return x[(part * ring.points + n if ring.real else n * 2 + part, *rest)]

    read = transform(ring, (1,), (LANES,), sample, powers(ring), "t")
    count = len(ring.radices)
    out = te.compute(
        (*ring.radices, 2, LANES),
        lambda *i: read((0,), i[:count], i[count], i[count + 1 :]),
        name="out",
    )
    return run(x, samples, out)


def drawn(ring: Ring) -> Array:
    return np.random.default_rng(0).standard_normal((2 * ring.points, LANES))


@pytest.mark.parametrize("name", RINGS)
def test_transform_evaluates_at_the_roots(name: str) -> None:
    ring = RINGS[name]
    samples = drawn(ring)
    found = spectrum(ring, samples)
    plain = samples if ring.real else samples[0::2] + 1j * samples[1::2]
    for digits, root in roots(ring).items():
        value = sum(a * root**n for n, a in enumerate(plain))
        np.testing.assert_allclose(found[digits], [value.real, value.imag], atol=1e-5)


@pytest.mark.parametrize("name", RINGS)
def test_there_and_back_is_the_number_of_points(name: str) -> None:
    ring = RINGS[name]
    samples = drawn(ring)
    values = spectrum(ring, samples)
    bins = te.placeholder(values.shape, name="bins")
    read = transform_back(
        ring,
        (1,),
        (LANES,),
        lambda at, digits, part, rest: bins[(*digits, part, *rest)],
        powers(ring),
        "t",
    )
    out = te.compute(
        (2, ring.points, LANES), lambda part, n, v: read((0,), n, part, (v,)), name="out"
    )
    back = run(bins, values, out) / ring.points
    expected = samples if ring.real else np.concatenate([samples[0::2], samples[1::2]])
    np.testing.assert_allclose(back.reshape(expected.shape), expected, atol=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("radix", [1, 2, 3, 4, 5, 6, 8, 16])
def test_butterfly_is_a_transform(radix: int, sign: int) -> None:
    values = np.random.default_rng(1).standard_normal((radix, 2))
    x = te.placeholder((radix, 2), name="x")
    found = butterfly([(x[m, 0], x[m, 1]) for m in range(radix)], sign)
    out = te.compute((radix, 2), lambda j, part: _pick(found, j, part), name="out")
    got = run(x, values, out)
    plain = values[:, 0] + 1j * values[:, 1]
    for j in range(radix):
        exact = sum(a * exp(2j * pi * sign * j * m / radix) for m, a in enumerate(plain))
        np.testing.assert_allclose(got[j], [exact.real, exact.imag], atol=1e-5)


def _pick(found: Any, j: Any, part: Any) -> Any:
    chain = found[-1][1]
    for i, pair in enumerate(found):
        for p, value in enumerate(pair):
            chain = tirx.Select(tirx.all(j == i, part == p), value, chain)
    return chain


@pytest.mark.parametrize("whole", [4, 12, 64, 8192])
def test_powers_are_right_to_the_last_bit(whole: int) -> None:
    numbers = te.placeholder((1,), name="unused")
    out = te.compute(
        (whole, 2),
        lambda n, part: tirx.Select(part == 0, *unit(n, whole)).astype("float32") + numbers[0],
        name="out",
    )
    found = run(numbers, np.zeros(1), out)
    turns = np.arange(whole) / whole
    exact = np.stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)], 1)
    np.testing.assert_allclose(found, exact.astype(np.float32), rtol=1e-7, atol=1e-15)


def test_digits_count_every_root_once() -> None:
    for ring in RINGS.values():
        turns = sorted(np.angle(root) % (2 * pi) for root in roots(ring).values())
        assert len({round(turn, 9) for turn in turns}) == ring.points
        power = {complex(np.round(root**ring.points, 6)) for root in roots(ring).values()}
        assert power == {1j if ring.real else 1 + 0j}
