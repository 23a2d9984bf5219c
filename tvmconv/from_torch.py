"""The spec of a torch.nn convolution, alone or with batch norm and activation after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tvmconv import layouts, padding
from tvmconv.errors import SpecError
from tvmconv.spec import ConvSpec

if TYPE_CHECKING:
    from torch import nn

_ALLOWED = (
    "nn.Conv1d/2d/3d or nn.ConvTranspose1d/2d/3d, or an nn.Sequential of one of them, a BatchNorm "
    "and an activation, each of the last two only if present"
)


def from_torch(module: nn.Module, input_shape: Sequence[int], layout: str = "NCHW") -> ConvSpec:
    """Return the spec of a torch module.

    An nn.Sequential of a convolution, a batch norm and an activation gives one spec with
    scale_shift and activation; give the batch norm's numbers to pack as batch_norm.

    Args:
        module: a convolution or such a sequence; subclasses count as what they derive from.
        input_shape: shape of the module's input, (n, c, *space) as torch has it, whatever layout.
        layout: memory order that the kernel is to have, "NCHW" or "NHWC" at every rank.

    Raises:
        SpecError: for another module, one without parameters yet (Lazy), and an input that the
            module would refuse.
    """
    from torch import nn

    parts = list(module) if isinstance(module, nn.Sequential) else [module]
    if not parts:
        raise SpecError("module", "empty nn.Sequential", _ALLOWED)
    conv, *rest = parts
    spec = _from_convolution(conv, input_shape, layout)
    if rest and isinstance(rest[0], (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
        spec = _with_batch_norm(spec, rest.pop(0))
    if rest:
        spec = _with_activation(spec, rest.pop(0))
    if rest:
        raise SpecError("module", type(rest[0]).__name__, _ALLOWED)
    return spec


def _from_convolution(module: nn.Module, input_shape: Sequence[int], layout: str) -> ConvSpec:
    op, rank = _kind(module)
    conv: Any = module
    shape = tuple(input_shape)
    if len(shape) != rank + 2:
        raise SpecError("input_shape", shape, f"{rank + 2} ints: n, c and space, with the batch")
    if shape[1] != conv.in_channels:
        raise SpecError("input_shape", shape, f"{conv.in_channels} channels, as the module has")
    dtype = str(conv.weight.dtype).removeprefix("torch.")
    if dtype not in ("float32", "float16", "bfloat16"):
        raise SpecError("module.weight.dtype", dtype, "float32, float16 or bfloat16")
    stride = padding.per_axis("stride", conv.stride, rank)
    dilation = padding.per_axis("dilation", conv.dilation, rank)
    begin, end = padding.sides(op, conv.padding, conv.kernel_size, stride, dilation)
    order = layouts.of_rank(layout, rank)
    return ConvSpec(
        op=op,
        n=shape[0],
        ic=conv.in_channels,
        oc=conv.out_channels,
        in_size=shape[2:],
        kernel=conv.kernel_size,
        groups=conv.groups,
        stride=stride,
        dilation=dilation,
        pads_begin=begin,
        pads_end=end,
        padding_mode=conv.padding_mode,
        output_padding=padding.per_axis("output_padding", conv.output_padding, rank),
        bias=conv.bias is not None,
        dtype=dtype,
        in_layout=order,
        out_layout=order,
    )


def _kind(module: nn.Module) -> tuple[str, int]:
    """Return operator and rank of a convolution module."""
    from torch import nn
    from torch.nn.modules.lazy import LazyModuleMixin

    name = type(module).__name__
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        raise SpecError("module", name, "a module with parameters; run a lazy one once before")
    for rank, forward, transposed in (
        (1, nn.Conv1d, nn.ConvTranspose1d),
        (2, nn.Conv2d, nn.ConvTranspose2d),
        (3, nn.Conv3d, nn.ConvTranspose3d),
    ):
        if isinstance(module, forward):
            return "conv", rank
        if isinstance(module, transposed):
            return "conv_transpose", rank
    raise SpecError("module", name, _ALLOWED)


def _with_batch_norm(spec: ConvSpec, norm: Any) -> ConvSpec:
    name = type(norm).__name__
    if name != f"BatchNorm{spec.rank}d" or norm.num_features != spec.oc:
        raise SpecError(
            "module", f"{name}({norm.num_features})", f"BatchNorm{spec.rank}d({spec.oc})"
        )
    if norm.running_mean is None:
        raise SpecError("module", name, "a batch norm with running statistics")
    return replace(spec, scale_shift=True)


def _with_activation(spec: ConvSpec, module: Any) -> ConvSpec:
    name = type(module).__name__
    if name not in _ACTIVATIONS:
        raise SpecError("module", name, _ALLOWED + ": " + ", ".join(_ACTIVATIONS))
    activation, *args = _ACTIVATIONS[name](module)
    return replace(spec, activation=activation, activation_args=tuple(args))


# Class name -> the name of the activation, then its numbers.
_ACTIVATIONS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "Identity": lambda module: ("none",),
    "ReLU": lambda module: ("relu",),
    "ReLU6": lambda module: ("relu6",),
    "Hardtanh": lambda module: ("clip", module.min_val, module.max_val),
    "LeakyReLU": lambda module: ("leaky_relu", module.negative_slope),
    "SiLU": lambda module: ("silu",),
    "Hardswish": lambda module: ("hardswish",),
    "GELU": lambda module: ("gelu" if module.approximate == "none" else "gelu_tanh",),
    "Sigmoid": lambda module: ("sigmoid",),
    "Tanh": lambda module: ("tanh",),
}
