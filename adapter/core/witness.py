"""What this adapter sees of calls that another one placed through the same PBX: lives kept, nothing decided.

AMI tells every login the same events, so a second adapter can follow the calls of the first with the same machine
(`core/call.py`) and comes to the same ending. It is a witness: it places, hangs up and releases nothing, and it speaks
only of calls for which the database says that their end is not known there (`due`, `testimony`).

Which calls are ours? The channel of an Originate of ours has our call id as its Uniqueid and Linkedid, a lower-case
UUID; the PBX's own ids look otherwise (`mikopbx-1795404246.12`). Somebody else's program may do the same, and then its
call gets a life here as well: it costs a few hundred bytes until the database has said that it is none of ours. A call
is seen whole from its first leg's `Newchannel`. It is seen in part from the list of legs after a login, and then
carries `gap`, so that "nothing rang" is not claimed. One that never had a leg (no such trunk) is told by its
OriginateResponse alone, which is believed only by a witness who would have seen a leg.

What was not seen is not said: an ending of outcome `unknown` is not told, the doubt of whoever holds the PBX decides.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from adapter.core.call import Call, call_id_of, start, testimony
from adapter.core.calls import Board, Change, Ended
from adapter.core.model import AmiEvent, AnsweredMark, Channel, Form, OpenCall, Outcome

ASK_AFTER = 10.0
"""Seconds after an answer or an end before the database is asked whether it knows. The one who placed the call tells it
within a second as long as it lives. It stays well below the 20 s (`recovery.SETTLE`) after which a restarted adapter
would call an end that it missed `unknown`."""

ASK_MOST = 200
"""Calls in one question: as many as records in one request (`ticker.BATCH`)."""

LISTED_AFTER = 5.0
"""Seconds after its start in which a call may be missing in a list of live legs: a leg just made is not listed yet. On
an idle PBX lists lag by well below a second; the follower, who can ask again, waits for `recovery.SETTLE` instead."""

MOST_LIVES = 10_000
"""Lives and endings kept, of each. Far beyond what one PBX carries; some 20 MB at worst."""

LONGEST_RING = 130.0
"""Seconds: no Originate of ours rings longer (`call_queue.ring_seconds` is 120 at most). Who has listened for so long
has seen the first leg of every call that rings now."""

_CALL_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Witness:
    """The calls of others on this PBX. Not frozen, but pure, like `Board`; `now` is the daemon's clock."""

    def __init__(self, *, ring_seconds: int, max_call_seconds: int) -> None:
        self._ring_seconds = ring_seconds
        self._max_call_seconds = max_call_seconds
        self._board = Board()
        self._due: dict[str, float] = {}
        """Calls of which the database shall be asked, oldest first, and when."""

        self._ended: dict[str, Call] = {}
        """Calls that have ended and of which the database was not asked yet, oldest first."""

        self._asked: dict[str, float] = {}
        """The calls of the question under way, as they stood in `_due`."""

        self._listens_since: float | None = None

    def __len__(self) -> int:
        return len(self._board) + len(self._ended)

    def __contains__(self, call_id: object) -> bool:
        return call_id in self._board or call_id in self._ended

    # What is seen

    def on_event(self, event: AmiEvent, now: float) -> None:
        """An event about a call that this process neither placed nor follows."""
        call_id = call_id_of(event)
        if call_id not in self:
            self._born(call_id, event, now)
        self._keep(self._board.on_event(event, now), now)

    def on_seen(self, channels: Sequence[Channel], now: float, *, known: Iterable[str]) -> None:
        """The list of all live legs after a login; calls in `known` are followed by others than the witness."""
        self._listens_since = now
        foreign = frozenset(known)
        for channel in channels:
            call_id = channel.linkedid
            if channel.uniqueid == call_id and call_id not in self and call_id not in foreign:
                self._add(call_id, channel.name, now, gap=True)
        self._keep(self._board.on_seen(channels, now), now)
        for call in self._board.absent(channels):
            if now - call.started_at < LISTED_AFTER:
                self._board.drop(call.call_id)  # A leg just made is not listed yet: of this call we know nothing.
                self._forget(call.call_id)
            else:
                why = "the call was over when the PBX was reached again"
                self._keep(self._board.on_gone(call.call_id, now, why), now)

    def on_lost(self, now: float) -> None:
        """The link is lost."""
        self._listens_since = None
        self._board.on_lost(now)

    def on_tick(self, now: float) -> None:
        """Let time pass."""
        self._keep(self._board.on_tick(now), now)

    # What is told

    def due(self, now: float) -> tuple[str, ...]:
        """Calls of which the database is to be asked whether it knows their answer or end. One question at a time."""
        self._asked = dict(islice(((call_id, at) for call_id, at in self._due.items() if at <= now), ASK_MOST))
        return tuple(self._asked)

    def answered(self, wanted: Iterable[OpenCall]) -> tuple[Change, ...]:
        """The database's answer about the calls that were `due`: of those in `wanted` it does not know the end.

        One answer settles it: whatever else is known there came from the one who placed the call, and is final. A call
        that ended while its answer was being asked about is asked about again.
        """
        changes = [change for opened in wanted for change in self._tell(opened)]
        for call_id, at in self._asked.items():
            if self._due.get(call_id) == at:
                self._forget(call_id)
        self._asked = {}
        return tuple(changes)

    def hand_over(self, opened: OpenCall) -> tuple[Call | None, tuple[Change, ...]]:
        """This process takes the call over: its life, if it still lives, and what is to be told of it.

        Neither of the two: it was not seen, or how it ended was not.
        """
        changes = self._tell(opened)
        call = self._board.drop(opened.row.call_id)
        self._forget(opened.row.call_id)
        return (None if call is None else _of_row(call, opened)), changes

    # Within

    def _born(self, call_id: str, event: AmiEvent, now: float) -> None:
        if event.name == "Newchannel" and event.get("Uniqueid") == call_id:
            self._add(call_id, event.get("Channel"), now, gap=self._listens_since is None)
        elif event.name == "OriginateResponse" and event.get("Response") == "Failure":
            whole = self._listens_since is not None and now - self._listens_since > LONGEST_RING
            self._add(call_id, event.get("Channel"), now, gap=not whole)

    def _add(self, call_id: str, name: str, now: float, *, gap: bool) -> None:
        if not _CALL_ID.fullmatch(call_id) or len(self._board) >= MOST_LIVES:
            return
        form = Form.ROUTE if name.startswith("Local/") else Form.TRUNK
        call = start(
            call_id,
            form=form,
            trunk="" if form is Form.ROUTE else _trunk_of(name),
            ring_seconds=self._ring_seconds,
            max_call_seconds=self._max_call_seconds,
            now=now,
        )
        self._board.add(replace(call, gap=gap))

    def _keep(self, changes: Iterable[Change], now: float) -> None:
        for change in changes:
            call_id = change.call_id
            self._due.pop(call_id, None)
            if isinstance(change, Ended):
                self._ended[call_id] = change.call
                while len(self._ended) > MOST_LIVES:
                    self._forget(next(iter(self._ended)))
            self._due[call_id] = now + ASK_AFTER

    def _tell(self, opened: OpenCall) -> tuple[Change, ...]:
        call_id = opened.row.call_id
        if (ended := self._ended.get(call_id)) is not None:
            told = testimony(
                ended, ring_seconds=opened.row.ring_seconds or self._ring_seconds, canceled=opened.cancel_requested
            )
            if told.ending is None or told.ending.outcome is Outcome.UNKNOWN:
                return ()
            return (Ended(call=told, ending=told.ending),)
        live = self._board.get(call_id)
        if live is not None and live.answered_at is not None and opened.answered_at is None:
            return (AnsweredMark(call_id=call_id, times=live.times),)
        return ()

    def _forget(self, call_id: str) -> None:
        self._due.pop(call_id, None)
        self._ended.pop(call_id, None)


def _of_row(call: Call, opened: OpenCall) -> Call:
    """A life with what only the row tells."""
    return replace(
        call,
        ring_seconds=opened.row.ring_seconds or call.ring_seconds,
        canceled=opened.cancel_requested,
        originated_at=call.originated_at if call.originated_at is not None else opened.originated_at,
    )


def _trunk_of(name: str) -> str:
    """Provider id in the name of a first leg (`PJSIP/<id>-0000001a`) or of a failed one (`PJSIP/<number>@<id>`)."""
    rest = name.partition("/")[2]
    return rest.partition("@")[2] or rest.rpartition("-")[0]
