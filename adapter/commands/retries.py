"""`mikopbx-adapter retries`: after which outcome how many calls follow, and how long after; to see and to set."""

import argparse
import re

from adapter.commands import options
from adapter.commands.command import Command, env_file, refuse
from adapter.commands.project import project
from adapter.commands.view.codes import HOURS_HELP
from adapter.settings import SettingsError
from adapter.supabase_io.money import RetryRule

UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = HOURS_HELP
    parser.add_argument("action", nargs="?", choices=("set",), help="set a rule; without: show what holds")
    parser.add_argument(
        "outcome", nargs="?", metavar="OUTCOME", help="as busy or no_answer; carrier or us: all their faults together"
    )
    whom = parser.add_mutually_exclusive_group()
    whom.add_argument("--user", type=options.uuid_text, metavar="ID", help="of this user (without either: of all)")
    whom.add_argument("--campaign", type=options.uuid_text, metavar="ID", help="of this campaign")
    parser.add_argument("--calls", type=options.whole(0, 99), metavar="N", help="so many calls may follow")
    parser.add_argument("--delays", type=delays, metavar="LIST", help="waits, as 60,300 or 5m,1h,1d; the last repeats")
    parser.add_argument(
        "--spread", type=options.whole(0, 100), metavar="PERCENT", help="up to so much is added to a wait"
    )
    parser.add_argument("--remove", action="store_true", help="take the rule away")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    env_file(parser)
    parser.set_defaults(wrong=parser.error)


def delays(text: str) -> tuple[int, ...]:
    """`60,5m,1d` in seconds. Raises ArgumentTypeError."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,7})\s*([a-z]*)\s*", part, flags=re.ASCII)
        if match is None or match[2] not in UNITS:
            raise argparse.ArgumentTypeError(f'"{part}" is no wait: write 90, 90s, 5m, 4h or 1d, with commas between')
        found.append(int(match[1]) * UNITS[match[2]])
    return tuple(found)


def rule(arguments: argparse.Namespace) -> RetryRule | None:
    """The rule to set, None to show what holds; raises ValueError with what is wrong."""
    said = {"calls": arguments.calls, "delays": arguments.delays, "spread": arguments.spread}
    given = [name for name, value in said.items() if value is not None]
    if arguments.action is None:
        if given or arguments.remove:
            raise ValueError("to change a rule write: retries set OUTCOME …")
        return None
    if arguments.outcome is None:
        raise ValueError("after which outcome? Write: retries set busy --calls 3 --delays 5m,1h")
    if arguments.remove == bool(given):
        raise ValueError("say --calls, --delays or --spread, or --remove alone")
    scope = "user" if arguments.user else "campaign" if arguments.campaign else "default"
    return RetryRule(scope=scope, scope_id=arguments.user or arguments.campaign, outcome=arguments.outcome, **said)


def _run(arguments: argparse.Namespace) -> int:
    try:
        wanted = rule(arguments)
    except ValueError as error:
        arguments.wrong(str(error))
        raise
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    from adapter.commands import accounts  # noqa: PLC0415  a wrong setting, and --help, answer at once

    if wanted is not None:
        return accounts.set_retry(config, wanted, as_json=arguments.json)
    return accounts.retries(config, user=arguments.user, campaign=arguments.campaign, as_json=arguments.json)


COMMAND = Command(
    name="retries",
    help="see and set after which outcome how many calls follow, and how long after",
    arguments=_arguments,
    run=_run,
)
