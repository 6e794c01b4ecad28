"""Every command that the README and the guide give is run as it stands there, or its own test is named with the reason.

A command that is in neither table fails the test: a page cannot promise what nobody tried.
"""

import argparse
import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import adapter
from adapter.cli import COMMANDS
from adapter.sandbox.mix import as_typed
from adapter.sandbox.world import World
from tests.test_guide import blocks

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]

GUIDED = ROOT / "docs" / "guide" / "first-calls.md"

BIN = Path(sys.executable).parent
"""Where the environment's own programs are: mikopbx-adapter, pip."""


def commands(path: Path) -> Iterator[str]:
    """The commands of a page in their order, without comments."""
    for block in blocks(path.read_text(encoding="utf-8"), "sh"):
        for line in block.splitlines():
            if command := re.sub(r"\s+# .*$|^# .*$", "", line).strip():
                yield command


ALL = list(dict.fromkeys(command for path in PAGES for command in commands(path)))

ELSEWHERE: Mapping[str, tuple[str, str]] = {
    "scripts/check": ("what CI runs first, on the whole tree", "test_ci_runs_what_the_readme_gives"),
    "scripts/simulate --seeds 2000": ("what CI runs before the tests", "test_ci_runs_what_the_readme_gives"),
    "scripts/test": ("this very suite", "test_ci_runs_what_the_readme_gives"),
    "ssh -N -L 5038:127.0.0.1:5038 root@pbx.example.com": (
        "needs a PBX with SSH; that its near end is let through is tested",
        "test_private_addresses",
    ),
    **dict.fromkeys(
        (
            "supabase functions deploy batch-call --no-verify-jwt",
            "supabase functions deploy batch-call-v2 --no-verify-jwt",
            "supabase functions deploy batch-call",
            "supabase functions deploy batch-call-v2",
            (
                "supabase secrets unset BATCH_CALL_ORIGINS BATCH_CALL_AUTH BATCH_CALL_NUMBERS_PER_REQUEST "
                "BATCH_CALL_NUMBERS_PER_HOUR"
            ),
        ),
        ("needs a hosted project; what is deployed runs on Deno", "test_the_commands_name_what_is_there"),
    ),
    **dict.fromkeys(
        (
            "supabase secrets set BATCH_CALL_ORIGINS=https://app.example.com BATCH_CALL_AUTH=compat",
            "supabase secrets set BATCH_CALL_NUMBERS_PER_REQUEST=10000 BATCH_CALL_NUMBERS_PER_HOUR=20000",
        ),
        ("needs a hosted project; the functions run with exactly these here", "test_each_step_and_the_way_back"),
    ),
    "curl -i -X POST https://….supabase.co/functions/v1/batch-call -H 'content-type: application/json' -d '{}'": (
        "needs a hosted project; the same is asked of the function here",
        "test_each_step_and_the_way_back",
    ),
}
"""Command → why it is not run here, and the test that looks after it."""

INSTALL = ("python3 -m venv ~/mikopbx-adapter", ". ~/mikopbx-adapter/bin/activate", "pip install .")

HERE = {
    "scripts/sandbox",
    "scripts/sandbox --calls 100 --exit",
    "scripts/sandbox --pbx asterisk --calls 25 --exit",
    "cp .env.example .env",
    *INSTALL,
    "mikopbx-adapter doctor --env-file .env",
    "mikopbx-adapter run --env-file .env",
    "mikopbx-adapter call '+60 12-345 6700' --user 00000000-0000-4000-8000-000000000001 --env-file .env",
    "mikopbx-adapter status --env-file .env",
}
"""Commands that the tests below run."""


def test_no_command_is_left_out() -> None:
    assert set(ALL) == HERE | set(ELSEWHERE)
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for command, (reason, name) in ELSEWHERE.items():
        assert reason, command
        assert f"def {name}(" in tests, name


