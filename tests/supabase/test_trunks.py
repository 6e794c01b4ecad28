"""Trunks and room: whose calls take which, how many, what follows a failure, and what a wrong row of them is told."""

import uuid
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.supabase.helpers import OTHER, RINGING_AT, USER, Desk, number, outcome

CAMPAIGN = "00000000-0000-4000-8000-0000000000c1"
THIRD = "00000000-0000-4000-8000-00000000000e"
FREE = {"room": 100, "foreign": 0, "problem": None}


async def trunk(desk: Desk, name: str, **columns: Any) -> None:
    """One row of call_trunks."""
    values = {"pbx": desk.pbx, "trunk": name, **columns}
    marks = ", ".join(f"${place}" for place in range(1, len(values) + 1))
    await desk.connection.execute(
        f"insert into public.call_trunks ({', '.join(values)}) values ({marks})",  # noqa: S608 - names of ours
        *values.values(),
    )


def told(*names: str, **changes: Any) -> dict[str, Any]:
    """A heartbeat in which these trunks are free."""
    return {"trunks": {name: {**FREE, **changes} for name in names}}


async def ways(desk: Desk, room: int = 50, **status: Any) -> list[str]:
    """The trunk of each row that is claimed."""
    return [row["trunk"]["id"] for row in await desk.claim(room, **status)]


async def waits(desk: Desk, row_id: int | None) -> str | None:
    """Why a row waits, as a person is told."""
    words: str | None = await desk.connection.fetchval("select public.call_why_waits_v1($1)", row_id)
    return words


async def test_without_a_table_the_setting_is_the_only_trunk(desk: Desk) -> None:
    await desk.insert(number(1))
    row = await desk.claim_one(**told("SIP-TRUNK-1"))
    assert row["trunk"] is None
    assert (await desk.row(row["row_id"]))["dialed_trunk"] == "SIP-TRUNK-1"


async def test_a_row_carries_how_its_trunk_wants_it(desk: Desk) -> None:
    await trunk(
        desk, "A", number_style="national", strip_prefix="0", add_prefix="99", caller_ids=["+60312345678"],
        calls_per_second=2, max_channels=7,
    )  # fmt: skip
    await desk.insert(number(1))
    row = await desk.claim_one(**told("A"))
    assert row["trunk"] == {
        "id": "A", "form": "trunk", "number_style": "national", "strip": "0", "add": "99",
        "caller_id": "+60312345678", "calls_per_second": 2.0, "max_channels": 7,
    }  # fmt: skip
    assert (await desk.the_log(row["call_id"]))["metadata"]["trunk"] == "A"
    assert await desk.connection.fetchval("select facts ->> 'trunk' from public.call_dials") == "A"


async def test_the_same_person_sees_the_same_number(desk: Desk) -> None:
    shown = [f"+6031234567{last}" for last in range(5)]
    await trunk(desk, "A", caller_ids=shown)
    seen: dict[str, set[str]] = {}
    for serial in (1, 2, 3, 4, 5, 6, 1, 2, 3):
        await desk.insert(number(serial))
        row = await desk.claim_one(**told("A"))
        seen.setdefault(row["e164"], set()).add(row["trunk"]["caller_id"])
        await desk.sync([outcome(row["call_id"], "busy", ringing_at=RINGING_AT)])
    assert {len(numbers) for numbers in seen.values()} == {1}
    assert set.union(*seen.values()) <= set(shown)
    assert len(set.union(*seen.values())) > 1


