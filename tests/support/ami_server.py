"""An AMI server on a real socket that answers like a real Asterisk 22, and misbehaves on demand.

Only for tests of the link: it places no calls. What its plain answers look like is held against facts of recorded
transcripts in `tests/pbx/test_ami_server.py`.
"""

import asyncio
import contextlib
import itertools
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

TRUNK = "SIP-TRUNK-0A0B0C0D"

END = b"\r\n\r\n"

COMPLETE = {
    "CoreShowChannel": "CoreShowChannelsComplete",
    "DBGetResponse": "DBGetComplete",
    "ListDialplan": "ShowDialPlanComplete",
}
"""Event of a list's item → the event that ends the list."""

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """One action as it came over the wire."""

    connection: int
    headers: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def action(self) -> str:
        return self.get("Action")


@dataclass(slots=True, kw_only=True)
class Faults:
    """What goes wrong; change it at any time. The defaults are a healthy PBX."""

    greeting: bytes = b"Asterisk Call Manager/11.0.0\r\n"
    login: str = "accept"
    """`accept`, `refuse`, `silent`, `close`."""

    booted_after: float | None = 0.0
    """Seconds from login to FullyBooted; None: it never comes."""

    mute: set[str] = field(default_factory=set)
    """Actions that get no answer."""

    denied: set[str] = field(default_factory=set)
    """Actions our user has no right to."""

    raw: dict[str, bytes] = field(default_factory=dict)
    """Action → exactly these bytes as its answer; `{id}` is the ActionID."""

    delay: dict[str, float] = field(default_factory=dict)
    """Action → seconds before its answer; the connection does nothing else meanwhile, as Asterisk."""

    originate: str = "answer"
    """`answer`; `error`; `fin` or `reset` before the Response; `answer-reset` right after it."""

    cut_after: int | None = None
    """From the next action on: reset the connection once this many bytes of it were read."""

    chunk: int | None = None
    """Write this many bytes at a time, each in a segment of its own."""

    deaf_after_login: bool = False
    """Read nothing more once FullyBooted was sent, with a small receive buffer."""

    with_list: list[bytes] = field(default_factory=list)
    """Events sent after the login and before the list of channels."""


