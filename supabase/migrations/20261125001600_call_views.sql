-- What a person sees in the dashboard: call_queue and call_logs explained column by column, and four views with plain
-- names. Each is read with the rights of whoever asks (security_invoker), and only the secret key and the owner may.

comment on table public.call_queue is
  'One row is one wish to reach one person. Insert user_id and phone_number; the adapter does the rest. To read it at a '
  'look: calls_live, calls_today, queue_overview, queue_problems.';
comment on column public.call_queue.id is 'Number of the row.';
comment on column public.call_queue.claimed_at is 'When an adapter took it for its last call.';
comment on column public.call_queue.originated_at is 'When the PBX was told to dial.';
comment on column public.call_queue.ringing_at is 'When the phone began to ring; null if it never did.';
comment on column public.call_queue.answered_at is 'When it was answered; null if it was not.';
comment on column public.call_queue.ended_at is 'When the last call ended, or the row without a call.';
comment on column public.call_queue.created_at is 'When it was inserted.';
comment on column public.call_queue.updated_at is 'When anything in it last changed.';

-- The app's own words about its table stay, where it has any.
do $$
declare
  v_name text;
  v_words text;
begin
  for v_name, v_words in
    select * from (values
      ('user_id', 'Owner of the call in the app.'),
      ('call_id', 'Id of the call: the same as call_queue.call_id, the channel id on the PBX and CALL_ID of the AI.'),
      ('agent_id', 'Which AI agent spoke; without one the prompt id.'),
      ('caller_number', 'Number of the person that was called, as it is dialed within its country.'),
      ('phone_number', 'The same number.'),
      ('start_time', 'When the call began.'),
      ('duration', 'Seconds of talk: 0 for a call that was not answered, null while it lives.'),
      ('status', 'initiated, answered, then how it ended: docs/reference/outcomes.md lists the words.'),
      ('campaign_id', 'Campaign of the call, if any.'),
      ('contact_id', 'Contact of the app, if there is one.'),
      ('prompt_id', 'Prompt that the AI used.'),
      ('customer_name', 'Name of the person, from the queue row.'),
      ('idsale', 'From the queue row.'),
      ('metadata', 'Facts of the call: outcome, ended_reason, talk_seconds, attempt, queue_row and what the AI adds.'),
      ('captured_data', 'What the AI noted during the talk.'),
      ('stage_reached', 'How far the talk came; written by the AI.'),
      ('details', 'Notes; written by the AI.'),
      ('end_of_call_report', 'Report of the AI.'),
      ('transcript', 'What was said; written by the AI.'),
      ('recording_url', 'Where the recording is; written by the AI.'),
      ('cost', 'What the AI says that the call cost.'),
      ('retry_count', 'How many calls to this person came before.'),
      ('is_retry', 'True if the person was called before.')
    ) w
  loop
    if exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = 'public.call_logs'::regclass and a.attname = v_name and not a.attisdropped
        and pg_catalog.col_description(a.attrelid, a.attnum) is null
    ) then
      execute format('comment on column public.call_logs.%I is %L', v_name, v_words);
    end if;
  end loop;
  if pg_catalog.obj_description('public.call_logs'::regclass, 'pg_class') is null then
    comment on table public.call_logs is
      'One row is one call, or one queue row that ended without a call. Written by the adapter and by the AI.';
  end if;
end
$$;

-- Rows that ended a call and wait for the next one: few, and wanted by day.
create index if not exists call_queue_again_idx on public.call_queue (ended_at)
  where status = 'queued' and last_outcome is not null;

-- Midnight where the numbers are, or in the session's zone for a region of several. Called in a condition it is known
-- when the query is planned, so that a day is read by the index and not by the whole table.
create or replace function public.call_today_v1()
returns timestamptz
language sql stable security definer
set search_path = ''
as $$
  select pg_catalog.date_trunc('day', now(), coalesce(
    (select r.zone from public.call_settings s join public.call_regions r on r.region = s.default_region),
    current_setting('TimeZone')
  ))
$$;
comment on function public.call_today_v1 is 'When today began, by the clock of the default region.';

-- 1. Calls that live now --------------------------------------------------------------------------------------------

