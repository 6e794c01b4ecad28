-- What becomes of a row that an app inserts: its number, its defaults, why it is blocked.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select plan(33);

update call_settings set default_region = 'MY';
create temp view row_of as select * from call_queue where user_id = 'fade0000-0000-4000-8000-000000000001';
grant select on row_of to service_role;
create function pg_temp.adds(p_row jsonb) returns call_queue language plpgsql as $$
declare
  v_row public.call_queue;
begin
  execute format(
    'insert into public.call_queue (user_id, %1$s) select ''fade0000-0000-4000-8000-000000000001'', %1$s '
    'from jsonb_populate_record(null::public.call_queue, $1) returning *',
    (select string_agg(quote_ident(k), ', ') from jsonb_object_keys(p_row) k)
  ) into v_row using p_row;
  return v_row;
end
$$;

set local role service_role;

-- 1. Numbers are understood as people write them.
select is((pg_temp.adds(jsonb_build_object('phone_number', n.written))).e164, n.meant, format('"%s" is %s', n.written, n.meant))
from (values
  ('012-345 9901', '+60123459901'),
  ('+60 12-345 9902', '+60123459902'),
  ('0060123459903', '+60123459903'),
  ('60123459904', '+60123459904'),
  ('(012) 345.9905', '+60123459905')
) n (written, meant);
select results_eq(
  $$ select distinct country, zone, status from row_of $$,
  $$ values ('MY', 'Asia/Kuala_Lumpur', 'queued') $$,
  'with region and time zone, ready to be dialed'
);

-- 2. Defaults, also where null is sent for them.
create temp table made as
select * from pg_temp.adds('{"phone_number": "012-345 9906"}')
union all
select * from pg_temp.adds('{
  "phone_number": "012-345 9907", "status": null, "priority": null, "not_before": null, "expires_at": null,
  "max_attempts": null, "retry_seconds": null, "variables": null, "metadata": null, "cancel_requested": null
}');
select results_eq(
  'select status, priority, max_attempts, retry_seconds, attempts, variables, metadata, cancel_requested from made',
  $$
    select 'queued', 5, 1, 1800, 0, '{}'::jsonb, '{}'::jsonb, false from generate_series(1, 2)
  $$,
  'the defaults, with and without null'
);
select is_empty(
  $$ select id from made where expires_at <> greatest(not_before, created_at) + interval '24 hours' or expires_fixed $$,
  'a row waits for a day'
);
select results_eq(
  $$
    select attempts, call_id, claim_number, outcome, answered_at, pbx from pg_temp.adds(
      '{"phone_number": "012-345 9908", "attempts": 7, "call_id": "fade0000-0000-4000-8000-0000000000cc", "pbx": "x",
        "claim_number": 1, "outcome": "answered", "answered_at": "2026-01-01T00:00:00Z"}'
    )
  $$,
  $$ values (0, null::uuid, null::bigint, null::text, null::timestamptz, null::text) $$,
  'what the adapter writes is not for the inserter to set'
);
select is(
  (pg_temp.adds('{"phone_number": "012-345 9909", "priority": 9, "customer_name": "Siti", "idsale": "S1"}')).customer_name,
  'Siti', 'what is given is kept'
);

