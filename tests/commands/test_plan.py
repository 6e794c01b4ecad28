"""What a campaign would do: pages add up, and the tightest limit makes the time."""

from typing import Any

import pytest

from adapter.commands.view.objects import plan_object
from adapter.commands.view.plan import ASSUMED_SECONDS, Plan, lines
from adapter.supabase_io.explanations import Group, Page, Price
from tests.commands.facts import CALL, NOW, OTHER


def group(verdict: str, count: int, **more: Any) -> Group:
    fields: dict[str, Any] = {
        "rule": None, "why": None, "trunk": "SIP-TRUNK-1" if verdict != "ends" else None, "first": 7, "from_at": NOW,
        "to_at": NOW,
    }  # fmt: skip
    return Group(verdict=verdict, count=count, **{**fields, **more})


def page(*groups: Group, **more: Any) -> Page:
    fields: dict[str, Any] = {
        "now": NOW, "campaign_id": CALL, "campaign_name": "November", "user_id": OTHER, "user_name": "aminah",
        "pbx": "office", "stops": (), "places": 10, "calls_per_second": None, "last_calls": 200, "last_seconds": 50.0,
        "rows": sum(each.count for each in groups), "next": None, "groups": groups,
    }  # fmt: skip
    return Page(**{**fields, **more})


def plan(*pages: Page) -> Plan:
    found = Plan()
    for each in pages:
        found.add(each)
    return found


def test_pages_add_up() -> None:
    listed = {"rule": "listed", "why": "it is listed"}
    found = plan(
        page(group("now", 150), group("ends", 50, **listed), next={"id": 1}),
        page(group("now", 20), group("later", 30, from_at=NOW + 60, to_at=NOW + 120, why="closed"), next={"id": 2}),
        page(
            group("later", 5, from_at=NOW + 30, to_at=NOW + 90, why="closed", trunk=None),
            group("ends", 1, first=3, **listed),
        ),
    )
    assert (found.rows, found.dialed, found.complete) == (256, 205, True)
    assert dict(found.trunks) == {"SIP-TRUNK-1": 200}
    shown = "\n".join(lines(found))
    for part in (
        "Campaign November of aminah: 256 rows wait",
        "      170  would be dialed now\n",
        "       35  later, from 2026-11-25",
        ": closed (as row 7)",
        "       51  would end without a call: it is listed (as row 3)",
        "Through    SIP-TRUNK-1: 200 rows",
        "How long   about 17 min 05 s for one call to each",
        "10 calls at a time, 50 s each (as the last 200 calls took)",
    ):
        assert part in shown, shown
    told = plan_object(found)
    assert (told["rows"], told["dialed"], told["trunks"], len(told["groups"])) == (256, 205, {"SIP-TRUNK-1": 200}, 3)


def test_what_was_not_read_is_said() -> None:
    assert "at least 5 rows wait" in "\n".join(lines(plan(page(group("now", 5), next={"id": 1}))))
    assert list(lines(plan(page()))) == ["Campaign November of aminah: 0 rows wait"]
    assert "nothing is dialed: its campaign is paused" in "\n".join(
        lines(plan(page(group("now", 5), stops=("its campaign is paused",))))
    )


@pytest.mark.parametrize(
    ("more", "seconds"),
    [
        ({"places": 10}, 500.0),
        ({"places": 1}, 5000.0),
        ({"places": 100, "calls_per_second": 1.0}, 150.0),
        ({"places": None, "calls_per_second": 1.0}, 150.0),
        ({"places": None}, None),
        ({"places": 10, "last_seconds": None}, 10 * ASSUMED_SECONDS),
    ],
)
def test_the_tightest_limit_counts(more: dict[str, Any], seconds: float | None) -> None:
    found = plan(page(group("now", 100), **more))
    assert found.seconds == seconds
    shown = "\n".join(lines(found))
    assert ("not known" in shown) is (seconds is None)
    assert ("assumed" in shown) is (more.get("last_seconds", 1) is None)


def test_cost_is_that_of_the_calls_that_are_answered() -> None:
    priced = (Price(currency="USD", rows=90, cost=30.0), Price(currency=None, rows=10, cost=0.0))
    first = page(group("now", 100), last_answered=50, last_talked=48, costs=priced, next={"id": 1})
    second = page(group("now", 10), last_answered=50, last_talked=48, costs=(Price(currency="MYR", rows=10, cost=8.0),))
    (shown,) = (line for line in lines(plan(first, second)) if line.startswith("Cost"))
    assert shown == (
        "Cost       about 2.00 MYR and 7.50 USD for one call to each (as of the last 200 calls 25% were answered, for "
        "48 s each); 10 rows have no rate and are not in it"
    )
    assert "Cost       no trunk has a rate" in "\n".join(lines(plan(page(group("now", 1)))))
    new = page(group("now", 1), last_calls=0, last_seconds=None, costs=(Price(currency="USD", rows=1, cost=0.02),))
    assert "about 0.02 USD for one call to each (if everybody answers and talks" in "\n".join(lines(plan(new)))