async def test_who_has_trunks_of_his_own_takes_no_other(desk: Desk) -> None:
    await trunk(desk, "SHARED")
    await trunk(desk, "OWN", user_id=OTHER)
    for serial, user in enumerate((USER, OTHER)):
        await desk.insert(number(serial), user_id=user)
    both = told("SHARED", "OWN")
    assert sorted(await ways(desk, **both)) == ["OWN", "SHARED"]
    await desk.connection.execute("update public.call_trunks set enabled = false where trunk = 'OWN'")
    row_id = await desk.insert(number(3), user_id=OTHER)
    assert await ways(desk, **both) == []
    assert await waits(desk, row_id) == "the trunks of this user are at another PBX, or switched off (call_trunks)"
    await desk.connection.execute("update public.call_trunks set enabled = (trunk = 'OWN')")
    shared = await desk.insert(number(4))
    await desk.sync(**both)
    words = await waits(desk, shared)
    assert words is not None
    assert words.startswith("there is no trunk for this user")


async def test_a_trunk_that_is_full_on_one_pbx_keeps_nobody_from_another(desk: Desk) -> None:
    other = Desk(desk.connection, pbx="pbx-2")
    await other.register()
    await other.sync()
    for pbx in (desk.pbx, other.pbx):
        await trunk(desk, "OWN", pbx=pbx, user_id=OTHER, max_channels=1)
        await trunk(desk, "SHARED", pbx=pbx)
    for serial in range(2):
        await desk.insert(number(serial), user_id=OTHER)
    both = told("SHARED", "OWN")
    assert await ways(desk, **both) == ["OWN"]
    assert await ways(desk, **both) == []
    assert await ways(other, **both) == ["OWN"]


async def test_owners_and_prefixes_as_the_page_says(desk: Desk) -> None:
    page = (Path(__file__).parents[2] / "docs" / "trunks.md").read_text("utf-8")
    section = page[page.index("## Whose calls, and to where") :]
    statement = section[section.index("```sql\n") + 7 : section.index("\n```\n")]
    await trunk(desk, "ALL")
    await desk.connection.execute(statement.replace("pbx.example.com", desk.pbx).replace("…", OTHER))
    for phone, user in (("+60123456700", USER), ("+60191234567", USER), ("+60123456701", OTHER)):
        await desk.insert(phone, user_id=user)
    rows = await desk.claim(**told("ALL", "SIP-TRUNK-9C0D1E2F", "SIP-TRUNK-3A4B5C6D"))
    assert {row["e164"]: row["trunk"]["id"] for row in rows} == {
        "+60123456700": "SIP-TRUNK-3A4B5C6D", "+60191234567": "ALL", "+60123456701": "SIP-TRUNK-9C0D1E2F",
    }  # fmt: skip


async def second(desk: Desk) -> Desk:
    """An adapter of another PBX that dials."""
    other = Desk(desk.connection, pbx="pbx-2")
    await other.register()
    await other.sync()
    return other


async def test_a_number_that_only_another_pbx_may_call_is_taken_there_at_its_next_look(desk: Desk) -> None:
    """However they look: here the one that may not is always first, as of two that look each half a minute in step."""
    other = await second(desk)
    await trunk(desk, "ABROAD", prefixes=["44"])
    await trunk(desk, "HOME", pbx=other.pbx, prefixes=["60"])
    await other.sync(**told("HOME"))
    row_id = await desk.insert()
    assert await ways(desk, **told("ABROAD")) == []
    row = await desk.row(row_id)
    assert row["handed_to"] == other.pbx
    assert row["wait_reason"] == "no trunk may call numbers like +6012… (call_trunks.prefixes); PBX pbx-2 may take it"
    assert await ways(other, **told("HOME")) == ["HOME"]
    assert (await desk.row(row_id))["handed_to"] is None
    assert (await desk.row(row_id))["wait_reason"] is None


@pytest.mark.parametrize("listed", [True, False])
async def test_who_has_a_trunk_at_one_pbx_pays_for_no_call_through_another(desk: Desk, listed: bool) -> None:
    """Nor does anybody for his: neither through the shared trunks of the other nor through its setting."""
    other = await second(desk)
    await trunk(desk, "OWN", pbx=other.pbx, user_id=OTHER)
    if listed:
        await trunk(desk, "SHARED")
    row_id = await desk.insert(number(1), user_id=OTHER)
    mine = await desk.insert(number(2))
    assert [row["row_id"] for row in await desk.claim(**told("SHARED", "SIP-TRUNK-1"))] == [mine]
    assert await ways(other, **told("OWN")) == ["OWN"]
    assert (await desk.row(row_id))["dialed_trunk"] == "OWN"


