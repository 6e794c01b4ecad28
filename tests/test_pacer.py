"""The pace at the socket, whatever comes and however late: the real dialer, pacer and link on virtual time."""

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import adapter.clock
from adapter.core.model import ClaimedRow, Record, ReleaseRecord, Way
from adapter.core.originate import DialPlan
from adapter.core.pace import LATE_SECONDS, SECOND
from adapter.dialer import FRESH_SECONDS, Dialer
from adapter.pacer import Pacer
from adapter.pbx import PbxConfig, PbxLink
from adapter.pbx.session import Answer
from adapter.pbx.stopwatch import Stopwatch
from tests.simulation.loop import VirtualLoop
from tests.simulation.switches import replaced
from tests.support.doubles import TRUNK, event, row

SLOW, QUICK = "SIP-TRUNK-5A0D0002", "SIP-TRUNK-5A0D0003"
SUCCESS = Answer(ok=True, message="", fields={"Response": "Success"})


class Socket:
    """Stands for a session: every write is noted as it begins and as it ends, and may take its time."""

    backlog = 0
    unreadable = 0

    def __init__(self, desk: "Desk", number: int) -> None:
        self.number = number
        self._desk = desk

    def send(self, headers: Mapping[str, Any]) -> "asyncio.Future[Answer]":
        desk, loop = self._desk, self._desk.loop
        begun = loop.now
        loop.now += desk.write_seconds
        desk.writes.append((begun, loop.now, str(headers["Channel"]).partition("@")[2]))
        future = loop.create_future()
        loop.call_later(desk.response_seconds, future.set_result, SUCCESS)
        first = event("Newchannel", str(headers["ActionID"]), 0.0)
        loop.call_later(desk.leg_seconds, desk.link.stopwatch.heard, first)
        return future


class OpenLink(PbxLink):
    """The real link with a socket put in, and nothing to say against calls."""

    def _why_not(self) -> str | None:
        return None


class Deaf:
    """A follower that nobody asks."""

    async def accepted(self, call_id: str) -> None:
        pass

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: False


class Desk:
    """One adapter: it can be killed and started again; the socket's record stays."""

    def __init__(self, *, limit: float, slow: float, quick: float, window: int = 8) -> None:
        self.loop = VirtualLoop()
        self.limit, self.window = limit, window
        self.ways = {
            TRUNK: None,
            SLOW: Way(id=SLOW, calls_per_second=slow),
            QUICK: Way(id=QUICK, calls_per_second=quick),
        }
        self.writes: list[tuple[float, float, str]] = []
        self.records: list[Record] = []
        self.write_seconds = self.response_seconds = self.disk_seconds = 0.0
        self.leg_seconds = 0.005
        self.serial = self.sessions = 0
        self.start()

    def start(self) -> None:
        """A new process, in place of the one before."""
        config = PbxConfig(
            host="127.0.0.1",
            username="u",
            password="p",
            trunk=TRUNK,
            ai_context="all_peers",
            ai_extension="999",
            window=self.window,
        )
        self.link = link = OpenLink(config)
        self.reconnect()
        self.pacer = Pacer(
            calls_per_second=self.limit, stopwatch=link.stopwatch, clock=lambda: self.loop.now, since=self.loop.now
        )
        self.dialer = Dialer(
            link=link,
            follower=cast("Any", Deaf()),
            plan=DialPlan(trunk=TRUNK, ai_context="all_peers", ai_extension="999", region="MY"),
            store=self._store,
            may_dial=lambda: None,
            keeps=self._keeps,
            clock=lambda: self.loop.now,
            pacer=self.pacer,
        )
        self.running = self.loop.create_task(self.dialer.run())

    def restart(self) -> None:
        """Killed and up again within the same instant."""
        self.running.cancel()
        self.loop.run(self.loop.now)
        self.start()

    def reconnect(self) -> None:
        """Another connection."""
        self.sessions += 1
        self.link._session = cast("Any", Socket(self, self.sessions))
        self.link.stopwatch.begin(self.sessions)

    def claim(self, trunk: str, rows: int) -> None:
        """So many rows come in."""
        self.dialer.take([self._row(trunk) for _ in range(rows)], self.loop.now)

    def live(self, seconds: float) -> None:
        """Let time pass. As in the daemon, somebody looks at the pace all the time."""
        end = self.loop.now + seconds
        while True:
            _ = self.pacer.pace
            if self.loop.now >= end:
                break
            self.loop.run(min(end, self.loop.now + 0.5))
        assert self.loop.errors == []

    def stall(self, seconds: float) -> None:
        """The loop stands still: whatever falls due meanwhile is late, and all at once."""
        self.loop.now += seconds

    def _row(self, trunk: str) -> ClaimedRow:
        self.serial += 1
        return row(self.serial, way=self.ways[trunk])

    async def _store(self, records: Sequence[Record]) -> None:
        self.records.extend(records)

    async def _keeps(self, _number: int) -> bool:
        await asyncio.sleep(self.disk_seconds)
        return True


