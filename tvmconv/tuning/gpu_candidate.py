"""From a trial for a GPU to its machine code in files, as quickly as it goes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.build import build
from tvmconv.cuda.code import DeviceCode
from tvmconv.cuda.compiler import compile_source
from tvmconv.cuda.packing import packing_code
from tvmconv.template import get_template
from tvmconv.tuning.artifact import SYMBOL, Artifact

if TYPE_CHECKING:
    from tvmconv.tuning.measure import Trial


def build_gpu(trial: Trial, folder: Path, number: int) -> Artifact:
    """Compile a trial as ``<number>.json``, with cubins beside it.

    Raises:
        TvmconvError: what `tvmconv.build.build` and `compile_source` raise.
    """
    task, template = trial.task, get_template(trial.template_id)
    marks = [time.perf_counter()]
    built = build(task, template, trial.config, SYMBOL)
    assert built.device is not None, f"{task.target.id} has no device code"
    packing = packing_code(task, template, trial.config, SYMBOL)
    marks.append(time.perf_counter())
    accuracy = template.accuracy(task, trial.config)
    entry = {
        "packed_elems": built.packed_elems,
        "accuracy": accuracy,
        "run": _compiled(built.device, task.target.isa, folder / f"{number}-run.cubin"),
        "pack": _compiled(packing, task.target.isa, folder / f"{number}-pack.cubin"),
    }
    marks.append(time.perf_counter())
    path = folder / f"{number}.json"
    path.write_text(json.dumps(entry), encoding="utf-8")
    return Artifact(
        path=str(path),
        run_args=built.run_args,
        pack_args=built.pack_args,
        packed_elems=built.packed_elems,
        accuracy=accuracy,
        seconds={"lower": marks[1] - marks[0], "compile": marks[2] - marks[1]},
    )


def _compiled(code: DeviceCode, isa: str, path: Path) -> dict[str, Any]:
    """Launches and what the assembler says of a code, whose cubin goes to a file."""
    entry = code.entry() | {"cubin": None, "registers": 0, "spill_bytes": 0}
    if not code.launches:
        return entry
    image = compile_source(code.source, isa + code.arch_suffix)
    path.write_bytes(image.cubin)
    spills = sum(one.store_bytes + one.load_bytes for _, one in image.spills)
    registers = max((one.registers for one in image.usage), default=0)
    return entry | {"cubin": path.name, "registers": registers, "spill_bytes": spills}
