"""The simulated PBX: conversation, limits and injection, journal, limits of a call, and what a test can do to it."""

import asyncio
import re
import socket
import struct

import pytest

from adapter.core.model import Outcome
from adapter.sandbox.mikopbx import Action, SimulatedPbx, TrunkState
from adapter.sandbox.mikopbx.session import Session
from adapter.sandbox.scenarios import SCENARIOS, Scenario, number
from tests.sandbox.mikopbx_client import Client, Message, connected, value

ID = "6f1b0a52-52f4-4f0c-9c55-6d0f4b3f0a01"
OTHER = "0b7c2a0e-93d4-4a3c-8f6e-6d0f4b3f0a02"
RINGS = number("20", 1)[1:]
ANSWERS = number("10", 1)[1:]
BUSY = number("30", 1)[1:]


def originate(pbx: SimulatedPbx, *pairs: tuple[str, str], but: str = "") -> list[tuple[str, str]]:
    """Headers of a good Originate, the given ones first so that they win; without the header `but`."""
    usual = [
        ("Channel", f"PJSIP/{ANSWERS}@{pbx.trunk}"),
        ("Context", "all_peers"),
        ("Exten", "999"),
        ("Priority", "1"),
        ("Async", "true"),
    ]
    return [*pairs, *(pair for pair in usual if pair[0] != but)]


# ---- conversation


async def test_login_greets_answers_and_tells_fully_booted() -> None:
    async with SimulatedPbx.started() as pbx, connected(pbx, login=False) as client:
        answer = await client.login(pbx, ("Events", "on"))
        booted = await client.event("FullyBooted")
    assert client.banner == "Asterisk Call Manager/11.0.0"
    assert [key for key, _ in answer] == ["Response", "ActionID", "Message"]
    assert value(answer, "Message") == "Authentication accepted"
    assert [key for key, _ in booted] == ["Event", "Privilege", "Uptime", "LastReload", "Status"]


async def test_login_for_calls_only_hides_fully_booted() -> None:
    async with SimulatedPbx.started() as pbx, connected(pbx, login=False) as client:
        await client.login(pbx, ("Events", "call"))
        await client.ask("Ping")
        assert not [m for m in client.messages if value(m, "Event")]


@pytest.mark.parametrize("wrong", ["secret", "user name"])
async def test_wrong_login_is_refused_late_and_closed(wrong: str) -> None:
    async with SimulatedPbx.started(speed=10) as pbx, connected(pbx, login=False) as client:
        begin = asyncio.get_running_loop().time()
        username = "nobody" if wrong == "user name" else pbx.username
        secret = "no" if wrong == "secret" else pbx.password
        answer = await client.ask("Login", ("Username", username), ("Secret", secret))
        late = asyncio.get_running_loop().time() - begin
        await asyncio.wait_for(client.closed.wait(), 5)
    assert (value(answer, "Response"), value(answer, "Message")) == ("Error", "Authentication failed")
    assert late >= 0.1


async def test_nothing_but_login_before_login() -> None:
    async with SimulatedPbx.started() as pbx, connected(pbx, login=False) as client:
        assert value(await client.ask("CoreStatus"), "Message") == "Permission denied"
        assert value(await client.ask("Originate", *originate(pbx)), "Message") == "Permission denied"
        assert not pbx.calls


async def test_small_actions() -> None:
    async with SimulatedPbx.started() as pbx, connected(pbx) as client:
        assert value(await client.ask("ping"), "Ping") == "Pong"
        settings = await client.ask("CoreSettings")
        assert value(settings, "AsteriskVersion").startswith("22.")
        status = await client.ask("CoreStatus")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", value(status, "CoreStartupDate"))
        assert value(status, "CoreCurrentCalls") == "0"
        unknown = await client.ask("Nonsense")
        assert value(unknown, "Message") == (
            "Invalid/unknown command: Nonsense. Use Action: ListCommands to show available commands."
        )
        assert value(await client.ask("Events", ("EventMask", "off")), "Events") == "Off"
        assert value(await client.ask("Hangup", ("Channel", "no-such-channel")), "Message") == "No such channel"
        assert value(await client.ask("Hangup"), "Message") == "No channel specified"
        goodbye = await client.ask("Logoff")
        assert (value(goodbye, "Response"), value(goodbye, "Message")) == ("Goodbye", "Thanks for all the fish.")
        await asyncio.wait_for(client.closed.wait(), 5)


