-- Who must not be called, how often a number may be, and how much a user may call in a day. The adapter tells its settings
-- with each heartbeat (`countries`, `caps`); one that does not gets the defaults that are written here.

-- 1. The list ------------------------------------------------------------------------------------------------------------

create table if not exists public.do_not_call (
  id bigint generated always as identity primary key,
  e164 text not null,
  user_id uuid,
  reason text check (length(reason) <= 500),
  source text not null default 'by hand' check (length(source) between 1 and 100),
  created_at timestamptz not null default now(),
  expires_at timestamptz
);
-- What the claim asks, whatever the length of the list. Two entries of one number and user would be one that a removal
-- leaves behind.
create unique index if not exists do_not_call_number_key on public.do_not_call (e164, user_id) nulls not distinct;
comment on table public.do_not_call is
  'Numbers that are not dialed: for all, or for one user. Read at each claim; a number may be written in any form.';
comment on column public.do_not_call.id is 'Number of the entry.';
comment on column public.do_not_call.e164 is 'The number; what is written here is brought into the form with a plus.';
comment on column public.do_not_call.user_id is 'For this user only; null: for all.';
comment on column public.do_not_call.reason is 'Why, in words.';
comment on column public.do_not_call.source is 'Where it comes from: voice, dtmf, import, a register, a person.';
comment on column public.do_not_call.created_at is 'Since when it is listed.';
comment on column public.do_not_call.expires_at is 'From then on it may be called again; null: never.';

-- A listing waits for the claim that is being made, and holds back the next one until its commit: a claim that has looked
-- before could be committed after it. So no row that is queued at that commit is ever dialed. Each claim takes this lock
-- before it looks at anything and waits for no row, so nobody can wait for somebody who waits for him.
create or replace function public.do_not_call_wait()
returns trigger
language plpgsql security definer
set search_path = ''
set lock_timeout = '5s'
as $$
begin
  perform public.call_lock();
  return null;
end
$$;

create or replace trigger do_not_call_wait
  before insert or update on public.do_not_call
  for each statement
  execute function public.do_not_call_wait();

create or replace function public.do_not_call_number()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_read record;
begin
  select * into v_read from public.call_number_v1(new.e164);
  if v_read.problem is not null then
    raise exception 'this number cannot be listed: %', v_read.problem
      using errcode = 'PT400', detail = 'A number that cannot be read is never dialed either.';
  end if;
  new.e164 := v_read.e164;
  return new;
end
$$;

create or replace trigger do_not_call_number
  before insert or update of e164 on public.do_not_call
  for each row
  execute function public.do_not_call_number();

