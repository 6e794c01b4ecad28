"""One test per trap of panoramisk 1.4 and tenacity that concerns us, against a server on a socket.

Which trap concerns us and why not: docs/traps.md.
"""

import ast
import asyncio
import contextlib
import logging
import re
import socket
import warnings
from dataclasses import fields, replace
from pathlib import Path

import panoramisk.utils as panoramisk_utils
import pytest
from panoramisk.call_manager import CallManager
from tenacity import AsyncRetrying, RetryCallState

from adapter.pbx import (
    Accepted,
    Down,
    LinkDown,
    NotSent,
    PbxConfig,
    PbxLink,
    Refused,
    Reply,
    Unsure,
    Up,
)
from adapter.pbx.headers import BadHeader, checked
from adapter.pbx.library import AMIProtocol, Manager
from adapter.pbx.session import event_of
from adapter.pbx.wire import MAX_MESSAGE
from tests.pbx.helpers import FAST, config, events, linked, next_of, order, running, until
from tests.support.ami_server import AmiServer, call_event, event


async def test_ami_01_refused_login_is_said_and_not_repeated() -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.login = "refuse"
        async with running(pbx, timings=replace(FAST, refused=0.4)) as link:
            await until(lambda: "refused the login of AMI user 'dialer'" in (link.status.problem or ""))
            assert pbx.password not in (link.status.problem or "")
            await asyncio.sleep(0.3)
            assert len(pbx.seen("Login")) == 1
            await pbx.wait_for("Login", 2)
            assert not link.status.connected
            assert link.messages.empty()


async def test_ami_01_refused_logins_stay_far_below_the_ban_of_fail2ban() -> None:
    link = PbxLink(config(AmiServer(username="u", password="p")))
    waits = [link._long_wait(_state(n)) for n in range(200)]
    assert min(waits) >= 60  # Ten in 600 s at most; MikoPBX bans at 20.


@pytest.mark.parametrize("instant", ["fin", "reset", "answer-reset"])
async def test_ami_02_nothing_is_resent(instant: str) -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.originate = instant
        async with linked(pbx) as link:
            wish = order()
            assert link._session is not None
            first = link._session._shot
            reply = await link.originate(wish)
            assert isinstance(reply, Accepted | Unsure if instant == "answer-reset" else Unsure)
            pbx.faults.originate = "answer"
            assert isinstance(await next_of(link, Up), Up)
            await until(lambda: link.status.ready)
            assert isinstance(await link.originate(order()), Accepted)  # Anything kept would have come before it.
            assert len(pbx.originates(wish.call_id)) == 1
            assert not first.awaiting_actions
            assert "originate" in first.config["forgetable_actions"]


async def test_ami_02_no_other_question_is_resent_either() -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.mute.add("DBGet")
        async with linked(pbx) as link:
            asked = asyncio.create_task(link.journal(17))
            await pbx.wait_for("DBGet")
            pbx.connections[-1].reset()
            with pytest.raises(LinkDown):
                await asked
            await next_of(link, Up)
            await until(lambda: link.status.ready)
            assert len(pbx.seen("DBGet")) == 1


async def test_ami_03_sending_while_disconnected_never_dials_later() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        await pbx.stop()
        await next_of(link, Down)
        wish = order()
        assert isinstance(await link.originate(wish), NotSent)
        await pbx.listen()
        await next_of(link, Up)
        await until(lambda: link.status.ready)
        assert isinstance(await link.originate(order()), Accepted)
        assert pbx.originates(wish.call_id) == []


async def test_ami_03_before_the_first_connection_nothing_is_sent() -> None:
    link = PbxLink(config(AmiServer(username="u", password="p"), port=1))
    assert isinstance(await link.originate(order()), NotSent)
    with pytest.raises(LinkDown):
        await link.channels()


