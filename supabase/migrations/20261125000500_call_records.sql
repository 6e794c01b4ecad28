-- What became of a call: answered, ended, released. Records are fenced by the call id alone, may come twice and in any
-- order, and replace nothing but `unknown`.
--
-- Nothing here ever waits for a row: whoever holds one (the AI handler, a person in the dashboard) may want another one
-- that we hold, and that would be a deadlock. A record whose row is held is taken at the next request.

-- The AI handler's word about an answered call, if it said one. That it met an answering machine stays true whatever it
-- writes afterwards.
create or replace function public.call_handler_word(p_status text, p_noted text)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return case
    when p_noted in ('voicemail', 'no-answer') then p_noted
    when p_status in ('voicemail', 'no-answer', 'completed', 'ended') then p_status
    else p_noted
  end;
end
$$;

-- Metadata of a call_logs row with our facts merged in. What is there and is no object is kept under a key of its own.
create or replace function public.call_merged(p_metadata jsonb, p_facts jsonb)
returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
  return case
    when coalesce(jsonb_typeof(p_metadata), 'null') = 'null' then '{}'::jsonb
    when jsonb_typeof(p_metadata) = 'object' then p_metadata
    else jsonb_build_object('before', p_metadata::text)
  end || jsonb_strip_nulls(coalesce(p_facts, '{}'));
end
$$;

-- Locks the call_logs row of a call. `state`: here, gone (deleted in the app), busy (held by someone else).
create or replace function public.call_log_lock(
  p_call_id uuid, out state text, out id uuid, out status text, out duration integer, out metadata jsonb
)
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  select l.id, l.status, l.duration, l.metadata into id, status, duration, metadata
  from public.call_logs l
  where l.call_id = p_call_id::text
  limit 1
  for update skip locked;
  state := case
    when found then 'here'
    when exists (select from public.call_logs l where l.call_id = p_call_id::text) then 'busy'
    else 'gone'
  end;
end
$$;

-- Ends a queued row for which no (further) call is made. Had it calls before, it ends as its last call did; if none of
-- them left a call_logs row, it gets one now.
create or replace function public.call_end_uncalled(p_row public.call_queue, p_reason text, p_now timestamptz)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  p_row.status := 'done';
  p_row.outcome := coalesce(p_row.last_outcome, 'blocked');
  p_row.ended_reason := case
    when p_row.last_outcome is null then p_reason
    else coalesce(p_row.last_reason || '; ', '') || 'not tried again: ' || p_reason
  end;
  if p_row.attempts = 0 then
    p_row.call_id := gen_random_uuid();
    perform public.call_log_uncalled(p_row);
  end if;
  update public.call_queue
  set status = p_row.status, outcome = p_row.outcome, ended_reason = p_row.ended_reason, call_id = p_row.call_id,
    ended_at = p_now, updated_at = p_now
  where id = p_row.id;
end
$$;

-- After a call left the air: whoever waited for its place may have a turn.
create or replace function public.call_room_made(p_row public.call_queue)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  update public.call_tenants set ready = true, wake_at = null
  where user_id = p_row.user_id and not ready and wake_at is not null;
  update public.call_lanes set ready = true, wake_at = null
  where user_id = p_row.user_id and lane = p_row.lane and not ready and wake_at is not null;
end
$$;

-- The last word about a call: tries and faults are counted, and the row is done or queued again.
create or replace function public.call_settle(
  p_row public.call_queue, p_outcome text, p_reason text, p_facts jsonb, p_now timestamptz
)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_rule public.call_outcomes;
  v_spends boolean;
  v_next record;
  v_again_at timestamptz;
  v_opening timestamptz;
  v_expires_at timestamptz := p_row.expires_at;
  v_faults integer := coalesce((p_row.faults ->> p_outcome)::integer, 0);
  v_faults_before constant jsonb := p_row.faults;
  v_tried text[] := '{}';