async def test_rights_decide() -> None:
    async with SimulatedPbx.started(write={"reporting"}, read={"system"}) as pbx, connected(pbx) as client:
        assert value(await client.ask("Originate", *originate(pbx)), "Message") == "Permission denied"
        assert value(await client.ask("Hangup", ("Channel", "x")), "Message") == "Permission denied"
        assert value(await client.ask("CoreShowChannels"), "Response") == "Success"


async def test_event_mask_is_each_connections_own() -> None:
    async with SimulatedPbx.started(speed=20) as pbx, connected(pbx) as one, connected(pbx, login=False) as two:
        await two.login(pbx, ("Events", "system"))
        async with connected(pbx) as three:
            await one.originate(pbx, BUSY, ID)
            await one.event("OriginateResponse")
            await three.event("OriginateResponse", ActionID=ID)
            await two.ask("Ping")
            assert three.events(ID) == [e for e in one.events(ID) if e != "Response"]
            assert two.events(ID) == []


# ---- Originate


@pytest.mark.parametrize(
    ("headers", "but", "words"),
    [
        ([("Exten", "_bad_")], "", "Extension does not exist."),
        ([("Context", "nope")], "", "Extension does not exist."),
        ([("Priority", "99")], "", "Extension does not exist."),
        ([("Context", "applications"), ("Exten", "998")], "", "Extension does not exist."),
        ([], "Channel", "Channel not specified"),
        ([("Channel", "60123456700")], "", "Invalid channel"),
        ([("Timeout", "soon")], "", "Invalid timeout"),
        ([("Priority", "first")], "", "Invalid priority"),
        ([("ChannelId", "x" * 150)], "", "Uniqueid length exceeds maximum of 149\n"),
        ([("Variable", "NOTE=" + "y" * 1100)], "", "Failed to parse message: line too long"),
        ([("Variable", f"A{n}=1") for n in range(130)], "", "Too many lines in message or allocation failure"),
    ],
)
async def test_refused_originates(headers: list[tuple[str, str]], but: str, words: str) -> None:
    async with SimulatedPbx.started() as pbx, connected(pbx) as client:
        answer = await client.ask("Originate", *originate(pbx, *headers, but=but))
        assert value(answer, "Response") == "Error"
        assert value(answer, "Message") == words
        assert value(await client.ask("Ping"), "Ping") == "Pong"
        assert not pbx.calls


async def test_line_of_1022_bytes_passes_and_1023_puts_answers_out_of_step() -> None:
    async with SimulatedPbx.started() as pbx, connected(pbx) as client:
        longest = "Variable: N=" + "y" * (1022 - len("Variable: N="))
        client.raw(f"Action: Ping\r\nActionID: longest\r\n{longest}\r\n\r\n")
        assert value(await client.until(lambda m: value(m, "ActionID") == "longest"), "Ping") == "Pong"
        client.raw(f"Action: Ping\r\nActionID: longer\r\n{longest}y\r\n\r\n")
        await client.until(lambda m: value(m, "Message") == "Missing action in request")
        assert [value(m, "ActionID") for m in client.messages if value(m, "Response") == "Error"] == ["longer", ""]


@pytest.mark.parametrize("channel", ["SIP/alienvoip/60123456700", "PJSIP/60123456700@alienvoip", "Local/201@nowhere"])
async def test_accepted_at_first_but_no_channel(channel: str) -> None:
    async with SimulatedPbx.started() as pbx, connected(pbx) as client:
        journal = ("Variable", "DB(mikopbx-adapter/7)=7:x")
        answer = await client.ask("Originate", *originate(pbx, ("Channel", channel), ("ChannelId", ID), journal))
        failed = await client.event("OriginateResponse")
        assert value(answer, "Message") == "Originate successfully queued"
        assert [value(failed, key) for key in ("Response", "Reason", "Uniqueid", "Channel")] == [
            "Failure",
            "0",
            ID,
            channel,
        ]
        assert (pbx.calls, pbx.journal) == ([], {})


