"""When not to call."""

import pytest

from adapter.core.model import CallTimes, Ending, Outcome
from adapter.core.policy import AI_PROBE_SECONDS, AiBreaker, room


def talk(
    seconds: int, *, ours: bool, outcome: Outcome = Outcome.ANSWERED, estimated: bool = False, at: float = 1.0
) -> Ending:
    return Ending(
        outcome=outcome,
        reason="",
        times=CallTimes(answered_at=at),
        talk_seconds=seconds,
        ended_by_us=ours,
        estimated=estimated,
    )


DROPPED = talk(0, ours=True, outcome=Outcome.AI_FAILED)
GOOD = talk(40, ours=True)


def ai(*endings: Ending) -> AiBreaker:
    breaker = AiBreaker()
    for ending in endings:
        breaker = breaker.after(ending)
    return breaker


def test_five_of_ten_stop_the_dialing() -> None:
    assert not ai(*[DROPPED] * 4).open
    assert ai(*[DROPPED] * 5).open
    assert not ai(DROPPED, *[GOOD] * 6, *[DROPPED] * 4, GOOD).open, "five, but not of the last ten"
    assert ai(*[GOOD] * 5, *[DROPPED] * 5).open
    assert ai().problem is None
    assert "5 of the last 5" in (ai(*[DROPPED] * 5).problem or "")


@pytest.mark.parametrize(
    ("ending", "counts"),
    [
        (talk(5, ours=True), True),
        (talk(6, ours=True), False),
        (talk(0, ours=False), False),
        (talk(0, ours=True, outcome=Outcome.CANCELED), False),
        (talk(0, ours=True, estimated=True), False),
        (Ending(outcome=Outcome.BUSY, reason="", times=CallTimes(), ended_by_us=True), False),
    ],
)
def test_which_calls_count(ending: Ending, counts: bool) -> None:
    assert ai(*[ending] * 9).open is counts


def test_calls_that_tell_nothing_do_not_push_others_out() -> None:
    busy = Ending(outcome=Outcome.BUSY, reason="", times=CallTimes())
    assert ai(*[DROPPED] * 4, *[busy] * 20, DROPPED).open


def test_one_probe_a_minute_and_a_good_one_closes() -> None:
    breaker = ai(*[DROPPED] * 5)
    assert ai().allowance(0.0) is None
    assert ai().probing(0.0) == ai()
    assert breaker.allowance(100.0) == 1
    probing = breaker.probing(100.0)
    assert probing.allowance(100.0 + AI_PROBE_SECONDS - 0.1) == 0
    assert probing.allowance(100.0 + AI_PROBE_SECONDS) == 1
    assert probing.after(DROPPED).allowance(101.0) == 0
    good = talk(40, ours=False, at=1.1)
    assert probing.after(good) == AiBreaker()
    assert probing.after(good).allowance(101.0) is None


def test_a_long_call_from_before_the_trouble_does_not_end_it() -> None:
    breaker = ai(*[talk(0, ours=True, at=float(i)) for i in (90, 91, 92, 94, 93)])
    assert breaker.open
    assert breaker.after(talk(600, ours=False, at=94.0)) == breaker
    assert breaker.after(talk(30, ours=False, at=95.0)) == AiBreaker()


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        ({}, 5),
        ({"in_air": 47}, 3),
        ({"in_air": 60}, 0),
        ({"unsent": 6}, 2),
        ({"unsent": 9}, 0),
        ({"in_setup": 9}, 1),
        ({"in_setup": 11}, 0),
    ],
)
def test_room_is_the_narrowest_place(change: dict[str, int], rows: int) -> None:
    places = {"max_calls": 50, "in_air": 10, "window": 8, "unsent": 3, "max_setup": 10, "in_setup": 2} | change
    assert room(**places) == rows
    assert room(None, None, **places) == rows
    assert room(1, None, **places) == min(1, rows)
    assert room(None, 0, **places) == 0
