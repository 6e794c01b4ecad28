"""No claim while the AI is not there, the trunk is down, or events about calls are kept from us."""

from dataclasses import replace

import pytest

from adapter import clock
from adapter.core.model import Form
from adapter.pbx import Accepted, NotSent, PbxConfig
from adapter.pbx.guards import ai_problem, trunk_problem
from adapter.pbx.link import STALE
from tests.pbx.helpers import FAST, config, linked, order, running, until
from tests.support.ami_server import TRUNK, AmiServer, call_event, event

APPLICATION = "DIALPLAN_EXISTS(applications,999,1)"
STATE = f"DEVICE_STATE(PJSIP/{TRUNK})"


class Pbx:
    """Values of Getvar, and what was asked."""

    def __init__(self, **values: str) -> None:
        self.values = values
        self.asked: list[str] = []

    async def __call__(self, name: str) -> str:
        self.asked.append(name)
        return self.values.get(name, "")


def plain(**changed: str | Form) -> PbxConfig:
    return config(AmiServer(username="u", password="p"), **changed)


@pytest.mark.parametrize("context", ["applications", "internal"])
async def test_ai_extension_may_stand_in_either_context(context: str) -> None:
    assert await ai_problem(Pbx(**{f"DIALPLAN_EXISTS({context},999,1)": "1"}), plain()) is None


async def test_ai_extension_in_the_catch_all_context_proves_nothing() -> None:
    pbx = Pbx(**{"DIALPLAN_EXISTS(all_peers,999,1)": "1", "DIALPLAN_EXISTS(outgoing,999,1)": "1"})
    problem = await ai_problem(pbx, plain())
    assert problem is not None
    assert "999 does not exist" in problem
    assert pbx.asked == ["DIALPLAN_EXISTS(applications,999,1)", "DIALPLAN_EXISTS(internal,999,1)"]


async def test_another_context_is_looked_at_itself() -> None:
    pbx = Pbx(**{"DIALPLAN_EXISTS(ai-handlers,999,1)": "1"})
    assert await ai_problem(pbx, plain(ai_context="ai-handlers")) is None
    assert await ai_problem(Pbx(**{APPLICATION: "1"}), plain(ai_context="ai-handlers")) is not None


@pytest.mark.parametrize("state", ["NOT_INUSE", "INUSE", "BUSY", "UNKNOWN"])
async def test_a_trunk_that_can_be_tried(state: str) -> None:
    assert await trunk_problem(Pbx(**{f"PJSIP_ENDPOINT({TRUNK},aors)": TRUNK, STATE: state}), plain()) is None


@pytest.mark.parametrize(
    ("contacts", "status", "words"),
    [(f"{TRUNK}@@1", "Unreachable", "contact Unreachable"), ("", "", "no contact"), ("x", "", "contact unknown")],
)
async def test_a_trunk_that_is_down_says_why(contacts: str, status: str, words: str) -> None:
    pbx = Pbx(
        **{
            f"PJSIP_ENDPOINT({TRUNK},aors)": TRUNK,
            STATE: "UNAVAILABLE",
            f"PJSIP_AOR({TRUNK},contact)": contacts,
            f"PJSIP_CONTACT({contacts},status)": status,
        }
    )
    problem = await trunk_problem(pbx, plain())
    assert problem is not None
    assert words in problem
    assert TRUNK in problem


async def test_an_unknown_trunk_says_where_its_id_stands() -> None:
    problem = await trunk_problem(Pbx(**{STATE: "NOT_INUSE"}), plain())
    assert problem is not None
    assert f"no provider {TRUNK}" in problem


async def test_form_route_has_no_trunk_to_look_at() -> None:
    pbx = Pbx()
    assert await trunk_problem(pbx, plain(form=Form.ROUTE, trunk="")) is None
    assert pbx.asked == []


