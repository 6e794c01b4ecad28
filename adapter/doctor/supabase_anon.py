"""What can somebody do who has only the public key? It stands in every page of the app, so that is everybody.

Two sources, and neither is enough alone: the catalog says what should be possible, a real try shows what is. A try that
shows no row proves nothing while the table is empty; a policy with a condition proves nothing while nobody signs in.
What stays open is said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from adapter.doctor.findings import Finding, fail, ok, skipped, warn
from adapter.doctor.supabase_project import INSTALL, Shipped
from adapter.supabase_io.config import SupabaseConfig, claims
from adapter.supabase_io.database import DatabaseAway, DatabaseRefused
from adapter.supabase_io.inspection import Inspection, Policy, Table
from adapter.supabase_io.stranger import Access, Stranger, Tries

CHECK = "supabase.anon"

NOT_MADE = "this check was not made: give the page's public key in SUPABASE_ANON_KEY to have it made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """What it means when a stranger may read or write one of the app's tables; empty: nothing to worry about."""

    reads: str = ""
    writes: str = ""


HARMS: Mapping[str, Harm] = {
    "user_sessions": Harm(
        reads="take the session of anybody who is logged in, and be them",
        writes="make a session for any user without a password, or end all of them",
    ),
    "users": Harm(
        reads="read every user's name, e-mail, phone number and password hash",
        writes="set any user's password, balance and account type, or delete all users",
    ),
    "phone_config": Harm(
        reads="read the passwords of SIP accounts and of the PBX, and call at your cost",
        writes="lead the app's calls to another exchange",
    ),
    # Prices are shown to everybody, so reading is as meant.
    "system_settings": Harm(writes="change prices and limits for everybody"),
    "call_logs": Harm(reads="read whom you called, with transcripts", writes="change or delete the history of calls"),
    "contacts": Harm(reads="read every contact with name and number", writes="change or delete every contact"),
    "campaigns": Harm(writes="change, pause or delete every campaign"),
    "prompts": Harm(writes="change what the AI says to the people you call"),
}
"""Tables of the app, the most harmful first. Its own log-in makes all visitors `anon` for the database."""

MEND_APP = (
    "this is how the app was made, and nothing of the adapter's: its pages need these rights as long as its log-in "
    "works in the browser. To close it, let log-in and sessions go through a function on the server (or Supabase "
    "Auth), then drop the policies that let everybody in, user_sessions and users first. Until then it all is public"
)


class Reach(Enum):
    """What the catalog says of a stranger's command on a table."""

    NONE = auto()
    """No right, or row level security with no policy for it."""

    SOME = auto()
    """A policy decides row by row."""

    ALL = auto()


def reach(table: Table, command: str, role: str = "anon") -> Reach:
    """What the catalog says: may `role` do `command` to the rows of `table`?"""
    if command not in table.rights.get(role, frozenset()):
        return Reach.NONE
    if not table.rls:
        return Reach.ALL
    policies = [
        policy for policy in table.policies if policy.command in (command, "all") and policy.roles & {"public", role}
    ]
    permissive = [_lets_all(policy, command) for policy in policies if policy.permissive]
    if not permissive:
        return Reach.NONE
    restricted = not all(_lets_all(policy, command) for policy in policies if not policy.permissive)
    return Reach.ALL if any(permissive) and not restricted else Reach.SOME


def _lets_all(policy: Policy, command: str) -> bool:
    if command == "insert":
        return (policy.all_rows if policy.any_new is None else policy.any_new) is True
    if command == "update":
        return policy.all_rows is True and policy.any_new is not False
    return policy.all_rows is True


@dataclass(slots=True, kw_only=True)
class Sums:
    """What was found, sorted by what it means."""

    ours: list[str] = field(default_factory=list)
    """Of ours, and open: it must not be."""

    theirs: list[str] = field(default_factory=list)
    """Of the app's, and open."""

    signed_in: list[str] = field(default_factory=list)
    """Of ours, and open to every row for whoever signed up; not tried, because that would need a user."""

    closed: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    """Neither proven open nor proven closed."""


