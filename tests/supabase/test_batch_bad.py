"""Batch requests that no edge function of ours would send: each is answered, none leaves half of anything."""

import json
import uuid
from typing import Any

import asyncpg
import pytest

from tests.supabase.batches import LIMITS, Customer, ask, results, rows
from tests.supabase.helpers import Connection, Desk, number

TABLES = ("call_queue", "call_logs", "campaigns", "call_batches", "call_arrivals")


@pytest.fixture
async def customer(app_desk: Desk) -> Customer:
    """A user with minutes enough, in a project of the app."""
    made = await Customer(connection=app_desk.connection).join()
    await made.setting("pro_max_concurrent_calls", "100")
    return made


async def everything(connection: Connection) -> dict[str, int]:
    """Rows of all tables that a request may change."""
    return {
        table: await connection.fetchval(f"select count(*) from {table}")  # noqa: S608 - names of ours
        for table in TABLES
    }


@pytest.mark.parametrize("request_", [None, [], "x", 1, True, {}, [{"user_id": 1}], "{}"])
async def test_what_is_no_request_is_refused(customer: Customer, request_: Any) -> None:
    before = await everything(customer.connection)
    reply = await ask(customer.connection, request_)
    assert reply["code"] == ("unauthorized" if request_ == {} else "bad_request")
    assert reply["items"] == []
    assert reply["counts"] == {"total": 0, "queued": 0, "returned": 0, "refused": 0, "duplicates": 0}
    assert await everything(customer.connection) == before


async def test_a_null_of_sql_is_no_request(customer: Customer) -> None:
    reply = await customer.connection.fetchval("select call_batch_v1(null)")
    assert reply["code"] == "bad_request"


NO_SWITCH: list[Any] = ["true", 1, {}, True]
NO_LIMIT: list[Any] = [-1, 1.5, "many", {}, 10**12]
VALUES: dict[str, list[Any]] = {
    "source": ["Page", "retry ; drop", 1, {}, []],
    "auth": ["none", "COMPAT", 0, True, False, {}, ["compat"]],
    "user_id": ["1", 1, "'; drop table users; --", {"id": 1}, [], True, "0" * 36],
    "session_token": [{}, [], True, "x" * 4097],
    "campaign_id": ["null", 5, {}, [], "0000"],
    "campaign_name": [{}, ["Morning"], False, "x" * 501],
    "prompt_id": ["newest", 5, {}, []],
    "items": ["0123456700", {"0": "0123456700"}, 60123456700, True],
    "customer_name": [{}, [], True],
    "idsale": [{}, [], True, "x" * 201],
    "origin": [{}, [], True],
    "retry": [
        *(True, 3, "yes", []),
        *({"enabled": value} for value in NO_SWITCH),
        *(
            {"enabled": True, "interval_minutes": interval, "max_attempts": most}
            for interval, most in (
                *((0, 3), (1441, 3), (30, -1), (30, 11), (30.5, 3)),
                *(("x", 3), (None, 3), (30, None), (10**30, 3)),
            )
        ),
    ],
    "limits": [
        *(5, "none", [1]),
        *({key: value} for key in LIMITS for value in NO_LIMIT),
    ],
}
WRONG = [(key, value) for key, values in VALUES.items() for value in values]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=[f"{key}-{str(value)[:40]}" for key, value in WRONG])
async def test_a_key_of_the_wrong_shape_is_named(customer: Customer, key: str, value: Any) -> None:
    before = await everything(customer.connection)
    reply = await ask(customer.connection, customer.request(campaign_name="Morning") | {key: value})
    assert (reply["code"], reply["http_status"]) == ("bad_request", 400)
    assert reply["error"].startswith(f"The request is not understood: {key}")
    assert await everything(customer.connection) == before


