"""Pause, resume and cancel by command: what stands, what goes on, what is hung up, and the words for it."""

import asyncio
from typing import Any

import asyncpg
import pytest

from tests.supabase.helpers import OTHER, USER, Connection, Desk, answered, connected, number, outcome

CAMPAIGN = "00000000-0000-4000-8000-0000000000c1"
ELSEWHERE = "00000000-0000-4000-8000-0000000000c2"
NOBODY = "00000000-0000-4000-8000-0000000000ff"


async def pause(desk: Desk, kind: str, key: str | None = None, reason: str | None = None) -> dict[str, Any]:
    """`call_pause_v1`."""
    told: dict[str, Any] = await desk.connection.fetchval("select call_pause_v1($1, $2, $3)", kind, key, reason)
    return told


async def resume(desk: Desk, kind: str, key: str | None = None) -> dict[str, Any]:
    """`call_resume_v1`."""
    told: dict[str, Any] = await desk.connection.fetchval("select call_resume_v1($1, $2)", kind, key)
    return told


async def cancel(desk: Desk, kind: str, key: str | None = None, reason: str | None = None) -> list[dict[str, Any]]:
    """All pieces of `call_cancel_all_v1`."""
    told: list[dict[str, Any]] = [{"more": True, "before": None}]
    while told[-1]["more"]:
        assert len(told) < 50
        told.append(
            await desk.connection.fetchval(
                "select call_cancel_all_v1($1, $2, $3, $4::text::timestamptz)", kind, key, reason, told[-1]["before"]
            )
        )
    return told[1:]


async def reason_of(desk: Desk, row: int | None) -> str:
    """What queue_problems says."""
    words: str = await desk.connection.fetchval("select reason from queue_problems where id = $1", row)
    return words


async def stopped(desk: Desk, row: int | None) -> str | None:
    """What call_follow_v1 says."""
    seen = await desk.connection.fetchval("select call_follow_v1($1)", row)
    words: str | None = seen["wait"]["stopped"]
    return words


KINDS = ("all", "trunk", "user", "campaign", "row")


def key_of(kind: str, row: int | None) -> str | None:
    """The key under which this row stands."""
    return {"all": None, "trunk": "SIP-TRUNK-1", "user": USER, "campaign": CAMPAIGN, "row": str(row)}[kind]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_paused_is_not_claimed_until_it_is_resumed(desk: Desk, kind: str) -> None:
    await desk.sync()
    row = await desk.insert(number(1), campaign_id=CAMPAIGN)
    other = await desk.insert(number(2), user_id=OTHER, campaign_id=ELSEWHERE)
    told = await pause(desk, kind, key_of(kind, row), "  the carrier asks  ")
    assert (told["before"], told["live"]) == (False, 0)
    assert told["words"].endswith("paused by command: the carrier asks")
    assert (await pause(desk, kind, key_of(kind, row)))["before"] is True
    assert await stopped(desk, row) == await reason_of(desk, row) == told["words"]

    claimed = [r["row_id"] for _ in range(3) for r in await desk.claim()]
    assert claimed == ([] if kind in {"all", "trunk"} else [other])
    assert await stopped(desk, row) == await reason_of(desk, row) == told["words"]
    assert (await desk.row(row))["status"] == "queued"

    assert await resume(desk, kind, key_of(kind, row)) == {
        "kind": kind, "key": key_of(kind, row) or "", "was": True, "still": None,
    }  # fmt: skip
    assert await stopped(desk, row) is None
    assert row in [r["row_id"] for r in await desk.claim()]
    assert (await resume(desk, kind, key_of(kind, row)))["was"] is False


async def test_a_paused_row_goes_on_when_it_was_due_and_lets_others_pass(desk: Desk) -> None:
    first = await desk.insert(number(1), priority=9)
    await desk.fill(3)
    due = (await desk.row(first))["not_before"]
    await pause(desk, "row", str(first))
    assert len(await desk.claim()) == 3
    assert (await desk.row(first))["not_before"] > due
    await resume(desk, "row", str(first))
    assert (await desk.row(first))["not_before"] == due
    assert [r["row_id"] for r in await desk.claim()] == [first]