async def test_who_has_a_trunk_that_is_nowhere_to_be_had_is_told(desk: Desk) -> None:
    await trunk(desk, "OWN", pbx="pbx-2", user_id=OTHER)
    row_id = await desk.insert(user_id=OTHER)
    assert await desk.claim(**told("SIP-TRUNK-1")) == []
    assert await waits(desk, row_id) == "the trunks of this user are at another PBX, or switched off (call_trunks)"
    assert (await desk.row(row_id))["handed_to"] == "pbx-2"


@pytest.mark.parametrize("listed", [True, False])
async def test_a_country_that_only_another_adapter_may_call_is_called_there(desk: Desk, listed: bool) -> None:
    """Each adapter has its ALLOWED_COUNTRIES: whoever looks first, none calls what its own list does not name."""
    other = await second(desk)
    await other.sync(trunk="SIP-TRUNK-2", countries=["GB"], **told("HOME", "SIP-TRUNK-2"))
    if listed:
        await trunk(desk, "HOME", pbx=other.pbx, prefixes=["44"])
    row_id = await desk.insert("+44 20 7946 0123")
    third = await desk.insert("+65 6123 4567")
    assert await desk.claim(countries=["MY"], **told("SIP-TRUNK-1")) == []
    row = await desk.row(row_id)
    assert row["handed_to"] == other.pbx
    assert row["wait_reason"] == "calls to GB are not allowed: ALLOWED_COUNTRIES is MY; PBX pbx-2 may take it"
    assert (await desk.row(third))["ended_reason"] == "calls to SG are not allowed: ALLOWED_COUNTRIES is MY"
    rows = await other.claim(trunk="SIP-TRUNK-2", countries=["GB"], **told("HOME", "SIP-TRUNK-2"))
    assert [row["row_id"] for row in rows] == [row_id]


async def test_a_row_for_a_trunk_of_another_adapter_is_taken_there(desk: Desk) -> None:
    other = await second(desk)
    await other.sync(trunk="SIP-TRUNK-2", **told("SIP-TRUNK-2"))
    row_id = await desk.insert(trunk="SIP-TRUNK-2")
    assert await desk.claim(**told("SIP-TRUNK-1")) == []
    assert (await desk.row(row_id))["handed_to"] == other.pbx
    (row,) = await other.claim(trunk="SIP-TRUNK-2", **told("SIP-TRUNK-2"))
    assert row["row_id"] == row_id


@pytest.mark.parametrize("change", ["away", "long gone", "never heard of", "not ready", "full as well"])
async def test_a_pbx_that_cannot_take_it_at_this_moment_may_when_it_can(desk: Desk, change: str) -> None:
    other = await second(desk)
    await trunk(desk, "ABROAD", prefixes=["44"])
    await trunk(desk, "HOME", pbx=other.pbx, max_channels=3)
    await other.sync(ready=change != "not ready", **told("HOME", foreign=9 if change == "full as well" else 0))
    for gone in {"away": ["0"], "long gone": ["3 days"]}.get(change, []):
        await desk.connection.execute(
            "update public.call_pbx set lease_until = now() - $2::text::interval where pbx = $1", other.pbx, gone
        )
    if change == "never heard of":
        await desk.connection.execute("delete from public.call_pbx where pbx = $1", other.pbx)
    row_id = await desk.insert()
    assert await ways(desk, **told("ABROAD")) == []
    row = await desk.row(row_id)
    assert (row["status"], row["handed_to"]) == ("queued", other.pbx)
    assert await ways(other, **told("HOME")) == ["HOME"]


