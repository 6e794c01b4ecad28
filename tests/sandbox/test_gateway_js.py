"""The local Supabase used by the real supabase-js (pinned, from npm, kept in the user's cache)."""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adapter.sandbox.postgres import Postgres
from tests.sandbox.gateway_support import world

BIN = Path(sys.executable).parent
"""Node and npm come with the development requirements, as a wheel."""

PACKAGES = {"@supabase/supabase-js": "2.109.0", "ws": "8.23.0"}
"""ws: Node before 22 has no websocket of its own."""

SCRIPT = Path(__file__).with_name("gateway_client.mjs")


@pytest.fixture(scope="module")
def packages() -> Path:
    """A folder with the packages installed; made once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mikopbx-adapter" / "npm"
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / "-".join(f"{name.rpartition('/')[2]}-{version}" for name, version in PACKAGES.items())
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            place.mkdir(exist_ok=True)
            manifest = {"name": "gateway-tests", "private": True, "type": "module", "dependencies": PACKAGES}
            (place / "package.json").write_text(json.dumps(manifest), encoding="utf-8")
            command = [str(BIN / "npm"), "install", "--no-audit", "--no-fund", "--ignore-scripts"]
            environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
            done = subprocess.run(command, cwd=place, check=False, capture_output=True, text=True, env=environment)
            if done.returncode != 0:
                pytest.fail(f"npm install of {PACKAGES} failed: {done.stderr}")
            (place / "done").touch()
    return place


@pytest.mark.timeout(180)  # The first time the packages are fetched.
@pytest.mark.parametrize("key", ["legacy", "opaque"])
async def test_supabase_js_finds_what_it_expects(pg_server: Postgres, packages: Path, key: str) -> None:
    shutil.copy(SCRIPT, packages / SCRIPT.name)  # Node looks for packages beside the script.
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
            SCRIPT.name,
            cwd=packages,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
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