async def anon(config: SupabaseConfig, anon_key: str | None, found: Inspection, shipped: Shipped) -> Finding:
    """Try everything as a stranger would; nothing is changed, and no row's content is fetched."""
    ours = {name: table for name, table in found.tables.items() if name in shipped.tables}
    if anon_key is None:
        return _by_the_catalog(ours)
    if (wrong := not_public(anon_key)) is not None:
        mend = (
            "give the anon key or an sb_publishable_ key (dashboard: Project Settings, API keys); if a secret key ever "
        )
        return fail(CHECK, "read SUPABASE_ANON_KEY, without showing it", wrong, mend + "stood in a page, replace it")
    theirs = {name: found.tables[name] for name in HARMS if name in found.tables}
    functions = {
        name.split("(", 1)[0]: name.split("(", 1)[1].rstrip(")")
        for name in shipped.execute
        if f"function {name}" in found.objects
    }
    tried = (
        f"tried to read, change and delete (rows that do not exist) in {len(ours) + len(theirs)} tables, and to call "
        f"{len(functions)} functions, with the public key; compared with the policies"
    )
    try:
        async with Stranger(config, anon_key) as stranger:
            tables = await stranger.tables({**ours, **theirs})
            called = await stranger.functions(functions)
    except DatabaseRefused as error:
        mend = "take SUPABASE_ANON_KEY from the same dashboard page as SUPABASE_URL"
        return warn(CHECK, tried, f"this check was not made: {error}", mend)
    except DatabaseAway as error:
        return warn(CHECK, tried, f"this check was not made: {error}", "try again")
    sums = Sums(signed_in=_signed_in(ours))
    open_by_right = {name.split("(", 1)[0] for name, roles in found.execute.items() if "anon" in roles}
    for name, access in called.items():
        if access is Access.ALLOWED or (access is Access.UNCLEAR and name in open_by_right):
            sums.ours.append(f"call {name}")
        elif access is Access.UNCLEAR:
            sums.doubtful.append(f"call {name}")
    for name, table in ours.items():
        tries = tables[name]
        proven = {"select": tries.read, "update": tries.update, "delete": tries.delete}
        sums.ours += _opened(name, table, frozenset(word for word, how in proven.items() if how is Access.ALLOWED))
    for name, table in theirs.items():
        _theirs(sums, name, table, tables[name])
    return _finding(tried, sums)


def not_public(key: str) -> str | None:
    """Why this is no public key, if so."""
    found = claims(key)
    if key.startswith("sb_secret_") or (found is not None and found.get("role") == "service_role"):
        return "it is a secret key"
    if found is not None and found.get("role") != "anon":
        return f"it has the role {found.get('role')!r}, not anon"
    return None


COMMANDS = ("select", "insert", "update", "delete")


def _by_the_catalog(ours: Mapping[str, Table]) -> Finding:
    tried = "read the rights and policies of our tables; nothing was tried as a stranger"
    opened = [told for name, table in ours.items() for told in _opened(name, table, frozenset())]
    if opened:
        return fail(CHECK, tried, f"by the catalog anybody may {', '.join(opened)}", _mend_ours())
    if signed_in := _signed_in(ours):
        return warn(CHECK, tried, f"{NOT_MADE}. By the catalog {SIGNED_IN} {', '.join(signed_in)}", MEND_SIGNED_IN)
    return skipped(CHECK, tried, NOT_MADE)


SIGNED_IN = "whoever is signed in through Supabase Auth (where sign-up is open: anybody) may, in all rows,"

MEND_SIGNED_IN = (
    "give the policies of our tables a condition, such as user_id = auth.uid(), or drop them and insert with the "
    "secret key from a server; or switch sign-up off in the dashboard (Authentication)"
)


def _signed_in(ours: Mapping[str, Table]) -> list[str]:
    return [
        f"{command} {name}"
        for name, table in ours.items()
        for command in COMMANDS
        if reach(table, command, "authenticated") is Reach.ALL
    ]