async def test_line_feed_starts_a_header_and_an_empty_line_an_action() -> None:
    async with SimulatedPbx.started(speed=20) as pbx, connected(pbx) as client:
        evil = "x\nVariable: WHO=me\n\nAction: Ping\nActionID: injected"
        client.send(("Action", "Originate"), *originate(pbx, ("CallerID", evil), ("ChannelId", ID)))
        answer = await client.until(lambda m: value(m, "ActionID") == "injected")
        assert value(answer, "Ping") == "Pong"
        # The action was cut in two: the first half has no channel.
        assert value(client.messages[-2], "Message") == "Channel not specified"


async def test_variables_are_split_at_commas_and_functions_executed() -> None:
    async with SimulatedPbx.started(speed=20) as pbx, connected(pbx) as client:
        headers = [("Variable", "A=1,B=2"), ("variable", "DB(mikopbx-adapter/5)=4101:" + ID), ("Variable", "C=|;=")]
        await client.originate(pbx, BUSY, ID, *headers)
        await client.event("OriginateResponse")
        assert pbx.calls[0].variables == {"A": "1", "B": "2", "C": "|;="}
        assert pbx.journal == {"mikopbx-adapter/5": "4101:" + ID}


async def test_duplicate_id_is_a_prefix_without_case() -> None:
    async with SimulatedPbx.started(speed=20) as pbx, connected(pbx) as client:
        await client.originate(pbx, RINGS, "call-100")
        for short in ("call-10", "CALL-100"):
            await client.originate(pbx, BUSY, short)
            failed = await client.event("OriginateResponse", ActionID=short)
            assert (value(failed, "Response"), value(failed, "Uniqueid")) == ("Failure", "call-100")
        await client.originate(pbx, BUSY, "call-1001")
        await client.event("Hangup", Uniqueid="call-1001")
        assert [invite.call_id for invite in pbx.calls] == ["call-100", "call-1001"]


async def test_synchronous_originate_answers_when_it_is_over() -> None:
    async with SimulatedPbx.started(speed=20) as pbx, connected(pbx) as client:
        answer = await client.ask("Originate", *originate(pbx, ("Async", "false")))
        assert value(answer, "Response") == "Success"
        busy = ("Channel", f"PJSIP/{BUSY}@{pbx.trunk}")
        answer = await client.ask("Originate", *originate(pbx, busy, ("Async", "false")))
        assert value(answer, "Message") == "Originate failed"


# ---- what happens to calls

LATE = 6.0
"""Simulated seconds that a busy machine may be late: 0.3 real ones at speed 20."""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: f"{s.code} {s.name}")
async def test_every_scenario_ends_as_its_table_says(scenario: Scenario) -> None:
    """Cause, SIP code, Ringing, talk by the PBX's own clock, and one INVITE at the witness."""
    async with SimulatedPbx.started(speed=20) as pbx, connected(pbx) as client:
        await client.originate(pbx, number(scenario.code, 7)[1:], ID, ("Timeout", "8000"))
        hangup = await client.event("Hangup", Linkedid=ID)
        await pbx.idle()
        (invite,) = pbx.calls
        names = client.events(ID)
        up = [m for m in client.messages if value(m, "Event") == "Newstate" and value(m, "ChannelState") == "6"]
    assert invite.ended
    assert invite.ended >= invite.started
    assert ("DialState" in names) == (invite.rang is not None) == (scenario.ring_after is not None)
    assert bool(up) == (invite.answered is not None) == (scenario.answers_after is not None)
    if up:
        talk = float(value(hangup, "Timestamp")) - float(value(up[0], "Timestamp"))
        assert scenario.talk <= talk <= scenario.talk + LATE
        assert ("HangupRequest" in names) == (scenario.ends_by == "callee")
        assert value(hangup, "Cause") == ("0" if scenario.outcome is Outcome.AI_FAILED else "16")
    elif scenario.refuse_after is None:
        assert (value(hangup, "Cause"), value(hangup, "TechCause")) == ("19", "480")
        assert "DialEnd" not in names
    else:
        assert (value(hangup, "Cause"), value(hangup, "TechCause")) == (str(scenario.cause), str(scenario.sip_code))
        # By the PBX's own clock, which starts with the leg; DialBegin may be later on a busy machine.
        took = float(value(hangup, "Timestamp")) - invite.started
        assert scenario.refuse_after - 0.2 <= took <= scenario.refuse_after + LATE


