-- What an adapter would do, asked without doing it. Nothing here claims, dials, or changes a row.

-- 1. The shadow ---------------------------------------------------------------------------------------------------------

-- Which rows a claim would take now, and by which rules: the claim itself, taken back before it ends (docs/decisions/
-- 0006). `p_told`: rows that were shown before and still wait, which are set aside meanwhile. Of what stays, all is what
-- any claim does to the turn tables; a number that was drawn is put back under the lock, so nobody ever hears of it.
create or replace function public.call_shadow_v1(p_status jsonb, p_room integer, p_told bigint[] default '{}')
returns jsonb
language plpgsql volatile security definer
set search_path = ''
-- As in call_sync_v1, so that the same rows are found in the same order.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
set plan_cache_mode = force_generic_plan
-- Who really dials goes first: a shadow comes again.
set lock_timeout = '1s'
as $$
declare
  v_most_told constant integer := 1000;
  -- Turns of 2000 arrivals each: a project without a living adapter lets them pile up.
  v_turns constant integer := 5;
  v_now timestamptz;
  v_told constant bigint[] := coalesce(p_told, '{}');
  v_standing bigint[];
  v_last bigint;
  v_called boolean;
  v_claim record;
  v_rows jsonb := '[]';
  v_ends jsonb := '[]';
  v_more boolean := false;
  v_notes jsonb := '[]';
  v_ways jsonb;
begin
  if jsonb_typeof(p_status) is distinct from 'object' then
    raise exception 'call_shadow_v1 needs p_status, a heartbeat, as an object' using errcode = 'PT400';
  elsif p_room is null or p_room not between 0 and 500 then
    raise exception 'call_shadow_v1 needs p_room, a number from 0 to 500' using errcode = 'PT400';
  elsif cardinality(v_told) > v_most_told then
    raise exception 'call_shadow_v1 sets at most % rows aside, not %', v_most_told, cardinality(v_told)
      using errcode = 'PT400';
  end if;
  v_standing := array(
    select q.id from public.call_queue q where q.id = any (v_told) and q.status = 'queued' order by q.id
  );
  -- As call_sync_v1 tells them.
  select jsonb_build_object('trunks_version', s.trunks_version, 'trunks', case
    when (p_status ->> 'trunks_version')::bigint is distinct from s.trunks_version
      then public.call_ways(p_status ->> 'pbx')
  end)
  into v_ways
  from public.call_settings s;
  if p_room = 0 then
    return jsonb_build_object(
      'now', clock_timestamp(), 'rows', v_rows, 'ends', v_ends, 'more', false, 'standing', to_jsonb(v_standing),
      'notes', v_notes
    ) || v_ways;
  end if;

  perform public.call_lock();
  v_now := clock_timestamp();
  perform set_config('mikopbx_adapter.at_work', 'on', true);
  for turn in 1 .. v_turns loop
    exit when not public.call_turns_refresh(v_now);
  end loop;
  perform public.call_turns_repair(v_now);
  select n.last_value, n.is_called into v_last, v_called from public.call_claim_number n;
  begin
    -- A deletion that is taken back costs no index anything.
    delete from public.call_queue q
    where q.id = any (array(
      select x.id from public.call_queue x
      where x.id = any (v_standing) and x.status = 'queued'
      for update skip locked
    ));
    select * into v_claim
    from public.call_claim(gen_random_uuid(), 0, p_status, p_room, gen_random_uuid(), v_now);
    v_more := v_claim.more;
    v_notes := v_claim.notes;
    select coalesce(jsonb_agg(r.value || jsonb_build_object('through', d.trunk, 'facts', d.facts) order by r.place), '[]')
    into v_rows
    from jsonb_array_elements(v_claim.claimed) with ordinality r (value, place)
    join public.call_dials d on d.call_id = (r.value ->> 'call_id')::uuid;
    select coalesce(jsonb_agg(jsonb_build_object('row_id', e.id, 'reason', e.ended_reason) order by e.id), '[]')
    into v_ends
    from (
      select q.id, q.ended_reason
      from public.call_queue q
      where q.status in ('done', 'canceled') and q.ended_at = v_now
      limit v_most_told
    ) e;
    raise exception 'taken back' using errcode = 'MXSHA';
  exception
    when sqlstate 'MXSHA' then
      null;
    when others then
      v_notes := v_notes || to_jsonb(format('the claim would fail: %s (%s)', sqlerrm, sqlstate));
  end;
  perform setval('public.call_claim_number', v_last, v_called);
  perform set_config('mikopbx_adapter.at_work', 'off', true);
  return jsonb_build_object(
    'now', v_now, 'rows', v_rows, 'ends', v_ends, 'more', v_more, 'standing', to_jsonb(v_standing), 'notes', v_notes
  ) || v_ways;
