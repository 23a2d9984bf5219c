#!/usr/bin/env python3
"""Build what ships in schedules/tuned/ from records: the prior, and the best record of each spec.

    scripts/build_prior.py records.jsonl more.jsonl
    scripts/build_prior.py records.jsonl --check            only evaluate, write nothing
    scripts/build_prior.py --no-prior --as-measured --best finals.jsonl    only the best records
    scripts/build_prior.py gpu.jsonl --family cuda          of GPUs
    scripts/build_prior.py new.jsonl --add --no-best        a template that the prior has not
    scripts/build_prior.py zen4.jsonl --target zen4 --no-best    corrections for one target

Before anything is written, each network is left out once and predicted by a model that never saw
its layers (docs/knowledge.md says how to read the table).
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tvmconv.errors import TvmconvError
from tvmconv.target import load
from tvmconv.tuning.boosters import ROUNDS
from tvmconv.tuning.evaluate import Held, leave_one_network_out
from tvmconv.tuning.model import CostModel
from tvmconv.tuning.records import Record, read_records
from tvmconv.tuning.shipping import write_best

FOLDER = Path(__file__).resolve().parent.parent / "schedules" / "tuned"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", nargs="*", type=Path, metavar="FILE", help="to train on")
    parser.add_argument(
        "--best", nargs="*", type=Path, metavar="FILE", help="take best records of these instead"
    )
    parser.add_argument("--family", default="x86", help="of the prior: x86, arm, cuda")
    parser.add_argument(
        "--target", metavar="ID", help="correct the family's prior for it, by its records alone"
    )
    parser.add_argument(
        "--add", action="store_true", help="keep the prior of templates that no record is of"
    )
    parser.add_argument("--no-prior", action="store_true", help="leave the prior as it is")
    parser.add_argument("--no-best", action="store_true", help="leave the best records as they are")
    parser.add_argument(
        "--as-measured",
        action="store_true",
        help="best records even where the prior expects better",
    )
    parser.add_argument("--check", action="store_true", help="evaluate, write nothing")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="most trees per template")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER")
    args = parser.parse_args(argv)
    if args.add and args.target:
        parser.error("--add is for a family's prior, --target for a correction of it")
    console = Console()
    args.output.mkdir(parents=True, exist_ok=True)
    try:
        if not args.no_prior:
            prior(args, console)
        if not args.no_best and not args.check:
            best(args, console)
    except TvmconvError as error:
        print(f"build_prior: {error}", file=sys.stderr)
        return 1
    return 0


def read(paths: list[Path], console: Console) -> list[Record]:
    found: list[Record] = []
    for path in paths:
        records, problems = read_records(path)
        found += records
        console.print(f"{path}: {len(records)} records", highlight=False)
        for problem in problems:
            console.print(f"  skipped {problem}", style="yellow", highlight=False)
    return found


def prior(args: argparse.Namespace, console: Console) -> None:
    path = args.output / f"prior_{args.family}.json.gz"
    records = [r for r in read(args.records, console) if family_of(r) == args.family]
    upon = None
    if args.target is not None:
        upon = CostModel.load(path)
        path = args.output / f"prior_{args.target}.json.gz"
        records = [r for r in records if r.target == args.target]
    console.print(dict(Counter(record.status for record in records)))
    held = []
    for one in leave_one_network_out(records, prior=upon, seed=args.seed, rounds=args.rounds):
        held.append(one)
        console.print(f"  {one.network}: {one.share:.1%}", style="dim", highlight=False)
    show(held, console)
    if args.check:
        return
    model = CostModel.fit(records, prior=upon, per_spec=False, seed=args.seed, rounds=args.rounds)
    if args.add:
        model = CostModel.load(path).joined(model)
    model.save(path)
    size = path.stat().st_size
    console.print(f"{path}: {len(model.templates)} templates, {size:,} bytes", highlight=False)


def family_of(record: Record) -> str:
    return load(record.target).family


def show(held: list[Held], console: Console) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("left out")
    for title in ("specs", "rank correlation", "pick", "worst", "analytic pick"):
        table.add_column(title, justify="right")
    table.add_column("worst spec", overflow="fold")
    for one in held:
        figures = (f"{x:.1%}" for x in (one.share, one.worst, one.analytic_share))
        row = (one.network, str(one.specs), f"{one.correlation:.3f}", *figures, one.worst_key)
        table.add_row(*row)
    console.print(table)


def best(args: argparse.Namespace, console: Console) -> None:
    records = read(args.records if args.best is None else args.best, console)
    path = args.output / f"prior_{args.family}.json.gz"
    model = None if args.as_measured or not path.exists() else CostModel.load(path)
    for target, lines in write_best(records, args.output, model).items():
        size = (args.output / f"{target}.jsonl").stat().st_size
        console.print(f"{target}.jsonl: {lines} records, {size:,} bytes", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