@pytest.mark.parametrize("change", ["another number", "switched off", "of another user"])
async def test_what_no_pbx_may_call_ends_with_these_words(desk: Desk, change: str) -> None:
    other = await second(desk)
    await trunk(desk, "ABROAD", prefixes=["44"])
    owner = {"user_id": OTHER} if change == "of another user" else {}
    await trunk(
        desk, "HOME", pbx=other.pbx, enabled=change != "switched off",
        prefixes=["1"] if change == "another number" else ["60"], **owner,
    )  # fmt: skip
    await other.sync(**told("HOME"))
    row_id = await desk.insert()
    assert await ways(desk, **told("ABROAD")) == []
    row = await desk.row(row_id)
    assert (row["status"], row["outcome"]) == ("done", "blocked")
    assert row["ended_reason"] == "no trunk may call numbers like +6012… (call_trunks.prefixes)"


async def test_a_row_for_the_trunk_of_an_adapter_that_is_away_waits_for_it(desk: Desk) -> None:
    other = await second(desk)
    await other.sync(trunk="SIP-TRUNK-2", **told("SIP-TRUNK-2"))
    await desk.connection.execute("update public.call_pbx set lease_until = now() where pbx = $1", other.pbx)
    row_id = await desk.insert(trunk="SIP-TRUNK-2")
    assert await desk.claim(**told("SIP-TRUNK-1")) == []
    row = await desk.row(row_id)
    assert row["status"] == "queued"
    assert row["wait_reason"] == "it is for trunk SIP-TRUNK-2, whose adapter is away; PBX pbx-2 may take it"
    (taken,) = await other.claim(trunk="SIP-TRUNK-2", **told("SIP-TRUNK-2"))
    assert taken["row_id"] == row_id


async def test_a_row_for_the_trunk_of_an_adapter_that_was_away_for_a_day_ends(desk: Desk) -> None:
    other = await second(desk)
    await other.sync(trunk="SIP-TRUNK-2", **told("SIP-TRUNK-2"))
    await desk.connection.execute(
        "update public.call_pbx set lease_until = now() - interval '25 hours' where pbx = $1", other.pbx
    )
    row_id = await desk.insert(trunk="SIP-TRUNK-2")
    assert await desk.claim(**told("SIP-TRUNK-1")) == []
    row = await desk.row(row_id)
    assert (row["outcome"], row["ended_reason"]) == ("blocked", "the trunk SIP-TRUNK-2 is not known")


async def test_a_trunk_that_rests_here_hands_its_rows_to_another_pbx(desk: Desk) -> None:
    other = await second(desk)
    for pbx in (desk.pbx, other.pbx):
        await trunk(desk, "A", pbx=pbx)
    await trunk(desk, "B", prefixes=["44"])
    await other.sync(**told("A"))
    await desk.connection.execute(
        "insert into public.call_trunk_health (pbx, trunk, recent, cooled_at, cooled_until, cools) "
        "values ($1, 'A', 'xxxxx', now(), now() + interval '15 minutes', 5)",
        desk.pbx,
    )
    await desk.insert()
    assert await ways(desk, **told("A", "B")) == []
    assert await ways(other, **told("A")) == ["A"]


async def test_what_is_taken_over_has_its_turn_as_all_others(desk: Desk) -> None:
    other = await second(desk)
    await trunk(desk, "ABROAD", prefixes=["44"])
    await trunk(desk, "HOME", pbx=other.pbx)
    await other.sync(**told("HOME"))
    rows = [await desk.insert(number(serial), priority=9 if serial == 3 else 5) for serial in range(5)]
    assert await ways(desk, **told("ABROAD")) == []
    reply = await other.sync(room=2, claim_id=uuid.uuid4(), **told("HOME"))
    assert [row["row_id"] for row in reply["rows"]] == [rows[3], rows[0]]
    assert reply["more"] is True
    assert len(await ways(other, **told("HOME"))) == 3


