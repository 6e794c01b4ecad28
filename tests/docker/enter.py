"""Started as a script of its own: becomes a command inside a root of its own, as a container's process would be.

    python enter.py PARENT_PID PLAN COMMAND…

PLAN is JSON: `mounts` (kind, source, target below `root`, read-only), `root`, `directory`, `user` or null for root, and
`cgroup`, the folder of the one to join, or null.
The mounts live in a namespace of this process and end with it. As `user` it has no capability, now or later
(`no_new_privs`), like under compose.yaml. The kernel kills it when the process that started it is gone.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    """Raise for a call of the C library that failed."""
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    raw = [text.encode() if text is not None else None for text in (source, target, kind)]
    checked(libc.mount(*raw, ctypes.c_ulong(flags), options.encode()), f"mount {source} on {target}")


def lay(kind: str, source: str, target: str, *, readonly: bool) -> None:
    """One mount of the plan."""
    if kind == "bind":
        mount(source, target, None, MS_BIND | MS_REC)
        if readonly:
            mount("none", target, None, MS_BIND | MS_REMOUNT | MS_RDONLY)
    elif kind == "tmpfs":
        mount("tmpfs", target, "tmpfs", 0, source)
    else:
        mount("overlay", target, "overlay", MS_RDONLY if readonly else 0, source)


def main(parent: int, plan: dict, command: list[str]) -> None:  # type: ignore[type-arg]
    """Does not return."""
    root = plan["root"]
    if plan["cgroup"] is not None:
        (Path(plan["cgroup"]) / "cgroup.procs").write_text(str(os.getpid()))
    checked(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    for kind, source, target, readonly in plan["mounts"]:
        lay(kind, source, root + target, readonly=readonly)
    os.chroot(root)
    os.chdir(plan["directory"])
    if plan["user"] is not None:
        for capability in range(64):  # More than any kernel has; the rest is refused.
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        os.setgroups([])
        os.setresgid(*[plan["user"]] * 3)
        os.setresuid(*[plan["user"]] * 3)
        checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
    # Last, since a change of user takes it away.
    checked(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the parent died before its process was started")
    os.execvp(command[0], command)  # noqa: S606 - to become it, without a shell, is the purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])
