"""Records: what each kind does, twice, out of order, after `unknown`, beside poison, and beside the AI handler."""

import uuid
from typing import Any

import asyncpg
import pytest

from tests.supabase.helpers import (
    ANSWERED_AT,
    RINGING_AT,
    USER,
    Desk,
    answered,
    connected,
    number,
    outcome,
    release,
)


async def dialing(desk: Desk, **columns: Any) -> dict[str, Any]:
    """A row that was inserted and claimed."""
    await desk.insert(**columns)
    return await desk.claim_one()


async def handler_writes(desk: Desk, call_id: str, **columns: Any) -> None:
    """The AI handler updates its call_logs row, without looking at what stands there."""
    names = ", ".join(f"{name} = ${i}" for i, name in enumerate(columns, start=2))
    await desk.connection.execute(
        f"update call_logs set {names} where call_id = $1",  # noqa: S608 - names of ours
        call_id,
        *columns.values(),
    )


async def test_answered_mark_moves_the_row_and_the_log(desk: Desk) -> None:
    call = await dialing(desk)
    reply = await desk.sync([answered(call["call_id"])])
    assert (reply["recorded"], reply["refused"], reply["notes"]) == ([1], [], [])
    row = await desk.row(call["row_id"])
    assert (row["status"], row["outcome"]) == ("talking", None)
    assert row["answered_at"].isoformat() == ANSWERED_AT
    log = await desk.the_log(call["call_id"])
    assert (log["status"], log["duration"]) == ("answered", None)
    assert log["metadata"]["answered_at"].startswith(ANSWERED_AT[:10])
    await desk.sync([answered(call["call_id"])])
    assert (await desk.row(call["row_id"]))["status"] == "talking"


@pytest.mark.parametrize("word", ["voicemail", "no-answer", "completed", "failed", "answered"])
async def test_answered_mark_never_moves_the_handlers_word_back(desk: Desk, word: str) -> None:
    call = await dialing(desk)
    await handler_writes(desk, call["call_id"], status=word)
    await desk.sync([answered(call["call_id"])])
    assert (await desk.the_log(call["call_id"]))["status"] == word


@pytest.mark.parametrize(
    ("word", "status", "spent"),
    [
        ("no_answer", "no_answered", 1),
        ("busy", "no_answered", 1),
        ("declined", "no_answered", 1),
        ("no_reply", "no_answered", 1),
        ("invalid_number", "failed", 1),
        ("unknown", "failed", 1),
        ("blocked", "failed", 0),
        ("canceled", "failed", 0),
    ],
)
async def test_unanswered_call_is_final_at_once(desk: Desk, word: str, status: str, spent: int) -> None:
    call = await dialing(desk)
    reply = await desk.sync([outcome(call["call_id"], word, sip_code=486)])
    assert reply["recorded"] == [1]
    row = await desk.row(call["row_id"])
    assert (row["status"], row["outcome"], row["attempts"]) == ("done", word, spent)
    assert row["ended_reason"] == f"it ended: {word}"
    log = await desk.the_log(call["call_id"])
    assert (log["status"], log["duration"]) == (status, 0)
    expected = {
        "outcome": word,
        "ended_reason": f"it ended: {word}",
        "hangup_cause": "17",
        "sip_code": "486",
        "trunk": "SIP-TRUNK-1",
        "attempt": "1",
        "talk_seconds": "0",
    }
    assert expected.items() <= log["metadata"].items()
    assert all(isinstance(value, str) for value in log["metadata"].values())


async def test_canceled_call_that_rang_spends_an_attempt(desk: Desk) -> None:
    call = await dialing(desk)
    await desk.sync([outcome(call["call_id"], "canceled", ringing_at=RINGING_AT)])
    assert (await desk.row(call["row_id"]))["attempts"] == 1


