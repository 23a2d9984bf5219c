#!/usr/bin/env python3
"""Time what is known of a spec beside what the model likes, warm and cold, and record the winners.

    scripts/contest_records.py resnet50 --records contest.jsonl
    scripts/contest_records.py @specs.txt --layout last --known tuned.jsonl
    scripts/build_prior.py --no-prior --as-measured --best contest.jsonl more.jsonl    ship them

Goes on where a run before ended: a spec that has a final record in the file is left alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tvmconv import target as targets
from tvmconv import workloads
from tvmconv.bench.candidates import Entry, contest, likely, winners
from tvmconv.cli.arguments import LAYOUTS
from tvmconv.errors import TvmconvError
from tvmconv.spec import ConvSpec
from tvmconv.template import Task
from tvmconv.tolerance import DEFAULT_MAX_ERROR
from tvmconv.tuning.knowledge import prior, shipped_sources
from tvmconv.tuning.log import run_name
from tvmconv.tuning.records import Journal, Record, read_records
from tvmconv.validate import validate


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "workloads", nargs="+", help="spec texts, networks, network:N, or @FILE of spec texts"
    )
    parser.add_argument("--records", type=Path, default="tvmconv-records.jsonl", help="to add to")
    parser.add_argument(
        "--known", type=Path, nargs="*", default=[], metavar="FILE", help="more candidates"
    )
    parser.add_argument("--layout", choices=LAYOUTS, help="where the channels are put")
    parser.add_argument("--configs", type=int, default=14, help="of the model, for each spec")
    parser.add_argument("--seconds", type=float, default=0.1, help="for each good candidate")
    parser.add_argument("--target", default="host")
    parser.add_argument("--max-error", type=float, default=DEFAULT_MAX_ERROR)
    args = parser.parse_args(argv)
    try:
        return run(args)
    except TvmconvError as error:
        print(f"contest_records: {error}", file=sys.stderr)
        return 1


def run(args: argparse.Namespace) -> int:
    target = targets.load(args.target)
    model, reason = prior(target)
    if model is None:
        print(f"contest_records: {reason}", file=sys.stderr)
        return 1
    known: dict[str, list[Record]] = {}
    for path in args.known:
        for record in read(path):
            known.setdefault(record.spec, []).append(record)
    shipped = shipped_sources(target)
    done = {r.spec for r in read(args.records)} if args.records.exists() else set()
    specs = named(args)
    with Journal(args.records) as journal:
        for number, spec in enumerate(specs, 1):
            if str(spec) in done:
                continue
            task = Task(spec, target, max_error=args.max_error)
            records = [r for source in shipped for r in source.of(task)]
            records += known.get(str(spec), [])
            some = [(r.template, r.config) for r in records if r.status == "ok"]
            best = winners(contest(task, some + likely(task, model, args.configs),
                                   seconds=args.seconds))  # fmt: skip
            run = run_name()
            for entry in best:
                journal.append(final(task, entry, run))
            text = "; ".join(
                f"{e.kernel.template_id} {e.kernel.config} {1e6 * e.warm:.4g} us, "
                f"cold {1e6 * e.cold:.4g}"
                for e in best
            )
            print(f"{number}/{len(specs)} {spec}: {text}", flush=True)
    return 0


def final(task: Task, entry: Entry, run: str) -> Record:
    """The record of an entry of a contest, whose answers are proven first."""
    validate(entry.kernel).require()
    return Record.now(
        spec=str(task.spec), target=task.target.id, template=entry.kernel.template_id,
        config=str(entry.kernel.config), threads=1, status="ok", seconds=(entry.warm,),
        stage="final", run=run,
    )  # fmt: skip


def named(args: argparse.Namespace) -> list[ConvSpec]:
    specs = [layer.spec.linear() for text in args.workloads for layer in workloads.listed(text)]
    if args.layout is not None:
        specs = [spec.laid_out(LAYOUTS[args.layout]) for spec in specs]
    return list(dict.fromkeys(specs))


def read(path: Path) -> list[Record]:
    records, problems = read_records(path)
    for problem in problems:
        print(f"skipped {problem}", file=sys.stderr)
    return list(records)


if __name__ == "__main__":
    sys.exit(main())
