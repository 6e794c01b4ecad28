"""What the database says of itself, held against what this version ships. Pure: an answer in, findings out."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from adapter.doctor.findings import Finding, fail, ok, warn
from adapter.supabase_io.config import DoorbellMode
from adapter.supabase_io.inspection import Held, Inspection

INSTALL = "run supabase/install.sql of this version in the SQL editor of the dashboard"

TOLERANCE_SECONDS = 2.0
"""A clock that is set by NTP is off by some 0.01 s. Two seconds is what a person sees in a list of calls."""

BY_HAND = (
    ". It makes what is missing and replaces functions and triggers. Columns and constraints of a table that is there, "
    "and an index of the same name, it leaves as they are (or it stops at one that it needs): put these right by hand, "
    "as the first migration has them, and run it again"
)

ROLES_OF_BROWSERS = frozenset({"anon", "authenticated"})

MOST_NAMES = 6
"""Of each kind in one text; the rest is counted."""

PARTS = ("column", "constraint", "index", "trigger", "row", "sequence")
"""Kinds of objects that belong to a table; told after tables and functions."""

VERSIONED = re.compile(r"call_\w+_v\d+")
"""Functions that adapters call. One that this version does not know comes from a newer one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What a project has after install.sql of this version (installed.json)."""

    version: str
    """Of the adapter: install.sql carries it."""

    objects: Mapping[str, str]
    execute: frozenset[str]
    """Functions for the secret key, with their parameters."""

    rights: Mapping[str, frozenset[str]]
    """Rights of the secret key on our tables."""

    @classmethod
    def read(cls) -> "Shipped":
        """From the package."""
        found: dict[str, Any] = json.loads(
            files("adapter.doctor").joinpath("installed.json").read_text(encoding="utf-8")
        )
        return cls(
            version=found["version"],
            objects=found["objects"],
            execute=frozenset(found["execute"]),
            rights={table: frozenset(words) for table, words in found["rights"].items()},
        )

    @property
    def tables(self) -> frozenset[str]:
        """Names of our tables."""
        return frozenset(self.rights)


# ---------------------------------------------------------------- clock


def clock(found: Inspection, *, wall_at_zero: float) -> Finding:
    """This machine's clock against the database's. `wall_at_zero`: epoch seconds at monotonic time 0."""
    tried = "compared this machine's clock with the database's, the way between them taken off"
    sent, received = wall_at_zero + found.sent, wall_at_zero + found.received
    behind = ((found.began - sent) + (found.now - received)) / 2
    doubt = max(((received - sent) - (found.now - found.began)) / 2, 0.0)
    told = f"this machine is {abs(behind):.1f} s {'behind' if behind > 0 else 'ahead'} (give or take {doubt:.2f} s)"
    if abs(behind) - doubt <= TOLERANCE_SECONDS:
        return ok("supabase.clock", tried, told)
    return warn(
        "supabase.clock",
        tried,
        f"{told}. Where the PBX does not tell when something happened (a call whose end was not seen), this clock is "
        "written beside times of the database, so a call may seem to end before it was placed; its log cannot be laid "
        "beside the database; and from minutes on, good keys and certificates seem expired, or not yet valid",
        "switch time synchronization on (NTP: chrony or systemd-timesyncd) here, or on the host of the container",
    )


# ---------------------------------------------------------------- installed


def installed(found: Inspection, shipped: Shipped) -> Finding:
    """Is every object of install.sql there, and as it was shipped?"""
    check = "supabase.installed"
    tried = f"compared {len(shipped.objects)} fingerprints of functions, tables and their parts with this version's"
    missing = _without_parts([name for name in shipped.objects if name not in found.objects])
    different = [name for name, print_ in shipped.objects.items() if found.objects.get(name, print_) != print_]
    unknown = [
        name
        for name in found.objects
        if name not in shipped.objects and VERSIONED.fullmatch(_plain(name).removeprefix("function "))
    ]
    taken = [
        f"{word} on {table}"
        for table, words in shipped.rights.items()
        if table in found.tables
        for word in sorted(words - found.tables[table].rights.get("service_role", frozenset()))
    ]
    told = "; ".join(
        f"{kind}: {_listed(names)}"
        for kind, names in (
            ("missing", missing),
            ("different", different),
            ("newer than this version", unknown),
            ("rights taken from service_role", taken),
        )
        if names
    )
    newer = _ordered(found.version) > _ordered(shipped.version)
    lost = taken or any(f"function {name}" in missing for name in shipped.execute)
    if not told and not newer:
        return ok(check, tried, f"all {len(shipped.objects)} are there and as shipped" + _added(found, shipped))
    if (newer and not lost) or (unknown and not missing and not taken):
        ran = f"the install.sql of version {found.version} was run, this is {shipped.version}: "
        return warn(
            check,
            tried,
            (ran if newer else "") + (told or "nothing differs") + ". Functions are versioned by name, so it works on",
            "update the adapter to the version whose install.sql was run; do not run the older one",
        )
    if not missing and not taken and all(name.startswith("rows of ") for name in different):
        return warn(check, tried, f"{told}: some phone numbers are read otherwise than here, and then blocked", INSTALL)
    ran = f"the install.sql of version {found.version} was run, this is {shipped.version}: "
    stays = [name for name in (*missing, *different) if name.startswith(("column ", "constraint "))]
    stays += [name for name in different if name.startswith("index ")]
    mend = f"{INSTALL}{BY_HAND if stays else ''}"
    return fail(check, tried, ("" if found.version == shipped.version else ran) + told, mend)


def _ordered(version: str) -> tuple[int, ...]:
    """A version that can be compared: `0.10.2` is later than `0.9`."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _added(found: Inspection, shipped: Shipped) -> str:
    """What somebody added to our tables: harmless to us, and good to know when something is odd."""
    kinds = ("column ", "trigger ", "constraint ")
    names = [
        name
        for name in found.objects
        if name not in shipped.objects
        and name.startswith(kinds)
        and name.split(" ", 1)[1].split(".")[0] in shipped.tables
    ]
    return f"; not ours: {_listed(names)}" if names else ""


