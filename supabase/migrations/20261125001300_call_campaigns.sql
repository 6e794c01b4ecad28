-- Campaigns of the app: their counters, when one is completed, what a pause and a deletion mean for the queue. And the
-- clocks of queued rows, which stand while their campaign or their user is paused.
--
-- Nobody waits for a row of `campaigns` here, and nobody who changes one waits for us: the app's edit leaves a note, and so
-- does each row of the queue that ends. The notes of a request are added up and written once, at its very end and in its
-- own transaction (call_campaigns_told), so that a campaign of 10,000 is no row that all calls queue up for.

alter table public.call_lanes add column if not exists halted boolean not null default false;
comment on column public.call_lanes.halted is 'Paused because its campaign is; ends with that pause.';
create index if not exists call_lanes_halted_idx on public.call_lanes (user_id, served) where halted;

alter table public.call_queue add column if not exists clock_at timestamptz;
comment on column public.call_queue.clock_at is 'Pauses up to then are counted into expires_at.';

-- Rows of a campaign that are not final, and the numbers that were answered in it. Both say that there is a campaign, so
-- that no question about users and lanes is ever answered through them. Answered is what call_logs shows as answered.
create index if not exists call_queue_campaign_open_idx
  on public.call_queue (campaign_id) where campaign_id is not null and status in ('queued', 'dialing', 'talking');
create index if not exists call_queue_campaign_answered_idx
  on public.call_queue (campaign_id, e164)
  where campaign_id is not null and status = 'done' and outcome in ('answered', 'ai_failed');

create table if not exists public.call_campaign_news (
  id bigint generated always as identity primary key,
  campaign_id uuid not null,
  answered integer not null default 0,
  unanswered integer not null default 0,
  retries integer not null default 0,
  ended boolean not null default false
);
create index if not exists call_campaign_news_campaign_idx on public.call_campaign_news (campaign_id);
comment on table public.call_campaign_news is 'What happened to campaigns and is not written to them yet; empty most of the time.';
comment on column public.call_campaign_news.retries is 'Highest attempt so far - 1.';
comment on column public.call_campaign_news.ended is 'A row ended: it may have been the last one.';

create table if not exists public.call_pauses (
  id bigint generated always as identity primary key,
  user_id uuid,
  campaign_id uuid,
  began timestamptz not null,
  ended timestamptz,
  check (num_nonnulls(user_id, campaign_id) = 1)
);
create index if not exists call_pauses_user_idx on public.call_pauses (user_id, began) where user_id is not null;
create index if not exists call_pauses_campaign_idx
  on public.call_pauses (campaign_id, began) where campaign_id is not null;
comment on table public.call_pauses is
  'When a campaign, or a user in call_tenants, was paused: for so long the clocks of their queued rows stand.';

create table if not exists public.call_campaigns_gone (
  campaign_id uuid primary key,
  gone_at timestamptz not null default now()
);
comment on table public.call_campaigns_gone is 'Deleted campaigns: what is queued for them is canceled, whenever it came.';

-- What is paused already.
insert into public.call_pauses (campaign_id, began)
select c.id, clock_timestamp() from public.campaigns c
where c.status = 'paused'
  and not exists (select from public.call_pauses p where p.campaign_id = c.id and p.ended is null);
insert into public.call_pauses (user_id, began)
select t.user_id, clock_timestamp() from public.call_tenants t
where t.paused and not exists (select from public.call_pauses p where p.user_id = t.user_id and p.ended is null);

-- In PL/pgSQL, as a claim asks for each lane: it keeps its plans.
create or replace function public.call_campaign_gone(p_campaign uuid)
returns boolean
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return exists (select from public.call_campaigns_gone g where g.campaign_id = p_campaign);
end
$$;

-- True if nothing of this campaign may be dialed now. What no campaign stands behind may.
create or replace function public.call_campaign_stands(p_campaign uuid)
returns boolean
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return exists (select from public.campaigns c where c.id = p_campaign and c.status = 'paused')
    or exists (select from public.call_campaigns_gone g where g.campaign_id = p_campaign)
    or public.call_stopped('campaign', p_campaign::text);
