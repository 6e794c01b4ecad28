"""Bad input, end to end: whatever people type, delete or edit, each row ends with a clear reason and the others go on.

The real daemon, a real PostgreSQL behind the local gateway, a simulated MikoPBX. The witness is the carrier's side.
"""

import asyncio
import json
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

from adapter.sandbox.mikopbx import SimulatedPbx
from adapter.sandbox.mikopbx.call import Invite
from adapter.sandbox.process import Daemon
from adapter.sandbox.scenarios import number
from adapter.sandbox.world import DATABASE, World

USER = "00000000-0000-4000-8000-00000000aaaa"

pytestmark = pytest.mark.timeout(120)

ALL_DONE = "not exists (select from call_queue where status not in ('done', 'canceled'))"

HASTEN = (
    # The ten seconds in which the AI may still have its say, and waits for one's turn, have tests of their own.
    "update call_queue set settle_at = now() where settle_at > now()",
    """update call_queue set not_before = now()
       where status = 'queued' and not_before > now() and not_before < now() + interval '1 hour'""",
)

NASTY = "a\rb\nc,d\"e'f\\g;🙂 ${SHELL(id)} $[1+1] <x>\u202e"
LONG = "x" * 10_240


@asynccontextmanager
async def _world(tmp_path: Path, *, speed: float = 5.0, daemon: bool = True, **settings: str) -> AsyncIterator[World]:
    defaults = {
        "ALLOWED_COUNTRIES": "*",
        "SWEEP_SECONDS": "1",
        "CALLS_PER_SECOND": "100",
        "MAX_CALLS": "200",
        "MAX_CALLS_PER_USER": "200",
        "LOG_FORMAT": "json",
    }
    async with World.started(
        speed=speed, directory=tmp_path, settings={**defaults, **settings}, daemon=daemon
    ) as world:
        yield world


def _invites(world: World) -> list[Invite]:
    return cast("SimulatedPbx", world.pbx).calls


async def _post(world: World, rows: object) -> Any:
    """One insert through the REST API, however many rows."""
    return await world.http.post(
        "/rest/v1/call_queue", json=rows, headers={"Prefer": "return=representation"}, timeout=30.0
    )


async def _insert(world: World, *rows: Mapping[str, Any]) -> list[int]:
    answer = await _post(world, [{"user_id": USER, **row} for row in rows])
    assert answer.is_success, answer.text
    return [row["id"] for row in answer.json()]


async def _until(world: World, condition: str, seconds: float = 60.0) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not await world.pool.fetchval(f"select {condition}"):
                await asyncio.sleep(0.03)
                for sql in HASTEN:
                    await world.pool.execute(sql)
    except TimeoutError:
        rows = await world.pool.fetch(
            "select id, status, outcome, ended_reason from call_queue where status not in ('done', 'canceled') limit 20"
        )
        raise AssertionError(f"not in {seconds} s: {condition}\n{rows}\n{world.daemon.tail(20)}") from None


async def _row(world: World, row_id: int) -> dict[str, Any]:
    found = await world.pool.fetchrow("select * from call_queue where id = $1", row_id)
    assert found is not None
    return dict(found)


async def _log(world: World, call_id: object) -> dict[str, Any]:
    """The call_logs row of a call, with its metadata read."""
    found = await world.pool.fetchrow("select * from call_logs where call_id = $1", str(call_id))
    assert found is not None
    return {**dict(found), "metadata": json.loads(found["metadata"] or "null")}