class Connection:
    """One client."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self.logged_in = False

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        if sock.fileno() >= 0:  # Else it is gone already.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class AmiServer:
    """Use: `async with AmiServer.started() as pbx`."""

    def __init__(self, *, username: str, password: str) -> None:
        self.username = username
        self.password = password
        self.port = 0
        self.faults = Faults()
        self.boot = ("2026-03-01", "08:15:00")
        self.variables: dict[str, str] = {
            "DIALPLAN_EXISTS(applications,999,1)": "1",
            f"PJSIP_ENDPOINT({TRUNK},aors)": TRUNK,
            f"PJSIP_AOR({TRUNK},contact)": f"{TRUNK}@@0123",
            f"PJSIP_CONTACT({TRUNK}@@0123,status)": "Reachable",
            f"DEVICE_STATE(PJSIP/{TRUNK})": "NOT_INUSE",
        }
        self.dialplan: dict[str, list[tuple[str, str]]] = {}
        """Context → application and argument of each of its steps."""

        self.commands = {"ListCommands", "Originate", "Hangup", "Getvar", "DBGet", "Ping"}
        self.commands |= {"CoreShowChannels", "CoreStatus", "CoreSettings"}
        self.database: dict[tuple[str, str], str] = {}
        self.channels: list[Mapping[str, str]] = []
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.changed = asyncio.Condition()
        self._numbers = itertools.count(1)
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, *, username: str = "dialer", password: str | None = None) -> AsyncIterator["AmiServer"]:
        server = cls(username=username, password=password or secrets.token_hex(8))
        await server.listen()
        try:
            yield server
        finally:
            await server.stop()

    async def listen(self) -> None:
        """Accept connections, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Die: no more connections, those that live are reset."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self.connections:
            connection.reset()
        for task in self._handlers:
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    # -- looking

    def seen(self, action: str) -> list[Request]:
        return [request for request in self.requests if request.action == action]

    def originates(self, call_id: str | None = None) -> list[Request]:
        return [r for r in self.seen("Originate") if call_id in {None, r.get("ActionID")}]

    async def wait_for(self, action: str, count: int = 1) -> None:
        """Until so many of these actions have come."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.seen(action)) >= count)

    async def wait_for_connections(self, count: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.connections) >= count)

    # -- doing

    async def emit(self, *events: bytes) -> None:
        """Send events to everybody who is logged in."""
        for connection in self.connections:
            if connection.logged_in and not connection.writer.is_closing():
                await self._write(connection, b"".join(events))

    # -- serving

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        connection = Connection(next(self._numbers), reader, writer)
        async with self.changed:
            self.connections.append(connection)
            self.changed.notify_all()
        try:
            await self._write(connection, self.faults.greeting)
            await self._talk(connection)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            connection.logged_in = False
            self._handlers.discard(task)
            writer.close()

    async def _talk(self, connection: Connection) -> None:
        while True:
            cut = self.faults.cut_after
            block = await (connection.reader.readuntil(END) if cut is None else connection.reader.readexactly(cut))
            if not block.endswith(END):
                connection.reset()
                raise ConnectionError
            # As Asterisk: an action counts only once its blank line has come.
            headers = tuple(
                (name.strip(), value.strip())
                for name, _, value in (line.partition(":") for line in block.decode().strip().split("\r\n"))
            )
            request = Request(connection.number, headers)
            async with self.changed:
                self.requests.append(request)
                self.changed.notify_all()
            if cut is not None:
                connection.reset()
                raise ConnectionError
            await self._answer(connection, request)
            if connection.logged_in and self.faults.deaf_after_login:
                await asyncio.Event().wait()

    async def _answer(self, connection: Connection, request: Request) -> None:
        action = request.action
        faults = self.faults
        if action in faults.delay:
            await asyncio.sleep(faults.delay[action])
        if action == "Login":
            await self._login(connection, request)
        elif action in faults.mute:
            return
        elif action in faults.raw:
            await self._write(connection, faults.raw[action].replace(b"{id}", request.get("ActionID").encode()))
        elif action in faults.denied:
            await self._respond(connection, request, "Error", ("Message", "Permission denied"))
        elif action == "Originate":
            await self._originate(connection, request)
        else:
            await self._plain(connection, request)

    async def _login(self, connection: Connection, request: Request) -> None:
        mode = self.faults.login
        right = request.get("Username") == self.username and request.get("Secret") == self.password
        if mode == "silent":
            return
        if mode == "close":
            raise ConnectionError
        if mode == "refuse" or not right:
            await self._respond(connection, request, "Error", ("Message", "Authentication failed"))
            connection.writer.close()
            raise ConnectionError
        await self._respond(connection, request, "Success", ("Message", "Authentication accepted"))
        connection.logged_in = True
        if self.faults.booted_after is not None:
            if self.faults.booted_after:
                await asyncio.sleep(self.faults.booted_after)
            booted = [("Privilege", "system,all"), ("Uptime", "60"), ("LastReload", "60"), ("Status", "Fully Booted")]
            await self._write(connection, event("FullyBooted", *booted))

    async def _originate(self, connection: Connection, request: Request) -> None:
        mode = self.faults.originate
        if mode == "reset":
            connection.reset()
            raise ConnectionError
        if mode == "fin":
            raise ConnectionError
        if mode == "error":
            await self._respond(connection, request, "Error", ("Message", "Extension does not exist."))
            return
        await self._respond(connection, request, "Success", ("Message", "Originate successfully queued"))
        if mode == "answer-reset":
            connection.reset()
            raise ConnectionError

    async def _plain(self, connection: Connection, request: Request) -> None:
        action = request.action
        if action == "Ping":
            await self._respond(connection, request, "Success", ("Ping", "Pong"), ("Timestamp", "1795406013.272147"))
        elif action == "ListCommands":
            lines = [(name, "What it does.  (Priv: some,all)") for name in sorted(self.commands - self.faults.denied)]
            await self._respond(connection, request, "Success", *lines)
        elif action == "CoreStatus":
            names = ("CoreStartupDate", "CoreStartupTime", "CoreReloadDate", "CoreReloadTime")
            times = list(zip(names, self.boot * 2, strict=True))
            await self._respond(
                connection, request, "Success", *times, ("CoreCurrentCalls", "0"), ("CoreProcessedCalls", "0")
            )
        elif action == "CoreSettings":
            await self._respond(
                connection,
                request,
                "Success",
                ("AMIversion", "11.0.0"),
                ("AsteriskVersion", "22.10.1"),
                ("SystemName", "mikopbx"),
            )
        elif action == "Getvar":
            name = request.get("Variable")
            value = self.variables.get(name, "0" if name.startswith("DIALPLAN_EXISTS(") else "")
            await self._respond(connection, request, "Success", ("Variable", name), ("Value", value))
        elif action == "CoreShowChannels":
            await self._write(connection, b"".join(self.faults.with_list))
            await self._list(connection, request, "Channels will follow", "CoreShowChannel", self.channels)
        elif action == "DBGet":
            value = self.database.get((request.get("Family"), request.get("Key")), "")
            if not value:
                await self._respond(connection, request, "Error", ("Message", "Database entry not found"))
                return
            entry = {"Family": request.get("Family"), "Key": request.get("Key"), "Val": value}
            await self._list(connection, request, "Result will follow", "DBGetResponse", [entry])
        elif action == "ShowDialPlan":
            steps = self.dialplan.get(request.get("Context"))
            if steps is None:
                words = f"Did not find context {request.get('Context')}"
                await self._respond(connection, request, "Error", ("Message", words))
                return
            listed = [
                {"Context": request.get("Context"), "Extension": "_X!", "Application": app, "AppData": data}
                for app, data in steps
            ]
            await self._list(connection, request, "DialPlan list will follow", "ListDialplan", listed)
        elif action == "Hangup":
            name = request.get("Channel")
            legs = [leg for leg in self.channels if name in {leg["Channel"], leg["Uniqueid"]}]
            self.channels = [leg for leg in self.channels if leg not in legs]
            answer = ("Success", "Channel Hungup") if legs else ("Error", "No such channel")
            await self._respond(connection, request, answer[0], ("Message", answer[1]))
        else:
            await self._respond(connection, request, "Error", ("Message", f"Invalid/unknown command: {action}"))

    async def _list(
        self,
        connection: Connection,
        request: Request,
        words: str,
        name: str,
        items: list[Mapping[str, str]] | list[dict[str, str]],
    ) -> None:
        own_id = ("ActionID", request.get("ActionID"))
        await self._respond(connection, request, "Success", ("EventList", "start"), ("Message", words))
        complete = COMPLETE[name]
        blocks = [
            # The real one puts the ActionID first here and last there.
            event(name, *item.items(), own_id) if name == "DBGetResponse" else event(name, own_id, *item.items())
            for item in items
        ]
        blocks.append(event(complete, own_id, ("EventList", "Complete"), ("ListItems", str(len(items)))))
        await self._write(connection, b"".join(blocks))

    async def _respond(self, connection: Connection, request: Request, word: str, *headers: tuple[str, str]) -> None:
        own_id = [("ActionID", request.get("ActionID"))] if request.get("ActionID") else []
        await self._write(connection, block([("Response", word), *own_id, *headers]))

    async def _write(self, connection: Connection, data: bytes) -> None:
        size = self.faults.chunk
        if size is None:
            connection.writer.write(data)
        else:
            connection.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(data), size):
                connection.writer.write(data[start : start + size])
                await asyncio.sleep(0)
        await connection.writer.drain()


def block(headers: Headers) -> bytes:
    """One message."""
    return ("".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n").encode()


def event(name: str, *headers: tuple[str, str]) -> bytes:
    """One event."""
    return block([("Event", name), *headers])


def call_event(name: str, call_id: str, *headers: tuple[str, str], at: float = 1795404032.209935) -> bytes:
    """An event of class call about the first leg of this call."""
    head = [("Privilege", "call,all"), ("Timestamp", f"{at:.6f}"), ("SystemName", "mikopbx")]
    return event(name, *head, ("Uniqueid", call_id), ("Linkedid", call_id), *headers)


def leg(call_id: str, *, state: str = "6", duration: str = "00:01:05", number: int = 7) -> dict[str, str]:
    """One leg as CoreShowChannels lists it."""
    return {
        "Channel": f"PJSIP/{TRUNK}-{number:08x}",
        "ChannelState": state,
        "ChannelStateDesc": {"5": "Ringing", "6": "Up"}.get(state, "Down"),
        "CallerIDNum": "<unknown>",
        "Context": "applications",
        "Exten": "999",
        "Priority": "2",
        "Uniqueid": call_id,
        "Linkedid": call_id,
        "Application": "AppDial2",
        "ApplicationData": "(Outgoing Line)",
        "Duration": duration,
        "BridgeId": "",
    }
