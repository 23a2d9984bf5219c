"""Winograd's transformed weights in the order in which lanes multiply them.

    packed = [ group, phases, point (a, b) | tile of channels and on, as in packing.py ]

u = Gh w Gw is rounded to the tensors' type, which is what tensor cores multiply.
"""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

from tvmconv.cuda.gemm.packing import PackedForm, in_fragments
from tvmconv.cuda.gemm.tile import Tile
from tvmconv.cuda.gemm.winograd_tiles import Tiles
from tvmconv.declare.declaration import Declaration
from tvmconv.declare.packing import declare_packed, weight_offset
from tvmconv.declare.winograd import combine, weight_tap
from tvmconv.spec import ConvSpec

Expr = Any


def declare_points(spec: ConvSpec, tiles: Tiles, tile: Tile) -> Declaration:
    """Declare ``pack``: u = Gh w Gw in float64, rounded to float32 and then to the spec's type."""
    problem, product = tiles.problem, tiles.product
    form = PackedForm(product, tile)
    h, w = tiles.h, tiles.w

    def pack_weight(weight: te.Tensor) -> te.Tensor:
        def value(*index: Expr) -> Expr:
            at, _, tile_n, tile_k, *within = index
            k, n = in_fragments(product.chunk, within)
            k, n = tile_k * tile.k + k, tile_n * tile.n + n
            kd, ic = k // product.run, k % product.run
            at, b = at // w.filtering.alpha, at % w.filtering.alpha
            at, a = at // h.filtering.alpha, at % h.filtering.alpha
            at, pw = at // w.axis.phases, at % w.axis.phases
            g, ph = at // h.axis.phases, at % h.axis.phases

            def tap(kh: int, kw: int) -> Expr:
                place = weight_tap(spec, problem, (0, ph, pw), (kd, kh, kw))
                element = weight[weight_offset(spec, problem, g, n, ic, place)]
                return element.astype("float64")

            total = combine(h.filtering, w.filtering, a, b, tap)
            exists = tirx.all(kd < tiles.depth.taps, ic < problem.icg, n < problem.ocg)
            rounded = total.astype("float32").astype(spec.dtype)
            return tirx.if_then_else(exists, rounded, tirx.const(0.0, spec.dtype))

        return te.compute(form.weight_shape(), value, name="packed_weight")

    return declare_packed(spec, problem, form, form.weight_shape(), pack_weight)
