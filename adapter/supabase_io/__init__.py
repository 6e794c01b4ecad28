"""The Supabase side: sync, doorbell (Realtime), the local outbox. The only package that knows supabase-py."""
