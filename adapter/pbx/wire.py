"""One AMI connection on panoramisk, with its traps defused: used once, never reconnects, never re-sends.

Each rule names the trap of the library it stands against (the numbers are those of the tests in `tests/pbx`).
"""

import asyncio
import codecs
import logging
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

from adapter.pbx.config import PbxConfig
from adapter.pbx.library import AMIProtocol, Manager, Message
from adapter.recorder import SILENT, Recorder

log = logging.getLogger(__name__)

library_log = logging.getLogger("adapter.pbx.library")
library_log.setLevel(logging.WARNING)  # Below that panoramisk prints whole messages, numbers and variables (AMI-23).

EVENTS = "system,call,user"
"""Event classes asked for at login: `call` tells about calls, `system` brings FullyBooted and Shutdown."""

GREETING = b"Asterisk Call Manager/"

MAX_MESSAGE = 1 << 20
"""Characters of one unfinished message. Ours are below 5,000; the library's cost grows with the square (AMI-22)."""

MAX_ANSWERS = 64 << 20
"""Characters of all answers whose lists are not at their end. A thousand legs are about a million (AMI-12)."""

USER_TIMEOUT_MS = 10_000
"""Unacknowledged bytes give the connection up after this long, so that they cannot arrive minutes later."""


class _Everything:
    """Contains whatever is asked: no action is ever kept for sending again (AMI-02, AMI-03)."""

    def __contains__(self, _name: object) -> bool:
        return True


