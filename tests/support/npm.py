"""Packages from npm for tests with the real supabase-js: pinned, installed once, kept in the user's cache."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
"""Node, npm and Deno come with the development requirements, as wheels."""

PACKAGES = {"@supabase/supabase-js": "2.109.0", "ws": "8.23.0"}
"""ws: Node before 22 has no websocket of its own."""


def installed() -> Path:
    """A folder with the packages installed; made once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mikopbx-adapter" / "npm"
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / "-".join(f"{name.rpartition('/')[2]}-{version}" for name, version in PACKAGES.items())
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "done").exists():
            place.mkdir(exist_ok=True)
            manifest = {"name": "gateway-tests", "private": True, "type": "module", "dependencies": PACKAGES}
            (place / "package.json").write_text(json.dumps(manifest), encoding="utf-8")
            command = [str(BIN / "npm"), "install", "--no-audit", "--no-fund", "--ignore-scripts"]
            environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
            done = subprocess.run(command, cwd=place, check=False, capture_output=True, text=True, env=environment)
            if done.returncode != 0:
                pytest.fail(f"npm install of {PACKAGES} failed: {done.stderr}")
            (place / "done").touch()
    return place


def placed(script: Path) -> Path:
    """A copy of the script beside the packages, where Node looks for them."""
    return Path(shutil.copy(script, installed() / script.name))
