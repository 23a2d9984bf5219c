"""CUDA source of a tensor-core kernel: a spec's and a tile's constants before hand-written text."""

from __future__ import annotations

from pathlib import Path

from tvmconv.cuda.code import DeviceCode, Launch
from tvmconv.cuda.gemm.constants import (
    activation_text,
    axis_functions,
    numbers,
    product_constants,
    source_functions,
    staging_constants,
    warpgroup_text,
)
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
}
_WRITTEN = {"stage": "staged", "multiply": "y partial", "reduce": "y"}


def device_code(spec: ConvSpec, product: Product, tile: Tile, symbol: str) -> DeviceCode:
    """Source and launches of ``run``: staging, product, and reduction where they are needed."""
    problem, staging = product.problem, product.staging
    residual = ("residual",) if spec.residual else ()
    body = [_file("tensor_cores.cuh"), _file(f"{spec.dtype}.cuh")]
    body += [numbers(product_constants(spec, product, tile)), axis_functions(product)]
    chunks = "columns.cuh" if product.together else "rows.cuh"
    body += [activation_text(spec)]
    weights = "bulk.cuh" if tile.bulk else "weights.cuh"
    body += map(_file, ("operands.cuh", chunks, "epilogue.cuh", "block.cuh", weights))
    if tile.by_warpgroups:
        body += [warpgroup_text(tile.n, spec.dtype), _file("warpgroups.cuh")]
    else:
        body.append(_file("multiply.cuh"))
    launches, workspace = [], []
    if staging:
        workspace.append(("staged", staging.elems(problem) * CHUNK_BYTES // product.chunk))
        body += [numbers(staging_constants(product)), source_functions(problem), _file("stage.cuh")]
        grid = (stage_blocks(product), 1, 1)
        launches.append(_launch(symbol, "stage", grid, STAGE_THREADS, 0, ("x", "staged")))
    x, shared = "staged" if staging else "x", tile.shared_bytes(product)
    finish = ("packed", *residual, "y") if tile.split == 1 else ("packed", "partial")
    grid = tile.grid(product)
    launches.append(_launch(symbol, "multiply", grid, tile.threads, shared, (x, *finish)))
    if tile.split > 1:
        workspace.append(("partial", tile.partial_bytes(product)))
        body.append(_file("reduce.cuh"))
        grid = (-(-tile.strips(product) // REDUCE_WARPS), 1, 1)
        args = ("packed", *residual, "y", "partial")
        launches.append(_launch(symbol, "reduce", grid, WARP * REDUCE_WARPS, 0, args))
    inner = "\n".join(body)
    entries = "\n".join(_entry(launch, symbol) for launch in launches)
    source = f"namespace {symbol} {{\n\n{inner}\n}}  // namespace {symbol}\n\n{entries}"
    return DeviceCode(source, tuple(launches) if spec.n else (), tuple(workspace))


def declare_written(spec: ConvSpec, problem: Problem, pack: Declaration) -> Declaration:
    """Arguments of a ``run`` that is CUDA text: no stages, nothing to schedule."""
    inputs = arguments(spec, problem, int(pack.placements[0].elems))
    return Declaration(inputs, (), "y")


def _launch(
    symbol: str,
    function: str,
    grid: tuple[int, int, int],
    threads: int,
    shared: int,
    args: tuple[str, ...],
) -> Launch:
    return Launch(f"{symbol}_{function}", grid, (threads, 1, 1), shared, args)


def _entry(launch: Launch, symbol: str) -> str:
    """The ``__global__`` function of a launch: hands what it takes to the hand-written one."""
    function = launch.kernel.removeprefix(f"{symbol}_")
    parameters, passed = [], []
    for name in _PARAMETERS[function]:
        taken = "staged" if name == "x" and "staged" in launch.args else name
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


def _file(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
