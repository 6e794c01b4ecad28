"""Who may do what, tried as each role: on a fresh project and on the app's, whose defaults give all to everyone."""

import re

import asyncpg
import pytest

from tests.supabase.helpers import USER, Connection, connected, number
from tests.support.db import ROOT

TABLES = (
    "call_queue", "call_tenants", "call_lanes", "call_arrivals", "call_bell", "call_settings", "call_regions",
    "call_outcomes", "call_adapters", "call_pbx", "call_batches",
    "call_campaign_news", "call_pauses", "call_campaigns_gone", "call_retries", "call_charges",
    "call_dials", "call_trunks", "call_trunk_health", "call_limits",
    "call_hours", "call_campaign_dates", "call_user_zones", "call_zones",
    "call_rates", "call_prices",
    "call_stops", "call_retry_rules", "do_not_call", "call_user_caps", "call_days",
)  # fmt: skip
VIEWS = ("calls_live", "calls_today", "queue_overview", "queue_problems", "campaign_costs")
SEQUENCES = (
    "call_hours_id_seq",
    "call_arrivals_id_seq", "call_campaign_news_id_seq", "call_claim_number", "call_pauses_id_seq", "call_queue_id_seq",
    "call_stops_id_seq", "call_turn", "do_not_call_id_seq",
)  # fmt: skip
PUBLIC_FUNCTIONS = {
    "call_register_v1", "call_sync_v1", "call_cancel_v1", "call_number_v1",
    "call_follow_v1", "call_wish_v1", "call_stop_v1", "call_status_v1", "call_doctor_v1", "call_probe_v1",
    "call_witness_v1", "call_batch_v1", "call_today_v1", "call_why_waits_v1", "call_shadow_v1",
    "call_explain_v1", "call_dry_run_v1",
    "call_hours_v1", "call_hours_set_v1", "call_hours_dates_v1", "call_hours_zone_v1",
    "call_retry_v1", "call_retry_set_v1",
    "call_cost_v1", "call_costs_v1", "call_rates_import_v1",
    "call_why_stopped_v1", "call_pause_v1", "call_resume_v1", "call_cancel_all_v1",
    "call_do_not_call_v1", "call_do_not_call_import_v1", "call_do_not_call_remove_v1", "call_opt_out_v1",
}  # fmt: skip
BROWSER_FUNCTIONS = {"campaigns"}
"""What the app's pages read with, as themselves: no rights come with it."""


@pytest.fixture(params=["db", "app_db"])
def project(request: pytest.FixtureRequest) -> str:
    """Both kinds of project."""
    dsn: str = request.getfixturevalue(request.param)
    return dsn


async def our_functions(connection: Connection) -> list[asyncpg.Record]:
    """Every function that our migrations create, as the database knows it."""
    text = (ROOT / "supabase" / "install.sql").read_text(encoding="utf-8")
    names = set(re.findall(r"create or replace function public\.(\w+)", text))
    found = await connection.fetch(
        "select proname, oid, prosecdef, proconfig, has_function_privilege('anon', oid, 'execute') as anon, "
        "has_function_privilege('authenticated', oid, 'execute') as authenticated, "
        "has_function_privilege('service_role', oid, 'execute') as service "
        "from pg_proc where pronamespace = 'public'::regnamespace and proname = any($1::text[])",
        list(names),
    )
    assert {row["proname"] for row in found} == names
    return found


async def of_nulls(connection: Connection, names: set[str]) -> dict[str, str]:
    """A call with nulls of each function: the right to it is asked for before anything is done."""
    found = await connection.fetch(
        "select p.proname::text as name, coalesce((select string_agg('null::' || format_type(t.type, null), ', ' "
        "order by t.place) from unnest(p.proargtypes) with ordinality t (type, place)), '') as nulls "
        "from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname = any($1::text[])",
        list(names),
    )
    return {row["name"]: f"select public.{row['name']}({row['nulls']})" for row in found}


