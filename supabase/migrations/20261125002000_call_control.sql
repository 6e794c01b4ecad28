-- Pause, resume, cancel: one row, a campaign, a user, a trunk, or everything (call_stops). Whoever writes there takes the
-- lock of the claim, so nothing is claimed once a pause is committed. Calls that live go on; rows that wait keep their time,
-- as with a pause of migration 1300.

-- For canceling what waits for a trunk, and for finding the lanes of a campaign.
create index if not exists call_queue_trunk_idx
  on public.call_queue (trunk, id) where status = 'queued' and trunk is not null;
create index if not exists call_lanes_lane_idx on public.call_lanes (lane);

-- 1. Commands ----------------------------------------------------------------------------------------------------------

-- The key as call_stops holds it. Raises what is wrong with it.
create or replace function public.call_stop_key(p_kind text, p_key text)
returns text
language plpgsql stable security definer
set search_path = ''
as $$
begin
  case p_kind
    when 'all' then
      if coalesce(p_key, '') <> '' then
        raise exception 'all is everything: it takes no name, but "%" was given', left(p_key, 100)
          using errcode = 'PT400';
      end if;
      return '';
    when 'user', 'campaign' then
      begin
        return (p_key::uuid)::text;
      exception
        when invalid_text_representation then null;
      end;
    when 'row' then
      if p_key ~ '^[0-9]{1,18}$' then
        return (p_key::bigint)::text;
      end if;
    when 'trunk' then
      if p_key <> '' then
        return p_key;
      end if;
    else
      raise exception 'there is no "%": name a row, campaign, user, trunk, or all', left(p_kind, 100)
        using errcode = 'PT400';
  end case;
  raise exception 'a % cannot be "%": %', p_kind, left(p_key, 100), case p_kind
      when 'row' then 'give the number of a row of call_queue'
      when 'trunk' then 'give its name, as status shows it'
      else 'give its id (a uuid)'
    end
    using errcode = 'PT400';
end
$$;

-- Refuses what is not there: a pause of a mistyped name would stop nothing, and nobody would know.
create or replace function public.call_stop_known(p_kind text, p_key text)
returns void
language plpgsql stable security definer
set search_path = ''
set enable_seqscan = off
as $$
declare
  v_status text;
begin
  if p_kind = 'row' then
    select q.status into v_status from public.call_queue q where q.id = p_key::bigint;
    if not found then
      raise exception 'call_queue has no row %', p_key using errcode = 'PT404';
    elsif v_status in ('done', 'canceled') then
      raise exception 'row % of call_queue is over (%), nothing of it is dialed', p_key, v_status
        using errcode = 'PT409';
    end if;
  elsif p_kind = 'user' and not exists (select from public.call_tenants t where t.user_id = p_key::uuid)
    and not exists (select from public.call_queue q where q.user_id = p_key::uuid and q.status = 'queued')
    and not exists (select from public.campaigns c where c.user_id = p_key::uuid) then
    raise exception 'no user % is known: it has no row in call_queue and no campaign', p_key using errcode = 'PT404';
  elsif p_kind = 'campaign' and not exists (select from public.campaigns c where c.id = p_key::uuid)
    and not exists (select from public.call_lanes l where l.lane = p_key::uuid)
    and not exists (
      select from public.call_queue q
      where q.campaign_id = p_key::uuid and q.status in ('queued', 'dialing', 'talking')
    ) then
    raise exception 'no campaign % is known, and no row of call_queue is of it', p_key using errcode = 'PT404';
  elsif p_kind = 'trunk' and not exists (select from public.call_pbx x where x.trunk = p_key)
    and not exists (select from public.call_trunks t where t.trunk = p_key)
    and not exists (
      select from public.call_queue q where q.trunk = p_key and q.status = 'queued' and q.trunk is not null
    ) then
    raise exception 'no trunk % is known; known: %', p_key, coalesce(
        (
          select string_agg(n.trunk, ', ' order by n.trunk)
          from (
            select x.trunk from public.call_pbx x where x.trunk is not null
            union
            select t.trunk from public.call_trunks t
          ) n
        ), 'none'
      )
      using errcode = 'PT404';
  end if;
