"""`mikopbx-adapter health`: is the daemon of this STATE_DIR alive? Docker's HEALTHCHECK asks it."""

import argparse
import json
import sys
from dataclasses import asdict

from adapter.commands.command import Command, env_file
from adapter.settings import SettingsError, from_process


def _arguments(parser: argparse.ArgumentParser) -> None:
    env_file(parser)
    parser.add_argument("--ready", action="store_true", help="also fail while no calls can be placed")
    parser.add_argument("--json", action="store_true", help="one JSON object, with the last heartbeat")


def _run(arguments: argparse.Namespace) -> int:
    try:
        settings = from_process(arguments.env_file)
    except SettingsError as error:
        sys.stdout.write(f"the settings are wrong: {error.problems[0]}\n")
        return 1
    from adapter.health import look  # noqa: PLC0415  a wrong setting answers at once

    found = look(settings["STATE_DIR"])
    sys.stdout.write((json.dumps(asdict(found), indent=1) if arguments.json else found.words) + "\n")
    return 0 if found.alive and (found.ready or not arguments.ready) else 1


COMMAND = Command(
    name="health",
    help="say whether the daemon is alive; exit code 0 if it is, 1 if not (it may be alive and wait for the PBX)",
    arguments=_arguments,
    run=_run,
)