async def test_answered_call_is_logged_at_once_and_held_for_the_handlers_word(desk: Desk) -> None:
    call = await dialing(desk)
    await desk.sync([answered(call["call_id"]), outcome(call["call_id"], "answered")])
    log = await desk.the_log(call["call_id"])
    assert (log["status"], log["duration"]) == ("answered", 35)
    row = await desk.row(call["row_id"])
    assert (row["status"], row["outcome"], row["attempts"]) == ("talking", "answered", 0)
    assert 9 < (row["settle_at"] - row["updated_at"]).total_seconds() < 11
    # Its person's number is held, and the sweep leaves it alone until the time has come.
    await desk.insert()
    assert await desk.claim() == []
    await desk.settle()
    row = await desk.row(call["row_id"])
    assert (row["status"], row["outcome"], row["attempts"]) == ("done", "answered", 1)
    await desk.due()
    assert len(await desk.claim()) == 1


@pytest.mark.parametrize(
    ("word", "final", "status"),
    [
        ("voicemail", "voicemail", "voicemail"),
        ("no-answer", "voicemail", "voicemail"),
        ("completed", "answered", "answered"),
        ("ended", "answered", "answered"),
        ("in review", "answered", "in review"),
        (None, "answered", "answered"),
    ],
)
@pytest.mark.parametrize("moment", ["before the mark", "before the outcome", "after the outcome"])
async def test_the_handlers_word_decides_in_any_order(
    desk: Desk, word: str | None, final: str, status: str, moment: str
) -> None:
    call = await dialing(desk)
    call_id = call["call_id"]

    async def word_at(now: str) -> None:
        if word and moment == now:
            await handler_writes(desk, call_id, status=word)

    await word_at("before the mark")
    await desk.sync([answered(call_id)])
    await word_at("before the outcome")
    await desk.sync([outcome(call_id, "answered")])
    await word_at("after the outcome")
    await desk.settle()
    row = await desk.row(call["row_id"])
    log = await desk.the_log(call_id)
    assert (row["status"], row["outcome"], log["status"]) == ("done", final, status)
    assert log["metadata"]["outcome"] == final
    if word in ("voicemail", "no-answer", "completed", "ended"):
        assert log["metadata"]["handler_status"] == word


@pytest.mark.parametrize("word", ["voicemail", "failed", "something of its own"])
async def test_what_the_handler_wrote_on_a_call_that_nobody_answered_is_kept(desk: Desk, word: str) -> None:
    """Its status is ours to say, but the handler's word is not lost (design section 5)."""
    call = await dialing(desk)
    await handler_writes(desk, call["call_id"], status=word)
    await desk.sync([outcome(call["call_id"], "no_answer")])
    log = await desk.the_log(call["call_id"])
    assert log["metadata"]["handler_status"] == word
    assert log["metadata"]["outcome"] == "no_answer"
    assert log["status"] != word


async def test_that_a_machine_answered_stays_true_whatever_the_handler_writes_later(desk: Desk) -> None:
    call = await dialing(desk)
    await handler_writes(desk, call["call_id"], status="no-answer")
    await desk.sync([outcome(call["call_id"], "answered")])
    await handler_writes(desk, call["call_id"], status="completed")
    await desk.settle()
    assert (await desk.row(call["row_id"]))["outcome"] == "voicemail"
    assert (await desk.the_log(call["call_id"]))["status"] == "voicemail"


async def test_what_the_handler_wrote_is_kept(desk: Desk) -> None:
    call = await dialing(desk)
    await handler_writes(
        desk, call["call_id"], duration=33, transcript="hello", recording_url="https://example.com/r.wav",
        metadata={"summary": "good", "talk_seconds": "1"},
    )  # fmt: skip
    await desk.sync([outcome(call["call_id"], "answered")])
    log = await desk.the_log(call["call_id"])
    assert (log["duration"], log["transcript"], log["recording_url"]) == (33, "hello", "https://example.com/r.wav")
    assert log["metadata"]["summary"] == "good"
    assert log["metadata"]["talk_seconds"] == "35"
    # A handler that replaces the whole of metadata at the end of a call loses nothing of ours.
    await handler_writes(desk, call["call_id"], metadata={"costs": "1"})
    await desk.settle()
    metadata = (await desk.the_log(call["call_id"]))["metadata"]
    assert metadata["costs"] == "1"
    assert metadata["ended_reason"] == "it ended: answered"


