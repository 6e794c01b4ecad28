"""One session with the PBX: from the connect to the loss, and questions in between, each with a deadline."""

import asyncio
import contextlib
import itertools
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adapter import clock as clocks
from adapter.core.model import AmiEvent
from adapter.pbx import rights
from adapter.pbx.config import PbxConfig, Timings
from adapter.pbx.headers import checked
from adapter.pbx.networks import clear_text_problem
from adapter.pbx.replies import Denied, LinkDown
from adapter.pbx.stopwatch import Stopwatch
from adapter.pbx.wire import OneShot, headers_of
from adapter.recorder import SILENT, Recorder

DENIED = "Permission denied"

LATEST = 4_102_444_800.0
"""Year 2100. A PBX that tells a later time, or one before 1970, has no clock; ours is used."""

_NAMES = {
    name: name
    for name in (
        *("Privilege", "Timestamp", "SystemName", "Channel", "ChannelState", "ChannelStateDesc", "CallerIDNum"),
        *("CallerIDName", "ConnectedLineNum", "ConnectedLineName", "Language", "AccountCode", "Context", "Exten"),
        *("Priority", "Uniqueid", "Linkedid", "Cause", "Cause-txt", "TechCause", "Response", "Reason", "Application"),
        *("DestChannel", "DestChannelState", "DestChannelStateDesc", "DestCallerIDNum", "DestCallerIDName"),
        *("DestConnectedLineNum", "DestConnectedLineName", "DestLanguage", "DestAccountCode", "DestContext"),
        *("DestExten", "DestPriority", "DestUniqueid", "DestLinkedid", "DialString", "DialStatus", "ActionID"),
        *("Variable", "Value", "AppData", "BridgeUniqueid", "Extension"),
    )
}
"""Header names that events share, so that thousands of events in memory hold each once. No `sys.intern`: Python 3.12
never lets go of what was interned, and any client of the PBX can make up names (UserEvent)."""


