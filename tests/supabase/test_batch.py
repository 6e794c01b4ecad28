"""Batch requests: what reaches the rows, who may send them, balance, limits, repeats, campaigns."""

import json
import uuid
from typing import Any

import pytest

from tests.supabase.batches import LIMITS, Customer, counts, results, rows
from tests.supabase.helpers import ANSWERED_AT, Desk, number, outcome


async def states(customer: Customer) -> dict[str, str]:
    """The status of each campaign by its name."""
    found = await customer.connection.fetch("select campaign_name, status from campaigns")
    return {row["campaign_name"]: row["status"] for row in found}


@pytest.fixture
async def customer(app_desk: Desk) -> Customer:
    """A user with minutes enough, in a project of the app."""
    made = await Customer(connection=app_desk.connection).join()
    await made.setting("pro_max_concurrent_calls", "100")
    return made


# 1. What reaches the rows


async def test_what_the_request_says_reaches_row_campaign_and_reply(customer: Customer, app_desk: Desk) -> None:
    contact = await app_desk.connection.fetchval(
        "insert into contacts (user_id, name, phone_number) values ($1, 'Siti', '0999') returning id", customer.user
    )
    reply = await customer.ask(
        [
            {"number": "012-345 0001", "name": " Aminah ", "contact_id": str(contact), "idsale": "S1"},
            {"number": "+60123450002"},
            60123450003,
        ],
        campaign_name="Morning",
        customer_name="Cik",
        idsale="S0",
        retry={"enabled": True, "interval_minutes": "5", "max_attempts": 2},
    )
    assert reply["counts"] == counts(queued=3)
    assert (reply["user_id"], reply["prompt_id"], reply["account_type"], reply["balance"], reply["repeated"]) == (
        customer.user, customer.prompt, "pro", 1000, False
    )  # fmt: skip
    assert [(item["index"], item["number"], item["e164"]) for item in reply["items"]] == [
        (0, "012-345 0001", "+60123450001"),
        (1, "+60123450002", "+60123450002"),
        (2, "60123450003", "+60123450003"),
    ]
    found = [await app_desk.row(row) for row in rows(reply)]
    assert [(row["phone_number"], row["customer_name"], row["contact_id"], row["idsale"]) for row in found] == [
        ("012-345 0001", "Aminah", contact, "S1"),
        ("+60123450002", "Cik", None, "S0"),
        ("60123450003", "Cik", None, "S0"),
    ]
    for row in found:
        assert (row["status"], row["max_attempts"], row["retry_seconds"]) == ("queued", 3, 300)
        assert (str(row["user_id"]), str(row["prompt_id"])) == (customer.user, customer.prompt)
        assert str(row["campaign_id"]) == reply["campaign_id"]
        assert row["metadata"] == {"batch_id": reply["batch_id"]}
    campaign = await app_desk.connection.fetchrow("select * from campaigns")
    assert campaign is not None
    assert {key: campaign[key] for key in (
        "campaign_name", "status", "total_numbers", "retry_enabled", "retry_interval_minutes", "max_retry_attempts"
    )} == {
        "campaign_name": "Morning", "status": "in_progress", "total_numbers": 3,
        "retry_enabled": True, "retry_interval_minutes": 5, "max_retry_attempts": 2,
    }  # fmt: skip
    assert (str(campaign["id"]), str(campaign["prompt_id"])) == (reply["campaign_id"], customer.prompt)
    # It goes its way like any other, and the app sees what the request said.
    claimed = await app_desk.claim(5)
    log = await app_desk.the_log(claimed[0]["call_id"])
    assert (log["customer_name"], log["idsale"], log["contact_id"]) == ("Aminah", "S1", contact)
    assert (str(log["campaign_id"]), str(log["prompt_id"])) == (reply["campaign_id"], customer.prompt)


async def test_retry_fields_that_are_not_switched_on_leave_the_queue_its_defaults(
    customer: Customer, app_desk: Desk
) -> None:
    reply = await customer.ask(campaign_name="Morning")
    row = await app_desk.row(rows(reply)[0])
    assert (row["max_attempts"], row["retry_seconds"]) == (1, 1800)
    campaign = await app_desk.connection.fetchrow("select * from campaigns")
    assert campaign is not None
    assert (campaign["retry_enabled"], campaign["retry_interval_minutes"], campaign["max_retry_attempts"]) == (
        False, 30, 3
    )  # fmt: skip