async def test_many_rows_of_another_pbx_change_hands_a_few_at_a_time(desk: Desk) -> None:
    """And those that its user may not have called yet hold up no other."""
    other = await second(desk)
    await trunk(desk, "ABROAD", prefixes=["44"])
    await trunk(desk, "HOME", pbx=other.pbx)
    await other.sync(**told("HOME"))
    await desk.fill(250)
    late = await desk.insert("+60 12-999 0000", user_id=OTHER)
    while await desk.connection.fetchval("select exists (select from public.call_queue where handed_to is null)"):
        assert await ways(desk, **told("ABROAD"), limits={"user": 300}) == []
    mine = await other.claim(5, **told("HOME"), limits={"user": 4})
    assert len(mine) == 4
    got = [await other.claim(5, **told("HOME"), limits={"user": 4}) for _ in range(20)]
    assert [row["row_id"] for rows in got for row in rows] == [late]


async def test_who_gives_a_handed_row_a_time_has_it_wait_for_that(desk: Desk) -> None:
    other = await second(desk)
    await trunk(desk, "ABROAD", prefixes=["44"])
    await trunk(desk, "HOME", pbx=other.pbx)
    await other.sync(**told("HOME"))
    row_id = await desk.insert()
    assert await ways(desk, **told("ABROAD")) == []
    await desk.connection.execute(
        "update public.call_queue set not_before = now() + interval '1 hour' where id = $1", row_id
    )
    assert (await desk.row(row_id))["handed_to"] is None
    assert await ways(other, **told("HOME")) == []


async def test_nobody_hands_a_row_over_by_inserting_it(desk: Desk) -> None:
    row_id = await desk.insert(handed_to="pbx-1")
    assert (await desk.row(row_id))["handed_to"] is None


async def test_the_higher_priority_first_and_the_next_when_it_is_full(desk: Desk) -> None:
    await trunk(desk, "SECOND", priority=3)
    await trunk(desk, "FIRST", priority=7, max_channels=3)
    for serial in range(6):
        await desk.insert(number(serial))
    assert await ways(desk, **told("FIRST", "SECOND"), reserved=1) == ["FIRST"] * 2 + ["SECOND"] * 4


@pytest.mark.parametrize(
    ("change", "most"),
    [({}, 4), ({"foreign": 1}, 3), ({"room": 2}, 2), ({"foreign": 9}, 0), ({"problem": "it is down"}, 0)],
)
async def test_room_of_a_trunk(desk: Desk, change: dict[str, Any], most: int) -> None:
    await trunk(desk, "A", max_channels=6)
    for serial in range(9):
        await desk.insert(number(serial))
    assert len(await desk.claim(**told("A", **change), reserved=2)) == most


async def test_calls_of_people_and_the_reserve_count_for_the_trunk_of_the_setting_too(desk: Desk) -> None:
    for serial in range(9):
        await desk.insert(number(serial))
    status = told("SIP-TRUNK-1", max_channels=6, foreign=1)
    assert len(await desk.claim(**status, reserved=2)) == 3
    assert await desk.claim(**status, reserved=2) == []


async def test_a_trunk_that_nobody_looked_at_is_not_taken(desk: Desk) -> None:
    await trunk(desk, "A")
    row_id = await desk.insert()
    assert await desk.claim(trunks={}) == []
    assert await waits(desk, row_id) == "the adapter has not looked at trunk A yet"


async def test_prefixes(desk: Desk) -> None:
    await trunk(desk, "HOME", prefixes=["60"], priority=1)
    await trunk(desk, "MOBILE", prefixes=["6012", "6019"], priority=2)
    await desk.insert("+60123450001")
    await desk.insert("+60323450001")
    abroad = await desk.insert("+442079460000")
    claimed = await desk.claim(**told("HOME", "MOBILE"), countries=["MY", "GB"])
    assert {row["e164"]: row["trunk"]["id"] for row in claimed} == {"+60123450001": "MOBILE", "+60323450001": "HOME"}
    row = await desk.row(abroad)
    assert (row["status"], row["outcome"]) == ("done", "blocked")
    assert row["ended_reason"] == "no trunk may call numbers like +4420… (call_trunks.prefixes)"