async def test_metadata_that_is_no_object_is_kept_beside_ours(desk: Desk) -> None:
    call = await dialing(desk)
    await handler_writes(desk, call["call_id"], metadata=[1, 2])
    await desk.sync([outcome(call["call_id"], "busy")])
    metadata = (await desk.the_log(call["call_id"]))["metadata"]
    assert metadata["before"] == "[1, 2]"
    assert metadata["outcome"] == "busy"


async def test_every_record_may_come_twice_and_out_of_order(desk: Desk) -> None:
    call = await dialing(desk, max_attempts=3)
    records = [outcome(call["call_id"], "busy"), answered(call["call_id"]), outcome(call["call_id"], "busy")]
    reply = await desk.sync([*records, *records, outcome(call["call_id"], "no_answer"), release(call["call_id"])])
    assert reply["refused"] == []
    assert reply["recorded"] == list(range(1, 9))
    row = await desk.row(call["row_id"])
    assert (row["status"], row["attempts"], row["last_outcome"]) == ("queued", 1, "busy")
    assert (await desk.the_log(call["call_id"]))["status"] == "no_answered"


async def test_one_poison_record_harms_no_other(desk: Desk) -> None:
    first = await dialing(desk)
    second = await dialing(desk, phone_number=number(2))
    poison: list[dict[str, Any]] = [
        {"kind": "outcome", "call_id": "no uuid", "outcome": "busy", "log_status": "failed"},
        {"kind": "outcome", "outcome": "busy"},
        {"kind": "dance", "call_id": first["call_id"]},
        outcome(first["call_id"], "exploded"),
        outcome(first["call_id"], "busy", log_status="great"),
        outcome(first["call_id"], "busy", ended_at="yesterday-ish"),
        outcome(first["call_id"], "busy", talk_seconds="many"),
        release(first["call_id"], "a whim"),
    ]
    reply = await desk.sync([outcome(first["call_id"], "busy"), *poison[:2], outcome(second["call_id"], "busy")])
    assert reply["recorded"] == [1, 4]
    assert [item["seq"] for item in reply["refused"]] == [2, 3]
    assert "no uuid" in reply["refused"][0]["error"]
    third = await dialing(desk, phone_number=number(3))
    reply = await desk.sync([{**record, "call_id": third["call_id"]} for record in poison[2:]])
    assert reply["recorded"] == []
    assert len(reply["refused"]) == 6
    assert all(item["error"] for item in reply["refused"])
    assert (await desk.row(third["row_id"]))["status"] == "dialing"


async def test_release_returns_the_row_and_removes_its_log_row(desk: Desk) -> None:
    for cause in ("not_sent", "never_executed"):
        call = await dialing(desk) if cause == "not_sent" else await desk.claim_one()
        reply = await desk.sync([release(call["call_id"], cause), release(call["call_id"], cause)])
        assert reply["recorded"] == [1, 2]
        assert "not known" in reply["notes"][0]
        row = await desk.row(call["row_id"])
        assert (row["status"], row["attempts"], row["call_id"]) == ("queued", 0, None)
        assert row["faults"] == {"released": 1 if cause == "not_sent" else 2}
        assert await desk.log(call["call_id"]) is None
    again = await desk.claim_one()
    assert again["row_id"] == call["row_id"]
    assert again["call_id"] != call["call_id"]
    assert again["attempt"] == 1


async def test_release_is_refused_to_others_and_after_the_answer(desk: Desk) -> None:
    call = await dialing(desk)
    other = Desk(desk.connection)
    await other.register()
    reply = await other.sync([release(call["call_id"], "never_executed")])
    assert "another adapter" in reply["refused"][0]["error"]
    reply = await desk.sync([answered(call["call_id"]), release(call["call_id"])])
    assert "answered" in reply["refused"][0]["error"]
    assert (await desk.row(call["row_id"]))["status"] == "talking"


