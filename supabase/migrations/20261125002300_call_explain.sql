-- What an adapter would do, asked without doing it. Nothing here claims, dials, or changes a row.

-- 1. The shadow ---------------------------------------------------------------------------------------------------------

-- Which rows a claim would take now, and by which rules: the claim itself, taken back before it ends (docs/decisions/
-- 0006). `p_told`: rows that were shown before and still wait, which are set aside meanwhile. Of what stays, all is what
-- any claim does to the turn tables; a number that was drawn is put back under the lock, so nobody ever hears of it.
create or replace function public.call_shadow_v1(p_status jsonb, p_room integer, p_told bigint[] default '{}')
returns jsonb
language plpgsql volatile security definer
set search_path = ''
-- As in call_sync_v1, so that the same rows are found in the same order.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
-- Who really dials goes first: a shadow comes again.
set lock_timeout = '1s'
as $$
declare
  v_most_told constant integer := 1000;
  -- Turns of 2000 arrivals each: a project without a living adapter lets them pile up.
  v_turns constant integer := 5;
  v_now timestamptz;
  v_told constant bigint[] := coalesce(p_told, '{}');
  v_standing bigint[];
  v_last bigint;
  v_called boolean;
  v_claim record;
  v_rows jsonb := '[]';
  v_ends jsonb := '[]';
  v_more boolean := false;
  v_notes jsonb := '[]';
begin
  if jsonb_typeof(p_status) is distinct from 'object' then
    raise exception 'call_shadow_v1 needs p_status, a heartbeat, as an object' using errcode = 'PT400';
  elsif p_room is null or p_room not between 0 and 500 then
    raise exception 'call_shadow_v1 needs p_room, a number from 0 to 500' using errcode = 'PT400';
  elsif cardinality(v_told) > v_most_told then
    raise exception 'call_shadow_v1 sets at most % rows aside, not %', v_most_told, cardinality(v_told)
      using errcode = 'PT400';
  end if;
  v_standing := array(
    select q.id from public.call_queue q where q.id = any (v_told) and q.status = 'queued' order by q.id
  );
  if p_room = 0 then
    return jsonb_build_object(
      'now', clock_timestamp(), 'rows', v_rows, 'ends', v_ends, 'more', false, 'standing', to_jsonb(v_standing),
      'notes', v_notes
    );
  end if;

  perform public.call_lock();
  v_now := clock_timestamp();
  perform set_config('mikopbx_adapter.at_work', 'on', true);
  for turn in 1 .. v_turns loop
    exit when not public.call_turns_refresh(v_now);
  end loop;
  perform public.call_turns_repair(v_now);
  select n.last_value, n.is_called into v_last, v_called from public.call_claim_number n;
  begin
    -- A deletion that is taken back costs no index anything.
    delete from public.call_queue q
    where q.id = any (array(
      select x.id from public.call_queue x
      where x.id = any (v_standing) and x.status = 'queued'
      for update skip locked
    ));
    select * into v_claim
    from public.call_claim(gen_random_uuid(), 0, p_status, p_room, gen_random_uuid(), v_now);
    v_more := v_claim.more;
    v_notes := v_claim.notes;
    select coalesce(jsonb_agg(r.value || jsonb_build_object('through', d.trunk, 'facts', d.facts) order by r.place), '[]')
    into v_rows
    from jsonb_array_elements(v_claim.claimed) with ordinality r (value, place)
    join public.call_dials d on d.call_id = (r.value ->> 'call_id')::uuid;
    select coalesce(jsonb_agg(jsonb_build_object('row_id', e.id, 'reason', e.ended_reason) order by e.id), '[]')
    into v_ends
    from (
      select q.id, q.ended_reason
      from public.call_queue q
      where q.status in ('done', 'canceled') and q.ended_at = v_now
      limit v_most_told
    ) e;
    raise exception 'taken back' using errcode = 'MXSHA';
  exception
    when sqlstate 'MXSHA' then
      null;
    when others then
      v_notes := v_notes || to_jsonb(format('the claim would fail: %s (%s)', sqlerrm, sqlstate));
  end;
  perform setval('public.call_claim_number', v_last, v_called);
  perform set_config('mikopbx_adapter.at_work', 'off', true);
  return jsonb_build_object(
    'now', v_now, 'rows', v_rows, 'ends', v_ends, 'more', v_more, 'standing', to_jsonb(v_standing), 'notes', v_notes
  );
end
$$;
comment on function public.call_shadow_v1 is
  'Which rows a claim would take now, and by which rules; takes none of them.';

-- 4. Who may ---------------------------------------------------------------------------------------------------------------

do $$
declare
  v_function text;
begin
  foreach v_function in array array['call_shadow_v1(jsonb,integer,bigint[])'] loop
    execute format('revoke all on function public.%s from public, anon, authenticated, service_role', v_function);
    if v_function like '%\_v1(%' then
      execute format('grant execute on function public.%s to service_role', v_function);
    end if;
  end loop;
end
$$;

notify pgrst, 'reload schema';
