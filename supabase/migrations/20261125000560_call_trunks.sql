-- Ways out: which trunks there are, whose they are, how many calls each may carry, and how each is doing. Who has one trunk
-- needs none of these tables: while call_trunks has no row for a PBX, its adapter's setting TRUNK is the only way.
-- Health is kept here and not in a process: a restart forgets nothing, and whoever takes a PBX over knows it.

-- 1. Tables ------------------------------------------------------------------------------------------------------------

create table if not exists public.call_trunks (
  pbx text not null,
  trunk text not null check (trunk ~ '^[A-Za-z0-9_-]{1,64}$'),
  user_id uuid,
  form text not null default 'trunk' check (form in ('trunk', 'route')),
  number_style text not null default 'e164' check (number_style in ('e164', 'plus', 'national')),
  strip_prefix text not null default '' check (strip_prefix ~ '^\+?[0-9]{0,15}$'),
  add_prefix text not null default '' check (add_prefix ~ '^\+?[0-9]{0,15}$'),
  prefixes text[] not null default '{}'
    check (array_to_string(prefixes, ',', '?') ~ '^([1-9][0-9]{0,14}(,[1-9][0-9]{0,14})*)?$'),
  -- A carrier's account has between one channel and some hundreds; 2000 is what MAX_CALLS takes.
  max_channels integer check (max_channels between 1 and 2000),
  calls_per_second numeric(6, 3) check (calls_per_second between 0.1 and 200),
  priority integer not null default 5 check (priority between 0 and 9),
  caller_ids text[] not null default '{}'
    check (array_to_string(caller_ids, ',', '?') ~ '^(\+?[0-9]{3,15}(,\+?[0-9]{3,15})*)?$'),
  enabled boolean not null default true,
  note text check (length(note) <= 500),
  primary key (pbx, trunk)
);
-- Zeros stand for all: "is not distinct from" finds no index.
create index if not exists call_trunks_owner_idx on public.call_trunks
  (pbx, coalesce(user_id, '00000000-0000-0000-0000-000000000000'), priority desc, trunk);
create index if not exists call_trunks_user_idx on public.call_trunks (user_id) where user_id is not null;
comment on table public.call_trunks is
  'Ways out of each PBX. Without a row for a PBX, the setting TRUNK of its adapter is the only one.';
comment on column public.call_trunks.pbx is 'PBX_NAME of the adapter (without it MIKOPBX_HOST).';
comment on column public.call_trunks.trunk is
  'Provider id, like SIP-TRUNK-1A2B3C4D; with form route any name, as MikoPBX chooses by its own routes.';
comment on column public.call_trunks.user_id is
  'Owner: only this user''s calls take it, and they take no other. Null: shared by all who have none of their own.';
comment on column public.call_trunks.form is 'trunk: straight through the provider; route: by the outgoing routes of MikoPBX.';
comment on column public.call_trunks.number_style is
  'How the carrier wants numbers: e164 (60123456700), plus (+60123456700) or national (0123456700).';
comment on column public.call_trunks.strip_prefix is 'Taken off the front of that; a number that does not begin so is refused.';
comment on column public.call_trunks.add_prefix is 'Put in front of what is left.';
comment on column public.call_trunks.prefixes is 'Beginnings of numbers (E.164 without plus) that it may call; empty: all.';
comment on column public.call_trunks.max_channels is
  'Calls that the carrier carries at once; calls of people and RESERVED_CHANNELS are taken off. Null: not known.';
comment on column public.call_trunks.calls_per_second is 'New calls a second that the carrier takes. Null: only CALLS_PER_SECOND counts.';
comment on column public.call_trunks.priority is '0 to 9; 9 is taken first, the next when it is full, failing or down.';
comment on column public.call_trunks.caller_ids is
  'Numbers shown to callees, always the same to the same person; empty: CALLER_ID, or what the provider has.';
comment on column public.call_trunks.enabled is 'False: no call takes it.';
comment on column public.call_trunks.note is 'Whatever you want to remember of it.';

