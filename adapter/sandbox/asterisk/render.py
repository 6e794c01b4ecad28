"""Configuration templates → the files of one Asterisk."""

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

_PLACEHOLDER = re.compile(r"@([A-Z_]+)@")

EMPTY = (
    *("acl", "ccss", "cdr", "cel", "cli", "cli_aliases", "codecs", "features", "http", "indications", "pjproject"),
    *("pjsip_notify", "res_parking", "sorcery", "stasis", "stir_shaken", "udptl"),
)
"""Files that Asterisk looks for and complains about; their defaults are right."""

FOLDERS = ("etc", "lib", "spool/outgoing", "run", "log")


def write(role: str, folder: Path, values: Mapping[str, str]) -> None:
    """Lay out the folders of one Asterisk and write its configuration. `role` is `pbx` or `carrier`.

    Raises KeyError for a placeholder that has no value.
    """
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in EMPTY:
        (folder / "etc" / f"{name}.conf").touch()
    templates = files("adapter.sandbox.asterisk.conf")
    for kind in ("both", role):
        for template in templates.joinpath(kind).iterdir():
            if template.name.endswith(".conf"):
                text = fill(template.read_text(encoding="utf-8"), values)
                (folder / "etc" / template.name).write_text(text, encoding="utf-8")


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with every `@NAME@` replaced. Raises KeyError for a name without a value."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)
