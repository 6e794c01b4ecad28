"""The local Realtime beyond the recordings: values, rights, filters, broadcasts, limits, faults, and supabase-py."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import asyncpg
import httpx
import pytest
from aiohttp import WSMsgType
from realtime import RealtimePostgresChangesListenEvent
from supabase import AsyncClientOptions, acreate_client

from adapter.sandbox.gateway import Delays, Limits
from adapter.sandbox.gateway.limits import RateWindow
from adapter.sandbox.postgres import Postgres
from tests.sandbox.gateway_support import SHORT, Client, World, client, inserts, world

USER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
SUBSCRIBED = "Subscribed to PostgreSQL"


@pytest.fixture
async def here(pg_server: Postgres) -> AsyncIterator[World]:
    async with world(pg_server) as found:
        yield found


@pytest.fixture
async def speaker(here: World) -> AsyncIterator[Client]:
    async with client(here.gateway) as found:
        yield found


def data(frame: dict[str, Any]) -> dict[str, Any]:
    """The change in a frame."""
    found: dict[str, Any] = frame["payload"]["data"]
    return found


# ---------------------------------------------------------------- the official client


async def test_supabase_py_hears_inserts_and_private_broadcasts_on_one_channel(here: World) -> None:
    http = httpx.AsyncClient()
    options = AsyncClientOptions(httpx_client=http)
    supabase = await acreate_client(here.gateway.url, here.gateway.secret_key, options=options)
    heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    channel = supabase.channel("call_queue", {"config": {"private": True, "broadcast": None, "presence": None}})
    channel.on_system(lambda message: heard.put_nowait(("system", message)))
    channel.on_broadcast("rows", lambda message: heard.put_nowait(("rows", message)))
    channel.on_postgres_changes(
        RealtimePostgresChangesListenEvent.Insert,
        schema="public",
        table="call_queue",
        callback=lambda message: heard.put_nowait(("insert", message)),
    )
    try:
        await channel.subscribe()
        kind, message = await asyncio.wait_for(heard.get(), 5)
        assert (kind, message.message) == ("system", SUBSCRIBED)
        await supabase.table("call_queue").insert({"phone": "+60123456700"}).execute()
        kind, message = await asyncio.wait_for(heard.get(), 5)
        assert (kind, message["data"]["record"]["phone"]) == ("insert", "+60123456700")
        await here.run("select realtime.send('{}', 'rows', 'call_queue')")
        kind, message = await asyncio.wait_for(heard.get(), 5)
        assert (kind, message["event"]) == ("rows", "rows")
    finally:
        await supabase.realtime.close()
        await http.aclose()


# ---------------------------------------------------------------- what a change carries


async def test_values_arrive_as_the_real_server_sends_them(here: World, speaker: Client) -> None:
    assert (await speaker.subscribe("k", inserts("kinds")))["message"] == SUBSCRIBED
    await here.run(
        """insert into kinds values (1, 9007199254740993, 12345678901234567890.123, true, '{"a" : 1.10}', '{"b":2}',
        '{1,null,3}', '6F9619FF-8B86-4D01-B42D-00CF4FC964FF', '2026-02-03', '1 day 02:03:04',
        '2026-02-03 10:05:06.789+08', '2026-02-03 10:05:06', '\\xdeadBEEF', 'ab', 'o')"""
    )
    text = await asyncio.wait_for(speaker.ws.receive_str(), 5)
    assert '"big": 9007199254740993,' in text
    assert '"exact": 12345678901234567890.123,' in text
    record = data(json.loads(text))["record"]
    assert {key: record[key] for key in record if key not in ("big", "exact")} == {
        "id": 1,
        "yes": True,
        "doc": {"a": 1.1},
        "docb": {"b": 2},
        "list": [1, None, 3],
        "ident": USER,
        "day": "2026-02-03",
        "span": "1 day 02:03:04",
        "zoned": "2026-02-03T02:05:06.789+00:00",
        "plain": "2026-02-03T10:05:06",
        "bytes": "deadbeef",
        "fixed": "ab",
        'Odd "name': "o",
    }
    types = {column["name"]: column["type"] for column in data(json.loads(text))["columns"]}
    assert (types["list"], types["fixed"], types["zoned"]) == ("_int4", "bpchar", "timestamptz")


async def test_updates_and_deletes(here: World, speaker: Client) -> None:
    await here.run("create table t (id int primary key, n int, long text); grant select on t to service_role")
    await here.run(
        "alter table t alter column long set storage external; alter publication supabase_realtime add table t"
    )
    await speaker.subscribe("t", {"event": "*", "schema": "public", "table": "t"})
    await here.run("insert into t values (1, 1, repeat('x', 10000))")
    assert data(await speaker.next())["type"] == "INSERT"
    await here.run("update t set n = 2")
    update = data(await speaker.next())
    # A large value that an UPDATE left alone is not in the log.
    assert (update["type"], update["record"], update["old_record"]) == ("UPDATE", {"id": 1, "n": 2}, {"id": 1})
    await here.run("update t set id = 5, long = ''")
    assert data(await speaker.next())["old_record"] == {"id": 1}
    await here.run("delete from t")
    delete = data(await speaker.next())
    assert (delete["type"], delete["old_record"], "record" in delete) == ("DELETE", {"id": 5}, False)
    await here.run("alter table t replica identity full; insert into t values (6, 6, 'y'); update t set n = 7")
    assert data(await speaker.next())["type"] == "INSERT"
    assert data(await speaker.next())["old_record"] == {"id": 6, "n": 6, "long": "y"}


async def test_changes_come_in_commit_order_and_rolled_back_ones_never(here: World, speaker: Client) -> None:
    await speaker.subscribe("q", inserts("call_queue"))
    other = await asyncpg.connect(here.dsn)
    try:
        async with other.transaction():
            await other.execute("insert into call_queue (phone) values ('first begun'), ('and second')")
            await here.run("insert into call_queue (phone) values ('first committed')")
        await here.run("begin; insert into call_queue (phone) values ('never'); rollback")
        await here.run("insert into call_queue (phone) select n::text from generate_series(1, 500) n")
    finally:
        await other.close()
    phones = [data(await speaker.next())["record"]["phone"] for _ in range(503)]
    assert phones == ["first committed", "first begun", "and second", *map(str, range(1, 501))]


async def test_a_row_too_large_keeps_its_small_values(pg_server: Postgres) -> None:
    async with world(pg_server, limits=Limits(record_bytes=1000)) as here, client(here.gateway) as speaker:
        await speaker.subscribe("q", inserts("call_queue"))
        await here.run("insert into call_queue (phone, status) values (repeat('5', 2000), 'queued')")
        change = data(await speaker.next())
    assert change["errors"] == ["Error 413: Payload Too Large"]
    assert (change["record"]["id"], change["record"]["status"], "phone" in change["record"]) == (1, "queued", False)


# ---------------------------------------------------------------- bindings


async def test_the_same_binding_has_the_same_id_everywhere(here: World, speaker: Client) -> None:
    first = await speaker.join("a", inserts("call_queue"), inserts("people"))
    async with client(here.gateway) as other:
        second = await other.join("b", inserts("people"), inserts("call_queue"))
    ids = [[entry["id"] for entry in reply["response"]["postgres_changes"]] for reply in (first, second)]
    assert ids[0] == ids[1][::-1]
    assert len(set(ids[0])) == 2


async def test_each_channel_gets_one_frame_with_all_its_matching_bindings(here: World, speaker: Client) -> None:
    everything = {"event": "*", "schema": "public"}
    await speaker.subscribe("a", inserts("call_queue"), everything, inserts("people"), inserts("call_queue"))
    await speaker.subscribe("b", {"event": "UPDATE", "schema": "public", "table": "call_queue"})
    await here.run("insert into call_queue (phone) values ('1')")
    frame = await speaker.next()
    assert (frame["topic"], len(frame["payload"]["ids"]), len(set(frame["payload"]["ids"]))) == ("realtime:a", 3, 2)
    await speaker.silence()


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("status=eq.queued", [1, 3]),
        ("status=neq.queued", [2]),
        ("id=gt.1,status=eq.queued", [3]),
        ("id=in.(1,2)", [1, 2]),
        ("phone=like.60%", [1]),
        ("status=not.eq.queued", [2]),
        ("id=lte.1", [1]),
        ("", [1, 2, 3]),
    ],
)
async def test_filters(here: World, speaker: Client, text: str, heard: list[int]) -> None:
    assert (await speaker.subscribe("q", inserts("call_queue", filter=text)))["status"] == "ok"
    await speaker.subscribe("end", inserts("secrets"))
    await here.run("insert into call_queue (phone, status) values ('601', 'queued'), ('62', 'done'), ('63', 'queued')")
    await here.run("insert into secrets values (1)")
    found = []
    while (frame := await speaker.next())["topic"] != "realtime:end":
        found.append(data(frame)["record"]["id"])
    assert found == heard


async def test_select_narrows_the_record(here: World, speaker: Client) -> None:
    await speaker.subscribe("q", inserts("call_queue", select=["id", "status"]))
    await here.run("insert into call_queue (phone) values ('1')")
    change = data(await speaker.next())
    assert change["record"] == {"id": 1, "status": "queued"}
    assert [column["name"] for column in change["columns"]] == ["id", "status"]


@pytest.mark.parametrize(
    ("binding", "words"),
    [
        (inserts("call_queue", filter="nocol=eq.1"), "invalid column for filter nocol"),
        (inserts("call_queue", filter="id=eq.x"), "ERROR 22P02"),
        (inserts("Call_Queue"), "table: Call_Queue, filters: [], select: nil]"),
        (inserts("call_queue", filter=None), "No subscription params provided."),
    ],
)
async def test_bad_bindings_are_told_and_the_channel_stays(
    here: World, speaker: Client, binding: dict[str, Any], words: str
) -> None:
    told = await speaker.subscribe("q", binding)
    assert (told["status"], words in told["message"]) == ("error", True), told
    assert here.gateway.realtime_channels == 1
    await here.run("insert into call_queue (phone) values ('1')")
    await speaker.silence()


async def test_without_bindings_nothing_is_polled_and_no_system_message_comes(here: World, speaker: Client) -> None:
    oddities: list[Any] = [[], {}, None, "x"]
    for odd in oddities:
        reply = await speaker.join("q", config={"postgres_changes": odd})
        assert reply == {"status": "ok", "response": {"postgres_changes": []}}
    assert not here.gateway.polling


async def test_the_slot_is_there_only_while_somebody_is_subscribed(here: World, speaker: Client) -> None:
    slots = "select count(*) from pg_replication_slots where database = current_database()"
    assert await here.value(slots) == 0
    await speaker.subscribe("q", inserts("call_queue"))
    assert (await here.value(slots), here.gateway.polling) == (1, True)
    await speaker.send("realtime:q", "phx_leave", {}, ref="9")
    await speaker.next("phx_close")
    async with asyncio.timeout(5):
        while await here.value(slots):
            await asyncio.sleep(0.01)
    assert not here.gateway.polling


# ---------------------------------------------------------------- rights


async def test_without_the_grant_even_service_role_gets_only_an_error(here: World, speaker: Client) -> None:
    await speaker.subscribe("q", inserts("ungranted"))
    await here.run("insert into ungranted values (1)")
    change = data(await speaker.next())
    assert change == {
        "table": "ungranted",
        "type": "INSERT",
        "record": {},
        "columns": [],
        "errors": ["Error 401: Unauthorized"],
        "schema": "public",
        "commit_timestamp": None,
    }


async def test_row_security_hides_rows_without_a_word(here: World, speaker: Client) -> None:
    mine = here.gateway.token("authenticated", sub=USER)
    await speaker.subscribe("mine", inserts("people"), access_token=mine)
    await speaker.subscribe("anon", inserts("people"), access_token=here.gateway.anon_key)
    await speaker.subscribe("all", inserts("people"))
    await here.run("insert into people (name) values ('other')")
    await here.connection.execute("insert into people (name, owner) values ('mine', $1)", USER)
    frames = [await speaker.next() for _ in range(3)]
    assert [(frame["topic"], data(frame)["record"]["name"]) for frame in frames] == [
        ("realtime:all", "other"),
        ("realtime:mine", "mine"),
        ("realtime:all", "mine"),
    ]
    await speaker.silence()


async def test_column_grants_narrow_the_record(here: World, speaker: Client) -> None:
    await here.run("revoke all on people from service_role; grant select (id, name) on people to service_role")
    await speaker.subscribe("q", inserts("people"))
    await here.run("insert into people (name) values ('x')")
    assert data(await speaker.next())["record"] == {"id": 1, "name": "x"}


async def test_a_role_that_is_not_there_fails_at_subscribing(here: World) -> None:
    async with client(here.gateway, key=here.gateway.token("nobody_role")) as speaker:
        told = await speaker.subscribe("q", inserts("call_queue"))
    assert 'ERROR 42704 (undefined_object) role "nobody_role" does not exist' in told["message"]


async def test_a_table_leaving_the_publication_is_told_once_and_does_not_come_back(pg_server: Postgres) -> None:
    delays = Delays(poll=0.02, publication_check=0.1)
    async with world(pg_server, delays=delays) as here, client(here.gateway) as speaker:
        await speaker.subscribe("q", inserts("call_queue"))
        await here.run("alter publication supabase_realtime drop table call_queue")
        await here.run("insert into call_queue (phone) values ('unheard')")
        told = (await speaker.next())["payload"]
        assert told["status"] == "error"
        assert told["message"].startswith("Unable to subscribe to changes with given parameters")
        await here.run("alter publication supabase_realtime add table call_queue")
        await here.run("insert into call_queue (phone) values ('still unheard')")
        await speaker.silence(0.3)
        assert here.gateway.realtime_channels == 1
        assert (await speaker.join("q", inserts("call_queue")))["status"] == "ok"
        assert (await speaker.next("system"))["payload"]["status"] == "ok"
        await here.run("insert into call_queue (phone) values ('heard')")
        assert data(await speaker.next())["record"]["phone"] == "heard"


# ---------------------------------------------------------------- tokens


async def test_a_token_that_ends_closes_its_channel_only(here: World, speaker: Client) -> None:
    await speaker.subscribe(
        "short", inserts("call_queue"), access_token=here.gateway.token("service_role", seconds=1.5)
    )
    await speaker.subscribe("long", inserts("call_queue"))
    told, closed = await speaker.next(), await speaker.next()
    assert (told["event"], told["payload"]["extension"], closed["event"], closed["ref"]) == (
        "system",
        "system",
        "phx_close",
        "1",
    )
    assert told["payload"]["message"] == "Token has expired 0 seconds ago"
    await here.run("insert into call_queue (phone) values ('1')")
    assert (await speaker.next())["topic"] == "realtime:long"


async def test_the_same_token_again_changes_nothing(here: World, speaker: Client) -> None:
    await speaker.subscribe("q", inserts("call_queue"))
    for token in (here.gateway.service_role_key, None, "sb_secret_x"):
        await speaker.send("realtime:q", "access_token", {"access_token": token}, ref="2", join_ref="1")
    await speaker.silence(5 * SHORT.resubscribe)
    await speaker.send("realtime:q", "access_token", {"access_token": here.gateway.token("service_role")}, join_ref="1")
    assert (await speaker.next())["payload"]["message"] == SUBSCRIBED


async def test_rejoining_a_topic_closes_the_former_channel_and_loses_no_row(here: World, speaker: Client) -> None:
    await speaker.subscribe("q", inserts("call_queue"))
    stop = asyncio.Event()

    async def insert() -> int:
        other, count = await asyncpg.connect(here.dsn), 0
        try:
            while not stop.is_set():
                await other.execute("insert into call_queue (phone) values ('1')")
                count += 1
                await asyncio.sleep(0.002)
        finally:
            await other.close()
        return count

    inserting = asyncio.create_task(insert())
    for _ in range(15):
        await speaker.send(
            "realtime:q", "phx_join", {"config": {"postgres_changes": [inserts("call_queue")]}}, ref="7", join_ref="7"
        )
        await speaker.next("phx_close")
        await speaker.next("system")
    stop.set()
    count = await inserting
    ids = [data(frame)["record"]["id"] for frame in speaker.heard if frame["event"] == "postgres_changes"]
    while len(ids) < count:
        ids.append(data(await speaker.next("postgres_changes"))["record"]["id"])
    assert ids == list(range(1, count + 1))
    answers = [(f["event"], f["ref"]) for f in speaker.heard if f["event"] in ("phx_reply", "phx_close")]
    assert answers[:3] == [("phx_reply", "1"), ("phx_reply", "7"), ("phx_close", "1")]


# ---------------------------------------------------------------- broadcasts


async def test_a_broadcast_from_the_database_is_heard_within_milliseconds_of_its_commit(
    here: World, speaker: Client
) -> None:
    await speaker.join("call_queue", private=True)
    took = []
    for _ in range(5):
        async with here.connection.transaction():
            await here.run("select realtime.send('{\"a\": 1.10}', 'rows', 'call_queue', true)")
            await speaker.silence(0)
        started = time.monotonic()
        frame = await speaker.next()
        took.append(time.monotonic() - started)
        assert (frame["event"], frame["payload"]["event"]) == ("broadcast", "rows")
        assert frame["payload"]["payload"]["a"] == 1.1
    assert min(took) < 0.05


async def test_clients_hear_each_other_on_public_channels(here: World, speaker: Client) -> None:
    said = {"type": "broadcast", "event": "hello", "payload": {"n": 1}}
    await speaker.join("room", config={"broadcast": {"self": True, "ack": True}})
    async with client(here.gateway, key=here.gateway.anon_key) as other:
        await other.join("room")
        await speaker.send("realtime:room", "broadcast", said, ref="5", join_ref="1")
        assert (await other.next())["payload"] == said
        assert (await speaker.next())["payload"] == said
        assert (await speaker.next())["payload"]["status"] == "ok"
        await other.send("realtime:room", "broadcast", said, ref="6", join_ref="1")
        assert (await speaker.next())["payload"] == said
        await other.silence()


async def test_policies_open_private_topics_to_others(here: World) -> None:
    token = here.gateway.token("authenticated", sub=USER)
    said = {"type": "broadcast", "event": "hello", "payload": {}}
    async with client(here.gateway) as service, client(here.gateway, key=here.gateway.anon_key) as speaker:
        await service.join("room", private=True)
        refused = await speaker.join("room", private=True, access_token=token)
        assert refused["response"]["reason"] == (
            "Unauthorized: You do not have permissions to read from this Channel topic: room"
        )
        await here.run(
            "create policy r on realtime.messages for select to authenticated using (realtime.topic() = 'room')"
        )
        assert (await speaker.join("room", private=True, access_token=token))["status"] == "ok"
        assert (await speaker.join("other", private=True, access_token=token))["status"] == "error"
        await speaker.send("realtime:room", "broadcast", said, ref="9", join_ref="2")
        await service.silence()  # Reading is not writing.
        await service.send("realtime:room", "broadcast", said, ref="9", join_ref="1")
        assert (await speaker.next())["payload"] == said


async def test_broadcasts_over_http(here: World, speaker: Client) -> None:
    await speaker.join("room")
    message = {"topic": "room", "event": "hello", "payload": {"n": 1}}
    url = f"{here.gateway.url}/realtime/v1/api/broadcast"
    async with aiohttp.ClientSession(headers={"apikey": here.gateway.anon_key}) as session:
        async with session.post(url, json={"messages": [message, {**message, "private": True}]}) as response:
            assert response.status == 202
        async with session.post(url, json={"messages": []}, headers={"Authorization": "Bearer x"}) as response:
            assert response.status == 401
    assert (await speaker.next())["payload"] == {"type": "broadcast", "event": "hello", "payload": {"n": 1}}
    await speaker.silence()


def test_the_rate_is_an_average_over_a_minute() -> None:
    window = RateWindow(100)
    assert all(window.allows(0.5) for _ in range(6001))  # A burst of a whole minute's allowance goes through,
    assert not window.allows(1)  # then nothing does,
    assert not window.allows(59)
    assert window.allows(60.5)  # until the burst is a minute old.


async def test_over_the_rate_everything_is_dropped_and_nobody_is_told(pg_server: Postgres) -> None:
    async with world(pg_server, limits=Limits(events_per_second=0.1)) as here, client(here.gateway) as speaker:
        await speaker.join("room", private=True)
        for _ in range(20):
            await here.run("select realtime.send('{}', 'rows', 'room')")
        heard = [await speaker.next() for _ in range(7)]
        assert {frame["event"] for frame in heard} == {"broadcast"}
        await speaker.silence()


# ---------------------------------------------------------------- frames, faults, ends


async def test_version_2_speaks_in_arrays(here: World) -> None:
    url = f"{here.gateway.url}/realtime/v1/websocket"
    params = {"apikey": here.gateway.secret_key, "vsn": "2.0.0"}
    config = {"broadcast": {"self": True}, "postgres_changes": [inserts("call_queue")]}
    async with aiohttp.ClientSession() as session, session.ws_connect(url, params=params) as ws:
        await ws.send_str('{"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "0"}')  # Ignored.
        await ws.send_json(["1", "2", "realtime:q", "phx_join", {"config": config}])
        reply, system = await ws.receive_json(), await ws.receive_json()
        assert (reply[:4], reply[4]["status"]) == (["1", "2", "realtime:q", "phx_reply"], "ok")
        assert system[:4] == ["1", None, "realtime:q", "system"]
        await here.run("insert into call_queue (phone) values ('1')")
        assert (await ws.receive_json())[:4] == [None, None, "realtime:q", "postgres_changes"]
        # supabase-js sends broadcasts as a binary frame: kind 3, five lengths, JSON, then the texts.
        texts = (b"1", b"5", b"realtime:q", b"hello", b"")
        await ws.send_bytes(bytes([3, *map(len, texts), 1]) + b"".join(texts) + b'{"n":1}')
        answer = await ws.receive_json()
        assert answer == [
            None,
            None,
            "realtime:q",
            "broadcast",
            {"type": "broadcast", "event": "hello", "payload": {"n": 1}},
        ]


async def test_garbage_is_ignored_without_a_word(here: World, speaker: Client) -> None:
    for garbage in ("", "not json", "[]", "{}", '{"topic": 1}', '["1","2","phoenix","heartbeat",{}]'):
        await speaker.ws.send_str(garbage)
    await speaker.ws.send_bytes(b"\x00\x01")
    await speaker.join("q")
    await speaker.send("realtime:q", "no such event", {}, ref="8")
    await speaker.silence()
    await speaker.send("realtime:x", "broadcast", {}, ref=8)
    assert await speaker.next() == {
        "ref": 8,
        "event": "phx_reply",
        "topic": "realtime:x",
        "payload": {"status": "error", "response": {"reason": "unmatched topic"}},
    }


async def test_pings_keep_a_silent_client_and_without_them_it_is_closed_with_1000(pg_server: Postgres) -> None:
    async with world(pg_server, delays=Delays(idle=0.4)) as here, client(here.gateway) as speaker:
        for _ in range(4):
            await asyncio.sleep(0.2)
            await speaker.ws.ping()
        message = await asyncio.wait_for(speaker.ws.receive(), 5)
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1000)


async def test_a_refused_join_holds_up_the_whole_socket(pg_server: Postgres) -> None:
    async with world(pg_server, delays=Delays(join_error=0.3)) as here, client(here.gateway) as speaker:
        started = time.monotonic()
        await speaker.send("realtime:q", "phx_join", {"access_token": "x"}, ref="1")
        await speaker.send("phoenix", "heartbeat", {}, ref="2")
        assert [(await speaker.next())["ref"] for _ in range(2)] == ["1", "2"]
        assert time.monotonic() - started >= 0.3


async def test_pausing_is_a_restart_of_the_server(here: World, speaker: Client) -> None:
    await speaker.join("q")
    here.gateway.pause_realtime()
    message = await asyncio.wait_for(speaker.ws.receive(), 5)
    assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with client(here.gateway):
            pass
    assert refused.value.status == 503
    here.gateway.resume_realtime()
    async with client(here.gateway) as again:
        await again.join("q")
        assert here.gateway.realtime_channels == 1


async def test_killing_cuts_without_a_goodbye_and_refuses_until_resumed(here: World, speaker: Client) -> None:
    await speaker.join("q")
    here.gateway.kill_realtime()
    message = await asyncio.wait_for(speaker.ws.receive(), 5)
    assert (message.type, speaker.ws.close_code) == (WSMsgType.CLOSED, 1006)
    with pytest.raises(aiohttp.WSServerHandshakeError):
        async with client(here.gateway):
            pass
    here.gateway.resume_realtime()
    async with client(here.gateway) as again:
        await again.join("q")


async def test_reloading_says_goodbye_and_takes_new_connections(here: World, speaker: Client) -> None:
    await speaker.subscribe("q", inserts("call_queue"))
    here.gateway.reload_realtime()
    frame = await speaker.next()
    assert frame["payload"] == {"message": "Server requested disconnect", "status": "ok", "extension": "system"}
    message = await asyncio.wait_for(speaker.ws.receive(), 5)
    assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)
    async with client(here.gateway) as again:
        await again.join("q")


@pytest.mark.parametrize("fault", ["stop_replication", "forget_subscriptions"])
async def test_a_dead_subscription_stays_dead_until_it_is_joined_anew(here: World, speaker: Client, fault: str) -> None:
    await speaker.subscribe("q", inserts("call_queue"))
    getattr(here.gateway, fault)()
    async with client(here.gateway) as other:
        await other.subscribe("q", inserts("call_queue"))
        await here.run("insert into call_queue (phone) values ('a')")
        assert data(await other.next())["record"]["phone"] == "a"
        await speaker.silence(5 * SHORT.poll)
        await speaker.subscribe("r", inserts("call_queue"))
        await here.run("insert into call_queue (phone) values ('b')")
        assert data(await speaker.next())["record"]["phone"] == "b"


async def test_dropping_cuts_without_a_goodbye(here: World, speaker: Client) -> None:
    await speaker.subscribe("q", inserts("call_queue"))
    assert here.gateway.drop_realtime_connections() == 1
    message = await asyncio.wait_for(speaker.ws.receive(), 5)
    assert (message.type, speaker.ws.close_code) == (WSMsgType.CLOSED, 1006)
    async with asyncio.timeout(5):
        while here.gateway.realtime_channels or here.gateway.polling:
            await asyncio.sleep(0.01)


async def test_deaf_channels_stay_joined_and_what_they_miss_is_gone(here: World, speaker: Client) -> None:
    await speaker.subscribe("q", inserts("call_queue"), private=True)
    here.gateway.deaf = True
    await here.run("insert into call_queue (phone) values ('missed'); select realtime.send('{}', 'rows', 'q')")
    await speaker.silence(5 * SHORT.poll)
    here.gateway.deaf = False
    await here.run("insert into call_queue (phone) values ('heard')")
    assert data(await speaker.next())["record"]["phone"] == "heard"


async def test_a_broken_feed_starts_anew_and_nobody_is_told(here: World, speaker: Client) -> None:
    await speaker.subscribe("q", inserts("call_queue"))
    slot = "select active_pid from pg_replication_slots where database = current_database()"
    pid = await here.value(slot)
    await here.run(f"select pg_terminate_backend({pid})")
    async with asyncio.timeout(5):
        while await here.value(slot) in (pid, None):
            await asyncio.sleep(0.02)
    await here.run("insert into call_queue (phone) values ('heard')")
    assert data(await speaker.next())["record"]["phone"] == "heard"


async def test_a_feed_lost_in_the_middle_of_a_question_starts_anew(
    here: World, speaker: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg then raises an error of its own, which is no subclass of the others."""
    real, calls = asyncpg.Connection.fetch, 0

    async def lost(connection: asyncpg.Connection, query: str, *arguments: object) -> object:
        nonlocal calls
        calls += "pg_logical_slot_get_binary_changes" in query
        if calls == 1:
            calls += 1
            raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")
        return await real(connection, query, *arguments)

    monkeypatch.setattr(asyncpg.Connection, "fetch", lost)
    await speaker.subscribe("q", inserts("call_queue"))
    async with asyncio.timeout(5):
        while calls < 3:
            await asyncio.sleep(0.02)
    await here.run("insert into call_queue (phone) values ('heard')")
    assert data(await speaker.next())["record"]["phone"] == "heard"


async def test_a_lost_listener_comes_back(here: World, speaker: Client) -> None:
    await speaker.join("q", private=True)
    await here.run("select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%'")
    async with asyncio.timeout(10):
        while True:
            await here.run("select realtime.send('{}', 'rows', 'q')")
            try:
                assert (await speaker.next(seconds=0.2))["event"] == "broadcast"
                break
            except TimeoutError:
                continue
