"""`tvmconv bench`: time compiled convolutions beside torch, with every answer checked."""

import argparse
from pathlib import Path

from tvmconv.cli.arguments import add_compile, add_specs, chosen_layers, compile_layers
from tvmconv.cli.output import Output

EXAMPLES = """\
Peers: torch stands for torch_nchw, torch_channels_last and torch_frozen (deformable:
torch_grid_sample and torch_grid_sample_frozen). A ratio above 1 means that tvmconv is faster.

examples:
  tvmconv bench conv2d_n1c64s56x56_o64k3x3_p1 --seconds 1
  tvmconv bench resnet50 --fused --layout last --report out/resnet50.html
  tvmconv bench mobilenet_v2:3 --threads 2 --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_specs(parser)
    add_compile(parser)
    parser.add_argument(
        "--peers", nargs="*", default=["torch"], metavar="NAME", help="what to compare with"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.25,
        metavar="S",
        help="measuring time per convolution and contestant (default: 0.25)",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write an HTML report as well")


def run(args: argparse.Namespace, output: Output) -> int:
    """Compile, measure, print; 0 only when all ran and all answers were right."""
    from tvmconv.bench import measure
    from tvmconv.bench.table import print_measured

    layers = chosen_layers(args)
    with output.progress(2 * len(layers) + 1, "measuring") as step:
        kernels = compile_layers(args, layers, step)
        measured = measure(kernels, args.peers, seconds=args.seconds, on_step=step)
    report = None
    if args.report is not None:
        from tvmconv.bench.report import write_report

        report = write_report(measured, args.report, title=f"tvmconv: {' '.join(args.specs)}")
    if output.as_json:
        content = measured.as_dict() | {"report": str(report) if report else None}
        output.document("bench", measured.ok, content)
        return 0 if measured.ok else 1
    console = output.console()
    print_measured(measured, console)
    if report is not None:
        console.print(f"report: {report}", highlight=False, soft_wrap=True)
    return 0 if measured.ok else 1
