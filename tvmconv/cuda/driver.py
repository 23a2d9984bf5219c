"""NVIDIA's GPUs through their driver alone: libcuda, which every GPU's system has, by ctypes.

Devices are used in their primary contexts, which are also those of torch and of CUDA's runtime, so
that addresses and streams of theirs mean the same here. A context is current per thread: whatever
needs one makes it current and puts back what was there.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tvmconv.errors import DeviceCrashed, DeviceError

LIBRARY: Final = "libcuda.so.1"

# Of cuDeviceGetAttribute and cuFuncSetAttribute.
_SMS: Final = 16
_MAJOR: Final = 75
_MINOR: Final = 76
_SHARED_OPTIN: Final = 97
_DYNAMIC_SHARED: Final = 8
# A kernel has so much dynamic shared memory without asking for it.
SHARED_UNASKED: Final = 48 * 1024

_OUT_OF_MEMORY: Final = 2
# After one of these every further call of the process fails: an access to memory that is not the
# kernel's (700, 716 to 718), a trap (710, 714, 715), a time limit (702), and whatever else (719).
_CRASHED: Final = frozenset({700, 702, 710, 714, 715, 716, 717, 718, 719})
_NO_IMAGE: Final = (209, 218, 222)  # no binary for this GPU; PTX refused; PTX of a newer version


class Driver:
    """The driver of this machine, initialised."""

    def __init__(self, library: str = LIBRARY) -> None:
        """Load and initialise it.

        Raises:
            DeviceError: there is no driver, or no GPU.
        """
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            allowed = "a machine with an NVIDIA GPU and its driver"
            raise DeviceError("CUDA driver", f"none ({error})", allowed) from error
        self._library.cuGetErrorName.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
        self.call("cuInit", 0)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver.

        Raises:
            DeviceError: it failed; names the function and the driver's error.
        """
        status = self._library[name](*arguments)
        if status:
            raise self.failure(f"{name} failed", status)

    def failure(self, what: str, status: int) -> DeviceError:
        """The error of a status: DeviceCrashed where the GPU cannot be used any more."""
        kind = DeviceCrashed if status in _CRASHED else DeviceError
        return kind(f"{what}: {self.error(status)}")

    def status(self, name: str, *arguments: Any) -> int:
        """Call a function of the driver and return its status."""
        return int(self._library[name](*arguments))

    def error(self, status: int) -> str:
        """The driver's name of a status, such as "CUDA_ERROR_OUT_OF_MEMORY"."""
        name = ctypes.c_char_p()
        if self._library.cuGetErrorName(status, ctypes.byref(name)) or not name.value:
            return f"error {status}"
        return name.value.decode()

    @property
    def version(self) -> str:
        """The newest CUDA that the driver knows, as "13.0"."""
        number = self._int("cuDriverGetVersion")
        return f"{number // 1000}.{number % 1000 // 10}"

    @property
    def count(self) -> int:
        """How many GPUs this process sees."""
        return self._int("cuDeviceGetCount")

    @functools.cache  # noqa: B019 - a driver lives as long as its process
    def device(self, index: int = 0) -> Device:
        """A GPU by its number.

        Raises:
            DeviceError: there is no such GPU.
        """
        if not 0 <= index < self.count:
            allowed = f"0 to {self.count - 1}" if self.count else "a machine with a GPU"
            raise DeviceError("GPU", index, allowed)
        return Device(self, index)

    def _int(self, name: str, *arguments: Any) -> int:
        value = ctypes.c_int()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value


