-- What a call costs: rates of each trunk by the longest prefix of the number, billed in the carrier's increments. The cost
-- stands in call_logs.metadata, and for sums in a table of ours, which nobody prunes or folds. Column call_logs.cost belongs
-- to the AI handler and is never written.

-- 1. Rates -----------------------------------------------------------------------------------------------------------------

create table if not exists public.call_rates (
  trunk text not null default '',
  prefix text collate "C" not null check (prefix ~ '^[0-9]{0,15}$'),
  per_minute numeric(12, 6) not null check (per_minute >= 0),
  currency text not null check (currency ~ '^[A-Z]{3}$'),
  first_seconds integer not null default 60 check (first_seconds between 0 and 3600),
  step_seconds integer not null default 60 check (step_seconds between 1 and 3600),
  connection_fee numeric(12, 6) not null default 0 check (connection_fee >= 0),
  valid_from timestamptz not null default '-infinity',
  -- The index by which a rate is found, however long the sheet is (call_rate).
  primary key (trunk, prefix, valid_from)
);
comment on table public.call_rates is 'What a carrier takes for answered calls; imported by `mikopbx-adapter rates import`.';
comment on column public.call_rates.trunk is 'The trunk (provider id); empty: calls of which MikoPBX chose the trunk.';
comment on column public.call_rates.prefix is
  'First digits of the number with country code and without plus; the longest that fits counts. Empty: any number.';
comment on column public.call_rates.per_minute is 'Price of a minute.';
comment on column public.call_rates.currency is 'Three letters, as MYR.';
comment on column public.call_rates.first_seconds is 'So many seconds are billed at least: the 30 of 30/6.';
comment on column public.call_rates.step_seconds is 'What is longer is billed in steps of so many seconds: the 6 of 30/6.';
comment on column public.call_rates.connection_fee is 'Taken once for each answered call.';
comment on column public.call_rates.valid_from is 'Holds for calls from then on, until a later row of the same prefix does.';

alter table public.call_settings add column if not exists reference_per_minute numeric(12, 6) check (reference_per_minute >= 0);
alter table public.call_settings add column if not exists reference_currency text check (reference_currency ~ '^[A-Z]{3}$');
alter table public.call_settings add column if not exists reference_first_seconds integer not null default 60
  check (reference_first_seconds between 0 and 3600);
alter table public.call_settings add column if not exists reference_step_seconds integer not null default 60
  check (reference_step_seconds between 1 and 3600);
comment on column public.call_settings.reference_per_minute is
  'What another provider takes for a minute, to compare with (campaign_costs); null: nothing is compared.';
comment on column public.call_settings.reference_currency is 'Its currency, three letters; needed to compare.';
comment on column public.call_settings.reference_first_seconds is 'Its increments: so many seconds are billed at least.';
comment on column public.call_settings.reference_step_seconds is 'Its increments: what is longer is billed in steps of so many.';

-- Seconds that are billed for an answered call.
create or replace function public.call_billed_seconds(p_seconds integer, p_first integer, p_step integer)
returns integer
language plpgsql immutable
set search_path = ''
as $$
begin
  return case
    when p_seconds <= 0 then 0
    when p_seconds <= p_first then p_first
    else p_first + ((p_seconds - p_first + p_step - 1) / p_step) * p_step
  end;
end
$$;

-- The rate of a number; all null where there is none. In order of the index a prefix stands before all that begin with it:
-- of what is not behind the number the last one is its longest prefix, or tells how much of it a shorter one may share. So
-- two or three probes find it, and never more than the number has digits.
create or replace function public.call_rate(p_trunk text, p_e164 text, p_at timestamptz)
returns public.call_rates
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_digits constant text := ltrim(p_e164, '+');
  v_trunk constant text := coalesce(p_trunk, '');
  v_most text := v_digits;
  v_shared integer;
  v_rate public.call_rates;
