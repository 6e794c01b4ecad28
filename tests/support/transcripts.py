"""Recorded AMI conversations in a compact form of our own, and what replays them.

A transcript is JSON Lines: the first line says in our words what happened, every other line is one message:
`{"t": seconds since the first Originate, "dir": "C" or "S", …}` with only the header fields that the core or a reader
of the story needs, and phone numbers of the documentation range.
`python -m tests.support.transcripts SOURCE_DIR TARGET_DIR` makes them from raw recordings.
"""

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adapter.core.model import AmiEvent, Channel

DIRECTORY = Path(__file__).parent.parent / "transcripts"

STORIES: Mapping[str, str] = {
    "errors-login": "A wrong secret: an error after a second, then the connection closes.",
    "errors-originate": "Requests that the PBX refuses at once, and two that it accepts and then fails without a leg.",
    "localout-answer-callee-hangup": "Route form: the callee answers after two seconds and hangs up five later.",
    "localout-busy-486": "Route form: the callee is busy.",
    "pjsip-ai-backend-down": "The callee answers and our side drops the call at once: its voice backend is away.",
    "pjsip-answer-ai-hangup": "The callee answers, the AI talks for four seconds and hangs up.",
    "pjsip-answer-callee-hangup": "The phone rings for two seconds, the callee answers and hangs up after five.",
    "pjsip-answer-immediate-no-ringing": "The callee answers without any ringing and hangs up after three seconds.",
    "pjsip-carrier-forbidden-403": "The carrier forbids the call.",
    "pjsip-carrier-no-reply-timeout30": "The carrier swallows every packet; our limit of 30 seconds ends the call.",
    "pjsip-carrier-port-closed": "Nobody listens at the carrier's address; our limit of 30 seconds ends the call.",
    "pjsip-congestion-503": "The carrier has no free circuit.",
    "pjsip-daemon-hangup-ringing": "We hang up while the phone rings.",
    "pjsip-declined-603": "The phone rings for two seconds and the callee declines.",
    "pjsip-disconnect-reconcile.1": "The link drops while the phone rings; first connection.",
    "pjsip-disconnect-reconcile.2": "The second connection finds the call, sees it answered and ended.",
    "pjsip-duplicate-channelid": "One id is sent again while its call rings (refused) and after it ended (dialed).",
    "pjsip-earlymedia-then-480": "An announcement instead of ringing, then the carrier gives up; nobody answered.",
    "pjsip-earlymedia-true-false-answer": "EarlyMedia was asked for: the announcement is reported as an answer.",
    "pjsip-noanswer-originate-timeout": "The phone rings until our limit of 8 seconds.",
    "pjsip-pbx-core-restart-now": "The PBX is restarted while one call talks and another rings.",
    "pjsip-pbx-sigkill": "The PBX is killed while one call talks and another rings.",
    "pjsip-three-interleaved": "Three calls at once: one is answered, one busy, one rings until its limit.",
    "pjsip-trunk-no-contact": "The trunk has no address: the call fails without a leg.",
}
"""What each recording shows, in our words."""

CLOSED = "Closed"
"""Not AMI: in a line of its own it says that the server closed the connection."""

KEPT = (
    CLOSED,
    "Action",
    "Event",
    "Response",
    "Message",
    "ActionID",
    "Timestamp",
    "Channel",
    "ChannelState",
    "ChannelStateDesc",
    "Uniqueid",
    "Linkedid",
    "Context",
    "Exten",
    "DestChannel",
    "DestChannelState",
    "DestChannelStateDesc",
    "DestUniqueid",
    "DestLinkedid",
    "DialStatus",
    "Cause",
    "TechCause",
    "Reason",
    "ChannelId",
    "OtherChannelId",
    "Timeout",
    "EarlyMedia",
    "Application",
    "Duration",
    "EventList",
    "ListItems",
    "Shutdown",
    "Restart",
    "Status",
)
"""Header fields that are kept; all others are noise to us."""

