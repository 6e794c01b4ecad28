"""MikoPBX's outgoing routes, read out of its dialplan: how many of them take a number?

MikoPBX tries its routes in order and goes on to the next one whenever a call was neither answered nor busy, so a number
that two routes match rings the person twice within one Originate (mikopbx/facts section 6). Such numbers are refused.

What is read is context `outgoing`, as `ShowDialPlan` lists it. A route is a step that sends the call to a context named
`…-outgoing`, under a condition about the number: a regular expression, a piece of the number, its length, or several of
them joined by `&`. `-custom` hooks are no routes. A route whose condition is written any other way cannot be judged;
then nothing is, since one route too few is a second ring.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

CONTEXT = "outgoing"
"""Context of the routes; MikoPBX generates it."""

_ROUTE = re.compile(r"\?\s*(?:Gosub\()?\s*(?P<to>[^,?()]+-outgoing),", re.IGNORECASE)
"""Where a step of GosubIf, GotoIf or ExecIf leads to."""

_ALWAYS = re.compile(r"\s*(?P<to>[^,?()]+-outgoing),", re.IGNORECASE)
"""Where a step of Gosub or Goto leads to: a route without a condition takes every number."""

_PROVIDER = re.compile(r"(-\d+)?-outgoing$", re.IGNORECASE)

_CONDITION = re.compile(r"\$\[(?P<terms>.*)\]\s*$", re.DOTALL)
_PATTERN = re.compile(r'"?\$\{REGEX\("(?P<pattern>.*)"\s+\$\{EXTEN\}\)\}"?\s*={1,2}\s*"?1"?')
_PIECE = re.compile(r'"\$\{EXTEN(?::(?P<start>-?\d+))?(?::(?P<size>\d+))?\}"\s*={1,2}\s*"(?P<text>[^"]*)"')
_LENGTH = re.compile(r'"?\$\{LEN\(\$\{EXTEN\}\)\}"?\s*(?P<how>==?|[<>]=?)\s*"?(?P<length>\d+)"?')

_HOW: Mapping[str, Callable[[int, int], bool]] = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}

_Test = Callable[[str], bool]


class RoutesUnreadable(ValueError):
    """The routes cannot be judged; the text says which step, for the operator."""


class NoRoutes(RoutesUnreadable):
    """There is not one."""


@dataclass(frozen=True, slots=True)
class Step:
    """One priority of context `outgoing`: application and its argument as written."""

    application: str
    data: str


@dataclass(frozen=True, slots=True)
class Route:
    """One outgoing route; `name` is its context."""

    name: str
    tests: tuple[_Test, ...]

    def takes(self, number: str) -> bool:
        """True if it takes the number as it is dialed; MikoPBX drops a leading plus before it looks."""
        return any(all(test(form) for test in self.tests) for form in {number, number.removeprefix("+")})


@dataclass(frozen=True, slots=True)
class Routes:
    """All outgoing routes, in order."""

    routes: tuple[Route, ...]

    @classmethod
    def read(cls, steps: Iterable[Step]) -> "Routes":
        """Routes of the steps of context `outgoing`. Raises RoutesUnreadable; no route at all is unreadable too."""
        found = tuple(route for step in steps if (route := _route(step)) is not None)
        if not found:
            raise NoRoutes("its dialplan shows no outgoing route at all")
        return cls(found)

    @property
    def providers(self) -> tuple[str, ...]:
        """Ids of the providers that they lead to, each once. MikoPBX names a route `<provider>-<route>-outgoing`."""
        return tuple(dict.fromkeys(_PROVIDER.sub("", route.name) for route in self.routes))

    def takers(self, number: str) -> tuple[str, ...]:
        """Names of the routes that take this number (as it is dialed)."""
        return tuple(route.name for route in self.routes if route.takes(number))

    def refusal(self, number: str) -> str | None:
        """Why this number (as it is dialed) must not be sent through the routes, for the person who wrote the row; or
        None: exactly one route takes it."""
        takers = self.takers(number)
        if len(takers) == 1:
            return None
        if not takers:
            return "no outgoing route of the PBX takes this number; make a route for it or correct the number"
        return (
            f"{len(takers)} outgoing routes of the PBX take this number ({', '.join(takers)}), so it could ring twice"
            " in one call; leave one route for it"
        )


def _route(step: Step) -> Route | None:
    application, data = step.application.lower(), step.data.strip()
    if application in {"gosub", "goto"}:
        always = _ALWAYS.match(data)
        return Route(always["to"], ()) if always else None
    if application not in {"gosubif", "gotoif", "execif"}:
        return None
    found = _ROUTE.search(data)
    if found is None:
        return None
    return Route(found["to"], _tests(data[: found.start()], found["to"]))


def _tests(condition: str, name: str) -> tuple[_Test, ...]:
    whole = _CONDITION.match(condition.strip())
    terms = re.split(r"\s+&{1,2}\s+", whole["terms"].strip()) if whole else []
    tests = [_test(term.strip()) for term in terms]
    known = tuple(test for test in tests if test is not None)
    if not known or len(known) != len(tests):
        raise RoutesUnreadable(f"the condition of its route {name} is written in a way that is not known: {condition}")
    return known


def _test(term: str) -> _Test | None:
    if found := _PATTERN.fullmatch(term):
        try:
            # MikoPBX writes a backslash twice.
            pattern = re.compile(re.sub(r"\\+", r"\\", found["pattern"]))
        except re.error:
            return None
        return lambda number: pattern.search(number) is not None
    if found := _PIECE.fullmatch(term):
        start, size, text = int(found["start"] or 0), found["size"], found["text"]
        return lambda number: number[start:][: int(size) if size else None] == text
    if found := _LENGTH.fullmatch(term):
        how, length = _HOW[found["how"]], int(found["length"])
        return lambda number: how(len(number), length)
    return None