async def test_a_live_call_goes_on_and_its_retry_waits(desk: Desk) -> None:
    row = await desk.insert(max_attempts=2, retry_seconds=0)
    claimed = await desk.claim_one()
    assert (await pause(desk, "row", str(row)))["live"] == 1
    assert (await desk.sync([answered(claimed["call_id"])]))["commands"] == []
    await desk.sync([outcome(claimed["call_id"], "voicemail")])
    await desk.settle()
    assert (await desk.row(row))["status"] == "queued"
    assert await desk.claim() == []
    await resume(desk, "row", str(row))
    assert len(await desk.claim()) == 1


async def test_two_pauses_of_one_row_end_one_by_one(desk: Desk) -> None:
    row = await desk.insert(campaign_id=CAMPAIGN)
    for kind in KINDS[2:]:
        await pause(desk, kind, key_of(kind, row))
    await pause(desk, "all")
    assert (await resume(desk, "all"))["still"] is None  # Of all there is nothing else to say …
    assert await stopped(desk, row) == "this user is paused by command"
    assert (await resume(desk, "user", USER))["still"] is None
    assert await stopped(desk, row) == "its campaign is paused by command"
    assert await desk.claim() == []
    assert (await resume(desk, "row", str(row)))["still"] == "its campaign is paused by command"
    assert await desk.claim() == []
    await resume(desk, "campaign", CAMPAIGN)
    assert len(await desk.claim()) == 1


async def test_a_campaign_that_the_app_has_paused_stays_so(desk: Desk) -> None:
    await desk.connection.execute(
        "insert into campaigns (id, user_id, campaign_name, status) values ($1, $2, 'Spring', 'paused')", CAMPAIGN, USER
    )
    await desk.insert(campaign_id=CAMPAIGN)
    await pause(desk, "campaign", CAMPAIGN)
    assert (await resume(desk, "campaign", CAMPAIGN))["still"] == "the app has its campaign paused (campaigns.status)"
    assert await desk.claim() == []
    await pause(desk, "campaign", CAMPAIGN)
    await desk.connection.execute("update campaigns set status = 'in_progress'")
    assert await desk.claim() == []
    await resume(desk, "campaign", CAMPAIGN)
    assert len(await desk.claim()) == 1


async def test_a_flag_that_was_lost_or_taken_away_by_hand_lets_nothing_pass(desk: Desk) -> None:
    await desk.insert()
    await pause(desk, "user", USER)
    for loss in (
        "delete from call_tenants",
        "update call_tenants set paused = false, ready = true, wake_at = null",
        "update call_lanes set paused = false, halted = false, ready = true",
    ):
        await desk.connection.execute(loss)
        await desk.insert(number(7), idempotency_key=loss)
        assert await desk.claim() == []
    assert await desk.connection.fetchval("select paused from call_tenants") is True


@pytest.mark.parametrize(("kind", "set_by_hand"), [("user", "call_tenants"), ("campaign", "call_lanes")])
async def test_resume_ends_a_pause_by_hand_and_cancel_does_not(desk: Desk, kind: str, set_by_hand: str) -> None:
    row = await desk.insert(campaign_id=CAMPAIGN)
    await desk.sync(room=1, limits={"pbx": 0})
    await desk.connection.execute(f"update {set_by_hand} set paused = true")  # noqa: S608 - names of ours
    await cancel(desk, kind, key_of(kind, row))
    again = await desk.insert(number(8), campaign_id=CAMPAIGN)
    assert await desk.claim() == []
    assert (await resume(desk, kind, key_of(kind, row)))["was"] is True
    assert [r["row_id"] for r in await desk.claim()] == [again]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_clock_of_what_is_paused_stands(desk: Desk, kind: str) -> None:
    await desk.sync()
    row = await desk.insert(campaign_id=CAMPAIGN)
    fixed = await desk.insert(number(2), campaign_id=CAMPAIGN, expires_at=await _in(desk, "1 hour"))
    await pause(desk, kind, key_of(kind, row))
    # As if all of it had happened 25 hours ago.
    await desk.connection.execute("update call_stops set began = began - interval '25 hours'")
    await desk.connection.execute("update call_pauses set began = began - interval '25 hours'")
    await desk.connection.execute(
        "update call_queue set created_at = created_at - interval '26 hours', "
        "not_before = not_before - interval '26 hours', "
        "expires_at = expires_at - interval '26 hours', updated_at = updated_at + interval '1 second'"
    )
    await desk.sync()
    assert ((await desk.row(row))["status"], (await desk.row(fixed))["outcome"]) == ("queued", "blocked")
    await resume(desk, kind, key_of(kind, row))
    await desk.sync()
    left = await desk.connection.fetchval("select expires_at - now() from call_queue where id = $1", row)
    # It was paused an hour after its insert, so 23 are left; what was counted while it stood is counted once.
    assert 0 < left.total_seconds() <= 24 * 3600
    assert [r["row_id"] for r in await desk.claim()] == [row]


