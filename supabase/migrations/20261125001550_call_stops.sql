-- What is paused by command: one row, a campaign, a user, a trunk, or everything. It stands in call_stops, and the claim
-- reads it under its lock. The commands themselves are those of migration 2000; here is what claim and views ask.

create table if not exists public.call_stops (
  id bigint generated always as identity primary key,
  kind text not null check (kind in ('all', 'trunk', 'user', 'campaign', 'row')),
  key text not null,
  began timestamptz not null default clock_timestamp(),
  ended timestamptz,
  reason text check (length(reason) <= 500),
  canceling boolean not null default false,
  due_at timestamptz,
  check ((kind = 'all') = (key = ''))
);
-- Two pauses of one thing would be one that a resume leaves behind.
create unique index if not exists call_stops_open_key on public.call_stops (kind, key) where ended is null;
create index if not exists call_stops_past_idx on public.call_stops (kind, key, began);
comment on table public.call_stops is
  'What is or was paused by command: everything, a trunk, a user, a campaign, a row. call_pause_v1 and call_resume_v1 write it.';
comment on column public.call_stops.id is 'Number of the pause.';
comment on column public.call_stops.kind is 'all, trunk, user, campaign or row.';
comment on column public.call_stops.key is 'Name of the trunk, id of the user, campaign or row; empty for all.';
comment on column public.call_stops.began is 'Since when nothing of it is dialed.';
comment on column public.call_stops.ended is 'When it went on; null while it is paused.';
comment on column public.call_stops.reason is 'Why, in words.';
comment on column public.call_stops.canceling is 'Paused only until all that waits of it is canceled.';
comment on column public.call_stops.due_at is 'Of a paused row that had its turn meanwhile: when it was due.';

-- 1. What the claim asks -------------------------------------------------------------------------------------------------

-- In PL/pgSQL, as a claim asks for each user, lane and row: it keeps its plan.
create or replace function public.call_stopped(p_kind text, p_key text)
returns boolean
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return exists (select from public.call_stops s where s.kind = p_kind and s.key = p_key and s.ended is null);
end
$$;

-- True if nothing of this user is to be claimed. His turn is marked, so that he costs the next claims nothing: the mark was
-- lost, or somebody took it away by hand.
create or replace function public.call_user_stands(p_user uuid)
returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if not public.call_stopped('user', p_user::text) then
    return false;
  end if;
  update public.call_tenants set paused = true where user_id = p_user and not paused;
  return true;
end
$$;

-- Of a row that is paused itself, which is put off, or it would stand in front of all others of its lane: when it was due.
create or replace function public.call_stop_kept(p_row public.call_queue)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  update public.call_stops set due_at = p_row.not_before
  where kind = 'row' and key = p_row.id::text and ended is null and due_at is null;
end
$$;

-- The trunk that every row takes which names none, where there is but one.
create or replace function public.call_only_trunk()
returns text
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if exists (select from public.call_trunks) then
    return null;
  end if;
  return (select min(x.trunk) from public.call_pbx x having count(*) = 1);
end
$$;

-- When this row stood by command since `p_from` (call_clock_stood). The pause of a trunk counts where the row can take no other.
create or replace function public.call_stops_past(p_row public.call_queue, p_from timestamptz, p_now timestamptz)
returns table (began timestamptz, ended timestamptz)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return query
  select greatest(s.began, p_from), s.ended
  from (values
    ('all', ''), ('user', p_row.user_id::text), ('campaign', p_row.campaign_id::text), ('row', p_row.id::text),
    ('trunk', coalesce(p_row.trunk, public.call_only_trunk()))
  ) w (kind, key)
  join public.call_stops s on s.kind = w.kind and s.key = w.key
  where s.began < p_now and (s.ended is null or s.ended > p_from);
end
$$;

-- 2. Words -------------------------------------------------------------------------------------------------------------

