"""The ticker: one claim id per claim until it is answered, records first, restored databases, the trailing claim."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from adapter.core.model import ClaimedRow, ReleaseCause, ReleaseRecord, Way
from adapter.supabase_io import outbox_file
from adapter.supabase_io.database import Database, DatabaseAway, DatabaseRefused, SyncReply, SyncRequest
from adapter.supabase_io.doorbell import Doorbell
from adapter.supabase_io.outbox import Outbox
from adapter.ticker import BATCH, LEASE_SECONDS, Fenced, Tick, Ticker
from tests.support.doubles import ScriptedDatabase, SilentBell, reply, row


class Desk:
    """A ticker with everything around it scripted."""

    def __init__(self, outbox: Outbox) -> None:
        self.database = ScriptedDatabase()
        self.outbox = outbox
        self.bell = SilentBell()
        self.room = 5
        self.now = 100.0
        self.dialed: list[ClaimedRow] = []
        self.blocked: list[str] = []
        self.hung_up: list[str] = []
        self.known: list[tuple[object, object]] = []
        self.ticker = Ticker(
            database=cast("Database", self.database),
            outbox=outbox,
            doorbell=cast("Doorbell", self.bell),
            status=lambda: {"ready": True},
            room=lambda: self.room,
            tick=Tick(
                dial=lambda rows, since: self.dialed.extend(rows),
                hang_up=self.hung_up.extend,
                block=self._block,
                adopt=lambda calls: None,
                know=lambda ways, bad: self.known.append((ways, bad)),
                beat=lambda: None,
            ),
            clock=lambda: self.now,
            sweep_seconds=30.0,
        )

    async def _block(self, call_id: str, why: str) -> None:
        self.blocked.append(f"{call_id} {why}")

    async def turns(self, count: int) -> None:
        """Run until `count` requests were made."""
        task = asyncio.create_task(self.ticker.run())
        self.ticker.want()
        try:
            async with asyncio.timeout(10):
                while len(self.database.requests) < count and not task.done():
                    await asyncio.sleep(0.005)
                await asyncio.sleep(0.03)
        finally:
            task.cancel()
            results = await asyncio.gather(task, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    yield Desk(outbox)
    await outbox.close()


def _release(serial: int) -> ReleaseRecord:
    return ReleaseRecord(call_id=row(serial).call_id, cause=ReleaseCause.NOT_SENT, reason="test")


async def test_a_lost_answer_is_asked_again_with_the_same_claim_id(desk: Desk) -> None:
    desk.database.answers.extend([DatabaseAway("timeout"), DatabaseRefused("mended soon"), reply(rows=(row(1),))])
    await desk.turns(3)
    first, second, third = desk.database.requests[:3]
    assert first.claim_id is not None
    assert first.claim_id == second.claim_id == third.claim_id
    assert first.room == third.room == 5
    assert [r.row_id for r in desk.dialed] == [1]
    assert desk.ticker.database_problem is None


async def test_the_same_claim_is_asked_even_when_the_pbx_went_away_meanwhile(desk: Desk) -> None:
    def away(_request: object) -> Any:
        desk.room = 0
        raise DatabaseAway("answer lost")

    desk.database.answers.extend([away, reply(rows=(row(1),))])
    await desk.turns(2)
    assert desk.database.requests[1].claim_id == desk.database.requests[0].claim_id
    assert desk.dialed


async def test_each_try_of_a_request_has_a_higher_number(desk: Desk) -> None:
    """So that the database can tell one that it executes late."""
    desk.database.answers.extend([DatabaseAway("no answer"), reply(rows=(row(1),), more=True)])
    await desk.turns(3)
    assert [request.status["request"] for request in desk.database.requests] == [1, 2, 3]


async def test_each_answered_claim_gets_a_new_id(desk: Desk) -> None:
    desk.database.answers.extend([reply(rows=(row(1),), more=True), reply(rows=(row(2),))])
    await desk.turns(2)
    assert desk.database.requests[0].claim_id != desk.database.requests[1].claim_id
    assert [r.row_id for r in desk.dialed] == [1, 2]


async def test_records_are_sent_until_they_are_recorded(desk: Desk) -> None:
    await desk.outbox.put(_release(1))
    await desk.outbox.put(_release(2))
    desk.database.answers.append(reply(recorded=(1,), refused=((2, "no such kind"),)))
    await desk.turns(1)
    assert len(desk.database.requests[0].records) == 2
    assert desk.outbox.count == 0
    assert desk.outbox.refused_count == 1


async def test_a_full_disk_does_not_keep_outcomes_from_supabase(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It held the ticker up at the first thing that it had to write: no outcome was told, no lease renewed."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(outbox_file, "commit", full)
    puts = [asyncio.create_task(desk.outbox.put(_release(serial))) for serial in (1, 2, 3)]
    await asyncio.sleep(0)
    desk.database.answers.extend(
        [
            reply(recorded=(1,), claim_number=7, rows=(row(7),), more=True),
            reply(refused=((2, "no such kind"),), more=True, rows=(row(8),)),
            reply(recorded=(3,)),
        ]
    )
    await desk.turns(3)
    assert [len(request.records) for request in desk.database.requests[:3]] == [3, 2, 1]
    assert desk.outbox.count == 0
    await asyncio.gather(*puts)


async def test_a_record_that_must_wait_is_not_hammered(desk: Desk) -> None:
    await desk.outbox.put(_release(1))
    desk.database.answers.extend([reply(notes=("record 1 waits",))] * 50)
    task = asyncio.create_task(desk.ticker.run())
    desk.ticker.want()
    await asyncio.sleep(0.5)
    task.cancel()
    assert 1 <= len(desk.database.requests) <= 2
    assert desk.outbox.count == 1


async def test_nothing_is_claimed_over_a_backlog_of_records(desk: Desk) -> None:
    await asyncio.gather(*(desk.outbox.put(_release(i)) for i in range(BATCH + 1)))
    await desk.turns(2)
    first, second = desk.database.requests[:2]
    assert first.claim_id is None
    assert first.room == 0
    assert second.claim_id is not None


async def test_pg_13_a_record_too_large_for_a_gateway_holds_up_no_other(desk: Desk) -> None:
    for serial in range(1, 5):
        await desk.outbox.put(_release(serial))
    poison = row(3).call_id

    def gateway(request: SyncRequest) -> SyncReply:
        if any(record["call_id"] == poison for _, record in request.records):
            raise DatabaseRefused("the body is too large", status=413)
        return reply(recorded=tuple(seq for seq, _ in request.records))

    desk.database.answers.extend([gateway] * 40)
    desk.ticker.stop()
    await asyncio.wait_for(desk.ticker.flush(), 30)
    assert desk.outbox.count == 0
    assert desk.outbox.refused_count == 1


async def test_a_wrong_key_costs_no_record(desk: Desk) -> None:
    await desk.outbox.put(_release(1))
    desk.database.answers.extend([DatabaseRefused("wrong key", status=401), reply(recorded=(1,))])
    await desk.turns(2)
    assert (desk.outbox.count, desk.outbox.refused_count) == (0, 0)


async def test_a_fenced_process_stops(desk: Desk) -> None:
    await desk.outbox.put(_release(1))
    desk.database.answers.append(reply(fenced=True, recorded=(1,)))
    with pytest.raises(Fenced, match="newer process"):
        await desk.turns(1)
    assert desk.outbox.count == 0, "what it told was taken all the same"


async def test_a_restored_database_stops_the_dialing_and_says_so(desk: Desk) -> None:
    await desk.outbox.note_claim_number(50)
    desk.database.answers.append(reply(claim_number=40, rows=(row(1),), more=True))
    await desk.turns(2)
    assert desk.ticker.went_back is not None
    assert "restored" in desk.ticker.went_back
    assert all(request.claim_id is None for request in desk.database.requests[1:])
    assert desk.outbox.highest_claim_number == 50


async def test_the_numbers_of_the_rows_tell_of_a_restored_database_too(desk: Desk) -> None:
    """Restored by a few calls only: the very claim that would dial them again has brought the number above ours."""
    await desk.outbox.note_claim_number(50)
    again = (replace(row(1), claim_number=49), replace(row(2), claim_number=51))
    desk.database.answers.append(reply(claim_number=51, rows=again, more=True))
    await desk.turns(2)
    assert desk.ticker.went_back is not None
    assert "from claim number 48 after 50" in desk.ticker.went_back
    assert desk.database.requests[1].claim_id is None
    assert desk.outbox.highest_claim_number == 50


async def test_rows_that_are_new_tell_nothing_of_the_kind(desk: Desk) -> None:
    await desk.outbox.note_claim_number(50)
    desk.database.answers.append(reply(claim_number=51, rows=(replace(row(1), claim_number=51),)))
    await desk.turns(1)
    assert desk.ticker.went_back is None
    assert desk.outbox.highest_claim_number == 51


async def test_claims_of_others_do_not_hide_that_the_database_was_restored(desk: Desk) -> None:
    await desk.outbox.note_claim_number(50)
    desk.database.answers.append(reply(claim_number=80, told=40, rows=(replace(row(1), claim_number=80),), more=True))
    await desk.turns(2)
    assert desk.ticker.went_back is not None
    assert "from claim number 40 after 50" in desk.ticker.went_back
    assert desk.database.requests[1].claim_id is None
    assert desk.outbox.went_back == 40
    assert desk.outbox.highest_claim_number == 50


async def test_each_request_tells_the_highest_claim_number_seen(desk: Desk) -> None:
    await desk.outbox.note_claim_number(50)
    desk.database.answers.extend([DatabaseAway("no answer"), reply(claim_number=51, told=51, more=True)])
    await desk.turns(3)
    assert [request.status["seen"] for request in desk.database.requests] == [50, 50, 51]


async def test_an_answer_that_was_lost_is_no_restore(desk: Desk) -> None:
    """The database remembers a number that was told and never came here."""
    await desk.outbox.note_claim_number(50)
    desk.database.answers.append(reply(claim_number=60, told=60))
    await desk.turns(1)
    assert desk.ticker.went_back is None
    assert desk.outbox.highest_claim_number == 60


async def test_a_restart_does_not_forget_that_the_database_was_restored(desk: Desk, tmp_path: Path) -> None:
    await desk.outbox.note_claim_number(50)
    desk.database.answers.append(reply(claim_number=40))
    await desk.turns(1)
    await desk.outbox.close()
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    later = Desk(outbox)
    later.database.answers.append(reply(claim_number=60, more=True))
    await later.turns(2)
    await outbox.close()
    assert later.ticker.went_back is not None
    assert "from claim number 40 after 50" in later.ticker.went_back
    assert all(request.claim_id is None for request in later.database.requests)


async def test_the_lease_counts_from_before_the_request(desk: Desk) -> None:
    def slow(_request: object) -> Any:
        desk.now += 50.0
        return reply()

    desk.database.answers.append(slow)
    await desk.turns(1)
    assert desk.ticker.lease_valid
    desk.now += LEASE_SECONDS - 50.0
    assert not desk.ticker.lease_valid


async def test_no_lease_without_the_hold(desk: Desk) -> None:
    desk.database.answers.append(reply(holder=False))
    await desk.turns(1)
    assert not desk.ticker.lease_valid


async def test_a_bell_is_followed_by_one_trailing_claim(desk: Desk) -> None:
    desk.bell.rung.set()
    await desk.turns(2)
    assert len(desk.database.requests) == 2


async def test_a_tick_for_another_reason_does_not_use_up_the_trailing_claim(desk: Desk) -> None:
    """A row committed just after the bell rang has no ring of its own; it may not wait for the next sweep."""

    def claimed_meanwhile(_request: object) -> SyncReply:
        desk.ticker.want()  # A record waits: the next tick comes at once, too early for such a row.
        return reply(now=1000.0)

    late = reply(now=1000.1, rows=(row(1, bell_at=1000.0),))
    desk.database.answers.extend([claimed_meanwhile, reply(now=1000.02), late, reply(now=1010.0)])
    desk.bell.rung.set()
    await desk.turns(3)
    assert [r.row_id for r in desk.dialed] == [1]
    await desk.turns(4)
    assert desk.bell.missed_rows == 0


@pytest.mark.parametrize("busy", ["more rows", "no room"])
async def test_a_ring_in_a_busy_time_is_trailed_too(desk: Desk, busy: str) -> None:
    if busy == "more rows":
        desk.database.answers.extend([reply(rows=(row(1),), more=True), reply(rows=(row(2),))])
        turns = 3
    else:
        desk.room = 0
        turns = 2
    desk.bell.rung.set()
    await desk.turns(turns)
    assert len(desk.database.requests) >= turns


@pytest.mark.parametrize("found_by", [2, 3])
async def test_a_row_in_the_shadow_of_a_ring_is_not_missed(desk: Desk, found_by: int) -> None:
    def claimed_meanwhile(_request: object) -> SyncReply:
        desk.ticker.want()
        return reply(now=1000.0)

    found = reply(now=1000.1, rows=(row(1, bell_at=1000.05),))
    desk.database.answers.extend([claimed_meanwhile, *[reply(now=1000.02)] * (found_by - 2), found])
    desk.bell.rung.set()
    await desk.turns(found_by)
    desk.database.answers.append(reply(now=1010.0))
    await desk.turns(found_by + 1)
    assert desk.dialed
    assert desk.bell.missed_rows == 0


async def _swept(desk: Desk, bell_at: float | None, *, holder: bool = True) -> int:
    """An empty claim, then a sweep that finds one row inserted at `bell_at`; how many rows count as missed?"""
    desk.database.answers.extend([reply(holder=holder), reply(rows=(row(1, bell_at=bell_at),))])
    await desk.turns(1)
    await desk.turns(2)
    return desk.bell.missed_rows


@pytest.mark.parametrize(
    ("bell_at", "missed"),
    [(990.0, 1), (999.5, 0), (None, 0), (900.0, 0)],
    ids=["the bell was silent", "still on its way", "no bell to ring", "long ago"],
)
async def test_rows_that_the_bell_never_rang_for_are_counted(desk: Desk, bell_at: float | None, missed: int) -> None:
    assert await _swept(desk, bell_at) == missed


@pytest.mark.parametrize(("rang", "missed"), [(False, 1), (True, 0)])
async def test_a_sweep_faster_than_the_bell_waits_for_its_ring(desk: Desk, rang: bool, missed: int) -> None:
    """With a short `SWEEP_SECONDS` every row is found young; a deaf bell must be found out all the same."""
    young = reply(now=1000.0, rows=(row(1, bell_at=999.8),))
    desk.database.answers.extend([reply(), young, reply(now=1000.5), reply(now=1003.0), reply(now=1004.0)])
    await desk.turns(1)
    await desk.turns(2)
    if rang:
        desk.bell.rung.set()
    for turn in (3, 4, 5):
        await desk.turns(turn)
    assert desk.bell.missed_rows == missed


async def test_rows_that_rang_while_there_was_no_room_are_not_missed(desk: Desk) -> None:
    desk.database.answers.extend([reply(), reply(), reply(rows=(row(1, bell_at=990.0),))])
    await desk.turns(1)
    desk.room = 0
    desk.bell.rung.set()
    await desk.turns(2)
    desk.room = 5
    await desk.turns(3)
    assert desk.dialed
    assert desk.bell.missed_rows == 0


async def test_an_empty_claim_of_one_that_may_not_claim_tells_nothing(desk: Desk) -> None:
    assert await _swept(desk, 990.0, holder=False) == 0


async def test_rows_of_a_known_backlog_are_not_missed(desk: Desk) -> None:
    old: Callable[[int], ClaimedRow] = lambda serial: row(serial, bell_at=10.0)  # noqa: E731
    desk.database.answers.extend([reply(rows=(old(1),), more=True), reply(rows=(old(2),))])
    await desk.turns(2)
    assert desk.bell.missed_rows == 0


async def test_commands_reach_the_calls(desk: Desk) -> None:
    desk.database.answers.append(reply(hangups=("a", "b")))
    await desk.turns(1)
    assert desk.hung_up == ["a", "b"]


async def test_stop_ends_the_run_and_flush_empties_the_outbox(desk: Desk) -> None:
    await desk.outbox.put(_release(1))
    desk.ticker.stop()
    await asyncio.wait_for(desk.ticker.run(), 5)
    await asyncio.wait_for(desk.ticker.flush(), 5)
    assert desk.outbox.count == 0
    assert all(request.claim_id is None for request in desk.database.requests)


async def test_room_that_appears_asks_only_when_rows_wait(desk: Desk) -> None:
    desk.database.answers.append(reply(more=True))
    desk.room = 0
    await desk.turns(1)
    before = len(desk.database.requests)
    desk.ticker.room_appeared()
    task = asyncio.create_task(desk.ticker.run())
    await asyncio.sleep(0.1)
    task.cancel()
    assert len(desk.database.requests) == before + 1


async def test_trunks_are_asked_for_until_they_are_told_and_then_only_when_they_change(desk: Desk) -> None:
    way, other = Way(id="SIP-TRUNK-A"), Way(id="SIP-TRUNK-B")
    desk.database.answers.extend(
        [
            reply(),  # An older database.
            reply(ways=(way,), bad_ways={"x": "why"}, trunks_version=7),
            reply(trunks_version=7),
            reply(ways=(way, other), trunks_version=8),
        ]
    )
    for turn in range(5):
        await desk.turns(turn + 1)
    assert [request.status["trunks_version"] for request in desk.database.requests] == [None, None, 7, 7, 8]
    assert desk.known == [((way,), {"x": "why"}), ((way, other), {})]