BAD_NUMBERS = {
    "call me": "no digit",
    "01x2345678": "no digit",
    "12": "too short",
    "1" * 30: "too long",
    "1" * 10_240: "too long",
    "": "empty",
    " - ": "empty",
    "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19": "no digit",
    "012+3456789": "no digit",
    "++60123456789": "no digit",
    "0123456789\r\nAction: Originate": "no digit",
    "0123456789,1": "no digit",
    "0123456789@SIP-TRUNK-X": "no digit",
    "🙂": "no digit",
    "999": "too short",
    "112": "too short",
    "991": "too short",
    "0999": "too short",
    "+60999": "too short",
    "+60 0 112": "too short",
    "00112": "too short",
    "006 0999": "too short",
    "+999 123 456 789": "no country's calling code",
    "+0123456789": "no country's calling code",
    "+112 0000 0000": "emergency or service",
    "+65 9950 0000": "emergency or service",
    "1600 12 3456": "premium",
    "+1 900 234 5678": "premium",
    "+44 9098 790000": "premium",
    "+979 123 456 789": "premium",
}

BAD_COLUMNS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"customer_name": LONG}, "customer_name is too long"),
    ({"customer_name": "é" * 900}, "CUSTOMER_NAME_B64 is too long"),
    ({"agent_id": LONG}, "agent_id is too long"),
    ({"idsale": LONG}, "idsale is too long"),
    ({"metadata": {"x": LONG * 11}}, "metadata is too long"),
    ({"metadata": [1]}, "metadata is not an object"),
    ({"metadata": "x"}, "metadata is not an object"),
    ({"variables": [1]}, "variables is not an object"),
    ({"variables": {"x": LONG}}, "variables is too long"),
    ({"variables": {"x": "y" * 2000}}, "x is too long"),
    ({"variables": {"x": {"y": 1}}}, "must be a text"),
    ({"variables": {"x": [1, 2]}}, "must be a text"),
    ({"variables": {f"x{i}": "1" for i in range(120)}}, "more variables than one action takes"),
    *(
        ({"variables": {name: "1"}}, "variable name")
        for name in (
            "CALLERID(num)",
            "SHELL(id)",
            "DB(a/b)",
            "FILE(/x)",
            "a b",
            "a=b",
            "",
            "x\r\ny",
            "x,y",
            "CALL_ID",
            "__IFS",
        )
    ),
    *(
        ({"caller_id": text}, "caller_id")
        for text in ("1\rx", "1\nAction: Originate", "1,2", '"me" <1>', "🙂", LONG, "12345678901234567890", "anonymous")
    ),
    ({"trunk": "SIP-TRUNK-NOBODY"}, "the trunk SIP-TRUNK-NOBODY is not known"),
    ({"trunk": "x@y"}, "trunk is not the id of a provider"),
    ({"ring_seconds": 0}, "ring_seconds must be 5 to 120"),
    ({"max_attempts": 0}, "max_attempts must be"),
    ({"not_before": "infinity"}, "not_before is no date"),
    ({"expires_at": "2020-01-01"}, "expires_at is not later"),
)

STRANGE_COLUMNS: tuple[dict[str, Any], ...] = (
    {
        "customer_name": NASTY,
        "agent_id": NASTY,
        "idsale": NASTY,
        "variables": {"note": NASTY},
        "metadata": {"note": NASTY},
    },
    {"customer_name": ""},
    {"customer_name": "\r\n"},
    {"metadata": {"note": LONG}},
    {"metadata": {"ended_reason": {"x": 1}, "transcript": [1], "stage_reached": 7, "vapi_cost": "1"}},
    {"metadata": {"outcome": "answered", "call_id": "x", "deep": {"a": [{"b": None}]}}},
    {"variables": {"n": 7, "f": 1.5, "b": True, "nothing": None}},
    {"user_id": str(uuid.uuid4())},
    {"campaign_id": str(uuid.uuid4()), "prompt_id": str(uuid.uuid4()), "contact_id": str(uuid.uuid4())},
    {"caller_id": "+60312345678"},
    {"caller_id": None, "metadata": None, "variables": None, "priority": None},
)
"""Strange, but no reason not to call."""

