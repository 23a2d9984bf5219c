"""Times of work on a GPU, by the GPU's own clock: events around a graph of repeated launches.

Launched one by one from Python, kernels of a few microseconds would wait for the next launch, and
its time would be taken. A graph is launched once and holds all of them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Final

from tvmconv.cuda.driver import Device

# A sample repeats short kernels until it is so long: events are read to half a microsecond.
SAMPLE_SECONDS: Final = 5e-4
MAX_CALLS: Final = 200
_NON_BLOCKING: Final = 1
_RELAXED: Final = 2  # other threads may use the driver meanwhile

Launch = Callable[[int], None]


class Stopwatch:
    """A stream of its own on one GPU, and two events; a context manager."""

    def __init__(self, device: Device) -> None:
        """Make stream and events."""
        self.device = device
        self._stream, self._start, self._end = (ctypes.c_void_p() for _ in range(3))
        call = device.driver.call
        with device.current():
            call("cuStreamCreate", ctypes.byref(self._stream), _NON_BLOCKING)
            for event in (self._start, self._end):
                call("cuEventCreate", ctypes.byref(event), 0)

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give stream and events back; nothing is said where the GPU has crashed."""
        status = self.device.driver.status
        with self.device.current():
            for event in (self._start, self._end):
                status("cuEventDestroy_v2", event)
            status("cuStreamDestroy_v2", self._stream)

    def recorded(self, launch: Launch, calls: int) -> Recorded:
        """So many calls as one graph.

        Args:
            launch: starts the work on the stream that it is given.
            calls: how often.
        """
        call, graph, made = self.device.driver.call, ctypes.c_void_p(), ctypes.c_void_p()
        with self.device.current():
            call("cuStreamBeginCapture_v2", self._stream, _RELAXED)
            try:
                for _ in range(calls):
                    launch(self._stream.value or 0)
            finally:
                call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
            call("cuGraphInstantiateWithFlags", ctypes.byref(made), graph, ctypes.c_ulonglong(0))
            call("cuGraphDestroy", graph)
        return Recorded(self, made, calls)

    def prepare(self, launch: Launch) -> Recorded:
        """As many calls as make a sample, after some that warm up.

        Raises:
            DeviceError: the work failed.
        """
        with self.recorded(launch, 1) as once:
            once.sample()
            seconds = min(once.sample() for _ in range(2))
        calls = max(1, min(MAX_CALLS, round(SAMPLE_SECONDS / max(seconds, 1e-7))))
        return self.recorded(launch, calls)

    def time(self, graph: ctypes.c_void_p) -> float:
        """Seconds of one launch of a graph."""
        call, milliseconds = self.device.driver.call, ctypes.c_float()
        with self.device.current():
            call("cuEventRecord", self._start, self._stream)
            call("cuGraphLaunch", graph, self._stream)
            call("cuEventRecord", self._end, self._stream)
            call("cuEventSynchronize", self._end)
            call("cuEventElapsedTime", ctypes.byref(milliseconds), self._start, self._end)
        return milliseconds.value / 1e3


class Recorded:
    """A graph of equal calls; a context manager.

    Attributes:
        calls: how many.
    """

    def __init__(self, stopwatch: Stopwatch, graph: ctypes.c_void_p, calls: int) -> None:
        """Take what `Stopwatch.recorded` made."""
        self._stopwatch, self._graph, self.calls = stopwatch, graph, calls

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, *error: object) -> None:
        device = self._stopwatch.device
        with device.current():
            device.driver.status("cuGraphExecDestroy", self._graph)

    def sample(self) -> float:
        """Seconds of one call.

        Raises:
            DeviceError: the work failed.
        """
        return max(self._stopwatch.time(self._graph) / self.calls, 1e-9)
