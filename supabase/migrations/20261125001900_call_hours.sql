-- When people may be called: windows of the week by the clock of the place where the callee is, and when a campaign begins
-- and ends. Without any row here everybody may be called at any time. As soon as rows apply to a row of the queue (for all,
-- for its user, for its campaign) a call may begin only inside a window of each of them, in every time zone in which
-- the callee may be.
--
-- A week is kept as seconds since Monday 00:00 by the local clock: what applies is one multirange, and an instant is open if
-- its wall clock is in it. So a change of the clock needs no rule of its own: an hour that comes twice is open twice,
-- one that does not come is not open.

-- 1. Tables --------------------------------------------------------------------------------------------------------------

create table if not exists public.call_hours (
  id bigint generated always as identity primary key,
  scope text not null default 'all'
    constraint call_hours_scope_check check (scope in ('all', 'user', 'campaign')),
  scope_id uuid not null default '00000000-0000-0000-0000-000000000000',
  days integer[] not null default '{1,2,3,4,5,6,7}'
    constraint call_hours_days_check check (days <@ '{1,2,3,4,5,6,7}' and cardinality(days) > 0),
  from_time time not null
    constraint call_hours_from_check check (extract(second from from_time) = 0),
  to_time time not null
    constraint call_hours_to_check check (extract(second from to_time) = 0),
  constraint call_hours_scope_id_check
    check ((scope = 'all') = (scope_id = '00000000-0000-0000-0000-000000000000')),
  -- Over midnight are two windows: it would not be clear to which day the night belongs.
  constraint call_hours_not_over_midnight check (from_time < to_time)
);
create index if not exists call_hours_scope_idx on public.call_hours (scope_id);
comment on table public.call_hours is
  'When people may be called, by their own clock. One row is one window; no row at all: at any time. '
  'Rows of one scope add up; the scopes that apply (all, user, campaign) must all be open.';
comment on column public.call_hours.id is 'Number of the window.';
comment on column public.call_hours.scope is 'For all rows of the queue, for those of a user, or for those of a campaign.';
comment on column public.call_hours.scope_id is 'The user or the campaign; zeros for all.';
comment on column public.call_hours.days is 'Days of the week, 1 is Monday, 7 is Sunday.';
comment on column public.call_hours.from_time is 'From this time of the day on, by the clock of the callee.';
comment on column public.call_hours.to_time is
  'Up to this time of the same day (24:00: its end). Over midnight are two windows: 22:00-24:00 and 00:00-06:00.';

create table if not exists public.call_campaign_dates (
  campaign_id uuid primary key,
  starts_at timestamptz,
  ends_at timestamptz,
  constraint call_campaign_dates_check check (
    num_nonnulls(starts_at, ends_at) > 0 and isfinite(starts_at) is not false and isfinite(ends_at) is not false
    and (starts_at < ends_at) is not false
  )
);
comment on table public.call_campaign_dates is 'When campaigns begin and end; one without a row does neither.';
comment on column public.call_campaign_dates.campaign_id is 'The campaign.';
comment on column public.call_campaign_dates.starts_at is 'Nobody is called before this instant; null: no such instant.';
comment on column public.call_campaign_dates.ends_at is 'Nobody is called from this instant on: what is queued then ends.';

create table if not exists public.call_user_zones (
  user_id uuid primary key,
  zone text not null
);
comment on table public.call_user_zones is
  'Time zone for calling hours where neither the row nor the number tells one. Without it such a row is blocked.';
comment on column public.call_user_zones.user_id is 'The user.';
comment on column public.call_user_zones.zone is 'Name of the zone, as Asia/Kuala_Lumpur.';

create table if not exists public.call_zones (
  prefix text primary key,
  zones text not null
);
comment on table public.call_zones is
  'Time zones of numbers whose region has several (generated from the phonenumbers package and the list of IANA).';
comment on column public.call_zones.prefix is 'First digits of numbers, or a region for its numbers that match no digits.';
comment on column public.call_zones.zones is 'Its zones, separated by spaces; of zones whose clocks agree, one.';

alter table public.call_queue add column if not exists callee_zone text;
comment on column public.call_queue.callee_zone is
  'Time zone of the callee, as Asia/Kuala_Lumpur, if you know it better than the number does. For calling hours.';
alter table public.call_queue add column if not exists zones text not null default '';
comment on column public.call_queue.zones is
  'Time zones in which calling hours are asked, separated by spaces: callee_zone, else those of the number; empty: unknown.';

-- 2. Zones ---------------------------------------------------------------------------------------------------------------