async def test_release_of_an_app_row_that_others_refer_to_keeps_the_log_row(app_desk: Desk) -> None:
    call = await dialing(app_desk)
    await app_desk.connection.execute(
        "create table notes (log_id uuid references call_logs (id)); insert into notes select id from call_logs"
    )
    reply = await app_desk.sync([release(call["call_id"])])
    assert reply["refused"] == []
    assert (await app_desk.row(call["row_id"]))["status"] == "queued"
    assert (await app_desk.the_log(call["call_id"]))["status"] == "failed"


async def test_faults_are_tried_again_soon_and_named_at_their_bound(desk: Desk) -> None:
    row_id = await desk.insert(max_attempts=1)
    calls = []
    for count in (1, 2):
        call = await desk.claim_one()
        calls.append(call["call_id"])
        await desk.sync([outcome(call["call_id"], "congestion")])
        row = await desk.row(row_id)
        assert (row["status"], row["attempts"], row["faults"]) == ("queued", 0, {"congestion": count})
        assert 25 < (row["not_before"] - row["updated_at"]).total_seconds() < 35
        assert await desk.log(call["call_id"]) is None
        await desk.due()
    call = await desk.claim_one()
    await desk.sync([outcome(call["call_id"], "congestion")])
    row = await desk.row(row_id)
    assert (row["status"], row["outcome"], row["faults"]) == ("done", "congestion", {"congestion": 3})
    log = await desk.the_log(call["call_id"])
    assert (log["status"], log["metadata"]["outcome"]) == ("failed", "congestion")
    assert await desk.connection.fetchval("select count(*) from call_logs") == 1


@pytest.mark.parametrize("word", ["rejected", "trunk_unavailable", "pbx_error"])
async def test_each_fault_has_its_own_bound(desk: Desk, word: str) -> None:
    row_id = await desk.insert()
    for other in ("congestion", "congestion", word, word):
        call = await desk.claim_one()
        await desk.sync([outcome(call["call_id"], other)])
        await desk.due()
    assert (await desk.row(row_id))["status"] == "queued"
    call = await desk.claim_one()
    record = release(call["call_id"], "pbx_error") if word == "pbx_error" else outcome(call["call_id"], word)
    await desk.sync([record])
    row = await desk.row(row_id)
    assert (row["status"], row["outcome"]) == ("done", word)


async def test_released_by_refusal_counts_and_waits(desk: Desk) -> None:
    call = await dialing(desk)
    await desk.sync([release(call["call_id"], "pbx_error")])
    row = await desk.row(call["row_id"])
    assert (row["status"], row["faults"]) == ("queued", {"pbx_error": 1})
    assert await desk.log(call["call_id"]) is None
    assert await desk.claim() == []


@pytest.mark.parametrize("word", ["no_answer", "busy", "no_reply"])
async def test_retry_by_policy_until_the_attempts_are_spent(desk: Desk, word: str) -> None:
    row_id = await desk.insert(max_attempts=2, retry_seconds=600)
    call = await desk.claim_one()
    await desk.sync([outcome(call["call_id"], word)])
    row = await desk.row(row_id)
    assert (row["status"], row["attempts"], row["outcome"]) == ("queued", 1, None)
    assert 595 < (row["not_before"] - row["updated_at"]).total_seconds() < 605
    assert (row["expires_at"] - row["not_before"]).total_seconds() == 24 * 3600
    assert (await desk.the_log(call["call_id"]))["status"] == "no_answered"
    assert await desk.claim() == []
    await desk.due()
    second = await desk.claim_one()
    assert second["attempt"] == 2
    await desk.sync([outcome(second["call_id"], word)])
    row = await desk.row(row_id)
    assert (row["status"], row["outcome"], row["attempts"]) == ("done", word, 2)
    assert await desk.connection.fetchval("select count(*) from call_logs") == 2


