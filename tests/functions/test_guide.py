"""docs/guide/switching.md against the functions that it switches over to."""

import re
from pathlib import Path

from adapter.sandbox.gateway import Gateway
from tests.functions.support import FUNCTIONS, ROOT, edge
from tests.functions.test_edge import _post, _project, _user
from tests.supabase.helpers import connected
from tests.test_guide import blocks, page, rows

PAGE = page("switching.md")
SHARED = FUNCTIONS / "_shared" / "batch_call"


def _code() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(SHARED.glob("*.ts")))


def test_every_variable_that_is_read_is_in_the_table() -> None:
    named = {
        cell for row in rows(PAGE, "variable", "what", "without it") for cell in re.findall(r"`([A-Z_]+)`", row[0])
    }
    read = set(re.findall(r'"((?:SUPABASE|BATCH_CALL|AI)_[A-Z_]+)"', _code()))
    assert named == read - {"SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"}
    assert {"SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"} <= read & set(re.findall(r"`([A-Z_]+)`", PAGE))


def test_limits_that_are_not_set_are_those_of_the_database() -> None:
    batch = (ROOT / "docs/batch.md").read_text(encoding="utf-8")
    (defaults,) = re.findall(r"^\| `limits` \|.*\| ([\d, ]+) \|$", batch, re.MULTILINE)
    table = [row for row in rows(PAGE, "variable", "what", "without it") if "_PER_" in row[0]]
    assert ", ".join(row[2] for row in table) == defaults


def test_the_two_lines_are_those_of_the_module_and_of_the_test_with_a_live_websocket() -> None:
    (block,) = blocks(PAGE, "ts")
    importing, mounting = block.splitlines()
    module = (SHARED / "mod.ts").read_text(encoding="utf-8")
    tried = (ROOT / "tests/functions/upstream_test.ts").read_text(encoding="utf-8")
    assert importing in module
    assert mounting in module
    assert mounting.replace("return await", "return") in tried


def test_the_folders_to_copy_are_all_that_is_needed() -> None:
    (copied,) = blocks(PAGE, "text")
    folders = re.findall(r"^(\S+)/ ", copied, re.MULTILINE)
    assert {path.parent.relative_to(FUNCTIONS).as_posix() for path in FUNCTIONS.rglob("*.ts")} == set(folders)
    for source in FUNCTIONS.rglob("*.ts"):
        for name in re.findall(r'^(?! \*).*from "(.+)"', source.read_text(encoding="utf-8"), re.MULTILINE):
            place = (source.parent / name).resolve().relative_to(FUNCTIONS)
            assert place.parent.as_posix() in folders


async def test_the_looks_show_what_the_page_says(app_db: str, empty_db: str, tmp_path: Path) -> None:
    there, latest, cancel = blocks(PAGE, "sql")
    async with connected(app_db) as connection, Gateway.started(app_db) as gateway:
        user, _, _ = await _user(connection)
        async with edge(tmp_path, **_project(gateway)) as here:
            asked = await _post(here, {})
            assert asked.status_code == 401
            assert "Please log in again" in asked.json()["error"]
            assert (await _post(here, {"userId": user, "phoneNumbers": ["0111000 0001"]})).status_code == 200
        assert await connection.fetchval(there) == 1
        assert [row["status"] for row in await connection.fetch(latest)] == ["queued"]
        await connection.execute(cancel)
        assert [row["status"] for row in await connection.fetch(latest)] == ["canceled"]
    async with Gateway.started(empty_db) as gateway, edge(tmp_path, "batch-call-v2", **_project(gateway)) as bare:
        assert (await _post(bare, {})).status_code == 500