def _at(messages: list[Message], event: str) -> float:
    return next(float(value(m, "Timestamp")) for m in messages if value(m, "Event") == event)


async def test_unknown_number_does_not_exist() -> None:
    async with SimulatedPbx.started(speed=20) as pbx, connected(pbx) as client:
        await client.originate(pbx, "60123456700", ID)
        hangup = await client.event("Hangup", Linkedid=ID)
        assert (value(hangup, "Cause"), value(hangup, "TechCause")) == ("1", "404")


@pytest.mark.parametrize(("callee", "ringing"), [(RINGS, True), (number("10", 3)[1:], False)])
async def test_absolute_timeout_ends_ringing_and_talking(callee: str, ringing: bool) -> None:
    async with SimulatedPbx.started(speed=20) as pbx, connected(pbx) as client:
        await client.originate(pbx, callee, ID, ("Variable", "TIMEOUT(absolute)=2"))
        hangup = await client.event("Hangup", Linkedid=ID)
        (invite,) = pbx.calls
        life = float(value(hangup, "Timestamp")) - invite.started
        assert 1.9 <= life <= 2.0 + LATE
        assert value(hangup, "ChannelState") == ("5" if ringing else "6")
        assert "HangupRequest" not in client.events(ID)


async def test_missing_ai_lets_the_callee_hear_an_announcement() -> None:
    async with SimulatedPbx.started(speed=20) as pbx, connected(pbx) as client:
        pbx.applications.clear()
        await client.originate(pbx, ANSWERS, ID)
        hangup = await client.event("Hangup", Linkedid=ID)
        assert 4.7 <= float(value(hangup, "Timestamp")) - _at(client.messages, "DialEnd") <= 4.7 + LATE
        assert (value(hangup, "Cause"), value(hangup, "Context")) == ("16", "all_peers")


async def test_hangup_by_uniqueid_while_talking() -> None:
    async with SimulatedPbx.started(speed=5) as pbx, connected(pbx) as client:
        await client.originate(pbx, ANSWERS, ID)
        await client.event("OriginateResponse")
        await client.ask("Hangup", ("Channel", ID), ("Cause", "21"))
        assert value(await client.event("Hangup", Linkedid=ID), "Cause") == "21"


async def test_hangup_by_regular_expression_takes_all() -> None:
    async with SimulatedPbx.started(speed=20) as pbx, connected(pbx) as client:
        for call_id in (ID, OTHER):
            await client.originate(pbx, RINGS, call_id)
        await client.ask("Hangup", ("Channel", "/^PJSIP/"))
        done = await client.event("ChannelsHungupListComplete")
        assert value(done, "ListItems") == "2"
        for call_id in (ID, OTHER):
            assert value(await client.event("Hangup", Linkedid=call_id), "Cause") == "0"


# ---- what a client can ask


async def getvar(client: Client, name: str) -> str:
    """Value of a variable or function."""
    answer = await client.ask("Getvar", ("Variable", name))
    assert value(answer, "Variable") == name
    return value(answer, "Value")


async def test_dialplan_exists() -> None:
    async with SimulatedPbx.started() as pbx, connected(pbx) as client:
        assert await getvar(client, "DIALPLAN_EXISTS(applications,999,1)") == "1"
        assert await getvar(client, "DIALPLAN_EXISTS(applications,998,1)") == "0"
        assert await getvar(client, "DIALPLAN_EXISTS(internal,999,1)") == "0"
        assert await getvar(client, "DIALPLAN_EXISTS(all_peers,998,1)") == "1"
        pbx.applications.clear()
        assert await getvar(client, "DIALPLAN_EXISTS(applications,999,1)") == "0"


