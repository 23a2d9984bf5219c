"""Where trials go: to what takes long and still improves; away from what stands still."""

from tvmconv.tuning.allocation import Pace, next_layer


def paced(seconds: float, trials: int, *, weight: float = 1.0, gains: int = 0) -> Pace:
    """A layer after some trials, the last `gains` of which improved it by 5 % each."""
    pace = Pace(weight=weight, trials=trials)
    pace.hear(seconds * 1.05**gains)
    for _ in range(trials - 1 - gains):
        pace.hear(2 * seconds * 1.05**gains)
    for left in reversed(range(gains)):
        pace.hear(seconds * 1.05**left)
    return pace


def test_longer_layers_come_first() -> None:
    assert next_layer([paced(1e-3, 8), paced(2e-3, 8)]) == 1


def test_frequent_layers_come_first() -> None:
    assert next_layer([paced(1e-3, 8, weight=6), paced(2e-3, 8)]) == 0


def test_improving_layers_come_first() -> None:
    assert next_layer([paced(1e-3, 16), paced(1e-3, 16, gains=4)]) == 1


def test_hope_fades() -> None:
    assert next_layer([paced(1e-3, 64), paced(0.3e-3, 8)]) == 1


def test_cheap_trials_come_first() -> None:
    slow, quick = paced(1e-3, 8), paced(1e-3, 8)
    slow.trial_seconds, quick.trial_seconds = 2.0, 0.5
    assert next_layer([slow, quick]) == 1


def test_patience_ends_a_layer() -> None:
    pace = Pace(patience=10)
    pace.hear(1.0)
    for _ in range(9):
        pace.hear(1.5)
    assert not pace.done
    pace.hear(0.995)  # below what counts as an improvement
    assert pace.done
    assert next_layer([pace]) is None


def test_failures_do_not_become_times() -> None:
    pace = Pace()
    pace.hear(float("inf"))
    assert pace.best == float("inf")
    assert pace.expected == 0.0
    pace.hear(1.0)
    assert pace.best == 1.0