@pytest.mark.parametrize("value", [None, "", " \t\n"])
async def test_what_is_empty_is_as_if_it_were_not_there(customer: Customer, value: str | None) -> None:
    keys = (
        "source",
        "campaign_id",
        "campaign_name",
        "prompt_id",
        "customer_name",
        "idsale",
        "retry",
        "limits",
        "origin",
    )
    assert (await customer.ask(**dict.fromkeys(keys, value)))["ok"]
    # Of the two ways of knowing a user, the strict one.
    assert (await customer.ask(auth=value))["code"] == "unauthorized"
    assert (await customer.ask(user_id=value, session_token=value))["code"] == "unauthorized"


ITEMS: list[Any] = [
    None,
    True,
    {},
    [],
    [number(1)],
    {"number": None},
    {"number": {"number": number(1)}},
    {"number": [number(1)]},
    {"number": ""},
    {"phone_number": number(1)},
    "",
    " ",
    "+",
    "'); drop table call_queue; --",
    "<img src=x onerror=alert(1)>",
    "９123456700",  # noqa: RUF001 - digits of another script
    "9" * 100_000,
    12.5,
    60123456700.5,
    -60123456700,
    1e300,
    {"number": "x" * 300},
    "012\n3456700 012",
]


async def test_items_of_every_kind_are_refused_one_by_one(customer: Customer, app_desk: Desk) -> None:
    reply = await customer.ask([*ITEMS, number(1)], campaign_name="Morning")
    assert reply["ok"]
    assert reply["counts"]["queued"] == 1
    assert set(results(reply)[:-1]) == {"refused", "duplicate"}
    assert len(reply["items"]) == len(ITEMS) + 1
    for item in reply["items"][:-1]:
        row = await app_desk.row(item["row_id"])
        assert (row["status"], row["outcome"], row["e164"]) == ("done", "blocked", None)
        assert len(item["number"]) <= 100
    refused = await customer.ask(ITEMS)
    assert refused["code"] == "nothing_queued"
    # The page shows it as HTML.
    assert not set("<>&") & set(refused["error"])
    assert await customer.count("campaigns") == 1


async def test_errors_never_hold_a_text_of_the_request(customer: Customer) -> None:
    bad = "<b>bad</b>"
    for key in ("source", "auth", "user_id", "campaign_id", "prompt_id"):
        assert "<" not in (await customer.ask(**{key: bad}))["error"]
    assert "<" not in (await customer.ask([bad], campaign_name=bad))["error"]


async def test_what_an_item_says_beside_its_number_never_refuses_it(customer: Customer, app_desk: Desk) -> None:
    reply = await customer.ask(
        [
            {"number": number(1), "name": {"first": "A"}, "contact_id": 5, "idsale": ["S"]},
            {"number": number(2), "name": "x" * 5000, "contact_id": "none", "idsale": 7, "status": "done"},
            {"number": number(3), "name": "A,B\n\u202e\"'\\", "idsale": "y" * 201},
        ],
        campaign_name="Morning",
    )
    assert results(reply) == ["queued", "queued", "refused"]
    found = [await app_desk.row(row) for row in rows(reply)]
    assert [(row["customer_name"], row["contact_id"], row["idsale"]) for row in found[:2]] == [
        (None, None, None), ("x" * 1000, None, "7")
    ]  # fmt: skip
    assert found[2]["customer_name"] == "A,B\n\u202e\"'\\"
    assert "idsale" in reply["items"][2]["reason"]
    # With nothing else in the request no campaign is made for it.
    alone = await customer.ask([{"number": number(4), "idsale": "y" * 201}], campaign_name="Second")
    assert (alone["code"], await customer.count("campaigns")) == ("nothing_queued", 1)


async def test_spellings_of_one_number_are_one(customer: Customer) -> None:
    spellings = [
        "+60123456700", "60123456700", "0123456700", "012-345 6700", "(012) 345.6700", "00 60 12 345 6700",
        "+60 (12) 3456700", "\t0123456700\r\n", "012\u20113456700", "012\u00a0345\u00a06700", 60123456700,
        60123456700.0, "0123456700",
    ]  # fmt: skip
    reply = await customer.ask(spellings)
    assert results(reply) == ["queued"] + ["duplicate"] * (len(spellings) - 1)
    assert len(set(rows(reply))) == 1
    again = await customer.ask(["0060123456700"])
    assert again["repeated"]


