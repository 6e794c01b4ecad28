-- Claim and sweep. All of it runs under one advisory lock (call_sync_v1), or limits could not be kept; so nothing here
-- may be slow, and nothing may depend on the length of the queue. Rows are looked up by their lane through
-- call_queue_turn_idx; the turn tables say which lanes to look at.

-- Ends one row that is overdue: queued, held after an answer, or live. Returns what went wrong, in words, as a list: such a
-- row harms no other, and is tried again.
create or replace function public.call_sweep_row(p_row public.call_queue, p_now timestamptz)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if p_row.status = 'queued' then
    if not public.call_clock_stood(p_row, p_now) then
      perform public.call_end_uncalled(p_row, public.call_expired_words(p_row, p_now), p_now);
    end if;
  elsif p_row.outcome is not null then
    perform public.call_settle_held(p_row, p_now);
  else
    p_row.ended_at := p_now;
    perform public.call_end(
      p_row, 'unknown', 'failed', 'how the call ended was not seen: its adapter was not heard of in time', 0,
      jsonb_build_object('attempt', (p_row.attempts + 1)::text, 'talk_seconds', '0'), p_now
    );
  end if;
  return '[]';
exception
  when others then
    return jsonb_build_array(format('row %s could not be ended: %s (%s)', p_row.id, sqlerrm, sqlstate));
end
$$;

-- Deletes the rows by which `doctor` looks whether Realtime tells of them (call_probe_v1): this one, and all that somebody
-- left behind. A minute is longer than any look for one.
create or replace function public.call_probe_forget(p_row bigint)
returns integer
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
as $$
declare
  v_gone integer;
begin
  delete from public.call_queue q
  where q.id = any (array(
    select x.id from public.call_queue x
    where x.user_id = '00000000-0000-0000-0000-000000000000' and x.idempotency_key like 'probe of doctor %'
      and (x.id = p_row or x.created_at < clock_timestamp() - interval '1 minute')
    for update skip locked
  ));
  get diagnostics v_gone = row_count;
  return v_gone;
end
$$;

-- The sweep, a bounded piece at a time; returns what went wrong.
-- `p_steady`: adapters have had the time to report since the database was last away, so orphans may be ended.
create or replace function public.call_housekeep(p_steady boolean, p_now timestamptz)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  -- Of each kind. Enough for 20 endings a second at the slowest tick of five seconds, and some 50 ms of work.
  v_most constant integer := 100;
  v_row public.call_queue;
  v_notes jsonb := '[]';
begin
  for v_row in
    select * from public.call_queue q
    where q.status = 'talking' and q.settle_at <= p_now
    order by q.settle_at
    limit v_most
    for update skip locked
  loop
    v_notes := v_notes || public.call_sweep_row(v_row, p_now);
  end loop;

  for v_row in
    select * from public.call_queue q
    where q.status = 'queued' and q.expires_at <= p_now
    order by q.expires_at
    limit v_most
    for update skip locked
  loop
    v_notes := v_notes || public.call_sweep_row(v_row, p_now);
  end loop;

  if p_steady then
    for v_row in
      select * from public.call_queue q
      where q.status in ('dialing', 'talking') and q.outcome is null and q.deadline <= p_now
      limit v_most
      for update skip locked
    loop
      v_notes := v_notes || public.call_sweep_row(v_row, p_now);
    end loop;
  end if;
  perform public.call_probe_forget(null);
  perform public.call_dials_forget(p_now);
  return v_notes || public.call_charges_due(p_now);
end
$$;

-- Earliest instant from which a queued row of the lane may be dialed; null if it has none.
create or replace function public.call_lane_due(p_user uuid, p_lane uuid)
returns timestamptz
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  return (
    select min(f.not_before)
    from generate_series(0, 9) p
    cross join lateral (
      select q.not_before from public.call_queue q
      where q.user_id = p_user and q.lane = p_lane and q.status = 'queued' and q.priority = p
      order by q.not_before
      limit 1
    ) f
  );
end
$$;

