"""The figures of the real servers that tests want to change."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Waits in seconds. The defaults are short so that tests are; `REAL` has what the real servers do."""

    refusal: float = 0.02
    """Before a refused websocket upgrade is answered."""
    join_error: float = 0.02
    """Before a refused join is answered; the whole socket waits."""
    subscribe_cold: float = 0.0
    """From a join's reply to "Subscribed to PostgreSQL" when nobody was subscribed before."""
    resubscribe: float = 0.02
    """From a new access token to the next "Subscribed to PostgreSQL"."""
    poll: float = 0.1
    """Between two looks for changes when the last one found none."""
    publication_check: float = 60.0
    """Between two looks whether the publication still has the tables that somebody subscribed to."""
    idle: float = 60.0
    """A client that has sent nothing for this long, pings included, is disconnected."""


REAL = Delays(refusal=2.0, join_error=5.0, subscribe_cold=1.5, resubscribe=2.0, poll=0.3)
"""As measured on a real Realtime server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the hosted service."""

    rows: int = 1000
    """Most rows one REST answer carries ("max rows" in a project's API settings)."""
    events_per_second: float = 100.0
    """Messages a second over `rate_seconds`; above, all of them are dropped and nobody is told."""
    rate_seconds: int = 60
    frame_bytes: int = 5_000_000
    """A larger frame from a client ends its connection."""
    record_bytes: int = 1024 * 1024
    """A larger row is announced without its large values ("Error 413")."""
    pool: int = 10
    """Connections for REST requests; a request waits `pool_seconds` for one, then gets 504 PGRST003."""
    pool_seconds: float = 10.0
    reruns: int = 10
    """How often a transaction is run again after a serialization failure or a deadlock. The real PostgREST 14 does so
    for ever; a sandbox that hangs would hide the mistake, so this one gives up, loudly."""


@dataclass(slots=True)
class RateWindow:
    """Realtime's average over a minute: a burst uses up the minute's allowance and silences what follows."""

    per_second: float
    seconds: int = 60
    _counts: deque[tuple[int, int]] = field(default_factory=deque)
    _sum: int = 0

    def allows(self, now: float, count: int = 1) -> bool:
        """Count `count` messages at `now` (seconds of any steady clock); False = over the average, drop them."""
        second = int(now)
        while self._counts and self._counts[0][0] <= second - self.seconds:
            self._sum -= self._counts.popleft()[1]
        over = self._sum / self.seconds > self.per_second
        if self._counts and self._counts[-1][0] == second:
            self._counts[-1] = (second, self._counts[-1][1] + count)
        else:
            self._counts.append((second, count))
        self._sum += count
        return not over
