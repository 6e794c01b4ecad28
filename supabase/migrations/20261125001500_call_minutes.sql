-- What the app shows of our calls beside their rows (the campaign's name, one row a person), and the minutes of its users.

-- 1. The Campaign column ---------------------------------------------------------------------------------------------

-- The app's table of calls embeds `campaigns(campaign_name)`. PostgREST takes this function for that relationship, so the
-- column is filled without a foreign key, which would make the embed ambiguous and the table fail. It reads as whoever
-- asks: policies of campaigns stand.
create or replace function public.campaigns(public.call_logs)
returns setof public.campaigns
language sql stable rows 1
set search_path = ''
as $$
  select c.* from public.campaigns c where c.id = $1.campaign_id
$$;
comment on function public.campaigns(public.call_logs) is
  'The campaign of a call, for PostgREST: campaigns(campaign_name) in a select of call_logs.';

-- The app has these two, and never wrote them: tries spent before a call.
alter table public.call_logs
  add column if not exists retry_count integer default 0,
  add column if not exists is_retry boolean default false;

-- 2. One row a person -------------------------------------------------------------------------------------------------

alter table public.call_queue add column if not exists spent_call uuid;
comment on column public.call_queue.spent_call is 'Last call of this row whose call_logs row stays.';

-- LOG_ROWS=person: the call_logs row of an earlier call of a person goes into the metadata of the later one, whole. Not
-- one that ended as unknown, for it may still be told how it ended; nor one that somebody holds or that others refer to.
create or replace function public.call_log_fold(p_earlier uuid, p_call uuid, p_now timestamptz)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_old public.call_logs;
  v_new record;
begin
  select * into v_old from public.call_logs l where l.call_id = p_earlier::text limit 1 for update skip locked;
  if not found or v_old.metadata ->> 'outcome' = 'unknown' then
    return;
  end if;
  select l.id, l.metadata into v_new from public.call_logs l where l.call_id = p_call::text limit 1 for update skip locked;
  if not found then
    return;
  end if;
  delete from public.call_logs where id = v_old.id;
  update public.call_logs
  set updated_at = p_now,
    metadata = public.call_merged(v_new.metadata, jsonb_build_object(
      'earlier_calls', coalesce(v_old.metadata -> 'earlier_calls', '[]') || jsonb_build_object(
        'call_id', v_old.call_id, 'start_time', v_old.start_time, 'status', v_old.status, 'duration', v_old.duration,
        'outcome', v_old.metadata -> 'outcome', 'ended_reason', v_old.metadata -> 'ended_reason',
        'handler_status', v_old.metadata -> 'handler_status', 'transcript', v_old.transcript,
        'recording_url', v_old.recording_url, 'stage_reached', v_old.stage_reached, 'details', v_old.details,
        'cost', v_old.cost, 'captured_data', nullif(v_old.captured_data, '{}'),
        'end_of_call_report', v_old.end_of_call_report
      )
    ))
  where id = v_new.id;
exception
  when foreign_key_violation then null;
end
$$;

create or replace function public.call_queue_before_spent()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if old.spent_call <> new.call_id and current_setting('mikopbx_adapter.log_rows', true) = 'person' then
    perform public.call_log_fold(old.spent_call, new.call_id, clock_timestamp());
  end if;
  new.spent_call := new.call_id;
  return new;
end
$$;

-- A call has ended and its call_logs row stays: it spent a try, or it was the last one.
drop trigger if exists call_queue_before_spent on public.call_queue;
create trigger call_queue_before_spent
  before update on public.call_queue
  for each row
  when (
    old.status in ('dialing', 'talking') and new.call_id is not null
    and (new.status = 'done' or (new.status = 'queued' and new.attempts > old.attempts))
  )
  execute function public.call_queue_before_spent();

-- 3. Minutes ------------------------------------------------------------------------------------------------------------

-- Who charges is fixed at the claim by the adapter's setting BILLING, and stays so when the setting changes during a call.
alter table public.call_queue add column if not exists billing_step integer;
alter table public.call_queue add column if not exists minutes_before jsonb;
comment on column public.call_queue.billing_step is
  'Talk of this call is charged in steps of so many seconds; null: the AI handler charges (BILLING=off).';
comment on column public.call_queue.minutes_before is
  'BILLING=off: balances of the user before the call, to see whether anybody charges.';

alter table public.call_settings add column if not exists unbilled integer not null default 0;
comment on column public.call_settings.unbilled is
  'BILLING=off: answered calls in a row that changed no balance of their user; not counted further than 5.';

do $$
begin
  if not exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = 'public.call_outcomes'::regclass and a.attname = 'charged' and not a.attisdropped
  ) then
    alter table public.call_outcomes add column charged boolean not null default false;
    -- Somebody or something talked with the AI. Not what our side dropped at once, nor what nobody saw the end of.
    update public.call_outcomes set charged = true where outcome in ('answered', 'voicemail', 'canceled');
  end if;