-- True if PostgreSQL knows a zone of this name. Abbreviations and POSIX rules, which it also takes (and reads the wrong way
-- round: UTC+8 is in America), are none. pg_timezone_names would read some 1,200 files.
create or replace function public.call_zone_fits(p_zone text)
returns boolean
language plpgsql stable
set search_path = ''
as $$
begin
  if p_zone is null or p_zone !~ '^(?:UTC|Etc/GMT[+-][0-9]{1,2}|[A-Za-z_]+(?:/[A-Za-z_-]+)+)$' then
    return false;
  end if;
  return ('2026-01-01 00:00:00+00'::timestamptz at time zone p_zone) is not null;
exception
  when invalid_parameter_value then
    return false;
end
$$;

-- What is wrong with the zone that an inserter gave, in words; null if nothing.
create or replace function public.call_zone_problem(p_zone text)
returns text
language plpgsql stable
set search_path = ''
as $$
begin
  if p_zone is null or public.call_zone_fits(p_zone) then
    return null;
  end if;
  return format('callee_zone %s is no time zone: write it as Asia/Kuala_Lumpur', to_json(left(p_zone, 80)));
end
$$;

-- All zones of a number; empty if nothing is known of it.
create or replace function public.call_number_zones(p_e164 text, p_country text, p_zone text)
returns text
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_digits text := substr(p_e164, 2);
begin
  return coalesce(
    p_zone,
    (
      select z.zones from public.call_zones z
      where z.prefix = any (array(select left(v_digits, n) from generate_series(1, 9) n))
      order by length(z.prefix) desc
      limit 1
    ),
    (select z.zones from public.call_zones z where z.prefix = p_country),
    ''
  );
end
$$;

-- The zones in which the hours of such rows of a user are asked; null: not known.
create or replace function public.call_hours_zones(p_user uuid, p_zones text)
returns text[]
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_zones text[] := string_to_array(
    case when p_zones <> '' then p_zones else (select u.zone from public.call_user_zones u where u.user_id = p_user) end,
    ' '
  );
begin
  -- Names come with the data; a PostgreSQL that does not know one cannot tell its time.
  if not (select bool_and(public.call_zone_fits(z)) from unnest(v_zones) z) then
    return null;
  end if;
  return v_zones;
end
$$;

-- 3. Hours: pure functions of the week, the zones and an instant -----------------------------------------------------------

-- What applies to rows of this user and campaign: null for no hours at all, else when the week is open.
create or replace function public.call_hours_week(p_user uuid, p_campaign uuid)
returns int4multirange
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return (
    select range_intersect_agg(s.week)
    from (
      select range_agg(int4range(
        (d - 1) * 86400 + extract(epoch from h.from_time)::integer,
        (d - 1) * 86400 + extract(epoch from h.to_time)::integer
      )) as week
      from public.call_hours h
      cross join unnest(h.days) d
      where h.scope_id = any (array['00000000-0000-0000-0000-000000000000', p_user, p_campaign])
        and h.scope_id = case h.scope
          when 'user' then p_user
          when 'campaign' then p_campaign
          else '00000000-0000-0000-0000-000000000000'
        end
      group by h.scope
    ) s
  );
end
$$;

create or replace function public.call_hours_open(p_week int4multirange, p_zones text[], p_at timestamptz)
returns boolean
language plpgsql stable
set search_path = ''
as $$
declare
  v_zone text;
  v_local timestamp;
begin
  foreach v_zone in array p_zones loop
    v_local := p_at at time zone v_zone;
    if not p_week @> (
      (extract(isodow from v_local)::integer - 1) * 86400 + floor(extract(epoch from v_local::time))::integer
    ) then
      return false;
    end if;
  end loop;
  return true;
end
$$;

-- Instants after p_at at which clocks of the zone are changed, within so many times eight days and eight more: in eight
-- days it happens at most once.
create or replace function public.call_zone_changes(p_zone text, p_at timestamptz, p_eights integer)
returns setof timestamptz
language plpgsql stable
set search_path = ''
as $$
declare
  v_day timestamptz;
  v_first bigint;
  v_last bigint;
  v_middle bigint;
  v_offset interval;
begin
  for v_day in
    select d from generate_series(0, p_eights) n, lateral (select p_at + n * interval '192 hours') x (d)
    where (d at time zone p_zone) - (d at time zone 'UTC')
      <> ((d + interval '192 hours') at time zone p_zone) - ((d + interval '192 hours') at time zone 'UTC')
  loop
    v_offset := (v_day at time zone p_zone) - (v_day at time zone 'UTC');
    v_first := floor(extract(epoch from v_day));
    v_last := ceil(extract(epoch from v_day)) + 691200;
    while v_last - v_first > 1 loop
      v_middle := (v_first + v_last) / 2;
      if (to_timestamp(v_middle) at time zone p_zone) - (to_timestamp(v_middle) at time zone 'UTC') = v_offset then
        v_first := v_middle;
      else
        v_last := v_middle;
      end if;
    end loop;
    return next to_timestamp(v_last);
  end loop;