@pytest.mark.parametrize("depth", [50, 3000])
async def test_deep_nesting_is_only_a_bad_item(customer: Customer, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    text = json.dumps(customer.request(["@", number(1)])).replace('"@"', deep)
    reply = json.loads(await customer.connection.fetchval("select call_batch_v1($1::text::jsonb)::text", text))
    assert results(reply) == ["refused", "queued"]


async def test_a_zero_byte_never_gets_in(customer: Customer) -> None:
    with pytest.raises(asyncpg.UntranslatableCharacterError):
        async with customer.connection.transaction():
            await customer.ask([{"number": number(1), "name": "a\u0000b"}])
    assert await customer.count() == 0


async def test_a_balance_that_is_missing_is_none(customer: Customer) -> None:
    await customer.connection.execute("update users set pro_balance_minutes = null")
    refused = await customer.ask()
    assert refused["error"].startswith("Pro balance insufficient: 0")


async def test_a_project_without_the_apps_tables_knows_no_user(desk: Desk) -> None:
    request = Customer(connection=desk.connection).request()
    assert (await ask(desk.connection, request))["code"] == "user_unknown"
    assert (await ask(desk.connection, {**request, "session_token": "x"}))["code"] == "user_unknown"
    assert (await ask(desk.connection, {**request, "auth": "session", "session_token": "x"}))["code"] == "unauthorized"


async def test_the_function_is_for_the_secret_key_only(customer: Customer) -> None:
    request = customer.request([number(1)], source="page")
    for role in ("anon", "authenticated"):
        for asked in ("select call_batch_v1($1)", "select $1::jsonb, count(*) from call_batches"):
            inner = customer.connection.transaction()
            await inner.start()
            await customer.connection.execute(f"set local role {role}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await customer.connection.fetchval(asked, request)
            await inner.rollback()
    async with customer.connection.transaction():
        await customer.connection.execute("set local role service_role")
        assert (await customer.connection.fetchval("select call_batch_v1($1)", request))["ok"]
    helpers = await customer.connection.fetch(
        "select p.oid::regprocedure::text from pg_proc p where p.proname like 'call\\_batch\\_%' "
        "and p.proname <> 'call_batch_v1' and has_function_privilege('service_role', p.oid, 'execute')"
    )
    assert helpers == []


@pytest.mark.parametrize("at", ["call_queue", "call_logs", "call_batches", "campaigns"])
async def test_what_fails_in_the_middle_leaves_nothing(customer: Customer, at: str) -> None:
    connection = customer.connection
    before = await everything(connection)
    # An owner of a hosted project may have rules of their own on any table.
    async with connection.transaction():
        condition = {
            "call_queue": "new.phone_number = '+60123400003'",
            "call_logs": "true",
            "call_batches": "true",
            "campaigns": "true",
        }[at]
        await connection.execute(
            "create function public.refuse() returns trigger language plpgsql as $$ begin "
            f"if {condition} then raise exception 'not here'; end if; return new; end $$"
        )
        await connection.execute(f"create trigger zz before insert on {at} for each row execute function refuse()")
        if at == "call_logs":  # Only the blocked twin cannot be written; that must not refuse a batch.
            reply = await customer.ask([number(1), "12"], campaign_name="Morning")
            assert results(reply) == ["queued", "refused"]
            assert await customer.count() == 2
            return
        with pytest.raises(asyncpg.PostgresError, match="not here"):
            async with connection.transaction():
                await customer.ask([number(i) for i in range(6)], campaign_name="Morning")
        assert await everything(connection) == before


async def test_ids_are_new_for_each_request(customer: Customer) -> None:
    first, second = await customer.ask([number(1)]), await customer.ask([number(2)])
    assert uuid.UUID(first["batch_id"]) != uuid.UUID(second["batch_id"])
