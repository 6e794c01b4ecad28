-- Who may call each function: tried, as each of the three roles.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = public, extensions;
-- Every object has its tests here, so their number changes with each.
select * from no_plan();

insert into campaigns (id, user_id, campaign_name)
values ('fade0000-0000-4000-8000-0000000000c0', 'fade0000-0000-4000-8000-000000000001', 'tap');

-- One line for each, with a call that works for service_role; null: a helper, which only our own functions call. A new
-- function without a line fails below.
create temp table ours (place integer generated always as identity, name text primary key, works text);
insert into ours (name, works) values
  ('call_register_v1', $$ select call_register_v1('fade0000-0000-4000-8000-0000000000aa', 0, gen_random_uuid(), 'tap', '{}') $$),
  ('call_sync_v1', $$ select call_sync_v1('fade0000-0000-4000-8000-0000000000aa', 1, '[]', '{"pbx": "tap"}', 0, null) $$),
  ('call_witness_v1', $$ select call_witness_v1('fade0000-0000-4000-8000-0000000000aa', '[]') $$),
  ('call_wish_v1', $$ select call_wish_v1(gen_random_uuid(), 'fade0000-0000-4000-8000-000000000001', '+60123459901') $$),
  ('call_follow_v1', $$ select call_follow_v1((select max(id) from call_queue)) $$),
  ('call_cancel_v1', $$ select call_cancel_v1((select max(id) from call_queue)) $$),
  ('call_stop_v1', $$ select call_stop_v1((select max(id) from call_queue)) $$),
  ('call_batch_v1', $$ select call_batch_v1('{}') $$),
  ('call_cost_v1', $$ select call_cost_v1('', '+60123456700', 60) $$),
  ('call_costs_v1', $$ select call_costs_v1() $$),
  ('call_rates_import_v1', $$ select call_rates_import_v1('', '[]') $$),
  ('call_retry_v1', $$ select call_retry_v1() $$),
  ('call_retry_set_v1', $$ select call_retry_set_v1('default', null, 'busy') $$),
  ('call_hours_v1', $$ select call_hours_v1() $$),
  ('call_hours_set_v1', $$ select call_hours_set_v1('all', null, null) $$),
  ('call_hours_dates_v1', $$ select call_hours_dates_v1(gen_random_uuid(), '{"ends_at": null}') $$),
  ('call_hours_zone_v1', $$ select call_hours_zone_v1(gen_random_uuid(), null) $$),
  ('call_number_v1', $$ select call_number_v1('+60123459901') $$),
  ('call_status_v1', $$ select call_status_v1(1) $$),
  ('call_doctor_v1', $$ select call_doctor_v1() $$),
  ('call_probe_v1', $$ select call_probe_v1(-1) $$),
  ('call_today_v1', $$ select call_today_v1() $$),
  ('call_why_waits_v1', $$ select call_why_waits_v1((select max(id) from call_queue)) $$),
  ('call_dry_run_v1', $$ select call_dry_run_v1('fade0000-0000-4000-8000-0000000000c0') $$),
  ('call_explain_v1', $$ select call_explain_v1('+60123459901') $$),
  ('call_shadow_v1', $$ select call_shadow_v1('{"pbx": "tap"}', 1) $$),
  ('call_why_stopped_v1', $$ select call_why_stopped_v1(1, null, null, null) $$),
  ('call_pause_v1', $$ select call_pause_v1('all', null, 'tap') $$),
  ('call_resume_v1', $$ select call_resume_v1('all') $$),
  ('call_cancel_all_v1', $$ select call_cancel_all_v1('row', (select max(id) from call_queue)::text, null, now()) $$),
  ('call_do_not_call_import_v1', $$ select call_do_not_call_import_v1(array['+60123459901']) $$),
  ('call_do_not_call_remove_v1', $$ select call_do_not_call_remove_v1('+60123459901') $$),
  ('call_do_not_call_v1', $$ select call_do_not_call_v1() $$),
  ('call_opt_out_v1', $$ select call_opt_out_v1((select (max(call_id::text))::uuid from call_queue)) $$),
  ('campaigns', $$ select campaigns(l) from call_logs l limit 1 $$),
  ('call_all_left', null),
  ('call_at_work', null),
  ('call_batch_campaign', null),
  ('call_batch_check', null),
  ('call_batch_contacts', null),
  ('call_batch_end_empty', null),
  ('call_batch_items', null),
  ('call_batch_limit', null),
  ('call_batch_refuse', null),
  ('call_batch_reply', null),
  ('call_batch_text', null),
  ('call_batch_user', null),
  ('call_batch_uuid', null),
  ('call_batch_whole', null),
  ('call_billed_seconds', null),
  ('call_billing_step', null),
  ('call_campaign_changed', null),
  ('call_campaign_gone', null),
  ('call_campaign_heard', null),
  ('call_campaign_stands', null),
  ('call_campaign_told', null),
  ('call_campaigns_told', null),
  ('call_charge', null),
  ('call_charge_take', null),
  ('call_charges_due', null),
  ('call_claim', null),
  ('call_claim_row', null),
  ('call_claimed', null),
  ('call_clock_stood', null),
  ('call_countries', null),
  ('call_country_fits', null),
  ('call_day', null),
  ('call_day_after', null),
  ('call_day_count', null),
  ('call_day_left', null),
  ('call_day_zone', null),
  ('call_dial_talked', null),
  ('call_dial_undone', null),
  ('call_dials_forget', null),
  ('call_doctor_objects', null),
  ('call_doctor_table', null),
  ('call_end', null),
  ('call_end_uncalled', null),
  ('call_expired_words', null),
  ('call_explain_adapters', null),
  ('call_explain_call', null),
  ('call_explain_row', null),
  ('call_explain_steps', null),
  ('call_explain_user', null),
  ('call_explain_wait', null),
  ('call_fails_over', null),
  ('call_fill_number', null),
  ('call_handed_take', null),
  ('call_handler_word', null),
  ('call_heartbeat', null),
  ('call_highest_claim', null),
  ('call_hours_after', null),
  ('call_hours_due', null),
  ('call_hours_lane', null),
  ('call_hours_open', null),
  ('call_hours_opening', null),
  ('call_hours_put_off', null),
  ('call_hours_read', null),
  ('call_hours_shut', null),
  ('call_hours_turn', null),
  ('call_hours_week', null),
  ('call_hours_zones', null),
  ('call_housekeep', null),
  ('call_judge', null),
  ('call_key_taken', null),
  ('call_known_contact', null),
  ('call_known_prompt', null),
  ('call_lane_due', null),
  ('call_lane_limit', null),
  ('call_lane_rows', null),
  ('call_lane_urgent', null),
  ('call_lanes_resume', null),
  ('call_links', null),
  ('call_local_form', null),
  ('call_lock', null),
  ('call_log_end', null),
  ('call_log_fold', null),
  ('call_log_insert', null),
  ('call_log_lock', null),
  ('call_log_uncalled', null),
  ('call_merged', null),
  ('call_minutes_of', null),
  ('call_national', null),
  ('call_number_answered', null),
  ('call_number_zones', null),
  ('call_open', null),
  ('call_opened', null),
  ('call_pbx_for', null),
  ('call_pbx_may', null),
  ('call_pbx_others', null),
  ('call_pbx_trunks_left', null),
  ('call_prefixes_fit', null),
  ('call_price', null),
  ('call_price_facts', null),
  ('call_price_keep', null),
  ('call_print', null),
  ('call_probe_forget', null),
  ('call_put_off', null),
  ('call_queue_added', null),
  ('call_queue_after_cancel', null),
  ('call_queue_after_end', null),
  ('call_queue_after_insert', null),
  ('call_queue_after_requeue', null),
  ('call_queue_apply_retry', null),
  ('call_queue_before_insert', null),
  ('call_queue_before_spent', null),
  ('call_queue_before_update', null),
  ('call_queue_hours', null),
  ('call_queue_news', null),
  ('call_queue_says_retry', null),
  ('call_rate', null),
  ('call_record', null),
  ('call_release', null),
  ('call_retry_never', null),
  ('call_retry_next', null),
  ('call_retry_of', null),
  ('call_retry_plan', null),
  ('call_retry_rank', null),
  ('call_retry_share', null),
  ('call_ring_bell', null),
  ('call_ring_now', null),
  ('call_room_made', null),
  ('call_row_problem', null),
  ('call_rule_answered', null),
  ('call_rule_country', null),
  ('call_rule_day', null),
  ('call_rule_do_not_call', null),
  ('call_rule_hours', null),
  ('call_rule_number', null),
  ('call_rule_pause', null),
  ('call_rule_person', null),
  ('call_rule_premium', null),
  ('call_rule_repeat', null),
  ('call_rule_trunk', null),
  ('call_rule_variables', null),
  ('call_rules', null),
  ('call_settle', null),
  ('call_settle_held', null),
  ('call_sight', null),
  ('call_still_stopped', null),
  ('call_stop_calls', null),
  ('call_stop_kept', null),
  ('call_stop_key', null),
  ('call_stop_known', null),
  ('call_stop_marks', null),
  ('call_stop_of', null),
  ('call_stop_told', null),
  ('call_stop_unmarks', null),
  ('call_stop_words', null),
  ('call_stopped', null),
  ('call_stops_lock', null),
  ('call_stops_open', null),
  ('call_stops_past', null),
  ('call_sweep_row', null),
  ('call_tenant_changed', null),
  ('call_trunk_fit', null),
  ('call_trunk_forgive', null),
  ('call_trunk_heard', null),
  ('call_trunk_left', null),
  ('call_trunk_words', null),
  ('call_trunks_changed', null),
  ('call_trunks_in_air', null),
  ('call_trunks_owner', null),
  ('call_trunks_unfit', null),
  ('call_turn_next', null),
  ('call_turns_refresh', null),
  ('call_turns_repair', null),
  ('call_unbilled', null),
  ('call_user_day', null),
  ('call_user_limit', null),
  ('call_user_stands', null),
  ('call_user_trunks_left', null),
  ('call_user_zones_check', null),
  ('call_variables_fit', null),
  ('call_way', null),
  ('call_way_elsewhere', null),
  ('call_way_taken', null),
  ('call_ways', null),
  ('call_ways_of', null),
  ('call_zone_changes', null),
  ('call_zone_fits', null),
  ('call_zone_problem', null),
  ('do_not_call_number', null),
  ('do_not_call_wait', null);

