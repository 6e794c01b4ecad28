-- What anon, authenticated and service_role may do with each table, view and sequence: tried, as each of them.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
-- Every object has its tests here, so their number changes with each.
select * from no_plan();

-- One line for each. A new one without a line fails below.
create temp table ours (name text primary key, kind text);
insert into ours values
  ('call_adapters', 'table'),
  ('call_arrivals', 'table'),
  ('call_batches', 'table'),
  ('call_bell', 'table'),
  ('call_campaign_dates', 'table'),
  ('call_campaign_news', 'table'),
  ('call_campaigns_gone', 'table'),
  ('call_charges', 'table'),
  ('call_dials', 'table'),
  ('call_days', 'table'),
  ('call_hours', 'table'),
  ('call_retry_rules', 'table'),
  ('call_rates', 'table'),
  ('call_prices', 'table'),
  ('call_lanes', 'table'),
  ('call_limits', 'table'),
  ('call_outcomes', 'table'),
  ('call_pauses', 'table'),
  ('call_pbx', 'table'),
  ('call_queue', 'table'),
  ('call_regions', 'table'),
  ('call_retries', 'table'),
  ('call_settings', 'table'),
  ('call_stops', 'table'),
  ('call_tenants', 'table'),
  ('call_trunk_health', 'table'),
  ('call_trunks', 'table'),
  ('call_user_caps', 'table'),
  ('call_user_zones', 'table'),
  ('call_zones', 'table'),
  ('do_not_call', 'table'),
  ('calls_live', 'view'),
  ('calls_today', 'view'),
  ('queue_overview', 'view'),
  ('campaign_costs', 'view'),
  ('queue_problems', 'view'),
  ('call_arrivals_id_seq', 'sequence'),
  ('call_campaign_news_id_seq', 'sequence'),
  ('call_claim_number', 'sequence'),
  ('call_hours_id_seq', 'sequence'),
  ('call_pauses_id_seq', 'sequence'),
  ('call_queue_id_seq', 'sequence'),
  ('call_stops_id_seq', 'sequence'),
  ('call_turn', 'sequence'),
  ('do_not_call_id_seq', 'sequence');

select set_eq(
  $$
    select c.relname::text, case c.relkind when 'r' then 'table' when 'v' then 'view' when 'S' then 'sequence' else c.relkind::text end
    from pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
      and c.relname not in ('call_costs', 'call_logs', 'campaigns')
      and (c.relname ~ '^(calls?|queue|do_not)_|^campaign_costs$' or to_regclass('public.users') is null)
  $$,
  'select name, kind from ours',
  'every table, view and sequence of ours is tried here'
);

-- Statements that change nothing, but for which PostgreSQL asks for the right. The column is any that may be written.
create temp table tried as
select t.name, t.kind, s.verb, s.statement
from (
  select o.*, (
    select quote_ident(a.attname)
    from pg_attribute a
    where a.attrelid = ('public.' || o.name)::regclass and a.attnum > 0 and not a.attisdropped
      and a.attidentity = '' and a.attgenerated = ''
    order by a.attnum
    limit 1
  ) as col
  from (select * from ours union all values ('call_logs', 'app'), ('campaigns', 'app')) o
) t
cross join lateral (values
  ('select', format('select from public.%I limit 1', t.name)),
  ('insert', format('insert into public.%1$I (%2$s) select %2$s from public.%1$I where false', t.name, t.col)),
  ('update', format('update public.%1$I set %2$s = default where false', t.name, t.col)),
  ('delete', format('delete from public.%I where false', t.name)),
  ('truncate', format('truncate public.%I', t.name)),
  ('nextval', format('select nextval(%L)', 'public.' || t.name)),
  ('setval', format('select setval(%L, 1)', 'public.' || t.name))
) s (verb, statement)
where case
  when t.kind in ('table', 'app') then s.verb not in ('nextval', 'setval')
  when t.kind = 'view' then s.verb = 'select'
  else s.verb in ('select', 'nextval', 'setval')
end;
grant select on tried to anon, authenticated, service_role;

-- 1. The browser, signed in or not: nothing.

set local role anon;
select throws_ok(
  statement, '42501', format('permission denied for %s %s', kind, name), format('anon: no %s on %s', verb, name)
)
from tried where kind <> 'app';

set local role authenticated;
select throws_ok(
  statement, '42501', format('permission denied for %s %s', kind, name), format('authenticated: no %s on %s', verb, name)
)
from tried where kind <> 'app';

-- 2. The secret key: everything but emptying a table at once and turning a sequence back, which nobody needs.

set local role service_role;
select lives_ok(statement, format('service_role: %s on %s', verb, name))
from tried where verb not in ('truncate', 'setval');

-- 3. A careless grant opens nothing: row level security is on, and views ask for the rights on what they read.

reset role;
grant select, insert on call_queue to anon;
insert into call_queue (user_id, phone_number) values ('fade0000-0000-4000-8000-000000000001', '+60123459901');
set local role anon;
select is_empty('select id from public.call_queue', 'anon with a grant still sees no row');
select throws_ok(
  $$ insert into public.call_queue (user_id, phone_number) values ('fade0000-0000-4000-8000-000000000001', '1') $$,
  '42501', 'new row violates row-level security policy for table "call_queue"', 'anon with a grant still adds no row'
);
reset role;
revoke all on call_queue from anon;
grant select on calls_live, calls_today, campaign_costs, queue_overview, queue_problems to authenticated;
set local role authenticated;
select throws_ok(
  format('select from public.%I', name), '42501', null, format('authenticated with a grant still reads nothing by %s', name)
)
from unnest(array['calls_live', 'calls_today', 'campaign_costs', 'queue_overview', 'queue_problems']) name;

select * from finish();
rollback;
