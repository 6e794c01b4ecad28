"""Everything a newcomer needs on one machine: a local Supabase, a simulated MikoPBX, a real Asterisk."""