end
$$;

-- True if this number was answered in a call of this campaign: then it is not tried again.
create or replace function public.call_number_answered(p_campaign uuid, p_e164 text)
returns boolean
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return exists (
    select from public.call_queue q
    where q.campaign_id = p_campaign and q.e164 = p_e164
      and q.status = 'done' and q.outcome in ('answered', 'ai_failed')
  );
end
$$;

-- 1. The clock ---------------------------------------------------------------------------------------------------------

-- Asked when a queued row has come to its end by the clock: if its campaign or its user was paused meanwhile, or its
-- calling hours were shut, it gets that time back, and the answer is true. An instant that the inserter gave stands, and 30 days after the insert everything ends.
create or replace function public.call_clock_stood(p_row public.call_queue, p_now timestamptz)
returns boolean
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_latest constant timestamptz := p_row.created_at + interval '30 days';
  -- A row that is paused is looked at again after an hour at the earliest: paused a minute before its end it
  -- would be looked at every minute. If the pause ends within that hour, the row ends later by what is left of it.
  v_step constant interval := '1 hour';
  -- The clock runs for a day (call_queue_before_insert, call_settle).
  v_from timestamptz := greatest(p_row.expires_at - interval '24 hours', p_row.clock_at);
  v_expires_at timestamptz := p_row.expires_at;
  v_counted timestamptz := v_from;
  v_standing boolean := false;
  v_pause record;
begin
  if p_row.expires_fixed then
    return false;
  end if;
  for v_pause in
    select greatest(p.began, v_from) as began, p.ended
    from public.call_pauses p
    where p.campaign_id = p_row.campaign_id and p.began < p_now and (p.ended is null or p.ended > v_from)
    union all
    select greatest(p.began, v_from), p.ended
    from public.call_pauses p
    where p.user_id = p_row.user_id and p.began < p_now and (p.ended is null or p.ended > v_from)
    union all
    select h.began, h.ended
    from public.call_hours_shut(p_row.user_id, p_row.campaign_id, p_row.zones, v_from, p_now) h
    union all
    select s.began, s.ended from public.call_stops_past(p_row, v_from, p_now) s
    order by began
  loop
    -- Where both were paused at once, that time counts once.
    v_pause.began := greatest(v_pause.began, v_counted);
    exit when v_pause.began >= v_expires_at;
    v_standing := v_standing or v_pause.ended is null;
    v_pause.ended := coalesce(v_pause.ended, p_now);
    if v_pause.ended > v_pause.began then
      v_expires_at := v_expires_at + (v_pause.ended - v_pause.began);
      v_counted := v_pause.ended;
    end if;
  end loop;
  -- Hours may be counted up to an opening that is still to come.
  v_from := greatest(p_now, v_counted);
  if v_standing and v_expires_at < p_now + v_step then
    v_from := p_now + (p_now + v_step - v_expires_at);
    v_expires_at := p_now + v_step;
  end if;
  v_expires_at := least(v_expires_at, v_latest);
  if v_expires_at <= p_now then
    return false;
  end if;
  update public.call_queue set expires_at = v_expires_at, clock_at = v_from, updated_at = p_now where id = p_row.id;
  return true;
end
$$;

-- 2. What happens to campaigns -----------------------------------------------------------------------------------------

-- The app pauses, resumes, deletes. It must never wait for us nor fail because of us.
create or replace function public.call_campaign_changed()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if tg_op = 'DELETE' then
    insert into public.call_campaigns_gone (campaign_id) values (old.id) on conflict do nothing;
    insert into public.call_campaign_news (campaign_id) values (old.id);
    perform public.call_ring_bell();
    return null;
  elsif tg_op = 'INSERT' then
    delete from public.call_campaigns_gone where campaign_id = new.id;
  end if;
  if new.status = 'paused' then
    insert into public.call_pauses (campaign_id, began) values (new.id, clock_timestamp());
  elsif tg_op = 'UPDATE' then
    update public.call_pauses set ended = clock_timestamp() where campaign_id = new.id and ended is null;
    insert into public.call_arrivals (user_id, lane, due_at) values (new.user_id, new.id, clock_timestamp());
    perform public.call_ring_bell();
  end if;
  return null;
