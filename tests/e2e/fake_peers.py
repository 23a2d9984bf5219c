"""A family of peers for the tests of the benchmark: right, wrong, and broken in every way."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np

from tvmconv.bench.peers import Family, Ready
from tvmconv.bench.plain import Array, Plain
from tvmconv.errors import UnsupportedSpec
from tvmconv.spec import ConvSpec

NAMES = (
    "fake_right",
    "fake_slow",
    "fake_wrong",
    "fake_shape",
    "fake_raises",
    "fake_missing",
    "fake_unsupported",
    "fake_crashes",
    "fake_crashes_later",
    "fake_hangs",
)
FAMILIES = {"fake": Family("tests.e2e.fake_peers", ("numpy",), prepare_seconds=3.0)}


def names_for(spec: ConvSpec) -> tuple[str, ...]:
    return NAMES


def prepare(name: str, plain: Plain, threads: int) -> Ready:
    answer = _answer(plain)
    match name:
        case "fake_raises":
            raise RuntimeError("\n  could not create a primitive\nmore")
        case "fake_missing":
            import a_package_that_nobody_has  # type: ignore[import-not-found] # noqa: F401
        case "fake_unsupported":
            raise UnsupportedSpec("it has no such layer")
        case "fake_crashes":
            print("about to fall", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        case "fake_hangs":
            time.sleep(60)
        case "fake_wrong":
            answer = answer + np.float32(1)
        case "fake_shape":
            answer = answer[:, :1]
    calls = 0

    def call() -> Any:
        nonlocal calls
        calls += 1
        if name == "fake_crashes_later" and calls > 4:
            os._exit(7)
        time.sleep(2e-3 if name == "fake_slow" else 1e-5)
        return threads

    return Ready(call, lambda _: answer)


def _answer(plain: Plain) -> Array:
    """A 1x1 convolution and ReLU, channels first, without torch."""
    spec = plain.spec
    assert max(spec.kernel) == spec.groups == 1
    sums = np.einsum("oi,nihw->nohw", plain.weight[:, :, 0, 0], plain.x)
    if plain.bias is not None:
        sums = sums + plain.bias.reshape(1, -1, 1, 1)
    answer: Array = np.maximum(sums, 0) if spec.activation == "relu" else sums
    return answer
