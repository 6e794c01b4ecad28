"""Who is tried again, how often and how soon: by the row, its campaign, its user, for all; and who is not."""

from typing import Any

import asyncpg
import pytest

from tests.supabase.helpers import OTHER, USER, Connection, Desk, answered, connected, number, outcome
from tests.supabase.test_campaigns import campaign, shown
from tests.support.db import ROOT

ALL = "00000000-0000-0000-0000-000000000000"
OPTIONAL = ROOT / "supabase" / "optional" / "can_user_make_calls.sql"


async def default(connection: Connection, user: str, enabled: bool, minutes: int, more: int) -> None:
    """The owner sets a default."""
    await connection.execute("insert into call_retries values ($1, $2, $3, $4)", user, enabled, minutes, more)


async def told(desk: Desk, row: int | None) -> tuple[int, int]:
    """Calls at most, and the wait between them."""
    found = await desk.row(row)
    assert found["status"] == "queued", found["ended_reason"]
    return found["max_attempts"], found["retry_seconds"]


async def test_without_any_word_a_row_is_tried_once(app_desk: Desk) -> None:
    made = await campaign(app_desk.connection)
    assert await told(app_desk, await app_desk.insert(campaign_id=made)) == (1, 1800)
    assert await told(app_desk, await app_desk.insert(number(1))) == (1, 1800)


@pytest.mark.parametrize(
    ("of_row", "of_campaign", "of_user", "for_all", "expected"),
    [
        ({}, None, None, (True, 20, 2), (3, 1200)),
        ({}, None, (True, 5, 1), (True, 20, 2), (2, 300)),
        ({}, None, (False, 5, 1), (True, 20, 2), (1, 300)),  # Switched off for this one.
        ({}, (False, 30, 3), (True, 5, 1), None, (2, 300)),  # What the page sends while its fields are hidden.
        ({}, (True, 60, 4), (True, 5, 1), (True, 20, 2), (5, 3600)),
        ({}, (True, None, None), None, None, (4, 1800)),
        ({}, (True, 10**6, 10**6), None, None, (100, 2592000)),  # The app knows no bounds; the row does.
        ({}, (True, -1, -1), None, None, (1, 0)),
        ({"max_attempts": 7}, None, (True, 5, 1), None, (7, 300)),
        ({"retry_seconds": 7}, None, (True, 5, 1), None, (2, 7)),
        ({"max_attempts": 1, "retry_seconds": 60}, (True, 60, 4), (True, 5, 1), (True, 20, 2), (1, 60)),
        ({"max_attempts": None, "retry_seconds": None}, None, None, (True, 20, 2), (3, 1200)),
    ],
)
async def test_the_nearest_word_counts(  # noqa: PLR0917 - as the cases above
    app_desk: Desk,
    of_row: dict[str, Any],
    of_campaign: tuple[bool, int | None, int | None] | None,
    of_user: tuple[bool, int, int] | None,
    for_all: tuple[bool, int, int] | None,
    expected: tuple[int, int],
) -> None:
    db = app_desk.connection
    columns = dict(of_row)
    if of_campaign:
        enabled, minutes, more = of_campaign
        columns["campaign_id"] = await campaign(
            db, retry_enabled=enabled, retry_interval_minutes=minutes, max_retry_attempts=more
        )
    if of_user:
        await default(db, USER, *of_user)
        await default(db, OTHER, True, 1, 9)
    if for_all:
        await default(db, ALL, *for_all)
    assert await told(app_desk, await app_desk.insert(**columns)) == expected


async def test_what_the_owner_cannot_mean_is_refused(app_desk: Desk) -> None:
    for minutes, more in ((-1, 1), (43201, 1), (1, -1), (1, 100)):
        with pytest.raises(asyncpg.CheckViolationError):
            async with app_desk.connection.transaction():
                await default(app_desk.connection, ALL, True, minutes, more)


async def test_a_default_of_the_owner_tries_as_often_as_it_says(app_desk: Desk) -> None:
    """`max_retry_attempts` more calls after the first, each after its wait, and the campaign knows the highest."""
    desk, db = app_desk, app_desk.connection
    await default(db, ALL, True, 10, 2)
    made = await campaign(db)
    row = await desk.insert(campaign_id=made)
    for attempt, word in enumerate(("busy", "no_answer", "no_reply"), start=1):
        call = await desk.claim_one()
        assert call["attempt"] == attempt
        await desk.sync([outcome(call["call_id"], word)])
        if attempt < 3:
            wait = "select extract(epoch from not_before - updated_at) from call_queue where id = $1"
            assert await db.fetchval(wait, row) == 600
            assert await desk.claim() == []
            await desk.due()
    assert await desk.claim() == []
    assert await shown(db, made) == ("completed", 0, 1, 2)
    assert await db.fetchval("select count(*) from call_logs") == 3


@pytest.mark.parametrize(
    ("word", "again"),
    [
        ("no_answer", True), ("busy", True), ("voicemail", True), ("no_reply", True),
        ("declined", False), ("invalid_number", False), ("answered", False), ("ai_failed", False), ("unknown", False),
    ],
)  # fmt: skip
async def test_the_outcome_decides(app_desk: Desk, word: str, again: bool) -> None:
    desk = app_desk
    await default(desk.connection, ALL, True, 10, 2)
    row = await desk.insert()
    await desk.sync([outcome((await desk.claim_one())["call_id"], word)])
    await desk.settle()
    assert (await desk.row(row))["status"] == ("queued" if again else "done")


