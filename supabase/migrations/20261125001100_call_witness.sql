-- What a witness asks: an adapter that is logged in to the same PBX and has seen calls of another one answered or ended.
-- It learns which of them the database does not know the end of, and tells those (call_sync_v1); all others it forgets.

-- Of the calls asked about (at most 200), those through this adapter's PBX whose end is not known here: live ones, and
-- such as ended as unknown. In the shape of call_opened. It changes nothing and takes no lock: a call that is told twice
-- counts once.
create or replace function public.call_witness_v1(p_adapter uuid, p_calls jsonb)
returns jsonb
language plpgsql stable security definer
set search_path = ''
-- Plans made for an empty queue must not read it whole once it is full.
set enable_seqscan = off
set lock_timeout = '5s'
as $$
declare
  v_asked uuid[];
begin
  if p_adapter is null or jsonb_typeof(p_calls) is distinct from 'array' then
    raise exception 'call_witness_v1 needs p_adapter and p_calls as a list of call ids';
  end if;
  v_asked := array(select c::uuid from jsonb_array_elements_text(p_calls) c limit 200);
  return jsonb_build_object('open', (
    select coalesce(jsonb_agg(public.call_opened(q) order by q.claim_number), '[]')
    from public.call_queue q
    where q.call_id = any (v_asked)
      and q.pbx = (select a.pbx from public.call_adapters a where a.adapter = p_adapter)
      and case
        when q.status in ('dialing', 'talking') then q.outcome is null
        else coalesce(q.last_outcome = 'unknown', false)
      end
  ));
end
$$;
comment on function public.call_witness_v1 is
  'Of these calls through the PBX of this adapter, those whose end the database does not know.';

-- Who may ask: the secret key only.
revoke all on function public.call_witness_v1(uuid, jsonb) from public, anon, authenticated, service_role;
grant execute on function public.call_witness_v1(uuid, jsonb) to service_role;

-- PostgREST shall see the function at once.
notify pgrst, 'reload schema';
