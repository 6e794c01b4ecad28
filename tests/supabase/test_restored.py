"""A database that was restored to an earlier time: no adapter that has seen more dials what it forgot."""

from typing import Any

import asyncpg

from tests.supabase.helpers import OTHER, Desk, outcome

TABLES = ("call_queue", "call_logs", "call_adapters", "call_pbx", "call_tenants", "call_lanes", "call_arrivals")


class Backup:
    """All that the functions keep, as a dump holds it."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self._number = 0

    async def take(self) -> None:
        """Now."""
        for table in TABLES:
            await self._connection.execute(f"create temporary table kept_{table} as table public.{table}")
        self._number = await self._connection.fetchval("select public.call_highest_claim()")

    async def restore(self, *, ahead: int = 0) -> None:
        """Back to it, past all triggers. `ahead`: numbers by which the sequence is newer than the tables."""
        run = self._connection.execute
        for table in TABLES:
            await run(f"alter table public.{table} disable trigger user")
            await run(f"delete from public.{table}")  # noqa: S608 - names of ours
            columns = await self._connection.fetchval(
                "select string_agg(quote_ident(attname), ', ') from pg_catalog.pg_attribute "
                "where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = ''",
                f"public.{table}",
            )
            await run(
                f"insert into public.{table} ({columns}) overriding system value "  # noqa: S608 - names of ours
                f"select {columns} from kept_{table}"
            )
            await run(f"alter table public.{table} enable trigger user")
        number = self._number + ahead
        await run(f"select setval('public.call_claim_number', {max(number, 1)}, {number > 0})")


async def _adapter(desk: Desk, pbx: str) -> Desk:
    made = Desk(desk.connection, pbx=pbx)
    await made.register()
    await made.sync(seen=0)
    return made


async def _dialed_and_forgotten(desk: Desk, other: Desk, *, ahead: int = 0) -> tuple[int, dict[str, Any]]:
    """`desk` claims a row after the backup, its call ends, the database forgets both. The number it saw, the row."""
    backup = Backup(desk.connection)
    await desk.fill(1)
    await other.fill(1, user=OTHER, start=1)
    await desk.sync(seen=0)
    await backup.take()
    row = await desk.claim_one(seen=0)
    seen = (await desk.sync([outcome(row["call_id"], "busy")], seen=row["claim_number"]))["claim_number"]
    await backup.restore(ahead=ahead)
    return seen, row


async def test_what_another_one_claims_after_a_restore_hides_nothing(lasting_desk: Desk) -> None:
    """By its numbers alone nothing would show: they are above all that this adapter has seen."""
    desk = lasting_desk
    other = await _adapter(desk, "pbx-2")
    seen, row = await _dialed_and_forgotten(desk, other)
    again = await other.claim(1, seen=0)
    assert again
    await desk.fill(3, start=10)
    await other.claim(1, seen=again[0]["claim_number"])
    reply = await desk.sync(room=50, seen=seen)
    assert reply["claim_number"] > seen
    assert reply["told"] < seen
    assert reply["rows"] == []
    assert row["claim_number"] == seen


async def test_a_sequence_that_is_newer_than_its_tables_hides_nothing(lasting_desk: Desk) -> None:
    """After a recovery it is up to 32 numbers ahead; in a dump it is as new as the end of the dump."""
    desk = lasting_desk
    seen, row = await _dialed_and_forgotten(desk, desk, ahead=32)
    assert (await desk.row(row["row_id"]))["status"] == "queued"
    reply = await desk.sync(room=50, seen=seen)
    assert (reply["claim_number"], reply["told"], reply["rows"]) == (32, 0, [])


async def test_it_is_told_again_after_a_lost_answer_and_a_restart(lasting_desk: Desk) -> None:
    desk = lasting_desk
    seen, _ = await _dialed_and_forgotten(desk, desk, ahead=32)
    await desk.sync(room=50, seen=seen)
    assert (await desk.sync(room=50, seen=seen))["told"] < seen
    await desk.register()
    reply = await desk.sync(room=50, seen=seen)
    assert reply["told"] < seen
    assert reply["rows"] == []


async def test_a_new_identity_begins_anew(lasting_desk: Desk) -> None:
    """The documented way out: STATE_DIR is moved away."""
    desk = lasting_desk
    seen, _ = await _dialed_and_forgotten(desk, desk, ahead=32)
    await desk.sync(room=50, seen=seen)
    fresh = await _adapter(desk, "pbx-3")
    rows = await fresh.claim(seen=0)
    assert len(rows) == 2
    assert (await fresh.sync(seen=rows[-1]["claim_number"]))["told"] == rows[-1]["claim_number"]


async def test_the_way_out_is_not_needed_where_nothing_was_seen(lasting_desk: Desk) -> None:
    """An adapter that saw no number later than the backup goes on: it dialed nothing that is forgotten."""
    desk = lasting_desk
    other = await _adapter(desk, "pbx-2")
    await _dialed_and_forgotten(desk, other)
    assert len(await other.claim(seen=0)) == 2


async def test_an_adapter_of_an_older_version_is_served_as_before(lasting_desk: Desk) -> None:
    desk = lasting_desk
    await _dialed_and_forgotten(desk, desk)
    assert len(await desk.claim()) == 2


async def test_a_row_of_an_older_version_learns_the_number_with_the_first_answer(desk: Desk) -> None:
    await desk.connection.execute("update public.call_adapters set told = null")
    await desk.fill(1)
    reply = await desk.sync(room=1, seen=7)
    assert reply["told"] is None
    assert len(reply["rows"]) == 1
    assert (await desk.sync(seen=7))["told"] == reply["claim_number"]


async def test_the_first_registration_tells_the_number(desk: Desk) -> None:
    """So that an outbox whose identity was damaged, and which has seen numbers, is not taken for a restore."""
    await desk.fill(2)
    await desk.claim()
    other = Desk(desk.connection, pbx="pbx-2")
    told = (await other.register())["claim_number"]
    assert (await other.sync(seen=told))["told"] == told
