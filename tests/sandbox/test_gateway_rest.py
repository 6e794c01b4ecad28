"""The local PostgREST: statuses, bodies and errors as seen on a real one (14.17), and through supabase-py."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
import jwt
import pytest
import pytest_asyncio
from aiohttp import web
from postgrest import APIResponse, CountMethod
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from adapter.sandbox.gateway import Limits, lose
from adapter.sandbox.postgres import Postgres
from tests.sandbox.gateway_support import World, world

PEOPLE = """
insert into people (name, age, tags, about, born) values
  ('ann', 30, '{a,b}', '{"city": "Kuala Lumpur", "pets": [{"name": "Rex"}]}', '2000-01-02T03:04:05+08:00'),
  ('bob', 41, '{}', '{"city": "Ipoh"}', null),
  ('cy, "the" (cat)', null, null, null, null)
"""


@dataclass(slots=True, kw_only=True)
class Answer:
    """An HTTP answer."""

    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)


Ask = Callable[..., Awaitable[Answer]]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def here(pg_server: Postgres) -> AsyncIterator[World]:
    """A database that the test may change."""
    async with world(pg_server) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def ask(here: World) -> AsyncIterator[Ask]:
    async with asking(here) as send:
        yield send


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(pg_server: Postgres) -> AsyncIterator[World]:
    """A database with PEOPLE, shared by tests that only read or are refused."""
    async with world(pg_server) as found:
        await found.run(PEOPLE)
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ask_people(people: World) -> AsyncIterator[Ask]:
    async with asking(people) as send:
        yield send


@asynccontextmanager
async def asking(here: World) -> AsyncIterator[Ask]:
    """Send one request; as the service role unless said otherwise."""
    async with aiohttp.ClientSession() as session:

        async def send(
            method: str, path: str, body: Any = None, *, key: str = "", token: str = "", **headers: str
        ) -> Answer:
            apikey = key or here.gateway.service_role_key
            sent = {"apikey": apikey, "Authorization": f"Bearer {token or apikey}"}
            sent.update({name.replace("_", "-"): text for name, text in headers.items()})
            data = body if body is None or isinstance(body, str) else json.dumps(body)
            url = f"{here.gateway.url}/rest/v1/{path}"
            async with session.request(method, url, data=data, headers=sent) as response:
                return Answer(status=response.status, text=await response.text(), headers=dict(response.headers))

        yield send


@pytest_asyncio.fixture(loop_scope="module")
async def supabase(here: World) -> AsyncIterator[AsyncClient]:
    async with httpx.AsyncClient() as http:
        options = AsyncClientOptions(httpx_client=http)
        yield await acreate_client(here.gateway.url, here.gateway.secret_key, options=options)


# ---------------------------------------------------------------- the official client


def rows(response: APIResponse) -> list[dict[str, Any]]:
    """The answer's rows; supabase-py types them as any JSON."""
    found: Any = response.data
    assert isinstance(found, list)
    return found


async def test_supabase_py_inserts_reads_updates_and_deletes(here: World, supabase: AsyncClient) -> None:
    people = supabase.table("people")
    exact = CountMethod.exact
    one = await people.insert({"name": "ann", "age": 30, "about": {"n": [1, None, "é"]}}).execute()
    assert rows(one)[0]["about"] == {"n": [1, None, "é"]}
    assert rows(one)[0]["amount"] == 7.5
    two: list[dict[str, Any]] = [{"name": "bob", "age": 41}, {"name": "cy", "tags": ["x", "y"]}]
    many = await people.insert(two, count=exact).execute()
    assert (many.count, [row["name"] for row in rows(many)]) == (2, ["bob", "cy"])
    read = await people.select("name, years:age", count=exact).or_("age.gt.35,name.eq.cy").order("id").execute()
    assert (read.count, read.data) == (2, [{"name": "bob", "years": 41}, {"name": "cy", "years": None}])
    changed = await people.update({"age": 31}).eq("name", "ann").execute()
    assert rows(changed)[0]["age"] == 31
    merged = await people.upsert({"name": "ann", "age": 32}, on_conflict="name").execute()
    assert (rows(merged)[0]["id"], rows(merged)[0]["age"]) == (1, 32)
    kept = await people.upsert({"name": "ann", "age": 99}, on_conflict="name", ignore_duplicates=True).execute()
    assert kept.data == []
    assert (await people.select("age").eq("name", "ann").single().execute()).data == {"age": 32}
    assert await people.select("age").eq("name", "nobody").maybe_single().execute() is None
    gone = await people.delete().in_("name", ["bob", "cy"]).execute()
    assert len(gone.data) == 2
    assert await here.value("select count(*) from people") == 1


