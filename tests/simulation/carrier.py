"""What really happens to people's phones: the number plan of the simulated carrier, and its records.

The records are the first witness of every check: they know each INVITE whatever the adapter, the PBX or the database
believe. The plan's stories are those of real recordings (cause, SIP code, ring or silence); times are drawn.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from adapter.core.model import Outcome
from adapter.core.outcomes import SOON


class End(StrEnum):
    """Who or what ended a call."""

    CALLEE = "callee"
    AI = "ai"
    CARRIER = "carrier"
    TIMEOUT = "timeout"
    ABSOLUTE = "absolute"
    HANGUP = "hangup"
    PBX = "pbx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What one callee does. Seconds count from the INVITE; None = never."""

    name: str
    outcome: Outcome
    """How the call ends if nobody disturbs it."""

    ring: tuple[float, float] | None = None
    answer: tuple[float, float] | None = None
    talk: tuple[float, float] = (0.0, 0.0)
    by: End = End.CALLEE
    refuse: tuple[float, float] | None = None
    cause: int = 16
    sip: int | None = None
    media: bool = False
    """It rings by early media (183), which a list of channels does not show."""

    weight: int = 1


STORIES = (
    Story(name="talks", outcome=Outcome.ANSWERED, ring=(0.5, 3), answer=(2, 12), talk=(3, 60), weight=26),
    Story(name="ai-ends", outcome=Outcome.ANSWERED, ring=(0.5, 3), answer=(2, 12), talk=(6, 60), by=End.AI, weight=16),
    Story(name="talks-long", outcome=Outcome.ANSWERED, ring=(0.5, 3), answer=(2, 8), talk=(150, 500), weight=4),
    Story(
        name="ai-drops", outcome=Outcome.AI_FAILED, ring=(0.5, 2), answer=(2, 8), talk=(0.1, 1.5), by=End.AI, weight=2
    ),
    Story(name="no-answer", outcome=Outcome.NO_ANSWER, ring=(0.5, 3), weight=14),
    Story(name="silence", outcome=Outcome.NO_REPLY, weight=4),
    Story(name="busy", outcome=Outcome.BUSY, refuse=(0.5, 4), cause=17, sip=486, weight=10),
    Story(name="declines", outcome=Outcome.DECLINED, ring=(0.5, 2), refuse=(3, 9), cause=21, sip=603, weight=5),
    Story(
        name="media-then-barred",
        outcome=Outcome.DECLINED,
        ring=(0.3, 2),
        refuse=(3, 12),
        cause=21,
        sip=403,
        media=True,
        weight=7,
    ),
    Story(name="absent", outcome=Outcome.NO_ANSWER, refuse=(1, 6), cause=19, sip=480, weight=4),
    Story(name="no-number", outcome=Outcome.INVALID_NUMBER, refuse=(0.2, 3), cause=1, sip=404, weight=4),
    Story(name="forbidden", outcome=Outcome.REJECTED, refuse=(0.1, 2), cause=21, sip=403, weight=5),
    Story(name="congestion", outcome=Outcome.CONGESTION, refuse=(0.1, 3), cause=34, sip=503, weight=7),
    Story(name="fault-late", outcome=Outcome.NO_REPLY, refuse=(7, 12), cause=38, sip=500, weight=3),
)


OUT_OF_ORDER = tuple(story for story in STORIES if story.name in {"congestion", "forbidden", "silence"})
"""What becomes of every call through a trunk whose carrier fails, or wants its money."""


@dataclass(slots=True, kw_only=True)
class Invite:
    """One INVITE that left a PBX, and what became of it. Times are the world's."""

    call_id: str
    number: str
    pbx: str
    trunk: str
    at: float
    story: Story
    rings_at: float | None = None
    """Planned; None = never."""

    answers_at: float | None = None
    refuses_at: float | None = None
    talk: float = 0.0
    rang_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    end: End | None = None

    @property
    def may_have_rung(self) -> bool:
        """A phone rang, or was picked up."""
        return self.rang_at is not None or self.answered_at is not None


@dataclass(slots=True)
class Carrier:
    """Takes every INVITE of every PBX."""

    random: Random
    now: Callable[[], float]
    invites: list[Invite] = field(default_factory=list)
    sticky: dict[str, Story] = field(default_factory=dict)

    def invite(self, call_id: str, number: str, pbx: str, trunk: str, fate: Story | None = None) -> Invite:
        """A new call arrives. Most numbers behave alike each time, as people do; `fate`: nobody hears of it there."""
        story = fate or self.sticky.get(number)
        if story is None or (fate is None and self.random.random() < 0.3):
            story = self.random.choices(STORIES, WEIGHTS)[0]
            self.sticky[number] = story
        at = self.now()

        def drawn(span: tuple[float, float] | None) -> float | None:
            return None if span is None else at + self.random.uniform(*span)

        rings_at, answers_at, refuses_at = drawn(story.ring), drawn(story.answer), drawn(story.refuse)
        if rings_at is not None and answers_at is not None:
            answers_at = max(answers_at, rings_at + 0.3)
        invite = Invite(
            call_id=call_id,
            number=number,
            pbx=pbx,
            trunk=trunk,
            at=at,
            story=story,
            rings_at=rings_at,
            answers_at=answers_at,
            refuses_at=refuses_at,
            talk=self.random.uniform(*story.talk),
        )
        self.invites.append(invite)
        return invite

    def of(self, call_id: str) -> list[Invite]:
        """Every INVITE with this call id."""
        return [invite for invite in self.invites if invite.call_id == call_id]


WEIGHTS = tuple(story.weight for story in STORIES)


def truth(invite: Invite) -> Outcome:
    """How this call ended, as somebody would say who saw everything. Raises if it has not ended."""
    by_end: Mapping[End, Outcome] = {
        End.CALLEE: invite.story.outcome,
        End.AI: Outcome.AI_FAILED if _talk(invite) < 2.0 else Outcome.ANSWERED,
        End.ABSOLUTE: Outcome.ANSWERED if invite.answered_at is not None else Outcome.UNKNOWN,
        End.CARRIER: _refusal(invite),
        End.TIMEOUT: Outcome.NO_ANSWER if invite.rang_at is not None else Outcome.NO_REPLY,
        End.HANGUP: Outcome.CANCELED,
        End.PBX: Outcome.ANSWERED if invite.answered_at is not None else Outcome.UNKNOWN,
    }
    if invite.end is None:
        raise ValueError(f"{invite.call_id} goes on")
    return by_end[invite.end]


def _refusal(invite: Invite) -> Outcome:
    """A carrier's fault that is told late (by a frozen PBX, say) counts as silence (design, section 5)."""
    late = (invite.ended_at or 0.0) - invite.at > SOON
    outcome = invite.story.outcome
    return Outcome.NO_REPLY if late and outcome is Outcome.CONGESTION else outcome


def _talk(invite: Invite) -> float:
    return (invite.ended_at or 0.0) - (invite.answered_at or 0.0)
