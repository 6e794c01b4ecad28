"""`mikopbx-adapter do-not-call`: numbers that nobody may call; to take in, to look up and to take out."""

import argparse
import uuid
from pathlib import Path

from adapter.commands import options
from adapter.commands.command import Command, env_file, refuse
from adapter.commands.project import project
from adapter.commands.view.codes import DO_NOT_CALL_HELP
from adapter.settings import SettingsError

MAX_DAYS = 36_500


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = DO_NOT_CALL_HELP
    parser.add_argument("what", choices=("import", "add", "remove", "check", "list"), help="what to do")
    parser.add_argument(
        "name", nargs="?", metavar="FILE|NUMBER", help="import: a file (- reads standard input); else a number"
    )
    parser.add_argument("--user", metavar="ID", help="for this user only (default: for all)")
    parser.add_argument("--source", metavar="TEXT", help="where it comes from (default: import, or by hand)")
    parser.add_argument("--reason", metavar="TEXT", help="why, in words")
    parser.add_argument(
        "--days", type=options.whole(1, MAX_DAYS), metavar="N", help="for so many days (default: for ever)"
    )
    parser.add_argument(
        "--limit",
        type=options.whole(1, 1000),
        default=20,
        metavar="N",
        help="list: so many, the latest first (default: 20)",
    )
    parser.add_argument("--show-numbers", action="store_true", help="numbers in full (default: the last three digits)")
    env_file(parser)
    parser.set_defaults(wrong=parser.error)


def _check(arguments: argparse.Namespace) -> None:
    """End the program with exit code 2 where the parts do not fit together."""
    what, name = arguments.what, arguments.name
    if what == "list" and name is not None:
        arguments.wrong("list takes no number; check does")
    elif what != "list" and not name:
        arguments.wrong(f"which? Give {'a file' if what == 'import' else 'a number'}")
    elif what == "import" and name != "-" and not Path(name).is_file():
        arguments.wrong(f"there is no file {name}")
    for option, most in (("source", 100), ("reason", 500)):
        given = getattr(arguments, option)
        if given is not None and not 0 < len(given) <= most:
            arguments.wrong(f"--{option} must have 1 to {most} characters")
    if arguments.user is not None:
        try:
            arguments.user = str(uuid.UUID(arguments.user))
        except ValueError:
            arguments.wrong(f'a user cannot be "{arguments.user}": give their id (a uuid)')


def _run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    from adapter.commands import forbidding  # noqa: PLC0415  a wrong setting, and --help, answer at once

    return forbidding.do(config, arguments)


COMMAND = Command(
    name="do-not-call",
    help="take in, look up and take out numbers that nobody may call",
    arguments=_arguments,
    run=_run,
)