async def test_a_row_may_name_its_trunk(desk: Desk) -> None:
    await trunk(desk, "A", priority=9)
    await trunk(desk, "B")
    await desk.insert(number(1), trunk="B")
    assert await ways(desk, **told("A", "B")) == ["B"]
    await desk.connection.execute("update public.call_trunks set enabled = false where trunk = 'B'")
    row_id = await desk.insert(number(2), trunk="B")
    assert await desk.claim(**told("A", "B")) == []
    assert (await desk.row(row_id))["wait_reason"] == "trunk B is switched off, of somebody else, or at another PBX"
    lost = await desk.insert(number(3), trunk="NOBODY")
    await desk.claim(**told("A", "B"))
    assert (await desk.row(lost))["ended_reason"] == "the trunk NOBODY is not known"


async def test_a_call_that_could_not_begin_takes_the_next_trunk_at_once(desk: Desk) -> None:
    for name, priority in (("A", 9), ("B", 5), ("C", 1)):
        await trunk(desk, name, priority=priority)
    row_id = await desk.insert()
    status, taken, ids = told("A", "B", "C"), [], set()
    for word in ("trunk_unavailable", "congestion", "busy"):
        row = await desk.claim_one(**status)
        taken.append(row["trunk"]["id"])
        ids.add(row["call_id"])
        assert row["attempt"] == 1
        await desk.sync([outcome(row["call_id"], word)], **status)
    assert taken == ["A", "B", "C"]
    assert len(ids) == 3
    ended = await desk.row(row_id)
    assert (ended["status"], ended["outcome"], ended["attempts"]) == ("done", "busy", 1)
    logs = await desk.connection.fetch("select status from public.call_logs where call_id = any($1)", list(ids))
    assert [log["status"] for log in logs] == ["no_answered"]


@pytest.mark.parametrize("word", ["no_reply", "rejected", "no_answer", "busy", "declined", "unknown", "pbx_error"])
async def test_nothing_else_fails_over(desk: Desk, word: str) -> None:
    await trunk(desk, "A", priority=9)
    await trunk(desk, "B")
    row_id = await desk.insert(max_attempts=5, retry_seconds=600)
    row = await desk.claim_one(**told("A", "B"))
    await desk.sync([outcome(row["call_id"], word)])
    after = await desk.row(row_id)
    assert after["trunks_tried"] == []
    assert after["status"] == "done" or (after["not_before"] - after["updated_at"]).total_seconds() >= 30


async def test_failing_over_is_bounded(desk: Desk) -> None:
    await trunk(desk, "A", priority=9)
    await trunk(desk, "B")
    row_id = await desk.insert()
    calls = []
    for _ in range(20):
        for row in await desk.claim(**told("A", "B")):
            calls.append(row["trunk"]["id"])
            await desk.sync([outcome(row["call_id"], "congestion")])
        await desk.due()
        # Neither cools down here: it is the row that is looked at.
        await desk.connection.execute("delete from public.call_trunk_health")
    assert calls == ["A", "B"] * 3
    ended = await desk.row(row_id)
    assert (ended["status"], ended["outcome"], ended["attempts"]) == ("done", "congestion", 0)


