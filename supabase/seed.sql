-- Example rows for a local project. Harmless: they may be dialed in ten days at the earliest, and the numbers belong to
-- nobody. Applied twice it adds nothing.

insert into public.campaigns (id, user_id, campaign_name, status, total_numbers)
values (
  '00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-0000000000a1', 'Example campaign', 'in_progress', 2
)
on conflict do nothing;

insert into public.call_queue (user_id, campaign_id, phone_number, customer_name, not_before, idempotency_key)
values
  (
    '00000000-0000-4000-8000-0000000000a1', '00000000-0000-4000-8000-0000000000c1', '+60 12-345 6701', 'Example One',
    now() + interval '10 days', 'seed-1'
  ),
  (
    '00000000-0000-4000-8000-0000000000a1', '00000000-0000-4000-8000-0000000000c1', '012-345 6702', 'Example Two',
    now() + interval '10 days', 'seed-2'
  );