@pytest.mark.parametrize("stored", ["012-340 0001", "+60 12 340 0001", "60123400001", "0123400001"])
async def test_a_contact_is_found_by_its_number_however_it_is_written(
    customer: Customer, app_desk: Desk, stored: str
) -> None:
    insert = "insert into contacts (user_id, name, phone_number) values ($1, $2, $3) returning id"
    contact = await app_desk.connection.fetchval(insert, customer.user, "Siti", stored)
    await app_desk.connection.fetchval(insert, str(uuid.uuid4()), "Another's", stored)
    await app_desk.connection.fetchval(insert, customer.user, "No digits", "-")
    reply = await customer.ask(["012 340 0001", number(2), "-", {"number": number(3), "contact_id": str(uuid.uuid4())}])
    found = [await app_desk.row(row) for row in rows(reply)]
    assert [(row["contact_id"], row["customer_name"]) for row in found] == [
        (contact, "Siti"), (None, None), (None, None), (None, None)
    ]  # fmt: skip


async def test_two_contacts_of_one_number_give_none(customer: Customer, app_desk: Desk) -> None:
    for name in ("Siti", "Sita"):
        await app_desk.connection.execute(
            "insert into contacts (user_id, name, phone_number) values ($1, $2, '0123400001')", customer.user, name
        )
    row = await app_desk.row(rows(await customer.ask(customer_name="Cik"))[0])
    assert (row["contact_id"], row["customer_name"]) == (None, "Cik")


async def test_numbers_that_are_none_are_refused_with_a_row_that_the_app_sees(
    customer: Customer, app_desk: Desk
) -> None:
    reply = await customer.ask([number(1), "12", "12 ", "abc"], campaign_name="Morning")
    assert results(reply) == ["queued", "refused", "duplicate", "refused"]
    assert reply["counts"] == counts(queued=1, refused=2, duplicates=1)
    assert "too short" in reply["items"][1]["reason"]
    assert (reply["items"][2]["of"], reply["items"][2]["row_id"]) == (1, reply["items"][1]["row_id"])
    for item in (reply["items"][1], reply["items"][3]):
        row = await app_desk.row(item["row_id"])
        assert (row["status"], row["outcome"], row["ended_reason"]) == ("done", "blocked", item["reason"])
        log = await app_desk.the_log(row["call_id"])
        assert (log["status"], log["duration"], log["phone_number"]) == ("failed", 0, item["number"])
        assert str(log["campaign_id"]) == reply["campaign_id"]
    assert await app_desk.connection.fetchval("select total_numbers from campaigns") == 3


async def test_duplicates_in_one_request_are_dialed_once(customer: Customer, app_desk: Desk) -> None:
    reply = await customer.ask(
        ["012-345 0001", {"number": "+60123450001", "name": "Aminah"}, "0060 12 345 0001", number(2), "(012) 3450001"]
    )
    assert results(reply) == ["queued", "duplicate", "duplicate", "queued", "duplicate"]
    assert [item["of"] for item in reply["items"]] == [None, 0, 0, None, 0]
    assert await customer.count() == 2
    # What only a later spelling tells is not lost.
    assert (await app_desk.row(rows(reply)[0]))["customer_name"] == "Aminah"


# 2. Who may send them


async def test_a_user_is_believed_in_compat_only(customer: Customer) -> None:
    assert (await customer.ask())["ok"]
    for auth in ("session", None):
        refused = await customer.ask([number(2)], auth=auth)
        assert (refused["code"], refused["http_status"]) == ("unauthorized", 401)
        assert refused["user_id"] is None
    refused = await customer.ask([number(2)], user_id=None)
    assert refused["code"] == "unauthorized"
    refused = await customer.ask([number(2)], user_id=str(uuid.uuid4()))
    assert (refused["code"], refused["http_status"]) == ("user_unknown", 404)
    assert await customer.count() == 1
    assert await customer.count("call_batches") == 1


@pytest.mark.parametrize("auth", ["compat", "session"])
async def test_a_session_token_tells_the_user(customer: Customer, auth: str) -> None:
    other = await Customer(connection=customer.connection).join()
    token = await customer.session()
    named = await customer.ask(auth=auth, session_token=token)
    assert named["user_id"] == customer.user
    alone = await customer.ask([number(2)], auth=auth, session_token=token, user_id=None)
    assert alone["user_id"] == customer.user
    foreign = await other.ask(auth=auth, session_token=token)
    assert foreign["code"] == "unauthorized"
    late = await customer.ask(auth=auth, session_token=await customer.session("-1 second"), user_id=None)
    assert late["code"] == "unauthorized"
    nobody = await customer.ask(auth=auth, session_token="eyJhbGciOiJIUzI1NiJ9.e30.x", user_id=None)
    assert nobody["code"] == "unauthorized"
    assert (await customer.count(), await other.count()) == (2, 0)


