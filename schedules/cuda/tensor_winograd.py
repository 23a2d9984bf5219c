"""Winograd's algorithm on tensor cores: transform, a matrix product per point, transform back.

    threads over tiles and pairs of channels:
        v[a][b] = Bh patch Bw                               registers, float32; stored as float16
    blocks over tiles and channels; group, phase and point; part of the depth:
        sums = v[a][b] times u[a][b]                        implicit_gemm.py's product, mma.sync
    threads over tiles and pairs of channels:
        y = epilogue(Ah sums Aw)                            registers, float32; rounded once

3x3 in tiles of 2x2 takes 16 products in place of 36, and 36 in place of 144 in tiles of 4x4. In
return v has four times the elements of x, or two and a quarter, and the sums as many times those of
y, of four bytes each, all written and read once. That pays where tensor cores are the limit: many
channels on small maps. v and u are rounded to float16, which costs half a thousandth of the largest
result and more: only where ``max_error`` allows it.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tvmconv.cuda.code import DeviceCode
from tvmconv.cuda.gemm.cost import Tilings, staging_cycles, tensor_macs
from tvmconv.cuda.gemm.source import declare_written
from tvmconv.cuda.gemm.winograd import transforms, winograd_code
from tvmconv.cuda.gemm.winograd_packing import declare_points
from tvmconv.cuda.gemm.winograd_tiles import Tiles
from tvmconv.declare import Declaration
from tvmconv.errors import UnsupportedSpec
from tvmconv.space import Columns, Config, ConfigSpace, columns_of
from tvmconv.template import Features, Task, Template, register
from tvmconv.tolerance import get_accuracy, half

from ..nests import staged
from ..nests import winograd as takes
from ..nests.occupancy import as_columns, kernel_cycles
from ..nests.product_cost import gpu_of
from ..nests.staged import MOST_WORKSPACE_BYTES, outputs_of, square, transform_launch, whole
from ..nests.tensor_gemm import FEWEST_CHANNELS, MOST_ELEMS, MOST_SLICES, SHORTLIST
from .implicit_gemm import RECIPE

ID = "cuda.tensor_winograd"
HALF_BYTES, SUM_BYTES = 2.0, 4.0


def supports(task: Task) -> str | None:
    """What Winograd takes, of float16 and 16 channels a group."""
    problem = task.problem
    if task.spec.dtype != "float16":
        return f"multiplies float16, not {task.spec.dtype}"
    if (reason := staged.supports(task)) is not None:
        return reason
    if min(problem.icg, problem.ocg) < FEWEST_CHANNELS:
        return f"tensor cores want {FEWEST_CHANNELS} channels a group"
    _, h, w = problem.axes
    # Larger tiles take less memory; all of them may take too much.
    reasons = [too_large(tiles_of(task, *m)) for m in square(outputs_of(h), outputs_of(w))]
    return reasons[-1] if all(reasons) else None


@lru_cache(maxsize=256)
def tiles_of(task: Task, m_h: int, m_w: int) -> Tiles:
    """The task in tiles of so many outputs."""
    _, h, w = task.problem.axes
    return Tiles(task.problem, whole(h, m_h), whole(w, m_w))


def too_large(tiles: Tiles) -> str | None:
    """Why a buffer, or a grid, would be too large, or None."""
    if tiles.product.slices > MOST_SLICES:
        return f"more than {MOST_SLICES} groups, phases and points"
    staging = tiles.pixels.staging
    if staging is not None and staging.elems(tiles.problem) > MOST_ELEMS:
        return f"the staged input exceeds {MOST_ELEMS} elements"
    size = int(max(HALF_BYTES * tiles.v_elems, SUM_BYTES * tiles.product.problem.y_elems))
    if size > MOST_WORKSPACE_BYTES:
        return f"{size} bytes of workspace exceed {MOST_WORKSPACE_BYTES}"
    return None


def space(task: Task) -> ConfigSpace:
    """Outputs of a tile, and the product's tiles."""
    _, h, w = task.problem.axes
    made = ConfigSpace().define_knob("m_h", outputs_of(h)).define_knob("m_w", outputs_of(w))
    for name, values in product_knobs(task).items():
        made = made.define_knob(name, values)
    return made.where(lambda config: misfit(task, config), lambda columns: fitting(task, columns))