@pytest.mark.parametrize("word", ["declined", "invalid_number", "unknown", "ai_failed", "answered", "blocked"])
async def test_no_retry_unless_the_owner_changed_the_table(desk: Desk, word: str) -> None:
    call = await dialing(desk, max_attempts=3)
    await desk.sync([outcome(call["call_id"], word)])
    await desk.settle()
    assert (await desk.row(call["row_id"]))["status"] == "done"
    if word == "declined":
        await desk.connection.execute("update call_outcomes set retried = 'policy' where outcome = $1", word)
        call = await dialing(desk, max_attempts=3)
        await desk.sync([outcome(call["call_id"], word)])
        assert (await desk.row(call["row_id"]))["status"] == "queued"


async def test_voicemail_is_retried_by_policy_after_the_hold(desk: Desk) -> None:
    call = await dialing(desk, max_attempts=2)
    await handler_writes(desk, call["call_id"], status="voicemail")
    await desk.sync([outcome(call["call_id"], "answered")])
    assert (await desk.row(call["row_id"]))["status"] == "talking"
    await desk.settle()
    row = await desk.row(call["row_id"])
    assert (row["status"], row["last_outcome"], row["attempts"]) == ("queued", "voicemail", 1)


async def test_a_given_expiry_is_not_moved_by_a_retry(desk: Desk) -> None:
    row_id = await desk.connection.fetchval(
        "insert into call_queue (user_id, phone_number, max_attempts, expires_at) "
        "values ($1, '0123456700', 3, now() + interval '20 minutes') returning id",
        USER,
    )
    call = await desk.claim_one()
    await desk.sync([outcome(call["call_id"], "busy")])
    row = await desk.row(row_id)
    assert (row["status"], row["outcome"], row["attempts"]) == ("done", "busy", 1)


async def test_evidence_replaces_unknown(desk: Desk) -> None:
    call = await dialing(desk)
    await desk.sync([outcome(call["call_id"], "unknown")])
    assert (await desk.the_log(call["call_id"]))["status"] == "failed"
    await desk.sync([outcome(call["call_id"], "answered")])
    row = await desk.row(call["row_id"])
    assert (row["status"], row["outcome"], row["attempts"]) == ("done", "answered", 1)
    log = await desk.the_log(call["call_id"])
    assert (log["status"], log["duration"], log["metadata"]["outcome"]) == ("answered", 35, "answered")
    # And nothing else is ever replaced.
    await desk.sync([outcome(call["call_id"], "unknown"), outcome(call["call_id"], "busy")])
    assert (await desk.row(call["row_id"]))["outcome"] == "answered"
    assert (await desk.the_log(call["call_id"]))["metadata"]["outcome"] == "answered"


async def test_evidence_withdraws_a_retry_queued_because_of_unknown(desk: Desk) -> None:
    await desk.connection.execute("update call_outcomes set retried = 'policy' where outcome = 'unknown'")
    call = await dialing(desk, max_attempts=3)
    await desk.sync([outcome(call["call_id"], "unknown")])
    assert (await desk.row(call["row_id"]))["status"] == "queued"
    await desk.sync([outcome(call["call_id"], "answered")])
    row = await desk.row(call["row_id"])
    assert (row["status"], row["outcome"], row["attempts"]) == ("done", "answered", 1)
    await desk.due()
    assert await desk.claim() == []


async def test_evidence_about_an_earlier_call_is_told_to_its_log_row_only(desk: Desk) -> None:
    await desk.connection.execute("update call_outcomes set retried = 'policy' where outcome = 'unknown'")
    first = await dialing(desk, max_attempts=3)
    await desk.sync([outcome(first["call_id"], "unknown")])
    await desk.due()
    second = await desk.claim_one()
    reply = await desk.sync([outcome(first["call_id"], "busy"), outcome(first["call_id"], "answered")])
    assert reply["recorded"] == [1, 2]
    assert (await desk.the_log(first["call_id"]))["metadata"]["outcome"] == "busy"
    row = await desk.row(first["row_id"])
    assert (row["status"], str(row["call_id"])) == ("dialing", second["call_id"])


