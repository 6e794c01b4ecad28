-- What there is, and that each of it has its words in the dashboard.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
-- Every object has its tests here, so their number changes with each.
select * from no_plan();

-- What is ours: by its name; in a project without the app (no table users) everything in public.
create temp view found as
select c.oid, c.relname::text as name, c.relkind
from pg_class c
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
  and c.relname not in ('call_costs', 'call_logs', 'campaigns')
  and (c.relname ~ '^(calls?|queue|do_not)_|^campaign_costs$' or to_regclass('public.users') is null);

select set_eq(
  $$ select name from found where relkind = 'r' $$,
  array[
    'call_adapters', 'call_arrivals', 'call_batches', 'call_bell', 'call_campaign_news', 'call_campaigns_gone',
    'call_charges', 'call_dials', 'call_lanes', 'call_limits', 'call_outcomes', 'call_pauses', 'call_pbx', 'call_queue', 'call_regions',
    'call_prices', 'call_rates', 'call_retries', 'call_retry_rules', 'call_settings', 'call_stops', 'call_tenants', 'call_trunk_health', 'call_trunks',
    'call_campaign_dates', 'call_days', 'call_hours', 'call_user_caps', 'do_not_call', 'call_user_zones', 'call_zones'
  ],
  'our tables'
);
select set_eq(
  $$ select name from found where relkind <> 'r' $$,
  array['calls_live', 'calls_today', 'campaign_costs', 'queue_overview', 'queue_problems'],
  'our views, and nothing else'
);
select has_table('public', name, 'there is ' || name) from unnest(array['call_logs', 'campaigns']) name;

-- Words.
select is_empty(
  $$ select name from found where obj_description(oid, 'pg_class') is null $$,
  'every table and view has a comment'
);
select is_empty(
  $$
    select a.attrelid::regclass::text, a.attname
    from pg_attribute a
    where (a.attrelid in (select oid from found) or a.attrelid in ('call_logs'::regclass, 'campaigns'::regclass))
      and a.attnum > 0 and not a.attisdropped and col_description(a.attrelid, a.attnum) is null
  $$,
  'every column has a comment, those of call_logs and campaigns too'
);
select is_empty(
  $$
    select p.proname from pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname ~ '^call_.*_v1$' and obj_description(p.oid, 'pg_proc') is null
  $$,
  'every function that is called from outside has a comment'
);

-- What an app writes into call_queue: names, types and defaults are a promise.
select col_type_is('public', 'call_queue', c.name, c.type, format('call_queue.%s is %s', c.name, c.type))
from (values
  ('id', 'bigint'), ('user_id', 'uuid'), ('phone_number', 'text'), ('customer_name', 'text'), ('campaign_id', 'uuid'),
  ('prompt_id', 'uuid'), ('status', 'text'), ('outcome', 'text'), ('priority', 'integer'), ('variables', 'jsonb'),
  ('not_before', 'timestamp with time zone'), ('idempotency_key', 'text')
) c (name, type);
select col_is_pk('public', 'call_queue', 'id', 'id is the key of call_queue');
select col_is_pk('public', 'call_charges', 'call_id', 'a call has at most one charge');
select col_not_null('public', 'call_queue', 'user_id', 'a row has a user');
select col_not_null('public', 'call_queue', 'phone_number', 'a row has a number');
select col_default_is('public', 'call_queue', 'status', 'queued', 'a row is queued unless it says another word');
select index_is_unique('public', 'call_queue', 'call_queue_live_number_key', 'one person, one call');

-- Columns that the app's own code writes at the end of a call.
select has_column('public', 'call_logs', name, 'call_logs has ' || name)
from unnest(array['transcript', 'cost', 'recording_url']) name;

-- How it is closed.
select is_empty(
  $$ select c.relname from pg_class c where c.oid in (select oid from found where relkind = 'r') and not c.relrowsecurity $$,
  'row level security is on for every table'
);
select is_empty(
  $$ select policyname from pg_policies where schemaname = 'public' and tablename in (select name from found) $$,
  'and has no policy'
);
select is_empty(
  $$
    select c.relname from pg_class c
    where c.oid in (select oid from found where relkind = 'v')
      and not coalesce(c.reloptions @> array['security_invoker=true'], false)
  $$,
  'every view reads with the rights of whoever asks'
);
select is_empty(
  $$
    select p.proname from pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname ~ '^(call_|campaigns$)'
      and not coalesce(p.proconfig @> array['search_path=""'], false)
  $$,
  'no function trusts the search_path of who calls it'
);

select * from finish();
rollback;
