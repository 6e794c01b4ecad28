"""One connection to Realtime: one client, one channel, one life. The only place that knows the realtime library.

The library's own reconnecting and rejoining are never used: they give up for good (RT-01), loop hot (RT-04) or close
what they just opened (RT-11). A line that is hurt in any way ends, with a reason, and the doorbell makes a new one. Its
callbacks never raise, because one exception would silently stop the library's reader for ever (RT-03).
"""

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Any, Self

from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates
from realtime.types import RealtimePostgresChangesListenEvent
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidProxy, InvalidStatus, ProxyError

from adapter.log import redact
from adapter.supabase_io.config import SupabaseConfig
from adapter.supabase_io.refusals import INSTALL, KEYS, PROXY

log = logging.getLogger(__name__)

EVENT = "rows"
"""Name of the broadcast that the statement trigger sends."""

SUBSCRIBED = "postgres_changes"
"""Extension of the system message that says: changes flow from now on (RT-10)."""


class Fault(Enum):
    """What sort of end, hence what to do next."""

    LOST = auto()
    """Try again soon."""

    LIMITED = auto()
    """The server has too much of something; a minute's patience helps."""

    KEY = auto()
    """The key, or the project behind the URL, is refused: a person must act."""

    PRIVATE = auto()
    """This key may not join private channels here."""

    CHANGES = auto()
    """The table's changes cannot be had here."""


class Heard(StrEnum):
    """What made the bell ring."""

    BROADCAST = "broadcast"
    CHANGES = "changes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to listen for."""

    private: bool
    broadcast: bool
    changes: bool

    def __str__(self) -> str:
        return "+".join(name for name, wanted in (("broadcast", self.broadcast), ("changes", self.changes)) if wanted)


class LineEnded(Exception):
    """The end of a line, or why there is none; the text is for the operator and holds no secret."""

    def __init__(self, fault: Fault, words: str) -> None:
        super().__init__(redact(words))
        self.fault = fault


_KEY_WORDS = re.compile(
    r"JwtSignatureError|MalformedJWT|InvalidJWTToken|signature_error|not a valid JWT|oken has expired|Fields `role`|"
    r"RealtimeDisabledForTenant|disabled for this tenant|^Unauthorized"
)
_TABLE: tuple[tuple[re.Pattern[str], Fault], ...] = (
    (re.compile(r"RateLimitReached|Too many (connected|joins|channels|messages)"), Fault.LIMITED),
    (
        re.compile(
            r"Unable to subscribe to changes|No subscription params|Error parsing|exception happened so please check|"
            r"mismatch between server and client"
        ),
        Fault.CHANGES,
    ),
)


def fault_of(words: str, *, joined: bool, private: bool) -> Fault:
    """The sort of failure behind the words of the server (as Realtime 2.129 says them).

    A token that ends in mid-session is no refused key: a gateway makes short ones for opaque keys, and a new connection
    gets a new one. If the key itself is at its end, that connection is refused.
    """
    if private and words.startswith("Unauthorized"):
        return Fault.PRIVATE
    if _KEY_WORDS.search(words):
        return Fault.LOST if joined else Fault.KEY
    return next((fault for pattern, fault in _TABLE if pattern.search(words)), Fault.LOST)


_STATUS = {
    401: (Fault.KEY, f"Realtime refuses the key: {KEYS}"),
    403: (Fault.KEY, f"Realtime refuses the key or is switched off for this project: {KEYS}"),
    404: (Fault.KEY, "there is no Realtime for this project at SUPABASE_URL; take it from the dashboard"),
    429: (Fault.LIMITED, "Realtime has too many connections or joins"),
}


