"""The doorbell against a server that misbehaves in every known way."""

import asyncio
import contextlib
import functools
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from realtime import RealtimeSubscribeStates

from adapter.supabase_io.config import BellTimings, DoorbellMode, SupabaseConfig
from adapter.supabase_io.doorbell import BellState, Doorbell
from adapter.supabase_io.line import Fault, fault_of
from tests.supabase_io.samples import jwt
from tests.support.realtime_server import (
    SUBSCRIBED,
    OnJoin,
    RealtimeServer,
    Refusal,
    Session,
    realtime_server,
    settle,
    welcome,
)

QUICK = BellTimings(
    connect=1,
    subscribed=0.3,
    close=0.1,
    backoff_first=0.02,
    backoff_most=0.1,
    refused=0.15,
    limited=0.1,
    stable=0.5,
    second_try=0.4,
)
"""The defaults are some hundred times these."""

FOREVER = BellTimings(connect=1, close=0.1, backoff_first=0.01, backoff_most=0.05, deaf_floor=0.1, deaf_most=0.3)
"""Quick to come back, patient otherwise."""


@pytest.fixture
async def server() -> AsyncIterator[RealtimeServer]:
    async with realtime_server() as running:
        yield running


@contextlib.asynccontextmanager
async def ringing(
    server: RealtimeServer,
    mode: DoorbellMode = DoorbellMode.AUTO,
    timings: BellTimings = FOREVER,
    key: str | None = None,
) -> AsyncIterator[Doorbell]:
    """A doorbell that runs, and is gone with all its tasks afterwards."""
    before = asyncio.all_tasks()
    bell = Doorbell(SupabaseConfig(url=server.url, key=key or jwt(), doorbell=mode, bell=timings))
    task = asyncio.create_task(bell.run())
    try:
        yield bell
        assert not task.done(), "the supervisor never ends by itself"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert bell.status.state is BellState.OFF
        left = {each for each in asyncio.all_tasks() - before if "realtime/" in repr(each.get_coro())}
        assert left == set()


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def live(bell: Doorbell) -> None:
    """Wait for the bell to be live."""
    await until(lambda: bell.status.live)


async def rings(bell: Doorbell) -> None:
    """Wait for a ring."""
    async with asyncio.timeout(5):
        await bell.rung.wait()
    bell.rung.clear()


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    """Log lines of one event."""
    return [record for record in caplog.records if record.__dict__.get("event") == event]


# -- as it should be


async def test_one_private_channel_carries_both_bindings(server: RealtimeServer) -> None:
    key = jwt()
    async with ringing(server, key=key) as bell:
        await live(bell)
        (join,) = server.joins
        assert join["topic"] == "realtime:call_queue"
        assert join["join_ref"] == join["ref"]
        assert join["payload"] == {
            "config": {
                "broadcast": {"ack": False, "self": False},
                "presence": {"key": "", "enabled": False},
                "private": True,
                "postgres_changes": [{"event": "INSERT", "schema": "public", "table": "call_queue"}],
            },
            "access_token": key,
        }
        assert server.last.key == key
        status = bell.status
        assert (status.joined, status.changes_live, status.live, status.deaf) == (True, True, True, False)
        assert (status.listens, status.rings, status.problem) == ("broadcast+changes", 0, None)
        bell.rung.clear()
        await server.last.broadcast()
        await rings(bell)
        await server.last.insert()
        await rings(bell)
        assert bell.status.rings == 2


async def test_another_broadcast_on_the_topic_rings_nothing(server: RealtimeServer) -> None:
    async with ringing(server) as bell:
        await live(bell)
        await server.last.broadcast("other")
        await server.last.broadcast("rows")
        await until(lambda: bell.status.rings)
        assert bell.status.rings == 1


async def test_rt_06_each_beginning_asks_for_a_sweep(server: RealtimeServer) -> None:
    async with ringing(server) as bell:
        await rings(bell)
        await live(bell)
        bell.rung.clear()
        await server.last.socket.close(1012)
        await until(lambda: len(server.joins) == 2)
        await rings(bell)
        assert bell.status.rings == 0, "such a ring is ours, not the server's"