async def test_ami_04_open_answers_fail_when_the_connection_is_lost() -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.mute |= {"Originate", "Hangup", "DBGet"}
        async with linked(pbx, timings=replace(FAST, response=50.0, answer=50.0)) as link:
            waiting = [
                asyncio.create_task(link.originate(order())),
                asyncio.create_task(link.hangup("some-leg")),
                asyncio.create_task(link.journal(1)),
            ]
            await pbx.wait_for("DBGet")
            pbx.connections[-1].reset()
            async with asyncio.timeout(5):
                reply, *others = await asyncio.gather(*waiting, return_exceptions=True)
            assert isinstance(reply, Unsure)
            assert all(isinstance(other, LinkDown) for other in others)


async def test_ami_05_a_stopped_link_never_connects_again() -> None:
    async with AmiServer.started() as pbx:
        async with linked(pbx, timings=replace(FAST, backoff_first=5.0, backoff_most=5.0)) as link:
            pbx.connections[-1].reset()
            await next_of(link, Down)
        # Stopped in the wait between two attempts.
        before = len(pbx.connections)
        await asyncio.sleep(0.1)
        assert len(pbx.connections) == before


async def test_ami_05_each_connection_is_used_once() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        for number in range(2, 7):
            pbx.connections[-1].reset()
            await next_of(link, Down)
            assert (await next_of(link, Up)).session >= number
        living = [c for c in pbx.connections if c.logged_in]
        assert len(living) == 1


async def test_ami_06_a_missing_pong_ends_the_session() -> None:
    async with AmiServer.started() as pbx, linked(pbx, timings=replace(FAST, pong=0.1), ping_seconds=0.05) as link:
        pbx.faults.mute.add("Ping")
        down = await next_of(link, Down)
        assert "did not answer Ping" in down.reason
        pbx.faults.mute.clear()
        assert isinstance(await next_of(link, Up), Up)


async def test_ami_07_a_connect_that_is_never_answered_has_a_deadline() -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for _ in range(4):  # Fill the accept queue: further SYNs are dropped.
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        server = AmiServer(username="u", password="p")
        server.port = port
        async with running(server, timings=replace(FAST, connect=0.2)) as link:
            await until(lambda: "did not accept a connection within 0.2 s" in (link.status.problem or ""))


async def test_ami_07_a_refused_connection_says_where_it_tried() -> None:
    async with AmiServer.started() as pbx:
        await pbx.stop()
        async with running(pbx) as link:
            await until(lambda: f"127.0.0.1:{pbx.port} is unreachable" in (link.status.problem or ""))


async def test_ami_07_shutdown_event_is_one_loss() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        stops = event("Shutdown", ("Privilege", "system,all"), ("Shutdown", "Cleanly"), ("Restart", "True"))
        await pbx.emit(stops, call_event("Newstate", "too-late"))
        assert [e.event.name for e in await events(link, 1, "Shutdown")] == ["Shutdown"]
        down = await link.messages.get()
        assert isinstance(down, Down)
        assert "shuts down" in down.reason
        assert isinstance(await link.messages.get(), Up)


async def test_ami_08_fully_booted_never_comes() -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.booted_after = None
        async with running(pbx, timings=replace(FAST, booted=0.1)) as link:
            await until(lambda: "read right 'system'" in (link.status.problem or ""))
            assert pbx.seen("Login")[0].get("Events") == "system,call,user"
            assert isinstance(await link.originate(order()), NotSent)
            assert pbx.originates() == []


async def test_ami_08_nothing_is_sent_before_fully_booted() -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.booted_after = 0.2
        async with running(pbx) as link:
            await pbx.wait_for("Login")
            assert isinstance(await link.originate(order()), NotSent)
            await next_of(link, Up)
            assert [r.action for r in pbx.requests][:1] == ["Login"]


async def test_ami_08_no_tls_and_no_setting_that_could_mean_it() -> None:
    """AMI goes in clear text through a private network or a tunnel; the library's `ssl="false"` would be true."""
    async with AmiServer.started() as pbx, linked(pbx) as link:
        assert link._session is not None
        assert link._session._shot.config["ssl"] is False
        assert not [field.name for field in fields(PbxConfig) if "ssl" in field.name or "tls" in field.name]


