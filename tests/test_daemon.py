"""The daemon's page of life with its parts replaced: whoever dies ends the process, with the code that tells which."""

import asyncio
import gc
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from adapter.cli import main
from adapter.core.model import (
    AnsweredMark,
    CallTimes,
    Channel,
    Ending,
    Form,
    OpenCall,
    Outcome,
    OutcomeRecord,
    ReleaseCause,
    ReleaseRecord,
    Way,
)
from adapter.core.routes import Routes, Step
from adapter.daemon import Daemon, Parts
from adapter.exits import EXIT_BUSY, EXIT_CONFIG, EXIT_WEDGED
from adapter.settings import read
from adapter.supabase_io import outbox_file
from adapter.supabase_io.database import DatabaseAway, SyncReply, SyncRequest
from adapter.supabase_io.outbox import Outbox
from tests.support.doubles import HandLink, ScriptedDatabase, SilentBell, reply, row
from tests.test_settings import REQUIRED

Run = Callable[[], Coroutine[Any, Any, None]]


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _daemon(
    tmp_path: Path, *, link: Run = _for_ever, bell: Run = _for_ever, **answers: Any
) -> tuple[int, Daemon]:
    hand, silent, database = HandLink(), SilentBell(), ScriptedDatabase()
    hand.run = link  # type: ignore[attr-defined]  # The doubles have no life of their own.
    silent.run = bell  # type: ignore[attr-defined]
    if answers:
        database.answers.append(reply(**answers))
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    parts = Parts(outbox=outbox, database=cast("Any", database), link=cast("Any", hand), doorbell=cast("Any", silent))
    daemon = Daemon(read(REQUIRED), parts, 1, ())
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(1.0, stop.set)
    try:
        return await asyncio.wait_for(daemon.run(stop), 20), daemon
    finally:
        await outbox.close()


async def test_an_outage_is_told_where_it_can_be_read(tmp_path: Path) -> None:
    """The health file tells of it; a heartbeat that arrives is the proof of the contrary."""
    hand, database = HandLink(), ScriptedDatabase()
    hand.run = _for_ever  # type: ignore[attr-defined]
    bell = SilentBell()
    bell.run = _for_ever  # type: ignore[attr-defined]
    told: list[object] = []

    def away(request: SyncRequest) -> SyncReply:
        raise DatabaseAway("no answer within 10 s")

    def back(request: SyncRequest) -> SyncReply:
        told.append(daemon.status()["problem"])
        stop.set()
        return reply()

    database.answers.extend([away, back])
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    parts = Parts(outbox=outbox, database=cast("Any", database), link=cast("Any", hand), doorbell=cast("Any", bell))
    daemon, stop = Daemon(read(REQUIRED), parts, 1, ()), asyncio.Event()
    try:
        assert await asyncio.wait_for(daemon.run(stop), 20) == 0
    finally:
        await outbox.close()
    assert told == ["no answer within 10 s"]
    assert all("no answer" not in str(request.status["problem"]) for request in database.requests)


async def test_a_call_whose_end_waits_to_be_told_is_not_looked_for(tmp_path: Path) -> None:
    """Killed between the outbox and Supabase: the database still holds these calls open."""
    hand, bell = HandLink(), SilentBell()
    hand.run = bell.run = _for_ever  # type: ignore[attr-defined]
    released, ended, open_still, unsure = (OpenCall(row=row(serial), incarnation=1) for serial in range(1, 5))
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    await outbox.put(ReleaseRecord(call_id=released.row.call_id, cause=ReleaseCause.PBX_ERROR, reason="shutting down"))
    for call, outcome in ((ended, Outcome.BUSY), (unsure, Outcome.UNKNOWN)):
        ending = Ending(outcome=outcome, reason="test", times=CallTimes(ended_at=1000.0))
        await outbox.put(OutcomeRecord(call_id=call.row.call_id, ending=ending, log_status="failed", trunk=""))
    await outbox.put(AnsweredMark(call_id=open_still.row.call_id, times=CallTimes(answered_at=1000.0)))
    database = ScriptedDatabase()
    database.answers.append(DatabaseAway("no answer yet"))
    parts = Parts(outbox=outbox, database=cast("Any", database), link=cast("Any", hand), doorbell=cast("Any", bell))
    daemon = Daemon(read(REQUIRED), parts, 2, (released, ended, open_still, unsure))
    stop = asyncio.Event()
    running = asyncio.create_task(daemon.run(stop))
    try:
        await asyncio.sleep(0.1)
        assert daemon.status()["live"] == 2
    finally:
        stop.set()
        await asyncio.wait_for(running, 20)
        await outbox.close()


