"""/rest/v1: the part of PostgREST that the official clients use."""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import asyncpg
from aiohttp import web

from adapter.log import say
from adapter.sandbox.gateway import query, statements
from adapter.sandbox.gateway.catalog import SCHEMA, Catalog, Function, Table, read_catalog
from adapter.sandbox.gateway.errors import ApiError, from_postgres, not_done
from adapter.sandbox.gateway.keys import BadToken, Claims, Keys
from adapter.sandbox.gateway.limits import Limits
from adapter.sandbox.gateway.query import Page
from adapter.sandbox.gateway.statements import Statement, Wishes

log = logging.getLogger(__name__)

SKEW_SECONDS = 30.0
"""PostgREST forgives a token this much."""

OBJECT = "application/vnd.pgrst.object+json"
"""Accepted by clients that want exactly one row, as an object."""

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
# asyncpg-stubs names a pooled connection by its own proxy class.
PoolConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

_RERUN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_STALE = (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError, asyncpg.UndefinedColumnError)
_AWAY = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # A connection whose server said goodbye while it lay in the pool.
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A REST request, read."""

    method: str
    path: str
    body: str
    pairs: Sequence[tuple[str, str]]
    prefer: Mapping[str, str]
    accept: str
    page: Page
    most_rows: int
    claims: Claims

    @property
    def role(self) -> str:
        """The database role of the request."""
        return str(self.claims.get("role", "anon"))

    @property
    def single(self) -> bool:
        """Whether exactly one row is wanted."""
        return self.accept.startswith(OBJECT)

    def wishes(self, *, page: Page, pairs: Sequence[tuple[str, str]] | None = None) -> Wishes:
        """What the statements need to know."""
        resolution = {"merge-duplicates": "merge", "ignore-duplicates": "ignore"}
        return Wishes(
            pairs=self.pairs if pairs is None else pairs,
            page=page,
            count="count" in self.prefer,
            representation=self.prefer.get("return") == "representation",
            conflict=resolution.get(self.prefer.get("resolution", "")),
            defaults_for_missing=self.prefer.get("missing") == "default",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The one row of a statement."""

    body: str = "[]"
    rows: int = 0
    total: int | None = None
    added: int | None = None


Work = Callable[[PoolConnection, Catalog], Awaitable[web.Response]]


@dataclass(slots=True, kw_only=True)
class Rest:
    """Answers REST requests. `stale`: the schema changed, read the catalog again before the next request."""

    pool: Pool
    keys: Keys
    limits: Limits
    stale: bool = True
    _away: bool = False
    _catalog: Catalog = field(default_factory=lambda: Catalog(tables={}, functions={}, role_settings={}))

    async def answer(self, request: web.Request) -> web.Response:
        """Do the request; every refusal becomes an answer as PostgREST gives it."""
        anonymous = True
        try:
            claims = self._claims(request)
            anonymous = claims.get("role", "anon") == "anon"
            answer = await self._done(await _read(request, claims, self.limits))
        except ApiError as error:
            return error.response()
        except _AWAY as error:
            return self._set_away(error).response()
        except asyncpg.PostgresError as error:
            return from_postgres(error, anonymous=anonymous).response()
        self._set_away(None)
        return answer

    def _set_away(self, error: Exception | None) -> ApiError:
        """Say once that the database went away, and that it is back; returns the answer meanwhile."""
        if error and not self._away:
            say(log, logging.WARNING, "gateway.database_away", "The database refuses REST requests", error=str(error))
        if not error and self._away:
            say(log, logging.INFO, "gateway.database_back", "The database answers REST requests again")
        self._away = error is not None
        return ApiError(503, "PGRST002", "Could not query the database for the schema cache. Retrying.")

    def _claims(self, request: web.Request) -> Claims:
        """Who is asking: the token of `Authorization`, else the one that stands for the API key."""
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        token = bearer.strip() if scheme.lower() == "bearer" else ""
        token = self.keys.translated(token or request.headers.get("apikey") or request.query.get("apikey", ""))
        try:
            return self.keys.valid_claims(token, leeway=SKEW_SECONDS)
        except BadToken as bad:
            code, message = _TOKEN_REFUSALS[bad.kind]
            raise ApiError(401, code, message) from None

    async def _done(self, asked: Asked) -> web.Response:
        """Do it; when a name is unknown, once more with a fresh catalog: the schema may just have changed."""
        try:
            return await self._with_reruns(asked)
        except ApiError as error:
            if error.code not in ("PGRST202", "PGRST204", "PGRST205", "42703"):
                raise
        except _STALE:
            pass
        self.stale = True
        return await self._with_reruns(asked)

    async def _with_reruns(self, asked: Asked) -> web.Response:
        work = _work(asked)
        for run in range(self.limits.reruns + 1):
            try:
                return await self._transaction(asked, work)
            except _RERUN as error:
                if run == self.limits.reruns:
                    raise
                say(
                    log,
                    logging.ERROR,
                    "gateway.rerun",
                    "A serialization failure or deadlock escaped from the database. The real PostgREST would now run "
                    "the transaction again for ever; the sandbox gives up after a few times. Mend the SQL",
                    path=asked.path,
                    sqlstate=error.sqlstate,
                    run=run + 1,
                )
        raise AssertionError("unreachable")

    async def _transaction(self, asked: Asked, work: Work) -> web.Response:
        try:
            connection = await self.pool.acquire(timeout=self.limits.pool_seconds)
        except TimeoutError:
            raise ApiError(504, "PGRST003", "Timed out acquiring connection from connection pool.") from None
        try:
            if self.stale:
                self.stale = False
                self._catalog = await read_catalog(connection)
            async with connection.transaction(readonly=asked.method in ("GET", "HEAD")):
                await connection.execute(*_circumstances(asked, self._catalog))
                return await work(connection, self._catalog)
        except _AWAY:
            connection.terminate()  # Whatever is wrong with it, nobody shall get it again.
            raise
        finally:
            await self.pool.release(connection)