class Line:
    """Make one, `open` it, watch `live` and `ended`, `close` it. Never used twice."""

    def __init__(
        self,
        config: SupabaseConfig,
        plan: Plan,
        heard: Callable[[Heard], None],
        *,
        probed: Callable[[Heard, int], None] | None = None,
    ) -> None:
        """`probed` gets the row of each message that names one: every change, and the broadcast of a probe."""
        self.plan = plan
        self.joined = False
        self.live = asyncio.Event()
        """Set when everything in the plan is in force."""

        self.ended: asyncio.Future[LineEnded] = asyncio.get_running_loop().create_future()
        self._config = config
        self._heard = heard
        self._probed = probed
        self._closed = False
        self._client = AsyncRealtimeClient(
            f"{config.url}/realtime/v1",
            token=config.key,
            auto_reconnect=False,  # RT-01, RT-02, RT-04
            timeout=config.bell.connect,
        )
        self._channel = self._channel_for(plan)
        self._tasks: list[asyncio.Task[Any]] = []

    def _channel_for(self, plan: Plan) -> AsyncRealtimeChannel:
        channel = self._client.channel(
            self._config.topic,
            {
                "config": {
                    "broadcast": {"ack": False, "self": False},
                    "presence": {"key": "", "enabled": False},
                    "private": plan.private,
                }
            },
        )
        if plan.broadcast:
            channel.on_broadcast(EVENT, self._safely(lambda payload: self._rung(Heard.BROADCAST, payload)))
        if plan.changes:
            # Exactly so, without a filter: the server's echo must equal it (RT-15). Of the payload at most the id is
            # used, and by `doctor` only (RT-18).
            channel.on_postgres_changes(
                RealtimePostgresChangesListenEvent.Insert,
                self._safely(lambda payload: self._rung(Heard.CHANGES, payload)),
                table="call_queue",
                schema="public",
            )
            channel.on_system(self._safely(self._on_system))
        return channel

    async def open(self) -> None:
        """Connect and join; raises LineEnded."""
        try:
            # The library's limit covers the handshake, not the name look-up before it nor a stalled proxy.
            async with asyncio.timeout(self._config.bell.connect + 1):
                await self._client.connect()
            self._watch()
            await self._channel.subscribe(self._on_state)  # Returns normally on failure too (RT-07).
        except Exception as error:  # noqa: BLE001  The library raises bare Exception; the sweep dials whatever it is.
            raise self._why_no_connection(error) from None
        if self.ended.done():
            raise self.ended.result()

    async def close(self) -> None:
        """Take everything down, with no patience for a socket that hangs (RT-26)."""
        self._closed = True
        self._channel.rejoin_timer.reset()
        for push in (self._channel.join_push, *self._channel.messages_waiting_for_ack.values()):
            push.destroy()
        socket = self._socket()
        with contextlib.suppress(TimeoutError):
            # Not wait_for: before Python 3.12 it loses a cancellation that comes as its task ends.
            async with asyncio.timeout(self._config.bell.close):
                await self._client.close()
        if socket is not None:
            socket.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self.ended.done():
            self.ended.set_result(LineEnded(Fault.LOST, "closed by us"))

    def unreadable(self, frame: str) -> None:
        """The library could not read a frame. One such is a row that the key may not see: its payload is void, so the
        library drops it, yet it means that a row was inserted.
        """
        if "Error 401" in frame and not self._closed and self.plan.changes:
            self._heard(Heard.CHANGES)
            self._end(LineEnded(Fault.CHANGES, f"Realtime may not show rows of call_queue to this key: {INSTALL}"))

    # -- the library's side

    def _socket(self) -> ClientConnection | None:
        return self._client._ws_connection  # noqa: SLF001  A half-open socket can only be cut from outside (RT-26).

    def _watch(self) -> None:
        # The reader ends without a callback or a log line when anything in it raises (RT-03).
        client = self._client
        for task in (client._listen_task, client._heartbeat_task):  # noqa: SLF001  No public sign of it exists.
            if task is not None:
                self._tasks.append(task)
                task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        told = f": {type(error).__name__}: {error}" if error else ""
        self._end(LineEnded(Fault.LOST, f"the connection's reader or heartbeat stopped{told}"))

    def _safely(self, act: Callable[[Any], None]) -> Callable[[Any], None]:
        """`act` as a callback that never raises and is silent once the line is closed."""

        def callback(payload: Any) -> None:
            if self._closed:
                return
            try:
                act(payload)
            except Exception as error:  # noqa: BLE001  One exception here would cost the stream (RT-03).
                self._end(LineEnded(Fault.LOST, f"a message could not be taken in: {type(error).__name__}: {error}"))

        return callback

    def _rung(self, heard: Heard, payload: Any) -> None:
        self._heard(heard)
        if self._probed is None:
            return
        match heard, payload:
            case (Heard.BROADCAST, {"payload": {"probe": int(row)}}) | (
                Heard.CHANGES,
                {"data": {"record": {"id": int(row)}}},
            ):
                self._probed(heard, row)

    def _on_state(self, state: RealtimeSubscribeStates, error: Exception | None) -> None:
        self._safely(lambda _: self._take_state(state, error))(None)

    def _take_state(self, state: RealtimeSubscribeStates, error: Exception | None) -> None:
        match state:
            case RealtimeSubscribeStates.SUBSCRIBED:
                self.joined = True
                if not self.plan.changes:
                    self.live.set()
            case RealtimeSubscribeStates.TIMED_OUT:
                self._end(LineEnded(Fault.LOST, f"no answer to the join within {self._config.bell.connect} s"))
            case RealtimeSubscribeStates.CLOSED:
                self._end(LineEnded(Fault.LOST, "the server closed the channel"))
            case RealtimeSubscribeStates.CHANNEL_ERROR:
                words = _words(error)
                fault = fault_of(words, joined=self.joined, private=self.plan.private)
                self._end(LineEnded(fault, words))

    def _on_system(self, payload: Any) -> None:
        # Only those with status ok come here. It may come again, unasked, on a live channel.
        if payload.extension == SUBSCRIBED:
            self.live.set()

    def _end(self, why: LineEnded) -> None:
        if not self.ended.done():
            self.ended.set_result(why)

    def _why_no_connection(self, error: Exception) -> LineEnded:
        match error:
            case InvalidStatus():
                status = error.response.status_code
                body = " ".join(bytes(error.response.body or b"").decode("utf-8", "replace").split())[:200]
                fault, words = _STATUS.get(status, (Fault.LOST, "Realtime refuses the connection"))
                return LineEnded(fault, f"{words} (HTTP {status} {body})")
            case InvalidProxy():
                # Its text is the proxy's address, with the password that may stand in it.
                return LineEnded(Fault.LOST, f"{PROXY} (its address cannot be used)")
            case ProxyError():
                return LineEnded(Fault.LOST, f"{PROXY} ({error})")
            case InvalidMessage() | InvalidHandshake():
                return LineEnded(Fault.LOST, f"something other than Realtime answered at SUPABASE_URL ({error})")
            case TimeoutError():
                return LineEnded(Fault.LOST, f"no connection to Realtime within {self._config.bell.connect} s")
            case _:
                return LineEnded(Fault.LOST, f"Realtime cannot be reached ({type(error).__name__}: {error})")


