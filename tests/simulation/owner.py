"""The owner of a world: which trunks and campaigns there are, what follows after which outcome, what a day may bring.

Each kind of rule is drawn from dice of its own, so that a world without it lives as if the kind did not exist.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.pbx import TRUNK
from tests.simulation.store_tables import RetryRule, Tables

if TYPE_CHECKING:
    from tests.simulation.world import World

TRUNKS_SHARE = 0.35
"""Worlds with a table of trunks."""

SPLIT_SHARE = 0.6
"""Of these, if they have two PBXs: each may call half of the numbers alone."""

HALVES = tuple([f"601234567{tens}" for tens in range(half, half + 5)] for half in (0, 5))
"""Prefixes of the trunks of each PBX: all people of a world are in one of the two (world.NUMBERS)."""

RETRIES_SHARE = 0.3
"""Worlds with rules about what follows after an outcome."""

DAY_SHARE = 0.2
"""Worlds in which the calls of a user are counted by the day. No world lives beyond midnight."""

CAMPAIGNS_SHARE = 0.35
"""Worlds whose rows are of campaigns."""

SECOND_TRUNK = "SIP-TRUNK-5A0D0002"
OWN_TRUNK = "SIP-TRUNK-5A0D0003"
"""Of one user alone."""

USERS = tuple(f"00000000-0000-4000-8000-0000000000a{last}" for last in range(3))
CAMPAIGNS = tuple(f"00000000-0000-4000-8000-0000000000c{last}" for last in range(6))
"""Two of each user."""

CARRIER = "carrier"
"""The rule about all outcomes that are a carrier's fault."""


@dataclass(slots=True)
class Rest:
    """A trunk cools down, as the database says: nothing is dialed through it until then. Times of its clock."""

    since: float
    until: float
    over: float | None = None
    """When that was taken back, by a good call or by command."""


@dataclass(slots=True)
class Rules:
    """What is ruled in a world, and what was seen of it."""

    dice: Random
    """For what rows have of it."""

    campaigns: Sequence[str] = ()
    """Those that rows are of, if any: two of each user, in the order of the users."""

    ruled: set[int] = field(default_factory=set)
    """Rows that do not say themselves how often they are tried."""

    rests: dict[tuple[str, str], list[Rest]] = field(default_factory=dict)
    """PBX and trunk → when it rested because its calls failed."""

    def look(self, tables: Tables, now: float) -> None:
        """After each request: which trunks rest from now on, or do no more."""
        for at in tables.health.keys() | self.rests.keys():
            found, rests = tables.health.get(at), self.rests.setdefault(at, [])
            since = found.cooled_at if found is not None else None
            if rests and rests[-1].over is None and rests[-1].since != since:
                rests[-1].over = now
            if found is not None and since is not None and (not rests or rests[-1].over is not None):
                assert found.cooled_until is not None
                rests.append(Rest(since=since, until=found.cooled_until))


def day_settings(seed: int) -> dict[str, str]:
    """MAX_CALLS_PER_USER_DAY of this world, if it has one."""
    dice = Random(f"{seed}:day")
    return {"MAX_CALLS_PER_USER_DAY": str(dice.randint(3, 12))} if dice.random() < DAY_SHARE else {}


def trunk_settings(seed: int) -> dict[str, str]:
    """Channels that a world with several trunks keeps for people."""
    return {"RESERVED_CHANNELS": str(Random(f"{seed}:reserved").choice((0, 1)))} if has_trunks(seed) else {}


def has_trunks(seed: int) -> bool:
    """Has this world a table of trunks?"""
    return Random(f"{seed}:trunks").random() < TRUNKS_SHARE


def plan(world: "World") -> None:
    """Write what the owner wants into the tables, before anybody inserts a row."""
    _trunks(world)
    _retries(world)
    _campaigns(world)


def _trunks(world: "World") -> None:
    if not has_trunks(world.seed):
        return
    dice = Random(f"{world.seed}:trunks of it")
    owner = dice.choice(USERS) if dice.random() < 0.4 else None
    trunks = {TRUNK: None, SECOND_TRUNK: None} | ({} if owner is None else {OWN_TRUNK: owner})
    split = len(world.pbxs) > 1 and Random(f"{world.seed}:split").random() < SPLIT_SHARE
    for place, sim in enumerate(world.pbxs):
        sim.trunks = tuple(trunks)
        for trunk, user in trunks.items():
            world.store.trunk(
                sim.name, trunk, world.clock, user_id=user, priority=dice.choice((1, 5, 5, 9)),
                prefixes=HALVES[place] if split else [],
                max_channels=dice.choice((None, None, 3, 4)), calls_per_second=dice.choice((None, None, 1.0, 2.0)),
            )  # fmt: skip


def _retries(world: "World") -> None:
    dice = Random(f"{world.seed}:retries")
    if dice.random() >= RETRIES_SHARE:
        return
    for outcome in ("busy", "no_answer", "no_reply"):
        for scope, of in (("default", None), ("user", dice.choice(USERS))):
            if dice.random() < 0.6:
                delays = dice.choice(((5,), (5, 20), (2, 10, 40)))
                spread = dice.choice((0, 50))
                said = RetryRule(calls=dice.randint(0, 3), delays=delays, spread=spread)
                world.store.retry(scope, of, outcome, said, world.clock)
    if dice.random() < 0.6:
        said = RetryRule(calls=dice.randint(0, 2), delays=None, spread=None)
        world.store.retry("default", None, CARRIER, said, world.clock)


def _campaigns(world: "World") -> None:
    dice = Random(f"{world.seed}:campaigns")
    if dice.random() >= CAMPAIGNS_SHARE:
        return
    world.rules.campaigns = CAMPAIGNS
    for campaign in CAMPAIGNS:
        if dice.random() < 0.3:
            world.store.limit("campaign", campaign, dice.randint(1, 2), world.clock)
