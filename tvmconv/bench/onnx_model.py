"""A layer as an ONNX model: a convolution, and nodes for what a convolution of ONNX lacks.

Padding other than zeros is a Pad before it; bias is an input of it; residual and activation are
nodes behind it, which both runtimes fuse where they can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.bench.plain import Array, Plain
from tvmconv.errors import UnsupportedSpec

if TYPE_CHECKING:
    from onnx import NodeProto

# 19 brings wrap and DeformConv, 20 Gelu; runtimes of the last two years read both numbers.
OPSET, IR_VERSION = 20, 9
PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def inputs(plain: Plain) -> dict[str, Array]:
    """What the model takes, by name."""
    named = {"x": plain.x, "residual": plain.residual, "offset": plain.offset, "mask": plain.mask}
    return {name: array for name, array in named.items() if array is not None}


def model(plain: Plain) -> bytes:
    """The serialised model; its output is "y".

    Raises:
        UnsupportedSpec: ONNX has no such convolution.
        ImportError: onnx is not installed.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    constants = {"weight": plain.weight}
    if plain.bias is not None:
        constants["bias"] = plain.bias
    nodes = _nodes(plain, constants)
    spec = plain.spec
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, (spec.n, spec.oc, *spec.out_size))
    graph = helper.make_graph(
        nodes,
        "layer",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
            for name, array in inputs(plain).items()
        ],
        [out],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items()],
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    checker.check_model(made)
    return bytes(made.SerializeToString())


def _nodes(plain: Plain, constants: dict[str, Array]) -> list[NodeProto]:
    """The nodes in order; `constants` gets those that they need."""
    from onnx import helper

    spec = plain.spec
    nodes: list[NodeProto] = []
    last = "x"

    def add(operator: str, *more: str, to: str, **attributes: Any) -> None:
        nonlocal last
        nodes.append(helper.make_node(operator, [last, *more], [to], **attributes))
        last = to

    in_place = spec.padding_mode == "zeros" and min(spec.pads_begin + spec.pads_end) >= 0
    if spec.op == "conv_transpose" and not in_place:
        raise UnsupportedSpec("ONNX crops the result of a transposed convolution, it cannot add")
    if not in_place:
        pads = (0, 0, *spec.pads_begin, 0, 0, *spec.pads_end)
        constants["pads"] = np.array(pads, np.int64)
        mode = "constant" if spec.padding_mode == "zeros" else PAD_MODES[spec.padding_mode]
        more = ["pads"]
        if mode == "constant":
            constants["pad_value"] = np.array(spec.pad_value, np.float32)
            more.append("pad_value")
        add("Pad", *more, to="padded", mode=mode)
    keywords: dict[str, Any] = {
        "kernel_shape": spec.kernel,
        "strides": spec.stride,
        "dilations": spec.dilation,
        "group": spec.groups,
        "pads": (*spec.pads_begin, *spec.pads_end) if in_place else (0,) * 2 * spec.rank,
    }
    weights = ["weight"] + (["bias"] if plain.bias is not None else [])
    operator = "Conv"
    if spec.op == "conv_transpose":
        operator = "ConvTranspose"
        keywords["output_padding"] = spec.output_padding
    elif spec.op == "deform_conv":
        operator = "DeformConv"
        keywords["offset_group"] = spec.offset_groups
        bias = "bias" if plain.bias is not None else ""
        weights = ["weight", "offset", bias] + (["mask"] if spec.mask else [])
    add(operator, *weights, to="sums", **keywords)
    if plain.residual is not None:
        add("Add", "residual", to="added")
    _activate(plain, constants, add)
    nodes[-1].output[0] = "y"
    return nodes


def _activate(plain: Plain, constants: dict[str, Array], add: Any) -> None:
    args = plain.spec.activation_args
    match plain.spec.activation:
        case "none":
            pass
        case "relu" | "sigmoid" | "tanh" as name:
            add(name.capitalize(), to="activated")
        case "relu6" | "clip":
            low, high = args or (0.0, 6.0)
            constants |= {"low": np.array(low, np.float32), "high": np.array(high, np.float32)}
            add("Clip", "low", "high", to="activated")
        case "leaky_relu":
            add("LeakyRelu", to="activated", alpha=args[0])
        case "hardswish":
            add("HardSwish", to="activated")
        case "gelu" | "gelu_tanh" as name:
            add("Gelu", to="activated", approximate="tanh" if name == "gelu_tanh" else "none")
        case "silu":
            raise UnsupportedSpec("ONNX has silu only as two nodes that read the sums twice")
