"""What somebody can do who has nothing but the page's public key: really tried, over REST, and nothing is changed.

No content of a row is ever fetched: `limit=0` tells whether reading is allowed, and a HEAD request with `limit=1` tells
by its Content-Range whether a row is to be seen. Writes name rows that cannot exist (a primary key that is null).
Functions are asked by GET, which PostgREST runs in a read-only transaction, whatever they are
(docs.postgrest.org, Transactions, Access Mode).
"""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Self, TypeVar

import httpx

from adapter.supabase_io import library, refusals
from adapter.supabase_io.config import SupabaseConfig, claims
from adapter.supabase_io.inspection import Table
from adapter.supabase_io.refusals import DatabaseAway, DatabaseRefused

_Answer = TypeVar("_Answer")


class Access(Enum):
    """How a try came out."""

    ALLOWED = auto()
    DENIED = auto()
    """For want of a right: PostgreSQL's 42501."""

    ABSENT = auto()
    """The API does not know such a thing."""

    UNCLEAR = auto()
    """Some other answer; what it means was not found out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """What was tried on one table."""

    read: Access
    seen: bool = False
    """At least one row can be seen."""

    update: Access | None = None
    """None: not tried, because no row could be named that surely does not exist."""

    delete: Access | None = None


ABSENT_CODES = frozenset({"PGRST202", "PGRST205", "PGRST106"})

PARALLEL = 4
"""Requests at a time: a look of one second on a project far away, and no load."""

EXAMPLES: Mapping[str, str] = {
    "uuid": "00000000-0000-0000-0000-000000000000",
    "bigint": "-1",
    "integer": "-1",
    "jsonb": "{}",
    "text": "x",
    "boolean": "false",
    "numeric": "-1",
    "text[]": "{}",
    "timestamp with time zone": "2000-01-01T00:00:00Z",
}
"""Something of each type that our functions take."""


class Stranger:
    """Requests with the public key. Made inside the event loop; close it with `aclose`."""

    def __init__(self, config: SupabaseConfig, anon_key: str) -> None:
        """`config`: the project and the waits; its own key is not used."""
        library.quiet()
        waits = config.http
        # An opaque key is no bearer token: the gateway makes one of it.
        bearer = {"Authorization": f"Bearer {anon_key}"} if claims(anon_key) is not None else {}
        self._total = waits.total
        self._http = httpx.AsyncClient(
            base_url=f"{config.url}/rest/v1",
            headers={"apikey": anon_key, **bearer},
            timeout=httpx.Timeout(connect=waits.connect, read=waits.read, write=waits.write, pool=waits.total),
            limits=httpx.Limits(max_connections=PARALLEL, keepalive_expiry=waits.keepalive),
        )
        self._turn = asyncio.Semaphore(PARALLEL)
        self._given_up: DatabaseAway | DatabaseRefused | None = None
        """Why the rest is not tried: each would cost another wait."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def tables(self, tables: Mapping[str, Table]) -> dict[str, Tries]:
        """Try each table. Raises DatabaseAway; DatabaseRefused when the key itself is not accepted."""
        found = await _all([self._table(name, table) for name, table in tables.items()])
        return dict(zip(tables, found, strict=True))

    async def functions(self, functions: Mapping[str, str]) -> dict[str, Access]:
        """Try each function, by its name: its parameters as PostgreSQL prints them. Raises as `tables`."""
        found = await _all([self._function(name, parameters) for name, parameters in functions.items()])
        return dict(zip(functions, found, strict=True))

    async def _table(self, name: str, table: Table) -> Tries:
        read, _ = await self._try("GET", name, {"select": "*", "limit": "0"})
        seen = False
        if read is Access.ALLOWED:
            read, place = await self._try("HEAD", name, {"select": "*", "limit": "1"})
            seen = read is Access.ALLOWED and place.startswith("0-")
        if table.key is None or table.column is None:
            return Tries(read=read, seen=seen)
        nothing = {table.key: "is.null"}
        update, _ = await self._try("PATCH", name, nothing, {table.column: None})
        delete, _ = await self._try("DELETE", name, nothing)
        return Tries(read=read, seen=seen, update=update, delete=delete)

    async def _function(self, name: str, parameters: str) -> Access:
        # A type may have several words: timestamp with time zone.
        taken = [part.split(maxsplit=1) for part in parameters.split(", ") if part and not part.startswith("OUT ")]
        values = {parameter: EXAMPLES.get(kind, "x") for parameter, kind in taken}
        access, _ = await self._try("GET", f"rpc/{name}", values)
        return access

    async def _try(self, method: str, path: str, query: Mapping[str, str], body: object = None) -> tuple[Access, str]:
        """How it came out, and the Content-Range of the answer."""
        async with self._turn:
            if self._given_up is not None:
                raise self._given_up
            try:
                return await self._tried(method, path, query, body)
            except (DatabaseAway, DatabaseRefused) as error:
                self._given_up = error
                raise

    async def _tried(self, method: str, path: str, query: Mapping[str, str], body: object) -> tuple[Access, str]:
        try:
            async with asyncio.timeout(self._total):
                answer = await self._http.request(method, f"/{path}", params=query, json=body)
        except TimeoutError:
            raise DatabaseAway(f"Supabase did not finish its answer within {self._total:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise refusals.of_transport(error) from None
        return _access(answer), answer.headers.get("Content-Range", "")


async def _all(tries: list[Coroutine[Any, Any, _Answer]]) -> list[_Answer]:
    """All of them, also when one fails: nobody is left behind with a closed client."""
    found = await asyncio.gather(*tries, return_exceptions=True)
    for answer in found:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in found if not isinstance(answer, BaseException)]


def _access(answer: httpx.Response) -> Access:
    if answer.is_success:
        return Access.ALLOWED
    try:
        told = answer.json()
    except ValueError:
        told = None
    code = told.get("code") if isinstance(told, dict) else None
    if code == "42501":
        return Access.DENIED
    if code in ABSENT_CODES:
        return Access.ABSENT
    if answer.request.method == "HEAD":
        # It has no body that says why; but the key was taken for the request before.
        return Access.DENIED if answer.status_code in (401, 403) else Access.UNCLEAR
    if answer.status_code in (401, 403):
        raise DatabaseRefused("the public key is not accepted by this project", status=answer.status_code)
    if answer.status_code >= 500 and code is None:
        raise DatabaseAway(f"Supabase is not able to answer now (HTTP {answer.status_code})", status=answer.status_code)
    return Access.UNCLEAR