end
$$;

-- The first instant from p_at on at which it is open (or shut), p_at included; null: not within 31 days, and a row
-- ends 30 days after its insert. It can only turn at an edge of a window, or when clocks are changed.
create or replace function public.call_hours_turn(
  p_week int4multirange, p_zones text[], p_at timestamptz, p_opening boolean
)
returns timestamptz
language plpgsql stable
set search_path = ''
as $$
declare
  v_edge timestamptz;
  v_days integer;
begin
  if public.call_hours_open(p_week, p_zones, p_at) = p_opening then
    return p_at;
  end if;
  -- Nearly always it is within a week, and five weeks cost five times as much.
  foreach v_days in array array[8, 31] loop
    for v_edge in
      with walls as (
        -- The wall clock at an edge, read as UTC.
        select z, (
          date_trunc('week', p_at at time zone z) + make_interval(weeks => w, secs => e)
        ) at time zone 'UTC' as wall
        from unnest(p_zones) z
        cross join generate_series(0, v_days / 7 + 1) w
        cross join (
          select lower(r) as e from unnest(p_week) r union select upper(r) from unnest(p_week) r
        ) x
      ), edges as (
        -- An hour that comes twice has two instants: by the offset before and after the change.
        select w.wall - (((w.wall + d) at time zone w.z) - ((w.wall + d) at time zone 'UTC')) as edge
        from walls w
        cross join (values (interval '-24 hours'), (interval '24 hours')) x (d)
        where w.wall > p_at - interval '24 hours' and w.wall < p_at + make_interval(hours => v_days * 24 + 24)
        union
        select c from unnest(p_zones) z cross join public.call_zone_changes(z, p_at, v_days / 8) c
      )
      select e.edge from edges e
      where e.edge > p_at and e.edge <= p_at + make_interval(hours => v_days * 24)
      order by e.edge
    loop
      if public.call_hours_open(p_week, p_zones, v_edge) = p_opening then
        return v_edge;
      end if;
    end loop;
  end loop;
  return null;
end
$$;

-- 4. Hours of a row -------------------------------------------------------------------------------------------------------

-- The first instant from p_at on at which it may be dialed by its hours and the dates of its campaign; null: none.
create or replace function public.call_hours_opening(
  p_user uuid, p_campaign uuid, p_zones text, p_at timestamptz
)
returns timestamptz
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_week int4multirange := public.call_hours_week(p_user, p_campaign);
  v_dates public.call_campaign_dates;
  v_zones text[];
begin
  select * into v_dates from public.call_campaign_dates d where d.campaign_id = p_campaign;
  p_at := greatest(p_at, v_dates.starts_at);
  if v_week is not null then
    v_zones := public.call_hours_zones(p_user, p_zones);
    if v_zones is null then
      return null;
    end if;
    p_at := public.call_hours_turn(v_week, v_zones, p_at, true);
  end if;
  return case when p_at >= v_dates.ends_at then null else p_at end;
end
$$;

-- The same for a row that is put there (insert, retry); one that never may stays, and ends at its turn, with words.
create or replace function public.call_hours_after(p_row public.call_queue, p_at timestamptz)
returns timestamptz
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return coalesce(public.call_hours_opening(p_row.user_id, p_row.campaign_id, p_row.zones, p_at), p_at);
end
$$;

