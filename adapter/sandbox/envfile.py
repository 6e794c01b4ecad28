"""A file of settings that the other commands read with `--env-file`, there as long as the sandbox runs."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

NAME = "sandbox.env"

MODE = 0o600
"""The keys in it are of one run and worth nothing, but a visitor may copy the habit."""


def line(name: str, value: str) -> str:
    """One setting; within single quotes python-dotenv knows these two escapes only."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{escaped}'\n"


@contextmanager
def written(folder: Path, settings: Mapping[str, str]) -> Iterator[Path]:
    """The file, removed at the end."""
    path = folder / NAME
    # One that a killed run left behind may have another mode, or be somebody's link.
    path.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "w", encoding="utf-8") as out:
            out.writelines(line(name, value) for name, value in settings.items())
        yield path
    finally:
        path.unlink(missing_ok=True)
