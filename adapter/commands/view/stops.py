"""Pauses and cancels in words. Ids and names of trunks are told in full: they are what is typed next."""

from adapter.commands.view.words import counted
from adapter.supabase_io.stops import Paused, Piece, Resumed, Stop, Target

UNFINISHED_SECONDS = 60.0
"""A cancel asks for its next piece at once; one that has not ended after this was left, or is a very large one."""


def name(target: Target) -> str:
    """How it is called, and typed."""
    return "everything" if target.kind == "all" else f"{target.kind} {target.key}"


def typed(target: Target) -> str:
    """How it is typed behind a command."""
    return f"{target.kind} {target.key}".rstrip()


def _live(count: int) -> str:
    return counted(count, "call that lives", "calls that live")


def paused(target: Target, told: Paused, settings: str) -> str:
    """What a pause did. `settings`: the option that names the settings, for commands that are proposed."""
    lead = f"{name(target)} was paused already, and still is" if told.before else f"{name(target)} is paused"
    lines = [f"{lead[0].upper()}{lead[1:]}: nothing of it is dialed until it is resumed"]
    if told.live:
        verb = "goes on" if told.live == 1 else "go on"
        lines.append(f"{_live(told.live)} {verb}; to hang up: mikopbx-adapter cancel {typed(target)}{settings}")
    lines.append(f"To resume: mikopbx-adapter resume {typed(target)}{settings}")
    return "\n".join(lines)


def resumed(target: Target, told: Resumed) -> str:
    """What a resume did."""
    lead = f"{name(target)} goes on" if told.was else f"{name(target)} was not paused by command"
    words = f"{lead[0].upper()}{lead[1:]}"
    return f"{words}; but it still waits: {told.still}" if told.still else words


def progress(waited: int, live: int) -> str:
    """What was canceled so far."""
    return f"{_rows(waited)} canceled, {_calls(live)} …"


def canceled(target: Target, *, waited: int, live: int, last: Piece) -> str:
    """What a cancel did, once it is over."""
    words = f"Canceled, {name(target)}: {_rows(waited)}; {_calls(live)}"
    return f"{words}\nIt stays paused: {last.still}" if last.still else words


def left(target: Target, *, waited: int, live: int, settings: str) -> str:
    """The same when somebody did not want to wait, or Supabase went away."""
    return (
        f"Not finished: {_rows(waited)} canceled, {_calls(live)}\n"
        f"If it had begun, {name(target)} stays paused until the rest is canceled. "
        f"To go on: mikopbx-adapter cancel {typed(target)}{' --yes' if target.kind == 'all' else ''}{settings}\n"
        f"To keep the rest: mikopbx-adapter resume {typed(target)}{settings}"
    )


def _rows(count: int) -> str:
    return counted(count, "row that waited", "rows that waited")


def _calls(count: int) -> str:
    return counted(count, "live call is being hung up", "live calls are being hung up")


def state(stop: Stop, now: float) -> str:
    """How a pause stands."""
    if not stop.canceling:
        return "paused"
    return "being canceled" if now - stop.began_at < UNFINISHED_SECONDS else "cancel not finished: cancel or resume it"