async def test_supabase_py_calls_functions(supabase: AsyncClient) -> None:
    assert (await supabase.rpc("sum_v1", {"p_a": 1}).execute()).data == 11
    assert (await supabase.rpc("big_v1", {}).execute()).data == {
        "id": 9007199254740993,
        "amount": 12345678901234567890.123,
    }
    assert (await supabase.rpc("nothing_v1", {}).execute()).data in (None, [])
    assert (await supabase.rpc("ids_v1", {"p_count": 3}).execute()).data == [1, 2, 3]
    assert (await supabase.rpc("pair_v1", {}).execute()).data == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert (await supabase.rpc("sum_v1", {"p_a": 5, "p_b": 6}, get=True).execute()).data == 11


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("age=eq.30", ["ann"]),
        ("age=neq.30", ["bob"]),
        ("age=gt.30", ["bob"]),
        ("age=gte.30&age=lt.41", ["ann"]),
        ("age=lte.41&age=not.eq.30", ["bob"]),
        ("age=in.(30,41)", ["ann", "bob"]),
        ("age=in.()", []),
        ("age=is.null", ["cy"]),
        ("age=not.is.null", ["ann", "bob"]),
        ("name=like.*n*", ["ann"]),
        ("name=ilike.B*", ["bob"]),
        ("name=in.(ann,%22cy, \\%22the\\%22 (cat)%22)", ["ann", "cy"]),
        ("or=(age.eq.30,age.is.null)", ["ann", "cy"]),
        ("or=(age.eq.30,and(age.gt.40,name.in.(bob,ann)))", ["ann", "bob"]),
        ("not.or=(age.eq.30,age.is.null)", ["bob"]),
        ("or=(name.eq.%22cy, \\%22the\\%22 (cat)%22,age.not.lt.40)", ["bob", "cy"]),
        ("and=(age.gt.20,age.lt.40)", ["ann"]),
        ("about->>city=eq.Ipoh", ["bob"]),
        ("about->pets->0->>name=eq.Rex", ["ann"]),
        ("or=(about->>city.eq.Ipoh,age.is.null)", ["bob", "cy"]),
        ("about=cs.{%22city%22:%22Ipoh%22}", ["bob"]),
        ("tags=cs.{a}", ["ann"]),
        ("born=gt.1999-01-01T00:00:00%2B08:00", ["ann"]),
    ],
)
async def test_filters(ask_people: Ask, query: str, names: list[str]) -> None:
    found = await ask_people("GET", f"people?select=name&order=id&{query}")
    assert found.status == 200, found.text
    assert [row["name"].split(",")[0] for row in found.json] == names


async def test_a_plus_that_is_not_encoded_is_a_space(ask_people: Ask) -> None:
    found = await ask_people("GET", "people?born=gt.1999-01-01T00:00:00+08:00")
    assert (found.status, found.json["code"]) == (400, "22007")


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("select=id,n:name&order=age.desc.nullslast&limit=1", [{"id": 2, "n": "bob"}]),
        ("select=id&order=age.desc&limit=1", [{"id": 3}]),
        ("select=city:about->>city,age::text&id=eq.1", [{"city": "Kuala Lumpur", "age": "30"}]),
        ("select=about->pets&id=eq.1", [{"pets": [{"name": "Rex"}]}]),
        ("select=id&order=id&offset=2", [{"id": 3}]),
    ],
)
async def test_select_order_and_page(ask_people: Ask, query: str, rows: list[dict[str, Any]]) -> None:
    assert (await ask_people("GET", f"people?{query}")).json == rows


