-- Tables of the call queue. Everything may be applied again at any time and then changes nothing.
-- The app's own tables are only ever completed: no column is changed or dropped, no foreign key is added.

-- 1. The app's tables, made here only in a project that has none --------------------------------------------------

-- Closed to browsers, as nothing says what they may see. Where the app made them, its policies stand.
do $$
begin
  if pg_catalog.to_regclass('public.campaigns') is null then
    create table public.campaigns (
      id uuid primary key default gen_random_uuid(),
      user_id uuid not null,
      campaign_name text not null,
      prompt_id uuid,
      status text not null default 'pending',
      total_numbers integer default 0,
      successful_calls integer default 0,
      failed_calls integer default 0,
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(),
      retry_enabled boolean default false,
      retry_interval_minutes integer default 30,
      max_retry_attempts integer default 3,
      current_retry_count integer default 0,
      unique (user_id, campaign_name)
    );
    alter table public.campaigns enable row level security;
  end if;

  if pg_catalog.to_regclass('public.call_logs') is null then
    create table public.call_logs (
      id uuid primary key default gen_random_uuid(),
      user_id uuid not null,
      call_id text not null,
      agent_id text not null,
      caller_number text not null,
      start_time timestamptz not null,
      duration integer,
      status text not null,
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(),
      campaign_id uuid,
      phone_number text,
      vapi_call_id text,
      end_of_call_report jsonb,
      metadata jsonb,
      stage_reached text,
      contact_id uuid,
      captured_data jsonb default '{}',
      retry_count integer default 0,
      is_retry boolean default false,
      original_campaign_id uuid,
      idsale text,
      customer_name text,
      details text,
      prompt_id uuid
    );
    alter table public.call_logs enable row level security;
  end if;
end
$$;

-- The app's code writes these at the end of a call; without them it loses that whole update.
alter table public.call_logs
  add column if not exists transcript text,
  add column if not exists cost numeric,
  add column if not exists recording_url text;

-- Not unique: live data may hold duplicates. Any index that begins with call_id will do.
do $$
begin
  if not exists (
    select from pg_catalog.pg_index i
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = 'public.call_logs'::regclass and a.attname = 'call_id' and i.indpred is null and i.indisvalid
  ) then
    create index call_logs_call_id_idx on public.call_logs (call_id);
  end if;
end
$$;

-- 2. Reference tables ------------------------------------------------------------------------------------------------

create table if not exists public.call_regions (
  region text primary key,
  calling_code integer not null,
  rank integer not null,
  international_prefix text,
  national_prefix text,
  prefix_pattern text,
  prefix_rule text,
  national_pattern text not null,
  lengths integer[] not null,
  local_lengths integer[] not null default '{}',
  leading_digits text,
  own_pattern text,
  premium_pattern text,
  zone text,
  unique (calling_code, rank)
);
alter table public.call_regions add column if not exists premium_pattern text;
comment on table public.call_regions is
  'How phone numbers of each region are built (generated from the phonenumbers package). Read by call_number_v1.';
comment on column public.call_regions.region is
  'ISO 3166 code; of a calling code that belongs to no country (satellites, global freephone) the code with its plus.';
comment on column public.call_regions.rank is 'Order among regions that share a calling code; 1 is the main region.';
comment on column public.call_regions.own_pattern is
  'All numbers of this region, where others share its calling code; null where it is alone.';
comment on column public.call_regions.premium_pattern is 'Numbers that cost the caller money for their owner: never dialed.';
comment on column public.call_regions.zone is 'The one time zone of the region; null where it has several.';

create table if not exists public.call_outcomes (
  outcome text primary key,
  verdict text not null check (verdict in ('callee', 'number', 'carrier', 'us')),
  log_status text check (log_status in ('answered', 'voicemail', 'failed')),
  spends_attempt boolean not null,
  retried text not null check (retried in ('policy', 'own_bound', 'never')),
  bound integer check (bound between 1 and 100),
  delay_seconds integer check (delay_seconds between 0 and 86400),
  words text not null,
  check ((retried = 'own_bound') = (bound is not null and delay_seconds is not null))
);
comment on table public.call_outcomes is
  'How a call can end and what follows. Your changes stay when the migrations are applied again.';
comment on column public.call_outcomes.log_status is 'Word for call_logs.status; null: the word for "no answer".';
comment on column public.call_outcomes.spends_attempt is 'True if it used up one of the max_attempts of the row.';
comment on column public.call_outcomes.retried is
  'policy: again after retry_seconds while attempts are left; own_bound: soon, at most `bound` times; never.';

