"""Originates exactly as the daemon builds them, and what the core makes of the events that follow."""

import itertools
import os
import uuid
from collections.abc import Iterable

from adapter.core import call as life
from adapter.core.calls import Board, Ended
from adapter.core.model import ClaimedRow, Ending
from adapter.core.originate import DialPlan, Originate, build
from adapter.sandbox.asterisk import RealPbx, install
from adapter.sandbox.scenarios import number
from tests.asterisk.ami import Ami, Message

HERE = tuple(install.RELEASES) if os.geteuid() == 0 else (install.NEWEST,)
"""Releases that can be had here: a chroot takes root."""

SERIAL = itertools.count(1)
"""Each number of a test run is used once, so the carrier's records belong to one call each."""

CLAIM = itertools.count(1000)


def order(
    pbx: RealPbx, code: str, *, ring_seconds: int = 8, max_call_seconds: int = 60, trunk: str | None = None
) -> Originate:
    """The action for a callee of this scenario whom nobody has called yet."""
    e164 = number(code, next(SERIAL))
    row = ClaimedRow(
        row_id=1,
        call_id=str(uuid.uuid4()),
        claim_number=next(CLAIM),
        attempt=1,
        user_id=str(uuid.uuid4()),
        phone_number=e164,
        e164=e164,
    )
    plan = DialPlan(
        trunk=trunk or pbx.trunk,
        ai_context=pbx.ai_context,
        ai_extension=pbx.ai_extension,
        ring_seconds=ring_seconds,
        max_call_seconds=max_call_seconds,
    )
    return build(row, plan)


def write(ami: Ami, wanted: Originate, *more: tuple[str, str]) -> None:
    """Send it."""
    ami.write("Originate", ("ActionID", wanted.call_id), *wanted.headers, *more)


async def ended(ami: Ami, wanted: Originate) -> list[Message]:
    """All that is heard of a call with one leg, up to its end."""
    await ami.originate_response(wanted.call_id)
    await ami.event("Hangup", linkedid=wanted.call_id)
    return ami.about(wanted.call_id)


def judged(wanted: Originate, heard: Iterable[Message]) -> Ending:
    """What the core says about it."""
    board = Board()
    call = life.start(
        wanted.call_id,
        trunk=wanted.trunk,
        ring_seconds=wanted.ring_seconds,
        max_call_seconds=wanted.max_call_seconds,
        now=0.0,
    )
    board.add(call)
    for message in heard:
        changes = board.on_event(message.event(), message.at) if message.name else ()
        for change in changes:
            if isinstance(change, Ended):
                return change.ending
    raise AssertionError("the core saw no end")