begin
  select * into strict v_rule from public.call_outcomes o where o.outcome = p_outcome;
  v_spends := v_rule.spends_attempt
    or (p_outcome = 'canceled' and (p_row.ringing_at is not null or p_row.answered_at is not null));
  if v_spends then
    p_row.attempts := p_row.attempts + 1;
    p_row.spent := p_row.spent || jsonb_build_object(p_outcome, coalesce((p_row.spent ->> p_outcome)::integer, 0) + 1);
  else
    v_faults := v_faults + 1;
    p_row.faults := p_row.faults || jsonb_build_object(p_outcome, v_faults);
    update public.call_dials set quiet = true
    where call_id = p_row.call_id and p_row.ringing_at is null and p_row.answered_at is null;
  end if;

  if not p_row.cancel_requested and not public.call_campaign_gone(p_row.campaign_id) then
    select * into v_next from public.call_retry_next(p_row, p_outcome);
    if v_rule.retried <> 'never' and public.call_fails_over(p_row, p_outcome) then
      -- At once, in its old place before all that wait; what is counted is that no trunk could begin it.
      v_again_at := least(p_row.not_before, p_now);
      v_tried := p_row.trunks_tried || p_row.dialed_trunk;
      p_row.faults := v_faults_before || jsonb_build_object(
        'failover', coalesce((v_faults_before ->> 'failover')::integer, 0) + 1
      );
    elsif v_next.why is null and v_next.person then
      v_again_at := public.call_hours_after(p_row, p_now + make_interval(secs => v_next.seconds));
      if not p_row.expires_fixed then
        v_expires_at := least(v_again_at + interval '24 hours', p_row.created_at + interval '30 days');
      end if;
    elsif v_next.why is null then
      v_again_at := p_now + make_interval(secs => v_next.seconds);
      -- Its clock runs on, but for the hours in which nobody may be called.
      v_opening := public.call_hours_after(p_row, v_again_at);
      if v_opening > v_again_at and not p_row.expires_fixed then
        v_expires_at := least(v_expires_at + (v_opening - v_again_at), p_row.created_at + interval '30 days');
        p_row.clock_at := greatest(v_opening, p_row.clock_at);
      end if;
      v_again_at := v_opening;
    end if;
  end if;

  if v_again_at < v_expires_at then
    if not v_spends then
      -- Such a call is not the person's business while another one follows.
      begin
        delete from public.call_logs where call_id = p_row.call_id::text;
      exception
        when foreign_key_violation then null; -- The app refers to it: it stays.
      end;
    end if;
    update public.call_queue
    set status = 'queued', outcome = null, ended_reason = null, not_before = v_again_at, expires_at = v_expires_at,
      clock_at = p_row.clock_at,
      attempts = p_row.attempts, spent = p_row.spent, faults = p_row.faults, last_outcome = p_outcome,
      last_reason = p_reason,
      trunks_tried = v_tried, call_facts = p_facts, claim_id = null, deadline = null, settle_at = null,
      originated_at = p_row.originated_at, ringing_at = p_row.ringing_at, answered_at = p_row.answered_at,
      ended_at = p_row.ended_at, updated_at = p_now
    where id = p_row.id;
  else
    update public.call_queue
    set status = 'done', outcome = p_outcome, ended_reason = p_reason,
      attempts = p_row.attempts, spent = p_row.spent, faults = p_row.faults, last_outcome = p_outcome,
      last_reason = p_reason, call_facts = p_facts, deadline = null, settle_at = null,
      originated_at = p_row.originated_at, ringing_at = p_row.ringing_at, answered_at = p_row.answered_at,
      ended_at = coalesce(p_row.ended_at, p_now), updated_at = p_now
    where id = p_row.id;
  end if;
end
$$;

