-- A call from the insert to its end, as an adapter makes it with call_register_v1 and call_sync_v1.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select plan(25);

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

select results_eq(
  $$ select reply ->> 'accepted', reply ->> 'incarnation', reply -> 'open' from steps $$,
  $$ values ('true', '1', '[]'::jsonb) $$, 'an adapter registers its first run'
);
select is(
  call_register_v1('fade0000-0000-4000-8000-0000000000aa', 0, gen_random_uuid(), 'tap', '{}') ->> 'accepted', 'false',
  'another that begins at the same place is refused'
);
insert into call_queue (user_id, phone_number, customer_name, max_attempts, retry_seconds)
select 'fade0000-0000-4000-8000-000000000001', n, 'Siti', 2, 600
from unnest(array['+60123459901', '+60123459902', '+60123459903', '+60123459904', '+60123459905']) n;

-- 1. The claim.
insert into steps select 'claim', pg_temp.asks(p_room => 3);
select is((select jsonb_array_length(reply -> 'rows') from steps where step = 'claim'), 3, 'as many rows as there is room for');
select results_eq(
  $$ select status, call_id is not null, pbx, attempts from call_queue where phone_number like '+6012345990_' order by id $$,
  $$ values ('dialing', true, 'tap', 0), ('dialing', true, 'tap', 0), ('dialing', true, 'tap', 0), ('queued', false, null, 0), ('queued', false, null, 0) $$,
  'the oldest are dialing'
);
select results_eq(
  $$
    select l.status, l.duration, l.customer_name from call_logs l
    where l.call_id in (select r ->> 'call_id' from steps, jsonb_array_elements(reply -> 'rows') r where step = 'claim')
  $$,
  $$ select 'initiated', null::integer, 'Siti' from generate_series(1, 3) $$,
  'call_logs knows of each before the PBX is told'
);
select is(
  (select state from calls_live where phone_number = '+60123459901'), 'about to be dialed', 'so does calls_live'
);
insert into steps select 'fenced', call_sync_v1(
  'fade0000-0000-4000-8000-0000000000aa', 0, '[]', '{"pbx": "tap", "ready": true}', 5, gen_random_uuid()
);
select results_eq(
  $$ select reply ->> 'fenced', reply -> 'rows' from steps where step = 'fenced' $$,
  $$ values ('true', '[]'::jsonb) $$, 'an earlier run gets no rows'
);
insert into steps select 'again', call_sync_v1(
  'fade0000-0000-4000-8000-0000000000aa', 1, '[]', '{"pbx": "tap", "ready": true}', 3,
  (select q.claim_id from call_queue q where q.phone_number = '+60123459901')
);
select is(
  (select reply -> 'rows' from steps where step = 'again'), (select reply -> 'rows' from steps where step = 'claim'),
  'the same claim again gives the same rows: a lost answer dials nobody twice'
);
select throws_ok(
  $$ update call_queue set status = 'queued' where phone_number = '+60123459901' $$, '23514', null,
  'a row in a call is not put back by hand'
);
insert into call_queue (user_id, phone_number, priority) values ('fade0000-0000-4000-8000-000000000001', '+60123459901', 9);
insert into steps select 'same number', pg_temp.asks(p_room => 1);
select is(
  (select r ->> 'phone_number' from steps, jsonb_array_elements(reply -> 'rows') r where step = 'same number'), '+60123459904',
  'a person in a call is not called a second time meanwhile'
);
delete from call_queue where phone_number = '+60123459901' and status = 'queued';