-- A place in the order of turns: behind all others, or with an urgent row before all who have none.
create or replace function public.call_turn_next(p_urgent boolean)
returns bigint
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  -- So many turns nobody ever has.
  return nextval('public.call_turn') - case when p_urgent then 1000000000000000 else 0 end;
end
$$;

-- True if a row of the highest priority is due in this lane.
create or replace function public.call_lane_urgent(p_user uuid, p_lane uuid, p_now timestamptz)
returns boolean
language plpgsql stable security definer
set search_path = ''
as $$
begin
  -- Ordered, so that no plan of old statistics takes another index.
  return coalesce((
    select q.not_before from public.call_queue q
    where q.user_id = p_user and q.lane = p_lane and q.status = 'queued' and q.priority = 9
    order by q.not_before
    limit 1
  ) <= p_now, false);
end
$$;

-- Takes over what the inserting sessions told, and wakes whoever's time has come; who has an urgent row among it is next.
-- True: there is more of it.
create or replace function public.call_turns_refresh(p_now timestamptz)
returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_batch constant integer := 2000;
  v_taken integer;
  v_users uuid[];
  v_lanes uuid[];
  v_woken_users uuid[];
  v_woken_lanes uuid[];
begin
  with gone as (
    delete from public.call_arrivals a
    where a.id = any (array(select b.id from public.call_arrivals b order by b.id limit v_batch for update skip locked))
    returning a.user_id, a.lane, a.due_at
  ), lanes as (
    select g.user_id, g.lane, min(g.due_at) as due_at, count(*) as arrivals from gone g group by g.user_id, g.lane
  ), kept as (
    insert into public.call_lanes as l (user_id, lane, ready, wake_at)
    select n.user_id, n.lane, n.due_at <= p_now, case when n.due_at > p_now then n.due_at end from lanes n
    on conflict (user_id, lane) do update
    set ready = l.ready or excluded.ready, wake_at = least(l.wake_at, excluded.wake_at)
    where (not l.ready and excluded.ready) or excluded.wake_at < coalesce(l.wake_at, 'infinity')
    returning 1
  ), users as (
    insert into public.call_tenants as t (user_id, ready, wake_at)
    select n.user_id, min(n.due_at) <= p_now, case when min(n.due_at) > p_now then min(n.due_at) end
    from lanes n
    group by n.user_id
    on conflict (user_id) do update
    set ready = t.ready or excluded.ready, wake_at = least(t.wake_at, excluded.wake_at)
    where (not t.ready and excluded.ready) or excluded.wake_at < coalesce(t.wake_at, 'infinity')
    returning 1
  )
  select coalesce(sum(n.arrivals), 0),
    array_agg(n.user_id order by n.user_id, n.lane), array_agg(n.lane order by n.user_id, n.lane)
  into v_taken, v_users, v_lanes
  from lanes n;

  with woken as (
    update public.call_lanes set ready = true, wake_at = null
    where (user_id, lane) in (
      select l.user_id, l.lane from public.call_lanes l where l.wake_at <= p_now order by l.wake_at limit 500
    )
    returning user_id, lane
  )
  select array_agg(w.user_id order by w.user_id, w.lane), array_agg(w.lane order by w.user_id, w.lane)
  into v_woken_users, v_woken_lanes
  from woken w;
  v_users := v_users || v_woken_users;
  v_lanes := v_lanes || v_woken_lanes;
  update public.call_tenants set ready = true, wake_at = null
  where user_id = any (array(
    select t.user_id from public.call_tenants t where t.wake_at <= p_now order by t.wake_at limit 500
  ));
  for i in 1 .. coalesce(cardinality(v_users), 0) loop
    if public.call_lane_urgent(v_users[i], v_lanes[i], p_now) then
      update public.call_lanes set served = public.call_turn_next(true)
      where user_id = v_users[i] and lane = v_lanes[i] and served >= 0;
      update public.call_tenants set served = public.call_turn_next(true) where user_id = v_users[i] and served >= 0;
    end if;
  end loop;
  return v_taken = v_batch;
end
$$;

