"""A shadow says which rows a claim would take, and leaves no trace of having asked."""

import asyncio
import random
import uuid
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from tests.supabase.helpers import OTHER, USER, Connection, Desk, connected, number

STATUS: dict[str, Any] = {"pbx": "pbx-1", "ready": True, "trunk": "SIP-TRUNK-1", "region": "MY", "countries": ["*"]}

KEPT = ("call_queue", "call_logs", "call_dials", "call_adapters", "call_pbx", "campaigns", "call_campaign_news")
"""Tables that a shadow leaves as they are, to the last byte."""


async def shadow(connection: Connection, room: int = 50, told: Sequence[int] = (), **status: Any) -> dict[str, Any]:
    found: dict[str, Any] = await connection.fetchval(
        "select public.call_shadow_v1($1, $2, $3)", {**STATUS, **status}, room, list(told)
    )
    return found


async def trace(connection: Connection) -> dict[str, Any]:
    """All that a claim changes, as it is now."""
    out: dict[str, Any] = {
        table: await connection.fetchval(f"select jsonb_agg(to_jsonb(t) order by to_jsonb(t)) from public.{table} t")  # noqa: S608
        for table in KEPT
    }
    out["number"] = tuple(await connection.fetchrow("select last_value, is_called from public.call_claim_number"))  # type: ignore[arg-type]
    return out


async def campaign(connection: Connection, user: str, status: str = "pending") -> str:
    made: uuid.UUID = await connection.fetchval(
        "insert into public.campaigns (user_id, campaign_name, status) values ($1, $2, $3) returning id",
        uuid.UUID(user),
        str(uuid.uuid4()),
        status,
    )
    return str(made)


async def a_queue(desk: Desk, dice: random.Random) -> None:
    """Rows of several users and campaigns, some of which cannot be dialed."""
    lanes = [
        (user, await campaign(desk.connection, user, dice.choice(["pending", "pending", "paused"])))
        for user in (USER, OTHER)
        for _ in range(2)
    ]
    for serial in range(30):
        user, lane = dice.choice(lanes)
        more: dict[str, Any] = {}
        if dice.random() < 0.2:
            more["trunk"] = dice.choice(["SIP-TRUNK-1", "SIP-TRUNK-9"])
        await desk.insert(
            number(serial % 25),
            user_id=user,
            campaign_id=dice.choice([lane, None]),
            priority=dice.randrange(10),
            **more,
        )
    await desk.claim(dice.randrange(4))


@pytest.mark.parametrize("seed", range(6))
async def test_it_shows_what_the_next_claim_takes_and_changes_nothing(desk: Desk, seed: int) -> None:
    dice = random.Random(seed)
    await a_queue(desk, dice)
    before = await trace(desk.connection)
    shown = await shadow(desk.connection, 12)
    assert await trace(desk.connection) == before
    assert shown["notes"] == []
    taken = await desk.claim(12)
    assert len(taken) > 5
    assert [row["row_id"] for row in shown["rows"]] == [row["row_id"] for row in taken]
    # The numbers it drew were given to nobody: the claim has them.
    assert [row["claim_number"] for row in shown["rows"]] == [row["claim_number"] for row in taken]
    dials = {
        row["row_id"]: (row["trunk"], row["facts"])
        for row in await desk.connection.fetch("select row_id, trunk, facts from public.call_dials")
    }
    for row in shown["rows"]:
        assert (row["through"], row["facts"]) == dials[row["row_id"]]
    for end in shown["ends"]:
        ended = await desk.row(end["row_id"])
        assert (ended["status"], ended["ended_reason"]) == ("done", end["reason"])


async def test_rows_that_were_shown_make_room_for_others_until_they_no_longer_wait(desk: Desk) -> None:
    rows = [await desk.insert(number(serial)) for serial in range(5)]
    first = [row["row_id"] for row in (await shadow(desk.connection, 2))["rows"]]
    second = await shadow(desk.connection, 2, first)
    assert (first, second["standing"]) == (rows[:2], rows[:2])
    assert [row["row_id"] for row in second["rows"]] == rows[2:4]
    (taken,) = await desk.claim(1)
    assert taken["row_id"] == rows[0]
    assert (await shadow(desk.connection, 0, first))["standing"] == rows[1:2]
    assert (await shadow(desk.connection, 0, first))["rows"] == []


async def test_what_would_end_is_told_with_its_reason(desk: Desk) -> None:
    row = await desk.insert(trunk="SIP-TRUNK-9")
    shown = await shadow(desk.connection)
    assert shown["rows"] == []
    assert shown["ends"] == [{"row_id": row, "reason": "the trunk SIP-TRUNK-9 is not known"}]
    assert (await desk.row(row))["status"] == "queued"


async def test_nobody_who_asks_is_an_adapter(desk: Desk) -> None:
    """It needs no registration, and takes no PBX: where nobody dials, nobody is said to."""
    await desk.insert()
    assert len((await shadow(desk.connection, pbx="another", process=str(uuid.uuid4())))["rows"]) == 1
    assert await desk.connection.fetchval("select count(*) from public.call_pbx") == 0
    assert await desk.connection.fetchval("select count(*) from public.call_adapters") == 1


async def test_more_news_than_a_claim_reads_does_not_hide_rows(desk: Desk) -> None:
    """Without a living adapter nobody else reads them."""
    await desk.connection.execute(
        "insert into public.call_arrivals (user_id, lane, due_at) select gen_random_uuid(), gen_random_uuid(), now() "
        "from generate_series(1, 4100)"
    )
    row = await desk.insert()
    assert [found["row_id"] for found in (await shadow(desk.connection))["rows"]] == [row]


async def test_a_claim_that_fails_is_told_and_taken_back(desk: Desk) -> None:
    await desk.insert()
    before = await trace(desk.connection)
    shown = await shadow(desk.connection, limits={"pbx": "many"})
    assert shown["rows"] == []
    assert "the claim would fail: invalid input syntax" in shown["notes"][0]
    assert await trace(desk.connection) == before


@pytest.mark.parametrize(
    ("status", "room", "told"), [([], 1, []), (STATUS, -1, []), (STATUS, 501, []), (STATUS, 1, range(1001))]
)
async def test_what_it_cannot_be_asked(desk: Desk, status: object, room: int, told: Sequence[int]) -> None:
    with pytest.raises(asyncpg.PostgresError, match="call_shadow_v1") as error:
        await desk.connection.fetchval("select public.call_shadow_v1($1, $2, $3)", status, room, list(told))
    assert error.value.sqlstate == "PT400"


async def test_shadows_beside_claims_disturb_nobody(lasting_desk: Desk, db: str) -> None:
    """Two shadows ask all the time while an adapter claims: each row is claimed once, no number is missing."""
    await lasting_desk.fill(300)
    over = asyncio.Event()
    asked = 0

    async def watch() -> None:
        nonlocal asked
        async with connected(db) as connection:
            while not over.is_set():
                shown = await shadow(connection, 20)
                assert shown["notes"] == []
                asked += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(watch())
        rows: list[dict[str, Any]] = []
        while len(rows) < 300:
            got = await lasting_desk.claim(10)
            assert got
            rows += got
        over.set()
    assert asked > 10
    assert len({row["row_id"] for row in rows}) == 300
    assert sorted(row["claim_number"] for row in rows) == list(range(1, 301))
