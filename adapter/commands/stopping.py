"""Pause, resume and cancel more than one row: asked of the database, which tells the adapters."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO

from adapter.commands.following import Lines, patiently
from adapter.commands.view import stops as words
from adapter.commands.view.codes import Code
from adapter.supabase_io.config import SupabaseConfig
from adapter.supabase_io.desk import Desk
from adapter.supabase_io.refusals import DatabaseError
from adapter.supabase_io.stops import Piece, Target

AT_A_TERMINAL = "canceled at a terminal"


def pause(config: SupabaseConfig, target: Target, reason: str | None, *, settings: str) -> int:
    """Pause it, and return the exit code (`codes.CONTROL_HELP`)."""
    return asyncio.run(_pause(config, target, reason, settings))


def resume(config: SupabaseConfig, target: Target) -> int:
    """Let it go on, and return the exit code (`codes.CONTROL_HELP`)."""
    return asyncio.run(_resume(config, target))


def cancel(config: SupabaseConfig, target: Target, reason: str | None, *, settings: str) -> int:
    """Cancel all of it, and return the exit code (`codes.CANCEL_HELP`)."""
    work = Cancel(config=config, target=target, reason=reason or AT_A_TERMINAL, settings=settings, out=sys.stdout)
    return asyncio.run(_interruptible(work.run()))


async def _pause(config: SupabaseConfig, target: Target, reason: str | None, settings: str) -> int:
    view = Lines(sys.stdout)
    async with Desk(config) as desk:
        try:
            told = await patiently(lambda: desk.pause(target, reason), view)
        except DatabaseError as error:
            view.say(f"Not paused, or not known to be; it may be asked again: {error}")
            return Code.NOT_QUEUED
    view.say(words.paused(target, told, settings))
    return Code.ANSWERED


async def _resume(config: SupabaseConfig, target: Target) -> int:
    view = Lines(sys.stdout)
    async with Desk(config) as desk:
        try:
            told = await patiently(lambda: desk.resume(target), view)
        except DatabaseError as error:
            view.say(f"Not resumed, or not known to be; it may be asked again: {error}")
            return Code.NOT_QUEUED
    view.say(words.resumed(target, told))
    return Code.ANSWERED if told.was and told.still is None else Code.NOT_ANSWERED


async def _interruptible(work: Coroutine[Any, Any, int]) -> int:
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await task


@dataclass(slots=True, kw_only=True)
class Cancel:
    """A cancel in pieces. What is done so far is told also when it is left."""

    config: SupabaseConfig
    target: Target
    reason: str
    settings: str
    out: TextIO
    waited: int = 0
    live: int = 0

    async def run(self) -> int:
        """To the last piece; the exit code."""
        view = Lines(self.out)
        try:
            async with Desk(self.config) as desk:
                last = await self._pieces(desk, view)
        except DatabaseError as error:
            view.say(f"Not canceled, or not known to be; it may be asked again: {error}")
            if self.waited or self.live:
                view.say(self._left())
            return Code.NOT_QUEUED
        except asyncio.CancelledError:  # Ctrl-C, which is all that cancels this task: it ends here.
            view.say(self._left())
            return Code.STILL_GOING
        view.say(words.canceled(self.target, waited=self.waited, live=self.live, last=last))
        return Code.ANSWERED if self.waited or self.live else Code.NOT_ANSWERED

    async def _pieces(self, desk: Desk, view: Lines) -> Piece:
        before: str | None = None
        while True:
            piece = await patiently(partial(desk.cancel_all, self.target, self.reason, before), view)
            before = piece.before
            self.waited += piece.waited
            self.live += piece.live
            if not piece.more:
                return piece
            if piece.waited or piece.live:
                view.say(words.progress(self.waited, self.live))
            elif self.waited or self.live:
                await asyncio.sleep(0.5)  # What is left is in somebody else's hands, who is about to end.

    def _left(self) -> str:
        return words.left(self.target, waited=self.waited, live=self.live, settings=self.settings)