end
$$;

-- Whoever writes here waits for the claim that is going on, and the next one sees it. Also for edits by hand.
create or replace function public.call_stops_lock()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform public.call_lock();
  return null;
end
$$;

create or replace trigger call_stops_lock
  before insert or update or delete on public.call_stops
  for each statement execute function public.call_stops_lock();

-- Rings the doorbell whenever it rang last: of two commands within a moment the second one must be heard too, and people
-- give few. Never fails; the adapter looks by itself every few seconds anyway.
create or replace function public.call_ring_now()
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if pg_catalog.to_regprocedure('realtime.send(jsonb,text,text,boolean)') is not null then
    perform realtime.send('{}'::jsonb, 'rows', 'call_queue', true);
  end if;
exception
  when others then
    raise warning 'the doorbell of call_queue did not ring: %', sqlerrm;
end
$$;

-- Marks the turns of what is paused, so that a claim does not even look there.
create or replace function public.call_stop_marks(p_kind text, p_key text)
returns void
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
as $$
begin
  if p_kind = 'user' then
    insert into public.call_tenants as t (user_id, paused) values (p_key::uuid, true)
    on conflict (user_id) do update set paused = true where not t.paused;
  elsif p_kind = 'campaign' then
    update public.call_lanes set paused = true, halted = true where lane = p_key::uuid and not paused;
  end if;
end
$$;

-- The reverse. A campaign that the app has paused or deleted stays marked.
create or replace function public.call_stop_unmarks(p_kind text, p_key text, p_due_at timestamptz)
returns void
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
as $$
begin
  if p_kind = 'user' then
    update public.call_tenants set paused = false, ready = true, wake_at = null where user_id = p_key::uuid and paused;
  elsif p_kind = 'campaign' and not public.call_campaign_stands(p_key::uuid) then
    with lanes as (
      update public.call_lanes set paused = false, halted = false, ready = true, wake_at = null
      where lane = p_key::uuid and paused
      returning user_id
    )
    update public.call_tenants set ready = true, wake_at = null
    where user_id = any (array(select l.user_id from lanes l));
  elsif p_kind = 'row' and p_due_at is not null then
    update public.call_queue set not_before = p_due_at, wait_reason = null where id = p_key::bigint and status = 'queued';
  end if;
end
$$;

-- Rows of it whose last word is not spoken; those that have an outcome wait for the AI's, and may be tried again.
create or replace function public.call_stop_calls(p_kind text, p_key text)
returns table (id bigint, in_air boolean, cancel_requested boolean)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return query
  select q.id, q.outcome is null, q.cancel_requested
  from public.call_queue q
  -- The number is said so that the index of live numbers is taken: it is as long as there are calls.
  where q.status in ('dialing', 'talking') and q.e164 is not null
    and case p_kind
      when 'all' then true
      when 'user' then q.user_id::text = p_key
      when 'campaign' then q.campaign_id::text = p_key
      when 'trunk' then q.dialed_trunk = p_key
      else q.id::text = p_key
    end;
end
$$;

-- What else keeps it from being dialed, in words, once its own pause is over.
create or replace function public.call_still_stopped(p_kind text, p_key text)
returns text
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_row public.call_queue;
begin
  if p_kind = 'row' then
    select * into v_row from public.call_queue q where q.id = p_key::bigint;
  elsif p_kind = 'campaign' then
    v_row.campaign_id := p_key::uuid;
    select c.user_id into v_row.user_id from public.campaigns c where c.id = v_row.campaign_id;
  elsif p_kind = 'user' then
    v_row.user_id := p_key::uuid;
  elsif p_kind = 'trunk' then
    v_row.trunk := p_key;
  end if;
  return coalesce(
    public.call_why_stopped_v1(v_row.id, v_row.user_id, v_row.campaign_id, v_row.trunk),
    case
      when public.call_campaign_gone(v_row.campaign_id) then 'its campaign was deleted'
      when public.call_campaign_stands(v_row.campaign_id) then 'the app has its campaign paused (campaigns.status)'
    end
  );
