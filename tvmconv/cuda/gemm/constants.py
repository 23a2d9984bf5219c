"""What the hand-written kernels take from a spec and a tile: numbers, and small functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd, prod

from tvm import tirx

from tvmconv.cuda.gemm.packing import PackedForm
from tvmconv.cuda.gemm.product import Product
from tvmconv.cuda.gemm.staging import STAGE_THREADS, stage_shape, stage_vector
from tvmconv.cuda.gemm.text import function_text
from tvmconv.cuda.gemm.tile import REDUCE_WARPS, STRIP_PAD, Tile
from tvmconv.declare.activation import activate
from tvmconv.problem import Problem, Strides
from tvmconv.spec import ConvSpec

_AXES = "DHW"


def numbers(values: Mapping[str, int | float]) -> str:
    """A constant per line."""
    kinds = {int: "int", bool: "bool", float: "float"}
    return "".join(f"constexpr {kinds[type(v)]} {k} = {_literal(v)};\n" for k, v in values.items())


def _literal(value: int | float) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.9e}f" if isinstance(value, float) else str(value)


def product_constants(product: Product, tile: Tile) -> dict[str, int | float]:
    """Extents and strides of x, and sizes of tiles."""
    chunks = tile.k // product.chunk
    found: dict[str, int | float] = {
        "TILE_M": tile.m, "TILE_N": tile.n, "TILE_K": tile.k,
        "WARP_M": tile.warp_m, "WARP_N": tile.warp_n, "STAGES": tile.stages, "SPLIT": tile.split,
        "TILES_N": tile.tiles_n(product), "TILES_K": tile.tiles_k(product),
        "TILES": tile.grid(product)[0], "STRIPS_PER_SPLIT": tile.strips(product),
        "CHUNK": product.chunk, "ROW_CHUNKS": chunks,
        "PASS": tile.threads // chunks, "A_COPIES": tile.m * chunks // tile.threads,
        "RUN": product.run, "RUN_FILLED": product.filled,
        "PIXELS": product.rows, "PHASES": product.phases,
    }  # fmt: skip
    for i, (name, axis) in enumerate(zip(_AXES, product.axes, strict=True)):
        found |= {
            f"PIXELS_{name}": axis.quotients, f"PHASES_{name}": axis.phases,
            f"STRIDE_{name}": axis.stride, f"STEP_{name}": axis.step,
            f"IN_{name}": axis.in_extent,
            f"PADDED_{name}": product.is_guarded(i),
        }  # fmt: skip
    if tile.bulk:
        found["ARRIVALS_AT"] = tile.arrivals_at(product)
    if tile.split > 1:
        found["REDUCE_WARPS"] = REDUCE_WARPS
    x = stride_constants("X", product.x)
    if product.together:
        found["TOGETHER"] = product.together
    else:
        del x["X_C"]  # 1, or x would have been staged
    return found | x


def strip_constants(product: Product) -> dict[str, int | float]:
    """How strips of sums go through shared memory to y."""
    channels_last, stored = product.problem.y.c == 1, stored_at_once(product)
    return {
        "STRIP_PAD": STRIP_PAD, "CHANNELS_LAST": channels_last, "STORED": stored,
        "OWN_CHANNELS": stored if channels_last else 1, "Y_ROW": row_stride(product),
    }  # fmt: skip


def output_constants(spec: ConvSpec, problem: Problem, form: PackedForm) -> dict[str, int | float]:
    """Extents and strides of y, and where the epilogue's vectors are."""
    found: dict[str, int | float] = {
        "CHANNELS": problem.ocg, "CHANNELS_PADDED": form.blocks(problem) * form.tile_oc,
        "VECTORS_AT": form.weight_elems(problem), "VECTOR_ELEMS": form.vector_elems(problem),
        "HAS_BIAS": spec.bias, "HAS_SCALE": spec.scale_shift, "HAS_RESIDUAL": spec.residual,
    }  # fmt: skip
    for name, axis in zip(_AXES, problem.axes, strict=True):
        found[f"OUT_{name}"] = axis.out_extent
    return found | stride_constants("Y", problem.y)


def stride_constants(name: str, strides: Strides) -> dict[str, int]:
    """Strides of a tensor as constants of that name."""
    values = {"N": strides.n, "G": strides.g, "C": strides.c}
    values |= dict(zip(_AXES, strides.space, strict=True))
    return {f"{name}_{letter}": value for letter, value in values.items()}


def stored_at_once(product: Product) -> int:
    """Elements of y that one lane stores: channels of a pixel, or pixels of a channel."""
    problem, y = product.problem, product.problem.y
    outer = [(y.n, problem.n), (y.g, problem.g)]
    if y.c == 1:
        space = zip(y.space, (axis.out_extent for axis in problem.axes), strict=True)
        strides = [stride for stride, extent in (*outer, *space) if extent > 1]
        return gcd(product.chunk, problem.ocg, *strides)
    if plane_stride(product) != 1:
        return 1
    plane = prod(axis.out_extent for axis in problem.axes)
    strides = [stride for stride, extent in ((y.c, problem.ocg), *outer) if extent > 1]
    return gcd(product.chunk, plane, *strides)


