"""ConvSpec: one convolution, the whole problem and nothing about how to solve it.

The text of a spec is made of parts joined by underscores, safe as a file name, and parses back to
an equal spec: ``conv2d_n1c64s56x56_o64k3x3_p1_bias_relu``. tvmconv.spec_text has the grammar.

Value order after the sum over channels and taps: ``v = conv + bias; v = v * scale + shift;
v = v + residual; y = activation(v)``, each only when the spec asks for it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, SupportsIndex

from tvmconv import arithmetic, gradients, layouts, legality
from tvmconv.elements import SHORT_FLOATS
from tvmconv.errors import SpecError

if TYPE_CHECKING:
    from torch import nn

Size = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ConvSpec:
    """A convolution; made by tvmconv.conv2d and its kin, ConvSpec.parse or ConvSpec.from_torch.

    Sizes hold one int per spatial axis, outermost first; their number (1 to 3) is the rank. An
    empty stride or dilation means ones, empty pads or output_padding zeros, an empty layout
    channels first, an empty weight_layout torch's own. Padding that adds nothing, or adds zeros,
    is always told as padding_mode "zeros", so equal problems are equal specs.

    Attributes:
        op: "conv", "conv_transpose" or "deform_conv".
        n: batch, >= 0.
        ic: input channels of all groups together.
        oc: output channels of all groups together.
        in_size: spatial size of the input.
        kernel: taps per axis.
        groups: number of groups; it divides ic and oc.
        stride: step of the output over the input (of the input over the output if transposed).
        dilation: distance of neighbouring taps; 1 is dense.
        pads_begin: padding before each axis; transposed: rows cut off the output, as in torch.
        pads_end: the same after each axis. Negative: the kernel stops that many rows before the
            input's end; only specs of gradients have that. Padding still sees the whole input.
        padding_mode: "zeros", "constant", "reflect", "replicate" or "circular".
        pad_value: the value around the input when padding_mode is "constant".
        output_padding: rows added at the end of each output axis; transposed only.
        flip: True for true convolution, which turns the kernel by 180 degrees.
        bias: whether a bias, one value per output channel, is added.
        scale_shift: whether a scale and a shift per output channel follow.
        residual: whether a tensor of the output's shape and layout is added.
        activation: a name of legality.ACTIVATIONS.
        activation_args: (low, high) of clip, (slope,) of leaky_relu.
        dtype: element type of the tensors.
        acc_dtype: element type of the sums.
        in_layout: memory order of x; letters as in tvmconv.layouts.
        out_layout: memory order of y and of the residual.
        weight_layout: "OI" or "IO", see weight_shape.
        offset_groups: groups of input channels with offsets of their own; deform_conv only.
        mask: whether each tap has a factor of its own; deform_conv only.

    Raises:
        SpecError: for what torch would refuse.
    """

    op: str
    n: int
    ic: int
    oc: int
    in_size: Size
    kernel: Size
    groups: int = 1
    stride: Size = ()
    dilation: Size = ()
    pads_begin: Size = ()
    pads_end: Size = ()
    padding_mode: str = "zeros"
    pad_value: float = 0.0
    output_padding: Size = ()
    flip: bool = False
    bias: bool = False
    scale_shift: bool = False
    residual: bool = False
    activation: str = "none"
    activation_args: tuple[float, ...] = ()
    dtype: str = "float32"
    acc_dtype: str = "float32"
    in_layout: str = ""
    out_layout: str = ""
    weight_layout: str = ""
    offset_groups: int = 1
    mask: bool = False

    def __post_init__(self) -> None:
        """Bring every field to its one form and check the whole."""
        for name in ("n", "ic", "oc", "groups", "offset_groups"):
            self._set(name, as_int(name, getattr(self, name)))
        self._set("kernel", as_ints("kernel", self.kernel))
        if self.rank not in layouts.SPATIAL:
            raise SpecError("kernel", self.kernel, "one, two or three spatial axes")
        for name, default in _DEFAULTS.items():
            given = getattr(self, name)
            full = (default,) * self.rank if given == () else as_ints(name, given)
            if len(full) != self.rank:
                raise SpecError(name, given, f"one int per axis ({self.rank})")
            self._set(name, full)
        for name in ("flip", "bias", "scale_shift", "residual", "mask"):
            if not isinstance(getattr(self, name), bool):
                raise SpecError(name, getattr(self, name), "True or False")
        self._set("pad_value", as_stored("pad_value", self.pad_value, self.dtype))
        args = tuple(as_float("activation_args", value) for value in self.activation_args)
        self._set("activation_args", args)
        for name, allowed in (
            ("in_layout", layouts.allowed_in(self.rank)),
            ("out_layout", layouts.allowed_out(self.rank)),
        ):
            given = getattr(self, name) or allowed[0]
            self._set(name, layouts.canonical(given, self.rank, allowed, name))
        if not self.weight_layout:
            self._set("weight_layout", default_weight_layout(self.op))
        legality.check(self)
        nothing_added = max(self.pads_begin + self.pads_end) <= 0
        if nothing_added or (self.padding_mode == "constant" and self.pad_value == 0.0):
            self._set("padding_mode", "zeros")
            self._set("pad_value", 0.0)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    # --- sizes and shapes -----------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """Number of spatial axes: 1, 2 or 3."""
        return len(self.kernel)

    @property
    def out_size(self) -> Size:
        """Spatial size of the output."""
        return arithmetic.out_size(self)

    @property
    def x_shape(self) -> Size:
        """Shape of the input in the memory order of in_layout."""
        return layouts.shape(self.in_layout, self.n, self.ic, self.groups, self.in_size)

    @property
    def out_shape(self) -> Size:
        """Shape of the output, and of the residual, in the memory order of out_layout."""
        return layouts.shape(self.out_layout, self.n, self.oc, self.groups, self.out_size)

    output_shape = out_shape

    @property
    def weight_shape(self) -> Size:
        """Shape of the weight in memory order.

        | op                | OI                  | IO                  |
        | ----------------- | ------------------- | ------------------- |
        | conv, deform_conv | [oc, ic/g, *kernel] | [ic/g, oc, *kernel] |
        | conv_transpose    | [oc/g, ic, *kernel] | [ic, oc/g, *kernel] |

        torch's own are OI for conv and IO for conv_transpose. The groups stay with the axis they
        have in torch, so IO is OI with the first two axes exchanged, for both operators.
        """
        if self.op == "conv_transpose":
            first = (self.oc // self.groups, self.ic)
        else:
            first = (self.oc, self.ic // self.groups)
        return (*(first if self.weight_layout == "OI" else first[::-1]), *self.kernel)

    @property
    def offset_shape(self) -> Size:
        """Shape of the offsets (dy before dx for each tap), or () when there are none."""
        if self.op != "deform_conv":
            return ()
        channels = 2 * self.offset_groups * prod(self.kernel)
        return layouts.shape(self._plain_in_layout, self.n, channels, 1, self.out_size)

    @property
    def mask_shape(self) -> Size:
        """Shape of the mask, or () when there is none."""
        if not self.mask:
            return ()
        channels = self.offset_groups * prod(self.kernel)
        return layouts.shape(self._plain_in_layout, self.n, channels, 1, self.out_size)

    @property
    def _plain_in_layout(self) -> str:
        if layouts.is_channels_last(self.in_layout):
            return layouts.channels_last(self.rank)
        return layouts.channels_first(self.rank)

    # --- arithmetic -----------------------------------------------------------------------------

    @property
    def macs(self) -> int:
        """Multiply-adds of the direct algorithm, taps in the padding counted."""
        return arithmetic.macs(self)

    @property
    def flops(self) -> int:
        """Floating point operations of the direct algorithm: 2 per multiply-add."""
        return 2 * self.macs

    @property
    def params(self) -> int:
        """Number of learnt values: weight, bias, scale and shift."""
        return arithmetic.params(self)

    @property
    def bytes_moved(self) -> int:
        """Bytes read and written when every tensor is touched once."""
        return arithmetic.bytes_moved(self)

    @property
    def arithmetic_intensity(self) -> float:
        """FLOPs per byte; 0 for an empty batch."""
        return arithmetic.arithmetic_intensity(self)

    @property
    def receptive_field(self) -> Size:
        """How many input positions per axis one output sees: 1 + d (k - 1)."""
        return tuple(1 + d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True))

    @property
    def is_depthwise(self) -> bool:
        """Whether each group has one input channel and there is more than one group."""
        return self.groups == self.ic > 1

    @property
    def is_pointwise(self) -> bool:
        """Whether the kernel has one tap and no padding: a matrix product at each position."""
        return max(self.kernel) == 1 and not any(self.pads_begin + self.pads_end)

    # --- text, torch, gradients -----------------------------------------------------------------

    def __str__(self) -> str:
        """Canonical text: parses back to an equal spec; safe as a file name."""
        from tvmconv import spec_text

        return spec_text.to_text(self)

    @classmethod
    def parse(cls, text: str) -> ConvSpec:
        """Read a spec's text; SpecError points at the part that cannot be read."""
        from tvmconv import spec_text

        return spec_text.from_text(text)

    @property
    def reproducer(self) -> str:
        """The command line that validates this spec."""
        return f"tvmconv validate {self}"

    def linear(self) -> ConvSpec:
        """Return the same convolution without bias and without what follows it."""
        return replace(
            self,
            bias=False,
            scale_shift=False,
            residual=False,
            activation="none",
            activation_args=(),
        )

    def laid_out(self, layout: str) -> ConvSpec:
        """Return the same convolution with x and y in one order: NCHW or NHWC, at any rank."""
        order = layouts.of_rank(layout, self.rank)
        return replace(self, in_layout=order, out_layout=order)

    @classmethod
    def from_torch(
        cls, module: nn.Module, input_shape: Sequence[int], layout: str = "NCHW"
    ) -> ConvSpec:
        """Describe a torch.nn convolution; see tvmconv.from_torch."""
        from tvmconv import from_torch

        return from_torch.from_torch(module, input_shape, layout)

    def grad_input(self) -> ConvSpec:
        """Return the spec of the gradient by x; see tvmconv.gradients.grad_input."""
        return gradients.grad_input(self)

    def grad_weight(self) -> ConvSpec:
        """Return the spec of the gradient by the weight; see tvmconv.gradients.grad_weight."""
        return gradients.grad_weight(self)

    def grad_bias(self) -> ConvSpec:
        """Return the spec of the gradient by the bias; see tvmconv.gradients.grad_bias."""
        return gradients.grad_bias(self)