begin
  loop
    select * into v_rate from public.call_rates c
    where c.trunk = v_trunk and c.prefix <= v_most and c.valid_from <= p_at
    order by c.prefix desc, c.valid_from desc
    limit 1;
    exit when not found or starts_with(v_digits, v_rate.prefix);
    v_shared := 0;
    while left(v_digits, v_shared + 1) = left(v_rate.prefix, v_shared + 1) loop
      v_shared := v_shared + 1;
    end loop;
    v_most := left(v_digits, v_shared);
  end loop;
  return v_rate;
end
$$;

create or replace function public.call_cost_v1(
  p_trunk text, p_e164 text, p_seconds integer, p_at timestamptz default now()
)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_rate public.call_rates;
  v_billed integer;
begin
  if p_e164 is null or p_e164 !~ '^\+[1-9][0-9]{1,14}$' then
    raise exception '% is no number with plus and country code', coalesce(to_json(left(p_e164, 80))::text, 'nothing')
      using errcode = 'PT400';
  elsif p_seconds is null or p_seconds not between 0 and 86400 then
    raise exception 'seconds are 0 to 86400' using errcode = 'PT400';
  end if;
  v_rate := public.call_rate(p_trunk, p_e164, coalesce(p_at, now()));
  if v_rate.prefix is null then
    return null;
  end if;
  v_billed := public.call_billed_seconds(p_seconds, v_rate.first_seconds, v_rate.step_seconds);
  return jsonb_build_object(
    'cost', case when p_seconds = 0 then 0 else
      trim_scale(round(v_rate.connection_fee + v_rate.per_minute * v_billed / 60, 6))
    end,
    'currency', v_rate.currency,
    'billed_seconds', v_billed,
    'prefix', v_rate.prefix
  );
end
$$;
comment on function public.call_cost_v1 is
  'What so many seconds of talk with a number cost on a trunk at an instant; null where there is no rate. 0 seconds cost 0.';

-- 2. What each call cost -----------------------------------------------------------------------------------------------------

create table if not exists public.call_prices (
  call_id uuid primary key,
  user_id uuid,
  campaign_id uuid,
  trunk text not null,
  answered boolean not null,
  talk_seconds integer not null,
  billed_seconds integer,
  cost numeric(14, 6),
  currency text,
  ended_at timestamptz not null
);
comment on table public.call_prices is 'What each call cost, one row for each that was dialed and whose end is known.';
comment on column public.call_prices.call_id is 'The call: call_logs.call_id.';
comment on column public.call_prices.user_id is 'Owner of the call in the app.';
comment on column public.call_prices.campaign_id is 'Its campaign, if any.';
comment on column public.call_prices.trunk is 'Trunk that it took; empty: MikoPBX chose.';
comment on column public.call_prices.answered is 'False: it cost nothing.';
comment on column public.call_prices.talk_seconds is 'Seconds from answer to end.';
comment on column public.call_prices.billed_seconds is 'The same in the increments of the rate; null: there is no rate.';
comment on column public.call_prices.cost is 'Cost; null where it was not answered, or there is no rate.';
comment on column public.call_prices.currency is 'Currency of the rate.';
comment on column public.call_prices.ended_at is 'When it was told.';
create index if not exists call_prices_campaign_idx on public.call_prices (campaign_id);

-- The price of a call that has ended, from what the claim noted of it. Nobody knows how long an unknown one talked: it has
-- none until its end is told. An answered call of no whole second is billed as one. A row of call_prices as an object, as
-- the functions of records are made before that table.
create or replace function public.call_price(
  p_call uuid, p_outcome text, p_answered boolean, p_talk integer, p_trunk text, p_now timestamptz
)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_price public.call_prices;
  v_number text;
  v_at timestamptz;
  v_row bigint;
  v_cost jsonb;