async def test_a_token_that_is_no_session_does_not_trouble_compat(customer: Customer) -> None:
    assert (await customer.ask(session_token="a publishable key"))["ok"]


async def test_prompt_and_campaign_must_be_the_users(customer: Customer) -> None:
    other = await Customer(connection=customer.connection).join()
    foreign = await other.campaign()
    for prompt in (other.prompt, str(uuid.uuid4())):
        assert (await customer.ask(prompt_id=prompt))["code"] == "prompt_unknown"
    for campaign in (foreign, str(uuid.uuid4())):
        refused = await customer.ask(campaign_id=campaign)
        assert (refused["code"], refused["error"]) == ("campaign_unknown", "Campaign not found")
    assert await customer.count() == 0
    assert await customer.connection.fetchval("select status from campaigns") == "in_progress"


async def test_without_a_prompt_the_newest_is_taken(customer: Customer) -> None:
    newest = await customer.connection.fetchval(
        "insert into prompts (user_id, prompt_name, system_prompt, updated_at) "
        "values ($1, 'Newest', 'x', now() + interval '1 hour') returning id",
        customer.user,
    )
    assert (await customer.ask(prompt_id=None))["prompt_id"] == str(newest)
    await customer.connection.execute("delete from call_logs")
    await customer.connection.execute("delete from prompts where user_id = $1", customer.user)
    assert (await customer.ask(prompt_id=None))["code"] == "prompt_unknown"


# 3. Balance


@pytest.mark.parametrize(
    ("account", "minutes", "numbers", "word"),
    [
        ("trial", 10, 5, None),
        ("trial", 9.99, 5, "Trial balance insufficient: 9.99 minutes left, 10 needed for 5 numbers."),
        ("pro", 0, 1, "Pro balance insufficient: 0.00 minutes left, 2 needed for 1 numbers."),
        ("pro", 2, 1, None),
        (None, 1, 1, "Trial balance insufficient: 1.00 minutes left, 2 needed for 1 numbers."),
        ("trial", -1, 1, "Trial balance insufficient: -1.00 minutes left, 2 needed for 1 numbers."),
    ],
)
async def test_two_minutes_must_be_left_for_each_number(
    app_desk: Desk, account: str, minutes: float, numbers: int, word: str | None
) -> None:
    customer = await Customer(connection=app_desk.connection).join(account, minutes)
    for key in ("max_concurrent_calls", "pro_max_concurrent_calls"):
        await customer.setting(key, "100")
    reply = await customer.ask([number(i) for i in range(numbers)], campaign_name="Morning")
    assert reply["error"] == word
    assert reply["code"] == (word and "balance")
    assert await customer.count() == (0 if word else numbers)
    assert await customer.count("campaigns") == (0 if word else 1)


async def test_only_the_balance_of_the_account_counts(customer: Customer) -> None:
    await customer.connection.execute("update users set pro_balance_minutes = 0, trial_balance_minutes = 50")
    assert (await customer.ask())["code"] == "balance"
    await customer.connection.execute("update users set account_type = 'trial'")
    assert (await customer.ask())["ok"]


async def test_a_repeat_is_answered_whatever_the_balance(customer: Customer) -> None:
    first = await customer.ask()
    await customer.connection.execute("update users set pro_balance_minutes = 0")
    again = await customer.ask()
    assert (again["ok"], rows(again)) == (True, rows(first))
    # Numbers that are no numbers need no minutes; they are refused for what they are.
    assert (await customer.ask(["12"]))["code"] == "nothing_queued"


# 4. Limits


@pytest.mark.parametrize(("account", "key"), [("trial", "max_concurrent_calls"), ("pro", "pro_max_concurrent_calls")])
async def test_the_lower_of_both_limits_holds_for_one_request(app_desk: Desk, account: str, key: str) -> None:
    customer = await Customer(connection=app_desk.connection).join(account)
    await customer.setting(key, "2")
    three = [number(i) for i in range(3)]
    refused = await customer.ask(three)
    assert (refused["code"], refused["http_status"]) == ("too_many_numbers", 413)
    assert refused["error"] == "Too many numbers: 3 in one request, at most 2 are allowed."
    # The Failed Calls page has no such rule.
    assert (await customer.ask(three, source="retry"))["ok"]
    for value in ("99999", "", "many", "-1", "1e9"):  # Only ever lowers.
        await customer.setting(key, value)
        refused = await customer.ask(three, limits={**LIMITS, "numbers_per_request": 2})
        assert refused["code"] == "too_many_numbers"
    await customer.setting(key, "3.0")
    assert (await customer.ask(three))["ok"]
    await customer.setting("batch_numbers_per_request", "2")
    assert (await customer.ask(three, source="retry"))["code"] == "too_many_numbers"


