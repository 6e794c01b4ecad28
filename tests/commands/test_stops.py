"""What the commands pause, resume and cancel are told, and what they say."""

import pytest

from adapter.commands import targets
from adapter.commands.view import objects, screens, stops
from adapter.supabase_io.stops import Paused, Piece, Resumed, Stop, Target
from tests.commands.facts import NOW, overview
from tests.commands.test_screens import drawn

ID = "00000000-0000-4000-8000-0000000000C1"
CAMPAIGN = Target(kind="campaign", key=ID.lower())
ALL = Target(kind="all")


@pytest.mark.parametrize(
    ("what", "name", "found"),
    [
        ("row", "42", Target(kind="row", key="42")),
        ("campaign", ID, CAMPAIGN),
        ("user", ID, Target(kind="user", key=ID.lower())),
        ("trunk", "SIP-TRUNK-0123ABCD", Target(kind="trunk", key="SIP-TRUNK-0123ABCD")),
        ("all", None, ALL),
    ],
)
def test_what_is_meant(what: str, name: str | None, found: Target) -> None:
    assert targets.read(what, name) == found
    assert found.arguments == {"p_kind": what, "p_key": found.key or None}


@pytest.mark.parametrize(
    ("what", "name", "words"),
    [
        ("42", None, 'there is no "42": say row, campaign, user, trunk with a name, or all'),
        ("lane", ID, 'there is no "lane"'),
        ("row", None, "which row"),
        ("row", "x", 'a row cannot be "x": give its number'),
        ("row", "0", 'a row cannot be "0"'),
        ("row", "4²", "a row cannot be"),
        ("row", "9" * 30, "a row cannot be"),
        ("campaign", "Spring", 'a campaign cannot be "Spring": give its id'),
        ("user", "", "which user"),
        ("trunk", None, "which trunk"),
        ("all", "x", "takes no name"),
    ],
)
def test_what_is_not_meant_is_said(what: str, name: str | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        targets.read(what, name)


def test_a_pause_tells_what_goes_on_and_how_to_end_it() -> None:
    assert stops.paused(CAMPAIGN, Paused(before=False, live=2), " --env-file x").splitlines() == [
        f"Campaign {CAMPAIGN.key} is paused: nothing of it is dialed until it is resumed",
        f"2 calls that live go on; to hang up: mikopbx-adapter cancel campaign {CAMPAIGN.key} --env-file x",
        f"To resume: mikopbx-adapter resume campaign {CAMPAIGN.key} --env-file x",
    ]
    assert stops.paused(ALL, Paused(before=True, live=0), "").splitlines() == [
        "Everything was paused already, and still is: nothing of it is dialed until it is resumed",
        "To resume: mikopbx-adapter resume all",
    ]


def test_a_resume_tells_what_else_stands() -> None:
    assert stops.resumed(ALL, Resumed(was=True, still=None)) == "Everything goes on"
    words = stops.resumed(CAMPAIGN, Resumed(was=False, still="this user is paused by command"))
    assert words == (
        f"Campaign {CAMPAIGN.key} was not paused by command; but it still waits: this user is paused by command"
    )


def test_a_cancel_tells_what_it_did_and_what_is_left() -> None:
    last = Piece(before="now", waited=0, live=0, more=False, still=None)
    words = stops.canceled(ALL, waited=2300, live=1, last=last)
    assert words == "Canceled, everything: 2,300 rows that waited; 1 live call is being hung up"
    still = Piece(before="now", waited=0, live=0, more=False, still="this user is paused by command")
    assert stops.canceled(CAMPAIGN, waited=0, live=0, last=still).endswith(
        "\nIt stays paused: this user is paused by command"
    )
    left = stops.left(ALL, waited=1000, live=40, settings="")
    assert left.startswith("Not finished: 1,000 rows that waited canceled, 40 live calls are being hung up\n")
    assert "mikopbx-adapter cancel all --yes\n" in left
    assert left.endswith("mikopbx-adapter resume all")


def test_status_shows_what_stands_and_hides_only_numbers() -> None:
    trunk = Target(kind="trunk", key="SIP-TRUNK-12345678")
    standing = (
        Stop(target=ALL, began_at=NOW - 90, reason="ask +60123456700 first", canceling=False),
        Stop(target=trunk, began_at=NOW - 5, reason=None, canceling=True),
        Stop(target=CAMPAIGN, began_at=NOW - 400, reason=None, canceling=True),
        Stop(target=Target(kind="row", key="123456789"), began_at=NOW - 400, reason=None, canceling=False),
    )
    seen = overview(stops=standing, queue={"queued": 2, "paused": 2})
    text = drawn(screens.status_screen(seen, full=False))
    for part in (
        "everything  ", "1 min 30 s", "trunk SIP-TRUNK-12345678", "being canceled", f"campaign {CAMPAIGN.key}",
        "cancel not finished: cancel or resume it", "row 123456789", "2 rows wait because everything is paused",
        "all well",
    ):  # fmt: skip
        assert part in text, text
    assert "60123456" not in text
    assert "60123456700" in drawn(screens.status_screen(seen, full=True))
    found = objects.status_object(seen, full=False)
    assert "60123456" not in str(found)
    assert found["stops"][1] == {
        "target": {"kind": "trunk", "key": "SIP-TRUNK-12345678"},
        "began_at": found["stops"][1]["began_at"], "reason": None, "canceling": True,
    }  # fmt: skip
