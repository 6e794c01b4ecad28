"""The image's content, made by the Dockerfile's own steps in a chroot, for machines without a Docker engine.

The base is this machine: its `/usr`, and the Python that runs the tests, under overlays, so that steps may write there
and nothing is changed here. Everything else of the root is made by the steps. It takes root, half a minute, and the
package index for the pinned requirements; what was made is kept in the cache folder until a file of it changes.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.docker import dockerfile, enter
from tests.docker.dockerfile import ROOT, Dockerfile, Stage, Step

PREFIX = Path(sys.base_prefix)

PATH = ":".join(dict.fromkeys([f"{PREFIX}/bin", "/usr/local/bin", "/usr/bin", "/bin"]))

KEPT_ENVIRONMENT = ("PIP_CERT", "PIP_INDEX_URL", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
"""For steps only: how this machine reaches the package index."""

DEVICES = ("null", "zero", "full", "random", "urandom")


class BuildFailed(Exception):
    """A step of the Dockerfile failed; the text is what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The root of one stage: `root` is what steps made, `upper` what they changed in this machine's folders."""

    folder: Path

    @property
    def root(self) -> Path:
        """The folder that becomes `/`."""
        return self.folder / "root"

    def lay_out(self) -> None:
        """Make the mount points, and links such as `/bin` as they are here."""
        for name in ("etc", "proc", "dev/shm", "tmp", "usr", "var/lib", "opt", "run"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "tmp").chmod(0o1777)
        for name in ("bin", "sbin", "lib", "lib64", "lib32", "libx32"):
            if (here := Path("/") / name).is_symlink():
                (self.root / name).symlink_to(here.readlink())
            elif here.is_dir():
                (self.root / name).mkdir()
        (self.root / str(PREFIX).lstrip("/")).mkdir(parents=True, exist_ok=True)
        for name in DEVICES:
            (self.root / "dev" / name).touch()

    def mounts(self, *, readonly: bool) -> list[tuple[str, str, str, bool]]:
        """What `enter` lays over the root: first the root itself, so that it can be read-only."""
        laid = [("bind", str(self.root), "", readonly)]
        for place in dict.fromkeys([Path("/usr"), PREFIX]):
            if place != Path("/usr") and place.is_relative_to("/usr"):
                continue
            upper, work = (self.folder / kind / str(place).strip("/").replace("/", "-") for kind in ("upper", "work"))
            upper.mkdir(parents=True, exist_ok=True)
            work.mkdir(parents=True, exist_ok=True)
            # Several containers may run from it at once, but an upper folder serves one mount.
            writable = f"lowerdir={place},upperdir={upper},workdir={work}"
            laid.append(("overlay", f"lowerdir={upper}:{place}" if readonly else writable, str(place), readonly))
        laid += [
            ("bind", f"/{name}", f"/{name}", True)
            for name in ("lib", "lib64", "lib32", "libx32", "bin", "sbin")
            if Path(f"/{name}").is_dir() and not Path(f"/{name}").is_symlink()
        ]
        laid += [("bind", f"/dev/{name}", f"/dev/{name}", False) for name in DEVICES]
        laid.append(("tmpfs", "size=64m,mode=1777", "/dev/shm", False))  # noqa: S108  as every container has it
        return [*laid, ("bind", "/etc", "/etc", True), ("bind", "/proc", "/proc", True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What `docker build` would have made."""

    layer: Layer
    file: Dockerfile

    @property
    def user(self) -> int:
        """Of the process."""
        user, _, group = self.file.image.only("USER").text.partition(":")
        if user != group:
            raise ValueError("user and group are meant to have the same number")
        return int(user)

    @property
    def state_dir(self) -> str:
        """Where the volume goes."""
        return self.file.image.only("VOLUME").text

    def environment(self) -> dict[str, str]:
        """What the image gives its process."""
        given = self.file.image.environment()
        return {**given, "PATH": given["PATH"].replace("$PATH", PATH), "HOME": "/"}

    def entered(self, command: Sequence[str], *, state: Path, run: Path, cgroup: Path | None = None) -> list[str]:
        """The command line here for `command` in there: its user, a read-only root, its volume, its `/run`."""
        mounts = [
            *self.layer.mounts(readonly=True),
            ("tmpfs", "size=16m,mode=1777", "/tmp", False),  # noqa: S108  the container's own
            ("bind", str(run), "/run", True),
            ("bind", str(state), self.state_dir, False),
        ]
        return entering(self.layer.root, mounts, command, directory=self.state_dir, user=self.user, cgroup=cgroup)


def entering(
    root: Path,
    mounts: Sequence[tuple[str, str, str, bool]],
    command: Sequence[str],
    *,
    directory: str,
    user: int | None,
    cgroup: Path | None = None,
) -> list[str]:
    """The command line that runs `command` in `root`."""
    plan = {
        "root": str(root),
        "mounts": mounts,
        "directory": directory,
        "user": user,
        "cgroup": str(cgroup) if cgroup else None,
    }
    return [sys.executable, "-I", "-S", enter.__file__, str(os.getpid()), json.dumps(plan), *command]


def built() -> Image:
    """The image of this tree, made now unless it is there. Raises `BuildFailed`."""
    file = dockerfile.ours()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mikopbx-adapter" / "image"
    place = cache / _key()
    with _lock(cache):
        if not place.exists():
            _tidy(cache)
            new = Path(tempfile.mkdtemp(prefix="new-", dir=cache))
            new.chmod(0o755)
            _build(file, new)
            new.rename(place)
        _USED.append(_held(place, fcntl.LOCK_SH))
    return Image(layer=Layer(folder=place / "image"), file=file)


_USED: list[int] = []
"""Locks on what this process uses, until it ends."""


def _held(place: Path, how: int) -> int:
    """A lock on a made image; raises BlockingIOError."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise
    return fd


def _tidy(cache: Path) -> None:
    """Remove images that no run of the tests uses: they are of an earlier state of the tree."""
    for old in cache.glob("*/"):
        with contextlib.suppress(BlockingIOError):
            fd = _held(old, fcntl.LOCK_EX)
            shutil.rmtree(old)
            os.close(fd)


def _key() -> str:
    told = hashlib.sha256(f"{sys.version} {PREFIX}".encode())
    for name in ("Dockerfile", *map(str, dockerfile.context()), *(f"tests/docker/{name}.py" for name in MAKERS)):
        told.update(name.encode() + b"\0" + (ROOT / name).read_bytes())
    return told.hexdigest()[:20]


MAKERS = ("dockerfile", "enter", "image")


def _build(file: Dockerfile, folder: Path) -> None:
    made: dict[str, Layer] = {}
    for number, stage in enumerate(file.stages):
        last = number == len(file.stages) - 1
        layer = Layer(folder=folder / ("image" if last else f"stage-{stage.name}"))
        layer.lay_out()
        _run_stage(stage, layer, made)
        made[stage.name] = layer
    for name, layer in made.items():
        if name:
            shutil.rmtree(layer.folder)


def _run_stage(stage: Stage, layer: Layer, made: Mapping[str, Layer]) -> None:
    directory, environment = "/", {"PATH": PATH, "HOME": "/root"}
    for step in stage.steps:
        match step.keyword:
            case "WORKDIR":
                directory = step.text
                (layer.root / directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "ENV":
                pairs = (pair.split("=", 1) for pair in step.words)
                environment |= {name: value.replace("$PATH", environment["PATH"]) for name, value in pairs}
            case "COPY":
                _copy(step, layer.root, made.get(step.options.get("from", "")), directory)
            case "RUN":
                _run(step.text, layer, directory, environment)
            case _:
                pass  # Says something of the process; `Image` reads it.


def _copy(step: Step, root: Path, source: Layer | None, directory: str) -> None:
    *names, where = step.words
    target = root / (where if where.startswith("/") else f"{directory}/{where}").lstrip("/")
    if source is not None:
        (name,) = names
        shutil.copytree(source.root / name.lstrip("/"), target, symlinks=True)
        return
    for file in dockerfile.context():
        for name in names:
            if file.parts[0] != name:
                continue
            inside = target / file.relative_to(name) if (ROOT / name).is_dir() else target / file.name
            inside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, inside)


def _run(text: str, layer: Layer, directory: str, environment: Mapping[str, str]) -> None:
    here = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    command = entering(
        layer.root, layer.mounts(readonly=False), ["/bin/sh", "-c", text], directory=directory, user=None
    )
    done = subprocess.run(
        command, check=False, env={**here, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise BuildFailed(f"RUN {shlex.join([text])} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
