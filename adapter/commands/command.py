"""What each command is, and what several of them share."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapter.exits import EXIT_CONFIG
from adapter.settings import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of the program. Modules import what is heavy inside `run`, so that --help answers at once."""

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    """Returns the exit code."""


def env_file(parser: argparse.ArgumentParser) -> None:
    """The option that every command with settings has; its value is `arguments.env_file`."""
    parser.add_argument(
        "--env-file", type=Path, default=None, metavar="FILE", help="file of settings (see .env.example)"
    )


def refuse(error: SettingsError) -> int:
    """Tell every problem of the settings; the exit code."""
    for problem in error.problems:
        sys.stderr.write(f"mikopbx-adapter: {problem}\n")
    sys.stderr.write("mikopbx-adapter: nothing was started; mend the settings above (.env.example explains each).\n")
    return EXIT_CONFIG
