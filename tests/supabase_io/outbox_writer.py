"""A process that keeps records as fast as it can and prints each call id once `put` has returned."""

import asyncio
import sys
from pathlib import Path

from adapter.supabase_io.outbox import Outbox
from tests.supabase_io.samples import outcome


async def main(path: Path) -> None:
    """Write until killed; some records are marked done at once."""
    outbox = Outbox(path)

    async def one(number: int) -> None:
        record = outcome(reason=f"record {number}")
        await outbox.put(record)
        sys.stdout.write(record.call_id + "\n")
        sys.stdout.flush()

    number = 0
    while True:
        await asyncio.gather(*(one(number + extra) for extra in range(5)))
        number += 5
        await outbox.note_claim_number(number)
        sys.stdout.write(f"claim {number}\n")
        sys.stdout.flush()


asyncio.run(main(Path(sys.argv[1])))
