"""Device code on a GPU: loaded once, its launches started on any stream."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

from tvmconv.cuda.code import DeviceCode, Launch
from tvmconv.cuda.driver import Device

# Vectors of 16 bytes are the widest that generated code loads, and what asynchronous copies move.
ALIGNMENT = 16
WORKSPACE_ALIGNMENT = 256


class Program:
    """The launches of a device code, loaded on one GPU."""

    def __init__(self, device: Device, code: DeviceCode, image: bytes, name: str) -> None:
        """Load an image (cubin or PTX) of the code's source.

        Raises:
            DeviceError: the image is not for this GPU, or a launch needs more than it has.
        """
        self.device, self.name = device, name
        self.workspace_bytes = code.workspace_bytes
        self._offsets = workspace_offsets(code.workspace)
        self._launches: list[tuple[Launch, Any]] = []
        if code.launches:
            module = device.load(image, name)
            self._launches = [
                (launch, module.function(launch.kernel, launch.shared_bytes))
                for launch in code.launches
            ]

    def launch(self, addresses: Mapping[str, int], workspace: int, stream: int) -> None:
        """Start every launch on a stream; they run after what is in it, in their order.

        Args:
            addresses: on the GPU, of what the launches' arguments name, workspace apart.
            workspace: address of `workspace_bytes` bytes, 0 where none are needed.
            stream: the driver's handle; 0 is the default stream.

        Raises:
            DeviceError: a launch was refused.
        """
        call = self.device.driver.status
        with self.device.current():
            for launch, function in self._launches:
                values = [
                    ctypes.c_uint64(workspace + self._offsets[name])
                    if name in self._offsets
                    else ctypes.c_uint64(addresses[name])
                    for name in launch.args
                ]
                params = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
                status = call("cuLaunchKernel", function, *launch.grid, *launch.block,
                              launch.shared_bytes, ctypes.c_void_p(stream), params,
                              None)  # fmt: skip
                if status:
                    where = f"{launch.kernel} on {self.device}"
                    sizes = f"grid {launch.grid}, block {launch.block}"
                    raise self.device.driver.failure(f"launch of {where} failed ({sizes})", status)


def workspace_offsets(workspace: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Where each buffer lies in the workspace, in bytes."""
    found, at = {}, 0
    for name, size in workspace:
        found[name] = at
        at += -(-size // WORKSPACE_ALIGNMENT) * WORKSPACE_ALIGNMENT
    return found