-- Delays of the carrier's faults: half a minute lets a burst pass; a refusal (credit, rights) is mended by people.
insert into public.call_outcomes
  (outcome, verdict, log_status, spends_attempt, retried, bound, delay_seconds, words)
values
  ('answered', 'callee', 'answered', true, 'never', null, null, 'answered'),
  ('no_answer', 'callee', null, true, 'policy', null, null, 'nobody answered'),
  ('busy', 'callee', null, true, 'policy', null, null, 'the line was busy'),
  ('declined', 'callee', null, true, 'never', null, null, 'the callee declined the call'),
  ('voicemail', 'callee', 'voicemail', true, 'policy', null, null, 'an answering machine took the call'),
  ('no_reply', 'carrier', null, true, 'policy', null, null, 'the carrier never said that it rang'),
  ('invalid_number', 'number', 'failed', true, 'never', null, null, 'there is no such number'),
  ('rejected', 'carrier', 'failed', false, 'own_bound', 3, 60, 'the carrier refused the call'),
  ('congestion', 'carrier', 'failed', false, 'own_bound', 3, 30, 'the carrier is overloaded or failing'),
  ('trunk_unavailable', 'carrier', 'failed', false, 'own_bound', 3, 30, 'the trunk is down or unknown to the PBX'),
  ('pbx_error', 'us', 'failed', false, 'own_bound', 3, 30, 'the PBX refused to place the call'),
  ('ai_failed', 'us', 'answered', true, 'never', null, null, 'answered, but our side dropped the call at once'),
  ('blocked', 'us', 'failed', false, 'never', null, null, 'not called'),
  ('canceled', 'us', 'failed', false, 'never', null, null, 'canceled'),
  ('unknown', 'us', 'failed', true, 'never', null, null, 'how the call ended was not seen')
on conflict (outcome) do nothing;

-- 3. The queue ---------------------------------------------------------------------------------------------------------

create table if not exists public.call_queue (
  id bigint generated always as identity primary key,
  status text not null default 'queued'
    constraint call_queue_status_check check (status in ('queued', 'dialing', 'talking', 'done', 'canceled')),
  phone_number text not null,
  customer_name text,
  outcome text,
  ended_reason text,
  user_id uuid not null,
  campaign_id uuid,
  contact_id uuid,
  prompt_id uuid,
  agent_id text,
  idsale text,
  priority integer not null default 5
    constraint call_queue_priority_check check (priority between 0 and 9),
  not_before timestamptz not null default now(),
  expires_at timestamptz not null,
  expires_fixed boolean not null default false,
  max_attempts integer not null default 1,
  retry_seconds integer not null default 1800,
  attempts integer not null default 0,
  faults jsonb not null default '{}',
  cancel_requested boolean not null default false,
  cancel_reason text,
  caller_id text,
  trunk text,
  ring_seconds integer,
  variables jsonb not null default '{}',
  metadata jsonb not null default '{}',
  idempotency_key text,
  e164 text,
  country text,
  zone text,
  call_id uuid,
  claim_number bigint,
  claim_id uuid,
  adapter uuid,
  incarnation bigint,
  pbx text,
  pbx_boot text,
  claimed_at timestamptz,
  originated_at timestamptz,
  ringing_at timestamptz,
  answered_at timestamptz,
  ended_at timestamptz,
  deadline timestamptz,
  settle_at timestamptz,
  call_facts jsonb,
  last_outcome text,
  last_reason text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  lane uuid generated always as (coalesce(campaign_id, '00000000-0000-0000-0000-000000000000'::uuid)) stored
);

comment on table public.call_queue is
  'One row is one wish to reach one person. Insert user_id and phone_number; the adapter does the rest.';
comment on column public.call_queue.status is
  'queued, dialing (possibly dialed already), talking, done, canceled (while queued). Insert as queued.';