-- How a pause is told, wherever it is told.
create or replace function public.call_stop_words(p_stop public.call_stops)
returns text
language sql stable
set search_path = ''
as $$
  select case p_stop.kind
      when 'all' then 'everything is paused'
      when 'trunk' then 'the trunk ' || p_stop.key || ' is paused'
      when 'user' then 'this user is paused'
      when 'campaign' then 'its campaign is paused'
      else 'this row is paused'
    end
    || case when p_stop.canceling then ' until all that waits of it is canceled' else ' by command' end
    || coalesce(': ' || p_stop.reason, '')
$$;

-- Why such a row is not dialed, if it is for a pause by command: the widest one. A row that names no trunk stands with a
-- trunk only if there is no other.
create or replace function public.call_why_stopped_v1(p_row bigint, p_user uuid, p_campaign uuid, p_trunk text)
returns text
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_stop public.call_stops;
begin
  for v_stop in
    select s.*
    from (values
      (1, 'all', ''), (2, 'user', p_user::text), (3, 'campaign', p_campaign::text), (4, 'row', p_row::text),
      (5, 'trunk', p_trunk)
    ) w (rank, kind, key)
    join public.call_stops s on s.kind = w.kind and s.key = w.key and s.ended is null
    order by w.rank
  loop
    return public.call_stop_words(v_stop);
  end loop;
  if p_trunk is null then
    select s.* into v_stop
    from public.call_stops s
    where s.kind = 'trunk' and s.key = public.call_only_trunk() and s.ended is null;
    if found then
      return public.call_stop_words(v_stop);
    end if;
  end if;
  return null;
end
$$;
comment on function public.call_why_stopped_v1 is
  'By which pause (call_stops) a row of this id, user, campaign and trunk is not dialed, in words; null: by none.';

-- The claim asks for everything, users and campaigns as a whole before it looks at a row; here are the words of it, and the
-- row's own pause.
create or replace function public.call_rule_pause(
  p_row public.call_queue, p_status jsonb, p_now timestamptz, out why text, out until timestamptz, out fact text
)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  why := public.call_why_stopped_v1(p_row.id, p_row.user_id, p_row.campaign_id, p_row.trunk);
  if why is not null then
    -- Long, as call_resume_v1 takes it back.
    until := p_now + case
      when public.call_stopped('row', p_row.id::text) then interval '1 hour' else interval '5 seconds'
    end;
  end if;
end
$$;

-- Pauses as the screens show them, the latest first.
create or replace function public.call_stops_open(p_limit integer)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
      'kind', s.kind, 'key', s.key, 'began', s.began, 'reason', s.reason, 'canceling', s.canceling
    ) order by s.began desc, s.id desc), '[]')
    from (
      select * from public.call_stops o where o.ended is null order by o.began desc, o.id desc limit p_limit
    ) s
  );
end
$$;

-- 3. Who may -----------------------------------------------------------------------------------------------------------

alter table public.call_stops enable row level security;

do $$
declare
  v_name text;
begin
  revoke all on public.call_stops from public, anon, authenticated;
  grant select, insert, update, delete on public.call_stops to service_role;
  revoke all on public.call_stops_id_seq from public, anon, authenticated;
  grant usage, select on sequence public.call_stops_id_seq to service_role;
  foreach v_name in array array[
    'call_stopped(text,text)', 'call_only_trunk()', 'call_user_stands(uuid)',
    'call_stop_kept(public.call_queue)', 'call_rule_pause(public.call_queue,jsonb,timestamptz)',
    'call_stops_past(public.call_queue,timestamptz,timestamptz)',
    'call_stop_words(public.call_stops)', 'call_why_stopped_v1(bigint,uuid,uuid,text)', 'call_stops_open(integer)'
  ] loop
    execute format('revoke all on function public.%s from public, anon, authenticated, service_role', v_name);
    if v_name like '%\_v1(%' then
      execute format('grant execute on function public.%s to service_role', v_name);
    end if;
  end loop;
end
$$;

notify pgrst, 'reload schema';