@pytest.mark.parametrize("by", ["environment", "settings"])
async def test_requests_are_counted_by_the_hour(customer: Customer, by: str) -> None:
    limits = {**LIMITS, "requests_per_hour": 2} if by == "environment" else LIMITS
    if by == "settings":
        await customer.setting("batch_requests_per_hour", "2")
    assert (await customer.ask([number(1)], limits=limits))["ok"]
    assert (await customer.ask(["12"], limits=limits))["code"] == "nothing_queued"
    for _ in range(3):
        refused = await customer.ask([number(3)], limits=limits, campaign_name="Third")
        assert (refused["code"], refused["http_status"]) == ("rate_requests", 429)
        # One that was answered already is answered again.
        assert (await customer.ask([number(1)], limits=limits))["repeated"]
    other = await Customer(connection=customer.connection).join()
    assert (await other.ask([number(3)], limits=limits))["ok"]
    assert await customer.count("campaigns") == 0
    await customer.age(61)
    assert (await customer.ask([number(3)], limits=limits))["ok"]


async def test_numbers_are_counted_by_the_hour(customer: Customer) -> None:
    limits = {**LIMITS, "numbers_per_hour": 5}
    assert (await customer.ask([number(i) for i in range(3)], limits=limits))["ok"]
    refused = await customer.ask([number(i) for i in range(10, 13)], limits=limits, campaign_name="Second")
    assert (refused["code"], refused["http_status"]) == ("rate_numbers", 429)
    # Those that are open already cost nothing.
    assert (await customer.ask([*(number(i) for i in range(3)), number(10)], limits=limits))["ok"]
    assert (await customer.count(), await customer.count("campaigns")) == (4, 0)
    await customer.setting("batch_numbers_per_hour", "4")
    assert (await customer.ask([number(11)], limits=limits))["code"] == "rate_numbers"
    await customer.age(61)
    assert (await customer.ask([number(11)], limits=limits))["ok"]


async def test_requests_are_forgotten_after_a_day(customer: Customer) -> None:
    await customer.ask([number(1)])
    await customer.age(60 * 24 + 1)
    await customer.ask([number(2)])
    assert await customer.count("call_batches") == 1


# 5. Repeats


async def test_the_same_numbers_are_one_request_whatever_became_of_its_rows(customer: Customer, app_desk: Desk) -> None:
    first = await customer.ask([number(1), number(2), number(3), "12"], campaign_name="Morning")
    claimed = await app_desk.claim(1)
    await app_desk.sync([outcome(claimed[0]["call_id"], "busy")])
    await app_desk.connection.execute("update call_queue set cancel_requested = true where id = $1", rows(first)[1])
    await app_desk.connection.execute("delete from call_queue where id = $1", rows(first)[2])
    again = await customer.ask(
        ["12", number(3), "012-3400002", number(1), number(1)], campaign_name="Second", customer_name="Other"
    )
    assert again["repeated"]
    assert results(again) == ["refused", "returned", "returned", "returned", "duplicate"]
    assert rows(again) == [*reversed(rows(first)), rows(first)[0]]
    assert (again["campaign_id"], again["campaign_name"], again["batch_id"]) == (
        first["campaign_id"], "Morning", first["batch_id"]
    )  # fmt: skip
    assert again["items"][0]["reason"] == first["items"][3]["reason"]
    assert (await customer.count(), await customer.count("campaigns")) == (3, 1)
    assert await app_desk.connection.fetchval("select repeats from call_batches") == 1


async def test_a_repeat_is_one_for_ten_minutes(customer: Customer, app_desk: Desk) -> None:
    first = await customer.ask()
    await app_desk.sync([outcome((await app_desk.claim_one())["call_id"], "busy")])
    await customer.age(9)
    assert (await customer.ask())["repeated"]  # The repeat does not make it last longer.
    await customer.age(2)
    later = await customer.ask()
    assert (later["repeated"], results(later)) == (False, ["queued"])
    assert rows(later) != rows(first)


