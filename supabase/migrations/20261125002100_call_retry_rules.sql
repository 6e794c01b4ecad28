-- Retry by outcome: after which outcome how many calls may follow, how long after, and how far apart from one another.
-- The nearest word counts: the row's own max_attempts and retry_seconds, then a rule of its campaign, the campaign's own
-- fields, a rule of its user, the user's row of call_retries, a rule for all, call_retries for all, call_outcomes. Where
-- no rule is written everything is as it was without this file.

-- 1. Tables ----------------------------------------------------------------------------------------------------------------

alter table public.call_queue add column if not exists spent jsonb not null default '{}';
comment on column public.call_queue.spent is 'Calls that spent a try, counted by outcome.';

create table if not exists public.call_retry_rules (
  scope text not null check (scope in ('default', 'user', 'campaign')),
  scope_id uuid not null default '00000000-0000-0000-0000-000000000000',
  outcome text not null,
  calls integer check (calls between 0 and 99),
  delays integer[] check (
    cardinality(delays) between 1 and 20 and array_position(delays, null) is null
    and 0 <= all (delays) and 2592000 >= all (delays)
  ),
  spread integer check (spread between 0 and 100),
  primary key (scope, scope_id, outcome),
  check ((scope = 'default') = (scope_id = '00000000-0000-0000-0000-000000000000')),
  check (num_nonnulls(calls, delays, spread) > 0),
  -- Whoever was reached, or cannot be, is not called again, whatever anybody writes here.
  check (outcome not in ('answered', 'ai_failed', 'invalid_number', 'blocked', 'canceled'))
);
comment on table public.call_retry_rules is
  'What follows after each outcome, for all, a user or a campaign; set by call_retry_set_v1, shown by call_retry_v1.';
comment on column public.call_retry_rules.scope is 'default (for all), user or campaign.';
comment on column public.call_retry_rules.scope_id is 'Id of the user or campaign; zeros for all.';
comment on column public.call_retry_rules.outcome is
  'An outcome of call_outcomes; or carrier, us: all the calls together that spent no try by a fault of the carrier, or of ours.';
comment on column public.call_retry_rules.calls is 'So many calls may follow after this outcome; null: as the next scope says.';
comment on column public.call_retry_rules.delays is
  'Seconds to wait: after the first such call, the second, and so on; the last for all that come. Null: as the next scope says.';
comment on column public.call_retry_rules.spread is
  'Up to so many percent of the wait are added, differently for each call, so that they do not all come back at once.';

-- 2. What follows ------------------------------------------------------------------------------------------------------------

-- Why nothing ever follows after an outcome; null: something may.
create or replace function public.call_retry_never(p_outcome text)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return case p_outcome
    when 'answered' then 'the person was reached'
    when 'ai_failed' then 'the person picked up, and is not called again by itself'
    when 'invalid_number' then 'there is no such number'
    when 'blocked' then 'it must not be called'
    when 'canceled' then 'it was canceled'
  end;
end
$$;

-- How near to a row somebody is who says something about it; the lowest counts.
create or replace function public.call_retry_rank(p_scope text)
returns integer
language plpgsql immutable
set search_path = ''
as $$
begin
  return coalesce(array_position(array['campaign', 'user', 'default', 'nothing'], p_scope), 0);
end
$$;