create or replace function public.call_rule_hours(
  p_row public.call_queue, p_status jsonb, p_now timestamptz, out why text, out until timestamptz, out fact text
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_week int4multirange := public.call_hours_week(p_row.user_id, p_row.campaign_id);
  v_dates public.call_campaign_dates;
  v_zones text[];
  v_at timestamptz;
begin
  select * into v_dates from public.call_campaign_dates d where d.campaign_id = p_row.campaign_id;
  if v_dates.ends_at <= p_now then
    why := format('its campaign ended on %s', to_char(v_dates.ends_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'));
    return;
  end if;
  v_at := greatest(p_now, v_dates.starts_at);
  if v_week is not null then
    v_zones := public.call_hours_zones(p_row.user_id, p_row.zones);
    if v_zones is null then
      why := 'its time zone is not known, so its calling hours cannot be kept: give the row a callee_zone, or its user a '
        'zone in call_user_zones';
      return;
    end if;
    v_at := public.call_hours_turn(v_week, v_zones, v_at, true);
  end if;
  if v_at = p_now then
    fact := (select 'open: ' || string_agg(to_char(p_now at time zone z, 'Dy HH24:MI') || ' in ' || z, ', ')
      from unnest(v_zones) z);
  elsif v_at is null then
    why := format('its calling hours do not open within a month in %s', array_to_string(v_zones, ' and '));
  elsif v_at >= v_dates.ends_at then
    why := 'its campaign ends before its calling hours open again';
  elsif v_at >= p_row.created_at + interval '30 days' then
    why := 'its calling hours open later than 30 days after it was inserted';
  else
    why := case
      when v_dates.starts_at > p_now then
        format('its campaign begins on %s', to_char(v_dates.starts_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'))
      else format('outside its calling hours in %s', array_to_string(v_zones, ' and '))
    end;
    until := v_at;
  end if;
end
$$;

-- When between these two it was shut, the last stretch to its end: for so long the clock of expires_at stands.
create or replace function public.call_hours_shut(
  p_user uuid, p_campaign uuid, p_zones text, p_from timestamptz, p_to timestamptz
)
returns table (began timestamptz, ended timestamptz)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_week int4multirange := public.call_hours_week(p_user, p_campaign);
  v_zones text[] := public.call_hours_zones(p_user, p_zones);
  v_starts_at timestamptz;
begin
  select d.starts_at into v_starts_at from public.call_campaign_dates d where d.campaign_id = p_campaign;
  if p_from < v_starts_at then
    began := p_from;
    ended := v_starts_at;
    return next;
    p_from := v_starts_at;
  end if;
  if v_week is null or v_zones is null then
    return;
  end if;
  while p_from < p_to loop
    began := p_from;
    ended := coalesce(public.call_hours_turn(v_week, v_zones, p_from, true), p_to);
    if ended > began then
      return next;
    end if;
    p_from := public.call_hours_turn(v_week, v_zones, ended, false);
  end loop;
end
$$;

-- 5. Rows that wait for an opening -------------------------------------------------------------------------------------------

-- All rows of a lane whose zones are the same wait for the same opening, so they are found by both. In one expression: with
-- columns of their own the planner would rather take call_queue_turn_idx and read past all rows of the other zones.
create index if not exists call_queue_zones_idx
  on public.call_queue (user_id, ((lane::text || ' ' || zones) collate "C"), priority, not_before, id)
  where status = 'queued';

-- Pauses of late.
create index if not exists call_stops_ended_idx on public.call_stops (coalesce(ended, 'infinity'));

-- Puts off up to p_most due rows of a lane and zone at once. The clocks of their ends stand while it is shut (p_shut: when it
-- was since a day ago, and is until p_until).
create or replace function public.call_hours_put_off(
  p_user uuid, p_lane uuid, p_zones text, p_why text, p_until timestamptz, p_shut tstzmultirange, p_most integer,
  p_now timestamptz
)
returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_stood tstzmultirange;
  v_count integer;
begin
  -- The clock of a row that has not ended began a day ago at the earliest. If anything was paused since, that may be another
  -- time for each row: then call_clock_stood counts it all, when a row comes to its end.
  if not exists (
    select from public.call_pauses p
    where p.campaign_id = p_lane and (p.ended is null or p.ended > p_now - interval '24 hours')
  ) and not exists (
    select from public.call_pauses p
    where p.user_id = p_user and (p.ended is null or p.ended > p_now - interval '24 hours')
  ) and not exists (
    select from public.call_stops s where coalesce(s.ended, 'infinity') > p_now - interval '24 hours'
  ) then
    v_stood := p_shut;
  end if;
  update public.call_queue q
  set not_before = p_until, wait_reason = p_why, handed_to = null, updated_at = p_now,
    expires_at = case
      when v_stood is null or q.expires_fixed or q.expires_at <= p_now then q.expires_at
      else least(
        q.expires_at + (
          select coalesce(sum(upper(r) - lower(r)), '0')
          from unnest(
            v_stood * tstzmultirange(tstzrange(greatest(q.expires_at - interval '24 hours', q.clock_at), 'infinity'))
          ) r
        ),
        q.created_at + interval '30 days'
      )
    end,
    clock_at = case
      when v_stood is null or q.expires_fixed or q.expires_at <= p_now then q.clock_at
      else greatest(p_until, q.clock_at)
    end
  where q.id = any (array(
    select d.id
    from generate_series(9, 0, -1) p
    cross join lateral (
      select c.id from public.call_queue c
      where c.user_id = p_user and (c.lane::text || ' ' || c.zones) collate "C" = p_lane::text || ' ' || p_zones
        and c.status = 'queued' and c.priority = p and c.not_before <= p_now
      order by c.not_before, c.id
      limit p_most
      for update skip locked
    ) d
    limit p_most
  ));
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

-- Asked once for each lane of a claim. `zones`: rows of these may be looked at, null is all of them; `until`: when the
-- next of the others opens; `most`: what is left of the rows that the claim may put off; `known`: what the claim has found
-- out about hours and zones that are shut, as it costs ten times what all the rest does, and many lanes have the same.
create or replace function public.call_hours_lane(
  p_user uuid, p_lane uuid, p_now timestamptz, inout most integer, inout known jsonb, out zones text[],
  out until timestamptz
)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_week int4multirange;
  v_dates public.call_campaign_dates;
  v_row public.call_queue;
  v_zones text;
  v_asked text[];
  v_key text;
  v_found jsonb;
  v_rule record;
begin
  if not exists (
    select from public.call_hours h where h.scope_id = any (array['00000000-0000-0000-0000-000000000000', p_user, p_lane])
  ) and not exists (select from public.call_campaign_dates d where d.campaign_id = p_lane) then
    return;
  end if;
  v_week := public.call_hours_week(p_user, p_lane);
  select * into v_dates from public.call_campaign_dates d where d.campaign_id = p_lane;
  zones := '{}';
  loop
    select c.zones into v_zones from public.call_queue c
    where c.user_id = p_user
      and (c.lane::text || ' ' || c.zones) collate "C" > p_lane::text || coalesce(' ' || v_zones, '')
      and (c.lane::text || ' ' || c.zones) collate "C" < p_lane::text || '!'
      and c.status = 'queued'
    order by (c.lane::text || ' ' || c.zones) collate "C"
    limit 1;
    exit when not found;
    v_asked := public.call_hours_zones(p_user, v_zones);
    v_key := concat_ws('|', v_week, v_asked, v_dates);
    v_found := known -> v_key;
    if v_found is null then
      -- A row of this lane and zone as it would be if it had just come: what follows from the age of one must not be said
      -- of the others.
      v_row.user_id := p_user;
      v_row.campaign_id := p_lane;
      v_row.zones := v_zones;
      v_row.created_at := p_now;
      select * into v_rule from public.call_rule_hours(v_row, '{}', p_now);
      v_found := jsonb_build_object('until', v_rule.until, 'why', v_rule.why);
      if v_rule.until is not null then
        v_found := v_found || jsonb_build_object('shut', (
          select range_agg(tstzrange(h.began, h.ended))
          from public.call_hours_shut(p_user, p_lane, v_zones, p_now - interval '24 hours', v_rule.until) h
        ));
      end if;
      known := known || jsonb_build_object(v_key, v_found);
    end if;
    if v_found ->> 'until' is null then
      -- Open, or never: then each of its rows ends by itself.
      zones := zones || v_zones;
    else
      until := least(until, (v_found ->> 'until')::timestamptz);
      if most > 0 then
        most := most - public.call_hours_put_off(
          p_user, p_lane, v_zones, v_found ->> 'why', (v_found ->> 'until')::timestamptz,
          (v_found ->> 'shut')::tstzmultirange, most, p_now
        );
      end if;
    end if;
  end loop;
end
$$;

-- Due rows of a lane, of these zones only if any are named.
create or replace function public.call_lane_rows(
  p_user uuid, p_lane uuid, p_zones text[], p_room integer, p_now timestamptz
)
returns setof public.call_queue
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if p_zones is null then
    return query
    select q.*
    from generate_series(9, 0, -1) p
    cross join lateral (
      select * from public.call_queue c
      where c.user_id = p_user and c.lane = p_lane and c.status = 'queued' and c.priority = p
        and c.not_before <= p_now
      order by c.not_before, c.id
      limit p_room
      for update skip locked
    ) q
    limit p_room;
    return;
  end if;
  return query
  select q.*
  from unnest(p_zones) z
  cross join generate_series(9, 0, -1) p
  cross join lateral (
    select * from public.call_queue c
    where c.user_id = p_user and (c.lane::text || ' ' || c.zones) collate "C" = p_lane::text || ' ' || z
      and c.status = 'queued' and c.priority = p and c.not_before <= p_now
    order by c.not_before, c.id
    limit p_room
    for update skip locked
  ) q
  order by q.priority desc, q.not_before, q.id
  limit p_room;
end
$$;

-- As call_lane_due, of a lane of which these zones may be looked at and the others open at p_until.
create or replace function public.call_hours_due(p_user uuid, p_lane uuid, p_zones text[], p_until timestamptz)
returns timestamptz
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if p_zones is null then
    return public.call_lane_due(p_user, p_lane);
  end if;
  return least(p_until, (
    select min(f.not_before)
    from unnest(p_zones) z
    cross join generate_series(0, 9) p
    cross join lateral (
      select c.not_before from public.call_queue c
      where c.user_id = p_user and (c.lane::text || ' ' || c.zones) collate "C" = p_lane::text || ' ' || z
        and c.status = 'queued' and c.priority = p
      order by c.not_before
      limit 1
    ) f
  ));
end
$$;

-- By its name after call_queue_before_insert: a row that comes in while it is shut waits for the opening from the start.
create or replace function public.call_queue_hours()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_at timestamptz;
  v_opening timestamptz;
  v_why text;
  v_problem text := public.call_zone_problem(new.callee_zone);
  v_key text;
  v_kept text[];
begin
  new.zones := case
    when new.callee_zone is not null and v_problem is null then new.callee_zone
    else public.call_number_zones(new.e164, new.country, new.zone)
  end;
  if tg_op = 'UPDATE' then
    if v_problem is not null then
      raise exception '%', v_problem using errcode = 'check_violation', column = 'callee_zone';
    end if;
    return new;
  end if;
  new.wait_reason := null;
  if new.status <> 'queued' then
    return new;
  end if;
  if v_problem is not null then
    new.status := 'done';
    new.outcome := 'blocked';
    new.ended_reason := v_problem;
    new.call_id := gen_random_uuid();
    new.ended_at := new.created_at;
    return new;
  end if;
  v_at := greatest(new.not_before, new.created_at);
  -- Ten thousand rows of one statement wait for the same opening; it is looked for once.
  v_key := format('%s %s %s %s', statement_timestamp(), new.user_id, new.campaign_id, new.zones);
  v_kept := string_to_array(current_setting('mikopbx_adapter.opening', true), '|');
  if v_kept[1] = v_key and v_at >= v_kept[2]::timestamptz and v_at < v_kept[3]::timestamptz then
    v_opening := v_kept[3];
    v_why := v_kept[4];
  else
    select r.until, r.why into v_opening, v_why from public.call_rule_hours(new, '{}', v_at) r;
    if v_opening > v_at then
      perform set_config('mikopbx_adapter.opening', concat_ws('|', v_key, v_at, v_opening, v_why), true);
    end if;
  end if;
  -- One that never may stays as it is, and ends at its turn with the words of the rule.
  if v_opening > v_at then
    new.not_before := v_opening;
    new.wait_reason := v_why;
    if not new.expires_fixed then
      new.expires_at := least(v_opening + interval '24 hours', new.created_at + interval '30 days');
    end if;
  end if;
  return new;
end
$$;

create or replace trigger call_queue_hours
  before insert on public.call_queue
  for each row execute function public.call_queue_hours();

-- By its name after call_queue_before_update, which reads the number anew.
create or replace trigger call_queue_zones
  before update on public.call_queue
  for each row
  when (old.e164 is distinct from new.e164 or old.callee_zone is distinct from new.callee_zone)
  execute function public.call_queue_hours();

-- Rows that were queued before there were zones.
update public.call_queue q
set zones = public.call_number_zones(q.e164, q.country, q.zone), updated_at = clock_timestamp()
where q.status = 'queued' and q.zones = '' and q.e164 is not null
  and public.call_number_zones(q.e164, q.country, q.zone) <> '';

create or replace function public.call_user_zones_check()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not public.call_zone_fits(new.zone) then
    raise exception '% is no time zone: write it as Asia/Kuala_Lumpur', to_json(left(new.zone, 80))
      using errcode = 'check_violation', column = 'zone';
  end if;
  return new;
end
$$;

create or replace trigger call_user_zones_check
  before insert or update on public.call_user_zones
  for each row execute function public.call_user_zones_check();

-- 6. To see and set them ---------------------------------------------------------------------------------------------------

-- Reads "Mon-Fri 09:00-18:00; Sat,Sun 10:00-14:00": windows, separated by semicolons. Raises PT400 with the reason.
create or replace function public.call_hours_read(p_text text)
returns table (days integer[], from_time time, to_time time)
language plpgsql immutable
set search_path = ''
as $$
declare
  v_names constant text[] := array['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'];
  v_window text;
  v_part text;
  v_parts text[];
  v_first integer;
  v_last integer;
begin
  foreach v_window in array regexp_split_to_array(btrim(coalesce(p_text, '')), '\s*;\s*') loop
    v_parts := regexp_match(
      btrim(v_window), '^(?:(\S+)\s+)?((?:[01]\d|2[0-3]):[0-5]\d)-((?:[01]\d|2[0-3]):[0-5]\d|24:00)$'
    );
    if v_parts is null then
      raise exception '% is no window: write it as Mon-Fri 09:00-18:00, several separated by ;', to_json(left(v_window, 80))
        using errcode = 'PT400';
    elsif v_parts[2]::time >= v_parts[3]::time then
      raise exception '% goes over midnight or is empty: make it two windows, as 22:00-24:00; 00:00-06:00',
        to_json(left(v_window, 80)) using errcode = 'PT400';
    end if;
    days := '{}';
    foreach v_part in array string_to_array(lower(coalesce(v_parts[1], 'mon-sun')), ',') loop
      v_first := array_position(v_names, split_part(v_part, '-', 1));
      v_last := coalesce(array_position(v_names, split_part(v_part, '-', 2)), case when v_part not like '%-%' then v_first end);
      if v_first is null or v_last is null or v_part like '%-%-%' then
        raise exception '% is no day of the week: write Mon, Tue, Wed, Thu, Fri, Sat, Sun, Mon-Fri or Sat,Sun',
          to_json(left(v_part, 80)) using errcode = 'PT400';
      end if;
      -- Fri-Mon goes on over Sunday.
      days := days || array(
        select (d - 1) % 7 + 1 from generate_series(v_first, case when v_last < v_first then v_last + 7 else v_last end) d
      );
    end loop;
    days := array(select distinct d from unnest(days) d order by d);
    from_time := v_parts[2]::time;
    to_time := v_parts[3]::time;
    return next;
  end loop;
end
$$;

create or replace function public.call_hours_v1(p_user uuid default null, p_campaign uuid default null)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'windows', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'scope', h.scope, 'scope_id', case when h.scope <> 'all' then h.scope_id end, 'days', to_jsonb(h.days),
        'from', to_char(h.from_time, 'HH24:MI'),
        'to', case when h.to_time = '24:00' then '24:00' else to_char(h.to_time, 'HH24:MI') end
      ) order by h.scope, h.scope_id, h.days, h.from_time), '[]')
      from public.call_hours h
      where h.scope = 'all'
        or (h.scope = 'user' and (h.scope_id = p_user or coalesce(p_user, p_campaign) is null))
        or (h.scope = 'campaign' and (h.scope_id = p_campaign or coalesce(p_user, p_campaign) is null))
    ),
    'dates', (
      select coalesce(jsonb_agg(to_jsonb(d) order by d.campaign_id), '[]') from public.call_campaign_dates d
      where d.campaign_id = p_campaign or coalesce(p_user, p_campaign) is null
    ),
    'zones', (
      select coalesce(jsonb_agg(to_jsonb(z) order by z.user_id), '[]') from public.call_user_zones z
      where z.user_id = p_user or coalesce(p_user, p_campaign) is null
    )
  );
