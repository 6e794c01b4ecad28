-- What the earlier files left unsaid: every table, view and column that is ours has its words in the dashboard.

comment on column public.call_adapters.adapter is 'Id of the adapter: it lies in its STATE_DIR.';
comment on column public.call_adapters.nonce is 'Chosen by the run when it registered, so that the same try is known again.';
comment on column public.call_adapters.pbx is 'PBX to which it is connected.';
comment on column public.call_adapters.info is 'Version, host and process of the run.';
comment on column public.call_adapters.status is 'Its last heartbeat.';
comment on column public.call_adapters.registered_at is 'When its run began.';
comment on column public.call_adapters.seen_at is 'When it last sent a request.';

comment on column public.call_arrivals.id is 'Number of the note.';
comment on column public.call_arrivals.user_id is 'User whose lane got rows.';
comment on column public.call_arrivals.lane is 'That lane: the campaign, or zeros.';
comment on column public.call_arrivals.due_at is 'When the earliest of the rows may be dialed.';

comment on column public.call_batches.id is 'Id of the request.';
comment on column public.call_batches.created_at is 'When it came.';
comment on column public.call_batches.user_id is 'User who sent it.';
comment on column public.call_batches.campaign_id is 'Campaign of its rows.';
comment on column public.call_batches.prompt_id is 'Prompt of its rows.';
comment on column public.call_batches.queued is 'Numbers for which a row to dial was added.';
comment on column public.call_batches.refused is 'Numbers that are none, or may not be dialed.';
comment on column public.call_batches.duplicates is 'Numbers that stood in the request before.';

comment on column public.call_bell.only_row is 'There is one row.';
comment on column public.call_bell.rung_at is 'When the bell was last rung.';

comment on column public.call_campaign_news.id is 'Number of the note.';
comment on column public.call_campaign_news.campaign_id is 'Campaign that is to be told.';
comment on column public.call_campaign_news.answered is 'How many more persons ended answered.';
comment on column public.call_campaign_news.unanswered is 'How many more persons ended in another way.';

comment on column public.call_campaigns_gone.campaign_id is 'Campaign that was deleted.';
comment on column public.call_campaigns_gone.gone_at is 'When.';

comment on column public.call_charges.call_id is 'The call: call_logs.call_id. One row for each, so that none is charged twice.';
comment on column public.call_charges.user_id is 'User who is charged.';
comment on column public.call_charges.created_at is 'When the call was final.';

comment on column public.call_lanes.user_id is 'User of the lane.';
comment on column public.call_lanes.lane is 'Campaign, or zeros for rows without one.';
comment on column public.call_lanes.ready is 'There may be a row to dial now.';
comment on column public.call_lanes.wake_at is 'Becomes ready by itself at this instant.';
comment on column public.call_lanes.served is 'When it last had its turn; the lowest is next.';

comment on column public.call_outcomes.outcome is 'The word of call_queue.outcome.';
comment on column public.call_outcomes.verdict is 'Whose doing it was: callee, number, carrier or us.';
comment on column public.call_outcomes.bound is 'With own_bound: that many calls more.';
comment on column public.call_outcomes.delay_seconds is 'With own_bound: wait before each.';
comment on column public.call_outcomes.words is 'The same for people.';

comment on column public.call_pauses.id is 'Number of the pause.';
comment on column public.call_pauses.user_id is 'User who was paused, else null.';
comment on column public.call_pauses.campaign_id is 'Campaign that was paused, else null.';
comment on column public.call_pauses.began is 'When it was paused.';
comment on column public.call_pauses.ended is 'When it went on; null while it is paused.';

comment on column public.call_pbx.pbx is 'Id of the PBX.';
comment on column public.call_pbx.holder is 'Adapter that dials through it.';
comment on column public.call_pbx.lease_until is 'From then on another adapter may take over.';
comment on column public.call_pbx.trunk is 'Provider that is dialed through unless a row names one.';
comment on column public.call_pbx.boot is 'When the PBX was started, as it says itself.';
comment on column public.call_pbx.taken_at is 'When the holder took it.';

comment on column public.call_regions.calling_code is 'Digits after the plus.';
comment on column public.call_regions.international_prefix is 'Pattern of what is dialed there before a foreign number.';
comment on column public.call_regions.national_prefix is 'What is dialed before a number within the country.';
comment on column public.call_regions.prefix_pattern is 'Pattern by which such a prefix is found in a number.';
comment on column public.call_regions.prefix_rule is 'What takes the place of the prefix, where it is more than left out.';
comment on column public.call_regions.national_pattern is 'Pattern of a whole number without prefixes.';
comment on column public.call_regions.lengths is 'Possible counts of digits of such a number.';
comment on column public.call_regions.local_lengths is 'Counts of digits that can only be dialed locally.';
comment on column public.call_regions.leading_digits is 'Pattern of the first digits by which a region that shares a code is known.';

