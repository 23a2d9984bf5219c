"""Refuse a TVM installation that is known to crash, before it is imported.

`apache-tvm` 0.27.0.post1 is built against `apache-tvm-ffi` 0.1.14; with the 0.1.15 that pip
resolves by itself, writing any PrimFunc as JSON ends in a segmentation fault. The versions are
read from the installed metadata, so nothing of TVM is loaded by the check.
"""

from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from tvmconv.errors import EnvironmentProblem

TVM_VERSION = "0.27.0.post1"
FFI_VERSIONS = ("0.1.14.post1", "0.1.14.post0")  # the first is the pin; both were tried
INSTALL = f"pip install apache-tvm=={TVM_VERSION} apache-tvm-ffi=={FFI_VERSIONS[0]}"


@cache
def check_environment() -> None:
    """Check the installed TVM pair once; a later call costs nothing.

    Raises:
        EnvironmentProblem: one of the two is missing, or the pair is not one that was tried.
    """
    check_pair(version)


def check_pair(version_of: Callable[[str], str]) -> None:
    """Check the versions that `version_of(distribution)` reports.

    Raises:
        EnvironmentProblem: see `check_environment`.
    """
    _require(version_of, "apache-tvm", (TVM_VERSION,))
    _require(version_of, "apache-tvm-ffi", FFI_VERSIONS)


def _require(version_of: Callable[[str], str], package: str, tried: tuple[str, ...]) -> None:
    """Raise unless `package` is installed in a version that was tried."""
    allowed = f"{' or '.join(tried)} (other pairs crash); run: {INSTALL}"
    try:
        found = version_of(package)
    except PackageNotFoundError:
        raise EnvironmentProblem(package, "not installed", allowed) from None
    if found not in tried:
        raise EnvironmentProblem(package, found, allowed)
