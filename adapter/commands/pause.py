"""`mikopbx-adapter pause`: nothing of a row, campaign, user, trunk or of all is dialed until it is resumed."""

import argparse

from adapter.commands import options, targets
from adapter.commands.command import Command, env_file, refuse
from adapter.commands.project import project
from adapter.commands.view.codes import CONTROL_HELP
from adapter.settings import SettingsError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = CONTROL_HELP
    targets.arguments(parser)
    targets.reason(parser)
    env_file(parser)


def _run(arguments: argparse.Namespace) -> int:
    target = targets.target(arguments)
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    from adapter.commands.stopping import pause  # noqa: PLC0415  a wrong setting, and --help, answer at once

    return pause(config, target, arguments.reason, settings=options.settings(arguments))


COMMAND = Command(
    name="pause",
    help="dial nothing of a row, campaign, user, trunk or of all until it is resumed; live calls go on",
    arguments=_arguments,
    run=_run,
)