async def test_ami_09_a_message_that_cannot_be_handled_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        # Two ActionIDs in a Response make the library raise while it handles it.
        await pbx.emit(b"Response: Error\r\nActionID: a\r\nActionID: b\r\n\r\n")
        await pbx.emit(call_event("Newstate", "after"))
        assert (await events(link, 1, "Newstate"))[0].event.get("Linkedid") == "after"
        assert link.status.connected
        assert link.status.session == 1
        assert link.status.lost_messages == 1
        assert "could not be handled" in caplog.text


async def test_ami_10_originate_resolves_at_its_response_and_its_event_is_delivered() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        wish = order()
        pbx.faults.raw["Originate"] = (
            b"Response: Success\r\nActionID: {id}\r\nMessage: Originate successfully queued\r\n\r\n"
            + event("OriginateResponse", ("Privilege", "call,all"), ("ActionID", wish.call_id), ("Response", "Failure"))
        )
        assert isinstance(await link.originate(wish), Accepted)
        (seen,) = await events(link, 1, "OriginateResponse")
        assert seen.event.get("ActionID") == wish.call_id
        assert seen.event.get("Response") == "Failure"


async def test_ami_10_an_event_before_the_response_does_not_answer_for_it() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        wish = order()
        pbx.faults.raw["Originate"] = (
            event("OriginateResponse", ("Privilege", "call,all"), ("ActionID", wish.call_id), ("Response", "Failure"))
            + b"Response: Success\r\nActionID: {id}\r\nMessage: Originate successfully queued\r\n\r\n"
        )
        assert isinstance(await link.originate(wish), Accepted)
        await events(link, 1, "OriginateResponse")


async def test_ami_10_an_explicit_error_is_a_refusal() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.faults.originate = "error"
        assert await link.originate(order()) == Refused("Extension does not exist.")


@pytest.mark.parametrize("given", ["true", None])
async def test_ami_10_originate_is_always_asynchronous(given: str | None) -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        assert isinstance(await link.originate(order(Async=given)), Accepted)
        (sent,) = pbx.originates()
        assert sent.all("Async") == ["true"]


async def test_ami_11_the_call_id_is_action_id_and_channel_id() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        wish = order()
        await link.originate(wish)
        (sent,) = pbx.originates()
        assert sent.get("ActionID") == sent.get("ChannelId") == wish.call_id
        assert sent.all("Variable") == [f"CALL_ID={wish.call_id}", "TIMEOUT(absolute)=930"]
        assert isinstance(await link.originate(order(ChannelId="another")), Refused)


async def test_ami_11_ids_differ_between_clients_of_one_pbx() -> None:
    async with AmiServer.started() as pbx, linked(pbx), linked(pbx):
        await pbx.wait_for("Ping", 2)
        ids = [r.get("ActionID") for r in pbx.requests]
        assert len(set(ids)) == len(ids)


async def test_ami_12_a_timeout_leaves_nothing_behind() -> None:
    async with AmiServer.started() as pbx, linked(pbx, timings=replace(FAST, answer=0.05), guard_seconds=60) as link:
        pbx.faults.mute.add("Hangup")
        for _ in range(20):
            with pytest.raises(LinkDown, match="did not answer Hangup"):
                await link.hangup("some-leg")
        assert _open_actions(link) <= 1  # A ping may be under way.
        late = pbx.seen("Hangup")[0].get("ActionID")
        await pbx.emit(f"Response: Success\r\nActionID: {late}\r\n\r\n".encode(), call_event("Hangup", "x"))
        assert (await events(link, 1, "Hangup"))[0].event.get("Linkedid") == "x"


async def test_ami_12_a_canceled_asker_leaves_nothing_behind_once_answered() -> None:
    async with AmiServer.started() as pbx, linked(pbx, guard_seconds=60, ping_seconds=60) as link:
        pbx.faults.delay["Hangup"] = 0.1
        asking = asyncio.create_task(link.hangup("some-leg"))
        await pbx.wait_for("Hangup")
        asking.cancel()
        await until(lambda: _open_actions(link) == 0)