end
$$;
comment on function public.call_shadow_v1 is
  'Which rows a claim would take now, and by which rules; takes none of them.';

-- 2. A row, explained -----------------------------------------------------------------------------------------------------

-- All rows of a number, whatever became of them.
create index if not exists call_queue_number_idx on public.call_queue (e164, id);

-- Adapters that would dial now if they may: those that hold a PBX, the latest heard first. If none does, the one that was
-- heard of last says what keeps it; if none was heard of, one line of nulls.
create or replace function public.call_explain_adapters(p_now timestamptz)
returns table (adapter uuid, pbx text, status jsonb, held boolean)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return query
  select a.adapter, x.pbx, a.status, true
  from public.call_pbx x join public.call_adapters a on a.adapter = x.holder
  where x.lease_until > p_now
  order by a.seen_at desc
  limit 20;
  if not found then
    return query
    select a.adapter, a.pbx, a.status, false
    from (values (1)) one
    left join (
      select b.* from public.call_adapters b
      where b.seen_at > p_now - interval '1 minute'
      order by b.seen_at desc
      limit 1
    ) a on true;
  end if;
end
$$;

-- What a queued row must pass to be dialed now by the adapter of this heartbeat (null: there is none), in the order in which
-- it counts: `ends`: what does not pass can never be dialed.
create or replace function public.call_explain_steps(
  p_row public.call_queue, p_status jsonb, p_held boolean, p_now timestamptz
)
returns table (rule text, why text, until timestamptz, ends boolean, fact text)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  -- Nobody reads whether 100 or 10,000 rows are before it.
  v_most constant integer := 100;
  v_limits constant jsonb := coalesce(nullif(p_status -> 'limits', 'null'), '{}');
