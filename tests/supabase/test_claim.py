"""The claim: what it gives, in which order, within which limits, and that one bad row harms no other."""

import uuid
from collections import Counter
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from tests.supabase.helpers import OTHER, USER, Desk, number, outcome, release

CAMPAIGN = "00000000-0000-4000-8000-0000000000c1"
SECOND = "00000000-0000-4000-8000-0000000000c2"


async def test_row_becomes_dialing_and_gets_its_log_row(desk: Desk) -> None:
    row_id = await desk.insert("012-345 6700", customer_name="Aminah", idsale="S1", metadata={"source": "crm"})
    row = await desk.claim_one(pbx_boot="2026-11-25 08:00:00", ring_seconds=25)
    assert set(row) == {
        *("row_id", "call_id", "claim_number", "attempt", "user_id", "phone_number", "e164", "campaign_id"),
        *("contact_id", "prompt_id", "customer_name", "caller_id", "ring_seconds", "variables", "claimed_at"),
        *("bell_at", "pbx_boot", "trunk"),
    }
    assert (row["row_id"], row["attempt"], row["e164"]) == (row_id, 1, "+60123456700")
    assert row["pbx_boot"] == "2026-11-25 08:00:00"
    stored = await desk.row(row_id)
    assert stored["status"] == "dialing"
    assert stored["adapter"] == desk.adapter
    assert stored["incarnation"] == 1
    assert (stored["deadline"] - stored["claimed_at"]).total_seconds() == 25 + 900 + 120 + 1800
    log = await desk.the_log(row["call_id"])
    assert (log["status"], log["duration"], str(log["user_id"])) == ("initiated", None, USER)
    assert log["phone_number"] == log["caller_number"] == "0123456700"
    assert (log["agent_id"], log["customer_name"], log["idsale"]) == ("mikopbx-adapter", "Aminah", "S1")
    assert log["metadata"] == {
        "source": "crm",
        "adapter": "mikopbx-adapter",
        "queue_row": str(row_id),
        "attempt": "1",
        "claim_number": str(row["claim_number"]),
        "pbx": "pbx-1",
        "trunk": "SIP-TRUNK-1",
    }


async def test_only_a_row_that_is_new_and_due_should_have_rung_the_bell(desk: Desk) -> None:
    row_id = await desk.insert(number(1))
    first = await desk.claim_one()
    created_at = (await desk.row(row_id))["created_at"]
    assert datetime.fromisoformat(first["bell_at"]) == created_at
    await desk.sync([release(first["call_id"])])
    again = await desk.claim_one()
    assert again["bell_at"] is None
    await desk.sync([outcome(again["call_id"], "busy")])
    await desk.connection.execute(
        "insert into call_queue (user_id, phone_number, not_before) "
        "values ($1, '0123456702', clock_timestamp() + interval '50 milliseconds')",
        USER,
    )
    await desk.connection.execute("select pg_sleep(0.06)")
    assert (await desk.claim_one())["bell_at"] is None


async def test_agent_is_the_rows_else_the_prompt_else_the_adapters(desk: Desk) -> None:
    await desk.insert(number(1), agent_id="agent-7", prompt_id=CAMPAIGN)
    await desk.insert(number(2), prompt_id=CAMPAIGN)
    await desk.insert(number(3))
    rows = await desk.claim(agent_id="ai-999")
    agents = [(await desk.the_log(row["call_id"]))["agent_id"] for row in sorted(rows, key=lambda r: r["row_id"])]
    assert agents == ["agent-7", CAMPAIGN, "ai-999"]


async def test_contacts_and_prompts_that_do_not_exist_are_left_out(app_desk: Desk) -> None:
    contact = await app_desk.connection.fetchval(
        "insert into contacts (user_id, name, phone_number) values ($1, 'A', '0123456700') returning id", USER
    )
    prompt = await app_desk.connection.fetchval(
        "insert into prompts (user_id, prompt_name, system_prompt) values ($1, 'P', '-') returning id", USER
    )
    await app_desk.insert(number(1), contact_id=contact, prompt_id=prompt)
    await app_desk.insert(number(2), contact_id=uuid.uuid4(), prompt_id=uuid.uuid4())
    rows = sorted(await app_desk.claim(), key=lambda r: r["row_id"])
    logs = [await app_desk.the_log(row["call_id"]) for row in rows]
    assert [(log["contact_id"], log["prompt_id"]) for log in logs] == [(contact, prompt), (None, None)]


