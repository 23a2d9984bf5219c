#!/usr/bin/env python3
"""Time what is known of a spec beside what the model likes, warm and cold, and record the winners.

    scripts/contest_records.py resnet50 --records contest.jsonl
    scripts/contest_records.py @specs.txt --layout last --known tuned.jsonl
    scripts/build_prior.py --no-prior --best contest.jsonl more.jsonl    ship them

Goes on where a run before ended: a spec that has a final record in the file is left alone.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from tvmconv import layouts, workloads
from tvmconv import target as targets
from tvmconv.bench.candidates import Entry, contest, likely, winners
from tvmconv.errors import TvmconvError
from tvmconv.kernel import compile as compile_kernel
from tvmconv.spec import ConvSpec
from tvmconv.template import Task
from tvmconv.tolerance import DEFAULT_MAX_ERROR
from tvmconv.tuning.knowledge import prior, shipped_source
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
    parser.add_argument("--layout", choices=("as-is", "first", "last"), default="as-is")
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
    model, reason = prior(target.family)
    if model is None:
        print(f"contest_records: {reason}", file=sys.stderr)
        return 1
    known: dict[str, list[Record]] = {}
    for path in args.known:
        for record in read_records(path)[0]:
            known.setdefault(record.spec, []).append(record)
    shipped = shipped_source(target)
    done = {r.spec for r in read_records(args.records)[0]} if args.records.exists() else set()
    specs = dict.fromkeys(in_layout(spec, args.layout) for spec in resolve(args.workloads))
    with Journal(args.records) as journal:
        for number, spec in enumerate(specs, 1):
            if str(spec) in done:
                continue
            task = Task(spec, target, max_error=args.max_error)
            records = [*(shipped.of(task) if shipped else ()), *known.get(str(spec), [])]
            some = [(r.template, r.config) for r in records if r.status == "ok"]
            best = winners(contest(task, some + likely(task, model, args.configs),
                                   seconds=args.seconds))  # fmt: skip
            for entry in best:
                journal.append(final(task, entry))
            text = "; ".join(
                f"{e.template} {e.config} {1e6 * e.warm:.4g} us, cold {1e6 * e.cold:.4g}"
                for e in best
            )
            print(f"{number}/{len(specs)} {spec}: {text}", flush=True)
    return 0


def final(task: Task, entry: Entry) -> Record:
    """The record of an entry, whose answers are proven first."""
    kernel = compile_kernel(
        task.spec, task.target, algorithm=entry.template, config=entry.config,
        max_error=task.max_error,
    )  # fmt: skip
    validate(kernel).require()
    return Record.now(
        spec=str(task.spec), target=task.target.id, template=entry.template, config=entry.config,
        threads=1, status="ok", seconds=(entry.warm,), stage="final",
    )  # fmt: skip


def resolve(texts: list[str]) -> list[ConvSpec]:
    found = []
    for text in texts:
        if text.startswith("@"):
            lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
            found += [ConvSpec.parse(line) for line in lines if line.strip()]
        else:
            found += [layer.spec for layer in workloads.resolve(text)]
    return [spec.linear() for spec in found]


def in_layout(spec: ConvSpec, layout: str) -> ConvSpec:
    if layout == "as-is":
        return spec
    of_rank = layouts.channels_first if layout == "first" else layouts.channels_last
    return replace(spec, in_layout=of_rank(spec.rank), out_layout=of_rank(spec.rank))


if __name__ == "__main__":
    sys.exit(main())
