"""The rules of the claim as a whole: what is kept of them, and that whoever asks hears what the claim does."""

from tests.supabase.helpers import OTHER, Connection, Desk, number, outcome, release


async def dials(connection: Connection) -> list[tuple[str, str | None]]:
    """Number and trunk of each call that is remembered."""
    found = await connection.fetch("select e164, trunk from public.call_dials order by claimed_at, call_id")
    return [(row["e164"], row["trunk"]) for row in found]


async def test_a_call_is_remembered_and_a_released_one_is_not(desk: Desk) -> None:
    row_id = await desk.insert(number(1))
    claimed = await desk.claim_one()
    kept = await desk.connection.fetchrow("select * from public.call_dials")
    assert kept is not None
    assert (str(kept["call_id"]), kept["row_id"]) == (claimed["call_id"], row_id)
    assert await dials(desk.connection) == [(number(1), "SIP-TRUNK-1")]
    await desk.sync([release(claimed["call_id"])])
    assert await dials(desk.connection) == []
    again = await desk.claim_one()
    await desk.sync([outcome(again["call_id"], "busy")])
    assert await dials(desk.connection) == [(number(1), "SIP-TRUNK-1")]


async def test_calls_of_a_month_ago_are_forgotten_a_piece_at_a_time(desk: Desk) -> None:
    await desk.connection.execute(
        "insert into public.call_dials (call_id, row_id, user_id, e164, claimed_at) "
        "select gen_random_uuid(), n, $1, '+60123456700', now() - make_interval(days => 29 + n % 3) "
        "from generate_series(1, 450) n",
        OTHER,
    )
    left = []
    for _ in range(4):
        await desk.sync()
        left.append(len(await dials(desk.connection)))
    assert left == [350, 250, 150, 150]


async def test_a_row_that_was_put_off_says_why_until_it_is_claimed(desk: Desk) -> None:
    await desk.insert(number(1))
    first = await desk.claim_one()
    row_id = await desk.insert(number(1), user_id=OTHER)
    assert await desk.claim() == []
    assert (await desk.row(row_id))["wait_reason"] == "another call to this number is going on"
    await desk.sync([outcome(first["call_id"], "no_answer")])
    await desk.due()
    await desk.claim_one()
    assert (await desk.row(row_id))["wait_reason"] is None


async def test_of_two_pbxs_that_which_may_dial_the_row_answers(desk: Desk) -> None:
    async def why(row_id: int | None) -> str | None:
        words: str | None = await desk.connection.fetchval("select public.call_why_waits_v1($1)", row_id)
        return words

    other_way = await desk.insert(number(1), trunk="SIP-TRUNK-2")
    assert await why(other_way) is None  # Nobody who would dial it was heard of.
    await desk.sync()
    assert await why(other_way) == "the trunk SIP-TRUNK-2 is not known"
    second = Desk(desk.connection, pbx="pbx-2", status={"trunk": "SIP-TRUNK-2"})
    await second.register()
    await second.sync()
    assert await why(other_way) is None
    assert await why(await desk.insert(number(2))) is None
    assert await why(None) is None
    await desk.claim()
    words = "it is for trunk SIP-TRUNK-2, through which another adapter dials; PBX pbx-2 may take it"
    assert (await desk.row(other_way))["wait_reason"] == words
