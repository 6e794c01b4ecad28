"""The existing app's reads, replayed over rows that the daemon wrote."""
