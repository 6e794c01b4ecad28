"""A bundle through the core: what each call's outcome is by what was heard, and what the database was told.

The board is fed as the follower feeds it, with the recorded clock: Originates, their Responses, events, the list of
channels after each login, the loss of a connection, the end of a process, and the passing of time in between. A call
whose end nobody saw ends where the follower has read it in the journal of the PBX; where it concluded something from an
empty journal the call stays open here, and the outcome that was told says how it ended.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from adapter.core.call import Call, resume, start
from adapter.core.calls import Board, Change, Ended
from adapter.core.model import AmiEvent, Channel, ClaimedRow, Ending, Form, OpenCall
from adapter.core.recovery import SETTLE, Journal
from adapter.recorder.bundle import PROCESS_ENDED

DEFAULT_LONGEST = 900
"""Seconds of the longest call, where no header tells the setting."""


class NotABundle(ValueError):
    """The file cannot be played; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One call of the bundle."""

    call_id: str
    ending: Ending | None
    """None: what was heard did not end it."""

    told: Mapping[str, Any] | None
    """The outcome record that the database was sent, if one is in the bundle."""

    @property
    def agrees(self) -> bool | None:
        """Whether the two are the same; None where one is missing."""
        if self.ending is None or self.told is None:
            return None
        mine = (self.ending.outcome.value, self.ending.talk_seconds, self.ending.hangup_cause)
        return mine == (self.told.get("outcome"), self.told.get("talk_seconds"), self.told.get("hangup_cause"))


@dataclass(kw_only=True)
class _Tape:
    board: Board = field(default_factory=Board)
    endings: dict[str, Ending] = field(default_factory=dict)
    sent: dict[str, None] = field(default_factory=dict)
    told: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    longest: int = DEFAULT_LONGEST
    now: float = 0.0
    listed: dict[object, list[Channel]] = field(default_factory=dict)
    logged_in: dict[object, float] = field(default_factory=dict)
    """Sessions whose first list was heard, and when."""

    lost: set[str] = field(default_factory=set)
    """Calls that no list has shown since the connection was lost."""

    orphans: dict[str, Call] = field(default_factory=dict)
    """Calls of a process that has ended."""

    opened: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the database told the next process about them."""

    def feed(self, line: dict[str, Any]) -> None:
        """One line, in order."""
        self._note(self.board.on_tick(self.now))
        direction, session = line.get("dir"), line.get("session")
        if direction == "H":
            self._http(line)
        elif "Closed" in line:
            self._note(self.board.on_lost(self.now))
            self.logged_in.pop(session, None)
            self.lost |= self.board.ids
            if line["Closed"] == PROCESS_ENDED:
                for call in self.board:
                    self.orphans[call.call_id] = call
                    self.board.drop(call.call_id)
        elif direction == "C":
            self._asked(line)
        elif "Event" in line:
            self._heard(line, session)
        elif line.get("ActionID") in self.board:
            ok = line.get("Response") == "Success"
            self._note(self.board.on_reply(line["ActionID"], ok, line.get("Message", ""), self.now))

    def _asked(self, line: dict[str, Any]) -> None:
        if line.get("Action") == "Hangup":
            for call in self.board:
                if line.get("Channel") == call.hangup_id:
                    self._note(self.board.on_canceled(call.call_id, self.now))
        call_id = line.get("ChannelId", "")
        if line.get("Action") != "Originate" or not call_id or call_id in self.sent:
            return
        self.sent[call_id] = None
        channel = str(line.get("Channel", ""))
        by_route = channel.startswith("Local/")
        self.board.add(
            start(
                call_id,
                form=Form.ROUTE if by_route else Form.TRUNK,
                trunk="" if by_route else channel.partition("@")[2],
                ring_seconds=int(line.get("Timeout", "30000")) // 1000,
                max_call_seconds=self.longest,
                now=self.now,
            )
        )

    def _heard(self, line: dict[str, Any], session: object) -> None:
        name = line["Event"]
        if name == "CoreShowChannel":
            self.listed.setdefault(session, []).append(_channel(line))
        elif name == "CoreShowChannelsComplete":
            self._seen(session, self.listed.pop(session, []))
        elif name == "DBGetResponse":
            self._journal(session, Journal.read(line.get("Val")).call_id)
        else:
            stamp = line.get("Timestamp")
            fields = {k: str(v) for k, v in line.items() if k not in {"Event", "Timestamp", "t", "dir", "mono"}}
            event = AmiEvent(name=name, fields=fields, at=float(stamp) if stamp else None)
            self._note(self.board.on_event(event, self.now))

    def _seen(self, session: object, channels: list[Channel]) -> None:
        if session not in self.logged_in:
            self.logged_in[session] = self.now
            self._note(self.board.on_seen(channels, self.now))
            alive = {call_id for call_id in self.board.ids if self.board.is_listed(call_id, channels)}
        else:
            legs = {channel.linkedid for channel in channels}
            alive = {
                call_id
                for call_id in self.lost
                if (self.board.is_listed(call_id, channels) if call_id in self.board else call_id in legs)
            }
            for call_id in alive:
                self._adopt(call_id)
                self._note(self.board.on_found(call_id, channels, self.now))
        self.lost -= alive

    def _journal(self, session: object, call_id: str) -> None:
        """The follower asks it about a call that the list before did not show."""
        if call_id in self.lost and self.now - self.logged_in.get(session, self.now) >= SETTLE:
            self._adopt(call_id)
            self._note(self.board.on_gone(call_id, self.now, "it was over when the PBX was reached again"))
            self.lost.discard(call_id)

    def _adopt(self, call_id: str) -> None:
        """What a new process knows of a call of the last one."""
        if (call := self.orphans.pop(call_id, None)) is None:
            return
        row = ClaimedRow(row_id=0, call_id=call_id, claim_number=0, attempt=1, user_id="", phone_number="", e164="")
        # The last lines of a killed process may be missing, and the database knew.
        told = self.opened.get(call_id, {})
        found = OpenCall(
            row=row,
            incarnation=0,
            originated_at=_instant(told, "originated_at", call.originated_at),
            answered_at=_instant(told, "answered_at", call.answered_at),
            cancel_requested=bool(told.get("cancel_requested", call.canceled)),
        )
        self.board.add(
            resume(
                found,
                form=call.form,
                trunk=call.trunk if call.form is Form.TRUNK else "",
                ring_seconds=call.ring_seconds,
                max_call_seconds=self.longest,
                now=self.now,
            )
        )

    def _http(self, line: dict[str, Any]) -> None:
        for record in (line.get("asked") or {}).get("p_records") or ():
            if record.get("kind") == "outcome" and isinstance(record.get("call_id"), str):
                self.told[record["call_id"]] = record
        answer = line.get("told") or {}
        for each in (*(answer.get("open") or ()), *(answer.get("takeover") or ())):
            self.opened[str(each.get("row", {}).get("call_id"))] = each

    def _note(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if isinstance(change, Ended):
                self.endings[change.call_id] = change.ending


def play(text: str) -> tuple[Played, ...]:
    """Every call of a bundle whose Originate is in it, in order. Raises NotABundle."""
    tape, began = _Tape(), 0.0
    for number, raw in enumerate(text.splitlines(), start=1):
        try:
            line = json.loads(raw)
            if number == 1:
                began = float(line["began"])
                tape.longest = _longest(line)
                continue
            tape.now = began + float(line["t"])
            tape.feed(line)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise NotABundle(f"line {number} is none of a bundle ({type(error).__name__}: {error})") from None
    if not began:
        raise NotABundle("the file is empty")
    # Nothing more will be heard: what waits for its other half gets its patience.
    closing = [call for call in tape.board if call.closing_since is not None]
    for call in closing:
        tape._note(tape.board.on_tick(max(tape.now, call.deadline)))  # noqa: SLF001  Same module.
    return tuple(
        Played(call_id=call_id, ending=tape.endings.get(call_id), told=tape.told.get(call_id)) for call_id in tape.sent
    )


def _longest(header: Mapping[str, Any]) -> int:
    runs = header.get("runs") or [{}]
    return int((runs[-1].get("settings") or {}).get("MAX_CALL_SECONDS", DEFAULT_LONGEST))


def _instant(told: Mapping[str, Any], key: str, else_: float | None) -> float | None:
    text = told.get(key)
    return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else else_


def _channel(line: Mapping[str, Any]) -> Channel:
    hours, minutes, seconds = (int(part) for part in str(line.get("Duration") or "0:0:0").split(":"))
    return Channel(
        name=str(line.get("Channel", "")),
        uniqueid=str(line.get("Uniqueid", "")),
        linkedid=str(line.get("Linkedid", "")),
        up=line.get("ChannelState") == "6",
        duration=3600 * hours + 60 * minutes + seconds,
        application=str(line.get("Application", "")),
        ringing=line.get("ChannelState") == "5",
    )