def _opened(name: str, table: Table, proven: frozenset[str]) -> list[str]:
    """What a stranger may do with a table of ours: by the catalog, or as was seen. install.sql gives no such right."""
    given = table.rights.get("anon", frozenset()) | proven
    return [
        f"{command} {name}"
        + (" (row level security still stands before its rows)" if reach(table, command) is Reach.NONE else "")
        + (", that is: have anybody called at your cost" if (name, command) == ("call_queue", "insert") else "")
        for command in COMMANDS
        if command in given
    ]


def _mend_ours() -> str:
    return f"{INSTALL}: it takes the rights away; drop policies on our tables that name anon or public"


def _theirs(sums: Sums, name: str, table: Table, tries: Tries) -> None:
    harm = HARMS[name]
    can = []
    if harm.reads:
        match _read(table, tries):
            case True:
                empty = "" if tries.seen else " (it is empty now)"
                can.append(harm.reads + empty)
            case False:
                sums.closed.append(f"read {name}")
            case None:
                sums.doubtful.append(f"read {name}")
    if harm.writes:
        match _write(table, tries):
            case True:
                can.append(harm.writes)
            case False:
                sums.closed.append(f"write {name}")
            case None:
                sums.doubtful.append(f"write {name}")
    if can:
        sums.theirs.append(f"({name}) {', '.join(can)}")


def _read(table: Table, tries: Tries) -> bool | None:
    """True: rows can be read. None: not known."""
    said = reach(table, "select")
    if tries.seen or (tries.read is Access.ALLOWED and said is Reach.ALL):
        return True
    if tries.read in (Access.DENIED, Access.ABSENT):
        return False
    if tries.read is Access.ALLOWED and said is Reach.NONE:
        return False
    # A policy with a condition: that no row is seen shows something only if there is one.
    return None


def _write(table: Table, tries: Tries) -> bool | None:
    """True: rows can be added, changed or deleted. None: not known."""
    said = {command: reach(table, command) for command in ("insert", "update", "delete")}
    proven = {"update": tries.update, "delete": tries.delete}
    if any(said[command] is Reach.ALL and access is Access.ALLOWED for command, access in proven.items()):
        return True
    # An insert cannot be tried without adding a row.
    if said["insert"] is Reach.ALL and Access.UNCLEAR not in proven.values():
        return True
    closed = (Access.DENIED, Access.ABSENT, None)
    if all(access in closed or said[command] is Reach.NONE for command, access in proven.items()):
        return False if said["insert"] is Reach.NONE else None
    return None


def _finding(tried: str, sums: Sums) -> Finding:
    doubt = f". Not to be proven from outside: {', '.join(sums.doubtful)}" if sums.doubtful else ""
    everybody = "anybody with the page's public key may"
    theirs = f"{everybody}, in the app's tables: {'; '.join(sums.theirs)}"
    if sums.ours:
        told = f"{everybody} {', '.join(sums.ours)}"
        if not sums.theirs:
            return fail(CHECK, tried, told + doubt, _mend_ours())
        return fail(CHECK, tried, f"{told}. Besides, {theirs}{doubt}", f"{_mend_ours()}. Beyond that, {MEND_APP}")
    signed_in = f"{SIGNED_IN} {', '.join(sums.signed_in)}" if sums.signed_in else ""
    if sums.theirs:
        told = f"nothing of ours is open to strangers, but {theirs}" + (f". Besides, {signed_in}" if signed_in else "")
        return warn(CHECK, tried, told + doubt, MEND_APP + (f". Besides, {MEND_SIGNED_IN}" if signed_in else ""))
    if signed_in:
        return warn(CHECK, tried, f"nothing is open to strangers, but {signed_in}{doubt}", MEND_SIGNED_IN)
    closed = f"; closed: {', '.join(sums.closed)}" if sums.closed else ""
    return ok(CHECK, tried, f"nothing of ours is open{closed}{doubt}")
