-- The rules that decide whether a row may be dialed now. Each is a function call_rule_<name> of its own with one shape:
--   why    null: the row passes. Else words for a person.
--   until  with a why: it is put off until then. Null with a why: it can never be dialed, and ends.
--   fact   of a row that passes: words that tell why it may, kept with the call.
-- None changes anything, so that the claim, which asks them under its lock, and whoever wants to know why a row waits
-- ask the same. `p_status` is the heartbeat of the adapter that would dial (call_adapters.status).

-- Rows put off by a rule say by which words.
alter table public.call_queue add column if not exists wait_reason text;
comment on column public.call_queue.wait_reason is
  'Why it was last put off, in words (not_before says until when); null once it is claimed.';

-- 1. What was dialed, and why it might be --------------------------------------------------------------------------------

create table if not exists public.call_dials (
  call_id uuid primary key,
  row_id bigint not null,
  user_id uuid not null,
  e164 text not null,
  trunk text,
  claimed_at timestamptz not null,
  facts jsonb not null default '{}'
);
create index if not exists call_dials_number_idx on public.call_dials (e164, claimed_at);
create index if not exists call_dials_age_idx on public.call_dials (claimed_at);
comment on table public.call_dials is
  'One row for each call that was claimed to be dialed, for 30 days: the answer to "why did you call me?".';
comment on column public.call_dials.call_id is 'Id of the call: call_logs.call_id.';
comment on column public.call_dials.row_id is 'Row of call_queue.';
comment on column public.call_dials.user_id is 'Owner of the call in the app.';
comment on column public.call_dials.e164 is 'Number that was called.';
comment on column public.call_dials.trunk is 'Trunk through which it was called; null: MikoPBX chose it.';
comment on column public.call_dials.claimed_at is 'When it was claimed.';
comment on column public.call_dials.facts is 'What each rule said when it let the call through: name of the rule, words.';

-- As long as a row may live. A piece at a time, as all of the sweep.
create or replace function public.call_dials_forget(p_now timestamptz)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  delete from public.call_dials d
  where d.call_id = any (array(
    select x.call_id from public.call_dials x
    where x.claimed_at < p_now - interval '30 days'
    order by x.claimed_at
    limit 100
  ));
end
$$;

-- 2. The rules -----------------------------------------------------------------------------------------------------------

create or replace function public.call_rule_number(
  p_row public.call_queue, p_status jsonb, p_now timestamptz, out why text, out until timestamptz, out fact text
)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if p_row.e164 is null then
    why := coalesce(
      (select n.problem from public.call_number_v1(p_row.phone_number) n), 'the phone number is not known to be one'
    );
  end if;
end
$$;

create or replace function public.call_rule_variables(
  p_row public.call_queue, p_status jsonb, p_now timestamptz, out why text, out until timestamptz, out fact text
)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  -- Edited by hand: what is inserted so ends at once.
  if not public.call_variables_fit(p_row.variables) then
    why := 'each of variables must be a text, a number of at most 100 digits, true, false or null';
  end if;
end
$$;

-- A person who was reached is not tried again by the same campaign.
create or replace function public.call_rule_answered(
  p_row public.call_queue, p_status jsonb, p_now timestamptz, out why text, out until timestamptz, out fact text
)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if p_row.attempts > 0 and public.call_number_answered(p_row.campaign_id, p_row.e164) then
    why := 'the number was answered in another call of the campaign';
  end if;
end
$$;

-- One person, one call. Put off, or many rows for one number would stand in front of all others.
create or replace function public.call_rule_person(
  p_row public.call_queue, p_status jsonb, p_now timestamptz, out why text, out until timestamptz, out fact text
)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if exists (select from public.call_queue q where q.e164 = p_row.e164 and q.status in ('dialing', 'talking')) then
    why := 'another call to this number is going on';
    until := p_now + interval '15 seconds';
  end if;
end
$$;