exception
  when others then
    raise warning 'the call queue was not told of campaign %: %', coalesce(new.id, old.id), sqlerrm;
    return null;
end
$$;

-- A user paused by hand.
create or replace function public.call_tenant_changed()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if tg_op <> 'DELETE' and new.paused then
    insert into public.call_pauses (user_id, began) values (new.user_id, clock_timestamp());
  else
    update public.call_pauses set ended = clock_timestamp() where user_id = old.user_id and ended is null;
  end if;
  return null;
end
$$;

create or replace trigger call_tenant_added
  after insert on public.call_tenants
  for each row when (new.paused) execute function public.call_tenant_changed();

create or replace trigger call_tenant_paused
  after update of paused on public.call_tenants
  for each row when (old.paused <> new.paused) execute function public.call_tenant_changed();

create or replace trigger call_tenant_deleted
  after delete on public.call_tenants
  for each row when (old.paused) execute function public.call_tenant_changed();

create or replace trigger call_campaign_added
  after insert on public.campaigns
  for each row execute function public.call_campaign_changed();

create or replace trigger call_campaign_paused
  after update of status on public.campaigns
  for each row
  when ((old.status = 'paused') is distinct from (new.status = 'paused'))
  execute function public.call_campaign_changed();

create or replace trigger call_campaign_deleted
  after delete on public.campaigns
  for each row execute function public.call_campaign_changed();

-- 3. What happens to their rows ----------------------------------------------------------------------------------------

-- A row ended, ended otherwise than was known, is queued again, moved to another campaign, or deleted. An ended row that
-- is deleted leaves the counters as they are: it is tidied away, and the person was called all the same.
create or replace function public.call_queue_news()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_was boolean := old.status in ('done', 'canceled');
  v_is boolean := coalesce(new.status in ('done', 'canceled'), false);
  v_was_answered boolean := coalesce(old.outcome in ('answered', 'ai_failed'), false);
  v_is_answered boolean := coalesce(new.outcome in ('answered', 'ai_failed'), false);
begin
  if tg_op = 'DELETE' then
    insert into public.call_campaign_news (campaign_id, ended) values (old.campaign_id, true);
    return null;
  end if;
  if old.campaign_id is not null and (v_was or old.campaign_id is distinct from new.campaign_id) then
    insert into public.call_campaign_news (campaign_id, answered, unanswered, ended)
    values (
      old.campaign_id,
      case when v_was and v_was_answered then -1 else 0 end,
      case when v_was and not v_was_answered then -1 else 0 end,
      old.campaign_id is distinct from new.campaign_id
    );
  end if;
  if new.campaign_id is not null then
    insert into public.call_campaign_news (campaign_id, answered, unanswered, retries, ended)
    values (
      new.campaign_id,
      case when v_is and v_is_answered then 1 else 0 end,
      case when v_is and not v_is_answered then 1 else 0 end,
      greatest(new.attempts - 1, 0),
      v_is
    );
  end if;
  return null;
end
$$;

create or replace trigger call_queue_news
  after update on public.call_queue
  for each row
  when (
    (old.campaign_id is not null or new.campaign_id is not null)
    and (
      (old.status in ('done', 'canceled')) is distinct from (new.status in ('done', 'canceled'))
      or (new.status in ('done', 'canceled') and old.outcome is distinct from new.outcome)
      or (new.status = 'queued' and old.status <> 'queued')
      or old.campaign_id is distinct from new.campaign_id
    )
  )
  execute function public.call_queue_news();

create or replace trigger call_queue_deleted
  after delete on public.call_queue
  for each row
  when (old.campaign_id is not null and old.status not in ('done', 'canceled'))
  execute function public.call_queue_news();

