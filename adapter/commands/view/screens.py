"""From what the database told to what rich draws. Pure: an instant and its facts in, something to print out."""

from rich.console import Group, RenderableType
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from adapter.commands.view import links as sides
from adapter.commands.view import stops, words
from adapter.commands.view.problems import notes, problems
from adapter.commands.view.steps import Step, Story, phase
from adapter.core.model import Outcome
from adapter.supabase_io.sights import Following, Link, Overview, Sight

COLORS = {
    "queued": "dim",
    "dialing": "yellow",
    "ringing": "yellow",
    "talking": "green",
    "answered": "green",
    "canceled": "magenta",
    Outcome.UNKNOWN.value: "bold red",
    Outcome.BLOCKED.value: "magenta",
    Outcome.AI_FAILED.value: "bold red",
    Outcome.PBX_ERROR.value: "red",
    Outcome.TRUNK_UNAVAILABLE.value: "red",
    Outcome.CONGESTION.value: "red",
    Outcome.REJECTED.value: "red",
}
"""Of steps, phases and outcomes; what is not here is shown plainly."""

NAME_WIDTH = max(len(name) for name in (*Outcome, "taken back"))


# -- one call


def call_line(step: Step) -> str:
    """One step as a line of its own."""
    return f"{words.clock(step.at)}  {step.name:{NAME_WIDTH}}  {step.words}".rstrip()


