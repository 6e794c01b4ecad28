"""The command `mikopbx-adapter`: run the daemon, look after it, or try everything on one machine.

Exit codes of `run`: 0 stopped on request; 78 settings wrong (sysexits EX_CONFIG: a restart cannot help); 75 refused for
now (another process holds STATE_DIR, a newer incarnation is at work); 70 a part of the daemon died or hung, which a
restart mends. The other commands say theirs in their --help.
"""

import argparse
import sys
from collections.abc import Sequence

from adapter import __version__
from adapter.commands import (
    bundle,
    call,
    cancel,
    config,
    costs,
    do_not_call,
    doctor,
    dry_run,
    explain,
    follow,
    health,
    hours,
    pause,
    rates,
    resume,
    retries,
    run,
    sandbox,
    status,
)
from adapter.commands.command import Command

COMMANDS: tuple[Command, ...] = (
    run.COMMAND,
    doctor.COMMAND,
    call.COMMAND,
    follow.COMMAND,
    pause.COMMAND,
    resume.COMMAND,
    cancel.COMMAND,
    hours.COMMAND,
    retries.COMMAND,
    rates.COMMAND,
    costs.COMMAND,
    do_not_call.COMMAND,
    status.COMMAND,
    explain.COMMAND,
    dry_run.COMMAND,
    health.COMMAND,
    config.COMMAND,
    bundle.COMMAND,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["sandbox"]:
        return sandbox.run(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="mikopbx-adapter", description="Dials the rows of a Supabase call_queue through a MikoPBX."
    )
    parser.add_argument("--version", action="version", version=f"mikopbx-adapter {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        own = commands.add_parser(command.name, help=command.help, description=command.help)
        command.arguments(own)
        own.set_defaults(run=command.run)
    commands.add_parser("sandbox", help="everything on this machine, with example calls (see sandbox --help)")
    chosen = parser.parse_args(arguments)
    return int(chosen.run(chosen))


if __name__ == "__main__":
    raise SystemExit(main())
