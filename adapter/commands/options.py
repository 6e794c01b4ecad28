"""Options that several commands have."""

import argparse
import shlex
import uuid
from collections.abc import Callable


def how_to_follow(parser: argparse.ArgumentParser) -> None:
    """`--timeout` and `--json` of the commands that follow a row."""
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="follow it for so long at most (default: to its outcome, which comes within a day)",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on standard output, the steps on standard error"
    )


def settings(arguments: argparse.Namespace) -> str:
    """The option that named the settings, as it stands in a command that we propose."""
    return "" if arguments.env_file is None else f" --env-file {shlex.quote(str(arguments.env_file))}"


def row(parser: argparse.ArgumentParser) -> None:
    """The row that a command is about."""
    parser.add_argument(
        "row", type=whole(1, 2**63 - 1), metavar="ROW", help="id of the row of call_queue, as call told it"
    )


def whole(low: int, high: int) -> Callable[[str], int]:
    """Parser of a whole number between bounds."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def uuid_text(text: str) -> str:
    """The id of a user or campaign."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is no id (a uuid)') from None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError("must be a number of seconds, above 0 and up to 86400")
    return value
