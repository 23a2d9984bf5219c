"""Winograd's algorithm: alpha^2 matrix products per tile of m x m outputs, alpha = m + r - 1.

    parallel n, g, block of tiles, part of the channel chunks:
        xpad[window][ic] = x, padded, channels last
        for phase:
            v[a][b][tile][ic] = Bh xpad Bw                          vectors along ic
            for chunk of output channels:
                for a, b, block of tile_oc channels, tile_t tiles:
                    acc[tile_t][tile_oc / lanes] = 0
                    for kd, ic:  acc[i] += broadcast(v[a][b][tile i][ic]) * u[..][ic][0 : tile_oc]
                    gemm[a][b][block][tiles] = acc
                y[tile] = epilogue(Ah gemm Aw)                      vectors along oc

A direct sum takes m^2 r^2 products where this takes alpha^2: 144 against 36 for F(4x4, 3x3). Blocks
keep v and gemm in the second-level cache; where the weights are larger than that, one block of the
whole map streams them once (Zlateski, Jia, Li and Durand, "The Anatomy of Efficient FFT and
Winograd Convolutions on Modern CPUs", ICS 2019; Lavin and Gray, CVPR 2016). The matrices come from
tvmconv/winograd.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tvm import s_tir

from tvmconv.declare import Declaration
from tvmconv.declare.winograd import declare_winograd, declare_winograd_packing
from tvmconv.declare.winograd_form import TiledAxis, WinogradForm
from tvmconv.errors import UnsupportedSpec
from tvmconv.problem import Axis
from tvmconv.space import Config, ConfigSpace, Value
from tvmconv.template import Task, Template, register
from tvmconv.tolerance import get_accuracy
from tvmconv.winograd import POINTS

from .winograd_cost import predicted_cycles
from .winograd_nest import schedule_winograd

# Longest filter per axis; beyond, alpha = 8 leaves fewer than four outputs and rounding grows.
MOST_TAPS = 5
MOST_OUTPUTS = 6
BLOCKS = (*range(1, 17), 19, 23, 28, 38, 56, 75, 112)
TILES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 21, 22, 23, 24, 25, 26, 28)
VECTORS = (1, 2, 3, 4)
CHUNKS = (1, 2, 3, 4, 6, 8, 16)
# v and gemm together; beyond this the process would need more memory than its tensors.
SCRATCH_LIMIT_BYTES = 64_000_000
# Configs that are ranked by the cost model, and tile sizes that differ by axis and are worth it.
SHORTLISTED = 100
PAIRS = ((2, 4), (4, 2))
# A vector for each weight, one for the broadcast, and one that LLVM wants for itself.
SPARE_REGISTERS = 2


def supports(task: Task) -> str | None:
    """Unit stride and two to five taps on at least one of the last two axes."""
    problem = task.problem
    if task.spec.op == "deform_conv":
        return "samples lie on no grid"
    d, h, w = problem.axes
    if d.phases > 1:
        return "transposed convolutions of rank 3 are summed directly"
    for axis in (h, w):
        if axis.stride > 1:
            return "needs stride 1"
        if axis.is_uneven:
            return "the phases differ in taps"
        if axis.taps > MOST_TAPS:
            return f"needs at most {MOST_TAPS} taps along each axis"
    if max(h.taps, w.taps) < 2:
        return "no taps to share products"
    if problem.icg == 1 and problem.g > 1:
        return "depthwise: nothing to multiply but points"
    return None


def space(task: Task) -> ConfigSpace:
    """Tile sizes, how the map is cut into blocks, and the register tile."""
    d, h, w = task.problem.axes
    knobs: dict[str, tuple[Value, ...]] = {
        "m_h": _outputs(h),
        "m_w": _outputs(w),
        "blocks_d": tuple(b for b in BLOCKS if b <= d.out_extent),
        "blocks_h": tuple(b for b in BLOCKS if b <= h.quotients),
        "blocks_w": tuple(b for b in BLOCKS if b <= w.quotients),
        "tile_t": TILES,
        "tile_oc": tuple(v * task.target.lanes for v in VECTORS),
        "chunks": CHUNKS,
        "parts": (1,) if task.threads == 1 else (1, 2, 4, 8, 16),
    }
    return ConfigSpace(knobs, lambda config: invalid(task, config))


def _outputs(axis: Axis) -> tuple[int, ...]:
    """Outputs per tile: all that alpha allows, none beyond the axis' own extent."""
    if axis.taps == 1:
        return (1,)
    most = min(MOST_OUTPUTS, max(POINTS) + 1 - axis.taps, max(2, axis.quotients))
    return tuple(range(2, most + 1))


def invalid(task: Task, config: Config) -> str | None:
    """Why a config cannot be applied, or None."""
    accuracy_limit = get_accuracy(accuracy(task, config)).relative_error
    if accuracy_limit > task.max_error:
        return f"relative error {accuracy_limit:g} above max_error {task.max_error:g}"
    made = form(task, config)
    if made.tiles % made.tile_t:
        return f"tile_t must divide the {made.tiles} tiles of a block"
    vectors = made.tile_oc // task.target.lanes
    held = made.tile_t * vectors
    if held + vectors + SPARE_REGISTERS > task.target.registers:
        return f"{held} accumulators and {vectors} weights exceed {task.target.registers} registers"
    blocks = made.blocks_of_outputs(task.problem)
    asked = tuple(config.integer(f"blocks_{name}") for name in "dhw")
    if blocks != asked:
        return f"{asked} blocks would be {blocks}"
    chunks = made.blocks(task.problem) // made.chunk
    if chunks != config.integer("chunks"):
        return f"the channels make {chunks} chunks"
    if chunks % config.integer("parts"):
        return "parts must divide the chunks"
    if scratch_bytes(task, made) > SCRATCH_LIMIT_BYTES:
        return f"needs more than {SCRATCH_LIMIT_BYTES} bytes of scratch memory"
    return None