def statements(relation: str, column: str) -> list[str]:
    """Each thing that can be done with a table; they change nothing."""
    return [
        f"select from {relation}",
        f"insert into {relation} ({column}) select {column} from {relation} where false",  # noqa: S608
        f"update {relation} set {column} = default where false",  # noqa: S608
        f"delete from {relation} where false",  # noqa: S608
    ]


async def writable(connection: Connection, relation: str) -> str:
    """A column that may be written."""
    column: str = await connection.fetchval(
        "select quote_ident(attname) from pg_attribute where attrelid = $1::text::regclass and attnum > 0 "
        "and not attisdropped and attidentity = '' and attgenerated = '' order by attnum limit 1",
        relation,
    )
    return column


async def refused(connection: Connection, statement: str, what: str = "") -> None:
    """PostgreSQL says that this role has no right to it, and not that something else is wrong."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=f"permission denied for {what}"):
        await connection.execute(statement)


async def test_all_that_a_fresh_project_gets_is_named_here(db: str) -> None:
    """Whatever its name: a new table, view, sequence or function fails here until somebody says who may use it."""
    async with connected(db) as connection:
        made = await connection.fetch(
            "select relname::text, relkind::text from pg_class where relnamespace = 'public'::regnamespace "
            "and relkind not in ('i', 'I', 'c', 't')"
        )
        tables = {(name, "r") for name in (*TABLES, "call_logs", "campaigns")}
        assert {(row[0], row[1]) for row in made} == (
            tables | {(name, "v") for name in VIEWS} | {(name, "S") for name in SEQUENCES}
        )
        named = {row["proname"] for row in await our_functions(connection)}
        assert named > PUBLIC_FUNCTIONS | BROWSER_FUNCTIONS
        functions = await connection.fetch(
            "select proname::text from pg_proc where pronamespace = 'public'::regnamespace"
        )
        assert sorted(row[0] for row in functions) == sorted(named)  # Each in one form: two would need two lines.


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_browsers_may_do_nothing(project: str, role: str) -> None:
    async with connected(project) as connection:
        names = {row["proname"] for row in await our_functions(connection)}
        tried = [call for name, call in (await of_nulls(connection, names)).items() if name not in BROWSER_FUNCTIONS]
        assert len(tried) == len(names - BROWSER_FUNCTIONS)
        for table in TABLES:
            tried += [*statements(table, await writable(connection, table)), f"truncate {table}"]
        for sequence in SEQUENCES:
            tried += [f"select nextval('{sequence}')", f"select setval('{sequence}', 1)", f"select from {sequence}"]
        await connection.execute(f"set role {role}")
        for statement in tried:
            await refused(connection, statement)
        for view in VIEWS:
            await refused(connection, f"select from {view}", f"view {view}")


async def test_the_secret_key_may_use_each_table_view_and_sequence_and_no_helper(project: str) -> None:
    async with connected(project) as connection:
        names = {row["proname"] for row in await our_functions(connection)}
        helpers = await of_nulls(connection, names - PUBLIC_FUNCTIONS - BROWSER_FUNCTIONS)
        allowed = []
        for table in (*TABLES, "call_logs", "campaigns"):
            allowed += statements(table, await writable(connection, table))
        allowed += [f"select * from {view}" for view in VIEWS]  # noqa: S608 - names of ours
        for sequence in SEQUENCES:
            allowed += [f"select nextval('{sequence}')", f"select last_value from {sequence}"]  # noqa: S608
        await connection.execute("set role service_role")
        for statement in allowed:
            await connection.execute(statement)
        for statement in helpers.values():
            await refused(connection, statement)


@pytest.mark.parametrize("view", VIEWS)
async def test_a_view_gives_nobody_the_rights_of_its_owner(project: str, view: str) -> None:
    async with connected(project) as connection:
        await connection.execute(f"grant select on {view} to authenticated; set role authenticated")
        await refused(connection, f"select from {view}")


async def test_the_secret_key_may_use_the_queue_and_the_functions(project: str) -> None:
    async with connected(project) as connection:
        await connection.execute("set role service_role")
        row_id = await connection.fetchval(
            "insert into call_queue (user_id, phone_number) values ($1, $2) returning id", USER, number(1)
        )
        blocked = await connection.fetchval(
            "insert into call_queue (user_id, phone_number) values ($1, '1') returning outcome", USER
        )
        assert blocked == "blocked"
        for table in TABLES:
            await connection.fetch(f"select * from {table}")  # noqa: S608 - names of ours
        adapter = await connection.fetchval("select gen_random_uuid()")
        await connection.fetchval("select call_register_v1($1, 0, gen_random_uuid(), 'pbx', '{}')", adapter)
        reply = await connection.fetchval(
            "select call_sync_v1($1, 1, '[]', $2, 5, gen_random_uuid())", adapter, {"pbx": "pbx", "ready": True}
        )
        assert [row["row_id"] for row in reply["rows"]] == [row_id]
        assert await connection.fetchval("select call_cancel_v1($1)", row_id) == "dialing"
        assert await connection.fetchval("select e164 from call_number_v1('0123456700')") == "+60123456700"
        await connection.execute("update call_settings set default_region = 'MY'")
        await connection.execute("delete from call_queue")


async def test_helpers_are_for_our_own_functions_only(project: str) -> None:
    async with connected(project) as connection:
        for row in await our_functions(connection):
            if row["proname"] in BROWSER_FUNCTIONS:
                assert (row["anon"], row["authenticated"], row["service"]) == (True, True, True)
                assert not row["prosecdef"], row["proname"]
                assert 'search_path=""' in row["proconfig"]
                continue
            assert not row["anon"], row["proname"]
            assert not row["authenticated"], row["proname"]
            assert row["service"] is (row["proname"] in PUBLIC_FUNCTIONS), row["proname"]
            assert 'search_path=""' in row["proconfig"], row["proname"]
            if row["proname"] in PUBLIC_FUNCTIONS:
                assert row["prosecdef"], row["proname"]


async def test_row_level_security_is_on_and_has_no_policy(project: str) -> None:
    async with connected(project) as connection:
        open_tables = await connection.fetch(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' "
            "and (relname like 'call\\_%' or relname = 'do_not_call') and not relrowsecurity"
        )
        assert open_tables == []
        assert (
            await connection.fetchval(
                "select count(*) from pg_policies where schemaname = 'public' and tablename = any($1::text[])",
                list(TABLES),
            )
            == 0
        )
        made = await connection.fetch(
            "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' "
            "and (relname like 'call\\_%' or relname = 'do_not_call') and relname not in ('call_logs', 'call_costs')"
        )
        assert {row[0] for row in made} == set(TABLES)


async def test_a_granted_insert_without_a_policy_still_adds_nothing(db: str) -> None:
    async with connected(db) as connection:
        await connection.execute("grant insert, select on call_queue to anon")
        await connection.execute("set role anon")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await connection.execute("insert into call_queue (user_id, phone_number) values ($1, '1')", USER)
        assert await connection.fetch("select * from call_queue") == []


async def test_tables_we_had_to_make_are_closed_and_the_apps_stay_as_they_were(db: str, app_db: str) -> None:
    async with connected(db) as connection:
        await connection.execute("set role anon")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("select from call_logs")
    async with connected(app_db) as connection:
        await connection.execute("set role anon")
        await connection.execute("select from call_logs")
        await connection.execute("update campaigns set status = 'paused'")


async def test_a_hand_made_insert_policy_is_enough_to_insert(db: str) -> None:
    async with connected(db) as connection:
        await connection.execute(
            "grant insert on call_queue to authenticated; "
            "create policy own on call_queue for insert to authenticated with check (true)"
        )
        await connection.execute("set role authenticated")
        await connection.execute("insert into call_queue (user_id, phone_number) values ($1, $2)", USER, number(1))
        await connection.execute("reset role")
        assert await connection.fetchval("select count(*) from realtime.messages") == 1
