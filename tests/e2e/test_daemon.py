"""The daemon as a process, a real PostgreSQL behind the local gateway, a simulated MikoPBX: from row to log.

The witness is the carrier's side of the PBX: every INVITE it was sent.
"""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from adapter.sandbox.gateway.faults import Forward, lose
from adapter.sandbox.mikopbx import SimulatedPbx
from adapter.sandbox.scenarios import SCENARIOS, number
from adapter.sandbox.world import World

USER = "00000000-0000-4000-8000-00000000aaaa"

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def _world(tmp_path: Path, *, speed: float = 5.0, **settings: str) -> AsyncIterator[World]:
    defaults = {"SWEEP_SECONDS": "1", "CALLS_PER_SECOND": "50", "LOG_FORMAT": "json"}
    async with World.started(speed=speed, directory=tmp_path, settings={**defaults, **settings}) as world:
        yield world


def _pbx(world: World) -> SimulatedPbx:
    return cast("SimulatedPbx", world.pbx)


async def _queue(world: World, code: str, count: int = 1, *, first: int = 0, **more: Any) -> list[int]:
    rows = [{"user_id": USER, "phone_number": number(code, first + i), **more} for i in range(count)]
    return await world.queue(rows)


async def _rows(world: World) -> list[dict[str, Any]]:
    return [dict(row) for row in await world.pool.fetch("select * from call_queue order by id")]


async def _logs(world: World) -> list[dict[str, Any]]:
    logs = [dict(row) for row in await world.pool.fetch("select * from call_logs order by start_time, id")]
    return [{**log, "metadata": json.loads(log["metadata"] or "{}")} for log in logs]


async def _until(world: World, condition: str, seconds: float = 60.0) -> None:
    """Wait until this is true in the database; on failure show what the daemon said last."""
    try:
        async with asyncio.timeout(seconds):
            while not await world.pool.fetchval(f"select {condition}"):
                await asyncio.sleep(0.05)
                # The ten seconds in which the AI may still have its say have tests of their own (tests/supabase).
                await world.pool.execute(HASTEN)
    except TimeoutError:
        rows = [{k: r[k] for k in ("id", "status", "outcome", "ended_reason")} for r in await _rows(world)]
        raise AssertionError(f"not in {seconds} s: {condition}\n{rows}\n{world.daemon.tail(40)}") from None


HASTEN = "update call_queue set settle_at = now() where settle_at > now()"

ALL_DONE = "not exists (select from call_queue where status not in ('done', 'canceled'))"


def _events(world: World) -> list[str]:
    return [json.loads(line)["event"] for line in world.daemon.log.read_text().splitlines() if line.startswith("{")]


def _invites(world: World) -> Counter[str]:
    return Counter(call.call_id for call in _pbx(world).calls)


def _assert_no_call_id_twice(world: World, logs: Sequence[dict[str, Any]]) -> None:
    """One INVITE for each call id. A call that was tried again has lost its log row, but all others had an INVITE."""
    invites = _invites(world)
    assert all(count == 1 for count in invites.values())
    assert {log["call_id"] for log in logs if log["metadata"]["outcome"] not in ("blocked", "unknown")} <= set(invites)


