"""Did each row end as its number's scenario says? Rows on one side, the witness's INVITEs on the other."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapter.core.outcomes import log_status
from adapter.sandbox.scenarios import Scenario

FINAL = frozenset({"done", "canceled"})
"""Values of `call_queue.status` after which nothing more happens to a row."""

ROWS = """
select q.id, q.phone_number, q.e164, q.status, q.outcome, q.last_outcome,
       q.attempts + coalesce((q.faults ->> 'rejected')::integer, 0)
         + coalesce((q.faults ->> 'congestion')::integer, 0) as calls,
       coalesce(q.ended_reason, q.last_reason) as reason, l.status as log_status, l.duration
  from public.call_queue q
  left join lateral (
    select status, duration from public.call_logs where call_id = q.call_id::text order by created_at limit 1
  ) l on true
 order by q.id
"""
"""What the sandbox reads; its columns are the fields of `Row`."""


Rings = Mapping[str, Sequence[str]]
"""INVITEs at the witness: digits of the number → an id of each. The simulated PBX knows our call id, a carrier only
SIP's own, so the latter can show that there were too many calls but not that one id was used twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A queue row with the `call_logs` row of its last call."""

    id: int
    phone_number: str
    e164: str | None
    status: str
    outcome: str | None
    last_outcome: str | None
    calls: int
    """Calls of this row that ended after their trunk leg was made, so those that the carrier must have seen."""

    reason: str | None
    log_status: str | None
    duration: int | None

    @property
    def final(self) -> bool:
        """True once nothing more happens to it."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What `--json` prints. `rings` counts the INVITEs to numbers whose scenario reaches a phone."""

    rows: int
    final: int
    as_expected: int
    rings: int
    outcomes: Mapping[str, int]
    pbx: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The object, keys in the documented order."""
        return {
            "rows": self.rows,
            "final": self.final,
            "as_expected": self.as_expected,
            "rings": self.rings,
            "outcomes": dict(sorted(self.outcomes.items())),
            "pbx": self.pbx,
            "seconds": round(self.seconds, 1),
        }


def digits(number: str | None) -> str:
    """A number without plus and punctuation, by which rows and INVITEs are matched."""
    return "".join(ch for ch in number or "" if ch.isdigit())


def rings_by_number(rings: Iterable[tuple[str, str]]) -> Rings:
    """Pairs of number, as the trunk was given it, and id, by the number's digits."""
    found: dict[str, list[str]] = defaultdict(list)
    for number, ring_id in rings:
        found[digits(number)].append(ring_id)
    return found


def fault(row: Row, scenario: Scenario, rings: Sequence[str]) -> str | None:
    """Why a row is not as its scenario says, in words; None if it is. `rings`: the ids of the INVITEs to its number."""
    wanted = log_status(scenario.outcome)
    twice = [call_id for call_id, times in Counter(rings).items() if times > 1]
    checks = (
        (not row.final, f"it is still {row.status}"),
        (row.outcome != scenario.outcome, f"it ended as {row.outcome} ({row.reason}) instead of {scenario.outcome}"),
        (row.log_status != wanted, f"call_logs.status is {row.log_status} instead of {wanted}"),
        (bool(twice), f"the same call id reached the carrier more than once: {', '.join(twice)}"),
        (scenario.rings_phone and len(rings) != 1, f"the phone was called {len(rings)} times instead of once"),
        (len(rings) != row.calls, f"the carrier saw {len(rings)} calls of it instead of {row.calls}"),
        (not rings, "no call of it reached the carrier"),
    )
    return next((words for wrong, words in checks if wrong), None)


def faults(rows: Sequence[Row], wishes: Mapping[int, Scenario], rings: Rings) -> dict[int, str]:
    """Every row of `wishes` that is not as it should be, with the reason."""
    by_id = {row.id: row for row in rows}
    found: dict[int, str] = {}
    for row_id, scenario in wishes.items():
        row = by_id.get(row_id)
        why = fault(row, scenario, rings.get(digits(row.e164), [])) if row else "it is no longer there"
        if why:
            found[row_id] = why
    return found


def summary(
    rows: Sequence[Row],
    wishes: Mapping[int, Scenario],
    rings: Rings,
    *,
    pbx: str,
    seconds: float,
) -> Summary:
    """The figures of the rows of `wishes`."""
    mine = [row for row in rows if row.id in wishes]
    return Summary(
        rows=len(wishes),
        final=sum(row.final for row in mine),
        as_expected=len(wishes) - len(faults(rows, wishes, rings)),
        rings=sum(len(rings.get(digits(row.e164), [])) for row in mine if wishes[row.id].rings_phone),
        outcomes=Counter(row.outcome for row in mine if row.final and row.outcome),
        pbx=pbx,
        seconds=seconds,
    )
