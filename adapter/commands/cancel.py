"""`mikopbx-adapter cancel`: cancels rows of call_queue; calls that live are hung up by their adapters."""

import argparse

from adapter.commands import options, targets
from adapter.commands.command import Command, env_file, refuse
from adapter.commands.project import project
from adapter.commands.view.codes import CANCEL_HELP
from adapter.settings import SettingsError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Cancels a row (ROW, or row N), or all that waits of a campaign, user or trunk, or everything. Calls that live "
        "are hung up by their adapters."
    )
    parser.epilog = CANCEL_HELP
    targets.arguments(parser)
    targets.reason(parser)
    parser.add_argument("--yes", action="store_true", help="yes, cancel everything (only asked for with all)")
    env_file(parser)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.name is None and arguments.what.isdecimal():
        arguments.what, arguments.name = "row", arguments.what
    target = targets.target(arguments)
    if target.kind == "all" and not arguments.yes:
        arguments.wrong("this cancels every row that waits and hangs up every call that lives: confirm it with --yes")
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    # A wrong setting, and --help, answer at once.
    from adapter.commands import following, stopping  # noqa: PLC0415

    if target.kind == "row":
        return following.cancel(config, int(target.key), arguments.reason)
    return stopping.cancel(config, target, arguments.reason, settings=options.settings(arguments))


COMMAND = Command(
    name="cancel",
    help="cancel a row, or all of a campaign, user, trunk, or everything; calls that live are hung up",
    arguments=_arguments,
    run=_run,
)
