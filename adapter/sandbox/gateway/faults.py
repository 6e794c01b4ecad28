"""Faults that tests inject into the gateway."""

from collections.abc import Awaitable, Callable

from aiohttp import web

Forward = Callable[[], Awaitable[web.StreamResponse]]
"""Really does the request and gives its answer."""

HttpFault = Callable[[web.Request, Forward], Awaitable[web.StreamResponse]]
"""Stands before every REST request: may answer in its place, wait, forward and then lose the answer."""


def lose(request: web.Request) -> web.StreamResponse:
    """Cut the connection without an answer: what a client sees when the network goes between request and answer."""
    if request.transport:
        request.transport.abort()
    return web.Response(status=499)  # Written to a dead connection: nobody ever sees it.