begin
  until := null;
  fact := null;

  rule := 'time';
  ends := p_row.expires_at <= p_now;
  why := case when ends then 'its time ran out: it ends as soon as an adapter looks' end;
  return next;

  ends := false;
  rule := 'due';
  if p_row.not_before > p_now then
    why := coalesce(
      p_row.wait_reason,
      'tried before: ' || coalesce(p_row.last_reason, p_row.last_outcome) || '; its next try is not due yet',
      'it is not due yet (not_before)'
    );
    until := p_row.not_before;
  end if;
  return next;

  rule := 'adapter';
  until := null;
  why := case
    when p_status is null then 'no adapter is running: none was heard of for a minute'
    when p_status ->> 'ready' is distinct from 'true'
      then 'the adapter does not dial at the moment' || coalesce(': ' || (p_status ->> 'problem'), '')
    when p_status ->> 'problem' is not null then 'the adapter holds back: ' || (p_status ->> 'problem')
    when not p_held then 'no adapter holds its PBX at the moment'
  end;
  fact := case when why is null then 'the PBX ' || (p_status ->> 'pbx') || ' is ready' end;
  return next;

  -- For a row of its own as well as for all of its user or its campaign.
  rule := 'pause';
  fact := null;
  why := coalesce(
    (select r.why from public.call_rule_pause(p_row, coalesce(p_status, '{}'), p_now) r),
    case
      when exists (select from public.call_tenants t where t.user_id = p_row.user_id and t.paused)
        then 'this user is paused (call_tenants.paused)'
      when public.call_campaign_stands(p_row.campaign_id) or exists (
        select from public.call_lanes l
        where l.user_id = p_row.user_id and l.lane = p_row.lane and l.paused and not l.halted
      ) then 'its campaign is paused'
    end
  );
  return next;

  rule := 'room';
  why := null;
  if p_status is not null then
    -- As in call_claim, from the most to the least that it keeps from being dialed.
    why := (
      select w.words
      from (
        values
          (1, public.call_all_left(), 'all PBXs together have no room (call_settings.max_calls)'),
          (2, public.call_pbx_trunks_left(p_status, 1, p_now), 'no trunk of the PBX has room'),
          (3, (v_limits ->> 'pbx')::integer - (
            select count(*) from public.call_queue q
            where q.status in ('dialing', 'talking') and q.outcome is null and q.pbx = p_status ->> 'pbx'
          )::integer, format('all %s places on the PBX are taken', v_limits ->> 'pbx')),
          (4, public.call_user_trunks_left(p_row.user_id, p_status, p_now), 'no trunk that is open to this user has room'),
          (5, public.call_user_limit(p_row.user_id, coalesce((v_limits ->> 'user')::integer, 2147483647)) - (
            select count(*) from public.call_queue q
            where q.user_id = p_row.user_id and q.status in ('dialing', 'talking') and q.outcome is null
          )::integer, 'its user has as many calls in the air as may be'),
          (6, case when p_row.campaign_id is not null then
            public.call_lane_limit(p_row.lane, coalesce((v_limits ->> 'campaign')::integer, 2147483647)) - (
              select count(*) from public.call_queue q
              where q.user_id = p_row.user_id and q.lane = p_row.lane and q.status in ('dialing', 'talking')
                and q.outcome is null
            )::integer
          end, 'its campaign has as many calls in the air as may be')
      ) w (place, room, words)
      where w.room <= 0
      order by w.place
      limit 1
    );
  end if;
  return next;

  -- Put back by hand with the flag still on.
  rule := 'cancel';
  ends := p_row.cancel_requested;
  why := case when ends then 'it was canceled: it ends at its turn' end;
  return next;

  return query
  select r.rule, r.why, r.until, r.why is not null and r.until is null, r.fact
  from public.call_rules(p_row, coalesce(p_status, '{}'), p_now) r
  where r.rule <> 'pause';

  -- No rule: it says how long the wait may be.
  rule := 'turn';
  why := null;
  ends := false;
  select case when count(*) = 0 then 'no row of its campaign comes first'
      else format('%s%s of its campaign come first', case when count(*) >= v_most then 'at least ' else '' end, count(*))
    end
  into fact
  from (
    select from generate_series(p_row.priority + 1, 9) p
    cross join lateral (
      select from public.call_queue q
      where q.user_id = p_row.user_id and q.lane = p_row.lane and q.status = 'queued' and q.priority = p
        and q.not_before <= p_now
      order by q.not_before, q.id
      limit v_most
    ) higher
    union all
    (
      select from public.call_queue q
      where q.user_id = p_row.user_id and q.lane = p_row.lane and q.status = 'queued'
        and q.priority = p_row.priority and q.not_before <= p_now and (q.not_before, q.id) < (p_row.not_before, p_row.id)
      order by q.not_before, q.id
      limit v_most
    )
    limit v_most
  ) ahead;
  return next;
end
$$;

-- What would become of a row in a claim with room for it: `now`, `waits` or `ends`, why, from when on (null: not known), and
-- each step. Of several adapters that one answers which would dial it.
create or replace function public.call_explain_wait(p_row public.call_queue, p_now timestamptz)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_one record;
  v_found jsonb;
  v_first jsonb;
begin
  for v_one in select * from public.call_explain_adapters(p_now) loop
    select jsonb_build_object(
      'adapter', v_one.adapter,
      'pbx', v_one.pbx,
      'trunk', coalesce(p_row.trunk, v_one.status ->> 'trunk'),
      'verdict', case
        when count(s.why) = 0 then 'now'
        when (array_agg(s.ends order by s.place) filter (where s.why is not null))[1] then 'ends'
        else 'waits'
      end,
      'why', (array_agg(s.why order by s.place) filter (where s.why is not null))[1],
      'at', case
        when count(s.why) = 0 then p_now
        when count(s.why) = count(s.until) and not bool_or(s.ends) then max(s.until)
      end,
      'steps', jsonb_agg(
        jsonb_build_object('rule', s.rule, 'passed', s.why is null, 'words', coalesce(s.why, s.fact), 'until', s.until)
        order by s.place
      )
    )
    into v_found
    from (
      select x.*, row_number() over () as place from public.call_explain_steps(p_row, v_one.status, v_one.held, p_now) x
    ) s;
    if v_found ->> 'verdict' = 'now' then
      return v_found;
    end if;
    v_first := coalesce(v_first, v_found);
  end loop;
  return v_first;
end
$$;

