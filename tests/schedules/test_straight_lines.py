"""Passes on straight lines of vectors: cut vectors, wide indices, sums that start from -0.0."""

import re
from collections.abc import Callable

import pytest
from tvm import IRModule, tirx

import tvmconv as tc
from tvmconv.lower.indices import widen_indices
from tvmconv.lower.sums import start_sums
from tvmconv.spec import ConvSpec

LANES = 4


def function(
    loop: bool, accumulate: bool = True
) -> tuple[tirx.PrimFunc, tirx.Var, Callable[[tirx.PrimFunc], str]]:
    """``y[4 i ..] = 0; [for k:] y[4 i ..] += x[8 i + k ..]`` inside a loop over i."""
    x, y = (tirx.decl_buffer((64,), "float32", name=name) for name in "xy")
    i, k = (tirx.Var(name, "int32") for name in "ik")
    at = tirx.Ramp(i * LANES, 1, LANES)
    zero = tirx.BufferStore(y, tirx.Broadcast(tirx.const(0.0, "float32"), LANES), [at])
    term = tirx.BufferLoad(x, [tirx.Ramp(i * 8 + (k if loop else 1), 1, LANES)])
    value = tirx.BufferLoad(y, [at]) + term if accumulate else term
    step: tirx.Stmt = tirx.BufferStore(y, value, [at])
    if loop:
        step = tirx.For(k, 0, 4, tirx.ForKind.SERIAL, step)
    body = tirx.For(i, 0, 4, tirx.ForKind.SERIAL, tirx.SeqStmt([zero, step]))

    def text(func: tirx.PrimFunc) -> str:
        return str(IRModule({"main": func}).script())

    return tirx.PrimFunc([x, y], body), i, text


def test_indices_of_straight_lines_are_wide() -> None:
    func, _, text = function(loop=False)
    assert "int64" not in text(func)
    lines = text(widen_indices(func)).splitlines()
    assert any(re.search(r"x\[.*T\.(?:Cast\(\"int64\"|int64)", line) for line in lines)


def test_indices_in_loops_of_sums_stay() -> None:
    func, _, text = function(loop=True)
    summed = [line for line in text(widen_indices(func)).splitlines() if "x[" in line]
    assert summed
    assert not any(re.search(r"x\[[^\]]*int64", line) for line in summed)


def test_sums_start_from_negative_zero() -> None:
    func, _, text = function(loop=False)
    assert "-0.0" not in text(func)
    assert "-0.0" in text(start_sums(func))


def test_zeros_of_copies_stay() -> None:
    func, _, text = function(loop=False, accumulate=False)
    assert text(start_sums(func)) == text(func)


CUT = {
    "both sides": tc.conv2d((1, 9, 14, 14), 9, 3, padding=1, groups=9),
    "wide": tc.conv2d((1, 5, 12, 30), 5, 5, padding=2, groups=5),
    "dilated": tc.conv2d((1, 3, 17, 23), 3, 3, dilation=2, padding=2, groups=3),
}


@pytest.mark.parametrize("spec", CUT.values(), ids=CUT)
def test_cut_vectors_are_not_loaded_by_the_element(spec: ConvSpec) -> None:
    """On aarch64 a vector at the border is a whole one, and a shuffle."""
    asm = tc.compile(spec, "pi4", algorithm="arm.columns").inspect("asm")
    assert re.findall(r"\sld1\s+\{ v\d+\.s \}\[[123]\]", asm) == []


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_strided_rows_are_taken_apart_by_loads(stride: int) -> None:
    spec = tc.conv2d((1, 8, 32, 64), 8, 3, stride=stride, padding=1, groups=8)
    asm = tc.compile(spec, "pi4", algorithm="arm.columns").inspect("asm")
    assert re.search(rf"\sld{stride}\s", asm)
