"""The PBX itself: its version, its clock, its room for sound."""

import re

from adapter.doctor.findings import Finding, fail, ok, skipped, warn
from adapter.doctor.pbx.ai import streams
from adapter.doctor.pbx.scene import Scene
from adapter.pbx import LinkDown, questions

KNOWN = range(16, 23)
"""Asterisk releases whose events we know: calls were followed on 16.28 and 22.10, and none between them is younger or
older than these. MikoPBX of 2024 and later has 22."""

SKEW_SECONDS = 2.0
"""NTP keeps two machines within a tenth of this; times in call_logs are whole seconds."""

PINGS = 3
"""The fastest of them tells best: half of its way is the doubt."""

PORTS_OF_STREAM = 2
"""RTP and RTCP."""

RTP_DEFAULTS = (5000, 31000)
"""Asterisk's own, where rtp.conf names none."""


async def version(scene: Scene) -> Finding:
    """Is it an Asterisk that we know?"""
    return judge_version(await questions.version(scene.session, scene.timings))


def judge_version(told: str) -> Finding:
    """The words of CoreSettings, such as `22.10.1` or `Asterisk 16.28.0`."""
    check, tried = "pbx.version", "asked for the version (CoreSettings)"
    found = re.search(r"(\d+)\.\d+", told)
    if found is None:
        mend = "nothing that must be done; place one call to your own phone and look at its outcome"
        return warn(check, tried, f"it does not tell a version that can be read: {told!r}", mend)
    release, named = int(found[1]), f"Asterisk {told.removeprefix('Asterisk ')}"
    if release in KNOWN:
        return ok(check, tried, named)
    if release < KNOWN.start:
        mend = "update MikoPBX: its events may differ, and outcomes may be wrong"
        return warn(check, tried, f"{named}, older than all that were tried", mend)
    mend = "look whether there is a newer adapter; place one call to your own phone and look at its outcome"
    return warn(check, tried, f"{named}, newer than all that were tried", mend)


async def clock(scene: Scene) -> Finding:
    """The PBX's clock against ours."""
    measured = []
    for _ in range(PINGS):
        sent = scene.now()
        told = await questions.pbx_time(scene.session, scene.timings)
        came = scene.now()
        if told is not None:
            measured.append((came - sent, told - (sent + came) / 2))
    return judge_clock(min(measured)[1] if measured else None)


def judge_clock(skew: float | None) -> Finding:
    """`skew`: seconds that the PBX is ahead of us."""
    check, tried = "pbx.clock", "held the time in its answers (Ping) against the clock of this machine"
    if skew is None:
        return skipped(check, tried, "its answers carry no time")
    if abs(skew) <= SKEW_SECONDS:
        return ok(check, tried, f"they agree within {max(abs(skew), 0.1):.1f} s")
    way = "ahead of" if skew > 0 else "behind"
    return warn(
        check,
        tried,
        f"the PBX is {abs(skew):.1f} s {way} this machine. When a call began, rang and was answered is told by the PBX"
        " and stands so in call_logs, beside times of the database; lengths of calls are right all the same",
        "let both machines set their clocks by NTP (MikoPBX: General settings, Date and time)",
    )


async def rtp(scene: Scene) -> Finding:
    """Ports for sound against MAX_CALLS."""
    first = await scene.configured("rtp.conf", "general", "rtpstart")
    last = await scene.configured("rtp.conf", "general", "rtpend")
    if first is None and last is None and not await _files_readable(scene):
        return judge_rtp(None, scene.max_calls)
    try:
        legs = streams(await scene.ai_steps())
    except LinkDown:
        legs = None
    start, end = (_port(text, default) for text, default in zip((first, last), RTP_DEFAULTS, strict=True))
    return judge_rtp((start, end) if start and end else None, scene.max_calls, legs=legs)


def judge_rtp(ports: tuple[int, int] | None, max_calls: int, *, legs: int | None = None) -> Finding:
    """`ports`: the first and the last; `legs`: streams of a call. None where they cannot be read."""
    check, tried = "pbx.rtp", f"held the RTP port range (rtp.conf) against MAX_CALLS={max_calls}"
    if ports is None:
        told = (
            "rtp.conf cannot be read on this PBX (it lacks function AST_CONFIG). Look at General settings, SIP, RTP"
            f" ports: {max_calls} calls need {_needed(max_calls, 1)} ports, twice as many if the AI is a SIP client"
        )
        return skipped(check, tried, told)
    first, last = ports
    room = max(0, last - first + 1) // PORTS_OF_STREAM
    told = f"{first} to {last}: {room} streams at once"
    least, most = legs or 1, legs or 2
    if room < least * max_calls:
        return fail(
            check,
            tried,
            f"{told}; a call needs {least}, and calls beyond that fail",
            _wider(first, room, max_calls, least),
        )
    if room < most * max_calls:
        mend = f"nothing while the AI is a program (AGI, AudioSocket); else {_wider(first, room, max_calls, most)}"
        doubt = "enough for one a call, not for two, which an AI that is a SIP client takes"
        return warn(check, tried, f"{told}; {doubt}", mend)
    return ok(check, tried, f"{told}; enough for {most} a call")


def _wider(first: int, room: int, calls: int, legs: int) -> str:
    return (
        f"General settings, SIP: RTP ports {first} to {first + _needed(calls, legs) - 1} (open them in router and"
        " firewall, too; Asterisk is restarted, so while nobody talks), or"
        f" MAX_CALLS={max(1, room // legs)}"
    )


def _needed(calls: int, legs: int) -> int:
    return calls * legs * PORTS_OF_STREAM


def _port(text: str | None, default: int) -> int | None:
    if text is None:
        return default
    return int(text) if text.isdecimal() and 0 < int(text) <= 0xFFFF else None


async def _files_readable(scene: Scene) -> bool:
    # Every Asterisk with our AMI user in it has this line.
    return await scene.configured("manager.conf", "general", "enabled") is not None