create or replace view public.calls_live with (security_invoker = true) as
select
  q.id,
  case
    when q.outcome is not null then 'ended, waiting for the last word of the AI'
    when q.cancel_requested then 'being hung up'
    when q.status = 'talking' then 'talking'
    when q.ringing_at is not null then 'ringing'
    when q.originated_at is not null then 'dialing'
    else 'about to be dialed'
  end as state,
  q.phone_number,
  q.customer_name,
  c.campaign_name,
  q.attempts + 1 as attempt,
  coalesce(q.answered_at, q.ringing_at, q.originated_at, q.claimed_at) as since,
  q.deadline < now() as overdue,
  q.pbx,
  q.user_id,
  q.campaign_id,
  q.call_id
from public.call_queue q
left join public.campaigns c on c.id = q.campaign_id
-- The number is said so that the index of live numbers is taken: it is as long as there are calls.
where q.status in ('dialing', 'talking') and q.e164 is not null;
comment on view public.calls_live is 'Calls that live at this moment.';
comment on column public.calls_live.id is 'Row of call_queue. To hang up: select call_cancel_v1(id).';
comment on column public.calls_live.since is 'When this state began, as far as it was told.';
comment on column public.calls_live.overdue is 'True if nobody has said how it ended and its time is up.';

-- 2. Today ----------------------------------------------------------------------------------------------------------

create or replace view public.calls_today with (security_invoker = true) as
select
  d.id,
  case
    when d.status in ('dialing', 'talking') then 'live'
    when d.status = 'queued' then d.last_outcome || ', will be tried again'
    else d.outcome
  end as result,
  case d.status when 'queued' then d.last_reason else d.ended_reason end as reason,
  d.phone_number,
  d.customer_name,
  c.campaign_name,
  (d.call_facts ->> 'talk_seconds')::numeric as talk_seconds,
  d.attempts,
  coalesce(d.ended_at, d.claimed_at) as at,
  d.user_id,
  d.campaign_id,
  d.call_id
from (
  select * from public.call_queue q
  where q.status in ('dialing', 'talking') and q.e164 is not null
  union all
  select * from public.call_queue q
  where q.status = 'queued' and q.last_outcome is not null and q.ended_at >= public.call_today_v1()
  union all
  select * from public.call_queue q
  where q.status in ('done', 'canceled') and q.ended_at >= public.call_today_v1()
) d
left join public.campaigns c on c.id = d.campaign_id;
comment on view public.calls_today is
  'Everybody who was called today (or is being called now), and rows that ended today without a call.';
comment on column public.calls_today.result is 'live, or how the last call ended: the words of call_outcomes.';
comment on column public.calls_today.reason is 'The same in words.';
comment on column public.calls_today.at is 'When the last call ended; of a live one when it was taken.';

-- 3. What waits where -----------------------------------------------------------------------------------------------

-- Lanes are found by leaping through the index from one to the next, and of each at most 1000 rows are counted: the
-- answer costs by campaigns, not by rows.
create or replace view public.queue_overview with (security_invoker = true) as
with recursive waiting as (
  (
    select q.user_id, q.lane from public.call_queue q
    where q.status = 'queued'
    order by q.user_id, q.lane
    limit 1
  )
  union all
  select n.user_id, n.lane
  from waiting w
  cross join lateral (
    select q.user_id, q.lane from public.call_queue q
    where q.status = 'queued' and (q.user_id, q.lane) > (w.user_id, w.lane)
    order by q.user_id, q.lane
    limit 1
  ) n
), lanes as (
  select w.user_id, w.lane from waiting w
  union
  select q.user_id, q.lane from public.call_queue q
  where q.status in ('dialing', 'talking') and q.outcome is null
)
select
  n.user_id,
  nullif(n.lane, '00000000-0000-0000-0000-000000000000') as campaign_id,
  c.campaign_name,
  case
    when exists (select from public.call_stops s where s.kind = 'all' and s.ended is null) then 'everything is paused'
    when coalesce(t.paused, false) then 'the user is paused'
    when coalesce(l.paused, false) or c.status = 'paused' then 'paused'
    when r.due > 0 then 'waiting for its turn'
    when i.live > 0 then 'calling'
    else 'waiting for its time'
  end as state,
  r.waiting,
  r.due,
  i.live,
  r.next_at
from lanes n
left join public.campaigns c on c.id = n.lane
left join public.call_tenants t on t.user_id = n.user_id
left join public.call_lanes l on l.user_id = n.user_id and l.lane = n.lane
cross join lateral (
  select count(*) as waiting, count(*) filter (where s.not_before <= now()) as due, min(s.not_before) as next_at
  from (
    select q.not_before from public.call_queue q
    where q.user_id = n.user_id and q.lane = n.lane and q.status = 'queued'
    limit 1000
  ) s
) r
cross join lateral (
  select count(*) as live from public.call_queue q
  where q.user_id = n.user_id and q.lane = n.lane and q.status in ('dialing', 'talking') and q.outcome is null
) i;
comment on view public.queue_overview is 'One line for each campaign (and each user without one) that has rows to dial or in a call.';
comment on column public.queue_overview.waiting is 'Rows that wait; 1000 means 1000 or more.';
comment on column public.queue_overview.due is 'Of these, such as could be dialed now.';
comment on column public.queue_overview.live is 'Calls at this moment.';
comment on column public.queue_overview.next_at is 'The earliest time of those that were counted.';

