"""How times, spans and phone numbers are written on a screen."""

import time

from adapter.log import mask


def clock(at: float) -> str:
    """An instant as the wall clock of this place shows it."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def stamp(at: float) -> str:
    """The same with its day and time zone: for what is not of today, or read elsewhere."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at)).rstrip()


def span(seconds: float) -> str:
    """A span for people: two units at most."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def ago(now: float, at: float | None) -> str:
    """How long ago; `never` for None."""
    return "never" if at is None else f"{span(now - at)} ago"


def counted(count: int, one: str, many: str, *, most: int | None = None) -> str:
    """`1 row`, `3 rows`, `10,000 or more rows` where counting stopped at `most`."""
    bound = " or more" if most is not None and count >= most else ""
    return f"{count:,}{bound} {one if count == 1 else many}"


def number(e164: str | None, typed: str, *, full: bool) -> str:
    """A phone number, but for its last three digits hidden unless `full`."""
    if full:
        return e164 or typed
    digits = "".join(character for character in e164 or typed if character.isdigit())
    return f"…{digits[-3:]}" if len(digits) > 3 else "…"


def text(words: str | None, *, full: bool) -> str:
    """Words of the database, phone numbers in them hidden unless `full`."""
    return "" if words is None else words if full else mask(words)
