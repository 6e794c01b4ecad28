"""Prints the files that are made from the tables: `.env.example`, the pages of settings, outcomes and commands."""

import argparse
import sys
from collections.abc import Iterator

from adapter.cli import COMMANDS
from adapter.core.model import Outcome
from adapter.core.outcomes import RULES, Retry
from adapter.settings import MISSING, SETTINGS


def env_example() -> str:
    """Text of `.env.example`."""
    lines = [
        "# Settings of mikopbx-adapter: copy to .env and fill in; `mikopbx-adapter run --env-file .env` reads it.",
        "# In Docker the same names are environment variables. Lines that begin with # show the default.",
        "# A secret may stand in a file of its own: NAME_FILE=/run/secrets/… in place of NAME=….",
        "# Made from adapter/settings.py by `python -m adapter.reference env`.",
    ]
    group = ""
    for setting in SETTINGS:
        if setting.group != group:
            group = setting.group
            lines += ["", f"# ---- {group}"]
        lines += ["", *_wrapped(setting.why)]
        required = setting.default is MISSING or setting.name in {"SUPABASE_SERVICE_ROLE_KEY", "TRUNK"}
        lines.append(f"{setting.name}={setting.example}" if required else f"#{setting.name}={setting.default}")
    return "\n".join(lines) + "\n"


def _wrapped(text: str, width: int = 110) -> list[str]:
    out, line = [], "#"
    for word in text.split():
        if len(line) + len(word) + 1 > width:
            out.append(line)
            line = "#"
        line += " " + word
    return [*out, line]


def settings_page() -> str:
    """Text of `docs/reference/settings.md`."""
    lines = [
        "# Settings",
        "",
        "Made from `adapter/settings.py` by `python -m adapter.reference settings`. The process environment wins over",
        "the file given with `--env-file`. All errors are told at once; the exit code is then 78.",
        "",
        "A secret may stand in a file of its own, which its name with the ending `_FILE` gives (Docker and Kubernetes",
        "secrets); give one of the two.",
        "`mikopbx-adapter config` shows what is in force, and where each value comes from.",
    ]
    group = ""
    for setting in SETTINGS:
        if setting.group != group:
            group = setting.group
            lines += ["", f"## {group}", "", "| name | default | meaning |", "| --- | --- | --- |"]
        default = (
            "required" if setting.default is MISSING else (f"`{setting.default}`" if setting.default != "" else "none")
        )
        if setting.name == "SUPABASE_SERVICE_ROLE_KEY":
            default = "required"
        lines.append(f"| `{setting.name}` | {default} | {setting.why}{' Secret.' if setting.secret else ''} |")
    lines += [
        "",
        "## Proxies",
        "",
        "Both links to Supabase follow `HTTPS_PROXY` and `NO_PROXY` of the process environment; a SOCKS proxy is",
        "refused. The link to the PBX uses no proxy.",
    ]
    return "\n".join(lines) + "\n"


_RETRIED = {
    Retry.NEVER: "never",
    Retry.POLICY: "while `max_attempts` allows",
    Retry.ON_REQUEST: "never, unless a policy says so",
    Retry.OWN_BOUND: "soon, three times at most",
}

_TRIES = {True: "yes", False: "no"}


def outcomes_page() -> str:
    """Text of `docs/reference/outcomes.md`."""
    lines = [
        "# Outcomes",
        "",
        "Made from `adapter/core/outcomes.py` by `python -m adapter.reference outcomes`. The outcome stands in",
        "`call_queue.outcome` and `call_logs.metadata.outcome`, the words with the exact reason in",
        "`call_logs.metadata.ended_reason`, the status is the app's own word in `call_logs.status`.",
        "",
        "| outcome | words | who | `call_logs.status` | spends a try | called again |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for outcome in Outcome:
        rule = RULES[outcome]
        status = f"`{rule.status}`" if rule.status else "`no_answered` (setting `NO_ANSWER_WORD`)"
        lines.append(
            f"| `{outcome}` | {rule.words} | {rule.verdict} | {status} "
            f"| {_TRIES[rule.spends_attempt]} | {_RETRIED[rule.retry]} |"
        )
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Text of `docs/reference/commands.md`."""
    lines = [
        "# Commands",
        "",
        "Made from the commands' own `--help` by `python -m adapter.reference commands`. The sandbox has",
        "options of its own, which its `--help` tells.",
    ]
    for command in COMMANDS:
        parser = _Listed(prog=f"mikopbx-adapter {command.name}")
        command.arguments(parser)
        lines += ["", f"## `{command.name}`", "", f"{command.help[0].upper()}{command.help[1:]}.", "", *parser.table()]
        if parser.epilog:
            lines += ["", "```text", parser.epilog.strip(), "```"]
    return "\n".join(lines) + "\n"


class _Listed(argparse.ArgumentParser):
    """Tells what it takes as lines of a table."""

    def table(self) -> Iterator[str]:
        yield from ("| argument | meaning |", "| --- | --- |")
        for action in self._actions:
            if action.dest != "help":
                yield _Row(self.prog).of(action)


class _Row(argparse.HelpFormatter):
    def of(self, action: argparse.Action) -> str:
        takes = self._format_args(action, action.dest.upper()) if action.nargs != 0 else ""
        names = ", ".join(f"{name} {takes}".strip() for name in action.option_strings) or takes
        meaning = " ".join(self._expand_help(action).split()) if action.help else ""
        return f"| `{names.replace('|', '/')}` | {meaning.replace('|', '/')} |"


PAGES = {"env": env_example, "settings": settings_page, "outcomes": outcomes_page, "commands": commands_page}


def main() -> int:
    """Print one of them."""
    parser = argparse.ArgumentParser(description="Print a file that is made from a table.")
    parser.add_argument("page", choices=tuple(PAGES))
    sys.stdout.write(PAGES[parser.parse_args().page]())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
