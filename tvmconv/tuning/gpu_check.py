"""Measures a prepared folder on this machine's GPU: self-tests, torch beside us, candidates.

Every step is a line in ``steps.jsonl`` when it begins and one when it is done, so that a run goes
on where it was stopped, and a step in which the process died is known as such. Outcomes of
candidates are records as the tuner writes them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tvmconv.bundle.checks import of_target
from tvmconv.bundle.cuda_kernels import CudaKernel
from tvmconv.bundle.golden import golden_inputs
from tvmconv.cuda.driver import Device, driver
from tvmconv.cuda.timing import Stopwatch
from tvmconv.elements import numpy_dtype
from tvmconv.errors import DeviceCrashed, DeviceError, TvmconvError
from tvmconv.tuning.gpu_plan import AnswerCheck, Plan, Prepared
from tvmconv.tuning.gpu_trials import GpuTrials, TrialCode, code_of
from tvmconv.tuning.measure import WALL_SAMPLES, Outcome
from tvmconv.tuning.records import Journal, Record, read_records

STEPS: Final = "steps.jsonl"
RECORDS: Final = "records.jsonl"
# What a process ends with: all is done, there was no time for the rest, the GPU must be reset.
DONE, OUT_OF_TIME, CRASHED = 0, 3, 4
# A step that took the process down so often is given up.
ATTEMPTS: Final = 1

Sampler = Callable[[], float]
# Peers of a kernel by name: each with what takes a sample of it, or why there is none.
Peers = Callable[[CudaKernel], Mapping[str, Sampler | str]]


def no_peers(kernel: CudaKernel) -> Mapping[str, Sampler | str]:
    """Compare with nothing."""
    return {}


@dataclass(frozen=True)
class Step:
    """One line of ``steps.jsonl``.

    Attributes:
        key: "selftest SYMBOL", "layer SPEC", "candidates SPEC".
        state: "begun" or "done".
        result: what came of it; empty when it begins.
    """

    key: str
    state: str
    result: Mapping[str, Any]


class StepLog:
    """The file of steps; what is appended is on the disk when it returns."""

    def __init__(self, path: Path) -> None:
        """Read what is there."""
        self._path = path
        self.steps = list(read_steps(path))

    def result(self, key: str) -> Mapping[str, Any] | None:
        """The result of a step that is done."""
        return next((s.result for s in self.steps if (s.key, s.state) == (key, "done")), None)

    def attempts(self, key: str) -> int:
        """How often a step was begun."""
        return sum((s.key, s.state) == (key, "begun") for s in self.steps)

    def append(self, key: str, state: str, result: Mapping[str, Any] | None = None) -> None:
        """Add a line."""
        step = Step(key, state, result or {})
        self.steps.append(step)
        line = json.dumps({"key": key, "state": state, "result": step.result}) + "\n"
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def read_steps(path: Path) -> Iterator[Step]:
    """The steps of a file; a line that is cut off is skipped."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            content = json.loads(line)
            yield Step(content["key"], content["state"], content["result"])
        except (ValueError, KeyError, TypeError):
            continue