@pytest.mark.parametrize("what", ["prompt", "numbers", "user"])
async def test_another_prompt_set_or_user_is_another_request(customer: Customer, what: str) -> None:
    first = await customer.ask([number(1), number(2)])
    other = await Customer(connection=customer.connection, user=str(uuid.uuid4())).join()
    if what == "prompt":
        prompt = await customer.connection.fetchval(
            "insert into prompts (user_id, prompt_name, system_prompt) values ($1, 'B', 'x') returning id",
            customer.user,
        )
        second = await customer.ask([number(1), number(2)], prompt_id=str(prompt))
        assert results(second) == ["queued", "queued"]
    elif what == "user":
        second = await other.ask([number(1), number(2)])
        assert results(second) == ["queued", "queued"]
    else:
        second = await customer.ask([number(1), number(2), number(3)])
        assert results(second) == ["returned", "returned", "queued"]
        assert rows(second)[:2] == rows(first)
    assert not second["repeated"]


async def test_an_open_row_of_another_user_stands_for_nothing(customer: Customer, app_desk: Desk) -> None:
    await app_desk.insert(number(1), prompt_id=customer.prompt)
    assert results(await customer.ask()) == ["queued"]


@pytest.mark.parametrize("source", ["page", "retry"])
@pytest.mark.parametrize("status", ["queued", "dialing", "talking"])
async def test_a_number_still_open_is_returned(customer: Customer, app_desk: Desk, source: str, status: str) -> None:
    first = await customer.ask(campaign_name="Morning")
    await customer.age(11)
    if status != "queued":
        call = (await app_desk.claim_one())["call_id"]
        if status == "talking":
            await app_desk.sync([{"kind": "answered", "call_id": call, "answered_at": ANSWERED_AT}])
    assert (await app_desk.row(rows(first)[0]))["status"] == status
    again = await customer.ask(source=source, campaign_name="Second")
    assert (again["repeated"], results(again), rows(again)) == (False, ["returned"], rows(first))
    assert (again["campaign_id"], await customer.count("campaigns")) == (first["campaign_id"], 1)
    both = await customer.ask([number(1), number(2)], source=source, campaign_name="Second")
    assert (results(both), both["campaign_name"]) == (["returned", "queued"], "Second")
    assert await customer.connection.fetchval(
        "select total_numbers from campaigns where campaign_name = 'Second'"
    ) == 1  # fmt: skip


async def test_a_retry_is_a_new_wish_once_the_earlier_row_has_ended(customer: Customer, app_desk: Desk) -> None:
    token = await customer.session()
    first = await customer.ask([number(1), number(2)], campaign_name="Morning")
    claimed = await app_desk.claim_one()
    await app_desk.sync([outcome(claimed["call_id"], "busy")])

    async def retry() -> dict[str, Any]:
        return await customer.ask(
            [number(1), number(2)],
            source="retry",
            user_id=None,
            session_token=token,
            campaign_name="Retry Batch - 25/11/2026 10:00",
        )

    second = await retry()
    assert (results(second), rows(second)[1]) == (["queued", "returned"], rows(first)[1])
    third = await retry()  # A double click.
    assert (results(third), rows(third)) == (["returned", "returned"], rows(second))
    for call in await app_desk.claim(5):
        await app_desk.sync([outcome(call["call_id"], "busy")])
    fourth = await retry()
    assert results(fourth) == ["queued", "queued"]
    # All in one campaign: its name holds the minute only.
    assert fourth["campaign_id"] == second["campaign_id"]
    assert await app_desk.connection.fetchval(
        "select total_numbers from campaigns where id = $1", second["campaign_id"]
    ) == 3  # fmt: skip


async def test_what_was_refused_is_no_request_to_repeat(customer: Customer) -> None:
    await customer.connection.execute("update users set pro_balance_minutes = 0")
    assert (await customer.ask())["code"] == "balance"
    await customer.connection.execute("update users set pro_balance_minutes = 10")
    again = await customer.ask()
    assert (again["ok"], again["repeated"]) == (True, False)


# 6. Campaigns


async def test_a_refused_request_leaves_no_campaign_of_ours(customer: Customer) -> None:
    refused = await customer.ask(["12", "abc"], campaign_name="Morning")
    assert (refused["code"], refused["http_status"]) == ("nothing_queued", 422)
    assert refused["error"].startswith("No number could be queued: the phone number is too short")
    assert results(refused) == ["refused", "refused"]
    assert await customer.count("campaigns") == 0
    assert await customer.count() == await customer.count("call_logs") == 2
    again = await customer.ask(["12", "abc"], campaign_name="Morning")
    assert (again["code"], again["repeated"], rows(again)) == ("nothing_queued", True, rows(refused))
    assert await customer.count() == 2
    empty = await customer.ask([], campaign_name="Morning")
    assert (empty["code"], await customer.count("campaigns")) == ("no_numbers", 0)