-- What may follow after this outcome of a row, and who says so. `calls`: so many calls may follow; `by_row`: counted over
-- all tries of the person and not over this outcome. `person`: it is their try; else a fault of the carrier or of ours.
create or replace function public.call_retry_plan(
  p_row public.call_queue, p_outcome text,
  out never text, out person boolean, out calls integer, out by_row boolean, out calls_from text,
  out delays integer[], out delays_from text, out spread integer, out spread_from text,
  out budget integer, out budget_name text, out budget_from text
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_outcome public.call_outcomes;
  v_rule record;
  -- An hour: the longest call that a PBX may still have when nobody saw its end.
  v_unseen constant integer := 3600;
begin
  select * into strict v_outcome from public.call_outcomes o where o.outcome = p_outcome;
  never := public.call_retry_never(p_outcome);
  person := case v_outcome.retried when 'policy' then true when 'own_bound' then false else v_outcome.spends_attempt end;

  -- What holds without a rule.
  by_row := v_outcome.retried = 'policy';
  calls := case v_outcome.retried when 'policy' then p_row.max_attempts - 1 when 'own_bound' then v_outcome.bound - 1 else 0 end;
  calls_from := case when by_row then coalesce(p_row.attempts_from, 'row') else 'call_outcomes' end;
  delays := array[case when person then p_row.retry_seconds else v_outcome.delay_seconds end];
  delays_from := case when person then coalesce(p_row.wait_from, 'row') else 'call_outcomes' end;
  spread := 0;
  if never is not null then
    calls := 0;
    by_row := false;
    return;
  end if;
  if not exists (select from public.call_retry_rules) then
    return;
  end if;

  for v_rule in
    select r.*, public.call_retry_rank(r.scope) as rank
    from public.call_retry_rules r
    where (
        (r.scope = 'campaign' and r.scope_id = p_row.campaign_id) or (r.scope = 'user' and r.scope_id = p_row.user_id)
        or (r.scope = 'default' and r.scope_id = '00000000-0000-0000-0000-000000000000')
      )
      and r.outcome in (p_outcome, case when not person then v_outcome.verdict end)
    -- The nearest last: it replaces what the others say.
    order by rank desc
  loop
    if v_rule.outcome <> p_outcome then
      if v_rule.calls is not null then
        budget := v_rule.calls;
        budget_name := v_rule.outcome;
        budget_from := v_rule.scope;
      end if;
      continue;
    end if;
    if v_rule.calls is not null then
      if v_outcome.retried <> 'policy' and person and p_row.attempts_from is null then
        -- Not tried again by itself: the rule says that it is, the row how often.
        by_row := v_rule.calls > 0;
        calls := case when by_row then p_row.max_attempts - 1 else 0 end;
        calls_from := case when by_row then 'row' else v_rule.scope end;
      elsif v_outcome.retried <> 'policy' or v_rule.rank <= public.call_retry_rank(p_row.attempts_from) then
        by_row := false;
        calls := v_rule.calls;
        calls_from := v_rule.scope;
      end if;
    end if;
    -- The fields of a campaign say nothing about what is not tried again by itself; the row's own wait is for all.
    if not person or v_rule.rank <= public.call_retry_rank(p_row.wait_from)
      or (v_outcome.retried <> 'policy' and p_row.wait_from is not null) then
      if v_rule.delays is not null then
        delays := v_rule.delays;
        delays_from := v_rule.scope;
      end if;
      if v_rule.spread is not null then
        spread := v_rule.spread;
        spread_from := v_rule.scope;
      end if;
    end if;
  end loop;
  if delays[1] is null then
    -- An outcome that is not retried by itself has no wait of its own; a rule said that it is.
    delays := array[p_row.retry_seconds];
    delays_from := coalesce(p_row.wait_from, 'row');
  end if;
  if p_outcome = 'unknown' and v_outcome.retried = 'never' then
    delays := array(select greatest(d.wait, v_unseen) from unnest(delays) with ordinality d (wait, place) order by d.place);
  end if;
end
$$;

-- The share of its spread that a call gets, 0 to 1 as 0 to 2^32: by its id, so that a repeated record says the same.
create or replace function public.call_retry_share(p_call uuid)
returns bigint
language plpgsql immutable
set search_path = ''
as $$
begin
  return coalesce(('x' || left(md5(p_call::text), 8))::bit(32)::bigint, 0);
end
$$;

-- Whether a call follows after one that ended so, counted in the row already; why not, or after how many seconds. Failing
-- over to another trunk is none of this: it comes before, and costs nothing of what is counted here (call_settle).
create or replace function public.call_retry_next(
  p_row public.call_queue, p_outcome text, out why text, out seconds integer, out person boolean, out fact text
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_plan record;
  v_times integer := coalesce((p_row.spent ->> p_outcome)::integer, 0) + coalesce((p_row.faults ->> p_outcome)::integer, 0);
  v_used integer;
  v_all integer;
  v_wait bigint;
begin
  select * into v_plan from public.call_retry_plan(p_row, p_outcome);
  person := v_plan.person;
  v_used := case when v_plan.by_row then p_row.attempts else v_times end;
  if v_plan.budget is not null then
    select coalesce(sum((p_row.faults ->> o.outcome)::integer), 0) into v_all
    from public.call_outcomes o
    where o.verdict = v_plan.budget_name;
  end if;
  why := case
    when v_plan.never is not null then v_plan.never
    when v_plan.calls <= 0 and not v_plan.by_row then format('nothing follows after %s (%s)', p_outcome, v_plan.calls_from)
    when v_used > v_plan.calls and v_plan.by_row then format('its %s tries are spent (%s)', v_plan.calls + 1, v_plan.calls_from)
    when v_used > v_plan.calls
      then format('%s calls may follow after %s and did (%s)', v_plan.calls, p_outcome, v_plan.calls_from)
    when v_all > v_plan.budget then format(
      '%s calls may follow after faults of %s and did (%s)',
      v_plan.budget, case v_plan.budget_name when 'us' then 'our own' else 'the carrier' end, v_plan.budget_from
    )
    when v_plan.person and public.call_number_answered(p_row.campaign_id, p_row.e164)
      then 'the person was reached by another call of the campaign'
  end;
  if why is null then
    v_wait := v_plan.delays[least(greatest(v_times, 1), cardinality(v_plan.delays))];
    -- Only ever later: what is written stays the shortest wait.
    seconds := v_wait + ((v_wait * v_plan.spread * public.call_retry_share(p_row.call_id) / 100) >> 32);
    fact := format(
      'call %s of %s that may follow after %s (%s), %s s later (%s)',
      v_used, v_plan.calls, case when v_plan.by_row then 'a try' else p_outcome end, v_plan.calls_from, seconds,
      v_plan.delays_from
    );
  end if;
end
$$;

-- 3. Shown and set ---------------------------------------------------------------------------------------------------------

create or replace function public.call_retry_v1(p_user uuid default null, p_campaign uuid default null)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_row public.call_queue;
  v_found record;
begin
  v_row.campaign_id := p_campaign;
  v_row.user_id := coalesce(p_user, (select c.user_id from public.campaigns c where c.id = p_campaign));
  select * into v_found from public.call_retry_of(v_row.user_id, p_campaign);
  v_row.max_attempts := 1 + v_found.more;
  v_row.attempts_from := v_found.said_by;
  v_row.retry_seconds := v_found.seconds;
  v_row.wait_from := v_found.said_by;
  return jsonb_build_object(
    'user_id', v_row.user_id,
    'campaign_id', p_campaign,
    'outcomes', (
      select jsonb_agg(jsonb_build_object(
        'outcome', o.outcome, 'words', o.words, 'verdict', o.verdict, 'again', p.calls > 0, 'never', p.never,
        'calls', p.calls, 'counted', case when p.by_row then 'tries' else 'outcome' end, 'calls_from', p.calls_from,
        'delays', case when p.calls > 0 then to_jsonb(p.delays) end, 'delays_from', case when p.calls > 0 then p.delays_from end,
        'spread', case when p.calls > 0 then p.spread end, 'spread_from', case when p.calls > 0 then p.spread_from end
      ) order by array_position(array['callee', 'number', 'carrier', 'us'], o.verdict), o.outcome)
      from public.call_outcomes o
      cross join lateral public.call_retry_plan(v_row, o.outcome) p
    ),
    'budgets', (
      select coalesce(jsonb_agg(to_jsonb(b) order by b.outcome), '[]')
      from (
        select distinct on (r.outcome) r.outcome, r.calls, r.scope as calls_from
        from public.call_retry_rules r
        where r.outcome in ('carrier', 'us')
          and (
            (r.scope = 'campaign' and r.scope_id = p_campaign) or (r.scope = 'user' and r.scope_id = v_row.user_id)
            or r.scope = 'default'
          )
        order by r.outcome, public.call_retry_rank(r.scope)
      ) b
    )
  );
end
$$;
comment on function public.call_retry_v1 is
  'What follows after each outcome for rows of this user and campaign that say nothing themselves, and who says so.';

create or replace function public.call_retry_set_v1(
  p_scope text, p_id uuid, p_outcome text, p_calls integer default null, p_delays integer[] default null,
  p_spread integer default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_zero constant uuid := '00000000-0000-0000-0000-000000000000';
  v_id uuid := coalesce(p_id, v_zero);
  v_problem text;
begin
  v_problem := case
    when p_scope is null or p_scope not in ('default', 'user', 'campaign')
      then format('a rule is for default, user or campaign, not for %s', coalesce(to_json(left(p_scope, 80))::text, 'nothing'))
    when (p_scope = 'default') <> (v_id = v_zero)
      then 'a rule for a user or a campaign needs its id, a rule for all (default) takes none'
    when p_outcome is null or (
      p_outcome not in ('carrier', 'us') and not exists (select from public.call_outcomes o where o.outcome = p_outcome)
    ) then format(
      '%s is no outcome: take one of %s; or carrier or us for all faults together',
      coalesce(to_json(left(p_outcome, 80))::text, 'nothing'),
      (select string_agg(o.outcome, ', ' order by o.outcome) from public.call_outcomes o)
    )
    when public.call_retry_never(p_outcome) is not null
      then format('nothing ever follows after %s: %s', p_outcome, public.call_retry_never(p_outcome))
    when p_calls not between 0 and 99 then 'calls that may follow are 0 to 99'
    when p_outcome in ('carrier', 'us') and num_nonnulls(p_delays, p_spread) > 0
      then format('%s is a budget of calls: waits are set for each outcome', p_outcome)
    when cardinality(p_delays) not between 1 and 20 then 'waits are 1 to 20 numbers of seconds'
    when array_position(p_delays, null) is not null or not (0 <= all (p_delays) and 2592000 >= all (p_delays))
      then 'each wait is 0 to 2592000 seconds (30 days)'
    when p_outcome = 'unknown' and not 3600 <= all (p_delays)
      then 'after unknown each wait is an hour (3600) at least: nobody saw the end of that call, and it may live as long'
    when p_spread not between 0 and 100 then 'the spread is 0 to 100 percent of the wait'
  end;
  if v_problem is not null then
    raise exception '%', v_problem using errcode = 'PT400';
  end if;
  if num_nonnulls(p_calls, p_delays, p_spread) = 0 then
    delete from public.call_retry_rules r where r.scope = p_scope and r.scope_id = v_id and r.outcome = p_outcome;
  else
    insert into public.call_retry_rules (scope, scope_id, outcome, calls, delays, spread)
    values (p_scope, v_id, p_outcome, p_calls, p_delays, p_spread)
    on conflict (scope, scope_id, outcome) do update
    set calls = excluded.calls, delays = excluded.delays, spread = excluded.spread;
  end if;
  return public.call_retry_v1(
    case when p_scope = 'user' then v_id end, case when p_scope = 'campaign' then v_id end
  );
end
$$;
comment on function public.call_retry_set_v1 is
  'Sets what follows after an outcome, for default, user or campaign; calls, delays and spread all null take the rule away.';

-- 4. Who may -----------------------------------------------------------------------------------------------------------------

alter table public.call_retry_rules enable row level security;

do $$
declare
  v_name regprocedure;
begin
  revoke all on public.call_retry_rules from public, anon, authenticated;
  grant select, insert, update, delete on public.call_retry_rules to service_role;
  for v_name in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in (
        'call_retry_never', 'call_retry_rank', 'call_retry_plan', 'call_retry_share', 'call_retry_next', 'call_retry_v1',
        'call_retry_set_v1'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_name);
  end loop;
  grant execute on function public.call_retry_v1(uuid, uuid) to service_role;
  grant execute on function public.call_retry_set_v1(text, uuid, text, integer, integer[], integer) to service_role;
end
$$;

notify pgrst, 'reload schema';
