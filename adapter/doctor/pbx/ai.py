"""Where an answered callee goes: is the AI extension there, and is its number a harmless one?"""

from collections.abc import Iterable, Mapping

from phonenumbers import shortnumberinfo

from adapter.core.routes import Step
from adapter.doctor.findings import Finding, fail, ok, warn
from adapter.doctor.pbx.scene import Scene
from adapter.pbx import LinkDown
from adapter.pbx.guards import ai_problem

EXTRA: Mapping[str, tuple[str, ...]] = {
    "audiosocket": ("app_audiosocket.so", "res_audiosocket.so"),
    "stasis": ("app_stasis.so",),
}
"""Application → modules that a stock MikoPBX does not load (Stasis only while ARI is on)."""

PROGRAMS = frozenset({"agi", "eagi", "audiosocket"})
SIP_CLIENTS = frozenset({"dial", "queue", "page"})
ELSEWHERE = frozenset({"goto", "gotoif", "gosub", "gosubif", "execif", "exec", "macro", "stasis"})
"""Applications behind which anything may be."""


async def extension(scene: Scene) -> Finding:
    """By the guard that the daemon obeys every ten seconds."""
    config = scene.config
    tried = f"asked whether extension {config.ai_extension} exists ({config.ai_context})"
    if problem := await ai_problem(scene.getvar, config):
        mend = "make the dialplan application (docs/guide/ai.md has the lines to paste), or correct AI_EXTENSION"
        return fail("pbx.ai", tried, problem, mend)
    try:
        steps = await scene.ai_steps()
        wanted = needed_modules(steps)
        loaded = await scene.modules() if wanted else None
    except LinkDown:
        return ok("pbx.ai", tried, "it is there")
    if loaded is not None and (lacking := wanted - loaded):
        told = (
            f"it is there, but modules.conf does not load {' and '.join(sorted(lacking))}, which its application needs:"
            " unless somebody loaded it by hand, every answered callee is dropped at once"
        )
        return warn("pbx.ai", tried, told, "System, Custom files, modules.conf: the lines of docs/guide/ai.md")
    does = ", ".join(step.application for step in steps)
    return ok("pbx.ai", tried, f"it is there: {does or 'what it does is not shown'}")


def needed_modules(steps: Iterable[Step]) -> frozenset[str]:
    """Modules for these steps, of those that MikoPBX does not load by itself."""
    names = {step.application.lower() for step in steps}
    return frozenset(module for name in names for module in EXTRA.get(name, ()))


def streams(steps: Iterable[Step]) -> int | None:
    """Streams of sound that a call takes with an extension like this: the callee's, and the AI's own if it is a SIP
    client. None: the steps lead elsewhere."""
    names = {step.application.lower() for step in steps}
    if names & SIP_CLIENTS:
        return 2
    return 1 if names & PROGRAMS and not names & ELSEWHERE else None


async def number(scene: Scene) -> Finding:
    """What would happen on the day on which the extension is gone?"""
    try:
        routes, unreadable = await scene.routes()
    except LinkDown as error:
        routes, unreadable = None, str(error)
    takers = routes.takers(scene.config.ai_extension) if routes else ()
    return judge_number(scene.config.ai_extension, scene.region, takers=takers, unreadable=unreadable)


def judge_number(extension: str, region: str, *, takers: tuple[str, ...], unreadable: str | None = None) -> Finding:
    """`takers`: outgoing routes that take it; `unreadable`: why that is not known."""
    check = "pbx.ai.number"
    tried = f"held {extension} against the emergency numbers of {region} and the outgoing routes"
    emergency = shortnumberinfo.connects_to_emergency_number(extension, region)
    found = []
    if emergency:
        found.append(f"{extension} is an emergency number in {region}, or begins like one")
    if takers:
        found.append(f"the outgoing route {' and '.join(takers)} takes it: without the application it would be dialed")
    if found:
        if unreadable:
            found.append(f"whether a route takes it is not known: {unreadable}")
        mend = (
            "make the application under a number that is nobody's, such as 7999, set AI_EXTENSION to it, and let"
            " outgoing routes ask for at least eight digits. If it must stay: never delete the application while the"
            " adapter runs"
        )
        return warn(check, tried, "; ".join(found), mend)
    if unreadable:
        mend = "see for yourself that no outgoing route takes it"
        return warn(check, tried, f"no emergency number; but the outgoing routes cannot be judged: {unreadable}", mend)
    return ok(check, tried, "no emergency number, and no outgoing route takes it")