-- Writes how a call ended to call_logs. `p_row` is the queue row, or nulls where it was deleted.
-- The AI handler owns what it wrote: its duration stays, its word is understood and kept in handler_status.
create or replace function public.call_log_end(
  p_log_id uuid, p_log_status text, p_log_duration integer, p_log_metadata jsonb,
  p_outcome text, p_status text, p_reason text, p_talk_seconds integer, p_answered boolean, p_facts jsonb,
  p_now timestamptz, out outcome text, out reason text, out facts jsonb
)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_before jsonb := case when jsonb_typeof(p_log_metadata) = 'object' then p_log_metadata else '{}' end;
  -- Not null, which before the first outcome would make every `not v_ours` below false.
  v_ours boolean := coalesce(v_before ->> 'outcome' = 'unknown', false);
  v_noted text := v_before ->> 'handler_status';
  v_word text := public.call_handler_word(p_log_status, v_noted);
  v_status text;
begin
  outcome := p_outcome;
  reason := p_reason;
  if p_log_status in ('initiated', 'queued', 'ringing', 'in-progress', 'connected') then
    v_status := p_status;
  elsif p_outcome = 'unknown' and p_log_status = 'answered' then
    v_status := p_log_status;
  elsif not p_answered or v_ours or p_log_status = 'answered' then
    v_status := p_status;
    if not p_answered and not v_ours and p_log_status is distinct from p_status then
      v_noted := coalesce(v_noted, p_log_status);
    end if;
  else
    v_status := p_log_status;
    v_noted := coalesce(v_noted, p_log_status);
  end if;
  if p_answered and v_word is not null then
    v_noted := v_word;
    if v_word in ('voicemail', 'no-answer') then
      v_status := 'voicemail';
      if p_outcome in ('answered', 'ai_failed') then
        outcome := 'voicemail';
        reason := 'an answering machine took the call (told by the AI)';
      end if;
    else
      v_status := 'answered';
    end if;
  end if;
  facts := p_facts || jsonb_strip_nulls(
    jsonb_build_object('outcome', outcome, 'ended_reason', reason, 'handler_status', v_noted)
  );
  update public.call_logs
  set status = v_status,
    duration = case
      when v_ours and p_log_duration = 0 then p_talk_seconds
      else coalesce(p_log_duration, p_talk_seconds)
    end,
    metadata = public.call_merged(p_log_metadata, facts),
    updated_at = p_now
  where id = p_log_id;
end
$$;

-- Ends one call: call_logs is right at once. An answered call is then held for ten seconds, in which the AI handler may
-- still have its say; any other one is settled. `done` false: the call_logs row is held by someone, nothing was written.
create or replace function public.call_end(
  p_row public.call_queue, p_outcome text, p_status text, p_reason text, p_talk_seconds integer, p_facts jsonb,
  p_now timestamptz, out done boolean
)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_answered boolean := p_row.answered_at is not null or p_outcome in ('answered', 'voicemail', 'ai_failed');
  v_live boolean := p_row.status in ('dialing', 'talking');
  v_log record;
  v_end record;
begin
  select * into v_log from public.call_log_lock(p_row.call_id);
  done := v_log.state <> 'busy';
  if not done then
    return;
  end if;
  if v_log.state = 'here' then
    select * into v_end from public.call_log_end(
      v_log.id, v_log.status, v_log.duration, v_log.metadata, p_outcome, p_status, p_reason, p_talk_seconds,
      v_answered, p_facts, p_now
    );
  else
    select p_outcome as outcome, p_reason as reason,
      p_facts || jsonb_build_object('outcome', p_outcome, 'ended_reason', p_reason) as facts
    into v_end;
  end if;

  if v_live then
    perform public.call_room_made(p_row);
  end if;
  perform public.call_dial_talked(p_row.call_id, p_talk_seconds);
  if v_live and v_answered and p_outcome <> 'unknown' then
    -- The outcome as seen; the handler's word found above is read again, with the last one, when the hold is over.
    update public.call_queue
    set status = 'talking', outcome = p_outcome, ended_reason = p_reason, settle_at = p_now + interval '10 seconds',
      call_facts = v_end.facts, deadline = null, originated_at = p_row.originated_at,
      ringing_at = p_row.ringing_at, answered_at = p_row.answered_at, ended_at = coalesce(p_row.ended_at, p_now),
      updated_at = p_now
    where id = p_row.id;
  elsif p_row.status = 'canceled' then
    update public.call_queue
    set attempts = p_row.attempts, spent = p_row.spent, last_outcome = v_end.outcome, last_reason = v_end.reason,
      call_facts = v_end.facts, updated_at = p_now
    where id = p_row.id;
  else
    perform public.call_settle(p_row, v_end.outcome, v_end.reason, v_end.facts, p_now);
  end if;