@pytest.mark.parametrize("items", [0, 1, 3])
async def test_ami_13_one_answer_or_many_as_the_question_says(items: int) -> None:
    """`as_list` is given with each send, where the library reads it; an Action of its own never carries it."""
    async with AmiServer.started() as pbx, linked(pbx, guard_seconds=60) as link:
        pbx.channels[:] = [
            {"Channel": f"PJSIP/{n}", "Uniqueid": f"{n}", "Linkedid": f"{n}", "ChannelState": "6"} for n in range(items)
        ]
        assert [channel.uniqueid for channel in await link.channels()] == [f"{n}" for n in range(items)]
        assert isinstance(await link.originate(order()), Accepted)


@pytest.mark.parametrize(
    "value",
    ["x\r\nAction: Command", "x\n\nAction: Command", "a\rb", "a\x00b", "a\x7fb", "a\x85b", "\ud800", "y" * 1100],
    ids=["crlf", "lf", "cr", "nul", "del", "nel", "surrogate", "long"],
)
@pytest.mark.parametrize("header", ["CallerID", "Channel", "Exten"])
async def test_ami_14_no_value_can_start_an_action(header: str, value: str) -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        reply = await link.originate(order(**{header: value}))
        assert isinstance(reply, Refused)
        assert header in reply.message
        with pytest.raises(BadHeader):
            checked([("Channel", value)])
        assert isinstance(await link.originate(order()), Accepted)
        assert len(pbx.originates()) == 1


@pytest.mark.parametrize("header", ["EarlyMedia", "Application", "Data", "OtherChannelId", "Codecs"])
async def test_ami_14_only_known_headers_pass(header: str) -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        assert isinstance(await link.originate(order(**{header: "true"})), Refused)
        assert pbx.originates() == []


async def test_ami_15_a_peer_that_does_not_read_gets_no_more() -> None:
    async with AmiServer.started() as pbx:
        timings = replace(FAST, response=0.05)
        async with linked(pbx, timings=timings, window=100_000, ping_seconds=60, guard_seconds=60) as link:
            pbx.faults.deaf_after_login = True
            await link.originate(order())  # The last thing it reads.
            replies: list[Reply] = []
            async with asyncio.timeout(20):
                while not any(isinstance(reply, NotSent) for reply in replies):
                    wishes = [order(CallerID="x" * 900) for _ in range(200)]
                    replies = await asyncio.gather(*(link.originate(wish) for wish in wishes))
            refused = next(reply for reply in replies if isinstance(reply, NotSent))
            assert "does not read" in refused.reason
            assert link._session is not None
            assert 0 < link._session.backlog < 4000  # At most the one Originate that filled the socket.
            wire = link._session._shot.wire
        # The rest of it does not stay behind to be read, and dialed, when the peer wakes up.
        assert wire is not None
        assert wire.transport.get_write_buffer_size() == 0


async def test_ami_16_events_keep_their_order() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        await pbx.emit(*(call_event("Newstate", f"call-{n:05}") for n in range(5000)))
        seen = [e.event.get("Linkedid") for e in await events(link, 5000, "Newstate")]
        assert seen == [f"call-{n:05}" for n in range(5000)]


