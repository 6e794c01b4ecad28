"""docs/dashboard.md: each of its SQL blocks, run in the order of the page."""

from tests.supabase.helpers import USER, Desk
from tests.test_guide import ROOT, blocks

TEXT = (ROOT / "docs" / "dashboard.md").read_text(encoding="utf-8")
CAMPAIGN = "00000000-0000-4000-8000-0000000000c1"

(
    QUEUE, LATER, WHY, LIVE, OVERVIEW, TODAY, PROBLEMS, CANCEL, CANCEL_ALL, PAUSE, RESUME, AGAIN,
) = blocks(TEXT, "sql")  # fmt: skip


async def test_queue_look_cancel_and_call_again(desk: Desk) -> None:
    run = desk.connection
    queued = await run.fetchrow(QUEUE)
    assert queued is not None
    assert (queued["status"], queued["ended_reason"]) == ("queued", None)
    row_id = str(queued["id"])
    await run.execute(LATER)
    assert {r["max_attempts"] for r in await run.fetch("select max_attempts from call_queue")} == {1, 3}
    await desk.sync()
    assert [row["reason"] for row in await run.fetch(WHY.replace("42", row_id))] == ["waits for its turn"]
    await desk.claim_one()
    assert [str(row["id"]) for row in await run.fetch(LIVE)] == [row_id]
    assert [(row["waiting"], row["live"]) for row in await run.fetch(OVERVIEW)] == [(1, 1)]
    assert [tuple(row) for row in await run.fetch(TODAY)] == [("live", 1)]
    assert await run.fetchval(CANCEL.replace("42", row_id)) == "dialing"
    assert [row["state"] for row in await run.fetch(LIVE)] == ["being hung up"]
    blocked = await desk.insert("12")
    assert [(row["kind"], row["count"]) for row in await run.fetch(PROBLEMS)] == [("blocked", 1)]
    await run.execute("update call_queue set phone_number = '0123456709' where id = $1", blocked)
    await run.execute(AGAIN.replace("42", str(blocked)))
    assert await run.fetchval("select status from call_queue order by id desc limit 1") == "queued"


async def test_cancel_all_of_a_campaign(desk: Desk) -> None:
    await desk.fill(3, campaign=CAMPAIGN)
    other = await desk.insert()
    told = await desk.connection.fetchval(CANCEL_ALL)
    while told["more"]:
        more = CANCEL_ALL.replace("'the campaign is over'", f"'the campaign is over', '{told['before']}'")
        told = await desk.connection.fetchval(more)
    rows = await desk.connection.fetch("select id, status, ended_reason from call_queue order by id")
    assert [row["status"] for row in rows] == ["canceled"] * 3 + ["queued"]
    assert rows[0]["ended_reason"] == "the campaign is over"
    assert rows[3]["id"] == other


async def test_pause_and_go_on(desk: Desk) -> None:
    await desk.fill(1, user=USER, campaign=CAMPAIGN)
    pauses, resumes = (block.replace("\n", " ").split(";")[:-1] for block in (PAUSE, RESUME))
    assert len(pauses) == len(resumes) == 3
    for pause, resume in zip(pauses, resumes, strict=True):
        await desk.connection.execute(pause)
        assert await desk.claim() == []
        await desk.connection.execute(resume)
        assert len(await desk.claim()) == 1
        await desk.fill(1, user=USER, campaign=CAMPAIGN, start=50)
        await desk.connection.execute("delete from call_queue where status <> 'queued'")