async def test_same_claim_id_gives_the_same_rows_that_have_not_ended(desk: Desk) -> None:
    await desk.fill(10)
    claim = uuid.uuid4()
    first = await desk.sync(room=4, claim_id=claim)
    again = await desk.sync(room=4, claim_id=claim)
    assert again["rows"] == first["rows"]
    assert len(again["rows"]) == 4
    gone = [first["rows"][0]["call_id"], first["rows"][1]["call_id"]]
    third = await desk.sync([release(gone[0]), outcome(gone[1], "busy")], room=4, claim_id=claim)
    assert third["rows"] == first["rows"][2:]
    rest = [outcome(row["call_id"], "busy") for row in first["rows"][2:]]
    assert (await desk.sync(rest, room=4, claim_id=claim))["rows"] == []


async def test_a_request_that_is_executed_after_a_newer_one_claims_nothing(desk: Desk) -> None:
    await desk.fill(3)
    given_up, asked = uuid.uuid4(), uuid.uuid4()
    assert (await desk.sync(request=2, claim_id=given_up))["rows"] == []
    late = await desk.sync(request=1, room=1, claim_id=given_up)
    assert late["rows"] == []
    assert late["holder"]
    found = (await desk.sync(request=3, room=1, claim_id=asked))["rows"]
    assert len(found) == 1
    for request in (1, 3):
        assert (await desk.sync(request=request, room=1, claim_id=given_up))["rows"] == []
    assert (await desk.sync(request=4, room=1, claim_id=asked))["rows"] == found
    assert len(await desk.claim(1)) == 1  # A program that does not number its requests.


async def test_the_requests_of_each_run_are_counted_anew(desk: Desk) -> None:
    await desk.fill(2)
    assert len(await desk.claim(1, request=70)) == 1
    nonce = uuid.uuid4()
    await desk.register(nonce=nonce)
    assert len(await desk.claim(1, request=2)) == 1
    await desk.register(nonce=nonce, expected=desk.incarnation - 1)
    assert await desk.claim(1, request=1) == []


async def test_claim_numbers_rise_and_are_told(lasting_desk: Desk) -> None:
    await lasting_desk.fill(3)
    assert (await lasting_desk.sync())["claim_number"] == 0
    reply = await lasting_desk.sync(room=3)
    numbers = [row["claim_number"] for row in reply["rows"]]
    assert numbers == sorted(set(numbers))
    assert reply["claim_number"] == numbers[-1]
    await lasting_desk.register()
    assert (await lasting_desk.register())["claim_number"] == numbers[-1]


async def test_users_take_turns_then_lanes_then_priority(desk: Desk) -> None:
    await desk.fill(100, campaign=CAMPAIGN)
    await desk.fill(100, campaign=SECOND, start=100)
    await desk.fill(3, user=OTHER, start=200)
    urgent = await desk.insert(number(1), campaign_id=CAMPAIGN, priority=9)
    rows = await desk.claim(8)
    assert Counter(row["user_id"] for row in rows) == {USER: 5, OTHER: 3}
    assert Counter(row["campaign_id"] for row in rows if row["user_id"] == USER).keys() == {CAMPAIGN, SECOND}
    assert urgent in [row["row_id"] for row in rows]
    seen = Counter([(await desk.claim_one())["campaign_id"] for _ in range(10)])
    assert seen == {CAMPAIGN: 5, SECOND: 5}


async def test_the_earlier_row_goes_first_and_a_later_one_waits(desk: Desk) -> None:
    for serial, wait in enumerate(["1 hour", "-1 minute", "-2 minutes"]):
        await desk.connection.execute(
            "insert into call_queue (user_id, phone_number, not_before) values ($1, $2, now() + $3::text::interval)",
            USER,
            number(serial),
            wait,
        )
    assert [row["e164"] for row in await desk.claim()] == [number(2), number(1)]
    await desk.due()
    assert [row["e164"] for row in await desk.claim()] == [number(0)]