async def test_evidence_after_a_canceled_retry_keeps_it_canceled(desk: Desk) -> None:
    await desk.connection.execute("update call_outcomes set retried = 'policy' where outcome = 'unknown'")
    call = await dialing(desk, max_attempts=3)
    await desk.sync([outcome(call["call_id"], "unknown")])
    await desk.connection.fetchval("select call_cancel_v1($1)", call["row_id"])
    await desk.sync([outcome(call["call_id"], "busy")])
    row = await desk.row(call["row_id"])
    assert (row["status"], row["last_outcome"]) == ("canceled", "busy")
    assert (await desk.the_log(call["call_id"]))["metadata"]["outcome"] == "busy"


async def test_records_of_deleted_rows_are_taken_and_named(desk: Desk) -> None:
    call = await dialing(desk)
    await desk.connection.execute("delete from call_queue")
    reply = await desk.sync([answered(call["call_id"]), outcome(call["call_id"], "answered")])
    assert reply["recorded"] == [1, 2]
    assert (await desk.the_log(call["call_id"]))["duration"] == 35
    other = await dialing(desk, phone_number=number(2))
    await desk.connection.execute("delete from call_logs")
    reply = await desk.sync([outcome(other["call_id"], "busy"), outcome(str(uuid.uuid4()), "busy")])
    assert reply["recorded"] == [1, 2]
    assert "not known" in reply["notes"][0]
    assert (await desk.row(other["row_id"]))["outcome"] == "busy"


async def test_a_row_held_by_someone_is_not_waited_for(lasting_desk: Desk, db: str) -> None:
    call = await dialing(lasting_desk)
    other = await dialing(lasting_desk, phone_number=number(2))
    holder = await asyncpg.connect(db)
    try:
        for table in ("call_queue", "call_logs"):
            transaction = holder.transaction()
            await transaction.start()
            await holder.execute(f"select from {table} where call_id::text = $1 for update", call["call_id"])
            records = [outcome(call["call_id"], "busy"), outcome(other["call_id"], "busy")]
            reply = await lasting_desk.sync(records)
            assert reply["recorded"] == [2]
            assert reply["refused"] == []
            assert "held by another session" in reply["notes"][0]
            await transaction.rollback()
    finally:
        await holder.close()
    assert (await lasting_desk.row(call["row_id"]))["status"] == "dialing"
    assert (await lasting_desk.sync([outcome(call["call_id"], "busy")]))["recorded"] == [1]


async def test_records_are_taken_from_any_adapter_and_any_run(lasting_desk: Desk, db: str) -> None:
    call = await dialing(lasting_desk)
    async with connected(db) as connection:
        witness = Desk(connection)
        await witness.register()
        await witness.sync([outcome(call["call_id"], "answered")])
    await lasting_desk.register()
    old = Desk(lasting_desk.connection, lasting_desk.adapter, 1)
    reply = await old.sync([outcome(call["call_id"], "answered")], room=5)
    assert reply["fenced"] is True
    assert reply["recorded"] == [1]
    assert reply["rows"] == []


async def test_unknown_of_an_answered_call_keeps_the_word_answered(desk: Desk) -> None:
    call = await dialing(desk)
    await desk.sync([answered(call["call_id"]), outcome(call["call_id"], "unknown")])
    row = await desk.row(call["row_id"])
    assert (row["status"], row["outcome"]) == ("done", "unknown")
    assert (await desk.the_log(call["call_id"]))["status"] == "answered"


async def test_a_canceled_answered_call_stays_canceled_whatever_the_handler_says(desk: Desk) -> None:
    call = await dialing(desk, max_attempts=3)
    await desk.connection.fetchval("select call_cancel_v1($1)", call["row_id"])
    record = outcome(call["call_id"], "canceled", log_status="answered", answered_at=ANSWERED_AT)
    await desk.sync([answered(call["call_id"]), record])
    await handler_writes(desk, call["call_id"], status="ended")
    await desk.settle()
    row = await desk.row(call["row_id"])
    assert (row["status"], row["outcome"], row["attempts"]) == ("done", "canceled", 1)
    assert (await desk.the_log(call["call_id"]))["status"] == "answered"
