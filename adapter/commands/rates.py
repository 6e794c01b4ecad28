"""`mikopbx-adapter rates import`: takes in what a carrier asks for, from a CSV file."""

import argparse
import sys
from pathlib import Path

from adapter.commands.command import Command, env_file, refuse
from adapter.commands.project import project
from adapter.commands.view.codes import RATES_HELP, Code
from adapter.core import ratesheet
from adapter.settings import SettingsError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = RATES_HELP
    parser.add_argument("action", choices=("import",), help="take in a sheet")
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="CSV with a heading: prefix, per_minute and more (docs/costs.md)"
    )
    parser.add_argument("--trunk", default="", metavar="ID", help="its trunk; without: MikoPBX chooses the trunk")
    parser.add_argument("--currency", metavar="CODE", help="where the file says none, as MYR")
    parser.add_argument("--increments", metavar="FIRST/STEP", help="where the file says none (default: 60/60)")
    env_file(parser)


def _run(arguments: argparse.Namespace) -> int:
    try:
        config = project(arguments)
    except SettingsError as error:
        return refuse(error)
    usual = {name: getattr(arguments, name) for name in ("currency", "increments") if getattr(arguments, name)}
    try:
        with arguments.file.open(encoding="utf-8-sig", newline="") as text:
            # Read before anything is sent: a file that breaks off half way is refused whole.
            lines = list(ratesheet.read(text, usual))
    except (OSError, ratesheet.SheetError) as error:
        sys.stderr.write(f"mikopbx-adapter: {arguments.file} cannot be taken, nothing was: {error}\n")
        return Code.NOT_QUEUED
    from adapter.commands import accounts  # noqa: PLC0415  a wrong setting, and --help, answer at once

    return accounts.take_rates(config, arguments.trunk, lines)


COMMAND = Command(
    name="rates",
    help="take in the rates of a trunk from a CSV file",
    arguments=_arguments,
    run=_run,
)