@pytest.mark.parametrize(
    ("state", "aors", "status", "device"),
    [
        (TrunkState.UP, True, "Reachable", "NOT_INUSE"),
        (TrunkState.UNWATCHED, True, "NonQualified", "NOT_INUSE"),
        (TrunkState.DOWN, True, "Unreachable", "UNAVAILABLE"),
        (TrunkState.NO_CONTACT, True, None, "UNAVAILABLE"),
        (TrunkState.GONE, False, None, "INVALID"),
    ],
)
async def test_trunk_as_functions_show_it(state: TrunkState, aors: bool, status: str | None, device: str) -> None:
    async with SimulatedPbx.started(speed=20) as pbx, connected(pbx) as client:
        pbx.trunk_state = state
        assert await getvar(client, f"PJSIP_ENDPOINT({pbx.trunk},aors)") == (pbx.trunk if aors else "")
        contact = await getvar(client, f"PJSIP_AOR({pbx.trunk},contact)")
        assert bool(contact) == (status is not None)
        assert await getvar(client, f"PJSIP_CONTACT({contact},status)") == (status or "")
        assert await getvar(client, f"DEVICE_STATE(PJSIP/{pbx.trunk})") == device
        assert await getvar(client, "DEVICE_STATE(PJSIP/other)") == "INVALID"
        await client.originate(pbx, BUSY, ID)
        await client.event("OriginateResponse")
        assert len(pbx.calls) == (1 if state.dials else 0)


async def test_device_state_follows_calls() -> None:
    async with SimulatedPbx.started(speed=5) as pbx, connected(pbx) as client:
        await client.originate(pbx, RINGS, ID)
        await client.event("DialState")
        assert await getvar(client, f"DEVICE_STATE(PJSIP/{pbx.trunk})") == "RINGING"
        await client.originate(pbx, ANSWERS, OTHER)
        await client.event("OriginateResponse")
        assert await getvar(client, f"DEVICE_STATE(PJSIP/{pbx.trunk})") == "RINGINUSE"


async def test_variables_of_a_channel() -> None:
    async with SimulatedPbx.started() as pbx, connected(pbx) as client:
        await client.originate(pbx, RINGS, ID, ("Variable", f"CALL_ID={ID}"))
        answer = await client.ask("Getvar", ("Channel", ID), ("Variable", "CALL_ID"))
        assert value(answer, "Value") == ID
        assert value(await client.ask("Getvar", ("Channel", "x"), ("Variable", "A")), "Message") == "No such channel"


async def test_journal_is_read_by_dbget_and_survives_a_restart() -> None:
    async with SimulatedPbx.started(speed=20) as pbx:
        async with connected(pbx) as client:
            missing = await client.ask("DBGet", ("Family", "mikopbx-adapter"), ("Key", "3"))
            assert value(missing, "Message") == "Database entry not found"
            await client.originate(pbx, RINGS, ID, ("Variable", f"DB(mikopbx-adapter/3)=3:{ID}"))
            await client.event("DialBegin")
            boot = await client.ask("CoreStatus")
            await pbx.restart()
        async with connected(pbx) as client:
            await client.ask("DBGet", ("Family", "mikopbx-adapter"), ("Key", "3"))
            entry = await client.event("DBGetResponse")
            end = await client.event("DBGetComplete")
            again = await client.ask("CoreStatus")
        assert [value(entry, key) for key in ("Family", "Key", "Val")] == ["mikopbx-adapter", "3", f"3:{ID}"]
        assert value(entry, "ActionID") == value(end, "ActionID")
        assert value(boot, "CoreStartupTime") != value(again, "CoreStartupTime")


# ---- faults


async def test_kill_tells_nothing_and_may_lose_the_youngest_entries() -> None:
    async with SimulatedPbx.started() as pbx:
        port = pbx.port
        async with connected(pbx) as client:
            pbx.store("mikopbx-adapter/1", "old")
            pbx._written["mikopbx-adapter/1"] -= 5
            await client.originate(pbx, RINGS, ID, ("Variable", "DB(mikopbx-adapter/2)=2:x"))
            await client.event("DialState")
            await pbx.kill(lose_seconds=1)
            await asyncio.wait_for(client.closed.wait(), 5)
            assert "Hangup" not in client.events(ID)
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(pbx.host, port)
        assert pbx.journal == {"mikopbx-adapter/1": "old"}
        assert pbx.calls[0].ended
        await pbx.start()
        assert pbx.port == port
        async with connected(pbx) as client:
            await client.ask("CoreShowChannels")
            assert value(await client.event("CoreShowChannelsComplete"), "ListItems") == "0"


