"""The command `mikopbx-adapter`: run the daemon, or try everything on one machine.

Exit codes: 0 done or stopped on request; 78 settings wrong (sysexits EX_CONFIG: a restart cannot help); 75 refused for
now (another process holds STATE_DIR, a newer incarnation is at work); 70 a part of the daemon died or hung, which a
restart mends.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from adapter import __version__
from adapter.settings import SettingsError, from_process

EXIT_CONFIG = 78


def _run(arguments: argparse.Namespace) -> int:
    try:
        settings = from_process(arguments.env_file)
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"mikopbx-adapter: {problem}\n")
        sys.stderr.write(
            "mikopbx-adapter: nothing was started; mend the settings above (.env.example explains each).\n"
        )
        return EXIT_CONFIG
    # Imported here so that --help and a wrong setting answer at once.
    from adapter.daemon import main as run_daemon  # noqa: PLC0415

    return run_daemon(settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["sandbox"]:
        return _sandbox(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="mikopbx-adapter", description="Dials the rows of a Supabase call_queue through a MikoPBX."
    )
    parser.add_argument("--version", action="version", version=f"mikopbx-adapter {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="the daemon: dial, follow, report; runs until SIGTERM or Ctrl-C")
    run.add_argument("--env-file", type=Path, default=None, metavar="FILE", help="file of settings (see .env.example)")
    run.set_defaults(action=_run)
    commands.add_parser("sandbox", help="everything on this machine, with example calls (see sandbox --help)")
    chosen = parser.parse_args(arguments)
    return int(chosen.action(chosen))


def _sandbox(arguments: list[str]) -> int:
    try:
        from adapter.sandbox.app import main as run_sandbox  # noqa: PLC0415  an extra of the package
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"mikopbx-adapter: the sandbox needs the package {error.name}; install the extra: "
            "pip install 'mikopbx-adapter[sandbox]', or use scripts/sandbox in a checkout.\n"
        )
        return 1
    return run_sandbox(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
