"""`scripts/asterisk`: set up the real Asterisk, and run the pair until Ctrl-C."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Mapping

from adapter.sandbox.asterisk import install
from adapter.sandbox.asterisk.install import AsteriskMissing
from adapter.sandbox.asterisk.instance import AsteriskFailed
from adapter.sandbox.asterisk.pbx import RealPbx
from adapter.sandbox.scenarios import SCENARIOS, number


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 with words on stderr."""
    parser = argparse.ArgumentParser(
        prog="scripts/asterisk",
        description="A real Asterisk that behaves like a MikoPBX, and a carrier for it, on loopback.",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=COMMANDS,
        help="install: only set it up; run: only run what is set up; neither: both",
    )
    parser.add_argument(
        "--release",
        choices=tuple(install.RELEASES),
        default=install.NEWEST,
        help="the Debian release from which the PBX comes (%(default)s); the carrier is always the newest",
    )
    parser.add_argument("--version", action="store_true", help="print the version of the Asterisk that is set up")
    parser.add_argument("--keep", action="store_true", help="leave configuration and logs until the next start")
    options = parser.parse_args(arguments)
    try:
        if options.version:
            print(install.find(options.release).version)
        elif options.command:
            COMMANDS[options.command](options)
        else:
            _install(options)
            _run(options)
    except (AsteriskMissing, AsteriskFailed) as error:
        install.say(str(error))
        return 1
    return 0


def _install(options: argparse.Namespace) -> None:
    asterisk = install.install(options.release)
    install.say(f"{asterisk.version}: {asterisk.root or asterisk.binary}")


def _run(options: argparse.Namespace) -> None:
    asyncio.run(_until_stopped(options.release, keep=options.keep))


async def _until_stopped(release: str, *, keep: bool) -> None:
    stop = asyncio.Event()
    for caught in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(caught, stop.set)
    async with RealPbx.started(release=release, keep=keep) as pbx:
        print(_card(pbx), flush=True)
        await stop.wait()
    if keep:
        print(f"Configuration and logs: {pbx.folder}")


def _card(pbx: RealPbx) -> str:
    """What somebody needs who wants to use the pair, as settings of the adapter."""
    settings = {
        "MIKOPBX_HOST": pbx.host,
        "MIKOPBX_AMI_PORT": pbx.port,
        "MIKOPBX_AMI_USERNAME": pbx.username,
        "MIKOPBX_AMI_PASSWORD": pbx.password,
        "TRUNK": pbx.trunk,
        "AI_CONTEXT": pbx.ai_context,
        "AI_EXTENSION": pbx.ai_extension,
    }
    callees = "\n".join(f"  {number(scenario.code, 1)}  {scenario.name}" for scenario in SCENARIOS)
    return "\n".join(
        (
            f"{pbx.version} is running as a MikoPBX-like PBX and as its carrier, on loopback only.",
            *(f"{name}={value}" for name, value in settings.items()),
            f"Behind every number waits a callee (the last six digits are yours to choose):\n{callees}",
            f"Files: {pbx.folder}\nCtrl-C ends both.",
        )
    )


COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = {"install": _install, "run": _run}


if __name__ == "__main__":
    sys.exit(main())
