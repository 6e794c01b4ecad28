"""docs/guide/switching.md against the functions that it switches over to."""

import asyncio
import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from adapter.cli import COMMANDS, main
from adapter.sandbox.gateway import Gateway
from adapter.sandbox.scenarios import number
from adapter.settings import MISSING, SETTINGS
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


def _commands() -> list[list[str]]:
    return [shlex.split(line) for block in blocks(PAGE, "sh") for line in block.splitlines()]


def _secrets(number_: int) -> dict[str, str]:
    """What the n-th `supabase secrets set` of the page sets."""
    sets = [words[3:] for words in _commands() if words[:3] == ["supabase", "secrets", "set"]]
    return dict(word.split("=", 1) for word in sets[number_])


def test_the_commands_name_what_is_there() -> None:
    deployed = {words[3] for words in _commands() if words[:3] == ["supabase", "functions", "deploy"]}
    assert deployed == {path.parent.name for path in FUNCTIONS.glob("*/index.ts")}
    config = tomllib.loads((ROOT / "supabase/config.toml").read_text(encoding="utf-8"))
    without = {words[3] for words in _commands() if "--no-verify-jwt" in words}
    assert without == {name for name, told in config["functions"].items() if not told["verify_jwt"]}
    (unset,) = (words[3:] for words in _commands() if words[:3] == ["supabase", "secrets", "unset"])
    assert set(unset) == {*_secrets(0), *_secrets(1)}
    named = {
        cell for row in rows(PAGE, "variable", "what", "without it") for cell in re.findall(r"`([A-Z_]+)`", row[0])
    }
    assert set(unset) <= named


def test_doctor_is_asked_as_it_can_be_and_looks_at_what_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    (ours,) = (words for words in _commands() if words[0] == "mikopbx-adapter")
    assert ours[1] in {command.name for command in COMMANDS}
    with pytest.raises(SystemExit) as left:
        main([*ours[1:2], "--help"])
    assert left.value.code == 0
    assert ours[2] in capsys.readouterr().out
    checks = set(re.findall(r"`(supabase\.[a-z]+)`", PAGE))
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "adapter/doctor").rglob("*.py"))
    assert len(checks) >= 4
    assert all(f'"{check}"' in source for check in checks)


def test_who_charges_is_said_in_a_word_that_the_setting_takes() -> None:
    (line,) = blocks(PAGE, "ini")
    name, _, word = line.strip().partition("=")
    (setting,) = (each for each in SETTINGS if each.name == name)
    assert setting.default is MISSING
    assert setting.parse(word) == "off"
    assert {setting.parse(each) for each in re.findall(r"`(off|minutes)`[:.]", PAGE)} == {"off", "minutes"}


async def test_each_step_and_the_way_back(app_db: str, empty_db: str, tmp_path: Path) -> None:
    there, written_down, more, retries, latest, cancel, live, before = blocks(PAGE, "sql")
    (curl,) = (block for block in blocks(PAGE, "sh") if block.startswith("curl"))
    origin = {"Origin": _secrets(0)["BATCH_CALL_ORIGINS"]}
    later = tmp_path / "later"
    later.mkdir()
    many = [number("10", serial) for serial in range(1001)]

    async def looked(url: str) -> str:
        """What the page's curl says to this host."""
        command = curl.replace("https://….supabase.co", url)
        process = await asyncio.create_subprocess_shell(
            command, env={"PATH": os.environ["PATH"], "NO_PROXY": "*"}, stdout=asyncio.subprocess.PIPE
        )
        return (await process.communicate())[0].decode()

    async with connected(app_db) as connection, Gateway.started(app_db) as gateway:
        user, _, _ = await _user(connection, minutes=20_000)
        assert await connection.fetchval(there) == 1
        noted = await connection.fetch(written_down)
        async with edge(tmp_path, **_project(gateway, **_secrets(0))) as here:
            told = await looked(here.url)
            assert " 401 " in told.splitlines()[0]
            assert "Please log in again" in told
            assert (await _post(here, {"userId": user, "phoneNumbers": many[:4]}, **origin)).status_code == 413
            await connection.execute(more)
            assert (await _post(here, {"userId": user, "phoneNumbers": many}, **origin)).status_code == 413
        await connection.execute(retries)
        async with edge(later, **_project(gateway, **_secrets(0), **_secrets(1))) as here:
            assert (await _post(here, {"userId": user, "phoneNumbers": many}, **origin)).status_code == 200
        assert [row["status"] for row in await connection.fetch(latest)] == ["queued"] * 5
        retried = await connection.fetch("select distinct max_attempts, retry_seconds from call_queue")
        assert [tuple(row) for row in retried] == [(3, 1800)]
        (optional,) = re.findall(r"`(supabase/optional/\S+\.sql)`", PAGE)
        await connection.execute((ROOT / optional).read_text(encoding="utf-8"))
        assert await connection.fetchval("select can_user_make_calls($1)", user) is True
        await connection.execute(cancel)
        assert await connection.fetchval("select count(*) from call_queue where status <> 'canceled'") == 0
        assert await connection.fetchval(live) == 0
        await connection.execute(before)
        assert await connection.fetch(written_down) == noted
    async with Gateway.started(empty_db) as gateway, edge(tmp_path, "batch-call-v2", **_project(gateway)) as bare:
        assert " 500 " in (await looked(bare.url)).splitlines()[0]
