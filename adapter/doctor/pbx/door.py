"""Can we get in? The address, the port, the login."""

import asyncio
import contextlib
import socket
import time

from adapter.doctor.findings import Finding, fail, ok
from adapter.doctor.pbx.scene import Scene
from adapter.pbx.networks import clear_text_problem
from adapter.pbx.session import Session, SessionFailed

GREETING = b"Asterisk Call Manager/"

LINE = 200
"""Bytes of a first line; more is no greeting."""

FILTERS = (
    "on the PBX: is it running, is the firewall's rule for this machine ticked AMI, and has fail2ban not locked this"
    " machine out (ten minutes after 20 wrong passwords)? On the way: VPN or tunnel"
)


async def address(scene: Scene) -> Finding:
    """Is the way private? AMI is clear text."""
    check, host = "pbx.address", scene.config.host
    tried = f"looked up MIKOPBX_HOST {host}"
    try:
        async with asyncio.timeout(scene.timings.connect):
            places = await asyncio.get_running_loop().getaddrinfo(host, scene.config.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        reason = f"no answer within {scene.timings.connect:g} s"
    except OSError as error:
        reason = error.strerror or str(error)
    except UnicodeError:
        reason = "no host can have this name"
    else:
        reason = ""
    if reason:
        scene.stop = "the address of the PBX is not known"
        return fail(check, tried, f"this name cannot be resolved ({reason})", "correct MIKOPBX_HOST, or the DNS here")
    found = list(dict.fromkeys(str(place[4][0]) for place in places))
    if problem := clear_text_problem(host, found):
        scene.stop = "the way to the PBX is not private; no connection was made"
        mend = "set MIKOPBX_HOST to an address in a VPN or a private network, or tunnel (docs/guide/pbx.md)"
        return fail(check, tried, problem, mend)
    return ok(check, tried, f"private: {', '.join(found)}")


async def reach(scene: Scene) -> Finding:
    """Does an AMI answer there? Nothing is written, so nothing is counted against us."""
    check, where = "pbx.reach", f"{scene.config.host}:{scene.config.port}"
    tried = f"connected to {where} and waited for the greeting"
    seconds = scene.timings.connect
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(scene.config.host, scene.config.port)
    except TimeoutError:
        scene.stop = "the PBX cannot be reached"
        return fail(check, tried, f"nothing answered within {seconds:g} s: packets are dropped on the way", FILTERS)
    except OSError as error:
        scene.stop = "the PBX cannot be reached"
        mend = "correct MIKOPBX_HOST and MIKOPBX_AMI_PORT; is the PBX running, and AMI on (General settings)?"
        return fail(check, tried, f"no connection: {error.strerror or error}", mend)
    try:
        first = await _first_line(reader, seconds)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if first is None:
        scene.stop = "the PBX accepts a connection and says nothing"
        told = f"the connection was accepted, and then came nothing within {seconds:g} s"
        return fail(
            check, tried, told, "the PBX may be frozen or overloaded: look at it; or another service has that port"
        )
    if not first:
        scene.stop = "the PBX closes the connection at once"
        told = "the connection was accepted and closed at once"
        mend = f"too many connections that do not log in, or a tunnel whose far end is closed; else {FILTERS}"
        return fail(check, tried, told, mend)
    if not first.startswith(GREETING):
        scene.stop = "what answers is no Asterisk Manager Interface"
        mend = "correct MIKOPBX_AMI_PORT (5038 unless it was changed) and MIKOPBX_HOST"
        return fail(check, tried, f"what answers there is no AMI: {first.decode('ascii', 'replace')!r}", mend)
    took = time.monotonic() - began
    told = f"{first.decode('ascii', 'replace').strip()}, within {took * 1000:.0f} ms"
    return ok(check, tried, told, seconds=took)


async def _first_line(reader: asyncio.StreamReader, seconds: float) -> bytes | None:
    """None: silence; empty: closed."""
    line = b""
    try:
        async with asyncio.timeout(seconds):
            while len(line) < LINE and not line.endswith(b"\n") and (more := await reader.read(LINE - len(line))):
                line += more
    except TimeoutError:
        return line or None
    except OSError:
        return line
    return line


async def login(scene: Scene) -> Finding:
    """Are we let in? Tried once: wrong logins are counted by fail2ban."""
    check, user = "pbx.login", scene.config.username
    tried = f"logged in as {user}"
    session = Session(0, scene.config, scene.timings, on_event=lambda _session, event: scene.events.append(event))
    began = time.monotonic()
    try:
        await session.enter()
    except SessionFailed as failure:
        session.end("not let in")
        scene.stop = "there was no login"
        if not failure.patient:
            return fail(check, tried, failure.problem, "look at the PBX: it is there, and it does not answer")
        told = (
            "refused: MIKOPBX_AMI_USERNAME or MIKOPBX_AMI_PASSWORD is wrong, or this machine's address is not in the"
            f" network filter of {user}"
        )
        mend = (
            "compare name and password with System, Asterisk Manager Interface (AMI); there, look whether the user's"
            " network filter permits this machine. The PBX gives the same answer to all three; do not try often, 20"
            " wrong ones lock this machine out"
        )
        return fail(check, tried, told, mend)
    scene.on_session = session
    took = time.monotonic() - began
    return ok(check, tried, f"let in, within {took * 1000:.0f} ms", seconds=took)
