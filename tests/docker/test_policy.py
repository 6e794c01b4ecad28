"""The model of Docker's restart policy, against what its source says and what a real engine did (docs/docker.md)."""

import pytest

from tests.docker import dockerfile
from tests.docker.policy import LONG_ENOUGH, UnlessStopped, restarts


def test_short_runs_wait_twice_as_long_each_time_up_to_a_minute() -> None:
    state, waits = UnlessStopped(), []
    for _ in range(12):
        state = state.ended(0.5)
        waits.append(state.restart_in)
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0])


def test_a_run_of_ten_seconds_sets_the_wait_back() -> None:
    state = UnlessStopped(wait=51.2)
    assert state.ended(LONG_ENOUGH).restart_in == 0.1
    assert state.ended(LONG_ENOUGH - 0.1).restart_in == 60.0


def test_nothing_restarts_after_a_stop_by_hand() -> None:
    assert UnlessStopped().ended(1).by_hand().restart_in is None
    assert UnlessStopped().by_hand().ended(1).restart_in is None


def test_a_held_refusal_is_tried_once_a_minute() -> None:
    """Without --hold it is 10 times in the first minute; held for less than ten seconds the wait would only grow; from
    ten seconds on Docker forgets the failures, so the hold alone bounds the tries."""
    hold = float(dockerfile.ours().command[-1])
    assert hold > LONG_ENOUGH
    assert restarts(0.5, within=60) == 10
    assert restarts(hold, within=3600) == 60
