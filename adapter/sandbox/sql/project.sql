-- What a fresh Supabase project has, as far as the adapter, the existing app and the local gateway touch it.
-- Run as the superuser supabase_admin in a new database. Roles belong to the whole server, so they are made only once.

do $$
declare
  wanted constant text[][] := array[
    -- The three a request may become; the last one passes row security.
    ['anon', 'nologin noinherit'],
    ['authenticated', 'nologin noinherit'],
    ['service_role', 'nologin noinherit bypassrls'],
    -- The one PostgREST logs in as: may nothing itself, may become the three.
    ['authenticator', 'login noinherit'],
    ['supabase_realtime_admin', 'nologin noinherit']
  ];
  i integer;
begin
  -- Two databases may be set up at the same time.
  perform pg_advisory_xact_lock(hashtext('sandbox roles'));
  for i in 1 .. array_length(wanted, 1) loop
    if not exists (select from pg_roles where rolname = wanted[i][1]) then
      execute format('create role %I %s', wanted[i][1], wanted[i][2]);
    end if;
  end loop;
  grant anon, authenticated, service_role to authenticator;
  grant anon, authenticated, service_role to postgres with admin option;
  -- Customers may make policies on realtime.messages.
  grant supabase_realtime_admin to postgres;
  -- Supabase's limits. service_role has none of its own: the one of authenticator's login holds.
  alter role anon set statement_timeout = '3s';
  alter role authenticated set statement_timeout = '8s';
  alter role authenticator set statement_timeout = '8s';
  alter role authenticator set lock_timeout = '8s';
  alter role postgres set search_path = "$user", public, extensions;
end
$$;

-- The roles may look into the schema, and have no right on any table in it: a new project exposes nothing.
grant usage on schema public to anon, authenticated, service_role;
grant all on schema public to postgres;

create schema extensions;
grant usage on schema extensions to anon, authenticated, service_role;
grant all on schema extensions to postgres;

-- auth: who is asking, from the claims PostgREST puts into the transaction.
create schema auth;
grant usage on schema auth to anon, authenticated, service_role, postgres;

create function auth.jwt() returns jsonb
language sql stable
as $$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;

create function auth.uid() returns uuid
language sql stable
as $$ select nullif(auth.jwt() ->> 'sub', '')::uuid $$;

create function auth.role() returns text
language sql stable
as $$ select auth.jwt() ->> 'role' $$;

create function auth.email() returns text
language sql stable
as $$ select auth.jwt() ->> 'email' $$;

create table auth.users (
  id uuid primary key default gen_random_uuid(),
  email text unique,
  raw_user_meta_data jsonb,
  created_at timestamptz default now()
);
grant all on auth.users to postgres;

-- realtime: broadcasts from the database. Row security is on and there is no policy, so only service_role (and owners) get through.
create schema realtime;
grant usage on schema realtime to anon, authenticated, service_role, postgres;

create table realtime.messages (
  id uuid not null default gen_random_uuid(),
  topic text not null,
  extension text not null,
  event text,
  payload jsonb,
  private boolean default false,
  inserted_at timestamp not null default now(),
  updated_at timestamp not null default now(),
  primary key (id, inserted_at)
);
alter table realtime.messages owner to supabase_realtime_admin;
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;
grant all on realtime.messages to postgres;

-- The topic that a policy on realtime.messages asks about.
create function realtime.topic() returns text
language sql stable
as $$ select nullif(current_setting('realtime.topic', true), '') $$;

-- Same signature and manners as Supabase's: the caller's own rights count, an id is added, and whatever goes wrong is only a warning.
create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
language plpgsql
as $$
declare
  message_id constant uuid := gen_random_uuid();
begin
  perform set_config('realtime.topic', send.topic, true);
  insert into realtime.messages (id, topic, extension, event, payload, private)
  values (
    message_id, send.topic, 'broadcast', send.event,
    case when send.payload ? 'id' then send.payload else jsonb_build_object('id', message_id) || send.payload end,
    send.private
  );
exception when others then
  raise warning 'ErrorSendingBroadcastMessage: %', sqlerrm;
end
$$;

-- The sandbox's stand-in for Realtime's reading of the replication stream: tell the local gateway at commit.
create function realtime.sandbox_tell() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform pg_catalog.pg_notify('sandbox_broadcast', new.id::text);
  return null;
end
$$;
create trigger sandbox_tell after insert on realtime.messages for each row execute function realtime.sandbox_tell();

-- PostgREST reads the schema again after DDL; Supabase tells it so.
create function extensions.pgrst_ddl_watch() returns event_trigger
language plpgsql
as $$
begin
  perform pg_catalog.pg_notify('pgrst', 'reload schema');
end
$$;
create event trigger pgrst_ddl_watch on ddl_command_end execute function extensions.pgrst_ddl_watch();
create event trigger pgrst_drop_watch on sql_drop execute function extensions.pgrst_ddl_watch();

create publication supabase_realtime;
alter publication supabase_realtime owner to postgres;
