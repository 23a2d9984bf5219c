"""`tvmconv device serve`: this machine becomes one that others tune on."""

import argparse
import sys
from typing import Any

from tvmconv.cli.output import Output
from tvmconv.errors import ArgumentError
from tvmconv.host_cpu import this_machine
from tvmconv.target import load

EXAMPLES = """\
serve: an RPC server, one session at a time; run it on the board. The board needs apache-tvm,
cloudpickle, psutil and tornado, but neither torch nor a compiler. Whoever reaches the port can run
code on the board: stay inside a network that you trust. Boards with ssh need none of this, see
`tvmconv tune --ssh`.

examples:
  tvmconv device serve
  tvmconv device serve --port 9091 --key pi4
  tvmconv device serve --tracker 10.0.0.1:9190
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", choices=("serve",), help="start a server")
    parser.add_argument(
        "--host", default="0.0.0.0", metavar="ADDRESS", help="listen there (default: everywhere)"
    )
    parser.add_argument("--port", type=int, default=9090, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--key",
        metavar="NAME",
        help="what tuners ask for (default: none; for a tracker the target)",
    )
    parser.add_argument("--tracker", metavar="HOST:PORT", help="tell a tracker of this server")
    parser.add_argument("--target", metavar="ID", help="what this board is (default: recognised)")


def run(args: argparse.Namespace, output: Output) -> int:
    """Serve until Ctrl-C; then 0."""
    from tvmconv.tuning.rpc_address import Address
    from tvmconv.tuning.server import Server, load_server, own_targets, until_told_to_end

    fitting = [load(args.target).id] if args.target else own_targets()
    if not fitting:
        raise ArgumentError("--target", None, f"the id of a target that {this_machine()} can be")
    if not 0 < args.port < 65536:
        raise ArgumentError("--port", args.port, "1 to 65535")
    tracker = None
    if args.tracker is not None:
        found = Address.parse(args.tracker)
        tracker = found.host, found.port
    key = args.key if args.key is not None else fitting[0] if tracker else ""
    server = Server(args.host, args.port, key, tracker)
    load_server()
    with server.listen() as listening, until_told_to_end():
        announce(server, fitting, output)
        server.serve(listening)
    return 0


def announce(server: Any, fitting: list[str], output: Output) -> None:
    """Say what the server is, and how to tune on it."""
    from tvmconv.tuning.server import own_address, own_name

    at = f"{own_address(server.host)}:{server.port}"
    way = ["--rpc", at, *(["--key", server.key] if server.key else [])]
    if server.tracker is not None:
        way = ["--tracker", "{}:{}".format(*server.tracker), "--key", server.key]
    command = " ".join(["tvmconv tune mobilenet_v2 --target", fitting[0], *way])
    if output.as_json:
        content = {"name": own_name(), "targets": fitting, "address": at, "key": server.key}
        output.document("device", True, {**content, "tune": command})
        sys.stdout.flush()
        return
    which = fitting[0] if len(fitting) == 1 else f"one of {', '.join(fitting)}"
    print(f"{own_name()} ({this_machine()}): target {which}")
    print(f"listening on {server.host}:{server.port}" + (f", key {server.key}" * bool(server.key)))
    print(f"on the machine that tunes:\n  {command}\nCtrl-C ends this server.", flush=True)