end
$$;
comment on function public.call_hours_v1 is
  'Calling hours, dates of campaigns and zones of users that apply to this user and campaign; without either, all.';

create or replace function public.call_hours_set_v1(p_scope text, p_id uuid, p_windows text)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_id uuid := coalesce(p_id, '00000000-0000-0000-0000-000000000000');
begin
  if p_scope is null or p_scope not in ('all', 'user', 'campaign') then
    raise exception 'hours are for all, for a user or for a campaign, not for %', to_json(left(p_scope, 80))
      using errcode = 'PT400';
  elsif (p_scope = 'all') <> (v_id = '00000000-0000-0000-0000-000000000000') then
    raise exception 'hours for a user or a campaign need its id, hours for all take none' using errcode = 'PT400';
  end if;
  -- Two who set the same at once take turns; else the windows of both would stand.
  perform pg_advisory_xact_lock(20261125, hashtext('hours ' || v_id));
  delete from public.call_hours h where h.scope = p_scope and h.scope_id = v_id;
  if p_windows is not null then
    insert into public.call_hours (scope, scope_id, days, from_time, to_time)
    select p_scope, v_id, r.days, r.from_time, r.to_time from public.call_hours_read(p_windows) r;
  end if;
  return public.call_hours_v1(
    case when p_scope = 'user' then v_id end, case when p_scope = 'campaign' then v_id end
  );