@pytest.mark.parametrize(
    ("path", "headers", "status", "content_range"),
    [
        ("people?order=id", {}, 200, "0-2/*"),
        ("people?limit=2", {"Prefer": "count=exact"}, 206, "0-1/3"),
        ("people?limit=3", {"Prefer": "count=exact"}, 200, "0-2/3"),
        ("people", {"Range": "1-1", "Prefer": "count=exact"}, 206, "1-1/3"),
        ("people?id=eq.0", {"Prefer": "count=exact"}, 200, "*/0"),
        ("people?offset=9", {}, 200, "*/*"),
        ("people?offset=9", {"Prefer": "count=exact"}, 416, None),
    ],
)
async def test_counting_and_paging(
    ask_people: Ask, path: str, headers: dict[str, str], status: int, content_range: str | None
) -> None:
    for method in ("GET", "HEAD"):
        found = await ask_people(method, path, **headers)
        assert (found.status, found.headers.get("Content-Range")) == (status, content_range)
        if method == "HEAD":
            assert found.text == ""


@pytest.mark.parametrize(
    ("select", "row"),
    [
        ("id,person(name,years:age)", {"id": 1, "person": {"name": "ann", "years": 30}}),
        ("who:people!visits_friend_fkey(name)", {"who": {"name": "bob"}}),
        ("people!by(*)", {"people": None}),
        ("visits_friend_fkey(age)", {"visits_friend_fkey": {"age": 41}}),
        ("host(name),*", {"host": {"name": "host of 1"}, "id": 1, "person": 1, "friend": 2, "by": None}),
    ],
)
async def test_one_row_of_another_table_is_embedded(here: World, ask: Ask, select: str, row: dict[str, Any]) -> None:
    await here.run(PEOPLE)
    await here.run("insert into people (name) values ('host of 1'); insert into visits values (1, 1, 2), (2, null, 1)")
    assert (await ask("GET", f"visits?select={select}&id=eq.1")).json == [row]
    # It is read with the rights of who asks: the policy of the other table hides its rows from this one.
    hidden = {key: None if isinstance(told, dict) else told for key, told in row.items()}
    assert (await ask("GET", f"visits?select={select}&id=eq.1", key=here.gateway.anon_key)).json == [hidden]
    changed = await ask("PATCH", f"visits?select={select}&id=eq.1", {"id": 1}, Prefer="return=representation")
    assert changed.json == [row]


async def test_one_answer_carries_at_most_a_thousand_rows(here: World, ask: Ask) -> None:
    await here.run("insert into people (name) select n::text from generate_series(1, 1001) n")
    assert len((await ask("GET", "people?select=id")).json) == 1000
    assert len((await ask("POST", "rpc/ids_v1", {"p_count": 1001})).json) == 1000


async def test_numbers_keep_all_their_digits(here: World, ask: Ask) -> None:
    big, exact = "9007199254740993", "12345678901234567890.123"
    sent = f'[{{"id": 1, "big": {big}, "exact": {exact}, "docb": {{"n": {exact}}}}}]'
    await ask("POST", "kinds", sent)
    read = (await ask("GET", "kinds?select=big,exact,docb")).text
    assert read == f'[{{"big":{big},"exact":{exact},"docb":{{"n": {exact}}}}}]'
    assert (await ask("POST", "rpc/big_v1")).text == f'{{"id": {big}, "amount": {exact}}}'


# ---------------------------------------------------------------- writing


