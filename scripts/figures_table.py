"""Turn the JSON of `tvmconv bench` into the tables of docs/measured.md.

    python scripts/figures_table.py out/all.json > tables.md
    python scripts/figures_table.py out/all.json --worst 10 --every

Ratios are the other side's time divided by tvmconv's: above 1, tvmconv is faster.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tvmconv.bench import Layer, Measured, geometric_mean, layers
from tvmconv.bench.labels import microseconds
from tvmconv.bench.matrix import contestants
from tvmconv.bench.summary import Summary, by_kind


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="written by `tvmconv bench SPEC --json FILE`")
    parser.add_argument("--worst", type=int, default=15, metavar="N", help="how many to list")
    parser.add_argument("--every", action="store_true", help="list every layer as well")
    args = parser.parse_args(argv)
    try:
        measured = Measured.from_dict(json.loads(args.file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{args.file}: not the JSON of a benchmark: {error!r}", file=sys.stderr)
        return 1
    print("\n".join(text(measured, args.worst, args.every)))
    return 0


def text(measured: Measured, worst: int, every: bool) -> Iterator[str]:
    """The lines of all tables."""
    compared = layers(measured.rows)
    caches = "cold caches" if measured.cold else "warm caches"
    state = "" if measured.complete else " (the run was interrupted)"
    yield f"{measured.machine}; {measured.seconds} s a contestant, {caches}{state}."
    yield ""
    yield from table(
        ("kind of layer", "layers", "won", "to best peer", "to best of torch", "worst"),
        (
            (one.kind, one.layers, one.won, *map(ratio, (one.to_best, one.to_torch, one.worst)))
            for one in (*by_kind(compared), Summary.of("all", compared))
        ),
    )
    yield from table(
        ("peer", "layers", "fastest peer on", "geometric mean to it", "failed", "call, us"),
        peers(measured, compared),
    )
    ranked = sorted((one for one in compared if one.ratio), key=lambda one: one.ratio or 0)
    yield f"The {min(worst, len(ranked))} layers with the lowest ratio:"
    yield ""
    yield from layer_table(ranked[:worst])
    if every:
        yield "Every layer:"
        yield ""
        yield from layer_table(compared)


def peers(measured: Measured, compared: list[Layer]) -> Iterator[tuple[object, ...]]:
    """What each peer could run and how it compares."""
    best = Counter(one.best_peer.contestant for one in compared if one.best_peer)
    for name in contestants(compared)[1:]:
        rows = [row for row in measured.rows if row.contestant == name]
        ratios = [one.ratio_to(r) for one in compared for r in one.peers if r.contestant == name]
        failed = sum(not row.ok and not row.absent for row in rows)
        overhead = next((row.overhead_seconds for row in rows if row.overhead_seconds), None)
        right = sum(row.ok for row in rows)
        mean = ratio(geometric_mean(ratios))
        yield name, right, best[name], mean, failed, microseconds(overhead)


def layer_table(chosen: Iterable[Layer]) -> Iterator[str]:
    """One row per layer."""
    yield from table(
        ("spec", "template", "tier", "us", "GFLOP/s", "best peer", "us", "ratio", "to torch"),
        (
            (
                f"`{one.ours.spec}`",
                one.ours.template.partition(".")[2] or one.ours.status,
                one.ours.tier,
                microseconds(one.ours.min_seconds),
                "-" if one.ours.gflops is None else f"{one.ours.gflops:.0f}",
                one.best_peer.contestant if one.best_peer else "-",
                microseconds(one.best_peer.min_seconds if one.best_peer else None),
                ratio(one.ratio),
                ratio(one.ratio_to(one.best_of("torch"))),
            )
            for one in chosen
        ),
    )


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """A markdown table; columns of numbers are aligned to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    numbers = [
        all(row[i][:1].isdigit() or row[i] == "-" for row in cells) for i in range(len(titles))
    ]
    yield f"| {' | '.join(titles)} |"
    yield f"| {' | '.join('---:' if number else '---' for number in numbers)} |"
    yield from (f"| {' | '.join(row)} |" for row in cells)
    yield ""


def ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
