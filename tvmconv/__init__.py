"""tvmconv: describe a convolution once, get a fast and proven kernel that runs without TVM."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvmconv.bench import bench as bench
    from tvmconv.bundle import export as export
    from tvmconv.bundle import load as load
    from tvmconv.compile import compile as compile
    from tvmconv.errors import ArgumentError as ArgumentError
    from tvmconv.errors import BuildFailed as BuildFailed
    from tvmconv.errors import BundleError as BundleError
    from tvmconv.errors import DeviceCrashed as DeviceCrashed
    from tvmconv.errors import DeviceError as DeviceError
    from tvmconv.errors import DeviceFull as DeviceFull
    from tvmconv.errors import DeviceUnreachable as DeviceUnreachable
    from tvmconv.errors import EnvironmentProblem as EnvironmentProblem
    from tvmconv.errors import InvalidConfig as InvalidConfig
    from tvmconv.errors import Mismatch as Mismatch
    from tvmconv.errors import ProgramFailed as ProgramFailed
    from tvmconv.errors import RecordsError as RecordsError
    from tvmconv.errors import SpecError as SpecError
    from tvmconv.errors import TargetError as TargetError
    from tvmconv.errors import TvmconvError as TvmconvError
    from tvmconv.errors import UnsupportedSpec as UnsupportedSpec
    from tvmconv.errors import WrongDevice as WrongDevice
    from tvmconv.kernel import Kernel as Kernel
    from tvmconv.make import conv1d as conv1d
    from tvmconv.make import conv2d as conv2d
    from tvmconv.make import conv3d as conv3d
    from tvmconv.make import conv_transpose1d as conv_transpose1d
    from tvmconv.make import conv_transpose2d as conv_transpose2d
    from tvmconv.make import conv_transpose3d as conv_transpose3d
    from tvmconv.make import deform_conv2d as deform_conv2d
    from tvmconv.make import depthwise_separable as depthwise_separable
    from tvmconv.make import spatially_separable as spatially_separable
    from tvmconv.spec import ConvSpec as ConvSpec
    from tvmconv.tuning.tune import tune as tune
    from tvmconv.validate import validate as validate

__version__ = "0.1.0"

# In a checkout schedules/ and targets/ stand beside this package; installed, they are inside it.
_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "schedules").is_dir():
    __path__.append(str(_CHECKOUT))

_CONSTRUCTORS = (
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "deform_conv2d",
    "depthwise_separable",
    "spatially_separable",
)
_ERRORS = (
    "ArgumentError",
    "BuildFailed",
    "BundleError",
    "DeviceCrashed",
    "DeviceError",
    "DeviceFull",
    "DeviceUnreachable",
    "EnvironmentProblem",
    "InvalidConfig",
    "Mismatch",
    "ProgramFailed",
    "RecordsError",
    "SpecError",
    "TargetError",
    "TvmconvError",
    "UnsupportedSpec",
    "WrongDevice",
)
# Loaded on first use, so that `import tvmconv` costs nothing and pulls in neither TVM nor torch.
_HOME: dict[str, str] = {
    **dict.fromkeys(_CONSTRUCTORS, "tvmconv.make"),
    **dict.fromkeys(_ERRORS, "tvmconv.errors"),
    "ConvSpec": "tvmconv.spec",
    "Kernel": "tvmconv.kernel",
    "bench": "tvmconv.bench",
    "compile": "tvmconv.compile",
    "export": "tvmconv.bundle",
    "load": "tvmconv.bundle",
    "tune": "tvmconv.tuning.tune",
    "validate": "tvmconv.validate",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name when the name is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'tvmconv' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


class _Package(ModuleType):
    """Keeps `tvmconv.compile` and its like the functions, whatever was imported before.

    Importing a submodule binds it as an attribute of its package; here three submodules have the
    name of the function that they hold, and the function is what users call.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