class Device:
    """One GPU, in its primary context.

    Attributes:
        index: its number, as in "cuda:0".
        name: such as "NVIDIA H200".
        capability: compute capability, (9, 0) for sm_90.
        sms: streaming multiprocessors.
        memory_bytes: of the whole GPU.
        shared_bytes: most dynamic shared memory of a block.
    """

    def __init__(self, driver: Driver, index: int) -> None:
        """Ask for the GPU's properties; its context is made when it is first used."""
        self.driver, self.index = driver, index
        self._handle = driver._int("cuDeviceGet", index)
        text, size = ctypes.create_string_buffer(256), ctypes.c_size_t()
        driver.call("cuDeviceGetName", text, len(text), self._handle)
        driver.call("cuDeviceTotalMem_v2", ctypes.byref(size), self._handle)
        self.name, self.memory_bytes = text.value.decode("utf-8", "replace"), size.value
        self.capability = self._attribute(_MAJOR), self._attribute(_MINOR)
        self.sms = self._attribute(_SMS)
        self.shared_bytes = self._attribute(_SHARED_OPTIN)

    @functools.cached_property
    def _context(self) -> ctypes.c_void_p:
        context = ctypes.c_void_p()
        self.driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._handle)
        return context

    def _attribute(self, number: int) -> int:
        return self.driver._int("cuDeviceGetAttribute", number, self._handle)

    def __str__(self) -> str:
        major, minor = self.capability
        return f"cuda:{self.index} ({self.name}, sm_{major}{minor})"

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this GPU's context the thread's own for a while."""
        before, mine = ctypes.c_void_p(), self._context
        self.driver.call("cuCtxGetCurrent", ctypes.byref(before))
        if before.value == mine.value:  # as it is wherever torch was used
            yield
            return
        self.driver.call("cuCtxPushCurrent_v2", mine)
        try:
            yield
        finally:
            self.driver.call("cuCtxPopCurrent_v2", ctypes.byref(before))

    def allocate(self, size: int) -> Buffer:
        """Memory on the GPU, freed with its last reference.

        Raises:
            DeviceError: there is not so much; says how much is free.
        """
        address = ctypes.c_uint64()
        with self.current():
            status = self.driver.status("cuMemAlloc_v2", ctypes.byref(address), max(size, 1))
            if status == _OUT_OF_MEMORY:
                free, total = ctypes.c_size_t(), ctypes.c_size_t()
                self.driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
                allowed = f"at most {free.value} free bytes on {self}"
                raise DeviceError("GPU memory", size, allowed)
        if status:
            raise self.driver.failure(f"cuMemAlloc failed on {self}", status)
        return Buffer(self, address.value, size)

    def upload(self, address: int, size: int) -> Buffer:
        """A copy on the GPU of memory of this process; done when it returns, for every stream."""
        buffer = self.allocate(size)
        with self.current():
            if size:
                self.driver.call("cuMemcpyHtoD_v2", ctypes.c_uint64(buffer.address),
                                 ctypes.c_void_p(address), ctypes.c_size_t(size))  # fmt: skip
            # It returns when the bytes are on their way; streams that do not wait could overtake.
            self.driver.call("cuStreamSynchronize", None)
        return buffer

    def download(self, buffer: Buffer, address: int) -> None:
        """Copy a buffer to memory of this process, after what is in the default stream."""
        if buffer.size:
            with self.current():
                self.driver.call("cuMemcpyDtoH_v2", ctypes.c_void_p(address),
                                 ctypes.c_uint64(buffer.address),
                                 ctypes.c_size_t(buffer.size))  # fmt: skip

    def fill(self, buffer: Buffer, value: int) -> None:
        """Set every byte of a buffer; done when it returns."""
        if buffer.size:
            with self.current():
                self.driver.call("cuMemsetD8_v2", ctypes.c_uint64(buffer.address), value,
                                 ctypes.c_size_t(buffer.size))  # fmt: skip
                self.driver.call("cuStreamSynchronize", None)

    def synchronize(self, stream: int = 0) -> None:
        """Wait for a stream's work.

        Raises:
            DeviceError: a kernel failed.
        """
        with self.current():
            self.driver.call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def load(self, image: bytes, name: str) -> Module:
        """Machine code on the GPU.

        Args:
            image: a cubin, or PTX.
            name: whose it is, for errors.

        Raises:
            DeviceError: it is not for this GPU, or the driver is older than the compiler.
        """
        module = ctypes.c_void_p()
        with self.current():
            # PTX is text, which ends with a zero; a cubin knows its size.
            status = self.driver.status("cuModuleLoadData", ctypes.byref(module), image + b"\0")
        if status:
            error = self.driver.error(status)
            if status in _NO_IMAGE:
                how = f"its driver (CUDA {self.driver.version}) has {error}"
                raise DeviceError(f"{name} is no code for {self}: {how}")
            raise self.driver.failure(f"{name} could not be loaded on {self}", status)
        return Module(self, module)


class Buffer:
    """Memory on a GPU."""

    def __init__(self, device: Device, address: int, size: int) -> None:
        """Take memory that cuMemAlloc gave."""
        self.device, self.address, self.size = device, address, size
        weakref.finalize(self, _free, device, address).atexit = False


def _free(device: Device, address: int) -> None:
    # cuMemFree waits for kernels that may still use it. Nobody can hear of a failure here.
    with device.current():
        device.driver.status("cuMemFree_v2", ctypes.c_uint64(address))


class Module:
    """Loaded machine code; stays loaded with the process, as its functions may be anywhere."""

    def __init__(self, device: Device, handle: ctypes.c_void_p) -> None:
        """Take what cuModuleLoadData gave."""
        self.device, self._handle = device, handle

    def function(self, name: str, shared_bytes: int) -> ctypes.c_void_p:
        """A kernel that can be launched with so much dynamic shared memory.

        Raises:
            DeviceError: there is none of this name, or a block cannot have so much.
        """
        device, found = self.device, ctypes.c_void_p()
        with device.current():
            device.driver.call("cuModuleGetFunction", ctypes.byref(found), self._handle,
                               name.encode())  # fmt: skip
            if shared_bytes > SHARED_UNASKED:
                if shared_bytes > device.shared_bytes:
                    allowed = f"at most {device.shared_bytes} bytes on {device}"
                    raise DeviceError(f"dynamic shared memory of {name}", shared_bytes, allowed)
                device.driver.call("cuFuncSetAttribute", found, _DYNAMIC_SHARED, shared_bytes)
        return found


@functools.cache
def _driver(library: str) -> Driver:
    return Driver(library)


def driver() -> Driver:
    """This machine's driver, loaded once.

    Raises:
        DeviceError: there is none, or no GPU.
    """
    return _driver(LIBRARY)
