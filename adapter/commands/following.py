"""Queue one row and follow it on the screen, follow one that is there, or cancel it.

The call belongs to the adapter that runs: nothing here places it or ends it, so it may be left at any time.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TextIO, TypeVar

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, wait_random_exponential

from adapter.commands.view import screens
from adapter.commands.view.codes import Code
from adapter.commands.view.objects import call_object
from adapter.commands.view.steps import Step, Story, canceled, ending
from adapter.commands.view.waiting import TURN, Reason
from adapter.core.model import Outcome
from adapter.supabase_io.config import SupabaseConfig
from adapter.supabase_io.desk import Desk, NumberRefused, Wish
from adapter.supabase_io.refusals import DatabaseAway, DatabaseError, DatabaseRefused
from adapter.supabase_io.sights import Following, Sight

_Answer = TypeVar("_Answer")

LOOK_SECONDS = 0.5
"""Between two looks: a person sees each change as it comes, and two small requests a second cost nobody anything."""

AWAY_SECONDS = 2.0
"""So much more while Supabase does not answer."""

QUEUE_SECONDS = 30.0
"""For how long the row is sent again when no answer came; its key keeps it one row."""

EVIDENT_SECONDS = 1.0
"""A row is usually claimed within this; a reason for waiting is worth a line of its own only after it."""

CODES = {Outcome.ANSWERED.value: Code.ANSWERED, Outcome.BLOCKED.value: Code.NOT_CALLED}
"""By outcome; all others: Code.NOT_ANSWERED."""

FIND = "select id, status from call_queue where idempotency_key = '{key}';"


def call(config: SupabaseConfig, wish: Wish, *, seconds: float | None, as_json: bool, settings: str = "") -> int:
    """Queue the row, follow it for `seconds` at most, and return the exit code (`codes.HELP`).

    `settings`: the option that names the settings, for commands that are proposed.
    """
    unsure = (
        "Whether the row was added is not known; look before you try again, in the SQL editor: "
        f"{FIND.format(key=wish.idempotency_key)}"
    )
    order = Order(
        words=f"Calling {wish.number} …",
        ask=lambda desk: desk.wish(wish),
        undone="Not queued",
        unsure=unsure,
        settings=settings,
    )
    return asyncio.run(_run(config, order, seconds=seconds, as_json=as_json))


def follow(config: SupabaseConfig, row: int, *, seconds: float | None, as_json: bool, settings: str = "") -> int:
    """Follow a row that is there, and return the exit code (`codes.HELP`); `settings` as for `call`."""
    order = Order(
        words=f"Row {row} of call_queue",
        ask=lambda desk: desk.follow(row),
        undone="Not followed",
        unsure="",
        settings=settings,
    )
    return asyncio.run(_run(config, order, seconds=seconds, as_json=as_json))


def cancel(config: SupabaseConfig, row: int, reason: str | None = None) -> int:
    """Cancel a row, and return the exit code (`codes.CANCEL_HELP`)."""
    return asyncio.run(_cancel(config, row, reason))


async def _run(config: SupabaseConfig, order: "Order", *, seconds: float | None, as_json: bool) -> int:
    # With --json standard output holds the object and nothing else.
    view = _view(sys.stderr if as_json else sys.stdout)
    async with Desk(config) as desk:
        follower = Follower(desk=desk, order=order, view=view)
        task = asyncio.create_task(follower.run(seconds))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        view.say(order.words)
        await asyncio.wait({task})
    view.close()
    code, last = follower.interrupted() if task.cancelled() else task.result()
    view.say(last)
    if as_json:
        found = call_object(code=code, last=last, seen=follower.seen, story=follower.story)
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return code


async def _cancel(config: SupabaseConfig, row: int, reason: str | None) -> int:
    view = Lines(sys.stdout)
    async with Desk(config) as desk:
        try:
            seen = await patiently(lambda: desk.stop(row, reason), view)
        except DatabaseError as error:
            view.say(f"Not canceled, or not known to be; it may be asked again: {error}")
            return Code.NOT_QUEUED
    done, words = canceled(seen)
    view.say(words)
    return Code.ANSWERED if done else Code.NOT_ANSWERED


async def patiently(ask: Callable[[], Awaitable[_Answer]], view: "View") -> _Answer:
    """Ask until there is an answer, for `QUEUE_SECONDS`; only for what may be asked twice."""

    def again(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome:
            view.say(f"Trying again: {state.outcome.exception()}")

    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(DatabaseAway),
        wait=wait_random_exponential(multiplier=0.5, max=5),
        stop=stop_after_delay(QUEUE_SECONDS),
        before_sleep=again,
        reraise=True,
    ):
        with attempt:
            return await ask()
    raise AssertionError("AsyncRetrying ends by return or raise")


def _view(out: TextIO) -> "View":
    console = Console(file=out, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return Screen(console=console)
    return Lines(out)


class View(Protocol):
    """Where the steps are shown."""

    def say(self, words: str) -> None:
        """Words that stay."""

    def look(self, look: "Look") -> None:
        """The row as it is now."""

    def close(self) -> None:
        """Leave what is shown as it is; further words come below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The row as it was seen last, what is new, and why it could not be seen just now."""

    story: Story
    seen: Following
    new: tuple[Step, ...] = ()
    why: Reason | None = None
    """A reason for waiting, of another kind than before."""

    trouble: str | None = None


@dataclass(slots=True)
class Lines:
    """One line for each change: for pipes and logs."""

    out: TextIO
    _untold: bool = False
    _troubled: bool = False

    def say(self, words: str) -> None:
        self.out.write(words + "\n")
        self.out.flush()

    def look(self, look: Look) -> None:
        if look.trouble and not self._troubled:
            self.say(look.trouble)
        self._troubled = look.trouble is not None
        for step in look.new:
            self.say(screens.call_line(step))
        why, seen = look.story.why, look.seen
        self._untold = why is not None and why.kind != TURN and (self._untold or look.why is not None)
        if why and self._untold and seen.now - seen.row.created_at > EVIDENT_SECONDS:
            self.say(screens.call_line(Step(key="", at=seen.now, name="waits", words=why.words)))
            self._untold = False

    def close(self) -> None:
        """Nothing to leave."""


@dataclass(slots=True)
class Screen:
    """The steps in place, with what goes on now: for a terminal."""

    console: Console
    _live: Live | None = None
    _spinner: Spinner = field(default_factory=lambda: Spinner("dots"))

    def say(self, words: str) -> None:
        self.console.print(words, markup=False, soft_wrap=True)

    def look(self, look: Look) -> None:
        shown = screens.call_screen(look.story, look.seen, self._spinner, look.trouble)
        if self._live is None:
            self._live = Live(shown, console=self.console, refresh_per_second=8)
            self._live.start()
        self._live.update(shown)

    def close(self) -> None:
        if self._live:
            self._live.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How the following begins."""

    words: str
    ask: Callable[[Desk], Awaitable[Following]]
    """The first look. May be asked again until it is answered."""

    undone: str
    """What is said when it was refused …"""

    unsure: str
    """… and when nobody knows whether it was done."""

    settings: str
    """Of proposed commands, the option that names the settings."""