async def test_rt_10_joined_is_not_live_until_the_server_says_so(server: RealtimeServer) -> None:
    go = asyncio.Event()

    async def late(session: Session, join: dict[str, Any]) -> None:
        await session.accept(join)
        await go.wait()
        await session.system(SUBSCRIBED)

    server.on_join = late
    async with ringing(server) as bell:
        await until(lambda: bell.status.state is BellState.JOINED)
        assert bell.status.joined
        assert not bell.status.changes_live
        bell.rung.clear()
        await server.last.broadcast()
        await rings(bell)  # Broadcasts work from the join on.
        go.set()
        await live(bell)


async def test_rt_10_no_subscribed_in_time_is_a_new_line(server: RealtimeServer) -> None:
    server.on_join = Session.accept
    async with ringing(server, timings=QUICK) as bell:
        await until(lambda: len(server.joins) >= 3)
        assert "did not say" in str(bell.status.problem)
        gaps = [after - before for before, after in zip(server.upgrades, server.upgrades[1:], strict=False)]
        assert min(gaps) >= QUICK.subscribed
        server.on_join = welcome
        await live(bell)
        assert bell.status.problem is None


@pytest.mark.parametrize(
    ("mode", "private", "bindings", "listens"),
    [(DoorbellMode.BROADCAST, True, 0, "broadcast"), (DoorbellMode.CHANGES, False, 1, "changes")],
)
async def test_each_way_alone(
    server: RealtimeServer, mode: DoorbellMode, private: bool, bindings: int, listens: str
) -> None:
    async with ringing(server, mode) as bell:
        await live(bell)
        config = server.joins[0]["payload"]["config"]
        assert config["private"] is private
        assert len(config["postgres_changes"]) == bindings
        assert bell.status.listens == listens
        assert bell.status.changes_live is bool(bindings)
        bell.rung.clear()
        await (server.last.insert() if bindings else server.last.broadcast())
        await rings(bell)


async def test_off_makes_no_connection(server: RealtimeServer) -> None:
    async with ringing(server, DoorbellMode.OFF) as bell:
        await asyncio.sleep(0.05)
        bell.missed(3)
        assert bell.status.missed == 0
        assert server.upgrades == []


async def test_rt_24_an_opaque_key_is_sent_where_the_gateway_reads_it(server: RealtimeServer) -> None:
    key = "sb_secret_" + secrets.token_urlsafe(24)
    async with ringing(server, key=key) as bell:
        await live(bell)
        assert server.last.key == key


# -- ends of a line


async def close_1012(session: Session) -> None:
    await session.socket.close(1012)


async def close_1000(session: Session) -> None:
    await session.socket.close(1000)


async def cut(session: Session) -> None:
    session.socket.transport.abort()


async def expire(session: Session) -> None:
    await session.system("Token has expired 0 seconds ago", "error", "system")
    await session.shut()


async def shut(session: Session) -> None:
    await session.shut()


async def crash(session: Session) -> None:
    await session.send("phx_error", {"reason": "channel_crash"}, ref=session.joins[-1]["ref"])


async def reload(session: Session) -> None:
    payload = {"message": "Server requested disconnect", "status": "ok", "extension": "system"}
    await session.send("system", payload)
    await session.socket.close(1012)


async def timeouts(session: Session) -> None:
    await session.system('{:error, "Too many database timeouts"}', "error")


async def huge(session: Session) -> None:
    await session.raw("x" * 1_200_000)


@pytest.mark.parametrize(
    "end", [close_1012, close_1000, cut, expire, shut, crash, reload, timeouts, huge], ids=lambda end: end.__name__
)
async def test_rt_05_09_11_19_whatever_ends_a_line_a_new_one_is_made(
    server: RealtimeServer, end: Callable[[Session], Any]
) -> None:
    async with ringing(server) as bell:
        await live(bell)
        await end(server.last)
        await until(lambda: len(server.joins) == 2)
        await live(bell)
        bell.rung.clear()
        await server.last.broadcast()
        await rings(bell)
        await server.last.insert()
        await rings(bell)
        assert [len(session.joins) for session in server.sessions] == [1, 1], "never a second join on one socket"
        assert bell.status.problem is None