async def test_writes_say_how_they_went(here: World, ask: Ask) -> None:
    row = {"name": "ann"}
    whole = {"Prefer": "return=representation"}
    assert (await ask("POST", "people", row)).status == 201
    added = await ask("POST", "people?select=name", {"name": "bob"}, **whole)
    assert (added.status, added.json) == (201, [{"name": "bob"}])
    assert (await ask("POST", "people", [])).status == 201
    changed = await ask("PATCH", "people?name=eq.ann", {"age": 1})
    assert (changed.status, changed.text) == (204, "")
    assert (await ask("PATCH", "people?name=eq.ann&select=age", {"age": 2}, **whole)).json == [{"age": 2}]
    nobody = await ask("PATCH", "people?name=eq.nobody", {"age": 2}, **whole)
    assert (nobody.status, nobody.json) == (200, [])
    assert (await ask("PATCH", "people?name=eq.nobody", {"age": 2})).status == 204
    gone = await ask("DELETE", "people?name=eq.bob", Prefer="count=exact")
    assert (gone.status, gone.headers["Content-Range"]) == (204, "*/1")
    assert await here.value("select array_agg(name) from people") == ["ann"]


async def test_upserts_tell_new_from_changed(here: World, ask: Ask) -> None:
    merge = {"Prefer": "resolution=merge-duplicates,return=representation"}
    ignore = {"Prefer": "resolution=ignore-duplicates,return=representation"}
    path = "people?on_conflict=name&select=name,age"
    first = await ask("POST", path, [{"name": "ann", "age": 1}], **merge)
    assert (first.status, first.json) == (201, [{"name": "ann", "age": 1}])
    second = await ask("POST", path, [{"name": "ann", "age": 2}], **merge)
    assert (second.status, second.json) == (200, [{"name": "ann", "age": 2}])
    mixed = await ask("POST", path, [{"name": "ann", "age": 3}, {"name": "bob", "age": 4}], **merge)
    assert mixed.status == 201
    ignored = await ask("POST", path, [{"name": "ann", "age": 9}], **ignore)
    assert (ignored.status, ignored.json) == (201, [])
    by_key = await ask("POST", "people", [{"id": 1, "name": "ann"}], **merge)
    assert (by_key.status, by_key.json[0]["age"]) == (200, 3)
    twice = await ask("POST", path, [{"name": "zoe"}, {"name": "zoe"}], **merge)
    assert (twice.status, twice.json["code"]) == (500, "21000")


async def test_bulk_inserts_need_to_say_their_columns(here: World, ask: Ask) -> None:
    uneven = [{"name": "ann"}, {"name": "bob", "amount": 1}]
    refused = await ask("POST", "people", uneven)
    assert (refused.status, refused.json["code"]) == (400, "PGRST102")
    columns = "people?columns=%22name%22,%22amount%22"
    without_default = await ask("POST", columns, uneven)
    assert (without_default.status, without_default.json["code"]) == (400, "23502")
    assert (await ask("POST", columns, uneven, Prefer="missing=default")).status == 201
    assert await here.value("select array_agg(amount::text order by id) from people") == ["7.50", "1"]
    assert (await ask("POST", "kinds?columns=id,%22Odd%20\\%22name%22", [{"id": 1, 'Odd "name': "x"}])).status == 201


async def test_single_writes_are_undone_when_they_touch_another_number_of_rows(here: World, ask: Ask) -> None:
    await here.run(PEOPLE)
    one = {"Accept": "application/vnd.pgrst.object+json", "Prefer": "return=representation"}
    refused = await ask("PATCH", "people?age=not.is.null", {"age": 1}, **one)
    assert (refused.status, refused.json["code"]) == (406, "PGRST116")
    assert refused.json["details"] == "The result contains 2 rows"
    assert await here.value("select count(*) from people where age = 1") == 0
    assert (await ask("PATCH", "people?id=eq.1&select=age", {"age": 1}, **one)).json == {"age": 1}


# ---------------------------------------------------------------- functions