-- The adapter is sent the list when it has changed: this tells.
alter table public.call_settings add column if not exists trunks_version bigint not null default 1;
alter table public.call_settings add column if not exists max_calls integer check (max_calls between 0 and 100000);
comment on column public.call_settings.trunks_version is 'Rises with each change of call_trunks.';
comment on column public.call_settings.max_calls is 'Calls in the air through all PBXs together; null: each adapter''s MAX_CALLS alone.';

create or replace function public.call_trunks_changed()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  update public.call_settings set trunks_version = trunks_version + 1 where only_row;
  return null;
end
$$;

create or replace trigger call_trunks_changed
  after insert or update or delete on public.call_trunks
  for each statement execute function public.call_trunks_changed();

create table if not exists public.call_trunk_health (
  pbx text not null,
  trunk text not null,
  recent text not null default '' check (recent ~ '^[.x]{0,10}$'),
  silent integer not null default 0,
  cools integer not null default 0,
  cooled_at timestamptz,
  cooled_until timestamptz,
  stopped_at timestamptz,
  probed_at timestamptz,
  primary key (pbx, trunk)
);
comment on table public.call_trunk_health is
  'How each trunk is doing, by the calls that took it. call_resume_v1(''trunk'', …) forgets what it holds against it.';
comment on column public.call_trunk_health.pbx is 'PBX of the trunk.';
comment on column public.call_trunk_health.trunk is 'The trunk; empty where MikoPBX chooses.';
comment on column public.call_trunk_health.recent is 'Its last ten calls, the latest at the end: x failed by the carrier''s fault.';
comment on column public.call_trunk_health.silent is 'Calls in a row that neither rang nor were answered.';
comment on column public.call_trunk_health.cools is 'How often in a row it had to cool down.';
comment on column public.call_trunk_health.cooled_at is 'Since when it cools down; null: it works.';
comment on column public.call_trunk_health.cooled_until is 'From then on one call at a time tries whether it works again.';
comment on column public.call_trunk_health.stopped_at is 'Since when it is stopped, after twenty calls without a sound.';
comment on column public.call_trunk_health.probed_at is 'When the last such try was claimed.';

create table if not exists public.call_limits (
  kind text not null check (kind in ('user', 'campaign')),
  key uuid not null,
  max_calls integer not null check (max_calls between 0 and 2000),
  primary key (kind, key)
);
comment on table public.call_limits is
  'Most calls in the air of one user or campaign; never above MAX_CALLS_PER_USER and the app''s system_settings.';
comment on column public.call_limits.kind is 'user or campaign.';
comment on column public.call_limits.key is 'Id of it.';
comment on column public.call_limits.max_calls is 'So many at once; 0: none.';

alter table public.call_queue add column if not exists dialed_trunk text;
alter table public.call_queue add column if not exists way jsonb;
alter table public.call_queue add column if not exists trunks_tried text[] not null default '{}';
comment on column public.call_queue.dialed_trunk is 'Trunk of the last call; null: MikoPBX chose it.';
comment on column public.call_queue.way is 'Row of call_trunks as it was when the last call was claimed; null: the setting TRUNK.';
comment on column public.call_queue.trunks_tried is
  'Trunks that could not even begin the call: the next call of the row, soon after, takes another one.';
create index if not exists call_queue_handed_idx
  on public.call_queue (handed_to, not_before, id) where status = 'queued' and handed_to is not null;

-- 2. How a trunk is doing --------------------------------------------------------------------------------------------------

-- Half of the last ten is no accident, and five failures are soon together on a busy trunk.
create or replace function public.call_trunk_heard(
  p_row public.call_queue, p_outcome text, p_watched boolean, p_now timestamptz
)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_failures constant integer := 5;
  v_silent constant integer := 20;
  -- A burst of refusals passes within a minute; a carrier's outage is asked about four times an hour.
  v_first constant interval := '60 seconds';
  v_longest constant interval := '900 seconds';
  v_rang constant boolean := p_row.ringing_at is not null or p_row.answered_at is not null;
  v_bad constant boolean := p_outcome in ('congestion', 'trunk_unavailable', 'rejected', 'no_reply');
  v_before public.call_trunk_health;
  v_now public.call_trunk_health;