async def test_the_link_is_not_ready_before_the_guards_have_looked() -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.delay["Getvar"] = 0.2
        async with running(pbx) as link:
            await until(lambda: link.status.connected)
            assert not link.status.ready
            assert isinstance(await link.originate(order()), NotSent)
            await until(lambda: link.status.ready)


async def test_a_guard_that_changes_its_mind_is_heard() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.variables[STATE] = "UNAVAILABLE"
        await until(lambda: link.status.trunk_problem is not None)
        assert not link.status.ready
        assert link.status.connected
        assert "contact Reachable" in (link.status.problem or "")
        pbx.variables[STATE] = "NOT_INUSE"
        await until(lambda: link.status.ready)


async def test_both_problems_are_told() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.variables[STATE] = "INVALID"
        pbx.variables[APPLICATION] = "0"
        await until(lambda: link.status.ai_problem is not None and link.status.trunk_problem is not None)
        assert "AI extension 999" in (link.status.problem or "")
        assert f"trunk {TRUNK} is down" in (link.status.problem or "")


@pytest.mark.parametrize(
    "told",
    [
        event("Reload", ("Privilege", "system,all"), ("Module", "All"), ("Status", "0")),
        event("ContactStatus", ("Privilege", "system,all"), ("AOR", TRUNK), ("ContactStatus", "Unreachable")),
    ],
    ids=["reload", "contact"],
)
async def test_guards_look_at_once_when_the_pbx_says_that_something_changed(told: bytes) -> None:
    async with AmiServer.started() as pbx, linked(pbx, guard_seconds=60) as link:
        pbx.variables[APPLICATION] = "0"
        await pbx.emit(told)
        await until(lambda: link.status.ai_problem is not None)


async def test_what_may_not_be_read_counts_as_not_there() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.faults.denied.add("Getvar")
        await until(lambda: not link.status.ready)
        assert "may not use Getvar" in (link.status.problem or "")
        assert "write right 'reporting'" in (link.status.problem or "")


async def test_what_is_not_answered_counts_as_not_there() -> None:
    async with AmiServer.started() as pbx, linked(pbx, timings=replace(FAST, answer=0.05)) as link:
        pbx.faults.mute.add("Getvar")
        await until(lambda: "did not answer Getvar" in (link.status.problem or ""))


async def test_silence_after_an_accepted_call_stops_the_dialing() -> None:
    async with AmiServer.started() as pbx, linked(pbx, hears=False) as link:
        assert await link.originate(order()) == Accepted()
        await until(lambda: "read right 'call'" in (link.status.problem or ""))
        assert isinstance(await link.originate(order()), NotSent)
        # Nobody is called just to find out again after a reconnect.
        pbx.connections[-1].reset()
        await until(lambda: link.status.session == 2 and link.status.connected)
        await pbx.wait_for("Ping", len(pbx.seen("Ping")) + 2)
        assert not link.status.ready
        await pbx.emit(call_event("Newchannel", "somebody-else"))
        await until(lambda: link.status.ready)


async def test_silence_because_the_session_was_lost_proves_nothing() -> None:
    async with AmiServer.started() as pbx, linked(pbx, timings=replace(FAST, first_event=0.15), hears=False) as link:
        assert await link.originate(order()) == Accepted()
        pbx.connections[-1].reset()
        await until(lambda: link.status.session == 2 and link.status.ready)
        await pbx.wait_for("Ping", len(pbx.seen("Ping")) + 2)
        assert link.status.ready


async def test_one_call_at_most_goes_out_before_the_pbx_was_heard() -> None:
    """Without the read right 'call' a stream of calls would go out unheard until the silence is noticed."""
    async with (
        AmiServer.started() as pbx,
        linked(pbx, timings=replace(FAST, first_event=5.0), hears=False) as link,
    ):
        wish = order()
        assert await link.originate(wish) == Accepted()
        assert not link.status.ready
        assert isinstance(await link.originate(order()), NotSent)
        await pbx.emit(call_event("Newchannel", wish.call_id))
        await until(lambda: link.status.ready)
        assert await link.originate(order()) == Accepted()