comment on column public.call_settings.only_row is 'There is one row.';
comment on column public.call_settings.repair_lane is 'Where the slow check of all lanes goes on.';
comment on column public.call_settings.repaired_at is 'When that check last did a part.';

comment on column public.call_tenants.user_id is 'The user.';

comment on column public.calls_live.state is 'What happens at this moment, in words.';
comment on column public.calls_live.phone_number is 'Number as it was inserted.';
comment on column public.calls_live.customer_name is 'Name of the person.';
comment on column public.calls_live.campaign_name is 'Campaign of the app, if any.';
comment on column public.calls_live.attempt is 'Which call to this person it is.';
comment on column public.calls_live.pbx is 'PBX through which it goes.';
comment on column public.calls_live.user_id is 'Owner of the call in the app.';
comment on column public.calls_live.campaign_id is 'Campaign of the app, if any.';
comment on column public.calls_live.call_id is 'Id of the call: call_logs.call_id.';

comment on column public.calls_today.id is 'Row of call_queue.';
comment on column public.calls_today.phone_number is 'Number as it was inserted.';
comment on column public.calls_today.customer_name is 'Name of the person.';
comment on column public.calls_today.campaign_name is 'Campaign of the app, if any.';
comment on column public.calls_today.talk_seconds is 'Seconds of talk in the last call.';
comment on column public.calls_today.attempts is 'Calls that spent a try of the person so far.';
comment on column public.calls_today.user_id is 'Owner of the call in the app.';
comment on column public.calls_today.campaign_id is 'Campaign of the app, if any.';
comment on column public.calls_today.call_id is 'Id of the last call: call_logs.call_id.';

comment on column public.queue_overview.user_id is 'User whose rows these are.';
comment on column public.queue_overview.campaign_id is 'Campaign of the rows; null for rows without one.';
comment on column public.queue_overview.campaign_name is 'Its name.';
comment on column public.queue_overview.state is 'What becomes of them at this moment, in words.';

comment on column public.queue_problems.id is 'Row of call_queue.';
comment on column public.queue_problems.phone_number is 'Number as it was inserted.';
comment on column public.queue_problems.customer_name is 'Name of the person.';
comment on column public.queue_problems.campaign_name is 'Campaign of the app, if any.';
comment on column public.queue_problems.expires_at is 'When the row ends if it was not dialed.';
comment on column public.queue_problems.attempts is 'Calls that spent a try of the person so far.';
comment on column public.queue_problems.user_id is 'Owner of the call in the app.';
comment on column public.queue_problems.campaign_id is 'Campaign of the app, if any.';

-- The app's own words about its tables stay, where it has any.
do $$
declare
  v_table text;
  v_column text;
  v_words text;
begin
  for v_table, v_column, v_words in
    select * from (values
      ('call_logs', 'id', 'Id of the row.'),
      ('call_logs', 'created_at', 'When the row was written: in the claim, before the PBX was told to dial.'),
      ('call_logs', 'updated_at', 'When anything in it last changed.'),
      ('call_logs', 'vapi_call_id', 'Of an earlier provider; not written.'),
      ('call_logs', 'original_campaign_id', 'Not written: it would keep the campaign from being deleted.'),
      ('campaigns', 'id', 'Id of the campaign.'),
      ('campaigns', 'user_id', 'Owner in the app.'),
      ('campaigns', 'campaign_name', 'Its name, unique for each user.'),
      ('campaigns', 'prompt_id', 'Prompt of its calls.'),
      ('campaigns', 'status', 'in_progress, completed when its last row is final; paused stops it, any other word lets it go on.'),
      ('campaigns', 'total_numbers', 'Numbers that it was made for; written by the app.'),
      ('campaigns', 'successful_calls', 'Persons who were answered: queue rows that ended answered or ai_failed.'),
      ('campaigns', 'failed_calls', 'Persons whose queue row ended in any other way.'),
      ('campaigns', 'created_at', 'When it was made.'),
      ('campaigns', 'updated_at', 'When anything in it last changed.'),
      ('campaigns', 'retry_enabled', 'True: its rows are tried again as the next two columns say.'),
      ('campaigns', 'retry_interval_minutes', 'Wait after a call that did not reach the person.'),
      ('campaigns', 'max_retry_attempts', 'That many more calls after the first.'),
      ('campaigns', 'current_retry_count', 'Highest attempt so far - 1.')
    ) w
  loop
    if exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = ('public.' || v_table)::regclass and a.attname = v_column and not a.attisdropped
        and pg_catalog.col_description(a.attrelid, a.attnum) is null
    ) then
      execute format('comment on column public.%I.%I is %L', v_table, v_column, v_words);
    end if;
  end loop;
  if pg_catalog.obj_description('public.campaigns'::regclass, 'pg_class') is null then
    comment on table public.campaigns is 'Campaigns of the app. The adapter counts in them how many persons were reached.';
  end if;
end
$$;
