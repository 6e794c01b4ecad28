"""AMI on the wire: bytes in, actions out; pairs in, messages out. No sockets here.

The limits are Asterisk's own (main/manager.c): a line holds at most 1022 bytes before its end, an action at most 128
lines. A line feed alone ends a line, so a value with one in it starts a new header, and an empty line starts a new
action: exactly the injection that a client must prevent.
"""

from dataclasses import dataclass, field

BANNER = b"Asterisk Call Manager/11.0.0\r\n"
"""Asterisk 22 (16 says 5.x, 18 7.x, 20 9.0.0)."""

MAX_LINE = 1022
MAX_LINES = 128

TOO_LONG = "Failed to parse message: line too long"
TOO_MANY = "Too many lines in message or allocation failure"
NO_ACTION = "Missing action in request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action as it was read. `fault` is the reason why it is refused unread, or an empty string."""

    headers: tuple[tuple[str, str], ...]
    fault: str = ""

    @property
    def name(self) -> str:
        """The action's name as the client spelled it."""
        return self.get("Action")

    @property
    def action_id(self) -> str:
        """ActionID, or an empty string."""
        return self.get("ActionID")

    def get(self, name: str) -> str:
        """First value of a header, found without regard to case, or an empty string."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), "")

    def every(self, name: str) -> tuple[str, ...]:
        """All values of a header in order."""
        wanted = name.lower()
        return tuple(value for key, value in self.headers if key.lower() == wanted)


@dataclass(slots=True)
class Reader:
    """Cuts the bytes of one connection into actions."""

    _tail: bytes = b""
    _headers: list[tuple[str, str]] = field(default_factory=list)
    _lines: int = 0
    _fault: str = ""
    _echo: bool = False

    def feed(self, data: bytes) -> list[Action]:
        """Actions completed by `data`; the rest waits for more bytes."""
        *lines, self._tail = (self._tail + data).split(b"\n")
        done: list[Action] = []
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line:
                self._take(line)
            else:
                done += self._finish()
        return done

    def _take(self, line: bytes) -> None:
        self._lines += 1
        if len(line) > MAX_LINE:
            self._fault = TOO_LONG
            self._echo = len(line) == MAX_LINE + 1
        elif self._lines > MAX_LINES:
            self._fault = self._fault or TOO_MANY
        else:
            text = line.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
            name, colon, value = text.partition(":")
            if colon:
                self._headers.append((name, value.lstrip(" ")))

    def _finish(self) -> list[Action]:
        done = [Action(headers=tuple(self._headers), fault=self._fault)]
        if self._echo:
            # A line of exactly 1023 bytes leaves its end in the buffer, which is then read as one more empty action.
            done.append(Action(headers=()))
        self._headers, self._lines, self._fault, self._echo = [], 0, "", False
        return done


def message(*pairs: tuple[str, str]) -> bytes:
    """One message: `Key: value` lines, ended by an empty one."""
    text = "".join(f"{key}: {value}\r\n" for key, value in pairs)
    return (text + "\r\n").encode("utf-8", "surrogateescape")