@contextmanager
def _desk(**limits: Any) -> Iterator[Desk]:
    loops: list[VirtualLoop] = []
    with replaced(adapter.clock, "boot", lambda: loops[0].now if loops else 0.0):
        # The loop is there before anybody asks for the time.
        desk = Desk(**limits)
        loops.append(desk.loop)
        desk.restart()
        yield desk
        desk.running.cancel()
        desk.loop.run(desk.loop.now)
        desk.loop.over = True


def most(instants: Sequence[float]) -> int:
    """The most that lie in any window of a second."""
    return max((sum(begin <= at < begin + SECOND - 1e-9 for at in instants) for begin in instants), default=0)


def assert_paced(desk: Desk) -> None:
    """Wherever in its write each call left, no window of a second holds more than the limit."""
    for trunk, limit in ((None, desk.limit), *((way.id, way.calls_per_second) for way in desk.ways.values() if way)):
        assert limit is not None
        writes = [(begun, ended) for begun, ended, through in desk.writes if trunk in {None, through}]
        assert most([begun for begun, _ in writes]) <= math.ceil(limit), (trunk, limit)
        assert most([ended for _, ended in writes]) <= math.ceil(limit), (trunk, limit)
        early_and_late = [ended if number % 2 == 0 else begun for number, (begun, ended) in enumerate(writes)]
        assert most(early_and_late) <= math.ceil(limit), (trunk, limit)


seconds = st.floats(0.0, 3.0)
deeds = st.one_of(
    st.tuples(st.just("claim"), st.sampled_from((TRUNK, SLOW, QUICK)), st.integers(1, 12)),
    st.tuples(st.just("live"), seconds),
    st.tuples(st.just("stall"), seconds),
    st.tuples(st.just("respond"), seconds),
    st.tuples(st.just("disk"), st.floats(0.0, 0.5)),
    st.tuples(st.just("write"), st.floats(0.0, 0.3)),
    st.tuples(st.just("reconnect")),
    st.tuples(st.just("restart")),
)


@settings(max_examples=150, deadline=None)
@given(
    limit=st.sampled_from((1.0, 2.5, 5.0, 50.0)),
    slow=st.sampled_from((0.5, 1.0)),
    quick=st.sampled_from((2.0, 20.0)),
    window=st.sampled_from((1, 2, 8)),
    story=st.lists(deeds, max_size=40),
)
@example(
    limit=5.0,
    slow=0.5,
    quick=20.0,
    window=2,
    story=[("live", 12.0), ("respond", 2.5), *[("claim", TRUNK, 5), ("live", 1.0)] * 4, ("stall", 1.0), ("live", 5.0)],
)
@example(
    limit=50.0,
    slow=0.5,
    quick=20.0,
    window=8,
    story=[("live", 12.0), ("claim", TRUNK, 12), ("live", 0.24), ("restart",), ("claim", QUICK, 12), ("live", 2.0)],
)
def test_no_second_at_the_socket_is_overrun(
    limit: float, slow: float, quick: float, window: int, story: list[tuple[Any, ...]]
) -> None:
    with _desk(limit=limit, slow=slow, quick=quick, window=window) as desk:
        for deed, *what in story:
            match deed:
                case "claim" | "live" | "stall":
                    getattr(desk, deed)(*what)
                case "respond":
                    desk.response_seconds = what[0]
                case "disk":
                    desk.disk_seconds = what[0]
                case "write":
                    desk.write_seconds = what[0]
                case _:
                    getattr(desk, deed)()
        desk.write_seconds = desk.response_seconds = 0.0
        desk.live(60.0)
        assert_paced(desk)
        assert (desk.dialer.backlog, desk.dialer.sending) == (0, 0), "every row is sent, or goes back"