def _without_parts(missing: list[str]) -> list[str]:
    """A missing table stands for all its columns, indexes and so on."""
    tables = [name.removeprefix("table ") for name in missing if name.startswith("table ")]
    parts = tuple(f"{kind} {table}{end}" for kind in PARTS for table in tables for end in "._")
    return [name for name in missing if not name.startswith(parts)]


def _plain(name: str) -> str:
    """A name without its parameters: `function call_lock()` → `function call_lock`."""
    return name.split("(", 1)[0]


def _listed(names: Iterable[str]) -> str:
    plain = sorted({_plain(name) for name in names}, key=lambda name: (name.startswith(PARTS), name))
    more = len(plain) - MOST_NAMES
    return ", ".join(plain[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


# ---------------------------------------------------------------- functions


def functions(found: Inspection, shipped: Shipped) -> Finding:
    """May this key call what it must, and nobody else?"""
    check = "supabase.functions"
    tried = f"called call_number_v1, and asked who may execute our {len(shipped.execute)} functions for adapters"
    barred = [name for name in shipped.execute if found.role not in found.execute.get(name, frozenset())]
    opened = {
        name: sorted(roles & ROLES_OF_BROWSERS)
        for name, roles in found.execute.items()
        if f"function {name}" in shipped.objects and roles & ROLES_OF_BROWSERS
    }
    if opened:
        roles = sorted({role for names in opened.values() for role in names})
        told = f"{' and '.join(roles)} may execute {_listed(opened)}: anybody with the page's public key could use them"
        return fail(check, tried, told, f"{INSTALL}: it takes these rights away")
    if barred:
        told = f"the role {found.role} may not execute {_listed(barred)}"
        return fail(check, tried, told, f"{INSTALL}: it gives the rights to service_role, whose key this must be")
    return ok(check, tried, f"the role {found.role} may execute all of them, anon and authenticated none")


# ---------------------------------------------------------------- publication and triggers


ENABLE = "alter table public.call_queue enable trigger user"

PUBLISH = "alter publication supabase_realtime set (publish = 'insert, update, delete, truncate')"


def publication(found: Inspection, mode: DoorbellMode) -> Finding:
    """Is what rings the doorbell there, and do our triggers work?"""
    check = "supabase.publication"
    tried = "looked at the publication supabase_realtime, at realtime.send, and at the triggers of call_queue"
    if found.disabled_triggers:
        told = f"switched off on call_queue: {', '.join(found.disabled_triggers)}; rows are not read or not told of"
        return fail(check, tried, told, f"in the SQL editor: {ENABLE}")
    lacks: dict[str, str] = {}
    if mode in (DoorbellMode.AUTO, DoorbellMode.CHANGES) and found.published is None:
        lacks["call_queue is not in the publication"] = f"{INSTALL}: it publishes call_queue"
    elif mode in (DoorbellMode.AUTO, DoorbellMode.CHANGES) and not found.published:
        lacks["the publication leaves inserts out"] = f"in the SQL editor: {PUBLISH}"
    if mode in (DoorbellMode.AUTO, DoorbellMode.BROADCAST) and not found.send:
        mend = "see the dashboard (Realtime): that function is the project's own, or set DOORBELL=changes"
        lacks["there is no realtime.send, so nothing is broadcast"] = mend
    if lacks:
        told = "; ".join(lacks) + "; the sweep finds the rows all the same"
        return warn(check, tried, told, "; ".join(lacks.values()))
    return ok(check, tried, "call_queue is published, realtime.send is there, no trigger is switched off")


# ---------------------------------------------------------------- the app's tables

WRITTEN: Mapping[str, Mapping[str, frozenset[str]]] = {
    "call_logs": {
        "id": frozenset({"uuid"}),
        "user_id": frozenset({"uuid"}),
        "call_id": frozenset({"text", "character varying"}),
        "agent_id": frozenset({"text", "character varying"}),
        "caller_number": frozenset({"text", "character varying"}),
        "phone_number": frozenset({"text", "character varying"}),
        "start_time": frozenset({"timestamp with time zone"}),
        "duration": frozenset({"integer", "bigint", "numeric"}),
        "status": frozenset({"text", "character varying"}),
        "campaign_id": frozenset({"uuid"}),
        "contact_id": frozenset({"uuid"}),
        "prompt_id": frozenset({"uuid"}),
        "customer_name": frozenset({"text", "character varying"}),
        "idsale": frozenset({"text", "character varying"}),
        "metadata": frozenset({"jsonb"}),
        "created_at": frozenset({"timestamp with time zone"}),
        "updated_at": frozenset({"timestamp with time zone"}),
        "transcript": frozenset({"text", "character varying"}),
        "cost": frozenset({"numeric", "double precision", "real"}),
        "recording_url": frozenset({"text", "character varying"}),
        "retry_count": frozenset({"integer", "bigint"}),
        "is_retry": frozenset({"boolean"}),
    },
    "campaigns": {"id": frozenset({"uuid"}), "user_id": frozenset({"uuid"}), "status": frozenset({"text"})},
}
"""Columns of the app's tables that are written (transcript, cost and recording_url by the AI handler) or
referred to."""

CHARGED: Mapping[str, Mapping[str, frozenset[str]]] = {
    "users": {
        "id": frozenset({"uuid"}),
        "account_type": frozenset({"text", "character varying"}),
        "trial_balance_minutes": frozenset({"numeric", "double precision", "real"}),
        "pro_balance_minutes": frozenset({"numeric", "double precision", "real"}),
        "total_minutes_used": frozenset({"numeric", "double precision", "real"}),
        "updated_at": frozenset({"timestamp with time zone"}),
    }
}
"""What BILLING=minutes needs besides."""

WHO_CHARGES = {
    "off": "minutes are the AI handler's affair (BILLING=off)",
    "minutes": "minutes are charged by the adapter (BILLING=minutes), so the AI handler must not",
}


def app(found: Inspection, billing: str = "off") -> Finding:
    """Are the tables of the app, in which calls are written down and minutes charged, as they must be?"""
    check, tried = "supabase.app", "looked at the columns of call_logs and campaigns"
    if billing == "minutes":
        tried += ", and of users"
        if lacks := [problem for table, wanted in CHARGED.items() for problem in _wrong_columns(found, table, wanted)]:
            told = "; ".join(lacks) + ": calls are made, but no minutes can be charged"
            return fail(check, tried, told, "set BILLING=off and charge elsewhere, or give users these columns")
    wrong = [problem for table, wanted in WRITTEN.items() for problem in _wrong_columns(found, table, wanted)]
    if wrong:
        mend = (
            f"{INSTALL} if a table is missing, or transcript, cost or recording_url. Another column must be added, or "
            "its type changed, by hand; for a required column of the app's own a default is enough"
        )
        return fail(check, tried, "; ".join(wrong), mend)
    if found.campaign_keys:
        told = (
            f"a foreign key on call_logs.campaign_id ({', '.join(found.campaign_keys)}): only the function "
            "campaigns(call_logs) keeps the app's call list from failing by it"
        )
        return warn(check, tried, told, "drop that constraint: the app's query then finds one way to campaigns again")
    return ok(check, tried, f"all that is written is there; {WHO_CHARGES[billing]}")


def _wrong_columns(found: Inspection, table: str, wanted: Mapping[str, frozenset[str]]) -> list[str]:
    columns = found.columns.get(table)
    if columns is None:
        return [f"the table {table} is missing"]
    missing = [name for name in wanted if name not in columns]
    wrong = [f"{table} lacks {_listed(missing)}"] if missing else []
    wrong += [
        f"{table}.{name} is {columns[name].type}, not {' or '.join(sorted(types))}"
        for name, types in wanted.items()
        if name in columns and columns[name].type not in types
    ]
    if table == "call_logs":
        unfilled = [name for name, column in columns.items() if column.required and name not in wanted]
        wrong += [f"call_logs requires {_listed(unfilled)}, which nothing of ours fills"] if unfilled else []
    return wrong


# ---------------------------------------------------------------- who dials

LEASE_SECONDS = 60.0
"""How long an adapter may be silent before another one may take its PBX over."""


def pbx(found: Inspection, *, name: str | None = None, adapter: str | None = None) -> Finding:
    """Who dials through which PBX, and is anybody there? `name`: our PBX; `adapter`: ours, where it has run already."""
    check, tried = "supabase.pbx", "read who holds which PBX, and the heartbeats of all adapters"
    if not found.adapters:
        return ok(check, tried, "no adapter has run on this project yet")
    told: list[str] = []
    wrong: list[str] = []
    mends: list[str] = []
    for held in found.pbxs:
        others = [
            heard
            for heard in found.adapters
            if heard.pbx == held.pbx and heard.adapter != held.holder and _alive(found, heard.seen_at)
        ]
        words, well = _holder(found, held, len(others))
        (told if well else wrong).append(words)
        if not well:
            mends.append("start the adapter (mikopbx-adapter run), with the same STATE_DIR: another one waits a minute")
        elif held.pbx == name and held.holder != adapter and (held.lease_until or 0.0) > found.now:
            wrong.append(
                "that is not the adapter of this STATE_DIR, which would only watch and take over when it is gone"
            )
            mends.append("if that is not meant, stop the other one, or give this one a PBX_NAME of its own PBX")
    for heard in found.adapters:
        if _alive(found, heard.seen_at) and not heard.ready:
            wrong.append(f"adapter {heard.adapter[:8]} runs, but is not connected to its PBX")
            mends.append("look at the checks of the PBX, and at that adapter's log")
        elif not _alive(found, heard.seen_at) and heard.calls:
            wrong.append(
                f"adapter {heard.adapter[:8]}, last heard of {_ago(found, heard.seen_at)}, left {heard.calls} calls"
            )
            mends.append("start it again to have its calls followed; without it they end at their deadline, as unknown")
    if wrong:
        return warn(check, tried, "; ".join(told + wrong), "; ".join(dict.fromkeys(mends)))
    return ok(check, tried, "; ".join(told) or "adapters have run, and none holds a PBX")


def _holder(found: Inspection, held: Held, others: int) -> tuple[str, bool]:
    """Who holds one PBX, in words, and whether anybody dials through it, or will within a minute."""
    holder = next((heard for heard in found.adapters if heard.adapter == held.holder), None)
    name = f"adapter {(held.holder or 'nobody')[:8]}"
    if (held.lease_until or 0.0) > found.now:
        calls = holder.calls if holder else 0
        waiting = f", {others} more on this PBX would take over" if others else ""
        return f"PBX {held.pbx}: {name} dials ({calls} calls in the air){waiting}", True
    if others:
        return f"PBX {held.pbx}: {name} is gone, {others} more on this PBX will take over within a minute", True
    seen = _ago(found, holder.seen_at if holder else None)
    return f"nobody dials through PBX {held.pbx}: {name}, its holder, was last heard of {seen}", False


def _alive(found: Inspection, seen_at: float | None) -> bool:
    return seen_at is not None and found.now - seen_at <= LEASE_SECONDS


def _ago(found: Inspection, at: float | None) -> str:
    if at is None:
        return "never"
    seconds = max(found.now - at, 0.0)
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} seconds ago"