async def test_ami_17_ami_24_events_are_matched_against_no_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is registered with the library, so its search through patterns, a hot spot of it, never sees an event."""
    seen: list[object] = []
    monkeypatch.setattr(Manager, "dispatch", lambda manager, event, matches: seen.append(event))
    async with AmiServer.started() as pbx, linked(pbx) as link:
        await pbx.emit(*(call_event("Newstate", f"call-{n}") for n in range(100)))
        await events(link, 100, "Newstate")
        assert seen == []


async def test_ami_18_a_standing_consumer_does_not_block_the_loop() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        for _ in range(20):
            await pbx.emit(*(call_event("Newstate", f"call-{n}") for n in range(500)))
        pings = len(pbx.seen("Ping"))
        await pbx.wait_for("Ping", pings + 2)
        assert link.status.queued >= 10_000
        assert isinstance(await link.originate(order()), Accepted)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1448])
async def test_ami_19_characters_split_between_reads_survive(chunk: int) -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.chunk = chunk
        async with linked(pbx) as link:
            await pbx.emit(call_event("NewCallerid", "c", ("CallerIDName", "Łukasz 漢字 😀"), ("Exten", "999")))
            (seen,) = await events(link, 1, "NewCallerid")
            assert seen.event.get("CallerIDName") == "Łukasz 漢字 😀"
            assert seen.event.get("Exten") == "999"


async def test_ami_19_bytes_that_are_no_utf8_cost_only_themselves() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        await pbx.emit(b"Event: NewCallerid\r\nCallerIDName: Jos\xe9\r\nLinkedid: c\r\n\r\n", call_event("Hangup", "c"))
        (seen,) = await events(link, 1, "NewCallerid")
        assert seen.event.get("CallerIDName").startswith("Jos")
        assert seen.event.get("Linkedid") == "c"
        await events(link, 1, "Hangup")


async def test_ami_20_odd_line_ends_and_repeated_headers() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        await pbx.emit(
            b"\r\n\r\nEvent: Newchannel\r\nChanVariable: A=1\r\nChanVariable: B=2\r\n",
            b"Linkedid: c\r\nAccountCode: \r\n\r\n",
            b"\r\nEvent: Hangup\r\nLinkedid: c\r\nCause: 16\r\n\r\n\r\n\r\n",
            b"no header at all\r\n\r\n",
            b"Response: Success\r\nActionID: of-nobody\r\n\r\n",
            call_event("Newstate", "c"),
        )
        made, ended, last = await events(link, 3)
        while made.event.name == "FullyBooted":
            made, ended, last = ended, last, (await events(link, 1))[0]
        assert made.event.get("ChanVariable") == "B=2"
        assert made.event.get("AccountCode") == ""
        assert (ended.event.name, ended.event.get("Cause")) == ("Hangup", "16")
        assert last.event.name == "Newstate"


async def test_ami_21_events_are_frozen_values_of_what_was_sent() -> None:
    got = event_of({"Event": "Hangup", "Timestamp": "1795404032.209935", "Cause": "16", "items": "x"})
    assert (got.name, got.at) == ("Hangup", 1795404032.209935)
    assert dict(got.fields) == {"Timestamp": "1795404032.209935", "Cause": "16", "items": "x"}
    assert got.get("Casue") == ""
    assert event_of({"Event": "FullyBooted"}).at is None
    assert event_of({"Event": "X", "Timestamp": "soon"}).at is None
    async with AmiServer.started() as pbx, linked(pbx) as link:
        await pbx.emit(event("UserEvent", ("get", "me")))
        (seen,) = await events(link, 1, "UserEvent")
        assert dict(seen.event.fields) == {"get": "me"}


async def test_ami_22_one_endless_message_ends_the_session() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        await pbx.emit(b"Event: Flood\r\n" + b"Header: x\r\n" * (MAX_MESSAGE // 11 + 1000))
        assert "one message of more than" in (await next_of(link, Down)).reason


async def test_ami_22_what_is_no_manager_interface_is_named() -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.greeting = b"SSH-2.0-OpenSSH_9.2\r\n"
        async with running(pbx) as link:
            await until(lambda: "no Asterisk Manager Interface" in (link.status.problem or ""))
            assert pbx.seen("Originate") == []


async def test_ami_23_the_library_prints_no_message(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with AmiServer.started(password="a-very-own-secret") as pbx, linked(pbx) as link:
        pbx.faults.originate = "reset"
        await link.originate(order())
        await next_of(link, Up)
        assert "60123456700" not in caplog.text
        assert "a-very-own-secret" not in caplog.text
        assert "a-very-own-secret" not in repr(link.config)


@pytest.mark.parametrize("login", ["silent", "close"])
async def test_ami_27_a_login_without_answer_has_a_deadline(login: str) -> None:
    async with AmiServer.started() as pbx:
        pbx.faults.login = login
        async with running(pbx, timings=replace(FAST, login=0.1)) as link:
            await until(lambda: "login" in (link.status.problem or ""))
            pbx.faults.login = "accept"
            assert isinstance(await next_of(link, Up), Up)


def test_ami_25_a_link_is_made_without_a_loop_and_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        server = AmiServer(username="u", password="p")
        link = PbxLink(config(server, port=1))

        async def once() -> None:
            task = asyncio.create_task(link.run())
            await until(lambda: link.status.problem is not None and "unreachable" in link.status.problem)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        asyncio.run(once())
    assert panoramisk_utils.EOL == "\r\n", "nobody made a panoramisk.testing.Manager, which rewrites it"


def test_ami_26_only_the_plain_manager_is_used() -> None:
    text = (Path(__file__).parents[2] / "adapter" / "pbx" / "library.py").read_text("utf-8")
    taken = set(re.findall(r"from (panoramisk\S*) import", text))
    assert taken == {f"panoramisk.{name}" for name in ("actions", "ami_protocol", "manager", "message")}
    assert not issubclass(Manager, CallManager)


def test_ami_28_one_small_module_knows_the_library() -> None:
    package = Path(__file__).parents[2] / "adapter" / "pbx"  # The import check sees to the rest.
    knowing = {
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("panoramisk"))
        or (isinstance(node, ast.Import) and any(name.name.startswith("panoramisk") for name in node.names))
    }
    assert knowing == {"library.py"}
    assert AMIProtocol.__module__ == "panoramisk.ami_protocol"


def test_ten_01_02_06_07_every_use_of_tenacity_says_what_it_retries() -> None:
    """No default retries in this package: a positive list of errors, a wait, the last error itself; async only."""
    uses = 0
    for path in (Path(__file__).parents[2] / "adapter").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "tenacity":
                allowed = {"AsyncRetrying", "RetryCallState", "retry_if_exception_type", "stop_after_delay"}
                assert {name.name for name in node.names} <= allowed | {"wait_random", "wait_random_exponential"}, path
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "AsyncRetrying":
                uses += 1
                given = {word.arg: word.value for word in node.keywords}
                assert {"retry", "wait", "reraise"} <= set(given), path
                (listed,) = given["retry"].args  # type: ignore[attr-defined]  # Else no call: the test fails there.
                names = {each.id for each in ast.walk(listed) if isinstance(each, ast.Name)}
                assert names, path
                assert not names & {"Exception", "BaseException", "TimeoutError", "OSError"}, path
    assert uses >= 4


async def test_ten_02_cancel_ends_the_link_at_once() -> None:
    async with AmiServer.started() as pbx:
        await pbx.stop()
        link = PbxLink(config(pbx), replace(FAST, backoff_first=50.0, backoff_most=50.0))
        task = asyncio.create_task(link.run())
        await until(lambda: "unreachable" in (link.status.problem or ""))
        task.cancel()
        async with asyncio.timeout(1):
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_ten_03_a_timeout_does_not_dial_again() -> None:
    async with AmiServer.started() as pbx, linked(pbx, timings=replace(FAST, response=0.05)) as link:
        pbx.faults.mute.add("Originate")
        assert isinstance(await link.originate(order()), Unsure)
        await pbx.wait_for("Ping", len(pbx.seen("Ping")) + 2)
        assert len(pbx.originates()) == 1


def test_ten_04_waits_differ_at_the_cap() -> None:
    link = PbxLink(config(AmiServer(username="u", password="p")))
    waits = [link._backoff(_state(n)) for n in (20, 50, 1000, 100_000) for _ in range(50)]
    assert max(waits) <= 30
    assert len({round(wait, 3) for wait in waits}) > 100
    assert max(link._backoff(_state(1)) for _ in range(50)) <= 1


def _state(attempt: int) -> RetryCallState:
    state = RetryCallState(retry_object=AsyncRetrying(), fn=None, args=(), kwargs={})
    state.attempt_number = attempt
    return state


def _open_actions(link: PbxLink) -> int:
    assert link._session is not None
    wire = link._session._shot.wire
    assert wire is not None
    return len(wire.responses)
