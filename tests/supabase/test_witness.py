"""What a witness is told: which of the calls it saw end are not known to have ended."""

import uuid
from typing import Any

import asyncpg
import pytest

from adapter.supabase_io import replies
from tests.supabase.helpers import Desk, answered, number, outcome


async def ask(witness: Desk, *calls: object) -> list[str]:
    """Of these calls those that are wanted."""
    reply = replies.wanted(
        await witness.connection.fetchval(
            "select public.call_witness_v1($1, $2)", witness.adapter, [str(call) for call in calls]
        )
    )
    assert reply.unreadable == ()
    return [opened.row.call_id for opened in reply.open]


async def beside(desk: Desk) -> Desk:
    """Another adapter on the same PBX."""
    witness = Desk(desk.connection)
    await witness.register()
    assert not (await witness.sync())["holder"]
    return witness


async def claimed(desk: Desk, count: int = 1) -> list[dict[str, Any]]:
    """Rows that `desk` dials."""
    for serial in range(count):
        await desk.insert(number(serial))
    return await desk.claim(count)


async def test_calls_without_an_end_are_wanted_and_all_others_are_not(desk: Desk) -> None:
    ringing, talking, held, busy, free = [row["call_id"] for row in await claimed(desk, 5)]
    await desk.sync([answered(talking), outcome(held, "answered"), outcome(busy, "busy"), outcome(free, "congestion")])
    witness = await beside(desk)
    assert await ask(witness, ringing, talking, held, busy, free, uuid.uuid4()) == [ringing, talking]
    assert await ask(witness, talking) == [talking]
    assert await ask(witness) == []


async def test_a_call_that_ended_as_unknown_is_wanted_and_evidence_replaces_it(desk: Desk) -> None:
    (row,) = await claimed(desk)
    await desk.sync([outcome(row["call_id"], "unknown")])
    witness = await beside(desk)
    assert await ask(witness, row["call_id"]) == [row["call_id"]]
    await witness.sync([outcome(row["call_id"], "busy")])
    assert (await desk.row(row["row_id"]))["outcome"] == "busy"
    assert await ask(witness, row["call_id"]) == []
    await desk.sync([outcome(row["call_id"], "unknown")])
    assert (await desk.row(row["row_id"]))["outcome"] == "busy"


async def test_a_call_that_both_report_counts_once(desk: Desk) -> None:
    (row,) = await claimed(desk)
    witness = await beside(desk)
    await witness.sync([answered(row["call_id"]), outcome(row["call_id"], "answered")])
    await desk.sync([answered(row["call_id"]), outcome(row["call_id"], "answered")])
    await desk.settle()
    ended = await desk.row(row["row_id"])
    assert (ended["status"], ended["outcome"], ended["attempts"]) == ("done", "answered", 1)
    assert await desk.connection.fetchval("select count(*) from call_logs") == 1


async def test_only_calls_of_its_own_pbx(desk: Desk) -> None:
    (row,) = await claimed(desk)
    elsewhere = Desk(desk.connection, pbx="pbx-2")
    await elsewhere.register()
    await elsewhere.sync()
    assert await ask(elsewhere, row["call_id"]) == []
    assert await ask(Desk(desk.connection), row["call_id"]) == [], "nobody knows of which PBX this one is"


async def test_a_witness_never_releases(desk: Desk) -> None:
    (row,) = await claimed(desk)
    witness = await beside(desk)
    record = {"kind": "release", "call_id": row["call_id"], "cause": "never_executed", "reason": "not seen"}
    reply = await witness.sync([record])
    assert "another adapter" in reply["refused"][0]["error"]
    assert (await desk.row(row["row_id"]))["status"] == "dialing"


async def test_one_question_is_bounded_and_changes_nothing(desk: Desk) -> None:
    (row,) = await claimed(desk)
    before = await desk.row(row["row_id"])
    witness = await beside(desk)
    assert await ask(witness, *(uuid.uuid4() for _ in range(200)), row["call_id"]) == []
    assert await ask(witness, *(uuid.uuid4() for _ in range(199)), row["call_id"]) == [row["call_id"]]
    assert await desk.row(row["row_id"]) == before


@pytest.mark.parametrize("calls", [None, {}, "x", ["no uuid"]])
async def test_a_question_that_is_none_is_refused(desk: Desk, calls: object) -> None:
    with pytest.raises(asyncpg.PostgresError):
        await desk.connection.fetchval("select public.call_witness_v1($1, $2)", desk.adapter, calls)


async def test_the_question_is_answered_by_an_index(desk: Desk) -> None:
    await desk.fill(2000)
    (row,) = await desk.claim(1)
    witness = await beside(desk)
    counted = "select coalesce(sum(seq_scan), 0) from pg_stat_xact_user_tables where relname = 'call_queue'"
    async with desk.connection.transaction():
        before = await desk.connection.fetchval(counted)
        assert await ask(witness, row["call_id"]) == [row["call_id"]]
        assert await desk.connection.fetchval(counted) == before