comment on column public.call_queue.phone_number is 'As you have it, local or international. Required.';
comment on column public.call_queue.customer_name is 'Shown in the app and handed to the AI.';
comment on column public.call_queue.outcome is 'How it ended (call_outcomes), null while it is not decided.';
comment on column public.call_queue.ended_reason is 'The same in words.';
comment on column public.call_queue.user_id is 'Owner of the call in the app. Required.';
comment on column public.call_queue.campaign_id is 'Campaign of the app, if any; calls of one campaign wait in one lane.';
comment on column public.call_queue.contact_id is 'Contact of the app, if any.';
comment on column public.call_queue.prompt_id is 'Prompt that the AI shall use.';
comment on column public.call_queue.agent_id is 'Text for call_logs.agent_id; without it the prompt id is taken.';
comment on column public.call_queue.idsale is 'Passed on to call_logs.';
comment on column public.call_queue.priority is
  '0 to 9, 9 first, within the lane. 9 is urgent: its user and campaign have the next turn.';
comment on column public.call_queue.not_before is 'Not dialed before this instant.';
comment on column public.call_queue.expires_at is
  'Ends undialed at this instant: 24 hours after not_before unless given, never later than 30 days after the insert.';
comment on column public.call_queue.expires_fixed is 'True if expires_at was given: a retry then does not move it.';
comment on column public.call_queue.max_attempts is 'Calls that may spend a try of the person: 1 + retries.';
comment on column public.call_queue.retry_seconds is 'Wait between such calls.';
comment on column public.call_queue.attempts is 'Tries of the person spent so far.';
comment on column public.call_queue.faults is 'Calls that spent no try, counted by outcome; released: claimed, but surely not dialed.';
comment on column public.call_queue.cancel_requested is 'Set it to cancel: a queued row ends, a live call is hung up.';
comment on column public.call_queue.cancel_reason is 'Why it was canceled, in words.';
comment on column public.call_queue.caller_id is 'Number shown to the callee instead of the usual one.';
comment on column public.call_queue.trunk is 'Provider id of the PBX to use; null: the usual one.';
comment on column public.call_queue.ring_seconds is 'Longest ringing, 5 to 120; null: the setting of the adapter.';
comment on column public.call_queue.variables is 'Object of texts handed to the AI as channel variables.';
comment on column public.call_queue.metadata is 'Object merged into call_logs.metadata.';
comment on column public.call_queue.idempotency_key is 'Unique per user: a second row with the same key is not added.';
comment on column public.call_queue.e164 is 'Canonical number with plus, set by call_number_v1.';
comment on column public.call_queue.country is 'Region of the number.';
comment on column public.call_queue.zone is 'Time zone of the number, null if its region has several.';
comment on column public.call_queue.call_id is 'Id of the last call: call_logs.call_id, and the channel id on the PBX.';
comment on column public.call_queue.claim_number is 'Number of the last claim; modulo 4096 its slot in the journal of the PBX.';
comment on column public.call_queue.claim_id is 'Id of the request that claimed the row.';
comment on column public.call_queue.adapter is 'Adapter that claimed the row.';
comment on column public.call_queue.incarnation is 'Run of that adapter.';
comment on column public.call_queue.pbx is 'PBX through which it is dialed.';
comment on column public.call_queue.pbx_boot is 'Start time of that PBX at the claim.';
comment on column public.call_queue.deadline is 'From then on any adapter ends the call as unknown.';
comment on column public.call_queue.settle_at is 'An answered call is final at this instant, after the AI had its say.';
comment on column public.call_queue.call_facts is 'What call_logs.metadata must hold of the last call.';
comment on column public.call_queue.last_outcome is 'Outcome of the last call of a row that is tried again.';
comment on column public.call_queue.last_reason is 'The same in words.';
comment on column public.call_queue.lane is 'campaign_id, or zeros: the lane in which the row waits.';
alter table public.call_queue add column if not exists handed_to text;
comment on column public.call_queue.handed_to is
  'PBX whose trunks may call this number while those of the PBX that came to it may not: it takes it at its next look.';

-- One index for each way in which the functions look for rows; all but the first hold only the rows they are about.
create index if not exists call_queue_turn_idx
  on public.call_queue (user_id, lane, priority, not_before, id) where status = 'queued';
create index if not exists call_queue_expiry_idx on public.call_queue (expires_at) where status = 'queued';
-- One person, one call. Live rows always have an e164; saying so keeps this index for questions about a number: taken for
-- counting a user's calls it would read all live rows each time.
create unique index if not exists call_queue_live_number_key
  on public.call_queue (e164) where status in ('dialing', 'talking') and e164 is not null;
create index if not exists call_queue_in_air_idx
  on public.call_queue (user_id, lane) where status in ('dialing', 'talking') and outcome is null;