def scratch_bytes(task: Task, made: WinogradForm) -> int:
    """Bytes of v and gemm."""
    problem = task.problem
    points = made.h.filtering.alpha * made.w.filtering.alpha * made.tiles
    return (
        4
        * points
        * (made.windows(problem)[0] * made.channels_in(problem) + made.chunk * made.tile_oc)
    )


def form(task: Task, config: Config) -> WinogradForm:
    """Blocks and chunks of equal size, rounded up."""
    problem = task.problem
    d, h, w = problem.axes

    def tiled(name: str, axis: Axis) -> TiledAxis:
        whole = TiledAxis(axis, config.integer(f"m_{name}"), 1)
        return TiledAxis(axis, whole.m, -(-whole.bands // config.integer(f"blocks_{name}")))

    tile_oc = config.integer("tile_oc")
    needed = -(-problem.ocg // tile_oc)
    return WinogradForm(
        depth=-(-d.out_extent // config.integer("blocks_d")),
        h=tiled("h", h),
        w=tiled("w", w),
        tile_t=config.integer("tile_t"),
        tile_oc=tile_oc,
        chunk=-(-needed // config.integer("chunks")),
        stage="pixels" if problem.channels_last else "transposed",
        channels_last=problem.output_channels_last,
        lanes=task.target.lanes,
    )


def accuracy(task: Task, config: Config) -> str:
    """The class of the longer of the two transforms."""
    h, w = (
        (config.integer(f"m_{name}"), axis.taps)
        for name, axis in zip("hw", task.problem.axes[1:], strict=True)
    )
    m, r = max(h, w, key=sum)
    return f"winograd_f{m}_{r}"


def cycles(task: Task, config: Config) -> float:
    """Predicted cycles on one core."""
    return predicted_cycles(task.problem, form(task, config), task.target, config.integer("parts"))


def shortlist(task: Task) -> tuple[Config, ...]:
    """For each tile size and way to cut the map, the register tiles that waste least."""
    _, h, w = task.problem.axes
    found: dict[Config, float] = {}
    for m_h, m_w in product(_outputs(h), _outputs(w)):
        if (m_h, m_w) not in PAIRS and m_h != m_w and 1 not in (m_h, m_w):
            continue
        for blocks in _cuts(task, m_h, m_w):
            for vectors, chunks in product(VECTORS, CHUNKS):
                knobs = {"m_h": m_h, "m_w": m_w, **blocks, "tile_t": 1}
                knobs |= {"tile_oc": vectors * task.target.lanes, "chunks": chunks, "parts": 1}
                config = _widest_tile(task, Config.of(**knobs))
                if config is not None and invalid(task, config) is None:
                    found[config] = cycles(task, config)
    if not found:
        raise UnsupportedSpec(f"x86.winograd: no config fits {task.spec} on {task.target.id}")
    return tuple(sorted(found, key=found.__getitem__)[:SHORTLISTED])


def _cuts(task: Task, m_h: int, m_w: int) -> Iterator[dict[str, int]]:
    """Ways to cut the map into blocks of a size that the second-level cache can hold."""
    d, h, w = task.problem.axes
    bands_h, bands_w = TiledAxis(h, m_h, 1).bands, TiledAxis(w, m_w, 1).bands
    for blocks_h, blocks_w, blocks_d in product(BLOCKS, BLOCKS, BLOCKS):
        if blocks_h <= bands_h and blocks_w <= bands_w and blocks_d <= d.out_extent:
            wide = blocks_w == 1 or blocks_h == bands_h
            if wide and (blocks_d == 1 or blocks_h > 1 or blocks_d == d.out_extent):
                yield {"blocks_d": blocks_d, "blocks_h": blocks_h, "blocks_w": blocks_w}


def _widest_tile(task: Task, config: Config) -> Config | None:
    """The config with the largest tile_t that divides the block's tiles and fits the registers."""
    tiles = form(task, config).tiles
    vectors = config.integer("tile_oc") // task.target.lanes
    most = (task.target.registers - SPARE_REGISTERS - vectors) // vectors
    fitting = [t for t in TILES if t <= most and tiles % t == 0]
    if not fitting:
        return None
    return Config.of(**{**dict(config.items), "tile_t": max(fitting)})


def declare(task: Task, config: Config) -> tuple[Declaration, Declaration]:
    """TE of run and of pack."""
    made = form(task, config)
    return (
        declare_winograd(task.spec, task.problem, made),
        declare_winograd_packing(task.spec, task.problem, made),
    )


def apply(task: Task, config: Config, declaration: Declaration) -> s_tir.Schedule:
    """Schedule run; weights that do not stay in the second-level cache are prefetched."""
    made = form(task, config)
    streamed = 4 * made.weight_elems(task.problem) > task.target.l2_bytes // 2
    parts = config.integer("parts")
    return schedule_winograd(declaration, task.problem, made, parts, prefetch=streamed)


TEMPLATE = register(
    Template(
        id="x86.winograd",
        algorithm="winograd",
        supports=supports,
        space=space,
        default=lambda task: shortlist(task)[0],
        cycles=cycles,
        declare=declare,
        apply=apply,
        accuracy=accuracy,
        shortlist=shortlist,
    )
)
