-- What happens when rows come in or are edited by hand: checked, given their number, told to the turn tables, and the
-- doorbell rings.

-- Contact and prompt of a call_logs row must exist, or its foreign keys refuse it. A row that is just being deleted
-- counts as gone: waiting for the outcome here could end in a deadlock.
create or replace function public.call_known_contact(p_contact uuid)
returns uuid
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_id uuid := p_contact;
begin
  if p_contact is not null and pg_catalog.to_regclass('public.contacts') is not null then
    select c.id into v_id from public.contacts c where c.id = p_contact for key share skip locked;
  end if;
  return v_id;
end
$$;

create or replace function public.call_known_prompt(p_prompt uuid)
returns uuid
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_id uuid := p_prompt;
begin
  if p_prompt is not null and pg_catalog.to_regclass('public.prompts') is not null then
    select p.id into v_id from public.prompts p where p.id = p_prompt for key share skip locked;
  end if;
  return v_id;
end
$$;

-- Inserts the call_logs row of one call. The inserter's metadata comes first, so that it cannot hide ours; values that
-- crash the app's pages (an object where they print a text) are turned into text.
create or replace function public.call_log_insert(
  p_row public.call_queue, p_status text, p_duration integer, p_agent text, p_facts jsonb, p_now timestamptz
)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_number text := coalesce(public.call_local_form(p_row.e164), left(p_row.phone_number, 64));
  v_prompt uuid := public.call_known_prompt(p_row.prompt_id);
  v_metadata jsonb := '{}';
