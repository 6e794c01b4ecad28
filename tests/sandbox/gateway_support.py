"""What the gateway's tests share: a database with tables, a gateway in front of it, a bare websocket client."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from adapter.sandbox.gateway import Delays, Gateway, Limits
from adapter.sandbox.postgres import Postgres
from tests.support.db import fresh_database, make_template

SCHEMA = Path(__file__).with_name("gateway_schema.sql")
SHORT = Delays(poll=0.02)
"""Tests look for changes more often."""


@dataclass(slots=True, kw_only=True)
class World:
    """A gateway and a connection to its database (as postgres)."""

    gateway: Gateway
    dsn: str
    connection: "asyncpg.Connection[asyncpg.Record]"

    async def run(self, sql: str) -> None:
        """Run SQL in the database."""
        await self.connection.execute(sql)

    async def value(self, sql: str) -> Any:
        """One value from the database."""
        return await self.connection.fetchval(sql)


@asynccontextmanager
async def world(server: Postgres, *, delays: Delays = SHORT, limits: Limits | None = None) -> AsyncIterator[World]:
    """A fresh database with the tests' tables and a gateway that serves it."""
    template = await make_template(server, "template_gateway", [SCHEMA])
    async with fresh_database(server, template) as dsn:
        connection = await asyncpg.connect(dsn)
        try:
            async with Gateway.started(dsn, delays=delays, limits=limits) as gateway:
                yield World(gateway=gateway, dsn=dsn, connection=connection)
        finally:
            await connection.close()


@dataclass(slots=True, kw_only=True)
class Client:
    """A bare Realtime client, version 1.0.0."""

    ws: aiohttp.ClientWebSocketResponse
    refs: int = 0
    heard: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, topic: str, event: str, payload: Any, *, ref: Any = None, join_ref: Any = None) -> None:
        """One frame."""
        frame = {"topic": topic, "event": event, "payload": payload, "ref": ref, "join_ref": join_ref}
        await self.ws.send_str(json.dumps(frame))

    async def next(self, event: str | None = None, *, seconds: float = 5) -> dict[str, Any]:
        """The next frame, or the next one of this event (others are passed over)."""
        async with asyncio.timeout(seconds):
            while True:
                frame: dict[str, Any] = json.loads(await self.ws.receive_str())
                self.heard.append(frame)
                if event in (None, frame["event"]):
                    return frame

    async def join(
        self, topic: str, *bindings: Mapping[str, Any], private: bool = False, **more: Any
    ) -> dict[str, Any]:
        """Join `realtime:<topic>`; returns the reply's payload."""
        self.refs += 1
        config = {"private": private, "postgres_changes": list(bindings), **more.pop("config", {})}
        ref = str(self.refs)
        await self.send(f"realtime:{topic}", "phx_join", {"config": config, **more}, ref=ref, join_ref=ref)
        reply = await self.next("phx_reply")
        payload: dict[str, Any] = reply["payload"]
        return payload

    async def subscribe(self, topic: str, *bindings: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Join and wait for the system message; returns its payload."""
        assert (await self.join(topic, *bindings, **more))["status"] == "ok"
        payload: dict[str, Any] = (await self.next("system"))["payload"]
        return payload

    async def silence(self, seconds: float = 0.1) -> None:
        """Nothing comes for a while: several looks of the poller."""
        await asyncio.sleep(seconds)
        await self.send("phoenix", "heartbeat", {}, ref="silence")
        frame = await self.next()
        assert frame["ref"] == "silence", frame


@asynccontextmanager
async def client(gateway: Gateway, *, key: str | None = None) -> AsyncIterator[Client]:
    """A connected client; `key` is the service role's unless said otherwise."""
    url = f"{gateway.url}/realtime/v1/websocket"
    params = {"apikey": key or gateway.service_role_key, "vsn": "1.0.0"}
    async with aiohttp.ClientSession() as session, session.ws_connect(url, params=params) as ws:
        yield Client(ws=ws)


def inserts(table: str, **more: Any) -> dict[str, Any]:
    """The binding for new rows of a table."""
    return {"event": "INSERT", "schema": "public", "table": table, **more}
