-- Settings; the default region must be one we know, or every number without country code would be refused.
create table if not exists public.call_settings (
  only_row boolean primary key default true check (only_row),
  default_region text not null default 'MY' references public.call_regions (region),
  repair_user uuid,
  repair_lane uuid,
  repaired_at timestamptz not null default '-infinity'
);
comment on table public.call_settings is 'One row of settings.';
comment on column public.call_settings.default_region is 'Region of numbers without country code (call_regions.region).';
comment on column public.call_settings.repair_user is 'Where the sweep over the turn tables stands.';
insert into public.call_settings default values on conflict do nothing;

-- The only owner of the canonical form of a phone number. It follows phonenumbers (libphonenumber) step by step, and is
-- stricter only where that would guess: letters, digits of other scripts, a plus inside, numbers too short to be dialed.

create or replace function public.call_number_v1(
  p_raw text,
  p_region text default null,
  out e164 text,
  out country text,
  out zone text,
  out problem text
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
  v_region text := upper(coalesce(p_region, (select s.default_region from public.call_settings s)));
  v_home public.call_regions;
  v_main public.call_regions;
  v_digits text;
  v_rest text;
  v_code integer;
  v_length integer;
  v_premium text;
begin
  select * into v_home from public.call_regions r where r.region = v_region;
  if not found then
    problem := format('the default region %s is not known', v_region);
    return;
  end if;
  if length(coalesce(p_raw, '')) > 64 then
    problem := 'the phone number is too long';
    return;
  end if;

  -- Spaces and the marks people write between digits; the last ones are no-break space and the typographic dashes.
  v_digits := translate(p_raw, E' \t-./()\u00a0\u2010\u2011\u2012\u2013\u2014\u2015\u2212', '');
  if coalesce(v_digits, '') = '' then
    problem := 'the phone number is empty';
    return;
  elsif v_digits !~ '^\+?[0-9]+$' then
    problem := 'the phone number contains something that is no digit';
    return;
  end if;

  if left(v_digits, 1) = '+' then
    v_rest := substr(v_digits, 2);
  elsif v_home.international_prefix is not null
    and v_digits ~ ('^(?:' || v_home.international_prefix || ')[1-9]') then
    v_rest := regexp_replace(v_digits, '^(?:' || v_home.international_prefix || ')', '');
  end if;

  if v_rest is not null then
    select r.calling_code into v_code
    from public.call_regions r
    where r.rank = 1 and r.calling_code in (
      left(v_rest, 1)::integer, left(v_rest, 2)::integer, left(v_rest, 3)::integer
    ) and left(v_rest, 1) <> '0';
    if v_code is null then
      problem := 'the phone number begins with no country''s calling code';
      return;
    end if;
    v_digits := substr(v_rest, length(v_code::text) + 1);
  else
    v_code := v_home.calling_code;
    v_rest := substr(v_digits, length(v_code::text) + 1);
    if v_digits like v_code || '%'
      and (
        (
          v_digits !~ ('^(?:' || v_home.national_pattern || ')$')
          and public.call_national(v_rest, v_home) ~ ('^(?:' || v_home.national_pattern || ')$')
        )
        or (length(v_digits) > all (v_home.lengths) and length(v_digits) <> all (v_home.local_lengths))
      ) then
      v_digits := public.call_national(v_rest, v_home);
    end if;
  end if;

  -- Regions that share a calling code share the rules of the main one, but for a number written as at home.
  v_main := v_home;
  if v_rest is not null and v_code <> v_home.calling_code then
    select * into v_main from public.call_regions r where r.calling_code = v_code and r.rank = 1;
  end if;
  v_rest := public.call_national(v_digits, v_main);
  v_length := length(v_rest);
  if v_length = any (v_main.lengths)
    or (v_length > all (v_main.lengths) and v_length <> all (v_main.local_lengths)) then
    v_digits := v_rest;
  end if;

  select * into v_main from public.call_regions r where r.calling_code = v_code and r.rank = 1;
  v_length := length(v_digits);
  if v_length < 7 then
    problem := format('the phone number is too short (%s digits without the country code)', v_length);
  elsif v_length = any (v_main.local_lengths) and v_length <> all (v_main.lengths) then
    problem := 'the phone number lacks its area code';
  elsif v_length > all (v_main.lengths) or length(v_code || v_digits) > 15 then
    problem := format('the phone number is too long (%s digits without the country code)', v_length);
  elsif v_length < all (v_main.lengths) then
    problem := format('the phone number is too short (%s digits without the country code)', v_length);
  elsif v_length <> all (v_main.lengths) then
    problem := format('a phone number of its country cannot have %s digits', v_length);
  end if;
  if problem is not null then
    return;
  end if;

  e164 := '+' || v_code || v_digits;
  select case when r.region like '+%' then '001' else r.region end, r.zone, r.premium_pattern
  into country, zone, v_premium
  from public.call_regions r
  where r.calling_code = v_code
    and case
      when r.own_pattern is null then true
      when r.leading_digits is not null then v_digits ~ ('^(?:' || r.leading_digits || ')')
      else v_digits ~ ('^(?:' || r.own_pattern || ')$')
    end
  order by r.rank
  limit 1;
  if v_digits ~ ('^(?:' || v_premium || ')$') then
    e164 := null;
    country := null;
    zone := null;
    problem := 'the phone number is a premium number: whoever calls it pays its owner';
  end if;
end
$$;
comment on function public.call_number_v1 is
  'Canonical form of a phone number: e164, country, zone; or a problem in words.';

-- The number without the national prefix of its region (the 0 of 012…), if it has one.
create or replace function public.call_national(p_digits text, p_region public.call_regions)
returns text
language plpgsql immutable
set search_path = ''
as $$
declare
  v_prefix text := '^(?:' || p_region.prefix_pattern || ')';
  v_number text := '^(?:' || p_region.national_pattern || ')$';
  v_groups text[];
  v_stripped text;
begin
  if p_region.prefix_pattern is null or p_digits !~ v_prefix then
    return p_digits;
  end if;
  if p_region.prefix_rule is not null then
    v_groups := regexp_match(p_digits, v_prefix);
  end if;
  v_stripped := regexp_replace(
    p_digits, v_prefix, case when v_groups[cardinality(v_groups)] is null then '' else p_region.prefix_rule end
  );
  if p_digits ~ v_number and v_stripped !~ v_number then
    return p_digits;
  end if;
  return v_stripped;
end
$$;

-- The form in which the app shows a number: 0123456789 at home, digits without the plus elsewhere.
create or replace function public.call_local_form(p_e164 text)
returns text
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return (
    select case
      when p_e164 not like '+' || r.calling_code || '%' then substr(p_e164, 2)
      -- A trunk prefix that equals the calling code is not part of the number as people write it (+1).
      when r.national_prefix = r.calling_code::text then substr(p_e164, length(r.calling_code::text) + 2)
      else coalesce(r.national_prefix, '') || substr(p_e164, length(r.calling_code::text) + 2)
    end
    from public.call_settings s
    join public.call_regions r on r.region = s.default_region
  );
end
$$;
