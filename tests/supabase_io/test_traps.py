"""One test per trap of the Supabase libraries that has none beside what it belongs to (test_doorbell, test_database).

Each runs against a server on a socket: a websocket server, a REST server, a proxy, or the local gateway.
"""

import asyncio
import contextlib
import functools
import inspect
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import realtime._async.client as realtime_client
import websockets.asyncio.client as websockets_client
from tenacity import AsyncRetrying, RetryCallState

from adapter.core.model import ReleaseCause, ReleaseRecord
from adapter.sandbox.gateway import Gateway
from adapter.sandbox.gateway.limits import Limits
from adapter.supabase_io.config import HttpTimings, SupabaseConfig
from adapter.supabase_io.database import Database, DatabaseAway, DatabaseRefused, SyncRequest
from adapter.supabase_io.doorbell import Doorbell
from adapter.supabase_io.line import Heard, Line
from adapter.supabase_io.outbox import Outbox
from adapter.ticker import Tick, Ticker
from tests.supabase_io.http_server import Answer, FaultyRest, Request, faulty_rest
from tests.supabase_io.samples import accepted, jwt, new_id, reply
from tests.supabase_io.test_doorbell import FOREVER, live, ringing, rings, until
from tests.support.doubles import SilentBell
from tests.support.realtime_server import RealtimeServer, realtime_server

ADAPTER = new_id()
QUICK = HttpTimings(connect=1.0, read=0.3, write=1.0, pool=0.2, total=2.0)


@pytest.fixture
async def server() -> AsyncIterator[RealtimeServer]:
    async with realtime_server() as running:
        yield running


@pytest.fixture
async def rest() -> AsyncIterator[FaultyRest]:
    async with faulty_rest() as running:
        yield running


@contextlib.asynccontextmanager
async def registered(url: str, timings: HttpTimings = QUICK, key: str | None = None) -> AsyncIterator[Database]:
    """A database that may `sync`."""
    async with Database(SupabaseConfig(url=url, key=key or jwt(), http=timings)) as database:
        found = await database.register(adapter=ADAPTER, expected=0, nonce=new_id(), pbx="pbx", info={})
        assert found.accepted
        yield database


def functions(request: Request) -> Answer:
    """What a healthy project answers."""
    return Answer(body=accepted() if request.path.endswith("call_register_v1") else reply())


# -- Realtime


def test_rt_02_waits_stay_bounded_after_days_of_outage() -> None:
    bell = Doorbell(SupabaseConfig(url="http://127.0.0.1:9", key=jwt()))
    for attempt in (1, 20, 1024, 1025, 100_000):
        state = RetryCallState(retry_object=AsyncRetrying(), fn=None, args=(), kwargs={})
        state.attempt_number = attempt
        assert 0 <= bell._wait(state) <= 30


async def test_rt_08_each_try_has_a_client_and_a_channel_of_its_own(
    server: RealtimeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Line] = []
    original = Line.__init__

    def noted(line: Line, *args: Any, **more: Any) -> None:
        original(line, *args, **more)
        made.append(line)

    monkeypatch.setattr(Line, "__init__", noted)
    async with ringing(server) as bell:
        for count in (1, 2, 3):
            await until(lambda: len(server.joins) == count)  # noqa: B023 - awaited within the round
            await live(bell)
            await server.last.socket.close(1012)
        await until(lambda: len(server.joins) == 4)
    assert len({id(line._client) for line in made}) == len({id(line._channel) for line in made}) == len(made) >= 4
    assert [len(session.joins) for session in server.sessions] == [1] * len(server.sessions)


@dataclass(slots=True)
class Wire:
    """A way to `port` that can go dead without a word, as a router that lost its table does (half-open)."""

    url: str
    dead: bool = False
    connections: int = 0