async def test_the_browsers_campaign_is_used_as_it_is(customer: Customer, app_desk: Desk) -> None:
    campaign = await customer.campaign(total=2)
    reply = await customer.ask([number(1), "12"], campaign_id=campaign, campaign_name="Not this")
    assert (reply["campaign_id"], reply["campaign_name"]) == (campaign, "Morning")
    assert {str((await app_desk.row(row))["campaign_id"]) for row in rows(reply)} == {campaign}
    found = await app_desk.connection.fetch("select total_numbers, status from campaigns")
    assert [tuple(row) for row in found] == [(2, "in_progress")]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"items": ["12"]}, "completed"),
        ({"items": []}, "failed"),
        ({"prompt_id": str(uuid.uuid4())}, "failed"),
        ({}, "completed"),
    ],
)
async def test_a_campaign_that_the_browser_made_for_nothing_ends(
    customer: Customer, changes: dict[str, Any], status: str
) -> None:
    first = await customer.campaign("First")
    assert (await customer.ask(campaign_id=first))["ok"]
    second = await customer.campaign("Second")
    request = customer.request(campaign_id=second) | changes
    reply = await customer.ask(**request)
    assert reply["ok"] == (not changes)
    assert await states(customer) == {"First": "in_progress", "Second": status}


async def test_a_campaign_with_calls_is_never_ended_by_a_refusal(customer: Customer, app_desk: Desk) -> None:
    campaign = await customer.campaign()
    await app_desk.insert(number(9), user_id=customer.user, campaign_id=campaign)
    old = await customer.campaign(
        "Old", created_at=await app_desk.connection.fetchval("select now() - interval '1 day'")
    )
    for given in (campaign, old):
        assert (await customer.ask([], campaign_id=given))["code"] == "no_numbers"
    assert set((await states(customer)).values()) == {"in_progress"}


async def test_a_new_campaign_of_the_same_name_is_joined_and_an_old_one_left_alone(
    customer: Customer, app_desk: Desk
) -> None:
    first = await customer.ask([number(1)], campaign_name="Morning")
    await app_desk.connection.execute("update campaigns set status = 'completed'")
    second = await customer.ask([number(2), number(3)], campaign_name="Morning")
    assert first["campaign_id"] == second["campaign_id"]
    await app_desk.connection.execute(
        "update campaigns set status = 'paused' where total_numbers = 3 and status = 'in_progress'"
    )
    await customer.ask([number(4)], campaign_name="Morning")
    assert await app_desk.connection.fetchval("select total_numbers from campaigns where status = 'paused'") == 4
    await customer.age(11)
    third = await customer.ask([number(5)], campaign_name="Morning")
    fourth = await customer.ask([number(6)], campaign_name="Morning")
    assert third["campaign_name"] == fourth["campaign_name"] == "Morning (2)"
    await customer.age(11)
    assert (await customer.ask([number(7)], campaign_name="Morning"))["campaign_name"] == "Morning (3)"


async def test_calls_without_a_campaign(customer: Customer, app_desk: Desk) -> None:
    reply = await customer.ask(campaign_name=" ")
    assert (reply["ok"], reply["campaign_id"], reply["campaign_name"]) == (True, None, None)
    assert (await app_desk.row(rows(reply)[0]))["campaign_id"] is None
    assert await customer.count("campaigns") == 0


async def test_the_owner_sees_what_was_asked(customer: Customer) -> None:
    await customer.ask([number(1), "12", number(1)], campaign_name="Morning")
    await customer.connection.execute("update users set pro_balance_minutes = 0")
    await customer.ask([number(2)], source="retry")
    found = await customer.connection.fetch("select * from call_batches order by created_at")
    assert [
        (row["code"], row["source"], row["auth"], row["origin"], row["total"], row["queued"], row["refused"],
         row["duplicates"], row["added"])
        for row in found
    ] == [
        (None, "page", "compat", "https://app.example.com", 3, 1, 1, 1, 2),
        ("balance", "retry", "compat", "https://app.example.com", 1, 0, 0, 0, 0),
    ]  # fmt: skip
    assert json.dumps(found[0]["stands_for"]).count("+60123400001") == 1
