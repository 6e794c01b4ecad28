"""What a claim costs with every rule on, with 10,000 and with 1,000,000 queued rows of the same users and campaigns.

`python -m tests.supabase.claim_cost [ROUNDS]`: both tables on one server, claims of 50 in turn, and an update of two
columns without any rule beside them as the floor of the machine. Prints the median and the 90th percentile, in ms.
"""

import asyncio
import statistics
import sys
import time
import uuid
from typing import Any

from adapter.sandbox.postgres import Postgres
from tests.supabase.helpers import Desk, connected
from tests.support.db import installation

USERS = 1000
CAMPAIGNS = 10_000
SIZES = {"10 k": 10_000, "1 M": 1_000_000}
ROOM = 50

FILL = """
insert into public.call_queue (user_id, campaign_id, phone_number, e164, country, zone, zones, expires_at, priority,
  max_attempts, retry_seconds)
select ('00000000-0000-4000-8000-' || lpad((i % 1000)::text, 12, '0'))::uuid,
  ('00000000-0000-4000-8001-' || lpad((i % 10000)::text, 12, '0'))::uuid,
  n, n, 'MY', 'Asia/Kuala_Lumpur', 'Asia/Kuala_Lumpur', now() + interval '1 day', 3 + i % 5, 1, 1800
from generate_series(1, $1::integer) i, lateral (select '+601' || (200000000 + i)) f (n)
"""

ARRIVE = """
insert into public.call_arrivals (user_id, lane, due_at)
select ('00000000-0000-4000-8000-' || lpad((i % 1000)::text, 12, '0'))::uuid,
  ('00000000-0000-4000-8001-' || lpad((i % 10000)::text, 12, '0'))::uuid, now()
from generate_series(1, 10000) i
"""

RULES = """
-- Open at any time, but asked: for all, for a tenth of the users and of the campaigns.
insert into public.call_hours (scope, from_time, to_time) values ('all', '00:00', '24:00');
insert into public.call_hours (scope, scope_id, from_time, to_time)
select 'user', ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, '00:00', '24:00'
from generate_series(0, 99) i;
insert into public.call_hours (scope, scope_id, from_time, to_time)
select 'campaign', ('00000000-0000-4000-8001-' || lpad(i::text, 12, '0'))::uuid, '00:00', '24:00'
from generate_series(0, 999) i;
insert into public.call_campaign_dates (campaign_id, ends_at)
select ('00000000-0000-4000-8001-' || lpad(i::text, 12, '0'))::uuid, now() + interval '1 day'
from generate_series(0, 999) i;
insert into public.call_trunks (pbx, trunk, priority, prefixes, max_channels)
values ('pbx-1', 'A', 9, '{44}', 100), ('pbx-1', 'B', 5, '{60}', 2000), ('pbx-1', 'C', 1, '{}', 2000);
insert into public.call_trunks (pbx, trunk, user_id, max_channels)
select 'pbx-1', 'OWN-' || i, ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 30
from generate_series(500, 519) i;
insert into public.call_limits (kind, key, max_calls)
select 'campaign', ('00000000-0000-4000-8001-' || lpad(i::text, 12, '0'))::uuid, 5 from generate_series(0, 999) i;
insert into public.call_limits (kind, key, max_calls)
select 'user', ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 5 from generate_series(0, 99) i;
insert into public.call_stops (kind, key, began)
select 'campaign', '00000000-0000-4000-8001-' || lpad(i::text, 12, '0'), now() from generate_series(9000, 9099) i;
insert into public.call_dials (call_id, row_id, user_id, e164, claimed_at)
select gen_random_uuid(), i, '00000000-0000-4000-8000-000000000001', '+601' || (200000000 + i * 7),
  now() - make_interval(secs => i % 80000)
from generate_series(1, 100000) i;
"""

LISTED = """
insert into public.do_not_call (e164, reason)
select '+603' || (20000000 + i), 'asked' from generate_series(1, 100000) i
"""