@contextlib.asynccontextmanager
async def wire_to(port: int) -> AsyncIterator[Wire]:
    """Forwards until `dead`; connections made while dead are new ones, and get through."""
    wire = Wire("")
    tasks: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if not (wire.dead and number == 1):
                    writer.write(data)
        if not (wire.dead and number == 1):
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire.connections += 1
        number = wire.connections
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        for way in (pipe(reader, far_writer, number), pipe(far_reader, writer, number)):
            task = asyncio.create_task(way)
            tasks.add(task)
            task.add_done_callback(lambda _: writer.close())
            task.add_done_callback(lambda _: far_writer.close())

    relay = await asyncio.start_server(accept, "127.0.0.1", 0)
    wire.url = f"http://127.0.0.1:{relay.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        relay.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await relay.wait_closed()


async def test_rt_13_a_half_open_connection_is_found_and_replaced(
    server: RealtimeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = inspect.signature(websockets_client.connect.__init__).parameters
    detection = [ways[name].default for name in ("ping_interval", "ping_timeout", "close_timeout")]
    assert sum(detection) <= 60, "within a minute, and the sweep dials meanwhile"
    # The library passes none of them on, so the test shortens them where it takes them from.
    quick = functools.partial(websockets_client.connect, ping_interval=0.1, ping_timeout=0.1, close_timeout=0.1)
    monkeypatch.setattr(realtime_client, "connect", quick)
    async with wire_to(server.port) as wire:
        relayed = RealtimeServer(port=int(wire.url.rsplit(":", 1)[1]))
        async with ringing(relayed) as bell:
            await live(bell)
            wire.dead = True
            await until(lambda: len(server.joins) == 2)
            await live(bell)
            bell.rung.clear()
            await server.last.broadcast()
            await rings(bell)


async def test_rt_14_heartbeats_come_at_once_and_well_within_the_servers_patience(server: RealtimeServer) -> None:
    async with ringing(server) as bell:
        await live(bell)
        await until(lambda: server.last.heartbeats)
        assert bell._line is not None
        # Realtime cuts a client that was silent for 60 s; the library never beats faster than every 15 s.
        assert 15 <= bell._line._client.hb_interval <= 30


async def test_rt_16_rt_23_what_the_library_calls_is_sync_and_runs_in_the_loops_thread(server: RealtimeServer) -> None:
    async with ringing(server) as bell:
        await live(bell)
        line = bell._line
        assert line is not None
        threads: set[int] = set()
        heard = line._heard

        def noted(what: Heard) -> None:
            threads.add(threading.get_ident())
            heard(what)

        line._heard = noted
        channel = line._channel
        called = [*channel.broadcast_callbacks, *channel.system_callbacks, *channel.postgres_changes_callbacks]
        assert len(called) == 3
        assert not any(inspect.iscoroutinefunction(getattr(each, "callback", each)) for each in called)
        await server.last.broadcast()
        await server.last.insert()
        await until(lambda: bell.status.rings == 2)
        assert threads == {threading.get_ident()}


@dataclass(slots=True)
class Proxy:
    """A web proxy: what it was asked for."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    refuses: bool = False


@contextlib.asynccontextmanager
async def proxy_of(target: Callable[[str], int]) -> AsyncIterator[Proxy]:
    """Tunnels every CONNECT, and passes every plain request, to the port that `target` names for the first line."""
    proxy = Proxy()
    tasks: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line = head.split(b"\r\n", 1)[0].decode()
        proxy.asked.append(line)
        if proxy.refuses:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target(line))
        if line.startswith("CONNECT "):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            far_writer.write(head)
        for way in (pipe(reader, far_writer), pipe(far_reader, writer)):
            task = asyncio.create_task(way)
            tasks.add(task)

    running = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        running.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await running.wait_closed()


PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "WS_PROXY", "WSS_PROXY", "SOCKS_PROXY")


def environment(monkeypatch: pytest.MonkeyPatch, **proxies: str) -> None:
    """Only these proxy variables are set."""
    for name in PROXY_NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)


async def test_rt_27_both_links_take_the_proxy_that_the_environment_names(
    server: RealtimeServer, rest: FaultyRest, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest.answer = functions
    rest_port = int(rest.url.rsplit(":", 1)[1])
    async with proxy_of(lambda line: server.port if line.startswith("CONNECT") else rest_port) as proxy:
        environment(monkeypatch, HTTP_PROXY=proxy.url)
        async with registered("http://project.example.com") as database:
            await database.sync(SyncRequest())
        assert proxy.asked[0].startswith("POST http://project.example.com/rest/v1/rpc/")
        proxy.asked.clear()
        async with ringing(server) as bell:
            await live(bell)
            await server.last.broadcast()
            await until(lambda: bell.status.rings)
        assert [line.split()[0] for line in proxy.asked] == ["CONNECT"]
        proxy.asked.clear()
        environment(monkeypatch, HTTP_PROXY=proxy.url, NO_PROXY="127.0.0.1")
        async with registered(rest.url) as database, ringing(server) as bell:
            await database.sync(SyncRequest())
            await live(bell)
        assert proxy.asked == [], "NO_PROXY leaves both direct"


async def test_rt_27_a_proxy_that_refuses_is_named(server: RealtimeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxy_of(lambda _: server.port) as proxy:
        proxy.refuses = True
        environment(monkeypatch, HTTP_PROXY=proxy.url)
        async with ringing(server) as bell:
            await until(lambda: bell.status.problem)
            assert "the proxy that the environment names" in str(bell.status.problem)
            proxy.refuses = False
            await live(bell)
        proxy.refuses = True
        environment(monkeypatch, HTTP_PROXY=proxy.url, HTTPS_PROXY=proxy.url)
        for url, error in (("http://a.example.com", DatabaseRefused), ("https://a.example.com", DatabaseAway)):
            async with Database(SupabaseConfig(url=url, key=jwt())) as database:
                with pytest.raises(error, match="the proxy that the environment names"):
                    await database.register(adapter=ADAPTER, expected=0, nonce=new_id(), pbx="pbx", info={})


async def test_rt_27_the_password_in_a_proxys_address_is_not_shown(
    server: RealtimeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(monkeypatch, WS_PROXY="ftp://user:hush@127.0.0.1:9")
    async with ringing(server) as bell:
        await until(lambda: bell.status.problem)
        assert "the proxy that the environment names" in str(bell.status.problem)
        assert "hush" not in str(bell.status.problem)


async def test_rt_27_a_socks_proxy_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, ALL_PROXY="socks5://127.0.0.1:9")
    with pytest.raises(ValueError, match="ALL_PROXY"):
        Database(SupabaseConfig(url="https://abcdefgh.supabase.co", key=jwt()))


# -- REST


async def test_pg_04_pg_06_one_http_client_of_ours_is_all_there_is(
    rest: FaultyRest, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[httpx.AsyncClient] = []
    original = httpx.AsyncClient.__init__

    def noted(client: httpx.AsyncClient, *args: Any, **more: Any) -> None:
        original(client, *args, **more)
        made.append(client)

    monkeypatch.setattr(httpx.AsyncClient, "__init__", noted)
    rest.answer = functions
    key = jwt()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with registered(rest.url, key=key) as database:
            for _ in range(3):
                await database.sync(SyncRequest())
            assert database._client.postgrest.session is database._http
    assert made == [database._http]
    assert made[0].timeout == httpx.Timeout(connect=1.0, read=0.3, write=1.0, pool=0.2)
    for request in rest.requests:
        assert (request.headers["apikey"], request.headers["authorization"]) == (key, f"Bearer {key}")
    assert rest.connections == 1


async def test_pg_05_closing_leaves_no_connection(rest: FaultyRest) -> None:
    rest.answer = functions
    async with registered(rest.url) as database:
        await database.sync(SyncRequest())
        assert rest.open == 1
    await until(lambda: rest.open == 0)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=503, body={"message": "no"}, headers=(("retry-after", "0"),)),
        Answer(status=520, body="<html>"),
        Answer(drop=True),
        Answer(after=1.0),
    ],
    ids=["503", "520", "dropped", "silent"],
)
async def test_pg_07_the_library_repeats_nothing(rest: FaultyRest, answer: Answer) -> None:
    rest.answer = functions
    async with registered(rest.url) as database:
        rest.answer = lambda _: answer
        with pytest.raises(DatabaseAway):
            await database.sync(SyncRequest())
        await asyncio.sleep(0.05)
        assert len(rest.requests) == 2


@contextlib.asynccontextmanager
async def ticking(
    database: Database, outbox: Outbox, *, sweep: float = 30.0
) -> AsyncIterator[tuple[Ticker, SilentBell]]:
    """A ticker that runs on this database, with room for five calls."""
    bell: Any = SilentBell()

    async def block(call_id: str, why: str) -> None:
        raise AssertionError(f"{call_id} {why}")

    ticker = Ticker(
        database=database,
        outbox=outbox,
        doorbell=bell,
        status=lambda: {"ready": True},
        room=lambda: 5,
        tick=Tick(
            dial=lambda rows, since: None,
            hang_up=lambda calls: None,
            block=block,
            adopt=lambda calls: None,
            beat=lambda: None,
            know=lambda ways, bad: None,
        ),
        clock=asyncio.get_running_loop().time,
        sweep_seconds=sweep,
    )
    task = asyncio.create_task(ticker.run())
    try:
        yield ticker, bell
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await outbox.close()


async def test_pg_11_after_a_lost_answer_the_same_thing_is_asked_again(rest: FaultyRest, tmp_path: Path) -> None:
    rest.answer = functions
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    await outbox.put(ReleaseRecord(call_id=new_id(), cause=ReleaseCause.NOT_SENT, reason="test"))
    async with registered(rest.url) as database:
        losses = iter([Answer(after=1.0), Answer(drop=True), Answer(status=502, body="<html>")])
        rest.answer = lambda _: next(losses, Answer(body=reply(recorded=[1])))
        async with ticking(database, outbox) as (ticker, _bell):
            ticker.want()
            await until(lambda: outbox.count == 0)
    asked = [(r.body["p_claim_id"], r.body["p_records"], r.body["p_room"]) for r in rest.requests[1:5]]
    assert asked[0][0] is not None
    assert asked == [asked[0]] * 4


async def test_pg_12_requests_never_overlap(rest: FaultyRest, tmp_path: Path) -> None:
    rest.answer = functions
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    async with registered(rest.url) as database:
        rest.answer = lambda _: Answer(body=reply(), after=0.03)
        async with ticking(database, outbox) as (ticker, bell):
            for _ in range(200):
                ticker.want()
                ticker.room_appeared()
                bell.rung.set()
                await asyncio.sleep(0.002)
            await until(lambda: len(rest.requests) >= 5)
    assert rest.most_under_way == 1
    assert rest.connections == 1


async def test_pg_14_15_16_17_only_our_two_functions_are_ever_called(rest: FaultyRest, tmp_path: Path) -> None:
    """No table is read or written through the API, so nothing hits a whole table, echoes rows or compares with null."""
    rest.answer = functions
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    await outbox.put(ReleaseRecord(call_id=new_id(), cause=ReleaseCause.NOT_SENT, reason="test"))
    async with registered(rest.url) as database:
        rest.answer = lambda _: Answer(body=reply(recorded=[1], more=False))
        async with ticking(database, outbox, sweep=0.05) as (ticker, bell):
            ticker.want()
            bell.rung.set()
            await until(lambda: len(rest.requests) >= 4)
    places = {(request.method, request.path) for request in rest.requests}
    assert places == {("POST", "/rest/v1/rpc/call_register_v1"), ("POST", "/rest/v1/rpc/call_sync_v1")}


async def test_pg_18_no_cap_of_the_api_cuts_a_claim(db: str) -> None:
    async with Gateway.started(db, limits=Limits(rows=2)) as gateway:
        connection: Any = await asyncpg.connect(db)
        await connection.execute(
            "insert into public.call_queue (user_id, phone_number) "
            "select gen_random_uuid(), '012-345 67' || n from generate_series(10, 16) n"
        )
        await connection.close()
        status = {"pbx": "pbx", "ready": True, "trunk": "SIP-TRUNK-0123ABCD", "form": "trunk", "live": 0}
        async with registered(gateway.url, HttpTimings(), gateway.service_role_key) as database:
            first = await database.sync(SyncRequest(status=status, room=5, claim_id=new_id()))
            assert (len(first.rows), first.more) == (5, True)
            rest = await database.sync(SyncRequest(status=status, room=5, claim_id=new_id()))
            assert (len(rest.rows), rest.more) == (2, False)


async def test_pg_20_canceled_requests_leave_the_pool_usable(rest: FaultyRest) -> None:
    rest.answer = functions
    async with registered(rest.url) as database:
        for _ in range(10):  # More than there are connections.
            rest.answer = lambda _: Answer(body=reply(), after=5.0)
            task = asyncio.create_task(database.sync(SyncRequest()))
            seen = len(rest.requests)
            await until(lambda: len(rest.requests) > seen)  # noqa: B023 - awaited within the round
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        rest.answer = functions
        assert (await database.sync(SyncRequest())).holder


async def test_pg_21_a_pool_that_hangs_is_told_and_recovers(rest: FaultyRest) -> None:
    rest.answer = functions
    timings = HttpTimings(connect=1.0, read=0.6, write=1.0, pool=0.1, total=2.0, connections=2)
    async with registered(rest.url, timings) as database:
        rest.answer = lambda _: Answer(body=reply(), after=5.0)
        told = await asyncio.gather(*(database.sync(SyncRequest()) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(error, DatabaseAway) for error in told)
        assert sorted(str(error).split("(")[1].split(":")[0].rstrip(")") for error in told) == [
            "PoolTimeout",
            "ReadTimeout",
            "ReadTimeout",
        ]
        rest.answer = functions
        assert (await database.sync(SyncRequest())).holder


# -- tenacity


async def test_ten_01_an_error_of_this_program_ends_the_bell_and_is_not_retried(
    server: RealtimeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    async def broken(_line: Line) -> None:
        tries.append(1)
        raise LookupError("a bug")

    monkeypatch.setattr(Line, "open", broken)
    bell = Doorbell(SupabaseConfig(url=server.url, key=jwt(), bell=FOREVER))
    with pytest.raises(LookupError):
        await asyncio.wait_for(bell.run(), 5)
    assert tries == [1]


async def test_ten_05_a_hanging_try_has_a_limit_of_its_own(rest: FaultyRest, tmp_path: Path) -> None:
    """The limit is inside the try: without it the first request that hangs would be the last."""
    rest.answer = functions
    timings = HttpTimings(connect=1.0, read=30.0, write=1.0, pool=0.2, total=0.2)
    async with registered(rest.url, timings) as database:
        rest.answer = lambda _: Answer(body="x" * 5000, drip=True)
        async with ticking(database, Outbox(tmp_path / "outbox.sqlite3")) as (ticker, _bell):
            ticker.want()
            await until(lambda: len(rest.requests) >= 3)


async def test_ten_08_a_stop_wakes_the_backoff(
    rest: FaultyRest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest.answer = functions
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    async with registered(rest.url) as database:
        rest.answer = lambda _: Answer(status=503, body={"message": "no"})
        async with ticking(database, outbox) as (ticker, _bell):
            slept: list[float] = []
            sleep = ticker._sleep

            async def long(_seconds: float) -> None:
                slept.append(1)
                await sleep(60.0)

            monkeypatch.setattr(ticker, "_sleep", long)
            ticker.want()
            await until(lambda: slept)
            before = len(rest.requests)
            ticker.stop()
            await until(lambda: len(rest.requests) > before)
            rest.answer = functions
            await until(lambda: ticker.database_problem is None)
            await asyncio.sleep(0)
