"""Clocks of the shell. The core gets its time as an argument."""

import time


def wall() -> float:
    """Seconds since the epoch."""
    return time.time()


def boot() -> float:
    """Seconds of a clock that goes on while the machine is suspended (a claim grows old in a sleeping laptop too)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
