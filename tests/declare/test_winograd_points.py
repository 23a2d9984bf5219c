"""Transformed weights for tensor cores: each where operand B of mma.m16n8k16 is looked for."""

import numpy as np
import pytest

import tvmconv as tc
from tests.declare.evaluate import evaluate
from tvmconv.cuda.gemm.tile import Tile
from tvmconv.cuda.gemm.winograd_packing import declare_points
from tvmconv.cuda.gemm.winograd_tiles import Tiles
from tvmconv.declare.winograd_form import TiledAxis
from tvmconv.problem import canonical
from tvmconv.spec import ConvSpec

TILE = Tile(m=64, n=32, k=32, warp_m=32, warp_n=32, stages=3, split=1)
SPECS = {
    "3x3": tc.conv2d((1, 9, 9, 16), 40, 3, bias=True, layout="NHWC", dtype="float16"),
    "channels rounded up": tc.conv2d((1, 18, 9, 9), 20, (2, 3), dtype="float16"),
    "flipped": tc.conv2d((1, 18, 9, 9), 16, 3, flip=True, dtype="float16"),
    "3d": tc.conv3d((1, 5, 9, 9, 24), 16, 3, layout="NDHWC", dtype="float16"),
}


def tiles_of(spec: ConvSpec, m: int) -> Tiles:
    problem = canonical(spec)
    rows, columns = (TiledAxis(a, m, TiledAxis(a, m, 1).bands) for a in problem.axes[1:])
    return Tiles(problem, rows, columns)


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_lanes_find_the_points_of_their_weights(spec: ConvSpec, m: int) -> None:
    tiles = tiles_of(spec, m)
    rng = np.random.default_rng(1)
    weight = rng.standard_normal(spec.weight_shape).astype(np.float16)
    given = {"weight": weight}
    if spec.bias:
        given["bias"] = rng.standard_normal(spec.oc).astype(np.float16)
    declaration = declare_points(spec, tiles, TILE)
    shape = tuple(int(e) for e in declaration.outputs[0][0].shape)
    packed = evaluate(declaration, given)[: np.prod(shape)].reshape(shape)
    taps = weight[..., ::-1, ::-1] if spec.flip else weight
    if spec.rank == 2:
        taps = taps[:, :, None]
    h, w = (np.array(a.filtering.weight, dtype=np.float64) for a in (tiles.h, tiles.w))
    u = np.einsum("ak,oidkl,bl->abdio", h, taps.astype(np.float64), w, optimize=True)
    u = u.astype(np.float32).astype(np.float16)
    run, (points_h, points_w, kd, ic, oc) = tiles.pixels.run, u.shape
    wanted = np.zeros((points_h, points_w, shape[3] * TILE.k, shape[2] * TILE.n), np.float16)
    for d in range(kd):
        wanted[:, :, d * run : d * run + ic, :oc] = u[:, :, d]
    assert shape[0] == points_h * points_w
    for index in np.ndindex(shape):
        point, _, tile_n, tile_k, step, block, lane, register, element = index
        # PTX ISA: of register i, row (lane % 4) * 2 + element + 8 i, column lane / 4.
        column, i = divmod(register, 2)
        k = tile_k * TILE.k + step * 16 + lane % 4 * 2 + element + 8 * i
        n = tile_n * TILE.n + block * 16 + column * 8 + lane // 4
        assert packed[index] == wanted[point // points_w, point % points_w, k, n], index


def test_v_and_the_product_count_the_same_tiles() -> None:
    tiles = tiles_of(SPECS["3d"], 2)
    assert (tiles.points, tiles.outer) == (16, 1)
    assert tiles.depth.in_extent == 5
    assert tiles.depth.out_extent == 3
    assert tiles.tiles_in == 5 * 4 * 4
    product = tiles.product
    assert (product.rows, product.slices, product.depth) == (3 * 4 * 4, 16, 3 * 24)
    assert product.x.g * product.slices == tiles.v_elems
    assert not any(product.is_guarded(axis) for axis in range(3))
