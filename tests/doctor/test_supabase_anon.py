"""What a stranger with the public key can do: the catalog and real tries, and what neither proves."""

import asyncio
from collections.abc import Mapping

import pytest
from aiohttp import web

from adapter.doctor import supabase_anon
from adapter.doctor.findings import Finding, Verdict
from adapter.doctor.supabase_anon import Reach, anon, reach
from adapter.doctor.supabase_project import Shipped
from adapter.sandbox.gateway import Gateway
from adapter.sandbox.gateway.faults import Forward
from adapter.supabase_io.config import HttpTimings, SupabaseConfig
from adapter.supabase_io.inspection import Inspector, Policy, Table
from adapter.supabase_io.stranger import Access, Stranger, Tries
from tests.supabase.helpers import connected
from tests.support.db import ROOT

SECRET_NAME = "somebody-with-a-secret"


async def found(dsn: str, change: str = "select 1", *, key: str = "anon", given: bool = True) -> Finding:
    """The finding after a change of the project."""
    async with connected(dsn) as connection:
        await connection.execute(change)
    async with Gateway.started(dsn) as gateway:
        config = SupabaseConfig(url=gateway.url, key=gateway.secret_key)
        keys = {
            "anon": gateway.anon_key,
            "publishable": gateway.publishable_key,
            "secret": gateway.secret_key,
            "service_role": gateway.service_role_key,
            "user": gateway.token("authenticated"),
            "of another project": "sb_publishable_of_another",
        }
        async with Inspector(config) as inspector:
            inspection = await inspector.inspect()
        finding = await anon(config, keys[key] if given else None, inspection, Shipped.read())
    assert SECRET_NAME not in repr(finding)
    assert not any(key in repr(finding) for key in keys.values())
    return finding


# ---------------------------------------------------------------- what the catalog says


def table(
    *policies: Policy, rls: bool = True, rights: tuple[str, ...] = ("select", "insert", "update", "delete")
) -> Table:
    """A table on which anon has these rights."""
    return Table(rls=rls, rows=None, key="id", column="id", rights={"anon": frozenset(rights)}, policies=policies)


def policy(
    command: str = "all",
    *,
    roles: tuple[str, ...] = ("public",),
    permissive: bool = True,
    rows: bool | None = True,
    new: bool | None = None,
) -> Policy:
    """A policy; by default the one that lets everybody in."""
    return Policy(
        name="any", command=command, permissive=permissive, roles=frozenset(roles), all_rows=rows, any_new=new
    )


NO, SOME, ALL = Reach.NONE, Reach.SOME, Reach.ALL


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        (table(rls=False), {"select": ALL, "insert": ALL, "update": ALL, "delete": ALL}),
        (table(rls=False, rights=("select",)), {"select": ALL, "insert": NO, "update": NO, "delete": NO}),
        (table(), {"select": NO, "insert": NO, "update": NO, "delete": NO}),
        (table(policy()), {"select": ALL, "insert": ALL, "update": ALL, "delete": ALL}),
        (table(policy(), rights=()), {"select": NO, "insert": NO, "update": NO, "delete": NO}),
        (table(policy("select")), {"select": ALL, "insert": NO, "update": NO, "delete": NO}),
        (table(policy("select", rows=False)), {"select": SOME}),
        (table(policy("select", rows=False), policy("select")), {"select": ALL}),
        (table(policy("select"), policy("select", permissive=False, rows=False)), {"select": SOME}),
        (table(policy("select"), policy("select", permissive=False)), {"select": ALL}),
        (table(policy("select", permissive=False)), {"select": NO}),
        (table(policy("insert", rows=None, new=True)), {"insert": ALL, "select": NO}),
        (table(policy("insert", rows=None, new=False)), {"insert": SOME}),
        (table(policy("all", rows=True, new=False)), {"insert": SOME, "update": SOME, "delete": ALL}),
        (table(policy(roles=("authenticated",))), {"select": NO}),
        (table(policy(roles=("anon",))), {"select": ALL}),
    ],
)
def test_what_the_catalog_says(what: Table, wanted: Mapping[str, Reach]) -> None:
    assert {command: reach(what, command) for command in wanted} == wanted


ALLOWED, DENIED = Access.ALLOWED, Access.DENIED