@pytest.mark.parametrize(
    ("paused", "wish", "stands"),
    [
        (["SIP-TRUNK-1"], None, False),
        (["SIP-TRUNK-1", "SIP-TRUNK-2"], None, True),
        (["SIP-TRUNK-1"], "SIP-TRUNK-1", True),
        (["SIP-TRUNK-2"], "SIP-TRUNK-1", False),
    ],
)
async def test_a_paused_trunk_stops_the_clock_only_of_rows_that_no_other_one_may_take(
    desk: Desk, paused: list[str], wish: str | None, stands: bool
) -> None:
    await desk.sync()
    # Neither the one that is switched off nor the one for other numbers may take it.
    await desk.connection.execute(
        "insert into call_trunks (pbx, trunk, enabled, prefixes) values ('pbx-1', 'SIP-TRUNK-1', true, '{}'), "
        "('pbx-1', 'SIP-TRUNK-2', true, '{60}'), ('pbx-1', 'SIP-TRUNK-3', false, '{}'), "
        "('pbx-1', 'SIP-TRUNK-4', true, '{49}')"
    )
    row = await desk.insert(trunk=wish)
    for trunk in paused:
        await pause(desk, "trunk", trunk)
    told = await stopped(desk, row)
    # The number is not asked there: one that may call others is still another one.
    assert (told is not None) is (wish in paused)
    await desk.connection.execute("update call_stops set began = began - interval '25 hours'")
    await desk.connection.execute(
        "update call_queue set created_at = created_at - interval '26 hours', "
        "expires_at = expires_at - interval '26 hours', updated_at = updated_at + interval '1 second'"
    )
    await desk.sync()
    assert (await desk.row(row))["status"] == ("queued" if stands else "done")


async def test_while_all_trunks_stand_at_once_the_clock_stands(desk: Desk) -> None:
    await desk.sync()
    await desk.connection.execute(
        "insert into call_trunks (pbx, trunk) values ('pbx-1', 'SIP-TRUNK-1'), ('pbx-1', 'SIP-TRUNK-2')"
    )
    row = await desk.insert()
    # Paused in turn: only in the two hours of both could nothing take it.
    await desk.connection.execute(
        "insert into call_stops (kind, key, began, ended) values "
        "('trunk', 'SIP-TRUNK-1', now() - interval '20 hours', now() - interval '10 hours'), "
        "('trunk', 'SIP-TRUNK-2', now() - interval '12 hours', now() - interval '2 hours')"
    )
    await desk.connection.execute(
        "update call_queue set created_at = created_at - interval '25 hours', "
        "expires_at = expires_at - interval '25 hours', updated_at = updated_at + interval '1 second'"
    )
    await desk.sync()
    left = await desk.connection.fetchval("select expires_at - now() from call_queue where id = $1", row)
    assert 3500 < left.total_seconds() < 3700


async def test_what_is_paused_does_not_even_end(desk: Desk) -> None:
    row = await desk.insert()
    await pause(desk, "row", str(row))
    await desk.connection.execute("update call_queue set variables = '[]', updated_at = now()")
    assert await desk.claim() == []
    assert (await desk.row(row))["status"] == "queued"
    await resume(desk, "row", str(row))
    assert (await desk.row(row))["wait_reason"] is None
    assert await desk.claim() == []
    assert (await desk.row(row))["outcome"] == "blocked"


