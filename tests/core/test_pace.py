"""The pace as pure values: no window is overrun, and the rate falls, stays above zero and recovers."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter.core.pace import (
    ENOUGH,
    KNEE_SECONDS,
    LATE_SECONDS,
    SECOND,
    Pace,
    Reading,
    Sample,
    Sign,
    Turns,
    ahead,
    judge,
    least,
)

LIMIT = 10.0


def took(seconds: float, *, at: float, calls: int = ENOUGH, session: int = 0) -> Reading:
    """So many calls, written around `at`, that showed their first leg so late on a fast way."""
    samples = tuple(Sample(at=at + number * 1e-3, seconds=seconds) for number in range(calls))
    return Reading(session=session, samples=samples, least=min(0.002, seconds))


def live(pace: Pace, seconds: int, reading: Reading | None = None, *, begin: float = 0.0) -> Pace:
    """A second after the other, in each of which the calls of just now read so."""
    for second in range(1, seconds + 1):
        now = begin + second
        fresh = None if reading is None else tuple(replace(s, at=now - 0.5) for s in reading.samples)
        pace = pace.after(Reading() if fresh is None else replace(reading or Reading(), samples=fresh), now)
    return pace


def test_it_starts_low_and_grows_to_the_limit() -> None:
    begun = Pace.begin(LIMIT, 0.0)
    rates = [begun.rate]
    for second in range(1, 12):
        begun = begun.after(took(0.003, at=second - 0.5), float(second))
        rates.append(begun.rate)
    assert rates[0] == LIMIT / 4
    assert all(after - before <= LIMIT * 0.1 + 1e-9 for before, after in pairwise(rates))
    assert rates[8] == LIMIT
    assert begun.words is None


def test_another_connection_begins_again() -> None:
    whole = live(Pace.begin(LIMIT, 0.0), 10)
    again = whole.after(took(0.003, at=10.0, session=2), 10.2)
    assert (whole.rate, again.rate, again.session) == (LIMIT, LIMIT / 4, 2)


def test_a_late_pbx_halves_the_rate_once_for_one_jam() -> None:
    whole = live(Pace.begin(LIMIT, 0.0), 10)
    late = took(0.84, at=9.9)
    slowed = whole.after(late, 11.0)
    assert slowed.rate == LIMIT / 2
    assert slowed.words == "slowed to 5 calls a second since the PBX answers late (p90 840 ms; the limit is 10)"
    assert slowed.after(late, 12.0).rate >= slowed.rate, "those calls were written at the old rate"
    assert slowed.after(took(0.84, at=11.5), 12.0).rate == LIMIT / 4


def test_it_never_stops_and_recovers() -> None:
    floor = live(live(Pace.begin(LIMIT, 0.0), 10), 60, took(3.0, at=0.0), begin=10.0)
    assert floor.rate == least(LIMIT) == LIMIT * 0.05
    assert floor.words is not None
    back = live(floor, 40, took(0.003, at=0.0), begin=70.0)
    assert back.rate == LIMIT, "what was too fast is the rate of the first cut, not that of the last"
    assert back.words is None


def test_it_recovers_without_a_call() -> None:
    floor = live(Pace.begin(LIMIT, 0.0), 60, took(3.0, at=0.0))
    assert live(floor, 300, begin=60.0).rate == LIMIT


def test_what_was_too_fast_is_probed_slowly_until_it_is_forgotten() -> None:
    whole = live(Pace.begin(LIMIT, 0.0), 10)
    slowed = whole.after(took(0.84, at=9.9), 11.0)
    near = live(slowed, 3, took(0.003, at=0.0), begin=11.0)
    step = live(near, 1, took(0.003, at=0.0), begin=14.0)
    assert near.rate >= LIMIT * 0.7
    assert step.rate - near.rate == pytest.approx(LIMIT * 0.01)
    forgotten = replace(near, slowed_at=14.0 - KNEE_SECONDS)
    assert live(forgotten, 1, took(0.003, at=0.0), begin=14.0).rate - near.rate == pytest.approx(LIMIT * 0.1)


WAITING = Reading(waiting=tuple(0.1 * number for number in range(1, ENOUGH + 1)))


@pytest.mark.parametrize(
    ("reading", "sign"),
    [
        (Reading(), Sign.IDLE),
        (took(0.003, at=8.0, calls=1), Sign.IN_TIME),
        (took(LATE_SECONDS - 0.01, at=8.0), Sign.IN_TIME),
        (took(0.9, at=8.0, calls=ENOUGH - 1), Sign.UNCLEAR),
        (took(0.9, at=8.0), Sign.LATE),
        # A long way there and back is no lateness.
        (replace(took(0.4, at=8.0), least=0.39), Sign.IN_TIME),
        (WAITING, Sign.LATE),
        (Reading(waiting=(9.9,)), Sign.UNCLEAR),
        # A ping tells only while calls are under way.
        (Reading(pong=Sample(at=9.0, seconds=0.5)), Sign.IDLE),
        (replace(took(0.003, at=8.0, calls=1), pong=Sample(at=9.0, seconds=0.5)), Sign.LATE),
        (replace(took(0.003, at=8.0, calls=1), pong=Sample(at=9.0, seconds=0.01)), Sign.IN_TIME),
    ],
)
def test_what_the_calls_say(reading: Reading, sign: Sign) -> None:
    assert judge(reading, -math.inf, 10.0)[0] is sign


def test_one_late_call_in_twenty_is_an_accident() -> None:
    reading = took(0.003, at=8.0, calls=20)
    one = replace(reading, samples=(*reading.samples[1:], Sample(at=8.0, seconds=4.0)))
    assert judge(one, -math.inf, 10.0)[0] is Sign.IN_TIME


@settings(deadline=None)
@given(
    limit=st.floats(0.1, 200),
    life=st.lists(st.tuples(st.floats(0.0, 20.0), st.floats(0.0, 5.0), st.integers(0, 40), st.integers(0, 2))),
)
def test_the_rate_stays_between_its_bounds_whatever_happens(
    limit: float, life: list[tuple[float, float, int, int]]
) -> None:
    now, pace = 0.0, Pace.begin(limit, 0.0)
    for passed, seconds, calls, session in life:
        now += passed
        pace = pace.after(took(seconds, at=now - 0.5, calls=calls, session=session), now)
        assert least(limit) <= pace.rate <= limit
    recovered = live(replace(pace, stepped_at=now), 400, begin=now)
    assert recovered.rate == limit
    assert recovered.words is None


@settings(deadline=None)
@given(
    asks=st.lists(st.tuples(st.floats(0.0, 2.0), st.sampled_from("ABC")), max_size=200),
    rate=st.sampled_from((0.5, 1.0, 2.5, 5.0, 10.0, 100.0)),
    slow=st.sampled_from((0.2, 1.0, 4.0)),
)
def test_whoever_asks_whenever_no_window_is_overrun(asks: list[tuple[float, str]], rate: float, slow: float) -> None:
    now, turns = 100.0, Turns(since=100.0)
    begun: list[tuple[float, str]] = []
    limits = {"A": slow, "B": None, "C": 2 * slow}
    for passed, trunk in asks:
        now += passed
        wait = turns.wait(now, rate=rate, trunk=trunk, trunk_rate=limits[trunk])
        if wait <= 0:
            turns = turns.after(trunk, now)
            begun.append((now, trunk))
    assert all(at >= 100.0 + SECOND for at, _ in begun), "the second before may belong to an earlier process"
    assert most([at for at, _ in begun]) <= math.ceil(rate)
    for trunk, limit in limits.items():
        if limit is not None:
            assert most([at for at, through in begun if through == trunk]) <= math.ceil(limit)


def most(instants: list[float]) -> int:
    """The most that lie in any window of a second."""
    return max((sum(begin <= at < begin + SECOND - 1e-9 for at in instants) for begin in instants), default=0)


@pytest.mark.parametrize(
    ("wait", "rate", "calls"), [(0.0, 5.0, 5), (0.5, 5.0, 3), (0.99, 5.0, 1), (1.0, 5.0, 0), (0.0, 0.5, 1), (3, 0.2, 0)]
)
def test_how_many_may_begin_within_a_second(wait: float, rate: float, calls: int) -> None:
    assert ahead(wait, rate) == calls
