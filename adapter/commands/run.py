"""`mikopbx-adapter run`: the daemon."""

import argparse
import signal
import sys

from adapter.commands.command import Command, env_file, refuse
from adapter.exits import EXIT_BUSY, EXIT_CONFIG
from adapter.settings import SettingsError, from_process

HELD = frozenset({EXIT_CONFIG, EXIT_BUSY})
"""Codes after which an immediate restart would only end the same way."""

LONGEST_HOLD = 3600


def _arguments(parser: argparse.ArgumentParser) -> None:
    env_file(parser)
    parser.add_argument(
        "--hold",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="under a restart policy: wait so long before leaving with code 75 or 78, so that a wrong setting makes no "
        "hot restart loop; SIGTERM ends the wait (default: 0)",
    )
    parser.add_argument(
        "--shadow",
        action="store_true",
        help="do everything but the call: log what would be dialed, when, through what, by which rules; changes no row "
        "and may run beside a living adapter or the old carrier",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= LONGEST_HOLD:
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 0 to {LONGEST_HOLD}")
    return value


def _run(arguments: argparse.Namespace) -> int:
    code = _daemon(arguments)
    if code in HELD and arguments.hold:
        _hold(arguments.hold, code)
    return code


def _daemon(arguments: argparse.Namespace) -> int:
    try:
        settings = from_process(arguments.env_file)
    except SettingsError as error:
        return refuse(error)
    from adapter.daemon import main as run_daemon  # noqa: PLC0415  a wrong setting answers at once

    return run_daemon(settings, shadowed=arguments.shadow)


def _hold(seconds: float, code: int) -> None:
    """Wait, or until SIGTERM or Ctrl-C. Blocked ones reach a process 1 too, which ignores signals without a handler."""
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    sys.stderr.write(f"mikopbx-adapter: leaving with code {code} in {seconds:g} s, or when stopped.\n")
    sys.stderr.flush()
    signal.sigtimedwait(ends, seconds)


COMMAND = Command(
    name="run",
    help="the daemon: dial, follow, report; runs until SIGTERM or Ctrl-C",
    arguments=_arguments,
    run=_run,
)
