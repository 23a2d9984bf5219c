"""Winograd's algorithm around tensor cores: which launches, which sizes, and their constants.

    v[group, phases, a, b][tile][channel]  = Bh x Bw                          winograd_in.cuh
    sums[group, phases, a, b]              = v[a, b] times u[a, b]            multiply.cuh
    y                                      = epilogue(Ah sums Aw)             winograd_out.cuh

The product is the one of 1x1 layers. Its sums stay in the order in which lanes hold them, so the
last launch reads whole lines of memory. v and u are rounded to the tensors' type, which tensor
cores multiply; both transforms and all sums are float32.
"""

from __future__ import annotations

from math import gcd

from tvmconv.cuda.code import DeviceCode, Launch
from tvmconv.cuda.gemm.constants import (
    activation_text,
    numbers,
    output_constants,
    phase_text,
)
from tvmconv.cuda.gemm.packing import PackedForm
from tvmconv.cuda.gemm.source import (
    launch_of,
    product_text,
    read_text,
    source_text,
    staged_buffer,
    staging_launch,
    staging_text,
)
from tvmconv.cuda.gemm.text import transform_text
from tvmconv.cuda.gemm.tile import Tile
from tvmconv.cuda.gemm.winograd_tiles import Tiles
from tvmconv.problem import Problem
from tvmconv.spec import ConvSpec

# Threads of a block of either transform; FRAGMENTS come in twos, so the second has whole blocks.
THREADS = 128


def winograd_code(spec: ConvSpec, tiles: Tiles, tile: Tile, symbol: str) -> DeviceCode:
    """Source and launches of ``run``: staging where it is needed, and the three of the module."""
    product, pixels = tiles.product, tiles.pixels
    body = product_text(product, tile, spec.dtype, [read_text("partial.cuh")])
    form = PackedForm(product, tile)
    constants = _constants(tiles) | output_constants(spec, tiles.problem, form)
    body += [numbers(constants), _functions(tiles), activation_text(spec)]
    body += map(read_text, ("winograd_in.cuh", "finish.cuh", "winograd_out.cuh"))
    launches: list[Launch] = []
    workspace = [("v", tiles.v_elems * tiles.elem_bytes), ("partial", tile.partial_bytes(product))]
    if pixels.staging is not None:
        body.append(staging_text(pixels))
        workspace.insert(0, staged_buffer(pixels))
        launches.append(staging_launch(pixels, symbol))
    x = "x" if pixels.staging is None else "staged"
    residual = ("residual",) if spec.residual else ()
    ends = ("packed", *residual, "y", "partial")
    sums, shared = tile.partial_bytes(product) // 4, tile.shared_bytes(product)
    finished = sums // (tile.split * tiles.points * 2)
    launches += [
        launch_of(symbol, "transform", _blocks(transforms(tiles)), THREADS, (x, "v")),
        launch_of(symbol, "multiply", tile.grid(product), tile.threads,
                  ("v", "packed", "partial"), shared),
        launch_of(symbol, "finish", _blocks(finished), THREADS, ends),
    ]  # fmt: skip
    source = source_text(symbol, body, launches)
    return DeviceCode(source, tuple(launches) if spec.n else (), tuple(workspace))


def transforms(tiles: Tiles) -> int:
    """Threads of the first launch: two channels of a tile each."""
    return tiles.outer * tiles.tiles_in * tiles.pixels.run // 2


def _blocks(threads: int) -> tuple[int, int, int]:
    return -(-threads // THREADS), 1, 1


def _constants(tiles: Tiles) -> dict[str, int | float]:
    """Sizes of tiles, and how x, or its copy, is read."""
    problem, pixels, depth = tiles.problem, tiles.pixels, tiles.depth
    found: dict[str, int | float] = {
        "TRANSFORMS": transforms(tiles), "TRANSFORM_THREADS": THREADS, "FINISH_THREADS": THREADS,
        "TILES_IN": tiles.tiles_in, "SLICES_D": depth.in_extent,
        "SLICES": tiles.outer * tiles.points, "OWN_CHANNELS": stored_channels(problem),
        "READ_N": pixels.x.n, "READ_G": pixels.x.g, "READ_LOW_D": pixels.axes[0].low,
    }  # fmt: skip
    for name, axis in (("H", tiles.h), ("W", tiles.w)):
        found |= {
            f"POINTS_{name}": axis.filtering.alpha, f"M_{name}": axis.m,
            f"DILATION_{name}": axis.step, f"TILES_{name}": axis.tiles,
            f"PARTS_{name}": axis.axis.phases,
        }  # fmt: skip
    for i, name in enumerate("DHW"):
        found |= {
            f"READ_{name}": pixels.x.space[i], f"READ_EXTENT_{name}": _extents(tiles)[i],
            f"READ_TESTED_{name}": _leaves(tiles, i),
        }  # fmt: skip
    return found


def _extents(tiles: Tiles) -> tuple[int, ...]:
    """Sizes d, h, w of x, or of its copy."""
    staging = tiles.pixels.staging
    if staging is not None:
        return staging.extents
    return tuple(axis.in_extent for axis in tiles.problem.axes)


def _leaves(tiles: Tiles, axis: int) -> bool:
    """Whether tiles may read beyond what there is along an axis; the last ones are cut off."""
    read, extent = tiles.pixels.axes[axis], _extents(tiles)[axis]
    window = (tiles.depth.in_extent, tiles.h.window, tiles.w.window)[axis]
    return read.low < 0 or read.low + window > extent


def stored_channels(problem: Problem) -> int:
    """Channels of a pixel of y that one thread stores at once: two, where pairs are aligned."""
    y = problem.y
    extents = (problem.n, problem.g, *(axis.out_extent for axis in problem.axes))
    strides = [s for s, e in zip((y.n, y.g, *y.space), extents, strict=True) if e > 1]
    return gcd(2, problem.ocg, *strides) if y.c == 1 else 1


def _functions(tiles: Tiles) -> str:
    """Transforms of a row and of a column, and where the phases start in x."""
    text = []
    for name, axis, read in (
        ("h", tiles.h, tiles.pixels.axes[1]),
        ("w", tiles.w, tiles.pixels.axes[2]),
    ):
        made = axis.filtering
        text += [
            transform_text(f"transform_input_{name}", made.alpha, made.transform_input),
            transform_text(f"transform_output_{name}", made.alpha, made.transform_output),
            phase_text(f"start_{name}", read.origins),
        ]
    return "\n".join(text)