end
$$;
comment on function public.call_hours_set_v1 is
  'Sets the calling hours of all, a user or a campaign, as ''Mon-Fri 09:00-18:00; Sat 10:00-14:00''; null takes them away.';

create or replace function public.call_hours_dates_v1(p_campaign uuid, p_dates jsonb)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_starts timestamptz;
  v_ends timestamptz;
begin
  if p_campaign is null then
    raise exception 'a campaign begins and ends: give its id' using errcode = 'PT400';
  elsif jsonb_typeof(p_dates) is distinct from 'object' or not p_dates ?| array['starts_at', 'ends_at'] then
    raise exception 'call_hours_dates_v1 needs p_dates, an object with starts_at, ends_at or both' using errcode = 'PT400';
  end if;
  -- Two who set one date each at once take turns; else one of the dates would be lost.
  perform pg_advisory_xact_lock(20261125, hashtext('dates ' || p_campaign));
  select d.starts_at, d.ends_at into v_starts, v_ends from public.call_campaign_dates d where d.campaign_id = p_campaign;
  begin
    v_starts := case when p_dates ? 'starts_at' then (p_dates ->> 'starts_at')::timestamptz else v_starts end;
    v_ends := case when p_dates ? 'ends_at' then (p_dates ->> 'ends_at')::timestamptz else v_ends end;
  exception
    when data_exception then
      raise exception 'starts_at and ends_at are instants, as 2026-12-01 09:00+08' using errcode = 'PT400';
  end;
  if isfinite(v_starts) is false or isfinite(v_ends) is false then
    raise exception 'a date that never comes is none: leave it out' using errcode = 'PT400';
  elsif v_starts >= v_ends then
    raise exception 'a campaign cannot end (%) before it begins (%)', v_ends, v_starts using errcode = 'PT400';
  elsif num_nonnulls(v_starts, v_ends) = 0 then
    delete from public.call_campaign_dates d where d.campaign_id = p_campaign;
  else
    insert into public.call_campaign_dates (campaign_id, starts_at, ends_at) values (p_campaign, v_starts, v_ends)
    on conflict (campaign_id) do update set starts_at = excluded.starts_at, ends_at = excluded.ends_at;
  end if;
  return public.call_hours_v1(null, p_campaign);
