"""pgTAP for the tests in supabase/tests: PostgreSQL's own unit tests, which `supabase test db` runs as well.

It is plain SQL and the same on every server, so a Debian package of it for any version of PostgreSQL will do. Its two
files are fetched once with the machine's own apt, into a folder of its own below the cache folder; nothing is
installed, and apt's own lists are not touched. They are then copied to where our server looks for extensions.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import asyncpg

from adapter.sandbox.postgres import Postgres

PACKAGE = re.compile(r"^postgresql-(\d+)-pgtap$")
"""How Debian names it; which versions of PostgreSQL there are differs by release."""

CONTROL = "pgtap.control"

APT_SECONDS = 240
"""Fetching all package lists takes some seconds, on a bad line minutes."""


class PgTapMissing(Exception):
    """There is no pgTAP and none could be had; the text says what to do."""


def cache_dir() -> Path:
    """The folder that holds the two files; deleting it is always safe."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mikopbx-adapter" / "pgtap"


async def put_into(server: Postgres) -> None:
    """Let databases of this server `create extension pgtap`. Raises `PgTapMissing`."""
    connection = await asyncpg.connect(server.admin_dsn())
    try:
        if await connection.fetchval("select exists (select from pg_available_extensions where name = 'pgtap')"):
            return
        share = await connection.fetchval("select setting from pg_config where name = 'SHAREDIR'")
    finally:
        await connection.close()
    control, script = fetched()
    try:
        # The control file last: with it the extension is there for whoever else looks.
        for file in (script, control):
            _put(file, Path(share) / "extension" / file.name)
    except OSError as error:
        raise PgTapMissing(
            f"pgTAP cannot be put into {share}/extension ({error}). Install it for that server (on Debian the package "
            "postgresql-NN-pgtap of its version), or run this as a user who may write there."
        ) from None


def fetched() -> tuple[Path, Path]:
    """Control file and script, from the cache folder or, the first time, by apt. Raises `PgTapMissing`."""
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # Two runs at once fetch it once.
        if not (folder / CONTROL).exists():
            _fetch(folder)
    return folder / CONTROL, _script(folder)


def _script(folder: Path) -> Path:
    """The script of the version that the control file names."""
    version = re.search(r"^default_version *= *'([^']+)'", (folder / CONTROL).read_text(encoding="utf-8"), re.MULTILINE)
    script = folder / f"pgtap--{version[1]}.sql" if version else None
    if script is None or not script.exists():
        raise PgTapMissing(f"{folder} has no script for its {CONTROL}. Delete the folder and try again.")
    return script


def _fetch(folder: Path) -> None:
    missing = [name for name in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(name) is None]
    if missing:
        raise PgTapMissing(_advice(folder, f"there is no {', '.join(missing)} here"))
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder) as name:
        draft = Path(name)
        (draft / "lists" / "partial").mkdir(parents=True)
        (draft / "archives" / "partial").mkdir(parents=True)
        # Lists of our own, so that it works for anybody and with a machine whose lists are empty or old.
        own = [f"Dir::State::Lists={draft}/lists", f"Dir::Cache={draft}", "Debug::NoLocking=1", "APT::Sandbox::User="]
        options = [part for option in own for part in ("-o", option)]
        package = _named(_run(["apt-cache", "search", "--names-only", "pgtap"], folder, draft))
        if package is None or not _downloaded(["apt-get", "download", package], folder, draft):
            _run(["apt-get", *options, "update", "-qq"], folder, draft)
            package = _named(_run(["apt-cache", *options, "search", "--names-only", "pgtap"], folder, draft))
            if package is None:
                raise PgTapMissing(_advice(folder, "apt has no network, or knows no package postgresql-NN-pgtap"))
            _run(["apt-get", *options, "download", package], folder, draft)
        (archive,) = draft.glob("*.deb")
        _run(["dpkg-deb", "-x", str(archive), "tree"], folder, draft)
        (control,) = draft.glob(f"tree/usr/share/postgresql/*/extension/{CONTROL}")
        for file in (_script(control.parent), control):
            file.replace(folder / file.name)


def _named(found: str) -> str | None:
    """The package for the newest PostgreSQL among the lines of a search."""
    names = [line.split(" ")[0] for line in found.splitlines()]
    versions = {int(match[1]): name for name in names if (match := PACKAGE.match(name))}
    return versions[max(versions)] if versions else None


def _downloaded(command: list[str], folder: Path, draft: Path) -> bool:
    """False if it cannot be had by the machine's own lists, which may be old."""
    try:
        _run(command, folder, draft)
    except PgTapMissing:
        return False
    return True


def _run(command: list[str], folder: Path, draft: Path) -> str:
    try:
        done = subprocess.run(
            command,
            check=True,
            cwd=draft,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=APT_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.CalledProcessError as error:
        raise PgTapMissing(_advice(folder, f"{command[0]} said: {error.stderr.strip()[-1000:]}")) from None
    except subprocess.TimeoutExpired:
        raise PgTapMissing(_advice(folder, f"{command[0]} took more than {APT_SECONDS} s")) from None
    return done.stdout


def _advice(folder: Path, reason: str) -> str:
    return (
        f"The tests of supabase/tests need pgTAP, and it could not be fetched: {reason}. With a network and apt it "
        "comes by itself. Else install it for the server of the tests (on Debian the package postgresql-NN-pgtap), or "
        f"put {CONTROL} and pgtap--<version>.sql of any release of pgTAP into {folder}."
    )


def _put(file: Path, target: Path) -> None:
    """Copy as one step: another worker may look for it at this moment. Readable for the server's user."""
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".pgtap-", delete=False) as draft:
        draft.write(file.read_bytes())
    Path(draft.name).chmod(0o644)
    Path(draft.name).replace(target)