async def test_limits_of_pbx_user_and_campaign(desk: Desk) -> None:
    await desk.fill(20, campaign=CAMPAIGN)
    await desk.fill(20, campaign=SECOND, start=100)
    await desk.fill(20, start=200)
    await desk.fill(20, user=OTHER, start=300)
    limits = {"pbx": 12, "user": 7, "campaign": 2}
    rows = await desk.claim(50, limits=limits)
    rows += await desk.claim(50, limits=limits)
    assert len(rows) == 12
    users = Counter(row["user_id"] for row in rows)
    assert users[USER] <= 7
    assert users[OTHER] <= 7
    campaigns = Counter(row["campaign_id"] for row in rows if row["user_id"] == USER)
    assert campaigns[CAMPAIGN] <= 2
    assert campaigns[SECOND] <= 2
    assert await desk.claim(50, limits=limits) == []
    # A call that ended makes room at once, also while its row is still held for the AI handler's word.
    ended = next(row for row in rows if row["user_id"] == OTHER)
    reply = await desk.sync([outcome(ended["call_id"], "answered")], room=50, limits=limits)
    assert len(reply["rows"]) == 1


async def test_the_limit_of_one_user_does_not_hold_up_another(desk: Desk) -> None:
    await desk.fill(20)
    assert len(await desk.claim(20, limits={"user": 1})) == 1
    await desk.fill(1, user=OTHER, start=100)
    (row,) = await desk.claim(1, limits={"user": 1})
    assert row["user_id"] == OTHER


async def test_the_limit_of_a_campaign_leaves_room_for_the_others(desk: Desk) -> None:
    await desk.fill(20, campaign=CAMPAIGN)
    assert len(await desk.claim(50, limits={"campaign": 2})) == 2
    assert await desk.claim(50, limits={"campaign": 2}) == []
    await desk.fill(20, campaign=SECOND, start=100)
    await desk.fill(5, start=200)
    rows = await desk.claim(50, limits={"campaign": 2})
    assert Counter(row["campaign_id"] for row in rows) == {SECOND: 2, None: 5}


async def test_who_is_at_his_limit_is_passed_over_until_a_call_of_his_ends(desk: Desk) -> None:
    for user in range(20):
        await desk.fill(3, user=f"00000000-0000-4000-7000-{user:012d}", start=user * 10)
    await desk.fill(3, user=OTHER, start=1000)
    limits = {"user": 1}
    rows = await desk.claim(50, limits=limits)
    assert len(rows) == 21
    assert await desk.claim(50, limits=limits) == []
    ended = next(row for row in rows if row["user_id"] == OTHER)
    reply = await desk.sync([outcome(ended["call_id"], "busy")], room=1, limits=limits)
    assert [row["user_id"] for row in reply["rows"]] == [OTHER]


async def test_a_person_is_in_one_call_at_a_time(desk: Desk) -> None:
    for _ in range(5):
        await desk.insert("0123456700")
    await desk.insert("0123456701")
    rows = await desk.claim()
    assert sorted(row["e164"] for row in rows) == ["+60123456700", "+60123456701"]
    assert await desk.claim() == []
    first = next(row for row in rows if row["e164"] == "+60123456700")
    await desk.sync([outcome(first["call_id"], "busy")])
    await desk.due()
    (second,) = await desk.claim()
    assert second["row_id"] != first["row_id"]


async def test_many_rows_of_a_busy_number_do_not_hold_up_the_rest(desk: Desk) -> None:
    for _ in range(30):
        await desk.insert("0123456700")
    last = await desk.insert("0123456701")
    seen = {row["row_id"] for _ in range(20) for row in await desk.claim(4)}
    assert last in seen


async def test_nothing_is_claimed_when_not_ready_without_room_or_without_a_claim_id(desk: Desk) -> None:
    await desk.fill(3)
    assert (await desk.sync())["holder"] is True
    assert await desk.claim(ready=False) == []
    assert (await desk.sync(room=0, claim_id=uuid.uuid4()))["rows"] == []
    assert (
        await desk.connection.fetchval(
            'select call_sync_v1($1, 1, \'[]\', \'{"pbx": "pbx-1", "ready": true}\', 5, null)', desk.adapter
        )
    )["rows"] == []


async def test_a_paused_lane_or_user_waits_and_costs_the_others_nothing(desk: Desk) -> None:
    await desk.fill(5, campaign=CAMPAIGN)
    await desk.fill(5, campaign=SECOND, start=100)
    await desk.fill(5, user=OTHER, start=200)
    await desk.claim(1)
    await desk.connection.execute("update call_lanes set paused = true where lane = $1", CAMPAIGN)
    await desk.connection.execute("update call_tenants set paused = true where user_id = $1", OTHER)
    before = await desk.connection.fetchval("select count(*) from call_queue where status <> 'queued'")
    assert before == 1
    rows = await desk.claim()
    assert {row["campaign_id"] for row in rows} == {SECOND}
    await desk.connection.execute("update call_lanes set paused = false")
    await desk.connection.execute("update call_tenants set paused = false, wake_at = now() - interval '1 s'")
    assert {row["campaign_id"] for row in await desk.claim()} == {CAMPAIGN, None}


