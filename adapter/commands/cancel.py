"""`mikopbx-adapter cancel`: cancels a row of call_queue; a call that lives is hung up by its adapter."""

import argparse

from adapter.commands import options
from adapter.commands.command import Command, env_file, refuse
from adapter.commands.project import project
from adapter.commands.view.codes import CANCEL_HELP
from adapter.settings import SettingsError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = CANCEL_HELP
    options.row(parser)
    env_file(parser)


def _run(arguments: argparse.Namespace) -> int:
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    from adapter.commands.following import cancel  # noqa: PLC0415  a wrong setting, and --help, answer at once

    return cancel(config, arguments.row)


COMMAND = Command(
    name="cancel",
    help="cancel a row of call_queue; a call that lives is hung up by its adapter",
    arguments=_arguments,
    run=_run,
)
