-- Canceling: before the call, while it lives, and what cannot be canceled any more.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select plan(13);

-- An adapter at work: its requests, and what it tells of a call.
create function pg_temp.asks(p_records jsonb default '[]', p_room integer default 0, p_more jsonb default '{}')
returns jsonb language sql as $$
  select public.call_sync_v1(
    'fade0000-0000-4000-8000-0000000000aa', 1, p_records,
    '{"pbx": "tap", "ready": true, "trunk": "SIP-TRUNK-1", "region": "MY"}'::jsonb || p_more,
    p_room, case when p_room > 0 then gen_random_uuid() end
  )
$$;
create function pg_temp.call_of(p_number text) returns uuid language sql as $$
  select q.call_id from public.call_queue q where q.phone_number = p_number order by q.id desc limit 1
$$;
create function pg_temp.answered(p_number text) returns jsonb language sql as $$
  select jsonb_build_object(
    'seq', 1, 'kind', 'answered', 'call_id', pg_temp.call_of(p_number),
    'originated_at', now() - interval '1 minute', 'ringing_at', now() - interval '59 seconds',
    'answered_at', now() - interval '50 seconds'
  )
$$;
create function pg_temp.ended(p_number text, p_outcome text, p_word text, p_talk integer default 0)
returns jsonb language sql as $$
  select jsonb_build_object(
    'seq', 2, 'kind', 'outcome', 'call_id', pg_temp.call_of(p_number), 'outcome', p_outcome, 'log_status', p_word,
    'reason', 'it ended: ' || p_outcome, 'hangup_cause', 16, 'sip_code', null, 'estimated', false, 'trunk', 'SIP-TRUNK-1',
    'originated_at', now() - interval '1 minute', 'ringing_at', now() - interval '59 seconds',
    'answered_at', case when p_talk > 0 then now() - interval '50 seconds' end,
    'ended_at', now() - interval '10 seconds', 'talk_seconds', p_talk
  )
$$;
-- An answered call is final ten seconds after its end: let them pass, and ask.
create function pg_temp.settles() returns jsonb language sql as $$
  update public.call_queue set settle_at = now() - interval '1 second' where settle_at is not null;
  select pg_temp.asks()
$$;
create temp table steps (step text, reply jsonb);
grant all on steps to service_role;
update call_settings set default_region = 'MY';
-- Rows that others left in this project are not to be claimed here.
update call_queue set not_before = now() + interval '1 day' where status = 'queued';

set local role service_role;
insert into steps select 'register', call_register_v1('fade0000-0000-4000-8000-0000000000aa', 0, gen_random_uuid(), 'tap', '{}');
insert into call_queue (user_id, phone_number)
select 'fade0000-0000-4000-8000-000000000001', n
from unnest(array['+60123459901', '+60123459902', '+60123459903', '+60123459904']) n;
create function pg_temp.id_of(p_number text) returns bigint language sql as $$
  select q.id from public.call_queue q where q.phone_number = p_number
$$;

-- 1. While it waits it ends at once.
select is(call_cancel_v1(pg_temp.id_of('+60123459901'), 'not today'), 'canceled', 'call_cancel_v1 on a queued row');
select results_eq(
  $$
    select q.status, q.outcome, q.ended_reason, q.ended_at is not null, l.status
    from call_queue q join call_logs l on l.call_id = q.call_id::text where q.phone_number = '+60123459901'
  $$,
  $$ values ('canceled', 'canceled', 'not today', true, 'failed') $$, 'it ended, and call_logs says so'
);
update call_queue set status = 'canceled' where phone_number = '+60123459902';
select is((select outcome from call_queue where phone_number = '+60123459902'), 'canceled', 'status = canceled by hand does the same');
insert into steps select 'claim', pg_temp.asks(p_room => 5);
select results_eq(
  $$ select r ->> 'phone_number' from steps, jsonb_array_elements(reply -> 'rows') r where step = 'claim' $$,
  $$ values ('+60123459903'), ('+60123459904') $$, 'what is canceled is not dialed'
);

-- 2. A live call is hung up by its adapter, and told as canceled when it has ended.
select is(call_cancel_v1(pg_temp.id_of('+60123459903')), 'dialing', 'a call that lives has its status yet');
select is((select state from calls_live where phone_number = '+60123459903'), 'being hung up', 'calls_live shows it');
insert into steps select 'hangup', pg_temp.asks();
select is(
  (select reply -> 'commands' from steps where step = 'hangup'),
  jsonb_build_array(jsonb_build_object('kind', 'hangup', 'call_id', pg_temp.call_of('+60123459903'))),
  'its adapter is told to hang up'
);
update call_queue set status = 'canceled' where phone_number = '+60123459904';
select results_eq(
  $$ select status, cancel_requested from call_queue where phone_number = '+60123459904' $$,
  $$ values ('dialing', true) $$, 'status = canceled by hand asks for the same'
);
insert into steps select 'ended', pg_temp.asks(jsonb_build_array(
  pg_temp.ended('+60123459903', 'canceled', 'failed'), pg_temp.ended('+60123459904', 'canceled', 'failed')
));
select results_eq(
  $$
    select q.outcome, q.status in ('done', 'canceled'), l.status from call_queue q join call_logs l on l.call_id = q.call_id::text
    where q.phone_number in ('+60123459903', '+60123459904')
  $$,
  $$ values ('canceled', true, 'failed'), ('canceled', true, 'failed') $$, 'both ended as canceled'
);
insert into steps select 'after', pg_temp.asks(p_room => 5);
select results_eq(
  $$ select reply -> 'commands', reply -> 'rows' from steps where step = 'after' $$,
  $$ values ('[]'::jsonb, '[]'::jsonb) $$, 'nothing is left to hang up or to dial'
);

-- 3. What has ended stays as it is.
select is(call_cancel_v1(pg_temp.id_of('+60123459901'), 'again'), 'canceled', 'canceled again: no error');
select is((select ended_reason from call_queue where phone_number = '+60123459901'), 'not today', 'and no other reason');
select throws_ok('select call_cancel_v1(-5)', 'PT404', 'call_queue has no row -5');

select * from finish();
rollback;
