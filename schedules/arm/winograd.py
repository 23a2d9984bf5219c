"""Winograd's algorithm on NEON: alpha^2 matrix products per tile of m x m outputs.

    parallel n, g, block of tiles, part of the channel chunks:
        xpad[ic / 4][window][4] = x, padded                         four channels woven by st4
        for phase:
            v[tile / tile_t][a][b][tile_t][ic] = Bh xpad Bw         vectors along ic
            for chunk of output channels:
                for a, b, block of tile_oc channels, tile_t tiles:
                    acc[tile_t][tile_oc / 4] = 0                    4 tiles, 4 vectors: 16 registers
                    for kd, ic by 16:
                        w = u[..][ic][0 : tile_oc], i = v[..][t][ic : ic + 8]       ldp each
                        acc[t] += w * i.lane                        fmla by element
                    gemm[block][tile / tile_t][a][b][tile_t] = acc
                y[channel][row] = epilogue(Ah gemm Aw)              taken apart by ld4

All points of a register tile's tiles lie within 64 KB, as far as a load reaches from a pointer:
with 50 KB between points, a transform kept 36 addresses. 3x3, 64 channels at 56x56, F(4x4):
10.5 M instructions, of which 7.2 M are products; ncnn 10.55 M. The algorithm is Lavin and Gray's
(CVPR 2016), the blocking that of Zlateski et al. (ICS 2019), the matrices tvmconv/winograd.py's.
"""

from __future__ import annotations

from tvmconv.template import register

from ..nests.winograd import winograd_template

TEMPLATE = register(winograd_template("arm.winograd"))