REFUSED: tuple[tuple[Any, str], ...] = (
    ([{"user_id": USER, "phone_number": number("11", 1), "customer_name": "a\0b"}], "\\u0000|null character|0x00"),
    ([{"user_id": USER, "phone_number": number("11", 1), "metadata": {"x": "a\0b"}}], "\\u0000|null character|0x00"),
    ([{"user_id": None, "phone_number": number("11", 1)}], "user_id is missing"),
    ([{"user_id": USER}], "phone_number is missing"),
    ([{"user_id": "nobody", "phone_number": number("11", 1)}], "invalid input syntax for type uuid"),
    ([{"user_id": USER, "phone_number": number("11", 1), "campaign_id": "7"}], "invalid input syntax for type uuid"),
    ([{"user_id": USER, "phone_number": number("11", 1), "status": "call now"}], "insert rows as queued"),
    ([{"user_id": USER, "phone_number": number("11", 1), "priority": 99}], "priority must be 0 to 9"),
)
"""No row at all: the insert is refused, with words that name the fault."""


async def test_bad_rows_end_with_their_reason_and_all_others_are_called(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        # An app that has prompts and contacts, as its own schema has.
        await world.pool.execute(
            "create table prompts (id uuid primary key); create table contacts (id uuid primary key); "
            "alter table call_logs add foreign key (prompt_id) references prompts (id), "
            "add foreign key (contact_id) references contacts (id)"
        )
        for rows, words in REFUSED:
            answer = await _post(world, rows)
            assert answer.status_code == 400, answer.text
            assert any(word in answer.text for word in words.split("|")), answer.text
        bad = [({"phone_number": text}, words) for text, words in BAD_NUMBERS.items()]
        bad += [
            ({"phone_number": number("10", 500_000 + i), **more}, words) for i, (more, words) in enumerate(BAD_COLUMNS)
        ]
        good = [{"phone_number": number("11", 1000 + i), **more} for i, more in enumerate(STRANGE_COLUMNS)]
        good += [{"phone_number": number("11", i)} for i in range(1000 - len(bad) - len(good))]
        # One insert of a thousand rows, the bad ones scattered among the good.
        rows = [row for row, _ in bad] + good
        order = sorted(range(len(rows)), key=lambda i: i * 617 % 1000)
        names = sorted({name for row in rows for name in row})
        ids = await _insert(world, *({**dict.fromkeys(names), "user_id": USER, **rows[i]} for i in order))
        by_place = dict(zip(order, ids, strict=True))
        await _until(world, ALL_DONE, 90)
        assert len(ids) == 1000
        for place, (given, words) in enumerate(bad):
            row = await _row(world, by_place[place])
            assert (row["status"], row["outcome"]) == ("done", "blocked"), (given, row)
            assert words in row["ended_reason"], (given, row["ended_reason"])
            log = await _log(world, row["call_id"])
            assert (log["status"], log["duration"]) == ("failed", 0)
            assert log["metadata"]["ended_reason"] == row["ended_reason"]
        called = Counter(invite.number for invite in _invites(world))
        assert called == Counter(row["phone_number"].lstrip("+") for row in good)
        assert await world.pool.fetchval("select count(*) from call_queue where outcome = 'answered'") == len(good)
        for invite in _invites(world):
            for name, value in invite.variables.items():
                assert not set("\r\n,") & set(name + value), (name, value)
        # What the app's pages print is text, whatever the inserter wrote there (contract, section 2.6).
        for log in [await _log(world, invite.call_id) for invite in _invites(world)]:
            metadata = log["metadata"]
            assert all(
                isinstance(metadata.get(key, ""), str) for key in ("ended_reason", "transcript", "stage_reached")
            )
            assert not isinstance(metadata.get("vapi_cost", 0), str)
            assert metadata["outcome"] == "answered"


async def test_a_key_twice_is_one_row_and_a_person_is_in_one_call_at_a_time(tmp_path: Path) -> None:
    async with _world(tmp_path, speed=3.0) as world:
        key = {"user_id": USER, "phone_number": number("11", 1), "idempotency_key": "order 7"}
        answer = await _post(world, [key, key])
        assert len(answer.json()) == 1
        assert (await _post(world, [key])).json() == []
        both = {**key, "phone_number": number("11", 2), "idempotency_key": "order 8"}
        answers = await asyncio.gather(*(_post(world, [both]) for _ in range(6)))
        assert sorted(len(answer.json()) for answer in answers) == [0, 0, 0, 0, 0, 1]
        # Written in three ways, by two users: one person.
        digits = number("10", 3).removeprefix("+60")
        ids = await _insert(
            world,
            {"phone_number": f"+60{digits}"},
            {"phone_number": f"0{digits}"},
            {"phone_number": f"0060 {digits}", "user_id": str(uuid.uuid4())},
        )
        await _until(world, ALL_DONE)
        assert [(await _row(world, i))["outcome"] for i in ids] == ["answered"] * 3
        calls = Counter(invite.number for invite in _invites(world))
        assert calls == {number("11", 1)[1:]: 1, number("11", 2)[1:]: 1, f"60{digits}": 3}
        his = [invite for invite in _invites(world) if invite.number == f"60{digits}"]
        for before, after in pairwise(his):
            assert before.ended is not None
            assert before.ended <= after.started


async def _one(world: World, code: str, serial: int, status: str, **more: Any) -> dict[str, Any]:
    """A row of its own that has reached `status`."""
    (row_id,) = await _insert(world, {"phone_number": number(code, serial), **more})
    await _until(world, f"exists (select from call_queue where id = {row_id} and status = '{status}')")
    return await _row(world, row_id)


async def test_rows_that_others_touch_meanwhile(tmp_path: Path) -> None:
    """Deleted or edited while queued, dialing and talking: the call goes on, and what can still be told is told."""
    async with _world(tmp_path, speed=2.0, RING_SECONDS="12") as world:
        # Deleted while queued: nobody is called.
        gone = await _one(world, "11", 1, "queued", not_before="2026-12-01T00:00:00Z")
        await world.pool.execute("delete from call_queue where id = $1", gone["id"])

        # Deleted while dialing or talking: the log is told how the call ended.
        dialing = await _one(world, "21", 2, "dialing")
        talking = await _one(world, "10", 3, "talking")
        await world.pool.execute("delete from call_queue where id = any ($1)", [dialing["id"], talking["id"]])

        # Edited while dialed: number and owner count for the next call, the status is the adapter's.
        edited = await _one(world, "21", 4, "dialing")
        await world.pool.execute(
            "update call_queue set phone_number = $2, user_id = $3 where id = $1",
            *(edited["id"], number("11", 900), uuid.uuid4()),
        )
        for status in ("queued", "done"):
            with pytest.raises(asyncpg.CheckViolationError, match="cancel_requested"):
                await world.pool.execute("update call_queue set status = $2 where id = $1", edited["id"], status)
        twice = await _one(world, "21", 5, "dialing", max_attempts=2, retry_seconds=0)
        await world.pool.execute(
            "update call_queue set phone_number = $2 where id = $1", twice["id"], number("11", 901)
        )
        nobody = await _one(world, "21", 6, "dialing", max_attempts=2, retry_seconds=0)
        await world.pool.execute("update call_queue set phone_number = 'none' where id = $1", nobody["id"])
        stopped = await _one(world, "20", 7, "dialing")
        await world.pool.execute("update call_queue set status = 'canceled' where id = $1", stopped["id"])

        await _until(world, ALL_DONE)
        finished = "(select metadata ->> 'outcome' from call_logs where call_id = '{}') is not null"
        for row in (dialing, talking):
            await _until(world, finished.format(row["call_id"]))
        assert (await _log(world, dialing["call_id"]))["status"] == "no_answered"
        log = await _log(world, talking["call_id"])
        assert (log["status"], log["metadata"]["outcome"]) == ("answered", "answered")
        assert log["duration"] >= 1

        assert (await _row(world, edited["id"]))["outcome"] == "no_answer"
        assert (await _row(world, twice["id"]))["outcome"] == "answered"
        row = await _row(world, nobody["id"])
        assert row["outcome"] == "no_answer"
        assert "not tried again: the phone number contains something that is no digit" in row["ended_reason"]
        row = await _row(world, stopped["id"])
        assert (row["outcome"], (await _log(world, row["call_id"]))["status"]) == ("canceled", "failed")
        calls = Counter(invite.number for invite in _invites(world))
        assert set(calls.values()) == {1}
        assert gone["phone_number"][1:] not in calls
        assert number("11", 901)[1:] in calls
        assert number("11", 900)[1:] not in calls
        assert world.daemon.running


async def test_logs_that_others_touch_meanwhile(tmp_path: Path) -> None:
    """Deleted or written by others while the call lives: the row ends as it should, what they wrote is kept."""
    async with _world(tmp_path, speed=2.0, RING_SECONDS="12") as world:
        unlogged = await _one(world, "21", 8, "dialing")
        await world.pool.execute("delete from call_logs where call_id = $1", str(unlogged["call_id"]))
        handled = await _one(world, "10", 9, "talking")
        await world.pool.execute(
            "update call_logs set status = 'completed', duration = 77, metadata = '[1, 2]' where call_id = $1",
            str(handled["call_id"]),
        )
        garbled = await _one(world, "10", 10, "talking")
        await world.pool.execute(
            "update call_logs set status = 'voicemail', metadata = '\"text\"' where call_id = $1",
            str(garbled["call_id"]),
        )
        odd = await _one(world, "21", 11, "dialing")
        await world.pool.execute(
            "update call_logs set status = 'strange', metadata = 'null', user_id = $2 where call_id = $1",
            *(str(odd["call_id"]), uuid.uuid4()),
        )

        await _until(world, ALL_DONE)
        assert (await _row(world, unlogged["id"]))["outcome"] == "no_answer"
        log = await _log(world, (await _row(world, handled["id"]))["call_id"])
        assert (log["status"], log["duration"]) == ("answered", 77)
        assert (log["metadata"]["before"], log["metadata"]["handler_status"]) == ("[1, 2]", "completed")
        row = await _row(world, garbled["id"])
        log = await _log(world, row["call_id"])
        assert (row["outcome"], log["status"], log["metadata"]["outcome"]) == ("voicemail", "voicemail", "voicemail")
        log = await _log(world, (await _row(world, odd["id"]))["call_id"])
        assert (log["status"], log["metadata"]["outcome"]) == ("no_answered", "no_answer")
        assert set(Counter(invite.number for invite in _invites(world)).values()) == {1}


def _with_clock_off_by(daemon: Daemon, seconds: float) -> None:
    """The daemon's wall clock, and only its, is wrong from its next start."""
    daemon._command = (
        sys.executable,
        "-c",
        f"""import sys, time; real = time.time; time.time = lambda: real() + {seconds}
sys.argv = ['mikopbx-adapter', 'run']; from adapter.cli import main; sys.exit(main())""",
    )


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_wrong_by_an_hour_changes_nothing(tmp_path: Path, hours: int) -> None:
    """Claims age on the boot clock, leases and expiry on the database's, and a call's times are the PBX's own."""
    async with _world(tmp_path, daemon=False) as world:
        _with_clock_off_by(world.daemon, hours * 3600.0)
        await world.daemon.start()
        wanted = {"10": "answered", "20": "no_answer", "30": "busy", "40": "declined", "50": "invalid_number"}
        ids = await _insert(world, *({"phone_number": number(code, 1)} for code in wanted))
        await _until(world, ALL_DONE)
        # Found again, ringing, by the next run, which has the same wrong clock.
        long = await _insert(world, {"phone_number": number("20", 2), "ring_seconds": 40})
        await _until(world, "exists (select from call_queue where status = 'dialing' and ringing_at is null)")
        async with asyncio.timeout(10):
            while len(_invites(world)) < len(wanted) + 1:
                await asyncio.sleep(0.02)
        await world.daemon.kill()
        await world.daemon.start()
        await _until(world, ALL_DONE)
        assert (await _row(world, long[0]))["outcome"] in ("no_answer", "no_reply")
        now = await world.pool.fetchval("select now()")
        assert {code: (await _row(world, i))["outcome"] for code, i in zip(wanted, ids, strict=True)} == wanted
        for row in [await _row(world, i) for i in (*ids, *long)]:
            log = await _log(world, row["call_id"])
            assert abs((now - row["ended_at"]).total_seconds()) < 60
            assert 0 <= log["duration"] < 10
            if row["originated_at"]:
                assert abs((now - row["originated_at"]).total_seconds()) < 60
        assert set(Counter(invite.number for invite in _invites(world)).values()) == {1}


OURS = (
    "call_queue",
    "call_logs",
    "call_tenants",
    "call_lanes",
    "call_arrivals",
    "call_adapters",
    "call_pbx",
    "call_settings",
)
COUNTERS = ("call_queue_id_seq", "call_arrivals_id_seq", "call_claim_number", "call_turn")


async def _backup(world: World) -> dict[str, int]:
    """Copies of our tables; the values of the counters."""
    await world.pool.execute("create schema backup")
    for table in OURS:
        await world.pool.execute(f"create table backup.{table} as select * from public.{table}")  # noqa: S608 - ours
    return {name: await world.pool.fetchval(f"select last_value from public.{name}") for name in COUNTERS}  # noqa: S608


async def _restore(world: World, counters: Mapping[str, int]) -> None:
    """What a restored backup does: every table and counter is as it was then."""
    connection = await asyncpg.connect(world.postgres.admin_dsn(DATABASE))
    await connection.execute("set session_replication_role = replica")
    async with connection.transaction():
        for table in OURS:
            columns = await connection.fetchval(
                "select string_agg(quote_ident(attname), ', ') from pg_attribute where attrelid = $1::text::regclass "
                "and attnum > 0 and not attisdropped and attgenerated = ''",
                f"public.{table}",
            )
            await connection.execute(f"delete from public.{table}")  # noqa: S608 - ours
            await connection.execute(
                f"insert into public.{table} ({columns}) overriding system value "  # noqa: S608 - ours
                f"select {columns} from backup.{table}"
            )
        for name, value in counters.items():
            await connection.execute(f"select setval('public.{name}', {value})")
    await connection.close()


async def _take_over_soon(world: World) -> None:
    """As if a whole lease had passed: the old holder is away, the new one has been ready all the time."""
    await _until(
        world,
        "exists (select from call_adapters where status ->> 'ready' = 'true' "
        "and adapter <> (select holder from call_pbx))",
    )
    await world.pool.execute("update call_pbx set lease_until = now() - interval '1 second'")
    await world.pool.execute(
        "update call_adapters set ready_since = ready_since - interval '2 minutes', "
        "steady_since = steady_since - interval '2 minutes' where adapter <> (select holder from call_pbx)"
    )


async def test_a_database_restored_to_an_earlier_time_dials_nobody_twice(tmp_path: Path) -> None:
    """Noticed by the very claim that would dial again; a restart does not forget it; the documented way out works."""
    async with _world(tmp_path) as world:
        await _insert(world, *({"phone_number": number("11", i)} for i in range(3)))
        await _until(world, ALL_DONE)
        await world.pool.execute("update call_tenants set paused = true")
        waiting = await _insert(world, *({"phone_number": number("11", 100 + i)} for i in range(5)))
        await world.daemon.kill()  # Nothing writes while it is copied; a real backup is one snapshot.
        counters = await _backup(world)
        await world.daemon.start()
        await world.pool.execute("update call_tenants set paused = false")
        await _until(world, ALL_DONE)
        assert len(_invites(world)) == 8

        await world.daemon.kill()
        await _restore(world, counters)
        await world.pool.execute("update call_tenants set paused = false")
        await world.daemon.start()
        # The backup knows an earlier run of this adapter than its STATE_DIR does.
        assert await asyncio.wait_for(world.daemon.ended(), 20) == 75
        assert "STATE_DIR was copied, or restored" in world.daemon.tail(5)
        # Without a restart in between it is the claim numbers that tell.
        await world.pool.execute("update call_adapters set incarnation = incarnation + 1")
        for _ in range(2):
            await world.pool.execute("update call_adapters set status = '{}'")
            await world.daemon.start()
            await _until(
                world,
                "exists (select from call_adapters where status ->> 'problem' like '%restored to an earlier time%')",
            )
            await _until(world, "5 = (select count(*) from call_queue where status = 'queued')")
            await world.daemon.stop()
        assert "restored to an earlier time" in world.daemon.log.read_text()
        assert len(_invites(world)) == 8, "nobody was called twice"

        # The way out of docs/database.md; the adapter's own log names the rows that were dialed.
        sent = [json.loads(line) for line in world.daemon.log.read_text().splitlines() if '"call.sent"' in line]
        dialed = {int(line["row"]) for line in sent}
        assert dialed >= set(waiting)
        (fresh,) = await _insert(world, {"phone_number": number("11", 200)})
        await world.pool.execute(
            "update call_queue set status = 'done', outcome = 'unknown', ended_at = now(), ended_reason = "
            "'dialed before the database was restored' where status = 'queued' and id = any ($1)",
            sorted(dialed - {fresh}),
        )
        (world.directory / "state").rename(world.directory / "state-of-before")
        await world.daemon.start()
        await _take_over_soon(world)
        await _until(world, ALL_DONE)
        assert (await _row(world, fresh))["outcome"] == "answered"
        assert {(await _row(world, i))["outcome"] for i in waiting} == {"unknown"}
        calls = Counter(invite.number for invite in _invites(world))
        assert len(calls) == 9
        assert set(calls.values()) == {1}


async def test_a_copied_state_dir_is_refused_and_a_lost_one_starts_afresh(tmp_path: Path) -> None:
    async with _world(tmp_path, speed=0.6, RING_SECONDS="8") as world:
        state, copy = world.directory / "state", world.directory / "copy"
        await _until(world, "exists (select from call_adapters where status ->> 'ready' = 'true')")
        shutil.copytree(state, copy)
        await world.daemon.kill()
        await world.daemon.start()
        await _until(world, "exists (select from call_adapters where status ->> 'ready' = 'true' and incarnation = 2)")
        first = world.daemon
        world.daemon = Daemon({**first.settings, "STATE_DIR": str(copy)}, world.directory / "second.log")
        await world.daemon.start()
        assert await asyncio.wait_for(world.daemon.ended(), 20) == 75
        assert "STATE_DIR was copied, or restored" in world.daemon.tail(3)
        world.daemon = first
        rows = await _insert(world, {"phone_number": number("10", 1)}, {"phone_number": number("20", 1)})
        await _until(world, "exists (select from call_queue where status = 'talking')")
        await _until(world, "not exists (select from call_queue where status = 'queued')")

        # Lost with calls in the air: a new identity takes the PBX over and follows what lives there.
        await first.kill()
        shutil.rmtree(state)
        await first.start()
        await _until(world, "2 = (select count(*) from call_adapters)")
        late = await _insert(world, {"phone_number": number("11", 1)})
        await asyncio.sleep(1.5)
        assert (await _row(world, late[0]))["status"] == "queued", "the lease of the lost identity is not over"
        await _take_over_soon(world)
        await _until(world, ALL_DONE)
        outcomes = [(await _row(world, i))["outcome"] for i in (*rows, *late)]
        assert outcomes[0] == "answered"
        assert outcomes[1] in ("no_answer", "no_reply"), "its ringing was seen by the lost identity only"
        assert outcomes[2] == "answered"
        assert set(Counter(invite.number for invite in _invites(world)).values()) == {1}
