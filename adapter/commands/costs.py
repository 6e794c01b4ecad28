"""`mikopbx-adapter costs`: what the calls of campaigns cost, next to what another provider would have taken."""

import argparse

from adapter.commands import options
from adapter.commands.command import Command, env_file, refuse
from adapter.commands.project import project
from adapter.commands.view.codes import HOURS_HELP
from adapter.settings import SettingsError

MOST = 20
"""Campaigns shown: a screen of them, the dearest first."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = HOURS_HELP
    parser.add_argument("--campaign", type=options.uuid_text, metavar="ID", help="this one only")
    parser.add_argument(
        "--limit", type=options.whole(1, 10_000), default=MOST, metavar="N", help=f"campaigns shown (default: {MOST})"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    env_file(parser)


def _run(arguments: argparse.Namespace) -> int:
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    from adapter.commands import accounts  # noqa: PLC0415  a wrong setting, and --help, answer at once

    return accounts.costs(config, campaign=arguments.campaign, most=arguments.limit, as_json=arguments.json)


COMMAND = Command(name="costs", help="show what the calls of campaigns cost", arguments=_arguments, run=_run)