def status() -> dict[str, Any]:
    """A heartbeat by which all of it may be dialed."""
    names = ("A", "B", "C", *(f"OWN-{i}" for i in range(500, 520)))
    return {
        "limits": {"pbx": 2000, "user": 10, "campaign": None},
        "trunks": {name: {"room": 200, "foreign": 1, "problem": None} for name in names},
        "reserved": 2,
        "countries": ["MY"],
        "caps": {"calls_per_day": 1000, "minutes_per_day": 10_000, "repeat": 6, "repeat_hours": 24},
    }


async def prepare(server: Postgres, name: str, rows: int) -> str:
    """A project with so many rows and every rule written; its dsn."""
    await server.create_project(name)
    for script in installation():
        await server.run_script(name, script.read_text(encoding="utf-8"), source=script.name)
    async with connected(server.admin_dsn(name)) as connection:
        await connection.execute("set session_replication_role = replica")
        await connection.execute(FILL, rows)
        await connection.execute("set session_replication_role = origin")
        await connection.execute(ARRIVE)
        await connection.execute(RULES)
        if await connection.fetchval("select to_regclass('public.do_not_call') is not null"):
            await connection.execute(LISTED)
        await connection.execute("create table floor as select id, 'queued'::text as status from public.call_queue")
        await connection.execute("grant all on floor to public")
        await connection.execute("alter table floor add primary key (id)")
        await connection.execute("vacuum analyze")
    return server.dsn(name)


class Bench:
    """One table, claimed from again and again."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.times: list[float] = []
        self.floor: list[float] = []
        self.rows = 0

    async def round(self) -> None:
        """One claim of 50, and one of the floor."""
        connection = self.desk.connection
        begun = time.perf_counter()
        reply = await self.desk.sync(room=ROOM, claim_id=uuid.uuid4(), **status())
        self.times.append((time.perf_counter() - begun) * 1000)
        self.rows += len(reply["rows"])
        assert not reply["notes"], reply["notes"]
        async with connection.transaction():
            # As the functions do it, which end a call in some more steps.
            await connection.execute("select set_config('mikopbx_adapter.at_work', 'on', true)")
            await connection.execute(
                "update public.call_queue set status = 'done', outcome = 'canceled', ended_at = now(), "
                "updated_at = now() where id = any($1::bigint[])",
                [row["row_id"] for row in reply["rows"]],
            )
        begun = time.perf_counter()
        await connection.fetch(
            "update floor set status = 'dialing' where id = any (array(select id from floor where status = 'queued' "
            "order by id limit 50 for update skip locked)) returning id, status"
        )
        self.floor.append((time.perf_counter() - begun) * 1000)


async def main(rounds: int) -> None:
    """Print the table."""
    with Postgres.running() as server:
        dsns = {name: await prepare(server, f"cost{place}", rows) for place, (name, rows) in enumerate(SIZES.items())}
        async with connected(dsns["10 k"]) as small, connected(dsns["1 M"]) as large:
            benches = {name: Bench(Desk(one)) for name, one in zip(SIZES, (small, large), strict=True)}
            for bench in benches.values():
                await bench.desk.register()
                for _ in range(10):  # The first claims hear of 10,000 lanes; plans are made.
                    await bench.round()
                bench.times.clear()
                bench.floor.clear()
            for _ in range(rounds):
                for bench in benches.values():
                    await bench.round()
        for name, bench in benches.items():
            deciles = statistics.quantiles(bench.times, n=10)
            print(
                f"{name:>5} rows: claim of {ROOM} p50 {deciles[4]:6.1f} ms, p90 {deciles[8]:6.1f} ms; floor p50 "
                f"{statistics.median(bench.floor):5.2f} ms; {bench.rows} rows in {rounds + 10} claims"
            )
        ratio = statistics.median(benches["1 M"].times) / statistics.median(benches["10 k"].times)
        print(f"1 M : 10 k = {ratio:.2f}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 60))