# What an empty tuple stands for, per axis.
_DEFAULTS = {
    "in_size": 0,
    "stride": 1,
    "dilation": 1,
    "pads_begin": 0,
    "pads_end": 0,
    "output_padding": 0,
}


def default_weight_layout(op: str) -> str:
    """Return torch's order: OI for conv and deform_conv, IO for conv_transpose."""
    return "IO" if op == "conv_transpose" else "OI"


def as_int(name: str, value: SupportsIndex) -> int:
    """Return an int (a numpy integer is one too), or raise SpecError naming the argument."""
    # torch refuses a bool and a float where it wants an int; so does this.
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise SpecError(name, value, "an int")
    return operator.index(value)


def as_ints(name: str, values: Iterable[SupportsIndex]) -> Size:
    """Return a tuple of ints, or raise SpecError naming the argument."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise SpecError(name, values, "a tuple of ints, one per axis")
    return tuple(as_int(name, value) for value in values)


def as_stored(name: str, value: float, dtype: str) -> float:
    """Return a float as tensors of 16-bit floats hold it; of other dtypes as it is."""
    number = as_float(name, value)
    short = SHORT_FLOATS.get(dtype)
    if short is None or not math.isfinite(number):
        return number
    stored = short.nearest(number)
    if abs(stored) > short.largest:
        raise SpecError(name, value, f"at most {short.largest:g} in {dtype}, or an infinity")
    return stored


def as_float(name: str, value: float) -> float:
    """Return a float that has one text, or raise SpecError naming the argument."""
    try:
        # Adding 0.0 turns -0.0 into 0.0, which is equal to it but has another text.
        return float(value) + 0.0
    except (TypeError, ValueError):
        raise SpecError(name, value, "a number") from None