async def test_the_owner_may_have_declined_calls_tried_again(app_desk: Desk) -> None:
    desk = app_desk
    await default(desk.connection, ALL, True, 10, 1)
    await desk.connection.execute("update call_outcomes set retried = 'policy' where outcome = 'declined'")
    row = await desk.insert()
    await desk.sync([outcome((await desk.claim_one())["call_id"], "declined")])
    assert (await desk.row(row))["status"] == "queued"


async def test_the_retry_of_an_answered_call_is_decided_when_the_handler_had_its_say(app_desk: Desk) -> None:
    desk = app_desk
    await default(desk.connection, ALL, True, 10, 1)
    row = await desk.insert()
    call = await desk.claim_one()
    await desk.sync([answered(call["call_id"]), outcome(call["call_id"], "answered")])
    assert (await desk.row(row))["status"] == "talking"
    assert await desk.connection.fetchval("select extract(epoch from settle_at - updated_at) from call_queue") == 10
    await desk.connection.execute("update call_logs set status = 'voicemail'")
    await desk.settle()
    found = await desk.row(row)
    assert (found["status"], found["last_outcome"]) == ("queued", "voicemail")


async def test_a_number_answered_in_any_call_of_the_campaign_is_not_tried_again(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made, other = await campaign(db), await campaign(db)
    first = await desk.insert(campaign_id=made, max_attempts=3)
    await desk.sync([outcome((await desk.claim_one())["call_id"], "busy")])
    # The same person in another campaign, and once more in this one.
    elsewhere = await desk.insert(campaign_id=other, max_attempts=3)
    await desk.sync([outcome((await desk.claim_one())["call_id"], "busy")])
    await desk.insert(campaign_id=made, max_attempts=3)
    await desk.sync([outcome((await desk.claim_one())["call_id"], "answered")])
    await desk.settle()
    await desk.due()
    (again,) = await desk.claim()
    assert again["row_id"] == elsewhere  # Another campaign has nothing to do with it.
    assert await desk.claim() == []
    row = await desk.row(first)
    assert (row["status"], row["outcome"], row["attempts"]) == ("done", "busy", 1)
    assert row["ended_reason"].endswith("not tried again: the number was answered in another call of the campaign")
    assert await shown(db, made) == ("completed", 1, 1, 0)


async def test_a_call_that_ends_after_the_number_was_answered_is_the_last(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    for _ in range(2):
        await desk.insert(campaign_id=made, max_attempts=3)
    call = await desk.claim_one()
    await desk.sync([outcome(call["call_id"], "ai_failed")])
    await desk.settle()
    await desk.due()
    call = await desk.claim_one()
    await desk.sync([outcome(call["call_id"], "no_answer")])
    assert await shown(db, made) == ("completed", 1, 1, 0)


async def test_evidence_that_brings_a_retry_opens_the_campaign_again(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    await desk.insert(campaign_id=made, max_attempts=2)
    call = await desk.claim_one()
    await desk.sync([outcome(call["call_id"], "unknown")])
    assert await shown(db, made) == ("completed", 0, 1, 0)
    await desk.sync([outcome(call["call_id"], "busy")])
    assert await shown(db, made) == ("in_progress", 0, 0, 0)
    await desk.due()
    await desk.sync([outcome((await desk.claim_one())["call_id"], "busy")])
    assert await shown(db, made) == ("completed", 0, 1, 1)


async def test_a_paused_campaign_waits_with_its_retries(app_desk: Desk) -> None:
    desk, db = app_desk, app_desk.connection
    made = await campaign(db)
    await desk.insert(campaign_id=made, max_attempts=2)
    call = await desk.claim_one()
    await db.execute("update campaigns set status = 'paused' where id = $1", made)
    await desk.sync([outcome(call["call_id"], "busy")])
    await desk.due()
    assert await desk.claim() == []
    assert await shown(db, made) == ("paused", 0, 0, 0)
    await db.execute("update campaigns set status = 'in_progress' where id = $1", made)
    assert len(await desk.claim()) == 1


OLD_RPC = """
create function public.can_user_make_calls(p_user_id uuid) returns boolean language sql as $$ select false $$;
"""


async def test_the_page_may_ask_for_the_balance_instead_of_a_subscription(app_db: str) -> None:
    async with connected(app_db) as connection:
        await connection.execute(OLD_RPC)
        for _ in range(2):
            await connection.execute(OPTIONAL.read_text(encoding="utf-8"))
        users = {
            "trial": ("trial", 10, 0, True),
            "trial with too little": ("trial", 1.99, 50, False),
            "pro": ("pro", 0, 2, True),
            "pro without": ("pro", 50, 0, False),
        }
        ids = {}
        for name, (kind, trial, pro, _) in users.items():
            ids[name] = await connection.fetchval(
                "insert into users (id, username, account_type, trial_balance_minutes, pro_balance_minutes) "
                "values (gen_random_uuid(), $1, $2, $3, $4) returning id",
                name, kind, trial, pro,
            )  # fmt: skip
        await connection.execute("set role anon")
        ask = "select public.can_user_make_calls(p_user_id => $1)"
        for name, (*_, may) in users.items():
            assert await connection.fetchval(ask, ids[name]) is may, name
        assert await connection.fetchval(ask, OTHER) is False
        assert await connection.fetchval(ask, None) is False
