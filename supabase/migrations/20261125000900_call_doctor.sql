-- What `mikopbx-adapter doctor` asks of the database: is everything of ours there and as it was shipped, who may use it,
-- who dials, and does a row come back through Realtime. Nothing here names what ought to be there: it tells what is, and
-- the adapter compares that with the list of its own version. So a half-applied or older installation is told as it is.

-- What decides how a definition works, in few letters. Spaces and parentheses are left out: they differ between
-- versions of PostgreSQL, and line ends between editors.
create or replace function public.call_print(p_text text)
returns text
language sql immutable
set search_path = ''
as $$
  select left(md5(regexp_replace(coalesce(p_text, ''), '[[:space:]()]', '', 'g')), 12)
$$;

-- One name and one fingerprint for each object whose name begins with call_, but for two tables of the app. The rows of
-- two tables count as well: by the regions numbers are read, and a call cannot end without its outcome.
create or replace function public.call_doctor_objects()
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_tables constant oid[] := array(
    select c.oid from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname ~ '^(do_not_call|call_)'
      and c.relname not in ('call_logs', 'call_costs')
  );
  v_objects jsonb;
  v_rows jsonb;
begin
  select coalesce(jsonb_object_agg(o.name, o.print), '{}') into v_objects
  from (
    select format('function %s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)) as name,
      public.call_print(concat_ws(
        '|', p.prosrc, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), l.lanname,
        p.prosecdef, p.provolatile, (select string_agg(c, ',' order by c) from unnest(p.proconfig) c)
      )) as print
    from pg_catalog.pg_proc p
    join pg_catalog.pg_language l on l.oid = p.prolang
    where p.pronamespace = 'public'::regnamespace and p.prokind = 'f'
      and (p.proname ~ '^(do_not_call|call_)' or p.oid = pg_catalog.to_regprocedure('public.campaigns(public.call_logs)'))
    union all
    select 'table ' || c.relname, public.call_print('rls ' || c.relrowsecurity)
    from pg_catalog.pg_class c
    where c.oid = any (v_tables)
    union all
    -- How a view is written back differs between versions; whose rights it uses and what it shows does not.
    select 'view ' || c.relname, public.call_print(concat_ws(
      '|', array_to_string(c.reloptions, ','),
      (select string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ',' order by a.attnum)
        from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0)
    ))
    from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'v'
      and c.relname in ('calls_live', 'calls_today', 'queue_overview', 'queue_problems', 'campaign_costs')
    union all
    select 'sequence ' || c.relname, public.call_print('')
    from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'S' and c.relname ~ '^(do_not_call|call_)'
    union all
    select format('column %s.%s', a.attrelid::regclass::text, a.attname),
      public.call_print(concat_ws(
        '|', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
        pg_get_expr(d.adbin, d.adrelid)
      ))
    from pg_catalog.pg_attribute a
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = any (v_tables) and a.attnum > 0 and not a.attisdropped
    union all
    -- Not null is told with its column: from version 18 on it is a constraint, too.
    select format('constraint %s.%s', n.conrelid::regclass::text, n.conname),
      public.call_print(pg_get_constraintdef(n.oid) || n.convalidated)
    from pg_catalog.pg_constraint n
    where n.conrelid = any (v_tables) and n.contype in ('p', 'u', 'c', 'f', 'x')
    union all
    select format('index %s', i.indexrelid::regclass::text),
      public.call_print(pg_get_indexdef(i.indexrelid) || i.indisvalid)
    from pg_catalog.pg_index i
    where i.indrelid = any (v_tables)
    union all
    select format('trigger %s.%s', t.tgrelid::regclass::text, t.tgname), public.call_print(pg_get_triggerdef(t.oid))
    from pg_catalog.pg_trigger t
    where t.tgrelid = any (v_tables) and not t.tgisinternal
  ) o;

  if pg_catalog.to_regclass('public.call_regions') is not null then
    execute 'select jsonb_build_object(''rows of call_regions'', public.call_print(string_agg(r::text, '';'' '
      'order by r.region collate "C"))) from public.call_regions r' into v_rows;
    v_objects := v_objects || v_rows;
  end if;
  if pg_catalog.to_regclass('public.call_outcomes') is not null then
    execute 'select coalesce(jsonb_object_agg(''row call_outcomes.'' || o.outcome, public.call_print('''')), ''{}'') '
      'from public.call_outcomes o' into v_rows;
    v_objects := v_objects || v_rows;
  end if;
  return replace(v_objects::text, ' public.', ' ')::jsonb;
end
$$;

-- Rights on one table, and whether row level security lets a role see or change rows all the same. `rows`: null where
-- not even the owner of these functions may look.
create or replace function public.call_doctor_table(p_table regclass)
returns jsonb
language plpgsql stable security definer
set search_path = ''
-- With row level security in the way a look fails instead of finding nothing.
set row_security = off
as $$
declare
  v_rows boolean;
begin
  begin
    execute format('select exists (select from %s)', p_table) into v_rows;
  exception
    when others then null;
  end;
  return (
    select jsonb_build_object(
      'rls', c.relrowsecurity,
      'rows', v_rows,
      'key', (
        select a.attname
        from pg_catalog.pg_index i
        join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where i.indrelid = c.oid and i.indisprimary
      ),
      'column', (
        select a.attname
        from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attidentity = '' and a.attgenerated = ''
        order by a.attnum
        limit 1
      ),
      'rights', (
        select jsonb_object_agg(r.rolname, (
          select coalesce(jsonb_agg(x.word order by x.word), '[]')
          from unnest(array['select', 'insert', 'update', 'delete', 'truncate']) x (word)
          where has_table_privilege(r.oid, c.oid, x.word)
            or (x.word in ('select', 'insert', 'update') and has_any_column_privilege(r.oid, c.oid, x.word))
        ))
        from pg_catalog.pg_roles r
        where r.rolname in ('anon', 'authenticated', 'service_role')
      ),
      'policies', (
        select coalesce(jsonb_agg(
          jsonb_build_object(
            'name', y.polname,
            'for', case y.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
              when 'd' then 'delete' else 'all' end,
            'permissive', y.polpermissive,
            'roles', case when 0 = any (y.polroles) then '["public"]'::jsonb else (
              select jsonb_agg(r.rolname order by r.rolname) from pg_catalog.pg_roles r where r.oid = any (y.polroles)
            ) end,
            -- True: it asks for nothing. Null: it says nothing about this.
            'all_rows', pg_get_expr(y.polqual, y.polrelid) = 'true',
            'any_new', pg_get_expr(y.polwithcheck, y.polrelid) = 'true'
          )
          order by y.polname
        ), '[]')
        from pg_catalog.pg_policy y
        where y.polrelid = c.oid
      )
    )
    from pg_catalog.pg_class c
    where c.oid = p_table
  );
end
$$;

create or replace function public.call_doctor_v1()
returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_began constant timestamptz := clock_timestamp();
  -- The version of the adapter whose install.sql this is: what differs is older or newer than what the adapter expects.
  v_version constant text := '0.1.0';
  -- Whose key this is: the role that PostgREST took for the request.
  v_role constant text := coalesce(nullif(current_setting('role', true), 'none'), session_user::text);
  v_watched constant text[] := array[
    'call_logs', 'campaigns', 'users', 'user_sessions', 'system_settings', 'phone_config', 'contacts', 'prompts'
  ];
  v_pbxs jsonb := '[]';
  v_adapters jsonb := '[]';
begin
  if pg_catalog.to_regclass('public.call_pbx') is not null then
    execute 'select coalesce(jsonb_agg(jsonb_build_object(''pbx'', x.pbx, ''holder'', x.holder, '
      '''lease_until'', x.lease_until, ''taken_at'', x.taken_at) order by x.pbx), ''[]'') from public.call_pbx x'
      into v_pbxs;
  end if;
  if pg_catalog.to_regclass('public.call_adapters') is not null
    and pg_catalog.to_regclass('public.call_queue') is not null then
    execute 'select coalesce(jsonb_agg(jsonb_build_object(''adapter'', a.adapter, ''incarnation'', a.incarnation, '
      '''pbx'', a.pbx, ''seen_at'', a.seen_at, ''ready'', a.status -> ''ready'', ''calls'', (select count(*) '
      'from public.call_queue q where q.adapter = a.adapter and q.status in (''dialing'', ''talking'') '
      'and q.outcome is null)) order by a.seen_at desc nulls last), ''[]'') '
      'from (select * from public.call_adapters order by seen_at desc nulls last limit 100) a'
      into v_adapters;
  end if;
  return jsonb_build_object(
    'began', v_began,
    'version', v_version,
    'server', current_setting('server_version_num')::integer,
    'role', v_role,
    'objects', public.call_doctor_objects(),
    'execute', (
      select coalesce(jsonb_object_agg(
        replace(format('%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), ' public.', ' '),
        (
          select coalesce(jsonb_agg(r.rolname order by r.rolname), '[]')
          from pg_catalog.pg_roles r
          where r.rolname in ('anon', 'authenticated', 'service_role', v_role)
            and has_function_privilege(r.oid, p.oid, 'execute')
        )
      ), '{}')
      from pg_catalog.pg_proc p
      where p.pronamespace = 'public'::regnamespace and p.prokind = 'f' and p.proname ~ '^(do_not_call|call_)'
    ),
    'tables', (
      select coalesce(jsonb_object_agg(c.relname, public.call_doctor_table(c.oid::regclass)), '{}')
      from pg_catalog.pg_class c
      where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
        and (c.relname ~ '^(do_not_call|call_)' or c.relname = any (v_watched))
    ),
    'columns', (
      select coalesce(jsonb_object_agg(t.name, t.columns), '{}')
      from (
        select c.relname as name, jsonb_object_agg(a.attname, jsonb_build_object(
          'type', format_type(a.atttypid, -1),
          'required', a.attnotnull and not a.atthasdef and a.attidentity = '' and a.attgenerated = ''
        )) as columns
        from pg_catalog.pg_class c
        join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace = 'public'::regnamespace and c.relname in ('call_logs', 'campaigns', 'users')
        group by c.relname
      ) t
    ),
    'campaign_keys', (
      select coalesce(jsonb_agg(n.conname order by n.conname), '[]')
      from pg_catalog.pg_constraint n
      join pg_catalog.pg_attribute a on a.attrelid = n.conrelid and a.attnum = any (n.conkey)
      where n.conrelid = pg_catalog.to_regclass('public.call_logs') and n.contype = 'f' and a.attname = 'campaign_id'
    ),
    'disabled_triggers', (
      select coalesce(jsonb_agg(t.tgname order by t.tgname), '[]')
      from pg_catalog.pg_trigger t
      where t.tgrelid = pg_catalog.to_regclass('public.call_queue') and not t.tgisinternal
        and t.tgenabled not in ('O', 'A')
    ),
    'published', (
      select p.pubinsert
      from pg_catalog.pg_publication p
      join pg_catalog.pg_publication_tables t on t.pubname = p.pubname
      where p.pubname = 'supabase_realtime' and t.schemaname = 'public' and t.tablename = 'call_queue'
    ),
    'send', pg_catalog.to_regprocedure('realtime.send(jsonb,text,text,boolean)') is not null,
    'pbxs', v_pbxs,
    'adapters', v_adapters,
    'now', clock_timestamp()
  );
end
$$;
comment on function public.call_doctor_v1 is 'What is installed, who may use it and who dials, for `mikopbx-adapter doctor`.';

-- Inserts a row that says what doctor listens for, and rings the bell with its id. The row is canceled from its first
-- moment: a claim takes only queued rows, no call_logs row is written, no lane is told, no counter moves. It must be
-- committed to be heard of, so it is deleted by a second request (`p_done`), by the next probe, or by the sweep of a
-- running adapter, whichever comes first.
create or replace function public.call_probe_v1(p_done bigint default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_gone integer;
  v_row bigint;
  v_sent boolean := pg_catalog.to_regprocedure('realtime.send(jsonb,text,text,boolean)') is not null;
begin
  v_gone := public.call_probe_forget(p_done);
  if p_done is null then
    insert into public.call_queue (user_id, phone_number, status, outcome, ended_reason, idempotency_key)
    values (
      '00000000-0000-0000-0000-000000000000', '+1 202-555-0123', 'canceled', 'canceled',
      'a probe of `mikopbx-adapter doctor`: nobody is called, it goes by itself', 'probe of doctor ' || gen_random_uuid()
    )
    returning id into v_row;
    if v_sent then
      begin
        perform realtime.send(jsonb_build_object('probe', v_row), 'rows', 'call_queue', true);
      exception
        when others then v_sent := false;
      end;
    end if;
  end if;
  return jsonb_build_object('row', v_row, 'gone', v_gone, 'sent', v_sent, 'now', clock_timestamp());
end
$$;
comment on function public.call_probe_v1 is
  'Inserts a row that is never dialed, to see whether Realtime tells of it; p_done: deletes it again.';

-- Helpers are for our own functions; doctor comes with the secret key.
do $$
declare
  v_function text;
begin
  foreach v_function in array array[
    'call_print(text)', 'call_doctor_objects()', 'call_doctor_table(regclass)', 'call_doctor_v1()',
    'call_probe_forget(bigint)', 'call_probe_v1(bigint)'
  ] loop
    execute format('revoke all on function public.%s from public, anon, authenticated, service_role', v_function);
  end loop;
  grant execute on function public.call_doctor_v1(), public.call_probe_v1(bigint) to service_role;
end
$$;

notify pgrst, 'reload schema';
