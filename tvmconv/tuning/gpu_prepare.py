"""Compiles bundles and candidates for GPUs beforehand, on a machine that need not have one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.bundle import export
from tvmconv.bundle.answers import golden_for
from tvmconv.bundle.manifest import made_with
from tvmconv.compile import compile
from tvmconv.template import Task
from tvmconv.tolerance import DEFAULT_MAX_ERROR
from tvmconv.tuning.artifact import Artifact
from tvmconv.tuning.collect import plan
from tvmconv.tuning.gpu_plan import CANDIDATES, FORMAT, VERSION, Prepared, read_candidates
from tvmconv.tuning.measure import Outcome, Trial
from tvmconv.tuning.processes import Build, Builder

if TYPE_CHECKING:
    from tvmconv.spec import ConvSpec
    from tvmconv.target import Target

# A config that unrolls without end must not hold a core.
BUILD_TIMEOUT = 30.0

# Hears of each step: how many are done, of how many, and what came of it in words.
OnStep = Callable[[int, int, str], None]


def ignore_step(done: int, total: int, text: str) -> None:
    """An OnStep that does nothing."""


def prepare(
    specs: Sequence[ConvSpec],
    targets: Sequence[Target],
    folder: Path,
    *,
    candidates: int = 32,
    max_error: float = DEFAULT_MAX_ERROR,
    seed: int = 0,
    on_step: OnStep = ignore_step,
) -> None:
    """Make or complete a folder that scripts/gpu_check.py measures; gpu_plan.py has its content.

    Candidates that are there already are not compiled again, so a run that was killed goes on.

    Args:
        specs: convolutions; epilogues are left off.
        targets: GPUs.
        folder: where it goes.
        candidates: configs of each convolution and likely template.
        max_error: largest relative error of a candidate's algorithm. The bundle's kernels keep to
            the default of `tvmconv.compile`.
        seed: of the choice of configs.
        on_step: hears of each.

    Raises:
        EnvironmentProblem: there is no CUDA compiler.
        UnsupportedSpec: a convolution that no template takes.
    """
    distinct = list(dict.fromkeys(spec.linear() for spec in specs))
    for part in ("code", "golden"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    _write_bundle(distinct, targets, folder, on_step)
    tasks = [Task(spec, target, 1, max_error) for spec in distinct for target in targets]
    writer = _Writer(folder)
    trials = [t for task in tasks for t in plan(task, candidates, seed) if not writer.has(t)]
    for done, (trial, built) in enumerate(build_all(trials), start=1):
        said = writer.add(trial, built)
        on_step(done, len(trials), f"{trial.task.spec} {trial.template_id}: {said}")
    content = {"format": FORMAT, "version": VERSION, "made_with": made_with()}
    (folder / "plan.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_bundle(
    specs: Sequence[ConvSpec], targets: Sequence[Target], folder: Path,
    on_step: OnStep,
) -> None:  # fmt: skip
    kernels = []
    for done, spec in enumerate(specs, start=1):
        kernels += [compile(spec, target) for target in targets]
        on_step(done, len(specs), f"{spec}: compiled")
    export(kernels, folder / "bundle", name="layers")
    on_step(len(specs), len(specs), "bundle written")


def build_all(
    trials: Iterable[Trial], cores: Sequence[int] | None = None
) -> Iterator[tuple[Trial, Artifact | Outcome]]:
    """Compile trials with a process per core; each with its artifact, or why there is none.

    Artifacts are gone when the next one is asked for.
    """
    usable = sorted(os.sched_getaffinity(0)) if cores is None else list(cores)
    builders: dict[int, Builder] = {}
    waiting, jobs = enumerate(trials), dict[int, Trial]()
    folder = Path(tempfile.mkdtemp(prefix="tvmconv-prepare-"))
    try:
        while True:
            for core in usable:
                if core not in jobs and (entry := next(waiting, None)) is not None:
                    if core not in builders or not builders[core].alive:
                        builders[core] = Builder(folder, core)
                    jobs[core] = entry[1]
                    builders[core].give(Build(entry[1], entry[0]), BUILD_TIMEOUT)
            if not jobs:
                return
            busy = {core: builders[core] for core in jobs}
            first = min(builder.deadline for builder in busy.values())
            heard = wait([b.connection for b in busy.values()], max(0.0, first - time.monotonic()))
            for core, builder in busy.items():
                if builder.connection in heard:
                    yield jobs.pop(core), builder.take()
                elif time.monotonic() > builder.deadline:
                    builder.kill()
                    del builders[core]
                    message = f"not compiled after {BUILD_TIMEOUT:g} s"
                    yield jobs.pop(core), Outcome("timed_out", message)
    finally:
        for builder in builders.values():
            builder.kill()
        shutil.rmtree(folder, ignore_errors=True)


class _Writer:
    """Adds candidates to a folder, each machine code once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        known = tuple(read_candidates(folder / CANDIDATES))
        self._known = {candidate.key for candidate in known}
        self._first = {(c.spec, c.target, c.template, c.entry["run"]["cubin"]): c.config
                       for c in reversed(known) if not c.duplicate_of}  # fmt: skip

    def has(self, trial: Trial) -> bool:
        """Whether a trial is there."""
        return _key(trial) in self._known

    def add(self, trial: Trial, built: Artifact | Outcome) -> str:
        """Add what was built; says what came of it."""
        if isinstance(built, Outcome):
            return f"{built.status}: {built.message}"
        spec, target, template, config = _key(trial)
        entry = self._kept(Path(built.path))
        same = (spec, target, template, entry["run"]["cubin"])
        first = self._first.setdefault(same, config)
        candidate = Prepared(
            spec, target, template, config,
            golden=self._golden(trial, built.accuracy),
            entry=entry,
            duplicate_of=first if first != config else "",
        )  # fmt: skip
        line = json.dumps(asdict(candidate)) + "\n"
        with (self._folder / CANDIDATES).open("a", encoding="utf-8") as file:
            file.write(line)
        self._known.add(candidate.key)
        seconds = sum(built.seconds.values())
        return f"{config}, {seconds:.2f} s" + (
            " (machine code as before)" if first != config else ""
        )

    def _kept(self, path: Path) -> dict[str, Any]:
        """The entry of an artifact, whose machine code is copied to where it stays."""
        entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for part in (entry["run"], entry["pack"]):
            if part["cubin"]:
                code = (path.parent / part["cubin"]).read_bytes()
                part["cubin"] = f"code/{hashlib.sha256(code).hexdigest()[:20]}.cubin"
                if not (self._folder / part["cubin"]).exists():
                    (self._folder / part["cubin"]).write_bytes(code)
        return entry

    def _golden(self, trial: Trial, accuracy: str) -> str:
        """The file of the right answer, written when it is first needed."""
        name = hashlib.sha256(str(trial.task.spec).encode()).hexdigest()[:16]
        path = f"golden/{name}-{accuracy}.bin"
        if not (self._folder / path).exists():
            golden = golden_for(trial.task.spec, accuracy)
            (self._folder / path).write_bytes(golden.encode())
        return path


def _key(trial: Trial) -> tuple[str, str, str, str]:
    return str(trial.task.spec), trial.task.target.id, trial.template_id, str(trial.config)
