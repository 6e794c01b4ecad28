"""Deno, and the edge functions running on it as a host does."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from adapter.sandbox.process import Daemon
from tests.support.npm import BIN

ROOT = Path(__file__).parents[2]
FUNCTIONS = ROOT / "supabase" / "functions"
CONFIG = ("--config", str(FUNCTIONS / "deno.json"))

OFFLINE = ("--no-remote", "--no-npm", "--cached-only")
"""What a function imports from elsewhere would be another's code at our keys, and an outage of theirs one of ours."""

QUIET: Mapping[str, str] = {"NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"}


def deno(*arguments: str) -> tuple[str, ...]:
    """The command line of the pinned Deno."""
    return (str(BIN / "deno"), *arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A running function."""

    url: str
    process: Daemon

    def said(self, event: str) -> int:
        """How many lines with this event it has logged."""
        return self.process.log.read_text(encoding="utf-8").count(f'"event":"{event}"')


@asynccontextmanager
async def edge(directory: Path, function: str = "batch-call", **settings: str) -> AsyncIterator[Edge]:
    """Serve one function with exactly these settings; it may reach the network of this machine and read no file."""
    command = deno(
        "run", *CONFIG, *OFFLINE, "--allow-net=127.0.0.1", "--allow-env", str(FUNCTIONS / function / "index.ts")
    )
    environment = {**QUIET, "DENO_SERVE_ADDRESS": "tcp:127.0.0.1:0", "DENO_DIR": str(directory / "deno"), **settings}
    process = Daemon(environment, directory / f"{function}.log", command=command)
    await process.start()
    try:
        async with asyncio.timeout(30):
            while not (found := re.search(r"Listening on (http://\S+?)/?\s", process.log.read_text(encoding="utf-8"))):
                assert process.running, process.tail()
                await asyncio.sleep(0.02)
        yield Edge(url=found[1], process=process)
    finally:
        await process.stop()
