"""`mikopbx-adapter doctor`: is everything there that a call needs, and what is to be done where it is not?

One module for each side (machine, Supabase, PBX); each gives findings one after the other. Nobody is ever called by it.
"""
