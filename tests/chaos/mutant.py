"""The daemon with one deliberate fault: what the chaos run must find, or it proves nothing.

python -m tests.chaos.mutant resend        runs `mikopbx-adapter run` with that fault
"""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from adapter import cli, follower
from adapter.core import recovery
from adapter.core.model import Outcome, ReleaseCause
from adapter.pbx.link import PbxLink
from adapter.pbx.session import Answer, Session
from adapter.supabase_io.outbox import Outbox

RESENT_SECONDS = 30.0
"""How far back the mutant `resend` remembers."""


def resend() -> None:
    """After a reconnect every Originate of the last half minute is sent again, as an AMI library does (AMI-02)."""
    sent: list[tuple[float, Mapping[str, Any]]] = []
    send, resync = Session.send, PbxLink._resync

    def remembering(self: Session, headers: Mapping[str, Any]) -> "asyncio.Future[Answer]":
        sent.append((time.monotonic(), headers))
        return send(self, headers)

    async def again(self: PbxLink, session: Session) -> None:
        await resync(self, session)
        for at, headers in sent:
            if time.monotonic() - at < RESENT_SECONDS:
                send(session, headers)

    Session.send = remembering  # type: ignore[method-assign]
    PbxLink._resync = again  # type: ignore[method-assign]


def release() -> None:
    """A call that is not on the PBX any more goes back to the queue, whatever became of it."""

    def back(verdict: recovery.Verdict) -> recovery.Verdict:
        if isinstance(verdict, recovery.End) and verdict.ending.outcome is Outcome.UNKNOWN:
            return recovery.Release(cause=ReleaseCause.NEVER_EXECUTED, reason="it is not on the PBX")
        return verdict

    _after_judge(back)


def guess() -> None:
    """A call whose end nobody saw was not answered, surely."""

    def guessed(verdict: recovery.Verdict) -> recovery.Verdict:
        if isinstance(verdict, recovery.End) and verdict.ending.outcome is Outcome.UNKNOWN:
            return replace(verdict, ending=replace(verdict.ending, outcome=Outcome.NO_ANSWER))
        return verdict

    _after_judge(guessed)


def forget() -> None:
    """Records leave the outbox when they are sent, not when the database has confirmed them."""
    pending = Outbox.pending

    def once(self: Outbox, limit: int) -> list[tuple[int, Mapping[str, Any]]]:
        found = pending(self, limit)
        if found:
            self.done([seq for seq, _ in found])
        return found

    Outbox.pending = once  # type: ignore[method-assign]


def _after_judge(change: Callable[[recovery.Verdict], recovery.Verdict]) -> None:
    judge = recovery.judge
    follower.judge = lambda *a, **k: change(judge(*a, **k))  # type: ignore[attr-defined]


MUTANTS: Mapping[str, Callable[[], None]] = {
    "resend": resend,
    "release": release,
    "guess": guess,
    "forget": forget,
}


def command(name: str) -> tuple[str, ...]:
    """What to run instead of `mikopbx-adapter run`, from whatever folder; -P: no module beside this one is imported."""
    return (sys.executable, "-P", __file__, name)


if __name__ == "__main__":
    MUTANTS[sys.argv[1]]()
    sys.exit(cli.main(["run"]))