end
$$;

create or replace function public.call_pause_v1(p_kind text, p_key text default null, p_reason text default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set lock_timeout = '5s'
as $$
declare
  v_key constant text := public.call_stop_key(p_kind, p_key);
  v_before boolean;
  v_stop public.call_stops;
begin
  perform public.call_stop_known(p_kind, v_key);
  perform public.call_lock();
  v_before := exists (
    select from public.call_stops s where s.kind = p_kind and s.key = v_key and s.ended is null and not s.canceling
  );
  insert into public.call_stops as s (kind, key, began, reason)
  values (p_kind, v_key, clock_timestamp(), left(nullif(trim(p_reason), ''), 500))
  on conflict (kind, key) where ended is null do update
  set reason = coalesce(excluded.reason, s.reason), canceling = false
  returning s.* into v_stop;
  perform public.call_stop_marks(p_kind, v_key);
  perform public.call_ring_now();
  return jsonb_build_object(
    'kind', v_stop.kind, 'key', v_stop.key, 'began', v_stop.began, 'before', v_before,
    'words', public.call_stop_words(v_stop),
    'live', (select count(*) from public.call_stop_calls(p_kind, v_key) c where c.in_air)
  );
end
$$;
comment on function public.call_pause_v1 is
  'Pauses a row, campaign, user, trunk (kind and key), or all: once this is committed nothing of it is dialed. Live calls go on.';

-- Ends such a pause, and one that was set by hand (call_tenants.paused, call_lanes.paused).
create or replace function public.call_resume_v1(p_kind text, p_key text default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set lock_timeout = '5s'
as $$
declare
  v_key constant text := public.call_stop_key(p_kind, p_key);
  v_stop public.call_stops;
  v_was boolean;
begin
  perform public.call_lock();
  update public.call_stops s set ended = clock_timestamp()
  where s.kind = p_kind and s.key = v_key and s.ended is null
  returning s.* into v_stop;
  v_was := found;
  if p_kind = 'trunk' then
    -- Whoever resumes a trunk has asked the carrier: what its calls told against it counts no more.
    v_was := public.call_trunk_forgive(v_key) or v_was;
  elsif p_kind = 'user' then
    v_was := v_was or exists (select from public.call_tenants t where t.user_id = v_key::uuid and t.paused);
  elsif p_kind = 'campaign' then
    v_was := v_was or exists (
      select from public.call_lanes l where l.lane = v_key::uuid and l.paused and not l.halted
    );
  end if;
  perform public.call_stop_unmarks(p_kind, v_key, v_stop.due_at);
  perform public.call_ring_now();
  return jsonb_build_object(
    'kind', p_kind, 'key', v_key, 'was', v_was, 'still', public.call_still_stopped(p_kind, v_key)
  );
end
$$;
comment on function public.call_resume_v1 is
  'Ends a pause of a row, campaign, user, trunk (kind and key), or all; says what else keeps it from being dialed.';

-- Cancels all of it, a piece at a time: to be called again with the `before` of the first answer while it says `more`.
-- From the commit of the first piece on nothing of it is dialed: it is paused until the last one. If nobody asks for the
-- rest it stays paused, and says so.
create or replace function public.call_cancel_all_v1(
  p_kind text, p_key text default null, p_reason text default null, p_before timestamptz default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set lock_timeout = '5s'
as $$
declare
  -- Half a second of work on a busy machine; the log row of each is most of it.
  v_most constant integer := 1000;
  v_key constant text := public.call_stop_key(p_kind, p_key);
  v_reason constant text := left(nullif(trim(p_reason), ''), 500);
  v_mine constant text := 'q.status = ''queued'' and q.created_at <= $2 and ' || case p_kind
    when 'all' then 'true'
    when 'user' then 'q.user_id = $1::uuid'
    when 'campaign' then 'q.campaign_id = $1::uuid and q.campaign_id is not null'
    when 'trunk' then 'q.trunk = $1 and q.trunk is not null'
    else 'q.id = $1::bigint'
  end;
  v_before timestamptz := p_before;
  v_ids bigint[];
  v_waited integer := 0;
  v_live integer;
  v_left boolean;
begin
  if v_before is null then
    perform public.call_stop_known(p_kind, v_key);
    perform public.call_lock();
    v_before := clock_timestamp();
    insert into public.call_stops (kind, key, began, reason, canceling)
    values (
      p_kind, v_key, v_before, v_reason,
      -- What was paused by hand stays paused.
      not (p_kind = 'user' and exists (
        select from public.call_tenants t where t.user_id = v_key::uuid and t.paused
      )) and not (p_kind = 'campaign' and exists (
        select from public.call_lanes l where l.lane = v_key::uuid and l.paused and not l.halted
      ))
    )
    on conflict (kind, key) where ended is null do nothing;
    perform public.call_stop_marks(p_kind, v_key);
  else
    execute 'select array(select q.id from public.call_queue q where ' || v_mine || ' limit ' || v_most
      || ' for update skip locked)'
    into v_ids using v_key, v_before;
    update public.call_queue set cancel_requested = true, cancel_reason = coalesce(v_reason, cancel_reason)
    where id = any (v_ids);
    v_waited := cardinality(v_ids);
  end if;

  -- Live calls with every piece, the first one too: they are what people hear.
  v_ids := array(
    select q.id from public.call_queue q
    where q.id = any (array(
      select c.id from public.call_stop_calls(p_kind, v_key) c where not c.cancel_requested limit v_most
    ))
    for update skip locked
  );
  with hung as (
    update public.call_queue set cancel_requested = true, cancel_reason = coalesce(v_reason, cancel_reason)
    where id = any (v_ids) and status in ('dialing', 'talking')
    returning outcome
  )
  select count(*) filter (where h.outcome is null) into v_live from hung h;

  execute 'select exists (select from public.call_queue q where ' || v_mine || ')' into v_left using v_key, v_before;
  v_left := v_left or exists (
    select from public.call_stop_calls(p_kind, v_key) c where not c.cancel_requested
  );
  if not v_left then
    perform public.call_lock();
    update public.call_stops s set ended = clock_timestamp()
    where s.kind = p_kind and s.key = v_key and s.ended is null and s.canceling;
    if found then
      perform public.call_stop_unmarks(p_kind, v_key, null);
    end if;
  end if;
  perform public.call_ring_now();
  return jsonb_build_object(
    'kind', p_kind, 'key', v_key, 'before', v_before, 'waited', v_waited, 'live', v_live, 'more', v_left,
    'still', case when not v_left then public.call_still_stopped(p_kind, v_key) end
  );
end
$$;
comment on function public.call_cancel_all_v1 is
  'Cancels a campaign, user, trunk (kind and key), or all, 1000 rows at a time; call it again with its `before` while `more`.';

-- 2. Who may -----------------------------------------------------------------------------------------------------------

do $$
declare
  v_name text;
begin
  foreach v_name in array array[
    'call_stop_key(text,text)', 'call_stop_known(text,text)', 'call_stops_lock()', 'call_ring_now()', 'call_stop_marks(text,text)',
    'call_stop_unmarks(text,text,timestamptz)', 'call_stop_calls(text,text)', 'call_still_stopped(text,text)',
    'call_pause_v1(text,text,text)', 'call_resume_v1(text,text)', 'call_cancel_all_v1(text,text,text,timestamptz)'
  ] loop
    execute format('revoke all on function public.%s from public, anon, authenticated, service_role', v_name);
    if v_name like '%\_v1(%' then
      execute format('grant execute on function public.%s to service_role', v_name);
    end if;
  end loop;
end
$$;

notify pgrst, 'reload schema';