end
$$;
comment on function public.call_hours_dates_v1 is
  'Sets when a campaign begins and ends: starts_at, ends_at or both; one that is left out stays, null takes it away.';

create or replace function public.call_hours_zone_v1(p_user uuid, p_zone text)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if p_user is null then
    raise exception 'a zone is of a user: give the id' using errcode = 'PT400';
  elsif p_zone is null then
    delete from public.call_user_zones z where z.user_id = p_user;
  elsif not public.call_zone_fits(p_zone) then
    raise exception '% is no time zone: write it as Asia/Kuala_Lumpur', to_json(left(p_zone, 80)) using errcode = 'PT400';
  else
    insert into public.call_user_zones (user_id, zone) values (p_user, p_zone)
    on conflict (user_id) do update set zone = excluded.zone;
  end if;
  return public.call_hours_v1(p_user, null);
end
$$;
comment on function public.call_hours_zone_v1 is
  'Sets the time zone of a user for numbers that tell none; null takes it away.';

-- 7. Who may -----------------------------------------------------------------------------------------------------------

alter table public.call_hours enable row level security;
alter table public.call_campaign_dates enable row level security;
alter table public.call_user_zones enable row level security;
alter table public.call_zones enable row level security;

do $$
declare
  v_name text;
  v_function regprocedure;
begin
  foreach v_name in array array['call_hours', 'call_campaign_dates', 'call_user_zones', 'call_zones'] loop
    execute format('revoke all on public.%I from public, anon, authenticated', v_name);
    execute format('grant select, insert, update, delete on public.%I to service_role', v_name);
  end loop;
  revoke all on sequence public.call_hours_id_seq from public, anon, authenticated;
  grant usage, select on sequence public.call_hours_id_seq to service_role;
  for v_function in
    select p.oid::regprocedure
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and (
        p.proname like 'call\_hours\_%'
        or p.proname in (
          'call_rule_hours', 'call_zone_fits', 'call_zone_problem', 'call_number_zones', 'call_zone_changes',
          'call_lane_rows', 'call_queue_hours', 'call_user_zones_check'
        )
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function);
  end loop;
  grant execute on function public.call_hours_v1(uuid, uuid) to service_role;
  grant execute on function public.call_hours_set_v1(text, uuid, text) to service_role;
  grant execute on function public.call_hours_dates_v1(uuid, jsonb) to service_role;
  grant execute on function public.call_hours_zone_v1(uuid, text) to service_role;
end
$$;

notify pgrst, 'reload schema';
