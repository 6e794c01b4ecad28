"""`mikopbx-adapter doctor` as a process: the whole set-up sound, beside a running daemon; then broken, and refused."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from adapter.doctor import machine, pbx, supabase
from adapter.doctor.findings import Verdict
from adapter.exits import EXIT_CONFIG
from adapter.sandbox.process import KEPT_ENVIRONMENT
from adapter.sandbox.world import World

pytestmark = pytest.mark.timeout(120)

MACHINE = ["state.folder", *machine.LATER]
SUPABASE = list(supabase.CHECKS)
PBX = [check.name for check in pbx.CHECKS]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with World.started(pbx="asterisk", directory=tmp_path_factory.mktemp("world")) as world:
        async with asyncio.timeout(30):
            while not await world.pool.fetchval("select count(*) from call_pbx"):
                await asyncio.sleep(0.05)
        yield world


async def _doctor(settings: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapter.cli", "doctor", *arguments),
        env={**kept, **settings},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    text = out.decode()
    for name in ("SUPABASE_SERVICE_ROLE_KEY", "MIKOPBX_AMI_PASSWORD"):
        assert len(settings[name]) < 8 or settings[name] not in text
    return process.returncode or 0, text


async def _checks(settings: Mapping[str, str]) -> tuple[int, dict[str, dict[str, Any]]]:
    code, text = await _doctor(settings, "--json")
    told = json.loads(text)
    assert told["well"] is (code == 0)
    return code, {check["check"]: check for check in told["checks"]}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_sound_set_up_beside_a_running_daemon(world: World) -> None:
    code, checks = await _checks(world.daemon.settings)
    assert list(checks) == ["settings", *MACHINE, *SUPABASE, *PBX]
    assert code == 0, checks
    # 999 is the app's own number for its AI, and an emergency number; the public key is not given.
    odd = {name: check["verdict"] for name, check in checks.items() if check["verdict"] != Verdict.OK}
    assert odd == {"pbx.ai.number": Verdict.WARN, "supabase.anon": Verdict.SKIPPED}
    assert "a running adapter" in checks["state.lock"]["found"]
    assert world.daemon.running
    assert await world.pool.fetchval("select count(*) from call_queue") == 0
    assert world.pbx.calls == []


@pytest.mark.asyncio(loop_scope="module")
async def test_a_person_reads_what_to_do(world: World) -> None:
    code, text = await _doctor(world.daemon.settings)
    assert code == 0
    lines = text.splitlines()
    assert lines[0] == "ok    settings              all are there and can be read"
    warned = next(number for number, line in enumerate(lines) if line.startswith("WARN  pbx.ai.number"))
    assert lines[warned + 1].lstrip().startswith("tried: ")
    assert lines[warned + 2].lstrip().startswith("to do: ")
    assert lines[-1].startswith("Calls can be placed: ")
    assert lines[-1].endswith("1 warning, 1 not checked.")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_terminal_gets_its_width_and_color(world: World) -> None:
    # Rich takes these as a terminal's word.
    terminal = {"FORCE_COLOR": "1", "COLUMNS": "80", "TERM": "xterm-256color"}
    code, text = await _doctor({**world.daemon.settings, **terminal})
    assert code == 0
    assert "\x1b[32mok" in text
    plain = [line for line in text.splitlines() if "\x1b" not in line]
    assert len(plain) > 3
    assert max(len(line) for line in plain if not line.startswith("Calls")) <= 80
    assert all(line.startswith(" " * 28) for line in plain if not line.startswith("Calls"))


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_broken_is_told_side_by_side(world: World) -> None:
    broken = {
        **world.daemon.settings,
        "MIKOPBX_AMI_PASSWORD": "not-the-secret",
        "SUPABASE_URL": "http://127.0.0.1:1",
        "STATE_DIR": "/dev/null/state",
    }
    code, checks = await _checks(broken)
    assert code == 1
    assert list(checks) == ["settings", *MACHINE, *SUPABASE, *PBX]
    failed = {name for name, check in checks.items() if check["verdict"] == Verdict.FAIL}
    assert failed == {"state.folder", "supabase.reach", "pbx.login"}
    for name in failed:
        assert checks[name]["tried"]
        assert checks[name]["mend"]
    code, text = await _doctor(broken)
    assert code == 1
    assert text.splitlines()[-1].startswith("Calls cannot be placed, or not rightly: ")


@pytest.mark.asyncio(loop_scope="module")
async def test_wrong_settings_are_all_told_and_nothing_is_tried(world: World, tmp_path: Path) -> None:
    wrong = {**world.daemon.settings, "MAX_CALLS": "many", "MIKOPBX_HOST": "", "STATE_DIR": str(tmp_path / "state")}
    code, text = await _doctor(wrong, "--json")
    told = json.loads(text)
    assert code == EXIT_CONFIG
    assert {check["check"] for check in told["checks"]} == {"settings"}
    assert {check["found"].split()[0] for check in told["checks"]} == {"MAX_CALLS", "MIKOPBX_HOST"}
    # A wrong mix of settings is found only when they are put together.
    code, text = await _doctor({**world.daemon.settings, "SUPABASE_SERVICE_ROLE_KEY": "sb_publishable_0"}, "--json")
    assert (code, [check["check"] for check in json.loads(text)["checks"]]) == (EXIT_CONFIG, ["settings"])
