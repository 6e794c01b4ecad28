"""No claim while the AI is not there, the trunk is down, or events about calls are kept from us."""

from dataclasses import replace

import pytest

from adapter import clock
from adapter.core.model import Form
from adapter.core.routes import Step
from adapter.pbx import Accepted, LinkDown, NotSent, PbxConfig
from adapter.pbx.guards import ai_problem, look, trunk_problem
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


OTHER, THIRD = "SIP-TRUNK-0000000B", "SIP-TRUNK-0000000C"
THREE = {TRUNK: Form.TRUNK, OTHER: Form.TRUNK, THIRD: Form.TRUNK}


def there(*trunks: str) -> dict[str, str]:
    """Variables of a PBX on which these providers are there and answer."""
    endpoints = {f"PJSIP_ENDPOINT({trunk},aors)": trunk for trunk in trunks}
    return {**endpoints, **{f"DEVICE_STATE(PJSIP/{trunk})": "NOT_INUSE" for trunk in trunks}}


async def no_dialplan(_context: str) -> tuple[Step, ...]:
    raise AssertionError("nobody asks for routes where no trunk goes by them")


async def test_one_trunk_of_three_is_down_and_the_ai_is_asked_for_once() -> None:
    pbx = Pbx(**{APPLICATION: "1", **there(TRUNK, OTHER), f"PJSIP_ENDPOINT({THIRD},aors)": THIRD})
    pbx.values[f"DEVICE_STATE(PJSIP/{THIRD})"] = "UNAVAILABLE"
    seen = await look(pbx, no_dialplan, plain(), THREE)
    assert pbx.asked.count(APPLICATION) == 1
    assert [seen.trunks[trunk] for trunk in (TRUNK, OTHER)] == [None, None]
    assert f"trunk {THIRD} is down" in (seen.trunks[THIRD] or "")
    assert seen.trunk is None


async def test_all_three_are_down_and_each_says_why() -> None:
    pbx = Pbx(**{APPLICATION: "1", f"PJSIP_ENDPOINT({OTHER},aors)": OTHER})
    pbx.values[f"DEVICE_STATE(PJSIP/{OTHER})"] = "INVALID"
    seen = await look(pbx, no_dialplan, plain(), THREE)
    assert seen.trunk == "; ".join(problem for problem in seen.trunks.values() if problem)
    assert f"no provider {TRUNK}: TRUNK must be" in seen.trunk
    assert f"trunk {OTHER} is down" in seen.trunk
    assert f"no provider {THIRD}: call_trunks.trunk must be" in seen.trunk


async def test_the_routes_are_read_for_those_that_go_by_them() -> None:
    async def show(_context: str) -> tuple[Step, ...]:
        return ()

    seen = await look(Pbx(**{APPLICATION: "1", **there(TRUNK)}), show, plain(), {TRUNK: Form.TRUNK, "r": Form.ROUTE})
    assert seen.trunks[TRUNK] is None
    assert "outgoing routes" in (seen.trunks["r"] or "")
    assert seen.trunk is None


async def test_a_link_that_is_lost_meanwhile_is_a_problem_of_every_trunk() -> None:
    async def lost(_name: str) -> str:
        raise LinkDown("gone")

    seen = await look(lost, no_dialplan, plain(), THREE)
    assert set(seen.trunks.values()) == {"cannot be looked at: gone"}
    assert seen.trunk == "cannot be looked at: gone"


async def test_the_link_is_ready_while_one_of_its_trunks_can_be_used() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.variables.update(there(OTHER))
        link.know({TRUNK: Form.TRUNK, OTHER: Form.TRUNK}, {"bad": "cannot be read"})
        await until(lambda: len(link.status.trunks) == 3)
        assert link.status.ready
        assert link.status.trunks == {TRUNK: None, OTHER: None, "bad": "cannot be read"}
        pbx.variables[STATE] = "UNAVAILABLE"
        await until(lambda: link.status.trunks[TRUNK] is not None)
        assert link.status.ready
        assert link.status.problem is None
        pbx.variables[f"DEVICE_STATE(PJSIP/{OTHER})"] = "UNAVAILABLE"
        await until(lambda: not link.status.ready)
        assert f"trunk {TRUNK} is down" in (link.status.problem or "")
        assert f"trunk {OTHER} is down" in (link.status.problem or "")
        pbx.variables[STATE] = "NOT_INUSE"
        await until(lambda: link.status.ready)


async def test_the_trunk_of_the_settings_counts_only_while_the_table_has_none() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.variables.update(there(OTHER))
        pbx.variables[STATE] = "UNAVAILABLE"
        await until(lambda: not link.status.ready)
        link.know({OTHER: Form.TRUNK}, {})
        await until(lambda: link.status.ready)
        assert link.status.trunks == {OTHER: None}
        link.know({}, {})
        await until(lambda: TRUNK in link.status.trunks)
        assert not link.status.ready


async def test_trunks_that_cannot_be_read_are_not_replaced_by_that_of_the_settings() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        link.know({}, {OTHER: "cannot be read"})
        await until(lambda: not link.status.ready)
        assert link.status.trunks == {OTHER: "cannot be read"}
