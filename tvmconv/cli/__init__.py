"""The `tvmconv` command: one subcommand per file, each with `add(parser)` and `run(args, output)`.

Exit code 0 means that all went well, 1 that something did not (an answer was wrong, a peer failed,
the machine lacks something), 2 that the command line makes no sense.
"""

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from tvmconv import __version__
from tvmconv.cli.output import Output
from tvmconv.errors import TvmconvError

COMMANDS = {
    "compile": "compile convolutions and show what was chosen",
    "tune": "find fast configs by measuring, within a budget of time or trials",
    "validate": "prove compiled convolutions against torch",
    "bench": "time compiled convolutions beside their peers, with every answer checked",
    "export": "write a bundle that runs without TVM, torch and Python",
    "inspect": "show arithmetic, roofline, loops, machine code, and why this template",
    "device": "let another machine measure on this one",
    "targets": "list the devices that kernels can be compiled for",
    "workloads": "list networks, or the convolutions of one",
}
EPILOG = """\
A SPEC is the text of a convolution, a network, or one layer of it:
  conv2d_n1c64s56x56_o64k3x3_p1_bias_relu     resnet50     mobilenet_v2:3

examples:
  tvmconv bench conv2d_n1c64s56x56_o64k3x3_p1
  tvmconv inspect resnet50:2
  tvmconv export mobilenet_v2 --fused --output out/mobilenet
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; errors of the user's become one line on stderr."""
    parser = build_parser()
    args = parser.parse_args(argv)
    # `bench --json FILE` writes the document and prints for people.
    output = Output(as_json=args.json is True)
    logging.basicConfig(format="tvmconv: %(message)s")
    logging.getLogger("tvmconv").setLevel(logging.INFO)
    try:
        return int(args.run(args, output))
    except TvmconvError as error:
        _report(error, args)
        return 1
    except KeyboardInterrupt:
        print("tvmconv: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) left; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    # The commands' summaries need one line each in 100 columns.
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    raw = partial(argparse.RawDescriptionHelpFormatter, max_help_position=30, width=width)
    parser = argparse.ArgumentParser(
        prog="tvmconv",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description="Describe a convolution once; get a fast, proven kernel for your device.",
        epilog=EPILOG,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"tvmconv {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND --help", required=True)
    for name, summary in COMMANDS.items():
        module = import_module(f"tvmconv.cli.{name}")
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=module.EXAMPLES,
            formatter_class=raw,
        )
        module.add(command)
        if not getattr(module, "OWN_JSON", False):
            command.add_argument("--json", action="store_true", help="print one JSON document")
        command.set_defaults(run=module.run, command=name)
    return parser


def _report(error: TvmconvError, args: argparse.Namespace) -> None:
    """Say what went wrong, in the form that was asked for."""
    if args.json is True:
        problem = {"type": type(error).__name__, "message": str(error)}
        print(json.dumps({"command": args.command, "ok": False, "error": problem}, indent=2))
    else:
        print(f"tvmconv {args.command}: {error}", file=sys.stderr)