select results_eq(
  $$
    select p.proname::text collate "C" from pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and (p.proname ~ '^(calls?|queue|do_not)_' or p.proname = 'campaigns' or to_regclass('public.users') is null)
      and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
    order by 1
  $$,
  $$ select name collate "C" from ours order by 1 $$,
  'every function of ours is tried here, and has one form only'
);

-- A call of each with nulls: the right is asked for before anything is done.
create temp table tried as
select o.place, o.name, o.works, format(
  'select public.%I(%s)', o.name,
  (select string_agg('null::' || format_type(t.type, null), ', ' order by t.place) from unnest(p.proargtypes) with ordinality t (type, place))
) as statement
from ours o
join pg_proc p on p.pronamespace = 'public'::regnamespace and p.proname = o.name;
grant select on tried to anon, authenticated, service_role;

set local role anon;
select throws_ok(statement, '42501', 'permission denied for function ' || name, 'anon: not ' || name)
from tried where name <> 'campaigns' order by place;

set local role authenticated;
select throws_ok(statement, '42501', 'permission denied for function ' || name, 'authenticated: not ' || name)
from tried where name <> 'campaigns' order by place;

set local role service_role;
select lives_ok(works, 'service_role: ' || name) from tried where works is not null order by place;
select throws_ok(statement, '42501', 'permission denied for function ' || name, 'service_role: not the helper ' || name)
from tried where works is null order by place;

-- The app's pages read with campaigns(call_logs) as themselves: it may be called by all and gives no right.
reset role;
grant select on call_logs to anon, authenticated;
revoke all on campaigns from anon, authenticated;
insert into call_logs (user_id, call_id, agent_id, caller_number, start_time, status)
values ('fade0000-0000-4000-8000-000000000001', 'tap', 'tap', '0', now(), 'initiated');
create policy tap on call_logs for select using (true);
set local role anon;
select throws_ok(
  'select public.campaigns(l) from public.call_logs l', '42501', 'permission denied for table campaigns',
  'anon: campaigns(call_logs) shows no campaign that anon may not read'
);
reset role;
grant select on campaigns to authenticated;
set local role authenticated;
select lives_ok('select public.campaigns(l) from public.call_logs l', 'authenticated: campaigns(call_logs) with the right to read');

reset role;
select is_empty(
  $$
    select p.proname from pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname in (select name from ours where works is not null)
      and p.prosecdef is distinct from (p.proname <> 'campaigns')
  $$,
  'what service_role calls runs as its owner; campaigns does not'
);

select * from finish();
rollback;
