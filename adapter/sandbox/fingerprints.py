"""`adapter/doctor/installed.json`: what a project has after `supabase/install.sql` of this version, for `doctor`.

`python -m adapter.sandbox.fingerprints` writes it after a change of a migration, `--check` says whether it is current
(exit code 1 if not). It is asked of a database made for it, so it cannot differ from what install.sql really does.
PostgreSQL 15, 16 and 18 gave the same file.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import asyncpg

from adapter.sandbox import installsql
from adapter.sandbox.postgres import Postgres

TARGET = Path(__file__).resolve().parents[1] / "doctor" / "installed.json"

DATABASE = "fingerprints"


async def taken(dsn: str) -> dict[str, Any]:
    """What an installed database says of itself, as far as `doctor` holds a project against it."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("set role service_role")
        told = json.loads(await connection.fetchval("select public.call_doctor_v1()"))
    finally:
        await connection.close()
    return {
        "version": told["version"],
        "objects": told["objects"],
        "execute": sorted(name for name, roles in told["execute"].items() if "service_role" in roles),
        "rights": {
            name: table["rights"]["service_role"]
            for name, table in told["tables"].items()
            if f"table {name}" in told["objects"]
        },
    }


async def made() -> str:
    """The text of the file, from a project of its own."""
    async with Postgres.started() as server:
        await server.create_project(DATABASE)
        await server.run_script(DATABASE, installsql.script(), source="install.sql")
        return text_of(await taken(server.dsn(DATABASE)))


def text_of(found: dict[str, Any]) -> str:
    """As it is written: one object a line, so that a change shows as one."""
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the file, or only compare it; the exit code is 1 when it is not current."""
    parser = argparse.ArgumentParser(prog="python -m adapter.sandbox.fingerprints", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the file is not current")
    options = parser.parse_args(arguments)
    text = asyncio.run(made())
    if not options.check:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(f"{TARGET.name} is not current: run python -m adapter.sandbox.fingerprints", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