async def test_every_scenario_ends_as_its_callee_wanted(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await world.queue([{"user_id": USER, "phone_number": number(s.code, 1)} for s in SCENARIOS])
        await _until(world, ALL_DONE)
        rows, logs = await _rows(world), await _logs(world)
        assert [row["outcome"] for row in rows] == [str(s.outcome) for s in SCENARIOS]
        by_call = {log["call_id"]: log for log in logs}
        for row in rows:
            log = by_call[str(row["call_id"])]
            assert log["metadata"]["outcome"] == row["outcome"]
            assert log["metadata"]["ended_reason"] == row["ended_reason"]
            assert log["duration"] is not None
            assert log["status"] in ("answered", "no_answered", "failed")
            assert log["phone_number"].startswith("011")
        _assert_no_call_id_twice(world, logs)
        text = world.daemon.log.read_text()
        for secret in (world.gateway.service_role_key, world.pbx.password):
            assert secret not in text
        for row in rows:
            assert row["phone_number"].lstrip("+") not in text


async def test_a_call_is_followed_while_it_lives(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await _queue(world, "12")
        await _until(world, "exists (select from call_queue where status = 'dialing')")
        await _until(world, "exists (select from call_logs where status = 'initiated')")
        await _until(world, "exists (select from call_queue where status = 'talking')")
        await _until(world, "exists (select from call_logs where status = 'answered' and duration is null)")
        await _until(world, "exists (select from call_logs where status = 'answered' and duration is not null)")
        await _until(world, ALL_DONE)


async def test_sigterm_stops_within_the_drain_and_calls_go_on(tmp_path: Path) -> None:
    # In real time these talk for four seconds; the first call of a connection holds the others back for one.
    async with _world(tmp_path, speed=1.0) as world:
        await _queue(world, "12", 5)
        await _until(world, "5 = (select count(*) from call_queue where status = 'talking' and outcome is null)")
        assert await world.daemon.stop(seconds=9) == 0
        assert len([call for call in _pbx(world).calls if call.ended is None]) == 5
        await _queue(world, "10", 3, first=50)
        await world.daemon.start()
        await _until(world, ALL_DONE)
        rows, logs = await _rows(world), await _logs(world)
        assert {row["outcome"] for row in rows} == {"answered"}
        assert len(world.pbx.calls) == 8
        _assert_no_call_id_twice(world, logs)


async def test_sigkill_rings_nobody_twice_and_leaves_no_row(tmp_path: Path) -> None:
    async with _world(tmp_path, CALLS_PER_SECOND="20") as world:
        await _queue(world, "10", 40)
        for _ in range(4):
            await asyncio.sleep(0.7)
            await world.daemon.kill()
            await world.daemon.start()
        await _until(world, ALL_DONE, 90)
        rows, logs = await _rows(world), await _logs(world)
        _assert_no_call_id_twice(world, logs)
        # A person is called again only where the last call cannot have rung.
        assert all(count == 1 for count in Counter(call.number for call in world.pbx.calls).values())
        assert {row["outcome"] for row in rows} <= {"answered", "unknown"}
        called = {call.number for call in world.pbx.calls}
        assert all(row["e164"].lstrip("+") in called for row in rows if row["outcome"] == "answered")


async def test_a_second_signal_leaves_at_once(tmp_path: Path) -> None:
    async with _world(tmp_path, DRAIN_SECONDS="60") as world:
        await _until(world, "exists (select from call_adapters where status ->> 'ready' = 'true')")
        world.gateway.http_fault = _hang
        await asyncio.sleep(1.5)
        process = world.daemon._process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert world.daemon.running
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(world.daemon.ended(), 5) == 130


async def _hang(_request: web.Request, _forward: Forward) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError("nobody waits an hour")


async def test_no_call_goes_into_a_void(tmp_path: Path) -> None:
    """Promise 7: while the AI extension is not there nothing is claimed; when it is back the row is dialed."""
    async with _world(tmp_path) as world:
        pbx = _pbx(world)
        pbx.applications.clear()
        pbx.reload()
        await _until(world, "exists (select from call_adapters where status ->> 'problem' is not null)")
        await _queue(world, "10", 2)
        await asyncio.sleep(2.5)
        assert {row["status"] for row in await _rows(world)} == {"queued"}
        assert not pbx.calls
        pbx.applications.add(pbx.ai_extension)
        pbx.reload()
        await _until(world, ALL_DONE)
        assert len(pbx.calls) == 2


async def test_rows_are_dialed_though_realtime_is_deaf(tmp_path: Path) -> None:
    """Promise 8: the bell is a hint; the sweep finds the rows, the heartbeat says so, and the link is rebuilt."""
    async with _world(tmp_path) as world:
        await _until(world, "exists (select from call_adapters where status ->> 'ready' = 'true')")
        await _until(world, f"exists (select from call_adapters where {BELL} ->> 'state' = 'live')")
        world.gateway.deaf = True
        for first in range(3):  # A row that meets the sweep of the bell's own beginning proves nothing.
            await _queue(world, "21", first=first)
            await _until(world, ALL_DONE)
        assert len(world.pbx.calls) == 3
        await _until(world, f"exists (select from call_adapters where ({BELL} ->> 'deaf')::boolean)")
        await _until(world, f"exists (select from call_adapters where {BELL} ->> 'problem' like '%silent%')")
        world.gateway.deaf = False
        await _queue(world, "21", first=9)
        healed = f"{BELL} ->> 'state' = 'live' and {BELL} ->> 'problem' is null"
        await _until(world, f"exists (select from call_adapters where {healed})")
        assert _events(world).count("bell.deaf") == _events(world).count("bell.hears") == 1


BELL = "(status -> 'doorbell')"


async def test_outcomes_survive_an_outage_of_supabase_and_a_kill(tmp_path: Path) -> None:
    """Promise 3: what reached the outbox is stored, through an outage and through a crash."""
    async with _world(tmp_path) as world:
        await _queue(world, "10", 3)
        await _until(world, "3 = (select count(*) from call_queue where status = 'dialing')")
        world.gateway.http_fault = _away
        async with asyncio.timeout(30):
            while sum(call.ended is not None for call in _pbx(world).calls) < 3:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        await world.daemon.kill()
        world.gateway.http_fault = None
        await world.daemon.start()
        await _until(world, ALL_DONE)
        rows = await _rows(world)
        assert {row["outcome"] for row in rows} == {"answered"}
        assert len(world.pbx.calls) == 3


async def _away(request: web.Request, _forward: Forward) -> web.StreamResponse:
    return lose(request)


async def test_a_restart_of_the_pbx_ends_calls_honestly(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await _queue(world, "12", 1)
        await _queue(world, "20", 1)
        await _until(world, "exists (select from call_queue where status = 'talking')")
        await _pbx(world).restart()
        await _until(world, ALL_DONE)
        talking, ringing = await _rows(world)
        assert talking["outcome"] == "answered"
        assert ringing["outcome"] == "unknown"
        assert len(world.pbx.calls) == 2


async def test_a_canceled_call_is_hung_up(tmp_path: Path) -> None:
    async with _world(tmp_path, RING_SECONDS="60") as world:
        (row,) = await _queue(world, "20")
        await _until(world, "exists (select from call_queue where status = 'dialing')")
        answer = await world.http.post("/rest/v1/rpc/call_cancel_v1", json={"p_row": row, "p_reason": "called back"})
        assert answer.is_success
        await _until(world, ALL_DONE)
        (ended,) = await _rows(world)
        assert ended["outcome"] == "canceled"
        (log,) = await _logs(world)
        assert log["status"] == "failed"


async def test_bad_rows_end_with_a_reason_and_good_ones_are_dialed(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        bad = ["12", "not a number", "", "999", "+60 11", "0" * 40]
        await world.queue([{"user_id": USER, "phone_number": text} for text in bad])
        await _queue(world, "10", first=77, caller_id="1\r\nAction: Originate")
        await _queue(world, "10", first=78, variables={"CALLERID(num)": "1"})
        await _queue(world, "10", first=79, customer_name='A,"b"\r\nc 🙂', variables={"x": "1"})
        await _until(world, ALL_DONE)
        rows = await _rows(world)
        assert [row["outcome"] for row in rows[:-1]] == ["blocked"] * (len(bad) + 2)
        assert all(row["ended_reason"] for row in rows)
        assert rows[-1]["outcome"] == "answered"
        assert len(world.pbx.calls) == 1
        assert Counter(log["status"] for log in await _logs(world)) == {"failed": len(bad) + 2, "answered": 1}


async def test_a_second_daemon_on_the_same_state_dir_is_refused(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        await _until(world, "exists (select from call_adapters where status ->> 'ready' = 'true')")
        first = world.daemon._process
        await world.daemon.start()
        assert await asyncio.wait_for(world.daemon.ended(), 20) == 75
        assert "STATE_DIR" in world.daemon.tail(3)
        world.daemon._process = first
        await _queue(world, "30")
        await _until(world, ALL_DONE)


async def test_a_wrong_ami_secret_is_said_and_nothing_is_claimed(tmp_path: Path) -> None:
    async with _world(tmp_path, MIKOPBX_AMI_PASSWORD="wrong-secret-of-a-test") as world:
        await _queue(world, "10")
        await asyncio.sleep(4)
        (row,) = await _rows(world)
        assert row["status"] == "queued"
        assert _events(world).count("pbx.down") == 1
        assert "wrong-secret-of-a-test" not in world.daemon.log.read_text()


@pytest.mark.parametrize("key", ["SUPABASE_SECRET_KEY"])
async def test_the_new_kind_of_key_works(tmp_path: Path, key: str) -> None:
    async with World.started(speed=5.0, directory=tmp_path, daemon=False) as world:
        del world.daemon.settings["SUPABASE_SERVICE_ROLE_KEY"]
        world.daemon.settings[key] = world.gateway.secret_key
        await world.daemon.start()
        await _queue(world, "30")
        await _until(world, ALL_DONE)


async def test_a_row_inserted_while_the_daemon_is_down_is_dialed_at_its_start(tmp_path: Path) -> None:
    async with World.started(speed=5.0, directory=tmp_path, daemon=False) as world:
        await _queue(world, "30", 2)
        await world.daemon.start()
        await _until(world, ALL_DONE)
        assert {row["outcome"] for row in await _rows(world)} == {"busy"}
