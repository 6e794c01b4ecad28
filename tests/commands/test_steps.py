"""The steps of a row: told once each, whatever was seen between, and what its end means."""

import pytest

from adapter.commands.view.steps import Story, canceled, ending, phase, steps
from adapter.core.model import Outcome
from adapter.supabase_io.sights import Links, Sight
from tests.commands.facts import CALL, NOW, following, link, live, over, sight, wait

TALK = {"originated_at": NOW - 2.9, "ringing_at": NOW - 2.5, "answered_at": NOW - 2}


def names(story: Story, row: Sight, **more: object) -> list[str]:
    new, _ = story.tell(following(row, **more))  # type: ignore[arg-type]
    return [step.name for step in new]


def test_a_call_that_is_answered_step_by_step() -> None:
    story = Story()
    assert names(story, sight()) == ["queued"]
    assert names(story, sight()) == []
    assert names(story, live()) == ["claimed"]
    assert names(story, live(status="talking", **TALK)) == ["dialing", "ringing", "answered"]
    held = live(status="talking", outcome="answered", reason="x", talk_seconds=3, ended_at=NOW - 1, **TALK)
    assert names(story, held) == ["ended"]
    done = over("answered", "answered; the callee hung up", talk_seconds=3, **TALK)
    assert names(story, done) == ["answered"]
    assert names(story, done) == []
    assert [step.at for step in story.steps][:5] == [NOW - 4, NOW - 3, NOW - 2.9, NOW - 2.5, NOW - 2]


def test_a_call_that_was_over_before_the_first_look() -> None:
    story = Story()
    busy = over("busy", "the line was busy", originated_at=NOW - 2.9)
    assert names(story, busy) == ["queued", "claimed", "dialing", "busy"]


def test_a_row_that_is_tried_again_keeps_both_calls() -> None:
    story = Story()
    first = {"call_id": CALL, "adapter": "a" * 36, "pbx": "office", "claimed_at": NOW - 3, "originated_at": NOW - 2.9}
    again = sight(
        last_outcome="congestion", last_reason="no circuit", not_before=NOW + 29, ended_at=NOW - 2,
        faults={"congestion": 1}, **first,
    )  # fmt: skip
    assert names(story, again) == ["queued", "claimed", "dialing", "congestion"]
    assert "no circuit; tried again at" in story.steps[-1].words
    assert story.why is not None
    assert story.why.kind == "not_due"
    assert names(story, live(claimed_at=NOW + 30, last_outcome="congestion", faults={"congestion": 1})) == ["claimed"]
    assert names(
        story, over("busy", "busy", claimed_at=NOW + 30, ended_at=NOW + 31, last_outcome="busy", attempts=1)
    ) == ["busy"]  # fmt: skip


def test_a_claim_that_was_taken_back() -> None:
    story = Story()
    names(story, live())
    assert names(story, sight(faults={"released": 1})) == ["taken back"]
    assert names(story, sight(faults={"released": 1})) == []


def test_a_reason_is_new_once_for_each_kind() -> None:
    story = Story()
    for links, ahead, new in ((Links(), 0, True), (Links(), 5, False), (None, 5, True), (None, 4, False)):
        facts = following(waits=wait(ahead=ahead)) if links is None else following(waits=wait(ahead=ahead), links=links)
        _, why = story.tell(facts)
        assert (why is not None) is new
    assert story.why is not None
    assert story.why.words.startswith("4 rows")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (sight(), "waits for 4 s: its turn"),
        (live(), "dialing or ringing for 3 s"),
        (live(status="talking", answered_at=NOW - 12), "talking for 12 s"),
        (live(status="talking", answered_at=NOW + 3), "talking for 0 s"),
        (live(cancel_requested=True), "being hung up"),
        (live(status="talking", outcome="answered"), "answering machine"),
        (over("busy", "busy"), ""),
    ],
)
def test_what_goes_on_now(row: Sight, words: str) -> None:
    now = phase(following(row))
    assert now == words if not words else words in now


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (over("answered", "answered", talk_seconds=63), f"Answered: 1 min 03 s of talk. Row 42, call {CALL}"),
        (over("busy", "the line was busy (486)"), f"Not answered: the line was busy (486). Row 42, call {CALL}"),
        (sight(status="done", outcome="blocked", reason="too long", call_id=CALL), "Not called: too long. Row 42"),
        (sight(status="canceled", outcome="canceled", reason="canceled before it was dialed", call_id=CALL),
         "Canceled: canceled before it was dialed. Row 42"),
        (over("unknown", "not seen"), f"Nobody knows how it ended: not seen. Row 42, call {CALL}"),
        (over("something new", "new"), f"something new: new. Row 42, call {CALL}"),
    ],
)  # fmt: skip
def test_the_last_words(row: Sight, words: str) -> None:
    assert ending(row) == words


@pytest.mark.parametrize(
    ("row", "done", "words"),
    [
        (sight(status="canceled"), True, "Row 42 is canceled; it will not be dialed"),
        (sight(status="canceled", claimed_at=NOW - 9), True, "Row 42 is canceled; it will not be dialed again"),
        (live(cancel_requested=True), True, "Row 42 is in a call, which is being hung up"),
        (
            live(status="talking", outcome="answered", talk_seconds=2),
            False,
            "Too late, it was over: Answered: 2 s of talk",
        ),
        (over("busy", "busy"), False, "Too late, it was over: Not answered: busy"),
    ],
)
def test_what_becomes_of_a_wish_to_cancel(row: Sight, done: bool, words: str) -> None:
    found, told = canceled(following(row))
    assert (found, told.split(". Row")[0]) == (done, words)


def test_a_call_whose_adapter_is_silent_is_hung_up_later() -> None:
    assert "is silent" in canceled(following(live(), links=Links(adapters=(link(heard=60),))))[1]


def test_every_outcome_has_last_words() -> None:
    assert all(ending(over(outcome.value, "why")) for outcome in Outcome)


def test_steps_are_in_order_of_time() -> None:
    found = [step.at for step in steps(following(over("answered", "x", talk_seconds=1, **TALK)))]
    assert found == sorted(found)
