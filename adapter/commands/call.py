"""`mikopbx-adapter call`: queues one row of call_queue and follows it to its outcome."""

import argparse
import uuid
from typing import Any

from adapter.commands import options
from adapter.commands.command import Command, env_file, refuse
from adapter.commands.project import project
from adapter.commands.view.codes import HELP
from adapter.settings import SettingsError


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError("must be a UUID, like 00000000-0000-4000-8000-000000000001") from None


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError("must look like NAME=VALUE")
    return name, value


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Queues one call and follows it to its outcome. The adapter that runs dials it; this only looks."
    )
    parser.epilog = HELP
    parser.add_argument("number", metavar="NUMBER", help="phone number, local or international, as you have it")
    parser.add_argument(
        "--user", required=True, type=_uuid, metavar="ID", help="owner of the call in the app (user_id)"
    )
    parser.add_argument("--name", metavar="TEXT", help="customer_name, shown in the app and handed to the AI")
    parser.add_argument("--prompt", type=_uuid, metavar="ID", help="prompt that the AI shall use (prompt_id)")
    parser.add_argument("--campaign", type=_uuid, metavar="ID", help="campaign of the app (campaign_id)")
    parser.add_argument("--contact", type=_uuid, metavar="ID", help="contact of the app (contact_id)")
    parser.add_argument(
        "--variable",
        type=_variable,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="channel variable for the AI; may be given several times",
    )
    parser.add_argument("--priority", type=options.whole(0, 9), metavar="0-9", help="9 comes first within the campaign")
    parser.add_argument("--caller-id", metavar="NUMBER", help="number shown to the callee instead of the usual one")
    parser.add_argument("--ring-seconds", type=options.whole(5, 120), metavar="N", help="longest ringing, 5 to 120")
    options.how_to_follow(parser)
    env_file(parser)


_COLUMNS = {
    "name": "customer_name",
    "prompt": "prompt_id",
    "campaign": "campaign_id",
    "contact": "contact_id",
    "priority": "priority",
    "caller_id": "caller_id",
    "ring_seconds": "ring_seconds",
}
"""Option → column of call_queue."""


def _more(arguments: argparse.Namespace) -> dict[str, Any]:
    """The columns that were given."""
    more: dict[str, Any] = {
        column: value for option, column in _COLUMNS.items() if (value := getattr(arguments, option)) is not None
    }
    if arguments.variable:
        more["variables"] = dict(arguments.variable)
    return more


def _run(arguments: argparse.Namespace) -> int:
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    # A wrong setting, and --help, answer at once.
    from adapter.commands.following import call  # noqa: PLC0415
    from adapter.supabase_io.desk import Wish  # noqa: PLC0415

    wish = Wish(key=str(uuid.uuid4()), user_id=arguments.user, number=arguments.number, more=_more(arguments))
    return call(config, wish, seconds=arguments.timeout, as_json=arguments.json, settings=options.settings(arguments))


COMMAND = Command(
    name="call",
    help="queue one call and follow it to its outcome; exit code 0 if it was answered (call --help lists the others)",
    arguments=_arguments,
    run=_run,
)
