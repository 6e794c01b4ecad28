"""Run one server process and never leave it behind.

A program of its own (`python -I -S keeper.py OPTIONS -- COMMAND…`, standard library only): it starts COMMAND and
waits until its standard input ends, which happens when whoever started it closes the pipe *or dies in any way, SIGKILL
included*. Then it stops COMMAND with the given signal and removes the named directory. Should the keeper itself be
killed, the kernel kills COMMAND (PR_SET_PDEATHSIG). Setting that on COMMAND directly would not do: the kernel sends it
when the *thread* that started the process ends, and event loops start processes from threads that come and go.
"""

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""

LOOK_SECONDS = 0.5
"""How often to see whether COMMAND ended by itself; its end is not urgent, and pidfd is not everywhere."""

GRACE_SECONDS = 5.0
"""A polite stop may take this long; then SIGKILL. A sandbox server has nothing to save."""


def main(argv: Sequence[str]) -> int:
    """Keep COMMAND running until standard input ends; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signal", type=int, default=signal.SIGTERM, help="what stops COMMAND politely")
    parser.add_argument("--uid", type=int, help="run COMMAND as this user")
    parser.add_argument("--gid", type=int, help="and this group")
    parser.add_argument("--remove", help="directory to remove afterwards")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(argv)
    for ignored in (signal.SIGINT, signal.SIGHUP):
        # Ctrl-C is the starter's business: it closes the pipe when it has finished with the server.
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    keeper = os.getpid()
    libc = ctypes.CDLL(None)

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os.kill(os.getpid(), signal.SIGKILL)

    child = subprocess.Popen(  # noqa: S603 - the command is ours
        options.command,
        stdin=subprocess.DEVNULL,
        preexec_fn=in_child,  # noqa: PLW1509 - this program has one thread
        user=options.uid,
        group=options.gid,
        extra_groups=None if options.uid is None else [],
    )
    failed = False
    try:
        failed = _ended_itself(child)
    finally:
        _stop(child, options.signal)
        # A server that fell over leaves its log behind: whoever started it wants to read it, and is there to clear up.
        if options.remove and not failed:
            shutil.rmtree(options.remove, ignore_errors=True)
    return child.returncode


def _leave(_signal: int, _frame: object) -> None:
    raise SystemExit(0)


def _ended_itself(child: "subprocess.Popen[bytes]") -> bool:
    """Wait for the end of the process (True) or of our standard input (False)."""
    while child.poll() is None:
        readable, _, _ = select.select([0], [], [], LOOK_SECONDS)
        if readable and not os.read(0, 4096):
            return False
    return True


def _stop(child: "subprocess.Popen[bytes]", polite: int) -> None:
    if child.poll() is None:
        child.send_signal(polite)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
    if child.poll() is None:
        child.kill()
        child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
