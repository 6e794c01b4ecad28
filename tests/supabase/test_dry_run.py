"""What a dry run says of a campaign is what its claims then do, page by page, and nothing is changed by asking."""

import uuid
from collections import Counter
from typing import Any

import asyncpg
import pytest

from tests.supabase.helpers import ORIGINATED, USER, Connection, Desk, number, outcome
from tests.supabase.test_plans import Fill, fill, touched
from tests.supabase.test_shadow import campaign, trace

__all__ = ["fill"]


async def dry_run(connection: Connection, of: str, limit: int = 500, after: Any = None) -> dict[str, Any]:
    found: dict[str, Any] = await connection.fetchval("select public.call_dry_run_v1($1, $2, $3)", of, after, limit)
    return found


async def pages(connection: Connection, of: str, limit: int) -> list[dict[str, Any]]:
    out = [await dry_run(connection, of, limit)]
    while out[-1]["next"] is not None:
        out.append(await dry_run(connection, of, limit, out[-1]["next"]))
    return out


def summed(found: list[dict[str, Any]]) -> Counter[tuple[str, str | None]]:
    out: Counter[tuple[str, str | None]] = Counter()
    for page in found:
        for group in page["groups"]:
            out[group["verdict"], group["why"]] += group["count"]
    return out


async def a_campaign(desk: Desk) -> str:
    """Ten rows to dial, two later, one with an unknown trunk, one whose person talks, one that expires first."""
    made = await campaign(desk.connection, USER)
    await desk.insert(number(99))
    await desk.claim_one(limits={"pbx": 50, "user": 5})
    soon, late = await desk.connection.fetchrow("select now() + interval '1 h', now() + interval '2 h'")  # type: ignore[misc]
    more: list[dict[str, Any]] = [{"priority": serial % 10} for serial in range(10)]
    more += [{"not_before": soon}, {"not_before": late}, {"trunk": "SIP-TRUNK-9"}]
    for serial, columns in enumerate(more):
        await desk.insert(number(serial), campaign_id=made, **columns)
    await desk.insert(number(99), campaign_id=made)
    brief = await desk.insert(number(98), campaign_id=made)
    await desk.connection.execute(
        "update public.call_queue set not_before = $2, expires_at = $3 where id = $1", brief, late, soon
    )
    return made


EXPECTED = {
    ("now", None): 10,
    ("later", "not due yet (not_before)"): 2,
    ("ends", "the trunk SIP-TRUNK-9 is not known"): 1,
    ("waits", "another call to this number is going on"): 1,
    ("ends", "its time will have run out"): 1,
}


@pytest.mark.parametrize("limit", [1, 4, 500])
async def test_pages_add_up_and_change_nothing(desk: Desk, limit: int) -> None:
    made = await a_campaign(desk)
    before = await trace(desk.connection)
    found = await pages(desk.connection, made, limit)
    assert await trace(desk.connection) == before
    assert summed(found) == EXPECTED
    assert sum(page["rows"] for page in found) == 15
    assert len(found) == -(-15 // limit) + (15 % limit == 0)
    assert found[0]["campaign"]["user_id"] == USER
    assert (found[0]["places"], found[0]["pbx"], found[0]["stops"]) == (5, "pbx-1", [])
    trunks = Counter[str]()
    for page in found:
        for group in page["groups"]:
            if group["trunk"]:
                trunks[group["trunk"]] += group["count"]
    assert trunks["SIP-TRUNK-1"] >= 12
    taken = await desk.claim(50, limits={"pbx": 50})
    assert len(taken) == 10


async def test_what_keeps_all_of_it_is_told_once(desk: Desk) -> None:
    made = await campaign(desk.connection, USER, "paused")
    await desk.insert(number(1), campaign_id=made)
    found = await dry_run(desk.connection, made)
    paused = found["stops"][-1]
    assert "campaign" in paused
    assert "paused" in paused
    assert found["stops"] == ["the adapter does not dial at the moment", paused]  # Registered, and not heard of since.
    await desk.sync()
    found = await dry_run(desk.connection, made)
    assert (found["stops"], summed([found])) == ([paused], {("now", None): 1})


async def test_how_long_calls_take_is_measured(desk: Desk) -> None:
    made = await campaign(desk.connection, USER)
    assert (await dry_run(desk.connection, made))["last_seconds"] is None
    await desk.insert(number(1))
    call = (await desk.claim_one())["call_id"]
    await desk.connection.execute(
        "update public.call_queue set claimed_at = $2 where call_id = $1", uuid.UUID(call), ORIGINATED
    )
    await desk.sync([outcome(call, "no_answer")])
    found = await dry_run(desk.connection, made)
    assert (found["last_calls"], float(found["last_seconds"]), found["rows"]) == (1, 40.0, 0)


async def test_what_it_costs_if_everybody_answers(desk: Desk) -> None:
    made = await campaign(desk.connection, USER)
    await desk.connection.execute(
        "insert into public.call_rates (trunk, prefix, per_minute, currency, first_seconds, step_seconds) "
        "values ('SIP-TRUNK-1', '601', 0.06, 'USD', 60, 60)"
    )
    await desk.sync(pace={"limit": 2.5})
    for phone in (number(1), number(2), "+60 3-1234 5678"):
        await desk.insert(phone, campaign_id=made)
    found = await dry_run(desk.connection, made)
    assert found["calls_per_second"] == 2.5
    # A minute each, as no call has ended yet; the third has no rate.
    assert [(one["currency"], one["rows"], one["cost"]) for one in found["costs"]] == [
        ("USD", 2, 0.12),
        (None, 1, None),
    ]
    await desk.insert(number(9))
    call = next(row["call_id"] for row in await desk.claim(9) if row["e164"] == number(9))
    await desk.connection.execute(
        "update public.call_queue set claimed_at = $2 where call_id = $1", uuid.UUID(call), ORIGINATED
    )
    await desk.sync([outcome(call, "answered", talk_seconds=61)])
    await desk.settle()
    found = await dry_run(desk.connection, made)
    assert (found["last_answered"], found["last_talked"]) == (1, 61)


async def test_what_it_cannot_be_asked(desk: Desk) -> None:
    for of, code, words in ((uuid.uuid4(), "PT404", "there is no campaign"), (None, "PT400", "needs p_campaign")):
        async with desk.connection.transaction():
            with pytest.raises(asyncpg.PostgresError, match=words) as error:
                async with desk.connection.transaction():
                    await desk.connection.fetchval("select public.call_dry_run_v1($1)", of)
        assert error.value.sqlstate == code


async def test_a_page_costs_its_rows_on_a_full_queue(lasting_desk: Desk, fill: Fill) -> None:
    await fill()
    connection = lasting_desk.connection
    user, lane = await connection.fetchrow("select user_id, campaign_id from public.call_queue where id = 500")  # type: ignore[misc]
    await connection.execute(
        "insert into public.campaigns (id, user_id, campaign_name) values ($1, $2, 'one of a thousand')", lane, user
    )
    seen: dict[str, Any] = {}

    async def ask() -> None:
        seen.update(await dry_run(connection, str(lane), 50))
        seen.update(await dry_run(connection, str(lane), 50, seen["next"]))

    cost = await touched(connection, ask)
    assert seen["rows"] == 50
    assert all(whole == 0 for whole, _ in cost.values()), cost
    assert cost["call_queue"][1] < 1500, cost