create or replace function public.call_queue_added()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into public.call_campaign_news (campaign_id, answered, unanswered, ended)
  select a.campaign_id,
    count(*) filter (where a.status in ('done', 'canceled') and a.outcome in ('answered', 'ai_failed')),
    count(*) filter (where a.status in ('done', 'canceled') and a.outcome not in ('answered', 'ai_failed')),
    bool_or(a.status in ('done', 'canceled'))
  from added a
  where a.campaign_id is not null
  group by a.campaign_id;
  return null;
end
$$;

create or replace trigger call_queue_added
  after insert on public.call_queue
  referencing new table as added
  for each statement execute function public.call_queue_added();

-- Writes what is known of one campaign to it. A campaign that somebody holds is told the next time.
create or replace function public.call_campaign_told(p_campaign uuid, p_now timestamptz)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_most constant integer := 500;
  -- More than one edit by hand makes; less than half a second of work. What is left is told by the next request.
  v_notes constant integer := 20000;
  v_here boolean;
  v_held boolean;
  v_campaign record;
  v_told record;
  v_status text;
begin
  -- Not for update: that would wait for (and hold up) whoever only refers to the campaign.
  select c.status, c.current_retry_count into v_campaign
  from public.campaigns c
  where c.id = p_campaign
  for no key update skip locked;
  v_here := found;
  v_held := not v_here and exists (select from public.campaigns c where c.id = p_campaign);
  if v_held and not public.call_at_work() then
    return; -- The next request tells it; a new note here would only be heard again at once.
  end if;
  with taken as (
    delete from public.call_campaign_news n
    where n.id = any (array(
      select m.id from public.call_campaign_news m where m.campaign_id = p_campaign limit v_notes for update skip locked
    ))
    returning n.answered, n.unanswered, n.retries, n.ended
  )
  select count(*) as news, coalesce(sum(t.answered), 0)::integer as answered,
    coalesce(sum(t.unanswered), 0)::integer as unanswered, coalesce(max(t.retries), 0) as retries,
    coalesce(bool_or(t.ended), false) as ended
  into v_told
  from taken t;
  if v_told.news = 0 then
    return;
  elsif v_held then
    -- As one note, behind those of the others.
    insert into public.call_campaign_news (campaign_id, answered, unanswered, retries, ended)
    values (p_campaign, v_told.answered, v_told.unanswered, v_told.retries, v_told.ended);
    return;
  elsif not v_here then
    if not public.call_campaign_gone(p_campaign) then
      return;
    end if;
    if public.call_at_work() then
      update public.call_queue
      set status = 'canceled', cancel_reason = coalesce(cancel_reason, 'its campaign was deleted'), updated_at = p_now
      where id = any (array(
        select q.id from public.call_queue q
        where q.campaign_id = p_campaign and q.status = 'queued'
        limit v_most
        for update skip locked
      ));
    end if;
    if exists (select from public.call_queue q where q.campaign_id = p_campaign and q.status = 'queued') then
      insert into public.call_campaign_news (campaign_id) values (p_campaign);
    end if;
    return;
  end if;

  v_status := v_campaign.status;
  if v_told.ended or v_status in ('pending', 'completed', 'failed') then
    if exists (
      select from public.call_queue q
      where q.campaign_id = p_campaign and q.status in ('queued', 'dialing', 'talking')
    ) then
      v_status := case when v_status in ('pending', 'completed', 'failed') then 'in_progress' else v_status end;
    elsif v_status <> 'failed' then
      v_status := 'completed';
    end if;
  end if;
  if v_told.answered <> 0 or v_told.unanswered <> 0 or v_status <> v_campaign.status
    or v_told.retries > coalesce(v_campaign.current_retry_count, 0) then
    update public.campaigns
    set successful_calls = greatest(coalesce(successful_calls, 0) + v_told.answered, 0),
      failed_calls = greatest(coalesce(failed_calls, 0) + v_told.unanswered, 0),
      current_retry_count = greatest(coalesce(current_retry_count, 0), v_told.retries),
      status = v_status, updated_at = p_now
    where id = p_campaign;
  end if;
end
$$;

