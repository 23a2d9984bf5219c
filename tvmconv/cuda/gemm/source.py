"""CUDA source of a tensor-core kernel: a spec's and a tile's constants before hand-written text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tvmconv.cuda.code import DeviceCode, Launch
from tvmconv.cuda.gemm.constants import (
    activation_text,
    axis_functions,
    numbers,
    output_constants,
    product_constants,
    source_functions,
    staging_constants,
    strip_constants,
    warpgroup_text,
)
from tvmconv.cuda.gemm.packing import PackedForm
from tvmconv.cuda.gemm.product import CHUNK_BYTES, Product
from tvmconv.cuda.gemm.staging import STAGE_THREADS, stage_blocks
from tvmconv.cuda.gemm.tile import REDUCE_WARPS, WARP, Tile
from tvmconv.declare.declaration import Declaration
from tvmconv.declare.packing import arguments
from tvmconv.problem import Problem
from tvmconv.spec import ConvSpec

_FOLDER = Path(__file__).parent
# Parameters of the hand-written functions, in their order; which of them a kernel takes depends.
_PARAMETERS = {
    "stage": ("x", "staged"),
    "multiply": ("x", "packed", "residual", "y", "partial"),
    "reduce": ("packed", "residual", "y", "partial"),
    "transform": ("x", "v"),
    "finish": ("packed", "residual", "y", "partial"),
}
_WRITTEN = {
    "stage": "staged",
    "multiply": "y partial",
    "reduce": "y",
    "transform": "v",
    "finish": "y",
}


def device_code(spec: ConvSpec, product: Product, tile: Tile, symbol: str) -> DeviceCode:
    """Source and launches of ``run``: staging, product, and reduction where they are needed."""
    residual = ("residual",) if spec.residual else ()
    form = PackedForm(product, tile)
    constants = strip_constants(product) | output_constants(spec, product.problem, form)
    stores = [numbers(constants), activation_text(spec)]
    stores += map(read_text, ("finish.cuh", "epilogue.cuh"))
    stores.append(read_text("strips.cuh" if tile.split == 1 else "partial.cuh"))
    body = product_text(product, tile, spec.dtype, stores)
    launches, workspace = [], []
    if product.staging:
        body.append(staging_text(product))
        workspace.append(staged_buffer(product))
        launches.append(staging_launch(product, symbol))
    x, shared = "staged" if product.staging else "x", tile.shared_bytes(product)
    finish = ("packed", *residual, "y") if tile.split == 1 else ("packed", "partial")
    grid = tile.grid(product)
    launches.append(launch_of(symbol, "multiply", grid, tile.threads, (x, *finish), shared))
    if tile.split > 1:
        workspace.append(("partial", tile.partial_bytes(product)))
        body.append(read_text("reduce.cuh"))
        grid = (-(-tile.strips(product) // REDUCE_WARPS), 1, 1)
        args = ("packed", *residual, "y", "partial")
        launches.append(launch_of(symbol, "reduce", grid, WARP * REDUCE_WARPS, args))
    source = source_text(symbol, body, launches)
    return DeviceCode(source, tuple(launches) if spec.n else (), tuple(workspace))


def product_text(product: Product, tile: Tile, dtype: str, stores: Sequence[str]) -> list[str]:
    """The product's functions, ``multiply`` last; ``stores`` say where its sums go."""
    body = [read_text("tensor_cores.cuh"), read_text(f"{dtype}.cuh")]
    body += [numbers(product_constants(product, tile)), axis_functions(product)]
    chunks = "columns.cuh" if product.together else "rows.cuh"
    weights = "bulk.cuh" if tile.bulk else "weights.cuh"
    body += [*map(read_text, ("operands.cuh", chunks, "block.cuh", weights)), *stores]
    if tile.by_warpgroups:
        return [*body, warpgroup_text(tile.n, dtype), read_text("warpgroups.cuh")]
    return [*body, read_text("multiply.cuh")]


def staging_text(product: Product) -> str:
    """The function that copies x, and its constants."""
    constants = numbers(staging_constants(product))
    return "\n".join((constants, source_functions(product.problem), read_text("stage.cuh")))


def staged_buffer(product: Product) -> tuple[str, int]:
    """Workspace of the copy of x: name and bytes."""
    assert product.staging is not None
    elems = product.staging.elems(product.problem)
    return "staged", elems * CHUNK_BYTES // product.chunk


def staging_launch(product: Product, symbol: str) -> Launch:
    """The launch that copies x."""
    grid = (stage_blocks(product), 1, 1)
    return launch_of(symbol, "stage", grid, STAGE_THREADS, ("x", "staged"))


def declare_written(spec: ConvSpec, problem: Problem, pack: Declaration) -> Declaration:
    """Arguments of a ``run`` that is CUDA text: no stages, nothing to schedule."""
    inputs = arguments(spec, problem, int(pack.placements[0].elems))
    return Declaration(inputs, (), "y")


def launch_of(
    symbol: str,
    function: str,
    grid: tuple[int, int, int],
    threads: int,
    args: tuple[str, ...],
    shared: int = 0,
) -> Launch:
    """A launch of one of the hand-written functions."""
    return Launch(f"{symbol}_{function}", grid, (threads, 1, 1), shared, args)


def source_text(symbol: str, body: Sequence[str], launches: Sequence[Launch]) -> str:
    """Functions in a namespace of their own, and what is launched behind it."""
    inner = "\n".join(body)
    entries = "\n".join(_entry(launch, symbol) for launch in launches)
    return f"namespace {symbol} {{\n\n{inner}\n}}  // namespace {symbol}\n\n{entries}"


def _entry(launch: Launch, symbol: str) -> str:
    """The ``__global__`` function of a launch: hands what it takes to the hand-written one."""
    function = launch.kernel.removeprefix(f"{symbol}_")
    parameters, passed = [], []
    for name in _PARAMETERS[function]:
        taken = launch.args[0] if name == "x" else name
        passed.append(name if taken in launch.args else "nullptr")
        if taken in launch.args:
            constant = "" if name in _WRITTEN[function].split() else "const "
            kind = "float" if name == "partial" else f"{symbol}::element"
            parameters.append(f"{constant}{kind}* __restrict__ {name}")
    return (
        # One block an SM has to fit; asked for nothing, nvcc spills to fit more.
        f'extern "C" __global__ void __launch_bounds__({launch.threads}, 1)\n'
        f"{launch.kernel}({', '.join(parameters)}) {{\n"
        f"    {symbol}::{function}({', '.join(passed)});\n}}\n"
    )


def read_text(name: str) -> str:
    """Text of a file beside this one."""
    return (_FOLDER / name).read_text(encoding="utf-8")
