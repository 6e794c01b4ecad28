"""What the command hours is told, and what it says."""

import pytest

from adapter.commands.hours import Wish, instant, read
from adapter.commands.view.hours import NONE, told
from adapter.supabase_io.hours import Hours, hours
from adapter.supabase_io.records import Unfit
from adapter.supabase_io.stops import Target

ID = "00000000-0000-4000-8000-0000000000c1"
SET, DATES = Wish(windows="09:00-18:00"), Wish(dates={"starts_at": "2026-12-01T01:00:00+00:00"})
REPLY = {
    "windows": [
        {"scope": "all", "scope_id": None, "days": [1, 2, 3, 4, 5], "from": "09:00", "to": "18:00"},
        {"scope": "all", "scope_id": None, "days": [6, 7], "from": "10:00", "to": "24:00"},
        {"scope": "user", "scope_id": ID, "days": [1, 2, 3, 4, 5, 6, 7], "from": "10:00", "to": "13:00"},
        {"scope": "campaign", "scope_id": ID, "days": [7, 1, 3, 4, 5], "from": "10:00", "to": "13:00"},
    ],
    "dates": [{"campaign_id": ID, "starts_at": "2026-12-01T01:00:00+00:00", "ends_at": None}],
    "zones": [{"user_id": ID, "zone": "Asia/Kuala_Lumpur"}],
}


def test_hours_are_told_as_they_are_typed() -> None:
    assert told(hours(REPLY)).splitlines() == [
        "All: Mon-Fri 09:00-18:00; Sat,Sun 10:00-24:00",
        f"User {ID}: 10:00-13:00",
        f"Campaign {ID}: Mon,Wed-Fri,Sun 10:00-13:00",
        f"Campaign {ID} begins 2026-12-01T01:00:00+00:00",
        f"Where a number tells no time zone, user {ID}: Asia/Kuala_Lumpur",
    ]
    assert told(Hours(windows=(), dates=(), zones=())) == NONE


@pytest.mark.parametrize("part", ["windows", "dates", "zones"])
def test_an_answer_that_cannot_be_read_is_refused(part: str) -> None:
    wrongs: tuple[object, ...] = (None, [1], [{"days": [8]}], {})
    for wrong in wrongs:
        with pytest.raises(Unfit):
            hours({**REPLY, part: wrong})


def test_whose_hours() -> None:
    assert read(None, None, Wish()) is None
    assert read("all", None, SET) == Target(kind="all")
    assert read("user", ID.upper(), Wish()) == Target(kind="user", key=ID)
    assert read("campaign", ID, DATES) == Target(kind="campaign", key=ID)
    assert read("user", ID, Wish(zone="none")) == Target(kind="user", key=ID)
    for what, name, words in (
        (None, None, "whose hours"),
        ("trunk", "SIP-1", 'no hours of "trunk"'),
        ("user", "x", 'a user cannot be "x"'),
        ("campaign", None, "which campaign"),
        ("all", "x", "takes no name"),
    ):
        with pytest.raises(ValueError, match=words):
            read(what, name, SET)


@pytest.mark.parametrize(
    ("what", "wish", "words"),
    [
        ("user", DATES, "only a campaign begins and ends"),
        ("all", DATES, "only a campaign begins and ends"),
        ("campaign", Wish(zone="Asia/Kuala_Lumpur"), "only a user has a zone"),
        ("campaign", Wish(windows="09:00-18:00", dates={"ends_at": None}), "one at a time"),
        ("user", Wish(clear=True, zone="none"), "one at a time"),
    ],
)
def test_what_cannot_be_wished(what: str, wish: Wish, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(what, ID, wish)


def test_dates_say_by_which_clock() -> None:
    assert instant("2026-12-01 09:00+08") == "2026-12-01T09:00:00+08:00"
    assert instant("2026-12-01T09:00Z") == "2026-12-01T09:00:00+00:00"
    assert instant("none") is None
    for typed, words in (("2026-12-01T09:00", "by which clock"), ("soon", "is no date"), ("2026-13-01", "is no date")):
        with pytest.raises(ValueError, match=words):
            instant(typed)