async def test_supabase_is_asked_at_once_when_the_disk_is_slow_to_take_an_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would wait for the next sweep, and the follower with it."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("adapter.daemon.DISK_SECONDS", 0.1)
    hand, bell, database = HandLink(), SilentBell(), ScriptedDatabase()
    hand.run = bell.run = _for_ever  # type: ignore[attr-defined]
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    monkeypatch.setattr(outbox_file, "commit", full)
    parts = Parts(outbox=outbox, database=cast("Any", database), link=cast("Any", hand), doorbell=cast("Any", bell))
    daemon = Daemon(read({**REQUIRED, "SWEEP_SECONDS": "20"}), parts, 1, ())
    stop = asyncio.Event()
    running = asyncio.create_task(daemon.run(stop))
    try:
        await asyncio.sleep(0.2)
        record = ReleaseRecord(call_id=row(1).call_id, cause=ReleaseCause.NOT_SENT, reason="test")
        await asyncio.wait_for(daemon._store([record]), 5)
        assert [body["call_id"] for request in database.requests for _, body in request.records] == [record.call_id]
    finally:
        stop.set()
        await asyncio.wait_for(running, 20)
        await outbox.close()


async def test_nobody_waits_for_a_disk_after_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Canceled while an outcome waits for a full disk: the outbox tells of the loss, no task of ours does so again."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    monkeypatch.setattr(outbox_file, "commit", full)
    hand, bell, database = HandLink(), SilentBell(), ScriptedDatabase()
    parts = Parts(outbox=outbox, database=cast("Any", database), link=cast("Any", hand), doorbell=cast("Any", bell))
    daemon = Daemon(read(REQUIRED), parts, 1, ())
    record = ReleaseRecord(call_id=row(1).call_id, cause=ReleaseCause.NOT_SENT, reason="test")
    storing = asyncio.create_task(daemon._store([record]))
    await asyncio.sleep(0.05)
    storing.cancel()
    await asyncio.gather(storing, return_exceptions=True)
    assert outbox.count == 1, "it is kept all the same"
    await outbox.close()
    await asyncio.sleep(0)
    del storing
    gc.collect()
    assert complaints == []


async def test_a_stop_ends_with_code_0(tmp_path: Path) -> None:
    code, _ = await _daemon(tmp_path)
    assert code == 0


async def test_a_part_that_raises_ends_the_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise LookupError("a bug")

    with caplog.at_level(logging.CRITICAL):
        code, _ = await _daemon(tmp_path, link=broken)
    assert code == EXIT_WEDGED
    assert "pbx link" in caplog.text
    assert "a bug" in caplog.text


async def test_a_part_that_returns_ends_the_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def over() -> None:
        return

    with caplog.at_level(logging.CRITICAL):
        code, _ = await _daemon(tmp_path, bell=over)
    assert code == EXIT_WEDGED
    assert "doorbell" in caplog.text


async def test_a_newer_process_ends_this_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        code, _ = await _daemon(tmp_path, fenced=True)
    assert code == EXIT_BUSY
    assert "newer process" in caplog.text


async def test_the_heartbeat_tells_what_waits_and_what_was_refused(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    for serial in (1, 2, 3):
        release = ReleaseRecord(call_id=row(serial).call_id, cause=ReleaseCause.NOT_SENT, reason="test")
        await outbox.put(release)
    await outbox.refuse(1, "no such kind")
    await outbox.close()
    _, daemon = await _daemon(tmp_path)
    first = cast("Any", daemon._parts.database).requests[0]
    assert first.status["outbox"] == {"waiting": 2, "refused": 1}


def _command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "adapter.cli", *arguments],
        env={**kept, **environ},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_wrong_settings_are_told_all_at_once_without_a_traceback() -> None:
    done = _command("run", TRUNK="my carrier", MAX_CALLS="many")
    assert done.returncode == EXIT_CONFIG
    assert "Traceback" not in done.stderr
    for name in ("SUPABASE_URL", "MIKOPBX_HOST", "TRUNK", "MAX_CALLS"):
        assert name in done.stderr


def test_who_charges_must_be_chosen_before_anything_is_dialed(tmp_path: Path) -> None:
    environ = {name: value for name, value in REQUIRED.items() if name != "BILLING"}
    done = _command("run", **{**environ, "STATE_DIR": str(tmp_path)})
    assert done.returncode == EXIT_CONFIG
    assert "Traceback" not in done.stderr
    for words in ("BILLING is missing", "off:", "minutes:"):
        assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_anon_key_is_refused_in_words(tmp_path: Path) -> None:
    done = _command("run", **{**REQUIRED, "SUPABASE_SERVICE_ROLE_KEY": "sb_publishable_x", "STATE_DIR": str(tmp_path)})
    assert done.returncode == EXIT_CONFIG
    assert "Traceback" not in done.stderr
    assert "sb_publishable_x" not in done.stderr