async def test_resume_forgets_what_is_held_against_a_trunk(desk: Desk) -> None:
    await desk.sync()
    await desk.insert()
    await desk.connection.execute(
        "insert into call_trunk_health (pbx, trunk, silent, stopped_at, probed_at) "
        "values ('pbx-1', 'SIP-TRUNK-1', 20, now(), now())"
    )
    assert await desk.claim() == []
    assert (await resume(desk, "trunk", "SIP-TRUNK-1"))["was"] is True
    assert len(await desk.claim()) == 1


async def test_a_row_that_names_a_paused_trunk_lets_others_pass(desk: Desk) -> None:
    await desk.sync()
    await desk.connection.execute(
        "insert into call_trunks (pbx, trunk, priority) values ('pbx-1', 'SIP-TRUNK-1', 9), ('pbx-1', 'SIP-TRUNK-2', 1)"
    )
    named = await desk.insert(number(1), trunk="SIP-TRUNK-1")
    other = await desk.insert(number(2))
    await pause(desk, "trunk", "SIP-TRUNK-1")
    claimed = [*await desk.claim(), *await desk.claim()]
    assert [(row["row_id"], row["trunk"]["id"]) for row in claimed] == [(other, "SIP-TRUNK-2")]
    assert await reason_of(desk, named) == "the trunk SIP-TRUNK-1 is paused by command"
    assert (await cancel(desk, "trunk", "SIP-TRUNK-2"))[0]["live"] == 1


async def _in(desk: Desk, span: str) -> Any:
    return await desk.connection.fetchval("select now() + $1::text::interval", span)


@pytest.mark.parametrize(
    ("kind", "key", "words"),
    [
        ("row", "4711", "call_queue has no row 4711"),
        ("row", "x", 'a row cannot be "x": give the number of a row of call_queue'),
        ("user", "Aminah", 'a user cannot be "Aminah": give its id'),
        ("user", NOBODY, "no user .* is known"),
        ("campaign", NOBODY, "no campaign .* is known"),
        ("trunk", "SIP-TRUNK-X", "no trunk SIP-TRUNK-X is known; known: SIP-TRUNK-1"),
        ("trunk", "", "give its name, as status shows it"),
        ("all", "x", "all is everything"),
        ("lane", "x", 'there is no "lane"'),
        (None, None, "name a row, campaign, user, trunk, or all"),
    ],
)
async def test_what_is_not_there_is_refused_with_the_reason(
    desk: Desk, kind: str | None, key: str | None, words: str
) -> None:
    await desk.sync()
    for function in ("call_pause_v1", "call_cancel_all_v1"):
        with pytest.raises(asyncpg.PostgresError, match=words):
            async with desk.connection.transaction():
                await desk.connection.fetchval(f"select {function}($1, $2)", kind, key)
    assert await desk.connection.fetchval("select count(*) from call_stops") == 0


async def test_a_row_that_is_over_cannot_be_paused(desk: Desk) -> None:
    row = await desk.insert("12")
    with pytest.raises(asyncpg.PostgresError, match=r"is over \(done\)"):
        await pause(desk, "row", str(row))


# -- cancel