async def test_rt_01_an_outage_longer_than_five_tries_is_waited_out(server: RealtimeServer) -> None:
    async with ringing(server) as bell:
        await live(bell)
        await server.stop()
        await until(lambda: bell.status.connects > 12)
        assert not bell.status.joined
        assert "cannot be reached" in str(bell.status.problem)
        await server.start()
        await live(bell)


async def test_rt_03_a_message_that_raises_costs_a_line_not_the_bell(
    server: RealtimeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ringing(server) as bell:
        await live(bell)
        line = bell._line
        assert line is not None
        monkeypatch.setattr(line, "_heard", lambda heard: 1 / 0)
        await server.last.broadcast()
        await until(lambda: len(server.joins) == 2)
        await live(bell)
        bell.rung.clear()
        await server.last.broadcast()
        await rings(bell)


async def test_rt_03_a_reader_that_stopped_is_noticed(server: RealtimeServer) -> None:
    async with ringing(server) as bell:
        await live(bell)
        line = bell._line
        assert line is not None
        reader = line._client._listen_task
        assert reader is not None
        reader.cancel()
        await until(lambda: len(server.joins) == 2)
        await live(bell)


async def hang_up_at_once(session: Session) -> None:
    session.socket.transport.abort()


async def drop_after_join(session: Session, join: dict[str, Any]) -> None:
    await welcome(session, join)
    session.socket.transport.abort()


@pytest.mark.parametrize("when", ["upgrade", "join"])
async def test_rt_04_accept_then_drop_makes_no_hot_loop(server: RealtimeServer, when: str) -> None:
    if when == "upgrade":
        server.on_upgrade = hang_up_at_once
    else:
        server.on_join = drop_after_join
    timings = BellTimings(connect=1, close=0.1, backoff_first=0.05, backoff_most=0.2)
    async with ringing(server, timings=timings):
        await asyncio.sleep(0.8)
        # Full jitter up to 0.05, 0.1, 0.2, 0.2 … s: about ten; the library alone makes some seven hundred.
        assert 2 <= len(server.upgrades) <= 30


async def test_rt_04_only_a_stable_line_starts_the_backoff_afresh(server: RealtimeServer) -> None:
    timings = BellTimings(connect=1, close=0.1, backoff_first=5.0, backoff_most=5.0, stable=0.2)
    async with ringing(server, timings=timings) as bell:
        await live(bell)
        await asyncio.sleep(0.25)
        await server.last.socket.close(1012)
        await until(lambda: len(server.joins) == 2)  # At once, though the first wait is up to 5 s.


# -- refusals


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Refusal(401, '{"error":"Failed to validate JWT signature"}'), "Failed to validate JWT signature"),
        (Refusal(403, ""), "HTTP 403"),
        (Refusal(404, '{"error":"Tenant not found"}'), "no Realtime for this project"),
    ],
)
async def test_rt_07_a_refused_key_is_an_alarm_not_a_loop(
    server: RealtimeServer, caplog: pytest.LogCaptureFixture, refusal: Refusal, words: str
) -> None:
    server.refuse = refusal
    async with ringing(server, timings=QUICK) as bell:
        await until(lambda: len(server.upgrades) == 3)
        assert bell.status.state in (BellState.REFUSED, BellState.CONNECTING)
        assert words in str(bell.status.problem)
        assert server.upgrades[2] - server.upgrades[0] >= 2 * QUICK.refused
        (line,) = lines(caplog, "bell.refused")
        assert line.levelno == logging.ERROR
        server.refuse = None
        await live(bell)
    assert BellTimings().refused >= 60


