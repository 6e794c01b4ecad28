-- Minutes: with BILLING=minutes a call is charged by its talk, once for each call id, never below zero.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
select plan(10);

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

-- A project without the app has no users: as the app makes them.
create table if not exists users (
  id uuid primary key default gen_random_uuid(), username text, account_type text default 'trial',
  trial_balance_minutes numeric(10, 2) default 10, pro_balance_minutes numeric(10, 2) default 0,
  total_minutes_used numeric(10, 2) default 0, updated_at timestamptz not null default now()
);

insert into users (id, username, account_type, trial_balance_minutes, pro_balance_minutes, total_minutes_used) values
  ('fade0000-0000-4000-8000-000000000001', 'tap', 'trial', 3, 50, 1);
create temp view balance as
select trial_balance_minutes::text as trial, pro_balance_minutes::text as pro, total_minutes_used::text as used
from users where id = 'fade0000-0000-4000-8000-000000000001';
create function pg_temp.bills(p_records jsonb default '[]', p_room integer default 0) returns jsonb language sql as $$
  select pg_temp.asks(p_records, p_room, '{"billing": "minutes", "billing_step": 60}')
$$;
create function pg_temp.talks(p_number text, p_talk integer, p_outcome text default 'answered', p_word text default 'answered')
returns jsonb language sql as $$
  insert into public.call_queue (user_id, phone_number) values ('fade0000-0000-4000-8000-000000000001', p_number);
  select pg_temp.bills(p_room => 1);
  select pg_temp.bills(jsonb_build_array(pg_temp.ended(p_number, p_outcome, p_word, p_talk)));
  update public.call_queue set settle_at = now() - interval '1 second' where settle_at is not null;
  select pg_temp.bills()
$$;
grant select on balance to service_role;
-- The app's tables are the app's: on hosted projects its pages and the AI handler write them with the secret key.
grant select, insert, update on users to service_role;
set local role service_role;
insert into steps select 'register', call_register_v1('fade0000-0000-4000-8000-0000000000aa', 0, gen_random_uuid(), 'tap', '{}');

insert into steps select 'talk', pg_temp.talks('+60123459901', 61);
select results_eq('table balance', $$ values ('1.00', '50.00', '3.00') $$, '61 seconds are two started minutes');
select results_eq(
  $$ select talk_seconds, minutes, taken, account, charged_at is not null, problem from call_charges where call_id = pg_temp.call_of('+60123459901') $$,
  $$ values (61, 2.00, 2.00, 'trial', true, null::text) $$, 'call_charges says what was taken from where'
);
insert into steps select 'again', pg_temp.bills(jsonb_build_array(pg_temp.ended('+60123459901', 'answered', 'answered', 61)));
insert into steps select 'again', pg_temp.bills();
select results_eq('table balance', $$ values ('1.00', '50.00', '3.00') $$, 'the same outcome told again charges nothing');
select throws_ok(
  $$
    insert into call_charges (call_id, user_id, talk_seconds, minutes, try_at, created_at)
    select call_id, user_id, 1, 1, now(), now() from call_charges
  $$,
  '23505', null, 'one charge for each call, whoever writes it'
);
insert into steps select 'ring', pg_temp.talks('+60123459902', 0, 'no_answer', 'no_answered');
insert into steps select 'ring', pg_temp.talks('+60123459903', 0, 'busy', 'no_answered');
select results_eq('table balance', $$ values ('1.00', '50.00', '3.00') $$, 'ringing is never charged');
insert into steps select 'machine', pg_temp.talks('+60123459904', 10, 'voicemail', 'voicemail');
select results_eq('table balance', $$ values ('0.00', '50.00', '4.00') $$, 'a machine that took the call is');
insert into steps select 'empty', pg_temp.talks('+60123459905', 600);
select results_eq('table balance', $$ values ('0.00', '50.00', '14.00') $$, 'not below zero; what was used is counted in full');
update users set account_type = 'pro' where id = 'fade0000-0000-4000-8000-000000000001';
insert into steps select 'pro', pg_temp.talks('+60123459906', 60);
select results_eq('table balance', $$ values ('0.00', '49.00', '15.00') $$, 'an account of type pro pays from its own balance');
insert into call_queue (user_id, phone_number) values ('fade0000-0000-4000-8000-000000000001', '+60123459907');
insert into steps select 'off', pg_temp.asks(p_room => 1, p_more => '{"billing": "off"}');
insert into steps select 'off', pg_temp.asks(
  jsonb_build_array(pg_temp.ended('+60123459907', 'answered', 'answered', 60)), 0, '{"billing": "off"}'
);
insert into steps select 'off', pg_temp.settles();
select results_eq('table balance', $$ values ('0.00', '49.00', '15.00') $$, 'BILLING=off: the balance is left to the AI handler');
select is((select count(*) from call_charges where user_id = 'fade0000-0000-4000-8000-000000000001'), 4::bigint, 'four calls were charged');

select * from finish();
rollback;
