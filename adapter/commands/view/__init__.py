"""What `call` and `status` show: pure functions from what the database told to words, and from these to tables.

`waiting`, `steps` and `problems` judge; `screens` draws; `words` is how times and numbers are written. The instant of
the database decides every age; the clock of this machine is never asked.
"""