begin
  if jsonb_typeof(p_row.metadata) = 'object' and p_row.metadata <> '{}' then
    select coalesce(jsonb_object_agg(
      key,
      case
        when key in ('ended_reason', 'error', 'error_details', 'twilio_error', 'transcript', 'stage_reached',
                     'recording_url', 'recordingUrl') and jsonb_typeof(value) <> 'string'
          then to_jsonb(value #>> '{}')
        else value
      end
    ), '{}')
    into v_metadata
    from jsonb_each(p_row.metadata)
    where not (key = 'vapi_cost' and jsonb_typeof(value) <> 'number') and value <> 'null';
  end if;
  insert into public.call_logs (
    user_id, call_id, agent_id, caller_number, phone_number, start_time, duration, status, campaign_id, contact_id,
    prompt_id, customer_name, idsale, metadata, retry_count, is_retry, created_at, updated_at
  )
  values (
    p_row.user_id,
    p_row.call_id::text,
    coalesce(p_row.agent_id, p_row.prompt_id::text, p_agent, 'mikopbx-adapter'),
    v_number,
    v_number,
    p_now,
    p_duration,
    p_status,
    p_row.campaign_id,
    public.call_known_contact(p_row.contact_id),
    v_prompt,
    p_row.customer_name,
    p_row.idsale,
    v_metadata || jsonb_build_object('adapter', 'mikopbx-adapter', 'queue_row', p_row.id::text) || p_facts,
    p_row.attempts,
    p_row.attempts > 0,
    p_now,
    p_now
  );
end
$$;

-- The call_logs row of a queue row that ends without any call; its call id is never sent to a PBX. The queue row says
-- itself why it ended: that its twin cannot be written must neither refuse a batch nor keep the row from ending.
create or replace function public.call_log_uncalled(p_row public.call_queue)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  -- Whoever deleted the campaign does not want to see its calls come back as failed ones.
  if public.call_campaign_gone(p_row.campaign_id) then
    return;
  end if;
  perform public.call_log_insert(
    p_row, 'failed', 0, null,
    jsonb_build_object('outcome', p_row.outcome, 'ended_reason', p_row.ended_reason, 'attempt', '0'),
    clock_timestamp()
  );
exception
  when data_exception or integrity_constraint_violation or raise_exception
    or syntax_error_or_access_rule_violation then
    raise warning 'no call_logs row for call_queue row %: %', p_row.id, sqlerrm;
end
$$;

-- Sets e164, country and zone; returns what is wrong with the number.
create or replace function public.call_fill_number(inout p_row public.call_queue, out problem text)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_number record;
begin
  select * into v_number from public.call_number_v1(p_row.phone_number);
  p_row.e164 := v_number.e164;
  p_row.country := v_number.country;
  p_row.zone := v_number.zone;
  problem := v_number.problem;
end
$$;

-- True if an adapter can read these variables out of an answer. Lists in lists and numbers without end are fine JSON to
-- the database, but no parser reads them all, and the answer they stand in is every row's.
create or replace function public.call_variables_fit(p_variables jsonb)
returns boolean
language plpgsql immutable
set search_path = ''
as $$
begin
  -- Nearly all have none.
  if p_variables = '{}' then
    return true;
  end if;
  return not exists (
    select from jsonb_each(case when jsonb_typeof(p_variables) = 'object' then p_variables else '{"x": []}' end) v
    where jsonb_typeof(v.value) in ('object', 'array')
      or (jsonb_typeof(v.value) = 'number' and length(v.value::text) > 100)
  );
end
$$;

-- What is wrong with a row beside its number, in words; null if nothing. Bounds are wide: they keep out what no call
-- could carry, not what is unusual.
create or replace function public.call_row_problem(p_row public.call_queue)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return case
    when p_row.status in ('dialing', 'talking') then 'status ' || p_row.status || ' is set by the adapter only'
    when length(p_row.customer_name) > 1000 then 'customer_name is too long (1000 characters at most)'
    when length(p_row.agent_id) > 200 then 'agent_id is too long (200 characters at most)'
    when length(p_row.idsale) > 200 then 'idsale is too long (200 characters at most)'
    when p_row.caller_id !~ '^[^[:cntrl:]]{1,80}$' then 'caller_id is not a number or name of up to 80 characters'
    when p_row.trunk !~ '^[0-9A-Za-z_.-]{1,80}$' then 'trunk is not the id of a provider'
    when length(p_row.idempotency_key) > 200 then 'idempotency_key is too long (200 characters at most)'
    when p_row.ring_seconds not between 5 and 120 then 'ring_seconds must be 5 to 120'
    when p_row.max_attempts not between 1 and 100 then 'max_attempts must be 1 to 100'
    when p_row.retry_seconds not between 0 and 2592000 then 'retry_seconds must be 0 to 2592000'
    when jsonb_typeof(p_row.variables) <> 'object' then 'variables is not an object'
    when length(p_row.variables::text) > 8000 then 'variables is too long (8000 characters at most)'
    when not public.call_variables_fit(p_row.variables)
      then 'each of variables must be a text, a number of at most 100 digits, true, false or null'
    when jsonb_typeof(p_row.metadata) <> 'object' then 'metadata is not an object'
    when length(p_row.metadata::text) > 100000 then 'metadata is too long (100000 characters at most)'
    when not isfinite(p_row.not_before) then 'not_before is no date'
    when not isfinite(p_row.expires_at) then 'expires_at is no date'
    when p_row.not_before > p_row.created_at + interval '30 days' then 'not_before is more than 30 days ahead'
    when p_row.expires_at <= greatest(p_row.not_before, p_row.created_at)
      then 'expires_at is not later than not_before'
  end;
end
$$;

-- True if this user has a row with this key already. The lock makes two sessions that insert the same key at once take
-- turns; the second then sees the row of the first.
create or replace function public.call_key_taken(p_user uuid, p_key text)
returns boolean
language plpgsql volatile security definer
set search_path = ''
-- A plan made while the table is empty must not scan it once it is full.
set enable_seqscan = off
as $$
begin
  perform pg_advisory_xact_lock(20261125, hashtext(p_user::text));
  return exists (
    select from public.call_queue q where q.user_id = p_user and q.idempotency_key = p_key
  );
end
$$;

create or replace function public.call_queue_before_insert()
returns trigger
language plpgsql security definer
set search_path = ''
-- As in call_sync_v1: what is asked of a row has one good plan, and is asked of each of thousands.
set plan_cache_mode = force_generic_plan
as $$
declare
  v_problem text;
  v_number_problem text;
begin
  if new.user_id is null then
    raise exception 'call_queue.user_id is missing' using errcode = 'not_null_violation', column = 'user_id';
  elsif new.phone_number is null then
    raise exception 'call_queue.phone_number is missing' using errcode = 'not_null_violation', column = 'phone_number';
  end if;
  -- Clients that insert many rows at once send null for what a row does not name: null means the default.
  new.status := coalesce(new.status, 'queued');
  new.priority := coalesce(new.priority, 5);
  if new.status not in ('queued', 'dialing', 'talking', 'done', 'canceled') then
    raise exception 'call_queue.status cannot be "%": insert rows as queued', new.status
      using errcode = 'check_violation', column = 'status';
  elsif new.priority not between 0 and 9 then
    raise exception 'call_queue.priority must be 0 to 9, not %', new.priority
      using errcode = 'check_violation', column = 'priority';
  end if;
  if length(new.idempotency_key) <= 200 and public.call_key_taken(new.user_id, new.idempotency_key) then
    return null;
  end if;

  new.created_at := clock_timestamp();
  new.updated_at := new.created_at;
  new.not_before := coalesce(new.not_before, new.created_at);
  new.expires_fixed := new.expires_at is not null;
  if isfinite(new.not_before) then
    new.expires_at := coalesce(
      new.expires_at, greatest(new.not_before, new.created_at) + interval '24 hours'
    );
  else
    new.expires_at := coalesce(new.expires_at, new.created_at);
  end if;
  new.max_attempts := coalesce(new.max_attempts, 1);
  new.retry_seconds := coalesce(new.retry_seconds, 1800);
  new.variables := coalesce(new.variables, '{}');
  new.metadata := coalesce(new.metadata, '{}');
  -- These are not for the inserter to set.
  new.attempts := 0;
  new.faults := '{}';
  new.cancel_requested := coalesce(new.cancel_requested, false);
  new.call_id := null;
  new.claim_number := null;
  new.claim_id := null;
  new.adapter := null;
  new.incarnation := null;
  new.pbx := null;
  new.pbx_boot := null;
  new.claimed_at := null;
  new.originated_at := null;
  new.ringing_at := null;
  new.answered_at := null;
  new.deadline := null;
  new.settle_at := null;
  new.call_facts := null;
  new.last_outcome := null;
  new.last_reason := null;
  new.handed_to := null;

  v_problem := public.call_row_problem(new);
  select f.problem, (f.p_row).e164, (f.p_row).country, (f.p_row).zone
  into v_number_problem, new.e164, new.country, new.zone
  from public.call_fill_number(new) f;

  if new.status in ('done', 'canceled') then
    -- A row of the past, kept for the record; nobody is called.
    new.outcome := coalesce(new.outcome, case new.status when 'canceled' then 'canceled' else 'blocked' end);
    new.ended_reason := coalesce(new.ended_reason, 'inserted as ' || new.status);
    new.ended_at := coalesce(new.ended_at, new.created_at);
    new.expires_at := least(new.expires_at, new.created_at + interval '30 days');
    return new;
  end if;
  new.outcome := null;
  new.ended_reason := null;
  new.ended_at := null;

  v_problem := coalesce(v_number_problem, v_problem);
  if v_problem is not null then
    new.status := 'done';
    new.outcome := 'blocked';
    new.ended_reason := v_problem;
  elsif new.cancel_requested then
    new.status := 'canceled';
    new.outcome := 'canceled';
    new.ended_reason := coalesce(new.cancel_reason, 'canceled before it was dialed');
  end if;
  if new.outcome is not null then
    new.call_id := gen_random_uuid();
    new.ended_at := new.created_at;
    new.idempotency_key := case when length(new.idempotency_key) <= 200 then new.idempotency_key end;
  end if;
  new.expires_at := least(new.expires_at, new.created_at + interval '30 days');
  return new;
end
$$;

-- Edits by hand: a canceled row ends at once while it is queued, a new number is read anew. A live call is the adapter's:
-- queued by hand it would be dialed beside itself, and done by hand its person would be free for another call.
create or replace function public.call_queue_before_update()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_problem text;
begin
  if old.status in ('dialing', 'talking') and new.status = 'canceled' then
    new.status := old.status;
    new.cancel_requested := true;
  elsif old.status in ('dialing', 'talking') and new.status <> old.status and not public.call_at_work() then
    raise exception 'row % of call_queue is in a call: its status is set by the adapter; set cancel_requested to hang up',
      old.id using errcode = 'check_violation', column = 'status';
  end if;
  if not public.call_at_work() then
    new.updated_at := clock_timestamp();
    -- Who sets the time means it: no PBX takes the row before.
    if new.not_before <> old.not_before then
      new.handed_to := null;
    end if;
  end if;
  if old.status <> 'queued' then
    if new.status = 'queued' then
      -- It may have been edited while its last call lived. Without a number it ends at the next claim.
      select (f.p_row).e164, (f.p_row).country, (f.p_row).zone
      into new.e164, new.country, new.zone
      from public.call_fill_number(new) f;
    end if;
    return new;
  end if;
  if new.status = 'canceled' or (new.status = 'queued' and new.cancel_requested) then
    new.status := 'canceled';
    new.outcome := 'canceled';
    new.ended_reason := coalesce(new.cancel_reason, 'canceled before it was dialed');
  elsif new.status = 'queued' and new.phone_number is distinct from old.phone_number then
    select f.problem, (f.p_row).e164, (f.p_row).country, (f.p_row).zone
    into v_problem, new.e164, new.country, new.zone
    from public.call_fill_number(new) f;
    if v_problem is null then
      return new;
    end if;
    new.status := 'done';
    new.outcome := coalesce(new.last_outcome, 'blocked');
    new.ended_reason := case
      when new.last_outcome is null then v_problem
      else coalesce(new.last_reason || '; ', '') || 'not tried again: ' || v_problem
    end;
  else
    return new;
  end if;
  new.ended_at := new.updated_at;
  if new.attempts = 0 then
    new.call_id := gen_random_uuid();
    perform public.call_log_uncalled(new);
  end if;
  return new;
end
$$;

-- True inside call_sync_v1, which says so by a setting of its own.
create or replace function public.call_at_work()
returns boolean
language plpgsql stable
set search_path = ''
as $$
begin
  return coalesce(current_setting('mikopbx_adapter.at_work', true), '') = 'on';
end
$$;

-- Rings the doorbell: at most every 100 ms, because Realtime goes deaf for a minute when it gets more than 100 messages
-- a second. Never waits, never fails; the adapter looks by itself every few seconds anyway.
create or replace function public.call_ring_bell()
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform from public.call_bell b
  where b.rung_at < clock_timestamp() - interval '100 milliseconds'
  for update skip locked;
  if not found then
    return;
  end if;
  update public.call_bell set rung_at = clock_timestamp() where only_row;
  if pg_catalog.to_regprocedure('realtime.send(jsonb,text,text,boolean)') is not null then
    perform realtime.send('{}'::jsonb, 'rows', 'call_queue', true);
  end if;
exception
  when others then
    raise warning 'the doorbell of call_queue did not ring: %', sqlerrm;
end
$$;

create or replace function public.call_queue_after_insert()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_row public.call_queue;
begin
  insert into public.call_arrivals (user_id, lane, due_at)
  select a.user_id, a.lane, min(a.not_before)
  from added a
  where a.status = 'queued'
  group by a.user_id, a.lane;

  for v_row in select * from added a where a.call_id is not null order by a.id loop
    perform public.call_log_uncalled(v_row);
  end loop;

  if exists (select from added a where a.status = 'queued' and a.not_before <= clock_timestamp()) then
    perform public.call_ring_bell();
  end if;
  return null;
end
$$;

-- A row that is queued again (retry, release, an edit by hand) tells its lane.
create or replace function public.call_queue_after_requeue()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into public.call_arrivals (user_id, lane, due_at) values (new.user_id, new.lane, new.not_before);
  return null;
end
$$;

create or replace function public.call_queue_after_cancel()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  perform public.call_ring_bell();
  return null;
end
$$;

create or replace trigger call_queue_before_insert
  before insert on public.call_queue
  for each row execute function public.call_queue_before_insert();

-- Only for edits by hand: our own functions set updated_at themselves, and a claim must not pay for it.
create or replace trigger call_queue_before_update
  before update on public.call_queue
  for each row
  when (
    new.updated_at = old.updated_at
    or (old.status <> 'queued' and new.status = 'queued')
    or (old.status in ('dialing', 'talking') and new.status not in ('dialing', 'talking'))
    or (
      old.status = 'queued'
      and (new.cancel_requested or new.status = 'canceled' or new.phone_number <> old.phone_number)
    )
  )
  execute function public.call_queue_before_update();

create or replace trigger call_queue_after_insert
  after insert on public.call_queue
  referencing new table as added
  for each statement execute function public.call_queue_after_insert();

create or replace trigger call_queue_after_requeue
  after update on public.call_queue
  for each row
  when (
    new.status = 'queued'
    and (old.status, old.not_before, old.user_id, old.lane)
      is distinct from (new.status, new.not_before, new.user_id, new.lane)
  )
  execute function public.call_queue_after_requeue();

create or replace trigger call_queue_after_cancel
  after update on public.call_queue
  for each row
  when (new.cancel_requested and not old.cancel_requested and new.status in ('dialing', 'talking'))
  execute function public.call_queue_after_cancel();
