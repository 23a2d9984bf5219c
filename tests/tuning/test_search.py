"""The search: what it proposes, never twice, the same for the same seed, better than chance."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

import tvmconv as tc
from tests.tuning.fake import seconds_of, task
from tvmconv.space import Config, ConfigSpace
from tvmconv.template import Template, get_template
from tvmconv.tolerance import get_accuracy
from tvmconv.tuning.measure import Trial
from tvmconv.tuning.search import Choice, Search
from tvmconv.tuning.space_points import neighbours, sample_valid

TASK = task()
DIRECT = get_template("x86.direct")


def exact(template: Template, configs: Sequence[Config]) -> NDArray[np.float64]:
    """A model that is always right."""
    return np.array([seconds_of(Trial(TASK, template.id, config)) for config in configs])


def flat(template: Template, configs: Sequence[Config]) -> NDArray[np.float64]:
    """A model that knows nothing."""
    return np.ones(len(configs))


def run(search: Search, batches: int) -> list[Choice]:
    found = search.first(4, exact, [(DIRECT.id, DIRECT.default(TASK))])
    for _ in range(batches):
        for choice in found[-4:]:
            search.tell(choice, seconds_of(Trial(TASK, *choice)))
        found += search.propose(4, exact)
    return found


def small() -> Search:
    """Grids that are scored whole."""
    return Search(task(tc.conv2d((1, 16, 6, 6), 16, 1)), [get_template("x86.general")], seed=1)


def test_begins_with_what_is_given() -> None:
    default = (DIRECT.id, DIRECT.default(TASK))
    first = Search(TASK, [DIRECT]).first(4, exact, [default])
    assert first[0] == default
    assert len(first) == len(set(first)) == 4


def test_same_seed_gives_the_same_proposals() -> None:
    runs = [run(Search(TASK, [DIRECT], seed=s), 4) for s in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_never_proposes_twice_and_only_valid_configs() -> None:
    found = run(Search(TASK, [DIRECT, get_template("x86.columns")], seed=5), 10)
    assert len(found) == len(set(found)) == 44
    for name, config in found:
        get_template(name).space(TASK).check(config)


def test_small_spaces_are_exhausted_and_then_give_nothing() -> None:
    search = small()
    everything: list[Choice] = []
    while batch := search.propose(16, flat):
        everything += batch
    space = get_template("x86.general").space(task(tc.conv2d((1, 16, 6, 6), 16, 1)))
    assert {config for _, config in everything} == set(space)
    assert search.exhausted


def test_annealing_finds_what_scoring_everything_finds() -> None:
    space = DIRECT.space(TASK)
    best = min(exact(DIRECT, space.configs()))
    search = Search(TASK, [DIRECT], seed=0, epsilon=0.0, whole=1)
    found = search.propose(8, exact)
    assert min(exact(DIRECT, [config for _, config in found])) <= 1.02 * best


def test_epsilon_draws_at_random() -> None:
    greedy = Search(TASK, [DIRECT], seed=0, epsilon=0.0).propose(16, exact)
    curious = Search(TASK, [DIRECT], seed=0, epsilon=0.5).propose(16, exact)
    assert len(set(greedy) & set(curious)) < 16


def test_inexact_configs_are_left_out() -> None:
    winograd = get_template("x86.winograd")
    for max_error in (1e-2, 2e-6):
        limited = replace(TASK, max_error=max_error)
        found = Search(limited, [winograd, DIRECT]).propose(24, flat)
        names = [get_template(n).accuracy(limited, c) for n, c in found]
        assert all(get_accuracy(name).relative_error <= max_error for name in names)


def test_a_failure_is_never_the_best() -> None:
    search = Search(TASK, [DIRECT])
    choices = search.propose(3, flat)
    search.tell(choices[0], float("inf"))
    assert search.best is None
    search.tell(choices[1], 2.0)
    search.tell(choices[2], 1.0)
    assert search.best == (choices[2], 1.0)
    search.tell(choices[2], 3.0)
    assert search.best == (choices[1], 2.0)


def test_samples_are_valid_and_distinct() -> None:
    space = DIRECT.space(TASK)
    drawn = list(sample_valid(space, 50, np.random.default_rng(0)))
    assert len(set(drawn)) == 50
    assert all(space.valid(config) is None for config in drawn)


def test_samples_of_a_tiny_space_are_all_of_it() -> None:
    space = ConfigSpace().define_knob("a", (1, 2, 3)).define_knob("b", ("x", "y"))
    assert set(sample_valid(space, 100, np.random.default_rng(0))) == set(space)


@pytest.mark.parametrize("sizes", [(5,), (4, 1, 3), (7, 2)])
def test_neighbours_differ_in_at_most_one_knob(sizes: tuple[int, ...]) -> None:
    space = ConfigSpace()
    for at, size in enumerate(sizes):
        space = space.define_knob(f"k{at}", tuple(range(size)))
    points = np.arange(space.grid_size).repeat(4)
    moved = neighbours(space, points, np.random.default_rng(0))
    both = zip(points, moved, strict=True)
    pairs = [(space.at(int(a)).items, space.at(int(b)).items) for a, b in both]
    changes = [sum(x != y for x, y in zip(a, b, strict=True)) for a, b in pairs]
    assert max(changes) == 1
    assert sum(changes) > len(changes) // 4
