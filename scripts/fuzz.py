#!/usr/bin/env python
"""Prove random legal specs for as long as told; shrink what fails and print its reproducer.

    scripts/fuzz.py --minutes 10
    scripts/fuzz.py --minutes 1 --seed 7 --target x86_64_v3 --op deform_conv --keep-going

Exit code 0 when every kernel agreed with torch, 1 otherwise.
"""

import argparse
import sys
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tvmconv as tc  # noqa: E402 - found through the line above in a bare clone
from tests.numeric.proving import level_of  # noqa: E402
from tests.strategies import conv_specs  # noqa: E402
from tvmconv.legality import OPS  # noqa: E402
from tvmconv.spec import ConvSpec  # noqa: E402

# Specs per run of hypothesis: it looks for variety within a run, time is looked at between specs.
BATCH = 50


class Fuzzer:
    """Counts what was tried and remembers the last failure, which hypothesis makes the smallest."""

    def __init__(self, target: str | None, stop: float) -> None:
        self.target, self.stop = target, stop
        self.tried = 0
        self.failure: tuple[ConvSpec, str, Exception] | None = None

    def prove(self, spec: ConvSpec) -> None:
        # Out of time: let the batch run out. A failure may still be shrunk.
        if self.failure is None and time.monotonic() > self.stop:
            return
        self.tried += 1
        target = self.target or level_of(spec)
        try:
            tc.validate(tc.compile(spec, target)).require()
        except Exception as error:
            self.failure = spec, target, error
            raise


def run_batch(fuzzer: Fuzzer, ops: tuple[str, ...], number: int) -> bool:
    """Try one batch; True when all of it agreed."""
    fuzzer.failure = None
    quiet = settings(
        max_examples=BATCH,
        deadline=None,
        database=None,
        verbosity=Verbosity.quiet,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    attempt = seed(number)(quiet(given(conv_specs(ops=ops))(fuzzer.prove)))
    try:
        attempt()
    except Exception:
        if fuzzer.failure is None:
            raise
    return fuzzer.failure is None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="other seed, other specs (default 0)")
    parser.add_argument("--target", help="a target id; default: each spec at one of the levels")
    parser.add_argument("--op", choices=OPS, action="append", help="only this operator; repeatable")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    options = parser.parse_args()
    started = time.monotonic()
    fuzzer = Fuzzer(options.target, started + 60 * options.minutes)
    failures, number = 0, 1000 * options.seed
    while time.monotonic() < fuzzer.stop and (options.keep_going or not failures):
        if not run_batch(fuzzer, tuple(options.op or OPS), number) and fuzzer.failure:
            spec, target, error = fuzzer.failure
            failures += 1
            print(f"FAIL {spec.reproducer} --target {target}\n{type(error).__name__}: {error}\n")
        number += 1
        print(f"{time.monotonic() - started:.0f} s: {fuzzer.tried} kernels", flush=True)
    print(f"{fuzzer.tried} kernels proven, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
