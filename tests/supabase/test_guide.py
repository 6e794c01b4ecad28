"""The guide's way to pause one user."""

from tests.supabase.helpers import OTHER, USER, Desk
from tests.test_guide import PAUSE


async def test_a_user_who_was_never_dialed_can_be_paused_and_let_go_on(desk: Desk) -> None:
    await desk.fill(3, user=USER)
    await desk.fill(2, user=OTHER, start=100)
    pause = PAUSE.replace("ID", str(USER))
    resume = pause.replace("call_pause_v1", "call_resume_v1")
    await desk.connection.execute(pause)
    assert {row["user_id"] for row in await desk.claim()} == {str(OTHER)}
    await desk.connection.execute(resume)
    assert {row["user_id"] for row in await desk.claim()} == {str(USER)}
    await desk.fill(3, user=USER, start=200)
    await desk.connection.execute(pause)
    assert await desk.claim() == []
    await desk.connection.execute(resume)
    assert len(await desk.claim()) == 3
