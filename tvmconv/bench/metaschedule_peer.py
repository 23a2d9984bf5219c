"""Stock TVM as a peer: MetaSchedule tunes a plain TE convolution for a given number of trials.

    metaschedule        32 trials
    metaschedule:96     96 trials

Tensors are channels last with weights [*k, ic/g, oc], the order in which its vectors run over
output channels. Nothing is kept between runs: each layer is tuned anew, for a minute or more.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from tvmconv.bench.peers import Ready
from tvmconv.bench.plain import Array, Plain, at_cache_line
from tvmconv.errors import UnsupportedSpec
from tvmconv.spec import ConvSpec

NAMES = ("metaschedule",)
DEFAULT_TRIALS = 32
TRIALS_PER_ROUND = 32
# Workers import TVM and every tensor intrinsic when they start, which takes 15 to 25 seconds.
WORKER_SECONDS = 120.0
Expr = Any


def names_for(spec: ConvSpec) -> tuple[str, ...]:
    """The one way; the number of trials is part of the contestant's name."""
    return NAMES


def prepare(name: str, plain: Plain, threads: int) -> Ready:
    """Tune the layer and load the best schedule; see tvmconv.bench.peers."""
    spec = plain.spec
    _check(spec)
    trials = int(name.partition(":")[2] or DEFAULT_TRIALS)
    # The smallest layer stands for the cost of a call, which no schedule changes.
    function = _tuned(plain, min(trials, 1 + spec.macs // 1000), threads)
    given = arguments(plain)

    def call() -> Any:
        function(*given)
        return given[-1]

    return Ready(call, lambda y: np.ascontiguousarray(np.moveaxis(y.numpy(), -1, 1)))


def arguments(plain: Plain) -> list[Any]:
    """The tensors of a call, in the order of the declaration; the last is the output."""
    import tvm

    spec = plain.spec
    x = np.moveaxis(plain.x, 1, -1)
    weight = plain.weight.transpose(*range(2, 2 + spec.rank), 1, 0)
    optional = [array for array in (plain.bias, _last(plain.residual)) if array is not None]
    out = np.zeros((spec.n, *spec.out_size, spec.oc), np.float32)
    every = (x, weight, *optional, out)
    return [tvm.runtime.from_dlpack(at_cache_line(array)) for array in every]


def _last(array: Array | None) -> Array | None:
    return None if array is None else np.moveaxis(array, 1, -1)


def _check(spec: ConvSpec) -> None:
    if spec.op != "conv":
        raise UnsupportedSpec(f"stock TVM has no {spec.op} that MetaSchedule would tune")
    if spec.padding_mode not in ("zeros", "constant") or min(spec.pads_begin + spec.pads_end) < 0:
        raise UnsupportedSpec("the plain TE convolution pads with one value")
    if spec.activation not in ACTIVATIONS:
        raise UnsupportedSpec(f"the plain TE convolution has no {spec.activation}")


def _tuned(plain: Plain, trials: int, threads: int) -> Any:
    """The compiled best of so many trials."""
    import tvm
    from tvm.s_tir import meta_schedule as ms
    from tvm.target import Target

    logging.getLogger("tvm.s_tir.meta_schedule").setLevel(logging.ERROR)
    mcpu = tvm.get_global_func("target.llvm_get_system_cpu")()
    target = Target({"kind": "llvm", "mcpu": mcpu, "num-cores": threads})
    mod = tvm.IRModule({"main": declaration(plain)})
    with tempfile.TemporaryDirectory(prefix="tvmconv-metaschedule-") as folder:
        database = ms.tune_tir(
            mod=mod,
            target=target,
            work_dir=folder,
            max_trials_global=trials,
            num_trials_per_iter=min(trials, TRIALS_PER_ROUND),
            builder=ms.builder.LocalBuilder(max_workers=1, timeout_sec=WORKER_SECONDS),
            runner=ms.runner.LocalRunner(
                timeout_sec=WORKER_SECONDS,
                evaluator_config=ms.runner.EvaluatorConfig(
                    number=1, repeat=3, min_repeat_ms=10, enable_cpu_cache_flush=False
                ),
            ),
            num_tuning_cores=1,
            seed=0,
        )
        schedule = ms.tir_integration.compile_tir(database, mod, target)
    if schedule is None:
        raise RuntimeError(f"none of {trials} trials gave a schedule")
    return tvm.compile(schedule.mod, target=target)["main"]


def declaration(plain: Plain) -> Any:
    """The layer in TE: pad, sum, finish."""
    from tvm import te

    spec = plain.spec
    x = te.placeholder((spec.n, *spec.in_size, spec.ic), name="x")
    weight = te.placeholder((*spec.kernel, spec.ic // spec.groups, spec.oc), name="weight")
    given = [x, weight]
    padded = _padded(spec, x)
    taps = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(spec.kernel)]
    ic = te.reduce_axis((0, spec.ic // spec.groups), "ic")
    per_group = spec.oc // spec.groups

    def term(*at: Expr) -> Expr:
        places = zip(at[1:-1], spec.stride, taps, spec.dilation, strict=True)
        where = [o * stride + tap * dilation for o, stride, tap, dilation in places]
        channel = ic if spec.groups == 1 else at[-1] // per_group * (spec.ic // spec.groups) + ic
        return te.sum(padded(at[0], *where, channel) * weight(*taps, ic, at[-1]), [*taps, ic])

    shape = (spec.n, *spec.out_size, spec.oc)
    y = te.compute(shape, term, name="sums")
    if plain.bias is not None:
        bias = te.placeholder((spec.oc,), name="bias")
        given.append(bias)
        y = _then(y, "biased", lambda v, *at: v + bias(at[-1]))
    if plain.residual is not None:
        residual = te.placeholder(shape, name="residual")
        given.append(residual)
        y = _then(y, "added", lambda v, *at: v + residual(*at))
    if spec.activation != "none":
        activate = ACTIVATIONS[spec.activation]
        y = _then(y, "activated", lambda v, *at: activate(v, *spec.activation_args))
    return te.create_prim_func([*given, y])


def _then(y: Expr, name: str, step: Callable[..., Expr]) -> Expr:
    """One stage more, element by element."""
    from tvm import te

    return te.compute(y.shape, lambda *at: step(y(*at), *at), name=name)


def _padded(spec: ConvSpec, x: Expr) -> Expr:
    from tvm import te, tirx

    if not any(spec.pads_begin + spec.pads_end):
        return x
    sizes = zip(spec.in_size, spec.pads_begin, spec.pads_end, strict=True)
    shape = (spec.n, *(size + begin + end for size, begin, end in sizes), spec.ic)

    def value(*at: Expr) -> Expr:
        where = [o - begin for o, begin in zip(at[1:-1], spec.pads_begin, strict=True)]
        inside = tirx.all(
            *(c for w, size in zip(where, spec.in_size, strict=True) for c in (w >= 0, w < size))
        )
        outside = tirx.const(spec.pad_value, "float32")
        return tirx.if_then_else(inside, x(at[0], *where, at[-1]), outside)

    return te.compute(shape, value, name="padded")


def _clip(v: Expr, low: float = 0.0, high: float = 6.0) -> Expr:
    from tvm import te

    return te.min(te.max(v, np.float32(low)), np.float32(high))


def _relu(v: Expr) -> Expr:
    from tvm import te

    return te.max(v, np.float32(0))


def _leaky_relu(v: Expr, slope: float) -> Expr:
    from tvm import tirx

    return tirx.Select(v < np.float32(0), v * np.float32(slope), v)


def _hardswish(v: Expr) -> Expr:
    return v * _clip(v + np.float32(3)) * np.float32(1 / 6)


ACTIVATIONS: dict[str, Callable[..., Expr]] = {
    "none": lambda v: v,
    "relu": _relu,
    "relu6": _clip,
    "clip": _clip,
    "leaky_relu": _leaky_relu,
    "hardswish": _hardswish,
}