begin
  if p_outcome in ('unknown', 'blocked', 'pbx_error') then
    return null;
  end if;
  select d.row_id, d.user_id, d.e164, d.trunk, d.claimed_at
  into v_row, v_price.user_id, v_number, v_price.trunk, v_at
  from public.call_dials d
  where d.call_id = p_call;
  if not found then
    select q.id, q.user_id, q.e164, q.dialed_trunk, q.claimed_at
    into v_row, v_price.user_id, v_number, v_price.trunk, v_at
    from public.call_queue q
    where q.call_id = p_call;
  end if;
  v_price.call_id := p_call;
  v_price.campaign_id := (select q.campaign_id from public.call_queue q where q.id = v_row);
  if v_price.campaign_id is null then
    select l.campaign_id, coalesce(v_price.user_id, l.user_id) into v_price.campaign_id, v_price.user_id
    from public.call_logs l
    where l.call_id = p_call::text
    limit 1;
  end if;
  v_price.trunk := coalesce(nullif(v_price.trunk, ''), p_trunk, '');
  v_price.answered := p_answered;
  v_price.talk_seconds := case when p_answered then p_talk else 0 end;
  v_price.ended_at := p_now;
  if p_answered and v_number ~ '^\+[1-9][0-9]{1,14}$' then
    v_cost := public.call_cost_v1(v_price.trunk, v_number, least(greatest(p_talk, 1), 86400), coalesce(v_at, p_now));
    v_price.cost := (v_cost ->> 'cost')::numeric;
    v_price.currency := v_cost ->> 'currency';
    v_price.billed_seconds := (v_cost ->> 'billed_seconds')::integer;
  end if;
  return to_jsonb(v_price);
end
$$;

-- Keeps it: the latest word about a call, which changes only where `unknown` is replaced.
create or replace function public.call_price_keep(p_price jsonb)
returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if p_price is not null then
    insert into public.call_prices select r.* from jsonb_populate_record(null::public.call_prices, p_price) r
    on conflict (call_id) do update
    set answered = excluded.answered, talk_seconds = excluded.talk_seconds, billed_seconds = excluded.billed_seconds,
      cost = excluded.cost, currency = excluded.currency, trunk = excluded.trunk, ended_at = excluded.ended_at;
  end if;
end
$$;

-- What call_logs.metadata says of it: texts, as all there.
create or replace function public.call_price_facts(p_price jsonb)
returns jsonb
language plpgsql immutable
set search_path = ''
as $$
begin
  return jsonb_strip_nulls(
    jsonb_build_object(
      'cost', trim_scale((p_price ->> 'cost')::numeric)::text, 'cost_currency', p_price ->> 'currency'
    )
  );
end
$$;

-- 3. Sums --------------------------------------------------------------------------------------------------------------------

-- Asked for one campaign it reads that campaign's calls, by their index.
create or replace view public.campaign_costs with (security_invoker = true) as
select s.campaign_id,
  c.campaign_name,
  s.calls,
  s.answered,
  s.talk_minutes,
  s.billed_minutes,
  case when s.currencies = 1 then s.cost end as cost,
  s.currency,
  s.without_rate,
  s.reference_cost,
  case
    when s.currencies = 1 and s.currency = s.reference_currency and s.without_rate = 0 then s.reference_cost - s.cost
  end as saved
from (
  select p.campaign_id,
    count(*) as calls,
    count(*) filter (where p.answered) as answered,
    round(sum(p.talk_seconds) / 60.0, 2) as talk_minutes,
    round(sum(p.billed_seconds) / 60.0, 2) as billed_minutes,
    trim_scale(sum(p.cost)) as cost,
    count(distinct p.currency) as currencies,
    string_agg(distinct p.currency, ', ') as currency,
    count(*) filter (where p.answered and p.cost is null) as without_rate,
    trim_scale(round(sum(
      s.reference_per_minute * (
        s.reference_first_seconds + s.reference_step_seconds
          * greatest(ceil((greatest(p.talk_seconds, 1) - s.reference_first_seconds)::numeric / s.reference_step_seconds), 0)
      ) / 60
    ) filter (where p.answered), 6)) as reference_cost,
    min(s.reference_currency) as reference_currency
  from public.call_prices p
  cross join public.call_settings s
  group by p.campaign_id
) s
left join public.campaigns c on c.id = s.campaign_id;
comment on view public.campaign_costs is
  'What the calls of each campaign cost, and what another provider would have taken for them. Ask for one campaign_id.';