begin
  -- Nothing of these is the trunk's doing; and where the link was down for a part of the call, silence proves nothing.
  if p_row.pbx is null or p_row.claimed_at is null
    or p_outcome in ('blocked', 'canceled', 'pbx_error', 'unknown') or not (v_rang or p_watched) then
    return;
  end if;
  insert into public.call_trunk_health (pbx, trunk)
  values (p_row.pbx, coalesce(p_row.dialed_trunk, ''))
  on conflict do nothing;
  select * into v_before from public.call_trunk_health h
  where h.pbx = p_row.pbx and h.trunk = coalesce(p_row.dialed_trunk, '');
  v_now := v_before;
  v_now.recent := right(v_now.recent || case when v_bad then 'x' else '.' end, 10);
  -- Of a trunk that is stopped, only a call that began since tells whether it works again.
  v_now.silent := case
    when not v_rang then v_now.silent + 1
    when v_now.stopped_at is null or p_row.claimed_at >= v_now.stopped_at then 0
    else v_now.silent
  end;
  if v_rang and p_row.claimed_at >= v_now.stopped_at then
    v_now.stopped_at := null;
  elsif v_now.silent >= v_silent and v_now.stopped_at is null then
    v_now.stopped_at := p_now;
  end if;
  if v_now.cooled_at is null then
    if v_bad and length(replace(v_now.recent, '.', '')) >= v_failures then
      v_now.cooled_at := p_now;
      v_now.cools := 1;
      v_now.cooled_until := p_now + v_first;
    end if;
  elsif p_row.claimed_at >= v_now.cooled_at then
    if v_bad then
      v_now.cools := least(v_now.cools + 1, 30);
      v_now.cooled_until := p_now + least(v_first * 2 ^ (v_now.cools - 1), v_longest);
      v_now.cooled_at := p_now;
    else
      v_now.recent := '.';
      v_now.cools := 0;
      v_now.cooled_at := null;
      v_now.cooled_until := null;
    end if;
  end if;
  if v_now is distinct from v_before then
    update public.call_trunk_health
    set recent = v_now.recent, silent = v_now.silent, cools = v_now.cools, cooled_at = v_now.cooled_at,
      cooled_until = v_now.cooled_until, stopped_at = v_now.stopped_at
    where pbx = v_now.pbx and trunk = v_now.trunk;
  end if;
end
$$;

-- What is held against a trunk, in words; null: nothing.
create or replace function public.call_trunk_words(p_health public.call_trunk_health)
returns text
language plpgsql stable
set search_path = ''
as $$
begin
  return case
    when p_health.stopped_at is not null then format(
      'trunk %s is stopped: %s calls in a row neither rang nor were answered; ask the carrier (credit?), then resume it',
      p_health.trunk, p_health.silent
    )
    when p_health.cooled_at is not null then format(
      'trunk %s cools down: %s of its last %s calls failed', p_health.trunk,
      length(replace(p_health.recent, '.', '')), length(p_health.recent)
    )
  end;
end
$$;

-- The words of all trunks against which something is held: of one PBX, or of all (null).
create or replace function public.call_trunks_unfit(p_pbx text)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_agg(public.call_trunk_words(h) order by h.pbx, h.trunk), '[]')
    from public.call_trunk_health h
    where (p_pbx is null or h.pbx = p_pbx) and (h.stopped_at is not null or h.cooled_at is not null)
  );
end
$$;

