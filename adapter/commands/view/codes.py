"""Exit codes of `call` and `follow`, for scripts. They stay clear of those of `run` (adapter/exits.py)."""

from enum import IntEnum


class Code(IntEnum):
    """2 is the argument parser's own."""

    ANSWERED = 0
    NOT_ANSWERED = 1
    NOT_CALLED = 3
    NOT_QUEUED = 4
    STILL_GOING = 5


CONTROL_HELP = """\
exit codes:
  0    done
  1    resume: it was not paused, or something else keeps it from being dialed
  2    the command line is wrong
  4    not done, or not known to be: Supabase did not answer, or refused, or there is no such thing
  78   the settings are wrong
"""

HOURS_HELP = """\
exit codes:
  0    told, and done
  2    the command line is wrong
  4    not done, or not known to be: Supabase did not answer, or refused
  78   the settings are wrong
"""

RATES_HELP = """\
exit codes:
  0    all lines were taken
  1    some were not: each is told with the reason
  2    the command line is wrong
  4    not taken, or not known to be: the file is no rate sheet, or Supabase did not answer, or refused
  78   the settings are wrong
"""

CANCEL_HELP = """\
exit codes:
  0    canceled, or the call is being hung up
  1    too late, it was over; or nothing of it waited or lived
  2    the command line is wrong
  4    not canceled, or not known to be: Supabase did not answer, or refused, or there is no such thing
  5    left with Ctrl-C: the rest stays paused until it is canceled or resumed
  78   the settings are wrong
"""

HELP = """\
exit codes:
  0    answered
  1    over without an answer: busy, nobody there, voicemail, canceled, a fault of the carrier or ours, not known
  2    the command line is wrong
  3    not called: the number cannot be dialed, or the row was blocked
  4    not queued, or not known to be: Supabase did not answer, or refused
  5    still going: --timeout is over, or Ctrl-C; the call goes on by itself
  78   the settings are wrong
"""

EXPLAIN_HELP = """\
exit codes:
  0    explained
  1    there is nothing to explain: no such row, call or number, or no row waits
  2    the command line is wrong
  4    not explained: Supabase did not answer, or refused
  78   the settings are wrong
"""

DO_NOT_CALL_HELP = """\
exit codes:
  0    done; check, list: told, and the number is not listed
  1    import: some lines cannot be read, the others are listed; add: not a number; remove: it was not listed;
       check: it is listed
  2    the command line is wrong
  4    not done, or not known to be: the file cannot be read, or Supabase did not answer, or refused
  78   the settings are wrong
"""
