-- What the adapter calls. Versioned by name, so that an old adapter goes on while a new one arrives. All times are those
-- of the database.

-- One session at a time decides anything: without this lock 16 claimers with a limit of 10 had 116 calls in the air.
create or replace function public.call_lock()
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(20261125, 0);
end
$$;

-- Highest claim number ever given; it goes back only with the whole database. That alone does not show a restore: what is
-- claimed afterwards raises it again, and a sequence comes out of a recovery up to 32 numbers ahead, out of a dump as
-- new as the end of the dump. So each adapter's row keeps what that adapter was told (call_sync_v1).
create or replace function public.call_highest_claim()
returns bigint
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  return (
    select case when n.is_called then n.last_value else 0 end from public.call_claim_number n
  );
end
$$;

-- A call in the air as it is told to an adapter that did not place it, or in an earlier run.
create or replace function public.call_opened(p_row public.call_queue)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'row', public.call_claimed(p_row),
    'incarnation', p_row.incarnation,
    'originated_at', p_row.originated_at,
    'answered_at', p_row.answered_at,
    'cancel_requested', p_row.cancel_requested
  );
end
$$;

-- Calls in the air as an adapter finds them at its start (`p_pbx` null: those it claimed) or at a take-over (those that
-- others claimed through this PBX).
create or replace function public.call_open(p_adapter uuid, p_pbx text)
returns jsonb
language sql volatile security definer
set search_path = ''
as $$
  select coalesce(jsonb_agg(public.call_opened(q) order by q.claim_number), '[]')
  from public.call_queue q
  where q.status in ('dialing', 'talking') and q.outcome is null
    and case when p_pbx is null then q.adapter = p_adapter else q.pbx = p_pbx and q.adapter <> p_adapter end
$$;