-- Whether its health lets a trunk be taken: `why` null: yes; with `probe` one call at a time may try it.
create or replace function public.call_trunk_fit(
  p_pbx text, p_trunk text, p_now timestamptz, out why text, out until timestamptz, out probe boolean
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  -- A probe costs a person's turn, and a trunk that was dead for twenty calls is seldom back within a minute.
  v_every constant interval := '300 seconds';
  -- A probe whose end was never told does not keep the trunk shut: longer than it rings anywhere.
  v_lost constant interval := '120 seconds';
  v_health public.call_trunk_health;
begin
  probe := false;
  select * into v_health from public.call_trunk_health h where h.pbx = p_pbx and h.trunk = p_trunk;
  if v_health.stopped_at is not null then
    until := coalesce(v_health.probed_at + v_every, p_now);
  elsif v_health.cooled_at is not null then
    until := case
      when v_health.probed_at > v_health.cooled_until then v_health.probed_at + v_lost
      else v_health.cooled_until
    end;
  end if;
  why := public.call_trunk_words(v_health);
  if until <= p_now then
    why := null;
    until := null;
    probe := true;
  end if;
end
$$;

-- Forgets what is held against a trunk, at every PBX that has one of this name. True: there was something.
create or replace function public.call_trunk_forgive(p_trunk text)
returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_was boolean;
begin
  select coalesce(bool_or(h.stopped_at is not null or h.cooled_at is not null), false) into v_was
  from public.call_trunk_health h
  where h.trunk = p_trunk;
  delete from public.call_trunk_health where trunk = p_trunk;
  return v_was;
end
$$;

-- 3. Room --------------------------------------------------------------------------------------------------------------------

-- Calls in the air through a PBX by trunk. Once for each claim, which then counts on by itself (call_way_taken).
create or replace function public.call_trunks_in_air(p_pbx text)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_object_agg(n.trunk, n.calls), '{}')
    from (
      select coalesce(q.dialed_trunk, '') as trunk, count(*) as calls
      from public.call_queue q
      where q.status in ('dialing', 'talking') and q.outcome is null and q.pbx = p_pbx
      group by 1
    ) n
  );
end
$$;

