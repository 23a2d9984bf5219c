"""From a spec to a kernel: choose a template and a config, then build."""

from __future__ import annotations

import hashlib
import re
import time
from math import prod

from tvmconv.build import build
from tvmconv.choose import choose, too_inexact
from tvmconv.elements import SHORT_FLOATS
from tvmconv.errors import ArgumentError, InvalidConfig, UnsupportedSpec
from tvmconv.kernel import Kernel
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import Target, load
from tvmconv.template import Task, get_template
from tvmconv.tolerance import DEFAULT_MAX_ERROR
from tvmconv.tuning.knowledge import Paths

MAX_ELEMS = 2**31 - 1


def compile(
    spec: ConvSpec,
    target: str | Target = "host",
    *,
    algorithm: str | None = None,
    config: Config | str | None = None,
    threads: int = 1,
    max_error: float = DEFAULT_MAX_ERROR,
    records: Paths = None,
) -> Kernel:
    """Compile a convolution for a target.

    Args:
        spec: what to compute.
        target: a target id, "host" for this machine, "cuda" for its GPU, or a Target.
        algorithm: force an algorithm ("direct") or a template id ("x86.depthwise").
        config: force a template's config; needs ``algorithm`` to be a template id.
        threads: for how many threads to split the work; also the default of each call.
        max_error: largest relative error that an algorithm may have (docs/tolerances.md).
        records: a file of measurements, or several; the best that apply are used, before those
            that ship. ``tvmconv inspect`` says why one does not apply.

    Raises:
        UnsupportedSpec: no template takes the spec, or a tensor has 2**31 elements or more.
        InvalidConfig: the config does not apply, or is not exact enough.
        RecordsError: a records file cannot be read.
        TargetError: no such target.
        BuildFailed: TVM, LLVM or the linker failed.
    """
    started = time.perf_counter()
    if not isinstance(spec, ConvSpec):
        raise ArgumentError("spec", type(spec).__name__, "a ConvSpec (ConvSpec.parse reads a text)")
    if not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise ArgumentError("threads", threads, "an int from 1 to 1024")
    task = Task(spec, load(target), threads, check_max_error(max_error))
    _check_supported(spec, task.target)
    if config is not None:
        if algorithm is None:
            raise ArgumentError("algorithm", None, "a template id when config is given")
        template = get_template(algorithm)
        reason = template.supports(task)
        if reason is not None:
            raise UnsupportedSpec(f"{template.id} does not take {spec}: {reason}")
        chosen = Config.parse(config) if isinstance(config, str) else config
        template.space(task).check(chosen)
        reason = too_inexact(task, template, chosen)
        if reason is not None:
            raise InvalidConfig(f"config {chosen}: {reason}")
        tier = "forced"
    else:
        candidate = choose(task, algorithm, records)
        template, tier = candidate.template, candidate.tier
        assert candidate.config is not None
        chosen = candidate.config
    symbol = symbol_of(task, template.id, chosen)
    built = build(task, template, chosen, symbol)
    seconds = time.perf_counter() - started
    return Kernel(
        spec=spec,
        target=task.target,
        template_id=template.id,
        algorithm=template.algorithm,
        accuracy=template.accuracy(task, chosen),
        config=chosen,
        tier=tier,
        threads=threads,
        symbol=symbol,
        built=built,
        compile_seconds=seconds,
    )


def check_max_error(value: float) -> float:
    """The value when it is a positive number.

    Raises:
        ArgumentError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ArgumentError("max_error", value, "a number above 0, such as 1e-5")
    return float(value)


def _check_supported(spec: ConvSpec, target: Target) -> None:
    dtypes = ("float32",) if target.gpu is None else ("float32", *SHORT_FLOATS)
    if spec.dtype not in dtypes:
        raise UnsupportedSpec(f"dtype on {target.id}", spec.dtype, ", ".join(dtypes))
    if spec.acc_dtype != "float32":
        raise UnsupportedSpec("acc_dtype", spec.acc_dtype, "float32")
    for name, shape in (("x", spec.x_shape), ("weight", spec.weight_shape), ("y", spec.out_shape)):
        if prod(shape) > MAX_ELEMS:
            raise UnsupportedSpec(f"{name} elements", prod(shape), f"at most {MAX_ELEMS}")


def symbol_of(task: Task, template_id: str, config: Config) -> str:
    """C name of a kernel: readable, and distinct for distinct specs, targets and configs."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", str(task.spec))[:96]
    key = f"{task.spec}|{task.target.id}|{template_id}|{config}"
    return f"{readable}_{hashlib.sha256(key.encode()).hexdigest()[:8]}"
