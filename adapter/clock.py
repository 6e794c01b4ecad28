"""Clocks of the shell. The core gets its time as an argument."""

import time
from collections.abc import Callable


def wall() -> float:
    """Seconds since the epoch."""
    return time.time()


def boot() -> float:
    """Seconds of a clock that goes on while the machine is suspended (a claim grows old in a sleeping laptop too)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def steady() -> Callable[[], float]:
    """A clock of epoch seconds that nobody sets: the wall clock as it stands now, and from here on the boot clock.

    Waits are measured on it. By a wall clock that jumps ahead (NTP after a boot, an operator) calls that live would be
    over, and others would be placed beside them. Where the wall clock is wrong this one stays wrong; what is told of a
    call has the PBX's own times.
    """
    offset = wall() - boot()
    return lambda: boot() + offset
