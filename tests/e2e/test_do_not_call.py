"""The command do-not-call on a real database, as a person types it."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from adapter.sandbox.process import KEPT_ENVIRONMENT
from adapter.sandbox.world import World

USER = "00000000-0000-4000-8000-00000000aaaa"

pytestmark = pytest.mark.timeout(180)


async def said(world: World, *arguments: str) -> tuple[int | None, list[str]]:
    """Exit code and lines of the command."""
    kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    needed = {name: world.daemon.settings[name] for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapter.cli", "do-not-call", *arguments),
        env={**kept, **needed},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, (out + err).decode().splitlines()


async def test_numbers_are_taken_in_looked_up_and_taken_out(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes(
        "\ufeffName;Phone\nAli;012-345 6700\nSiti;nobody\nTan;+60 12-345 6701\n;\nX;99\n".encode() + b"Y;\xff\xfe\n"
    )
    async with World.started(directory=tmp_path / "world", daemon=False) as world:
        code, lines = await said(world, "import", str(file), "--source", "a register", "--user", USER)
        assert code == 1
        assert lines == [
            "Line 3: …: the phone number contains something that is no digit",
            "Line 5: there is nothing in column 2, where the numbers are",
            "Line 6: …: the phone number is too short (2 digits without the country code)",
            "Line 7: …: the phone number contains something that is no digit",
            "2 added, 0 known before, 4 lines that cannot be read",
        ]
        assert (await said(world, "import", str(file), "--user", USER))[1][-1].startswith("0 added, 2 known before")
        assert await said(world, "add", "0123456702", "--reason", "asked by mail", "--days", "30") == (
            0,
            ["…702 is listed now"],
        )
        assert (await said(world, "add", "call me"))[0] == 1
        code, lines = await said(world, "check", "+60123456700")
        assert (code, len(lines)) == (1, 1)
        assert lines[0].startswith(f"…700 for user {USER}, since ")
        assert lines[0].endswith("(a register)")
        assert await said(world, "check", "0123456799") == (0, ["…799 is not listed"])
        code, lines = await said(world, "list", "--show-numbers", "--limit", "1")
        assert (code, len(lines)) == (0, 1)
        assert lines[0].startswith("+60123456702 for all, since ")
        assert lines[0].endswith("(by hand: asked by mail)")
        assert (await said(world, "remove", "0123456700"))[0] == 1  # It is listed for one user only.
        assert await said(world, "remove", "0123456700", "--user", USER) == (0, ["…700 is not listed any more"])
        assert (await said(world, "import", str(tmp_path / "none.csv")))[0] == 2
        assert (await said(world, "check"))[0] == 2
        assert (await said(world, "add", "0123456702", "--user", "Ali"))[0] == 2
        (tmp_path / "other.csv").write_text("name,town\nAli,Ipoh\n", "utf-8")
        code, lines = await said(world, "import", str(tmp_path / "other.csv"))
        assert code == 4
        assert lines[0].startswith("Nothing was changed: the first line has no phone number")


async def test_a_hundred_thousand_lines(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("".join(f"01{100000000 + serial}\n" for serial in range(100_000)), "utf-8")
    async with World.started(directory=tmp_path / "world", daemon=False) as world:
        for added, known in ((100_000, 0), (0, 100_000)):
            began = time.monotonic()
            code, lines = await said(world, "import", str(file))
            print(f"{time.monotonic() - began:.1f} s")
            assert (code, lines) == (0, [f"{added} added, {known} known before, 0 lines that cannot be read"])