@pytest.mark.parametrize(
    ("what", "tries", "reads", "writes"),
    [
        (table(policy()), Tries(read=ALLOWED, seen=True, update=ALLOWED, delete=ALLOWED), True, True),
        # Empty, and yet open.
        (table(policy()), Tries(read=ALLOWED, update=ALLOWED, delete=ALLOWED), True, True),
        (table(), Tries(read=ALLOWED, update=ALLOWED, delete=ALLOWED), False, False),
        (table(rights=()), Tries(read=DENIED, update=DENIED, delete=DENIED), False, False),
        # What is seen counts, whatever the catalog says.
        (table(), Tries(read=ALLOWED, seen=True, update=ALLOWED, delete=ALLOWED), True, False),
        # A condition: no row is seen without signing in, and that is all one knows.
        (table(policy(rows=False)), Tries(read=ALLOWED, update=ALLOWED, delete=ALLOWED), None, None),
        (
            table(policy("insert", rows=None, new=True)),
            Tries(read=ALLOWED, update=ALLOWED, delete=ALLOWED),
            False,
            True,
        ),
        (table(policy("insert", rows=None, new=False)), Tries(read=ALLOWED, update=DENIED, delete=DENIED), False, None),
        (table(policy()), Tries(read=Access.UNCLEAR, update=Access.UNCLEAR, delete=Access.UNCLEAR), None, None),
    ],
)
def test_what_both_together_prove(what: Table, tries: Tries, reads: bool | None, writes: bool | None) -> None:
    assert supabase_anon._read(what, tries) is reads
    assert supabase_anon._write(what, tries) is writes


# ---------------------------------------------------------------- real tries


@pytest.mark.parametrize("key", ["anon", "publishable"])
async def test_a_project_of_ours_alone_is_closed(db: str, key: str) -> None:
    finding = await found(db, key=key)
    assert finding.verdict is Verdict.OK, finding
    assert finding.found.startswith("nothing of ours is open; closed: read call_logs")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("grant select on call_queue to anon", "select call_queue (row level security still stands before its rows)"),
        ("grant update on call_settings to anon", "update call_settings"),
        ("grant delete on call_outcomes to anon", "delete call_outcomes"),
        ("grant select (id) on call_queue to anon; alter table call_queue disable row level security",
         "select call_queue"),
        ("grant insert on call_queue to anon; create policy own on call_queue for insert to anon with check (true)",
         "insert call_queue, that is: have anybody called at your cost"),
        ("grant execute on function call_cancel_v1 to anon", "call call_cancel_v1"),
        ("grant execute on function call_number_v1 to anon", "call call_number_v1"),
        ("grant execute on function call_wish_v1 to anon", "call call_wish_v1"),
        ("grant execute on function call_sync_v1 to anon", "call call_sync_v1"),
    ],
)  # fmt: skip
async def test_anything_of_ours_that_is_open_fails(db: str, change: str, words: str) -> None:
    finding = await found(db, change)
    assert finding.verdict is Verdict.FAIL, finding
    assert words in finding.found
    assert "install.sql" in finding.mend


async def test_install_sql_takes_the_rights_away_again(app_db: str) -> None:
    change = (
        CLOSE
        + "grant all on all tables in schema public to anon, authenticated; grant select (pbx) on call_pbx to anon; "
        "grant execute on all functions in schema public to anon, public"
    )
    opened = await found(app_db, change)
    assert opened.verdict is Verdict.FAIL
    assert "install.sql" in opened.mend
    closed = await found(app_db, (ROOT / "supabase" / "install.sql").read_text(encoding="utf-8"))
    assert closed.verdict is Verdict.OK, closed


async def test_a_function_that_writes_cannot_write_when_a_stranger_may_call_it(db: str) -> None:
    await found(db, "grant execute on all functions in schema public to anon")
    async with connected(db) as connection:
        rows = await connection.fetchrow(
            "select (select count(*) from call_queue), (select count(*) from call_adapters), "
            "(select count(*) from call_logs), (select count(*) from realtime.messages)"
        )
    assert tuple(rows or ()) == (0, 0, 0, 0)


OPEN = f"insert into users (username, email) values ('{SECRET_NAME}', '{SECRET_NAME}@example.com')"  # noqa: S608 - a name of ours


async def test_the_app_as_it_is(app_db: str) -> None:
    finding = await found(app_db, OPEN)
    assert finding.verdict is Verdict.WARN
    for words in (
        "(user_sessions) take the session of anybody who is logged in, and be them (it is empty now)",
        "(users) read every user's name, e-mail, phone number and password hash, set",
        "(system_settings) change prices and limits",
        "nothing of ours is open to strangers",
    ):
        assert words in finding.found
    async with connected(app_db) as connection:
        assert await connection.fetchval("select username from users") == SECRET_NAME
        assert await connection.fetchval("select count(*) from system_settings") == 4


CLOSE = """
do $$
declare v_table text;
begin
  foreach v_table in array array[
    'call_logs', 'campaigns', 'contacts', 'prompts', 'users', 'phone_config', 'user_sessions', 'system_settings'
  ] loop
    execute format('drop policy "Allow all" on public.%I', v_table);
  end loop;
end
$$;
"""


async def test_an_app_that_was_closed_by_row_level_security(app_db: str) -> None:
    finding = await found(app_db, OPEN + ";" + CLOSE)
    assert finding.verdict is Verdict.OK, finding
    assert "closed: read user_sessions, write user_sessions, read users, write users" in finding.found


