"""Strassen's product of parts, for any dense convolution.

    parallel n, g, block of d, h, w:
        xsum[7][window][ic / 2] = sums of x: of two blocks of pixels, two halves of channels
        for chunk of output channels:
            for r in 7, block of tile_oc channels, tile of pixels:
                acc[pixels][tile_oc / lanes] = 0
                for taps, ic:  acc[i] += broadcast(xsum[r][i at tap][ic]) * w[r][..][0 : tile_oc]
                gemm[r][pixels][tile_oc] = acc
            y[both blocks of pixels][both halves of channels] = epilogue(sums of gemm)

Seven products of eight, 49 of 64 in two levels. What the sums cost falls with the channels and
with the taps that share a sum of x: a 1x1 layer from 1024 to 256 channels at 14x14 gains 9 % by one
level and 14 % by two. Blocks keep sums and products in the second-level cache (Huang, Smith, Henry
and van de Geijn, "Strassen's Algorithm Reloaded", SC 2016, take the sums while they pack a matrix
product; here they are the packing).
"""

from __future__ import annotations

from tvmconv.template import register

from ..nests.strassen import strassen_template

TEMPLATE = register(strassen_template("x86.strassen"))
