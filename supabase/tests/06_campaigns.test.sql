-- Campaigns of the app: counters, completed, pause, deletion.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select plan(18);

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
insert into campaigns (id, user_id, campaign_name, status, total_numbers) values
  ('fade0000-0000-4000-8000-0000000000ca', 'fade0000-0000-4000-8000-000000000001', 'tap', 'pending', 4),
  ('fade0000-0000-4000-8000-0000000000cb', 'fade0000-0000-4000-8000-000000000001', 'tap, deleted', 'in_progress', 2);
create temp view shown as
select status, successful_calls, failed_calls, current_retry_count from campaigns where id = 'fade0000-0000-4000-8000-0000000000ca';
insert into call_queue (user_id, campaign_id, phone_number, max_attempts)
select 'fade0000-0000-4000-8000-000000000001', 'fade0000-0000-4000-8000-0000000000ca', n, 1 + (n = '+60123459903')::integer
from unnest(array['+60123459901', '+60123459902', '+60123459903', '+60123459904']) n;

-- 1. Pause.
update campaigns set status = 'paused' where id = 'fade0000-0000-4000-8000-0000000000ca';
insert into steps select 'paused', pg_temp.asks(p_room => 5);
select is((select reply -> 'rows' from steps where step = 'paused'), '[]'::jsonb, 'paused: nothing is dialed');
select is((select state from queue_overview where campaign_name = 'tap'), 'paused', 'queue_overview says so');
select results_eq('select * from shown', $$ values ('paused', 0, 0, 0) $$, 'and it stays paused');
update campaigns set status = 'in_progress' where id = 'fade0000-0000-4000-8000-0000000000ca';
insert into steps select 'goes on', pg_temp.asks(p_room => 2);
select is((select jsonb_array_length(reply -> 'rows') from steps where step = 'goes on'), 2, 'it goes on at once');
update campaigns set status = 'paused' where id = 'fade0000-0000-4000-8000-0000000000ca';
insert into steps select 'live', pg_temp.asks(jsonb_build_array(pg_temp.answered('+60123459901')), 5);
select is((select reply -> 'rows' from steps where step = 'live'), '[]'::jsonb, 'paused again: nothing new');
select is((select status from call_queue where phone_number = '+60123459901'), 'talking', 'but calls that live go on');
update campaigns set status = 'in_progress' where id = 'fade0000-0000-4000-8000-0000000000ca';
insert into call_tenants (user_id, paused) values ('fade0000-0000-4000-8000-000000000001', true)
on conflict (user_id) do update set paused = true;
insert into steps select 'user', pg_temp.asks(p_room => 5);
select is((select reply -> 'rows' from steps where step = 'user'), '[]'::jsonb, 'a user can be paused as a whole');
update call_tenants set paused = false where user_id = 'fade0000-0000-4000-8000-000000000001';

-- 2. Counters: persons, each counted in the request in which its row ended.
insert into steps select 'end', pg_temp.asks(jsonb_build_array(
  pg_temp.ended('+60123459901', 'answered', 'answered', 40), pg_temp.ended('+60123459902', 'busy', 'no_answered')
));
select results_eq('select * from shown', $$ values ('in_progress', 0, 1, 0) $$, 'busy is counted; the answered one has ten seconds yet');
insert into steps select 'settle', pg_temp.settles();
select results_eq('select * from shown', $$ values ('in_progress', 1, 1, 0) $$, 'then it is counted too');
insert into steps select 'again', pg_temp.asks(jsonb_build_array(pg_temp.ended('+60123459902', 'busy', 'no_answered')));
select results_eq('select * from shown', $$ values ('in_progress', 1, 1, 0) $$, 'a record that comes twice counts once');
insert into steps select 'claim', pg_temp.asks(p_room => 5);
insert into steps select 'retry', pg_temp.asks(jsonb_build_array(pg_temp.ended('+60123459903', 'no_answer', 'no_answered')));
select results_eq('select status, failed_calls from shown', $$ values ('in_progress', 1) $$, 'who is tried again is not counted yet');
update call_queue set not_before = now() - interval '1 second' where phone_number = '+60123459903';
insert into steps select 'claim', pg_temp.asks(p_room => 5);
insert into steps select 'last', pg_temp.asks(jsonb_build_array(
  pg_temp.ended('+60123459903', 'no_answer', 'no_answered'), pg_temp.ended('+60123459904', 'declined', 'no_answered')
));
select results_eq('select * from shown', $$ values ('completed', 1, 3, 1) $$, 'completed with the last row, retries included');

-- 3. More rows open it again; by hand and in words of the database the counters hold as well.
insert into call_queue (user_id, campaign_id, phone_number) values
  ('fade0000-0000-4000-8000-000000000001', 'fade0000-0000-4000-8000-0000000000ca', '+60123459905');
set constraints all immediate;
set constraints all deferred;
insert into steps select 'more', pg_temp.asks();
select results_eq('select * from shown', $$ values ('in_progress', 1, 3, 1) $$, 'a new row opens it again');
select is(call_cancel_v1((select id from call_queue where phone_number = '+60123459905')), 'canceled', 'it is canceled');
set constraints all immediate;
set constraints all deferred;
select results_eq('select * from shown', $$ values ('completed', 1, 4, 1) $$, 'and counted with the transaction');

-- 4. Deletion.
insert into call_queue (user_id, campaign_id, phone_number)
select 'fade0000-0000-4000-8000-000000000001', 'fade0000-0000-4000-8000-0000000000cb', n
from unnest(array['+60123459906', '+60123459907']) n;
delete from campaigns where id = 'fade0000-0000-4000-8000-0000000000cb';
insert into steps select 'deleted', pg_temp.asks(p_room => 5);
select is((select reply -> 'rows' from steps where step = 'deleted'), '[]'::jsonb, 'nobody of a deleted campaign is dialed');
insert into steps select 'deleted', pg_temp.asks();
select results_eq(
  $$ select status, cancel_reason from call_queue where phone_number in ('+60123459906', '+60123459907') $$,
  $$ select 'canceled', 'its campaign was deleted' from generate_series(1, 2) $$, 'its rows are canceled'
);
select is_empty($$ select 1 from call_logs where caller_number in ('0123459906', '0123459907') $$, 'and call_logs is not told');

select * from finish();
rollback;
