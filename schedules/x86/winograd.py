"""Winograd's algorithm: alpha^2 matrix products per tile of m x m outputs, alpha = m + r - 1.

    parallel n, g, block of tiles, part of the channel chunks:
        xpad[window][ic] = x, padded, channels last
        for phase:
            v[e][a][b][tile][ic] = Bh xpad[e] Bw                    vectors along ic
            for chunk of output channels:
                for a, b, block of tile_oc channels, tile_t tiles:
                    acc[chain][tile_t][tile_oc / lanes] = 0
                    for kd, e, ic, chain:
                        acc[..][i] += broadcast(v[e][a][b][tile i][ic]) * u[e][ic][0 : tile_oc]
                    gemm[a][b][block][tiles] = acc[0] + acc[1], or the only one
                y[tile] = epilogue(Ah gemm Aw)                      vectors along oc

A direct sum takes m^2 r^2 products where this takes alpha^2: 144 against 36 for F(4x4, 3x3), 252
against 54 for F(7x4, 3x3), whose sums are kept short, in two chains, so that it stays exact.

A stride s takes x apart into s * s images e, each of which meets the taps of its own residue; the
products of all are summed before the way back. 3x3 of stride 2 so takes 81 products for 4x4
outputs: 2x2 taps at most in each of four images, and none at infinity where one tap fewer is left.

Blocks keep v and gemm in the second-level cache; where the weights are larger than that, one block
of the whole map streams them once (Zlateski, Jia, Li and Durand, "The Anatomy of Efficient FFT and
Winograd Convolutions on Modern CPUs", ICS 2019; Lavin and Gray, CVPR 2016). The matrices come from
tvmconv/winograd.py.
"""

from __future__ import annotations

from tvmconv.template import register

from ..nests.winograd import winograd_template

TEMPLATE = register(winograd_template("x86.winograd"))