end
$$;

-- The hold of an answered call is over: the handler's word decides once. False: its call_logs row is held by someone.
create or replace function public.call_settle_held(p_row public.call_queue, p_now timestamptz)
returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_log record;
  v_word text;
  v_outcome text := p_row.outcome;
  v_reason text := p_row.ended_reason;
  v_status text;
  v_facts jsonb := coalesce(p_row.call_facts, '{}');
begin
  select * into v_log from public.call_log_lock(p_row.call_id);
  if v_log.state = 'busy' then
    return false;
  end if;
  v_word := public.call_handler_word(v_log.status, v_facts ->> 'handler_status');
  v_status := v_log.status;
  if v_word in ('voicemail', 'no-answer') then
    v_status := 'voicemail';
    if v_outcome in ('answered', 'ai_failed') then
      v_outcome := 'voicemail';
      v_reason := 'an answering machine took the call (told by the AI)';
    end if;
  elsif v_word in ('completed', 'ended') then
    v_status := 'answered';
  end if;
  v_facts := v_facts || jsonb_strip_nulls(
    jsonb_build_object('outcome', v_outcome, 'ended_reason', v_reason, 'handler_status', v_word)
  );
  if v_log.state = 'here' then
    -- Merged once more: some handlers replace the whole of metadata at the end of a call.
    update public.call_logs
    set status = v_status, metadata = public.call_merged(v_log.metadata, v_facts), updated_at = p_now
    where id = v_log.id;
  end if;
  perform public.call_settle(p_row, v_outcome, v_reason, v_facts, p_now);
  return true;
end
$$;

-- Puts a claimed row back: the caller knows that this call id rang nobody.
create or replace function public.call_release(p_row public.call_queue, p_now timestamptz)
returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_log record;
begin
  select * into v_log from public.call_log_lock(p_row.call_id);
  if v_log.state = 'busy' then
    return false;
  end if;
  begin
    delete from public.call_logs where id = v_log.id;
  exception
    when foreign_key_violation then
      update public.call_logs
      set status = 'failed', duration = coalesce(duration, 0), updated_at = p_now,
        metadata = public.call_merged(v_log.metadata, '{"outcome": "canceled", "ended_reason": "the call was not made"}')
      where id = v_log.id;
  end;
  perform public.call_room_made(p_row);
  perform public.call_dial_undone(p_row.call_id);
  update public.call_queue
  set status = 'queued',
    faults = p_row.faults || jsonb_build_object('released', coalesce((p_row.faults ->> 'released')::integer, 0) + 1),
    call_id = null, claim_number = null, claim_id = null, adapter = null, incarnation = null,
    pbx = null, pbx_boot = null, dialed_trunk = null, way = null, claimed_at = null, originated_at = null,
    deadline = null, updated_at = p_now
  where id = p_row.id;
  if p_row.cancel_requested then
    -- It was canceled meanwhile; queued, it ends by that.
    update public.call_queue set cancel_requested = true where id = p_row.id;
  end if;
  return true;
end
$$;