async def test_login_works_before_the_dialplan_is_loaded() -> None:
    async with SimulatedPbx.started() as pbx:
        await pbx.kill()
        await pbx.start(boot_seconds=0.2)
        async with connected(pbx) as client:
            refused = await client.ask("Originate", *originate(pbx))
            assert value(refused, "Message") == "Extension does not exist."
            await client.event("FullyBooted")
            assert value(await client.ask("Originate", *originate(pbx)), "Response") == "Success"


@pytest.mark.parametrize("linger", [b"", struct.pack("ii", 1, 0)], ids=["FIN", "RST"])
async def test_frozen_pbx_executes_later_what_its_socket_took(linger: bytes) -> None:
    async with SimulatedPbx.started(speed=20) as pbx:
        async with connected(pbx) as client:
            await client.originate(pbx, RINGS, OTHER)
            await client.event("DialState")
            pbx.freeze()
            client.send(("Action", "Ping"), ("ActionID", "late"))
            client.send(("Action", "Originate"), *originate(pbx, ("ChannelId", ID)))
            with pytest.raises(TimeoutError):
                await client.until(lambda m: value(m, "ActionID") == "late", seconds=0.1)
            assert [invite.call_id for invite in pbx.calls] == [OTHER]
            if linger:
                client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.writer.transport.abort()
        await asyncio.sleep(0.05)
        assert bool(pbx._sessions) == (linger == b"")
        pbx.thaw()
        async with connected(pbx) as client:
            await client.event("OriginateResponse", Uniqueid=ID)
        assert [invite.call_id for invite in pbx.calls] == [OTHER, ID]


async def test_half_an_action_is_thrown_away_at_the_end_of_the_connection() -> None:
    async with SimulatedPbx.started(speed=20) as pbx:
        async with connected(pbx) as client:
            text = "".join(f"{k}: {v}\r\n" for k, v in [("Action", "Originate"), *originate(pbx)])
            client.raw(text)
        async with connected(pbx) as client:
            client.raw(text + "\r\n")
        async with connected(pbx) as client:
            await client.event("Newchannel")
        assert len(pbx.calls) == 1


async def test_dropped_connections_leave_calls_alone() -> None:
    async with SimulatedPbx.started(speed=5) as pbx:
        async with connected(pbx) as client:
            await client.originate(pbx, ANSWERS, ID)
            pbx.drop_connections()
            await asyncio.wait_for(client.closed.wait(), 5)
        async with connected(pbx) as client:
            assert value(await client.event("OriginateResponse", ActionID=ID), "Response") == "Success"


async def test_hooks_swallow_actions_and_replies() -> None:
    async def not_originate(_session: Session, action: Action) -> bool:
        return action.name != "Originate"

    async with SimulatedPbx.started(speed=20) as pbx, connected(pbx) as client:
        pbx.before_action = not_originate
        client.send(("Action", "Originate"), *originate(pbx, ("ActionID", ID)))
        await client.ask("Ping")
        assert not pbx.calls
        pbx.before_action, pbx.before_reply = None, not_originate
        client.send(("Action", "Originate"), *originate(pbx, ("ActionID", ID)))
        await client.event("OriginateResponse", ActionID=ID)
        assert not [m for m in client.messages if value(m, "ActionID") == ID and m[0][0] == "Response"]


async def test_reload_is_told() -> None:
    async with SimulatedPbx.started() as pbx, connected(pbx) as client:
        pbx.reload()
        await client.event("Reload")


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    async with SimulatedPbx.started() as pbx:
        with socket.create_connection((pbx.host, pbx.port)) as deaf:
            deaf.sendall(f"Action: Login\r\nUsername: {pbx.username}\r\nSecret: {pbx.password}\r\n\r\n".encode())
            async with connected(pbx) as client:
                for _ in range(400):
                    pbx.emit("UserEvent", "user", [("Text", "x" * 60_000)])
                    await client.ask("Ping")
                    client.messages.clear()
                assert len(pbx._sessions) == 1