-- Name of the user in the app, where the app has such a table.
create or replace function public.call_explain_user(p_user uuid)
returns text
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_name text;
begin
  if pg_catalog.to_regclass('public.users') is not null then
    execute 'select username::text from public.users where id = $1' into v_name using p_user;
  end if;
  return v_name;
exception
  -- Another app's table of this name.
  when undefined_column or undefined_function or datatype_mismatch then
    return null;
end
$$;

create or replace function public.call_explain_row(p_row public.call_queue, p_now timestamptz)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return public.call_sight(p_row) || jsonb_build_object(
    'campaign_id', p_row.campaign_id,
    'campaign_name', (select c.campaign_name from public.campaigns c where c.id = p_row.campaign_id),
    'user_name', public.call_explain_user(p_row.user_id),
    'wait', case when p_row.status = 'queued' then public.call_explain_wait(p_row, p_now) end
  );
end
$$;

-- A call, and what the rules said when they let it through (null: no longer kept).
create or replace function public.call_explain_call(p_call text)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_id constant uuid := p_call::uuid;
  v_dial public.call_dials;
  v_log public.call_logs;
  v_queue public.call_queue;
  v_user uuid;
  v_campaign uuid;
begin
  select * into v_dial from public.call_dials d where d.call_id = v_id;
  select * into v_log from public.call_logs l where l.call_id = p_call limit 1;
  select * into v_queue from public.call_queue q
  where q.id = coalesce(
    v_dial.row_id,
    case when v_log.metadata ->> 'queue_row' ~ '^[0-9]{1,18}$' then (v_log.metadata ->> 'queue_row')::bigint end,
    (select x.id from public.call_queue x where x.call_id = v_id)
  );
  if v_dial.call_id is null and v_log.call_id is null and v_queue.id is null then
    return null;
  end if;
  v_user := coalesce(v_dial.user_id, v_log.user_id, v_queue.user_id);
  v_campaign := coalesce(v_queue.campaign_id, v_log.campaign_id);
  return jsonb_build_object(
    'call_id', p_call,
    'row_id', coalesce(v_dial.row_id, v_queue.id),
    'user_id', v_user,
    'user_name', public.call_explain_user(v_user),
    'campaign_id', v_campaign,
    'campaign_name', (select c.campaign_name from public.campaigns c where c.id = v_campaign),
    'e164', coalesce(v_dial.e164, v_queue.e164),
    'phone_number', coalesce(v_queue.phone_number, v_log.phone_number, v_dial.e164),
    'created_at', v_queue.created_at,
    'claimed_at', coalesce(v_dial.claimed_at, v_log.start_time, v_queue.claimed_at),
    'trunk', coalesce(v_dial.trunk, v_log.metadata ->> 'trunk'),
    'dialed', v_dial.call_id is not null or v_log.metadata ->> 'claim_number' is not null
      or (v_queue.call_id = v_id and v_queue.claim_number is not null),
    'attempt', v_log.metadata ->> 'attempt',
    'status', v_log.status,
    'outcome', v_log.metadata ->> 'outcome',
    'reason', v_log.metadata ->> 'ended_reason',
    'talk_seconds', v_log.metadata ->> 'talk_seconds',
    'cost', (v_log.metadata ->> 'cost') || ' ' || (v_log.metadata ->> 'cost_currency'),
    -- Of the last call of its row, by the rules as they are now.
    'follows', (
      select case
        when v_queue.status = 'queued' then n.fact
        else coalesce('no call: ' || case when v_queue.cancel_requested then 'it was canceled' else n.why end, 'no call')
      end
      from public.call_retry_next(v_queue, v_queue.last_outcome) n
      where v_queue.call_id = v_id and v_queue.last_outcome is not null
        and v_queue.status in ('queued', 'done', 'canceled')
    ),
    'facts', case when v_dial.call_id is not null then v_dial.facts end
  );
end
$$;

-- Why a row waits, why somebody was called: of a row of call_queue (its id), of a call (its id), or of a phone number. Reads
-- only. `kind` null: there is no such row, call or number.
create or replace function public.call_explain_v1(p_what text, p_limit integer default 10)
returns jsonb
language plpgsql stable security definer
set search_path = ''
-- Plans made for an empty queue must not read it whole once it is full.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_limit constant integer := least(greatest(coalesce(p_limit, 10), 1), 100);
  v_what constant text := lower(btrim(coalesce(p_what, '')));
  v_uuid constant text := '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
  v_kind text;
  v_e164 text;
  v_country text;
  v_zone text;
  v_problem text;
  v_ids bigint[] := '{}';
  v_calls text[] := '{}';
  v_one jsonb;
  v_status jsonb;
  v_if public.call_queue;
