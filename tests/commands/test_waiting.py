"""Why a queued row waits: for each cause its words, and among several the one that matters."""

from typing import Any

import pytest

from adapter.commands.view.waiting import RULES, TURN, reason
from adapter.supabase_io.sights import Links
from tests.commands.facts import ADAPTER, NOW, OTHER, SOUND, following, hold, link, live, sight, wait

SILENT = link(heard=180)


@pytest.mark.parametrize(
    ("kind", "words", "facts"),
    [
        (TURN, "within seconds", {}),
        (
            "paused",
            "everything is paused by command",
            {"waits": wait(stopped="everything is paused by command", user_paused=True)},
        ),
        ("paused", "this user is paused", {"waits": wait(user_paused=True)}),
        ("paused", "this campaign is paused", {"waits": wait(campaign_paused=True)}),
        ("not_due", "in 1 min 30 s", {"row": sight(not_before=NOW + 89.5)}),
        ("no_adapter", "mikopbx-adapter run", {"links": Links()}),
        ("no_adapter", "1a2b3c4d was heard of last, 3 min 00 s ago", {"links": Links(adapters=(SILENT,))}),
        ("no_adapter", "heard of last, never", {"links": Links(adapters=(link(heard=None),))}),
        (
            "not_ready",
            "the trunk is down",
            {"links": Links(adapters=(link(ready=False, problem="the trunk is down"),), holds=(hold(),))},
        ),
        ("not_ready", "connecting to its PBX", {"links": Links(adapters=(link(ready=False),), holds=(hold(),))}),
        (
            "held_back",
            "5 of the last 10",
            {"links": Links(adapters=(link(problem="5 of the last 10 calls"),), holds=(hold(),))},
        ),
        ("not_holding", "about to take the PBX office", {"links": Links(adapters=(link(),))}),
        (
            "not_holding",
            "held by adapter 9f8e7d6c, which is silent, until",
            {"links": Links(adapters=(link(), link(OTHER, heard=40)), holds=(hold(OTHER, left=20),))},
        ),
        (
            "not_holding",
            "held by adapter 9f8e7d6c, which is not ready: AMI is away",
            {"links": Links(adapters=(link(), link(OTHER, ready=False, problem="AMI is away")), holds=(hold(OTHER),))},
        ),
        (
            "not_due",
            "in 1 min 30 s: outside its calling hours",
            {"row": sight(not_before=NOW + 89.5), "waits": wait(put_off="outside its calling hours")},
        ),
        ("rule", "another call to this number", {"waits": wait(rule="another call to this number is going on")}),
        ("limit", "this user has 10 calls in the air", {"waits": wait(user_in_air=10)}),
        (TURN, "within seconds", {"waits": wait(user_in_air=9, campaign_in_air=9)}),
        (
            "limit",
            "this campaign has 1 call in the air",
            {
                "waits": wait(campaign_in_air=1),
                "links": Links(adapters=(link(campaign_limit=1),), holds=(hold(),)),
            },
        ),
        ("limit", "all 50 places", {"links": Links(adapters=(link(live=50),), holds=(hold(),))}),
        ("ahead", "3 rows of its campaign", {"waits": wait(ahead=3)}),
        ("ahead", "100 or more rows of its campaign", {"waits": wait(ahead=100)}),
    ],
)
def test_each_cause_in_words(kind: str, words: str, facts: dict[str, Any]) -> None:
    found = reason(following(**facts))
    assert found is not None
    assert (found.kind, words in found.words) == (kind, True), found


def test_every_rule_of_the_table_was_met() -> None:
    mark = next(mark for mark in test_each_cause_in_words.pytestmark if mark.name == "parametrize")
    assert {case[0] for case in mark.args[1]} == {kind for kind, _ in RULES} | {TURN}


def test_what_no_time_mends_is_told_first() -> None:
    found = reason(
        following(sight(not_before=NOW + 60), waits=wait(user_paused=True, ahead=7, rule="another call"), links=Links())
    )
    assert found is not None
    assert found.kind == "paused"


def test_a_row_in_a_call_waits_for_nothing() -> None:
    assert reason(following(live())) is None


def test_a_witness_that_is_not_ready_keeps_nobody_waiting() -> None:
    links = Links(adapters=(link(OTHER, ready=False), link(ADAPTER)), holds=SOUND.holds)
    found = reason(following(links=links))
    assert found is not None
    assert found.kind == TURN
