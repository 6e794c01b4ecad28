"""The way to the carrier: is the provider there and up, registered, with the right codecs, keys and caller id?

With several trunks (`call_trunks`) the same is asked of each, and with form route of every provider that an outgoing
route leads to.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from adapter.doctor.findings import Finding, Verdict, fail, ok, skipped, warn
from adapter.doctor.pbx.scene import Scene
from adapter.pbx import questions
from adapter.pbx.guards import provider_problem
from adapter.pbx.questions import Registration

PROVIDER = "Telephony providers, this provider"
CODECS = "General settings, Audio/Video codecs"

TELEPHONE = ("alaw", "ulaw")
"""The telephone network's own sound: nothing is lost on the way to speech recognition."""

LICENSED = "g729"

NOT_SOUND = frozenset(
    {"h261", "h263", "h263p", "h264", "h265", "mpeg4", "vp8", "vp9", "jpeg", "png", "red", "t140", "t38", "none"}
)
"""Video, pictures and text in the list of codecs; their place says nothing about sound."""

DTMF = "rfc4733"

REGISTERED = "Registered"

YES = frozenset({"true", "yes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What the PBX says about one provider, by Getvar (PJSIPShowEndpoints is denied with our rights)."""

    name: str
    problem: str | None = None
    """Words of the daemon's guard: not there, or down."""

    there: bool = True
    state: str = ""
    """DEVICE_STATE."""

    looked_after: bool = True
    """MikoPBX asks it again and again whether it is there (qualify)."""

    codecs: tuple[str, ...] = ()
    dtmf: str = ""
    own_from: bool = False
    """The From header is always the account's own name (from_user)."""

    tells_caller: bool = False
    """The caller id goes out in a header beside From (P-Asserted-Identity or Remote-Party-ID)."""


async def providers(scene: Scene) -> tuple[Provider, ...]:
    """Each provider that calls go through, looked at once."""
    return tuple([await _provider(scene, name) for name in await scene.trunks()])


async def _provider(scene: Scene, name: str) -> Provider:
    async def option(of: str) -> str:
        return await scene.getvar(f"PJSIP_ENDPOINT({name},{of})")

    named = "call_trunks.trunk" if name in scene.ways else "TRUNK"
    problem = await provider_problem(scene.getvar, name, named=named)
    aors = [aor for aor in (await option("aors")).split(",") if aor]
    if not aors:
        return Provider(name=name, problem=problem, there=False)
    intervals = [await scene.getvar(f"PJSIP_AOR({aor},qualify_frequency)") for aor in aors]
    return Provider(
        name=name,
        problem=problem,
        state=await scene.getvar(f"DEVICE_STATE(PJSIP/{name})"),
        looked_after=any(interval.strip("0.") for interval in intervals),
        codecs=codecs_of(await option("allow")),
        dtmf=await option("dtmf_mode"),
        own_from=bool(await option("from_user")),
        tells_caller=bool({await option("send_pai"), await option("send_rpid")} & YES),
    )


def codecs_of(told: str) -> tuple[str, ...]:
    """`(alaw|ulaw)`, in order."""
    return tuple(name for name in told.strip("()").split("|") if name)


async def trunk(scene: Scene) -> Finding:
    """There, and up?"""
    return _each("pbx.trunk", "asked for provider, contact and device state", await providers(scene), judge_trunk)


def judge_trunk(check: str, tried: str, provider: Provider) -> Finding:
    """The daemon's guard, and what it does not mind."""
    if provider.problem:
        mend = f"{PROVIDER}: is it on, is its id right, are server address and port right, does the carrier answer?"
        return fail(check, tried, provider.problem, mend)
    if not provider.looked_after:
        told = (
            f"{provider.name} is there, but MikoPBX does not look whether the carrier answers: calls into a dead"
            " carrier hang for 32 s and look like phones that nobody picks up"
        )
        return warn(check, tried, told, f"{PROVIDER}: NAT session support on, every 60 s or less")
    return ok(check, tried, f"{provider.name} is there and answers ({provider.state})")


async def registration(scene: Scene) -> Finding:
    """Registered at the carrier?"""
    found = await questions.registrations(scene.session, scene.timings)
    return _each(
        "pbx.registration",
        "asked for the outgoing registrations (PJSIPShowRegistrationsOutbound)",
        await providers(scene),
        lambda check, tried, provider: judge_registration(check, tried, provider, found),
    )


def judge_registration(check: str, tried: str, provider: Provider, found: Iterable[Registration]) -> Finding:
    """MikoPBX names the registration of a provider after it."""
    own = [one for one in found if one.name in {provider.name, f"REG-{provider.name}"} or one.endpoint == provider.name]
    if not own:
        return ok(
            check, tried, f"{provider.name} does not register anywhere: right if the carrier knows it by its address"
        )
    for one in own:
        if one.status != REGISTERED:
            wrong = (
                "login or password, or the account registers elsewhere"
                if one.status == "Rejected"
                else ("server address or port, or the way there; MikoPBX may have been started a minute ago")
            )
            return fail(
                check,
                tried,
                f"{provider.name} is {one.status} at {one.server}: {wrong}",
                f"correct it in {PROVIDER}, and save, which asks the carrier at once",
            )
    return ok(check, tried, f"{provider.name} is registered at {own[0].server}")


async def codecs(scene: Scene) -> Finding:
    """A-law and µ-law first?"""
    found = await providers(scene)
    has = None
    if any(LICENSED in provider.codecs for provider in found):
        # An Asterisk without func_module, such as MikoPBX's, answers with nothing.
        has = {"1": True, "0": False}.get(await scene.getvar(f"IFMODULE(codec_{LICENSED}.so)"))
    return _each(
        "pbx.trunk.codecs",
        "asked which codecs it offers, in which order",
        found,
        lambda check, tried, provider: judge_codecs(check, tried, provider, module=has),
    )


def judge_codecs(check: str, tried: str, provider: Provider, *, module: bool | None) -> Finding:
    """`module`: is there one for G.729? None: that cannot be seen."""
    sound = [codec for codec in provider.codecs if codec not in NOT_SOUND]
    told = f"{provider.name} offers {', '.join(sound) or 'no codec'}"
    wrong, mend = [], []
    if not set(TELEPHONE) & set(sound):
        wrong.append("neither A-law nor µ-law: most carriers take one of them only")
    elif sound[0] not in TELEPHONE:
        wrong.append(f"{sound[0]} comes first: what the AI hears is compressed, or turned from one form into another")
    if wrong:
        mend.append(f"{CODECS}: A-law and µ-law first and second")
    if LICENSED in sound and module is not True:
        there = (
            "there is no codec module for it" if module is False else "whether there is a codec module cannot be seen"
        )
        wrong.append(f"{LICENSED} is offered, and {there}: a carrier that chooses it would be connected with silence")
        mend.append(f"{CODECS}: {LICENSED} off")
    if wrong:
        return warn(check, tried, f"{told}. {'; '.join(wrong)}", "; ".join(mend))
    return ok(check, tried, told)


async def dtmf(scene: Scene) -> Finding:
    """Keys beside the sound?"""
    return _each("pbx.trunk.dtmf", "asked how it sends keys", await providers(scene), judge_dtmf)


def judge_dtmf(check: str, tried: str, provider: Provider) -> Finding:
    """RFC 4733, in each call."""
    if provider.dtmf == DTMF:
        return ok(check, tried, f"{provider.name}: {DTMF}")
    told = f"{provider.name}: {provider.dtmf or 'unknown'}; pressed keys may be lost or doubled, or left to each call"
    return warn(check, tried, told, f"{PROVIDER}: DTMF mode {DTMF}")


async def caller_id(scene: Scene) -> Finding:
    """Would a CALLER_ID be sent at all?"""
    check, tried = "pbx.caller_id", "looked what the provider writes into From"
    if not scene.caller_id:
        return ok(check, "read CALLER_ID", "it is not set: the carrier shows what it has on file")
    return _each(check, tried, await providers(scene), judge_caller_id)


def judge_caller_id(check: str, tried: str, provider: Provider) -> Finding:
    """Where a CALLER_ID is set."""
    if provider.own_from and not provider.tells_caller:
        told = f"CALLER_ID has no effect: {provider.name} always writes its account's own name into From"
        mend = (
            f"{PROVIDER}: Disable use of fromuser field on, if the carrier lets other numbers through; or leave"
            " CALLER_ID empty, so that nobody relies on it"
        )
        return warn(check, tried, told, mend)
    beside = "in a header beside From" if provider.own_from else "in From"
    return ok(check, tried, f"{provider.name} sends it {beside}; whether the carrier lets it through only a call shows")


Judge = Callable[[str, str, Provider], Finding]

WORST = (Verdict.FAIL, Verdict.WARN, Verdict.SKIPPED, Verdict.OK)


def _each(check: str, tried: str, found: tuple[Provider, ...], judge: Judge) -> Finding:
    """One finding about all providers, as bad as the worst of them."""
    if not found:
        return skipped(check, tried, "calls go by outgoing routes; none leads to a provider, or they cannot be judged")
    if check != "pbx.trunk":
        found = tuple(provider for provider in found if provider.there)
        if not found:
            return skipped(check, tried, "the provider is not there (pbx.trunk)")
    parts = [judge(check, tried, provider) for provider in found]
    worst = min((part.verdict for part in parts), key=WORST.index)
    return Finding(
        check=check,
        verdict=worst,
        tried=tried,
        found="; ".join(dict.fromkeys(part.found for part in parts)),
        mend="; ".join(dict.fromkeys(part.mend for part in parts if part.mend)),
    )
