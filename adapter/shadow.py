"""`run --shadow`: the daemon with its last step taken away (docs/decisions/0006). It shows what it would dial.

Two parts of the daemon are exchanged. `ShadowDatabase` asks which rows a claim would take and tells the database
nothing: no run is registered, no PBX is held, no record is sent. `ShadowLink` is a link that watches the PBX, and whose
Originate ends in the log. Everything between them (guards, pace, numbers, dial plan) is what dials otherwise.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adapter.core.model import ClaimedRow, OpenCall
from adapter.log import say
from adapter.pbx import LastCheck, NotSent, Order, PbxConfig, PbxLink, Refused, Reply, Shown
from adapter.pbx.headers import BadHeader, checked_originate
from adapter.supabase_io import records, refusals, replies
from adapter.supabase_io.config import SupabaseConfig
from adapter.supabase_io.database import Database, DatabaseRefused, SyncReply, SyncRequest
from adapter.supabase_io.records import Unfit

log = logging.getLogger(__name__)

MOST_TOLD = 1000
"""Rows that were shown and still wait: as many as `call_shadow_v1` sets aside. They make each request larger."""

SHOWN_VALUES = frozenset({"CALL_ID", "TIMEOUT(absolute)", "peer_mobile"})
"""Variables whose values stand in the log; what a row says of a person does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shade:
    """A row that a claim would have taken."""

    row: ClaimedRow
    through: str | None
    """Trunk; None: MikoPBX would choose."""

    facts: Mapping[str, str]
    """What each rule said when it let the row pass."""


@contextmanager
def folder() -> Iterator[Path]:
    """A STATE_DIR that goes with the process: a shadow keeps nothing, and a living adapter may have its own."""
    with TemporaryDirectory(prefix="mikopbx-adapter-shadow-") as place:
        yield Path(place)


def announce() -> None:
    """The first line of a shadow's log."""
    say(
        log,
        logging.WARNING,
        "shadow.on",
        "Shadow: nobody is called and no row is changed; look for lines shadow.would_dial. Rows that only a shadow saw "
        "still wait: cancel them before you run without --shadow, or they are dialed",
    )


class ShadowDatabase(Database):
    """Speaks to `call_shadow_v1` alone. What the daemon would tell goes nowhere."""

    def __init__(self, config: SupabaseConfig, **more: Any) -> None:
        """`more` as for `Database`."""
        super().__init__(config, **more)
        self._claims = 0
        """Claim numbers of our own, as the database gives none away."""

        self._told: dict[int, None] = {}
        self._shades: dict[str, Shade] = {}
        self._full = False

    def shade(self, call_id: str) -> Shade | None:
        """The row of this call; asked for once."""
        return self._shades.pop(call_id, None)

    async def sync(self, request: SyncRequest) -> SyncReply:
        """What a claim would give. Raises DatabaseAway, DatabaseRefused."""
        room = 0 if request.claim_id is None else max(0, min(request.room, MOST_TOLD - len(self._told)))
        answer = await self.ask(
            "call_shadow_v1", {"p_status": dict(request.status), "p_room": room, "p_told": list(self._told)}
        )
        try:
            return self._heard(records.obj(answer, "the reply"), request)
        except Unfit as error:
            raise DatabaseRefused(
                f"call_shadow_v1 answered in a shape this version does not know ({error}): {refusals.INSTALL}"
            ) from None

    async def witness(self, calls: Sequence[str]) -> tuple[OpenCall, ...]:  # noqa: ARG002  nothing is asked
        """What is seen of others' calls is theirs to tell."""
        return ()

    def _heard(self, reply: Mapping[str, Any], request: SyncRequest) -> SyncReply:
        self._told = dict.fromkeys(int(row) for row in records.array(reply, "standing"))
        rows = tuple(self._numbered(item) for item in records.array(reply, "rows"))
        for item in records.array(reply, "ends"):
            ended = records.obj(item, "ended row")
            row = records.integer(ended, "row_id")
            self._told[row] = None
            say(log, logging.INFO, "shadow.would_end", "Would end without a call", row=row, why=ended.get("reason"))
        self._told.update(dict.fromkeys(row.row_id for row in rows))
        self._told = dict.fromkeys(list(self._told)[:MOST_TOLD])
        self._say_full()
        # What a living adapter would hear: the PBX is its own, and all that it told is stored.
        told = {
            **reply,
            "fenced": False,
            "holder": True,
            "lease_until": reply.get("now"),
            "epoch": None,
            "claim_number": self._claims,
            "recorded": [seq for seq, _ in request.records],
            "refused": [],
            "rows": [],
            "commands": [],
            "takeover": [],
        }
        more = records.boolean(reply, "more") and not self._full
        return replace(replies.synced(told), rows=rows, more=more)

    def _numbered(self, item: object) -> ClaimedRow:
        self._claims += 1
        row = replace(records.decode_row(item), claim_number=self._claims)
        told = records.obj(item, "row")
        facts = {str(rule): str(words) for rule, words in records.obj(told.get("facts"), "facts").items()}
        through = told.get("through")
        self._shades[row.call_id] = Shade(row=row, through=None if through is None else str(through), facts=facts)
        return row

    def _say_full(self) -> None:
        full = len(self._told) >= MOST_TOLD
        if full and not self._full:
            say(
                log,
                logging.WARNING,
                "shadow.full",
                f"{MOST_TOLD} rows that were shown still wait, as nobody dials them: others are shown once some of "
                "these are canceled, dialed or expired",
            )
        self._full = full


class ShadowLink(PbxLink):
    """A link that reads. What would be written is checked as always, and logged."""

    def __init__(self, config: PbxConfig, shade: Callable[[str], Shade | None], **more: Any) -> None:
        """`shade`: the row of a call; `more` as for `PbxLink`."""
        super().__init__(config, **more)
        self._shade = shade

    async def originate(self, order: Order, last_check: LastCheck | None = None) -> Reply:
        """Show one Originate."""
        try:
            checked_originate(order.call_id, order.headers)
        except BadHeader as error:
            return Refused(f"not sent: {error}")
        while True:
            reason = self.status.problem or (last_check() if last_check else None)
            if not isinstance(reason, float):
                break
            await asyncio.sleep(reason)
        if reason is not None:
            return NotSent(reason)
        shade = self._shade(order.call_id)
        if shade is not None:
            say(log, logging.INFO, "shadow.would_dial", "Would dial now", **seen(shade, order.headers))
        return Shown()

    async def hangup(self, uniqueid: str, cause: int = 16) -> bool:  # noqa: ARG002  nothing is written
        """Nobody's call is ended by a shadow."""
        return False


def seen(shade: Shade, headers: Sequence[tuple[str, str]]) -> dict[str, object]:
    """Who, for whom, through what, by which rules, and the action; numbers are masked by the log."""
    row = shade.row
    return {
        "row": row.row_id,
        "number": row.e164,
        "user": row.user_id,
        "campaign": row.campaign_id,
        "attempt": row.attempt,
        "trunk": shade.through or "chosen by MikoPBX",
        "rules": "; ".join(f"{rule}: {words}" for rule, words in shade.facts.items()) or "none spoke against it",
        "action": " | ".join(f"{name}: {_masked(name, value)}" for name, value in headers),
    }


def _masked(name: str, value: str) -> str:
    """A header as the log may have it: of a variable its name."""
    if name != "Variable":
        return value
    variable, _, _ = value.partition("=")
    return value if variable.lstrip("_") in SHOWN_VALUES else f"{variable}=…"