async def test_functions_take_json_arguments_and_give_json(here: World, ask: Ask) -> None:
    ids = ["6f9619ff-8b86-4d01-b42d-00cf4fc964ff"]
    sent = {"p_ids": ids, "p_at": "2026-01-02T03:04:05.5Z", "p_rows": [{"a": None}]}
    assert (await ask("POST", "rpc/list_v1", sent)).json == {
        "ids": ids,
        "at": "2026-01-02T03:04:05.5+00:00",
        "rows": [{"a": None}],
    }
    nothing = await ask("POST", "rpc/nothing_v1", {})
    assert (nothing.status, nothing.text) == (204, "")
    assert (await ask("POST", "rpc/null_v1")).text == "null"
    await here.run(PEOPLE)
    assert (await ask("POST", "rpc/one_v1", {"p_name": "ann"})).json["age"] == 30
    filtered = await ask("POST", "rpc/people_v1?select=name&age=lt.40", {"p_min": 1}, Prefer="count=exact")
    assert (filtered.json, filtered.headers["Content-Range"]) == ([{"name": "ann"}], "0-0/1")


async def test_who_asks_is_in_the_transaction(here: World, ask: Ask) -> None:
    user = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
    anon = here.gateway.anon_key
    token = here.gateway.token("authenticated", sub=user)
    assert (await ask("POST", "rpc/whoami_v1")).json["role"] == "service_role"
    for key in (anon, here.gateway.publishable_key):
        assert (await ask("POST", "rpc/whoami_v1", key=key)).json["role"] == "anon"
    signed_in = (await ask("POST", "rpc/whoami_v1", key=anon, token=token)).json
    assert (signed_in["role"], signed_in["uid"], signed_in["claims"]["sub"]) == ("authenticated", user, user)
    await here.run(
        "insert into people (name, owner) values ('mine', '6f9619ff-8b86-4d01-b42d-00cf4fc964ff'), ('x', null)"
    )
    mine = await ask("GET", "people?select=name", key=anon, token=token)
    assert mine.json == [{"name": "mine"}]
    hidden = await ask("GET", "people", key=anon)
    assert (hidden.status, hidden.json) == (200, [])


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        (("GET", "nope", None), (404, "PGRST205")),
        (("GET", "people?select=nope", None), (400, "42703")),
        (("GET", "people?nope=eq.1", None), (400, "42703")),
        (("GET", "people?id=eq.x", None), (400, "22P02")),
        (("GET", "people?id=what.1", None), (400, "PGRST100")),
        (("GET", "people?select=name,visits!visits_person_fkey(id)", None), (400, "SANDBOX")),
        (("GET", "people?select=age.sum()", None), (400, "SANDBOX")),
        (("GET", "people?select=name,calls(id)", None), (400, "PGRST200")),
        (("GET", "visits?select=people(name)", None), (300, "PGRST201")),
        (("GET", "visits?select=person(nonsense)", None), (400, "42703")),
        (("GET", "visits?select=secrets!visits_person_fkey(id)", None), (400, "PGRST200")),
        (("POST", "people", {"nope": 1}), (400, "PGRST204")),
        (("POST", "people", {"age": 1}), (400, "23502")),
        (("POST", "people", {"name": "ann"}), (409, "23505")),
        (("POST", "people", {"name": "zoe", "age": "x"}), (400, "22P02")),
        (("POST", "people", "{"), (400, "PGRST102")),
        (("PATCH", "people", {"age": 1}), (400, "21000")),
        (("DELETE", "people", None), (400, "21000")),
        (("POST", "rpc/nope", {}), (404, "PGRST202")),
        (("POST", "rpc/sum_v1", {"p_b": 1}), (404, "PGRST202")),
        (("POST", "rpc/sum_v1", {"p_a": 1, "p_c": 1}), (404, "PGRST202")),
        (("POST", "rpc/sum_v1", {"p_a": "x"}), (400, "22P02")),
        (("GET", "ungranted", None), (403, "42501")),
        (("GET", "rpc/run_again_v1?p_until=0", None), (405, "25006")),
        (("POST", "rpc/fail_v1", {"p_state": "P0001", "p_message": "m"}), (400, "P0001")),
        (("POST", "rpc/fail_v1", {"p_state": "PT418", "p_message": "m"}), (418, "PT418")),
        (("POST", "rpc/fail_v1", {"p_state": "23503", "p_message": "m"}), (409, "23503")),
        (("POST", "rpc/fail_v1", {"p_state": "55P03", "p_message": "m"}), (500, "55P03")),
        (("POST", "rpc/fail_v1", {"p_state": "57014", "p_message": "m"}), (500, "57014")),
    ],
)
async def test_refusals(
    people: World, ask_people: Ask, request_: tuple[str, str, Any], refusal: tuple[int, str]
) -> None:
    refused = await ask_people(*request_)
    assert (refused.status, refused.json["code"]) == refusal, refused.text
    assert set(refused.json) == {"code", "message", "details", "hint"}
    assert await people.value("select count(*) from people") == 3


