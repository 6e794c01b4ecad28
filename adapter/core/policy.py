"""When not to call: the breaker of the AI and the room for a claim. Pure values; the daemon keeps and asks them.

How each trunk is doing is kept in the database (`call_trunk_health`).
"""

from dataclasses import dataclass, replace

from adapter.core.model import Ending, Outcome

AI_WINDOW = 10
"""Answered calls that are looked back at."""

AI_FAILURES = 5
"""So many of them dropped by our side stop the dialing: half is no accident, and five people were troubled already."""

AI_QUICK = 6.0
"""Seconds: a mistyped extension plays its announcement for 4.7 s before it hangs up (mikopbx/outcomes section 2)."""

AI_PROBE_SECONDS = 60.0
"""While stopped, one call a minute finds out whether the AI handler is back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AiBreaker:
    """Stops calling people into a void: the AI handler keeps dropping answered calls."""

    dropped: tuple[bool, ...] = ()
    """The last answered calls, oldest first: dropped by our side within `AI_QUICK`?"""

    open: bool = False
    dropped_at: float = 0.0
    """When the latest dropped call was answered (PBX's clock)."""

    probed_at: float | None = None

    def after(self, ending: Ending) -> "AiBreaker":
        """The breaker after one more call. While open, one good call closes it and the count begins anew; one that was
        answered before the last dropped call, and only ends now, tells nothing about the handler of today."""
        answered_at = ending.times.answered_at
        if answered_at is None or ending.estimated or ending.outcome is Outcome.CANCELED:
            return self
        if ending.ended_by_us and ending.talk_seconds < AI_QUICK:
            last = (*self.dropped, True)[-AI_WINDOW:]
            return replace(
                self,
                dropped=last,
                open=self.open or sum(last) >= AI_FAILURES,
                dropped_at=max(answered_at, self.dropped_at),
            )
        if not self.open:
            return replace(self, dropped=(*self.dropped, False)[-AI_WINDOW:])
        return AiBreaker() if answered_at > self.dropped_at else self

    def allowance(self, now: float) -> int | None:
        """How many calls may be claimed now: None = no bound of ours, 0 = none, 1 = a probe."""
        return _allowance(self.open, self.probed_at, AI_PROBE_SECONDS, now)

    def probing(self, now: float) -> "AiBreaker":
        """The breaker after a probe was claimed."""
        return replace(self, probed_at=now) if self.open else self

    @property
    def problem(self) -> str | None:
        """Words for the operator while no calls are made."""
        if not self.open:
            return None
        return (
            f"{sum(self.dropped)} of the last {len(self.dropped)} answered calls were dropped by our side within "
            f"{AI_QUICK:g} s: the AI handler is away or its extension is wrong. Rows wait; one call a minute probes."
        )


def room(
    *allowances: int | None,
    max_calls: int,
    in_air: int,
    window: int,
    unsent: int,
    max_setup: int,
    in_setup: int,
) -> int:
    """How many rows to claim now.

    `in_air`: calls that are or may be on the PBX, claimed but unsent ones included. `window` and `unsent`: how many
    Originates may await their Response, and how many do or wait for their turn. `max_setup`, `in_setup`: calls that
    do not talk yet. `allowances`: the breakers' words.
    """
    return max(
        0,
        min(max_calls - in_air, window - unsent, max_setup - in_setup, *(a for a in allowances if a is not None)),
    )


def _allowance(is_open: bool, probed_at: float | None, every: float, now: float) -> int | None:
    if not is_open:
        return None
    return 1 if probed_at is None or now - probed_at >= every else 0