def plane_stride(product: Product) -> int:
    """Distance in y of neighbouring rows of the product within an image, or 0 where it varies."""
    if product.phases > 1:
        return 0
    inner, stride = 1, 0
    for axis, own in zip(product.problem.axes[::-1], product.problem.y.space[::-1], strict=True):
        if axis.out_extent == 1:
            continue
        stride = stride or own // inner
        if own != stride * inner:
            return 0
        inner *= axis.out_extent
    return stride or 1


def row_stride(product: Product) -> int:
    """The same over the whole batch."""
    problem, stride = product.problem, plane_stride(product)
    plane = prod(axis.out_extent for axis in problem.axes)
    return stride if problem.n <= 1 or problem.y.n == stride * plane else 0


def axis_functions(product: Product) -> str:
    """Origin and number of taps of each axis by phase."""
    lines = []
    for name, axis in zip(_AXES.lower(), product.axes, strict=True):
        # A phase without taps sums nothing: one of its axes says 0, which nothing divides by.
        lines.append(phase_text(f"origin_{name}", axis.origins))
        lines.append(phase_text(f"taps_{name}", axis.tap_counts))
    return "".join(lines)


def phase_text(name: str, values: Sequence[int]) -> str:
    """A function that gives the value of a phase."""
    text = str(values[-1])
    if len(set(values)) > 1:
        for phase in range(len(values) - 2, -1, -1):
            text = f"phase == {phase} ? {values[phase]} : {text}"
    return f"__device__ inline int {name}(int phase) {{ return {text}; }}\n"


def warpgroup_text(n: int, dtype: str) -> str:
    """``sums[64][n] += a[64][16] * b[16][n]`` of a warpgroup, operands by their descriptors."""
    kind = {"float16": "f16", "bfloat16": "bf16"}[dtype]
    count = n // 2
    registers = ", ".join(f"%{i}" for i in range(count))
    bound = ", ".join(f'"+f"(sums[{i // 4}][{i % 4}])' for i in range(count))
    return f"""__device__ inline void multiply_add(float (&sums)[{n // 8}][4], unsigned long long a,
                                    unsigned long long b) {{
    asm volatile("{{ .reg .pred added; setp.ne.b32 added, %{count + 2}, 0; "
                 "wgmma.mma_async.sync.aligned.m64n{n}k16.f32.{kind}.{kind} "
                 "{{{registers}}}, %{count}, %{count + 1}, added, 1, 1, 0, 0; }}"
                 : {bound}
                 : "l"(a), "l"(b), "r"(1));
}}
"""


def activation_text(spec: ConvSpec) -> str:
    """The spec's activation as a function of one value."""
    value = tirx.Var("value", "float32")
    body = activate(value, spec.activation, spec.activation_args)
    return function_text("activate", value, body) + "\n"


def staging_constants(product: Product) -> dict[str, int | float]:
    """Sizes of x, of its copy, and of the blocks that copy it."""
    problem, staging = product.problem, product.staging
    assert staging is not None
    channels, columns = stage_shape(staging)
    found: dict[str, int | float] = {
        "STAGE_C": channels, "STAGE_W": columns, "STAGE_THREADS": STAGE_THREADS,
        "STAGE_VECTOR": stage_vector(product, staging),
        "STAGED_N": max(1, problem.n), "STAGED_C": staging.channels, "STAGED_FROM": problem.icg,
        "PAD_VALUE": float(problem.pad_value),
    }  # fmt: skip
    for i, (name, axis) in enumerate(zip(_AXES, problem.axes, strict=True)):
        found |= {f"STAGED_{name}": staging.extents[i], f"EVERY_{name}": staging.every[i]}
        found[f"LOW_{name}"] = axis.low
    return found | stride_constants("FROM", problem.x)


def source_functions(problem: Problem) -> str:
    """Where along an axis of x a padded coordinate is read; -1 where it is outside."""
    lines = []
    for name, axis in zip(_AXES.lower(), problem.axes, strict=True):
        last = axis.in_extent - 1
        mapped = _MAPPED.get(problem.padding_mode) if axis.is_padded else None
        if mapped is None:
            body = f"return at < 0 || at > {last} ? -1 : at;"
        else:
            # Columns beyond the last real output are read by nobody, but lie inside x.
            body = f"{mapped.format(last=last, size=axis.in_extent)} "
            body += f"return at < 0 ? 0 : at > {last} ? {last} : at;"
        lines.append(f"__device__ inline int source_{name}(int at) {{ {body} }}\n")
    return "".join(lines)


_MAPPED = {
    "reflect": "at = at < 0 ? -at : at; at = at > {last} ? 2 * {last} - at : at;",
    "replicate": "",
    "circular": "at = at < 0 ? at + {size} : at; at = at > {last} ? at - {size} : at;",
}
