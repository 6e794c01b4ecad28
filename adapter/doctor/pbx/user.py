"""May our AMI user do what it must, and no more; and does it hear what happens?"""

import asyncio
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from adapter.core.model import AmiEvent
from adapter.doctor.findings import Finding, fail, ok, skipped, warn
from adapter.doctor.pbx.scene import Scene
from adapter.pbx import Denied, LinkDown, questions, rights
from adapter.pbx.session import SessionFailed

READ = frozenset({"call", "system", "user"})
WRITE = frozenset(rights.NEEDED.values())
"""The boxes to tick; docs/guide/pbx.md says what each is for."""

HARMFUL = frozenset(rights.RISKY.values())

NEEDED_EVENTS = frozenset({"Newchannel", "Hangup", "OriginateResponse"})
"""What a call that ends at once is told by. Two faults are proven only by their lack: a missing read right `call`, and
an event filter that hides one of them. Both look like a PBX on which nothing happens."""

DEAF: Mapping[bool | None, tuple[str, str]] = {
    True: ("the read right call is ticked, so an event filter hides them", "take away filters that you do not know"),
    False: ("the read right call is missing", "tick read call"),
    None: (
        "the read right call is missing, or an event filter hides them",
        "tick read call; take away filters that you do not know",
    ),
}
"""Read `call` ticked, not ticked, not known → what is wrong, and what to do."""

FILTERS = ("!Event: Newexten", "!Event: VarSet", "!Event: RTCP")
"""Without them five to ten times the traffic comes in (docs/guide/pbx.md)."""

MOST_FILTERS = 30

PAGE = "System, Asterisk Manager Interface (AMI), this user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """What is ticked for the user on MikoPBX's page."""

    read: frozenset[str]
    write: frozenset[str]

    @classmethod
    def of(cls, read: str | None, write: str | None) -> "Boxes | None":
        """From the lines of manager.conf; None where they cannot be read."""
        if read is None and write is None:
            return None
        return cls(read=_words(read), write=_words(write))


def _words(line: str | None) -> frozenset[str]:
    return frozenset(word.strip().lower() for word in (line or "").split(",") if word.strip())


async def user_rights(scene: Scene) -> Finding:
    """Write rights by the list of actions that we may use, all the others by manager.conf."""
    name = scene.config.username
    allowed = await questions.allowed(scene.session, scene.timings)
    try:
        boxes = Boxes.of(
            await scene.configured("manager.conf", name, "read"), await scene.configured("manager.conf", name, "write")
        )
    except Denied:
        boxes = None
    scene.hears_calls = None if boxes is None else bool(boxes.read & {"call", "all"})
    return judge_rights(allowed, boxes)


def judge_rights(allowed: frozenset[str] | None, boxes: Boxes | None) -> Finding:
    """Which boxes to tick and which to clear."""
    check = "pbx.rights"
    tried = "asked which actions we may use, and read our user's lines in manager.conf"
    if allowed is None and boxes is None:
        return skipped(check, tried, "the PBX tells neither; a missing right shows in the checks that need it")
    known = {action.lower() for action in allowed or ()}
    lacking = {right for action, right in rights.NEEDED.items() if allowed is not None and action.lower() not in known}
    harmful = {right for action, right in rights.RISKY.items() if action.lower() in known}
    tick = {f"write {right}" for right in lacking}
    clear = {f"write {right}" for right in harmful}
    idle: set[str] = set()
    if boxes is not None:
        tick |= {f"read {right}" for right in READ - boxes.read - {"all"} if "all" not in boxes.read}
        idle = {f"read {right}" for right in boxes.read - READ} | {f"write {right}" for right in boxes.write - WRITE}
        if allowed is None:
            tick |= {f"write {right}" for right in WRITE - boxes.write if "all" not in boxes.write}
            clear |= {f"write {right}" for right in boxes.write & (HARMFUL | {"all"})}
        idle -= clear
    found, mend = [], []
    if tick:
        found.append(f"missing: {_listed(tick)}")
        mend.append(f"tick {_listed(tick)}")
    if clear:
        found.append(f"too many: {_listed(clear)}, with which whoever reads the password can run programs on the PBX")
        mend.append(f"clear {_listed(clear)}")
    if idle:
        found.append(f"not needed: {_listed(idle)}")
        mend.append(f"clear {_listed(idle)}")
    if not found:
        unseen = (
            "" if boxes is not None else "; read rights cannot be looked up on this PBX, the next check proves them"
        )
        return ok(check, tried, f"all that are needed and none too many{unseen}")
    mended = f"{PAGE}: {'; '.join(mend)}; save, and start the adapter anew"
    serious = clear or tick - {"read user"}
    return (fail if serious else warn)(check, tried, "; ".join(found), mended)


