"""Both sides of the seam: what Python sends and reads is what the SQL functions take and give."""

import dataclasses

from adapter.core import numbers, outcomes
from adapter.core.model import (
    AnsweredMark,
    CallTimes,
    ClaimedRow,
    Ending,
    Outcome,
    OutcomeRecord,
    Record,
    ReleaseCause,
    ReleaseRecord,
)
from adapter.supabase_io import records, replies
from tests.supabase.helpers import Desk, number

RETRIED = {
    outcomes.Retry.NEVER: "never",
    outcomes.Retry.ON_REQUEST: "never",  # Until the owner sets it to policy.
    outcomes.Retry.POLICY: "policy",
    outcomes.Retry.OWN_BOUND: "own_bound",
}


async def test_the_tables_of_outcomes_say_the_same(desk: Desk) -> None:
    found = {row["outcome"]: row for row in await desk.connection.fetch("select * from call_outcomes")}
    assert set(found) == {outcome.value for outcome in Outcome}
    for outcome, rule in outcomes.RULES.items():
        row = found[outcome.value]
        assert row["verdict"] == rule.verdict.value, outcome
        assert row["log_status"] == rule.status, outcome
        assert row["spends_attempt"] is rule.spends_attempt, outcome
        assert row["retried"] == RETRIED[rule.retry], outcome
        assert row["words"] == rule.words, outcome


async def test_a_claimed_row_is_read_as_it_was_given(desk: Desk) -> None:
    await desk.insert("012-345 6700", customer_name="Aminah", variables={"lang": "ms"}, ring_seconds=20)
    reply = replies.synced(await desk.sync(room=1, pbx_boot="boot-1"))
    assert (reply.unreadable, reply.holder, reply.fenced) == ((), True, False)
    (row,) = reply.rows
    assert (row.e164, row.attempt, row.variables, row.ring_seconds) == ("+60123456700", 1, {"lang": "ms"}, 20)
    assert row.pbx_boot == "boot-1"
    assert abs(row.claimed_at - reply.now) < 1
    raw = (await desk.sync(room=1, claim_id=(await desk.row(row.row_id))["claim_id"]))["rows"][0]
    fields = {field.name for field in dataclasses.fields(ClaimedRow)}
    assert set(raw) == fields - {"way"} | {"trunk"}


async def test_open_calls_are_read_as_they_are_given(desk: Desk) -> None:
    await desk.insert()
    row = await desk.claim_one()
    reply = replies.registered(await desk.register())
    (found,) = reply.open
    assert (found.row.call_id, found.incarnation, found.answered_at) == (row["call_id"], 1, None)


async def test_every_record_that_python_makes_is_taken(desk: Desk) -> None:
    for serial in range(len(Outcome) + 1):
        await desk.insert(number(serial))
    rows = await desk.claim(50)
    times = CallTimes(originated_at=1.7e9, ringing_at=1.7e9 + 1, answered_at=None, ended_at=1.7e9 + 9.25)
    sent: list[Record] = [AnsweredMark(call_id=rows[0]["call_id"], times=times)]
    for outcome, row in zip(Outcome, rows, strict=False):
        answered = dataclasses.replace(times, answered_at=1.7e9 + 5) if outcome is Outcome.ANSWERED else times
        ending = Ending(outcome=outcome, reason="words", times=answered, hangup_cause=16, talk_seconds=4)
        sent.append(outcomes.outcome_record(row["call_id"], ending, trunk="SIP-TRUNK-1"))
    assert isinstance(sent[-1], OutcomeRecord)
    sent.append(ReleaseRecord(call_id=rows[-1]["call_id"], cause=ReleaseCause.NOT_SENT, reason="words"))
    reply = replies.synced(await desk.sync([records.encode(record) for record in sent]))
    assert reply.recorded == tuple(range(1, len(sent) + 1))
    assert reply.refused == ()


async def test_the_app_form_of_a_number_is_the_same_on_both_sides(desk: Desk) -> None:
    for raw in ("012-345 6700", "+65 9123 4567", "+1 201 555 0123", "+39 06 1234 5678", "1300 123 456"):
        read = numbers.parse(raw, "MY")
        row = await desk.connection.fetchrow(
            "select n.e164, n.country, call_local_form(n.e164) as shown from call_number_v1($1) n", raw
        )
        assert row is not None
        assert (row["e164"], row["country"], row["shown"]) == (read.e164, read.country, read.national)
