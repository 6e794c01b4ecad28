"""The local Supabase used by the real supabase-js (pinned, from npm, kept in the user's cache)."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from adapter.sandbox.postgres import Postgres
from tests.sandbox.gateway_support import world
from tests.support.npm import BIN, installed, placed

SCRIPT = Path(__file__).with_name("gateway_client.mjs")


@pytest.fixture(scope="module")
def packages() -> Path:
    """A folder with the packages installed; made once."""
    return installed()


@pytest.mark.timeout(180)  # The first time the packages are fetched.
@pytest.mark.parametrize("key", ["legacy", "opaque"])
async def test_supabase_js_finds_what_it_expects(pg_server: Postgres, packages: Path, key: str) -> None:
    script = placed(SCRIPT)
    async with world(pg_server) as here:
        gateway = here.gateway
        legacy = key == "legacy"
        environment = {
            "PATH": os.environ["PATH"],
            "SUPABASE_URL": gateway.url,
            "SUPABASE_KEY": gateway.service_role_key if legacy else gateway.secret_key,
            "SUPABASE_ANON_KEY": gateway.anon_key if legacy else gateway.publishable_key,
        }
        process = await asyncio.create_subprocess_exec(
            BIN / "node",
            script.name,
            cwd=packages,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), 40)
        except TimeoutError:
            process.kill()
            output, errors = await process.communicate()
        assert process.returncode == 0, (output + errors).decode()
        found = json.loads(output)
    assert found == {
        "insert": {"name": "ann", "age": 30, "about": {"n": [1]}},
        "bulk": 2,
        "select": {"data": [{"name": "cy", "years": None}], "count": 2},
        "maybe": None,
        "update": [{"age": 31}],
        "upsert": [{"age": 32}],
        "ignored": [],
        "delete": 204,
        "rpc": 11,
        "rpcGet": 12,
        "errors": ["PGRST205", "PGRST202", "23505", "PGRST116", 204, 401],
        "joined": "SUBSCRIBED",
        "system": "Subscribed to PostgreSQL",
        "change": {"type": "INSERT", "table": "call_queue", "phone": "+60123456700", "errors": None},
        "ring": "rows",
        "anonJoined": "SUBSCRIBED",
        "sentOverHttp": {"success": True},
        "heardOverHttp": {"n": 1},
        "sent": "ok",
        "heard": {"n": 2},
        "refused": [
            "CHANNEL_ERROR",
            "Error: Unauthorized: You do not have permissions to read from this Channel topic: call_queue",
        ],
    }
