"""Weights for tensor cores: each element where the instruction looks for it."""

import numpy as np
import pytest
from numpy.typing import NDArray

import tvmconv as tc
from tests.declare.evaluate import evaluate
from tvmconv.cuda.gemm.packing import declare_tiles
from tvmconv.cuda.gemm.product import Product, product_of
from tvmconv.cuda.gemm.tile import Tile
from tvmconv.problem import canonical
from tvmconv.spec import ConvSpec

Array = NDArray[np.float32]
HALF = 2
WARPS = Tile(m=64, n=32, k=32, warp_m=32, warp_n=32, stages=3, split=1)
WARPGROUP = Tile(m=64, n=64, k=64, warp_m=16, warp_n=64, stages=3, split=1, by_warpgroups=True)
# Eleven bits, so that rounding to tf32 changes none.
SPECS = {
    "3x3": tc.conv2d((1, 5, 5, 16), 40, 3, bias=True, layout="NHWC"),
    "channels rounded up": tc.conv2d((1, 12, 5, 5), 20, (2, 3)),
    "folded": tc.conv2d((1, 3, 16, 16), 16, 7, stride=2, padding=3),
    "flipped": tc.conv2d((1, 5, 5, 8), 16, 3, flip=True, layout="NHWC"),
}


def dense(spec: ConvSpec, product: Product, weight: Array) -> Array:
    """The matrix [depth, oc] of a forward spec of one group, by its definition."""
    taps = weight[..., ::-1, ::-1] if spec.flip else weight
    oc, ic, kh, kw = taps.shape
    if product.is_folded:
        rows = np.zeros((kh, product.run, oc), np.float32)
        for w in range(kw):
            at = w * product.channels
            rows[:, at : at + ic] = taps[:, :, :, w].transpose(2, 1, 0)
        return rows.reshape(-1, oc)
    pixels = np.zeros((kh, kw, product.run, oc), np.float32)
    pixels[:, :, :ic] = taps.transpose(2, 3, 1, 0)
    return pixels.reshape(-1, oc)


def packed_weight(spec: ConvSpec, product: Product, tile: Tile) -> tuple[Array, Array]:
    """The matrix, and the packed buffer's weight."""
    rng = np.random.default_rng(1)
    weight = rng.integers(-1000, 1000, spec.weight_shape).astype(np.float32)
    given = {"weight": weight}
    if spec.bias:
        given["bias"] = rng.integers(-9, 9, spec.oc).astype(np.float32)
    declaration = declare_tiles(spec, product, tile)
    shape = tuple(int(e) for e in declaration.outputs[0][0].shape)
    flat = evaluate(declaration, given)
    if spec.bias:
        padded = tile.tiles_n(product) * tile.n
        vector = flat[np.prod(shape) :]
        assert np.array_equal(vector, np.pad(given["bias"], (0, padded - spec.oc)))
    return dense(spec, product, weight), flat[: np.prod(shape)].reshape(shape)


def wanted(matrix: Array, k: int, n: int) -> float:
    inside = k < matrix.shape[0] and n < matrix.shape[1]
    return float(matrix[k, n]) if inside else 0.0


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_lanes_find_operand_b_of_mma(spec: ConvSpec) -> None:
    product = product_of(canonical(spec), HALF)
    matrix, packed = packed_weight(spec, product, WARPS)
    for index in np.ndindex(packed.shape):
        _, _, tile_n, tile_k, step, block, lane, register, half = index
        # PTX ISA: of register i, row (lane % 4) * 2 + half + 8 i, column lane / 4.
        column, i = divmod(register, 2)
        k = tile_k * 32 + step * 16 + lane % 4 * 2 + half + 8 * i
        n = tile_n * 32 + block * 16 + column * 8 + lane // 4
        assert packed[index] == wanted(matrix, k, n), index


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_rows_are_swizzled_for_wgmma(spec: ConvSpec) -> None:
    product = product_of(canonical(spec), HALF)
    matrix, packed = packed_weight(spec, product, WARPGROUP)
    image = packed.reshape(*packed.shape[2:4], -1)
    for tile_n, tile_k, at in np.ndindex(image.shape):
        # SWIZZLE_128B: bits 4 to 6 of an address are those of the place, changed by bits 7 to 9.
        byte = 2 * at
        place = byte ^ (byte >> 7 & 7) << 4
        n, k = place // 128, place % 128 // 2
        assert image[tile_n, tile_k, at] == wanted(matrix, tile_k * 64 + k, tile_n * 64 + n)


def test_float32_is_rounded_to_tf32() -> None:
    spec = tc.conv2d((1, 5, 5, 4), 16, 1, layout="NHWC")
    product = product_of(canonical(spec), 4)
    tile = Tile(m=64, n=32, k=16, warp_m=32, warp_n=32, stages=3, split=1)
    weight = np.ones(spec.weight_shape, np.float32)
    weight[0, :, 0, 0] = 1 + 2.0**-11, 1 + 2.0**-12, -1 - 3 * 2.0**-11, np.inf
    packed = evaluate(declare_tiles(spec, product, tile), {"weight": weight})
    # Ties away from zero; infinity stays.
    assert set(packed.tolist()) == {0.0, 1.0, 1 + 2.0**-10, -1 - 2.0**-9, np.inf}


def test_phases_without_taps_hold_zeros() -> None:
    spec = tc.conv_transpose2d((1, 4, 4, 8), 16, 1, stride=2, layout="NHWC")
    product = product_of(canonical(spec), HALF)
    packed = evaluate(
        declare_tiles(spec, product, WARPS), {"weight": np.ones(spec.weight_shape, np.float32)}
    )
    per_phase = packed.reshape(4, -1)
    assert np.count_nonzero(per_phase[0]) == 8 * 16
    assert not per_phase[1:].any()
