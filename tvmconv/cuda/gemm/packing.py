"""Weights in the order in which lanes multiply them: a block's stage is one run of memory.

    packed = [ group, phase, tile of channels, tile of depth, step, 16 channels, lane, register,
               element of the register | bias | scale | shift ]

A step is 32 bytes of depth. Lane l of a step holds channels l / 4 and 8 + l / 4 and, of 16-bit
elements, depths 2 (l % 4) + {0, 1} and 8 more: operand B of mma.m16n8k16 (PTX ISA, "Matrix
Fragments for mma.m16n8k16"). So a warp reads its operands with one 16-byte load per lane.

For wgmma, which reads shared memory itself, a stage is the image of what that has to be: rows of
128 bytes of depth, one per channel, whose chunks of 16 are exchanged by row % 8 (SWIZZLE_128B).

    packed = [ group, phase, tile of channels, tile of depth, channel, place of the chunk, element
             | bias | scale | shift ]
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import te, tirx

from tvmconv.cuda.gemm.product import Product
from tvmconv.cuda.gemm.tile import Tile
from tvmconv.declare.declaration import Declaration, by_phase, flat_index
from tvmconv.declare.form import Output
from tvmconv.declare.packing import declare_packed, kernel_index, moved_dtype, weight_offset
from tvmconv.problem import Problem
from tvmconv.spec import ConvSpec

Expr = Any
LANES, REGISTERS = 32, 4
SWIZZLED_ROWS = 8
# Largest float32 that rounding leaves finite.
TF32_MAX = float.fromhex("0x1.ffep127")


@dataclass(frozen=True)
class PackedForm:
    """Blocks of output channels, as packing of the epilogue's vectors needs them."""

    product: Product
    tile: Tile
    per_lane: bool = False

    @property
    def tile_oc(self) -> int:
        """Output channels of one block."""
        return self.tile.n

    def at(self, index: tuple[Any, ...]) -> Output:
        """Name the parts of an index; nothing of these kernels is stored through TE."""
        raise NotImplementedError

    def channels(self, problem: Problem) -> int:
        """Output channels that share the outer loop over groups."""
        return problem.ocg

    def blocks(self, problem: Problem) -> int:
        """Blocks of channels, rounded up."""
        return self.tile.tiles_n(self.product)

    def weight_elems(self, problem: Problem) -> int:
        """Elements of the packed weight."""
        return prod(self.weight_shape())

    def vector_elems(self, problem: Problem) -> int:
        """Elements of one packed epilogue vector."""
        return problem.g * self.blocks(problem) * self.tile_oc

    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the packed weight, as the module's docstring names its axes."""
        product, tile = self.product, self.tile
        outer = product.problem.g, product.phases, tile.tiles_n(product), tile.tiles_k(product)
        if tile.by_warpgroups:
            return (*outer, tile.n, tile.k // product.chunk, product.chunk)
        steps = tile.k // (2 * product.chunk)
        return (*outer, steps, tile.n // 16, LANES, REGISTERS, product.chunk // 4)


def declare_tiles(spec: ConvSpec, product: Product, tile: Tile) -> Declaration:
    """Declare ``pack``: weight and the epilogue's vectors, to packed."""
    form = PackedForm(product, tile)
    place = _in_rows if tile.by_warpgroups else in_fragments

    def pack_weight(weight: te.Tensor) -> te.Tensor:
        def value(*index: Expr) -> Expr:
            g, phase, tile_n, tile_k, *within = index
            k, n = place(product.chunk, within)
            k, n = tile_k * tile.k + k, tile_n * tile.n + n
            return weight_at(spec, product, weight, g, phase, k, n)

        return te.compute(form.weight_shape(), value, name="packed_weight")

    return declare_packed(spec, product.problem, form, form.weight_shape(), pack_weight)


def in_fragments(chunk: int, within: list[Expr]) -> tuple[Expr, Expr]:
    """Depth and channel within a tile of an element of a lane's registers."""
    step, block, lane, register, part = within
    held = chunk // 4
    n = block * 16 + register // 2 * 8 + lane // 4
    return step * (2 * chunk) + register % 2 * (4 * held) + lane % 4 * held + part, n


def _in_rows(chunk: int, within: list[Expr]) -> tuple[Expr, Expr]:
    """The same of an element of a swizzled row."""
    n, place, part = within
    return (place ^ (n % SWIZZLED_ROWS)) * chunk + part, n


def weight_at(
    spec: ConvSpec, product: Product, weight: te.Tensor, g: Expr, phase: Expr, k: Expr, n: Expr
) -> Expr:
    """Weight of depth ``k`` and channel ``n`` of a slice; 0 where there is none."""
    problem = product.problem
    _, h, w = product.axes
    phases = phase // (h.phases * w.phases), phase // w.phases % h.phases, phase % w.phases
    counts = [by_phase(axis.tap_counts, p) for axis, p in zip(product.axes, phases, strict=True)]
    e, tap = k % product.run, k // product.run
    # Phases without taps divide by nothing; their depth is 0 and the test below fails.
    tap_w, rest = tap % te.max(counts[2], 1), tap // te.max(counts[2], 1)
    tap_h, tap_d = rest % te.max(counts[1], 1), rest // te.max(counts[1], 1)
    valid = [tap_d < counts[0], counts[1] > 0, counts[2] > 0, n < problem.ocg]
    if product.is_folded:
        tap_w, e = e // product.channels, e % product.channels
        valid.append(tap_w < problem.axes[2].taps)
    valid.append(e < problem.icg)
    kernel = (1,) * (3 - spec.rank) + spec.kernel
    index = [
        kernel_index(axis, p, t, size, spec.flip)
        for axis, p, t, size in zip(
            problem.axes, phases, (tap_d, tap_h, tap_w), kernel, strict=True
        )
    ]
    at = weight_offset(spec, problem, g, n, e, flat_index(index, kernel))
    element = weight[at] if spec.dtype != "float32" else _rounded_to_tf32(weight[at])
    return tirx.if_then_else(tirx.all(*valid), element, tirx.const(0, moved_dtype(spec)))


def _rounded_to_tf32(value: Expr) -> Expr:
    """To eleven bits, ties away from zero, as cvt.rna.tf32.f32; infinities and NaN stay."""
    bits = tirx.reinterpret("int32", value)
    rounded = tirx.reinterpret("float32", (bits + 0x1000) & ~0x1FFF)
    return tirx.Select(te.abs(value) <= tirx.const(TF32_MAX, "float32"), rounded, value)
