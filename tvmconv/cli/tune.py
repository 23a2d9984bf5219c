"""`tvmconv tune`: find fast configs by measuring, and keep what was measured."""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tvmconv.cli.arguments import add_specs, chosen_layers, load_tvm
from tvmconv.cli.output import Output
from tvmconv.errors import ArgumentError
from tvmconv.tolerance import DEFAULT_MAX_ERROR
from tvmconv.workloads import Layer

if TYPE_CHECKING:
    from tvmconv.tuning.client import ClientPool
    from tvmconv.tuning.no_device import StaticMeasurer
    from tvmconv.tuning.result import TuneResult

EXAMPLES = """\
Every trial is built, its answer checked, then timed, and appended to the records file; a run that
was interrupted goes on where it stopped. `tvmconv compile --records FILE` uses the best of it.
docs/tuning-guide.md explains the table and how times are taken.

examples:
  tvmconv tune resnet50 --minutes 3
  tvmconv tune conv2d_n1c64s56x56_o64k3x3_p1 --trials 64 --records layer.jsonl
  tvmconv tune mobilenet_v2 --trials 32 --target x86_64_v3 --threads 2
  tvmconv tune mobilenet_v2 --trials 16 --target pi4 --no-device
  tvmconv tune mobilenet_v2 --trials 32 --target pi4 --ssh pi@raspberrypi.local
  tvmconv tune mobilenet_v2 --trials 32 --target pi4 --rpc raspberrypi.local:9090
  tvmconv tune resnet50 --minutes 10 --target x86_64_v3 --tracker 10.0.0.1:9190 --key edge
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_specs(parser)
    budget = parser.add_argument_group("budget (whichever ends first; default: --trials 64)")
    budget.add_argument("--minutes", type=float, metavar="M", help="time for everything")
    budget.add_argument("--trials", type=int, metavar="N", help="per convolution, on average")
    parser.add_argument("--target", default="host", metavar="ID", help="see `tvmconv targets`")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the kernels")
    parser.add_argument("--algorithm", metavar="NAME", help="stay with an algorithm or template id")
    parser.add_argument(
        "--max-error",
        type=float,
        default=DEFAULT_MAX_ERROR,
        metavar="E",
        help="largest relative error of an algorithm (default: %(default)g)",
    )
    parser.add_argument(
        "--records",
        default="tvmconv-records.jsonl",
        metavar="FILE",
        help="where measurements are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on from what the file holds (default)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the search")
    parser.add_argument(
        "--no-device",
        action="store_true",
        help="rank candidates by their code: nothing is run, records say `static`",
    )
    remote = parser.add_argument_group("other machines, by TVM's RPC (needs the extra `rpc`)")
    remote.add_argument("--rpc", action="append", metavar="HOST:PORT", help="a server; repeatable")
    remote.add_argument("--tracker", metavar="HOST:PORT", help="a tracker of servers")
    remote.add_argument("--key", metavar="NAME", help="of the servers; a tracker's need one")
    boards = parser.add_argument_group("other machines, by ssh (which need nothing else)")
    boards.add_argument("--ssh", action="append", metavar="USER@HOST", help="a board; repeatable")
    boards.add_argument(
        "--transport",
        metavar="COMMAND",
        help="in place of ssh: a command with the words {host} and {command} in it",
    )
    boards.add_argument("--wrapper", metavar="COMMAND", help="what programs there are started by")
    boards.add_argument(
        "--folder", metavar="DIR", help="where programs go there (default: $TMPDIR or /tmp)"
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """Tune with a live table, print the result; 0 only when every convolution works."""
    layers = chosen_layers(args)
    with output.progress(1, "loading TVM") as step:
        step("")
        load_tvm()
    from tvmconv.cli.tune_view import LiveTable, names_by_key
    from tvmconv.tuning.tune import tune

    with ExitStack() as stack:
        measurer = open_measurer(args)
        if measurer is not None:
            stack.enter_context(measurer)
        table = stack.enter_context(LiveTable(names_by_key(layers), hidden=output.as_json))
        result = tune(
            [layer.spec for layer in layers],
            args.target,
            minutes=args.minutes,
            trials=args.trials,
            records=args.records,
            resume=args.resume,
            seed=args.seed,
            threads=args.threads,
            algorithm=args.algorithm,
            max_error=args.max_error,
            weights=[float(layer.repeats) for layer in layers],
            measurer=measurer,
            on_event=table.update,
        )
    return report(result, layers, output)


def open_measurer(args: argparse.Namespace) -> "StaticMeasurer | ClientPool | None":
    """Who measures: nobody, or the machines that were named; None for this machine.

    Raises:
        ArgumentError: arguments that contradict each other or make no sense.
        EnvironmentProblem: something is missing here.
        DeviceError: a machine does not answer, is not the target, or has no space.
    """
    from tvmconv.target import load
    from tvmconv.tuning.boards import Host
    from tvmconv.tuning.devices import Named
    from tvmconv.tuning.no_device import StaticMeasurer

    given = [n for n in ("rpc", "tracker", "ssh") if getattr(args, n) is not None]
    for name in ("transport", "wrapper", "folder"):
        if getattr(args, name) is not None and args.ssh is None:
            raise ArgumentError(f"--{name}", getattr(args, name), "nothing without --ssh")
    if args.no_device:
        if given:
            raise ArgumentError("--no-device", f"--{given[0]}", "no address of a device beside it")
        return StaticMeasurer(load(args.target))
    if given and args.target == "host":
        raise ArgumentError("--target", "host", "the id of the devices' target")
    options = {"transport": args.transport, "wrapper": args.wrapper, "folder": args.folder}
    set_ones = {name: value for name, value in options.items() if value is not None}
    hosts = [Host(name, **set_ones) for name in args.ssh or ()]
    named = Named.of(args.rpc, args.tracker, args.key, hosts)
    return named.connected(load(args.target), args.threads) if named else None


def report(result: "TuneResult", layers: Sequence[Layer], output: Output) -> int:
    """Print a finished run; the exit code."""
    worked = all(tuned.template is not None for tuned in result.layers)
    interrupted = result.stopped == "interrupted"
    ok = worked and result.stopped not in ("interrupted", "device lost")
    if output.as_json:
        output.document("tune", ok, content(result))
    else:
        from tvmconv.cli.tune_view import print_result

        print_result(result, layers, output.console())
    return 130 if interrupted else 0 if ok else 1


def content(result: "TuneResult") -> dict[str, Any]:
    """A run as plain values; what is unknown is null, not infinite."""
    layers = []
    for tuned in result.layers:
        values = asdict(tuned)
        for name in ("seconds", "default_seconds"):
            values[name] = values[name] if values[name] < float("inf") else None
        known = values["seconds"] and values["default_seconds"]
        layers.append(values | {"gain": tuned.gain if known else None})
    rest = {name: value for name, value in asdict(result).items() if name != "layers"}
    return {**rest, "gain": result.gain, "layers": layers}