@pytest.mark.parametrize(
    "reason",
    [
        "JwtSignatureError: Failed to validate JWT signature",
        "MalformedJWT: The token provided is not a valid JWT",
        "InvalidJWTToken: Token has expired 40 seconds ago",
        "InvalidJWTToken: Fields `role` and `exp` are required in JWT",
    ],
)
async def test_a_join_refused_for_the_key_is_an_alarm_not_a_loop(
    server: RealtimeServer, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    async def refuse(session: Session, join: dict[str, Any]) -> None:
        await session.reject(join, reason)

    server.on_join = refuse
    async with ringing(server, timings=QUICK) as bell:
        await until(lambda: len(server.joins) == 2)
        assert server.upgrades[1] - server.upgrades[0] >= QUICK.refused
        assert reason in str(bell.status.problem)
    assert len(lines(caplog, "bell.refused")) == 1


@pytest.mark.parametrize("where", ["upgrade", "join"])
async def test_too_many_is_waited_out(server: RealtimeServer, where: str) -> None:
    async def refuse(session: Session, join: dict[str, Any]) -> None:
        await session.reject(join, "ClientJoinRateLimitReached: Too many joins per second")

    if where == "upgrade":
        server.refuse = Refusal(429, '{"error":"Too many joins per second"}')
    else:
        server.on_join = refuse
    async with ringing(server, timings=QUICK):
        await until(lambda: len(server.upgrades) == 3)
        assert server.upgrades[2] - server.upgrades[0] >= 2 * QUICK.limited


@pytest.mark.parametrize("refusal", [Refusal(500, '{"error":"Error connecting to Realtime"}'), Refusal(200, "<html>")])
async def test_other_answers_are_tried_again_with_backoff(server: RealtimeServer, refusal: Refusal) -> None:
    server.refuse = refusal
    async with ringing(server) as bell:
        await until(lambda: len(server.upgrades) >= 5)
        assert bell.status.state in (BellState.WAITING, BellState.CONNECTING)
        server.refuse = None
        await live(bell)


@contextlib.asynccontextmanager
async def other_server(says: bytes) -> AsyncIterator[RealtimeServer]:
    """Something that says `says` to whoever connects and hangs up, or is silent if that is empty."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        if says:
            writer.write(says)
            writer.close()

    other = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield RealtimeServer(port=other.sockets[0].getsockname()[1])
    finally:
        await settle()
        other.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await other.wait_closed()


async def test_a_server_that_is_none_is_told_and_waited_out() -> None:
    async with other_server(b"SSH-2.0-something\r\n") as other, ringing(other) as bell:
        await until(lambda: bell.status.connects >= 3)
        assert "something other than Realtime" in str(bell.status.problem)


async def test_silence_at_the_upgrade_has_an_end() -> None:
    async with other_server(b"") as other, ringing(other) as bell:
        await until(lambda: bell.status.connects == 2)
        assert "within 1 s" in str(bell.status.problem)


async def test_silence_at_the_join_has_an_end(server: RealtimeServer) -> None:
    async def mute(session: Session, join: dict[str, Any]) -> None:
        session.mute = True

    server.on_join = mute
    async with ringing(server) as bell:
        await until(lambda: bell.status.connects == 2)
        assert "within 1 s" in str(bell.status.problem)


# -- a way of ringing that this project does not have


UNAUTHORIZED = "Unauthorized: You do not have permissions to read from this Channel topic: call_queue"
UNABLE = (
    "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect "
    "parameters: [event: INSERT, schema: public, table: call_queue, filters: [], select: nil]"
)


async def no_private(session: Session, join: dict[str, Any]) -> None:
    if join["payload"]["config"]["private"]:
        await session.reject(join, UNAUTHORIZED)
    else:
        await welcome(session, join)


async def no_changes(session: Session, join: dict[str, Any]) -> None:
    await session.accept(join)
    if join["payload"]["config"]["postgres_changes"]:
        await session.system(UNABLE, "error")


async def wrong_echo(session: Session, join: dict[str, Any]) -> None:
    await session.accept(join, table="Call_Queue")


async def test_auto_rings_by_changes_where_private_channels_are_refused(
    server: RealtimeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.on_join = no_private
    async with ringing(server) as bell:
        await live(bell)
        assert bell.status.listens == "changes"
        assert server.joins[-1]["payload"]["config"]["private"] is False
        assert "do not have permissions" in str(bell.status.problem)
        bell.rung.clear()
        await server.last.broadcast()  # Anybody may send these on a public channel.
        await server.last.insert()
        await rings(bell)
        assert bell.status.rings == 1
    assert [line.levelno for line in lines(caplog, "bell.down")] == [logging.WARNING]


@pytest.mark.parametrize("fault", [no_changes, wrong_echo], ids=["not published", "RT-15 wrong echo"])
async def test_rt_15_auto_rings_by_broadcast_where_changes_cannot_be_had(server: RealtimeServer, fault: OnJoin) -> None:
    server.on_join = fault
    async with ringing(server) as bell:
        await live(bell)
        assert bell.status.listens == "broadcast"
        assert not bell.status.changes_live
        assert bell.status.problem is not None
        bell.rung.clear()
        await server.last.broadcast()
        await rings(bell)


async def test_what_was_refused_is_tried_again_later(server: RealtimeServer) -> None:
    server.on_join = no_private
    async with ringing(server, timings=QUICK) as bell:
        await live(bell)
        server.on_join = welcome
        await until(lambda: bell.status.live and bell.status.listens == "broadcast+changes")
        assert bell.status.problem is None
        assert server.upgrades[-1] - server.upgrades[0] >= QUICK.second_try


async def test_nothing_left_to_ring_with_is_an_alarm(server: RealtimeServer, caplog: pytest.LogCaptureFixture) -> None:
    async def neither(session: Session, join: dict[str, Any]) -> None:
        await (no_private if join["payload"]["config"]["private"] else no_changes)(session, join)

    server.on_join = neither
    timings = BellTimings(connect=1, close=0.1, backoff_first=0.02, refused=0.15)
    async with ringing(server, timings=timings) as bell:
        await until(lambda: len(server.joins) == 3)
        assert "Unable to subscribe" in str(bell.status.problem)
        assert server.upgrades[2] - server.upgrades[1] >= 0.15
    assert len(lines(caplog, "bell.refused")) == 1


@pytest.mark.parametrize(("mode", "fault"), [(DoorbellMode.BROADCAST, no_private), (DoorbellMode.CHANGES, no_changes)])
async def test_a_mode_that_was_asked_for_is_not_left(server: RealtimeServer, mode: DoorbellMode, fault: OnJoin) -> None:
    server.on_join = fault
    async with ringing(server, mode, QUICK) as bell:
        await until(lambda: len(server.joins) == 2)
        assert bell.status.listens == mode.value
        assert server.upgrades[1] - server.upgrades[0] >= QUICK.refused


# -- deaf though connected


async def test_rt_12_a_stalled_server_is_found_out_by_the_sweep(
    server: RealtimeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with ringing(server) as bell:
        await live(bell)
        server.last.mute = True
        bell.missed(2)
        assert bell.status.deaf
        assert "2 rows" in str(bell.status.problem)
        await until(lambda: len(server.joins) == 2)
        await live(bell)
        assert (bell.status.missed, bell.status.rebuilds) == (2, 1)
        assert bell.status.deaf, "nothing has rung yet"
        await server.last.broadcast()
        await until(lambda: not bell.status.deaf)
        assert bell.status.problem is None
    assert len(lines(caplog, "bell.deaf")) == 1
    assert len(lines(caplog, "bell.hears")) == 1


async def test_rt_12_a_bell_that_stays_deaf_is_rebuilt_ever_more_seldom(
    server: RealtimeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with ringing(server) as bell:
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.85
        while loop.time() < end:
            await live(bell)
            bell.missed(1)
            await asyncio.sleep(0.01)
        # At 0, 0.1, 0.3, 0.6 s: the floor is 0.1 s, doubles, and is 0.3 s at most.
        assert 3 <= bell.status.rebuilds <= 4
        assert len(server.upgrades) <= 5
        assert bell.status.missed > bell.status.rebuilds
    assert len(lines(caplog, "bell.deaf")) == 1
    assert BellTimings().deaf_floor >= 60


async def test_rows_missed_while_down_say_nothing_about_the_bell(server: RealtimeServer) -> None:
    server.refuse = Refusal(500)
    async with ringing(server) as bell:
        await until(lambda: bell.status.connects > 1)
        bell.missed(5)
        assert (bell.status.missed, bell.status.deaf) == (0, False)


# -- frames


async def test_rt_20_garbage_is_survived_and_counted(server: RealtimeServer, caplog: pytest.LogCaptureFixture) -> None:
    async with ringing(server) as bell:
        await live(bell)
        for frame in (
            "",
            "not json",
            "[]",
            '["1","1","realtime:call_queue","insert",{}]',
            '{"topic":"realtime:call_queue"}',
        ):
            await server.last.raw(frame)
        await server.last.raw(b"\x00\xff")
        await server.last.send("surprise", {"phone": "+60 12-345 6701"})
        await server.last.insert(columns=None, record={"phone_number": "+60 12-345 6702"})
        bell.rung.clear()
        await server.last.broadcast()
        await rings(bell)
        assert bell.status.unreadable == 8
        assert len(server.sessions) == 1
    assert "345" not in caplog.text, "RT-17: the library prints such frames whole"


async def test_rt_18_an_incomplete_row_rings_like_any_other(server: RealtimeServer) -> None:
    async with ringing(server) as bell:
        await live(bell)
        bell.rung.clear()
        await server.last.insert(errors=["Error 413: Payload Too Large"], record={"id": 3})
        await rings(bell)
        await server.last.insert(record=None)
        await rings(bell)


async def test_rt_17_a_row_that_the_key_may_not_see_rings_and_is_told(server: RealtimeServer) -> None:
    async with ringing(server) as bell:
        await live(bell)
        bell.rung.clear()
        # As a real server sends it; the library cannot read it, for the time stamp is null.
        await server.last.insert(errors=["Error 401: Unauthorized"], record={}, columns=[], commit_timestamp=None)
        await rings(bell)
        await until(lambda: bell.status.live and bell.status.listens == "broadcast")
        assert "install.sql" in str(bell.status.problem)


async def test_rt_22_a_burst_is_one_ring_for_who_waits(server: RealtimeServer) -> None:
    async with ringing(server) as bell:
        await live(bell)
        bell.rung.clear()
        for _ in range(500):
            await server.last.insert()
        await until(lambda: bell.status.rings == 500)
        await rings(bell)
        assert not bell.rung.is_set()


async def test_subscribed_said_again_changes_nothing(server: RealtimeServer) -> None:
    async with ringing(server) as bell:
        await live(bell)
        since = bell.status.since
        await server.last.system(SUBSCRIBED)
        await server.last.broadcast()
        await until(lambda: bell.status.rings)
        assert bell.status.since == since
        assert len(server.joins) == 1


# -- nothing left behind


async def test_rt_26_a_socket_that_does_not_close_is_cut(server: RealtimeServer) -> None:
    async with ringing(server) as bell:
        await live(bell)
        # The server reads nothing any more, so it never answers the close.
        server.last.socket.transport.pause_reading()
        assert bell._line is not None
        socket = bell._line._socket()
        assert socket is not None
        loop = asyncio.get_running_loop()
        started = loop.time()
    assert loop.time() - started < 1.0
    assert socket.transport.is_closing()


async def test_rt_26_calls_of_a_closed_line_change_nothing(server: RealtimeServer) -> None:
    async with ringing(server) as bell:
        await live(bell)
        old = bell._line
        assert old is not None
        await server.last.socket.close(1012)
        await until(lambda: len(server.joins) == 2)
        await live(bell)
        bell.rung.clear()
        for state in RealtimeSubscribeStates:
            old._on_state(state, Exception("late"))
        old._channel.broadcast_callbacks[0]({"event": "rows", "payload": {}})
        old.unreadable("Unrecognized message format Error 401")
        await asyncio.sleep(0.05)
        assert bell.status.live
        assert (bell.status.rings, bell.rung.is_set(), len(server.joins)) == (0, False, 2)


async def test_rt_05_many_lines_leave_no_tasks(server: RealtimeServer) -> None:
    def joined(times: int) -> bool:
        return len(server.joins) == times

    async with ringing(server) as bell:
        await live(bell)
        before = len(asyncio.all_tasks())
        for number in range(30):
            server.last.socket.transport.abort()
            await until(functools.partial(joined, number + 2))
            await live(bell)
        assert len(asyncio.all_tasks()) <= before + 2


@pytest.mark.parametrize("state", [BellState.CONNECTING, BellState.JOINED, BellState.LIVE, BellState.WAITING])
async def test_stopping_is_quick_in_every_state(server: RealtimeServer, state: BellState) -> None:
    never = asyncio.Event()

    async def silent(session: Session, join: dict[str, Any]) -> None:
        await never.wait()

    if state is BellState.CONNECTING:
        server.on_join = silent
    elif state is BellState.JOINED:
        server.on_join = Session.accept
    elif state is BellState.WAITING:
        server.refuse = Refusal(500)
    loop = asyncio.get_running_loop()
    async with ringing(server, timings=BellTimings()) as bell:
        await until(lambda: bell.status.state is state and server.upgrades)
        started = loop.time()
    assert loop.time() - started < 1.0
    never.set()


@pytest.mark.parametrize("refusal", [None, Refusal(500)])
async def test_no_instant_swallows_a_cancellation(server: RealtimeServer, refusal: Refusal | None) -> None:
    server.refuse = refusal
    server.on_join = drop_after_join
    timings = BellTimings(connect=1, close=0.1, backoff_first=0.001, backoff_most=0.002)
    for number in range(100):
        async with asyncio.timeout(5), ringing(server, timings=timings):
            await asyncio.sleep(number * 0.0002)


async def test_rt_25_neither_the_key_nor_a_row_reaches_a_log(
    server: RealtimeServer, caplog: pytest.LogCaptureFixture
) -> None:
    key = jwt()
    with caplog.at_level(logging.DEBUG):
        async with ringing(server, key=key) as bell:
            await live(bell)
            await server.last.insert()
            await until(lambda: bell.status.rings)
            await server.last.socket.close(1012)
            server.refuse = Refusal(401, key)
            await until(lambda: bell.status.state is BellState.REFUSED)
            assert key not in str(bell.status.problem)
    theirs = [record for record in caplog.records if record.name.startswith("websockets.server")]
    assert key not in "\n".join(record.getMessage() for record in caplog.records if record not in theirs)
    assert "345" not in caplog.text


@pytest.mark.parametrize(
    ("words", "joined", "private", "fault"),
    [
        (UNAUTHORIZED, False, True, Fault.PRIVATE),
        (UNAUTHORIZED, False, False, Fault.KEY),
        ("Token has expired 0 seconds ago", True, True, Fault.LOST),
        (":signature_error", False, False, Fault.KEY),
        ('{:error, "Too many database timeouts"}', True, True, Fault.LOST),
        ("ChannelRateLimitReached: Too many channels", False, True, Fault.LIMITED),
        ("Too many messages per second", True, True, Fault.LIMITED),
        (UNABLE, True, True, Fault.CHANGES),
        ("UnknownErrorOnChannel: any long text", False, True, Fault.LOST),
        ("DatabaseConnectionRateLimitReached", False, True, Fault.LIMITED),
        ("RealtimeRestarting: try again", False, True, Fault.LOST),
    ],
)
def test_the_servers_words_have_one_meaning_each(words: str, joined: bool, private: bool, fault: Fault) -> None:
    assert fault_of(words, joined=joined, private=private) is fault