def test_a_state_dir_that_cannot_be_used_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    done = _command("run", **{**REQUIRED, "SUPABASE_SERVICE_ROLE_KEY": "sb_secret_x", "STATE_DIR": str(file)})
    assert done.returncode == EXIT_CONFIG
    assert "Traceback" not in done.stderr
    assert "STATE_DIR" in done.stderr


def test_rt_27_a_socks_proxy_in_the_environment_is_refused_without_a_traceback(tmp_path: Path) -> None:
    done = _command("run", **{**REQUIRED, "STATE_DIR": str(tmp_path)}, ALL_PROXY="socks5://127.0.0.1:9")
    assert done.returncode == EXIT_CONFIG
    assert "Traceback" not in done.stderr
    assert "NO_PROXY" in done.stderr


async def test_ten_08_a_stop_while_supabase_does_not_answer_is_quick(tmp_path: Path) -> None:
    """The wait between two tries to register is up to 15 s; SIGTERM ends it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    settings = {**REQUIRED, "SUPABASE_URL": "http://127.0.0.1:9", "STATE_DIR": str(tmp_path), "LOG_FORMAT": "human"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapter.cli", "run"),
        env={**kept, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while b"Waiting for Supabase" not in await process.stdout.readline():
            pass
    await asyncio.sleep(2.0)  # By now it waits for seconds, most of the time.
    process.terminate()
    async with asyncio.timeout(3):
        await process.communicate()
    assert process.returncode == 0


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for argument in ("--version", "--help"):
        with pytest.raises(SystemExit) as ended:
            main([argument])
        assert ended.value.code == 0
    assert "mikopbx-adapter" in capsys.readouterr().out


def test_the_sandbox_extra_is_asked_for_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "adapter.sandbox.app", None)
    assert main(["sandbox"]) == 1
    assert "mikopbx-adapter[sandbox]" in capsys.readouterr().err


async def test_the_heartbeat_tells_of_each_trunk_and_of_the_legs_that_are_not_ours(tmp_path: Path) -> None:
    hand, outbox = HandLink(), Outbox(tmp_path / "outbox.sqlite3")
    parts = Parts(
        outbox=outbox,
        database=cast("Any", ScriptedDatabase()),
        link=cast("Any", hand),
        doorbell=cast("Any", SilentBell()),
    )
    own = REQUIRED["TRUNK"]
    daemon = Daemon(read({**REQUIRED, "TRUNK_CHANNELS": "20"}), parts, 1, ())
    try:
        assert daemon.heartbeat()["trunks"] == {}  # Nothing was looked at: nothing may be claimed.
        assert daemon.heartbeat()["reserved"] == 2
        assert daemon.heartbeat()["countries"] == ["MY"]
        assert daemon.heartbeat()["caps"] == daemon._settings.caps
        hand.trunks = {own: None}
        assert daemon.heartbeat()["trunks"] == {own: {"problem": None, "room": 1, "foreign": 0, "max_channels": 20}}
        daemon._know((Way(id="A"), Way(id="B"), Way(id="r", form=Form.ROUTE)), {"bad": "why"})
        assert hand.known == [({"A": Form.TRUNK, "B": Form.TRUNK, "r": Form.ROUTE}, {"bad": "why"})]
        hand.trunks = {"A": None, "B": "down", "r": None, "bad": "why"}
        hand.routes = Routes.read([Step("Goto", "B-1-outgoing,${EXTEN},1"), Step("Goto", "C-2-outgoing,${EXTEN},1")])
        names = ("A-00000001", "A-00000002", "B-00000003", "C-00000004", "201-00000005")
        legs = [Channel(name=f"PJSIP/{n}", uniqueid=n, linkedid=n, up=True, duration=1) for n in names]
        hand.legs.on_list(legs)
        told = daemon.heartbeat()["trunks"]
        assert told == {
            "A": {"problem": None, "room": 1, "foreign": 2},
            "B": {"problem": "down", "room": 1, "foreign": 1},
            "r": {"problem": None, "room": 1, "foreign": 2},
            "bad": {"problem": "why", "room": 0, "foreign": 0},
        }
        ours = OpenCall(row=row(1, call_id="11111111-1111-4111-8111-111111111111", way=Way(id="A")), incarnation=1)
        daemon._follower.adopt([ours], ours=True)
        mine = replace(legs[0], linkedid=ours.row.call_id)
        hand.legs.on_list([mine, *legs[1:]])
        assert cast("Any", daemon.heartbeat()["trunks"])["A"]["foreign"] == 1
    finally:
        await outbox.close()