def product_knobs(task: Task) -> dict[str, tuple[int, ...]]:
    """Knobs of the product: those of a 1x1 layer over the tiles."""
    _, h, w = task.problem.axes
    product = tiles_of(task, outputs_of(h)[0], outputs_of(w)[0]).product
    return RECIPE.knobs(product)


def misfit(task: Task, config: Config) -> str | None:
    """Why a config cannot be applied, or None."""
    error = get_accuracy(accuracy(task, config)).relative_error
    if error > allowed_error(task):
        return f"relative error {error:g} above max_error {task.max_error:g}"
    m_h, m_w = config.integer("m_h"), config.integer("m_w")
    if (reason := too_large(tiles_of(task, m_h, m_w))) is not None:
        return reason
    if not bool(tilings(task, m_h, m_w, columns_of([config])).fits[0]):
        return "warps or copies do not divide the tile, or an SM does not take the block"
    return None


def fitting(task: Task, columns: Columns) -> NDArray[np.bool_]:
    """Which rows can be applied."""
    found = np.zeros(len(columns["m_h"]), dtype=bool)
    for m_h, m_w in {(int(h), int(w)) for h, w in zip(columns["m_h"], columns["m_w"], strict=True)}:
        rows = np.flatnonzero((columns["m_h"] == m_h) & (columns["m_w"] == m_w))
        if not is_exact(task, m_h, m_w) or too_large(tiles_of(task, m_h, m_w)) is not None:
            continue
        some = {name: column[rows] for name, column in columns.items()}
        found[rows] = tilings(task, m_h, m_w, some).fits
    return found


def allowed_error(task: Task) -> float:
    """The task's max_error, but never below that of the smallest tiles; `choose` then declines."""
    _, h, w = task.problem.axes
    least = get_accuracy(accuracy_of(task, outputs_of(h)[0], outputs_of(w)[0])).relative_error
    return max(task.max_error, least)


def is_exact(task: Task, m_h: int, m_w: int) -> bool:
    """Whether tiles of so many outputs are allowed."""
    return get_accuracy(accuracy_of(task, m_h, m_w)).relative_error <= allowed_error(task)


def accuracy(task: Task, config: Config) -> str:
    """The class of the longer of the two transforms, with factors rounded to float16."""
    return half(takes.accuracy(task, config))


def accuracy_of(task: Task, m_h: int, m_w: int) -> str:
    """The same by outputs of a tile."""
    return accuracy(task, Config.of(m_h=m_h, m_w=m_w))


def tilings(task: Task, m_h: int, m_w: int, columns: Columns) -> Tilings:
    """What many tilings of the product cost."""
    gpu = gpu_of(task)
    macs = tensor_macs(gpu, task.target.mcpu, int(HALF_BYTES), by_warpgroups=False)
    # Bulk copies are Hopper's, beside wgmma alone.
    named = {**columns, "bulk": np.zeros_like(columns["tile_n"])}
    return Tilings(tiles_of(task, m_h, m_w).product, gpu, macs, named, keeps_sums=True)


@lru_cache(maxsize=64)
def shortlist(task: Task) -> tuple[Config, ...]:
    """The best by predicted cycles, of every size of tiles that is exact enough.

    Raises:
        UnsupportedSpec: there is none.
    """
    knobs = product_knobs(task)
    grid = np.meshgrid(*(np.array(values) for values in knobs.values()), indexing="ij")
    columns = dict(zip(knobs, (axis.ravel() for axis in grid), strict=True))
    _, h, w = task.problem.axes
    found: list[tuple[float, Config]] = []
    for m_h, m_w in square(outputs_of(h), outputs_of(w)):
        if not is_exact(task, m_h, m_w) or too_large(tiles_of(task, m_h, m_w)) is not None:
            continue
        keep = np.flatnonzero(tilings(task, m_h, m_w, columns).fits)
        some = {name: column[keep] for name, column in columns.items()}
        cycles = _all_cycles(task, m_h, m_w, some)
        for at in np.argsort(cycles, kind="stable")[:SHORTLIST]:
            values = {name: int(column[at]) for name, column in some.items()}
            found.append((float(cycles[at]), Config.of(m_h=m_h, m_w=m_w, **values)))
    if not found:
        raise UnsupportedSpec(f"{ID}: no config fits {task.spec} on {task.target.id}")
    return tuple(config for _, config in sorted(found, key=lambda one: one[0])[:SHORTLIST])


