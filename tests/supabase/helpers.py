"""An adapter as the database sees it: the three functions, called as `service_role` would."""

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg

USER = "00000000-0000-4000-8000-00000000000a"
OTHER = "00000000-0000-4000-8000-00000000000b"

ORIGINATED = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
"""When calls of these records began: just now, since some things are asked of the last day only."""


def instant(seconds: float) -> str:
    """So long after a call began, as an adapter writes it."""
    return (ORIGINATED + timedelta(seconds=seconds)).isoformat()


RINGING_AT, ANSWERED_AT = instant(1), instant(5)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """A connection that reads and writes jsonb as Python values."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        yield connection
    finally:
        await connection.close()


def number(serial: int) -> str:
    """A Malaysian number that belongs to nobody."""
    return f"+601234{serial:05d}"


@dataclass
class Desk:
    """One adapter at work on one connection."""

    connection: Connection
    adapter: uuid.UUID = field(default_factory=uuid.uuid4)
    incarnation: int = 0
    pbx: str = "pbx-1"
    status: dict[str, Any] = field(default_factory=lambda: {"countries": ["*"]})
    """What is in each of its heartbeats. Which countries may be called is the business of test_forbidden.py alone."""

    async def register(
        self, expected: int | None = None, nonce: uuid.UUID | None = None, **info: str
    ) -> dict[str, Any]:
        """Register the next run."""
        reply: dict[str, Any] = await self.connection.fetchval(
            "select public.call_register_v1($1, $2, $3, $4, $5)",
            self.adapter,
            self.incarnation if expected is None else expected,
            nonce or uuid.uuid4(),
            self.pbx,
            {"version": "0.1.0", **info},
        )
        if reply["accepted"]:
            self.incarnation = reply["incarnation"]
        return reply

    async def sync(
        self,
        records: Sequence[dict[str, Any]] = (),
        *,
        room: int = 0,
        claim_id: uuid.UUID | None = None,
        **status: Any,
    ) -> dict[str, Any]:
        """One request; a claim of its own id when there is room and none is given."""
        numbered = [{"seq": seq, **record} for seq, record in enumerate(records, start=1)]
        reply: dict[str, Any] = await self.connection.fetchval(
            "select public.call_sync_v1($1, $2, $3, $4, $5, $6)",
            self.adapter,
            self.incarnation,
            numbered,
            {"pbx": self.pbx, "ready": True, "trunk": "SIP-TRUNK-1", "region": "MY", **self.status, **status},
            room,
            claim_id or (uuid.uuid4() if room else None),
        )
        return reply

    async def claim(self, room: int = 50, **status: Any) -> list[dict[str, Any]]:
        """Rows to dial."""
        reply = await self.sync(room=room, **status)
        rows: list[dict[str, Any]] = reply["rows"]
        return rows

    async def claim_one(self, **status: Any) -> dict[str, Any]:
        """The one row there is to dial."""
        (row,) = await self.claim(1, **status)
        return row

    async def insert(self, phone_number: str = "012-345 6700", **columns: Any) -> int | None:
        """Insert one row; returns its id, or None if it was not added."""
        values = {"user_id": USER, "phone_number": phone_number, **columns}
        names = ", ".join(values)
        marks = ", ".join(f"${i}" for i in range(1, len(values) + 1))
        row: int | None = await self.connection.fetchval(
            f"insert into public.call_queue ({names}) values ({marks}) returning id",  # noqa: S608 - names of ours
            *values.values(),
        )
        return row

    async def fill(self, count: int, *, user: str = USER, campaign: str | None = None, start: int = 0) -> None:
        """Insert `count` rows with numbers of their own."""
        await self.connection.execute(
            "insert into public.call_queue (user_id, campaign_id, phone_number) "
            "select $1::uuid, $2::uuid, '+601' || (100000000 + $3 + i) from generate_series(1, $4) i",
            user,
            campaign,
            start,
            count,
        )

    async def row(self, row_id: int | None) -> asyncpg.Record:
        """A queue row."""
        found = await self.connection.fetchrow("select * from public.call_queue where id = $1", row_id)
        assert found is not None
        return found

    async def log(self, call_id: str | uuid.UUID) -> asyncpg.Record | None:
        """The call_logs row of a call."""
        return await self.connection.fetchrow("select * from public.call_logs where call_id = $1", str(call_id))

    async def the_log(self, call_id: str | uuid.UUID) -> asyncpg.Record:
        """The call_logs row of a call, which is there."""
        found = await self.log(call_id)
        assert found is not None
        return found

    async def settle(self) -> dict[str, Any]:
        """Let the ten seconds of all answered calls pass, and sweep."""
        await self.connection.execute(
            "update public.call_queue set settle_at = now() - interval '1 second' where settle_at is not null"
        )
        return await self.sync()

    async def due(self) -> None:
        """Let the wait of all queued rows pass."""
        await self.connection.execute(
            "update public.call_queue set not_before = now() - interval '1 second' where status = 'queued'"
        )


def answered(call_id: str, **fields: Any) -> dict[str, Any]:
    """A record: the callee picked up."""
    return {
        "kind": "answered",
        "call_id": call_id,
        "originated_at": instant(0),
        "ringing_at": RINGING_AT,
        "answered_at": ANSWERED_AT,
        **fields,
    }


def outcome(call_id: str, word: str, **fields: Any) -> dict[str, Any]:
    """A record: the call ended."""
    status = {"answered": "answered", "ai_failed": "answered", "voicemail": "voicemail"}.get(word, "failed")
    if word in ("no_answer", "busy", "declined", "no_reply"):
        status = "no_answered"
    talked = status == "answered"
    # Twenty calls in a row of which nothing rang would stop the trunk.
    rang = talked or word in ("no_answer", "busy", "declined")
    return {
        "kind": "outcome",
        "call_id": call_id,
        "outcome": word,
        "log_status": status,
        "reason": f"it ended: {word}",
        "hangup_cause": 16 if talked else 17,
        "sip_code": None,
        "originated_at": instant(0),
        "ringing_at": RINGING_AT if rang else None,
        "answered_at": ANSWERED_AT if talked else None,
        "ended_at": instant(40),
        "talk_seconds": 35 if talked else 0,
        "estimated": False,
        "trunk": "SIP-TRUNK-1",
        **fields,
    }


def release(call_id: str, cause: str = "not_sent") -> dict[str, Any]:
    """A record: the row goes back."""
    return {"kind": "release", "call_id": call_id, "cause": cause, "reason": f"for {cause}"}
