"""The command `mikopbx-adapter sandbox`: everything on this machine, with example calls.

    mikopbx-adapter sandbox                          a few calls, then your own; Ctrl-C ends it
    mikopbx-adapter sandbox --calls 100 --exit       ends by itself; code 0 only if every row ended as it should
    mikopbx-adapter sandbox --pbx asterisk           through a real Asterisk
    mikopbx-adapter sandbox --form route             by the PBX's own outgoing routes

Exit codes: 0 all well (or Ctrl-C without --exit); 1 something did not end as it should, or a part did not start;
2 wrong arguments; 130 interrupted before the end that --exit waits for.
"""

import argparse
import asyncio
import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from adapter.core.model import Form
from adapter.sandbox import envfile, howto
from adapter.sandbox.asterisk import AsteriskFailed, AsteriskMissing
from adapter.sandbox.mix import as_typed, mix
from adapter.sandbox.postgres import PostgresNotStarted, ScriptFailed
from adapter.sandbox.scenarios import Scenario
from adapter.sandbox.screen import Screen
from adapter.sandbox.verdicts import faults, summary
from adapter.sandbox.world import SandboxError, World

INTERRUPTED = 130

LOOK_SECONDS = 0.3
"""Between two looks at the rows."""

DEADLINE_SECONDS = 180.0
DEADLINE_PER_CALL = 1.0
"""A call takes at most about 30 s, and several are made each second: three minutes and a second a call are plenty."""

USERS = 5
"""The example rows belong to so many users, who take turns."""

