"""The calls in the air, by call id: gives each event to its call and tells what changed.

Not frozen, but pure: a dictionary of `Call` values and the functions of `core/call.py`. A call leaves the
board with its ending, so whatever comes for it later is foreign and changes nothing.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from adapter.core import call as life
from adapter.core.call import Call, Phase
from adapter.core.model import AmiEvent, AnsweredMark, Channel, Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A call that has just ended and left the board; `call` is its last state."""

    call: Call
    ending: Ending

    @property
    def call_id(self) -> str:
        """Id of the call that ended."""
        return self.call.call_id


Change = AnsweredMark | Ended


class Board:
    """The calls in the air. Each method takes `now` (daemon's clock) and returns what changed, in order."""

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}
        self._heard_at: float | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(tuple(self._calls.values()))

    def __contains__(self, call_id: object) -> bool:
        return call_id in self._calls

    def get(self, call_id: str) -> Call | None:
        """The call in the air with this id, if any."""
        return self._calls.get(call_id)

    @property
    def ids(self) -> frozenset[str]:
        """Ids of the calls in the air."""
        return frozenset(self._calls)

    @property
    def in_setup(self) -> int:
        """How many calls are neither talking nor over."""
        return sum(call.in_setup for call in self._calls.values())

    @property
    def deadline(self) -> float | None:
        """The earliest moment at which `on_tick` has something to do, or None."""
        return min((call.deadline for call in self._calls.values()), default=None)

    def add(self, call: Call) -> None:
        """Put a new call on the board, before its Originate is written, so that no event finds nobody."""
        if call.call_id in self._calls:
            raise ValueError(f"call {call.call_id} is already in the air")
        self._calls[call.call_id] = call

    def drop(self, call_id: str) -> Call | None:
        """Take a call off the board without an ending: its Originate was certainly never written."""
        return self._calls.pop(call_id, None)

    def on_event(self, event: AmiEvent, now: float) -> tuple[Change, ...]:
        """Give an event to the call it speaks of; events of the whole PBX go to all, foreign ones to nobody."""
        if event.at is not None:
            self._heard_at = max(event.at, self._heard_at or event.at)
        if event.name == "Shutdown":
            calls = tuple(self._calls.values())
            return tuple(change for call in calls for change in self._keep(life.on_event(call, event, now)))
        call = self._calls.get(life.call_id_of(event))
        return () if call is None else self._keep(life.on_event(call, event, now))

    def on_reply(self, call_id: str, ok: bool, message: str, now: float) -> tuple[Change, ...]:
        """The Response to this call's Originate."""
        call = self._calls.get(call_id)
        return () if call is None else self._keep(life.on_reply(call, ok, message, now))

    def on_canceled(self, call_id: str, now: float) -> tuple[Change, ...]:
        """We are hanging this call up because somebody asked for it."""
        call = self._calls.get(call_id)
        return () if call is None else self._keep(life.on_canceled(call, now))

    def on_tick(self, now: float, *, doubted: Container[str] = ()) -> tuple[Change, ...]:
        """Let time pass for every call. One in doubt is never over by its age: it may not have been dialed at all."""
        return tuple(
            change
            for call in tuple(self._calls.values())
            if now >= call.deadline and (call.phase is Phase.CLOSING or call.call_id not in doubted)
            for change in self._keep(life.on_tick(call, now))
        )

    def on_lost(self, now: float) -> tuple[Change, ...]:
        """The link is lost: from here on events may be missed."""
        for call in tuple(self._calls.values()):
            self._keep(life.on_lost(call, now, alive_at=self._heard_at))
        return ()

    def on_seen(self, channels: Iterable[Channel], now: float) -> tuple[Change, ...]:
        """The list of all live legs after a login. Calls without a leg stay: see `absent`."""
        by_call = _by_call(channels)
        return tuple(
            change
            for call in tuple(self._calls.values())
            for change in self._keep(life.on_seen(call, by_call.get(call.call_id, ()), now))
        )

    def on_found(self, call_id: str, channels: Iterable[Channel], now: float) -> tuple[Change, ...]:
        """A list of live legs that was asked for because of this one call; the others are not touched by it."""
        call = self._calls.get(call_id)
        return () if call is None else self._keep(life.on_seen(call, channels, now))

    def is_listed(self, call_id: str, channels: Iterable[Channel]) -> bool:
        """Does this list show the call alive? Raises KeyError for one that is not on the board."""
        return life.is_listed(self._calls[call_id], channels)

    def absent(self, channels: Iterable[Channel]) -> tuple[Call, ...]:
        """Calls on the board that this list does not show alive."""
        by_call = _by_call(channels)
        return tuple(call for call in self._calls.values() if not life.is_listed(call, by_call.get(call.call_id, ())))

    def on_gone(self, call_id: str, now: float, why: str) -> tuple[Change, ...]:
        """This call is certainly off the PBX and its end was not seen."""
        call = self._calls.get(call_id)
        return () if call is None else self._keep(life.on_gone(call, now, why))

    def _keep(self, call: Call) -> tuple[Change, ...]:
        before = self._calls[call.call_id]
        if call.ending is not None:
            del self._calls[call.call_id]
            return (Ended(call=call, ending=call.ending),)
        self._calls[call.call_id] = call
        if before.answered_at is None and call.answered_at is not None:
            return (AnsweredMark(call_id=call.call_id, times=call.times),)
        return ()


def _by_call(channels: Iterable[Channel]) -> dict[str, list[Channel]]:
    by_call: dict[str, list[Channel]] = {}
    for channel in channels:
        by_call.setdefault(channel.linkedid, []).append(channel)
    return by_call
