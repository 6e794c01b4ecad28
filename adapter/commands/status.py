"""`mikopbx-adapter status`: adapters, queue, calls in the air, latest outcomes, and what is wrong, in words."""

import argparse

from adapter.commands.command import Command, env_file, refuse
from adapter.commands.options import whole
from adapter.commands.project import project
from adapter.settings import SettingsError

WATCH_SECONDS = 2.0
"""Between two looks: about 20 ms of the database's time each on a full queue, so one in a hundred."""

MOST = 10
"""Calls and outcomes shown: with the rest they fit on a screen of 40 lines."""


def _watch(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.2 <= value <= 3600:
        raise argparse.ArgumentTypeError("must be a number of seconds from 0.2 to 3600")
    return value


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "exit codes: 0 all well; 1 there are problems, or Supabase does not answer; 2 the command line is wrong; "
        "78 the settings are wrong. With --watch that of the last look, after Ctrl-C."
    )
    parser.add_argument(
        "--watch",
        type=_watch,
        nargs="?",
        const=WATCH_SECONDS,
        metavar="SECONDS",
        help=f"look again and again, until Ctrl-C (every {WATCH_SECONDS:g} s unless given)",
    )
    parser.add_argument(
        "--limit", type=whole(0, 200), default=MOST, metavar="N", help=f"entries of each list (default: {MOST})"
    )
    parser.add_argument(
        "--numbers", choices=("masked", "full"), default="masked", help="phone numbers (default: masked)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object; with --watch one a line for each look")
    env_file(parser)


def _run(arguments: argparse.Namespace) -> int:
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    from adapter.commands.overview import status  # noqa: PLC0415  a wrong setting, and --help, answer at once

    return status(
        config,
        every=arguments.watch,
        most=arguments.limit,
        full=arguments.numbers == "full",
        as_json=arguments.json,
    )


COMMAND = Command(
    name="status",
    help="show adapters, queue, calls in the air, latest outcomes; exit code 0 if all is well, 1 if there are problems",
    arguments=_arguments,
    run=_run,
)