def call_screen(story: Story, seen: Following, spinner: Spinner, problem: str | None = None) -> RenderableType:
    """All steps so far, and what goes on now. `problem`: why the last look told nothing."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(no_wrap=True, min_width=NAME_WIDTH)
    table.add_column(overflow="fold")
    for step in story.steps:
        table.add_row(words.clock(step.at), Text(step.name, style=COLORS.get(step.name, "bold")), Text(step.words))
    out: list[RenderableType] = [table]
    if now := phase(seen):
        spinner.update(text=Text(now))
        out += [spinner, Text(f"  {through(seen)}", style="dim")]
    if problem:
        out.append(Text(f"  {problem}", style="yellow"))
    return Group(*out)


def through(seen: Following) -> str:
    """Which adapter has the PBX, in one line."""
    told = []
    for hold in seen.links.holds:
        link = next((link for link in seen.links.adapters if link.adapter == hold.holder), None)
        if link is None or (seen.row.pbx or hold.pbx) != hold.pbx:
            continue
        told.append(f"PBX {hold.pbx}, held by adapter {link.short} (heard {words.ago(seen.now, link.seen_at)})")
    return "; ".join(told) or "no adapter holds a PBX"


# -- everything


def status_screen(seen: Overview, *, full: bool) -> RenderableType:
    """Everything at a glance, what is wrong on top. `full`: phone numbers are not masked."""
    wrong, worth = problems(seen), notes(seen)
    headline = words.counted(len(wrong), "problem", "problems") if wrong else "all well"
    out: list[RenderableType] = [
        Text.assemble((f"{words.clock(seen.now)}  ", "dim"), (headline, "bold red" if wrong else "bold green"))
    ]
    out += [_point(text, "red", full=full) for text in wrong]
    out += [_point(text, "yellow", full=full) for text in worth]
    out += [Text(), _adapters(seen), Text(), *_queue(seen)]
    if seen.stops:
        out += [Text(), _stops(seen, full=full)]
    if seen.calls:
        out += [Text(), _calls(seen, full=full)]
    if seen.last:
        out += [Text(), _last(seen, full=full)]
    return Group(*out)


def _point(text: str, style: str, *, full: bool) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_row(Text("•", style=style), Text(words.text(text, full=full)))
    return table


def _table(*names: str, last: str) -> Table:
    out = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in names:
        out.add_column(name, no_wrap=True)
    out.add_column(last, overflow="fold")  # The one column that gives way on a narrow terminal.
    return out


def _adapters(seen: Overview) -> RenderableType:
    if not seen.links.adapters:
        return Text("No adapter is known.", style="dim")
    out = _table("adapter", "PBX", "state", "calls", "trunk", "heard", "up", "version", last="")
    for link in seen.links.adapters:
        state, style = _state(link, seen)
        limit = "" if link.pbx_limit is None else f" of {link.pbx_limit}"
        heard = sides.is_heard(link, seen.now)
        out.add_row(
            link.short,
            link.pbx or "",
            Text(state, style=style),
            f"{link.live}{limit}" if heard else "",
            link.trunk or (link.form or ""),
            words.ago(seen.now, link.seen_at),
            words.span(seen.now - link.registered_at) if heard else "",
            link.version or "",
            f"run {link.incarnation}",
        )
    return out


def _state(link: Link, seen: Overview) -> tuple[str, str]:
    if not sides.is_heard(link, seen.now):
        return "silent", "dim"
    if not link.ready:
        return "not ready", "bold red"
    if link.problem:
        return "holds back", "bold yellow"
    return ("dials", "green") if sides.holds(link, seen.links) else ("witness", "cyan")


def _queue(seen: Overview) -> list[RenderableType]:
    queue, air, ended = seen.queue, seen.air, seen.ended
    waiting = words.counted(queue.queued, "row", "rows", most=queue.most)
    parts = [f"{words.counted(queue.due, 'is due', 'are due', most=queue.most)}" if queue.due else "none is due"]
    if queue.due_since is not None:
        parts[0] += f", the longest for {words.span(seen.now - queue.due_since)}"
    if queue.next_at is not None and not queue.due:
        parts.append(f"the next at {words.clock(queue.next_at)}, in {words.span(queue.next_at - seen.now)}")
    if queue.paused:
        parts.append(words.counted(queue.paused, "is paused", "are paused", most=queue.most))
    counts = sorted(ended.outcomes.items(), key=lambda item: (-item[1], item[0]))
    day = ", ".join(f"{count:,} {outcome}" for outcome, count in counts)
    table = Table.grid(padding=(0, 2))
    table.add_row(Text("queued", style="bold"), f"{waiting}; {'; '.join(parts)}" if queue.queued else "none")
    settling = f", {air.settling} over and waiting for the AI's word" if air.settling else ""
    table.add_row(Text("in the air", style="bold"), f"{air.dialing} dialing, {air.talking} talking{settling}")
    total = words.counted(ended.total, "row", "rows", most=ended.most)
    table.add_row(Text("last 24 h", style="bold"), f"{total} ended: {day}" if ended.total else "none ended")
    return [table]


def _stops(seen: Overview, *, full: bool) -> RenderableType:
    out = _table("what", "state", "for", last="reason")
    for stop in seen.stops:
        out.add_row(
            stops.name(stop.target),
            Text(stops.state(stop, seen.now), style="yellow"),
            words.span(seen.now - stop.began_at),
            Text(words.text(stop.reason, full=full)),
        )
    return out


def _calls(seen: Overview, *, full: bool) -> RenderableType:
    out = _table("row", "number", "phase", "for", "adapter", last="PBX")
    for row in seen.calls:
        name, since = _phase(row)
        out.add_row(
            str(row.row_id),
            words.number(row.e164, row.phone_number, full=full),
            Text(name, style=COLORS.get(name, "")),
            words.span(seen.now - (since or seen.now)),
            (row.adapter or "")[:8],
            row.pbx or "",
        )
    hidden = seen.air.dialing + seen.air.talking + seen.air.settling - len(seen.calls)
    return Group(out, Text(f"and {hidden:,} more", style="dim")) if hidden > 0 else out


def _phase(row: Sight) -> tuple[str, float | None]:
    """Whether a dialing call rings is written with its answer or end, so it is one phase here."""
    if row.outcome is not None:
        return "over", row.ended_at
    if row.cancel_requested:
        return "canceled", row.claimed_at
    return ("talking", row.answered_at) if row.status == "talking" else ("dialing", row.claimed_at)


def _last(seen: Overview, *, full: bool) -> RenderableType:
    out = _table("row", "number", "ended", "outcome", "talk", last="reason")
    for row in seen.last:
        outcome = row.outcome or row.status
        out.add_row(
            str(row.row_id),
            words.number(row.e164, row.phone_number, full=full),
            words.ago(seen.now, row.ended_at),
            Text(outcome, style=COLORS.get(outcome, "")),
            words.span(row.talk_seconds) if row.talk_seconds else "",
            Text(words.text(row.reason, full=full)),
        )
    return out


def silent_screen(problem: str) -> RenderableType:
    """When the database told nothing."""
    return Text(f"Supabase does not tell how things are: {problem}", style="bold red")
