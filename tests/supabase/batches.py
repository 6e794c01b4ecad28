"""A user of the existing app who sends batch requests, as an edge function passes them on."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.supabase.helpers import Connection, number

LIMITS = {"numbers_per_request": 100, "requests_per_hour": 50, "numbers_per_hour": 200}


@dataclass(kw_only=True)
class Customer:
    """One user with a prompt; their requests come by one connection."""

    connection: Connection
    user: str = field(default_factory=lambda: str(uuid.uuid4()))
    prompt: str = field(default_factory=lambda: str(uuid.uuid4()))

    async def join(self, account: str = "pro", minutes: float = 1000) -> "Customer":
        """Be in the database."""
        await self.connection.execute(
            "insert into users (id, username, account_type, trial_balance_minutes, pro_balance_minutes) "
            "values ($1::uuid, $1::uuid::text, $2, $3, $3)",
            self.user,
            account,
            minutes,
        )
        await self.connection.execute(
            "insert into prompts (id, user_id, prompt_name, system_prompt) values ($1, $2, 'Sales', 'Sell.')",
            self.prompt,
            self.user,
        )
        return self

    def request(self, items: Sequence[Any] = (number(1),), **changes: Any) -> dict[str, Any]:
        """A request as the contacts page makes it."""
        return {
            "source": "page",
            "auth": "compat",
            "user_id": self.user,
            "prompt_id": self.prompt,
            "items": list(items),
            "retry": {"enabled": False, "interval_minutes": 30, "max_attempts": 3},
            "limits": LIMITS,
            "origin": "https://app.example.com",
            **changes,
        }

    async def ask(self, items: Sequence[Any] = (number(1),), **changes: Any) -> dict[str, Any]:
        """Send it."""
        return await ask(self.connection, self.request(items, **changes))

    async def session(self, ends: str = "7 days") -> str:
        """A session token that ends in `ends` from now."""
        token = uuid.uuid4().hex
        await self.connection.execute(
            "insert into user_sessions (user_id, session_token, expires_at) "
            "values ($1, $2, now() + $3::text::interval)",
            self.user,
            token,
            ends,
        )
        return token

    async def campaign(self, name: str = "Morning", total: int = 1, **columns: Any) -> str:
        """A campaign as the browser makes it before it sends its request."""
        values = {"status": "in_progress", "user_id": self.user, "total_numbers": total, **columns}
        names = ", ".join(values)
        marks = ", ".join(f"${i}" for i in range(2, len(values) + 2))
        made = await self.connection.fetchval(
            f"insert into campaigns (campaign_name, {names}) values ($1, {marks}) returning id",  # noqa: S608 - names of ours
            name,
            *values.values(),
        )
        return str(made)

    async def age(self, minutes: int) -> None:
        """Let so many minutes pass for all requests and campaigns so far."""
        for table in ("call_batches", "campaigns"):
            await self.connection.execute(
                f"update {table} set created_at = created_at - $1::integer * interval '1 minute'",  # noqa: S608 - names of ours
                minutes,
            )

    async def count(self, table: str = "call_queue") -> int:
        """Rows of this user."""
        found: int = await self.connection.fetchval(
            f"select count(*) from {table} where user_id = $1",  # noqa: S608 - names of ours
            self.user,
        )
        return found

    async def setting(self, key: str, value: str) -> None:
        """Change a setting of the app, as anyone may."""
        await self.connection.execute(
            "insert into system_settings (setting_key, setting_value) values ($1, $2) "
            "on conflict (setting_key) do update set setting_value = excluded.setting_value",
            key,
            value,
        )


async def ask(connection: Connection, request: Any) -> dict[str, Any]:
    """Send any request at all."""
    reply: dict[str, Any] = await connection.fetchval("select public.call_batch_v1($1)", request)
    assert reply["ok"] == (reply["code"] is None) == (reply["http_status"] == 200) == (reply["error"] is None)
    return reply


def results(reply: dict[str, Any]) -> list[str]:
    """What became of each item."""
    return [item["result"] for item in reply["items"]]


def rows(reply: dict[str, Any]) -> list[int]:
    """The row of each item."""
    return [item["row_id"] for item in reply["items"]]


def counts(queued: int = 0, returned: int = 0, refused: int = 0, duplicates: int = 0) -> dict[str, int]:
    """Counts of a reply."""
    return {
        "total": queued + returned + refused + duplicates,
        "queued": queued,
        "returned": returned,
        "refused": refused,
        "duplicates": duplicates,
    }