async def test_a_trunk_that_fails_cools_down_whoever_dials(desk: Desk) -> None:
    for serial in range(12):
        await desk.insert(number(serial))
    for row in await desk.claim(5):
        await desk.sync([outcome(row["call_id"], "congestion")])
    assert await desk.claim() == []
    words = await waits(desk, await desk.insert(number(99)))
    assert words == "trunk SIP-TRUNK-1 cools down: 5 of its last 5 calls failed"
    second = Desk(desk.connection, pbx="pbx-1")
    await second.register()
    await desk.connection.execute("update public.call_pbx set holder = null")
    assert await second.claim() == []
    assert await desk.connection.fetchval("select public.call_trunk_forgive('SIP-TRUNK-1')")
    assert len(await second.claim(5)) == 5


async def test_limits(desk: Desk) -> None:
    await desk.fill(5, user=USER)
    await desk.fill(5, user=OTHER, campaign=CAMPAIGN, start=100)
    await desk.fill(5, user=THIRD, start=200)
    limit = "insert into public.call_limits (kind, key, max_calls) values ($1, $2, $3)"
    await desk.connection.execute(limit, "user", THIRD, 0)
    await desk.connection.execute(limit, "campaign", CAMPAIGN, 2)
    rows = await desk.claim(limits={"user": 4})
    assert sorted(row["user_id"] for row in rows) == [USER] * 4 + [OTHER] * 2
    await desk.connection.execute("update public.call_settings set max_calls = 7")
    await desk.connection.execute("delete from public.call_limits")
    await desk.connection.execute("update public.call_tenants set ready = true")
    await desk.connection.execute("update public.call_lanes set ready = true")
    assert len(await desk.claim(limits={"user": 4})) == 1


async def test_the_apps_own_limits_by_account(app_desk: Desk) -> None:
    run = app_desk.connection.execute
    await run(
        "insert into public.users (id, username, account_type) values ($1, 'aminah', 'trial')",
        USER,
    )
    await run(
        "delete from public.system_settings where setting_key in ('max_concurrent_calls', 'pro_max_concurrent_calls')"
    )
    for key, value in (("max_concurrent_calls", "2"), ("pro_max_concurrent_calls", "6")):
        await run("insert into public.system_settings (setting_key, setting_value) values ($1, $2)", key, value)
    ask = "select public.call_user_limit($1, $2)"
    assert await app_desk.connection.fetchval(ask, USER, 10) == 2
    assert await app_desk.connection.fetchval(ask, USER, 1) == 1
    await run("update public.users set account_type = 'pro' where id = $1", USER)
    assert await app_desk.connection.fetchval(ask, USER, 10) == 6
    await run("update public.system_settings set setting_value = 'many' where setting_key = 'pro_max_concurrent_calls'")
    assert await app_desk.connection.fetchval(ask, USER, 10) == 10


async def test_the_adapter_is_told_of_trunks_when_they_changed(desk: Desk) -> None:
    first = await desk.sync()
    assert first["trunks"] == []
    version = first["trunks_version"]
    assert (await desk.sync(trunks_version=version))["trunks"] is None
    await trunk(desk, "A", calls_per_second=0.5)
    await trunk(desk, "B", enabled=False)
    await desk.connection.execute("insert into public.call_trunks (pbx, trunk) values ('another', 'C')")
    second = await desk.sync(trunks_version=version)
    assert [one["id"] for one in second["trunks"]] == ["A"]
    assert second["trunks"][0]["calls_per_second"] == 0.5


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("trunk", "a b"), ("trunk", ""), ("form", "agent"), ("number_style", "any"), ("strip_prefix", "x"),
        ("add_prefix", "0" * 17), ("prefixes", ["+60"]), ("prefixes", ["60", ""]), ("prefixes", [None]),
        ("max_channels", 0), ("calls_per_second", 0), ("priority", 10), ("caller_ids", ["12"]),
        ("caller_ids", ["+60312345678", "x"]),
    ],
)  # fmt: skip
async def test_a_wrong_trunk_is_refused(desk: Desk, column: str, value: object) -> None:
    columns = {"trunk": "A", column: value}
    with pytest.raises(asyncpg.CheckViolationError, match=column):
        await trunk(desk, str(columns.pop("trunk")), **columns)
