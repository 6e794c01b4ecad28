"""Where the Asterisk comes from, with a debootstrap of straw: no network, no root."""

import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapter.sandbox.asterisk import install
from adapter.sandbox.asterisk.install import Asterisk, AsteriskMissing


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine with an empty cache and a folder on its PATH."""

    cache: Path
    programs: Path

    @property
    def chroot(self) -> Path:
        return self.cache / "mikopbx-adapter" / "asterisk" / "sid"

    def program(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def debootstraps(self) -> int:
        """How often debootstrap was run."""
        runs = self.cache / "runs"
        return len(runs.read_text().splitlines()) if runs.exists() else 0


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    here = Machine(tmp_path / "cache", tmp_path / "bin")
    here.cache.mkdir()
    here.programs.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(here.cache))
    monkeypatch.setenv("PATH", f"{here.programs}:{os.environ['PATH']}")
    return here


@pytest.fixture
def as_root(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Root, whose chroots hold a file in the place of Asterisk."""
    machine.program(
        "debootstrap",
        f'echo "$@" >>{machine.cache}/runs\nsleep 0.1\nmkdir -p "$4/usr/sbin"\necho it >"$4/usr/sbin/asterisk"',
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        install, "_checked", lambda binary, root, _least: Asterisk(binary=binary, root=root, version="Asterisk 22.0.0")
    )
    return machine


def test_root_gets_a_chroot_and_gets_it_once(as_root: Machine) -> None:
    with pytest.raises(AsteriskMissing, match="scripts/asterisk install"):
        install.find()
    made = install.install()
    assert made.root == as_root.chroot
    assert install.install() == install.find() == made
    assert as_root.debootstraps() == 1
    (arguments,) = (as_root.cache / "runs").read_text().splitlines()
    assert arguments.startswith("--variant=minbase --include=asterisk sid ")
    assert len(arguments.split()) == 4, "the mirror is debootstrap's own choice"


def test_each_release_has_a_chroot_of_its_own(as_root: Machine) -> None:
    newest, old = install.install(), install.install(install.OLD)
    assert old.root == as_root.chroot.parent / "bullseye"
    assert newest.root == as_root.chroot
    assert as_root.debootstraps() == 2
    assert " bullseye " in (as_root.cache / "runs").read_text().splitlines()[1]


def test_an_old_release_that_is_missing_says_how_to_get_it(as_root: Machine) -> None:
    install.install()
    with pytest.raises(AsteriskMissing, match="scripts/asterisk install --release bullseye"):
        install.find(install.OLD)


def test_half_made_chroot_is_never_used(as_root: Machine) -> None:
    as_root.program("debootstrap", 'mkdir -p "$4/usr/sbin"\necho half >"$4/usr/sbin/asterisk"\necho "no space"\nexit 1')
    with pytest.raises(AsteriskMissing, match="no space"):
        install.install()
    with pytest.raises(AsteriskMissing, match="not set up"):
        install.find()
    as_root.program("debootstrap", 'test ! -e "$4" || exit 1\nmkdir -p "$4/usr/sbin"\necho it >"$4/usr/sbin/asterisk"')
    made = install.install()
    assert made.root is not None
    assert (made.root / "usr/sbin/asterisk").read_text() == "it\n"


def test_two_installs_at_once_make_one_chroot(as_root: Machine) -> None:
    made: list[Asterisk] = []
    threads = [threading.Thread(target=lambda: made.append(install.install())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 3
    assert as_root.debootstraps() == 1


@pytest.mark.parametrize(
    ("told", "usable"),
    [
        ("Asterisk 22.10.1+dfsg", True),
        ("Asterisk 20.6.0~dfsg+~cs6.13", True),
        ("Asterisk certified/20.7-cert3", True),
        ("Asterisk 20.5.0", False),
        ("Asterisk 18.26.4", False),
        ("something else", False),
    ],
)
def test_others_use_an_installed_asterisk_if_it_is_new_enough(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, told: str, usable: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    machine.program("asterisk", f"echo '{told}'")
    if usable:
        assert install.install() == Asterisk(binary=str(machine.programs / "asterisk"), root=None, version=told)
    else:
        with pytest.raises(AsteriskMissing, match=r"20\.6 or newer"):
            install.install()


def test_only_root_has_other_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(AsteriskMissing, match="takes root"):
        install.install(install.OLD)


def test_others_are_told_what_to_do(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(AsteriskMissing, match="run this as root"):
        install.install()
