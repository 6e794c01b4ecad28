"""`mikopbx-adapter follow`: follows a row that is in call_queue already, as `call` does."""

import argparse

from adapter.commands import options
from adapter.commands.command import Command, env_file, refuse
from adapter.commands.project import project
from adapter.commands.view.codes import HELP
from adapter.settings import SettingsError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = HELP
    options.row(parser)
    options.how_to_follow(parser)
    env_file(parser)


def _run(arguments: argparse.Namespace) -> int:
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    from adapter.commands.following import follow  # noqa: PLC0415  a wrong setting, and --help, answer at once

    return follow(
        config,
        arguments.row,
        seconds=arguments.timeout,
        as_json=arguments.json,
        settings=options.settings(arguments),
    )


COMMAND = Command(
    name="follow",
    help="follow a row that is in call_queue already to its outcome, as call does",
    arguments=_arguments,
    run=_run,
)
