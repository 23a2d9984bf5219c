"""What the tests of foreign code need: an emulator, a compiler, and specs that are small enough."""

import pytest
from hypothesis import Phase, given, settings
from hypothesis.strategies import SearchStrategy

from tvmconv.compilers import find_compiler
from tvmconv.emulate import Runner, find_runner
from tvmconv.errors import EnvironmentProblem
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import families


def runner_of(target_id: str, *, kernels: bool = True) -> Runner:
    """How programs of a target run here; skips the test with the reason where they do not.

    Without `kernels` the target needs no templates.
    """
    target = load(target_id)
    if kernels and target.family not in families():
        pytest.skip(f"there are no templates for {target.family}")
    try:
        find_compiler(target)
        runner = find_runner(target)
        if not runner.dynamic:
            find_compiler(target, static=True)
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))
    return runner


def sample(strategy: SearchStrategy[ConvSpec], count: int) -> list[ConvSpec]:
    """Specs of a hypothesis strategy, the same each time.

    Examples that follow each other resemble each other; every fourth is taken.
    """
    found: dict[str, ConvSpec] = {}

    @settings(
        derandomize=True,
        max_examples=5 * count,
        deadline=None,
        phases=[Phase.generate],
        database=None,
    )
    @given(strategy)
    def collect(spec: ConvSpec) -> None:
        found.setdefault(str(spec), spec)

    collect()
    assert len(found) >= 4 * count
    return list(found.values())[::4][:count]
