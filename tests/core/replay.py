"""Feeds recorded conversations to a board, as the daemon would, and notes what changed and when."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from adapter.core.call import start
from adapter.core.calls import Board, Change, Ended
from adapter.core.model import AmiEvent, AnsweredMark, Ending, Form
from tests.support.transcripts import CLOSED, Message, Transcript

CLOCK = 1_000_000.0
"""The daemon's clock at t = 0: far from the PBX's, so that a time taken from the wrong one is seen at once."""

MAX_CALL_SECONDS = 900


@dataclass(kw_only=True)
class Story:
    """A board, and everything that happened on it."""

    board: Board = field(default_factory=Board)
    ids: dict[str, str] = field(default_factory=dict)
    """ActionID of an Originate → id of its call. The lab gave them different names; we give both the same."""

    marks: list[tuple[float, AnsweredMark]] = field(default_factory=list)
    ends: list[tuple[float, str, Ending]] = field(default_factory=list)
    now: float = CLOCK

    @property
    def endings(self) -> dict[str, Ending]:
        """Last ending of each call id."""
        return {call_id: ending for _, call_id, ending in self.ends}

    def note(self, t: float, changes: Iterable[Change]) -> None:
        """Keep what a board method returned."""
        for change in changes:
            if isinstance(change, Ended):
                assert change.call_id not in self.board
                self.ends.append((t, change.call_id, change.ending))
            else:
                self.marks.append((t, change))

    def play(self, messages: Iterable[Message]) -> "Story":
        """Feed messages of one connection in order; returns self."""
        for message in messages:
            self.now = CLOCK + message.t
            self.note(message.t, self._changes(message))
        return self

    def _changes(self, message: Message) -> Iterable[Change]:
        board, action_id = self.board, message.get("ActionID")
        if message.get(CLOSED):
            return board.on_lost(self.now)
        if message.sent:
            return self._sent(message)
        if (event := message.event) is not None:
            if event.name == "OriginateResponse":
                renamed = {**event.fields, "ActionID": self.ids.get(action_id, action_id)}
                event = replace(event, fields=renamed)
            return board.on_event(event, self.now)
        if action_id in self.ids:
            ok = message.get("Response") == "Success"
            return board.on_reply(self.ids[action_id], ok, message.get("Message"), self.now)
        return ()

    def _sent(self, message: Message) -> Iterable[Change]:
        call_id = message.get("ChannelId")
        if message.get("Action") == "Hangup":
            leg = message.get("Channel")
            return [
                change
                for call in self.board
                if leg in {call.hangup_id, self._name(call.call_id)}
                for change in self.board.on_canceled(call.call_id, self.now)
            ]
        if message.get("Action") == "Originate" and call_id and call_id not in self.board:
            self.ids[message.get("ActionID")] = call_id
            by_route = message.get("Channel").startswith("Local/")
            self.board.add(
                start(
                    call_id,
                    form=Form.ROUTE if by_route else Form.TRUNK,
                    trunk="" if by_route else message.get("Channel").partition("@")[2],
                    ring_seconds=int(message.get("Timeout") or 30_000) // 1000,
                    max_call_seconds=MAX_CALL_SECONDS,
                    now=self.now,
                )
            )
        return ()

    def _name(self, call_id: str) -> str:
        return self.names.get(call_id, "")

    names: dict[str, str] = field(default_factory=dict)
    """Call id → channel name, for recordings that hang up by name."""


def play(transcript: Transcript) -> Story:
    """The whole story of one recording."""
    story = Story()
    story.names = {
        message.get("Uniqueid"): message.get("Channel")
        for message in transcript.messages
        if message.get("Event") == "Newchannel"
    }
    return story.play(transcript.messages)


def events(transcript: Transcript) -> Iterator[AmiEvent]:
    """The events of a recording."""
    return (message.event for message in transcript.messages if message.event is not None)
