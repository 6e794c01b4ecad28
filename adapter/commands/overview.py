"""Look at everything once, or again and again."""

import asyncio
import json
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live

from adapter.commands.view import objects, screens
from adapter.commands.view.problems import problems
from adapter.supabase_io.config import SupabaseConfig
from adapter.supabase_io.desk import Desk
from adapter.supabase_io.refusals import DatabaseError
from adapter.supabase_io.sights import Overview

PIPE_WIDTH = 4000
"""Columns; longer than any text of ours."""


def status(config: SupabaseConfig, *, every: float | None, most: int, full: bool, as_json: bool) -> int:
    """Show everything, `every` so many seconds until Ctrl-C if given; the exit code is that of the last look.

    `most`: entries of each list; `full`: phone numbers not masked.
    """
    out = Objects(full=full, indent=None if every else 1) if as_json else _screen(full=full, watched=bool(every))
    return asyncio.run(_status(config, out, every=every, most=most))


async def _status(config: SupabaseConfig, out: "Objects | Prints | Screen", *, every: float | None, most: int) -> int:
    watch = Watch(out=out)
    task = asyncio.create_task(watch.run(config, every=every, most=most))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
    out.close()
    return watch.code


def _screen(*, full: bool, watched: bool) -> "Prints | Screen":
    console = Console(highlight=False)
    if not console.is_terminal:
        # A pipe gets one line for each text, whatever its length: it is read by grep.
        console.width = PIPE_WIDTH
    if watched and console.is_terminal and not console.is_dumb_terminal:
        return Screen(console=console, full=full)
    return Prints(console=console, full=full)


@dataclass(slots=True)
class Watch:
    """`code` is that of the last look, at any time."""

    out: "Objects | Prints | Screen"
    code: int = 1

    async def run(self, config: SupabaseConfig, *, every: float | None, most: int) -> None:
        """Look once, or until canceled."""
        async with Desk(config) as desk:
            while True:
                try:
                    seen = await desk.status(most)
                except DatabaseError as error:
                    self.code = 1
                    self.out.silent(str(error))
                else:
                    self.code = 1 if problems(seen) else 0
                    self.out.show(seen)
                if not every:
                    return
                await asyncio.sleep(every)


@dataclass(slots=True, kw_only=True)
class Objects:
    """JSON, an object for each look."""

    full: bool
    indent: int | None

    def show(self, seen: Overview) -> None:
        """Everything as it is now."""
        self._write(objects.status_object(seen, full=self.full))

    def silent(self, problem: str) -> None:
        """The database told nothing."""
        self._write(objects.silent_object(problem))

    def _write(self, found: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(found, indent=self.indent) + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing to leave."""


@dataclass(slots=True, kw_only=True)
class Prints:
    """Printed out, each look below the last."""

    console: Console
    full: bool

    def show(self, seen: Overview) -> None:
        """Everything as it is now."""
        self._print(screens.status_screen(seen, full=self.full))

    def silent(self, problem: str) -> None:
        """The database told nothing."""
        self._print(screens.silent_screen(problem))

    def _print(self, shown: RenderableType) -> None:
        self.console.print(shown)

    def close(self) -> None:
        """Nothing to leave."""


@dataclass(slots=True, kw_only=True)
class Screen(Prints):
    """The whole terminal, changed in place; the last look stays below when it is left."""

    _live: Live | None = None
    _shown: RenderableType = ""

    def _print(self, shown: RenderableType) -> None:
        if self._live is None:
            self._live = Live(console=self.console, screen=True, auto_refresh=False)
            self._live.start()
        self._shown = shown
        self._live.update(shown, refresh=True)

    def close(self) -> None:
        """Give the terminal back."""
        if self._live:
            self._live.stop()
            self.console.print(self._shown)