-- The same for all campaigns of which there is news. What fails is tried again with the next request, and harms nobody.
create or replace function public.call_campaigns_told(p_now timestamptz)
returns void
language plpgsql volatile security definer
set search_path = ''
-- Plans made for an empty queue must not read it whole once it is full.
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_campaign uuid;
begin
  for v_campaign in
    select distinct n.campaign_id
    from (select m.campaign_id from public.call_campaign_news m order by m.id limit 20000) n
  loop
    begin
      perform public.call_campaign_told(v_campaign, p_now);
    exception
      when others then
        raise warning 'campaign % was not told what became of its calls: %', v_campaign, sqlerrm;
    end;
  end loop;
end
$$;

-- Edits by hand: told when their transaction ends. Not sooner, as whoever holds a campaign and goes on to want another
-- row may meet somebody who does it the other way round. What changes no figure is left to the next request.
create or replace function public.call_campaign_heard()
returns trigger
language plpgsql security definer
set search_path = ''
set enable_seqscan = off
set enable_bitmapscan = off
as $$
begin
  -- One note speaks for all that its campaign has.
  if exists (select from public.call_campaign_news n where n.id = new.id) then
    perform public.call_campaign_told(new.campaign_id, clock_timestamp());
  end if;
  return null;
exception
  when others then
    raise warning 'campaign % was not told what became of its calls: %', new.campaign_id, sqlerrm;
    return null;
end
$$;

drop trigger if exists call_campaign_heard on public.call_campaign_news;
create constraint trigger call_campaign_heard
  after insert on public.call_campaign_news
  deferrable initially deferred
  for each row
  when (
    (new.ended or new.answered <> 0 or new.unanswered <> 0)
    and coalesce(current_setting('mikopbx_adapter.at_work', true), '') <> 'on'
  )
  execute function public.call_campaign_heard();

-- Looks at lanes of one user that stand with their campaigns: those that go on are dialed again, those of deleted
-- campaigns are forgotten once they are empty. A few at a time, the one that waited longest first.
create or replace function public.call_lanes_resume(p_user uuid)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_most constant integer := 50;
  v_lane uuid;
begin
  foreach v_lane in array array(
    select l.lane from public.call_lanes l where l.user_id = p_user and l.halted order by l.served, l.lane limit v_most
  ) loop
    if not public.call_campaign_stands(v_lane) then
      update public.call_lanes set halted = false, paused = false, ready = true, wake_at = null
      where user_id = p_user and lane = v_lane;
    elsif public.call_campaign_gone(v_lane) and public.call_lane_due(p_user, v_lane) is null then
      delete from public.call_lanes where user_id = p_user and lane = v_lane;
    else
      update public.call_lanes set served = nextval('public.call_turn') where user_id = p_user and lane = v_lane;
    end if;
  end loop;
end
$$;

-- 4. Who may -----------------------------------------------------------------------------------------------------------

alter table public.call_campaign_news enable row level security;
alter table public.call_pauses enable row level security;
alter table public.call_campaigns_gone enable row level security;

do $$
declare
  v_name text;
begin
  foreach v_name in array array['call_campaign_news', 'call_pauses', 'call_campaigns_gone'] loop
    execute format('revoke all on public.%I from public, anon, authenticated', v_name);
    execute format('grant select, insert, update, delete on public.%I to service_role', v_name);
  end loop;
  foreach v_name in array array['call_campaign_news_id_seq', 'call_pauses_id_seq'] loop
    execute format('revoke all on public.%I from public, anon, authenticated', v_name);
    execute format('grant usage, select on sequence public.%I to service_role', v_name);
  end loop;
  foreach v_name in array array[
    'call_campaign_gone(uuid)', 'call_campaign_stands(uuid)',
    'call_number_answered(uuid,text)', 'call_clock_stood(public.call_queue,timestamptz)', 'call_campaign_changed()', 'call_tenant_changed()',
    'call_queue_news()', 'call_queue_added()', 'call_campaign_heard()', 'call_campaign_told(uuid,timestamptz)',
    'call_campaigns_told(timestamptz)', 'call_lanes_resume(uuid)'
  ] loop
    execute format('revoke all on function public.%s from public, anon, authenticated, service_role', v_name);
  end loop;
end
$$;

notify pgrst, 'reload schema';