async def test_an_error_of_our_own_keeps_its_words(ask: Ask) -> None:
    refused = await ask("POST", "rpc/fail_v1", {"p_state": "PT409", "p_message": "no"})
    assert (refused.status, refused.json) == (
        409,
        {"code": "PT409", "message": "no", "details": "more", "hint": "do this"},
    )


async def test_anon_without_the_right_is_401_and_authenticated_403(here: World, ask: Ask) -> None:
    anon = here.gateway.anon_key
    assert (await ask("GET", "secrets", key=anon)).status == 401
    assert (await ask("GET", "secrets", key=anon, token=here.gateway.token("authenticated"))).status == 403
    insert = await ask("POST", "people", {"name": "x"}, key=anon)
    assert (insert.status, insert.json["code"]) == (401, "42501")


async def test_a_slow_statement_is_ended_by_its_roles_limit(here: World, ask: Ask) -> None:
    await here.run("alter role anon set statement_timeout = '50ms'")
    try:
        slow = await ask("POST", "rpc/sleep_v1", {"p_seconds": 5}, key=here.gateway.anon_key)
    finally:
        await here.run("alter role anon set statement_timeout = '3s'")
    assert (slow.status, slow.json["code"]) == (500, "57014")


async def test_a_functions_own_limit_goes_before_its_roles(here: World, ask: Ask) -> None:
    await here.run(
        """create function patient_v1() returns text language sql set statement_timeout = '5s' set search_path = ''
           as $$ select pg_sleep(0.3)::text || current_setting('statement_timeout') $$;
           alter role anon set statement_timeout = '50ms'"""
    )
    try:
        answer = await ask("POST", "rpc/patient_v1", key=here.gateway.anon_key)
    finally:
        await here.run("alter role anon set statement_timeout = '3s'")
    assert (answer.status, answer.json) == (200, "5s")


async def test_tokens(here: World, ask: Ask) -> None:
    keys, anon = here.gateway.keys, here.gateway.anon_key

    async def refusal(token: str) -> tuple[int, str]:
        answer = await ask("POST", "rpc/whoami_v1", key=anon, token=token)
        return answer.status, answer.json.get("code", "fine")

    assert await refusal(keys.token("authenticated", seconds=-60)) == (401, "PGRST303")
    assert await refusal(keys.token("authenticated", seconds=-10)) == (
        200,
        "fine",
    )  # Half a minute of skew is forgiven.
    assert await refusal("garbage") == (401, "PGRST301")
    assert await refusal(jwt.encode({"role": "anon"}, "x" * 40, "HS256")) == (401, "PGRST301")
    assert await refusal(keys.token("nobody_role")) == (401, "22023")
    assert await refusal(jwt.encode({}, keys.jwt_secret, "HS256")) == (200, "fine")  # No role: anon.


