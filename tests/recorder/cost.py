"""What the recorder costs: messages a second through the wire's reader, with it and without (scripts/flight-cost).

The bytes of whole calls go through the same reader as in the daemon, in one process, as fast as it takes them; a real
PBX sends a few hundred messages a second. The longest time for which the loop stood still is measured beside it.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from adapter.pbx.config import PbxConfig
from adapter.pbx.wire import GREETING, OneShot
from adapter.recorder import SILENT, Recorder
from adapter.recorder.ring import folder_of, lines, segments
from adapter.recorder.writer import FlightRecorder
from tests.support import transcripts

BURST = 20
"""Messages of one read."""


def _messages(count: int) -> list[bytes]:
    """AMI bytes as an Asterisk sends them, of a recorded call over and over."""
    call = [m for m in transcripts.load("pjsip-answer-callee-hangup").messages if m.event is not None]
    noise = {f"ConnectedLine{n}": "<unknown>" for n in range(12)}
    texts = [
        "".join(f"{key}: {value}\r\n" for key, value in {**message.fields, **noise}.items()) + "\r\n"
        for message in call
    ]
    whole = (texts * (count // len(texts) + 1))[:count]
    return ["".join(whole[i : i + BURST]).encode() for i in range(0, count, BURST)]


async def _pace(recorder: Recorder, chunks: list[bytes], per_second: int | None) -> tuple[float, float]:
    """`(seconds of work, longest stand-still)` for these reads, at full speed or at a given rate."""
    heard = [0]

    def on_event(_fields: dict[str, str]) -> None:
        heard[0] += 1

    config = PbxConfig(
        host="127.0.0.1",
        port=1,
        username="u",
        password="p",
        trunk="SIP-TRUNK-AAAA0001",
        ai_context="all_peers",
        ai_extension="999",
    )
    shot = OneShot(config, on_event=on_event, on_lost=lambda _: None, recorder=recorder, session=1)
    wire = shot._make_wire()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    await loop.create_connection(lambda: wire, *server.sockets[0].getsockname())
    wire.data_received(GREETING + b"11.0.0\r\n")
    worked = worst = 0.0
    began = time.perf_counter()
    for number, chunk in enumerate(chunks, start=1):
        start = time.perf_counter()
        wire.data_received(chunk)
        await asyncio.sleep(0)
        took = time.perf_counter() - start
        worked, worst = worked + took, max(worst, took)
        if per_second is not None:
            await asyncio.sleep(max(0.0, began + number * BURST / per_second - time.perf_counter()))
    wire.transport.abort()
    server.close()
    assert heard[0] == len(chunks) * BURST, heard
    return worked, worst


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--messages", type=int, default=40_000)
    parser.add_argument("--rate", type=int, default=1000, help="messages a second of the second measurement")
    args = parser.parse_args()
    count = args.messages // BURST * BURST
    for title, per_second, size in (("full speed", None, count), (f"{args.rate}/s", args.rate, 5 * args.rate)):
        for name in ("without", "with"):
            with tempfile.TemporaryDirectory() as folder:
                state = Path(folder)
                flight = None
                if name == "with":
                    flight = FlightRecorder(folder_of(state), 64 << 20, version="0", settings={})
                worked, worst = asyncio.run(_pace(flight or SILENT, _messages(size), per_second))
                line = f"{title:>10}  {name:>7}: {size / worked:8,.0f} messages/s, longest stand {1000 * worst:.1f} ms"
                if flight is not None:
                    flight.close()
                    written = sum(path.stat().st_size for path in segments(folder_of(state)))
                    kept = sum(b'"Event"' in line for line in lines(folder_of(state)))
                    line += f", {written / max(1, kept):.0f} bytes a message, {size - kept} not recorded"
                print(line)


if __name__ == "__main__":
    main()
