"""Stand-ins for the two links where a test needs faults at an exact instant; the real ones have tests of their own."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from adapter.core.legs import Legs
from adapter.core.model import AmiEvent, Channel, ClaimedRow, Form
from adapter.core.originate import slot_of
from adapter.core.routes import Routes
from adapter.pbx import Accepted, LastCheck, LinkDown, LinkStatus, NotSent, Reply, Up
from adapter.pbx.link import Mail
from adapter.pbx.replies import Order
from adapter.pbx.stopwatch import Stopwatch
from adapter.supabase_io.database import SyncReply, SyncRequest
from adapter.supabase_io.doorbell import BellState, BellStatus

BOOT = "2026-01-01 00:00:00"
TRUNK = "SIP-TRUNK-5A0D0001"


def row(serial: int = 1, **changes: object) -> ClaimedRow:
    """A claimed row with plausible contents."""
    values: dict[str, object] = {
        "row_id": serial,
        "call_id": f"00000000-0000-4000-8000-{serial:012d}",
        "claim_number": serial,
        "attempt": 1,
        "user_id": "00000000-0000-4000-8000-00000000aaaa",
        "phone_number": "0123456700",
        "e164": "+60123456700",
        "pbx_boot": BOOT,
        **changes,
    }
    return ClaimedRow(**values)  # type: ignore[arg-type]  # The changes of a test are its own business.


def reply(**changes: object) -> SyncReply:
    """An answer of `call_sync_v1` in which nothing happened."""
    values: dict[str, object] = {
        "now": 1000.0,
        "fenced": False,
        "holder": True,
        "lease_until": 1060.0,
        "epoch": 1,
        "claim_number": 0,
        "recorded": (),
        "refused": (),
        "notes": (),
        "rows": (),
        "more": False,
        "hangups": (),
        "takeover": (),
        **changes,
    }
    return SyncReply(**values)  # type: ignore[arg-type]  # As above.


@dataclass
class ScriptedDatabase:
    """Answers each `sync` with the next of `answers` (a reply, an error to raise, or a function of the request)."""

    answers: deque[SyncReply | Exception | Callable[[SyncRequest], SyncReply]] = field(default_factory=deque)
    requests: list[SyncRequest] = field(default_factory=list)

    async def sync(self, request: SyncRequest) -> SyncReply:
        """One request."""
        self.requests.append(request)
        await asyncio.sleep(0)
        answer = self.answers.popleft() if self.answers else reply(recorded=tuple(seq for seq, _ in request.records))
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, SyncReply) else answer(request)


BELL = BellStatus(
    state=BellState.LIVE,
    since=0.0,
    listens="broadcast",
    joined=True,
    changes_live=False,
    deaf=False,
    rings=0,
    missed=0,
    connects=1,
    rebuilds=0,
    unreadable=0,
    problem=None,
)
"""What a bell says that hears all and has nothing to tell."""


class SilentBell:
    """A doorbell that rings only when the test says so."""

    def __init__(self) -> None:
        self.rung = asyncio.Event()
        self.missed_rows = 0
        self.status = BELL

    def missed(self, rows: int) -> None:
        """Count what the ticker reports."""
        self.missed_rows += rows


class HandLink:
    """A PBX link moved by hand: the test puts messages, channels and journal entries, and answers each Originate."""

    def __init__(self) -> None:
        self.messages = Mail()
        self.sent: list[str] = []
        self.hung_up: list[str] = []
        self.replies: deque[Reply] = deque()
        self.live: tuple[Channel, ...] = ()
        self.entries: dict[int, str] = {}
        self.up = True
        self.boot = BOOT
        self.there = True
        """Whether the leg that is hung up exists."""

        self.before_reply: Callable[[], None] | None = None
        self.routes: Routes | None = None
        self.stopwatch = Stopwatch(time.monotonic)
        self.legs = Legs()
        self.trunks: Mapping[str, str | None] = {}
        self.known: list[tuple[Mapping[str, Form], Mapping[str, str]]] = []

    def know(self, ways: Mapping[str, Form], bad: Mapping[str, str]) -> None:
        """Note it."""
        self.known.append((dict(ways), dict(bad)))

    @property
    def status(self) -> LinkStatus:
        """Ready while `up`."""
        return LinkStatus(
            connected=self.up,
            ready=self.up,
            problem=None if self.up else "down",
            boot=self.boot,
            version="22",
            session=1,
            since=0.0,
            trunks=self.trunks if self.up else {},
        )

    async def originate(self, order: Order, last_check: LastCheck | None = None) -> Reply:
        """Ask for the last time, count it, then answer with the next of `replies` (default: accepted)."""
        while isinstance(why := last_check() if last_check else None, float):
            await asyncio.sleep(why)
        if why is not None:
            return NotSent(why)
        self.stopwatch.wrote(order.call_id)
        self.sent.append(order.call_id)
        if self.before_reply:
            self.before_reply()
        await asyncio.sleep(0)
        return self.replies.popleft() if self.replies else Accepted()

    async def channels(self) -> tuple[Channel, ...]:
        """The list the test has set."""
        if not self.up:
            raise LinkDown("down")
        return self.live

    async def journal(self, slot: int) -> str | None:
        """The entry the test has set."""
        if not self.up:
            raise LinkDown("down")
        return self.entries.get(slot)

    async def hangup(self, uniqueid: str, cause: int = 16) -> bool:
        """Note it."""
        if not self.up:
            raise LinkDown("down")
        if self.there:
            self.hung_up.append(uniqueid)
        return self.there

    def come_up(self, channels: Sequence[Channel] = ()) -> None:
        """A new session with this list of live legs."""
        self.up, self.live = True, tuple(channels)
        self.messages.put_nowait(Up(1, self.boot, "22", self.live))

    def execute(self, claimed: ClaimedRow) -> None:
        """As if the PBX had executed this row's Originate: its journal slot is written."""
        self.entries[slot_of(claimed.claim_number)] = f"{claimed.claim_number}:{claimed.call_id}"


def leg(call_id: str, *, up: bool = False) -> Channel:
    """The trunk leg of a call, as CoreShowChannels lists it."""
    return Channel(name=f"PJSIP/{TRUNK}-0000001a", uniqueid=call_id, linkedid=call_id, up=up, duration=1)


def event(name: str, call_id: str, at: float, **fields: str) -> AmiEvent:
    """An event of a call's trunk leg."""
    base = {"Uniqueid": call_id, "Linkedid": call_id, "Channel": f"PJSIP/{TRUNK}-0000001a"}
    return AmiEvent(name=name, fields={**base, **fields}, at=at)
