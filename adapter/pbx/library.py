"""The part of panoramisk 1.4 that we use, with types: it ships none.

Kept this small on purpose, so that an own reader could take its place (AMI-28).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class Message:
        """Response or event; header names in any case, a repeated header is a list."""

        def get(self, key: str, default: Any = None) -> Any: ...
        def items(self) -> Iterator[tuple[str, Any]]: ...

    class Action:
        """A request on its way: resolves `future` with one Message or a list of them."""

        future: asyncio.Future[Any]

    class AMIProtocol(asyncio.Protocol):
        """Splits the stream into messages and hands answers to their actions."""

        transport: asyncio.Transport
        closed: bool
        responses: dict[str, Action]
        queue: deque[str]
        log: logging.Logger

        def handle_message(self, message: Message) -> None: ...
        def close(self) -> None: ...

    class Manager:
        """Connects and logs in; its reconnecting and re-sending are switched off in `wire.py`."""

        loop: asyncio.AbstractEventLoop
        protocol: AMIProtocol | None
        authenticated_future: asyncio.Future[Any] | None
        pinger: asyncio.TimerHandle | None
        awaiting_actions: deque[Action]
        config: dict[str, Any]

        def __init__(self, **config: Any) -> None: ...
        def connect(self) -> asyncio.Task[Any]: ...
        def connection_made(self, f: asyncio.Task[Any]) -> None: ...
        def connection_lost(self, exc: object) -> None: ...
        def login(self, future: asyncio.Future[Any]) -> Any: ...
        def send_action(self, action: dict[str, Any], as_list: bool | None = None) -> asyncio.Future[Any]: ...
        def close(self) -> None: ...

else:
    from panoramisk.actions import Action
    from panoramisk.ami_protocol import AMIProtocol
    from panoramisk.manager import Manager
    from panoramisk.message import Message

__all__ = ["AMIProtocol", "Action", "Manager", "Message"]