def test_ci_runs_what_the_readme_gives() -> None:
    steps = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [step for step in steps if step.startswith("scripts/")] == [
        "scripts/check",
        'scripts/simulate --seeds 2000 --nice 19 >"$told/worlds" 2>&1 &',
        'scripts/test | tee "$told/tests" || status=$?',
    ]


_LISTED = re.findall(r"^\| `([\w-]+)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_table_of_commands_is_complete() -> None:
    assert sorted(_LISTED) == sorted([*(command.name for command in COMMANDS), "sandbox"])


def _inline() -> Iterator[tuple[str, str]]:
    """Commands of ours in running text and tables of all pages."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for command in re.findall(r"`mikopbx-adapter ([a-z][^`\n]*)`", path.read_text(encoding="utf-8")):
            yield str(path.relative_to(ROOT)), command


def _parsers() -> Mapping[str, argparse.ArgumentParser]:
    parsers = {command.name: argparse.ArgumentParser() for command in COMMANDS}
    for command in COMMANDS:
        command.arguments(parsers[command.name])
    return parsers


def test_commands_in_running_text_exist_with_their_options() -> None:
    found = list(_inline())
    assert len(found) > 10
    parsers = _parsers()
    for page, command in found:
        name, *words = command.split()
        known = parsers[name]._option_string_actions if name in parsers else {"--pbx": None, "--calls": None}
        assert name in parsers or name == "sandbox", (page, command)
        assert [word for word in words if word.startswith("-") and word not in known] == [], (page, command)


# ---- the sandbox


MINUTES = 2
"""Within which the README promises the first calls, the making of the environment aside."""


async def _start(command: str, cwd: Path, **more: str) -> asyncio.subprocess.Process:
    """Start a command as a shell would, with nothing of a real project in its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SUPABASE_", "MIKOPBX_"))}
    return await asyncio.create_subprocess_exec(
        *("bash", "-c", command if ";" in command else f"exec {command}"),
        cwd=cwd,
        env={**kept, "PATH": f"{BIN}:{os.environ['PATH']}", **more},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@asynccontextmanager
async def _running(command: str, cwd: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await _start(command, cwd)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _run(command: str, cwd: Path, **more: str) -> tuple[int, str]:
    """Exit code and all that it said."""
    process = await _start(command, cwd, **more)
    try:
        output, _ = await process.communicate()
    except BaseException:
        process.kill()
        raise
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")


async def _read_until(process: asyncio.subprocess.Process, wanted: str) -> str:
    """All lines up to the first that has this in it."""
    assert process.stdout
    said = ""
    while line := (await process.stdout.readline()).decode(errors="replace"):
        said += line
        if re.search(wanted, line):
            return said
    raise AssertionError(f"it ended without {wanted!r}:\n{said}")


@pytest.mark.timeout(60 * MINUTES + 30)
async def test_a_call_is_followed_within_two_minutes_of_the_first_command() -> None:
    began = time.monotonic()
    async with _running("scripts/sandbox", ROOT) as process:
        said = await _read_until(process, r"^row +\d+ .* answered +answered +")
        proposed = re.findall(r"^  (env -i .+)$", said, re.MULTILINE)
        (call,) = (command for command in proposed if " call " in command)
        code, followed = await _run(call, ROOT)
        assert code == 0, followed
        assert "answered" in followed
        assert time.monotonic() - began < 60 * MINUTES
        for other in ("status", "doctor"):
            (command,) = (command for command in proposed if f" {other} " in command)
            code, told = await _run(command, ROOT)
            assert code == 0, told
        process.send_signal(signal.SIGINT)
        rest, _ = await process.communicate()
        assert process.returncode == 0, said + rest.decode()
    assert "Insert a row of your own" in said
    assert all(way in said for way in ("SQL ", "curl ", "supabase-py ", "supabase-js "))
    assert "25 example calls are queued." in said


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "command",
    [
        "scripts/sandbox --calls 100 --exit",
        pytest.param("scripts/sandbox --pbx asterisk --calls 25 --exit", marks=pytest.mark.asterisk),
    ],
)
async def test_a_sandbox_that_ends_by_itself(command: str) -> None:
    code, said = await _run(command, ROOT)
    assert code == 0, said
    calls = re.findall(r"--calls (\d+)", command)[0]
    assert f"{calls} of {calls} rows ended as they should" in said


# ---- a real set-up, with the sandbox in the place of Supabase and the PBX


@pytest.mark.timeout(120)
async def test_the_installation(tmp_path: Path) -> None:
    """From what is in the repository and nothing else. The dependencies are those of this environment."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, files.stdout.split("\0")):
        (tmp_path / "repo" / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tmp_path / "repo" / name)
    site = Path(sysconfig.get_path("purelib"))
    tools = tmp_path / "tools"
    tools.mkdir()
    for found in site.glob("setuptools*"):
        (tools / found.name).symlink_to(found)
    offline = {"PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1", "PYTHONPATH": str(tools)}
    wanted = [command for command in ALL if command in INSTALL]
    code, said = await _run("; ".join(["set -e", *wanted]), tmp_path / "repo", HOME=str(tmp_path), **offline)
    assert code == 0, said

    program = tmp_path / "mikopbx-adapter" / "bin" / "mikopbx-adapter"
    code, said = await _run(f"{program} --help", tmp_path, PYTHONPATH=str(site))
    assert code == 0, said
    assert sorted(re.findall(r"^    ([\w-]+)(?: |$)", said, re.MULTILINE)) == sorted(_LISTED)
    code, said = await _run(f"{program} --version", tmp_path, PYTHONPATH=str(site))
    assert (code, said) == (0, f"mikopbx-adapter {adapter.__version__}\n")


(_SEEN,) = re.findall(r"What you see: a line for each step\.(.+?)Ctrl-C", GUIDED.read_text("utf-8"), re.DOTALL)
STEPS = re.findall(r"`(\w+)`", _SEEN)
"""What first-calls.md says that `call` shows."""

UP = re.findall(r"`([^`]+)`", re.findall(r"What you see: (`Registered.+?), or in words", GUIDED.read_text("utf-8"))[0])
"""The same of `run`."""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["simulated", pytest.param("asterisk", marks=pytest.mark.asterisk)])
async def test_from_the_settings_to_the_first_call(tmp_path: Path, kind: str) -> None:
    """The commands of the README and of first-calls.md in their order; only the number is one of the sandbox."""
    shutil.copy(ROOT / ".env.example", tmp_path)
    copy, doctor, run, call, status = (
        command for command in ALL if command.startswith(("cp ", "mikopbx-adapter ")) and command in HERE
    )
    assert (await _run(copy, tmp_path))[0] == 0
    async with World.started(pbx=kind, directory=tmp_path / "world", daemon=False) as world:
        filled = (tmp_path / ".env").read_text(encoding="utf-8")
        for name, value in world.daemon.settings.items():
            filled = re.sub(rf"^#?{name}=.*$", f"{name}={value}", filled, flags=re.MULTILINE)
            assert f"\n{name}={value}\n" in filled, name
        (tmp_path / ".env").write_text(filled, encoding="utf-8")

        code, said = await _run(doctor, tmp_path)
        assert code == 0, said
        assert "Calls can be placed" in said

        async with _running(run, tmp_path) as daemon:
            began = time.monotonic()
            while (await _run("mikopbx-adapter health --ready --env-file .env", tmp_path))[0]:
                assert time.monotonic() - began < 30

            number = as_typed("10", 4_711)
            code, said = await _run(call.replace("+60 12-345 6700", number), tmp_path)
            assert code == 0, said
            assert [step for step in STEPS if step not in said] == []
            code, said = await _run(status, tmp_path)
            assert code == 0, said
            assert "all well" in said
            assert "1 answered" in said

            daemon.send_signal(signal.SIGTERM)
            output, _ = await daemon.communicate()
            assert daemon.returncode == 0, output.decode()
            assert [words for words in UP if words not in output.decode()] == []
        # The row is called once, and doctor calls nobody.
        assert len(world.pbx.calls) == 1