comment on column public.campaign_costs.campaign_id is 'The campaign; null: calls without one.';
comment on column public.campaign_costs.campaign_name is 'Its name in the app, while it is there.';
comment on column public.campaign_costs.calls is 'Calls that were dialed and whose end is known.';
comment on column public.campaign_costs.answered is 'Those that were answered, by a person or a machine.';
comment on column public.campaign_costs.talk_minutes is 'Minutes from answer to end.';
comment on column public.campaign_costs.billed_minutes is 'The same in the increments of the rates.';
comment on column public.campaign_costs.cost is 'What they cost; null if nothing has a rate, or rates are in several currencies.';
comment on column public.campaign_costs.currency is 'Currency of the cost; several are all named.';
comment on column public.campaign_costs.without_rate is 'Answered calls without a rate: they are missing in the cost.';
comment on column public.campaign_costs.reference_cost is
  'What another provider would have taken (call_settings.reference_per_minute).';
comment on column public.campaign_costs.saved is
  'The difference; null while a call has no rate, or the currencies are not the same.';

-- 4. Import ------------------------------------------------------------------------------------------------------------------

-- Lines of a rate sheet, all values as texts. A line that cannot be meant is told and left out; the others are taken. The
-- same again changes nothing.
create or replace function public.call_rates_import_v1(p_trunk text, p_lines jsonb)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_line jsonb;
  v_parts text[];
  v_prefix text;
  v_from timestamptz;
  v_problem text;
  v_bad jsonb := '[]';
  v_taken integer := 0;
begin
  if p_trunk is null or length(p_trunk) > 80 then
    raise exception 'a rate sheet is for one trunk: name it (empty where MikoPBX chooses)' using errcode = 'PT400';
  elsif coalesce(jsonb_typeof(p_lines), 'null') <> 'array' or jsonb_array_length(p_lines) > 5000 then
    raise exception 'lines are an array of 5000 at most' using errcode = 'PT400';
  end if;
  for v_line in select l.value from jsonb_array_elements(p_lines) l loop
    v_prefix := regexp_replace(coalesce(v_line ->> 'prefix', ''), '[[:space:]+().-]', '', 'g');
    v_prefix := case v_prefix when '*' then '' when '' then null else v_prefix end;
    v_parts := regexp_match(coalesce(v_line ->> 'increments', '60/60'), '^([0-9]{1,4})/([0-9]{1,4})$');
    v_from := '-infinity';
    v_problem := case
      when jsonb_typeof(v_line) <> 'object' then 'it is no line'
      when v_prefix !~ '^[0-9]{0,15}$' then format('prefix %s is no digits', to_json(left(v_line ->> 'prefix', 40)))
      when v_prefix is null then 'it has no prefix (write * for all other numbers)'
      when coalesce(v_line ->> 'per_minute', '') !~ '^[0-9]{1,6}(\.[0-9]{1,6})?$'
        then format('price %s is no number with a point, 0 or more', to_json(left(coalesce(v_line ->> 'per_minute', ''), 40)))
      when coalesce(v_line ->> 'currency', '') !~ '^[A-Z]{3}$'
        then format('currency %s is not three capital letters', to_json(left(coalesce(v_line ->> 'currency', ''), 40)))
      when v_parts is null or v_parts[1]::integer > 3600 or v_parts[2]::integer not between 1 and 3600
        then format('increments %s are not like 60/60, 30/6 or 1/1', to_json(left(v_line ->> 'increments', 40)))
      when coalesce(v_line ->> 'connection_fee', '0') !~ '^[0-9]{1,6}(\.[0-9]{1,6})?$'
        then format('connection fee %s is no number with a point, 0 or more', to_json(left(v_line ->> 'connection_fee', 40)))
    end;
    if v_problem is null and v_line ->> 'valid_from' is not null then
      begin
        v_from := (v_line ->> 'valid_from')::timestamptz;
      exception
        when others then
          v_problem := format('valid_from %s is no date like 2026-01-31', to_json(left(v_line ->> 'valid_from', 40)));
      end;
    end if;
    if v_problem is not null then
      v_bad := v_bad || jsonb_build_object('line', v_line -> 'line', 'problem', v_problem);
      continue;
    end if;
    insert into public.call_rates (trunk, prefix, per_minute, currency, first_seconds, step_seconds, connection_fee, valid_from)
    values (
      p_trunk, v_prefix, (v_line ->> 'per_minute')::numeric, v_line ->> 'currency', v_parts[1]::integer, v_parts[2]::integer,
      coalesce(v_line ->> 'connection_fee', '0')::numeric, v_from
    )
    on conflict (trunk, prefix, valid_from) do update
    set per_minute = excluded.per_minute, currency = excluded.currency, first_seconds = excluded.first_seconds,
      step_seconds = excluded.step_seconds, connection_fee = excluded.connection_fee;
    v_taken := v_taken + 1;
  end loop;
  return jsonb_build_object('taken', v_taken, 'bad', v_bad);
