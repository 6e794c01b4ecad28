"""The SQL functions as typed calls: `call_register_v1` once, then `call_sync_v1` for everything.

Beside the tick there is one small question, `call_witness_v1`: which calls of others need what we saw of them.

One request is one try. The daemon's tick is the only retry, and the claim id makes that safe; a retry in here would
double the wait without anybody seeing it. `DatabaseAway` passes by itself, `DatabaseRefused` needs a person.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import httpx
from postgrest.exceptions import APIError
from supabase import AsyncClient, AsyncClientOptions

from adapter.core.model import OpenCall
from adapter.log import say
from adapter.recorder import SILENT, Exchange, Recorder
from adapter.supabase_io import library, refusals, replies
from adapter.supabase_io.config import SupabaseConfig
from adapter.supabase_io.records import Unfit, sanitize
from adapter.supabase_io.refusals import DatabaseAway, DatabaseError, DatabaseRefused
from adapter.supabase_io.replies import Registered, SyncReply, Unreadable, Wanted

__all__ = [
    "Database",
    "DatabaseAway",
    "DatabaseError",
    "DatabaseRefused",
    "Registered",
    "SyncReply",
    "SyncRequest",
    "Unreadable",
]

log = logging.getLogger(__name__)

_Reply = TypeVar("_Reply", Registered, SyncReply, Wanted)

_status: contextvars.ContextVar[int | None] = contextvars.ContextVar("http_status", default=None)
"""Status of the last answer in this task: the library's error does not carry it (PG-09)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRequest:
    """One tick: records out, a sign of life, and how many rows may come back."""

    records: tuple[tuple[int, Mapping[str, Any]], ...] = ()
    """`(seq, JSON object)` as the outbox keeps them."""

    status: Mapping[str, object] = field(default_factory=dict)
    """Heartbeat: `pbx`, `ready`, `pbx_boot`, `trunk`, `form`, `live`, `version`, `limits`, …"""

    room: int = 0
    """Most rows to claim; 0 claims none."""

    claim_id: str | None = None
    """UUID of this claim; the same id asks the same claim again."""


