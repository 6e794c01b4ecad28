"""Which example calls the sandbox queues: every outcome, evenly spread, in a mix that a healthy day could bring."""

from collections.abc import Mapping

from adapter.sandbox.scenarios import BY_CODE, SCENARIOS, Scenario, number

WEIGHTS: Mapping[str, int] = {
    "10": 24,
    "11": 10,
    "21": 10,
    "22": 5,
    "20": 6,
    "40": 5,
    "30": 6,
    "50": 3,
    "24": 2,
    "23": 1,
    "31": 1,
    "41": 1,
    "12": 1,
}
"""What comes on top of one call of each scenario. Most people answer or ring: the daemon stops a trunk on which 20
calls in a row neither ring nor are answered, and an AI handler that drops 5 of 10 calls; a good mix has neither."""

SHOWCASE = ("10", "30", "21", "50", "40", "11", "60", "70", "14", "80")
"""With fewer calls than scenarios, these come first: one of each outcome."""

GOLDEN = 0.6180339887498949
"""Multiples of it, modulo one, are spread evenly however many there are."""


def mix(count: int) -> list[Scenario]:
    """`count` scenarios in the order in which they are queued; the same for each run."""
    codes = [*SHOWCASE, *(scenario.code for scenario in SCENARIOS if scenario.code not in SHOWCASE)]
    if count <= len(codes):
        return [BY_CODE[code] for code in codes[:count]]
    shares = dict.fromkeys(codes, 1)
    for code, more in _apportioned(count - len(codes)).items():
        shares[code] += more
    places = [
        ((turn + (rank * GOLDEN) % 1) / share, rank, code)
        for rank, (code, share) in enumerate(shares.items())
        for turn in range(share)
    ]
    return [BY_CODE[code] for _, _, code in sorted(places)]


def _apportioned(count: int) -> dict[str, int]:
    """`count` split by `WEIGHTS`, largest remainders first."""
    total = sum(WEIGHTS.values())
    exact = {code: count * weight / total for code, weight in WEIGHTS.items()}
    parts = {code: int(share) for code, share in exact.items()}
    left = count - sum(parts.values())
    for code in sorted(exact, key=lambda code: parts[code] - exact[code])[:left]:
        parts[code] += 1
    return parts


def as_typed(code: str, serial: int) -> str:
    """A number of the plan as a person or an app may have typed it: three spellings of the same kind take turns."""
    e164 = number(code, serial)
    national = f"0{e164[3:]}"
    return (e164, f"{national[:3]}-{national[3:7]} {national[7:]}", f"+60 {e164[3:5]}-{e164[5:]}")[serial % 3]