def _circumstances(asked: Asked, catalog: Catalog) -> tuple[str, ...]:
    """What the transaction must know before the work: role, claims, the role's own settings and the function's."""
    settings = {
        **catalog.role_settings.get(asked.role, {}),
        **_hoisted(asked, catalog),
        "search_path": f"{SCHEMA}, extensions",
        "request.jwt.claims": json.dumps(asked.claims, separators=(",", ":")),
        "request.method": asked.method,
        "request.path": asked.path,
        "role": asked.role,
    }
    calls = ", ".join(f"set_config(${2 * n + 1}, ${2 * n + 2}, true)" for n in range(len(settings)))
    return (f"select {calls}", *(text for pair in settings.items() for text in pair))


def _hoisted(asked: Asked, catalog: Catalog) -> Mapping[str, str]:
    functions = catalog.functions.get(asked.path.removeprefix("/rpc/"), ())
    return {name: text for function in functions for name, text in function.hoisted.items()}


_TOKEN_REFUSALS: Mapping[str, tuple[str, str]] = {
    "expired": ("PGRST303", "JWT expired"),
    "signature": ("PGRST301", "No suitable key or wrong key type"),
    "malformed": ("PGRST301", "Expected 3 parts in JWT; got 1"),
}


# ---------------------------------------------------------------- reading the request


async def _read(request: web.Request, claims: Claims, limits: Limits) -> Asked:
    for header in ("Accept-Profile", "Content-Profile"):
        schema = request.headers.get(header, SCHEMA)
        if schema != SCHEMA:
            raise ApiError(
                406, "PGRST106", f"Invalid schema: {schema}", hint=f"Only the following schemas are exposed: {SCHEMA}"
            )
    prefer: dict[str, str] = {}
    for header in request.headers.getall("Prefer", []):
        for wish in header.split(","):
            name, _, wanted = wish.strip().partition("=")
            prefer[name] = wanted
    return Asked(
        method=request.method,
        path=request.path.removeprefix("/rest/v1"),
        body=await request.text(),
        pairs=[(name, text) for name, text in request.query.items() if name != "apikey"],
        prefer=prefer,
        accept=request.headers.get("Accept", "*/*"),
        page=Page.asked(request.query, request.headers.get("Range")),
        most_rows=limits.rows,
        claims=claims,
    )


