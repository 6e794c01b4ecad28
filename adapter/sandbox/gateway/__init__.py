"""A local Supabase: as much of its gateway, PostgREST and Realtime as the official clients need to use our tables.

`Gateway.started(dsn)` serves a database that `adapter.sandbox.postgres.Postgres.create_project` has made. What it
answers is held against recordings of the real servers (tests/sandbox/recordings). Where it is less than they are, it
says so in an error; it never pretends.
"""

from adapter.sandbox.gateway.faults import HttpFault, lose
from adapter.sandbox.gateway.limits import Delays, Limits
from adapter.sandbox.gateway.server import Gateway

__all__ = ["Delays", "Gateway", "HttpFault", "Limits", "lose"]
