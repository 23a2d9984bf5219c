"""What came of a run on a GPU, as a Markdown page: figures by kind of layer, then every layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import Any

from tvmconv.bench.labels import label, microseconds
from tvmconv.bench.torch_cuda_peers import TF32 as TF32_PEER
from tvmconv.spec import ConvSpec
from tvmconv.tolerance import TF32
from tvmconv.tuning.gpu_check import RECORDS, STEPS, Step, read_steps
from tvmconv.tuning.gpu_plan import Plan
from tvmconv.tuning.records import Record, read_records, tuning_key

OURS = "tvmconv"


@dataclass(frozen=True)
class LayerResult:
    """One convolution: seconds of each contestant.

    Attributes:
        spec: of the convolution.
        ours: the bundle's kernel.
        best: the fastest candidate, or the bundle's kernel; TF32 apart.
        best_tf32: the same with TF32.
        peers: torch's, by name.
        candidates: how many were measured, and how many of them failed.
        problems: peers that could not be timed, and why.
    """

    spec: ConvSpec
    ours: float
    best: float
    best_tf32: float
    peers: Mapping[str, float]
    candidates: tuple[int, int]
    problems: Mapping[str, str]

    @property
    def peer(self) -> float | None:
        """The fastest peer that computes as exactly as we do: TF32 apart."""
        return min(
            (s for name, s in self.peers.items() if not name.endswith(TF32_PEER)), default=None
        )

    @property
    def ratio(self) -> float | None:
        """That peer's time over our best; above 1 we are faster."""
        return None if self.peer is None else self.peer / self.best


def kind(spec: ConvSpec) -> str:
    """Which of the figures a convolution counts for."""
    batch = f"batch {spec.n}"
    if spec.op == "deform_conv":
        return f"deformable, {batch}"
    if spec.op == "conv_transpose" or spec.groups > 1 or max(spec.dilation) > 1 or spec.rank == 3:
        return f"{spec.dtype}, depthwise, grouped, transposed, dilated, 3-D, {batch}"
    if spec.dtype == "float32" and set(spec.kernel) == {3} and max(spec.stride) == 1:
        return f"float32, 3x3 stride 1, {batch}"
    other = "other " if spec.dtype == "float32" else ""
    return f"{spec.dtype}, {other}dense, {batch}"


def layer_results(
    steps: Iterable[Step],
    records: Sequence[Record],
    accuracies: Mapping[tuple[str, str, str, str], str],
) -> list[LayerResult]:
    """The convolutions that were timed, in the order of their steps.

    Args:
        steps: of a run.
        records: of its candidates.
        accuracies: of candidates, by `gpu_plan.Prepared.key`.
    """
    by_key: dict[str, list[Record]] = {}
    for record in records:
        by_key.setdefault(tuning_key(record.spec), []).append(record)
    found = []
    for step in steps:
        if step.key.startswith("layer ") and step.state == "done" and step.result["ok"]:
            best = {name: min(some) for name, some in step.result["samples"].items() if some}
            tried = by_key.get(tuning_key(step.result["spec"]), [])
            ours = best.pop(OURS)
            right = [r for r in tried if r.status == "ok"]
            exact = [r for r in right if accuracies.get(_key(r)) != TF32]
            found.append(
                LayerResult(
                    spec=ConvSpec.parse(step.result["spec"]),
                    ours=ours,
                    best=min([ours, *(r.score for r in exact)]),
                    best_tf32=min([ours, *(r.score for r in right)]),
                    peers=best,
                    candidates=(len(tried), len(tried) - len(right)),
                    problems=step.result["problems"],
                )
            )
    return found


def _key(record: Record) -> tuple[str, str, str, str]:
    return record.spec, record.target, record.template, record.config


