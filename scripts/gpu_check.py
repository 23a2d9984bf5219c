#!/usr/bin/env python3
"""Measure a prepared folder on this machine's GPU: one command, which answers everything.

    scripts/gpu_check.py                     out/, within 9 minutes
    scripts/gpu_check.py out/ --budget 300   goes on where the last run was stopped

Needs Python, numpy, torch (with CUDA, for the comparison), this checkout, and the folder that
scripts/gpu_prepare.py made; neither TVM nor a CUDA toolkit. It runs every kernel's self-test, times
each beside cuDNN, then measures the candidates. Into the folder go, a line at a time:

    steps.jsonl     what was done, and the times of kernels and of torch
    records.jsonl   candidates, as `tvmconv tune` writes them: scripts/build_prior.py ships them
    report.md       the figures

The work is done in a process of its own: a kernel that crashes the GPU takes that one down, and the
next goes on behind it. Exit status: 0 all done and every self-test passed, 1 not, 2 no GPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # nothing is installed on the machine with the GPU

from tvmconv.errors import BundleError, DeviceError  # noqa: E402
from tvmconv.tuning import gpu_check  # noqa: E402
from tvmconv.tuning.gpu_plan import Plan  # noqa: E402
from tvmconv.tuning.gpu_report import report  # noqa: E402

NO_GPU = 2
# Whatever goes wrong, the report is written: so many seconds are kept for it and for starting.
RESERVE = 10.0
MAX_PROCESSES = 200


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "out")
    parser.add_argument("--budget", type=float, default=540.0, metavar="SECONDS")
    parser.add_argument("--output", "-o", type=Path, metavar="FOLDER", help="default: the folder")
    parser.add_argument("--no-peers", action="store_true", help="do not time torch")
    parser.add_argument("--worker", type=float, metavar="DEADLINE", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    out = args.output or args.folder
    out.mkdir(parents=True, exist_ok=True)
    if args.worker is not None:
        return work(args, out)
    deadline = time.time() + args.budget - RESERVE
    code = supervise(args, out, deadline)
    if code == NO_GPU:
        return NO_GPU
    text = report(out, Plan(args.folder))
    (out / "report.md").write_text(text, encoding="utf-8")
    print(text)
    if code == gpu_check.OUT_OF_TIME:
        print("time is up; the same command goes on from here")
    tests = [s for s in gpu_check.read_steps(out / gpu_check.STEPS) if s.key.startswith("selftest")]
    right = all(step.result["ok"] for step in tests if step.state == "done")
    return 0 if code == gpu_check.DONE and right else 1


def supervise(args: argparse.Namespace, out: Path, deadline: float) -> int:
    """Start processes until the work is done or the time is up."""
    command = [sys.executable, str(Path(__file__).resolve()), str(args.folder), "--output",
               str(out), "--worker", str(deadline)]  # fmt: skip
    command += ["--no-peers"] if args.no_peers else []
    for _ in range(MAX_PROCESSES):
        try:
            left = max(1.0, deadline + RESERVE / 2 - time.time())
            code = subprocess.run(command, check=False, timeout=left).returncode
        except subprocess.TimeoutExpired:
            print("a step hung until the time was up", file=sys.stderr)
            return gpu_check.OUT_OF_TIME
        if code in (gpu_check.DONE, gpu_check.OUT_OF_TIME, NO_GPU):
            return code
        if time.time() >= deadline:
            return gpu_check.OUT_OF_TIME
        print(f"the process ended with {code}; going on in another", file=sys.stderr)
    return gpu_check.OUT_OF_TIME


def work(args: argparse.Namespace, out: Path) -> int:
    """One process's part."""
    try:
        peers = gpu_check.no_peers if args.no_peers else gpu_check.torch_peers
        check = gpu_check.GpuCheck(Plan(args.folder), out, args.worker, peers=peers)
    except (BundleError, DeviceError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return NO_GPU
    return check.run()


if __name__ == "__main__":
    sys.exit(main())
