"""The outbox on a real disk: durable, grouped, honest about a disk that refuses and a file that breaks."""

import asyncio
import logging
import random
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from adapter.core.model import Record
from adapter.supabase_io import outbox_file
from adapter.supabase_io.outbox import Outbox, OutboxUnusable
from adapter.supabase_io.outbox_file import Statement
from tests.supabase_io.samples import mark, outcome, release


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite3"


@pytest.fixture
async def outbox(path: Path) -> AsyncIterator[Outbox]:
    box = Outbox(path, retry_seconds=0.02)
    yield box
    await box.close()


def on_disk(path: Path, table: str = "record") -> list[str]:
    """Bodies that another process would find."""
    db = sqlite3.connect(path)
    try:
        return [body for (body,) in db.execute(f"select body from {table} order by seq")]  # noqa: S608  a fixed name
    finally:
        db.close()


class Disk:
    """Stands before `outbox_file.commit`: counts commits, refuses on demand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commits: list[int] = []
        self.error: sqlite3.Error | None = None
        self.break_next: Path | None = None
        self.real = outbox_file.commit
        monkeypatch.setattr(outbox_file, "commit", self.commit)

    def commit(self, db: sqlite3.Connection, statements: Sequence[Statement]) -> None:
        if self.error is not None:
            raise self.error
        if self.break_next is not None:
            db.execute("pragma wal_checkpoint(truncate)")  # Else the log would heal the file when it is closed.
            self.break_next.write_bytes(b"no database at all" * 100)
            self.break_next = None
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
        self.commits.append(len(statements))
        self.real(db, statements)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, outbox: Outbox) -> Disk:
    return Disk(monkeypatch)


async def until(condition: object) -> None:
    """Wait until `condition()` holds."""
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_record_is_on_disk_when_put_returns_and_gone_when_done(path: Path, outbox: Outbox) -> None:
    records: list[Record] = [outcome(), mark(), release()]
    for record in records:
        await outbox.put(record)
        assert record.call_id in on_disk(path)[-1]
    pending = outbox.pending(10)
    assert [body["call_id"] for _, body in pending] == [record.call_id for record in records]
    assert [body["kind"] for _, body in outbox.pending(2)] == ["outcome", "answered"]
    assert outbox.count == 3
    await outbox.done([pending[0][0], pending[2][0], 999])
    assert outbox.count == 1
    assert len(on_disk(path)) == 1


async def test_what_was_kept_is_found_again_in_order(path: Path) -> None:
    first = Outbox(path, clock=lambda: 1000.0)
    records = [outcome(reason=f"{number} Łukasz") for number in range(5)]
    for record in records:
        await first.put(record)
    await first.done([outbox_seq for outbox_seq, _ in first.pending(1)])
    await first.note_claim_number(77)
    await first.close()
    again = Outbox(path, clock=lambda: 1060.0)
    assert [body["reason"] for _, body in again.pending(9)] == [f"{number} Łukasz" for number in range(1, 5)]
    assert again.oldest_age == 60.0
    assert again.highest_claim_number == 77
    last = again.pending(9)[-1][0]
    await again.put(outcome())
    assert again.pending(9)[-1][0] == last + 1
    await again.close()


async def test_records_that_wait_share_one_sync_and_a_lone_one_waits_for_none(disk: Disk, outbox: Outbox) -> None:
    await outbox.put(outcome())
    assert disk.commits == [1]
    await asyncio.gather(*(outbox.put(outcome()) for _ in range(100)))
    assert len(disk.commits) <= 3
    assert sum(disk.commits) == 101


async def test_a_canceled_put_is_kept_all_the_same(path: Path, outbox: Outbox) -> None:
    task = asyncio.create_task(outbox.put(outcome()))
    await asyncio.sleep(0)
    task.cancel()
    await outbox.put(outcome())
    assert len(on_disk(path)) == 2


async def test_the_highest_claim_number_only_rises(path: Path, outbox: Outbox, disk: Disk) -> None:
    await outbox.note_claim_number(9)
    await outbox.note_claim_number(5)
    await outbox.note_claim_number(9)
    assert outbox.highest_claim_number == 9
    assert len(disk.commits) == 1


async def test_a_claim_number_is_kept_once_it_is_on_disk(
    disk: Disk, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter.supabase_io.outbox.KEEP_SECONDS", 1.0)
    outbox.note_claim_number(9)
    assert await outbox.keeps(9)
    disk.error = full()
    outbox.note_claim_number(11)
    assert await outbox.keeps(9)
    assert not await outbox.keeps(10)
    waiting = [asyncio.create_task(outbox.keeps(number)) for number in (11, 10)]
    disk.error = None
    assert await asyncio.gather(*waiting) == [True, True]


async def test_a_refused_record_is_kept_aside_and_said_once(
    path: Path, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    await outbox.put(outcome(reason="poison"))
    await outbox.put(outcome())
    ((seq, _),) = outbox.pending(1)
    await outbox.refuse(seq, "no such outcome \x00\ud800")
    await outbox.refuse(seq, "again")
    assert outbox.count == 1
    assert outbox.refused_count == 1
    assert "poison" in on_disk(path, "refused")[0]
    assert len(on_disk(path)) == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    await outbox.close()
    again = Outbox(path)
    assert (again.count, again.refused_count) == (1, 1)
    await again.put(outcome())
    assert again.pending(9)[-1][0] > seq
    await again.close()


async def test_killed_at_any_instant_what_was_acknowledged_is_there(tmp_path: Path) -> None:
    for number in range(4):
        path = tmp_path / f"{number}.sqlite3"
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.supabase_io.outbox_writer", path], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().strip()]
        await asyncio.sleep(random.uniform(0.0, 0.15))
        writer.kill()
        acknowledged += [line.strip() for line in writer.stdout.read().split("\n") if line.strip()]
        writer.stdout.close()
        writer.wait()
        outbox = Outbox(path)
        kept = {body["call_id"] for _, body in outbox.pending(1_000_000)}
        calls = {line for line in acknowledged if not line.startswith("claim") and len(line) == 36}
        assert calls
        assert calls <= kept
        claims = [int(line.split()[1]) for line in acknowledged if line.startswith("claim ")]
        assert outbox.highest_claim_number >= max(claims, default=0)
        await outbox.close()


def full() -> sqlite3.Error:
    """What SQLite says of a full disk."""
    return sqlite3.OperationalError("database or disk is full")


async def test_a_full_disk_loses_nothing_and_is_said_once(
    path: Path, disk: Disk, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    disk.error = full()
    put = asyncio.create_task(outbox.put(outcome()))
    await until(lambda: outbox.problem)
    await asyncio.sleep(0.08)
    assert not put.done()
    assert outbox.count == 1, "it can go to Supabase meanwhile"
    disk.error = None
    await asyncio.wait_for(put, 5)
    assert outbox.problem is None
    assert len(on_disk(path)) == 1
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL, logging.WARNING]
    assert "disk is full" in caplog.records[0].__dict__["fields"]["problem"]


async def test_a_record_that_reached_supabase_needs_no_disk(path: Path, disk: Disk, outbox: Outbox) -> None:
    disk.error = full()
    put = asyncio.create_task(outbox.put(outcome()))
    await until(lambda: outbox.problem)
    done = asyncio.ensure_future(outbox.done([outbox.pending(1)[0][0]]))
    await asyncio.wait_for(put, 5)
    assert not done.done()
    disk.error = None
    await asyncio.wait_for(done, 5)
    assert on_disk(path) == []


async def test_closing_on_a_full_disk_ends_and_tells_who_waits(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(path, retry_seconds=60.0)
    disk = Disk(monkeypatch)
    disk.error = full()
    put = asyncio.create_task(outbox.put(outcome()))
    await until(lambda: outbox.problem)
    await asyncio.wait_for(outbox.close(), 5)
    with pytest.raises(OutboxUnusable, match="disk is full"):
        await put
    with pytest.raises(OutboxUnusable, match="closed"):
        await outbox.put(outcome())
    await outbox.close()
    assert caplog.records[-1].__dict__["fields"]["records"] == 1


async def test_closing_gives_a_mended_disk_one_last_try(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox(path, retry_seconds=60.0)
    disk = Disk(monkeypatch)
    disk.error = full()
    put = asyncio.create_task(outbox.put(outcome()))
    await until(lambda: outbox.problem)
    disk.error = None
    await asyncio.wait_for(outbox.close(), 5)
    await put
    assert len(on_disk(path)) == 1


@pytest.mark.parametrize("damage", ["no database at all" * 100, ""])
async def test_a_damaged_file_is_moved_aside_and_said(
    path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    first = Outbox(path)
    for _ in range(200):
        await first.put(outcome())
    await first.close()
    whole = path.read_bytes()
    path.write_bytes(damage.encode() if damage else whole[: len(whole) // 2] + b"\x5a" * (len(whole) // 2))
    again = Outbox(path)
    assert again.count == 0
    await again.put(outcome())
    await again.close()
    (aside,) = path.parent.glob("outbox.sqlite3.damaged-*")
    assert aside.stat().st_size > 0
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
    assert len(on_disk(path)) == 1


async def test_a_file_that_breaks_while_running_is_written_anew_from_memory(
    path: Path, outbox: Outbox, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    await outbox.put(outcome(reason="before"))
    await outbox.put(outcome(reason="gone"))
    await outbox.note_claim_number(12)
    disk.break_next = path
    await outbox.put(outcome(reason="while broken"))
    assert [record.__dict__["event"] for record in caplog.records] == ["outbox.stuck", "outbox.damaged", "outbox.well"]
    await outbox.done([outbox.pending(2)[1][0]])
    assert outbox.problem is None
    assert [body["reason"] for _, body in outbox.pending(9)] == ["before", "while broken"]
    await outbox.close()
    again = Outbox(path)
    assert [body["reason"] for _, body in again.pending(9)] == ["before", "while broken"]
    assert again.highest_claim_number == 12
    await again.close()
    assert len(list(path.parent.glob("outbox.sqlite3.damaged-*"))) == 1


async def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("pragma user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(OutboxUnusable, match="newer version"):
        Outbox(path)
    assert path.read_bytes() == before


async def test_a_place_that_cannot_be_written_says_what_it_must_be(tmp_path: Path) -> None:
    with pytest.raises(OutboxUnusable, match="STATE_DIR must be on a disk"):
        Outbox(tmp_path / "absent" / "outbox.sqlite3")


async def test_every_commit_is_synced(path: Path, outbox: Outbox) -> None:
    # Through the outbox's own thread, where its connection lives.
    ask = outbox._thread.submit
    assert ask(lambda: outbox._db.execute("pragma synchronous").fetchone()).result() == (2,)
    assert ask(lambda: outbox._db.execute("pragma journal_mode").fetchone()).result() == ("wal",)
