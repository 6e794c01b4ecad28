"""`mikopbx-adapter doctor`: looks at everything that a call needs, and says how to mend what is wrong."""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from adapter.commands.command import Command, env_file
from adapter.doctor.findings import Finding, Verdict, fail, ok
from adapter.exits import EXIT_CONFIG
from adapter.settings import Settings, SettingsError, from_process

if TYPE_CHECKING:
    from adapter.core.model import Way
    from adapter.supabase_io.config import SupabaseConfig

MARKS = {
    Verdict.OK: ("ok", "green"),
    Verdict.WARN: ("WARN", "bold yellow"),
    Verdict.FAIL: ("FAIL", "bold red"),
    Verdict.SKIPPED: ("-", "dim"),
}
"""How each verdict is shown; rich leaves the colors away where nobody would see them."""

WIDEST = 20
"""Letters of the longest name of a check."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    env_file(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else")


def _run(arguments: argparse.Namespace) -> int:
    tried = "read the environment" + (f" and {arguments.env_file}" if arguments.env_file else "")
    try:
        settings = from_process(arguments.env_file)
    except SettingsError as error:
        mend = "mend it; .env.example explains each setting"
        found = [fail("settings", tried, problem, mend) for problem in error.problems]
        for finding in found:
            _tell(finding, quiet=arguments.json)
        return _end(found, as_json=arguments.json, code=EXIT_CONFIG)
    return asyncio.run(_all(settings, tried, as_json=arguments.json))


async def _all(settings: Settings, tried: str, *, as_json: bool) -> int:
    found = []
    async for finding in _look(settings, tried):
        found.append(finding)
        _tell(finding, quiet=as_json)
    return _end(found, as_json=as_json, code=EXIT_CONFIG if found[0].verdict is Verdict.FAIL else 1)


async def _look(settings: Settings, tried: str) -> AsyncIterator[Finding]:
    # Imported here so that --help and a wrong setting answer at once.
    from adapter import clock  # noqa: PLC0415
    from adapter.core.model import NumberStyle  # noqa: PLC0415
    from adapter.doctor import machine, pbx, supabase  # noqa: PLC0415
    from adapter.log import hide, set_up  # noqa: PLC0415
    from adapter.wiring import configs  # noqa: PLC0415

    # What the links log beside their findings would only say it twice.
    set_up(level="CRITICAL", style="human", numbers="masked")
    for secret in settings.secrets:
        hide(secret)
    try:
        link, project = configs(settings)
    except ValueError as error:
        yield fail("settings", tried, str(error), "mend it; .env.example explains each setting")
        return
    yield ok("settings", tried, "all are there and can be read")
    for finding in machine.look(settings["STATE_DIR"]):
        yield finding
    async for finding in supabase.look(
        project,
        now=clock.wall(),
        anon_key=settings["SUPABASE_ANON_KEY"] or None,
        pbx=settings.pbx_name,
        adapter=_own_id(settings["STATE_DIR"]),
        billing=settings["BILLING"],
    ):
        yield finding
    async for finding in pbx.look(
        link,
        region=settings["DEFAULT_REGION"],
        caller_id=settings["CALLER_ID"],
        number_style=NumberStyle(settings["NUMBER_STYLE"]),
        max_calls=settings["MAX_CALLS"],
        ways={way.id: way.form for way in await _ways(project, settings.pbx_name)},
    ):
        yield finding


async def _ways(project: "SupabaseConfig", pbx: str) -> "tuple[Way, ...]":
    from adapter.supabase_io.inspection import Inspector  # noqa: PLC0415
    from adapter.supabase_io.refusals import DatabaseError  # noqa: PLC0415

    try:
        async with Inspector(project) as inspector:
            return await inspector.ways(pbx)
    except DatabaseError:
        return ()  # The Supabase side has said so.


def _own_id(state_dir: Path) -> str | None:
    from adapter.supabase_io.statedir import identity_in  # noqa: PLC0415

    try:
        identity = identity_in(state_dir)
    except (OSError, ValueError):
        return None  # The machine's side has said so.
    return identity.adapter if identity else None


def _tell(finding: Finding, *, quiet: bool) -> None:
    if quiet:
        return
    console = Console(highlight=False, soft_wrap=True)
    mark, style = MARKS[finding.verdict]
    line = Text.assemble((f"{mark:4}", style), f"  {finding.check:{WIDEST}}  ")
    lines = [finding.found]
    if finding.mend:
        lines += [f"tried: {finding.tried}", f"to do: {finding.mend}"]
    indent = "\n" + " " * len(line)
    # A pipe gets one line for each text, whatever its length: it is read by grep.
    width = console.width - len(line) if console.is_terminal else sys.maxsize
    console.print(line.append(indent.join(part for text in lines for part in wrap(text, max(width, 20)))))


def _words(verdict: Verdict, count: int) -> str:
    return "warnings" if verdict is Verdict.WARN and count > 1 else verdict.value


def _end(found: Sequence[Finding], *, as_json: bool, code: int) -> int:
    counts = {verdict: sum(finding.verdict is verdict for finding in found) for verdict in Verdict}
    well = not counts[Verdict.FAIL]
    if as_json:
        sys.stdout.write(
            json.dumps({"well": well, "checks": [finding.as_json() for finding in found]}, indent=1) + "\n"
        )
    else:
        told = ", ".join(f"{count} {_words(verdict, count)}" for verdict, count in counts.items() if count)
        sys.stdout.write(f"{'Calls can be placed' if well else 'Calls cannot be placed, or not rightly'}: {told}.\n")
    return 0 if well else code


COMMAND = Command(
    name="doctor",
    help="look at settings, STATE_DIR, Supabase and the PBX; nobody is called. Exit code 0 if nothing failed (warnings "
    "may remain), 1 if something did, 78 if the settings are wrong",
    arguments=_arguments,
    run=_run,
)