@pytest.mark.parametrize("kind", ["all", "user", "campaign", "trunk"])
async def test_cancel_reaches_all_that_waits_and_hangs_up_all_that_lives(desk: Desk, kind: str) -> None:
    await desk.sync()
    await desk.connection.execute(
        "insert into call_queue (user_id, campaign_id, phone_number, trunk, max_attempts, retry_seconds) "
        "select $1::uuid, $2::uuid, '+601' || (100000000 + i), 'SIP-TRUNK-1', 3, 0 from generate_series(1, 2300) i",
        USER,
        CAMPAIGN,
    )
    other = await desk.insert(
        number(2), user_id=OTHER, campaign_id=ELSEWHERE, trunk="SIP-TRUNK-2", not_before=await _in(desk, "1 day")
    )
    live = await desk.claim(40)
    assert len(live) == 40
    (over, *ringing) = live
    await desk.sync([answered(over["call_id"]), outcome(over["call_id"], "voicemail")])

    told = await cancel(desk, kind, key_of(kind, None), "by order")
    assert [piece["waited"] for piece in told][:4] == [0, 1000, 1000, 260 + (kind == "all")]
    assert sum(piece["live"] for piece in told) == told[0]["live"] == len(ringing)
    hangups = {command["call_id"] for command in (await desk.sync())["commands"]}
    assert hangups == {row["call_id"] for row in ringing}
    await desk.sync([outcome(call, "canceled") for call in hangups])
    await desk.settle()
    ended = await desk.connection.fetch(
        "select status, outcome, count(*) from call_queue where id <> $1 group by 1, 2 order by 1, 2", other
    )
    assert [tuple(row) for row in ended] == [
        ("canceled", "canceled", 2260), ("done", "canceled", 39), ("done", "voicemail", 1),
    ]  # fmt: skip
    assert (await desk.row(other))["status"] == ("canceled" if kind == "all" else "queued")
    words = "select distinct ended_reason from call_queue where status = 'canceled'"
    assert [row[0] for row in await desk.connection.fetch(words)] == ["by order"]
    # It is not paused any more: what comes now is dialed.
    assert await desk.connection.fetchval("select count(*) from call_stops where ended is null") == 0
    late = await desk.insert(number(9), campaign_id=CAMPAIGN)
    assert late in [row["row_id"] for row in await desk.claim()]


async def test_nothing_is_dialed_from_the_first_piece_on_and_it_says_so(desk: Desk) -> None:
    row = await desk.insert(campaign_id=CAMPAIGN)
    first = await desk.connection.fetchval("select call_cancel_all_v1('campaign', $1)", CAMPAIGN)
    assert (first["waited"], first["more"]) == (0, True)
    assert await desk.claim() == []
    assert await reason_of(desk, row) == "its campaign is paused until all that waits of it is canceled"
    told = await cancel(desk, "campaign", CAMPAIGN)
    assert [piece["waited"] for piece in told] == [0, 1]
    assert (await desk.row(row))["status"] == "canceled"


async def test_what_was_paused_stays_paused_after_a_cancel(desk: Desk) -> None:
    await desk.insert()
    await pause(desk, "user", USER, "unpaid")
    (*_, last) = await cancel(desk, "user", USER)
    assert last["still"] == "this user is paused by command: unpaid"
    await desk.insert(number(3))
    assert await desk.claim() == []


async def test_a_row_that_somebody_holds_keeps_the_pause_until_it_is_canceled(lasting_desk: Desk, db: str) -> None:
    desk = lasting_desk
    row = await desk.insert(campaign_id=CAMPAIGN)
    first = await desk.connection.fetchval("select call_cancel_all_v1('campaign', $1)", CAMPAIGN)
    ask = "select call_cancel_all_v1('campaign', $1, null, $2::text::timestamptz)"
    async with connected(db) as connection:
        held = connection.transaction()
        await held.start()
        await connection.execute("select from call_queue where id = $1 for update", row)
        piece = await desk.connection.fetchval(ask, CAMPAIGN, first["before"])
        assert (piece["waited"], piece["more"]) == (0, True)
        assert await desk.claim() == []
        await held.rollback()
    piece = await desk.connection.fetchval(ask, CAMPAIGN, first["before"])
    assert (piece["waited"], piece["more"]) == (1, False)


# -- what it tells, and the bell


async def test_status_and_overview_show_what_is_paused(desk: Desk) -> None:
    await desk.insert(campaign_id=CAMPAIGN)
    await desk.insert(number(2), user_id=OTHER)
    await pause(desk, "user", USER, "unpaid")
    await pause(desk, "all", None, "a storm")
    seen = await desk.connection.fetchval("select call_status_v1(10)")
    assert [(stop["kind"], stop["key"], stop["reason"]) for stop in seen["stops"]] == [
        ("all", "", "a storm"), ("user", USER, "unpaid"),
    ]  # fmt: skip
    assert (seen["queue"]["due"], seen["queue"]["paused"]) == (0, 2)
    states = await desk.connection.fetch("select state from queue_overview")
    assert {row["state"] for row in states} == {"everything is paused"}
    await resume(desk, "all")
    states = await desk.connection.fetch("select state from queue_overview order by 1")
    assert [row["state"] for row in states] == ["the user is paused", "waiting for its turn"]


