"""How long the PBX takes to show what it was told: from the Originate in the kernel's hands to its first event.

The Response says nothing of it (a real Asterisk answers within a millisecond at any load), and an OriginateResponse
comes when somebody picks up. The first leg, or the word that there is none, is what comes late when the PBX is.
"""

from collections import deque
from collections.abc import Callable

from adapter.core.model import AmiEvent
from adapter.core.pace import LOOK_BACK_SECONDS, SAMPLES, Reading, Sample


class Stopwatch:
    """One for each link; `reading` is what the pace is judged by."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.session = 0
        self._waiting: dict[str, float] = {}
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._least = float("inf")
        self._pong: Sample | None = None
        self.wrote_at = float("-inf")
        """When the last Originate was in the kernel's hands."""

    def begin(self, session: int) -> None:
        """Another connection: what was under way on the last one tells nothing."""
        self.session = session
        self._waiting.clear()
        self._samples.clear()
        self._least = float("inf")
        self._pong = None

    def wrote(self, call_id: str) -> None:
        """An Originate was handed to the kernel."""
        self.wrote_at = self._clock()
        self._waiting[call_id] = self.wrote_at

    def refused(self, call_id: str) -> None:
        """Nothing will follow."""
        self._waiting.pop(call_id, None)

    def heard(self, event: AmiEvent) -> None:
        """An event: the first one of a call stops its time."""
        if not self._waiting:
            return
        for key in ("Uniqueid", "Linkedid", "ActionID"):
            if (at := self._waiting.pop(event.get(key), None)) is not None:
                seconds = self._clock() - at
                self._least = min(self._least, seconds)
                self._samples.append(Sample(at=at, seconds=seconds))
                return

    def answered(self, asked_at: float) -> None:
        """The answer to a ping that was sent at this time."""
        self._pong = Sample(at=asked_at, seconds=self._clock() - asked_at)

    def reading(self) -> Reading:
        """What it shows now."""
        old = self._clock() - LOOK_BACK_SECONDS
        for call_id in [call_id for call_id, at in self._waiting.items() if at < old]:
            del self._waiting[call_id]
        return Reading(
            session=self.session,
            samples=tuple(self._samples),
            waiting=tuple(self._waiting.values()),
            least=self._least if self._samples else 0.0,
            pong=self._pong,
        )