class Database:
    """The project's REST side. Made inside the event loop; close it with `aclose`."""

    def __init__(
        self,
        config: SupabaseConfig,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        recorder: Recorder = SILENT,
    ) -> None:
        """`transport` replaces the network in tests. Raises ValueError for a proxy that cannot be used."""
        library.quiet()
        self._recorder = recorder
        waits = config.http
        self._total = waits.total
        try:
            self._http = httpx.AsyncClient(
                http1=True,
                http2=False,  # A connection that the server closed while idle fails the next POST (PG-03).
                timeout=httpx.Timeout(connect=waits.connect, read=waits.read, write=waits.write, pool=waits.pool),
                limits=httpx.Limits(
                    max_connections=waits.connections,
                    max_keepalive_connections=waits.connections,
                    keepalive_expiry=waits.keepalive,
                ),
                transport=transport,
                event_hooks={"response": [_note_status]},
            )
        except ImportError:
            # The only import that is left to this moment: what a SOCKS proxy needs.
            raise ValueError(
                "the environment names a SOCKS proxy (ALL_PROXY or HTTPS_PROXY), which the adapter does not speak; "
                "name an HTTP proxy, or put the host of SUPABASE_URL into NO_PROXY"
            ) from None
        # Injected once (PG-04, PG-06). No session is ever signed in: auth events would reset the client (RT-24).
        self._client = AsyncClient(
            config.url,
            config.key,
            AsyncClientOptions(
                httpx_client=self._http,
                auto_refresh_token=False,
                persist_session=False,
                postgrest_client_retry=False,
            ),
        )
        self._identity: tuple[str, int] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def register(
        self, *, adapter: str, expected: int, nonce: str, pbx: str, info: Mapping[str, object]
    ) -> Registered:
        """Register incarnation `expected + 1` by compare-and-set; once accepted, `sync` speaks as that incarnation.

        Raises DatabaseAway, DatabaseRefused. The same `nonce` makes a lost answer harmless.
        """
        answer = await self.ask(
            "call_register_v1",
            {"p_adapter": adapter, "p_expected": expected, "p_nonce": nonce, "p_pbx": pbx, "p_info": dict(info)},
        )
        reply = _decoded("call_register_v1", replies.registered, answer)
        if reply.accepted:
            if reply.incarnation != expected + 1:
                raise DatabaseRefused(
                    f"call_register_v1 accepted incarnation {reply.incarnation} where {expected + 1} was asked for; "
                    f"the functions in this project are not ours: {refusals.INSTALL}"
                )
            self._identity = adapter, reply.incarnation
        return reply

    async def sync(self, request: SyncRequest) -> SyncReply:
        """One tick. Raises DatabaseAway, DatabaseRefused; RuntimeError before an accepted `register`.

        After an error nobody knows whether the database acted; send the same records and the same claim id again.
        """
        if self._identity is None:
            raise RuntimeError("sync before register was accepted")
        adapter, incarnation = self._identity
        answer = await self.ask(
            "call_sync_v1",
            {
                "p_adapter": adapter,
                "p_incarnation": incarnation,
                "p_records": [{**record, "seq": seq} for seq, record in request.records],
                "p_status": dict(request.status),
                "p_room": request.room,
                "p_claim_id": request.claim_id,
            },
        )
        return _decoded("call_sync_v1", replies.synced, answer)

    async def witness(self, calls: Sequence[str]) -> tuple[OpenCall, ...]:
        """Of these calls through our PBX (at most 200), those whose end the database does not know. Changes nothing.

        Raises DatabaseAway, DatabaseRefused; RuntimeError before an accepted `register`.
        """
        if self._identity is None:
            raise RuntimeError("witness before register was accepted")
        answer = await self.ask("call_witness_v1", {"p_adapter": self._identity[0], "p_calls": list(calls)})
        return _decoded("call_witness_v1", replies.wanted, answer).open

    async def canonical(self, number: str, region: str) -> tuple[str | None, str | None]:
        """`(e164, problem)` of a phone number as the database reads it. It changes nothing, so `doctor` may ask it too.

        Raises DatabaseAway, DatabaseRefused.
        """
        answer = await self.ask("call_number_v1", {"p_raw": number, "p_region": region})
        if not isinstance(answer, dict) or not {"e164", "problem"} <= answer.keys():
            raise DatabaseRefused(f"call_number_v1 answered in a shape that is not ours: {refusals.INSTALL}")
        return answer["e164"], answer["problem"]

    async def aclose(self) -> None:
        """Close the connections; the client has no close of its own (PG-05)."""
        await self._http.aclose()

    async def ask(self, function: str, arguments: dict[str, Any]) -> object:
        """Call a function of ours once; what it answers is not checked. Raises DatabaseAway, DatabaseRefused."""
        _status.set(None)
        began, told, problem = time.monotonic(), None, "canceled"
        try:
            told = await self._ask(function, arguments)
            problem = ""
        except DatabaseError as error:
            problem = str(error)
            raise
        finally:
            self._recorder.http(
                Exchange(
                    method="POST",
                    path=f"/rest/v1/rpc/{function}",
                    status=_status.get(),
                    seconds=time.monotonic() - began,
                    asked=arguments,
                    told=told,
                    problem=problem or None,
                )
            )
        return told

    async def _ask(self, function: str, arguments: dict[str, Any]) -> object:
        return await self._answer(self._client.rpc(function, sanitize(arguments)).execute())

    async def rows(self, table: str, **equal: str) -> object:
        """Rows of a table of ours in which these columns have these values. Raises DatabaseAway, DatabaseRefused."""
        _status.set(None)
        return await self._answer(self._client.table(table).select("*").match(equal).execute())

    async def _answer(self, request: Awaitable[Any]) -> object:
        try:
            async with asyncio.timeout(self._total):
                answer = await request
        except TimeoutError:
            raise DatabaseAway(f"Supabase did not finish its answer within {self._total:g} s") from None
        except APIError as error:
            raise refusals.of_answer(error, _status.get()) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise refusals.of_transport(error) from None
        except (ValueError, RecursionError) as error:
            # JSON that Python does not read: a number of thousands of digits, lists in lists without end (PG-10).
            raise DatabaseAway(
                f"Supabase sent an answer that cannot be read ({error}); nothing of it was used", status=_status.get()
            ) from None
        if isinstance(answer.data, str):
            # Not JSON, yet "success": a captive portal, a proxy's page, a site that answers everything (PG-10).
            raise DatabaseAway(
                "something other than Supabase answered (no JSON); look at SUPABASE_URL and at proxies on the way",
                status=_status.get(),
            )
        return answer.data


async def _note_status(response: httpx.Response) -> None:
    _status.set(response.status_code)


def _decoded(function: str, decode: Callable[[object], _Reply], answer: object) -> _Reply:
    try:
        reply = decode(answer)
    except Unfit as error:
        raise DatabaseRefused(
            f"{function} answered in a shape this version does not know ({error}): {refusals.INSTALL}"
        ) from None
    for item in reply.unreadable:
        say(
            log,
            logging.ERROR,
            "database.unreadable",
            "The database sent an item that cannot be read; the others are used",
            where=item.where,
            call=item.call_id,
            problem=item.problem,
        )
    return reply