def test_the_rows_of_a_slow_trunk_hold_up_no_others() -> None:
    with _desk(limit=10.0, slow=0.5, quick=10.0) as desk:
        desk.live(10.0)
        begun = desk.loop.now
        desk.claim(SLOW, 20)
        desk.claim(QUICK, 10)
        desk.live(1.5)
        assert sum(trunk == QUICK for *_, trunk in desk.writes) == 10
        assert sum(trunk == SLOW for *_, trunk in desk.writes) == 1
        desk.live(3.5)
        sent = [at for at, _, trunk in desk.writes if trunk == SLOW]
        assert [round(at - begun) for at in sent] == [0, 2, 4]
        late = [record for record in desk.records if isinstance(record, ReleaseRecord)]
        assert len(late) == 17, f"no claim is sent after {FRESH_SECONDS:g} s"


def test_only_what_a_second_can_send_is_claimed_by_trunk_and_in_all() -> None:
    with _desk(limit=10.0, slow=0.5, quick=4.0) as desk:
        ways = [way for way in desk.ways.values() if way is not None]
        assert desk.pacer.room() == 0, "an earlier process may have used up this second"
        desk.live(12.0)
        assert desk.pacer.room() == 10
        assert desk.dialer.trunk_rooms(()) == {TRUNK: 10}
        assert desk.dialer.trunk_rooms(ways) == {SLOW: 1, QUICK: 4}
        desk.claim(SLOW, 1)
        desk.claim(QUICK, 3)
        assert desk.dialer.trunk_rooms(ways) == {SLOW: 0, QUICK: 1}
        desk.live(0.05)
        assert desk.dialer.trunk_rooms(ways)[SLOW] == 0, "the next one has its turn in two seconds"
        desk.live(3.0)
        assert desk.dialer.trunk_rooms(ways) == {SLOW: 1, QUICK: 4}


def test_the_gap_is_counted_from_the_end_of_a_write() -> None:
    with _desk(limit=5.0, slow=0.5, quick=5.0) as desk:
        desk.live(12.0)
        desk.write_seconds = 0.15
        desk.claim(TRUNK, 5)
        desk.live(4.0)
        gaps = [after[0] - before[1] for before, after in zip(desk.writes, desk.writes[1:], strict=False)]
        assert len(gaps) == 4
        assert min(gaps) >= 0.2 - 1e-9


def test_it_is_slowed_down_by_late_first_legs_and_recovers() -> None:
    """The first leg of each call comes 0.8 s after its Originate for a while."""
    with _desk(limit=10.0, slow=0.5, quick=5.0) as desk:
        rates: list[float] = []
        for second in range(90):
            desk.leg_seconds = 0.8 if 20 <= second < 30 else 0.005
            desk.claim(TRUNK, desk.dialer.trunk_rooms(())[TRUNK])
            desk.live(1.0)
            rates.append(desk.pacer.pace.rate)
        assert rates[19] == 10.0
        assert min(rates) <= 2.5
        assert rates[-1] == 10.0
        assert desk.pacer.pace.words is None
        assert_paced(desk)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("key", ["Uniqueid", "Linkedid", "ActionID"])
def test_the_first_event_of_a_call_stops_its_time(key: str) -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    watch.begin(1)
    watch.wrote("a")
    clock.now = LATE_SECONDS
    named = {"Uniqueid": "", "Linkedid": "", "ActionID": "", key: "a"}
    watch.heard(event("OriginateResponse", "x", 0.0, **named))
    watch.heard(event("OriginateResponse", "x", 0.0, **named))
    reading = watch.reading()
    assert [(sample.at, sample.seconds) for sample in reading.samples] == [(0.0, LATE_SECONDS)]
    assert (reading.least, reading.waiting, reading.session) == (LATE_SECONDS, (), 1)


def test_what_is_refused_or_lost_with_its_connection_tells_nothing() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    for call_id in ("refused", "old", "lost"):
        watch.wrote(call_id)
        clock.now += 20.0
    watch.refused("refused")
    assert watch.reading().waiting == (40.0,), "and what is older than half a minute is no longer looked at"
    watch.begin(2)
    assert (watch.reading().waiting, watch.reading().samples) == ((), ())