end
$$;
comment on column public.call_outcomes.charged is 'BILLING=minutes: talk of such calls is charged. Ringing never is.';

create table if not exists public.call_charges (
  call_id uuid primary key,
  user_id uuid not null,
  talk_seconds integer not null,
  minutes numeric(10, 2) not null,
  account text,
  taken numeric(10, 2),
  charged_at timestamptz,
  try_at timestamptz not null,
  problem text,
  created_at timestamptz not null
);
comment on table public.call_charges is 'BILLING=minutes: what each call cost its user, once per call.';
comment on column public.call_charges.talk_seconds is 'Seconds from answer to end.';
comment on column public.call_charges.minutes is 'The same in minutes, rounded up to full steps; added to total_minutes_used.';
comment on column public.call_charges.account is 'trial or pro: the balance it was taken from.';
comment on column public.call_charges.taken is 'Minutes taken from the balance: fewer than minutes if there were no more.';
comment on column public.call_charges.charged_at is 'When; null while it is still to be done.';
comment on column public.call_charges.try_at is 'Tried from this instant on.';
comment on column public.call_charges.problem is 'Why it was not charged (yet), in words.';
create index if not exists call_charges_due_idx on public.call_charges (try_at) where charged_at is null;

-- Step of the adapter that asks (call_sync_v1); null: it charges nothing.
create or replace function public.call_billing_step()
returns integer
language plpgsql stable
set search_path = ''
as $$
begin
  return nullif(current_setting('mikopbx_adapter.billing_step', true), '')::integer;
end
$$;

-- Balances of a user as they are now, whatever the columns; null if there is none to look at.
create or replace function public.call_minutes_of(p_user uuid)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_user jsonb;
begin
  if pg_catalog.to_regclass('public.users') is null then
    return null;
  end if;
  select to_jsonb(u) into v_user from public.users u where u.id = p_user;
  return (
    select jsonb_object_agg(b.key, b.value) from jsonb_each(v_user) b
    where b.key in ('trial_balance_minutes', 'pro_balance_minutes', 'total_minutes_used', 'credits_balance')
  );
exception
  when others then
    return null; -- Another kind of table of that name; a claim must not fail of it.
end
$$;

-- Takes what is due for one call from its user's balance: both figures in one update, or none. Never waits for the
-- user's row; if somebody holds it, the sweep comes again.
create or replace function public.call_charge_take(p_call uuid, p_now timestamptz)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_due public.call_charges;
  v_user record;
  v_pro boolean;
  v_balance numeric;
begin
  select * into v_due from public.call_charges c where c.call_id = p_call and c.charged_at is null for update skip locked;
  if not found then
    return;
  end if;
  if pg_catalog.to_regclass('public.users') is null then
    update public.call_charges set charged_at = p_now, taken = 0, problem = 'there is no table users' where call_id = p_call;
    return;
  end if;
  begin
    select u.account_type, u.trial_balance_minutes, u.pro_balance_minutes into v_user
    from public.users u
    where u.id = v_due.user_id
    for no key update skip locked;
    if not found then
      if exists (select from public.users u where u.id = v_due.user_id) then
        update public.call_charges
        set try_at = p_now + interval '2 seconds', problem = 'the row of the user is held by another session'
        where call_id = p_call;
      else
        update public.call_charges set charged_at = p_now, taken = 0, problem = 'there is no such user' where call_id = p_call;
      end if;
      return;
    end if;
    v_pro := v_user.account_type is not distinct from 'pro';
    v_balance := coalesce(case when v_pro then v_user.pro_balance_minutes else v_user.trial_balance_minutes end, 0);
    -- A balance below zero is none of ours: it stays.
    v_balance := greatest(v_balance, 0) - greatest(v_balance - v_due.minutes, 0);
    update public.users
    set trial_balance_minutes = case when v_pro then trial_balance_minutes else coalesce(trial_balance_minutes, 0) - v_balance end,
      pro_balance_minutes = case when v_pro then coalesce(pro_balance_minutes, 0) - v_balance else pro_balance_minutes end,
      total_minutes_used = coalesce(total_minutes_used, 0) + v_due.minutes,
      updated_at = p_now
    where id = v_due.user_id;
    update public.call_charges
    set charged_at = p_now, taken = v_balance, account = case when v_pro then 'pro' else 'trial' end, problem = null
    where call_id = p_call;
  exception
    when others then
      update public.call_charges set try_at = p_now + interval '1 minute', problem = left(sqlerrm, 500) where call_id = p_call;
  end;