-- 2. Answered.
insert into steps select 'answer', pg_temp.asks(jsonb_build_array(pg_temp.answered('+60123459901')));
select is((select reply -> 'recorded' from steps where step = 'answer'), '[1]'::jsonb, 'the answer is taken');
select results_eq(
  $$ select q.status, l.status from call_queue q join call_logs l on l.call_id = q.call_id::text where q.phone_number = '+60123459901' $$,
  $$ values ('talking', 'answered') $$, 'the row talks, the app sees it as answered'
);
select is((select state from calls_live where phone_number = '+60123459901'), 'talking', 'and calls_live too');
insert into steps select 'end', pg_temp.asks(jsonb_build_array(pg_temp.ended('+60123459901', 'answered', 'answered', 40)));
select results_eq(
  $$ select status, outcome, settle_at is not null from call_queue where phone_number = '+60123459901' $$,
  $$ values ('talking', 'answered', true) $$, 'ten seconds are left to the AI for its own word'
);
insert into steps select 'settle', pg_temp.settles();
select results_eq(
  $$
    select q.status, q.outcome, q.attempts, l.status, l.duration, l.metadata ->> 'outcome'
    from call_queue q join call_logs l on l.call_id = q.call_id::text where q.phone_number = '+60123459901'
  $$,
  $$ values ('done', 'answered', 1, 'answered', 40, 'answered') $$, 'then it is done, with the seconds of talk'
);
insert into steps select 'twice', pg_temp.asks(jsonb_build_array(pg_temp.ended('+60123459901', 'busy', 'no_answered')));
select results_eq(
  $$ select q.outcome, (select reply -> 'recorded' from steps where step = 'twice') from call_queue q where phone_number = '+60123459901' $$,
  $$ values ('answered', '[2]'::jsonb) $$, 'a late record is taken off the hands of its adapter and changes nothing'
);

-- 3. Not answered: tried again after its wait, then final.
insert into steps select 'busy', pg_temp.asks(jsonb_build_array(pg_temp.ended('+60123459902', 'busy', 'no_answered')));
select results_eq(
  $$
    select status, outcome, last_outcome, attempts, not_before between now() + interval '9 minutes' and now() + interval '11 minutes'
    from call_queue where phone_number = '+60123459902'
  $$,
  $$ values ('queued', null, 'busy', 1, true) $$, 'busy: it waits for its second try'
);
select is((select count(*) from call_logs where phone_number = '0123459902' or caller_number = '0123459902'), 1::bigint, 'one call so far');
update call_queue set not_before = now() - interval '1 second', priority = 9 where phone_number = '+60123459902';
insert into steps select 'second', pg_temp.asks(p_room => 1);
insert into steps select 'no answer', pg_temp.asks(jsonb_build_array(pg_temp.ended('+60123459902', 'no_answer', 'no_answered')));
select results_eq(
  $$ select status, outcome, attempts from call_queue where phone_number = '+60123459902' $$,
  $$ values ('done', 'no_answer', 2) $$, 'after the second it is done'
);
select results_eq(
  $$ select status, duration, retry_count, is_retry from call_logs where caller_number = '0123459902' order by retry_count $$,
  $$ values ('no_answered', 0, 0, false), ('no_answered', 0, 1, true) $$, 'each call has its row'
);

-- 4. Released: surely not dialed, so it costs nothing.
insert into steps select 'release', pg_temp.asks(jsonb_build_array(jsonb_build_object(
  'seq', 1, 'kind', 'release', 'call_id', pg_temp.call_of('+60123459903'), 'cause', 'not_sent', 'reason', 'the PBX was away'
)));
select results_eq(
  $$ select status, attempts, (faults ->> 'released')::integer from call_queue where phone_number = '+60123459903' $$,
  $$ values ('queued', 0, 1) $$, 'released: it waits as before'
);
select is_empty($$ select 1 from call_logs where caller_number = '0123459903' $$, 'and its row in call_logs is gone');

-- 5. Nobody said how it ended: unknown, never dialed again.
update call_queue set deadline = now() - interval '1 second' where phone_number = '+60123459904';
update call_adapters set steady_since = now() - interval '5 minutes' where adapter = 'fade0000-0000-4000-8000-0000000000aa';
insert into steps select 'sweep', pg_temp.asks();
select results_eq(
  $$ select coalesce(outcome, last_outcome) from call_queue where phone_number = '+60123459904' $$,
  $$ values ('unknown') $$, 'over its deadline: unknown'
);
insert into steps select 'settle', pg_temp.settles();
select results_eq(
  $$
    select q.status, q.outcome, l.status, l.duration
    from call_queue q join call_logs l on l.call_id = q.call_id::text where q.phone_number = '+60123459904'
  $$,
  $$ values ('done', 'unknown', 'failed', 0) $$, 'and final'
);

-- 6. Its time ran out before its turn.
update call_queue set expires_at = now() - interval '1 second' where phone_number = '+60123459905';
insert into steps select 'sweep', pg_temp.asks(p_room => 5);
select results_eq(
  $$ select status, claim_number from call_queue where phone_number = '+60123459905' $$,
  $$ values ('done', null::bigint) $$, 'expired: it ends without a call'
);

select * from finish();
rollback;
