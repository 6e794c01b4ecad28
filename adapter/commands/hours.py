"""`mikopbx-adapter hours`: when people may be called, by their own clock; to see and to set."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from adapter.commands import targets
from adapter.commands.command import Command, env_file, refuse
from adapter.commands.project import project
from adapter.commands.view.codes import HOURS_HELP
from adapter.settings import SettingsError
from adapter.supabase_io.stops import Target

KINDS = ("user", "campaign", "all")

NONE = "none"
"""In place of a date or a zone: take it away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to change, None for all but what is asked for."""

    windows: str | None = None
    clear: bool = False
    dates: Mapping[str, str | None] = field(default_factory=dict)
    """`starts_at`, `ends_at`: ISO 8601 with offset; None takes it away."""

    zone: str | None = None

    def __bool__(self) -> bool:
        return self.windows is not None or self.clear or bool(self.dates) or self.zone is not None


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = HOURS_HELP
    parser.add_argument(
        "what", nargs="?", metavar="WHAT", help="user or campaign with its ID, or all; without: show all that is set"
    )
    parser.add_argument("name", nargs="?", metavar="ID", help="id of the user or campaign")
    parser.add_argument(
        "--set", metavar="WINDOWS", help="as 'Mon-Fri 09:00-18:00; Sat 10:00-14:00', instead of what is set"
    )
    parser.add_argument("--clear", action="store_true", help="take the windows away that are set for it")
    parser.add_argument(
        "--starts", metavar="WHEN", help="a campaign: when it begins, as 2026-12-01T09:00+08:00, or none"
    )
    parser.add_argument("--ends", metavar="WHEN", help="a campaign: when it ends; what waits then ends with it")
    parser.add_argument(
        "--zone", metavar="ZONE", help="a user: time zone where a number tells none, as Asia/Kuala_Lumpur, or none"
    )
    env_file(parser)
    parser.set_defaults(wrong=parser.error)


def read(what: str | None, name: str | None, wish: Wish) -> Target | None:
    """The target, None for all that is set; raises ValueError with what is wrong."""
    if what is None:
        if wish:
            raise ValueError("whose hours? Say user or campaign with an id, or all")
        return None
    if what not in KINDS:
        raise ValueError(f'there are no hours of "{what}": say user or campaign with an id, or all')
    if [wish.windows is not None, wish.clear, bool(wish.dates), wish.zone is not None].count(True) > 1:
        raise ValueError("one at a time: --set, --clear, --zone, or --starts and --ends")
    if wish.dates and what != "campaign":
        raise ValueError("only a campaign begins and ends: say campaign with its id")
    if wish.zone is not None and what != "user":
        raise ValueError("only a user has a zone: say user with an id")
    return targets.read(what, name)


def instant(text: str) -> str | None:
    """An instant as it is typed; None for the word none. Raises ValueError with what is wrong."""
    if text == NONE:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'"{text[:40]}" is no date: write it as 2026-12-01T09:00+08:00, or none') from None
    if at.tzinfo is None:
        # Of whoever types, of the database, of the callee? A guess would be hours off.
        raise ValueError(f'"{text}" does not say by which clock: add the offset from UTC, as 2026-12-01T09:00+08:00')
    return at.isoformat()


def _wish(arguments: argparse.Namespace) -> Wish:
    typed = {"starts_at": arguments.starts, "ends_at": arguments.ends}
    return Wish(
        windows=arguments.set,
        clear=arguments.clear,
        dates={name: instant(text) for name, text in typed.items() if text is not None},
        zone=arguments.zone,
    )


def _run(arguments: argparse.Namespace) -> int:
    try:
        wish = _wish(arguments)
        target = read(arguments.what, arguments.name, wish)
    except ValueError as error:
        arguments.wrong(str(error))
        raise
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    from adapter.commands import timing  # noqa: PLC0415  a wrong setting, and --help, answer at once

    if target is None or not wish:
        return timing.show(config, target)
    if wish.dates:
        return timing.dates(config, target.key, wish.dates)
    if wish.zone is not None:
        return timing.zone(config, target.key, None if wish.zone == NONE else wish.zone)
    return timing.put(config, target, wish.windows)


COMMAND = Command(
    name="hours",
    help="see and set when people may be called, by their own clock",
    arguments=_arguments,
    run=_run,
)