end
$$;
comment on function public.call_rates_import_v1 is
  'Takes lines of a rate sheet for a trunk; tells those that it left out, with the reason. The same again changes nothing.';

-- Costs of a campaign or of all, the dearest first.
create or replace function public.call_costs_v1(p_campaign uuid default null, p_limit integer default 100)
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_found jsonb;
begin
  if p_limit is null or p_limit not between 1 and 10000 then
    raise exception 'the limit is 1 to 10000' using errcode = 'PT400';
  end if;
  if p_campaign is not null then
    select coalesce(jsonb_agg(to_jsonb(c)), '[]') into v_found
    from public.campaign_costs c
    where c.campaign_id = p_campaign;
  else
    select coalesce(jsonb_agg(to_jsonb(c)), '[]') into v_found
    from (select * from public.campaign_costs c order by c.cost desc nulls last, c.calls desc, c.campaign_id limit p_limit) c;
  end if;
  return jsonb_build_object(
    'campaigns', v_found,
    'reference', (
      select jsonb_build_object(
        'per_minute', s.reference_per_minute, 'currency', s.reference_currency,
        'increments', format('%s/%s', s.reference_first_seconds, s.reference_step_seconds)
      )
      from public.call_settings s
    ),
    'rates', exists (select from public.call_rates)
  );
end
$$;
comment on function public.call_costs_v1 is 'Rows of campaign_costs: of one campaign, or of all, the dearest first.';

-- 5. Who may -----------------------------------------------------------------------------------------------------------------

alter table public.call_rates enable row level security;
alter table public.call_prices enable row level security;

do $$
declare
  v_name text;
  v_function regprocedure;
begin
  foreach v_name in array array['call_rates', 'call_prices'] loop
    execute format('revoke all on public.%I from public, anon, authenticated', v_name);
    execute format('grant select, insert, update, delete on public.%I to service_role', v_name);
  end loop;
  revoke all on public.campaign_costs from public, anon, authenticated;
  revoke all on public.campaign_costs from service_role;
  grant select on public.campaign_costs to service_role;
  for v_function in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in (
        'call_billed_seconds', 'call_rate', 'call_cost_v1', 'call_price', 'call_price_keep', 'call_price_facts',
        'call_rates_import_v1', 'call_costs_v1'
      )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function);
  end loop;
  grant execute on function public.call_cost_v1(text, text, integer, timestamptz) to service_role;
  grant execute on function public.call_rates_import_v1(text, jsonb) to service_role;
  grant execute on function public.call_costs_v1(uuid, integer) to service_role;
end
$$;

notify pgrst, 'reload schema';
