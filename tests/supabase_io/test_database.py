"""The REST side against a server on a socket that answers well, badly, late or not at all."""

import asyncio
import contextlib
import logging
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from adapter.supabase_io.config import HttpTimings, SupabaseConfig
from adapter.supabase_io.database import Database, DatabaseAway, DatabaseRefused, SyncRequest
from tests.supabase_io.http_server import Answer, FaultyRest, Request, faulty_rest
from tests.supabase_io.samples import accepted, jwt, new_id, reply, row

ADAPTER = new_id()
QUICK = HttpTimings(connect=1.0, read=0.6, write=1.0, pool=0.5, total=1.2)


@pytest.fixture
async def rest() -> AsyncIterator[FaultyRest]:
    async with faulty_rest() as server:
        yield server


@contextlib.asynccontextmanager
async def registered(rest: FaultyRest, timings: HttpTimings = QUICK, key: str | None = None) -> AsyncIterator[Database]:
    """A database that has registered; `rest.answer` is then the test's."""
    rest.answer = lambda _: Answer(body=accepted())
    async with Database(SupabaseConfig(url=rest.url, key=key or jwt(), http=timings)) as database:
        await database.register(adapter=ADAPTER, expected=0, nonce=new_id(), pbx="pbx", info={})
        yield database


async def test_register_and_sync_send_what_the_functions_take(rest: FaultyRest) -> None:
    key, nonce, claim = jwt(), new_id(), new_id()
    claimed = row()
    opened: dict[str, Any] = {
        "row": row(),
        "incarnation": 1,
        "originated_at": None,
        "answered_at": None,
        "cancel_requested": False,
    }
    answers: dict[str, dict[str, Any]] = {
        "/rest/v1/rpc/call_register_v1": accepted(2, open=[opened]),
        "/rest/v1/rpc/call_sync_v1": reply(
            recorded=[7],
            refused=[{"seq": 8, "error": "no such outcome"}],
            rows=[claimed],
            more=True,
            commands=[{"kind": "hangup", "call_id": claimed["call_id"]}],
            takeover=[opened],
        ),
    }
    rest.answer = lambda request: Answer(body=answers[request.path])
    async with Database(SupabaseConfig(url=rest.url, key=key)) as database:
        found = await database.register(adapter=ADAPTER, expected=1, nonce=nonce, pbx="pbx-a", info={"version": "1"})
        assert (found.accepted, found.incarnation, found.claim_number) == (True, 2, 40)
        assert found.open[0].row.call_id == opened["row"]["call_id"]
        answer = await database.sync(
            SyncRequest(
                records=((7, {"kind": "release"}), (8, {"kind": "outcome"})),
                status={"ready": True},
                room=5,
                claim_id=claim,
            )
        )
    register, sync = rest.requests
    assert register.body == {
        "p_adapter": ADAPTER,
        "p_expected": 1,
        "p_nonce": nonce,
        "p_pbx": "pbx-a",
        "p_info": {"version": "1"},
    }
    assert sync.body == {
        "p_adapter": ADAPTER,
        "p_incarnation": 2,
        "p_records": [{"kind": "release", "seq": 7}, {"kind": "outcome", "seq": 8}],
        "p_status": {"ready": True},
        "p_room": 5,
        "p_claim_id": claim,
    }
    assert sync.headers["apikey"] == key
    assert sync.headers["authorization"] == f"Bearer {key}"
    assert answer.recorded == (7,)
    assert answer.refused == ((8, "no such outcome"),)
    assert answer.rows[0].call_id == claimed["call_id"]
    assert answer.hangups == (claimed["call_id"],)
    assert answer.takeover[0].row.call_id == opened["row"]["call_id"]
    assert answer.more
    assert answer.lease_until == pytest.approx(answer.now + 60)
    assert rest.connections == 1


async def test_a_witness_asks_about_calls_and_reads_those_that_are_wanted(rest: FaultyRest) -> None:
    calls = [new_id(), new_id()]
    opened: dict[str, Any] = {
        "row": row(call_id=calls[1]),
        "incarnation": 1,
        "originated_at": None,
        "answered_at": None,
        "cancel_requested": True,
    }
    async with registered(rest) as database:
        rest.answer = lambda _: Answer(body={"open": [opened, {"row": {"call_id": calls[0]}}]})
        (wanted,) = await database.witness(calls)
        assert (wanted.row.call_id, wanted.row.ring_seconds, wanted.cancel_requested) == (calls[1], 25, True)
        assert rest.requests[-1].path == "/rest/v1/rpc/call_witness_v1"
        assert rest.requests[-1].body == {"p_adapter": ADAPTER, "p_calls": calls}
        rest.answer = lambda _: Answer(body=[])
        with pytest.raises(DatabaseRefused):
            await database.witness(calls)
    async with Database(SupabaseConfig(url=rest.url, key=jwt())) as database:
        with pytest.raises(RuntimeError, match="register"):
            await database.witness(calls)


