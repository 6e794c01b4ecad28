"""mikopbx-adapter: rows of a Supabase `call_queue` become calls on a MikoPBX, and outcomes in `call_logs`."""

__version__ = "0.1.0"