class GpuCheck:
    """One process's part of the work on a prepared folder."""

    def __init__(
        self,
        plan: Plan,
        out: Path,
        deadline: float,
        *,
        peers: Peers = no_peers,
        say: Callable[[str], None] = print,
    ) -> None:
        """Ask for the GPU.

        Args:
            plan: what to do.
            out: folder for steps and records.
            deadline: when to stop, as `time.time` tells it.
            peers: who is timed beside the bundle's kernels.
            say: hears of each step.

        Raises:
            DeviceError: there is no GPU, or none that runs the bundle.
        """
        self._plan, self._deadline, self._peers, self._say = plan, deadline, peers, say
        self.device: Device = driver().device(0)
        self._target = plan.bundle.pick(self.device)[0]
        self._log = StepLog(out / STEPS)
        self._journal = Journal(out / RECORDS)
        records = read_records(out / RECORDS)[0] if (out / RECORDS).is_file() else ()
        self._measured = {(r.spec, r.target, r.template, r.config) for r in records}
        self._run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-gpu"

    def run(self) -> int:
        """Do what is left: DONE, OUT_OF_TIME, or CRASHED when another process should go on."""
        device = {"name": self.device.name, "capability": list(self.device.capability),
                  "sms": self.device.sms, "memory_bytes": self.device.memory_bytes,
                  "driver": driver().version, "target": self._target}  # fmt: skip
        if self._log.result("device") != device:
            self._log.append("device", "done", device)
        kernels = list(self._plan.bundle.kernels.values())
        try:
            for kernel in kernels:
                if not self._step(f"selftest {kernel.symbol}", lambda k=kernel: self._test(k)):  # type: ignore[misc]
                    return OUT_OF_TIME
            for kernel in kernels:
                if not self._step(f"layer {kernel.spec}", lambda k=kernel: self._layer(k)):  # type: ignore[misc]
                    return OUT_OF_TIME
            return self._candidates()
        except DeviceCrashed:
            return CRASHED

    @property
    def _late(self) -> bool:
        return time.time() >= self._deadline

    def _step(self, key: str, work: Callable[[], Mapping[str, Any]]) -> bool:
        """Do a step unless it is done or has taken a process down; False when time is up."""
        if self._log.result(key) is not None:
            return True
        if self._late:
            return False
        if self._log.attempts(key) >= ATTEMPTS:
            self._log.append(key, "done", {"ok": False, "text": "the process died in it"})
            return True
        self._log.append(key, "begun")
        try:
            result = work()
        except DeviceCrashed as crash:
            self._log.append(key, "done", {"ok": False, "text": str(crash)})
            raise
        except TvmconvError as error:
            result = {"ok": False, "text": str(error)}
        self._log.append(key, "done", result)
        self._say(f"{key}: {result.get('text', '')}")
        return True

    def _test(self, kernel: CudaKernel) -> Mapping[str, Any]:
        row = self._plan.bundle.test(kernel)
        if "CUDA_ERROR" in row.text:  # nothing works any more, or all is well: ask
            self.device.synchronize()
        return {"ok": row.ok, "text": row.text}

    def _layer(self, kernel: CudaKernel) -> Mapping[str, Any]:
        """Time the bundle's kernel beside its peers, in turns."""
        entry = of_target(kernel.entry, self._target)
        code = code_of(entry, self._plan.bundle.content, kernel.symbol)
        trials = self._trials(kernel)
        with Stopwatch(self.device) as stopwatch:
            loaded = trials.load(code)
            with stopwatch.prepare(loaded.launch) as recorded:
                samplers: dict[str, Sampler] = {"tvmconv": recorded.sample}
                problems: dict[str, str] = {}
                for name, peer in self._peers(kernel).items():
                    if isinstance(peer, str):
                        problems[name] = peer
                    else:
                        samplers[name] = peer
                samples: dict[str, list[float]] = {name: [] for name in samplers}
                for _ in range(WALL_SAMPLES):
                    for name, sampler in list(samplers.items()):
                        try:
                            samples[name].append(sampler())
                        except DeviceCrashed:
                            raise
                        except DeviceError as error:
                            problems[name] = str(error)
                            del samplers[name]
        best = {name: min(some) for name, some in samples.items() if some}
        text = ", ".join(f"{name} {1e6 * value:.1f} us" for name, value in best.items())
        return {"ok": True, "text": text, "spec": kernel.spec, "template": entry["template"],
                "config": entry["config"], "samples": samples, "problems": problems}  # fmt: skip

    def _trials(self, kernel: CudaKernel) -> GpuTrials:
        tensors = golden_inputs(kernel.entry)
        return GpuTrials(self.device, tensors, kernel.shapes["y"], kernel.dtype)

    def _candidates(self) -> int:
        """Measure candidates, convolution by convolution."""
        mine = [c for c in self._plan.candidates if c.target == self._target and not c.duplicate_of]
        by_spec: dict[str, list[Prepared]] = {}
        for candidate in mine:
            if candidate.key not in self._measured:
                by_spec.setdefault(candidate.spec, []).append(candidate)
        with Stopwatch(self.device) as stopwatch:
            for spec, some in by_spec.items():
                kernel = self._plan.bundle.kernel(spec)
                started, trials = time.perf_counter(), self._trials(kernel)
                checks: dict[str, AnswerCheck] = {}
                best = float("inf")
                for candidate in some:
                    if self._late:
                        return OUT_OF_TIME
                    check = checks.setdefault(
                        candidate.golden, AnswerCheck(self._plan.golden(candidate))
                    )
                    outcome = self._measure(candidate, trials, check, stopwatch, best)
                    best = min(best, outcome.score)
                    if outcome.status == "crashed":
                        return CRASHED
                seconds = time.perf_counter() - started
                result = {"ok": True, "candidates": len(some), "seconds": seconds,
                          "text": f"{len(some)} candidates in {seconds:.1f} s"}  # fmt: skip
                self._log.append(f"candidates {spec}", "done", result)
                self._say(f"candidates {spec}: {result['text']}, best {1e6 * best:.1f} us")
        return DONE

    def _measure(
        self, candidate: Prepared, trials: GpuTrials, check: AnswerCheck, stopwatch: Stopwatch,
        best: float,
    ) -> Outcome:  # fmt: skip
        key = "candidate " + " ".join(candidate.key)
        if self._log.attempts(key) >= ATTEMPTS:
            outcome = Outcome("crashed", "the process died in it")
            self._write(candidate, outcome)
            return Outcome("timed_out", outcome.message)
        self._log.append(key, "begun")
        try:
            code: TrialCode = self._plan.code(candidate)
            outcome = trials.measure(code, check, stopwatch, best)
        except TvmconvError as error:
            outcome = Outcome("build_failed", str(error))
        self._write(candidate, outcome)
        return outcome

    def _write(self, candidate: Prepared, outcome: Outcome) -> None:
        self._journal.append(
            Record(
                spec=candidate.spec,
                target=candidate.target,
                template=candidate.template,
                config=candidate.config,
                threads=1,
                status=outcome.status,
                message=outcome.message,
                seconds=tuple(float(f"{sample:.5g}") for sample in outcome.seconds),
                run=self._run,
                versions=self._plan.made_with,
                cpu=self.device.name,
                time=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )


def torch_peers(kernel: CudaKernel) -> Mapping[str, Sampler | str]:
    """Samplers of torch with cuDNN, on the same values."""
    from tvmconv.bench.plain import Plain
    from tvmconv.bench.torch_cuda_peers import TorchSampler, launcher, names_for
    from tvmconv.operands import Operands
    from tvmconv.spec import ConvSpec

    spec = ConvSpec.parse(kernel.spec)
    dtype = numpy_dtype(kernel.dtype)
    inputs = {name: value.astype(dtype) for name, value in golden_inputs(kernel.entry).items()}
    plain = Plain.of(spec, Operands(**inputs))
    found: dict[str, Sampler | str] = {}
    for name in names_for(spec):
        try:
            found[name] = TorchSampler(launcher(name, plain)).sample
        except DeviceCrashed:
            raise
        except TvmconvError as error:
            found[name] = str(error)
    return found