DROPPED_EVENTS = frozenset(
    {
        "VarSet",
        "TestEvent",
        "ContactStatus",
        "PeerStatus",
        "RTCPSent",
        "RTCPReceived",
        "NewCallerid",
        "NewConnectedLine",
        "HangupHandlerPush",
        "HangupHandlerPop",
        "HangupHandlerRun",
        "UserEvent",
        "NewExten",
        "MusicOnHoldStart",
        "MusicOnHoldStop",
    }
)
"""Events that no story is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One AMI message of a recording. `t` = seconds since the first Originate; `sent` = by the client."""

    t: float
    sent: bool
    fields: Mapping[str, str] = field(default_factory=dict)

    def get(self, key: str) -> str:
        """Value of a header, or an empty string."""
        return self.fields.get(key, "")

    @property
    def event(self) -> AmiEvent | None:
        """The message as the link hands it to the core; None if it is no event."""
        if "Event" not in self.fields:
            return None
        stamp = self.get("Timestamp")
        rest = {k: v for k, v in self.fields.items() if k not in {"Event", "Timestamp"}}
        return AmiEvent(name=self.get("Event"), fields=rest, at=float(stamp) if stamp else None)

    @property
    def channel(self) -> Channel:
        """The leg that a CoreShowChannel event lists."""
        hours, minutes, seconds = (int(part) for part in self.get("Duration").split(":"))
        return Channel(
            name=self.get("Channel"),
            uniqueid=self.get("Uniqueid"),
            linkedid=self.get("Linkedid"),
            up=self.get("ChannelStateDesc") == "Up",
            duration=3600 * hours + 60 * minutes + seconds,
            application=self.get("Application"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """One recorded connection."""

    name: str
    story: str
    messages: tuple[Message, ...]


def load(name: str) -> Transcript:
    """Read `tests/transcripts/<name>.jsonl`."""
    return read(name, (DIRECTORY / f"{name}.jsonl").read_text(encoding="utf-8"))


def read(name: str, text: str) -> Transcript:
    """A transcript, or a bundle of the flight recorder: the same form, with HTTP exchanges in between."""
    head, *rest = text.splitlines()
    messages = []
    for line in rest:
        raw = json.loads(line)
        t, direction = raw.pop("t"), raw.pop("dir")
        if direction in {"C", "S"}:
            fields = {key: value for key, value in raw.items() if key not in {"mono", "session"}}
            messages.append(Message(t=t, sent=direction == "C", fields=fields))
    return Transcript(name=name, story=json.loads(head)["story"], messages=tuple(messages))


def names(prefix: str = "") -> tuple[str, ...]:
    """Names of the transcripts that there are."""
    return tuple(sorted(p.stem for p in DIRECTORY.glob(f"{prefix}*.jsonl")))


def parse(text: str) -> Iterator[Message]:
    """Messages of a raw recording: `C: ` and `S: ` lines, `# t=` before a change of time, an empty one ends a message.

    A message that the end of the recording cuts off is no message, as on a real connection.
    """
    t = 0.0
    open_messages: dict[str, dict[str, str]] = {"C": {}, "S": {}}
    for line in text.splitlines():
        if line.startswith("# t="):
            stamp, _, remark = line.removeprefix("# t=").partition(" ")
            t = float(stamp)
            if "closed" in remark:
                yield Message(t=t, sent=False, fields={CLOSED: "server"})
        elif line[:2] in {"C:", "S:"}:
            side, content = line[0], line[3:]
            if content:
                key, colon, value = content.partition(":")
                if colon:  # The banner has none.
                    open_messages[side].setdefault(key, value.strip())
            elif open_messages[side]:
                yield Message(t=t, sent=side == "C", fields=open_messages[side])
                open_messages[side] = {}


def compact(messages: Iterator[Message]) -> Iterator[str]:
    """The messages as our JSON lines, without what nobody needs."""
    for message in messages:
        if message.get("Event") in DROPPED_EVENTS:
            continue
        kept = {key: _tame(message.fields[key]) for key in KEPT if key in message.fields}
        yield json.dumps({"t": message.t, "dir": "C" if message.sent else "S", **kept}, separators=(",", ":"))


def _tame(value: str) -> str:
    """A value without the lab's numbers and names, and no longer than a reader needs."""
    value = re.sub(r"\b7\d{8}(\d\d)\b", r"601234567\1", value)
    return re.sub(r"alienvoip(/\d+)?", "mycarrier", value)[:80]


def main() -> None:
    """Convert every raw recording that has a story."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    args.target.mkdir(parents=True, exist_ok=True)
    for name, story in STORIES.items():
        text = (args.source / f"{name}.txt").read_text(encoding="utf-8", errors="replace")
        lines = [json.dumps({"story": story}), *compact(parse(text))]
        (args.target / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
