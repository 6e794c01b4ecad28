"""`mikopbx-adapter resume`: lets go on what was paused, and a trunk that was stopped."""

import argparse

from adapter.commands import targets
from adapter.commands.command import Command, env_file, refuse
from adapter.commands.project import project
from adapter.commands.view.codes import CONTROL_HELP
from adapter.settings import SettingsError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = CONTROL_HELP
    targets.arguments(parser)
    env_file(parser)


def _run(arguments: argparse.Namespace) -> int:
    target = targets.target(arguments)
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    from adapter.commands.stopping import resume  # noqa: PLC0415  a wrong setting, and --help, answer at once

    return resume(config, target)


COMMAND = Command(
    name="resume",
    help="let a row, campaign, user, trunk or all go on that was paused; a trunk also after it was stopped for failing",
    arguments=_arguments,
    run=_run,
)