async def test_a_policy_with_a_condition_is_said_to_be_unproven(app_db: str) -> None:
    policies = "create policy own on users using (id = auth.uid()); create policy own on user_sessions using (true)"
    finding = await found(app_db, f"{OPEN};{CLOSE}{policies}")
    assert finding.verdict is Verdict.WARN
    assert "(user_sessions) take the session" in finding.found
    assert "(users)" not in finding.found
    assert "Not to be proven from outside: read users, write users" in finding.found


async def test_a_view_of_settings_is_no_harm_but_writing_is(app_db: str) -> None:
    policies = "create policy r on system_settings for select using (true)"
    assert (await found(app_db, CLOSE + policies)).verdict is Verdict.OK
    finding = await found(app_db, "create policy w on system_settings for update using (true)")
    assert finding.verdict is Verdict.WARN
    assert "(system_settings) change prices" in finding.found


@pytest.mark.parametrize("key", ["secret", "service_role", "user"])
async def test_a_key_that_is_not_public_is_not_used(db: str, key: str) -> None:
    finding = await found(db, key=key)
    assert finding.verdict is Verdict.FAIL
    assert "SUPABASE_ANON_KEY" in finding.tried
    assert "replace it" in finding.mend


async def test_a_public_key_of_another_project(db: str) -> None:
    finding = await found(db, key="of another project")
    assert finding.verdict is Verdict.WARN
    assert "this check was not made" in finding.found


async def test_a_server_that_looks_for_rights_only_when_a_row_is_wanted(db: str) -> None:
    """Whatever `limit=0` is answered: what counts is the question for one row."""
    async with Gateway.started(db) as gateway:
        config = SupabaseConfig(url=gateway.url, key=gateway.secret_key)
        async with Inspector(config) as inspector:
            inspection = await inspector.inspect()

        async def lenient(request: web.Request, forward: Forward) -> web.StreamResponse:
            return web.json_response([]) if request.query.get("limit") == "0" else await forward()

        gateway.http_fault = lenient
        finding = await anon(config, gateway.anon_key, inspection, Shipped.read())
    assert finding.verdict is Verdict.OK, finding


async def test_a_server_that_falls_silent_costs_one_wait_and_not_one_for_each_try(db: str) -> None:
    async with Gateway.started(db) as gateway:
        config = SupabaseConfig(url=gateway.url, key=gateway.secret_key, http=HttpTimings(read=1.0))
        async with Inspector(config) as inspector:
            inspection = await inspector.inspect()

        async def silent(_request: web.Request, forward: Forward) -> web.StreamResponse:
            await asyncio.sleep(5.0)
            return await forward()

        gateway.http_fault = silent
        async with asyncio.timeout(3.0):
            finding = await anon(config, gateway.anon_key, inspection, Shipped.read())
    assert finding.verdict is Verdict.WARN
    assert "this check was not made" in finding.found


async def test_without_the_key_the_catalog_alone_speaks(db: str) -> None:
    assert (await found(db, given=False)).verdict is Verdict.SKIPPED
    change = "grant select on call_queue to anon; create policy p on call_queue for select to anon using (true)"
    finding = await found(db, change, given=False)
    assert finding.verdict is Verdict.FAIL
    assert "select call_queue" in finding.found


@pytest.mark.parametrize("given", [True, False])
async def test_who_signs_up_is_a_stranger_too(db: str, given: bool) -> None:
    right = "grant insert on call_queue to authenticated; create policy own on call_queue for insert to authenticated "
    finding = await found(db, right + "with check (true)", given=given)
    assert finding.verdict is Verdict.WARN
    assert "signed in" in finding.found
    assert "insert call_queue" in finding.found
    assert ("was not made" in finding.found) is not given
    own = "drop policy own on call_queue; " + right + "with check (user_id = auth.uid())"
    closed = await found(db, own, given=given)
    assert closed.verdict is (Verdict.OK if given else Verdict.SKIPPED)


async def test_no_content_of_a_row_is_fetched(app_db: str) -> None:
    async with connected(app_db) as connection:
        await connection.execute(OPEN)
    async with Gateway.started(app_db) as gateway:
        config = SupabaseConfig(url=gateway.url, key=gateway.secret_key)
        async with Inspector(config) as inspector:
            inspection = await inspector.inspect()
        bodies: list[bytes] = []
        async with Stranger(config, gateway.anon_key) as stranger:

            async def keep(response: object) -> None:
                bodies.append(await response.aread())  # type: ignore[attr-defined]

            stranger._http.event_hooks["response"].append(keep)
            tries = await stranger.tables({"users": inspection.tables["users"]})
    assert tries["users"] == Tries(read=ALLOWED, seen=True, update=ALLOWED, delete=ALLOWED)
    assert len(bodies) == 4
    assert SECRET_NAME.encode() not in b"".join(bodies)
