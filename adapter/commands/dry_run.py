"""`mikopbx-adapter dry-run`: what a campaign would do, before it does."""

import argparse
import uuid

from adapter.commands.command import Command, env_file, refuse
from adapter.commands.options import whole
from adapter.commands.project import project
from adapter.commands.view.codes import EXPLAIN_HELP
from adapter.settings import SettingsError

MOST = 10_000
"""Rows that are judged: some ten seconds, half of which the database rests."""


def _campaign(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError("must be the id of a campaign, a UUID (column id of campaigns)") from None


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXPLAIN_HELP
    parser.add_argument("campaign", type=_campaign, metavar="CAMPAIGN", help="id of the campaign")
    parser.add_argument(
        "--limit",
        type=whole(1, 1_000_000),
        default=MOST,
        metavar="N",
        help=f"rows to judge at most (default: {MOST:,})",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    env_file(parser)


def _run(arguments: argparse.Namespace) -> int:
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    from adapter.commands.explaining import dry_run  # noqa: PLC0415  a wrong setting, and --help, answer at once

    return dry_run(config, arguments.campaign, most=arguments.limit, as_json=arguments.json)


COMMAND = Command(
    name="dry-run",
    help="what a campaign would do: how many of its rows are dialed, when, through what, how long that takes",
    arguments=_arguments,
    run=_run,
)
