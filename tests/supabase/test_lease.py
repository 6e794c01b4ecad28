"""Runs of an adapter, and which one dials through a PBX."""

import uuid
from typing import Any

import asyncpg
import pytest

from tests.supabase.helpers import ANSWERED_AT, Desk, answered, number, outcome


async def back(desk: Desk, seconds: int) -> None:
    """Let the time since all heartbeats and the rest of all leases pass, as if nobody had been there."""
    await desk.connection.execute(
        "update call_adapters set seen_at = seen_at - make_interval(secs => $1), "
        "steady_since = steady_since - make_interval(secs => $1), "
        "ready_since = ready_since - make_interval(secs => $1)",
        float(seconds),
    )
    await desk.connection.execute(
        "update call_pbx set lease_until = lease_until - make_interval(secs => $1)", float(seconds)
    )


async def steadily(desk: Desk, seconds: int, *witnesses: Desk) -> dict[str, Any]:
    """Let time pass while the witnesses' heartbeats come every ten seconds; the last answer of the last one."""
    reply: dict[str, Any] = {}
    for _ in range(seconds // 10):
        await back(desk, 10)
        for witness in witnesses:
            reply = await witness.sync()
    return reply


async def test_registration_is_compare_and_set(desk: Desk) -> None:
    other = Desk(desk.connection)
    assert (await other.register(expected=3)) == {"accepted": False, "incarnation": 0}
    first = await other.register(expected=0)
    assert (first["accepted"], first["incarnation"], first["open"]) == (True, 1, [])
    assert (await other.register(expected=0)) == {"accepted": False, "incarnation": 1}
    assert (await other.register(expected=1))["incarnation"] == 2
    assert (await other.register(expected=1)) == {"accepted": False, "incarnation": 2}
    assert (await other.register(expected=5)) == {"accepted": False, "incarnation": 2}


async def test_a_lost_answer_is_asked_for_again_with_the_same_nonce(desk: Desk) -> None:
    other = Desk(desk.connection)
    nonce = uuid.uuid4()
    first = await other.register(expected=0, nonce=nonce)
    again = await other.register(expected=0, nonce=nonce)
    assert again["accepted"] is first["accepted"] is True
    assert again["incarnation"] == first["incarnation"] == 1


async def test_registration_hands_over_the_open_calls_of_this_adapter(desk: Desk) -> None:
    for serial in range(4):
        await desk.insert(number(serial))
    ringing, talking, ended, _ = await desk.claim(3) + [None]
    assert ringing is not None
    assert talking is not None
    assert ended is not None
    await desk.sync([answered(talking["call_id"]), outcome(ended["call_id"], "answered")])
    await desk.connection.fetchval("select call_cancel_v1($1)", talking["row_id"])
    other = Desk(desk.connection)
    assert (await other.register())["open"] == []
    found = (await desk.register())["open"]
    assert [item["row"]["call_id"] for item in found] == [ringing["call_id"], talking["call_id"]]
    assert found[0] == {
        "row": ringing,
        "incarnation": 1,
        "originated_at": None,
        "answered_at": None,
        "cancel_requested": False,
    }
    assert found[1]["answered_at"] == ANSWERED_AT
    assert found[1]["cancel_requested"] is True


async def test_an_older_run_is_fenced_and_only_its_records_are_taken(desk: Desk) -> None:
    await desk.fill(5)
    row = await desk.claim_one()
    old = Desk(desk.connection, desk.adapter, desk.incarnation)
    await desk.register()
    reply = await old.sync([outcome(row["call_id"], "busy")], room=5)
    assert (reply["fenced"], reply["holder"], reply["rows"], reply["recorded"]) == (True, False, [], [1])
    assert (await desk.sync(room=5))["fenced"] is False


async def test_of_two_processes_with_the_number_of_one_run_the_last_to_register_counts(desk: Desk) -> None:
    """A folder that was copied after its registration was begun has the nonce, so both are accepted."""
    nonce, before = uuid.uuid4(), desk.incarnation
    for process in ("first", "second"):
        assert (await desk.register(before, nonce, process=process))["accepted"]
    assert (await desk.sync(process="first"))["fenced"]
    assert not (await desk.sync(process="second"))["fenced"]
    assert not (await desk.sync())["fenced"], "an older version says nothing of it"


async def test_once_a_process_works_its_registration_cannot_be_repeated_by_another(desk: Desk) -> None:
    """By a copy of the folder, or late, when whoever sent it has been dead for long."""
    nonce, before = uuid.uuid4(), desk.incarnation
    await desk.register(before, nonce, process="first")
    await desk.sync(process="first", request=1)
    assert not (await desk.register(before, nonce, process="second"))["accepted"]
    assert (await desk.register(before, nonce, process="first"))["accepted"], "its own answer may have been lost"
    row = await desk.insert()
    reply = await desk.sync(room=5, process="first", request=2)
    assert [claimed["row_id"] for claimed in reply["rows"]] == [row]


async def test_an_adapter_the_database_does_not_know_is_fenced(desk: Desk) -> None:
    stranger = Desk(desk.connection, incarnation=1)
    reply = await stranger.sync(room=5)
    assert reply["fenced"] is True
    assert "not registered" in reply["notes"][0]


async def test_only_the_holder_dials_and_its_lease_is_renewed(desk: Desk) -> None:
    await desk.fill(10)
    first = await desk.sync(room=1)
    assert (first["holder"], len(first["rows"])) == (True, 1)
    other = Desk(desk.connection)
    await other.register()
    reply = await other.sync(room=1)
    assert (reply["holder"], reply["rows"], reply["lease_until"]) == (False, [], first["lease_until"])
    second = await desk.sync(ready=False)
    assert second["holder"] is True
    assert second["lease_until"] > first["lease_until"]
    # Another PBX is another lease.
    elsewhere = Desk(desk.connection, pbx="pbx-2")
    await elsewhere.register()
    assert (await elsewhere.sync())["holder"] is True


async def test_without_a_ready_pbx_no_lease_is_taken(desk: Desk) -> None:
    assert (await desk.sync(ready=False))["holder"] is False
    assert (await desk.sync(pbx=None))["holder"] is False
    assert await desk.connection.fetchval("select count(*) from call_pbx") == 0
    assert (await desk.sync())["holder"] is True


async def test_a_new_run_of_the_holder_goes_on_dialing(desk: Desk) -> None:
    await desk.fill(2)
    await desk.sync()
    await desk.register()
    assert len(await desk.claim()) == 2


async def test_a_pbx_dialed_by_its_own_routes_has_no_trunk_of_before(desk: Desk) -> None:
    """Else a row that names the former provider would wait for an adapter that dials through it no more."""
    of = "select trunk from call_pbx where lease_until > now()"
    await desk.sync(trunk="SIP-TRUNK-0000AAAA")
    assert await desk.connection.fetchval(of) == "SIP-TRUNK-0000AAAA"
    await desk.sync(trunk=None)
    assert await desk.connection.fetchval(of) is None


async def test_a_lapsed_lease_is_taken_after_one_full_lease_of_being_ready(desk: Desk) -> None:
    await desk.fill(3)
    (call,) = await desk.claim(1)
    await desk.sync([answered(call["call_id"])])
    witness = Desk(desk.connection)
    await witness.register()
    await witness.sync()
    assert (await steadily(desk, 50, witness))["holder"] is False
    reply = await steadily(desk, 10, witness)
    assert reply["holder"] is True
    (taken,) = reply["takeover"]
    assert (taken["row"]["call_id"], taken["incarnation"]) == (call["call_id"], 1)
    assert taken["answered_at"] is not None
    # Handed over once; again only to a holder whose epoch shows that the answer was lost.
    assert (await witness.sync(epoch=reply["epoch"]))["takeover"] == []
    assert (await witness.sync())["takeover"] == []
    assert len((await witness.sync(epoch=reply["epoch"] - 1))["takeover"]) == 1
    # The former holder does not dial any more; what it saw is still taken.
    former = await desk.sync([outcome(call["call_id"], "answered")], room=5)
    assert (former["holder"], former["rows"], former["recorded"]) == (False, [], [1])


async def test_a_witness_that_was_not_ready_takes_nothing(desk: Desk) -> None:
    await desk.sync()
    witness = Desk(desk.connection)
    await witness.register()
    for _ in range(10):
        await back(desk, 10)
        await witness.sync(ready=False)
    assert (await witness.sync())["holder"] is False
    assert (await steadily(desk, 50, witness))["holder"] is False
    assert (await steadily(desk, 10, witness))["holder"] is True


async def test_an_outage_of_the_database_expires_nobody(desk: Desk) -> None:
    await desk.sync()
    witness = Desk(desk.connection)
    await witness.register()
    await steadily(desk, 100, desk, witness)
    await back(desk, 3600)
    assert (await witness.sync())["holder"] is False
    assert (await steadily(desk, 50, witness))["holder"] is False
    assert (await desk.sync())["holder"] is True


async def test_the_free_pbx_is_taken_at_once(desk: Desk) -> None:
    await desk.sync()
    await desk.connection.execute("update call_pbx set holder = null")
    other = Desk(desk.connection)
    await other.register()
    assert (await other.sync())["holder"] is True


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("call_register_v1(null, 0, gen_random_uuid(), 'x', '{}')", "p_adapter, p_expected"),
        ("call_sync_v1(null, 1, '[]', '{}', 0, null)", "p_adapter and p_incarnation"),
        ("call_sync_v1(gen_random_uuid(), 1, '{}', '{}', 0, null)", "p_records as a list"),
    ],
)
async def test_arguments_that_are_none_are_named(desk: Desk, call: str, words: str) -> None:
    with pytest.raises(asyncpg.RaiseError, match=words):
        await desk.connection.execute(f"select {call}")


async def test_the_answer_has_all_its_parts(desk: Desk) -> None:
    reply = await desk.connection.fetchval("select call_sync_v1($1, 1, null, null, 0, null)", desk.adapter)
    assert {name: type(value).__name__ for name, value in reply.items()} == {
        "now": "str",
        "fenced": "bool",
        "holder": "bool",
        "lease_until": "NoneType",
        "epoch": "NoneType",
        "claim_number": "int",
        "told": "int",
        "recorded": "list",
        "refused": "list",
        "notes": "list",
        "rows": "list",
        "more": "bool",
        "commands": "list",
        "takeover": "list",
        "trunks": "list",
        "trunks_version": "int",
    }