begin
  if v_what = '' then
    raise exception 'call_explain_v1 needs p_what: the id of a row or of a call, or a phone number'
      using errcode = 'PT400';
  elsif length(v_what) > 100 then
    raise exception 'call_explain_v1: p_what is too long for the id of a row or a call, or a phone number'
      using errcode = 'PT400';
  end if;

  if v_what ~ v_uuid then
    v_one := public.call_explain_call(v_what);
    if v_one is not null then
      v_kind := 'call';
      v_calls := array[v_what];
      v_ids := array_remove(array[(v_one ->> 'row_id')::bigint], null);
    end if;
  else
    -- Digits without a plus can be both: they are the row if there is one.
    if v_what ~ '^[1-9][0-9]{0,17}$' and exists (select from public.call_queue q where q.id = v_what::bigint) then
      v_kind := 'row';
      v_ids := array[v_what::bigint];
      v_calls := array(
        select d.call_id::text from public.call_dials d
        where d.e164 = (select q.e164 from public.call_queue q where q.id = v_what::bigint) and d.row_id = v_what::bigint
        order by d.claimed_at desc
        limit v_limit
      );
      -- Its last call, or the end without one, of which no dial is kept.
      v_calls := v_calls || array(
        select q.call_id::text from public.call_queue q
        where q.id = v_what::bigint and q.call_id is not null and q.claim_number is not null
          and q.call_id::text <> all (v_calls)
      );
    elsif v_what !~ '^[1-9][0-9]{0,5}$' then
      select n.e164, n.country, n.zone, n.problem into v_e164, v_country, v_zone, v_problem
      from public.call_number_v1(btrim(p_what)) n;
      v_kind := case when v_e164 is not null then 'number' end;
      v_ids := array(
        select q.id from public.call_queue q where q.e164 = v_e164 order by q.id desc limit v_limit
      );
      v_calls := array(
        select d.call_id::text from public.call_dials d
        where d.e164 = v_e164
        order by d.claimed_at desc
        limit v_limit
      );
      -- What the rules would say to one more row, of nobody in particular.
      select a.status into v_status from public.call_explain_adapters(v_now) a limit 1;
      v_if := jsonb_populate_record(null::public.call_queue, jsonb_build_object(
        'status', 'queued', 'phone_number', btrim(p_what), 'e164', v_e164, 'country', v_country,
        'zone', v_zone, 'zones', public.call_number_zones(v_e164, v_country, v_zone), 'trunks_tried', '[]'::jsonb,
        'priority', 5, 'attempts', 0, 'faults', '{}'::jsonb, 'variables', '{}'::jsonb,
        'not_before', v_now, 'created_at', v_now, 'expires_at', v_now + interval '24 hours', 'cancel_requested', false,
        'lane', '00000000-0000-0000-0000-000000000000', 'user_id', '00000000-0000-0000-0000-000000000000'
      ));
    end if;
  end if;

  return jsonb_build_object(
    'now', v_now,
    'kind', v_kind,
    'limit', v_limit,
    'problem', case
      when v_kind is not null then null
      when v_what ~ v_uuid then 'there is no call of this id'
      when v_problem is not null then format('there is no row %s, and as a phone number: %s', p_what, v_problem)
      else format('call_queue has no row %s', p_what)
    end,
    'e164', v_e164,
    'rules', case when v_kind = 'number' then (
      select jsonb_agg(jsonb_build_object(
        'rule', r.rule, 'passed', r.why is null, 'words', coalesce(r.why, r.fact), 'until', r.until
      ))
      from public.call_rules(v_if, coalesce(v_status, '{}'), v_now) r
    ) end,
    'rows', (
      select coalesce(jsonb_agg(public.call_explain_row(q, v_now) order by q.id desc), '[]')
      from public.call_queue q
      where q.id = any (v_ids)
    ),
    'calls', (
      select coalesce(jsonb_agg(c.told order by c.told ->> 'claimed_at' desc), '[]')
      from (select public.call_explain_call(x) as told from unnest(v_calls) x) c
    )
  );