create or replace function public.call_register_v1(
  p_adapter uuid, p_expected bigint, p_nonce uuid, p_pbx text, p_info jsonb
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set lock_timeout = '5s'
as $$
declare
  v_known public.call_adapters;
  v_now timestamptz;
begin
  if p_adapter is null or p_expected is null or p_expected < 0 or p_nonce is null then
    raise exception 'call_register_v1 needs p_adapter, p_expected (0 or more) and p_nonce';
  end if;
  perform public.call_lock();
  v_now := clock_timestamp();
  select * into v_known from public.call_adapters a where a.adapter = p_adapter;
  -- Accepted: the run after the stored one, the first of an unknown adapter, or the same try whose answer was lost. Once
  -- its process has made a request its answer was heard, and the same try comes from a copy of the folder, or late.
  if coalesce(v_known.incarnation, 0) <> p_expected
    and (
      (v_known.incarnation, v_known.nonce) is distinct from (p_expected + 1, p_nonce)
      or (v_known.request is not null and v_known.info ->> 'process' <> p_info ->> 'process')
    ) then
    return jsonb_build_object('accepted', false, 'incarnation', coalesce(v_known.incarnation, 0));
  end if;
  insert into public.call_adapters as a (
    adapter, incarnation, nonce, pbx, info, registered_at, seen_at, steady_since, told
  )
  values (
    p_adapter, p_expected + 1, p_nonce, p_pbx, coalesce(p_info, '{}'), v_now, v_now, v_now, public.call_highest_claim()
  )
  on conflict (adapter) do update
  set incarnation = excluded.incarnation, nonce = excluded.nonce, pbx = excluded.pbx, info = excluded.info,
    registered_at = excluded.registered_at, seen_at = excluded.seen_at, steady_since = excluded.steady_since,
    ready_since = null,
    -- `told` stays: whether the database forgot something shows in the first request. And the same try executed once
    -- more must not let an old request of this run claim.
    request = case when a.incarnation = excluded.incarnation then a.request end;
  return jsonb_build_object(
    'accepted', true,
    'incarnation', p_expected + 1,
    'now', v_now,
    'claim_number', public.call_highest_claim(),
    'open', public.call_open(p_adapter, null)
  );
end
$$;
comment on function public.call_register_v1 is 'Registers the next run of an adapter by compare-and-set.';

-- Heartbeat and lease: who holds the PBX, and since when this adapter has been connected to both sides without a gap.
create or replace function public.call_heartbeat(
  p_adapter uuid, p_status jsonb, p_now timestamptz,
  out holder boolean, out lease_until timestamptz, out epoch bigint, out taken boolean, out steady boolean
)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_pbx text := p_status ->> 'pbx';
  v_ready boolean := coalesce((p_status ->> 'ready')::boolean, false);
  -- A minute: a restart of the database or of the adapter is shorter, and a PBX does not stand idle for long.
  v_lease interval := make_interval(secs => coalesce((p_status ->> 'lease_seconds')::integer, 60));
  v_self public.call_adapters;
  v_held public.call_pbx;
begin
  holder := false;
  taken := false;
  select * into strict v_self from public.call_adapters a where a.adapter = p_adapter;
  -- A missing heartbeat or two: this adapter, or the database, was away, and the others may have been as well.
  if v_self.seen_at is null or v_self.seen_at < p_now - v_lease / 3 then
    v_self.steady_since := p_now;
    v_self.ready_since := null;
  end if;
  if not v_ready then
    v_self.ready_since := null;
  elsif v_self.pbx is distinct from v_pbx then
    v_self.ready_since := p_now;
  else
    v_self.ready_since := coalesce(v_self.ready_since, p_now);
  end if;
  steady := v_self.steady_since <= p_now - v_lease;
  update public.call_adapters
  set seen_at = p_now, steady_since = v_self.steady_since, ready_since = v_self.ready_since, status = p_status,
    pbx = coalesce(v_pbx, pbx), request = greatest(request, (p_status ->> 'request')::bigint)
  where adapter = p_adapter;
  if v_pbx is null then
    return;
  end if;

  select * into v_held from public.call_pbx x where x.pbx = v_pbx;
  if not found then
    if v_ready then
      insert into public.call_pbx as x (pbx, holder, lease_until, trunk, boot, taken_at)
      values (v_pbx, p_adapter, p_now + v_lease, p_status ->> 'trunk', p_status ->> 'pbx_boot', p_now)
      returning x.holder = p_adapter, x.lease_until, x.epoch into holder, lease_until, epoch;
    end if;
    return;
  end if;
  if v_held.holder = p_adapter then
    holder := true;
  elsif v_ready and v_held.holder is null then
    holder := true;
  elsif v_ready and v_held.lease_until <= p_now and v_self.ready_since <= p_now - v_lease then
    holder := true;
    taken := true;
  end if;
  lease_until := v_held.lease_until;
  epoch := v_held.epoch;
  if holder then
    update public.call_pbx as x
    set holder = p_adapter, lease_until = p_now + v_lease, trunk = case when p_status ? 'trunk' then p_status ->> 'trunk' else x.trunk end,
      boot = coalesce(p_status ->> 'pbx_boot', x.boot),
      epoch = case when x.holder is distinct from p_adapter then x.epoch + 1 else x.epoch end,
      former = case when x.holder is distinct from p_adapter then x.holder else x.former end,
      taken_at = case when x.holder is distinct from p_adapter then p_now else x.taken_at end
    where x.pbx = v_pbx
    returning x.lease_until, x.epoch into lease_until, epoch;
    -- Handed over once more to a holder that shows, by the epoch it knows, that the answer was lost.
    taken := taken or coalesce(v_held.former is not null and (p_status ->> 'epoch')::bigint < epoch, false);
  end if;
end
$$;

create or replace function public.call_sync_v1(
  p_adapter uuid, p_incarnation bigint, p_records jsonb, p_status jsonb, p_room integer, p_claim_id uuid
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
-- Sessions live long, and statistics lag behind a bulk load: a plan made for an empty queue must not read it whole once
-- it is full. Every question has an index that answers it in its order; these leave the planner no other way.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
-- One plan for all values: with these left out there is little to choose from, and to plan each question anew for its values
-- took two fifths of a claim.
set plan_cache_mode = force_generic_plan
-- Whoever waits longer than this for the others comes again; its request would have been given up anyway.
set lock_timeout = '5s'
as $$
declare
  v_now timestamptz;
  v_status jsonb := coalesce(nullif(p_status, 'null'), '{}');
  v_self public.call_adapters;
  v_record jsonb;
  v_taken record;
  v_recorded jsonb := '[]';
  v_refused jsonb := '[]';
  v_notes jsonb := '[]';
  v_rows jsonb := '[]';
  v_more boolean := false;
  v_fenced boolean;
  v_overtaken boolean;
  v_restored boolean;
  v_number bigint;
  v_beat record;
  v_claim record;
  v_region text;
  v_unbilled integer;
  v_trunks_version bigint;
begin
  if p_adapter is null or p_incarnation is null then
    raise exception 'call_sync_v1 needs p_adapter and p_incarnation';
  elsif jsonb_typeof(coalesce(p_records, '[]')) not in ('array', 'null') or jsonb_typeof(v_status) <> 'object' then
    raise exception 'call_sync_v1 needs p_records as a list and p_status as an object';
  end if;
  perform public.call_lock();
  v_now := clock_timestamp();
  -- What is written from here on is no edit by hand (call_at_work).
  perform set_config('mikopbx_adapter.at_work', 'on', true);
  -- Settings of this adapter that count where a call ends (call_minutes).
  perform set_config('mikopbx_adapter.billing_step', coalesce(case
    when v_status ->> 'billing' = 'minutes' then greatest(coalesce((v_status ->> 'billing_step')::integer, 1), 1)
  end::text, ''), true);
  perform set_config('mikopbx_adapter.log_rows', coalesce(v_status ->> 'log_rows', ''), true);

  -- 1. What happened. One record that cannot be taken harms no other.
  for v_record in
    select r from jsonb_array_elements(coalesce(nullif(p_records, 'null'), '[]')) r
  loop
    begin
      select * into v_taken from public.call_record(p_adapter, v_record, v_now);
      if v_taken.done then
        v_recorded := v_recorded || jsonb_build_array(v_record -> 'seq');
      end if;
      if v_taken.note is not null then
        v_notes := v_notes || to_jsonb(v_taken.note);
      end if;
    exception
      when serialization_failure or deadlock_detected or lock_not_available then
        v_notes := v_notes || to_jsonb(format('record %s waits: %s', v_record ->> 'seq', sqlerrm));
      when others then
        v_refused := v_refused || jsonb_build_object(
          'seq', v_record -> 'seq', 'error', format('%s (%s)', sqlerrm, sqlstate)
        );
    end;
  end loop;

  -- 2. Is it still this run that counts?
  select * into v_self from public.call_adapters a where a.adapter = p_adapter;
  -- Two processes may have the number of one run: a folder that was copied after a registration was begun has its nonce.
  -- Of such the last to register before the first request counts.
  v_fenced := v_self.incarnation is distinct from p_incarnation
    or coalesce(v_self.info ->> 'process' <> v_status ->> 'process', false);
  if v_fenced then
    perform public.call_campaigns_told(v_now);
    perform set_config('mikopbx_adapter.at_work', 'off', true);
    return jsonb_build_object(
      'now', v_now, 'fenced', true, 'holder', false, 'lease_until', null, 'epoch', null,
      'claim_number', public.call_highest_claim(), 'recorded', v_recorded, 'refused', v_refused,
      'notes', v_notes || to_jsonb(format(
        'run %s of this adapter is not the current one (%s)', p_incarnation,
        coalesce(v_self.incarnation::text, 'not registered')
      )),
      'rows', '[]'::jsonb, 'more', false, 'commands', '[]'::jsonb, 'takeover', '[]'::jsonb
    );
  end if;
  -- Executed after a newer request of the same run, so its asker has given it up: nobody would know of what it claims.
  v_overtaken := coalesce((v_status ->> 'request')::bigint <= v_self.request, false);
  -- It remembers a claim number that nobody here remembers to have told it: the database was restored to an earlier time,
  -- whatever was claimed since. Rows that were dialed meanwhile wait again, so it gets none.
  v_restored := coalesce((v_status ->> 'seen')::bigint > v_self.told, false);
  select * into v_beat from public.call_heartbeat(p_adapter, v_status, v_now);
  select s.default_region, s.unbilled, s.trunks_version into v_region, v_unbilled, v_trunks_version from public.call_settings s;
  if v_status ->> 'region' <> v_region then
    v_notes := v_notes || to_jsonb(format(
      'the default region is %s here and %s there: set it to the same in call_settings.default_region',
      v_region, v_status ->> 'region'
    ));
  end if;

  if v_status ->> 'billing' = 'off' and v_unbilled >= 5 then
    v_notes := v_notes || to_jsonb(
      'BILLING=off leaves charging to the AI handler, but the last 5 answered calls changed no balance of their users: '
      'it seems that nobody charges. Let the AI handler charge, or set BILLING=minutes'::text
    );
  end if;

  -- 3. The sweep. What fails here is tried again with the next request.
  begin
    v_notes := v_notes || public.call_housekeep(v_beat.steady, v_now);
  exception
    when others then
      v_notes := v_notes || to_jsonb(format('the sweep failed: %s (%s)', sqlerrm, sqlstate));
  end;

  -- 4. The claim. The same claim id again gives the same rows: a lost answer costs nothing.
  if v_restored then
    null;
  elsif p_claim_id is not null and v_self.claim_id = p_claim_id then
    select coalesce(jsonb_agg(public.call_claimed(q) order by q.claim_number), '[]') into v_rows
    from public.call_queue q
    where q.status in ('dialing', 'talking') and q.outcome is null
      and q.claim_id = p_claim_id and q.adapter = p_adapter;
  elsif p_claim_id is not null and p_room > 0 and not v_overtaken and v_beat.holder
    and coalesce((v_status ->> 'ready')::boolean, false) then
    begin
      select * into v_claim
      from public.call_claim(p_adapter, p_incarnation, v_status, p_room, p_claim_id, v_now);
      v_rows := v_claim.claimed;
      v_more := v_claim.more;
      v_notes := v_notes || v_claim.notes;
      if v_rows <> '[]' then
        update public.call_adapters set claim_id = p_claim_id where adapter = p_adapter;
      end if;
    exception
      when others then
        v_rows := '[]';
        v_more := false;
        v_notes := v_notes || to_jsonb(format('the claim failed, nothing was claimed: %s (%s)', sqlerrm, sqlstate));
    end;
  end if;

  if v_beat.holder then
    v_notes := v_notes || public.call_trunks_unfit(v_status ->> 'pbx');
  end if;
  v_number := public.call_highest_claim();
  if not v_restored then
    update public.call_adapters set told = v_number where adapter = p_adapter and (told is null or told < v_number);
  end if;
  -- Last, as it holds campaigns: nothing may be waited for any more.
  perform public.call_campaigns_told(v_now);
  perform set_config('mikopbx_adapter.at_work', 'off', true);
  return jsonb_build_object(
    'now', v_now,
    'fenced', false,
    'holder', v_beat.holder,
    'lease_until', v_beat.lease_until,
    'epoch', v_beat.epoch,
    'claim_number', v_number,
    'told', v_self.told,
    'recorded', v_recorded,
    'refused', v_refused,
    'notes', v_notes,
    'trunks_version', v_trunks_version,
    'trunks', case
      when (v_status ->> 'trunks_version')::bigint is distinct from v_trunks_version
        then public.call_ways(v_status ->> 'pbx')
    end,
    'rows', v_rows,
    'more', v_more,
    'commands', (
      select coalesce(
        jsonb_agg(jsonb_build_object('kind', 'hangup', 'call_id', q.call_id) order by q.claim_number), '[]'
      )
      from public.call_queue q
      where q.status in ('dialing', 'talking') and q.outcome is null and q.cancel_requested
        and (q.adapter = p_adapter or (v_beat.holder and q.pbx = v_status ->> 'pbx'))
    ),
    'takeover', case when v_beat.taken then public.call_open(p_adapter, v_status ->> 'pbx') else '[]'::jsonb end
  );
end
$$;
comment on function public.call_sync_v1 is
  'One request of an adapter: records what happened, renews its lease, sweeps, claims rows to dial.';

-- Cancels one row: while queued it ends at once, a live call is hung up by its adapter. Returns the status it has now.
create or replace function public.call_cancel_v1(p_row bigint, p_reason text default null)
returns text
language plpgsql volatile security definer
set search_path = ''
set enable_seqscan = off
set lock_timeout = '5s'
as $$
declare
  v_status text;
begin
  update public.call_queue
  set cancel_requested = true, cancel_reason = coalesce(left(p_reason, 500), cancel_reason)
  where id = p_row and status in ('queued', 'dialing', 'talking')
  returning status into v_status;
  if not found then
    select q.status into v_status from public.call_queue q where q.id = p_row;
    if not found then
      raise exception 'call_queue has no row %', p_row using errcode = 'PT404';
    end if;
  end if;
  return v_status;
end
$$;
comment on function public.call_cancel_v1 is 'Cancels a row of call_queue; returns its status.';
