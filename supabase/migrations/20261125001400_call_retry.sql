-- How often a person is tried again who was not reached. A row of call_queue that says it itself (max_attempts,
-- retry_seconds) is left alone; else its campaign's own fields count if they are switched on, then the user's row of
-- call_retries, then the row for all. Which outcomes are tried again at all says call_outcomes.

create table if not exists public.call_retries (
  user_id uuid primary key default '00000000-0000-0000-0000-000000000000',
  retry_enabled boolean not null default true,
  retry_interval_minutes integer not null default 30 check (retry_interval_minutes between 0 and 43200),
  max_retry_attempts integer not null default 3 check (max_retry_attempts between 0 and 99)
);
comment on table public.call_retries is
  'Retries of rows that do not say it themselves: one row for each user, and one for all who have none. Empty: no retries.';
comment on column public.call_retries.user_id is 'The user; zeros for all who have no row of their own.';
comment on column public.call_retries.retry_enabled is 'False: the row is tried once, whatever the other columns say.';
comment on column public.call_retries.retry_interval_minutes is 'Wait after a call that did not reach the person.';
comment on column public.call_retries.max_retry_attempts is 'That many more calls after the first.';

-- Null is "not said" (call_queue_apply_retry), so these columns have no default of their own.
alter table public.call_queue alter column max_attempts drop default;
alter table public.call_queue alter column retry_seconds drop default;
comment on column public.call_queue.max_attempts is
  'Calls that may spend a try of the person: 1 + retries. Without it: by the campaign, then by call_retries, else 1.';
comment on column public.call_queue.retry_seconds is
  'Wait between such calls. Without it: by the campaign, then by call_retries, else 1800.';

-- Who said it, for rows that did not: a rule of call_retry_rules counts before what is farther from the row than itself.
alter table public.call_queue add column if not exists attempts_from text
  constraint call_queue_attempts_from_check check (attempts_from in ('campaign', 'user', 'default', 'nothing'));
alter table public.call_queue add column if not exists wait_from text
  constraint call_queue_wait_from_check check (wait_from in ('campaign', 'user', 'default', 'nothing'));
comment on column public.call_queue.attempts_from is 'Where max_attempts comes from; null: the row came with it.';
comment on column public.call_queue.wait_from is 'Where retry_seconds comes from; null: the row came with it.';

-- An older version had one column less, which cannot be added by "create or replace".
drop function if exists public.call_retry_of(uuid, uuid);
create or replace function public.call_retry_of(
  p_user uuid, p_campaign uuid, out more integer, out seconds integer, out said_by text
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_found record;
begin
  -- The app's columns know no bounds; ours do, and a row must not be blocked for them.
  select least(greatest(coalesce(c.max_retry_attempts, 3), 0), 99) as more,
    least(greatest(coalesce(c.retry_interval_minutes, 30), 0), 43200) * 60 as seconds,
    'campaign' as said_by
  into v_found
  from public.campaigns c
  where c.id = p_campaign and c.retry_enabled;
  if not found then
    select case when r.retry_enabled then r.max_retry_attempts else 0 end as more,
      r.retry_interval_minutes * 60 as seconds,
      case when r.user_id = p_user then 'user' else 'default' end as said_by
    into v_found
    from public.call_retries r
    where r.user_id in (p_user, '00000000-0000-0000-0000-000000000000')
    order by r.user_id = p_user desc
    limit 1;
  end if;
  more := coalesce(v_found.more, 0);
  seconds := coalesce(v_found.seconds, 1800);
  said_by := coalesce(v_found.said_by, 'nothing');
end
$$;

create or replace function public.call_queue_apply_retry()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_retry record;
begin
  select * into v_retry from public.call_retry_of(new.user_id, new.campaign_id);
  if new.max_attempts is null then
    new.max_attempts := 1 + v_retry.more;
    new.attempts_from := v_retry.said_by;
  end if;
  if new.retry_seconds is null then
    new.retry_seconds := v_retry.seconds;
    new.wait_from := v_retry.said_by;
  end if;
  return new;
end
$$;

-- By its name before call_queue_before_insert, which checks the values.
create or replace trigger call_queue_apply_retry
  before insert on public.call_queue
  for each row
  when (new.max_attempts is null or new.retry_seconds is null)
  execute function public.call_queue_apply_retry();

-- Whoever changes it in the row says it for the row.
create or replace function public.call_queue_says_retry()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if new.max_attempts <> old.max_attempts then
    new.attempts_from := null;
  end if;
  if new.retry_seconds <> old.retry_seconds then
    new.wait_from := null;
  end if;
  return new;
end
$$;

create or replace trigger call_queue_says_retry
  before update of max_attempts, retry_seconds on public.call_queue
  for each row
  execute function public.call_queue_says_retry();

alter table public.call_retries enable row level security;

do $$
declare
  v_name text;
begin
  revoke all on public.call_retries from public, anon, authenticated;
  grant select, insert, update, delete on public.call_retries to service_role;
  foreach v_name in array array[
    'call_retry_of(uuid,uuid)', 'call_queue_apply_retry()', 'call_queue_says_retry()'
  ] loop
    execute format('revoke all on function public.%s from public, anon, authenticated, service_role', v_name);
  end loop;
end
$$;

notify pgrst, 'reload schema';