-- 3. Blocked: kept for the record, never dialed, with the reason in words.
select results_eq(
  format(
    'select status, outcome, ended_reason ~ %L, ended_at is not null, call_id is not null from pg_temp.adds(%L)', b.reason, b.row
  ),
  $$ values ('done', 'blocked', true, true, true) $$,
  'blocked: ' || b.reason
)
from (values
  ('{"phone_number": "1"}', '.'),
  ('{"phone_number": "nobody"}', '.'),
  ('{"phone_number": "012-345 9910", "status": "dialing"}', 'set by the adapter only'),
  ('{"phone_number": "012-345 9910", "ring_seconds": 3}', 'ring_seconds must be 5 to 120'),
  ('{"phone_number": "012-345 9910", "max_attempts": 0}', 'max_attempts must be 1 to 100'),
  ('{"phone_number": "012-345 9910", "variables": [1]}', 'variables is not an object'),
  ('{"phone_number": "012-345 9910", "variables": {"a": [1]}}', 'each of variables must be a text'),
  ('{"phone_number": "012-345 9910", "metadata": "x"}', 'metadata is not an object'),
  ('{"phone_number": "012-345 9910", "trunk": "a b"}', 'trunk is not the id of a provider'),
  ('{"phone_number": "012-345 9910", "not_before": "infinity"}', 'not_before is no date'),
  ('{"phone_number": "012-345 9910", "expires_at": "2020-01-01T00:00:00Z"}', 'expires_at is not later than not_before')
) b ("row", reason);
select is(
  (select count(*) from call_logs l join row_of q on q.call_id::text = l.call_id and q.outcome = 'blocked' and l.status = 'failed'),
  11::bigint, 'each of them has its row in call_logs'
);
select results_eq(
  $$
    select status, outcome, ended_reason from pg_temp.adds(
      '{"phone_number": "012-345 9911", "cancel_requested": true, "cancel_reason": "not today"}'
    )
  $$,
  $$ values ('canceled', 'canceled', 'not today') $$,
  'inserted as canceled it is so at once'
);

-- 4. Refused: what cannot be a row at all.
select throws_ok($$ insert into call_queue (phone_number) values ('0123459912') $$, '23502', 'call_queue.user_id is missing');
select throws_ok(
  $$ insert into call_queue (user_id) values ('fade0000-0000-4000-8000-000000000001') $$, '23502',
  'call_queue.phone_number is missing'
);
select throws_ok(
  $$ select pg_temp.adds('{"phone_number": "0123459912", "status": "waiting"}') $$, '23514',
  'call_queue.status cannot be "waiting": insert rows as queued'
);
select throws_ok(
  $$ select pg_temp.adds('{"phone_number": "0123459912", "priority": 10}') $$, '23514',
  'call_queue.priority must be 0 to 9, not 10'
);

-- 5. The same key twice is one row for each user.
select isnt(
  (pg_temp.adds('{"phone_number": "0123459913", "idempotency_key": "k"}')).id, null::bigint, 'the first with a key is added'
);
select is(
  (pg_temp.adds('{"phone_number": "0123459914", "idempotency_key": "k"}')).id, null::bigint, 'the second is not, and is no error'
);
insert into call_queue (user_id, phone_number, idempotency_key) values ('fade0000-0000-4000-8000-000000000002', '0123459913', 'k');
select is(
  (select count(*) from call_queue where idempotency_key = 'k' and phone_number = '0123459913'), 2::bigint,
  'another user may have the same key'
);

-- 6. How often: by the row, else by the campaign, else by call_retries.
insert into campaigns (id, user_id, campaign_name, retry_enabled, max_retry_attempts, retry_interval_minutes)
values ('fade0000-0000-4000-8000-0000000000ca', 'fade0000-0000-4000-8000-000000000001', 'tap', true, 2, 5);
insert into call_retries (user_id, max_retry_attempts, retry_interval_minutes)
values ('fade0000-0000-4000-8000-000000000001', 4, 7);
select results_eq(
  format('select max_attempts, retry_seconds from pg_temp.adds(%L)', r.row),
  format('values (%s, %s)', r.attempts, r.seconds), 'retries by the ' || r.source
)
from (values
  ('row', '{"phone_number": "0123459915", "max_attempts": 9, "retry_seconds": 60}', 9, 60),
  ('campaign', '{"phone_number": "0123459916", "campaign_id": "fade0000-0000-4000-8000-0000000000ca"}', 3, 300),
  ('user', '{"phone_number": "0123459917"}', 5, 420)
) r (source, "row", attempts, seconds);

select * from finish();
rollback;