async def test_an_opaque_key_goes_where_the_gateway_looks(rest: FaultyRest) -> None:
    key = "sb_secret_" + secrets.token_urlsafe(24)
    async with registered(rest, key=key):
        assert rest.requests[0].headers["apikey"] == key


async def test_another_incarnation_is_told_not_raised(rest: FaultyRest) -> None:
    rest.answer = lambda _: Answer(body={"accepted": False, "incarnation": 9})
    async with Database(SupabaseConfig(url=rest.url, key=jwt())) as database:
        found = await database.register(adapter=ADAPTER, expected=3, nonce=new_id(), pbx="pbx", info={})
        assert (found.accepted, found.incarnation) == (False, 9)
        with pytest.raises(RuntimeError, match="before register"):
            await database.sync(SyncRequest())


async def test_a_row_that_cannot_be_read_costs_no_other_row(rest: FaultyRest, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = row(), row(e164=None)
    body = reply(
        rows=[bad, good, "no row at all"],
        recorded=[1, "2", 3],
        commands=[{"kind": "sing", "call_id": new_id()}, {"kind": "hangup", "call_id": good["call_id"]}],
    )
    async with registered(rest) as database:
        rest.answer = lambda _: Answer(body=body)
        answer = await database.sync(SyncRequest(room=3, claim_id=new_id()))
    assert [found.call_id for found in answer.rows] == [good["call_id"]]
    assert answer.recorded == (1, 3)
    assert answer.hangups == (good["call_id"],)
    assert [(item.where, item.call_id) for item in answer.unreadable] == [
        ("recorded", None),
        ("rows", bad["call_id"]),
        ("rows", None),
        ("commands", body["commands"][0]["call_id"]),
    ]
    assert "e164" in caplog.records[-3].__dict__["fields"]["problem"]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        None,
        7,
        reply(rows=None),
        reply(now=None),
        reply(fenced="no"),
        reply(claim_number=None),
        reply(more=None),
    ],
)
async def test_an_answer_of_another_shape_is_refused_with_the_mend(rest: FaultyRest, body: object) -> None:
    async with registered(rest) as database:
        rest.answer = lambda _: Answer(body=body)
        with pytest.raises(DatabaseRefused, match=r"install\.sql"):
            await database.sync(SyncRequest())


async def test_pg_10_html_with_status_200_is_no_answer(rest: FaultyRest) -> None:
    async with registered(rest) as database:
        rest.answer = lambda _: Answer(body="<html>Please log in to the guest network</html>", content_type="text/html")
        with pytest.raises(DatabaseAway, match="other than Supabase"):
            await database.sync(SyncRequest())
        rest.answer = lambda _: Answer(body="")
        with pytest.raises((DatabaseAway, DatabaseRefused)):
            await database.sync(SyncRequest())


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (404, {"code": "PGRST202", "message": "Could not find the function"}, DatabaseRefused, r"install\.sql"),
        (401, {"code": "PGRST301", "message": "JWSError"}, DatabaseRefused, "not made for this project"),
        (401, {"code": "PGRST301", "message": "JWT expired"}, DatabaseRefused, "has expired"),
        (401, {"code": "PGRST303", "message": "JWT expired"}, DatabaseRefused, "has expired"),
        (
            401,
            {"code": "42501", "message": "permission denied for function"},
            DatabaseRefused,
            "right to this function",
        ),
        (
            403,
            {"code": "42501", "message": "permission denied for function"},
            DatabaseRefused,
            "right to this function",
        ),
        (401, {"message": "Invalid API key", "hint": "Double check"}, DatabaseRefused, "key is not accepted"),
        (401, {"message": "No API key found in request"}, DatabaseRefused, "key is not accepted"),
        (404, "<html>not here</html>", DatabaseRefused, "no Supabase API at SUPABASE_URL"),
        (308, "", DatabaseRefused, "leads to another address"),
        (540, {"message": "Project paused"}, DatabaseRefused, "paused"),
        (400, {"code": "P0001", "message": "p_room is negative"}, DatabaseRefused, "p_room is negative"),
        (500, {"code": "57014", "message": "canceling statement due to statement timeout"}, DatabaseAway, "57014"),
        (500, {"code": "55P03", "message": "lock not available"}, DatabaseAway, "55P03"),
        (409, {"code": "40001", "message": "could not serialize access"}, DatabaseAway, "40001"),
        (503, {"code": "PGRST002", "message": "Could not query the schema cache"}, DatabaseAway, "PGRST002"),
        (503, {"code": "57P01", "message": "terminating connection"}, DatabaseAway, "57P01"),
        (503, {"code": "53300", "message": "too many connections"}, DatabaseAway, "53300"),
        (502, "<html>Bad gateway</html>", DatabaseAway, "502"),
        (502, {"message": "An invalid response was received from the upstream server"}, DatabaseAway, "502"),
        (503, {"message": "name resolution failed"}, DatabaseAway, "503"),
        (504, "", DatabaseAway, "504"),
        (520, "", DatabaseAway, "520"),
        (429, {"message": "API rate limit exceeded"}, DatabaseAway, "429"),
    ],
)
async def test_pg_09_what_passes_and_what_needs_a_person(
    rest: FaultyRest, status: int, body: object, error: type[Exception], words: str
) -> None:
    async with registered(rest) as database:
        rest.answer = lambda _: Answer(status=status, body=body)
        with pytest.raises(error, match=words) as failure:
            await database.sync(SyncRequest())
    assert failure.value.__dict__["status"] == status
    assert len(rest.requests) == 2, "a request is tried once"