def _work(asked: Asked) -> Work:
    names = asked.path.strip("/").split("/")
    if len(names) == 2 and names[0] == "rpc":
        return lambda connection, catalog: _rpc(asked, names[1], connection, catalog)
    if len(names) == 1 and names[0] and asked.method in _TABLE_WORK:
        work = _TABLE_WORK[asked.method]
        return lambda connection, catalog: work(asked, _table(catalog, names[0]), connection)
    raise not_done(f"{asked.method} {asked.path}")


def _table(catalog: Catalog, name: str) -> Table:
    if name not in catalog.tables:
        raise ApiError(404, "PGRST205", f"Could not find the table '{SCHEMA}.{name}' in the schema cache")
    return catalog.tables[name]


def _json(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise ApiError(400, "PGRST102", "Empty or invalid json") from None


# ---------------------------------------------------------------- tables


async def _select(asked: Asked, table: Table, connection: PoolConnection) -> web.Response:
    page = asked.page.at_most(asked.most_rows)
    result = await _fetch(connection, statements.read(table, asked.wishes(page=page)))
    return _read_answer(asked, result)


async def _insert(asked: Asked, table: Table, connection: PoolConnection) -> web.Response:
    rows = _json(asked.body)
    single = isinstance(rows, dict)
    rows = [rows] if single else rows
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ApiError(400, "PGRST102", "Empty or invalid json")
    wishes = asked.wishes(page=asked.page)
    named = wishes.query.get("columns")
    if named:
        columns = [query.unquote(name.strip()) for name in query.split(named)]
    else:
        columns = list(rows[0]) if rows else []
        if any(row.keys() != rows[0].keys() for row in rows):
            raise ApiError(400, "PGRST102", "All object keys must match")
    if not rows:
        return _written(asked, Result(), 201)
    body = f"[{asked.body}]" if single else asked.body
    result = await _fetch(connection, statements.insert(table, columns, body, wishes))
    only_changed = wishes.conflict == "merge" and result.rows > 0 and not result.added
    return _written(asked, result, 200 if only_changed else 201)


async def _update(asked: Asked, table: Table, connection: PoolConnection) -> web.Response:
    fields = _json(asked.body)
    if not isinstance(fields, dict):
        raise ApiError(400, "PGRST102", "Empty or invalid json")
    if not fields:
        return _written(asked, Result(), 200 if _wants_rows(asked) else 204)
    statement = statements.update(table, list(fields), asked.body, asked.wishes(page=asked.page))
    return _written(asked, await _fetch(connection, statement), 200 if _wants_rows(asked) else 204)


async def _delete(asked: Asked, table: Table, connection: PoolConnection) -> web.Response:
    statement = statements.delete(table, asked.wishes(page=asked.page))
    return _written(asked, await _fetch(connection, statement), 200 if _wants_rows(asked) else 204)


_TABLE_WORK: Mapping[str, Callable[[Asked, Table, PoolConnection], Awaitable[web.Response]]] = {
    "GET": _select,
    "HEAD": _select,
    "POST": _insert,
    "PATCH": _update,
    "DELETE": _delete,
}

# ---------------------------------------------------------------- functions


async def _rpc(asked: Asked, name: str, connection: PoolConnection, catalog: Catalog) -> web.Response:
    given, body, filters = _arguments(asked, name, catalog)
    function = _function(catalog, name, given)
    wishes = asked.wishes(page=asked.page.at_most(asked.most_rows), pairs=filters)
    result = await _fetch(connection, statements.call(function, given, body, wishes))
    if function.void:
        return web.Response(status=204)
    if function.many:
        return _read_answer(asked, result)
    # One value or one row: PostgREST takes it out of the list.
    return _json_response(asked, _only(result.body), 200, {"Content-Range": f"0-0/{'1' if wishes.count else '*'}"})


def _arguments(asked: Asked, name: str, catalog: Catalog) -> tuple[Sequence[str], str, Sequence[tuple[str, str]]]:
    """The named arguments, the JSON text they stand in, and the rest of the query: filters on the result."""
    if asked.method == "POST":
        body = asked.body or "{}"
        fields = _json(body)
        if not isinstance(fields, dict):
            raise ApiError(400, "PGRST102", "Empty or invalid json")
        return list(fields), body, asked.pairs
    if asked.method not in ("GET", "HEAD"):
        raise ApiError(405, "PGRST101", "Cannot use the " + asked.method + " method on RPC")
    known = {parameter.name for function in catalog.functions.get(name, ()) for parameter in function.parameters}
    taken = {key: text for key, text in asked.pairs if key in known}
    return list(taken), json.dumps(taken), [(key, text) for key, text in asked.pairs if key not in known]


def _function(catalog: Catalog, name: str, given: Sequence[str]) -> Function:
    fitting = [found for found in catalog.functions.get(name, ()) if found.takes(frozenset(given))]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ApiError(300, "PGRST203", f"Could not choose the best candidate function between: {SCHEMA}.{name}")
    wanted = f"{SCHEMA}.{name}({', '.join(sorted(given))})" if given else f"{SCHEMA}.{name}"
    with_what = f"with parameters {', '.join(sorted(given))}" if given else "without parameters"
    others = catalog.functions.get(name)
    hint = None
    if others:
        names = ", ".join(parameter.name for parameter in others[0].parameters)
        hint = f"Perhaps you meant to call the function {SCHEMA}.{name}({names})"
    raise ApiError(
        404,
        "PGRST202",
        f"Could not find the function {wanted}{'' if given else ' without parameters'} in the schema cache",
        details=f"Searched for the function {SCHEMA}.{name} {with_what}, "
        "but no matches were found in the schema cache.",
        hint=hint,
    )


# ---------------------------------------------------------------- answers


async def _fetch(connection: PoolConnection, statement: Statement) -> Result:
    row = await connection.fetchrow(statement.sql, *statement.values)
    if row is None:
        raise AssertionError("an aggregate gives one row")
    return Result(**dict(row))


def _wants_rows(asked: Asked) -> bool:
    return asked.prefer.get("return") == "representation"


def _read_answer(asked: Asked, result: Result) -> web.Response:
    """Rows that were read, with their place in the whole: 206 when there are more, 416 when the page lies behind."""
    offset = asked.page.offset
    if result.total is not None and offset and offset >= result.total:
        raise ApiError(
            416,
            "PGRST103",
            "Requested range not satisfiable",
            details=f"An offset of {offset} was requested, but there are only {result.total} rows.",
        )
    partial = result.total is not None and result.rows < result.total
    place = f"{offset}-{offset + result.rows - 1}" if result.rows else "*"
    total = "*" if result.total is None else str(result.total)
    headers = {"Content-Range": f"{place}/{total}"}
    body = _exactly_one(result) if asked.single else result.body
    return _json_response(asked, body, 206 if partial else 200, headers)


def _written(asked: Asked, result: Result, status: int) -> web.Response:
    counted = str(result.rows) if "count" in asked.prefer else "*"
    headers = {"Content-Range": f"*/{counted}"}
    body = _exactly_one(result) if asked.single else result.body
    if not _wants_rows(asked):
        return web.Response(status=status, headers=headers)
    return _json_response(asked, body, status, headers)


def _exactly_one(result: Result) -> str:
    """The only row as an object. Raised inside the transaction: a write that touched another number is undone."""
    if result.rows != 1:
        raise ApiError(
            406,
            "PGRST116",
            "Cannot coerce the result to a single JSON object",
            details=f"The result contains {result.rows} rows",
        )
    return _only(result.body)


def _only(body: str) -> str:
    """The element of a JSON list of one, its text untouched; "null" of an empty list."""
    found = re.fullmatch(r"\s*\[(.*)\]\s*", body, re.DOTALL)
    return (found.group(1).strip() if found else "") or "null"


def _json_response(asked: Asked, body: str, status: int, headers: Mapping[str, str]) -> web.Response:
    kind = OBJECT if asked.single else "application/json"
    text = "" if asked.method == "HEAD" else body
    return web.Response(status=status, text=text, content_type=kind, charset="utf-8", headers=headers)


async def pool_of(dsn: str, limits: Limits) -> Pool:
    """Connections of `authenticator`, who may do nothing but become the role of a request."""

    async def keep(_connection: object) -> None:
        """Nothing to reset: all settings end with their transaction."""

    return await asyncio.wait_for(
        asyncpg.create_pool(
            dsn, user="authenticator", min_size=1, max_size=limits.pool, statement_cache_size=0, reset=keep
        ),
        limits.pool_seconds,
    )
