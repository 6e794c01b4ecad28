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

-- Trunks by which such a row can go at all, whether they have room now or not; one without a name is empty. Without a
-- number those for any number.
create or replace function public.call_ways_of(p_user uuid, p_e164 text, p_trunk text)
returns setof text
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if p_trunk is not null then
    return next p_trunk;
    return;
  end if;
  return query
  select distinct coalesce(t.trunk, x.trunk, '')
  from public.call_pbx x
  left join public.call_trunks t on t.pbx = x.pbx
  where x.lease_until > now() and (t.trunk is null or t.enabled)
    and coalesce(t.user_id, '00000000-0000-0000-0000-000000000000') = public.call_trunks_owner(p_user)
    and (t.trunk is null or public.call_prefixes_fit(t.prefixes, p_e164));
end
$$;

-- When this row stood by command since `p_from` (call_clock_stood). By trunks it stood while all those were paused by
-- which it can go: while there was another one, that one could take it, and its clock went on.
create or replace function public.call_stops_past(p_row public.call_queue, p_from timestamptz, p_now timestamptz)
returns table (began timestamptz, ended timestamptz)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return query
  select greatest(s.began, p_from), s.ended
  from (values
    ('all', ''), ('user', p_row.user_id::text), ('campaign', p_row.campaign_id::text), ('row', p_row.id::text)
  ) w (kind, key)
  join public.call_stops s on s.kind = w.kind and s.key = w.key
  where s.began < p_now and (s.ended is null or s.ended > p_from);
  return query
  select greatest(lower(p.piece), p_from), upper(p.piece)
  from (
    select range_intersect_agg(t.paused) as paused
    from (
      select coalesce((
        select range_agg(tstzrange(s.began, s.ended))
        from public.call_stops s
        where s.kind = 'trunk' and s.key = w.trunk and s.began < p_now and (s.ended is null or s.ended > p_from)
      ), '{}') as paused
      from public.call_ways_of(p_row.user_id, p_row.e164, p_row.trunk) w (trunk)
    ) t
  ) a
  cross join lateral unnest(a.paused) p (piece);
end
$$;

-- 2. Words -------------------------------------------------------------------------------------------------------------

-- How a pause is told, wherever it is told.
create or replace function public.call_stop_words(p_stop public.call_stops)
returns text
language plpgsql stable
set search_path = ''
as $$
begin
  return case p_stop.kind
      when 'all' then 'everything is paused'
      when 'trunk' then 'the trunk ' || p_stop.key || ' is paused'
      when 'user' then 'this user is paused'
      when 'campaign' then 'its campaign is paused'
      else 'this row is paused'
    end
    || case when p_stop.canceling then ' until all that waits of it is canceled' else ' by command' end
    || coalesce(': ' || p_stop.reason, '');
end
$$;

-- The pause of exactly this, in words; null: there is none.
create or replace function public.call_stop_told(p_kind text, p_key text)
returns text
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_stop public.call_stops;
begin
  select * into v_stop from public.call_stops s where s.kind = p_kind and s.key = p_key and s.ended is null;
  return case when found then public.call_stop_words(v_stop) end;
end
$$;

-- The widest pause by which such a row stands, whatever its trunk.
create or replace function public.call_stop_of(p_row bigint, p_user uuid, p_campaign uuid)
returns text
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return coalesce(
    public.call_stop_told('all', ''),
    public.call_stop_told('user', p_user::text),
    public.call_stop_told('campaign', p_campaign::text),
    public.call_stop_told('row', p_row::text)
  );
end
$$;

-- Why such a row is not dialed, if it is for a pause by command. A row that names no trunk stands with trunks only if all by
-- which it can go are paused.
create or replace function public.call_why_stopped_v1(p_row bigint, p_user uuid, p_campaign uuid, p_trunk text)
returns text
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_words text;
  v_trunk text;
begin
  v_words := public.call_stop_of(p_row, p_user, p_campaign);
  if v_words is not null then
    return v_words;
  end if;
  for v_trunk in select w from public.call_ways_of(p_user, null, p_trunk) w order by w loop
    v_words := public.call_stop_told('trunk', v_trunk);
    exit when v_words is null;
  end loop;
  return v_words;
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
  why := coalesce(
    public.call_stop_of(p_row.id, p_row.user_id, p_row.campaign_id),
    public.call_stop_told('trunk', p_row.trunk),
    case
      when exists (select from public.call_tenants t where t.user_id = p_row.user_id and t.paused)
        then 'this user is paused (call_tenants.paused)'
      when public.call_campaign_gone(p_row.campaign_id) then 'its campaign was deleted'
      when public.call_campaign_stands(p_row.campaign_id) then 'the app has its campaign paused (campaigns.status)'
      when exists (
        select from public.call_lanes l
        where l.user_id = p_row.user_id and l.lane = p_row.lane and l.paused and not l.halted
      ) then 'its campaign is paused (call_lanes.paused)'
    end
  );
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
    'call_stopped(text,text)', 'call_ways_of(uuid,text,text)', 'call_user_stands(uuid)',
    'call_stop_kept(public.call_queue)', 'call_rule_pause(public.call_queue,jsonb,timestamptz)',
    'call_stops_past(public.call_queue,timestamptz,timestamptz)',
    'call_stop_words(public.call_stops)', 'call_stop_told(text,text)', 'call_stop_of(bigint,uuid,uuid)',
    'call_why_stopped_v1(bigint,uuid,uuid,text)', 'call_stops_open(integer)'
  ] loop
    execute format('revoke all on function public.%s from public, anon, authenticated, service_role', v_name);
    if v_name like '%\_v1(%' then
      execute format('grant execute on function public.%s to service_role', v_name);
    end if;
  end loop;
end
$$;

notify pgrst, 'reload schema';