async def test_a_heard_call_ends_the_suspicion() -> None:
    async with AmiServer.started() as pbx, linked(pbx, hears=False) as link:
        wish = order()
        await link.originate(wish)
        await pbx.emit(call_event("Newchannel", wish.call_id))
        await pbx.wait_for("Ping", len(pbx.seen("Ping")) + 2)
        assert link.status.ready
        assert await link.originate(order()) == Accepted()
        await pbx.wait_for("Ping", len(pbx.seen("Ping")) + 2)
        assert link.status.ready


ROUTE = "GosubIf", '$["${REGEX("^60" ${EXTEN})}" == "1"]?SIP-TRUNK-0A0B0C0D-1-outgoing,${EXTEN},1'
SECOND = "GosubIf", '$["${REGEX("^601" ${EXTEN})}" == "1"]?SIP-TRUNK-0000000B-2-outgoing,${EXTEN},1'
RELOAD = event("Reload", ("Privilege", "system,all"), ("Module", "All"), ("Status", "0"))


async def test_form_route_reads_the_routes_at_login_and_when_they_change() -> None:
    async with AmiServer.started() as pbx:
        pbx.dialplan["outgoing"] = [("Ringing", ""), ROUTE]
        async with linked(pbx, form=Form.ROUTE, trunk="", guard_seconds=60) as link:
            assert link.status.ready
            assert link.routes is not None
            assert link.routes.refusal("60123456700") is None
            pbx.dialplan["outgoing"].append(SECOND)
            await pbx.emit(RELOAD)
            await until(lambda: link.routes is not None and link.routes.refusal("60123456700") is not None)
            assert link.status.ready, "other numbers go on"


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (None, "no outgoing route"),
        ([("Ringing", "")], "no outgoing route"),
        ([("GosubIf", "${FOO}?SIP-TRUNK-0A0B0C0D-1-outgoing,${EXTEN},1")], "not known"),
    ],
)
async def test_form_route_calls_nobody_by_routes_that_cannot_be_judged(
    steps: list[tuple[str, str]] | None, words: str
) -> None:
    async with AmiServer.started() as pbx:
        pbx.dialplan["outgoing"] = [ROUTE]
        async with linked(pbx, form=Form.ROUTE, trunk="", guard_seconds=60) as link:
            pbx.dialplan.clear()
            if steps is not None:
                pbx.dialplan["outgoing"] = steps
            await pbx.emit(RELOAD)
            await until(lambda: not link.status.ready)
            assert words in (link.status.problem or "")
            assert "DIAL_FORM=trunk" in (link.status.problem or ""), "tells what to do"
            assert link.routes is None
            assert isinstance(await link.originate(order()), NotSent)


async def test_form_route_without_the_right_to_look_calls_nobody() -> None:
    async with AmiServer.started() as pbx:
        pbx.dialplan["outgoing"] = [ROUTE]
        async with linked(pbx, form=Form.ROUTE, trunk="", guard_seconds=60) as link:
            pbx.faults.denied.add("ShowDialPlan")
            await pbx.emit(RELOAD)
            await until(lambda: not link.status.ready)
            assert "outgoing routes cannot be looked at" in (link.status.problem or "")


async def test_after_a_sleep_nothing_is_placed_until_the_guards_have_looked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loop's clock stands still in a sleep, so the next look would come up to `guard_seconds` after it."""
    async with AmiServer.started() as pbx, linked(pbx, guard_seconds=60) as link:
        pbx.variables[APPLICATION] = "0"
        awake = clock.boot
        monkeypatch.setattr(clock, "boot", lambda: awake() + 3600.0)
        assert await link.originate(order()) == NotSent(STALE)
        await until(lambda: "does not exist" in (link.status.problem or ""))
        assert pbx.originates() == []
