"""A stride's residues of taps: what each product multiplies, and which of them are zero."""

import importlib

import numpy as np
import pytest

import tvmconv as tc
from tests.declare.evaluate import evaluate
from tvmconv.declare.winograd import declare_winograd_packing
from tvmconv.declare.winograd_form import TiledAxis, parts_of_sum
from tvmconv.problem import Axis, canonical
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task

form = importlib.import_module("tvmconv.schedules.nests.winograd").form
SPECS = {
    "3x3 by 2": tc.conv2d((1, 5, 21, 21), 20, 3, stride=2),
    "7x7 by 2": tc.conv2d((1, 3, 21, 21), 16, 7, stride=2),
    "5x4 by 3x2": tc.conv2d((1, 4, 21, 21), 16, (5, 4), stride=(3, 2)),
    "flipped": tc.conv2d((1, 3, 21, 21), 16, 3, stride=2, flip=True),
    "line": tc.conv1d((1, 6, 60), 16, 10, stride=4),
}


def config_of(spec: ConvSpec, m: int) -> Config:
    blocks = {"blocks_d": 1, "blocks_h": 1, "blocks_w": 1}
    m_h = m if spec.rank > 1 else 1
    return Config.of(m_h=m_h, m_w=m, **blocks, tile_t=1, tile_oc=16, chunks=1, parts=1)


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_weights_are_those_of_their_residues(spec: ConvSpec, m: int) -> None:
    made = form(Task(spec, load("x86_64_v4")), config_of(spec, m))
    problem = canonical(spec)
    weight = np.random.default_rng(2).standard_normal(spec.weight_shape).astype(np.float32)
    shape = made.weight_shape(problem)
    packed = evaluate(declare_winograd_packing(spec, problem, made), {"weight": weight})
    # Of group, phases and kd there is one; blocks of channels are chunks here.
    u = packed[: np.prod(shape)].reshape(shape)[0, 0, 0, :, :, :, :, 0]
    _, rows, columns, _, residues, _, _ = u.shape
    taps = weight.reshape(*weight.shape[:2], *((1,) * (2 - spec.rank)), *spec.kernel)
    if spec.flip:
        taps = taps[..., ::-1, ::-1]
    for e in range(residues):
        parts = zip((made.h, made.w), made.residue_of(e), strict=True)
        (h, e_h), (w, e_w) = parts
        own = taps[:, :, e_h :: h.axis.stride, e_w :: w.axis.stride].astype(np.float64)
        g_h, g_w = (
            np.array(t.filtering.weight, dtype=np.float64)[:, :n]
            for t, n in zip((h, w), own.shape[2:], strict=True)
        )
        wanted = np.einsum("ak,oikl,bl->abio", g_h, own, g_w).astype(np.float32)
        got = u[:, :, :, :, e].transpose(1, 2, 4, 0, 3, 5).reshape(rows, columns, spec.ic, -1)
        np.testing.assert_array_equal(got[..., : spec.oc], wanted)
        # The products that are left out are those that are zero.
        for a in range(rows):
            for b in range(columns):
                left_out = (a == rows - 1 and e_h >= h.axis.full_residues) or (
                    b == columns - 1 and e_w >= w.axis.full_residues
                )
                assert left_out == (not wanted[a, b].any())


@pytest.mark.parametrize(
    ("taps", "stride"), [(t, s) for s in range(1, 6) for t in range(1, 5 * s + 1)]
)
def test_an_axis_reads_each_input_of_its_window_once_per_tap(taps: int, stride: int) -> None:
    axis = Axis(200, 40, stride=stride, origins=(0,), tap_counts=(taps,))
    tiled = TiledAxis(axis, 4, 3)
    assert sum(-(-(taps - e) // stride) for e in range(axis.residues)) == taps
    places = {
        int(tiled.read_at(tile, i, e))
        for tile in range(tiled.tiles)
        for i in range(tiled.filtering.alpha)
        for e in range(axis.residues)
    }
    assert min(places) == 0
    assert max(places) == tiled.window - 1
    # What the outputs of the block need is among them.
    assert {q * stride + k for q in range(tiled.outputs) for k in range(taps)} <= places


@pytest.mark.parametrize("chains", [1, 2])
@pytest.mark.parametrize(("taps", "run"), [(1, 128), (3, 128), (4, 32), (12, 32), (49, 32)])
@pytest.mark.parametrize("channels", [1, 3, 31, 32, 64, 67, 96, 100, 512])
def test_runs_of_sums_are_short_and_mostly_equal(
    channels: int, taps: int, run: int, chains: int
) -> None:
    parts = parts_of_sum(channels, taps, run, chains)
    length = -(-channels // (parts * chains))
    assert length * taps <= max(run, taps)
    assert parts * chains * length >= channels
    least = -(-channels // (chains * max(1, run // taps)))
    assert least <= parts <= 2 * least
