"""Measures on other machines over TVM's RPC; they need `apache-tvm` and nothing of ours.

Candidates are linked with our own runtime and expose what TVM's module loader looks for, so the
device runs the code that a bundle would run. Answers come back and are checked here.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tvmconv.errors import ArgumentError, EnvironmentProblem
from tvmconv.runtime.sources import feature_mask
from tvmconv.toolchain import link_shared
from tvmconv.tuning.candidate import CONVENTION
from tvmconv.tuning.client import ClientDevice, ClientPool
from tvmconv.tuning.pool import ABSENCE, BUILD_TIMEOUT, RUN_TIMEOUT
from tvmconv.tuning.rpc_address import CONNECT_TIMEOUT, Address, tracked_devices
from tvmconv.tuning.rpc_client import FACTS_BYTES, RpcClient

if TYPE_CHECKING:
    from tvmconv.target import Target

__all__ = ["Address", "RemoteMeasurer", "check_rpc", "tracked_devices"]

INSTALL = "pip install 'tvmconv[rpc]'"
PROBE: Final = Path(__file__).parent / "probe.c"


class RemoteMeasurer(ClientPool):
    """A Measurer of other machines; a context manager."""

    def __init__(
        self,
        target: Target,
        addresses: Sequence[Address],
        threads: int = 1,
        *,
        cores: Sequence[int] | None = None,
        build_timeout: float = BUILD_TIMEOUT,
        run_timeout: float = RUN_TIMEOUT,
        absence: float = ABSENCE,
    ) -> None:
        """Connect to nothing yet; ``connect`` does.

        Args:
            target: what is compiled for; a compiler for its triple must be here.
            addresses: one per device; a tracker's as often as devices are to be used.
            threads: of the kernels that will be measured.
            cores: cores to build on; default: those this process may use.
            build_timeout: seconds after which a build is given up.
            run_timeout: seconds after which checking and timing a candidate is given up.
            absence: seconds without an answer after which a device is given up.

        Raises:
            ArgumentError: no address.
            EnvironmentProblem: what TVM's RPC needs is not installed, or no compiler.
            TargetError: the target has no shared libraries.
            BuildFailed: the compiler refused.
        """
        if not addresses:
            raise ArgumentError("addresses", (), "at least one device")
        check_rpc()
        usable = sorted(os.sched_getaffinity(0)) if cores is None else list(cores)

        def devices(folder: Path) -> list[ClientDevice]:
            probe = link_probe(folder / "probe.so", target)
            return [
                ClientDevice(
                    f"{address} #{number}",
                    partial(RpcClient, address, target, probe, run_timeout),
                    batch=1,
                    allowance=CONNECT_TIMEOUT,
                )
                for number, address in enumerate(addresses)
            ]

        super().__init__(
            devices,
            threads,
            usable,
            machine=", ".join(sorted({f"rpc {address}" for address in addresses})),
            form="shared",
            build_timeout=build_timeout,
            run_timeout=run_timeout,
            absence=absence,
        )


def link_probe(out: Path, target: Target) -> Path:
    """A library that describes the device into a tensor of FACTS_BYTES bytes."""
    bits = f"UINT64_C({feature_mask(target.cpu_features)})"
    source = f"""#include "runtime.h"
TVMCONV_DEFINE_HOOKS
int32_t tvmconv_describe(uint64_t needed, char *text, size_t size);
TVMCONV_API int32_t __tvm_ffi_timed_probe{CONVENTION};
int32_t __tvm_ffi_timed_probe(void *self, const tvmconv_any *args, int32_t count,
                              tvmconv_any *result) {{
  (void)self, (void)count, (void)result;
  /* A DLTensor begins with its data. */
  return tvmconv_describe({bits}, *(char **)args[0].value.pointer, {FACTS_BYTES});
}}
"""
    return link_shared([], [PROBE, source], out, target, own_runtime=True)


def check_rpc() -> None:
    """Check that TVM's RPC can be imported.

    Raises:
        EnvironmentProblem: says what to install.
    """
    needed = ("cloudpickle", "psutil", "tornado")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentProblem("TVM's RPC", f"without {', '.join(missing)}", INSTALL)