-- Walks over the lanes that really have queued rows, a few at a time, and mends what the turn tables say of them:
-- nothing may stay undialed because a flag was lost. Once a second at most, and only when no news waits: it would find
-- the lanes that are just being told. What it finds, the next claim takes.
create or replace function public.call_turns_repair(p_now timestamptz)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_steps constant integer := 100;
  v_user uuid;
  v_lane uuid;
  v_due_at timestamptz;
begin
  select s.repair_user, s.repair_lane into v_user, v_lane
  from public.call_settings s
  where s.repaired_at < p_now - interval '1 second'
  for update skip locked;
  if not found then
    return;
  end if;
  for step in 1 .. v_steps loop
    if v_user is null then
      select q.user_id, q.lane into v_user, v_lane
      from public.call_queue q
      where q.status = 'queued'
      order by q.user_id, q.lane
      limit 1;
    else
      select q.user_id, q.lane into v_user, v_lane
      from public.call_queue q
      where q.status = 'queued' and (q.user_id, q.lane) > (v_user, v_lane)
      order by q.user_id, q.lane
      limit 1;
    end if;
    exit when not found;
    if not exists (
      select from public.call_lanes l join public.call_tenants t using (user_id)
      where l.user_id = v_user and l.lane = v_lane and l.ready and t.ready
    ) then
      v_due_at := public.call_lane_due(v_user, v_lane);
      if v_due_at is not null and not exists (
        select from public.call_lanes l join public.call_tenants t using (user_id)
        where l.user_id = v_user and l.lane = v_lane
          -- A wake-up in the near future is a decision of the claim (a limit, a pause), not a loss.
          and (l.ready or l.wake_at <= greatest(v_due_at, p_now + interval '10 seconds'))
          and (t.ready or t.wake_at <= greatest(v_due_at, p_now + interval '10 seconds', t.capped_until))
      ) then
        insert into public.call_arrivals (user_id, lane, due_at) values (v_user, v_lane, v_due_at);
      end if;
    end if;
  end loop;
  update public.call_settings
  set repair_user = v_user, repair_lane = v_lane, repaired_at = p_now
  where only_row;
end
$$;

-- A live row as its adapter gets it (ClaimedRow).
create or replace function public.call_claimed(p_row public.call_queue)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'row_id', p_row.id,
    'call_id', p_row.call_id,
    'claim_number', p_row.claim_number,
    'attempt', p_row.attempts + 1,
    'user_id', p_row.user_id,
    'phone_number', p_row.phone_number,
    'e164', p_row.e164,
    'campaign_id', p_row.campaign_id,
    'contact_id', p_row.contact_id,
    'prompt_id', p_row.prompt_id,
    'customer_name', p_row.customer_name,
    'caller_id', p_row.caller_id,
    'ring_seconds', p_row.ring_seconds,
    -- Edited by hand while the call lives: nothing needs them any more.
    'variables', case when public.call_variables_fit(p_row.variables) then p_row.variables else '{}' end,
    'claimed_at', p_row.claimed_at,
    -- When its insert should have rung the doorbell; null for a row that was due later or is claimed again.
    'bell_at', case
      when p_row.attempts = 0 and p_row.faults = '{}' and p_row.not_before <= p_row.created_at then p_row.created_at
    end,
    'pbx_boot', p_row.pbx_boot,
    'trunk', p_row.way
  );
end
$$;

