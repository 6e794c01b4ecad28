"""The ring on disk: bounded, whole after a crash, and never in anybody's way."""

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from adapter.recorder import Exchange
from adapter.recorder.bundle import NothingThere, Wanted, made, read
from adapter.recorder.ring import SEGMENTS, Ring, folder_of, key_in, segments
from adapter.recorder.writer import MOST_WAITING, FlightRecorder

MB = 1 << 20
UUID = "0f8b6e52-7d42-4c39-9a51-0123456789ab"
EVENT = {"Event": "Newstate", "Channel": "PJSIP/SIP-TRUNK-1A2B3C4D-0000001a", "Linkedid": UUID, "ChannelState": "5"}


def _size(folder: Path) -> int:
    size = 0
    for path in segments(folder):
        with contextlib.suppress(FileNotFoundError):  # The oldest one went meanwhile.
            size += path.stat().st_size
    return size


def _recorder(state: Path, size: int = MB, ring: Callable[..., Ring] | None = None) -> FlightRecorder:
    folder = folder_of(state)
    if ring is None:
        return FlightRecorder(folder, size, version="0", settings={}, secrets=("hidden-secret",))
    return FlightRecorder(folder, size, version="0", settings={}, ring=ring)


def _events(state: Path) -> list[int]:
    return [int(line["Reason"]) for line in read(state, Wanted(since=0)).lines if "Reason" in line]


def test_ten_thousand_messages_stay_within_the_bound_and_the_newest_are_kept(tmp_path: Path) -> None:
    recorder = _recorder(tmp_path)
    for serial in range(10_000):
        recorder.ami(1, sent=False, headers={**EVENT, "Reason": str(serial)})
        if serial % 500 == 0:
            time.sleep(0.02)
            assert _size(folder_of(tmp_path)) <= MB
    recorder.close()
    assert MB * (SEGMENTS - 2) // SEGMENTS < _size(folder_of(tmp_path)) <= MB
    kept = _events(tmp_path)
    assert kept == list(range(kept[0], 10_000))
    # Each segment tells what process wrote it, however much was lost before.
    for path in segments(folder_of(tmp_path)):
        assert json.loads(path.read_bytes().splitlines()[0])["dir"] == "R"


def test_a_smaller_bound_holds_from_the_next_start(tmp_path: Path) -> None:
    for size in (4 * MB, MB):
        recorder = _recorder(tmp_path, size)
        for serial in range(18_000 if size > MB else 10):
            recorder.ami(1, sent=False, headers={**EVENT, "Reason": str(serial)})
        recorder.close()
        assert 0 < _size(folder_of(tmp_path)) <= size


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    recorder = _recorder(tmp_path)
    recorder.ami(1, sent=False, headers=EVENT)
    recorder.close()
    folder = folder_of(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert len(key_in(folder)) == 32
    assert key_in(folder) == key_in(folder)


WRITER = """
import sys, time
from pathlib import Path
from adapter.recorder.writer import FlightRecorder
recorder = FlightRecorder(Path(sys.argv[1]) / "flight", 1 << 20, version="0", settings={})
serial = int(sys.argv[2])
while True:
    recorder.ami(1, sent=False, headers={"Event": "Newstate", "Reason": str(serial)})
    serial += 1
    time.sleep(0.0005)
"""


def test_what_was_written_survives_sigkill_and_the_next_process_appends(tmp_path: Path) -> None:
    for first in (0, 500_000):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(first)])
        try:
            wanted = 0
            while wanted < 300:
                time.sleep(0.05)
                assert process.poll() is None
                if segments(folder_of(tmp_path)):
                    wanted = len([serial for serial in _events(tmp_path) if serial >= first])
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        # The kill may fall into a write; a power cut certainly does.
        newest = segments(folder_of(tmp_path))[-1]
        with newest.open("ab") as file:
            file.write(b'{"at":1,"dir":"S","Reas')
    kept = _events(tmp_path)
    old = [serial for serial in kept if serial < 500_000]
    assert old == list(range(len(old)))
    assert kept[len(old) :] == list(range(500_000, 500_000 + len(kept) - len(old)))
    record = read(tmp_path, Wanted(since=0))
    assert len(record.runs) == 2
    assert len([line for line in record.lines if "Reason" in line]) == len(kept)


def _ring(folder: Path, size: int, head: Callable[[], bytes], free: Callable[[Path], int]) -> Ring:
    return Ring(folder, size, head=head, free=free)


