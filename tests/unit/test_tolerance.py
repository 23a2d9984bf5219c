"""The bound holds for torch's own float32, and is tight enough to notice a lost term."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

import tvmconv as tc
from tests.strategies import ACTIVATIONS, conv_specs
from tvmconv import fills
from tvmconv.errors import UnsupportedSpec
from tvmconv.legality import ACTIVATIONS as NAMES
from tvmconv.reference import accumulate, accumulate_squares, activate, finish, from_canonical
from tvmconv.spec import ConvSpec
from tvmconv.tolerance import (
    ABSOLUTE_ERROR,
    DEFAULT_MAX_ERROR,
    LIPSCHITZ,
    RELATIVE_ERROR,
    error_bound,
    get_accuracy,
    winograd,
)
from tvmconv.validate import compare


def bound_of(spec: ConvSpec, operands: Any) -> Any:
    sums, squares = accumulate(spec, operands), accumulate_squares(spec, operands)
    return from_canonical(error_bound(spec, sums, squares, operands), spec.out_layout)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(conv_specs())
def test_torch_float32_stays_within_the_bound(spec: ConvSpec) -> None:
    operands = fills.normal(spec, seed=5)
    single = finish(spec, accumulate(spec, operands, "float32"), operands)
    exact = finish(spec, accumulate(spec, operands), operands)
    check = compare("torch", single, exact, bound_of(spec, operands))
    assert check.ok, check.text


@pytest.mark.parametrize("channels", [1, 16, 256, 2048])
def test_one_running_sum_stays_within_the_bound(channels: int) -> None:
    """The worst order for rounding, one accumulator, uses a tenth to a third of the bound."""
    spec = tc.conv1d((1, channels, 400), 8, 1)
    operands = fills.normal(spec)
    products = operands.x[0][None] * operands.weight
    running = np.zeros(spec.out_shape, np.float32)
    for c in range(channels):
        running[0] += products[:, c]
    exact = finish(spec, accumulate(spec, operands), operands)
    bound = bound_of(spec, operands)
    check = compare("running", running, exact, bound)
    assert check.ok, check.text
    assert 0.05 < np.abs(running - exact).max() / bound.max() < 0.4


@pytest.mark.parametrize("channels", [8, 64, 512])
def test_a_lost_term_breaks_the_bound(channels: int) -> None:
    spec = tc.conv2d((1, channels, 6, 6), 4, 3, padding=1)
    operands = fills.normal(spec)
    weight = operands.weight.copy()
    weight[2, channels // 2, 1, 1] = 0
    wrong = finish(spec, accumulate(spec, replace(operands, weight=weight)), operands)
    exact = finish(spec, accumulate(spec, operands), operands)
    check = compare("lost", wrong, exact, bound_of(spec, operands))
    assert not check.ok
    assert check.index is not None
    assert check.index[1] == 2


@pytest.mark.parametrize("activation", [name for name in NAMES if name != "leaky_relu"])
def test_lipschitz_constants(activation: str) -> None:
    spec = tc.conv1d(
        (1, 1, 1), 1, 1, activation=activation, activation_args=dict(ACTIVATIONS)[activation]
    )
    v = torch.linspace(-12, 12, 480_001, dtype=torch.float64)
    y = activate(spec, v)
    steepest = float((y.diff() / v.diff()).abs().max())
    assert steepest <= LIPSCHITZ[activation] <= 1.02 * steepest + 1e-9


@pytest.mark.parametrize("activation", sorted({*RELATIVE_ERROR, *ABSOLUTE_ERROR}))
def test_torchs_own_activations_need_less(activation: str) -> None:
    spec = tc.conv1d(
        (1, 1, 1), 1, 1, activation=activation, activation_args=dict(ACTIVATIONS)[activation]
    )
    v = torch.linspace(-30, 30, 200_001, dtype=torch.float32)
    error = (activate(spec, v).double() - activate(spec, v.double())).abs().numpy()
    allowed = RELATIVE_ERROR.get(activation, 0.0) * np.abs(v.numpy())
    allowed = (allowed + ABSOLUTE_ERROR.get(activation, 0.0)) * 2.0**-23
    assert (error <= allowed).all()


def test_algorithms_without_a_bound_are_refused() -> None:
    assert get_accuracy("direct").constant == 4
    with pytest.raises(UnsupportedSpec, match="winograd"):
        get_accuracy("winograd")


def test_winograd_loses_more_with_either_alpha() -> None:
    classes = {
        (h, w): get_accuracy(winograd((h, 3), (w, 3))) for h in range(2, 8) for w in range(2, 8)
    }
    for (h, w), accuracy in classes.items():
        assert accuracy == classes[w, h]
        for longer in ((h + 1, w), (h, w + 1)):
            after = classes.get(longer, accuracy)
            assert after.relative_error >= accuracy.relative_error
            assert after.constant >= accuracy.constant
    exact = {tile for tile, a in classes.items() if a.relative_error <= DEFAULT_MAX_ERROR}
    assert (7, 4) in exact
    assert not exact & {(6, 6), (7, 5), (7, 7)}


def test_winograd_along_one_axis_loses_less() -> None:
    for m in range(2, 8):
        line, plane = winograd((1, 1), (m, 3)), winograd((m, 3), (m, 3))
        assert line != plane
        assert get_accuracy(line).relative_error <= get_accuracy(plane).relative_error


def test_compare_names_the_worst_element() -> None:
    expected = np.zeros((2, 3), np.float32)
    got = expected.copy()
    got[1, 2] = 0.5
    check = compare("normal", got, expected, np.full((2, 3), 0.1))
    assert not check.ok
    assert check.index == (1, 2)
    assert "[1, 2]: got 0.5, expected 0" in check.text
    assert "1 of 6 elements wrong" in check.text


def test_compare_knows_nan_and_infinity() -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    bound = np.zeros(4)
    assert compare("same", values, values.copy(), bound).ok
    for place, wrong in ((0, 1.0), (1, -np.inf), (2, np.nan), (3, np.inf)):
        other = values.copy()
        other[place] = wrong
        check = compare("other", other, values, bound)
        assert not check.ok
        assert check.index == (place,)


def test_compare_takes_an_empty_output() -> None:
    empty = np.zeros((0, 3, 4), np.float32)
    assert compare("empty", empty, empty, np.zeros(())).ok