-- All of them, in the order in which they count: what can never be dialed comes before what may be dialed later. What is
-- paused does not even end: somebody may have paused it to mend it.
create or replace function public.call_rules(p_row public.call_queue, p_status jsonb, p_now timestamptz)
returns table (rule text, why text, until timestamptz, fact text)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return query
  select 'pause', r.* from public.call_rule_pause(p_row, p_status, p_now) r
  union all select 'number', r.* from public.call_rule_number(p_row, p_status, p_now) r
  union all select 'variables', r.* from public.call_rule_variables(p_row, p_status, p_now) r
  union all select 'answered', r.* from public.call_rule_answered(p_row, p_status, p_now) r
  union all select 'premium', r.* from public.call_rule_premium(p_row, p_status, p_now) r
  union all select 'country', r.* from public.call_rule_country(p_row, p_status, p_now) r
  union all select 'do_not_call', r.* from public.call_rule_do_not_call(p_row, p_status, p_now) r
  union all select 'hours', r.* from public.call_rule_hours(p_row, p_status, p_now) r
  union all select 'day', r.* from public.call_rule_day(p_row, p_status, p_now) r
  union all select 'repeat', r.* from public.call_rule_repeat(p_row, p_status, p_now) r
  union all select 'trunk', r.* from public.call_rule_trunk(p_row, p_status, p_now) r
  union all select 'person', r.* from public.call_rule_person(p_row, p_status, p_now) r;
end
$$;

-- The first rule that says no; all null, and the facts of those that spoke, if none does.
create or replace function public.call_judge(
  p_row public.call_queue, p_status jsonb, p_now timestamptz,
  out rule text, out why text, out until timestamptz, out facts jsonb
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_one record;
begin
  facts := '{}';
  for v_one in select * from public.call_rules(p_row, p_status, p_now) loop
    if v_one.why is not null then
      rule := v_one.rule;
      why := v_one.why;
      until := v_one.until;
      return;
    elsif v_one.fact is not null then
      facts := facts || jsonb_build_object(v_one.rule, v_one.fact);
    end if;
  end loop;
end
$$;

-- 3. What follows ----------------------------------------------------------------------------------------------------------

-- The claim puts a row off; one that this PBX may not dial, or not now, is handed to another one that may.
drop function if exists public.call_put_off(public.call_queue, text, text, timestamptz, timestamptz);
create or replace function public.call_put_off(
  p_row public.call_queue, p_pbx text, p_rule text, p_why text, p_until timestamptz, p_now timestamptz
)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_other text;
  v_able boolean;
begin
  if p_rule = 'pause' then
    perform public.call_stop_kept(p_row);
  elsif p_rule in ('trunk', 'country') then
    select o.pbx, o.able into v_other, v_able from public.call_pbx_for(p_row, p_pbx, p_now) o;
  end if;
  update public.call_queue
  set not_before = p_until, wait_reason = p_why || coalesce('; PBX ' || v_other || ' may take it', ''),
    handed_to = v_other, updated_at = p_now
  where id = p_row.id;
  if v_able then
    perform public.call_ring_bell();
  end if;
end
$$;

-- Which rule a queued row does not pass now, in words; null: it passes them all. Asked of the adapter that would dial it;
-- of several that which lets it pass.
create or replace function public.call_why_waits_v1(p_row bigint)
returns text
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_row public.call_queue;
  v_status jsonb;
  v_why text;
  v_first text;
begin
  select * into v_row from public.call_queue q where q.id = p_row and q.status = 'queued';
  if not found then
    return null;
  end if;
  for v_status in
    select a.status
    from public.call_pbx x join public.call_adapters a on a.adapter = x.holder
    where x.lease_until > now()
    order by a.seen_at desc
  loop
    select j.why into v_why from public.call_judge(v_row, v_status, now()) j;
    if v_why is null then
      return null;
    end if;
    v_first := coalesce(v_first, v_why);
  end loop;
  return v_first;
end
$$;
comment on function public.call_why_waits_v1 is
  'Which rule keeps this queued row from being dialed now, in words; null: none, it waits for its turn.';

-- 4. Who may -----------------------------------------------------------------------------------------------------------

alter table public.call_dials enable row level security;

do $$
declare
  v_function regprocedure;
begin
  revoke all on public.call_dials from public, anon, authenticated;
  grant select, insert, update, delete on public.call_dials to service_role;
  -- By their shape, so that a new rule cannot be forgotten.
  for v_function in
    select p.oid::regprocedure
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and (
        p.proname like 'call\_rule\_%'
        or p.proname in ('call_rules', 'call_judge', 'call_put_off', 'call_dials_forget', 'call_why_waits_v1')
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function);
  end loop;
  grant execute on function public.call_why_waits_v1(bigint) to service_role;
end
$$;
