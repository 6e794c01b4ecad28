"""The AMI user that our documentation asks for: what it may, what it hears, and what others lack."""

import pytest

from adapter.sandbox.asterisk import RealPbx
from tests.asterisk.ami import Ami
from tests.asterisk.orders import ended, order, write

pytestmark = [pytest.mark.asterisk, pytest.mark.asyncio(loop_scope="session")]

DENIED = "Permission denied"


async def test_our_user_may_do_all_that_we_do(shared_pbx: RealPbx) -> None:
    async with Ami.logged_in(shared_pbx) as ami:
        await ami.until(lambda message: message.name == "FullyBooted")
        for action, headers in (
            ("Ping", ()),
            ("CoreStatus", ()),
            ("CoreSettings", ()),
            ("CoreShowChannels", ()),
            ("Getvar", (("Variable", f"DEVICE_STATE(PJSIP/{shared_pbx.trunk})"),)),
        ):
            reply = await ami.ask(action, *headers)
            assert reply.get("Response") == "Success", (action, reply)
        missing = await ami.ask("Hangup", ("Channel", "no-such-call"))
        assert missing.get("Message") == "No such channel"
        missing = await ami.ask("DBGet", ("Family", "mikopbx-adapter"), ("Key", "none"))
        assert missing.get("Message") == "Database entry not found"


@pytest.mark.parametrize(
    ("action", "headers"),
    [
        ("Command", (("Command", "core show version"),)),
        ("GetConfig", (("Filename", "manager.conf"),)),
        ("Filter", (("Operation", "Add"), ("Filter", "!Event: Hangup"))),
        ("DBPut", (("Family", "x"), ("Key", "y"), ("Val", "z"))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_our_user_may_do_no_more(shared_pbx: RealPbx, action: str, headers: tuple[tuple[str, str], ...]) -> None:
    async with Ami.logged_in(shared_pbx) as ami:
        reply = await ami.ask(action, *headers)
        assert (reply.get("Response"), reply.get("Message")) == ("Error", DENIED)


@pytest.mark.parametrize(
    ("user", "action"),
    [("no-reporting", "CoreShowChannels"), ("no-reporting", "CoreStatus"), ("no-originate", "Originate")],
)
async def test_a_missing_right_is_refused_in_these_words(shared_pbx: RealPbx, user: str, action: str) -> None:
    async with Ami.logged_in(shared_pbx, user) as ami:
        wanted = order(shared_pbx, "10")
        reply = await ami.ask(action, *(wanted.headers if action == "Originate" else ()))
        assert (reply.get("Response"), reply.get("Message")) == ("Error", DENIED)
        assert shared_pbx.invites(wanted.number.e164) == []


async def test_login_from_elsewhere_is_refused(shared_pbx: RealPbx) -> None:
    with pytest.raises(AssertionError, match="Authentication failed"):
        async with Ami.logged_in(shared_pbx, "not-from-here"):
            pass


async def test_filters_leave_what_we_need_and_no_more(shared_pbx: RealPbx) -> None:
    async with (
        Ami.logged_in(shared_pbx) as ours,
        Ami.logged_in(shared_pbx, shared_pbx.witness) as witness,
        Ami.logged_in(shared_pbx, "all") as everything,
        Ami.logged_in(shared_pbx, "no-call-events") as deaf,
        Ami.logged_in(shared_pbx, "no-system-events") as unaware,
    ):
        wanted = order(shared_pbx, "14")
        write(ours, wanted)
        for ami in (ours, witness, everything, unaware):
            await ended(ami, wanted)
        heard = {message.name for message in ours.heard}
        assert {"FullyBooted", "Newchannel", "Newstate", "DialBegin", "DialEnd", "Hangup"} <= heard
        assert not {"VarSet", "Newexten", "RTCPSent"} & heard
        assert {"VarSet", "Newexten"} <= {message.name for message in everything.heard}
        assert [message for message in everything.heard if message.get("UserEvent") == "CdrConnector"]
        assert not [message for message in ours.heard if message.get("UserEvent") == "CdrConnector"]
        same = [message.pairs for message in ours.about(wanted.call_id) if message.name]
        assert [message.pairs for message in witness.about(wanted.call_id)] == same
        assert deaf.about(wanted.call_id) == []
        assert "FullyBooted" not in {message.name for message in unaware.heard}


async def test_channel_events_carry_sixteen_repeated_lines_as_on_mikopbx(shared_pbx: RealPbx) -> None:
    async with Ami.logged_in(shared_pbx) as ami:
        wanted = order(shared_pbx, "24")
        write(ami, wanted)
        heard = await ended(ami, wanted)
        begun = next(message for message in heard if message.name == "Newchannel")
        assert len(begun.all("ChanVariable")) == 16
        assert begun.get("SystemName") == "mikopbx"
