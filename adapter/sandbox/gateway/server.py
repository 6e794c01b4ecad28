"""The gateway as one local web server: API keys, CORS, /rest/v1, /realtime/v1."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from adapter.log import hide, say
from adapter.sandbox.gateway.faults import HttpFault
from adapter.sandbox.gateway.keys import Keys
from adapter.sandbox.gateway.limits import Delays, Limits
from adapter.sandbox.gateway.realtime import Realtime
from adapter.sandbox.gateway.rest import Rest, pool_of

log = logging.getLogger(__name__)

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Content-Range, Content-Location, Location",
}
PREFLIGHT = {
    **CORS,
    "Access-Control-Allow-Methods": "GET, HEAD, PUT, PATCH, POST, DELETE, OPTIONS",
    # Not only "*": that does not stand for Authorization.
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Max-Age": "3600",
}

BODY_BYTES = 50 * 1024 * 1024
"""Largest request: a bulk insert of many thousand rows."""


@dataclass(slots=True, kw_only=True)
class Gateway:
    """A running gateway.

    Faults for tests: `http_fault` stands before every REST request; `deaf` makes joined channels silent, untold, as a
    real one can be (rows and broadcasts of that time are lost); `pause_realtime` shuts Realtime down as a restart
    does; `drop_realtime_connections` cuts them as a broken network does, `kill_realtime` as a killed server,
    `reload_realtime` closes them as an operator's reload; `stop_replication` and `forget_subscriptions` leave joined
    channels dead, untold, though their sockets and heartbeats are well.
    """

    url: str
    keys: Keys
    http_fault: HttpFault | None = None
    _realtime: Realtime

    @property
    def service_role_key(self) -> str:
        """The legacy secret key: a JWT."""
        return self.keys.service_role

    @property
    def secret_key(self) -> str:
        """The new opaque secret key, `sb_secret_…`."""
        return self.keys.secret

    @property
    def anon_key(self) -> str:
        """The legacy public key: a JWT."""
        return self.keys.anon

    @property
    def publishable_key(self) -> str:
        """The new opaque public key, `sb_publishable_…`."""
        return self.keys.publishable

    def token(self, role: str, *, seconds: float = 3600, **claims: Any) -> str:
        """A signed-in user's access token, for `Authorization` beside the anon key."""
        return self.keys.token(role, seconds=seconds, **claims)

    @property
    def deaf(self) -> bool:
        """Joined channels hear nothing while this is true; heartbeats are answered."""
        return self._realtime.deaf

    @deaf.setter
    def deaf(self, deaf: bool) -> None:
        self._realtime.deaf = deaf

    @property
    def realtime_channels(self) -> int:
        """How many channels are joined now."""
        return self._realtime.joined

    @property
    def polling(self) -> bool:
        """Whether the replication slot is being read: only while somebody is subscribed."""
        return self._realtime.polling

    def pause_realtime(self) -> None:
        """Close every websocket with 1012 and refuse new ones (503) until `resume_realtime`."""
        self._realtime.pause()

    def resume_realtime(self) -> None:
        """Accept websockets again."""
        self._realtime.paused = False

    def kill_realtime(self) -> None:
        """Cut every connection without a goodbye and refuse new ones (503) until `resume_realtime`."""
        self._realtime.paused = True
        self._realtime.cut()

    def reload_realtime(self) -> None:
        """Tell every channel "Server requested disconnect" and close with 1012; new connections are taken."""
        self._realtime.reload()

    def stop_replication(self) -> None:
        """End the worker that reads the slot: who is subscribed hears nothing any more; a new join starts another."""
        self._realtime.changes.stop_worker()

    def forget_subscriptions(self) -> None:
        """Lose every subscription, as if its row were deleted: who is subscribed hears nothing any more."""
        self._realtime.changes.forget()

    def drop_realtime_connections(self) -> int:
        """Cut every websocket's TCP connection without a goodbye; returns how many."""
        return self._realtime.cut()

    @classmethod
    @asynccontextmanager
    async def started(
        cls,
        dsn: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        keys: Keys | None = None,
        delays: Delays | None = None,
        limits: Limits | None = None,
    ) -> "AsyncIterator[Gateway]":
        """Serve the database `dsn` (a project of sql/project.sql, as user postgres) until the block ends."""
        keys, delays, limits = keys or Keys.minted(), delays or Delays(), limits or Limits()
        for secret in (keys.anon, keys.service_role, keys.publishable, keys.secret, keys.jwt_secret):
            hide(secret)
        pool = await pool_of(dsn, limits)
        rest = Rest(pool=pool, keys=keys, limits=limits)

        def schema_changed(*_notification: object) -> None:
            rest.stale = True

        try:
            realtime = Realtime(dsn=dsn, pool=pool, keys=keys, delays=delays, limits=limits)
            async with realtime.running(schema_changed):
                gateway = cls(url="", keys=keys, _realtime=realtime)
                runner = web.AppRunner(_application(gateway, rest, realtime), access_log=None, shutdown_timeout=1.0)
                await runner.setup()
                try:
                    site = web.TCPSite(runner, host, port, reuse_address=True)
                    await site.start()
                    real_port = runner.addresses[0][1]
                    gateway.url = f"http://{host}:{real_port}"
                    say(log, logging.INFO, "gateway.up", "The local Supabase is up", url=gateway.url)
                    yield gateway
                finally:
                    await realtime.goodbye()
                    await runner.cleanup()
        finally:
            # Not close(): that waits for requests under way, and nobody is left to hear their answers.
            pool.terminate()


def _application(gateway: Gateway, rest: Rest, realtime: Realtime) -> web.Application:
    @web.middleware
    async def front(request: web.Request, handler: Handler) -> web.StreamResponse:
        """CORS for everybody; REST only with one of the project's keys."""
        if request.method == "OPTIONS":
            return web.Response(headers=PREFLIGHT)
        if request.path.startswith("/rest/v1"):
            response = _key_refused(request, gateway.keys) or await handler(request)
        else:
            response = await handler(request)
        if not response.prepared:
            response.headers.update(CORS)
        return response

    async def rest_request(request: web.Request) -> web.StreamResponse:
        async def forward() -> web.StreamResponse:
            return await rest.answer(request)

        if gateway.http_fault:
            return await gateway.http_fault(request, forward)
        return await forward()

    application = web.Application(middlewares=[front], client_max_size=BODY_BYTES)
    application.router.add_get("/realtime/v1/websocket", realtime.websocket)
    application.router.add_post("/realtime/v1/api/broadcast", realtime.http_broadcasts)
    application.router.add_post("/realtime/v1/api/broadcast/{topic}/events/{event}", realtime.http_broadcast)
    application.router.add_route("*", "/rest/v1/{path:.*}", rest_request)
    return application


def _key_refused(request: web.Request, keys: Keys) -> web.Response | None:
    """The gateway's own answer to a request without a known API key; PostgREST never sees it."""
    key = request.headers.get("apikey") or request.query.get("apikey")
    if not key:
        return web.json_response(
            {"message": "No API key found in request", "hint": "No `apikey` request header or url param was found."},
            status=401,
        )
    if not keys.known(key):
        hint = "Double check your Supabase `anon` or `service_role` API key."
        return web.json_response({"message": "Invalid API key", "hint": hint}, status=401)
    return None
