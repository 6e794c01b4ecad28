-- A batch request of the app: campaign and rows, all or nothing, and nobody twice when it is repeated.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select plan(17);

update call_settings set default_region = 'MY';

-- A project without the app has neither users nor prompts: as the app makes them.
create table if not exists users (
  id uuid primary key default gen_random_uuid(), username text, account_type text default 'trial',
  trial_balance_minutes numeric(10, 2) default 10, pro_balance_minutes numeric(10, 2) default 0,
  total_minutes_used numeric(10, 2) default 0, updated_at timestamptz not null default now()
);
create table if not exists prompts (
  id uuid primary key default gen_random_uuid(), user_id uuid not null, prompt_name text not null, system_prompt text not null,
  created_at timestamptz not null default now(), updated_at timestamptz not null default now()
);
insert into users (id, username, account_type, pro_balance_minutes) values
  ('fade0000-0000-4000-8000-000000000001', 'tap', 'pro', 9);
insert into prompts (id, user_id, prompt_name, system_prompt) values
  ('fade0000-0000-4000-8000-0000000000bb', 'fade0000-0000-4000-8000-000000000001', 'Sales', 'Sell.');
create function pg_temp.asks(p_items jsonb, p_more jsonb default '{}') returns jsonb language sql as $$
  select public.call_batch_v1(
    '{
      "source": "page", "auth": "compat", "user_id": "fade0000-0000-4000-8000-000000000001",
      "prompt_id": "fade0000-0000-4000-8000-0000000000bb", "campaign_name": "Morning", "retry": {"enabled": false},
      "limits": {"numbers_per_request": 100, "requests_per_hour": 50, "numbers_per_hour": 200}
    }'::jsonb || jsonb_build_object('items', p_items) || p_more
  )
$$;
create temp view have as
select
  (select count(*) from call_queue where user_id = 'fade0000-0000-4000-8000-000000000001') as rows,
  (select count(*) from campaigns where user_id = 'fade0000-0000-4000-8000-000000000001') as campaigns;
create temp table steps (step text primary key, reply jsonb);
grant all on steps, have to service_role;
set local role service_role;

-- 1. Refused: nothing of it stays.
insert into steps select 'nobody', pg_temp.asks('["0123459901"]', '{"user_id": "fade0000-0000-4000-8000-000000000009"}');
insert into steps select 'no prompt', pg_temp.asks('["0123459901"]', '{"prompt_id": "fade0000-0000-4000-8000-000000000009"}');
insert into steps select 'no numbers', pg_temp.asks('[]');
insert into steps select 'too many', pg_temp.asks('["0123459901", "0123459902"]', '{"limits": {"numbers_per_request": 1}}');
insert into steps select 'poor', pg_temp.asks((select jsonb_agg(format('012345990%s', n)) from generate_series(1, 5) n));
insert into steps select 'no number', pg_temp.asks('["1"]');
select results_eq(
  format('select reply ->> %L, reply ->> %L, (reply ->> %L)::integer from steps where step = %L', 'ok', 'code', 'http_status', e.step),
  format('values (%L, %L, %s)', 'false', e.code, e.status), e.step || ': ' || e.code
)
from (values
  ('nobody', 'user_unknown', 404), ('no prompt', 'prompt_unknown', 404), ('no numbers', 'no_numbers', 400),
  ('too many', 'too_many_numbers', 413), ('poor', 'balance', 402), ('no number', 'nothing_queued', 422)
) e (step, code, status);
select results_eq('table have', 'values (1::bigint, 0::bigint)', 'no campaign, and one blocked row that shows the number that is none');

-- 2. All or nothing: the third number fails, the first two are not there either.
reset role;
create function pg_temp.breaks() returns trigger language plpgsql as $$ begin raise exception 'tap'; end $$;
create trigger zz_tap before insert on call_queue for each row when (new.phone_number = '0123459903') execute function pg_temp.breaks();
set local role service_role;
select throws_ok($$ select pg_temp.asks('["0123459901", "0123459902", "0123459903"]') $$, 'P0001', 'tap', 'an error in the third number');
select results_eq('table have', 'values (1::bigint, 0::bigint)', 'leaves neither rows nor campaign');
reset role;
drop trigger zz_tap on call_queue;
set local role service_role;

-- 3. Taken: numbers, a duplicate in other spelling, and one that is none.
insert into steps select 'first', pg_temp.asks(
  '[{"number": "0123459901", "name": "Siti", "idsale": "S1"}, "012-345 9902", "+60123459901", "12"]'
);
select is(
  (select reply -> 'counts' from steps where step = 'first'),
  '{"total": 4, "queued": 2, "returned": 0, "refused": 1, "duplicates": 1}'::jsonb, 'each number has its result'
);
select results_eq(
  $$ select i ->> 'result' from steps, jsonb_array_elements(reply -> 'items') i where step = 'first' order by (i ->> 'index')::integer $$,
  $$ values ('queued'), ('queued'), ('duplicate'), ('refused') $$, 'in the order of the request'
);
select results_eq(
  $$
    select q.e164, q.status, q.customer_name, q.idsale, c.campaign_name, c.status, c.total_numbers
    from call_queue q join campaigns c on c.id = q.campaign_id
    where q.user_id = 'fade0000-0000-4000-8000-000000000001' and q.status = 'queued' order by q.id
  $$,
  $$
    values
      ('+60123459901', 'queued', 'Siti', 'S1', 'Morning', 'in_progress', 3),
      ('+60123459902', 'queued', null, null, 'Morning', 'in_progress', 3)
  $$,
  'rows and campaign as the request says'
);

-- 4. Repeated: a double click, or the page's second try, rings nobody twice.
insert into steps select 'second', pg_temp.asks('["+60123459902", {"number": "0123459901"}, "12"]');
select results_eq(
  $$ select reply ->> 'repeated', (reply -> 'counts' ->> 'queued')::integer, (reply -> 'counts' ->> 'returned')::integer from steps where step = 'second' $$,
  $$ values ('true', 0, 2) $$, 'the same set of numbers is the same request'
);
select is(
  (select reply -> 'campaign_id' from steps where step = 'second'), (select reply -> 'campaign_id' from steps where step = 'first'),
  'with the same campaign'
);
select results_eq('table have', 'values (4::bigint, 1::bigint)', 'nothing was added');
update call_queue set status = 'canceled' where user_id = 'fade0000-0000-4000-8000-000000000001' and status = 'queued';
insert into steps select 'third', pg_temp.asks('["0123459901", "0123459902", "12"]');
select is((select reply ->> 'repeated' from steps where step = 'third'), 'true', 'whatever became of its rows');
insert into steps select 'more', pg_temp.asks('["0123459901", "0123459904"]');
insert into steps select 'open', pg_temp.asks('["0123459904", "0123459905"]');
select results_eq(
  $$ select i ->> 'result' from steps, jsonb_array_elements(reply -> 'items') i where step = 'open' order by (i ->> 'index')::integer $$,
  $$ values ('returned'), ('queued') $$, 'another set: a number that still waits is returned, not added'
);

select * from finish();
rollback;