create or replace function public.call_rule_do_not_call(
  p_row public.call_queue, p_status jsonb, p_now timestamptz, out why text, out until timestamptz, out fact text
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_entry public.do_not_call;
begin
  -- In the order of its index backward: the entry for all comes first.
  select * into v_entry from public.do_not_call d
  where d.e164 = p_row.e164 and (d.user_id is null or d.user_id = p_row.user_id)
    and (d.expires_at is null or d.expires_at > p_now)
  order by d.e164 desc, d.user_id desc
  limit 1;
  if found then
    why := format(
      'the number is on the do-not-call list%s (%s)', case when v_entry.user_id is not null then ' of this user' end,
      concat_ws(': ', v_entry.source, v_entry.reason)
    );
  else
    fact := 'not on the do-not-call list';
  end if;
end
$$;

-- 2. Premium numbers and countries ------------------------------------------------------------------------------------------

-- call_number_v1 refuses them at the insert. This is for rows that were inserted before the list of such numbers grew, and
-- for numbers whose calling code several regions share while none of them knows the number.
create or replace function public.call_rule_premium(
  p_row public.call_queue, p_status jsonb, p_now timestamptz, out why text, out until timestamptz, out fact text
)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if exists (
    select from public.call_regions r
    where r.calling_code = any (array[
        substr(p_row.e164, 2, 1)::integer, substr(p_row.e164, 2, 2)::integer, substr(p_row.e164, 2, 3)::integer
      ])
      and (p_row.country is null or p_row.country in (r.region, '001'))
      and p_row.e164 ~ ('^\+' || r.calling_code || '(?:' || r.premium_pattern || ')$')
  ) then
    why := 'the phone number is a premium number: whoever calls it pays its owner';
  end if;
end
$$;

-- Countries that an adapter may call, by its heartbeat. Without a list, or with one that cannot be read: the default region only.
create or replace function public.call_countries(p_status jsonb)
returns text[]
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if jsonb_typeof(p_status -> 'countries') = 'array' then
    return array(select c from jsonb_array_elements_text(p_status -> 'countries') c);
  end if;
  return array(select s.default_region from public.call_settings s);
end
$$;

create or replace function public.call_country_fits(p_row public.call_queue, p_status jsonb)
returns boolean
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_allowed constant text[] := public.call_countries(p_status);
begin
  return coalesce('*' = any (v_allowed) or p_row.country = any (v_allowed), false);
end
$$;

create or replace function public.call_rule_country(
  p_row public.call_queue, p_status jsonb, p_now timestamptz, out why text, out until timestamptz, out fact text
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_allowed constant text[] := public.call_countries(p_status);
begin
  if '*' = any (v_allowed) then
    fact := 'any country is allowed';
  elsif p_row.country = any (v_allowed) then
    fact := format('calls to %s are allowed', p_row.country);
  else
    why := format(
      'calls to %s are not allowed: ALLOWED_COUNTRIES is %s',
      case coalesce(p_row.country, '')
        when '' then 'a number of no known country'
        when '001' then 'numbers of no country (satellites and the like)'
        else p_row.country
      end,
      coalesce(nullif(array_to_string(v_allowed, ','), ''), 'empty')
    );
    -- Each adapter has a list of its own. That of another PBX may allow it: what one may not dial ends no row of the other.
    if exists (
      select from public.call_pbx_others(p_status ->> 'pbx', p_now) o
      join public.call_adapters a on a.adapter = o.holder
      where public.call_country_fits(p_row, a.status) and public.call_pbx_may(p_row, o.pbx, o.setting)
    ) then
      until := p_now + interval '60 seconds';
    end if;
  end if;
end
$$;

-- 3. How often one number ------------------------------------------------------------------------------------------------

-- Calls of which the phone cannot have heard anything do not count: else a carrier's fault would be held against a person.
alter table public.call_dials add column if not exists quiet boolean not null default false;
alter table public.call_dials add column if not exists talk_seconds integer not null default 0;
comment on column public.call_dials.quiet is 'True if the phone cannot have rung: the carrier or the PBX refused the call.';
comment on column public.call_dials.talk_seconds is 'Seconds of talk that count for the day of its user (call_days).';
create index if not exists call_dials_rang_idx on public.call_dials (e164, claimed_at) where not quiet;

create or replace function public.call_rule_repeat(
  p_row public.call_queue, p_status jsonb, p_now timestamptz, out why text, out until timestamptz, out fact text
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  -- As the settings: four tries of one campaign and two of another.
  v_most constant integer := greatest(coalesce((p_status #>> '{caps,repeat}')::integer, 6), 1);
  v_hours constant integer := greatest(coalesce((p_status #>> '{caps,repeat_hours}')::integer, 24), 1);
  v_oldest timestamptz;
begin
  select d.claimed_at into v_oldest from public.call_dials d
  where d.e164 = p_row.e164 and not d.quiet and d.claimed_at > p_now - make_interval(hours => v_hours)
  order by d.e164 desc, d.claimed_at desc
  offset v_most - 1
  limit 1;
  if found then
    why := format(
      'this number was called %s times within %s hours, and more is not allowed (REPEAT_CALLS, REPEAT_HOURS)',
      v_most, v_hours
    );
    until := v_oldest + make_interval(hours => v_hours);
  end if;
end
$$;

-- 4. How much a user may call in a day -------------------------------------------------------------------------------------

create table if not exists public.call_user_caps (
  user_id uuid primary key,
  calls_per_day integer check (calls_per_day between 0 and 1000000),
  minutes_per_day integer check (minutes_per_day between 0 and 1000000)
);
comment on table public.call_user_caps is
  'Caps of a day for single users, in place of MAX_CALLS_PER_USER_DAY and MAX_MINUTES_PER_USER_DAY: both of them.';
comment on column public.call_user_caps.user_id is 'The user.';
comment on column public.call_user_caps.calls_per_day is 'Calls in a day; null: no cap. 0: none.';
comment on column public.call_user_caps.minutes_per_day is 'Minutes of talk in a day; null: no cap. 0: none.';

create table if not exists public.call_days (
  user_id uuid,
  day date,
  calls integer not null default 0,
  seconds integer not null default 0,
  closed_at timestamptz,
  primary key (user_id, day)
);
comment on table public.call_days is
  'Calls and talk of each user and day, for 60 days. Written in the transaction that claims, ends or releases a call.';
comment on column public.call_days.user_id is 'The user.';
comment on column public.call_days.day is 'Day by the clock of the default region (UTC where it has several zones).';
comment on column public.call_days.calls is 'Calls that were claimed to be dialed, less those that surely were not.';
comment on column public.call_days.seconds is 'Seconds of talk of the calls that have ended.';
comment on column public.call_days.closed_at is 'When a cap kept a call back; null: it did not.';

-- Users asleep for a cap are no loss that call_turns_repair has to mend.
alter table public.call_tenants add column if not exists capped_until timestamptz;
comment on column public.call_tenants.capped_until is 'Asleep until then, for the cap of a day is used up.';

create or replace function public.call_day_zone()
returns text
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return coalesce((
    select r.zone from public.call_settings s join public.call_regions r on r.region = s.default_region
  ), 'UTC');
end
$$;

create or replace function public.call_day(p_at timestamptz)
returns date
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return (p_at at time zone public.call_day_zone())::date;
end
$$;

-- When the day after this instant's begins.
create or replace function public.call_day_after(p_at timestamptz)
returns timestamptz
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return (public.call_day(p_at) + 1)::timestamp at time zone public.call_day_zone();
end
$$;

-- Calls that this user may still make today, and why none if it is none. Null: no cap. Talk counts when its call has
-- ended: the calls in the air may go on over the cap.
create or replace function public.call_day_left(
  p_user uuid, p_status jsonb, p_now timestamptz, out calls integer, out why text
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_calls integer := (p_status #>> '{caps,calls_per_day}')::integer;
  v_minutes integer := (p_status #>> '{caps,minutes_per_day}')::integer;
  v_own public.call_user_caps;
  v_day public.call_days;
begin
  select * into v_own from public.call_user_caps c where c.user_id = p_user;
  if found then
    v_calls := v_own.calls_per_day;
    v_minutes := v_own.minutes_per_day;
  end if;
  if v_calls is null and v_minutes is null then
    return;
  end if;
  select * into v_day from public.call_days d where d.user_id = p_user and d.day = public.call_day(p_now);
  -- Not null without a cap: `greatest` passes over nulls.
  calls := case when v_calls is not null then greatest(v_calls - coalesce(v_day.calls, 0), 0) end;
  if coalesce(v_day.seconds, 0) >= v_minutes * 60 then
    calls := 0;
    why := format('the %s minutes of this user for the day are used up (MAX_MINUTES_PER_USER_DAY)', v_minutes);
  elsif calls = 0 then
    why := format('the %s calls of this user for the day are used up (MAX_CALLS_PER_USER_DAY)', v_calls);
  end if;
end
$$;

-- Asked once for each user of a claim: calls that he may still make today. If none, he sleeps: to the next day, but five
-- minutes at most, so that a cap which was raised is heard of; each at another moment, or all would come back at once.
create or replace function public.call_user_day(p_user uuid, p_status jsonb, p_now timestamptz)
returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_left integer;
  v_until timestamptz;
begin
  select coalesce(l.calls, 2147483647) into v_left from public.call_day_left(p_user, p_status, p_now) l;
  if v_left > 0 then
    return v_left;
  end if;
  v_until := least(
    public.call_day_after(p_now), p_now + make_interval(secs => 240 + ('x' || right(p_user::text, 4))::bit(16)::integer % 60)
  );
  update public.call_tenants
  set ready = false, wake_at = v_until, capped_until = v_until, served = nextval('public.call_turn')
  where user_id = p_user;
  insert into public.call_days as d (user_id, day, closed_at)
  values (p_user, public.call_day(p_now), p_now)
  on conflict (user_id, day) do update set closed_at = excluded.closed_at where d.closed_at is null;
  return 0;
end
$$;

-- The claim has asked for the user as a whole before it looks at a row; here are the words of it.
create or replace function public.call_rule_day(
  p_row public.call_queue, p_status jsonb, p_now timestamptz, out why text, out until timestamptz, out fact text
)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  select l.why into why from public.call_day_left(p_row.user_id, p_status, p_now) l;
  if why is not null then
    until := public.call_day_after(p_now);
  end if;
end
$$;

-- Why a row that was never dialed had no turn in time: its clock does not stand while a cap is used up, or all that was
-- too much for one day would be carried on to the next ones.
create or replace function public.call_expired_words(p_row public.call_queue, p_now timestamptz)
returns text
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return 'expired before it could be dialed' || coalesce(': ' || p_row.wait_reason, case
    when exists (
      select from public.call_days d
      where d.user_id = p_row.user_id and d.day >= public.call_day(p_row.not_before) and d.closed_at is not null
        and d.day <= public.call_day(p_now)
    ) then ': the calls of its user for a day were used up'
  end, '');
end
$$;

-- 5. What is counted -------------------------------------------------------------------------------------------------------

-- A call was claimed.
create or replace function public.call_day_count(p_user uuid, p_now timestamptz)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_day constant date := public.call_day(p_now);
begin
  update public.call_days set calls = calls + 1 where user_id = p_user and day = v_day;
  if not found then
    insert into public.call_days (user_id, day, calls) values (p_user, v_day, 1);
    delete from public.call_days where user_id = p_user and day < v_day - 60;
  end if;
end
$$;

-- A call was claimed and surely not dialed: as if it had never been.
create or replace function public.call_dial_undone(p_call uuid)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_dial public.call_dials;
begin
  delete from public.call_dials where call_id = p_call returning * into v_dial;
  if found then
    update public.call_days set calls = greatest(calls - 1, 0), seconds = greatest(seconds - v_dial.talk_seconds, 0)
    where user_id = v_dial.user_id and day = public.call_day(v_dial.claimed_at);
  end if;
end
$$;

-- A call ended, as far as is known now: what was said of it before is replaced.
create or replace function public.call_dial_talked(p_call uuid, p_seconds integer)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_dial public.call_dials;
begin
  select * into v_dial from public.call_dials d where d.call_id = p_call;
  if not found or v_dial.talk_seconds = p_seconds then
    return;
  end if;
  update public.call_dials set talk_seconds = p_seconds where call_id = p_call;
  update public.call_days set seconds = greatest(seconds + p_seconds - v_dial.talk_seconds, 0)
  where user_id = v_dial.user_id and day = public.call_day(v_dial.claimed_at);
end
$$;

-- 6. Who asks not to be called ---------------------------------------------------------------------------------------------

-- Takes numbers into the list. `p_numbers` as people wrote them; those that cannot be read are told by their place.
create or replace function public.call_do_not_call_import_v1(
  p_numbers text[], p_user uuid default null, p_source text default 'import', p_reason text default null,
  p_expires_at timestamptz default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
as $$
declare
  v_read text[];
  v_bad jsonb;
  v_added integer;
  v_numbers integer;
begin
  if p_numbers is null or cardinality(p_numbers) > 5000 then
    raise exception 'call_do_not_call_import_v1 takes p_numbers, a list of at most 5000' using errcode = 'PT400';
  elsif coalesce(length(p_source), 0) not between 1 and 100 or length(p_reason) > 500 then
    raise exception 'p_source must have 1 to 100 characters and p_reason at most 500' using errcode = 'PT400';
  elsif p_expires_at <= now() then
    raise exception 'p_expires_at is over: such an entry would keep nobody from being called' using errcode = 'PT400';
  end if;
  -- Read before the lock is taken.
  select array_agg(distinct n.e164) filter (where n.problem is null),
    coalesce(jsonb_agg(jsonb_build_object('place', t.place - 1, 'problem', n.problem) order by t.place)
      filter (where n.problem is not null), '[]')
  into v_read, v_bad
  from unnest(p_numbers) with ordinality t (raw, place)
  cross join lateral public.call_number_v1(t.raw) n;
  v_numbers := coalesce(cardinality(v_read), 0);
  insert into public.do_not_call as d (e164, user_id, source, reason, expires_at)
  select r, p_user, p_source, p_reason, p_expires_at from unnest(v_read) r
  -- Who asks for longer than is written gets it; nothing else is changed by a second time.
  on conflict (e164, user_id) do update
  set expires_at = excluded.expires_at, source = excluded.source, reason = excluded.reason
  where d.expires_at < coalesce(excluded.expires_at, 'infinity');
  get diagnostics v_added = row_count;
  return jsonb_build_object('added', v_added, 'known', v_numbers - v_added, 'bad', v_bad);
end
$$;
comment on function public.call_do_not_call_import_v1 is
  'Lists numbers in do_not_call, for one user or for all; returns how many were added, were known, and which cannot be read.';

create or replace function public.call_do_not_call_remove_v1(p_number text, p_user uuid default null)
returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_read record;
  v_gone integer;
begin
  select * into v_read from public.call_number_v1(p_number);
  if v_read.problem is not null then
    raise exception 'nothing was removed: %', v_read.problem using errcode = 'PT400';
  end if;
  delete from public.do_not_call d where d.e164 = v_read.e164 and d.user_id is not distinct from p_user;
  get diagnostics v_gone = row_count;
  return v_gone;
end
$$;
comment on function public.call_do_not_call_remove_v1 is
  'Takes a number out of do_not_call, for one user or the entry for all; returns how many entries that were.';

create or replace function public.call_do_not_call_v1(
  p_number text default null, p_user uuid default null, p_limit integer default 20
)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_read record;
begin
  if p_limit is null or p_limit not between 1 and 1000 then
    raise exception 'p_limit must be a number from 1 to 1000' using errcode = 'PT400';
  end if;
  if p_number is not null then
    select * into v_read from public.call_number_v1(p_number);
    if v_read.problem is not null then
      raise exception 'this number is never dialed: %', v_read.problem using errcode = 'PT400';
    end if;
    return (
      select coalesce(jsonb_agg(to_jsonb(d) order by d.id desc), '[]')
      from public.do_not_call d
      where d.e164 = v_read.e164 and (p_user is null or d.user_id is null or d.user_id = p_user)
    );
  end if;
  return (
    select coalesce(jsonb_agg(to_jsonb(x) order by x.id desc), '[]')
    from (
      select * from public.do_not_call d
      where p_user is null or d.user_id = p_user
      order by d.id desc
      limit p_limit
    ) x
  );
end
$$;
comment on function public.call_do_not_call_v1 is 'Entries of do_not_call: those of a number, else the latest.';

-- The person at the phone asks not to be called again. For the user whose call it is, as it is he whom the person has told,
-- and one user may not cut off the customers of another one; `p_everyone` where all users are one company.
create or replace function public.call_opt_out_v1(
  p_call_id uuid, p_source text default 'voice', p_reason text default null, p_everyone boolean default false
)
returns text
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
as $$
declare
  v_e164 text;
  v_user uuid;
  v_known integer;
  v_waiting integer;
begin
  if p_call_id is null then
    raise exception 'call_opt_out_v1 needs p_call_id, the id of the call (CALL_ID of the AI)' using errcode = 'PT400';
  elsif coalesce(length(p_source), 0) not between 1 and 100 or length(p_reason) > 500 then
    raise exception 'p_source must have 1 to 100 characters and p_reason at most 500' using errcode = 'PT400';
  end if;
  select d.e164, d.user_id into v_e164, v_user from public.call_dials d where d.call_id = p_call_id;
  if not found then
    select q.e164, q.user_id into v_e164, v_user from public.call_queue q where q.call_id = p_call_id;
  end if;
  if v_e164 is null then
    select n.e164, l.user_id into v_e164, v_user
    from public.call_logs l cross join lateral public.call_number_v1(l.phone_number) n
    where l.call_id = p_call_id::text
    limit 1;
  end if;
  if v_e164 is null then
    raise exception 'no call has the id %, so nothing was listed: name the number instead (do_not_call)', p_call_id
      using errcode = 'PT404';
  end if;
  v_user := case when not coalesce(p_everyone, false) then v_user end;
  insert into public.do_not_call as d (e164, user_id, source, reason)
  values (v_e164, v_user, p_source, p_reason)
  on conflict (e164, user_id) do update
  set expires_at = null, source = excluded.source, reason = excluded.reason
  where d.expires_at is not null;
  get diagnostics v_known = row_count;
  select count(*) into v_waiting from public.call_queue q
  where q.e164 = v_e164 and q.status = 'queued' and (v_user is null or q.user_id = v_user);
  return format(
    'the number of this call %s and is not called again %s; %s; the call itself goes on',
    case when v_known = 1 then 'is now listed' else 'was listed before' end,
    case when v_user is null then 'by anybody' else 'for this user' end,
    case v_waiting
      when 0 then 'no other call to it waits'
      when 1 then 'one more that waits ends at its turn, not called'
      else format('%s more that wait end at their turn, not called', v_waiting)
    end
  );
end
$$;
comment on function public.call_opt_out_v1 is
  'The person of this call asks not to be called again: lists the number, for the user of the call or for all; tells in words.';

-- 7. Who may ---------------------------------------------------------------------------------------------------------------

alter table public.do_not_call enable row level security;
alter table public.call_user_caps enable row level security;
alter table public.call_days enable row level security;

do $$
declare
  v_name text;
begin
  foreach v_name in array array['do_not_call', 'call_user_caps', 'call_days'] loop
    execute format('revoke all on public.%I from public, anon, authenticated', v_name);
    execute format('grant select, insert, update, delete on public.%I to service_role', v_name);
  end loop;
  revoke all on public.do_not_call_id_seq from public, anon, authenticated;
  grant usage, select on sequence public.do_not_call_id_seq to service_role;
  foreach v_name in array array[
    'do_not_call_wait()', 'do_not_call_number()',
    'call_rule_do_not_call(public.call_queue,jsonb,timestamptz)',
    'call_rule_premium(public.call_queue,jsonb,timestamptz)',
    'call_rule_country(public.call_queue,jsonb,timestamptz)',
    'call_countries(jsonb)', 'call_country_fits(public.call_queue,jsonb)',
    'call_rule_repeat(public.call_queue,jsonb,timestamptz)',
    'call_rule_day(public.call_queue,jsonb,timestamptz)',
    'call_day_zone()', 'call_day(timestamptz)', 'call_day_after(timestamptz)',
    'call_day_left(uuid,jsonb,timestamptz)', 'call_user_day(uuid,jsonb,timestamptz)',
    'call_expired_words(public.call_queue,timestamptz)', 'call_day_count(uuid,timestamptz)',
    'call_dial_undone(uuid)', 'call_dial_talked(uuid,integer)',
    'call_do_not_call_import_v1(text[],uuid,text,text,timestamptz)', 'call_do_not_call_remove_v1(text,uuid)',
    'call_do_not_call_v1(text,uuid,integer)', 'call_opt_out_v1(uuid,text,text,boolean)'
  ] loop
    execute format('revoke all on function public.%s from public, anon, authenticated, service_role', v_name);
    if v_name like '%\_v1(%' then
      execute format('grant execute on function public.%s to service_role', v_name);
    end if;
  end loop;
end
$$;

notify pgrst, 'reload schema';