class _FullDisk(Ring):
    """Takes a part of a line, then nothing."""

    full = True
    tries = 0

    def _append(self, data: bytes) -> None:
        if _FullDisk.full:
            _FullDisk.tries += 1
            super()._append(data[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super()._append(data)


def test_a_full_disk_is_said_once_and_its_end_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter.recorder.writer.AGAIN_SECONDS", 0.1)
    _FullDisk.full = True
    with caplog.at_level(logging.INFO):
        recorder = _recorder(tmp_path, ring=lambda folder, size, head: _FullDisk(folder, size, head=head))
        for _ in range(30):
            recorder.ami(1, sent=False, headers=EVENT)
            time.sleep(0.02)
        assert _FullDisk.tries > 1
        assert [record.__dict__["event"] for record in caplog.records] == ["flight.failing"]
        assert "No space left" in caplog.records[0].__dict__["fields"]["problem"]
        _FullDisk.full = False
        time.sleep(0.2)
        recorder.ami(1, sent=False, headers={**EVENT, "Reason": "7"})
        recorder.close()
    assert [record.__dict__["event"] for record in caplog.records] == ["flight.failing", "flight.again"]
    assert _events(tmp_path) == [7]
    lines = read(tmp_path, Wanted(since=0)).lines
    [lost] = [line["lost"] for line in lines if line["dir"] == "L"]
    # On a busy machine the writer may come to the last of the thirty when there is room again.
    kept = sum(line.get("Event") == EVENT["Event"] and "Reason" not in line for line in lines)
    assert lost > 0
    assert lost + kept == 30


def test_the_last_megabytes_of_the_disk_are_left_to_the_outbox(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = _recorder(tmp_path, ring=partial(_ring, free=lambda _: MB))
    recorder.ami(1, sent=False, headers=EVENT)
    recorder.close()
    assert segments(folder_of(tmp_path)) == []
    assert "32 MB" in caplog.records[0].__dict__["fields"]["problem"]


class _Stuck(Ring):
    """A disk that hangs."""

    def write(self, data: bytes) -> None:
        time.sleep(30)


async def test_a_disk_that_hangs_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter.recorder.writer.CLOSE_SECONDS", 0.2)
    recorder = _recorder(tmp_path, ring=lambda folder, size, head: _Stuck(folder, size, head=head))
    recorder.ami(1, sent=False, headers=EVENT)
    async with asyncio.timeout(5):
        while recorder._waiting:
            await asyncio.sleep(0.01)
    began = time.monotonic()
    for _ in range(MOST_WAITING + 1000):
        recorder.ami(1, sent=False, headers=EVENT)
    recorder.close()
    assert time.monotonic() - began < 2
    assert len(recorder._waiting) == MOST_WAITING
    assert recorder._lost == 1000


def test_idle_ticks_are_short_and_a_secret_in_words_is_none(tmp_path: Path) -> None:
    recorder = _recorder(tmp_path)
    tick: dict[str, Any] = {"method": "POST", "path": "/rest/v1/rpc/call_sync_v1", "seconds": 0.01, "status": 200}
    recorder.http(Exchange(**tick, asked={"p_records": [], "p_status": {"live": 0}}, told={"rows": [], "holder": True}))
    recorder.http(Exchange(**tick, asked={"p_records": [{"call_id": UUID}]}, problem="hidden-secret of 60123456700"))
    recorder.close()
    idle, failed = (line for line in read(tmp_path, Wanted(since=0)).lines)
    assert idle["idle"] is True
    assert "asked" not in idle
    assert failed["asked"] == {"p_records": [{"call_id": UUID}]}
    assert failed["problem"].startswith("<secret> of <#")
    text = made(read(tmp_path, Wanted(call_id=UUID)), Wanted(call_id=UUID), version="0", now=0)
    assert "<secret> of 12015550100" in text


def test_nothing_there_is_said_with_the_reach_of_the_record(tmp_path: Path) -> None:
    with pytest.raises(NothingThere, match="no flight record"):
        read(tmp_path, Wanted(since=0))
    recorder = _recorder(tmp_path)
    recorder.ami(1, sent=False, headers=EVENT)
    recorder.close()
    for wanted in (Wanted(until=1.0), Wanted(call_id="0f8b6e52-7d42-4c39-9a51-000000000000")):
        with pytest.raises(NothingThere, match=r"it reaches from 20\d\d-"):
            made(read(tmp_path, wanted), wanted, version="0", now=0)