async def test_the_gateway_wants_a_known_key(here: World) -> None:
    url = f"{here.gateway.url}/rest/v1/people"
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            assert (response.status, (await response.json())["message"]) == (401, "No API key found in request")
        async with session.get(url, headers={"apikey": "sb_secret_nonsense"}) as response:
            assert (response.status, (await response.json())["message"]) == (401, "Invalid API key")
        async with session.get(url, params={"apikey": here.gateway.secret_key}) as response:
            assert response.status == 200
        async with session.options(url, headers={"Origin": "http://localhost:3000"}) as response:
            assert response.status == 200
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert "Authorization" in response.headers["Access-Control-Allow-Headers"]


async def test_names_cannot_break_out_of_the_sql(here: World, ask: Ask) -> None:
    await here.run(PEOPLE)
    evil = 'x"; drop table people; --'
    for path in (f"people?{evil}=eq.1", f"people?select={evil}", f"people?order={evil}", f"{evil}", f"rpc/{evil}"):
        assert (await ask("POST" if path.startswith("rpc") else "GET", path)).status in (400, 404)
    assert (await ask("GET", "people?about->>'x')::int=eq.1")).status == 400
    assert (await ask("POST", "people", {evil: 1})).json["code"] == "PGRST204"
    assert (await ask("GET", "people?name=eq.'; drop table people; --")).json == []
    assert await here.value("select count(*) from people") == 3


# ---------------------------------------------------------------- the schema, re-runs, faults


async def test_new_ddl_is_visible_at_once(here: World, ask: Ask) -> None:
    assert (await ask("GET", "late")).status == 404
    await here.run("create table late (id int); grant all on late to service_role")
    assert (await ask("POST", "late", {"id": 1})).status == 201
    await here.run("alter table late add column more text")
    assert (await ask("POST", "late", {"id": 2, "more": "x"})).status == 201
    assert (await ask("GET", "late?id=eq.2")).json == [{"id": 2, "more": "x"}]
    await here.run("drop table late")
    assert (await ask("GET", "late")).status == 404


async def test_serialization_failures_are_run_again_but_not_for_ever(
    here: World, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        good = await ask("POST", "rpc/run_again_v1", {"p_until": 3})
    assert (good.status, good.json) == (200, 3)
    assert len([record for record in caplog.records if "for ever" in record.message]) == 2
    bad = await ask("POST", "rpc/run_again_v1", {"p_until": 1000})
    assert (bad.status, bad.json["code"]) == (500, "40001")
    assert await here.value("select last_value from runs") == 3 + 1 + Limits().reruns


async def test_faults_stand_before_after_and_instead_of_a_request(here: World, ask: Ask) -> None:
    async def lost_answer(
        request: web.Request, forward: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        await forward()
        return lose(request)

    here.gateway.http_fault = lost_answer
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask("POST", "people", {"name": "ann"})
    assert await here.value("select count(*) from people") == 1

    async def away(request: web.Request, forward: Callable[[], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        return web.Response(status=502, text="<html>bad gateway</html>")

    here.gateway.http_fault = away
    assert (await ask("GET", "people")).status == 502
    here.gateway.http_fault = None
    assert (await ask("GET", "people")).status == 200


async def test_a_full_pool_is_504(pg_server: Postgres) -> None:
    async with world(pg_server, limits=Limits(pool=1, pool_seconds=0.2)) as here, aiohttp.ClientSession() as session:
        headers = {"apikey": here.gateway.secret_key}
        url = f"{here.gateway.url}/rest/v1/rpc"

        async def sleep() -> tuple[int, str]:
            async with session.post(f"{url}/sleep_v1", headers=headers, json={"p_seconds": 0.6}) as response:
                return response.status, await response.text()

        answers = await asyncio.gather(sleep(), sleep())
    assert sorted(status for status, _ in answers) == [204, 504]
    assert any("PGRST003" in text for _, text in answers)


async def test_a_restarting_database_is_503_and_then_fine(here: World, ask: Ask, pg_server: Postgres) -> None:
    assert (await ask("GET", "people")).status == 200
    await here.run("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'authenticator'")
    async with asyncio.timeout(5):
        while (answer := await ask("GET", "people")).status != 200:
            assert answer.status == 503
            await asyncio.sleep(0.05)
