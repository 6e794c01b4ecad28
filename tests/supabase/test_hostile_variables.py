"""Variables that are fine JSON to the database and that no parser of an adapter reads: they end their own row only."""

from typing import Any

import pytest

from tests.supabase.helpers import Desk, number

FIT = "must be a text, a number of at most 100 digits, true, false or null"

UNFIT: dict[str, str] = {
    "a number without end": '{"n": ' + "9" * 5000 + "}",
    "a number written short": '{"n": 1e1500}',
    "lists in lists": '{"n": ' + "[" * 3000 + "]" * 3000 + "}",
    "an object": '{"n": {"m": 1}}',
}


async def _insert(desk: Desk, serial: int, variables: str = "{}") -> int:
    row: int = await desk.connection.fetchval(
        "insert into call_queue (user_id, phone_number, variables) values (gen_random_uuid(), $1, $2::text::jsonb) "
        "returning id",
        number(serial),
        variables,
    )
    return row


async def _blocked(desk: Desk, row: int) -> str:
    """Why a row is blocked. The row as a whole is what no parser reads."""
    reason: str = await desk.connection.fetchval(
        "select ended_reason from call_queue where id = $1 and status = 'done' and outcome = 'blocked'", row
    )
    return reason


@pytest.mark.parametrize("variables", UNFIT.values(), ids=UNFIT)
async def test_what_no_adapter_could_read_ends_at_insert(desk: Desk, variables: str) -> None:
    bad, good = await _insert(desk, 1, variables), await _insert(desk, 2)
    assert FIT in await _blocked(desk, bad)
    assert [row["row_id"] for row in await desk.claim()] == [good]


@pytest.mark.parametrize("variables", UNFIT.values(), ids=UNFIT)
async def test_what_was_edited_so_ends_at_the_claim_and_costs_no_other_row(desk: Desk, variables: str) -> None:
    bad, good = await _insert(desk, 1), await _insert(desk, 2)
    await desk.connection.execute("update call_queue set variables = $1::text::jsonb where id = $2", variables, bad)
    rows = await desk.claim()
    assert [row["row_id"] for row in rows] == [good]
    assert FIT in await _blocked(desk, bad)


@pytest.mark.parametrize("variables", [*UNFIT.values(), "[1]", '"x"'])
async def test_a_live_call_is_found_again_whatever_was_written_into_it(desk: Desk, variables: str) -> None:
    await _insert(desk, 1, '{"LANG": "ms"}')
    claimed = await desk.claim_one()
    assert claimed["variables"] == {"LANG": "ms"}
    await desk.connection.execute("update call_queue set variables = $1::text::jsonb", variables)
    (found,) = (await desk.register())["open"]
    assert found["row"] == {**claimed, "variables": {}}


@pytest.mark.parametrize("value", ["9" * 100, '"' + "9" * 5000 + '"', "null", "true", "-1.5e10"])
async def test_what_an_adapter_can_read_is_claimed(desk: Desk, value: str) -> None:
    await _insert(desk, 1, '{"n": ' + value + "}")
    variables: dict[str, Any] = (await desk.claim_one())["variables"]
    assert list(variables) == ["n"]
