"""The general template: a thread per output pixel and a few channels; any legal spec.

    blocks over group, phase, pixel tile, channel block:
        thread over the pixels of a tile:
            acc[tile_oc] = 0
            for k in terms (tap, ic):  acc += x, padded or sampled * packed[k][tile_oc]
            y = epilogue(acc)

No shared memory, no barrier. It is chosen when nothing else takes a spec, and it is the slow twin
that tests compare the others with: same declaration, plainest schedule.
"""

from __future__ import annotations

from tvm import s_tir

from tvmconv.declare import Declaration
from tvmconv.declare.product import ProductForm, declare_product, declare_product_packing
from tvmconv.space import Config, ConfigSpace
from tvmconv.template import Task, Template, register
from tvmconv.tolerance import DIRECT

from ..nests import threads
from ..nests.occupancy import Footprint, Work, kernel_cycles
from ..nests.product_cost import GATHER_INSTRUCTIONS, gpu_of, grid, traffic
from ..nests.takes import anything

# Ranks it behind every template that knows the spec's shape.
PLAIN_FACTOR = 4.0
SIZE = 128


def form_of(config: Config) -> ProductForm:
    """A tile is as wide as the block; terms are not split."""
    return ProductForm(SIZE, config.integer("tile_oc"), 1)


def space(task: Task) -> ConfigSpace:
    """How many channels share what a thread reads."""
    return ConfigSpace().define_knob(
        "tile_oc", tuple(t for t in (1, 2, 4, 8) if t == 1 or t < 2 * task.problem.ocg)
    )


def cycles(task: Task, config: Config) -> float:
    """Predicted cycles of the whole GPU."""
    problem, form = task.problem, form_of(config)
    terms = form.terms(problem)
    read = SIZE * terms * (1 + form.tile_oc / SIZE)
    work = Work(
        multiply_adds=SIZE * form.tile_oc * terms,
        integers=SIZE * (GATHER_INSTRUCTIONS + form.tile_oc) * terms,
        shared_bytes=0.0,
        cached_bytes=4.0 * read,
        independent=form.tile_oc,
        rounds=terms / 4,
    )
    taken = Footprint(SIZE, 32 + form.tile_oc)
    blocks = grid(problem, form)
    return PLAIN_FACTOR * kernel_cycles(gpu_of(task), taken, work, blocks, traffic(task))


def default(task: Task) -> Config:
    """The cheapest by predicted cycles."""
    return min(space(task), key=lambda config: cycles(task, config))


def declare(task: Task, config: Config) -> tuple[Declaration, Declaration]:
    """TE of run and of pack."""
    form = form_of(config)
    return (
        declare_product(task.spec, task.problem, form),
        declare_product_packing(task.spec, task.problem, form),
    )


def apply(task: Task, config: Config, declaration: Declaration) -> s_tir.Schedule:
    """Schedule run."""
    sch = s_tir.Schedule(declaration.prim_func())
    for stage in ("xcol", "weight"):
        sch.compute_inline(sch.get_sblock(stage))
    out, conv = sch.get_sblock("out"), sch.get_sblock("conv")
    *outer, m, v = sch.get_loops(out)
    tile, thread = sch.split(m, [None, SIZE])
    threads.bind_blocks(sch, (*outer, tile))
    sch.bind(thread, "threadIdx.x")
    threads.unroll(sch, v)
    sch.set_scope(conv, 0, "local")
    sch.compute_at(conv, thread, preserve_unit_loops=True)
    *_, v, k = sch.get_loops(conv)
    sch.reorder(k, v)
    threads.unroll(sch, v)
    sch.decompose_reduction(conv, k)
    threads.unroll(sch, sch.get_loops(sch.get_sblock("conv_init"))[-1])
    return sch


TEMPLATE = register(
    Template(
        id="cuda.general",
        algorithm=DIRECT,
        supports=anything,
        space=space,
        default=default,
        cycles=cycles,
        declare=declare,
        apply=apply,
    )
)