async def events(scene: Scene) -> Finding:
    """Read rights and event filters, by what really arrives."""
    check = "pbx.events"
    tried = "waited for FullyBooted, and had a call placed that leads nowhere and rings nobody"
    starting = await _starting(scene)
    if starting is not None:
        scene.stop = "the PBX is still starting"
        return fail(check, tried, starting, "wait until it has started, and look again")
    booted = any(event.name == "FullyBooted" for event in scene.events)
    call_id = str(uuid.uuid4())
    try:
        refused = await questions.call_nobody(scene.session, scene.timings, call_id)
    except Denied as error:
        return skipped(check, tried, f"it cannot be tried: {error}")
    if refused is not None:
        return skipped(check, tried, f"the PBX refused the call to nobody: {refused}")
    await _heard(scene, call_id)
    heard = frozenset(event.name for event in scene.events if _about(event, call_id))
    try:
        filters = await _filters(scene)
    except Denied:
        filters = None
    return judge_events(
        booted=booted,
        heard=heard,
        filters=filters,
        timed=_timed(scene.events, call_id),
        ticked=scene.hears_calls,
    )


def judge_events(
    *,
    booted: bool,
    heard: frozenset[str],
    filters: tuple[str, ...] | None,
    timed: bool = True,
    ticked: bool | None = None,
) -> Finding:
    """What is missing, and which box or filter does it. `ticked`: is read `call`? None where that, or `filters`, cannot
    be read."""
    check = "pbx.events"
    tried = "waited for FullyBooted, and had a call placed that leads nowhere and rings nobody"
    found, mend = [], []
    if not booted:
        found.append("no FullyBooted came: the read right system is missing; the adapter would wait for it for ever")
        mend.append("tick read system")
    missing = NEEDED_EVENTS - heard
    if missing == NEEDED_EVENTS:
        why, what = DEAF[ticked]
        found.append(f"not one event about a call came: {why}")
        mend.append(what)
    elif missing:
        found.append(f"{_listed(missing)} did not come, others did: an event filter hides them")
        mend.append(f"take away the filter that hides {_listed(missing)}")
    elif not timed:
        found.append("events carry no Timestamp (timestampevents is off): times of calls would be ours, not the PBX's")
        mend.append("switch timestampevents on in manager.conf, as MikoPBX has it")
    if found:
        return fail(check, tried, "; ".join(found), f"{PAGE}: {'; '.join(mend)}; save, and start the adapter anew")
    told = f"{_listed(NEEDED_EVENTS | {'FullyBooted'})} came"
    lacking = [line for line in FILTERS if filters is not None and not _filtered(line, filters)]
    if lacking:
        return warn(
            check,
            tried,
            f"{told}, but no filter keeps out what nobody needs: {', '.join(line[8:] for line in lacking)}",
            f"{PAGE}: one filter on each line: {' and '.join(FILTERS)}",
        )
    return ok(check, tried, told)


def _filtered(line: str, filters: Iterable[str]) -> bool:
    return line.replace(" ", "") in {text.replace(" ", "") for text in filters}


async def _starting(scene: Scene) -> str | None:
    try:
        await scene.session.until_booted()
    except SessionFailed as failure:
        if scene.session.lost.done():
            raise LinkDown(failure.problem) from None
        # Getvar works before the dialplan is there; MikoPBX cannot run without this context.
        try:
            there = await scene.getvar("DIALPLAN_EXISTS(all_peers,failed,1)") == "1"
        except Denied:
            return None
        if not there:
            return "it let us in, but has not finished its start: no FullyBooted, and the dialplan is not there"
    return None


async def _heard(scene: Scene, call_id: str) -> None:
    try:
        async with asyncio.timeout(scene.timings.first_event):
            while not _whole(scene.events, call_id):  # noqa: ASYNC110 - the list is filled by the session
                await asyncio.sleep(0.01)
    except TimeoutError:
        # Events come in order with answers: what was said before is here by now.
        await scene.session.ask("Ping", seconds=scene.timings.answer)


def _whole(events: Iterable[AmiEvent], call_id: str) -> bool:
    names = [event.name for event in events if _about(event, call_id)]
    return names.count("Hangup") >= 2 and set(names) >= NEEDED_EVENTS


def _about(event: AmiEvent, call_id: str) -> bool:
    return call_id in {event.get("Linkedid"), event.get("Uniqueid")}


def _timed(events: Iterable[AmiEvent], call_id: str) -> bool:
    return all(event.at is not None for event in events if _about(event, call_id))


async def _filters(scene: Scene) -> tuple[str, ...] | None:
    lines: list[str] = []
    for index in range(MOST_FILTERS):
        line = await scene.configured("manager.conf", scene.config.username, "eventfilter", index=index)
        if line is None:
            break
        lines.append(line)
    return tuple(lines) or None


def _listed(names: Iterable[str]) -> str:
    *first, last = sorted(names)
    return f"{', '.join(first)} and {last}" if first else last
