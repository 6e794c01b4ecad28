"""Where the Asterisk comes from: a Debian chroot in the cache folder (as root), else an installed one.

Debian 12 and 13 have no asterisk package, so root gets a minimal sid (and, to try the oldest Asterisk that Debian still
serves, a minimal Debian 11) of about 500 MB in a folder of its own, made once by debootstrap in about a minute. Nothing
outside that folder is changed but for debootstrap itself. Anybody else needs an `asterisk` on the PATH.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NEWEST = "sid"
OLD = "bullseye"
"""Debian 11: Asterisk 16, where MikoPBX once stood."""

OLDEST = (20, 6)
"""First release whose dialplan can refuse a call with any SIP code (application PJSIPHangup): the carrier needs it."""

RELEASES: Mapping[str, tuple[int, int]] = {NEWEST: OLDEST, OLD: (16, 0)}
"""Debian release → the least Asterisk that it must hold. From OLD comes only the PBX; its carrier is the newest."""

CHROOT_BINARY = "/usr/sbin/asterisk"


class AsteriskMissing(Exception):
    """There is no usable Asterisk; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asterisk:
    """A usable Asterisk: its binary as seen from inside `root`, or from here if `root` is None."""

    binary: str
    root: Path | None
    version: str


def cache_dir() -> Path:
    """The folder that holds the chroot; deleting it is always safe while nothing runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mikopbx-adapter" / "asterisk"


def find(release: str = NEWEST) -> Asterisk:
    """The Asterisk that `install` made or found. Raises `AsteriskMissing`."""
    if os.geteuid() == 0:
        root = cache_dir() / release
        if not (root / CHROOT_BINARY.lstrip("/")).exists():
            wanted = "" if release == NEWEST else f" --release {release}"
            raise AsteriskMissing(f"Asterisk is not set up yet. Run: scripts/asterisk install{wanted}")
        return _checked(CHROOT_BINARY, root, RELEASES[release])
    if release != NEWEST:
        raise AsteriskMissing(
            f"The Asterisk of Debian {release} is set up in a chroot, and that takes root. Run this as root."
        )
    binary = shutil.which("asterisk", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise AsteriskMissing(
            "No asterisk was found. Either run this as root (a Debian sid with Asterisk is then set up in a folder of "
            f"its own, {cache_dir()}), or install Asterisk {_dotted(OLDEST)} or newer (package asterisk)."
        )
    return _checked(binary, None, OLDEST)


def install(release: str = NEWEST) -> Asterisk:
    """Make the chroot if we are root and there is none, and return the Asterisk. Raises `AsteriskMissing`.

    The chroot is made beside its place and renamed when it works, under a lock: a run that was cut short leaves nothing
    that is ever used, and two runs at once make one chroot.
    """
    if os.geteuid() == 0 and not (cache_dir() / release).exists():
        with _lock(cache_dir()):
            if not (cache_dir() / release).exists():
                _make_chroot(cache_dir(), release)
    return find(release)


def _make_chroot(cache: Path, release: str) -> None:
    debootstrap = _debootstrap()
    new = cache / f"{release}.new"
    _remove_tree(new)
    say(f"Setting up a Debian {release} with Asterisk in {cache} (once; about a minute)")
    log = cache / "debootstrap.log"
    with log.open("wb") as output:
        command = [debootstrap, "--variant=minbase", "--include=asterisk", release, str(new)]
        code = _run(command, stdout=output, stderr=subprocess.STDOUT).returncode
    if code != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise AsteriskMissing(
            "debootstrap could not set up the chroot. It said:\n  " + "\n  ".join(last) + f"\nAll of it: {log}\n"
            "It needs the network, about 600 MB, and a file system that is not mounted nodev or noexec; another place "
            "is chosen with XDG_CACHE_HOME."
        )
    shutil.rmtree(new / "var/cache/apt", ignore_errors=True)
    _checked(CHROOT_BINARY, new, RELEASES[release])
    new.rename(cache / release)


def _debootstrap() -> str:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    found = shutil.which("debootstrap", path=path)
    if found is None and shutil.which("apt-get"):
        say("Installing debootstrap")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        # Ubuntu's debootstrap cannot check Debian's signatures without the keyring; on Debian it is there already.
        wanted = ["debootstrap", "debian-archive-keyring"]
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted],
        ):
            _run(command, env=environment, stdout=sys.stderr)
        found = shutil.which("debootstrap", path=path)
    if found is None:
        raise AsteriskMissing("debootstrap is missing and could not be installed. Install it and try again.")
    return found


def _checked(binary: str, root: Path | None, least: tuple[int, int]) -> Asterisk:
    enter = ["chroot", str(root)] if root else []
    try:
        told = _run([*enter, binary, "-V"], capture_output=True, check=True).stdout.decode().strip()
    except (OSError, subprocess.CalledProcessError) as error:
        where = f" Delete {root} and run scripts/asterisk install again." if root else ""
        raise AsteriskMissing(f"{binary} does not run ({error}).{where}") from None
    match = re.match(r"Asterisk (?:certified/)?(\d+)\.(\d+)\S*", told)
    if match is None or (int(match[1]), int(match[2])) < least:
        raise AsteriskMissing(f"{binary} is {told!r}; Asterisk {_dotted(least)} or newer is needed.")
    return Asterisk(binary=binary, root=root, version=told)


def _remove_tree(tree: Path) -> None:
    """Remove a half-made chroot. A debootstrap that was killed may have left its /proc or /sys mounted in there."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((point for point in mounted if point.startswith(f"{tree}/")), reverse=True):
        _run(["umount", "--lazy", point], check=True)
    if tree.exists():
        shutil.rmtree(tree)


def _run(command: list[str], *, check: bool = False, **options: Any) -> subprocess.CompletedProcess[bytes]:
    # All commands are made in this module, and no shell reads them.
    return subprocess.run(command, check=check, stdin=subprocess.DEVNULL, **options)  # noqa: S603


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def say(text: str) -> None:
    """Tell the operator; never on stdout, which belongs to the callers' own results."""
    print(text, file=sys.stderr, flush=True)
