"""docs/inserting.md: its SQL and HTTP examples, run as they stand there."""

import asyncio
import os

from adapter.sandbox.gateway import Gateway
from tests.supabase.helpers import connected
from tests.test_guide import ROOT, blocks

TEXT = (ROOT / "docs" / "inserting.md").read_text(encoding="utf-8")


async def test_the_least_row_in_sql_and_over_http(db: str) -> None:
    (http,) = blocks(TEXT, "sh")
    async with connected(db) as connection, Gateway.started(db) as gateway:
        await connection.execute(blocks(TEXT, "sql")[0])
        environment = {
            "PATH": os.environ["PATH"], "SUPABASE_URL": gateway.url, "SUPABASE_KEY": gateway.service_role_key,
            "NO_PROXY": "*",
        }  # fmt: skip
        process = await asyncio.create_subprocess_shell(http, env=environment)
        assert await asyncio.wait_for(process.wait(), 20) == 0
        rows = await connection.fetch("select e164, status from call_queue order by id")
        assert [tuple(row) for row in rows] == [("+60123456700", "queued"), ("+60123456703", "queued")]
