"""From a recipe to a template: what the templates on tensor cores do in the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tvmconv.arithmetic import ITEM_BYTES
from tvmconv.cuda.code import DeviceCode
from tvmconv.cuda.gemm.cost import Tilings, tensor_macs
from tvmconv.cuda.gemm.packing import declare_tiles
from tvmconv.cuda.gemm.product import Product, product_of
from tvmconv.cuda.gemm.source import declare_written, device_code
from tvmconv.cuda.gemm.tile import Tile
from tvmconv.declare import Declaration
from tvmconv.errors import UnsupportedSpec
from tvmconv.space import Columns, Config, ConfigSpace, columns_of
from tvmconv.template import Features, Task, Template
from tvmconv.tolerance import TENSOR_CORES, TF32

FEWEST_CHANNELS = 16
# Largest grid along y: groups and phases; and what 32-bit indices count.
MOST_SLICES, MOST_ELEMS = 65535, 2**31 - 1
SPLITS = (1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32)
# How many configs of the space the cost model ranks.
SHORTLIST = 32

Choices = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class TensorGemm:
    """One template's own part.

    Attributes:
        id: template id.
        declines: why this instruction does not do for a task, or None.
        choices: knobs of a tile beside the splits, given elements in 16 bytes. ``warp_n`` is
            ``tile_n`` where it is no knob.
        by_warpgroups: whether four warps multiply together (wgmma).
    """

    id: str
    declines: Callable[[Task], str | None]
    choices: Callable[[int], Choices]
    by_warpgroups: bool = False

    def template(self) -> Template:
        """The template that this recipe describes."""
        return Template(
            id=self.id,
            algorithm="im2col",
            supports=self.supports,
            space=self.space,
            default=self.default,
            cycles=self.cycles,
            declare=self.declare,
            source=self.source,
            accuracy=lambda task, config: TF32 if task.spec.dtype == "float32" else TENSOR_CORES,
            features=self.features,
            shortlist=self.shortlist,
        )

    def supports(self, task: Task) -> str | None:
        """Any forward or transposed spec of 16 channels a group, but for a stem's few inputs."""
        spec, problem = task.spec, task.problem
        if spec.op == "deform_conv":
            return "deformable sampling has a template of its own"
        if problem.ocg < FEWEST_CHANNELS or (problem.g > 1 and problem.icg < FEWEST_CHANNELS):
            return f"tensor cores want {FEWEST_CHANNELS} channels a group"
        if (reason := self.declines(task)) is not None:
            return reason
        product = self.product(task)
        if product.slices > MOST_SLICES:
            return f"more than {MOST_SLICES} groups and phases"
        if product.staging is not None and product.staging.elems(problem) > MOST_ELEMS:
            return f"the staged input exceeds {MOST_ELEMS} elements"
        return None

    @lru_cache(maxsize=256)  # noqa: B019 - recipes are few and live as long as the process
    def product(self, task: Task) -> Product:
        """The task's matrix product; ldmatrix turns matrices of 16-bit elements, wgmma does not."""
        size = ITEM_BYTES[task.spec.dtype]
        return product_of(task.problem, size, turns=size == 2 and not self.by_warpgroups)

    def space(self, task: Task) -> ConfigSpace:
        """Tiles that warps divide and that an SM has registers and shared memory for."""
        space = ConfigSpace()
        for name, values in self.knobs(self.product(task)).items():
            space = space.define_knob(name, values)
        return space.where(
            lambda config: self._misfit(task, config),
            lambda columns: self.tilings(task, columns).fits,
        )

    def knobs(self, product: Product) -> dict[str, tuple[int, ...]]:
        """Choices of a product's tile and splits: no wider and no more than it has use for."""
        knobs = dict(self.choices(product.chunk))
        widest = next((n for n in knobs["tile_n"] if n >= product.problem.ocg), knobs["tile_n"][-1])
        knobs["tile_n"] = tuple(n for n in knobs["tile_n"] if n <= widest)
        deepest = -(-product.depth // knobs["tile_k"][0])
        return knobs | {"split": tuple(s for s in SPLITS if s == 1 or s <= deepest)}

    def tilings(self, task: Task, columns: Columns) -> Tilings:
        """What many configs cost."""
        gpu = task.target.gpu
        assert gpu is not None  # templates of this family are asked about GPUs alone
        size = ITEM_BYTES[task.spec.dtype]
        macs = tensor_macs(gpu, task.target.mcpu, size, self.by_warpgroups)
        # What a template has no knob for.
        named = {"warp_n": columns["tile_n"], "bulk": np.zeros_like(columns["tile_n"]), **columns}
        return Tilings(self.product(task), gpu, macs, named, self.by_warpgroups)

    def _misfit(self, task: Task, config: Config) -> str | None:
        if bool(self.tilings(task, columns_of([config])).fits[0]):
            return None
        return "warps or copies do not divide the tile, or an SM does not take the block"

    @lru_cache(maxsize=64)  # noqa: B019 - recipes are few and live as long as the process
    def shortlist(self, task: Task) -> tuple[Config, ...]:
        """The best by predicted cycles."""
        configs = self.space(task).configs()
        if not len(configs):
            raise UnsupportedSpec(f"{self.id}: no tile fits {task.spec} on {task.target.id}")
        order = np.argsort(self.tilings(task, configs.columns).cycles, kind="stable")
        return tuple(configs[int(at)] for at in order[:SHORTLIST])

    def default(self, task: Task) -> Config:
        """The cheapest by predicted cycles."""
        return self.shortlist(task)[0]

    def cycles(self, task: Task, config: Config) -> float:
        """Predicted cycles of the whole GPU."""
        return float(self.tilings(task, columns_of([config])).cycles[0])

    def features(self, task: Task, configs: Sequence[Config]) -> Features:
        """Columns for the cost model: what the prediction is made of."""
        if not configs:
            return {}
        found = self.tilings(task, columns_of(configs))
        waves = found.blocks / (found.gpu.sms * np.maximum(1, found.resident))
        rows = found.product.rows
        return {
            "log_cycles": np.log(found.cycles),
            "log_blocks": np.log2(found.blocks),
            "warps": found.warps,
            "registers": found.registers,
            "shared_bytes": found.shared_bytes,
            "resident": found.resident,
            "log_waves": np.log2(waves),
            "last_wave": waves / np.ceil(waves),
            "log_depth_tiles": np.log2(found.depth_tiles),
            "log_busy": np.log2(found.busy),
            "log_waiting": np.log2(found.waiting),
            "row_fill": rows / (np.ceil(rows / found["tile_m"]) * found["tile_m"]),
            "staged": np.full(len(configs), float(found.product.staging is not None)),
            "bulk": found["bulk"],
        }

    def tile(self, config: Config) -> Tile:
        """The tile that a config names."""
        n = config.integer("tile_n")
        return Tile(
            m=config.integer("tile_m"),
            n=n,
            k=config.integer("tile_k"),
            warp_m=config.integer("warp_m"),
            warp_n=n if self.by_warpgroups else config.integer("warp_n"),
            stages=config.integer("stages"),
            split=config.integer("split"),
            by_warpgroups=self.by_warpgroups,
            bulk=self.by_warpgroups and bool(config.integer("bulk")),
        )

    def declare(self, task: Task, config: Config) -> tuple[Declaration, Declaration]:
        """Arguments of run, and TE of pack."""
        pack = declare_tiles(task.spec, self.product(task), self.tile(config))
        return declare_written(task.spec, task.problem, pack), pack

    def source(self, task: Task, config: Config, symbol: str) -> DeviceCode:
        """CUDA text of run and its launches."""
        return device_code(task.spec, self.product(task), self.tile(config), symbol)
