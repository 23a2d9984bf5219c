"""From a trial to machine code that can be loaded and timed, as quickly as it goes.

Beside `tvmconv.compile` this saves the listings (a quarter of the time), the generated C wrapper
(the stopwatch calls TVM's entry points itself), and the second and later compilation of the same
`pack`, which depends on few of the knobs.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tvmconv.build import lower
from tvmconv.template import get_template
from tvmconv.toolchain import compile_object, link_open, link_shared
from tvmconv.tuning.artifact import SYMBOL, Artifact
from tvmconv.tuning.gpu_candidate import build_gpu

if TYPE_CHECKING:
    from tvmconv.target import Target
    from tvmconv.template import Task
    from tvmconv.tuning.measure import Trial

# Of TVM's functions, in C.
CONVENTION = "(void *, const tvmconv_any *, int32_t, tvmconv_any *)"
HOOKS = '#include "runtime.h"\nTVMCONV_DEFINE_HOOKS\n'

# What is made of a trial: a shared library that needs this machine's runtime, one that brings its
# own, or objects that a program takes together with those of other candidates (batch.py).
Form = Literal["local", "shared", "objects"]


class CandidateBuilder:
    """Builds trials into a folder; keeps the packing functions that it has compiled."""

    def __init__(self, folder: Path, form: Form = "local") -> None:
        """Take the folder for what is made."""
        self._form = form
        self._folder = folder
        self._private = Path(tempfile.mkdtemp(prefix="builder-", dir=folder))
        self._packs: dict[tuple[str, str], Path] = {}
        self._hooks: dict[str, Path] = {}

    def build(self, trial: Trial, number: int) -> Artifact:
        """Compile a trial, and link it unless objects are wanted, as ``<number>.so`` or ``.o``.

        One for a GPU becomes ``<number>.json``.

        Raises:
            TvmconvError: what `tvmconv.build.build` raises.
        """
        if trial.task.target.gpu is not None:
            return build_gpu(trial, self._folder, number)
        from tvmconv.lower.pipeline import lower_to_object

        task, template = trial.task, get_template(trial.template_id)
        marks = [time.perf_counter()]
        lowered = lower(task, template, trial.config, SYMBOL)
        marks.append(time.perf_counter())
        functions = {f"{SYMBOL}_run": lowered.run_loops}
        run = lower_to_object(functions, task.target, listing=False).object_bytes
        pack = self._pack_object(lowered.pack_loops, task.target) if lowered.pack.args else None
        marks.append(time.perf_counter())
        if self._form == "objects":
            path = self._folder / f"{number}.o"
            path.write_bytes(run)
        else:
            objects = [self._private / "run.o", *([pack] if pack else [])]
            objects[0].write_bytes(run)
            path = self._link(objects, self._folder / f"{number}.so", task)
        marks.append(time.perf_counter())
        steps = zip(("lower", "compile", "link"), marks[:-1], marks[1:], strict=True)
        return Artifact(
            path=str(path),
            run_args=tuple(lowered.run.args),
            pack_args=tuple(lowered.pack.args),
            packed_elems=lowered.packed_elems,
            accuracy=template.accuracy(task, trial.config),
            seconds={name: end - begin for name, begin, end in steps},
            pack_path=str(pack) if pack and self._form == "objects" else "",
        )

    def _link(self, objects: list[Path], path: Path, task: Task) -> Path:
        if self._form == "local":
            return link_open([*objects, self._hooks_object(task.target)], path, task.target)
        kinds = ("run", "pack")[: len(objects)]
        shim = HOOKS + "".join(_remote_entry(kind, task.threads) for kind in kinds)
        return link_shared(list(objects), [shim], path, task.target, own_runtime=True)

    def _pack_object(self, loops: Any, target: Target) -> Path:
        from tvmconv.lower.pipeline import lower_to_object

        key = (target.id, loops.script())
        if key not in self._packs:
            functions = {f"{SYMBOL}_pack": loops}
            data = lower_to_object(functions, target, listing=False).object_bytes
            path = self._private / f"pack{len(self._packs)}.o"
            path.write_bytes(data)
            self._packs[key] = path
        return self._packs[key]

    def _hooks_object(self, target: Target) -> Path:
        if target.id not in self._hooks:
            path = self._private / f"hooks-{target.id}.o"
            self._hooks[target.id] = compile_object(HOOKS, path, target)
        return self._hooks[target.id]


def _remote_entry(kind: str, threads: int) -> str:
    """A function that TVM's RPC server calls: the entry point, behind our own thread pool."""
    inner = f"__tvm_ffi_{SYMBOL}_{kind}"
    return f"""
__attribute__((visibility("hidden"))) int32_t {inner}{CONVENTION};
TVMCONV_API int32_t __tvm_ffi_timed_{kind}{CONVENTION};
int32_t __tvm_ffi_timed_{kind}(void *self, const tvmconv_any *args, int32_t count,
                               tvmconv_any *result) {{
  const int32_t before = tvmconv_set_threads({threads if kind == "run" else 1});
  const int32_t failed = {inner}(self, args, count, result);
  tvmconv_set_threads(before);
  return failed;
}}
"""
