"""docs/inserting.md: its examples in SQL, over HTTP, with supabase-js and supabase-py, run as they stand there."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapter.sandbox.gateway import Gateway
from tests.supabase.helpers import connected
from tests.support.npm import BIN, installed
from tests.test_guide import ROOT, blocks

TEXT = (ROOT / "docs" / "inserting.md").read_text(encoding="utf-8")

# Node before 22 has no websocket of its own, as the page says.
WEBSOCKET = "import ws from 'ws'; globalThis.WebSocket ??= ws"


def _environment(gateway: Gateway) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "SUPABASE_URL": gateway.url, "SUPABASE_KEY": gateway.service_role_key,
        "NO_PROXY": "*",
    }  # fmt: skip


async def test_the_least_row_in_sql_and_over_http(db: str) -> None:
    (http,) = blocks(TEXT, "sh")
    async with connected(db) as connection, Gateway.started(db) as gateway:
        await connection.execute(blocks(TEXT, "sql")[0])
        process = await asyncio.create_subprocess_shell(http, env=_environment(gateway))
        assert await asyncio.wait_for(process.wait(), 20) == 0
        rows = await connection.fetch("select e164, status from call_queue order by id")
        assert [tuple(row) for row in rows] == [("+60123456700", "queued"), ("+60123456703", "queued")]


async def _run(db: str, command: Sequence[str | Path], directory: Path) -> None:
    """The program of the page: what it prints, and what it leaves in the queue."""
    async with connected(db) as connection, Gateway.started(db) as gateway:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=directory,
            env=_environment(gateway),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        told = asyncio.create_task(process.communicate())
        try:
            async with asyncio.timeout(40):
                while not gateway.realtime_channels and process.returncode is None:
                    await asyncio.sleep(0.05)
                # It reads the row when it listens; what comes now it can only hear of.
                await asyncio.sleep(2)
                row = await connection.fetchval("select min(id) from call_queue")
                await connection.fetchval("select call_cancel_v1($1, 'that is all')", row)
                output, errors = await told
        except TimeoutError:
            process.kill()
            output, errors = await told
        assert process.returncode == 0, (output + errors).decode()
        lines = output.decode().splitlines()
        assert lines[0].startswith("12 the phone number is too short")
        assert lines[1:] == ["1 0", "canceled", "5", "canceled canceled"]
        rows = await connection.fetch(
            "select phone_number, status, outcome, priority, customer_name, variables from call_queue order by id"
        )
        assert [tuple(row) for row in rows] == [
            ("012-345 6704", "canceled", "canceled", 5, None, {}),
            ("012-345 6705", "queued", None, 9, "Aminah", {}),
            ("012-345 6706", "queued", None, 5, None, {"offer": "A"}),
            ("12", "done", "blocked", 5, None, {}),
            ("012-345 6707", "canceled", "canceled", 5, None, {}),
        ]


@pytest.mark.timeout(180)  # The first time the packages are fetched.
async def test_the_program_with_supabase_js(db: str) -> None:
    place = installed()
    program = place / "inserting.mjs"
    program.write_text("\n".join(blocks(TEXT, "js")), encoding="utf-8")
    (place / "websocket.mjs").write_text(WEBSOCKET, encoding="utf-8")
    await _run(db, [BIN / "node", "--import", "./websocket.mjs", program.name], place)


async def test_the_program_with_supabase_py(db: str, tmp_path: Path) -> None:
    (program,) = blocks(TEXT, "python")
    path = tmp_path / "inserting.py"
    path.write_text(program, encoding="utf-8")
    await _run(db, [sys.executable, path], tmp_path)