def harden(sock: socket.socket) -> None:
    """Make a dead peer show, and let nothing unsent outlive the connection."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for name, value in (
        ("TCP_KEEPIDLE", 10),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", USER_TIMEOUT_MS),
    ):
        if hasattr(socket, name):  # Linux has them all; elsewhere the ping watchdog alone must do.
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def weight_of(fields: Mapping[str, str]) -> int:
    """About how many characters a message keeps in memory; each header costs some by itself."""
    return sum(len(name) + len(value) + 100 for name, value in fields.items())


def headers_of(message: Message) -> dict[str, str]:
    """Headers of a message as sent; of a repeated one the last value."""
    return {
        key: str(value[-1] if isinstance(value, list) else value)
        for key, value in message.items()
        if key != "content"  # Not a header: the library adds it to every message (AMI-21).
    }


class Wire(AMIProtocol):
    """The byte side: whole characters in, one message after the other out, every open answer failed at the end."""

    def __init__(self, owner: "OneShot") -> None:
        self.owner = owner
        self.read_error: str | None = None
        self.closed = True  # Until connection_made; the library sets these only there.
        self.responses = {}
        self._tail = b""
        self._greeting = b""
        self._held = 0
        """Characters of answers received while some answer was not at its end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.log = library_log
        harden(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        """Hold back a character that is not whole yet: the library would drop it (AMI-19)."""
        if not self._greeted(data):
            return
        data = self._tail + data
        text, used = codecs.utf_8_decode(data, "replace", False)
        self._tail = data[used:]
        if text:
            super().data_received(text.encode())
        if self.queue and len(self.queue[0]) > MAX_MESSAGE:
            self._give_up(f"one message of more than {MAX_MESSAGE} characters")

    def handle_message(self, message: Message) -> None:
        """Answers go to their actions, events to the owner. No exception may end the connection (AMI-09)."""
        try:
            if self.read_error is not None:
                return  # The rest of a read after the end.
            headers = headers_of(message)
            self.owner.recorder.ami(self.owner.session, sent=False, headers=headers)
            if "Event" not in headers or self._answers(message):
                super().handle_message(message)
                self._hold(message)
            else:
                self.owner.on_event(headers)
        except Exception:
            self.owner.unreadable += 1
            log.exception("One message of the PBX could not be handled; the others go on")

    def connection_lost(self, exc: Exception | None) -> None:
        self.close()
        self.owner.lost(self.read_error or (str(exc) if exc else "the PBX closed the connection"))

    def close(self) -> None:
        """Fail whatever is open (AMI-04), then drop the connection with all that it still holds (AMI-03)."""
        for action in {id(action): action for action in self.responses.values()}.values():
            if not action.future.done():
                action.future.set_exception(ConnectionError("the connection to the PBX was lost"))
                action.future.exception()  # Seen: an answer that nobody waits for any more is no error of its own.
        super().close()
        self.transport.abort()

    def _hold(self, message: Message) -> None:
        """A list that never comes to its end would be hoarded until somebody's deadline."""
        self._held = self._held + weight_of(headers_of(message)) if self.responses else 0
        if self._held > MAX_ANSWERS:
            self._give_up(f"a list of more than {MAX_ANSWERS} characters without an end")

    def _answers(self, message: Message) -> bool:
        # OriginateResponse carries the ActionID of its Originate but belongs to the events (AMI-10).
        name = message.get("Event")
        action_id = message.get("ActionID")
        return name != "OriginateResponse" and isinstance(action_id, str) and action_id in self.responses

    def _greeted(self, data: bytes) -> bool:
        if len(self._greeting) < len(GREETING):
            self._greeting += data[: len(GREETING) - len(self._greeting)]
            if not GREETING.startswith(self._greeting):
                self._give_up("what answers there is no Asterisk Manager Interface: host and port?")
        return self.read_error is None

    def _give_up(self, reason: str) -> None:
        self.read_error = reason
        self.transport.abort()


class OneShot(Manager):
    """One connection: connects once, logs in once, and after its loss is of no further use (AMI-05, AMI-07)."""

    def __init__(
        self,
        config: PbxConfig,
        *,
        on_event: Callable[[dict[str, str]], None],
        on_lost: Callable[[str], None],
        recorder: Recorder = SILENT,
        session: int = 0,
    ) -> None:
        """`session`: its number in the record."""
        super().__init__(
            host=config.host,
            port=config.port,
            username=config.username,
            secret=config.password,
            events=EVENTS,
            encoding="utf-8",
            protocol_factory=self._make_wire,
            forgetable_actions=_Everything(),
            log=library_log,
        )
        self.on_event = on_event
        self.on_lost = on_lost
        self.recorder = recorder
        self.session = session
        self.unreadable = 0
        self.logged_in: asyncio.Future[Any] | None = None
        self.wire: Wire | None = None
        self._attempt: asyncio.Task[Any] | None = None

    def connect(self) -> asyncio.Task[Any]:
        """The one attempt, however often it is asked for (AMI-05)."""
        if self._attempt is None:
            self._attempt = super().connect()
        return self._attempt

    def connection_made(self, f: asyncio.Task[Any]) -> None:
        """Called by the library when the attempt is over. A failure is for who awaits `connect()` (AMI-07)."""
        if f.cancelled() or f.exception() is not None:
            return
        super().connection_made(f)
        self._stop_library_pings()
        self.logged_in = self.authenticated_future
        if self.wire is not None and self.wire.closed:
            self.wire.closed = False  # Lost before the library took it over: fail the login that it just "sent".
            self.wire.close()

    def login(self, future: asyncio.Future[Any]) -> None:
        """The library's reaction to the login; ours is to await `logged_in` with a deadline (AMI-01, AMI-27)."""

    def lost(self, reason: str) -> None:
        """The wire is gone."""
        self._stop_library_pings()
        self.recorder.closed(self.session, reason)
        self.on_lost(reason)

    def connection_lost(self, exc: object) -> None:
        """Never reconnect; `lost` has told the owner (AMI-05)."""

    def send(self, action: Mapping[str, Any], *, as_list: bool | None) -> asyncio.Future[Any]:
        """Hand one action to the connection; raises ConnectionError if there is none, before anything is written."""
        if self.wire is None or self.wire.closed or self.wire.transport.is_closing():
            raise ConnectionError("there is no connection to the PBX")
        return self.send_action(dict(action), as_list=as_list)

    def send_action(self, action: dict[str, Any], as_list: bool | None = None) -> asyncio.Future[Any]:
        """Everything that is written passes here, the library's own login too."""
        future = super().send_action(action, as_list=as_list)
        self.recorder.ami(self.session, sent=True, headers=action)
        return future

    def forget(self, action_id: str) -> None:
        """Stop waiting for an answer: the library would hoard every later message with that id (AMI-12)."""
        if self.wire is not None:
            self.wire.responses.pop(action_id, None)

    def close(self) -> None:
        self._stop_library_pings()
        if self.wire is not None and not self.wire.closed:
            self.wire.close()

    def _make_wire(self) -> Wire:
        self.wire = Wire(self)
        return self.wire

    def _stop_library_pings(self) -> None:
        # Nobody there looks at the pongs (AMI-06); ours are in session.py.
        if self.pinger is not None:
            self.pinger.cancel()
            self.pinger = None
