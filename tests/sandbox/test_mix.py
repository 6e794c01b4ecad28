"""The mix of example calls: complete, and healthy enough that no breaker opens and no trunk cools down."""

from collections import Counter, deque
from itertools import pairwise

import phonenumbers
import pytest

from adapter.core.model import CallTimes, Ending, Outcome
from adapter.core.policy import AiBreaker
from adapter.sandbox.mix import as_typed, mix
from adapter.sandbox.scenarios import SCENARIOS, Scenario, number

RING_SECONDS = 8.0

CARRIERS = frozenset({Outcome.CONGESTION, Outcome.TRUNK_UNAVAILABLE, Outcome.REJECTED, Outcome.NO_REPLY})
"""Outcomes that count against a trunk."""


@pytest.mark.parametrize("count", [1, 10, 24, 25, 26, 50, 100, 333, 1000])
def test_every_count_is_met_and_each_scenario_comes_when_there_is_room(count: int) -> None:
    scenarios = mix(count)
    assert len(scenarios) == count
    if count >= len(SCENARIOS):
        assert Counter(scenarios).keys() == set(SCENARIOS)
    assert mix(count) == scenarios


def test_a_few_calls_show_a_few_outcomes() -> None:
    assert {scenario.outcome for scenario in mix(8)} == {
        Outcome.ANSWERED,
        Outcome.BUSY,
        Outcome.NO_ANSWER,
        Outcome.INVALID_NUMBER,
        Outcome.DECLINED,
        Outcome.REJECTED,
        Outcome.CONGESTION,
    }


def ending(scenario: Scenario, start: float) -> tuple[float, Ending]:
    """When a call of this scenario ends, and how the daemon sees it."""
    rang = start + scenario.ring_after if scenario.ring_after is not None else None
    answered = start + scenario.answers_after if scenario.answers_after is not None else None
    if answered is not None:
        end = answered + scenario.talk
    else:
        end = start + (RING_SECONDS if scenario.refuse_after is None else scenario.refuse_after)
    return end, Ending(
        outcome=scenario.outcome,
        reason="",
        times=CallTimes(originated_at=start, ringing_at=rang, answered_at=answered, ended_at=end),
        talk_seconds=int(scenario.talk),
        ended_by_us=answered is not None and scenario.ends_by == "ai",
    )


@pytest.mark.parametrize("count", [25, 50, 100, 333, 1000])
@pytest.mark.parametrize("per_second", [5, 8, 20])
def test_no_breaker_opens(count: int, per_second: int) -> None:
    """Endings come in another order than starts: short refusals first."""
    endings = sorted(
        (ending(scenario, turn / per_second) for turn, scenario in enumerate(mix(count))), key=lambda pair: pair[0]
    )
    assert all(one[0] <= two[0] for one, two in pairwise(endings))
    ai, silent, failed = AiBreaker(), 0, deque([False], maxlen=10)
    for _, end in endings:
        ai = ai.after(end)
        assert not ai.open
        # The trunk's (call_trunk_heard): twenty without a sound, five of ten by the carrier's fault.
        silent = silent + 1 if end.times.ringing_at is None and end.times.answered_at is None else 0
        failed.append(end.outcome in CARRIERS)
        assert silent < 20
        # A few calls have one of each failure among them: there it cools down, for the sandbox's second.
        assert sum(failed) < 5 or count < 50


@pytest.mark.parametrize("serial", [0, 1, 2, 999_999])
def test_each_spelling_is_the_same_valid_number(serial: int) -> None:
    parsed = phonenumbers.parse(as_typed("10", serial), "MY")
    assert phonenumbers.is_valid_number(parsed)
    assert phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164) == number("10", serial)
