"""torch as a peer: each way a careful user would run one convolution layer with it.

All of them run under `inference_mode`, with batch norm folded into the weights and with the input
already in the memory order the peer likes best; only the layer itself is timed.

| name                     | how                                                        |
|--------------------------|------------------------------------------------------------|
| torch_nchw               | contiguous input and weight                                |
| torch_channels_last      | both in channels_last (channels_last_3d); ranks 2 and 3    |
| torch_frozen             | jit.trace, freeze, optimize_for_inference                  |
| torch_grid_sample        | deformable: grid_sample under every tap, then a product    |
| torch_grid_sample_frozen | the same, frozen                                           |
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from tvmconv.operands import Operands
from tvmconv.reference import (
    FORWARD,
    TRANSPOSED,
    Array,
    activate,
    canonical_weight,
    from_canonical,
    pad,
    to_canonical,
)
from tvmconv.spec import ConvSpec

Call = Callable[[], torch.Tensor]
NAMES = (
    "torch_nchw",
    "torch_channels_last",
    "torch_frozen",
    "torch_grid_sample",
    "torch_grid_sample_frozen",
)


def names_for(spec: ConvSpec) -> tuple[str, ...]:
    """The torch peers that make sense for a spec."""
    if spec.op == "deform_conv":
        return ("torch_grid_sample", "torch_grid_sample_frozen")
    if spec.rank == 1:
        return ("torch_nchw", "torch_frozen")
    return ("torch_nchw", "torch_channels_last", "torch_frozen")


def prepare(name: str, spec: ConvSpec, operands: Operands) -> Call:
    """Build one peer's layer and return the call that is timed; it gives [n, oc, *out]."""
    x = torch.from_numpy(
        to_canonical(operands.x, spec.in_layout, spec.n, spec.ic, spec.groups, spec.in_size)
    ).contiguous()
    layer: nn.Module = (
        _Deformable(spec, operands) if "grid_sample" in name else _Layer(spec, operands)
    )
    inputs = (x, *_extras(spec, operands))
    if name == "torch_channels_last":
        order = torch.channels_last if spec.rank == 2 else torch.channels_last_3d
        layer = layer.to(memory_format=order)  # type: ignore[call-overload]
        inputs = tuple(t.contiguous(memory_format=order) for t in inputs)
    if name.endswith("_frozen"):
        layer = _freeze(layer, inputs)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            result: torch.Tensor = layer(*inputs)
            return result

    return call


def answer(spec: ConvSpec, result: torch.Tensor) -> Array:
    """Bring a peer's result into the memory order of the spec's output."""
    return from_canonical(result.numpy(), spec.out_layout)


@contextmanager
def limited_to(threads: int) -> Iterator[None]:
    """Let torch use so many threads, and restore what it had."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _freeze(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> nn.Module:
    with warnings.catch_warnings():
        # Tracing asks whether sizes are constants (they are) and announces its own retirement.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(layer.eval(), inputs)  # type: ignore[no-untyped-call]
        frozen: nn.Module = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    return frozen


def _extras(spec: ConvSpec, operands: Operands) -> tuple[torch.Tensor, ...]:
    """The residual, offset and mask that the spec has, channels first."""
    found = []
    for array, layout in (
        (operands.residual, spec.out_layout),
        (operands.offset, spec.in_layout),
        (operands.mask, spec.in_layout),
    ):
        if array is not None:
            channels = array.size // max(1, spec.n * _pixels(spec))
            ordered = to_canonical(array, layout, spec.n, channels, 1, spec.out_size)
            found.append(torch.from_numpy(ordered).contiguous())
    return tuple(found)


def _pixels(spec: ConvSpec) -> int:
    return int(torch.Size(spec.out_size).numel())


class _Layer(nn.Module):
    """A forward or transposed convolution with its epilogue."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, spec: ConvSpec, operands: Operands) -> None:
        super().__init__()
        self.spec = spec
        weight, bias = _folded(spec, operands)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
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


class _Deformable(nn.Module):
    """Deformable convolution as users write it without torchvision's operator."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    rows: torch.Tensor
    cols: torch.Tensor

    def __init__(self, spec: ConvSpec, operands: Operands) -> None:
        super().__init__()
        self.spec = spec
        weight, bias = _folded(spec, operands)
        self.register_buffer("weight", weight.reshape(1, spec.groups, spec.oc // spec.groups, -1))
        self.register_buffer("bias", bias)
        rows, cols = (_undeformed(spec, i) for i in (0, 1))
        self.register_buffer("rows", rows[:, None, :, None].expand(-1, spec.kernel[1], -1, 1))
        self.register_buffer("cols", cols[None, :, None, :].expand(spec.kernel[0], -1, 1, -1))

    def forward(self, x: torch.Tensor, *extras: torch.Tensor) -> torch.Tensor:
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


def _folded(spec: ConvSpec, operands: Operands) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight and bias in torch's order, with scale and shift folded in as for deployment."""
    weight = torch.from_numpy(canonical_weight(spec, operands.weight)).contiguous()
    if spec.flip:
        weight = weight.flip(tuple(range(2, 2 + spec.rank)))
    bias = None if operands.bias is None else torch.from_numpy(operands.bias)
    if operands.scale is None or operands.shift is None:
        return weight, bias
    scale, shift = torch.from_numpy(operands.scale), torch.from_numpy(operands.shift)
    bias = shift if bias is None else bias * scale + shift
    if spec.op != "conv_transpose":
        return weight * scale.reshape(-1, 1, *(1,) * spec.rank), bias
    per_group = weight.reshape(spec.groups, spec.ic // spec.groups, *weight.shape[1:])
    scale = scale.reshape(spec.groups, 1, -1, *(1,) * spec.rank)
    return (per_group * scale).reshape(weight.shape), bias
