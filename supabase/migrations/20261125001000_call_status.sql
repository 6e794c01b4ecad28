-- What people ask at a terminal: queue one call, follow it, and see how everything is. Each question costs the same
-- whatever the length of the queue, is asked by service_role only, and changes nothing (but the one that queues).

-- When rows ended, the last first: for the latest outcomes and for counting those of a day.
create index if not exists call_queue_ended_idx on public.call_queue (ended_at) where status in ('done', 'canceled');

-- A row as the screens show it. `talk_seconds` is a text, as it stands in call_logs.metadata.
create or replace function public.call_sight(p_row public.call_queue)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'row_id', p_row.id,
    'status', p_row.status,
    'outcome', p_row.outcome,
    'reason', p_row.ended_reason,
    'last_outcome', p_row.last_outcome,
    'last_reason', p_row.last_reason,
    'attempts', p_row.attempts,
    'max_attempts', p_row.max_attempts,
    'faults', p_row.faults,
    'phone_number', p_row.phone_number,
    'e164', p_row.e164,
    'user_id', p_row.user_id,
    'trunk', p_row.trunk,
    'call_id', p_row.call_id,
    'adapter', p_row.adapter,
    'pbx', p_row.pbx,
    'cancel_requested', p_row.cancel_requested,
    'talk_seconds', p_row.call_facts ->> 'talk_seconds',
    'created_at', p_row.created_at,
    'not_before', p_row.not_before,
    'expires_at', p_row.expires_at,
    'claimed_at', p_row.claimed_at,
    'originated_at', p_row.originated_at,
    'ringing_at', p_row.ringing_at,
    'answered_at', p_row.answered_at,
    'ended_at', p_row.ended_at,
    'settle_at', p_row.settle_at,
    'deadline', p_row.deadline
  );
end
$$;

-- Adapters with their last heartbeat, the latest heard first, and who holds which PBX. Identities of lost STATE_DIRs
-- stay in call_adapters for ever, so only the latest are of interest.
create or replace function public.call_links()
returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object(
    'adapters', (
      select coalesce(jsonb_agg(
        jsonb_build_object(
          'adapter', a.adapter, 'incarnation', a.incarnation, 'pbx', a.pbx, 'info', a.info, 'status', a.status,
          'registered_at', a.registered_at, 'seen_at', a.seen_at, 'ready_since', a.ready_since
        )
        order by a.seen_at desc nulls last, a.adapter
      ), '[]')
      from (select * from public.call_adapters b order by b.seen_at desc nulls last, b.adapter limit 20) a
    ),
    'pbxs', (
      select coalesce(jsonb_agg(
        jsonb_build_object(
          'pbx', x.pbx, 'holder', x.holder, 'lease_until', x.lease_until, 'trunk', x.trunk, 'taken_at', x.taken_at
        )
        order by x.lease_until desc nulls last, x.pbx
      ), '[]')
      from (select * from public.call_pbx y order by y.lease_until desc nulls last, y.pbx limit 20) x
    )
  )
$$;

-- One row, with what decides whether it is dialed now. Raises PT404 for a row that is not there.
create or replace function public.call_follow_v1(p_row bigint)
returns jsonb
language plpgsql stable security definer
set search_path = ''
-- Plans made for an empty queue must not read it whole once it is full.
set enable_seqscan = off
set enable_bitmapscan = off
-- Nor shall what comes first be sorted: there is an index in its order.
set enable_sort = off
as $$
declare
  -- Nobody reads on a screen whether 100 or 10,000 calls are before it.
  v_most constant integer := 100;
  v_now constant timestamptz := clock_timestamp();
  v_row public.call_queue;
  v_wait jsonb;
begin
  select * into v_row from public.call_queue q where q.id = p_row;
  if not found then
    raise exception 'call_queue has no row %', p_row using errcode = 'PT404';
  end if;
  if v_row.status = 'queued' then
    v_wait := jsonb_build_object(
      'stopped', public.call_why_stopped_v1(v_row.id, v_row.user_id, v_row.campaign_id, v_row.trunk),
      'user_paused', exists (select from public.call_tenants t where t.user_id = v_row.user_id and t.paused),
      'lane_paused', exists (
        select from public.call_lanes l where l.user_id = v_row.user_id and l.lane = v_row.lane and l.paused
      ) or public.call_campaign_stands(v_row.campaign_id),
      'user_in_air', (
        select count(*) from public.call_queue q
        where q.user_id = v_row.user_id and q.status in ('dialing', 'talking') and q.outcome is null
      ),
      'lane_in_air', case when v_row.campaign_id is null then 0 else (
        select count(*) from public.call_queue q
        where q.user_id = v_row.user_id and q.lane = v_row.lane and q.status in ('dialing', 'talking')
          and q.outcome is null
      ) end,
      'rule', public.call_why_waits_v1(p_row),
      'put_off', v_row.wait_reason,
      -- In the order of call_claim.
      'ahead', (
        select count(*) from (
          select from generate_series(v_row.priority + 1, 9) p
          cross join lateral (
            select from public.call_queue q
            where q.user_id = v_row.user_id and q.lane = v_row.lane and q.status = 'queued' and q.priority = p
              and q.not_before <= v_now
            order by q.not_before, q.id
            limit v_most
          ) higher
          union all
          (
            select from public.call_queue q
            where q.user_id = v_row.user_id and q.lane = v_row.lane and q.status = 'queued'
              and q.priority = v_row.priority and q.not_before <= v_now
              and (q.not_before, q.id) < (v_row.not_before, v_row.id)
            order by q.not_before, q.id
            limit v_most
          )
          limit v_most
        ) before
      ),
      'ahead_most', v_most
    );
  end if;
  return jsonb_build_object('now', v_now, 'row', public.call_sight(v_row), 'wait', v_wait) || public.call_links();