@dataclass(slots=True)
class Follower:
    """Follows a row. What it knows can be read at any time, also when it was interrupted."""

    desk: Desk
    order: Order
    view: View
    story: Story = field(default_factory=Story)
    seen: Following | None = None

    async def run(self, seconds: float | None) -> tuple[Code, str]:
        """Exit code and last words."""
        try:
            first = await patiently(lambda: self.order.ask(self.desk), self.view)
        except NumberRefused as error:
            return Code.NOT_CALLED, f"Not called, nothing was queued: {error}"
        except DatabaseRefused as error:
            return Code.NOT_QUEUED, f"{self.order.undone}: {error}"
        except DatabaseAway as error:
            return Code.NOT_QUEUED, f"Supabase did not answer for {QUEUE_SECONDS:g} s: {error}. {self.left}".rstrip()
        return await self._to_the_end(first, seconds)

    def interrupted(self) -> tuple[Code, str]:
        """The same when somebody did not want to wait."""
        return Code.STILL_GOING if self.seen else Code.NOT_QUEUED, f"Left. {self.left}".rstrip()

    @property
    def left(self) -> str:
        """What becomes of the row without us."""
        if self.seen is None:
            return self.order.unsure
        row = self.seen.row.row_id
        return (
            f"Row {row} goes on without this command: an adapter dials it, or goes on following its call\n"
            f"To look again: mikopbx-adapter follow {row}{self.order.settings}\n"
            f"To cancel it: mikopbx-adapter cancel {row}{self.order.settings}"
        )

    async def _to_the_end(self, first: Following, seconds: float | None) -> tuple[Code, str]:
        self._show(first)
        try:
            async with asyncio.timeout(seconds):
                row = await self._follow(first)
        except TimeoutError:
            return Code.STILL_GOING, f"Not over after {seconds:g} s. {self.left}"
        except DatabaseRefused as error:
            return Code.STILL_GOING, f"It can no longer be followed: {error}. {self.left}"
        return CODES.get(row.outcome or "", Code.NOT_ANSWERED), ending(row)

    async def _follow(self, first: Following) -> Sight:
        last = first
        while not last.row.final:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                last = await self.desk.follow(first.row.row_id)
            except DatabaseAway as error:
                trouble = f"not seen now, but the call goes on by itself: {error}"
                self.view.look(Look(story=self.story, seen=last, trouble=trouble))
                await asyncio.sleep(AWAY_SECONDS)
            else:
                self._show(last)
        return last.row

    def _show(self, seen: Following) -> None:
        self.seen = seen
        new, why = self.story.tell(seen)
        self.view.look(Look(story=self.story, seen=seen, new=tuple(new), why=why))
