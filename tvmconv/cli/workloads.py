"""`tvmconv workloads`: list networks, or the convolutions of one."""

import argparse
from typing import TYPE_CHECKING, Any

from tvmconv import workloads
from tvmconv.cli.output import Output
from tvmconv.workloads import Layer

if TYPE_CHECKING:
    from rich.table import Table

EXAMPLES = """\
examples:
  tvmconv workloads
  tvmconv workloads resnet50 --fused
  tvmconv workloads mobilenet_v2 --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("network", nargs="?", help="show the layers of this network")
    parser.add_argument(
        "--fused", action="store_true", help="with the bias and activation that follow each layer"
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """Print the networks, or the distinct layers of one."""
    if args.network is None:
        networks = {name: workloads.load(name) for name in workloads.names()}
        if output.as_json:
            found = [_totals(name, layers) for name, layers in networks.items()]
            output.document("workloads", True, {"networks": found})
        else:
            output.console().print(_networks(networks))
        return 0
    layers = workloads.load(args.network, fused=args.fused)
    if output.as_json:
        found = [
            {
                "name": layer.name,
                "repeats": layer.repeats,
                "spec": str(layer.spec),
                "macs": layer.spec.macs,
            }
            for layer in layers
        ]
        output.document("workloads", True, {"network": args.network, "layers": found})
    else:
        output.console().print(_layers(args.network, layers))
    return 0


def _totals(name: str, layers: tuple[Layer, ...]) -> dict[str, Any]:
    return {
        "name": name,
        "distinct": len(layers),
        "convolutions": sum(layer.repeats for layer in layers),
        "macs": sum(layer.repeats * layer.spec.macs for layer in layers),
    }


def _networks(networks: dict[str, tuple[Layer, ...]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("network")
    for title in ("distinct", "convolutions", "10⁶ multiply-adds"):
        table.add_column(title, justify="right")
    for name, layers in networks.items():
        totals = _totals(name, layers)
        counts = (str(totals["distinct"]), str(totals["convolutions"]))
        table.add_row(name, *counts, f"{totals['macs'] / 1e6:,.0f}")
    return table


def _layers(network: str, layers: tuple[Layer, ...]) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("name it", "first layer", "spec"):
        table.add_column(title, no_wrap=True)
    for title in ("times", "10⁶ MAC"):
        table.add_column(title, justify="right", no_wrap=True)
    for i, layer in enumerate(layers):
        row = (f"{network}:{i}", layer.name, str(layer.spec), str(layer.repeats))
        table.add_row(*row, f"{layer.spec.macs / 1e6:,.1f}")
    return table
