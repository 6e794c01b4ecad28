"""May a person be called right now? Looked at over AMI, fail closed: what cannot be read counts as not there."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from adapter.core.model import Form
from adapter.core.routes import CONTEXT, Routes, RoutesUnreadable, Step
from adapter.pbx.config import PbxConfig
from adapter.pbx.replies import LinkDown

GetVar = Callable[[str], Awaitable[str]]
ShowDialplan = Callable[[str], Awaitable[tuple[Step, ...]]]
"""Context → its steps."""

WHERE: Mapping[str, tuple[str, ...]] = {"all_peers": ("applications", "internal")}
"""Contexts in which the AI extension must exist. all_peers itself accepts anything: with the extension missing and a
catch-all route, an answered callee was bridged to the carrier's number 999, an emergency number."""

DOWN = frozenset({"UNAVAILABLE", "INVALID"})
"""Device states in which a call through a trunk fails at once (qualified and silent, no contact, no such endpoint)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What is wrong, in words for the operator; None = content."""

    ai: str | None
    trunks: Mapping[str, str | None]
    """Of each known trunk by its id, why no call goes through it; None: it can be tried. Form route: about the outgoing
    routes, which stand in for the trunk."""

    routes: Routes | None = None
    """If any way is of form route: the outgoing routes as they are now."""

    @property
    def trunk(self) -> str | None:
        """Why not one trunk can be used; None: at least one can. One that is down is a problem of that one only."""
        problems = [problem for problem in self.trunks.values() if problem is not None]
        return "; ".join(dict.fromkeys(problems)) if len(problems) == len(self.trunks) and problems else None


NOT_LOOKED = Guards(ai="AI extension and trunk have not been looked at yet", trunks={})


def own_ways(config: PbxConfig) -> Mapping[str, Form]:
    """The one way of the settings: id → form. Form route has no id."""
    return {"" if config.form is Form.ROUTE else config.trunk: config.form}


async def look(getvar: GetVar, show: ShowDialplan, config: PbxConfig, ways: Mapping[str, Form]) -> Guards:
    """All guards once. A link that is lost meanwhile shows as a problem too. `ways`: the known trunks, id → form."""
    ai = await _said(ai_problem(getvar, config))
    by_route, routes = (await read_routes(show)) if Form.ROUTE in ways.values() else (None, None)
    trunks = {
        trunk: by_route
        if form is Form.ROUTE
        else await _said(provider_problem(getvar, trunk, named=_named(config, trunk)))
        for trunk, form in ways.items()
    }
    return Guards(ai=ai, trunks=trunks, routes=routes)


def _named(config: PbxConfig, trunk: str) -> str:
    """Where the operator wrote this id."""
    return "TRUNK" if trunk == config.trunk else "call_trunks.trunk"


async def read_routes(show: ShowDialplan) -> tuple[str | None, Routes | None]:
    """The outgoing routes, or words about why nobody is called by them: a number that two of them match rings twice,
    so what cannot be read cannot be used."""
    try:
        return None, Routes.read(await show(CONTEXT))
    except LinkDown as error:
        return f"the outgoing routes cannot be looked at: {error}", None
    except RoutesUnreadable as error:
        return (
            f"the PBX's outgoing routes cannot be judged ({error}): nobody is called by route, since a number that two"
            " routes take would ring twice; use DIAL_FORM=trunk, or write the route as MikoPBX does"
        ), None


async def ai_problem(getvar: GetVar, config: PbxConfig) -> str | None:
    """None if an answered callee will find the AI."""
    contexts = WHERE.get(config.ai_context, (config.ai_context,))
    for context in contexts:
        if await getvar(f"DIALPLAN_EXISTS({context},{config.ai_extension},1)") == "1":
            return None
    return (
        f"AI extension {config.ai_extension} does not exist on the PBX (looked in {' and '.join(contexts)}):"
        " nobody is called until it does; create the dialplan application or correct AI_EXTENSION"
    )


async def trunk_problem(getvar: GetVar, config: PbxConfig) -> str | None:
    """None if a call through the trunk can be tried. Only form trunk names one."""
    if config.form is not Form.TRUNK:
        return None
    return await provider_problem(getvar, config.trunk)


async def provider_problem(getvar: GetVar, trunk: str, *, named: str = "TRUNK") -> str | None:
    """None if a call through this provider can be tried. `named`: where its id stands."""
    aors = await getvar(f"PJSIP_ENDPOINT({trunk},aors)")
    if not aors:
        return (
            f"the PBX has no provider {trunk}: {named} must be the id that the provider's page shows in its address"
            " (SIP-TRUNK-…), and the provider must be enabled"
        )
    state = await getvar(f"DEVICE_STATE(PJSIP/{trunk})")
    if state not in DOWN:
        return None
    details = [await _contacts(getvar, aor) for aor in aors.split(",")]
    return f"trunk {trunk} is down ({state}; {'; '.join(details)}): no calls until the provider answers again"


async def _contacts(getvar: GetVar, aor: str) -> str:
    contacts = [name for name in (await getvar(f"PJSIP_AOR({aor},contact)")).split(",") if name]
    if not contacts:
        return "no contact: not registered, or no host configured"
    return ", ".join([f"contact {await getvar(f'PJSIP_CONTACT({name},status)') or 'unknown'}" for name in contacts])


async def _said(problem: Awaitable[str | None]) -> str | None:
    try:
        return await problem
    except LinkDown as error:
        return f"cannot be looked at: {error}"
