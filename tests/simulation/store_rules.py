"""The rules in memory: supabase/migrations/…550, function by function and in its order."""

from collections.abc import Callable
from typing import NamedTuple

from tests.simulation import store_forbidden, store_hours, store_records, store_stops, store_trunks
from tests.simulation.store_tables import LIVE, Row, Tables, read_number
from tests.simulation.store_trunks import Told


class No(NamedTuple):
    """Why a row is not dialed now; `until` None: it never can be."""

    why: str
    until: float | None = None
    elsewhere: bool = False
    """Said of this PBX: another one may dial it."""


def pause(tables: Tables, row: Row, told: Told) -> No | None:
    """As `call_rule_pause`."""
    found = store_stops.rule(tables, row, told.now)
    return None if found is None else No(*found)


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
    return None if way.why is None else No(way.why, way.until, elsewhere=True)


def person(tables: Tables, row: Row, told: Told) -> No | None:
    """As `call_rule_person`."""
    if any(other.e164 == row.e164 and other.status in LIVE for other in tables.open.values()):
        return No("another call to this number is going on", told.now + 15.0)
    return None


def hours(tables: Tables, row: Row, told: Told) -> No | None:
    """As `call_rule_hours`."""
    said = store_hours.rule(tables, row, told.now)
    return None if said.why is None else No(said.why, said.until)


def country(tables: Tables, row: Row, told: Told) -> No | None:
    """As `call_rule_country`. Premium numbers cannot come here: they end at their insert."""
    why = store_forbidden.abroad(row, told.status)
    if why is None:
        return None
    elsewhere = store_trunks.country_elsewhere(tables, row, told.status["pbx"], told.now)
    return No(why, told.now + 60.0 if elsewhere else None, elsewhere=True)


def do_not_call(tables: Tables, row: Row, told: Told) -> No | None:
    """As `call_rule_do_not_call`."""
    why = store_forbidden.listed(tables, row, told.now)
    return None if why is None else No(why)


def day(tables: Tables, row: Row, told: Told) -> No | None:
    """As `call_rule_day`."""
    why = store_forbidden.day_left(tables, row.user_id, told.status, told.now).why
    return None if why is None else No(why, store_forbidden.day_after(told.now))


def repeat(tables: Tables, row: Row, told: Told) -> No | None:
    """As `call_rule_repeat`."""
    found = store_forbidden.repeated(tables, row, told.status, told.now)
    return None if found is None else No(*found)


RULES: tuple[Callable[[Tables, Row, Told], No | None], ...] = (
    pause, number, answered, country, do_not_call, hours, day, repeat, trunk, person,
)  # fmt: skip
"""In the order of `call_rules`."""


def judge(tables: Tables, row: Row, told: Told) -> No | None:
    """As `call_judge`: the first rule that says no."""
    return next((no for rule in RULES if (no := rule(tables, row, told)) is not None), None)


def put_off(tables: Tables, row: Row, no: No, told: Told) -> None:
    """As `call_put_off`; only of a row that is paused itself there is something to keep."""
    assert no.until is not None
    store_stops.kept(tables, row)
    pbx, able = None, False
    if no.elsewhere:
        pbx, able = store_trunks.pbx_for(tables, row, told.status["pbx"], told.now)
    why = no.why if pbx is None else f"{no.why}; PBX {pbx} may take it"
    changes = {"not_before": no.until, "wait_reason": why, "handed_to": pbx, "updated_at": told.now}
    tables.update(row, told.now, changes, at_work=True)
    tables.rings += able
