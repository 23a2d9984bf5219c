"""Compile a spec and prove it; every numeric test goes through here."""

from collections.abc import Sequence
from zlib import crc32

import pytest

import tvmconv as tc
from tvmconv.kernel import Kernel
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import load

# A max_error that no transform keeps to: sums of products, exact on integers, and infinities stay
# where they are.
DIRECT_SUMS_ONLY = 1e-9
LEVELS = ("x86_64_v2", "x86_64_v3", "x86_64_v4")
MASKED_LEVELS = LEVELS[1:]


def runnable() -> tuple[str, ...]:
    """The x86 levels that this CPU has; the first is SSE4.2."""
    return tuple(level for level in LEVELS if load(level).runs_here)


def level_of(spec: ConvSpec) -> str:
    """One of the runnable levels, the same for a spec each time; about a third of specs each."""
    levels = runnable()
    if not levels:
        pytest.skip("this CPU has no x86 level")
    return levels[crc32(str(spec).encode()) % len(levels)]


def prove(spec: ConvSpec, target: str | None = None, max_error: float = 1e-5) -> Kernel:
    """Compile for a level and require every check of tc.validate."""
    kernel: Kernel = tc.compile(spec, target or level_of(spec), max_error=max_error)
    tc.validate(kernel).require()
    return kernel


def prove_some(spec: ConvSpec, level: str, template_id: str, configs: Sequence[Config]) -> None:
    """Prove the first, the middle and the last of a template's configs."""
    for config in dict.fromkeys((configs[0], configs[len(configs) // 2], configs[-1])):
        kernel: Kernel = tc.compile(spec, level, algorithm=template_id, config=config)
        tc.validate(kernel).require()


def per_level(names: Sequence[str] = LEVELS) -> pytest.MarkDecorator:
    """Run a test once per level; levels that this CPU lacks are skipped."""
    levels = [
        pytest.param(
            level,
            marks=pytest.mark.skipif(
                not load(level).runs_here,
                reason=f"this CPU lacks {', '.join(load(level).missing_features)}",
            ),
        )
        for level in names
    ]
    return pytest.mark.parametrize("level", levels)


def named(specs: dict[str, ConvSpec]) -> pytest.MarkDecorator:
    """Parametrise over specs, with their names as test ids."""
    return pytest.mark.parametrize("spec", [*specs.values()], ids=[*specs])
