"""FFT convolution on NEON by overlap-save tiles, channels or tiles in the lanes.

    parallel group, block of tiles:
        for vector of transforms:       samples, rows, columns to spectrum[bin][part][u]
        for bin, register tile:         product = spectrum * packed[bin][k]      (complex)
        for tile, vector of channels:   columns back, rows back, y[tile] = epilogue(...)

(schedules/nests/fft_nest.py draws it whole.) The work per output grows with the logarithm of the
kernel, not with its taps, so it pays from about 7x7, and for long 1-D kernels. Lanes hold
independent transforms: a butterfly is plain vector arithmetic and nothing is ever shuffled. Tiles
in the manner of Mathieu, Henaff and LeCun, "Fast Training of Convolutional Networks through FFTs"
(2014), and NNPACK's 16x16 transforms.
"""

from __future__ import annotations

from tvmconv.template import register

from ..nests.fft import fft_template

TEMPLATE = register(fft_template("arm.fft"))
