"""Why a request failed: `DatabaseAway` mends itself, `DatabaseRefused` needs a person. One table decides.

Codes are PostgREST's and PostgreSQL's own; `APIError` carries no HTTP status (PG-09), so the status comes separately.
"""

import re

import httpx
from postgrest.exceptions import APIError


class DatabaseError(Exception):
    """Root of both. Nothing is lost: records stay in the outbox, a claim's id makes it safe to ask again."""

    def __init__(self, words: str, *, code: str | None = None, status: int | None = None) -> None:
        super().__init__(words)
        self.code = code
        """SQLSTATE or PostgREST code where one was told."""
        self.status = status
        """HTTP status where there was an answer."""


class DatabaseAway(DatabaseError):
    """No (useful) answer; trying again later is all there is to do."""


class DatabaseRefused(DatabaseError):
    """A clear no. It will be repeated until somebody mends what the text names."""


INSTALL = "run supabase/install.sql in the SQL editor of the dashboard"
KEYS = "take the service_role or sb_secret_ key from the dashboard (Project Settings, API keys)"
PROXY = (
    "the proxy that the environment names (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY) does not let us through; "
    "NO_PROXY with the host of SUPABASE_URL goes around it"
)

AWAY_CODES = re.compile(r"PGRST00[0-3]|08...|40...|53...|57...|55P03|58...|XX000")
"""Connections, serialization, resources, operator intervention, lock and statement time-outs: all pass."""

AWAY_STATUS = frozenset({408, 425, 429})
"""Besides every 5xx."""

REFUSED_CODES = {
    "PGRST202": f"a function of ours is missing, or has other arguments, in this project: {INSTALL}",
    "PGRST203": f"a function of ours exists twice in this project: {INSTALL}",
    "PGRST205": f"a table of ours is missing in this project: {INSTALL}",
    "PGRST106": "the schema public is not exposed by this project's API (dashboard: Project Settings, Data API)",
    "PGRST301": f"the key was not made for this project: {KEYS}",
    "PGRST302": f"the project wants a key and saw none: {KEYS}",
    "PGRST303": f"the key has expired, or this project's clock is off: {KEYS}",
    "42501": f"the key has not the right to this function: {KEYS}, and {INSTALL} (it grants the rights)",
    "42883": f"a function of ours calls one that is missing: {INSTALL}",
    "42P01": f"a table of ours is missing: {INSTALL}",
    "42703": f"a column of ours is missing: {INSTALL}",
    "22023": f"the key names a role that this project does not have: {KEYS}",
}

REFUSED_STATUS = {
    301: "SUPABASE_URL leads to another address; give the final one, with https",
    302: "SUPABASE_URL leads to another address; give the final one, with https",
    307: "SUPABASE_URL leads to another address; give the final one, with https",
    308: "SUPABASE_URL leads to another address; give the final one, with https",
    401: f"the key is not accepted: {KEYS}",
    402: "the project is restricted by its plan (dashboard: Billing)",
    403: f"the key is not accepted: {KEYS}",
    404: "there is no Supabase API at SUPABASE_URL; take it from the dashboard (Project Settings, API)",
    407: PROXY,
    413: "the request is too large for the gateway in front of the project",
    540: "the project is paused: restore it in the dashboard",
}


def of_answer(error: APIError, status: int | None) -> DatabaseError:
    """The failure behind an error answer; `status` is its HTTP status."""
    code, told = error.code, " ".join((error.message or "").split())[:300]
    if code is not None and status is not None and code == str(status):
        code = None  # The library puts the status there when the body tells no code.
    if code == "PGRST301" and "expired" in told.lower():
        code = "PGRST303"  # As servers before version 13 say it.
    facts = ", ".join(filter(None, (told, f"code {code}" if code else "", f"HTTP {status}" if status else "")))
    if code is not None and AWAY_CODES.fullmatch(code):
        return DatabaseAway(f"the database is not able to answer now ({facts})", code=code, status=status)
    words = REFUSED_CODES.get(code or "") or (REFUSED_STATUS.get(status or 0) if code is None else None)
    if words is None and code is None and status is not None and (status >= 500 or status in AWAY_STATUS):
        return DatabaseAway(f"Supabase is not able to answer now ({facts})", status=status)
    words = words or "Supabase refuses the request"
    return DatabaseRefused(f"{words} ({facts})", code=code, status=status)


def of_transport(error: httpx.HTTPError | httpx.InvalidURL) -> DatabaseError:
    """The failure behind a request that got no answer. Its own text may be empty (PG-08), so the type is told."""
    told = f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return DatabaseRefused(f"SUPABASE_URL or the key cannot be used in a request ({told})")
    if isinstance(error, httpx.ProxyError):
        return DatabaseAway(f"{PROXY} ({told})")
    if "CERTIFICATE_VERIFY_FAILED" in told:
        return DatabaseAway(
            f"the certificate of SUPABASE_URL is not trusted; look at the clock and the CA certificates here ({told})"
        )
    return DatabaseAway(f"Supabase cannot be reached ({told})")