end
$$;
comment on function public.call_follow_v1 is 'One row of call_queue, and what decides whether it is dialed now.';

-- Queues one call. The same key again gives the same row, so that a lost answer costs nothing. A number that cannot be
-- dialed adds no row: the answer then holds `refused`, in words. `p_more`: further columns of the row.
create or replace function public.call_wish_v1(p_key uuid, p_user uuid, p_number text, p_more jsonb default '{}')
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set enable_bitmapscan = off
set lock_timeout = '5s'
as $$
declare
  v_known constant text[] := array[
    'customer_name', 'campaign_id', 'contact_id', 'prompt_id', 'agent_id', 'priority', 'max_attempts', 'caller_id',
    'ring_seconds', 'variables'
  ];
  v_more jsonb := coalesce(nullif(p_more, 'null'), '{}');
  v_problem text;
  v_id bigint;
begin
  if p_key is null or p_user is null or jsonb_typeof(v_more) <> 'object' then
    raise exception 'call_wish_v1 needs p_key, p_user, p_number, and p_more as an object';
  elsif v_more - v_known <> '{}' then
    raise exception 'call_wish_v1 does not know %', (select string_agg(k, ', ') from jsonb_object_keys(v_more - v_known) k);
  end if;
  select n.problem into v_problem from public.call_number_v1(p_number) n;
  if v_problem is not null then
    return jsonb_build_object('refused', v_problem);
  end if;
  insert into public.call_queue (
    user_id, phone_number, idempotency_key, customer_name, campaign_id, contact_id, prompt_id, agent_id, priority,
    max_attempts, caller_id, ring_seconds, variables
  )
  values (
    p_user, p_number, 'desk:' || p_key, v_more ->> 'customer_name', (v_more ->> 'campaign_id')::uuid,
    (v_more ->> 'contact_id')::uuid, (v_more ->> 'prompt_id')::uuid, v_more ->> 'agent_id',
    (v_more ->> 'priority')::integer, (v_more ->> 'max_attempts')::integer, v_more ->> 'caller_id',
    (v_more ->> 'ring_seconds')::integer, v_more -> 'variables'
  )
  returning id into v_id;
  if v_id is null then
    select q.id into strict v_id
    from public.call_queue q
    where q.user_id = p_user and q.idempotency_key = 'desk:' || p_key;
  end if;
  return public.call_follow_v1(v_id);
end
$$;
comment on function public.call_wish_v1 is
  'Queues one call; the same key again gives the same row. Returns what call_follow_v1 says of it, or why it was refused.';