def _words(error: Exception | None) -> str:
    """The server's own words, out of the JSON that the library wraps them in."""
    try:
        payload = json.loads(str(error))
    except ValueError:
        payload = None
    if isinstance(payload, dict):
        told = payload.get("reason") or payload.get("message")
        if isinstance(told, str):
            return " ".join(told.split())[:300]
    return f"{type(error).__name__}: {error}"[:300]


class LibraryLog(logging.Filter):
    """Stands before the library's loggers: they print whole rows (RT-17), and all they know reaches us otherwise."""

    LOGGERS = ("realtime._async.client", "realtime._async.channel", "realtime._async.push", "realtime._async.timer")
    UNREADABLE = "Unrecognized message format"

    def __init__(self, unreadable: Callable[[str], None]) -> None:
        super().__init__()
        self._unreadable = unreadable

    def filter(self, record: logging.LogRecord) -> bool:
        """Swallow the line; pass on the frame that the library could not read."""
        message = record.getMessage()
        if message.startswith(self.UNREADABLE):
            self._unreadable(message)
        return False

    @contextlib.contextmanager
    def attached(self) -> Iterator[Self]:
        """In force while the context lasts."""
        loggers = [logging.getLogger(name) for name in self.LOGGERS]
        for logger in loggers:
            logger.addFilter(self)
        try:
            yield self
        finally:
            for logger in loggers:
                logger.removeFilter(self)
