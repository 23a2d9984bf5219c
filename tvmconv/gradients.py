"""The gradients of a convolution, themselves convolutions that compile like any other.

All three are of the linear part, y = conv(x, weight) + bias: `dy` is the gradient with respect to
that y, before scale and shift, residual and activation. With A the map x -> y at a fixed weight:

    grad_input   dx = A^T dy            the transposed operator with the same weight
    grad_weight  dw = corr(x, dy)       x is read as if its channels were the batch
    grad_bias    db = sum of dy         a convolution of dy with ones

A gradient by weight, shown for a forward spec with kernel taps u and output positions i:
``dw[o, c, u] = sum over n, i of dy[n, o, i] x[n, c, i s + u d - p]``. It is a convolution whose
kernel is dy, with stride and dilation exchanged, whose batch is the channel c and whose channels
are the batch n. Where the stride does not divide, the forward pass never read the last rows of x;
there pads_end shrinks, below 0 if need be.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tvmconv import layouts
from tvmconv.errors import UnsupportedSpec

if TYPE_CHECKING:
    from tvmconv.spec import ConvSpec


def grad_input(spec: ConvSpec) -> ConvSpec:
    """Return the spec that computes dx: x=dy, weight=the forward weight, result dx.

    dy has spec.out_shape, the weight spec.weight_shape, unchanged in memory; dx has spec.x_shape.
    A convolution gives a conv_transpose, with the output_padding that restores the input's size,
    and the other way round.

    Raises:
        UnsupportedSpec: for reflect, replicate and circular padding, deformable convolutions, and
            specs that are gradients by weight.
    """
    _refuse_deformable(spec)
    if spec.padding_mode not in ("zeros", "constant"):
        raise UnsupportedSpec(
            f"grad_input of {spec}: with padding_mode {spec.padding_mode!r} one input element "
            "stands in several padded places, so the gradient is no convolution; pad x outside, "
            "take the gradient of the same convolution without padding, and add the padded "
            "places up"
        )
    if "G" in spec.in_layout or spec.out_layout.startswith("C"):
        raise UnsupportedSpec(f"grad_input of {spec}: a gradient by weight has none of its own")
    return _forward_adjoint(spec) if spec.op == "conv" else _transposed_adjoint(spec)


def grad_weight(spec: ConvSpec) -> ConvSpec:
    """Return the spec that computes dw; which tensor goes where depends on the operator.

    conv:            x=x and weight=dy;
    conv_transpose:  x=dy and weight=x.

    Both are dense and channels first (N, C, space), also when `spec` is channels last. The one
    that goes in as x is seen as (n, groups, channels / groups, *space), which is the result's
    x_shape and no copy. The result has spec.weight_shape; for flip=True it is the gradient by the
    turned weight, to be turned back by reversing its space axes. `weight_operands` and
    `weight_result` do all of this.

    Raises:
        UnsupportedSpec: for deformable convolutions, gradients by weight and an empty batch.
    """
    _refuse_deformable(spec)
    _refuse_empty(spec)
    if spec.op == "conv_transpose":
        spec = _transposed_adjoint(spec)
    if "G" in spec.in_layout or spec.out_layout.startswith("C"):
        raise UnsupportedSpec(f"grad_weight of {spec}: it is a gradient by weight already")
    # The last row that a forward tap reads, counted from the first row of padding.
    reach = tuple(
        d * (k - 1) + s * (o - 1)
        for d, k, s, o in zip(spec.dilation, spec.kernel, spec.stride, spec.out_size, strict=True)
    )
    ends = zip(reach, spec.in_size, spec.pads_begin, strict=True)
    space = layouts.SPATIAL[spec.rank]
    return replace(
        spec.linear(),
        n=spec.ic // spec.groups,
        ic=spec.n * spec.groups,
        kernel=spec.out_size,
        stride=spec.dilation,
        dilation=spec.stride,
        pads_end=tuple(last + 1 - size - begin for last, size, begin in ends),
        flip=False,
        in_layout="CGN" + space,
        out_layout=("CN" if spec.weight_layout == "OI" else "NC") + space,
        weight_layout="IO",
    )


def grad_bias(spec: ConvSpec) -> ConvSpec:
    """Return the spec that computes db: x=dy, weight=ones, result db.

    dy is dense and channels first, seen as (n, 1, oc, *space), which is the result's x_shape; the
    weight of ones has the result's weight_shape, (1, n, *space); the result has oc elements.

    Raises:
        UnsupportedSpec: for an empty batch.
    """
    _refuse_empty(spec)
    space = layouts.SPATIAL[spec.rank]
    return replace(
        spec.linear(),
        op="conv",
        n=spec.oc,
        ic=spec.n,
        oc=1,
        groups=1,
        in_size=spec.out_size,
        kernel=spec.out_size,
        stride=(),
        dilation=(),
        pads_begin=(),
        pads_end=(),
        padding_mode="zeros",
        pad_value=0.0,
        output_padding=(),
        flip=False,
        in_layout="CGN" + space,
        out_layout="CN" + space,
        weight_layout="OI",
        offset_groups=1,
        mask=False,
    )


def weight_operands(spec: ConvSpec, x: Any, dy: Any) -> tuple[Any, Any]:
    """Return what goes as x and as weight into a kernel of `spec.grad_weight()`.

    x and dy are arrays (numpy or torch) as the kernel of `spec` takes and gives them.
    """
    gradient = grad_weight(spec)
    source, taps = (
        channels_first(x, spec.in_layout),
        channels_first(dy, spec.out_layout),
    )
    if spec.op == "conv_transpose":
        source, taps = taps, source
    return source.reshape(gradient.x_shape), taps


def weight_result(spec: ConvSpec, result: Any) -> Any:
    """Return dw in spec.weight_shape from what a kernel of `spec.grad_weight()` gives."""
    if not spec.flip:
        return result
    axes = tuple(range(2, 2 + spec.rank))
    if hasattr(result, "flip"):
        return result.flip(axes)
    return result[(..., *(slice(None, None, -1) for _ in axes))]


def channels_first(array: Any, layout: str) -> Any:
    """Return the array with its axes in the order N, C, space; a view, of numpy or of torch."""
    if not layouts.is_channels_last(layout):
        return array
    order = (0, array.ndim - 1, *range(1, array.ndim - 1))
    return array.permute(order) if hasattr(array, "permute") else array.transpose(order)


def _forward_adjoint(spec: ConvSpec) -> ConvSpec:
    # A cropped end was never read: its gradient is 0, which is what output_padding leaves there.
    ends = tuple(max(end, 0) for end in spec.pads_end)
    bare = [
        (o - 1) * s - begin - end + d * (k - 1) + 1
        for o, s, begin, end, d, k in zip(
            spec.out_size,
            spec.stride,
            spec.pads_begin,
            ends,
            spec.dilation,
            spec.kernel,
            strict=True,
        )
    ]
    extra = tuple(size - length for size, length in zip(spec.in_size, bare, strict=True))
    if any(a >= max(s, d) for a, s, d in zip(extra, spec.stride, spec.dilation, strict=True)):
        raise UnsupportedSpec(f"grad_input of {spec}: it crops more rows than a stride")
    return _exchanged(
        spec,
        op="conv_transpose",
        pads_end=ends,
        padding_mode="zeros",
        pad_value=0.0,
        output_padding=extra,
    )


def _transposed_adjoint(spec: ConvSpec) -> ConvSpec:
    # output_padding of a whole stride (legal under a larger dilation) would give the adjoint one
    # output more than x has; cropping the input by that much takes it away again.
    ends = tuple(
        end - a // s * s
        for end, a, s in zip(spec.pads_end, spec.output_padding, spec.stride, strict=True)
    )
    return _exchanged(spec, op="conv", pads_end=ends, output_padding=())


def _exchanged(spec: ConvSpec, **geometry: Any) -> ConvSpec:
    """Return the spec from y's side to x's side.

    The weight stays as it lies in memory: what was its axis of outputs is now that of inputs.
    """
    return replace(
        spec.linear(),
        ic=spec.oc,
        oc=spec.ic,
        in_size=spec.out_size,
        in_layout=spec.out_layout,
        out_layout=spec.in_layout,
        weight_layout="IO" if spec.weight_layout == "OI" else "OI",
        **geometry,
    )


def _refuse_deformable(spec: ConvSpec) -> None:
    if spec.op == "deform_conv":
        raise UnsupportedSpec(
            f"gradient of {spec}: the gradients of a deformable convolution are no convolutions"
        )


def _refuse_empty(spec: ConvSpec) -> None:
    if spec.n == 0:
        raise UnsupportedSpec(f"gradient of {spec}: the batch is empty, so it is zero")