-- call_cancel_v1 for a terminal: says what becomes of the row.
create or replace function public.call_stop_v1(p_row bigint, p_reason text default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set lock_timeout = '5s'
as $$
begin
  perform public.call_cancel_v1(p_row, p_reason);
  return public.call_follow_v1(p_row);
end
$$;
comment on function public.call_stop_v1 is 'Cancels a row of call_queue; returns what call_follow_v1 says of it.';

-- Everything at a glance; lists hold `p_limit` entries at most.
create or replace function public.call_status_v1(p_limit integer)
returns jsonb
language plpgsql stable security definer
set search_path = ''
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
as $$
declare
  -- Rows that are looked at for a count; beyond it the count is a lower bound. Some 10 ms of work.
  v_most constant integer := 10000;
  v_limit constant integer := least(greatest(coalesce(p_limit, 10), 0), 200);
  v_now constant timestamptz := clock_timestamp();
  -- By then an adapter that runs has ended what is over: it looks every few seconds, and at orphans after a minute.
  v_late constant timestamptz := v_now - interval '2 minutes';
  v_all constant boolean := public.call_stopped('all', '');
  v_queue jsonb;
  v_air jsonb;
  v_ended jsonb;
begin
  -- Those that expire first, which by default are those that have waited longest.
  with waiting as (
    select q.user_id, q.lane, q.not_before, q.expires_at
    from public.call_queue q
    where q.status = 'queued'
    order by q.expires_at
    limit v_most
  ), lanes as (
    select w.user_id, w.lane, count(*) as queued, count(*) filter (where w.not_before <= v_now) as due,
      min(w.not_before) as first_at, count(*) filter (where w.expires_at <= v_late) as expired
    from waiting w
    group by w.user_id, w.lane
  ), told as (
    -- A lane that sleeps over closed calling hours, or whose user's calls of the day are used up, keeps not_before of most
    -- of its rows: none of them is due before it wakes.
    select n.user_id, n.queued, n.expired, v_all or coalesce(t.paused, false) or coalesce(l.paused, false) as paused,
      case when s.until is null then n.due else 0 end as due, greatest(n.first_at, s.until) as first_at
    from lanes n
    left join public.call_tenants t on t.user_id = n.user_id
    left join public.call_lanes l on l.user_id = n.user_id and l.lane = n.lane
    cross join lateral (
      select greatest(
        case when not l.ready and l.wake_at > v_now then l.wake_at end,
        case when not t.ready and t.wake_at > v_now then t.wake_at end
      ) as until
    ) s
  )
  select jsonb_build_object(
    'most', v_most,
    'queued', coalesce(sum(d.queued), 0),
    'due', coalesce(sum(d.due) filter (where not d.paused), 0),
    'due_since', min(d.first_at) filter (where not d.paused and d.due > 0),
    'paused', coalesce(sum(d.queued) filter (where d.paused), 0),
    'expired', coalesce(sum(d.expired), 0),
    'next_at', min(d.first_at) filter (where not d.paused and d.due = 0)
  )
  into v_queue
  from told d;

  -- As many as there are calls: those that live, and for ten seconds those that were answered.
  select jsonb_build_object(
    'dialing', count(*) filter (where q.status = 'dialing'),
    'talking', count(*) filter (where q.status = 'talking' and q.outcome is null),
    'settling', count(*) filter (where q.outcome is not null),
    'overdue', count(*) filter (where q.outcome is null and q.deadline <= v_late),
    'claimed_at', max(q.claimed_at)
  )
  into v_air
  from public.call_queue q
  where q.status in ('dialing', 'talking') and q.e164 is not null;

  select jsonb_build_object(
    'total', coalesce(sum(n.count), 0),
    'most', v_most,
    'since', v_now - interval '1 day',
    'outcomes', coalesce(jsonb_object_agg(n.outcome, n.count), '{}')
  )
  into v_ended
  from (
    select coalesce(d.outcome, 'unknown') as outcome, count(*) as count
    from (
      select q.outcome from public.call_queue q
      where q.status in ('done', 'canceled') and q.ended_at > v_now - interval '1 day'
      order by q.ended_at desc
      limit v_most
    ) d
    group by 1
  ) n;

  return jsonb_build_object(
    'now', v_now,
    'region', (select s.default_region from public.call_settings s),
    'stops', public.call_stops_open(v_limit),
    'stops_most', v_limit,
    'trunks', public.call_trunks_unfit(null),
    'queue', v_queue,
    'air', v_air,
    'ended', v_ended,
    'calls', (
      select coalesce(jsonb_agg(public.call_sight(c) order by c.claim_number), '[]')
      from (
        select * from public.call_queue q
        where q.status in ('dialing', 'talking') and q.e164 is not null
        order by q.claim_number
        limit v_limit
      ) c
    ),
    'last', (
      select coalesce(jsonb_agg(public.call_sight(c) order by c.ended_at desc, c.id desc), '[]')
      from (
        select * from public.call_queue q
        where q.status in ('done', 'canceled') and q.ended_at <= 'infinity'
        order by q.ended_at desc
        limit v_limit
      ) c
    )
  ) || public.call_links();
end
$$;
comment on function public.call_status_v1 is 'How adapters, queue, calls and latest outcomes are; of lists p_limit entries.';

-- Who may ask: the secret key only. Helpers are for our own functions, which run as their owner.
do $$
declare
  v_function text;
begin
  foreach v_function in array array[
    'call_sight(public.call_queue)', 'call_links()', 'call_follow_v1(bigint)', 'call_wish_v1(uuid,uuid,text,jsonb)',
    'call_stop_v1(bigint,text)', 'call_status_v1(integer)'
  ] loop
    execute format('revoke all on function public.%s from public, anon, authenticated, service_role', v_function);
    if v_function like '%\_v1(%' then
      execute format('grant execute on function public.%s to service_role', v_function);
    end if;
  end loop;
end
$$;

-- PostgREST shall see the functions at once.
notify pgrst, 'reload schema';
