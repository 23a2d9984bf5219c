"""One convolution layer as a torch module, as a careful user would write it for deployment."""

import torch
from torch import nn
from torch.nn import functional

from tvmconv.bench.plain import Plain
from tvmconv.reference import FORWARD, TRANSPOSED, activate, pad
from tvmconv.spec import ConvSpec


def module(plain: Plain) -> nn.Module:
    """The layer with its weights; it takes x, then residual, offset and mask where it has them."""
    kind = Deformable if plain.spec.op == "deform_conv" else Layer
    return kind(plain).eval()


def inputs(plain: Plain) -> tuple[torch.Tensor, ...]:
    """What the module takes."""
    arrays = (plain.x, plain.residual, plain.offset, plain.mask)
    return tuple(torch.from_numpy(array) for array in arrays if array is not None)


class Layer(nn.Module):
    """A forward or transposed convolution with its epilogue."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, plain: Plain) -> None:
        super().__init__()
        self.spec = plain.spec
        self.register_buffer("weight", torch.from_numpy(plain.weight))
        self.register_buffer("bias", _bias(plain))

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve and finish."""
        value = self._convolve(x)
        return activate(self.spec, value if residual is None else value + residual)

    def _convolve(self, x: torch.Tensor) -> torch.Tensor:
        spec = self.spec
        symmetric = spec.pads_begin == spec.pads_end and min(spec.pads_begin) >= 0
        if spec.op == "conv_transpose":
            value = TRANSPOSED[spec.rank - 1](
                x,
                self.weight,
                self.bias,
                stride=spec.stride,
                padding=spec.pads_begin if symmetric else 0,
                output_padding=spec.output_padding if symmetric else 0,
                groups=spec.groups,
                dilation=spec.dilation,
            )
            return value if symmetric else _crop(spec, value)
        in_place = symmetric and spec.padding_mode == "zeros"
        return FORWARD[spec.rank - 1](
            x if in_place else pad(spec, x, spec.pad_value),
            self.weight,
            self.bias,
            stride=spec.stride,
            padding=spec.pads_begin if in_place else 0,
            dilation=spec.dilation,
            groups=spec.groups,
        )


class Deformable(nn.Module):
    """Deformable convolution as users write it without torchvision's operator."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    rows: torch.Tensor
    cols: torch.Tensor

    def __init__(self, plain: Plain) -> None:
        super().__init__()
        self.spec = spec = plain.spec
        weight = torch.from_numpy(plain.weight)
        self.register_buffer("weight", weight.reshape(1, spec.groups, spec.oc // spec.groups, -1))
        self.register_buffer("bias", _bias(plain))
        rows, cols = (_undeformed(spec, i) for i in (0, 1))
        self.register_buffer("rows", rows[:, None, :, None].expand(-1, spec.kernel[1], -1, 1))
        self.register_buffer("cols", cols[None, :, None, :].expand(spec.kernel[0], -1, 1, -1))

    def forward(self, x: torch.Tensor, *extras: torch.Tensor) -> torch.Tensor:
        """Sample, multiply and finish; the extras are residual, offset and mask."""
        spec = self.spec
        residual = extras[0] if spec.residual else None
        offset, mask = extras[int(spec.residual)], extras[-1] if spec.mask else None
        groups, taps, (oh, ow) = spec.offset_groups, spec.kernel[0] * spec.kernel[1], spec.out_size
        offset = offset.reshape(spec.n * groups, taps, 2, oh, ow)
        grid = torch.stack(
            [
                _normalised(offset[:, :, 1] + self.cols.reshape(taps, 1, ow), spec.in_size[1]),
                _normalised(offset[:, :, 0] + self.rows.reshape(taps, oh, 1), spec.in_size[0]),
            ],
            dim=-1,
        )
        columns = functional.grid_sample(
            x.reshape(spec.n * groups, spec.ic // groups, *spec.in_size),
            grid.reshape(spec.n * groups, taps * oh, ow, 2),
            align_corners=False,
        ).reshape(spec.n, groups, spec.ic // groups, taps, oh, ow)
        if mask is not None:
            columns = columns * mask.reshape(spec.n, groups, 1, taps, oh, ow)
        value = self.weight @ columns.reshape(spec.n, spec.groups, -1, oh * ow)
        value = value.reshape(spec.n, spec.oc, oh, ow)
        if self.bias is not None:
            value = value + self.bias.reshape(1, -1, 1, 1)
        return activate(spec, value if residual is None else value + residual)


def _undeformed(spec: ConvSpec, axis: int) -> torch.Tensor:
    """Input coordinate of each tap and output along an axis: [k, out]."""
    taps = torch.arange(spec.kernel[axis], dtype=torch.float32) * spec.dilation[axis]
    outputs = torch.arange(spec.out_size[axis], dtype=torch.float32) * spec.stride[axis]
    return taps[:, None] + outputs - spec.pads_begin[axis]


def _normalised(position: torch.Tensor, size: int) -> torch.Tensor:
    """A pixel coordinate as grid_sample wants it with align_corners=False."""
    return (2 * position + 1) / size - 1


def _crop(spec: ConvSpec, value: torch.Tensor) -> torch.Tensor:
    """Asymmetric padding of a transposed convolution crops its full result."""
    amounts: list[int] = []
    for axis in reversed(range(spec.rank)):
        amounts += (-spec.pads_begin[axis], spec.output_padding[axis] - spec.pads_end[axis])
    return functional.pad(value, amounts)


def _bias(plain: Plain) -> torch.Tensor | None:
    return None if plain.bias is None else torch.from_numpy(plain.bias)