end
$$;

-- Charges one call, if its outcome is charged and somebody talked. Once per call id, whoever tells its end how often.
create or replace function public.call_charge(
  p_call uuid, p_user uuid, p_step integer, p_outcome text, p_talk_seconds integer, p_now timestamptz
)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if p_step is null or p_user is null or coalesce(p_talk_seconds, 0) <= 0
    or not exists (select from public.call_outcomes o where o.outcome = p_outcome and o.charged) then
    return;
  end if;
  insert into public.call_charges (call_id, user_id, talk_seconds, minutes, try_at, created_at)
  values (
    p_call, p_user, p_talk_seconds, round(ceil(p_talk_seconds::numeric / p_step) * p_step / 60, 2), p_now, p_now
  )
  on conflict (call_id) do nothing;
  if found then
    perform public.call_charge_take(p_call, p_now);
  end if;
end
$$;

-- BILLING=off: counts answered calls in a row after which no balance of their user had changed. Ten seconds after the end
-- the AI handler has long had its turn.
create or replace function public.call_unbilled(p_user uuid, p_before jsonb)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_same boolean := public.call_minutes_of(p_user) is not distinct from p_before;
begin
  perform from public.call_settings s
  where case when v_same then s.unbilled < 5 else s.unbilled > 0 end
  for update skip locked;
  if found then
    update public.call_settings set unbilled = case when v_same then unbilled + 1 else 0 end where only_row;
  end if;
end
$$;

-- The last word about a call was said. Whatever goes wrong here, the outcome is stored.
create or replace function public.call_queue_after_end()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_talk integer;
begin
  v_talk := (new.call_facts ->> 'talk_seconds')::integer;
  if new.billing_step is not null then
    perform public.call_charge(new.call_id, new.user_id, new.billing_step, new.last_outcome, v_talk, clock_timestamp());
  elsif v_talk > 0 and new.last_outcome in ('answered', 'voicemail') then
    perform public.call_unbilled(new.user_id, new.minutes_before);
  end if;
  return null;
exception
  when others then
    raise warning 'call % was not charged: %', new.call_id, sqlerrm;
    return null;
end
$$;

drop trigger if exists call_queue_after_end on public.call_queue;
create trigger call_queue_after_end
  after update on public.call_queue
  for each row
  when (
    (new.billing_step is not null or new.minutes_before is not null)
    and new.call_id is not null and new.call_facts is not null and new.last_outcome is not null
    and new.status in ('queued', 'done', 'canceled')
    and (old.status in ('dialing', 'talking') or old.last_outcome is distinct from new.last_outcome)
  )
  execute function public.call_queue_after_end();

-- The sweep: charges whose user was held, or that failed; returns what still goes wrong, in words.
create or replace function public.call_charges_due(p_now timestamptz)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_call uuid;
  v_problem text;
begin
  for v_call in
    select c.call_id from public.call_charges c
    where c.charged_at is null and c.try_at <= p_now
    order by c.try_at
    limit 100
    for update skip locked
  loop
    perform public.call_charge_take(v_call, p_now);
    -- Merely held ones are tried again in seconds, and not worth a word.
    select coalesce(v_problem, c.problem) into v_problem
    from public.call_charges c
    where c.call_id = v_call and (c.charged_at is not null or c.try_at >= p_now + interval '1 minute');
  end loop;
  return case
    when v_problem is null then '[]'::jsonb
    else jsonb_build_array('minutes cannot be charged (call_charges tells of which calls): ' || v_problem)
  end;
end
$$;

-- 4. Who may do what ------------------------------------------------------------------------------------------------------

alter table public.call_charges enable row level security;
revoke all on public.call_charges from public, anon, authenticated;
grant select, insert, update, delete on public.call_charges to service_role;

do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname = any (array[
        'call_log_fold', 'call_queue_before_spent', 'call_billing_step', 'call_minutes_of', 'call_charge_take',
        'call_charge', 'call_unbilled', 'call_queue_after_end', 'call_charges_due'
      ])
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function);
  end loop;
end
$$;
-- Whoever may read calls reads their campaign with it: the app's pages are anon.
revoke all on function public.campaigns(public.call_logs) from public;
grant execute on function public.campaigns(public.call_logs) to anon, authenticated, service_role;

-- PostgREST shall see the relationship at once.
notify pgrst, 'reload schema';
