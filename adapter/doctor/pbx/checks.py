"""All checks of the PBX side, in order; each bounded in time."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from adapter import clock
from adapter.core.model import Form, NumberStyle
from adapter.doctor.findings import Finding, skipped
from adapter.doctor.pbx import ai, box, door, routes, trunk, user
from adapter.doctor.pbx.scene import TIMINGS, Scene
from adapter.pbx import Denied, LinkDown, PbxConfig, Timings


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its stable name, and what looks."""

    name: str
    look: Callable[[Scene], Awaitable[Finding]]


CHECKS = (
    Check("pbx.address", door.address),
    Check("pbx.reach", door.reach),
    Check("pbx.login", door.login),
    Check("pbx.rights", user.user_rights),
    Check("pbx.events", user.events),
    Check("pbx.version", box.version),
    Check("pbx.clock", box.clock),
    Check("pbx.trunk", trunk.trunk),
    Check("pbx.registration", trunk.registration),
    Check("pbx.trunk.codecs", trunk.codecs),
    Check("pbx.trunk.dtmf", trunk.dtmf),
    Check("pbx.routes", routes.routes),
    Check("pbx.caller_id", trunk.caller_id),
    Check("pbx.rtp", box.rtp),
    Check("pbx.ai", ai.extension),
    Check("pbx.ai.number", ai.number),
)
"""In the order of docs/guide/checklist.md."""


async def look(
    config: PbxConfig,
    *,
    region: str,
    caller_id: str | None,
    number_style: NumberStyle,
    max_calls: int,
    ways: Mapping[str, Form] | None = None,
    now: Callable[[], float] = clock.wall,
    timings: Timings = TIMINGS,
) -> AsyncIterator[Finding]:
    """Each check once. Nobody rings. `now`: our clock, against which the PBX's is held. `ways`: trunks of
    `call_trunks`, id → form."""
    scene = Scene(
        config=config,
        region=region,
        caller_id=caller_id or "",
        number_style=number_style,
        max_calls=max_calls,
        now=now,
        timings=timings,
        ways=ways or {},
    )
    try:
        for check in CHECKS:
            if scene.stop is None:
                yield await _looked(check, scene)
            else:
                yield skipped(check.name, "nothing", scene.stop)
    finally:
        if scene.on_session is not None:
            scene.on_session.end("doctor has seen everything")


async def _looked(check: Check, scene: Scene) -> Finding:
    try:
        return await check.look(scene)
    except Denied as error:
        return skipped(check.name, "asked the PBX", str(error))
    except LinkDown as error:
        await _still_there(scene)
        return skipped(check.name, "asked the PBX", str(error))


async def _still_there(scene: Scene) -> None:
    """Stop where the PBX is gone or frozen: each further question would only wait as long."""
    try:
        await scene.session.ask("Ping", seconds=scene.timings.pong)
    except LinkDown as error:
        scene.stop = f"the PBX does not answer any more ({error})"
