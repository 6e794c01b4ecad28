"""The rules in memory: supabase/migrations/…550, function by function and in its order."""

from collections.abc import Callable
from typing import NamedTuple

from tests.simulation import store_hours, store_records, store_trunks
from tests.simulation.store_tables import LIVE, Row, Tables, read_number
from tests.simulation.store_trunks import Told


class No(NamedTuple):
    """Why a row is not dialed now; `until` None: it never can be."""

    why: str
    until: float | None = None


def number(_tables: Tables, row: Row, _told: Told) -> No | None:
    """As `call_rule_number`. What is no set of variables cannot come here: it ends at its insert."""
    if row.e164 is not None:
        return None
    return No(read_number(row.phone_number).problem or "the phone number is not known to be one")


def answered(tables: Tables, row: Row, _told: Told) -> No | None:
    """As `call_rule_answered`."""
    if row.attempts > 0 and store_records.number_answered(tables, row):
        return No("the number was answered in another call of the campaign")
    return None


def trunk(tables: Tables, row: Row, told: Told) -> No | None:
    """As `call_rule_trunk`."""
    way = store_trunks.way(tables, row, told)
    return None if way.why is None else No(way.why, way.until)


def person(tables: Tables, row: Row, told: Told) -> No | None:
    """As `call_rule_person`."""
    if any(other.e164 == row.e164 and other.status in LIVE for other in tables.open.values()):
        return No("another call to this number is going on", told.now + 15.0)
    return None


def hours(tables: Tables, row: Row, told: Told) -> No | None:
    """As `call_rule_hours`."""
    said = store_hours.rule(tables, row, told.now)
    return None if said.why is None else No(said.why, said.until)


RULES: tuple[Callable[[Tables, Row, Told], No | None], ...] = (number, answered, hours, trunk, person)
"""In the order of `call_rules`."""


def judge(tables: Tables, row: Row, told: Told) -> No | None:
    """As `call_judge`: the first rule that says no."""
    return next((no for rule in RULES if (no := rule(tables, row, told)) is not None), None)


def put_off(tables: Tables, row: Row, no: No, now: float) -> None:
    """As `call_put_off`."""
    tables.update(row, now, {"not_before": no.until, "wait_reason": no.why, "updated_at": now}, at_work=True)