-- One record of the adapter's outbox. `done` false: come again, a row is held by someone; `note`: words for the log.
-- Raises P0001 when it can never be taken.
create or replace function public.call_record(
  p_adapter uuid, p_record jsonb, p_now timestamptz, out done boolean, out note text
)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_call uuid := (p_record ->> 'call_id')::uuid;
  v_kind text := p_record ->> 'kind';
  v_outcome text := p_record ->> 'outcome';
  v_status text := p_record ->> 'log_status';
  v_reason text;
  v_talk integer := greatest(coalesce((p_record ->> 'talk_seconds')::integer, 0), 0);
  v_originated timestamptz := p_record ->> 'originated_at';
  v_ringing timestamptz := p_record ->> 'ringing_at';
  v_answered timestamptz := p_record ->> 'answered_at';
  v_ended timestamptz := p_record ->> 'ended_at';
  v_row public.call_queue;
  v_found boolean;
  v_known text;
  v_log record;
  v_facts jsonb;
  v_price jsonb;
begin
  if v_call is null then
    raise exception 'a record must name its call_id';
  elsif v_kind is null or v_kind not in ('answered', 'outcome', 'release') then
    raise exception 'a record cannot be of kind "%"', v_kind;
  end if;
  done := true;
  select * into v_row from public.call_queue q where q.call_id = v_call for update skip locked;
  v_found := found;
  if not v_found and exists (select from public.call_queue q where q.call_id = v_call) then
    done := false;
    note := format('call %s: its queue row is held by another session', v_call);
    return;
  end if;
  -- What is known of this very call: of a live row its noted outcome, else that of the row's last call.
  v_known := case when v_row.status in ('dialing', 'talking') then v_row.outcome else v_row.last_outcome end;

  if v_kind = 'answered' then
    if v_found and v_known is not null then
      return;
    end if;
    select * into v_log from public.call_log_lock(v_call);
    if v_log.state = 'busy' then
      done := false;
      note := format('call %s: its call_logs row is held by another session', v_call);
      return;
    end if;
    if v_found then
      update public.call_queue
      set status = 'talking', originated_at = coalesce(v_row.originated_at, v_originated),
        ringing_at = coalesce(v_row.ringing_at, v_ringing), answered_at = coalesce(v_row.answered_at, v_answered, p_now),
        updated_at = p_now
      where id = v_row.id and status in ('dialing', 'talking');
    end if;
    if v_log.state = 'here' and v_log.status in ('initiated', 'queued', 'ringing', 'in-progress', 'connected') then
      update public.call_logs
      set status = 'answered', updated_at = p_now,
        metadata = public.call_merged(v_log.metadata, jsonb_build_object(
          'originated_at', v_originated::text, 'ringing_at', v_ringing::text, 'answered_at', v_answered::text
        ))
      where id = v_log.id;
    elsif not v_found and v_log.state = 'gone' then
      note := format('call %s is not known: its rows were deleted', v_call);
    end if;
    return;
  end if;

  if v_kind = 'release' then
    if not v_found then
      note := format('call %s is not known: released before, or its rows were deleted', v_call);
    elsif v_known is not null then
      note := format('call %s has ended as %s and was not released', v_call, v_known);
    elsif v_row.status not in ('dialing', 'talking') then
      note := format('call %s is not live and was not released', v_call);
    elsif v_row.adapter is distinct from p_adapter then
      raise exception 'call % was claimed by another adapter, only that one may release it', v_call;
    elsif v_row.status = 'talking' then
      raise exception 'call % was answered and cannot be released', v_call;
    elsif p_record ->> 'cause' in ('not_sent', 'never_executed') then
      done := public.call_release(v_row, p_now);
    elsif p_record ->> 'cause' = 'pbx_error' then
      v_reason := coalesce(p_record ->> 'reason', 'the PBX refused to place the call');
      v_row.ended_at := p_now;
      done := public.call_end(
        v_row, 'pbx_error', 'failed', v_reason, 0,
        jsonb_build_object('attempt', (v_row.attempts + 1)::text, 'talk_seconds', '0'), p_now
      );
    else
      raise exception 'a call cannot be released for cause "%"', p_record ->> 'cause';
    end if;
    if not done then
      note := format('call %s: its call_logs row is held by another session', v_call);
    end if;
    return;
  end if;

  select o.words into v_reason from public.call_outcomes o where o.outcome = v_outcome;
  if not found then
    raise exception 'outcome "%" is not known', v_outcome;
  elsif v_status is null or v_status not in ('answered', 'no_answered', 'no_answer', 'voicemail', 'failed') then
    raise exception 'log_status cannot be "%"', v_status;
  end if;
  v_reason := coalesce(p_record ->> 'reason', v_reason);
  v_facts := jsonb_strip_nulls(jsonb_build_object(
    'hangup_cause', p_record ->> 'hangup_cause',
    'sip_code', p_record ->> 'sip_code',
    'trunk', p_record ->> 'trunk',
    'talk_seconds', v_talk::text,
    'originated_at', v_originated::text,
    'ringing_at', v_ringing::text,
    'answered_at', v_answered::text,
    'ended_at', v_ended::text,
    'estimated', case when (p_record ->> 'estimated')::boolean then 'true' end
  ));

  if not v_found then
    -- An earlier call of a row that has moved on, or the queue row was deleted: only the log is left to be told.
    select * into v_log from public.call_log_lock(v_call);
    if v_log.state = 'busy' then
      done := false;
      note := format('call %s: its call_logs row is held by another session', v_call);
    elsif v_log.state = 'gone' then
      note := format('call %s is not known: its rows were deleted', v_call);
    elsif jsonb_typeof(v_log.metadata) is distinct from 'object'
      or coalesce(v_log.metadata ->> 'outcome', 'unknown') = 'unknown' then
      v_price := public.call_price(
        v_call, v_outcome, v_answered is not null or v_outcome in ('answered', 'voicemail', 'ai_failed'), v_talk,
        p_record ->> 'trunk', p_now
      );
      perform public.call_log_end(
        v_log.id, v_log.status, v_log.duration, v_log.metadata, v_outcome, v_status, v_reason, v_talk,
        v_answered is not null or v_outcome in ('answered', 'voicemail', 'ai_failed'),
        v_facts || public.call_price_facts(v_price), p_now
      );
      perform public.call_price_keep(v_price);
      -- Who claimed it is forgotten: the setting of the adapter that tells it decides.
      perform public.call_charge(
        v_call, (select l.user_id from public.call_logs l where l.id = v_log.id),
        public.call_billing_step(), v_outcome, v_talk, p_now
      );
      perform public.call_dial_talked(v_call, v_talk);
      note := format('call %s has no queue row any more; call_logs was told', v_call);
    end if;
    return;
  end if;

  if v_known is not null and (v_known <> 'unknown' or v_outcome = 'unknown') then
    return;
  end if;
  if v_known = 'unknown' then
    -- Evidence at last: what followed from not knowing is taken back first, a queued retry included.
    v_row.attempts := greatest(v_row.attempts - 1, 0);
    v_row.spent := v_row.spent
      || jsonb_build_object('unknown', greatest(coalesce((v_row.spent ->> 'unknown')::integer, 0) - 1, 0));
  end if;
  v_facts := v_facts || jsonb_build_object('attempt', (v_row.attempts + 1)::text);
  v_row.originated_at := coalesce(v_originated, v_row.originated_at);
  v_row.ringing_at := coalesce(v_ringing, v_row.ringing_at);
  v_row.answered_at := coalesce(v_answered, v_row.answered_at);
  v_row.ended_at := coalesce(v_ended, p_now);
  v_price := public.call_price(
    v_call, v_outcome, v_row.answered_at is not null or v_outcome in ('answered', 'voicemail', 'ai_failed'), v_talk,
    p_record ->> 'trunk', p_now
  );
  v_facts := v_facts || public.call_price_facts(v_price);
  done := public.call_end(v_row, v_outcome, v_status, v_reason, v_talk, v_facts, p_now);
  if done then
    perform public.call_price_keep(v_price);
  end if;
  if done and v_known is null then
    perform public.call_trunk_heard(v_row, v_outcome, coalesce((p_record ->> 'watched')::boolean, true), p_now);
  end if;
  if not done then
    note := format('call %s: its call_logs row is held by another session', v_call);
  end if;
end
$$;