exception
  when numeric_value_out_of_range then
    raise exception 'call_explain_v1: % is no id of a row', left(p_what, 30) using errcode = 'PT400';
end
$$;
comment on function public.call_explain_v1 is
  'Why a row waits, or why somebody was called: of the id of a row or of a call, or of a phone number. Changes nothing.';

-- 3. A campaign, before it is dialed -----------------------------------------------------------------------------------

-- What would become of the queued rows of a campaign, a page at a time (`p_after`: what the page before said as `next`), each
-- judged for the instant at which it is due. The groups of a page are few; whoever asks adds them up.
create or replace function public.call_dry_run_v1(p_campaign uuid, p_after jsonb default null, p_limit integer default 200)
returns jsonb
language plpgsql stable security definer
set search_path = ''
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set plan_cache_mode = force_generic_plan
as $$
declare
  -- Some 100 ms of work.
  v_limit constant integer := least(greatest(coalesce(p_limit, 200), 1), 500);
  v_now constant timestamptz := clock_timestamp();
  v_campaign public.campaigns;
  v_adapter record;
  v_limits jsonb;
  v_row public.call_queue;
  v_first public.call_queue;
  v_status jsonb;
  v_one record;
  v_judged record;
  v_trunk text;
  v_at timestamptz;
  v_rows integer := 0;
  v_next jsonb;
  v_verdict text;
  v_found jsonb := '[]';
  v_costs jsonb := '[]';
  v_calls record;
