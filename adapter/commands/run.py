"""`mikopbx-adapter run`: the daemon."""

import argparse

from adapter.commands.command import Command, env_file, refuse
from adapter.settings import SettingsError, from_process


def _run(arguments: argparse.Namespace) -> int:
    try:
        settings = from_process(arguments.env_file)
    except SettingsError as error:
        return refuse(error)
    from adapter.daemon import main as run_daemon  # noqa: PLC0415  a wrong setting answers at once

    return run_daemon(settings)


COMMAND = Command(
    name="run",
    help="the daemon: dial, follow, report; runs until SIGTERM or Ctrl-C",
    arguments=env_file,
    run=_run,
)