def cycles(task: Task, config: Config) -> float:
    """Predicted cycles of all launches."""
    m_h, m_w = config.integer("m_h"), config.integer("m_w")
    return float(_all_cycles(task, m_h, m_w, columns_of([config]))[0])


def _all_cycles(task: Task, m_h: int, m_w: int, columns: Columns) -> NDArray[np.float64]:
    tiles, gpu = tiles_of(task, m_h, m_w), gpu_of(task)
    product = tilings(task, m_h, m_w, columns).cycles
    splits, at = np.unique(columns["split"], return_inverse=True)
    ends = np.array([_transform_cycles(task, tiles, int(split)) for split in splits])
    total: NDArray[np.float64] = product + ends[at.ravel()] + staging_cycles(tiles.pixels, gpu)
    return total


def _transform_cycles(task: Task, tiles: Tiles, split: int) -> float:
    """Cycles of both transforms; what lies between the launches may stay in the cache."""
    problem, gpu, product = tiles.problem, gpu_of(task), tiles.product
    v_bytes = HALF_BYTES * tiles.v_elems
    sums_bytes = SUM_BYTES * split * product.problem.y_elems
    streamed = v_bytes + sums_bytes > task.target.l2_bytes
    weights = HALF_BYTES * product.slices * product.depth * problem.ocg
    data = HALF_BYTES * problem.x_elems, weights + HALF_BYTES * problem.y_elems
    if streamed:
        data = data[0] + 2 * v_bytes, data[1] + 2 * sums_bytes
    outputs = tiles.h.m * tiles.w.m
    threads = product.problem.y_elems // (2 * tiles.points)
    launches = (
        transform_launch(transforms(tiles), tiles.points, tiles.points, data[0], values=2),
        transform_launch(threads, 2 * tiles.points * split, outputs, data[1]),
    )
    return sum(kernel_cycles(gpu, *launch) for launch in launches)


def features(task: Task, configs: Sequence[Config]) -> Features:
    """Columns for the cost model: what the prediction is made of."""
    rows = []
    for config in configs:
        m_h, m_w = config.integer("m_h"), config.integer("m_w")
        tiles, found = tiles_of(task, m_h, m_w), tilings(task, m_h, m_w, columns_of([config]))
        total = cycles(task, config)
        rows.append({
            "log_cycles": np.log(total),
            "product_share": float(found.cycles[0]) / total,
            "registers": float(found.registers[0]),
            "resident": float(found.resident[0]),
            "log_blocks": np.log2(found.blocks[0]),
            "log_depth_tiles": np.log2(found.depth_tiles[0]),
            "points": float(tiles.points),
            "log_v_bytes": np.log2(HALF_BYTES * tiles.v_elems),
            "staged": float(tiles.pixels.staging is not None),
        })  # fmt: skip
    return as_columns(rows)


def declare(task: Task, config: Config) -> tuple[Declaration, Declaration]:
    """Arguments of run, and TE of pack."""
    tiles = tiles_of(task, config.integer("m_h"), config.integer("m_w"))
    pack = declare_points(task.spec, tiles, RECIPE.tile(config))
    return declare_written(task.spec, task.problem, pack), pack


def source(task: Task, config: Config, symbol: str) -> DeviceCode:
    """CUDA text of run and its launches."""
    tiles = tiles_of(task, config.integer("m_h"), config.integer("m_w"))
    return winograd_code(task.spec, tiles, RECIPE.tile(config), symbol)


TEMPLATE = register(
    Template(
        id=ID,
        algorithm="winograd",
        supports=supports,
        space=space,
        default=lambda task: shortlist(task)[0],
        cycles=cycles,
        declare=declare,
        source=source,
        accuracy=accuracy,
        features=features,
        shortlist=shortlist,
    )
)
