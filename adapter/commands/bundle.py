"""`mikopbx-adapter bundle`: a part of the flight record as a file that can be sent, and played again."""

import argparse
import os
import re
import sys
import time
from datetime import datetime
from pathlib import Path

from adapter.commands.command import Command, env_file, refuse
from adapter.settings import SettingsError, from_process

EXIT_NOTHING = 1

_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_CALL = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _arguments(parser: argparse.ArgumentParser) -> None:
    env_file(parser)
    parser.add_argument("call", nargs="?", type=_call, metavar="CALL", help="call id, as call_logs.call_id has it")
    parser.add_argument(
        "--since", type=_instant, metavar="WHEN", help="2026-01-31T09:00 (local), …Z, or 10m, 2h, 1d ago"
    )
    parser.add_argument("--until", type=_instant, metavar="WHEN", help="the same (default: now)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, mode 0600 (default: standard output)")
    parser.add_argument(
        "--check", type=Path, metavar="FILE", help="play a bundle again and tell the outcome of each call in it"
    )


def _call(text: str) -> str:
    if not _CALL.fullmatch(text.lower()):
        raise argparse.ArgumentTypeError("must be a call id (a UUID), as it stands in call_logs.call_id")
    return text.lower()


def _instant(text: str) -> float:
    if ago := _AGO.fullmatch(text):
        return time.time() - int(ago[1]) * _SECONDS[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError("must be like 2026-01-31T09:00, or so long ago: 10m, 2h, 1d") from None


def _run(arguments: argparse.Namespace) -> int:
    if arguments.check is not None:
        return _check(arguments.check)
    if arguments.call is None and arguments.since is None:
        sys.stderr.write("mikopbx-adapter: name a call id, or a time with --since.\n")
        return 2
    from adapter import __version__  # noqa: PLC0415  --help answers at once
    from adapter.recorder import bundle  # noqa: PLC0415

    try:
        settings = from_process(arguments.env_file, need=frozenset({"STATE_DIR"}))
    except SettingsError as error:
        return refuse(error)
    wanted = bundle.Wanted(call_id=arguments.call, since=arguments.since, until=arguments.until)
    try:
        text = bundle.made(bundle.read(settings["STATE_DIR"], wanted), wanted, version=__version__, now=time.time())
        if arguments.output is None:
            sys.stdout.write(text)
        else:
            _write(arguments.output, text)
    except bundle.NothingThere as error:
        sys.stderr.write(f"mikopbx-adapter: {error}.\n")
        return EXIT_NOTHING
    except OSError as error:
        sys.stderr.write(f"mikopbx-adapter: {error.filename or arguments.output}: {error.strerror}.\n")
        return EXIT_NOTHING
    return 0


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        os.fchmod(fd, 0o600)  # One that was there keeps its mode otherwise.
        file.write(text)


def _check(path: Path) -> int:
    from adapter.recorder.replay import NotABundle, Played, play  # noqa: PLC0415

    try:
        calls = play(path.read_text("utf-8"))
    except (OSError, UnicodeError, NotABundle) as error:
        sys.stderr.write(f"mikopbx-adapter: {path} cannot be played: {error}.\n")
        return EXIT_NOTHING

    def told(call: Played) -> str:
        if call.told is None:
            return "the database was told nothing here"
        return f"the database was told {call.told.get('outcome')}, {call.told.get('talk_seconds')} s"

    verdicts = {True: "same", False: "DIFFERENT", None: "not compared"}
    for call in calls:
        ending = call.ending
        heard = "not ended by what was heard" if ending is None else f"{ending.outcome}, {ending.talk_seconds} s"
        sys.stdout.write(f"{call.call_id}  {heard}; {told(call)}: {verdicts[call.agrees]}\n")
        if ending is not None:
            sys.stdout.write(f"    {ending.reason}\n")
    if not calls:
        sys.stderr.write("mikopbx-adapter: no call was placed in this bundle.\n")
    return EXIT_NOTHING if not calls or any(call.agrees is False for call in calls) else 0


COMMAND = Command(
    name="bundle",
    help="a call or a time span of the flight record as one masked file, to look at, to send and to play again "
    "(exit code 1: there is nothing, or --check found another outcome)",
    arguments=_arguments,
    run=_run,
)