def report(out: Path, plan: Plan) -> str:
    """The page for a folder that gpu_check wrote to."""
    accuracies = {c.key: str(c.entry["accuracy"]) for c in plan.candidates}
    steps = list(read_steps(out / STEPS))
    records = read_records(out / RECORDS)[0] if (out / RECORDS).is_file() else ()
    device = next((s.result for s in reversed(steps) if s.key == "device"), {})
    layers = layer_results(steps, records, accuracies)
    parts = [
        "# tvmconv on a GPU",
        _device(device),
        _selftests(steps),
        _figures(layers),
        _candidates(steps, records),
        _layers(layers),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _device(device: Mapping[str, Any]) -> str:
    if not device:
        return "No GPU was found."
    major, minor = device["capability"]
    return (f"{device['name']} (sm_{major}{minor}, {device['sms']} multiprocessors), driver for "
            f"CUDA {device['driver']}, code for {device['target']}.")  # fmt: skip


def _selftests(steps: Sequence[Step]) -> str:
    done = [step for step in steps if step.state == "done"]
    tests = [step for step in done if step.key.startswith("selftest ")]
    right = sum(bool(step.result["ok"]) for step in tests)
    lines = [f"Self-tests: {right} of {len(tests)} kernels right."]
    for what, word in (("selftest ", "FAIL"), ("layer ", "not timed:")):
        lines += [
            f"- {word} {step.key.removeprefix(what)}: {step.result['text']}"
            for step in done
            if step.key.startswith(what) and not step.result["ok"]
        ]
    return "\n".join(lines)


def _figures(layers: Sequence[LayerResult]) -> str:
    """Geometric means of cuDNN's time over ours, TF32 off."""
    kinds: dict[str, list[LayerResult]] = {}
    for layer in layers:
        kinds.setdefault(kind(layer.spec), []).append(layer)
    rows = []
    for name, some in kinds.items():
        compared = [layer for layer in some if layer.peer is not None]
        best = _mean([layer.peer / layer.best for layer in compared if layer.peer])
        plain = _mean([layer.peer / layer.ours for layer in compared if layer.peer])
        tf32 = [min(layer.peers.values()) / layer.best_tf32 for layer in compared]
        rows.append(f"| {name} | {len(some)} | {best} | {plain} | {_mean(tf32)} |")
    head = (
        "| layers | count | torch's best / our best | / our default | TF32 allowed, best / best |\n"
        "| --- | ---: | ---: | ---: | ---: |"
    )
    return "\n".join(["## Figures", "", "Geometric means; above 1 we are faster.", "", head, *rows])


def _mean(values: Sequence[float]) -> str:
    return f"{exp(sum(map(log, values)) / len(values)):.2f}" if values else "-"


def _candidates(steps: Sequence[Step], records: Sequence[Record]) -> str:
    done = [s for s in steps if s.key.startswith("candidates ") and s.state == "done"]
    if not records:
        return ""
    wrong = [r for r in records if r.status != "ok"]
    lines = [f"## Candidates\n\n{len(records)} measured, {len(wrong)} of them failed."]
    if done:
        longest = max(float(s.result["seconds"]) for s in done)
        lines.append(f"The slowest convolution took {longest:.1f} s for all of its candidates.")
    lines += [f"- {r.status}: {r.spec} {r.template} {r.config}: {r.message}" for r in wrong]
    return "\n".join(lines)


def _layers(layers: Sequence[LayerResult]) -> str:
    names = list(dict.fromkeys(name for layer in layers for name in layer.peers))
    head = ["layer", "ours", "our best", *(n.removeprefix("torch_cuda_") for n in names), "ratio"]
    lines = ["## Layers", "", "Microseconds.", "", f"| {' | '.join(head)} |",
             f"| --- |{' ---: |' * (len(head) - 1)}"]  # fmt: skip
    for layer in layers:
        cells = [f"{label(layer.spec)} {layer.spec.dtype}", microseconds(layer.ours),
                 microseconds(layer.best)]  # fmt: skip
        cells += [microseconds(layer.peers.get(name)) for name in names]
        cells.append("-" if layer.ratio is None else f"{layer.ratio:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"- {layer.spec}: {name}: {problem}"
              for layer in layers for name, problem in layer.problems.items()]  # fmt: skip
    return "\n".join(lines)
