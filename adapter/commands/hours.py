"""`mikopbx-adapter hours`: when people may be called, by their own clock; to see and to set."""

import argparse

from adapter.commands import targets
from adapter.commands.command import Command, env_file, refuse
from adapter.commands.project import project
from adapter.commands.view.codes import HOURS_HELP
from adapter.settings import SettingsError
from adapter.supabase_io.stops import Target

KINDS = ("user", "campaign", "all")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = HOURS_HELP
    parser.add_argument(
        "what", nargs="?", metavar="WHAT", help="user or campaign with its ID, or all; without: show all that is set"
    )
    parser.add_argument("name", nargs="?", metavar="ID", help="id of the user or campaign")
    change = parser.add_mutually_exclusive_group()
    change.add_argument(
        "--set", metavar="WINDOWS", help="as 'Mon-Fri 09:00-18:00; Sat 10:00-14:00', instead of what is set"
    )
    change.add_argument("--clear", action="store_true", help="take away what is set for it")
    env_file(parser)
    parser.set_defaults(wrong=parser.error)


def read(what: str | None, name: str | None, *, changes: bool) -> Target | None:
    """The target, None for all that is set; raises ValueError with what is wrong."""
    if what is None:
        if changes:
            raise ValueError("whose hours? Say user or campaign with an id, or all")
        return None
    if what not in KINDS:
        raise ValueError(f'there are no hours of "{what}": say user or campaign with an id, or all')
    return targets.read(what, name)


def _run(arguments: argparse.Namespace) -> int:
    changes = arguments.clear or arguments.set is not None
    try:
        target = read(arguments.what, arguments.name, changes=changes)
    except ValueError as error:
        arguments.wrong(str(error))
        raise
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    from adapter.commands import timing  # noqa: PLC0415  a wrong setting, and --help, answer at once

    if changes and target is not None:
        return timing.put(config, target, arguments.set)
    return timing.show(config, target)


COMMAND = Command(
    name="hours",
    help="see and set when people may be called, by their own clock",
    arguments=_arguments,
    run=_run,
)
