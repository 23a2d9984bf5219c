"""Convolutions as matrix products: where runs are read, what is staged, what tiles take."""

from dataclasses import replace
from math import prod

import pytest

import tvmconv as tc
from tvmconv.cuda.gemm.product import Product, product_of
from tvmconv.cuda.gemm.tile import Tile
from tvmconv.problem import canonical
from tvmconv.spec import ConvSpec

HALF, SINGLE = 2, 4
TILE = Tile(m=128, n=64, k=32, warp_m=64, warp_n=32, stages=4, split=1)


def of(spec: ConvSpec, elem_bytes: int = HALF) -> Product:
    return product_of(canonical(spec), elem_bytes)


IN_PLACE = {
    "3x3": tc.conv2d((2, 9, 9, 16), 16, 3, padding=1, layout="NHWC"),
    "groups": tc.conv2d((2, 9, 9, 32), 32, 3, padding=1, groups=2, layout="NHWC"),
    "transposed": tc.conv_transpose2d((1, 5, 6, 24), 16, 4, stride=2, padding=1, layout="NHWC"),
    "no padding": tc.conv2d((2, 9, 9, 16), 16, 3, padding_mode="reflect", layout="NHWC"),
    "3-d": tc.conv3d((1, 4, 5, 6, 8), 16, 3, padding=1, layout="NDHWC"),
}
STAGED = {
    "channels first": tc.conv2d((2, 16, 9, 9), 16, 3, padding=1),
    "reflected": tc.conv2d((2, 9, 9, 16), 16, 3, padding=1, padding_mode="reflect", layout="NHWC"),
    "twelve channels": tc.conv2d((2, 9, 9, 12), 16, 3, padding=1, layout="NHWC"),
    "groups of twenty": tc.conv2d((1, 9, 9, 40), 40, 3, padding=1, groups=2, layout="NHWC"),
}


@pytest.mark.parametrize("spec", IN_PLACE.values(), ids=IN_PLACE)
def test_whole_chunks_are_read_in_place(spec: ConvSpec) -> None:
    product = of(spec)
    assert product.staging is None
    assert product.run == product.filled == canonical(spec).icg
    assert product.x == canonical(spec).x


@pytest.mark.parametrize("spec", STAGED.values(), ids=STAGED)
def test_other_inputs_are_staged_without_borders(spec: ConvSpec) -> None:
    product = of(spec)
    assert product.staging is not None
    assert not any(product.is_guarded(axis) for axis in range(3))
    for axis, extent in zip(product.axes, product.staging.extents, strict=True):
        reach = (axis.quotients - 1) * axis.stride + max(axis.origins)
        assert min(axis.origins) >= 0
        assert reach + (axis.taps - 1) * axis.step < extent
    assert all(stride % product.chunk == 0 for stride in product.x.space)


def test_single_precision_has_four_elements_in_a_chunk() -> None:
    assert of(tc.conv2d((1, 9, 9, 12), 16, 3, layout="NHWC"), SINGLE).staging is None
    assert of(tc.conv2d((1, 9, 9, 10), 16, 3, layout="NHWC"), SINGLE).staging is not None


def test_a_stem_folds_the_taps_of_a_row_into_a_run() -> None:
    spec = tc.conv2d((1, 3, 224, 224), 64, 7, stride=2, padding=3)
    product = of(spec)
    # Four channels of seven taps; two pixels apart, runs start at multiples of 16 bytes.
    assert product.is_folded
    assert (product.channels, product.filled, product.run) == (4, 28, 32)
    assert product.depth == 7 * 32
    assert product.staging is not None
    assert product.staging.extents[2] * product.channels % product.chunk == 0


def test_folding_waits_for_dense_taps() -> None:
    spec = tc.conv2d((1, 3, 32, 32), 16, 7, stride=2, padding=3, dilation=2)
    assert not of(spec).is_folded


@pytest.mark.parametrize(
    ("spec", "together"),
    [
        (tc.conv2d((2, 37, 8, 9), 24, 1), 8),
        (tc.conv2d((3, 40, 6, 6), 36, 1, groups=2), 4),
        (tc.conv1d((2, 30, 42), 20, 1), 2),
        (tc.conv2d((2, 20, 3, 7), 17, 1), 0),
        (tc.conv2d((2, 8, 9, 37), 24, 1, layout="NHWC"), 0),
        (tc.conv2d((2, 37, 8, 9), 24, 1, stride=2), 0),
        (tc.conv2d((2, 37, 8, 8), 24, 1, padding=1), 0),
    ],
)
def test_channels_first_pixels_are_copied_together(spec: ConvSpec, together: int) -> None:
    product = product_of(canonical(spec), HALF, turns=True)
    assert product.together == together
    if together:
        assert product.staging is None
        assert product.depth == spec.ic // spec.groups
    assert product_of(canonical(spec), HALF).together == 0


def test_staging_takes_what_is_read_alone() -> None:
    product = of(tc.conv2d((1, 16, 8, 9), 16, 1, stride=(2, 3)))
    assert product.staging is not None
    assert product.staging.extents == (1, 4, 3)
    # Rows that a stride passes over are no part of the canonical problem.
    assert product.staging.every == (1, 1, 3)
    assert [axis.stride for axis in product.axes] == [1, 1, 1]


def test_phases_are_slices() -> None:
    spec = tc.conv_transpose2d((1, 5, 6, 32), 32, 4, stride=(2, 3), groups=2, layout="NHWC")
    product = of(spec)
    assert (product.phases, product.slices) == (6, 12)
    assert product.rows == prod(axis.quotients for axis in canonical(spec).axes)


def test_tiles_cover_rows_channels_and_depth() -> None:
    product = of(tc.conv2d((3, 9, 9, 24), 70, 3, padding=1, layout="NHWC"))
    assert TILE.grid(product) == (2 * 2, 1, 1)
    assert TILE.tiles_k(product) == -(-9 * 24 // 32)
    assert TILE.threads == 128


def test_shared_memory_holds_stages_or_strips() -> None:
    product = of(tc.conv2d((3, 9, 9, 64), 64, 3, padding=1, layout="NHWC"))
    assert TILE.shared_bytes(product) == 4 * (128 + 64) * 64
    shallow = replace(TILE, stages=1, warp_n=64)
    assert shallow.shared_bytes(product) == max(192 * 64, 2 * 16 * 72 * 4)
    bulk = replace(TILE, by_warpgroups=True, warp_n=64, bulk=True)
    assert bulk.arrivals_at(product) % 8 == 0
    assert bulk.shared_bytes(product) == bulk.arrivals_at(product) + 8 * 4


def test_splits_leave_all_strips_of_sums() -> None:
    product = of(tc.conv2d((3, 9, 9, 64), 64, 3, padding=1, layout="NHWC"))
    split = replace(TILE, split=3)
    assert TILE.partial_bytes(product) == 2 * 128 * 64 * 4
    assert split.partial_bytes(product) == 3 * 2 * 128 * 64 * 4