async def test_pg_01_a_silent_server_costs_our_time_not_120_seconds(rest: FaultyRest) -> None:
    async with registered(rest) as database:
        rest.answer = lambda _: Answer(after=30.0)
        started = time.monotonic()
        with pytest.raises(DatabaseAway, match="ReadTimeout"):
            await database.sync(SyncRequest())
        assert time.monotonic() - started < 2.0


async def test_pg_01_a_server_that_drips_bytes_meets_the_total(rest: FaultyRest) -> None:
    async with registered(rest) as database:
        rest.answer = lambda _: Answer(body="x" * 500, drip=True)
        with pytest.raises(DatabaseAway, match=r"within 1\.2 s"):
            await database.sync(SyncRequest())
        rest.answer = lambda _: Answer(body=reply())
        assert (await database.sync(SyncRequest())).holder, "PG-20: the pool is usable after a cancellation"


async def test_pg_08_a_connection_cut_or_refused_tells_its_kind(rest: FaultyRest) -> None:
    async with registered(rest) as database:
        rest.answer = lambda _: Answer(drop=True)
        with pytest.raises(DatabaseAway, match=r"ReadError|RemoteProtocolError"):
            await database.sync(SyncRequest())
    async with Database(SupabaseConfig(url="http://127.0.0.1:9", key=jwt())) as database:
        with pytest.raises(DatabaseAway, match="ConnectError"):
            await database.register(adapter=ADAPTER, expected=0, nonce=new_id(), pbx="pbx", info={})


async def test_pg_03_a_connection_closed_while_idle_fails_no_request(rest: FaultyRest) -> None:
    rest.idle_close = 0.05
    async with registered(rest) as database:
        rest.answer = lambda _: Answer(body=reply())
        for _ in range(5):
            await asyncio.sleep(0.1)
            await database.sync(SyncRequest())
    assert len(rest.requests) == 6
    assert rest.connections == 6


async def test_pg_02_one_connection_is_reused(rest: FaultyRest) -> None:
    async with registered(rest) as database:
        rest.answer = lambda _: Answer(body=reply())
        for _ in range(10):
            await database.sync(SyncRequest())
    assert rest.connections == 1


async def test_pg_19_words_that_jsonb_cannot_hold_do_not_fail_the_request(rest: FaultyRest) -> None:
    async with registered(rest) as database:
        rest.answer = lambda _: Answer(body=reply())
        await database.sync(SyncRequest(status={"problem": "a\x00b\ud800", "live": float("nan")}))
    assert rest.requests[-1].body["p_status"] == {"problem": "a\N{REPLACEMENT CHARACTER}b?", "live": None}


async def test_a_certificate_that_is_not_trusted_says_so() -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed") from ssl.SSLError()

    config = SupabaseConfig(url="https://example.com", key=jwt())
    async with Database(config, transport=httpx.MockTransport(fail)) as database:
        with pytest.raises(DatabaseAway, match="certificate of SUPABASE_URL is not trusted"):
            await database.register(adapter=ADAPTER, expected=0, nonce=new_id(), pbx="pbx", info={})


async def test_functions_that_are_not_ours_are_not_believed(rest: FaultyRest) -> None:
    rest.answer = lambda _: Answer(body=accepted(7))
    async with Database(SupabaseConfig(url=rest.url, key=jwt())) as database:
        with pytest.raises(DatabaseRefused, match="not ours"):
            await database.register(adapter=ADAPTER, expected=3, nonce=new_id(), pbx="pbx", info={})


async def test_rt_25_no_key_in_any_log_line_or_error(rest: FaultyRest, caplog: pytest.LogCaptureFixture) -> None:
    key = jwt()
    answers: list[Callable[[Request], Answer]] = [
        lambda _: Answer(body=reply()),
        lambda _: Answer(status=401, body={"message": "Invalid API key"}),
        lambda _: Answer(drop=True),
    ]
    told: list[str] = []
    with caplog.at_level(logging.DEBUG):
        async with registered(rest, key=key) as database:
            for answer in answers:
                rest.answer = answer
                try:
                    await database.sync(SyncRequest())
                except (DatabaseAway, DatabaseRefused) as error:
                    told.append(str(error))
    assert len(told) == 2
    assert key not in "".join([*told, caplog.text])
