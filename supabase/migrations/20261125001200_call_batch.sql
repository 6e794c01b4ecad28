-- Batch requests of the app: user, balance, limits, repeats, campaign and rows, all or nothing in one transaction, whatever
-- the number of items (docs/batch.md). The edge functions call it; nobody else needs to.

-- What was asked: for knowing a repeat again, for counting requests by the hour, and for the owner to look at.
create table if not exists public.call_batches (
  id uuid primary key default gen_random_uuid(),
  created_at timestamptz not null default clock_timestamp(),
  user_id uuid not null,
  code text,
  campaign_id uuid,
  prompt_id uuid,
  source text not null,
  auth text not null,
  origin text,
  total integer not null,
  queued integer not null default 0,
  returned integer not null default 0,
  refused integer not null default 0,
  duplicates integer not null default 0,
  added integer not null default 0,
  repeats integer not null default 0,
  asked bytea not null,
  fingerprint bytea,
  stands_for jsonb
);
comment on table public.call_batches is 'Batch requests of the app in the last day or so, and what became of each.';
comment on column public.call_batches.code is 'Why it was refused (docs/batch.md); null if calls were queued or returned.';
comment on column public.call_batches.source is 'page: a campaign; retry: people of the Failed Calls page again.';
comment on column public.call_batches.auth is 'How its user was known: compat (the id was believed) or session.';
comment on column public.call_batches.origin is 'Web site that it came from, as the browser said.';
comment on column public.call_batches.total is 'Numbers that it held.';
comment on column public.call_batches.returned is 'Numbers for which an open row was there already.';
comment on column public.call_batches.added is 'Rows that it added to call_queue.';
comment on column public.call_batches.repeats is 'How often it was sent again.';
comment on column public.call_batches.asked is 'Hash of its numbers as they were sent.';
comment on column public.call_batches.fingerprint is 'Hash of its prompt and set of canonical numbers: equal for repeats.';
comment on column public.call_batches.stands_for is 'For each number its row of call_queue, and why it was refused, if it was.';

create index if not exists call_batches_user_idx on public.call_batches (user_id, created_at);
create index if not exists call_batches_age_idx on public.call_batches (created_at);

alter table public.call_batches enable row level security;

-- A user's open row for a number. That e164 is not null keeps this index for such questions: taken for counting the calls
-- of a user it would read all that wait.
create index if not exists call_queue_open_number_idx
  on public.call_queue (user_id, e164, id) where status in ('queued', 'dialing', 'talking') and e164 is not null;

-- 1. Reading a request -------------------------------------------------------------------------------------------------

-- A refusal: undoes what its request did so far. The message is what the user reads, so it never holds a text of the
-- request, which the page would show as HTML.
create or replace function public.call_batch_refuse(p_code text, p_error text)
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  raise exception using errcode = 'CB000', message = p_error, detail = p_code;
end
$$;