class SessionFailed(Exception):
    """No session came about, or it did not live long. `patient`: trying again soon would do harm."""

    def __init__(self, problem: str, *, patient: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.patient = patient


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Response to one action, and the events of its list where it has one."""

    ok: bool
    message: str
    fields: Mapping[str, str]
    items: tuple[Mapping[str, str], ...] = ()

    @property
    def refused(self) -> bool:
        """The PBX said in so many words that it did not do it. Neither `ok` nor this: nobody knows."""
        return self.fields.get("Response") == "Error"


class Session:
    """Use: `await open()`, then `ask`/`send` and events through `on_event`, until `lost` is done."""

    def __init__(
        self,
        number: int,
        config: PbxConfig,
        timings: Timings,
        *,
        on_event: Callable[["Session", AmiEvent], None],
        recorder: Recorder = SILENT,
    ) -> None:
        self.number = number
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done when this session sees nothing any more; the reason in words."""

        self._config = config
        self._timings = timings
        self._on_event = on_event
        self._booted = asyncio.Event()
        self._shot = OneShot(config, on_event=self._event, on_lost=self.end, recorder=recorder, session=number)
        # Other clients of the PBX must never use the same ids: events show them to everybody.
        self._prefix = f"mikopbx-adapter-{uuid.uuid4().hex[:12]}"
        self._ids = itertools.count(1)

    @property
    def unreadable(self) -> int:
        """Messages that could not be read."""
        return self._shot.unreadable

    @property
    def backlog(self) -> int:
        """Bytes that the PBX has not taken: more than none means that it does not read (AMI-15)."""
        wire = self._shot.wire
        return 0 if wire is None or wire.closed else wire.transport.get_write_buffer_size()

    async def open(self) -> None:
        """Connect, log in, wait until the PBX is booted. Raises SessionFailed."""
        await self.enter()
        await self.until_booted()

    async def enter(self) -> None:
        """Connect and log in; questions can be asked from here on. Raises SessionFailed."""
        await self._connect(f"{self._config.host}:{self._config.port}")
        await self._log_in()

    async def until_booted(self) -> None:
        """Wait until the PBX says that it takes calls. Raises SessionFailed."""
        seconds = self._timings.booted
        booted = asyncio.ensure_future(self._booted.wait())
        ends: set[asyncio.Future[Any]] = {booted, self.lost}
        try:
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            booted.cancel()
        if self._booted.is_set():
            return
        if self.lost.done():
            raise SessionFailed(f"connection lost while the PBX was starting: {self.lost.result()}")
        raise SessionFailed(
            f"logged in, but the PBX did not say FullyBooted within {seconds:g} s: it is still starting, or the AMI"
            " user lacks the read right 'system'"
        )

    async def ask(self, action: str, *headers: tuple[str, str], seconds: float, many: bool = False) -> Answer:
        """One action and its answer. Raises LinkDown when none came in time, Denied when a right is missing."""
        action_id = f"{self._prefix}-{next(self._ids)}"
        try:
            future = self._shot.send(
                checked([("Action", action), ("ActionID", action_id), *headers]), as_list=None if many else False
            )
            async with asyncio.timeout(seconds):
                # Shielded: the library must find its future whole when the answer comes late (AMI-12).
                got = await asyncio.shield(future)
        except TimeoutError:
            self._shot.forget(action_id)
            raise LinkDown(f"the PBX did not answer {action} within {seconds:g} s") from None
        except ConnectionError as error:
            raise LinkDown(str(error)) from None
        answer = _answer(got)
        if not answer.ok and answer.message == DENIED:
            raise Denied(rights.denied(action))
        return answer

    def send(self, headers: Mapping[str, Any]) -> "asyncio.Future[Answer]":
        """Write a checked action that must reach the PBX at most once. ConnectionError: not one byte was written.

        The future ends with the Response, or with ConnectionError when the session ends before it.
        """
        raw = self._shot.send(headers, as_list=False)
        out: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def passed_on(done: "asyncio.Future[Any]") -> None:
            failure = done.exception()
            if out.done():
                return
            if failure is None:
                out.set_result(_answer(done.result()))
            else:
                out.set_exception(failure)
                out.exception()  # Seen, even if the asker's own deadline has passed.

        raw.add_done_callback(passed_on)
        return out

    async def watch(self, stopwatch: Stopwatch) -> None:
        """Prove again and again that the PBX answers; end the session when it does not (AMI-06)."""
        while not self.lost.done():
            await asyncio.sleep(self._config.ping_seconds)
            asked_at = clocks.boot()
            try:
                await self.ask("Ping", seconds=self._timings.pong)
            except LinkDown as error:
                self.end(str(error))
            else:
                stopwatch.answered(asked_at)

    def end(self, reason: str) -> None:
        """The session is over, at once; a second reason is ignored."""
        if not self.lost.done():
            self.lost.set_result(reason)
        self._shot.close()

    async def _connect(self, where: str) -> None:
        seconds = self._timings.connect
        try:
            async with asyncio.timeout(seconds):
                await self._refuse_public()
                await self._shot.connect()
        except TimeoutError:
            raise SessionFailed(
                f"PBX {where} did not accept a connection within {seconds:g} s:"
                " is it running, and is this machine's address allowed (firewall, fail2ban)?"
            ) from None
        except OSError as error:
            raise SessionFailed(
                f"PBX {where} is unreachable ({error.strerror or error}): host, port, and is AMI enabled?"
            ) from None

    async def _refuse_public(self) -> None:
        """Before a byte of the secret is on its way: is every address that we may connect to a private one?"""
        found = await asyncio.get_running_loop().getaddrinfo(
            self._config.host, self._config.port, type=socket.SOCK_STREAM
        )
        if problem := clear_text_problem(self._config.host, [str(place[4][0]) for place in found]):
            raise SessionFailed(problem, patient=True)

    async def _log_in(self) -> None:
        seconds = self._timings.login
        future = self._shot.logged_in
        if future is None:
            raise SessionFailed("the PBX closed the connection at once")
        try:
            async with asyncio.timeout(seconds):
                answer = _answer(await asyncio.shield(future))
        except TimeoutError:
            raise SessionFailed(f"the PBX did not answer the login within {seconds:g} s") from None
        except ConnectionError:
            raise SessionFailed(f"no login: {await self.lost}") from None
        if not answer.ok:
            raise SessionFailed(
                f"the PBX refused the login of AMI user {self._config.username!r} ({answer.message}): wrong user,"
                " wrong secret, or this machine's address is not in the user's network filter (it does not say which)",
                patient=True,
            )

    def _event(self, fields: dict[str, str]) -> None:
        if self.lost.done():
            return  # The rest of a read after the end: the next session starts from the list of channels.
        event = event_of(fields)
        if event.name == "FullyBooted":
            self._booted.set()
        self._on_event(self, event)
        if event.name == "Shutdown":
            self.end("the PBX shuts down")


def event_of(fields: Mapping[str, str]) -> AmiEvent:
    """An event as a frozen value; header names are shared between events, the clock is the PBX's."""
    at = None
    with contextlib.suppress(ValueError):
        told = float(fields.get("Timestamp", ""))
        at = told if 0 <= told <= LATEST else None  # Also no NaN: nothing can be reckoned with it.
    return AmiEvent(
        name=fields.get("Event", ""),
        fields={_NAMES.get(key, key): value for key, value in fields.items() if key != "Event"},
        at=at,
    )


def _answer(got: Any) -> Answer:
    """panoramisk gives a message, or a list of them where the PBX announced one."""
    first, *rest = got if isinstance(got, list) else [got]
    fields = headers_of(first)
    if isinstance(first.get("Response"), list) or first.get("Event") is not None:
        fields["Response"] = ""  # Two answers run together, or an event under our id: it answers nothing.
    return Answer(
        ok=fields.get("Response") == "Success",
        message=fields.get("Message", ""),
        fields=fields,
        items=tuple(headers_of(item) for item in rest),
    )