-- How many more calls a trunk may get from the adapter of this heartbeat; of 0 `why`, in words.
create or replace function public.call_trunk_left(
  p_status jsonb, p_trunk text, p_most integer, p_now timestamptz, out n integer, out why text, out until timestamptz
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_told constant jsonb := p_status -> 'trunks' -> p_trunk;
  v_most constant integer := coalesce(p_most, (v_told ->> 'max_channels')::integer);
  v_taken integer;
  v_fit record;
begin
  n := 0;
  until := p_now + interval '2 seconds';
  if p_status ? 'trunks' and v_told is null then
    why := format('the adapter has not looked at trunk %s yet', p_trunk);
    return;
  elsif v_told ->> 'problem' is not null then
    why := v_told ->> 'problem';
    return;
  end if;
  why := public.call_stop_told('trunk', p_trunk);
  if why is not null then
    until := p_now + interval '5 seconds';
    return;
  end if;
  select * into v_fit from public.call_trunk_fit(p_status ->> 'pbx', p_trunk, p_now);
  if v_fit.why is not null then
    why := v_fit.why;
    until := v_fit.until;
    return;
  end if;
  -- An adapter that does not tell its pace by trunk claims no more than its pace allows in any case.
  n := coalesce((v_told ->> 'room')::integer, 2147483647);
  if n <= 0 then
    why := format('trunk %s takes no more new calls this second', p_trunk);
  end if;
  if v_fit.probe then
    n := least(n, 1);
  end if;
  if v_most is not null then
    v_taken := coalesce(
      (coalesce(p_status -> '_in_air', public.call_trunks_in_air(p_status ->> 'pbx')) ->> p_trunk)::integer, 0
    ) + coalesce((v_told ->> 'foreign')::integer, 0) + coalesce((p_status ->> 'reserved')::integer, 0);
    if v_most - v_taken < n then
      n := v_most - v_taken;
      if n <= 0 then
        why := format('trunk %s is full (%s channels, some kept for people)', p_trunk, v_most);
      end if;
    end if;
  end if;
  n := greatest(n, 0);
  if n > 0 then
    until := null;
  end if;
end
$$;

-- The heartbeat after one call more through a trunk, as the rest of the claim shall see it.
create or replace function public.call_way_taken(p_status jsonb, p_trunk text)
returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
  p_status := jsonb_set(
    p_status, array['_in_air', p_trunk], to_jsonb(coalesce((p_status #>> array['_in_air', p_trunk])::integer, 0) + 1)
  );
  if p_status #>> array['trunks', p_trunk, 'room'] is not null then
    p_status := jsonb_set(
      p_status, array['trunks', p_trunk, 'room'], to_jsonb((p_status #>> array['trunks', p_trunk, 'room'])::integer - 1)
    );
  end if;
  return p_status;
end
$$;

-- Whose trunks a user's calls take: their own if there are any, at whatever PBX, switched on or not, else the shared ones
-- (zeros). Nobody's calls are paid for by somebody else because a PBX is away.
drop function if exists public.call_trunks_owner(text, uuid);
create or replace function public.call_trunks_owner(p_user uuid)
returns uuid
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return case
    when exists (select from public.call_trunks t where t.user_id = p_user) then p_user
    else '00000000-0000-0000-0000-000000000000'
  end;
end
$$;

-- How many calls the trunks open to this user may get now; null: no trunk of call_trunks is meant, so TRUNK counts for all.
create or replace function public.call_user_trunks_left(p_user uuid, p_status jsonb, p_now timestamptz)
returns integer
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_pbx constant text := p_status ->> 'pbx';
begin
  if not exists (select from public.call_trunks t where t.pbx = v_pbx) then
    return null;
  end if;
  return (
    select least(coalesce(sum(l.n), 0), 2147483647)::integer
    from public.call_trunks t
    cross join lateral public.call_trunk_left(p_status, t.trunk, t.max_channels, p_now) l
    where t.pbx = v_pbx and t.enabled
      and coalesce(t.user_id, '00000000-0000-0000-0000-000000000000') = public.call_trunks_owner(p_user)
  );
end
$$;

-- How many calls all trunks of a PBX together may get now, counted up to p_most.
create or replace function public.call_pbx_trunks_left(p_status jsonb, p_most integer, p_now timestamptz)
returns integer
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_pbx constant text := p_status ->> 'pbx';
  v_trunk public.call_trunks;
  v_left integer := 0;
begin
  if not exists (select from public.call_trunks t where t.pbx = v_pbx) then
    return least(p_most, (
      select l.n from public.call_trunk_left(p_status, coalesce(p_status ->> 'trunk', ''), null, p_now) l
    ));
  end if;
  for v_trunk in select * from public.call_trunks t where t.pbx = v_pbx and t.enabled loop
    exit when v_left >= p_most;
    v_left := v_left + least(p_most, (
      select l.n from public.call_trunk_left(p_status, v_trunk.trunk, v_trunk.max_channels, p_now) l
    ));
  end loop;
  return least(v_left, p_most);
end
$$;

-- Calls that all PBXs together may take on (call_settings.max_calls).
create or replace function public.call_all_left()
returns integer
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_most constant integer := (select s.max_calls from public.call_settings s);
begin
  if v_most is null then
    return null;
  end if;
  return v_most - (
    select count(*) from public.call_queue q where q.status in ('dialing', 'talking') and q.outcome is null
  )::integer;
end
$$;

-- Most calls in the air of one user: the app's own numbers, never above MAX_CALLS_PER_USER.
create or replace function public.call_user_limit(p_user uuid, p_most integer)
returns integer
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_account text;
  v_own integer;
begin
  -- A table of this name may be another app's.
  if exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = pg_catalog.to_regclass('public.users') and a.attname = 'account_type' and not a.attisdropped
  ) then
    select u.account_type into v_account from public.users u where u.id = p_user;
  end if;
  select l.max_calls into v_own from public.call_limits l where l.kind = 'user' and l.key = p_user;
  return least(v_own, public.call_batch_limit(p_most, case v_account
    when 'pro' then 'pro_max_concurrent_calls'
    when 'trial' then 'max_concurrent_calls'
  end));
end
$$;

create or replace function public.call_lane_limit(p_lane uuid, p_most integer)
returns integer
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return least(
    p_most, (select l.max_calls from public.call_limits l where l.kind = 'campaign' and l.key = p_lane)
  );
end
$$;

-- 4. Which way -------------------------------------------------------------------------------------------------------------

-- May a trunk with these prefixes call this number? Without any it may call all; a number that is not known fits.
create or replace function public.call_prefixes_fit(p_prefixes text[], p_e164 text)
returns boolean
language plpgsql immutable
set search_path = ''
as $$
declare
  v_begins text;
begin
  if p_prefixes = '{}' or p_e164 is null then
    return true;
  end if;
  -- A loop and no query: it is asked for each trunk of each row.
  foreach v_begins in array p_prefixes loop
    if starts_with(p_e164, '+' || v_begins) then
      return true;
    end if;
  end loop;
  return false;
end
$$;

-- The other PBXs: those whose trunks the table lists, heard of or not, and those that dialed within the last day. So an
-- adapter that is away, or has not come yet, ends no row.
create or replace function public.call_pbx_others(p_pbx text, p_now timestamptz)
returns table (pbx text, setting text, holder uuid, lease_until timestamptz)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return query
  select o.pbx, x.trunk, x.holder, x.lease_until
  from (
    select t.pbx from public.call_trunks t where t.enabled
    union
    select x.pbx from public.call_pbx x where x.lease_until > p_now - interval '24 hours'
  ) o
  left join public.call_pbx x on x.pbx = o.pbx
  where o.pbx is distinct from p_pbx;
end
$$;

-- Has this PBX a trunk for the row, whether or not it could take it now? One without trunks in the table has its setting.
create or replace function public.call_pbx_may(p_row public.call_queue, p_pbx text, p_setting text)
returns boolean
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if not exists (select from public.call_trunks t where t.pbx = p_pbx) then
    return (p_row.trunk is null or p_row.trunk is not distinct from p_setting)
      and public.call_trunks_owner(p_row.user_id) = '00000000-0000-0000-0000-000000000000';
  end if;
  return exists (
    select from public.call_trunks t
    where t.pbx = p_pbx and t.enabled and (p_row.trunk is null or t.trunk = p_row.trunk)
      and coalesce(t.user_id, '00000000-0000-0000-0000-000000000000') = public.call_trunks_owner(p_row.user_id)
      and public.call_prefixes_fit(t.prefixes, p_row.e164)
  );
end
$$;

create or replace function public.call_way_elsewhere(p_row public.call_queue, p_pbx text, p_now timestamptz)
returns boolean
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return exists (
    select from public.call_pbx_others(p_pbx, p_now) o where public.call_pbx_may(p_row, o.pbx, o.setting)
  );
end
$$;

-- The trunk that this row would take now. `way` null with `why` null: the setting TRUNK of the adapter.
create or replace function public.call_way(
  p_row public.call_queue, p_status jsonb, p_now timestamptz,
  out trunk text, out way jsonb, out why text, out until timestamptz
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_pbx constant text := p_status ->> 'pbx';
  v_owner constant uuid := public.call_trunks_owner(p_row.user_id);
  v_tried text[] := p_row.trunks_tried;
  v_trunk public.call_trunks;
  v_left record;
  v_some boolean := false;
begin
  if not exists (select from public.call_trunks t where t.pbx = v_pbx) then
    trunk := p_status ->> 'trunk';
    if v_owner <> '00000000-0000-0000-0000-000000000000' then
      why := 'the trunks of this user are at another PBX, or switched off (call_trunks)';
      until := p_now + interval '60 seconds';
      return;
    elsif p_row.trunk is not null and p_row.trunk is distinct from trunk then
      if exists (
        select from public.call_pbx x
        where x.lease_until > p_now and (x.trunk = p_row.trunk or exists (
          select from public.call_trunks t where t.pbx = x.pbx and t.trunk = p_row.trunk
        ))
      ) then
        why := format('it is for trunk %s, through which another adapter dials', p_row.trunk);
        until := p_now + interval '5 seconds';
      elsif public.call_way_elsewhere(p_row, v_pbx, p_now) then
        why := format('it is for trunk %s, whose adapter is away', p_row.trunk);
        until := p_now + interval '60 seconds';
      else
        why := format('the trunk %s is not known', p_row.trunk);
      end if;
      return;
    end if;
    select * into v_left from public.call_trunk_left(p_status, coalesce(trunk, ''), null, p_now);
    why := v_left.why;
    until := v_left.until;
    return;
  end if;

  -- Tried them all: from the start, after the delay that call_settle has set.
  if not exists (
    select from public.call_trunks t
    where t.pbx = v_pbx and coalesce(t.user_id, '00000000-0000-0000-0000-000000000000') = v_owner and t.enabled and t.trunk <> all (v_tried)
  ) then
    v_tried := '{}';
  end if;
  for v_trunk in
    select * from public.call_trunks t
    where t.pbx = v_pbx and coalesce(t.user_id, '00000000-0000-0000-0000-000000000000') = v_owner and t.enabled
      and (p_row.trunk is null or t.trunk = p_row.trunk)
    order by t.priority desc, t.trunk
  loop
    v_some := true;
    continue when v_trunk.trunk = any (v_tried);
    continue when not public.call_prefixes_fit(v_trunk.prefixes, p_row.e164);
    select * into v_left from public.call_trunk_left(p_status, v_trunk.trunk, v_trunk.max_channels, p_now);
    if v_left.n > 0 then
      trunk := v_trunk.trunk;
      way := jsonb_build_object(
        'id', v_trunk.trunk, 'form', v_trunk.form, 'number_style', v_trunk.number_style,
        'strip', v_trunk.strip_prefix, 'add', v_trunk.add_prefix,
        'calls_per_second', v_trunk.calls_per_second, 'max_channels', v_trunk.max_channels,
        'caller_id', case when v_trunk.caller_ids <> '{}' then v_trunk.caller_ids[
          1 + (hashtext(p_row.e164)::bigint & 2147483647) % cardinality(v_trunk.caller_ids)
        ] end
      );
      why := null;
      until := null;
      return;
    end if;
    -- Of several the one that is free first.
    if why is null or v_left.until < until then
      why := v_left.why;
      until := v_left.until;
    end if;
  end loop;
  if why is not null then
    return;
  elsif v_some then
    why := format('no trunk may call numbers like %s (call_trunks.prefixes)', left(p_row.e164, 5) || '…');
    if public.call_way_elsewhere(p_row, v_pbx, p_now) then
      until := p_now + interval '60 seconds';
    end if;
  elsif p_row.trunk is not null and not exists (
    select from public.call_trunks t where t.trunk = p_row.trunk
  ) and not public.call_way_elsewhere(p_row, v_pbx, p_now) then
    why := format('the trunk %s is not known', p_row.trunk);
  else
    -- Somebody may mend it; if nobody does, the row ends by its clock, and says why it waited.
    why := case
      when p_row.trunk is not null then format('trunk %s is switched off, of somebody else, or at another PBX', p_row.trunk)
      when v_owner <> '00000000-0000-0000-0000-000000000000'
        then 'the trunks of this user are at another PBX, or switched off (call_trunks)'
      else 'there is no trunk for this user: none of their own, and none that is shared is switched on (call_trunks)'
    end;
    until := p_now + interval '60 seconds';
  end if;
end
$$;

-- Which other PBX may take this row, one that can do it now (`able`) before all others. Without this a row would wait there
-- for its own PBX to come first by chance; two that look in step, each half a minute, would never change places.
create or replace function public.call_pbx_for(
  p_row public.call_queue, p_pbx text, p_now timestamptz, out pbx text, out able boolean
)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  select c.pbx, c.able into pbx, able
  from (
    select o.pbx, coalesce(o.lease_until > p_now, false) as alive, coalesce(
      o.lease_until > p_now and a.status ->> 'pbx' = o.pbx and (a.status ->> 'ready')::boolean
        and (select w.why is null from public.call_way(p_row, a.status, p_now) w),
      false
    ) as able
    from public.call_pbx_others(p_pbx, p_now) o
    left join public.call_adapters a on a.adapter = o.holder
    where public.call_pbx_may(p_row, o.pbx, o.setting)
      and (a.status is null or public.call_country_fits(p_row, a.status))
  ) c
  order by c.able desc, c.alive desc, c.pbx
  limit 1;
end
$$;

-- Rows that others handed to this PBX are due again, and have their turn as all others. Those that wait longest first: one
-- that is handed over once more goes to the end.
create or replace function public.call_handed_take(p_pbx text, p_room integer, p_now timestamptz)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  -- Some more than may be claimed, as the turn of a few may not come; what is left over is handed here once more.
  v_most constant integer := p_room + 10;
begin
  update public.call_queue q
  set not_before = p_now, wait_reason = null, handed_to = null, updated_at = p_now
  where q.id = any (array(
    select h.id from public.call_queue h
    where h.handed_to = p_pbx and h.status = 'queued'
    order by h.not_before, h.id
    limit v_most
    for update skip locked
  ));
end
$$;

create or replace function public.call_rule_trunk(
  p_row public.call_queue, p_status jsonb, p_now timestamptz, out why text, out until timestamptz, out fact text
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_way record;
begin
  select * into v_way from public.call_way(p_row, p_status, p_now);
  why := v_way.why;
  until := v_way.until;
  if why is null then
    fact := coalesce(v_way.trunk, 'chosen by MikoPBX');
  end if;
end
$$;

-- True if another trunk shall try this row at once: no channel was made, or a final 5xx came within five seconds and before
-- anything rang, which is all that these two outcomes stand for. Silence may have rung, and a row that names its trunk wants
-- that one.
create or replace function public.call_fails_over(p_row public.call_queue, p_outcome text)
returns boolean
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_owner uuid;
begin
  if p_outcome not in ('congestion', 'trunk_unavailable') or p_row.way is null or p_row.trunk is not null then
    return false;
  end if;
  v_owner := public.call_trunks_owner(p_row.user_id);
  return exists (
    select from public.call_trunks t
    where t.pbx = p_row.pbx and coalesce(t.user_id, '00000000-0000-0000-0000-000000000000') = v_owner and t.enabled
      and t.trunk <> p_row.dialed_trunk and t.trunk <> all (p_row.trunks_tried)
      and public.call_prefixes_fit(t.prefixes, p_row.e164)
  );
end
$$;

-- What the adapter of a PBX must know of its trunks, as the claim will tell them.
create or replace function public.call_ways(p_pbx text)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
      'id', t.trunk, 'form', t.form, 'number_style', t.number_style, 'strip', t.strip_prefix, 'add', t.add_prefix,
      'calls_per_second', t.calls_per_second, 'max_channels', t.max_channels
    ) order by t.trunk), '[]')
    from public.call_trunks t
    where t.pbx = p_pbx and t.enabled
  );
end
$$;

-- 5. Who may ------------------------------------------------------------------------------------------------------------

alter table public.call_trunks enable row level security;
alter table public.call_trunk_health enable row level security;
alter table public.call_limits enable row level security;

do $$
declare
  v_name text;
  v_function regprocedure;
begin
  foreach v_name in array array['call_trunks', 'call_trunk_health', 'call_limits'] loop
    execute format('revoke all on public.%I from public, anon, authenticated', v_name);
    execute format('grant select, insert, update, delete on public.%I to service_role', v_name);
  end loop;
  for v_function in
    select p.oid::regprocedure
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname = any (array[
        'call_trunks_changed', 'call_trunk_heard', 'call_trunk_words', 'call_trunks_unfit', 'call_trunk_fit', 'call_trunk_forgive', 'call_trunks_in_air',
        'call_trunk_left', 'call_pbx_trunks_left', 'call_all_left', 'call_way_taken', 'call_trunks_owner', 'call_user_trunks_left', 'call_user_limit', 'call_lane_limit', 'call_way',
        'call_rule_trunk', 'call_fails_over', 'call_ways', 'call_pbx_for', 'call_handed_take',
        'call_prefixes_fit', 'call_pbx_others', 'call_pbx_may', 'call_way_elsewhere'
      ])
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function);
  end loop;
end
$$;