-- A text; null for anything that is neither text nor number, and for an empty one.
create or replace function public.call_batch_text(p_value jsonb)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return case
    when jsonb_typeof(p_value) in ('string', 'number') then nullif(btrim(p_value #>> '{}', E' \t\r\n'), '')
  end;
end
$$;

-- A whole number, also one that was sent as a text; null for anything else.
create or replace function public.call_batch_whole(p_value jsonb)
returns integer
language plpgsql immutable
set search_path = ''
as $$
begin
  return case when public.call_batch_text(p_value) ~ '^[0-9]{1,9}$' then public.call_batch_text(p_value)::integer end;
end
$$;

-- A uuid; null for anything else.
create or replace function public.call_batch_uuid(p_value jsonb)
returns uuid
language plpgsql immutable
set search_path = ''
as $$
begin
  return case
    when public.call_batch_text(p_value) ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
      then public.call_batch_text(p_value)::uuid
  end;
end
$$;

-- Refuses a request of the wrong shape. Texts where numbers stand are fine; what no edge function of ours would send is not.
create or replace function public.call_batch_check(p_request jsonb)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_problem text;
begin
  if jsonb_typeof(p_request) is distinct from 'object' then
    perform public.call_batch_refuse('bad_request', 'The request is not understood: it must be an object.');
  end if;
  select format('%s must be %s', c.key, c.must)
  into v_problem
  from (values
    (1, 'source', 'page or retry', public.call_batch_text(p_request -> 'source') in ('page', 'retry')),
    (2, 'auth', 'compat or session', public.call_batch_text(p_request -> 'auth') in ('compat', 'session')),
    (3, 'user_id', 'a uuid', public.call_batch_uuid(p_request -> 'user_id') is not null),
    (4, 'session_token', 'a text of up to 4096 characters', length(public.call_batch_text(p_request -> 'session_token')) <= 4096),
    (5, 'campaign_id', 'a uuid', public.call_batch_uuid(p_request -> 'campaign_id') is not null),
    (6, 'campaign_name', 'a text of up to 500 characters', length(public.call_batch_text(p_request -> 'campaign_name')) <= 500),
    (7, 'prompt_id', 'a uuid', public.call_batch_uuid(p_request -> 'prompt_id') is not null),
    (8, 'items', 'a list', jsonb_typeof(p_request -> 'items') = 'array'),
    (9, 'customer_name', 'a text', public.call_batch_text(p_request -> 'customer_name') is not null),
    (10, 'idsale', 'a text of up to 200 characters', length(public.call_batch_text(p_request -> 'idsale')) <= 200),
    (11, 'retry', 'an object', jsonb_typeof(p_request -> 'retry') = 'object'),
    (12, 'limits', 'an object', jsonb_typeof(p_request -> 'limits') = 'object'),
    (13, 'origin', 'a text', public.call_batch_text(p_request -> 'origin') is not null)
  ) c (place, key, must, right_so)
  where c.right_so is not true and btrim(p_request ->> c.key, E' \t\r\n') <> ''
  order by c.place
  limit 1;

  if v_problem is null then
    select format('limits.%s must be a whole number', l.key)
    into v_problem
    from jsonb_each(case when jsonb_typeof(p_request -> 'limits') = 'object' then p_request -> 'limits' else '{}' end) l
    where l.key in ('numbers_per_request', 'requests_per_hour', 'numbers_per_hour')
      and public.call_batch_whole(l.value) is null and l.value <> 'null'
    limit 1;
  end if;

  if v_problem is null and coalesce(p_request #> '{retry,enabled}', 'null') not in ('true', 'false', 'null') then
    v_problem := 'retry.enabled must be true or false';
  elsif v_problem is null and p_request #> '{retry,enabled}' = 'true' then
    v_problem := case
      when coalesce(public.call_batch_whole(p_request #> '{retry,interval_minutes}') not between 1 and 1440, true)
        then 'retry.interval_minutes must be 1 to 1440'
      when coalesce(public.call_batch_whole(p_request #> '{retry,max_attempts}') not between 0 and 10, true)
        then 'retry.max_attempts must be 0 to 10'
    end;
  end if;
  if v_problem is not null then
    perform public.call_batch_refuse('bad_request', 'The request is not understood: ' || v_problem || '.');
  end if;
end
$$;

-- The user of a request, or a refusal. A token that is unknown or expired counts for nothing: clients of Supabase put their
-- publishable key where the app puts the token.
create or replace function public.call_batch_user(p_request jsonb)
returns uuid
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_session constant boolean := public.call_batch_text(p_request -> 'auth') is distinct from 'compat';
  v_said constant uuid := public.call_batch_uuid(p_request -> 'user_id');
  v_token constant text := public.call_batch_text(p_request -> 'session_token');
  v_shown uuid;
begin
  if v_token is not null and pg_catalog.to_regclass('public.user_sessions') is not null then
    select s.user_id into v_shown
    from public.user_sessions s
    where s.session_token = v_token and s.expires_at > clock_timestamp()
    limit 1;
  end if;
  if v_shown is null and v_session then
    perform public.call_batch_refuse('unauthorized', 'Please log in again: the session is unknown or has expired.');
  elsif v_shown is null and v_said is null then
    perform public.call_batch_refuse('unauthorized', 'Please log in again: the request names no user.');
  elsif v_shown <> v_said then
    perform public.call_batch_refuse('unauthorized', 'Please log in again: the session is another user''s.');
  end if;
  return coalesce(v_shown, v_said);
end
$$;

-- The lower of a limit of the environment and the app's setting of that name. Anyone may write that table, so it only lowers.
create or replace function public.call_batch_limit(p_limit integer, p_key text)
returns integer
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_setting integer;
begin
  if p_key is not null and pg_catalog.to_regclass('public.system_settings') is not null then
    select case when s.setting_value ~ '^ *[0-9]{1,9}(\.[0-9]{0,9})? *$' then floor(s.setting_value::numeric)::integer end
    into v_setting
    from public.system_settings s
    where s.setting_key = p_key
    limit 1;
  end if;
  return least(p_limit, v_setting);
end
$$;

-- 2. The campaign ------------------------------------------------------------------------------------------------------

-- The campaign of ours for this many rows, made or joined. One of the same name that is new is the same campaign: a list
-- sent in parts, two retries of one minute. An older one is over, and its name taken.
create or replace function public.call_batch_campaign(
  p_user uuid, p_name text, p_prompt uuid, p_rows integer, p_retry jsonb, p_since timestamptz,
  out id uuid, out joined boolean
)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  -- So many of one name, then a name that nothing can have taken.
  v_names constant text[] := array(
    select p_name || case k when 1 then '' else format(' (%s)', k) end from generate_series(1, 1000) k order by k
  );
  v_retry constant boolean := coalesce(p_retry -> 'enabled' = 'true', false);
begin
  -- A browser may take the name between the look and the insert.
  for v_try in 1..5 loop
    select c.id into id
    from public.campaigns c
    where c.user_id = p_user and c.campaign_name = any (v_names) and c.created_at > p_since
    order by c.created_at desc, c.id
    limit 1
    for key share;
    joined := found;
    if not joined then
      insert into public.campaigns (
        user_id, campaign_name, prompt_id, status, total_numbers, retry_enabled, retry_interval_minutes, max_retry_attempts
      )
      values (
        p_user,
        coalesce(
          (
            select n.name from unnest(v_names) with ordinality n (name, k)
            where not exists (select from public.campaigns c where c.user_id = p_user and c.campaign_name = n.name)
            order by n.k
            limit 1
          ),
          format('%s (%s)', p_name, gen_random_uuid())
        ),
        p_prompt, 'in_progress', p_rows, v_retry,
        case when v_retry then public.call_batch_whole(p_retry -> 'interval_minutes') else 30 end,
        case when v_retry then public.call_batch_whole(p_retry -> 'max_attempts') else 3 end
      )
      on conflict do nothing
      returning campaigns.id into id;
    end if;
    if id is not null then
      return;
    end if;
  end loop;
  raise exception 'no campaign could be made: its name was taken five times in a row';
end
$$;

-- A campaign that the browser made for a request which added nothing to dial would stay in progress for ever.
create or replace function public.call_batch_end_empty(p_user uuid, p_campaign uuid, p_status text, p_since timestamptz)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  -- Of no importance enough to wait for whoever holds it.
  perform from public.campaigns c where c.id = p_campaign for no key update skip locked;
  if not found then
    return;
  end if;
  update public.campaigns c
  set status = p_status, updated_at = clock_timestamp()
  where c.id = p_campaign and c.user_id = p_user and c.status = 'in_progress' and c.created_at > p_since
    and not exists (
      select from public.call_batches b
      where b.user_id = p_user and b.created_at > p_since and b.campaign_id = p_campaign and b.queued > 0
    )
    and not exists (
      select from public.call_queue q where q.user_id = p_user and q.lane = p_campaign and q.status = 'queued'
    )
    and not exists (
      select from public.call_queue q
      where q.user_id = p_user and q.lane = p_campaign and q.status in ('dialing', 'talking') and q.outcome is null
    );
end
$$;

-- 3. The function ------------------------------------------------------------------------------------------------------

-- The texts and digits of the items in order, each with the place of the first one that means the same number.
create or replace function public.call_batch_items(
  p_items jsonb,
  out raws text[], out e164s text[], out problems text[], out keys text[], out firsts integer[],
  out names text[], out contacts uuid[], out idsales text[]
)
language sql volatile security definer
set search_path = ''
as $$
  with sent as (
    select s.place::integer as place,
      -- Whatever stands there is kept as a text, so that its blocked row shows it. A fraction must not lose its point, or
      -- another number would be dialed.
      left(
        case
          when jsonb_typeof(n.number) <> 'number' then btrim(coalesce(n.number #>> '{}', ''), E' \t\r\n')
          when n.number::numeric >= 0 and n.number::numeric = trunc(n.number::numeric) then trunc(n.number::numeric)::text
          else 'number ' || (n.number #>> '{}')
        end,
        100
      ) as raw,
      left(public.call_batch_text(s.item -> 'name'), 1000) as name,
      public.call_batch_uuid(s.item -> 'contact_id') as contact,
      public.call_batch_text(s.item -> 'idsale') as idsale
    from jsonb_array_elements(p_items) with ordinality s (item, place)
    cross join lateral (
      select coalesce(case jsonb_typeof(s.item) when 'object' then s.item -> 'number' else s.item end, '""')
    ) n (number)
  ), numbers as materialized (
    select d.raw, n.e164, n.problem
    from (select distinct s.raw from sent s) d
    cross join lateral public.call_number_v1(d.raw) n
  ), known as (
    select s.*, n.e164, n.problem, coalesce(n.e164, s.raw) as key from sent s join numbers n on n.raw = s.raw
  ), people as (
    -- What the first spelling does not tell, a later one may.
    select k.key, min(k.place) as first,
      (array_agg(k.name order by k.place) filter (where k.name is not null))[1] as name,
      (array_agg(k.contact order by k.place) filter (where k.contact is not null))[1] as contact,
      (array_agg(k.idsale order by k.place) filter (where k.idsale is not null))[1] as idsale
    from known k
    group by k.key
  )
  select array_agg(k.raw order by k.place), array_agg(k.e164 order by k.place), array_agg(k.problem order by k.place),
    array_agg(k.key order by k.place), array_agg(p.first order by k.place), array_agg(p.name order by k.place),
    array_agg(p.contact order by k.place), array_agg(p.idsale order by k.place)
  from known k
  join people p on p.key = k.key
$$;

-- Contact and name for each number: the contact that the item named, else the only one with the same digits.
create or replace function public.call_batch_contacts(
  p_user uuid, p_raws text[], p_e164s text[], inout names text[], inout contacts uuid[]
)
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_home text;
  v_home_local text;
begin
  -- Two questions: a table that is not there must not be named in the same one.
  if pg_catalog.to_regclass('public.contacts') is null then
    contacts := array_fill(null::uuid, array[cardinality(p_raws)]);
    return;
  elsif not exists (select from public.contacts c where c.user_id = p_user) then
    contacts := array_fill(null::uuid, array[cardinality(p_raws)]);
    return;
  end if;
  -- The local form differs from the other one in how it begins: asked once, not for each number.
  select '+' || r.calling_code into v_home
  from public.call_settings s
  join public.call_regions r on r.region = s.default_region;
  v_home_local := public.call_local_form(v_home);

  with wanted as materialized (
    select w.place, w.raw, w.e164, w.name, w.contact
    from unnest(p_raws, p_e164s, names, contacts) with ordinality w (raw, e164, name, contact, place)
  ), own as materialized (
    select c.id, c.name, regexp_replace(c.phone_number, '[^0-9]', '', 'g') as digits
    from public.contacts c
    where c.user_id = p_user
  ), forms as (
    select w.place, regexp_replace(w.raw, '[^0-9]', '', 'g') as digits from wanted w
    union
    select w.place, substr(w.e164, 2) from wanted w where w.e164 is not null
    union
    select w.place, v_home_local || substr(w.e164, length(v_home) + 1) from wanted w where w.e164 like v_home || '%'
  ), matched as (
    select f.place, (array_agg(o.id))[1] as id, min(o.name) as name
    from forms f
    join own o on o.digits = f.digits
    where f.digits <> ''
    group by f.place
    having count(distinct o.id) = 1
  )
  select
    array_agg(coalesce(w.name, left(nullif(coalesce(g.name, m.name), ''), 1000)) order by w.place),
    array_agg(coalesce(g.id, m.id) order by w.place)
  into names, contacts
  from wanted w
  left join own g on g.id = w.contact
  left join matched m on m.place = w.place and g.id is null;
end
$$;

-- An answer; what it does not know yet is null.
create or replace function public.call_batch_reply(p_code text, p_error text, p_known jsonb)
returns jsonb
language sql immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'repeated', false, 'batch_id', null, 'user_id', null, 'account_type', null, 'balance', null, 'prompt_id', null,
    'campaign_id', null, 'campaign_name', null, 'items', '[]'::jsonb,
    'counts', jsonb_build_object('total', 0, 'queued', 0, 'returned', 0, 'refused', 0, 'duplicates', 0)
  ) || p_known || jsonb_build_object(
    'ok', p_code is null,
    'code', p_code,
    'error', p_error,
    'http_status', case p_code
      when 'bad_request' then 400
      when 'no_numbers' then 400
      when 'unauthorized' then 401
      when 'balance' then 402
      when 'user_unknown' then 404
      when 'prompt_unknown' then 404
      when 'campaign_unknown' then 404
      when 'too_many_numbers' then 413
      when 'nothing_queued' then 422
      when 'rate_requests' then 429
      when 'rate_numbers' then 429
      when 'busy' then 503
      else 200
    end
  )
$$;

create or replace function public.call_batch_v1(p_request jsonb)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
-- Plans made for an empty queue must not read it whole once it is full.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
-- The page gives up after 60 s; a second request waits for the first no longer than that leaves it time for its own work.
set lock_timeout = '20s'
set statement_timeout = '55s'
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  -- The same request within this time is a repeat; a campaign of that age is one that is being filled.
  v_since constant timestamptz := v_now - interval '10 minutes';
  -- The page's rule: so many minutes must be left for each number.
  v_minutes constant integer := 2;
  v_busy constant text :=
    'Another request of this user is still being worked on. Nothing was added; please try again.';
  v_id uuid := gen_random_uuid();
  v_source text;
  v_auth text;
  v_user uuid;
  v_account text;
  v_balance numeric;
  v_prompt uuid;
  v_given uuid;
  v_campaign uuid;
  v_joined boolean := false;
  v_limits jsonb;
  v_retry jsonb;
  v_limit integer;
  v_requests integer;
  v_numbers integer;
  v_total integer;
  v_asked bytea;
  v_fingerprint bytea;
  v_first public.call_batches;
  -- Of all items (call_batch_items).
  v_sent record;
  -- Of the numbers for which a row is to be added.
  v_new record;
  v_again record;
  v_keys text[];
  v_names text[];
  v_contacts uuid[];
  -- For each number its row, what became of it, and why it was refused.
  v_stands jsonb;
  v_fresh integer := 0;
  v_added integer := 0;
  v_queued integer := 0;
  v_returned integer := 0;
  v_refused integer := 0;
  v_duplicates integer := 0;
  v_reason text;
  v_items jsonb;
  v_code text;
  v_error text;
begin
  -- Whose it is. What is refused here leaves no trace, as it is nobody's.
  begin
    perform public.call_batch_check(p_request);
    v_user := public.call_batch_user(p_request);
    if pg_catalog.to_regclass('public.users') is not null then
      select coalesce(u.account_type, 'trial'),
        coalesce(case when u.account_type = 'pro' then u.pro_balance_minutes else u.trial_balance_minutes end, 0)
      into v_account, v_balance
      from public.users u
      where u.id = v_user;
    end if;
    if v_account is null then
      v_user := null;
      perform public.call_batch_refuse('user_unknown', 'User not found');
    end if;
  exception
    when sqlstate 'CB000' then
      get stacked diagnostics v_error = message_text, v_code = pg_exception_detail;
      return public.call_batch_reply(v_code, v_error, '{}');
  end;

  v_source := coalesce(public.call_batch_text(p_request -> 'source'), 'page');
  v_auth := coalesce(public.call_batch_text(p_request -> 'auth'), 'session');
  v_limits := case jsonb_typeof(p_request -> 'limits') when 'object' then p_request -> 'limits' else '{}' end;
  v_retry := case jsonb_typeof(p_request -> 'retry') when 'object' then p_request -> 'retry' else '{}' end;
  v_total := case jsonb_typeof(p_request -> 'items') when 'array' then jsonb_array_length(p_request -> 'items') else 0 end;

  -- Requests of one user take turns: the second of two that arrive at the same instant sees what the first did.
  begin
    perform pg_advisory_xact_lock(20261125, hashtext(v_user::text));
  exception
    when lock_not_available or deadlock_detected then
      return public.call_batch_reply('busy', v_busy, jsonb_build_object('user_id', v_user));
  end;

  begin
    v_given := public.call_batch_uuid(p_request -> 'campaign_id');
    if v_given is not null then
      -- Held until we are done: a campaign deleted meanwhile would leave its rows behind, and they would be dialed.
      select c.id into v_campaign
      from public.campaigns c
      where c.id = v_given and c.user_id = v_user
      for key share;
      if v_campaign is null then
        perform public.call_batch_refuse('campaign_unknown', 'Campaign not found');
      end if;
    end if;
    if v_total = 0 then
      perform public.call_batch_refuse('no_numbers', 'There is no number to call.');
    end if;
    v_limit := public.call_batch_limit(
      public.call_batch_limit(
        coalesce(public.call_batch_whole(v_limits -> 'numbers_per_request'), 1000), 'batch_numbers_per_request'
      ),
      -- The page's own rule, which it keeps in its form only.
      case when v_source = 'page' then
        case when v_account = 'pro' then 'pro_max_concurrent_calls' else 'max_concurrent_calls' end
      end
    );
    if v_total > v_limit then
      perform public.call_batch_refuse('too_many_numbers', format(
        'Too many numbers: %s in one request, at most %s are allowed.', v_total, v_limit
      ));
    end if;

    v_prompt := public.call_batch_uuid(p_request -> 'prompt_id');
    if pg_catalog.to_regclass('public.prompts') is not null then
      select p.id into v_prompt
      from public.prompts p
      where p.user_id = v_user and p.id = coalesce(v_prompt, p.id)
      order by p.updated_at desc, p.id
      limit 1;
      if v_prompt is null then
        perform public.call_batch_refuse('prompt_unknown', 'Prompt not found');
      end if;
    end if;

    -- Too many requests are turned away before the work of reading their numbers, unless it is one that was answered already.
    v_asked := sha256(convert_to(concat(v_prompt, p_request -> 'items'), 'UTF8'));
    select count(*) filter (where b.added > 0 or b.code is not null), coalesce(sum(b.added), 0)
    into v_requests, v_numbers
    from public.call_batches b
    where b.user_id = v_user and b.created_at > v_now - interval '1 hour';
    v_limit := public.call_batch_limit(
      coalesce(public.call_batch_whole(v_limits -> 'requests_per_hour'), 60), 'batch_requests_per_hour'
    );
    if v_requests >= v_limit and not exists (
      select from public.call_batches b
      where b.user_id = v_user and b.created_at > v_since and b.asked = v_asked and b.stands_for is not null
    ) then
      perform public.call_batch_refuse('rate_requests', format(
        'Too many requests in one hour: %s were made, at most %s are allowed. Please try again later.', v_requests, v_limit
      ));
    end if;

    select * into v_sent from public.call_batch_items(p_request -> 'items');
    select sha256(convert_to(concat(v_prompt, jsonb_agg(k.key order by k.key collate "C")), 'UTF8'))
    into v_fingerprint
    from (select distinct u.key from unnest(v_sent.keys) u (key)) k;

    if v_source = 'page' then
      select * into v_first
      from public.call_batches b
      where b.user_id = v_user and b.created_at > v_since and b.fingerprint = v_fingerprint
      order by b.created_at desc
      limit 1;
    end if;

    if v_first.id is not null then
      update public.call_batches b set repeats = b.repeats + 1 where b.id = v_first.id;
      v_id := v_first.id;
      v_stands := v_first.stands_for;
      v_campaign := v_first.campaign_id;
    else
      select coalesce(jsonb_object_agg(s.key, jsonb_build_array(o.id, null)), '{}'), (array_agg(o.campaign_id))[1]
      into v_stands, v_campaign
      from unnest(v_sent.keys, v_sent.e164s, v_sent.firsts) with ordinality s (key, e164, first, place)
      cross join lateral (
        select q.id, q.campaign_id
        from public.call_queue q
        where q.user_id = v_user and q.e164 = s.e164 and q.status in ('queued', 'dialing', 'talking')
          and q.e164 is not null and q.prompt_id is not distinct from v_prompt
        order by q.id
        limit 1
      ) o
      where s.place = s.first;

      select count(*) as rows, count(*) filter (where w.e164 is not null and length(w.idsale) <= 200) as fresh,
        array_agg(w.raw order by w.place) as raws, array_agg(w.e164 order by w.place) as e164s,
        array_agg(w.key order by w.place) as keys, array_agg(w.name order by w.place) as names,
        array_agg(w.contact order by w.place) as contacts, array_agg(w.idsale order by w.place) as idsales
      into v_new
      from (
        select s.raw, s.e164, s.key, s.name, s.contact, s.place,
          coalesce(s.idsale, public.call_batch_text(p_request -> 'idsale'), '') as idsale
        from unnest(
          v_sent.raws, v_sent.e164s, v_sent.keys, v_sent.names, v_sent.contacts, v_sent.idsales, v_sent.firsts
        ) with ordinality s (raw, e164, key, name, contact, idsale, first, place)
        left join jsonb_object_keys(v_stands) o (key) on o.key = s.key
        where s.place = s.first and o.key is null
      ) w;
      v_added := v_new.rows;
      v_fresh := v_new.fresh;
      v_keys := v_new.keys;
    end if;

    if v_added > 0 then
      if v_requests >= v_limit then
        perform public.call_batch_refuse('rate_requests', format(
          'Too many requests in one hour: %s were made, at most %s are allowed. Please try again later.', v_requests, v_limit
        ));
      end if;
      v_limit := public.call_batch_limit(
        coalesce(public.call_batch_whole(v_limits -> 'numbers_per_hour'), 10000), 'batch_numbers_per_hour'
      );
      if v_numbers + v_added > v_limit then
        perform public.call_batch_refuse('rate_numbers', format(
          'Too many numbers in one hour: %s after %s, at most %s are allowed. Please try again later.',
          v_added, v_numbers, v_limit
        ));
      end if;
      if v_fresh > 0 and (v_balance <= 0 or v_balance < v_minutes * v_fresh) then
        perform public.call_batch_refuse('balance', format(
          '%s balance insufficient: %s minutes left, %s needed for %s numbers.',
          case when v_account = 'pro' then 'Pro' else 'Trial' end, round(v_balance, 2), v_minutes * v_fresh, v_fresh
        ));
      end if;

      select c.names, c.contacts into v_names, v_contacts
      from public.call_batch_contacts(v_user, v_new.raws, v_new.e164s, v_new.names, v_new.contacts) c;
      if v_given is not null then
        v_campaign := v_given;
      elsif v_fresh = 0 then
        null;
      elsif public.call_batch_text(p_request -> 'campaign_name') is not null then
        select c.id, c.joined into v_campaign, v_joined
        from public.call_batch_campaign(
          v_user, public.call_batch_text(p_request -> 'campaign_name'), v_prompt, v_added, v_retry, v_since
        ) c;
      else
        v_campaign := null;
      end if;

      -- Without a wish of the request the owner's defaults hold, asked once for all rows; without those the queue's.
      if v_retry -> 'enabled' = 'true' then
        select public.call_batch_whole(v_retry -> 'max_attempts') as more,
          60 * public.call_batch_whole(v_retry -> 'interval_minutes') as seconds, null::text as said_by
        into v_again;
      elsif pg_catalog.to_regprocedure('public.call_retry_of(uuid,uuid)') is not null then
        select r.more, r.seconds, r.said_by into v_again
        from public.call_retry_of(v_user, case when v_fresh > 0 then v_campaign else v_given end) r;
      else
        select null::integer as more, null::integer as seconds, null::text as said_by into v_again;
      end if;

      with added as (
        insert into public.call_queue (
          user_id, phone_number, customer_name, campaign_id, contact_id, prompt_id, idsale, max_attempts, retry_seconds,
          attempts_from, wait_from, metadata
        )
        select v_user, w.raw, coalesce(w.name, left(public.call_batch_text(p_request -> 'customer_name'), 1000)),
          case when v_fresh > 0 then v_campaign else v_given end, w.contact, v_prompt, nullif(w.idsale, ''),
          1 + v_again.more, v_again.seconds, v_again.said_by, v_again.said_by,
          jsonb_build_object('batch_id', v_id::text)
        from unnest(v_new.raws, v_names, v_contacts, v_new.idsales) with ordinality w (raw, name, contact, idsale, place)
        order by w.place
        returning id, phone_number, outcome, ended_reason
      )
      select v_stands || coalesce(
        jsonb_object_agg(n.key, jsonb_build_array(a.id, case when a.outcome is not null then a.ended_reason end)), '{}'
      ), count(*) filter (where a.outcome is null), count(*)
      into v_stands, v_fresh, v_added
      from unnest(v_new.raws, v_new.keys) n (raw, key)
      join added a on a.phone_number = n.raw;
      if (v_added, v_fresh) is distinct from (v_new.rows::integer, v_new.fresh::integer) then
        raise exception 'call_queue took % rows and % to dial instead of % and %',
          v_added, v_fresh, v_new.rows, v_new.fresh;
      end if;
      if v_joined then
        -- Last, as the outcomes of its calls wait for whoever holds this row.
        update public.campaigns c
        set total_numbers = coalesce(c.total_numbers, 0) + v_added,
          status = case c.status when 'paused' then c.status else 'in_progress' end,
          updated_at = clock_timestamp()
        where c.id = v_campaign;
      end if;
    end if;

    select count(*) filter (where t.result = 'queued') as queued, count(*) filter (where t.result = 'returned') as returned,
      count(*) filter (where t.result = 'refused') as refused, count(*) filter (where t.result = 'duplicate') as duplicates,
      (array_agg(t.reason order by t.place) filter (where t.result = 'refused'))[1] as reason,
      jsonb_agg(
        jsonb_build_object(
          'index', t.place - 1, 'number', t.raw, 'result', t.result, 'row_id', t.row_id, 'e164', t.e164,
          'reason', case when t.result = 'refused' then t.reason end,
          'of', case when t.result = 'duplicate' then t.first - 1 end
        )
        order by t.place
      ) as items
    into v_queued, v_returned, v_refused, v_duplicates, v_reason, v_items
    from (
      select s.place, s.first, s.raw, s.e164, r.value -> 0 as row_id, r.value ->> 1 as reason,
        case
          when s.place <> s.first then 'duplicate'
          when r.value ->> 1 is not null then 'refused'
          when n.key is not null then 'queued'
          else 'returned'
        end as result
      from unnest(v_sent.raws, v_sent.e164s, v_sent.keys, v_sent.firsts) with ordinality s (raw, e164, key, first, place)
      join jsonb_each(v_stands) r on r.key = s.key
      left join unnest(v_keys) n (key) on n.key = s.key
    ) t;
    if v_queued + v_returned = 0 then
      v_code := 'nothing_queued';
      v_error := format('No number could be queued: %s.', v_reason);
    end if;
  exception
    when sqlstate 'CB000' then
      get stacked diagnostics v_error = message_text, v_code = pg_exception_detail;
      v_stands := null;
      v_campaign := v_given;
    when lock_not_available or deadlock_detected or serialization_failure then
      -- PostgREST runs a transaction that fails so again, for ever.
      return public.call_batch_reply('busy', v_busy, jsonb_build_object('user_id', v_user));
  end;

  if v_code is null or v_code not in ('rate_requests', 'rate_numbers', 'busy') then
    if v_first.id is null then
      insert into public.call_batches (
        id, created_at, user_id, code, campaign_id, prompt_id, source, auth, origin, total, queued, returned, refused,
        duplicates, added, asked, fingerprint, stands_for
      )
      values (
        v_id, v_now, v_user, v_code, v_campaign, v_prompt, v_source, v_auth,
        left(public.call_batch_text(p_request -> 'origin'), 200), v_total, v_queued,
        v_returned, v_refused, v_duplicates,
        case when v_stands is null then 0 else v_added end, coalesce(v_asked, ''),
        case when v_stands is not null then v_fingerprint end, v_stands
      );
    end if;
    delete from public.call_batches b
    where b.id = any (array(
      select o.id from public.call_batches o
      where o.created_at < v_now - interval '1 day'
      order by o.created_at
      limit 100
      for update skip locked
    ));
  end if;
  -- What the browser made for nothing.
  if v_given is not null and (v_code is not null or v_queued = 0) then
    perform public.call_batch_end_empty(
      v_user, v_given, case when v_stands is null then 'failed' else 'completed' end, v_since
    );
  end if;
  return public.call_batch_reply(v_code, v_error, jsonb_build_object(
    'repeated', v_first.id is not null,
    'batch_id', case when v_stands is not null then v_id end,
    'user_id', v_user,
    'account_type', v_account,
    'balance', v_balance,
    'prompt_id', v_prompt,
    'campaign_id', v_campaign,
    'campaign_name', (select c.campaign_name from public.campaigns c where c.id = v_campaign),
    'counts', jsonb_build_object(
      'total', v_total, 'queued', v_queued, 'returned', v_returned,
      'refused', v_refused, 'duplicates', v_duplicates
    ),
    'items', coalesce(v_items, '[]')
  ));
end
$$;
comment on function public.call_batch_v1 is
  'One batch request of the app: checks it, makes its campaign and rows, all or nothing. See docs/batch.md.';

-- Who may ask: the secret key only. Helpers are for our own functions, which run as their owner.
do $$
declare
  v_function text;
begin
  revoke all on public.call_batches from public, anon, authenticated;
  grant select, insert, update, delete on public.call_batches to service_role;
  foreach v_function in array array[
    'call_batch_refuse(text,text)', 'call_batch_text(jsonb)', 'call_batch_whole(jsonb)', 'call_batch_uuid(jsonb)',
    'call_batch_check(jsonb)', 'call_batch_user(jsonb)', 'call_batch_limit(integer,text)',
    'call_batch_campaign(uuid,text,uuid,integer,jsonb,timestamptz)', 'call_batch_end_empty(uuid,uuid,text,timestamptz)',
    'call_batch_items(jsonb)', 'call_batch_contacts(uuid,text[],text[],text[],uuid[])',
    'call_batch_reply(text,text,jsonb)', 'call_batch_v1(jsonb)'
  ] loop
    execute format('revoke all on function public.%s from public, anon, authenticated, service_role', v_function);
    if v_function like '%\_v1(%' then
      execute format('grant execute on function public.%s to service_role', v_function);
    end if;
  end loop;
end
$$;

-- PostgREST shall see the function at once.
notify pgrst, 'reload schema';
