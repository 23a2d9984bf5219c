"""Deformable sampling in plain torch, by torchvision's rule.

Each tap of each output reads x at (h, w) = (oh * stride - pad + kh * dilation, ...) + offset with
bilinear weights. The sample is 0 when h <= -1, h >= ih, w <= -1 or w >= iw; otherwise each of the
four neighbours that lies inside counts with its weight, so in (-1, 0) and (ih - 1, ih) only a part
of the weight is there (torchvision csrc/ops/cpu/deform_conv2d_kernel.cpp, bilinear_interpolate;
Dai et al. 2017, Zhu et al. 2018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from tvmconv.spec import ConvSpec


def sample_taps(spec: ConvSpec, x: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Sample x under every tap.

    Args:
        spec: a deformable spec, rank 2.
        x: [n, ic, ih, iw].
        offset: [n, offset_groups, kh * kw, 2, oh, ow], y before x, in pixels.

    Returns:
        [n, ic, kh * kw, oh, ow] in the dtype of x.
    """
    base_h, base_w = tap_positions(spec, x.dtype)
    h = base_h + offset[:, :, :, 0]
    w = base_w + offset[:, :, :, 1]
    ih, iw = spec.in_size
    inside = (h > -1) & (h < ih) & (w > -1) & (w < iw)
    # Offsets far outside (or infinite) would overflow the index; their samples are 0 anyway.
    h = torch.where(inside, h, torch.zeros_like(h))
    w = torch.where(inside, w, torch.zeros_like(w))
    h0, w0 = h.floor(), w.floor()
    lh, lw = h - h0, w - w0
    flat = x.reshape(spec.n, spec.offset_groups, spec.ic // spec.offset_groups, ih * iw)
    total = torch.zeros(())
    for row, col, weight in (
        (h0, w0, (1 - lh) * (1 - lw)),
        (h0, w0 + 1, (1 - lh) * lw),
        (h0 + 1, w0, lh * (1 - lw)),
        (h0 + 1, w0 + 1, lh * lw),
    ):
        total = total + weight.unsqueeze(2) * _neighbour(flat, row, col, ih, iw)
    sampled = torch.where(inside.unsqueeze(2), total, torch.zeros_like(total))
    return sampled.flatten(1, 2)


def tap_positions(spec: ConvSpec, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the undeformed row and column of every tap, as [kh * kw, oh, 1] and [kh * kw, 1, ow]."""
    rows, cols = (
        torch.arange(spec.kernel[i])[:, None] * spec.dilation[i]
        + torch.arange(spec.out_size[i]) * spec.stride[i]
        - spec.pads_begin[i]
        for i in (0, 1)
    )
    kh, kw = spec.kernel
    row = rows.repeat_interleave(kw, 0).unsqueeze(-1)
    col = cols.repeat(kh, 1).unsqueeze(-2)
    return row.to(dtype), col.to(dtype)


def _neighbour(
    flat: torch.Tensor, row: torch.Tensor, col: torch.Tensor, ih: int, iw: int
) -> torch.Tensor:
    """Read [n, og, ic/og, taps, oh, ow] at integer positions, 0 outside of the picture."""
    valid = (row >= 0) & (row < ih) & (col >= 0) & (col < iw)
    index = (row.clamp(0, ih - 1) * iw + col.clamp(0, iw - 1)).long()
    n, og, channels = flat.shape[:3]
    spread = index.flatten(2).unsqueeze(2).expand(n, og, channels, -1)
    values = flat.gather(3, spread).reshape(n, og, channels, *index.shape[2:])
    return torch.where(valid.unsqueeze(2), values, torch.zeros_like(values))
