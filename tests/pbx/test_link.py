"""The supervised link: what it tells, in which order, and how it comes back."""

import asyncio
import logging
import socket
from dataclasses import replace

import pytest

from adapter.pbx import Down, Event, PbxLink, Up
from adapter.pbx import link as link_module
from adapter.pbx.guards import Guards
from tests.pbx.helpers import FAST, config, events, linked, next_of, order, running, until
from tests.support.ami_server import AmiServer, call_event, leg


async def test_up_tells_what_is_alive_and_when_the_pbx_was_started() -> None:
    async with AmiServer.started() as pbx:
        pbx.channels = [leg("call-a"), leg("call-b", state="5", duration="100:00:01", number=8)]
        async with running(pbx) as link:
            up = await link.messages.get()
            assert isinstance(up, Up)
            assert (up.session, up.boot, up.version) == (1, "2026-03-01 08:15:00", "22.10.1")
            first, second = up.channels
            assert (first.linkedid, first.up, first.duration, first.application) == ("call-a", True, 65, "AppDial2")
            assert (second.uniqueid, second.up, second.duration) == ("call-b", False, 360_001)
            await until(lambda: link.status.ready)
            assert (link.status.boot, link.status.version) == (up.boot, up.version)


async def test_events_of_the_resync_follow_its_up_in_order() -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.with_list = [call_event("Newchannel", "a"), call_event("Hangup", "a")]
        async with running(pbx) as link:
            assert isinstance(await link.messages.get(), Up)
            await until(lambda: link.status.ready)
            await pbx.emit(call_event("Newstate", "b"))
            names = [e.event.name for e in await events(link, 4)]
            assert names == ["FullyBooted", "Newchannel", "Hangup", "Newstate"]


async def test_every_session_is_told_once_and_in_order() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        told: list[object] = []
        for n in range(5):
            await pbx.emit(call_event("Newstate", f"call-{n}"))
            await events(link, 1, "Newstate")
            pbx.connections[-1].reset()
            told.append(await link.messages.get())
            told.append(await link.messages.get())
            await until(lambda: link.status.ready)
        assert [type(message) for message in told] == [Down, Up] * 5
        sessions = [message.session for message in told if isinstance(message, Down | Up)]
        assert sessions == sorted(sessions)


async def test_down_is_told_only_after_up() -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.denied.add("CoreShowChannels")
        async with running(pbx, timings=replace(FAST, refused=0.05)) as link:
            await pbx.wait_for("Login", 3)
            assert link.messages.empty()
            assert "write right 'reporting'" in (link.status.problem or "")


async def test_a_restarted_pbx_has_another_boot() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        before = link.status.boot
        await pbx.stop()
        await next_of(link, Down)
        assert link.status.boot == before  # Still what we last knew.
        assert not link.status.connected
        pbx.boot = ("2026-03-01", "09:00:00")
        await pbx.listen()
        assert (await next_of(link, Up)).boot == "2026-03-01 09:00:00"
        assert link.status.boot == "2026-03-01 09:00:00"


async def test_a_loss_after_a_stable_time_is_mended_at_once() -> None:
    slow = replace(FAST, stable=0.05, backoff_first=60.0, backoff_most=60.0)
    async with AmiServer.started() as pbx, linked(pbx, timings=slow) as link:
        for _ in range(3):
            await asyncio.sleep(0.06)
            pbx.connections[-1].reset()
            await next_of(link, Down)
            await next_of(link, Up)


async def test_a_loss_soon_after_the_connect_is_not_hammered() -> None:
    slow = replace(FAST, backoff_first=1e6, backoff_most=1e6)
    async with AmiServer.started() as pbx, linked(pbx, timings=slow) as link:
        pbx.connections[-1].reset()
        await next_of(link, Down)
        await asyncio.sleep(0.1)
        assert len(pbx.connections) == 1


async def test_a_consumer_too_far_behind_costs_the_session_but_no_event_of_it() -> None:
    async with AmiServer.started() as pbx, linked(pbx, queue_bound=100) as link:
        await pbx.emit(*(call_event("Newstate", f"{n}") for n in range(300)))
        await until(lambda: not link.status.connected)
        await until(lambda: "not being consumed" in (link.status.problem or ""))
        seen: list[str] = []
        while not isinstance(message := await link.messages.get(), Down):
            if isinstance(message, Event) and message.event.name == "Newstate":
                seen.append(message.event.get("Linkedid"))
        assert 50 < len(seen) <= 100
        assert seen == [f"{n}" for n in range(len(seen))]  # Whole up to the Down; the next Up says the rest.
        assert "consumer" in message.reason
        assert isinstance(await next_of(link, Up), Up)
        await until(lambda: link.status.ready)


async def test_an_outage_is_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="adapter")
    async with AmiServer.started() as pbx, linked(pbx) as link:
        await pbx.stop()
        await until(lambda: "unreachable" in (link.status.problem or ""))
        await asyncio.sleep(0.2)
        await pbx.listen()
        await next_of(link, Up)
        await until(lambda: link.status.ready)
        lines = [getattr(record, "event", "") for record in caplog.records]
        assert lines == ["pbx.up", "pbx.ready", "pbx.down", "pbx.down", "pbx.up", "pbx.ready"]


async def test_the_time_of_the_last_change_of_readiness_is_kept() -> None:
    now = [1000.0]
    async with AmiServer.started() as pbx:
        link = PbxLink(config(pbx), FAST, clock=lambda: now[0])
        task = asyncio.create_task(link.run())
        now[0] = 1001.0
        await until(lambda: link.status.ready)
        assert link.status.since == 1001.0
        now[0] = 1002.0
        del pbx.variables["DIALPLAN_EXISTS(applications,999,1)"]
        await until(lambda: not link.status.ready)
        assert link.status.since == 1002.0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_dead_peer_shows_and_nothing_outlives_the_connection() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        assert link._session is not None
        wire = link._session._shot.wire
        assert wire is not None
        sock = wire.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == b"\x01\0\0\0\0\0\0\0"


async def test_an_error_of_this_program_ends_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> Guards:
        raise ZeroDivisionError

    monkeypatch.setattr(link_module, "look", broken)
    async with AmiServer.started() as pbx:
        link = PbxLink(config(pbx), FAST)
        async with asyncio.timeout(5):
            with pytest.raises(ZeroDivisionError):
                await link.run()
        assert [type(link.messages.get_nowait()) for _ in range(3)] == [Up, Event, Down]


async def test_a_stopped_link_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    async with AmiServer.started() as pbx:
        async with linked(pbx) as link:
            await link.originate(order())
        assert not link.status.ready
        assert link.status.problem == "connection to the PBX lost: the link is being closed"
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() <= before


async def test_legs_are_counted_by_events_and_made_right_by_a_list_now_and_then() -> None:
    leg = [("Channel", "PJSIP/SIP-PEOPLE-00000001")]
    async with AmiServer.started() as pbx:
        link = PbxLink(config(pbx, guard_seconds=0.02), replace(FAST, legs=0.2))
        task = asyncio.create_task(link.run())
        try:
            await until(lambda: link.status.ready)
            await pbx.emit(call_event("Newchannel", "a", *leg))
            await until(lambda: link.legs.foreign(())["SIP-PEOPLE"] == 1)
            assert link.legs.foreign({"a"})["SIP-PEOPLE"] == 0
            await until(lambda: not link.legs.foreign(()))  # The list knows of no such leg.
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