-- 4. Why a row waits, or was not dialed -----------------------------------------------------------------------------

create or replace view public.queue_problems with (security_invoker = true) as
select
  q.id,
  'waits' as kind,
  case
    when q.expires_at <= now() then 'its time ran out: it ends as soon as an adapter looks'
    -- Asked for each row only while there is a pause.
    when exists (select from public.call_stops s where s.ended is null)
      and public.call_why_stopped_v1(q.id, q.user_id, q.campaign_id, q.trunk) is not null
      then public.call_why_stopped_v1(q.id, q.user_id, q.campaign_id, q.trunk)
    when exists (select from public.call_tenants t where t.user_id = q.user_id and t.paused)
      then 'this user is paused (call_tenants.paused)'
    when exists (select from public.call_lanes l where l.user_id = q.user_id and l.lane = q.lane and l.paused)
      or c.status = 'paused' then 'its campaign is paused'
    when q.e164 is null then 'its number is not known to be one: it ends at its turn'
    -- What a claim put off, it may put off again and again.
    when q.not_before > now() and q.wait_reason is not null then q.wait_reason
    when q.not_before > now() and q.last_outcome is not null
      then 'tried before: ' || coalesce(q.last_reason, q.last_outcome) || '; its next try is not due yet'
    when q.not_before > now() then 'it is not due yet (not_before)'
    when not exists (select from public.call_adapters a where a.seen_at > now() - interval '1 minute')
      then 'no adapter is running: none was heard of for a minute'
    when not exists (
      select from public.call_adapters a
      where a.seen_at > now() - interval '1 minute' and a.status ->> 'ready' = 'true'
    ) then 'the adapter does not dial at the moment' || coalesce((
      select ': ' || (a.status ->> 'problem') from public.call_adapters a
      where a.seen_at > now() - interval '1 minute'
      order by a.seen_at desc
      limit 1
    ), '')
    else coalesce(public.call_why_waits_v1(q.id), 'waits for its turn')
  end as reason,
  q.phone_number,
  q.customer_name,
  c.campaign_name,
  q.not_before as due_at,
  q.expires_at,
  q.attempts,
  q.user_id,
  q.campaign_id
from (
  -- Those first that have waited longest, by an index: a page of them costs the same behind a long history.
  select * from public.call_queue w where w.status = 'queued' order by w.expires_at
) q
left join public.campaigns c on c.id = q.campaign_id
union all
select
  q.id,
  q.outcome,
  coalesce(q.ended_reason, o.words),
  q.phone_number,
  q.customer_name,
  c.campaign_name,
  q.ended_at,
  q.expires_at,
  q.attempts,
  q.user_id,
  q.campaign_id
from public.call_queue q
join public.call_outcomes o on o.outcome = q.outcome and o.verdict <> 'callee' and o.outcome <> 'canceled'
left join public.campaigns c on c.id = q.campaign_id
where q.status in ('done', 'canceled') and q.ended_at > now() - interval '7 days';
comment on view public.queue_problems is
  'Why a row waits, and which of the last seven days ended for another reason than the person: look with where id = ….';
comment on column public.queue_problems.kind is 'waits, or the outcome: blocked, rejected, congestion, unknown and so on.';
comment on column public.queue_problems.reason is 'Why, in words.';
comment on column public.queue_problems.due_at is 'When it may be dialed, or when it ended.';

-- 5. Who may look: the secret key, and the dashboard as owner of it all ----------------------------------------------

do $$
declare
  v_view text;
begin
  foreach v_view in array array['calls_live', 'calls_today', 'queue_overview', 'queue_problems'] loop
    execute format('revoke all on public.%I from public, anon, authenticated, service_role', v_view);
    execute format('grant select on public.%I to service_role', v_view);
  end loop;
end
$$;
revoke all on function public.call_today_v1() from public, anon, authenticated, service_role;
grant execute on function public.call_today_v1() to service_role;

-- PostgREST shall see the views at once.
notify pgrst, 'reload schema';
