"""`mikopbx-adapter config`: the settings that are in force, secrets hidden, each with its source."""

import argparse
import json
import sys

from adapter.commands.command import Command, env_file, refuse
from adapter.settings import SettingsError, from_process, shown


def _arguments(parser: argparse.ArgumentParser) -> None:
    env_file(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object: name → value and source")


def _run(arguments: argparse.Namespace) -> int:
    try:
        settings = from_process(arguments.env_file)
    except SettingsError as error:
        return refuse(error)
    rows = shown(settings)
    if arguments.json:
        table = {name: {"value": value, "source": source} for name, value, source in rows}
        sys.stdout.write(json.dumps(table, indent=1) + "\n")
        return 0
    width = max(len(name) for name, _, _ in rows)
    most = max(len(value) for _, value, _ in rows)
    for name, value, source in rows:
        sys.stdout.write(f"{name:{width}}  {value:{most}}  {source}\n")
    return 0


COMMAND = Command(
    name="config",
    help="print the settings in force, secrets hidden, with the source of each (exit code 78 if they are wrong)",
    arguments=_arguments,
    run=_run,
)