-- Claims one row: it is `dialing` from here on, and its call_logs row stands before the PBX is told. Returns null if it
-- was ended or put off instead. Raises what the database says of a row that cannot be written.
create or replace function public.call_claim_row(
  p_row public.call_queue, p_adapter uuid, p_incarnation bigint, p_status jsonb, p_claim_id uuid, p_now timestamptz
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_verdict record;
  v_way record;
begin
  if p_row.expires_at <= p_now and not public.call_clock_stood(p_row, p_now) then
    perform public.call_end_uncalled(p_row, public.call_expired_words(p_row, p_now), p_now);
    return null;
  elsif p_row.cancel_requested then
    -- Put back by hand with its cancel flag still on: the trigger ends it.
    update public.call_queue set cancel_requested = true where id = p_row.id;
    return null;
  end if;
  select * into v_verdict from public.call_judge(p_row, p_status, p_now);
  if v_verdict.why is not null then
    if v_verdict.until is null then
      perform public.call_end_uncalled(p_row, v_verdict.why, p_now);
    else
      perform public.call_put_off(p_row, p_status ->> 'pbx', v_verdict.rule, v_verdict.why, v_verdict.until, p_now);
    end if;
    return null;
  end if;
  select * into v_way from public.call_way(p_row, p_status, p_now);

  p_row.status := 'dialing';
  p_row.call_id := gen_random_uuid();
  p_row.claim_number := nextval('public.call_claim_number');
  p_row.pbx := p_status ->> 'pbx';
  p_row.pbx_boot := p_status ->> 'pbx_boot';
  p_row.dialed_trunk := v_way.trunk;
  p_row.way := v_way.way;
  p_row.deadline := p_now + make_interval(secs =>
    coalesce(p_row.ring_seconds, (p_status ->> 'ring_seconds')::integer, 30)
    + coalesce((p_status ->> 'max_call_seconds')::integer, 900)
    + 120
    + coalesce((p_status ->> 'orphan_seconds')::integer, 1800)
  );
  update public.call_queue
  set status = 'dialing', call_id = p_row.call_id, claim_number = p_row.claim_number, claim_id = p_claim_id,
    adapter = p_adapter, incarnation = p_incarnation, pbx = p_row.pbx, pbx_boot = p_row.pbx_boot, claimed_at = p_now,
    dialed_trunk = v_way.trunk, way = v_way.way,
    deadline = p_row.deadline, originated_at = null, ringing_at = null, answered_at = null, ended_at = null,
    outcome = null, ended_reason = null, settle_at = null, call_facts = null, wait_reason = null,
    handed_to = null, billing_step = public.call_billing_step(),
    minutes_before = case when p_status ->> 'billing' = 'off' then public.call_minutes_of(p_row.user_id) end,
    updated_at = p_now
  where id = p_row.id;
  perform public.call_log_insert(
    p_row, 'initiated', null, p_status ->> 'agent_id',
    jsonb_strip_nulls(jsonb_build_object(
      'attempt', (p_row.attempts + 1)::text,
      'claim_number', p_row.claim_number::text,
      'pbx', p_row.pbx,
      'trunk', v_way.trunk
    )),
    p_now
  );
  insert into public.call_dials (call_id, row_id, user_id, e164, trunk, claimed_at, facts)
  values (p_row.call_id, p_row.id, p_row.user_id, p_row.e164, v_way.trunk, p_now, v_verdict.facts);
  perform public.call_day_count(p_row.user_id, p_now);
  -- A trunk on trial gets no second call until this one has told.
  update public.call_trunk_health set probed_at = p_now
  where pbx = p_row.pbx and trunk = coalesce(v_way.trunk, '') and (cooled_at is not null or stopped_at is not null);
  p_row.claimed_at := p_now;
  return public.call_claimed(p_row);
end
$$;

-- Claims up to p_room rows: users in turn, within a user its lanes in turn, within a lane by priority and time. An urgent
-- row (priority 9) gives its user and lane the next turn, and no more than that: its share of each claim stays the same.
create or replace function public.call_claim(
  p_adapter uuid, p_incarnation bigint, p_status jsonb, p_room integer, p_claim_id uuid, p_now timestamptz,
  out claimed jsonb, out more boolean, out notes jsonb
)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_passes constant integer := 6;
  v_pbx text := p_status ->> 'pbx';
  v_limits jsonb := coalesce(nullif(p_status -> 'limits', 'null'), '{}');
  v_most_of_user constant integer := coalesce((v_limits ->> 'user')::integer, 2147483647);
  v_most_of_lane constant integer := coalesce((v_limits ->> 'campaign')::integer, 2147483647);
  -- The heartbeat, in which each trunk has less room with each row that is claimed.
  v_status jsonb;
  v_lane_limit integer;
  v_trunks_left integer;
  -- Does another PBX dial as well?
  v_others constant boolean := exists (
    select from public.call_pbx x where x.pbx is distinct from p_status ->> 'pbx' and x.lease_until > p_now
  );
  v_day_left integer;
  v_room integer;
  v_pbx_room integer;
  v_got integer := 0;
  v_arriving boolean;
  v_users uuid[];
  v_user uuid;
  v_user_share integer;
  v_user_room integer;
  v_lanes uuid[];
  v_lane uuid;
  v_lane_share integer;
  v_lane_room integer;
  v_full boolean;
  v_due_at timestamptz;
  v_hours record;
  -- Rows that one claim puts off at most because it is past their hours: as many as it commonly takes, or the putting off
  -- would cost more than the calls. The next one goes on, and nothing waits for it, as lanes that are shut sleep.
  v_put_off integer := 50;
  v_shut jsonb := '{}';
  v_paused boolean;
  v_row public.call_queue;
  v_one jsonb;
  -- Did a row end or go away for long, so that the rows behind it are next? Short waits are none: they would be moved on and on.
  v_moved boolean := false;
  v_failed public.call_queue[] := '{}';
  v_errors text[] := '{}';
  v_trouble text;
begin
  claimed := '[]';
  notes := '[]';
  select coalesce((v_limits ->> 'pbx')::integer, 2147483647) - count(*) into v_pbx_room
  from public.call_queue q
  where q.status in ('dialing', 'talking') and q.outcome is null and q.pbx = v_pbx;
  v_status := p_status || jsonb_build_object('_in_air', public.call_trunks_in_air(v_pbx));
  v_room := public.call_pbx_trunks_left(v_status, least(p_room, v_pbx_room, public.call_all_left(), 500), p_now);
  if public.call_stopped('all', '') then
    v_room := 0;
  end if;

  if v_room > 0 then
    perform public.call_handed_take(v_pbx, v_room, p_now);
  end if;
  v_arriving := public.call_turns_refresh(p_now);
  if not v_arriving then
    perform public.call_turns_repair(p_now);
  end if;

  for pass in 1 .. v_passes loop
    exit when v_got >= v_room;
    v_users := array(
      select t.user_id from public.call_tenants t
      where t.ready and not t.paused
      order by t.served, t.user_id
      limit v_room - v_got
    );
    exit when cardinality(v_users) = 0;
    v_user_share := ceil((v_room - v_got)::numeric / cardinality(v_users));

    foreach v_user in array v_users loop
      exit when v_got >= v_room;
      continue when public.call_user_stands(v_user);
      v_day_left := public.call_user_day(v_user, v_status, p_now);
      continue when v_day_left <= 0;
      select public.call_user_limit(v_user, v_most_of_user) - count(*) into v_user_room
      from public.call_queue q
      where q.user_id = v_user and q.status in ('dialing', 'talking') and q.outcome is null;
      v_trunks_left := public.call_user_trunks_left(v_user, v_status, p_now);
      v_full := least(v_user_room, v_trunks_left) <= 0;
      v_user_room := least(v_user_room, v_trunks_left, v_day_left, v_user_share, v_room - v_got);

      v_lanes := '{}';
      if v_user_room > 0 then
        perform public.call_lanes_resume(v_user);
        v_lanes := array(
          select l.lane from public.call_lanes l
          where l.user_id = v_user and l.ready and not l.paused
          order by l.served, l.lane
          limit v_user_room
        );
        v_lane_share := ceil(v_user_room::numeric / greatest(cardinality(v_lanes), 1));
      end if;

      foreach v_lane in array v_lanes loop
        exit when v_user_room <= 0;
        if public.call_campaign_stands(v_lane) then
          update public.call_lanes set halted = true, paused = true, served = nextval('public.call_turn')
          where user_id = v_user and lane = v_lane;
          continue;
        end if;
        v_lane_room := least(v_lane_share, v_user_room);
        v_lane_limit := public.call_lane_limit(v_lane, v_most_of_lane);
        if v_lane_limit < 2147483647 and v_lane <> '00000000-0000-0000-0000-000000000000' then
          select least(v_lane_room, v_lane_limit - count(*)) into v_lane_room
          from public.call_queue q
          where q.user_id = v_user and q.lane = v_lane and q.status in ('dialing', 'talking') and q.outcome is null;
        end if;

        select * into v_hours from public.call_hours_lane(v_user, v_lane, p_now, v_put_off, v_shut);
        v_put_off := v_hours.most;
        v_shut := v_hours.known;
        if v_lane_room > 0 then
          for v_row in select * from public.call_lane_rows(v_user, v_lane, v_hours.zones, v_lane_room, p_now) loop
            v_one := null;
            begin
              v_one := public.call_claim_row(v_row, p_adapter, p_incarnation, v_status, p_claim_id, p_now);
            exception
              -- What the row itself cannot be: its values, or what they refer to. Anything else ends the claim.
              when data_exception or integrity_constraint_violation or raise_exception then
                v_failed := v_failed || v_row;
                v_errors := v_errors || sqlerrm;
            end;
            if v_one is not null then
              claimed := claimed || v_one;
              v_status := public.call_way_taken(
                v_status, coalesce(v_one #>> '{trunk,id}', p_status ->> 'trunk', '')
              );
              v_got := v_got + 1;
              v_user_room := v_user_room - 1;
            elsif not v_moved then
              v_moved := not exists (
                select from public.call_queue q
                where q.id = v_row.id and q.status = 'queued' and q.not_before < p_now + interval '30 seconds'
              );
            end if;
          end loop;
        end if;

        -- Empty only if a look says so: what was found above was cut by limits and by rows held elsewhere.
        v_due_at := public.call_hours_due(v_user, v_lane, v_hours.zones, v_hours.until);
        update public.call_lanes
        set served = public.call_turn_next(public.call_lane_urgent(v_user, v_lane, p_now)),
          ready = v_lane_room > 0 and v_due_at <= p_now and v_due_at is not null,
          wake_at = case
            when v_lane_room <= 0 and v_due_at is not null then p_now + interval '2 seconds'
            when v_due_at > p_now then v_due_at
          end
        where user_id = v_user and lane = v_lane;
      end loop;

      select bool_or(l.paused and l.ready), min(l.wake_at) into v_paused, v_due_at
      from public.call_lanes l
      where l.user_id = v_user and (l.ready or l.wake_at is not null);
      update public.call_tenants t
      set served = public.call_turn_next(exists (
          select from public.call_lanes l where l.user_id = v_user and l.ready and not l.paused and l.served < 0
        )),
        ready = not v_full and exists (
          select from public.call_lanes l where l.user_id = v_user and l.ready and not l.paused
        ),
        wake_at = case
          -- A trunk has room again within a second, and those of another PBX may have it now; a user's limit when a call of
          -- it ends (call_room_made).
          when v_full and v_trunks_left <= 0 then p_now + case when v_others then interval '0' else interval '1 second' end
          when v_full then p_now + interval '2 seconds'
          when v_paused then least(v_due_at, p_now + interval '5 seconds')
          else v_due_at
        end
      where t.user_id = v_user;
    end loop;
  end loop;

  -- A row that cannot be written ends and harms no other. But when nothing can be written, the fault is hardly the
  -- rows': they are put off instead.
  for i in 1 .. cardinality(v_errors) loop
    if v_got = 0 and cardinality(v_errors) > 2 then
      update public.call_queue set not_before = p_now + interval '60 seconds', updated_at = p_now where id = (v_failed[i]).id;
      v_trouble := format('no row could be claimed, they were put off for a minute: %s', v_errors[i]);
    else
      perform public.call_end_uncalled(v_failed[i], 'it could not be written: ' || v_errors[i], p_now);
      v_trouble := format('row %s could not be claimed: %s', (v_failed[i]).id, v_errors[i]);
    end if;
  end loop;
  if v_trouble is not null then
    v_moved := true;
    notes := notes || to_jsonb(v_trouble);
  end if;

  more := v_arriving or (
    (v_got > 0 and v_got = v_room or v_moved and v_got < v_room) and v_got < v_pbx_room
    and (
      exists (select from public.call_tenants t where t.ready and not t.paused)
      or exists (select from public.call_queue q where q.handed_to = v_pbx and q.status = 'queued')
    )
  );
end
$$;