async def test_each_command_rings(desk: Desk) -> None:
    await desk.insert()
    run = desk.connection
    for command in ("call_pause_v1('all')", "call_resume_v1('all')", "call_cancel_all_v1('all')"):
        # An insert has rung a moment ago: its ring may have been answered before the command is there.
        await run.execute("update call_bell set rung_at = now()")
        before = await run.fetchval("select count(*) from realtime.messages")
        await run.fetchval(f"select {command}")
        assert await run.fetchval("select count(*) from realtime.messages") == before + 1


# -- sixteen claimers

CLAIMERS = 16
ROUNDS = 8
"""Each of four moments at which the pause comes, twice."""


CLAIMED = """
select array(select q.claim_number from call_queue q where q.claim_number is not null and ($1 <> 'row' or q.id = $2))
"""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_pause_waits_for_the_claim_that_goes_on_and_the_claim_for_the_pause(
    lasting_desk: Desk, db: str, kind: str
) -> None:
    desk = lasting_desk
    await desk.sync()
    row = await desk.insert(campaign_id=CAMPAIGN)
    async with connected(db) as claiming, connected(db) as pausing:
        one, other = Desk(claiming, desk.adapter, desk.incarnation), Desk(pausing, desk.adapter, desk.incarnation)
        claim = claiming.transaction()
        await claim.start()
        claimed = await one.claim_one()
        task = asyncio.create_task(pause(other, kind, key_of(kind, row)))
        await asyncio.sleep(0.3)
        assert not task.done()
        await claim.commit()
        # So it knows of every call that may still be dialed.
        assert (await task)["live"] == 1
        await one.sync([outcome(claimed["call_id"], "busy")])
        await resume(other, kind, key_of(kind, row))
        again = await desk.insert(number(2), campaign_id=CAMPAIGN)
        paused = pausing.transaction()
        await paused.start()
        await pause(other, kind, key_of(kind, again))
        syncing = asyncio.create_task(one.claim())
        await asyncio.sleep(0.3)
        assert not syncing.done()
        await paused.commit()
        assert await syncing == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_is_claimed_after_the_commit_of_a_pause(lasting_desk: Desk, db: str, kind: str) -> None:
    """Sixteen claim at once; the pause comes in between, and from its commit on nothing of it is claimed."""
    desk = lasting_desk
    await desk.sync()
    going = True

    async def claimer(connection: Connection) -> None:
        me = Desk(connection, desk.adapter, desk.incarnation)
        while going:
            rows = (await me.sync(room=3))["rows"]
            await me.sync([outcome(row["call_id"], "busy") for row in rows])

    for serial in range(ROUNDS):
        await desk.connection.execute(
            "insert into call_queue (user_id, campaign_id, phone_number) "
            "select $1::uuid, $2::uuid, '+601' || (100000000 + $3 + i) from generate_series(1, 400) i",
            USER,
            CAMPAIGN,
            serial * 1000,
        )
        row = await desk.connection.fetchval("select max(id) from call_queue")
        connections = [connected(db) for _ in range(CLAIMERS)]
        opened = [await context.__aenter__() for context in connections]
        going = True
        tasks = [asyncio.create_task(claimer(connection)) for connection in opened]
        async with connected(db) as mine:
            me = Desk(mine, desk.adapter, desk.incarnation)
            await asyncio.sleep(0.02 * (serial % 4))
            told = await pause(me, kind, key_of(kind, row)) if not await _over(mine, kind, row) else None
            # It is committed when its answer is here: what is not claimed by now, in everybody's eyes, never is.
            before = await mine.fetchval(CLAIMED, kind, row)
            await asyncio.sleep(0.15)
            late = set(await mine.fetchval(CLAIMED, kind, row)) - set(before)
            assert told is None or not late, f"round {serial}"
            await resume(me, kind, key_of(kind, row))
        going = False
        await asyncio.gather(*tasks)
        for context in connections:
            await context.__aexit__(None, None, None)


async def _over(connection: Connection, kind: str, row: int) -> bool:
    """A row that the claimers have dialed already cannot be paused."""
    return kind == "row" and await connection.fetchval(
        "select status in ('done', 'canceled') from call_queue where id = $1", row
    )
