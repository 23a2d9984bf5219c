"""From a recipe to a template: what all templates built on product_nest.py do in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

from tvm import s_tir

from tvmconv.arithmetic import ITEM_BYTES
from tvmconv.declare import Declaration
from tvmconv.declare.product import (
    ProductForm,
    declare_product,
    declare_product_packing,
)
from tvmconv.gpu import WARP, Gpu
from tvmconv.problem import Problem
from tvmconv.space import Config, ConfigSpace, Value
from tvmconv.template import Features, Task, Template
from tvmconv.tolerance import DIRECT

from .occupancy import Work, as_columns, described, kernel_cycles
from .product_cost import (
    GATHER_INSTRUCTIONS,
    add_cycles,
    coalescing,
    covers_more,
    footprint,
    gpu_of,
    grid,
    part_bytes,
    product_work,
    traffic,
)
from .product_nest import ProductNest, schedule_product
from .ranking import cheapest
from .threads import VECTOR

TILE_M = (16, 32, 64, 128, 256)
TILE_OC = (2, 4, 8, 16, 32, 64, 128)
TILE_K = (4, 8, 16, 32)
SLICES = (1, 2, 4, 8, 16)
THREAD_M = (1, 2, 4, 8)
THREAD_OC = (1, 2, 4, 8)
AHEAD = (0, 1)
STAGES = (1, 2, 3, 4)
# Channels below which a step has fewer weights than a block has threads.
FEWEST_OC = 8
# Bytes of the slices' sums: twice would leave the second-level cache of most GPUs.
MOST_PART_BYTES = 1 << 24
MOST_THREADS = 512
# Blocks for each processor above which slices are not tried.
MOST_WAVES = 2
# Elements of one factor that a thread copies per step: all are on their way at once.
MOST_COPIES = 16


@dataclass(frozen=True)
class ProductRecipe:
    """One template's own part.

    Attributes:
        id: template id.
        supports: reason why not, or None.
        gather: instructions of reading one element of x.
        reads: elements that are read of the tensors for one element of the product's factor.
        algorithm: what ``algorithm=`` selects.
    """

    id: str
    supports: Callable[[Task], str | None]
    gather: float = GATHER_INSTRUCTIONS
    reads: float = 1.0
    algorithm: str = DIRECT

    def template(self) -> Template:
        """The template that this recipe describes."""
        return Template(
            id=self.id,
            algorithm=self.algorithm,
            supports=self.supports,
            space=self.space,
            default=self.default,
            cycles=self.cycles,
            declare=self.declare,
            apply=self.apply,
            features=self.features,
            shortlist=self.shortlist,
        )

    def space(self, task: Task) -> ConfigSpace:
        """Tiles whose threads, registers and shared memory a GPU has."""
        tiles = define_tiles(ConfigSpace(), task.problem, stages_of_x(task))
        return tiles.define_knob("slices", SLICES).where(lambda config: invalid(config, task))

    def configs(self, task: Task) -> Iterator[Config]:
        """All valid configs."""
        knobs, problem = self.space(task).knobs, task.problem
        nest = threads_along(problem)
        *tiles, slices = knobs.values()
        for values in valid_tiles(gpu_of(task), tuple(tiles), *nest):
            whole = Config(tuple(zip(knobs, (*values, 1), strict=True)))
            if too_few_steps(whole, form_of(whole).terms(problem)) is not None:
                continue
            yield whole
            if grid(problem, form_of(whole)) > MOST_WAVES * gpu_of(task).sms:
                continue
            for count in slices[1:]:
                config = Config((*whole.items[:-1], ("slices", count)))
                if too_fine(config, problem) is None:
                    yield config

    @lru_cache(maxsize=64)  # noqa: B019 - recipes are few and live as long as the process
    def shortlist(self, task: Task) -> tuple[Config, ...]:
        """The best by predicted cycles."""
        return cheapest(self.id, task, self.configs(task), self.cycles)

    def default(self, task: Task) -> Config:
        """The cheapest by predicted cycles."""
        return self.shortlist(task)[0]

    def cycles(self, task: Task, config: Config) -> float:
        """Predicted cycles of the whole GPU."""
        problem, gpu = task.problem, gpu_of(task)
        form, nest = sliced_form(config, problem), nest_of(config, task)
        added = add_cycles(gpu, problem, form) if form.slices > 1 else 0.0
        taken, work = footprint(form, nest), self.work(task, form, nest)
        data = traffic(task) * self.reads
        return added + kernel_cycles(gpu, taken, work, grid(problem, form), data)

    def work(self, task: Task, form: ProductForm, nest: ProductNest) -> Work:
        """What a block does."""
        spread = coalescing(task.problem, form, nest) * self.reads
        size = ITEM_BYTES[task.spec.dtype]
        terms = form.terms(task.problem) // form.slices
        return product_work(gpu_of(task), form, nest, terms, self.gather, size, spread)

    def features(self, task: Task, configs: Sequence[Config]) -> Features:
        """Columns for the cost model: what the prediction is made of."""
        return as_columns([self._features(task, config) for config in configs])

    def _features(self, task: Task, config: Config) -> dict[str, float]:
        form, nest = sliced_form(config, task.problem), nest_of(config, task)
        work = self.work(task, form, nest)
        return described(gpu_of(task), footprint(form, nest), work, grid(task.problem, form))

    def declare(self, task: Task, config: Config) -> tuple[Declaration, Declaration]:
        """TE of run and of pack."""
        form = sliced_form(config, task.problem)
        return (
            declare_product(task.spec, task.problem, form),
            declare_product_packing(task.spec, task.problem, form),
        )

    def apply(self, task: Task, config: Config, declaration: Declaration) -> s_tir.Schedule:
        """Schedule run."""
        form = sliced_form(config, task.problem)
        return schedule_product(declaration, form, nest_of(config, task))


def stages_of_x(task: Task) -> tuple[int, ...]:
    """Stages to choose from where x is copied as it is, zeros around it; one where it is not."""
    spec = task.spec
    copied = spec.dtype == "float32" and spec.op != "deform_conv" and task.problem.pad_value == 0
    return STAGES if copied and gpu_of(task).async_copies else STAGES[:1]


def define_tiles(space: ConfigSpace, problem: Problem, stages: tuple[int, ...]) -> ConfigSpace:
    """The space with the knobs of a product; channels up to the first tile that holds all.

    ``stages`` is a knob where there is a choice.
    """
    widest = next((t for t in TILE_OC if t >= max(problem.ocg, FEWEST_OC)), TILE_OC[-1])
    made = (
        space.define_knob("tile_m", TILE_M)
        .define_knob("tile_oc", tuple(t for t in TILE_OC if t <= widest))
        .define_knob("tile_k", TILE_K)
        .define_knob("thread_m", THREAD_M)
        .define_knob("thread_oc", tuple(t for t in THREAD_OC if t <= widest))
        .define_knob("ahead", AHEAD)
    )
    return made.define_knob("stages", stages) if len(stages) > 1 else made


def form_of(config: Config) -> ProductForm:
    """The part of a config that changes the compute."""
    return ProductForm(
        config.integer("tile_m"), config.integer("tile_oc"), config.integer("tile_k")
    )


def sliced_form(config: Config, problem: Problem) -> ProductForm:
    """The same with the slices of its terms."""
    pixels_inside, _ = threads_along(problem)
    return replace(form_of(config), slices=config.integer("slices"), pixels_last=pixels_inside)


def nest_of(config: Config, task: Task) -> ProductNest:
    """Threads run along what lies together in memory."""
    problem = task.problem
    nest = nest_for(config, *threads_along(problem), x_together=pixels_together(task))
    whole = problem.y.c == 1 and problem.ocg % VECTOR == 0 and nest.thread_oc % VECTOR == 0
    return replace(nest, whole_vectors=whole)


def threads_along(problem: Problem) -> tuple[bool, bool]:
    """Whether threads run over pixels fastest when they write y, and over terms to read x."""
    return not problem.output_channels_last, problem.channels_last and problem.icg > 1


def pixels_together(task: Task) -> bool:
    """Whether four pixels of a tile lie side by side in x: 1x1 layers that skip no pixel."""
    spec, problem, x = task.spec, task.problem, task.problem.x
    if spec.dtype != "float32" or spec.op == "deform_conv" or threads_along(problem)[1]:
        return False
    plain = all(axis.is_plain for axis in problem.axes) and x.space[2] == 1
    outer = zip(problem.axes[:2], x.space[:2], strict=True)
    rows = (stride for axis, stride in outer if axis.out_extent > 1)
    steps = (problem.axes[2].quotients, x.n, x.g, x.c, *rows)
    return plain and all(step % VECTOR == 0 for step in steps)


def nest_for(
    config: Config,
    pixels_inside: bool,
    terms_inside: bool,
    pixels_last: bool = False,
    x_together: bool = False,
) -> ProductNest:
    """The nest of a config, with vectors of weights and of x where they come out even."""
    form = form_of(config)
    made = ProductNest(
        thread_m=config.integer("thread_m"),
        thread_oc=config.integer("thread_oc"),
        pixels_inside=pixels_inside,
        terms_inside=terms_inside,
        pixels_last=pixels_last,
        ahead=bool(config.integer("ahead")),
        stages=stages_of(config),
    )
    threads = max(1, made.threads(form))
    x_whole = x_together and form.tile_m * form.tile_k / threads % VECTOR == 0
    whole = form.tile_oc % VECTOR == 0 and form.tile_oc * form.tile_k / threads % VECTOR == 0
    return replace(made, weight_vector=VECTOR if whole else 1, x_vector=VECTOR if x_whole else 1)


def stages_of(config: Config) -> int:
    """Steps in shared memory: one where a space has no such knob."""
    return config.integer("stages") if any(name == "stages" for name, _ in config.items) else 1


def invalid(config: Config, task: Task) -> str | None:
    """Why a config cannot be applied, or None."""
    reason = too_fine(config, task.problem)
    return reason or invalid_tiles(config, nest_of(config, task), gpu_of(task))


def too_fine(config: Config, problem: Problem) -> str | None:
    """Why the terms cannot be cut so, or None."""
    form = sliced_form(config, problem)
    if form.slices > 1 and form.terms(problem) < 2 * form.slices * form.tile_k:
        return f"{form.slices} slices of less than two steps"
    if form.slices > 1 and part_bytes(problem, form) > MOST_PART_BYTES:
        return f"sums of {form.slices} slices exceed {MOST_PART_BYTES} bytes"
    return too_few_steps(config, form.terms(problem) // form.slices)


def too_few_steps(config: Config, terms: int) -> str | None:
    """Why so many terms do not fill the stages, or None."""
    stages, steps = stages_of(config), terms // config.integer("tile_k")
    return f"{stages} stages of {steps} steps" if stages > max(1, steps) else None


def invalid_tiles(config: Config, nest: ProductNest, gpu: Gpu) -> str | None:
    """Why no block of the GPU can work on the tiles so, or None."""
    form = form_of(config)
    if form.tile_m < nest.thread_m or form.tile_oc < nest.thread_oc:
        return "a thread's part exceeds its tile"
    if nest.ahead and nest.stages > 1:
        return "what is copied in stages does not go through registers"
    threads = nest.threads(form)
    if threads % WARP or threads > MOST_THREADS:
        return f"{threads} threads are no whole warps up to {MOST_THREADS}"
    # ptxas wants 32 blocks of one warp on an SM: 64 registers, and it spilled at 16 copies.
    most = MOST_COPIES if threads > WARP else MOST_COPIES // 2
    for name, tile in (("x", form.tile_m), ("weights", form.tile_oc)):
        each = form.tile_k * tile / threads
        if each not in range(1, most + 1):
            return f"{each:g} {name} for each thread and step are not 1 to {most}"
    return footprint(form, nest).misfit(gpu)


@lru_cache(maxsize=64)
def valid_tiles(
    gpu: Gpu, choices: tuple[tuple[Value, ...], ...], pixels_inside: bool, terms_inside: bool
) -> tuple[tuple[Value, ...], ...]:
    """Combinations of the knobs of ``define_tiles`` that the GPU takes, worth a prediction.

    Not those with more stages than cover the latency: by prediction they only cost memory.
    """
    names = ("tile_m", "tile_oc", "tile_k", "thread_m", "thread_oc", "ahead", "stages")
    found = []
    for values in product(*choices):
        config = Config(tuple(zip(names[: len(values)], values, strict=True)))
        nest = nest_for(config, pixels_inside, terms_inside)
        if invalid_tiles(config, nest, gpu) is None and covers_more(gpu, form_of(config), nest):
            found.append(values)
    return tuple(found)