create index if not exists call_queue_settle_idx on public.call_queue (settle_at) where status = 'talking';
create unique index if not exists call_queue_call_id_key on public.call_queue (call_id) where call_id is not null;
create unique index if not exists call_queue_idempotency_key
  on public.call_queue (user_id, idempotency_key) where idempotency_key is not null;

-- 4. Whose turn it is --------------------------------------------------------------------------------------------------

create table if not exists public.call_tenants (
  user_id uuid primary key,
  ready boolean not null default false,
  wake_at timestamptz,
  served bigint not null default 0,
  paused boolean not null default false
);
comment on table public.call_tenants is 'Turn of each user, so that a claim costs the same whatever the backlog.';
comment on column public.call_tenants.ready is 'There may be a row to dial now.';
comment on column public.call_tenants.wake_at is 'Becomes ready by itself at this instant.';
comment on column public.call_tenants.served is 'When it last had its turn; the lowest is next.';
comment on column public.call_tenants.paused is 'Nothing of this user is dialed.';

create table if not exists public.call_lanes (
  user_id uuid not null,
  lane uuid not null,
  ready boolean not null default false,
  wake_at timestamptz,
  served bigint not null default 0,
  paused boolean not null default false,
  primary key (user_id, lane)
);
comment on table public.call_lanes is 'Turn of each campaign among those of its user; lane zero is for calls without one.';
comment on column public.call_lanes.paused is 'Nothing of this lane is dialed.';

create index if not exists call_tenants_turn_idx on public.call_tenants (served, user_id) where ready and not paused;
create index if not exists call_tenants_wake_idx on public.call_tenants (wake_at) where wake_at is not null;
create index if not exists call_lanes_turn_idx
  on public.call_lanes (user_id, served, lane) where ready and not paused;
create index if not exists call_lanes_wake_idx on public.call_lanes (wake_at) where wake_at is not null;

-- Inserting sessions only ever add to this table, so they never wait for each other or for a claim, and a claim that
-- found a lane empty learns of rows committed after it looked.
create table if not exists public.call_arrivals (
  id bigint generated always as identity primary key,
  user_id uuid not null,
  lane uuid not null,
  due_at timestamptz not null
);
comment on table public.call_arrivals is 'Lanes that got rows since the last claim; the claim empties it.';

create table if not exists public.call_bell (
  only_row boolean primary key default true check (only_row),
  rung_at timestamptz not null default '-infinity'
);
comment on table public.call_bell is 'When the doorbell was last rung, to ring it at most every 100 ms.';
insert into public.call_bell default values on conflict do nothing;

-- 5. Adapters and PBXs -------------------------------------------------------------------------------------------------

create table if not exists public.call_adapters (
  adapter uuid primary key,
  incarnation bigint not null,
  nonce uuid not null,
  pbx text,
  info jsonb not null default '{}',
  status jsonb not null default '{}',
  registered_at timestamptz not null default now(),
  seen_at timestamptz,
  steady_since timestamptz,
  ready_since timestamptz,
  claim_id uuid
);
alter table public.call_adapters add column if not exists request bigint;
alter table public.call_adapters add column if not exists told bigint;
comment on table public.call_adapters is 'One row for each adapter: its current run and its last heartbeat.';
comment on column public.call_adapters.incarnation is 'Number of its current run; an older one must stop.';
comment on column public.call_adapters.steady_since is 'Since then its heartbeats have come without a gap.';
comment on column public.call_adapters.ready_since is 'Since then it has been connected to its PBX as well.';
comment on column public.call_adapters.claim_id is 'Last claim that gave it rows.';
comment on column public.call_adapters.request is 'Newest request of its run; one executed after a newer one claims nothing.';
comment on column public.call_adapters.told is
  'Highest claim number that it was told; if it has seen a higher one, the database was restored to an earlier time.';

create table if not exists public.call_pbx (
  pbx text primary key,
  holder uuid,
  epoch bigint not null default 1,
  lease_until timestamptz,
  trunk text,
  boot text,
  former uuid,
  taken_at timestamptz not null default now()
);
comment on table public.call_pbx is 'Which adapter dials through which PBX: one at a time, others are witnesses.';
comment on column public.call_pbx.epoch is 'Rises with each take-over.';
comment on column public.call_pbx.former is 'Holder before the last take-over.';

create sequence if not exists public.call_claim_number;
comment on sequence public.call_claim_number is 'Number of each claimed row; never goes back but with the whole database.';
create sequence if not exists public.call_turn;
comment on sequence public.call_turn is 'Order in which users and lanes were served.';
