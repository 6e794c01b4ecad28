"""What the checks of the PBX side share: the session, the settings, and what was found out on the way."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from adapter.core.model import AmiEvent, Form, NumberStyle
from adapter.core.routes import CONTEXT, NoRoutes, Routes, RoutesUnreadable, Step
from adapter.pbx import LinkDown, PbxConfig, Timings, questions
from adapter.pbx.guards import WHERE, own_ways
from adapter.pbx.session import Session

TIMINGS = replace(Timings(), booted=3.0, first_event=3.0, pong=2.0)
"""FullyBooted follows the login within milliseconds when the PBX is up, all events of the call to nobody its Response
within two, and a PBX that left one question without an answer has two seconds for a Ping."""


NO = frozenset({"no", "false", "0", "off"})

MOST_MODULES = 500
"""MikoPBX lists about 150."""

PJSIP = re.compile(r"(?!IAX)[A-Za-z0-9_.-]{1,80}")
"""Providers that can be asked about: not those of IAX, and no name that means something inside a dialplan function."""


@dataclass(slots=True, kw_only=True)
class Scene:
    """One visit to the PBX."""

    config: PbxConfig
    region: str
    caller_id: str
    number_style: NumberStyle
    max_calls: int
    now: Callable[[], float]
    timings: Timings = TIMINGS
    ways: Mapping[str, Form] = field(default_factory=dict)
    """Trunks of `call_trunks` for this PBX, id → form; none: that of the settings."""

    events: list[AmiEvent] = field(default_factory=list)
    """Everything heard since the login."""

    stop: str | None = None
    """Why there is no sense in looking further."""

    hears_calls: bool | None = None
    """Is the read right `call` ticked? None: it cannot be read."""

    on_session: Session | None = None
    on_routes: tuple[Routes | None, str | None] | None = None
    on_ai: tuple[Step, ...] | None = None

    @property
    def session(self) -> Session:
        """The session, once `pbx.login` has found a way in."""
        if self.on_session is None:
            raise LinkDown("there is no session with the PBX")
        return self.on_session

    @property
    def getvar(self) -> Callable[[str], Awaitable[str]]:
        """Reads a function or a global variable of the PBX."""
        return partial(questions.getvar, self.session, self.timings)

    async def configured(self, file: str, section: str, name: str, *, index: int = -1) -> str | None:
        """A value in one of the PBX's files; None where it is not there or cannot be read."""
        return await questions.configured(self.session, self.timings, file, section, name, index=index)

    async def routes(self) -> tuple[Routes | None, str | None]:
        """The outgoing routes; or None, and why they cannot be judged (None: there are none)."""
        if self.on_routes is None:
            steps = await questions.dialplan(self.session, self.timings, CONTEXT)
            try:
                self.on_routes = Routes.read(steps), None
            except NoRoutes:
                self.on_routes = None, None
            except RoutesUnreadable as error:
                self.on_routes = None, str(error)
        return self.on_routes

    async def ai_steps(self) -> tuple[Step, ...]:
        """What the AI extension does, step by step; none where it is not there."""
        if self.on_ai is None:
            self.on_ai = ()
            for context in WHERE.get(self.config.ai_context, (self.config.ai_context,)):
                steps = await questions.dialplan(self.session, self.timings, context, self.config.ai_extension)
                if steps:
                    self.on_ai = steps
                    break
        return self.on_ai

    async def modules(self) -> frozenset[str] | None:
        """Modules that the PBX loads at its start; None where that cannot be read, or it loads whatever it has."""
        if await self.configured("modules.conf", "modules", "autoload") not in NO:
            return None
        found: set[str] = set()
        for index in range(MOST_MODULES):
            name = await self.configured("modules.conf", "modules", "load", index=index)
            if name is None:
                break
            found.add(name)
        return frozenset(found)

    async def trunks(self) -> tuple[str, ...]:
        """Ids of the providers that calls go through: those of `call_trunks`, or the one of `TRUNK`; and those of the
        outgoing routes where calls go by them."""
        ways = self.ways or own_ways(self.config)
        direct = tuple(trunk for trunk, form in ways.items() if form is Form.TRUNK)
        if self.form is Form.TRUNK:
            return direct
        routes, _ = await self.routes()
        found = (*direct, *(routes.providers if routes else ()))
        return tuple(dict.fromkeys(name for name in found if PJSIP.fullmatch(name)))

    @property
    def form(self) -> Form:
        """Route if any call goes by the outgoing routes."""
        ways = self.ways or own_ways(self.config)
        return Form.ROUTE if Form.ROUTE in ways.values() else Form.TRUNK