async def test_a_row_that_cannot_be_written_ends_and_the_others_are_claimed(app_desk: Desk) -> None:
    await app_desk.connection.execute(
        "alter table call_logs add constraint short_name check (length(customer_name) < 20)"
    )
    bad = await app_desk.insert(number(1), customer_name="x" * 30)
    good = await app_desk.insert(number(2), customer_name="Aminah")
    reply = await app_desk.sync(room=10)
    assert [row["row_id"] for row in reply["rows"]] == [good]
    ended = await app_desk.row(bad)
    assert (ended["status"], ended["outcome"]) == ("done", "blocked")
    assert "short_name" in ended["ended_reason"]
    assert "short_name" in reply["notes"][0]


async def test_when_no_row_can_be_written_the_rows_are_not_blamed(app_desk: Desk) -> None:
    await app_desk.connection.execute("alter table call_logs add constraint never check (status <> 'initiated')")
    await app_desk.fill(20)
    reply = await app_desk.sync(room=10)
    assert reply["rows"] == []
    assert "put off" in reply["notes"][0]
    assert await app_desk.connection.fetchval("select count(*) from call_queue where status <> 'queued'") == 0
    await app_desk.connection.execute("alter table call_logs drop constraint never")
    await app_desk.due()
    assert len(await app_desk.claim(20)) == 20


async def test_what_fails_for_all_fails_the_claim_and_keeps_the_records(desk: Desk) -> None:
    await desk.fill(2)
    row = await desk.claim_one()
    await desk.connection.execute("alter table call_logs rename column idsale to gone")
    reply = await desk.sync([outcome(row["call_id"], "busy")], room=5)
    assert reply["recorded"] == [1]
    assert reply["rows"] == []
    assert "the claim failed" in reply["notes"][0]
    await desk.connection.execute("alter table call_logs rename column gone to idsale")
    assert len(await desk.claim()) == 1


async def test_a_trunk_nobody_has_is_blocked_and_that_of_another_pbx_waits(desk: Desk) -> None:
    unknown = await desk.insert(number(1), trunk="SIP-TRUNK-9")
    mine = await desk.insert(number(2), trunk="SIP-TRUNK-1")
    theirs = await desk.insert(number(3), trunk="SIP-TRUNK-2")
    other = Desk(desk.connection, pbx="pbx-2", status={"trunk": "SIP-TRUNK-2"})
    await other.register()
    await other.sync()
    assert [row["row_id"] for row in await desk.claim()] == [mine]
    assert (await desk.row(unknown))["ended_reason"] == "the trunk SIP-TRUNK-9 is not known"
    await desk.due()
    assert [row["row_id"] for row in await other.claim()] == [theirs]


async def test_more_says_whether_another_claim_would_give_rows(desk: Desk) -> None:
    await desk.fill(5)
    assert (await desk.sync(room=3))["more"] is True
    assert (await desk.sync(room=2))["more"] is False
    assert (await desk.sync(room=3))["more"] is False
    await desk.fill(5, start=10)
    assert (await desk.sync(room=5, limits={"pbx": 7}))["more"] is False


@pytest.mark.parametrize("why", ["they must not be called", "they wait for long", "they cannot be written"])
async def test_rows_that_are_not_called_are_passed_at_once(app_desk: Desk, why: str) -> None:
    """Not by the next sweeps: the adapter asks again as long as it is told that there is more."""
    await app_desk.fill(300)
    execute = app_desk.connection.execute
    if why == "they must not be called":
        await execute("insert into do_not_call (e164, reason) select e164, 'asked' from call_queue")
    elif why == "they wait for long":
        await execute("insert into call_trunks (pbx, trunk, prefixes) values ('pbx-1', 'A', '{6012}')")
        await execute("insert into call_trunks (pbx, trunk) values ('pbx-2', 'B')")
    else:
        await execute("update call_queue set customer_name = 'unspeakable'")
        await execute("alter table call_logs add constraint speakable check (customer_name <> 'unspeakable')")
    last = await app_desk.insert()
    asked, rows = 0, []
    of_it = {"room": 20, "foreign": 0, "problem": None}
    status: dict[str, Any] = {"trunks": {"A": of_it}} if why == "they wait for long" else {}
    more = True
    while more:
        reply = await app_desk.sync(room=5, **status)
        rows += [row["row_id"] for row in reply["rows"]]
        more = reply["more"]
        asked += 1
    assert rows == [last]
    assert asked < 100


