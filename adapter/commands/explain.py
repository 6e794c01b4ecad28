"""`mikopbx-adapter explain`: why a row waits, or why somebody was called."""

import argparse

from adapter.commands.command import Command, env_file, refuse
from adapter.commands.options import whole
from adapter.commands.project import project
from adapter.commands.view.codes import EXPLAIN_HELP
from adapter.settings import SettingsError

MOST = 10
"""Rows and calls of a number: with their steps they fill a few screens."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXPLAIN_HELP
    parser.add_argument(
        "what",
        metavar="ROW|NUMBER|CALL_ID",
        help="id of a row of call_queue, a phone number (best with plus), or the id of a call",
    )
    parser.add_argument(
        "--limit", type=whole(1, 100), default=MOST, metavar="N", help=f"rows and calls of each (default: {MOST})"
    )
    parser.add_argument("--full", action="store_true", help="phone numbers in full (default: masked)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    env_file(parser)


def _run(arguments: argparse.Namespace) -> int:
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    from adapter.commands.explaining import explain  # noqa: PLC0415  a wrong setting, and --help, answer at once

    return explain(config, arguments.what, most=arguments.limit, full=arguments.full, as_json=arguments.json)


COMMAND = Command(
    name="explain",
    help="why a row waits, or why somebody was called: each rule, and what it said",
    arguments=_arguments,
    run=_run,
)
