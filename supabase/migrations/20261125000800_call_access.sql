-- Who may do what. Only the secret key (service_role) may; projects whose default privileges give more to new tables and
-- functions get it taken away again. Row level security is on and has no policy: in the app auth.uid() is always null, so
-- a careless insert policy would let the whole internet dial.

-- One plain line for each: the dashboard's editor warns of tables for which it finds none.
alter table public.call_queue enable row level security;
alter table public.call_tenants enable row level security;
alter table public.call_lanes enable row level security;
alter table public.call_arrivals enable row level security;
alter table public.call_bell enable row level security;
alter table public.call_settings enable row level security;
alter table public.call_regions enable row level security;
alter table public.call_outcomes enable row level security;
alter table public.call_adapters enable row level security;
alter table public.call_pbx enable row level security;

do $$
declare
  v_tables constant text[] := array[
    'call_queue', 'call_tenants', 'call_lanes', 'call_arrivals', 'call_bell', 'call_settings', 'call_regions',
    'call_outcomes', 'call_adapters', 'call_pbx'
  ];
  v_sequences constant text[] := array[
    'call_queue_id_seq', 'call_arrivals_id_seq', 'call_claim_number', 'call_turn'
  ];
  v_functions constant text[] := array[
    'call_number_v1(text,text)', 'call_register_v1(uuid,bigint,uuid,text,jsonb)',
    'call_sync_v1(uuid,bigint,jsonb,jsonb,integer,uuid)', 'call_cancel_v1(bigint,text)'
  ];
  v_name text;
  v_function regprocedure;
begin
  foreach v_name in array v_tables || v_sequences loop
    execute format('revoke all on public.%I from public, anon, authenticated', v_name);
  end loop;
  foreach v_name in array v_tables loop
    execute format('grant select, insert, update, delete on public.%I to service_role', v_name);
  end loop;
  foreach v_name in array v_sequences loop
    execute format('grant usage, select on sequence public.%I to service_role', v_name);
  end loop;

  -- Helpers are for our own functions, which run as their owner; nobody else may call them.
  for v_function in
    select p.oid::regprocedure
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname = any (array[
        'call_known_contact', 'call_known_prompt', 'call_log_insert', 'call_log_uncalled', 'call_fill_number',
        'call_row_problem', 'call_variables_fit', 'call_key_taken', 'call_queue_before_insert', 'call_queue_before_update',
        'call_queue_after_insert', 'call_queue_after_requeue', 'call_queue_after_cancel', 'call_ring_bell',
        'call_number_v1', 'call_national', 'call_local_form', 'call_handler_word', 'call_merged', 'call_log_lock',
        'call_log_end', 'call_end_uncalled', 'call_room_made', 'call_settle', 'call_settle_held', 'call_end',
        'call_release', 'call_record', 'call_sweep_row', 'call_housekeep', 'call_lane_due', 'call_turns_refresh', 'call_turns_repair',
        'call_claimed', 'call_claim_row', 'call_claim', 'call_lock', 'call_highest_claim', 'call_opened', 'call_open', 'call_register_v1',
        'call_heartbeat', 'call_sync_v1', 'call_cancel_v1', 'call_at_work', 'call_turn_next', 'call_lane_urgent'
      ])
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function);
  end loop;
  foreach v_name in array v_functions loop
    execute format('grant execute on function public.%s to service_role', v_name);
  end loop;

  foreach v_name in array array['call_logs', 'campaigns'] loop
    execute format('grant select, insert, update, delete on public.%I to service_role', v_name);
  end loop;
end
$$;

-- The plain way of hearing an insert: changes of call_queue through Realtime.
do $$
begin
  if not exists (select from pg_catalog.pg_publication p where p.pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
  if not exists (
    select from pg_catalog.pg_publication_tables t
    where t.pubname = 'supabase_realtime' and t.schemaname = 'public' and t.tablename = 'call_queue'
  ) then
    alter publication supabase_realtime add table public.call_queue;
  end if;
end
$$;

-- PostgREST shall see the functions at once.
notify pgrst, 'reload schema';