begin
  if p_campaign is null then
    raise exception 'call_dry_run_v1 needs p_campaign' using errcode = 'PT400';
  end if;
  select * into v_campaign from public.campaigns c where c.id = p_campaign;
  if not found then
    raise exception 'there is no campaign %', p_campaign using errcode = 'PT404';
  end if;
  select * into v_adapter from public.call_explain_adapters(v_now) a limit 1;
  v_limits := coalesce(nullif(v_adapter.status -> 'limits', 'null'), '{}');
  -- How full a trunk is at this moment tells nothing of a campaign.
  v_status := coalesce(v_adapter.status, '{}') || '{"_in_air": {}}';
  if jsonb_typeof(v_status -> 'trunks') = 'object' then
    v_status := v_status || jsonb_build_object('trunks', (
      select coalesce(jsonb_object_agg(t.key, t.value - 'room'), '{}') from jsonb_each(v_status -> 'trunks') t
    ));
  end if;

  select count(*) as calls, avg(extract(epoch from c.ended_at - c.claimed_at)) as seconds,
    count(*) filter (where c.talked > 0) as answered, round(avg(c.talked) filter (where c.talked > 0))::integer as talked
  into v_calls
  from (
    select q.ended_at, q.claimed_at, coalesce((q.call_facts ->> 'talk_seconds')::integer, 0) as talked
    from public.call_queue q
    where q.status in ('done', 'canceled') and q.ended_at <= v_now and q.claimed_at <= q.ended_at
    order by q.ended_at desc
    limit 200
  ) c;

  for v_row in
    select q.* from public.call_queue q
    where q.user_id = v_campaign.user_id and q.lane = p_campaign and q.status = 'queued'
      and (q.priority, q.not_before, q.id) > (
        coalesce((p_after ->> 'priority')::integer, -1),
        coalesce((p_after ->> 'not_before')::timestamptz, '-infinity'),
        coalesce((p_after ->> 'id')::bigint, 0)
      )
    order by q.priority, q.not_before, q.id
    limit v_limit
  loop
    v_rows := v_rows + 1;
    if v_rows = 1 then
      v_first := v_row;
    end if;
    v_at := greatest(v_now, v_row.not_before);
    select null::text as rule, null::text as why, null::timestamptz as until into v_judged;
    v_trunk := null;
    if v_row.expires_at <= v_at then
      v_judged.rule := 'time';
      v_judged.why := 'its time will have run out';
    else
      -- A pause of the whole is told once, in `stops`; here is what follows when it is over.
      for v_one in
        select * from public.call_rules(v_row, v_status, v_at) x
        where x.rule <> 'pause' or public.call_stopped('row', v_row.id::text)
      loop
        if v_one.why is not null then
          v_judged.rule := v_one.rule;
          v_judged.why := v_one.why;
          v_judged.until := v_one.until;
          exit;
        elsif v_one.rule = 'trunk' then
          v_trunk := v_one.fact;
        end if;
      end loop;
    end if;
    v_verdict := case
      when v_judged.why is not null and v_judged.until is null then 'ends'
      when v_judged.why is not null then 'waits'
      when v_at > v_now then 'later'
      else 'now'
    end;
    v_found := v_found || jsonb_build_object(
      'verdict', v_verdict,
      'rule', v_judged.rule,
      'why', coalesce(v_judged.why, case when v_verdict = 'later' then coalesce(
        v_row.wait_reason,
        'tried before: ' || coalesce(v_row.last_reason, v_row.last_outcome),
        'not due yet (not_before)'
      ) end),
      'at', coalesce(v_judged.until, v_at),
      'row', v_row.id,
      'trunk', v_trunk
    );
    if v_verdict <> 'ends' and v_row.e164 is not null then
      -- What the call costs if it is answered, and a minute long while nothing is known of that.
      v_costs := v_costs || jsonb_build_array(coalesce(
        public.call_cost_v1(
          coalesce(v_trunk, v_status ->> 'trunk'), v_row.e164, least(coalesce(v_calls.talked, 60), 86400), v_at
        ), '{}'
      ));
    end if;
  end loop;
  if v_rows = v_limit then
    v_next := jsonb_build_object('priority', v_row.priority, 'not_before', v_row.not_before, 'id', v_row.id);
  end if;

  return jsonb_build_object(
    'now', v_now,
    'campaign', jsonb_build_object(
      'id', v_campaign.id, 'name', v_campaign.campaign_name, 'user_id', v_campaign.user_id,
      'user_name', public.call_explain_user(v_campaign.user_id)
    ),
    'pbx', v_adapter.pbx,
    -- What keeps it as a whole from being dialed now.
    'stops', (
      select coalesce(jsonb_agg(x.why), '[]')
      from public.call_explain_steps(v_first, v_adapter.status, v_adapter.held, v_now) x
      where x.rule in ('adapter', 'pause', 'room') and x.why is not null and v_rows > 0
    ),
    'places', least(
      (v_limits ->> 'pbx')::integer,
      public.call_user_limit(v_campaign.user_id, (v_limits ->> 'user')::integer),
      public.call_lane_limit(p_campaign, (v_limits ->> 'campaign')::integer)
    ),
    'calls_per_second', (v_adapter.status #>> '{pace,limit}')::numeric,
    'last_calls', v_calls.calls,
    'last_seconds', v_calls.seconds,
    'last_answered', v_calls.answered,
    'last_talked', v_calls.talked,
    'costs', (
      select coalesce(jsonb_agg(to_jsonb(k) order by k.currency), '[]')
      from (
        select c.currency, count(*) as rows, sum(c.cost) as cost
        from jsonb_to_recordset(v_costs) c (currency text, cost numeric)
        group by c.currency
      ) k
    ),
    'rows', v_rows,
    'next', v_next,
    'groups', (
      select coalesce(jsonb_agg(to_jsonb(g)), '[]')
      from (
        select f.verdict, f.rule, f.why, f.trunk, count(*) as count, min(f."row") as first, min(f.at) as from_at,
          max(f.at) as to_at
        from jsonb_to_recordset(v_found) f (verdict text, rule text, why text, trunk text, "row" bigint, at timestamptz)
        group by 1, 2, 3, 4
      ) g
    )
  );
end
$$;
comment on function public.call_dry_run_v1 is
  'What would become of the queued rows of a campaign, a page at a time: how many, when, through what. Changes nothing.';

-- 4. Who may ---------------------------------------------------------------------------------------------------------------

do $$
declare
  v_function text;
begin
  foreach v_function in array array[
    'call_shadow_v1(jsonb,integer,bigint[])', 'call_explain_adapters(timestamptz)',
    'call_explain_steps(public.call_queue,jsonb,boolean,timestamptz)', 'call_explain_wait(public.call_queue,timestamptz)',
    'call_explain_user(uuid)', 'call_explain_row(public.call_queue,timestamptz)', 'call_explain_call(text)',
    'call_explain_v1(text,integer)', 'call_dry_run_v1(uuid,jsonb,integer)'
  ] loop
    execute format('revoke all on function public.%s from public, anon, authenticated, service_role', v_function);
    if v_function like '%\_v1(%' then
      execute format('grant execute on function public.%s to service_role', v_function);
    end if;
  end loop;
end
$$;

notify pgrst, 'reload schema';
