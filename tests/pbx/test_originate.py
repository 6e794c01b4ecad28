"""An Originate leaves at most once, at most `window` of them are in doubt, and the reply says what is certain."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from adapter.core.model import ClaimedRow, Form
from adapter.core.originate import DialPlan, build
from adapter.pbx import Accepted, Down, NotSent, Refused, Unsure, Up
from tests.pbx.helpers import FAST, Order, linked, next_of, order, until
from tests.support.ami_server import TRUNK, AmiServer


async def test_accepted() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        wish = order()
        assert await link.originate(wish) == Accepted()
        (sent,) = pbx.originates()
        assert sorted(sent.headers) == sorted((("Action", "Originate"), ("ActionID", wish.call_id), *wish.headers))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
async def test_a_cut_at_any_byte_is_unsure_and_never_repeated(share: float) -> None:
    async with AmiServer.started() as pbx, linked(pbx, ping_seconds=60, guard_seconds=60) as link:
        await link.originate(order())
        size = sum(len(f"{name}: {value}\r\n") for name, value in pbx.originates()[0].headers) + 2
        pbx.faults.cut_after = max(1, round(size * share))
        await link.hangup("nobody")  # The server looks at `cut_after` before it reads the next action.
        wish = order()
        assert isinstance(await link.originate(wish), Unsure)
        pbx.faults.cut_after = None
        await next_of(link, Up)
        await until(lambda: link.status.ready)
        assert await link.originate(order()) == Accepted()
        assert len(pbx.originates(wish.call_id)) == (1 if share == 1.0 else 0)


async def test_many_under_way_at_a_drop_are_each_sent_at_most_once() -> None:
    async with AmiServer.started() as pbx, linked(pbx, window=8) as link:
        pbx.faults.delay["Originate"] = 0.01
        wishes = [order() for _ in range(40)]
        asking = [asyncio.create_task(link.originate(wish)) for wish in wishes]
        await pbx.wait_for("Originate", 10)
        pbx.connections[-1].reset()
        await next_of(link, Up)
        replies = await asyncio.gather(*asking)
        assert sum(isinstance(reply, Unsure) for reply in replies) <= 8
        for wish, reply in zip(wishes, replies, strict=True):
            sent = len(pbx.originates(wish.call_id))
            assert sent <= 1
            if isinstance(reply, NotSent):
                assert sent == 0
            if isinstance(reply, Accepted):
                assert sent == 1


async def test_the_window_bounds_how_many_await_their_response() -> None:
    async with AmiServer.started() as pbx, linked(pbx, window=3) as link:
        pbx.faults.mute.add("Originate")
        asking = [asyncio.create_task(link.originate(order())) for _ in range(10)]
        await pbx.wait_for("Originate", 3)
        await pbx.wait_for("Ping", len(pbx.seen("Ping")) + 2)
        assert len(pbx.originates()) == 3
        assert link.status.awaiting == 3
        await pbx.stop()
        replies = await asyncio.gather(*asking)
        assert sorted(type(reply).__name__ for reply in replies) == ["NotSent"] * 7 + ["Unsure"] * 3
        assert link.status.awaiting == 0


async def test_a_place_in_the_window_is_held_until_the_response_not_until_the_deadline() -> None:
    async with AmiServer.started() as pbx, linked(pbx, timings=replace(FAST, response=0.05), window=1) as link:
        pbx.faults.mute.add("Originate")
        first = order()
        assert isinstance(await link.originate(first), Unsure)
        second = asyncio.create_task(link.originate(order()))
        await asyncio.sleep(0.1)
        assert len(pbx.originates()) == 1
        pbx.faults.mute.clear()
        late = f"Response: Success\r\nActionID: {first.call_id}\r\nMessage: Originate successfully queued\r\n\r\n"
        await pbx.emit(late.encode())
        assert await second == Accepted()


async def test_the_last_check_is_made_after_the_wait_for_the_window() -> None:
    async with AmiServer.started() as pbx, linked(pbx, window=1) as link:
        pbx.faults.mute.add("Originate")
        stale: list[str] = []
        first = asyncio.create_task(link.originate(order()))
        await pbx.wait_for("Originate")
        second = asyncio.create_task(link.originate(order(), lambda: stale[0] if stale else None))
        await asyncio.sleep(0)
        stale.append("the claim is older than 5 s")
        await pbx.emit(f"Response: Success\r\nActionID: {pbx.originates()[0].get('ActionID')}\r\n\r\n".encode())
        assert await first == Accepted()
        assert await second == NotSent("the claim is older than 5 s")
        assert len(pbx.originates()) == 1
        assert link.status.awaiting == 0


async def test_a_canceled_asker_stops_nothing_that_is_on_its_way() -> None:
    async with AmiServer.started() as pbx, linked(pbx, window=1) as link:
        pbx.faults.delay["Originate"] = 0.05
        asking = asyncio.create_task(link.originate(order()))
        await pbx.wait_for("Originate")
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        assert link.status.awaiting == 1
        assert await link.originate(order()) == Accepted()  # In its turn, through the same window.
        assert len(pbx.originates()) == 2


async def test_an_asker_canceled_before_the_write_has_sent_nothing() -> None:
    async with AmiServer.started() as pbx, linked(pbx, window=1) as link:
        pbx.faults.delay["Originate"] = 0.05
        first = asyncio.create_task(link.originate(order()))
        await pbx.wait_for("Originate")
        looked: list[str] = []
        waiting = asyncio.create_task(link.originate(order(), lambda: looked.append("now")))
        await asyncio.sleep(0)
        waiting.cancel()
        assert await first == Accepted()
        assert await link.originate(order()) == Accepted()
        assert looked == []
        assert len(pbx.originates()) == 2


async def test_nothing_is_sent_while_a_guard_objects() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        del pbx.variables["DIALPLAN_EXISTS(applications,999,1)"]
        await until(lambda: not link.status.ready)
        reply = await link.originate(order())
        assert isinstance(reply, NotSent)
        assert "AI extension 999 does not exist" in reply.reason
        assert pbx.originates() == []


async def test_nothing_is_sent_after_the_loss() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        await pbx.stop()
        await next_of(link, Down)
        assert isinstance(await link.originate(order()), NotSent)


@pytest.mark.parametrize("missing", ["Channel", "Context", "Exten", "Priority", "Timeout", "ChannelId"])
async def test_an_originate_that_lacks_a_header_is_refused_here(missing: str) -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        reply = await link.originate(order(**{missing: None}))
        assert isinstance(reply, Refused)
        assert missing.lower() in reply.message
        assert pbx.originates() == []


async def test_async_false_is_refused_here() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        assert isinstance(await link.originate(order(Async="false")), Refused)
        assert pbx.originates() == []


async def test_a_variable_cannot_start_another_one() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        wish = order()
        bad = Order(wish.call_id, (*wish.headers, ("Variable", "NAME=x,TIMEOUT(absolute)=0")))
        assert isinstance(await link.originate(bad), Refused)
        assert pbx.originates() == []


@pytest.mark.parametrize("form", Form)
async def test_what_the_core_builds_passes_the_gate_and_arrives_unchanged(form: Form) -> None:
    row = ClaimedRow(
        row_id=1,
        call_id="0f9619ff-8b86-4011-b42d-00cf4fc964ff",
        claim_number=4113,
        attempt=1,
        user_id="user-1",
        phone_number="+60123456700",
        e164="+60123456700",
        customer_name='Łukasz, "O\'Hara"\r\nAction: Command ${SHELL(x)} 漢字',
        variables={"note": "a,b\x00c", "amount": 12.5},
    )
    built = build(row, DialPlan(form=form, trunk=TRUNK))
    async with AmiServer.started() as pbx, linked(pbx) as link:
        assert await link.originate(built) == Accepted()
        (sent,) = pbx.originates()
        assert sorted(sent.headers) == sorted((("Action", "Originate"), ("ActionID", row.call_id), *built.headers))
        assert sent.all("Variable") == [value for name, value in built.headers if name == "Variable"]


async def test_a_missing_right_to_originate_is_a_refusal() -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        pbx.faults.denied.add("Originate")
        reply = await link.originate(order())
        assert isinstance(reply, Refused)
        assert "write right 'originate'" in reply.message


@pytest.mark.parametrize("other", ["", "short", "{own}"])
async def test_a_second_half_whose_id_could_be_taken_for_a_duplicate_is_refused_here(other: str) -> None:
    async with AmiServer.started() as pbx, linked(pbx) as link:
        wish = order()
        wrong = order(wish.call_id, OtherChannelId=other.format(own=wish.call_id))
        reply = await link.originate(wrong)
        assert isinstance(reply, Refused)
        assert "OtherChannelId" in reply.message
        right = order(wish.call_id, OtherChannelId=wish.call_id[::-1])
        assert isinstance(await link.originate(right), Accepted)
        assert len(pbx.originates()) == 1
