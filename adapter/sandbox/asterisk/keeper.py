"""Started as a script of its own: enters the chroot, ties this process to its parent's life, becomes Asterisk.

    python keeper.py PARENT_PID ROOT COMMAND…

With PR_SET_PDEATHSIG the kernel kills the Asterisk when the process that started it is gone, however it went.
It is done here, between fork and exec, and not in a `preexec_fn`, which is not safe in a program with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, root: str, command: list[str]) -> None:
    """Does not return."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the parent died before its Asterisk was started")
    if root != "/":
        os.chroot(root)
    os.chdir("/")
    os.execv(command[0], command)  # noqa: S606 - to become it, without a shell, is the purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
