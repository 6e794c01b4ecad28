"""What Docker does when a container's process ends, as a pure model (moby, `restartmanager`).

Before each restart it waits: 100 ms, then twice as long each time, up to a minute; a run of ten seconds or more sets
the wait back to 100 ms, whatever its exit code was. `unless-stopped` restarts after any exit code, 0 too, unless
somebody stopped the container by hand.
"""

from dataclasses import dataclass, replace

FIRST = 0.1
FACTOR = 2
LONGEST = 60.0
LONG_ENOUGH = 10.0
"""A run of so many seconds counts as a success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlessStopped:
    """The state of the policy of one container."""

    wait: float = 0.0
    """Before the next restart, as of the last end; 0 before the first."""

    stopped: bool = False
    """By hand: `docker stop`, `docker kill`, `docker compose down`."""

    def ended(self, ran: float) -> "UnlessStopped":
        """After a run of so many seconds."""
        wait = 0.0 if ran >= LONG_ENOUGH else self.wait
        return replace(self, wait=min(wait * FACTOR, LONGEST) if wait else FIRST)

    def by_hand(self) -> "UnlessStopped":
        """After somebody stopped it."""
        return replace(self, stopped=True)

    @property
    def restart_in(self) -> float | None:
        """Seconds until the restart, or None if there will be none."""
        return None if self.stopped else self.wait


def restarts(run_seconds: float, within: float) -> int:
    """How often a container is started within so many seconds if each run lasts `run_seconds`."""
    state, passed, count = UnlessStopped(), 0.0, 0
    while passed < within:
        count += 1
        state = state.ended(run_seconds)
        passed += run_seconds + (state.restart_in or 0.0)
    return count