SHOWN_FAULTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line."""

    pbx: str
    form: str
    calls: int
    exit: bool
    json: bool
    speed: float
    keep: Path | None
    verbose: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _options(sys.argv[1:] if argv is None else argv)
    # With --json standard output holds the object and nothing else.
    out = sys.stderr if options.json else sys.stdout
    with Screen(out, live=out.isatty() and not options.verbose) as screen:
        place = options.keep or Path(tempfile.mkdtemp(prefix="mikopbx-adapter-sandbox-"))
        code = 1
        try:
            code = asyncio.run(_until_signal(options, screen, place))
        except (SandboxError, PostgresNotStarted, ScriptFailed, AsteriskFailed, AsteriskMissing) as error:
            screen.say(f"The sandbox did not start: {error}")
        finally:
            if options.keep is None and (code != 1 or options.verbose):
                shutil.rmtree(place, ignore_errors=True)
            elif code == 1 and not options.verbose:
                screen.say(f"The adapter's log and state are kept in {place}")
    return code


def _options(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="mikopbx-adapter sandbox", description="The whole adapter on this machine, with example calls."
    )
    parser.add_argument(
        "--pbx", choices=("simulated", "asterisk"), default="simulated", help="the PBX (default: %(default)s)"
    )
    parser.add_argument(
        "--form", choices=tuple(Form), default=Form.TRUNK.value, help="how calls are placed (default: %(default)s)"
    )
    parser.add_argument("--calls", type=int, default=25, metavar="N", help="example calls to queue (default: 25)")
    parser.add_argument("--exit", action="store_true", help="end when all of them are final; code 0 if all is right")
    parser.add_argument("--json", action="store_true", help="print one JSON object last, all else on standard error")
    parser.add_argument(
        "--speed", type=float, default=1.0, metavar="X", help="simulated PBX only: its seconds pass X times faster"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the daemon's log and state in this folder")
    parser.add_argument("--verbose", action="store_true", help="the daemon's log on standard error instead of a file")
    given = parser.parse_args(argv)
    if not 0 <= given.calls <= 100_000:
        parser.error("--calls must be from 0 to 100000")
    if given.exit and not given.calls:
        parser.error("--exit needs calls to wait for")
    if not 0.1 <= given.speed <= 100:
        parser.error("--speed must be from 0.1 to 100")
    if given.pbx == "asterisk" and given.speed != 1.0:
        parser.error("--speed is for the simulated PBX; a real Asterisk keeps real time")
    return Options(**vars(given))


async def _until_signal(options: Options, screen: Screen, place: Path) -> int:
    """Play until it is over or a signal comes; either way everything is stopped in order."""
    task = asyncio.current_task()
    signaled = False

    def stop() -> None:
        nonlocal signaled
        if not signaled and task:
            signaled = True
            screen.say("Stopping …")
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        return await _play(options, screen, place)
    except asyncio.CancelledError:
        if not signaled:
            raise
        return INTERRUPTED if options.exit else 0


async def _play(options: Options, screen: Screen, place: Path) -> int:
    screen.say("Starting PostgreSQL, the local Supabase, the PBX and the adapter …")
    async with World.started(
        pbx=options.pbx,
        speed=options.speed,
        settings={"DIAL_FORM": options.form},
        directory=place,
        echo=options.verbose,
    ) as world:
        screen.say(howto.SIMULATED[options.pbx])
        if not options.verbose:
            screen.say(f"The adapter's log: {world.daemon.log}")
        with ExitStack() as stack:
            if not options.exit:
                env_file = stack.enter_context(envfile.written(world.directory, world.daemon.settings))
                screen.say(howto.own_row(url=world.gateway.url, key=world.gateway.secret_key, dsn=world.dsn))
                screen.say(howto.second_window(env_file))
                screen.say(howto.number_plan())
            started = time.monotonic()
            wishes = await _queue(world, options.calls)
            screen.say(f"{len(wishes)} example calls are queued.")
            deadline = DEADLINE_SECONDS + DEADLINE_PER_CALL * options.calls if options.exit else None
            problem = await _watch(world, screen, wishes, deadline)
            seconds = time.monotonic() - started
            return await _judge(world, screen, options, wishes, seconds=seconds, problem=problem)


async def _queue(world: World, calls: int) -> Mapping[int, Scenario]:
    """Queue the example rows; the scenario of each by its id."""
    users = [str(uuid.uuid4()) for _ in range(USERS)]
    # A carrier's records may outlive a run, and each number is used once.
    first = secrets.randbelow(800_000)
    scenarios = mix(calls)
    rows = [
        {
            "user_id": users[turn % USERS],
            "phone_number": as_typed(scenario.code, (first + turn) % 1_000_000),
            "customer_name": scenario.name,
        }
        for turn, scenario in enumerate(scenarios)
    ]
    return dict(zip(await world.queue(rows), scenarios, strict=True))


async def _watch(world: World, screen: Screen, wishes: Mapping[int, Scenario], deadline: float | None) -> str | None:
    """Show the rows until all of `wishes` are final (for ever without a deadline); a problem in words, or None."""
    end = time.monotonic() + deadline if deadline else None
    gone = asyncio.create_task(world.daemon.ended())
    try:
        while True:
            rows = await world.rows()
            screen.show(rows)
            open_rows = [row for row in rows if row.id in wishes and not row.final]
            if end and not open_rows:
                return None
            if end and time.monotonic() > end:
                return (
                    f"{len(open_rows)} rows had not ended after {deadline:.0f} s; the first is row {open_rows[0].id}, "
                    f"{open_rows[0].status}. Nothing more is waited for."
                )
            done, _ = await asyncio.wait({gone}, timeout=LOOK_SECONDS)
            if done:
                return f"The adapter ended by itself with code {gone.result()}. Its last words:\n{world.daemon.tail()}"
    finally:
        gone.cancel()


async def _judge(
    world: World,
    screen: Screen,
    options: Options,
    wishes: Mapping[int, Scenario],
    *,
    seconds: float,
    problem: str | None,
) -> int:
    """Say what came of the rows; the exit code."""
    rows, rings = await world.rows(), world.rings
    found = faults(rows, wishes, rings)
    screen.show(rows)
    screen.close()
    result = summary(rows, wishes, rings, pbx=options.pbx, seconds=seconds)
    if problem:
        screen.say(problem)
    for row_id, why in list(found.items())[:SHOWN_FAULTS]:
        screen.say(f"row {row_id} ({wishes[row_id].name}): {why}")
    if len(found) > SHOWN_FAULTS:
        screen.say(f"… and {len(found) - SHOWN_FAULTS} more")
    screen.say(
        f"{result.as_expected} of {result.rows} rows ended as they should, {result.rings} phones were called, in "
        f"{result.seconds:.1f} s."
    )
    well = not found and not problem
    if not well and not options.verbose:
        screen.say(f"The adapter's last words:\n{world.daemon.tail()}")
    if options.json:
        print(json.dumps(result.as_json()), flush=True)
    return 0 if well else 1