async def test_rows_that_wait_for_a_moment_are_not_asked_for_again_and_again(desk: Desk) -> None:
    await desk.connection.execute("insert into call_trunks (pbx, trunk) values ('pbx-1', 'A'), ('pbx-1', 'B')")
    for serial in range(20):
        await desk.insert(number(serial), trunk="A")
    trunks = {"A": {"room": 0, "foreign": 0, "problem": None}, "B": {"room": 20, "foreign": 0, "problem": None}}
    assert (await desk.sync(room=2, trunks=trunks))["more"] is False


async def test_a_lane_with_rows_held_by_others_is_not_taken_for_empty(lasting_desk: Desk, db: str) -> None:
    await lasting_desk.fill(2)
    other = await asyncpg.connect(db)
    try:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("select from call_queue for update")
        assert await lasting_desk.claim() == []
        await transaction.rollback()
    finally:
        await other.close()
    assert len(await lasting_desk.claim()) == 2


async def test_inserted_metadata_cannot_crash_the_apps_pages_or_hide_our_facts(desk: Desk) -> None:
    await desk.insert(metadata={"ended_reason": {"a": 1}, "vapi_cost": "2", "attempt": 9, "note": {"b": 2}})
    row = await desk.claim_one()
    metadata = (await desk.the_log(row["call_id"]))["metadata"]
    assert metadata["ended_reason"] == '{"a": 1}'
    assert "vapi_cost" not in metadata
    assert metadata["attempt"] == "1"
    assert metadata["note"] == {"b": 2}


async def test_one_urgent_row_overtakes_a_campaign_of_ten_thousand(desk: Desk) -> None:
    await desk.fill(10_000, campaign=CAMPAIGN)
    await desk.claim(5)
    urgent = await desk.insert("+60123459999", campaign_id=CAMPAIGN, priority=9)
    assert [row["row_id"] for row in await desk.claim(1)] == [urgent]


async def test_one_urgent_row_overtakes_other_campaigns_and_users(desk: Desk) -> None:
    for serial in range(30):
        user = f"00000000-0000-4000-8000-0000000001{serial:02d}"
        await desk.fill(20, user=user, campaign=CAMPAIGN, start=serial * 100)
    await desk.fill(20, user=OTHER, campaign=CAMPAIGN, start=5000)
    await desk.claim(5)
    urgent = await desk.insert("+60123459999", user_id=OTHER, campaign_id=SECOND, priority=9)
    assert urgent in [row["row_id"] for row in await desk.claim(2)]


async def test_an_urgent_row_that_becomes_due_later_overtakes_as_well(desk: Desk) -> None:
    for serial in range(30):
        await desk.fill(20, user=f"00000000-0000-4000-8000-0000000001{serial:02d}", start=serial * 100)
    urgent = await desk.connection.fetchval(
        "insert into call_queue (user_id, phone_number, priority, not_before) "
        "values ($1, '+60123459999', 9, clock_timestamp() + interval '200 milliseconds') returning id",
        OTHER,
    )
    assert urgent not in [row["row_id"] for row in await desk.claim(5)]
    await desk.connection.execute("select pg_sleep(0.25)")
    assert urgent in [row["row_id"] for row in await desk.claim(2)]


async def test_who_calls_everything_urgent_gets_no_more_than_a_share(desk: Desk) -> None:
    await desk.connection.execute(
        "insert into call_queue (user_id, phone_number, priority) "
        "select $1, '+601' || (100000000 + i), 9 from generate_series(1, 200) i",
        OTHER,
    )
    for serial in range(30):
        await desk.fill(20, user=f"00000000-0000-4000-8000-0000000001{serial:02d}", start=5000 + serial * 100)
    of_whom: Counter[str] = Counter()
    for _ in range(12):
        of_whom.update(row["user_id"] for row in await desk.claim(5))
    assert of_whom[OTHER] == 12
    assert len(of_whom) == 31
