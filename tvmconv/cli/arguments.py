"""Arguments that several commands share, and what they mean."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tvmconv import workloads
from tvmconv.cli.output import Step
from tvmconv.errors import ArgumentError
from tvmconv.tolerance import DEFAULT_MAX_ERROR
from tvmconv.workloads import Layer

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel

# Where `--layout` puts the channels, and the layout that says so at any rank.
LAYOUTS = {"first": "NCHW", "last": "NHWC"}


def add_specs(parser: argparse.ArgumentParser) -> None:
    """Which convolutions, and in which memory order."""
    parser.add_argument(
        "specs", nargs="+", metavar="SPEC", help="spec text, network, network:N, or all"
    )
    parser.add_argument(
        "--fused",
        action="store_true",
        help="networks only: with the bias and activation that follow each layer",
    )
    parser.add_argument(
        "--layout", choices=LAYOUTS, help="put the channels first (NCHW) or last (NHWC)"
    )


def add_compile(parser: argparse.ArgumentParser) -> None:
    """For which device, and how."""
    parser.add_argument("--target", default="host", metavar="ID", help="see `tvmconv targets`")
    parser.add_argument("--algorithm", metavar="NAME", help="force an algorithm or template id")
    parser.add_argument("--config", metavar="KNOBS", help="force a config, such as tile_oc=32,...")
    parser.add_argument(
        "--max-error",
        type=float,
        default=DEFAULT_MAX_ERROR,
        metavar="E",
        help="largest relative error of an algorithm (default: %(default)g)",
    )
    parser.add_argument(
        "--records",
        action="append",
        metavar="FILE",
        help="use the best of these measurements; may be given several times",
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads per convolution (default: 1)"
    )


def chosen_layers(args: argparse.Namespace) -> list[Layer]:
    """The layers that the command line names, without duplicates.

    Raises:
        SpecError: a text that is neither a spec nor a network.
    """
    found: dict[str, Layer] = {}
    for text in args.specs:
        for layer in workloads.resolve(text, fused=args.fused):
            spec = _in_order(layer, args.layout)
            found.setdefault(str(spec.spec), spec)
    return list(found.values())


def _in_order(layer: Layer, order: str | None) -> Layer:
    if order is None:
        return layer
    return layer._replace(spec=layer.spec.laid_out(LAYOUTS[order]))


def compile_layers(args: argparse.Namespace, layers: Sequence[Layer], step: Step) -> "list[Kernel]":
    """Compile every layer; `step` hears of each, and of the loading of TVM before.

    Raises:
        TvmconvError: what `tvmconv.compile` raises.
    """
    step("loading TVM")
    load_tvm()
    kernels = []
    for layer in layers:
        step(layer.name)
        kernels.append(compile_layer(args, layer))
    return kernels


def compile_layer(args: argparse.Namespace, layer: Layer) -> "Kernel":
    """Compile one layer as the command line says.

    Raises:
        TvmconvError: what `tvmconv.compile` raises.
    """
    from tvmconv.compile import compile

    if args.config is not None and args.algorithm is None:
        raise ArgumentError("--algorithm", None, "a template id when --config is given")
    return compile(
        layer.spec,
        args.target,
        algorithm=args.algorithm,
        config=args.config,
        threads=args.threads,
        max_error=args.max_error,
        records=args.records,
    )


def load_tvm() -> None:
    """Import TVM now (2 to 3 seconds), so that it does not count as compiling the first layer."""
    from importlib import import_module

    from tvmconv.environment import check_environment

    check_environment()
    import_module("tvm")
