"""Refusals as PostgREST words them: `{code, message, details, hint}` and a status."""

import json
from collections.abc import Sequence

import asyncpg
from aiohttp import web

_STATUS: Sequence[tuple[str, int]] = (
    # By SQLSTATE, the longest fitting beginning first (PostgREST's own table).
    ("08", 503),
    ("09", 500),
    ("0L", 403),
    ("0P", 403),
    ("23503", 409),
    ("23505", 409),
    ("25006", 405),
    ("25", 500),
    ("28", 403),
    ("2D", 500),
    ("38", 500),
    ("39", 500),
    ("3B", 500),
    ("40", 500),
    ("42883", 404),
    ("42P01", 404),
    ("42P17", 500),
    ("53400", 500),
    ("53", 503),
    ("54", 500),
    ("55", 500),
    ("57P01", 503),
    ("57", 500),
    ("58", 500),
    ("F0", 500),
    ("HV", 500),
    ("P0001", 400),
    ("P0", 500),
    ("XX", 500),
)


class ApiError(Exception):
    """One refusal."""

    def __init__(
        self, status: int, code: str, message: str, *, details: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.hint = hint

    def response(self) -> web.Response:
        """The HTTP answer."""
        body = {"code": self.code, "details": self.details, "hint": self.hint, "message": self.message}
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        return web.Response(
            status=self.status,
            text=json.dumps(body, ensure_ascii=False),
            content_type="application/json",
            headers=headers,
        )


def from_postgres(error: asyncpg.PostgresError, *, anonymous: bool) -> ApiError:
    """What PostgREST makes of an error of PostgreSQL."""
    code = error.sqlstate or "XX000"
    message = str(getattr(error, "message", None) or error)
    return ApiError(
        _status(code, message, anonymous=anonymous),
        code,
        message,
        details=getattr(error, "detail", None),
        hint=getattr(error, "hint", None),
    )


def _status(code: str, message: str, *, anonymous: bool) -> int:
    if code == "42501":
        return 401 if anonymous else 403
    if code == "22023" and message.startswith("role "):  # The token names a role that is not there.
        return 401
    if code == "21000":
        return 400 if message.endswith("requires a WHERE clause") else 500
    if code.startswith("PT") and code[2:].isdigit():
        return int(code[2:])
    return next((status for start, status in _STATUS if code.startswith(start)), 400)


def not_done(what: str) -> ApiError:
    """Something that the real server does and this one does not."""
    return ApiError(400, "SANDBOX", f"The sandbox's gateway does not do this: {what}.", hint="A real project does.")
