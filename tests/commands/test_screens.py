"""What is drawn: numbers hidden, nothing lost, and the same facts as JSON."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType
from rich.spinner import Spinner

from adapter.commands.view import objects, screens, words
from adapter.commands.view.steps import Story
from adapter.supabase_io.sights import Links
from tests.commands.facts import NOW, OTHER, SOUND, following, link, live, over, overview

FULL = overview(
    links=Links(adapters=(link(), link(OTHER, heard=400, pbx="old")), holds=SOUND.holds),
    queue={"queued": 12, "due": 4, "due_since": NOW - 30, "paused": 2, "next_at": NOW + 60},
    air={"dialing": 1, "talking": 2, "settling": 1, "claimed_at": NOW},
    ended={"total": 3, "outcomes": {"busy": 1, "answered": 2}},
    calls=(live(), live(row_id=43, status="talking", answered_at=NOW - 12, call_id=OTHER)),
    last=(
        over("answered", "answered; the callee hung up", row_id=7, talk_seconds=63),
        over("blocked", "[bold]+60123456700[/] is no number", row_id=8, e164=None, phone_number="12345678"),
    ),
)


def drawn(shown: RenderableType, *, width: int = 160, terminal: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, force_terminal=terminal).print(shown)
    return out.getvalue()


def test_everything_is_on_the_screen() -> None:
    text = drawn(screens.status_screen(FULL, full=False))
    for part in (
        "1 problem", "PBX old: adapter 9f8e7d6c is silent", "2 rows wait because",
        "1a2b3c4d  office  dials   2 of 50", "2 s ago", "2 h 00 min", "run 3",
        "12 rows; 4 are due, the longest for 30 s; 2 are paused", "1 dialing, 2 talking, 1 over",
        "3 rows ended: 2 answered, 1 busy", "and 2 more", "talking  12 s", "1 min 03 s", "[bold]",
    ):  # fmt: skip
        assert part in text, text
    assert "all well" in drawn(screens.status_screen(overview(), full=False))
    assert "No adapter is known" in drawn(screens.status_screen(overview(links=Links()), full=False))


def test_numbers_are_hidden_unless_asked_for() -> None:
    hidden = drawn(screens.status_screen(FULL, full=False)) + json.dumps(objects.status_object(FULL, full=False))
    for digits in ("0123456", "60123", "12345678"):
        assert digits not in hidden
    assert "…700" in hidden
    for shown in (
        drawn(screens.status_screen(FULL, full=True)),
        json.dumps(objects.status_object(FULL, full=True)),
    ):
        assert "+60123456700" in shown
        assert "12345678" in shown


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_narrow_terminal_folds_and_loses_no_row(width: int) -> None:
    text = drawn(screens.status_screen(FULL, full=False), width=width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "43" in text


def test_the_object_holds_what_the_screen_shows() -> None:
    found = json.loads(json.dumps(objects.status_object(FULL, full=False)))
    assert (found["well"], len(found["problems"]), len(found["notes"])) == (False, 1, 1)
    assert found["now"].startswith("2026-11-25T")
    assert found["queue"]["due_since"] == "2026-11-25T09:46:10.000000+00:00"
    assert found["calls"][0]["number"] == "…700"
    assert found["links"]["adapters"][0]["seen_at"].startswith("2026-")
    assert objects.silent_object("away") == {"well": False, "problems": ["away"], "notes": []}

    def numbers(value: object) -> list[float]:
        if isinstance(value, dict):
            return [number for item in value.values() for number in numbers(item)]
        if isinstance(value, list):
            return [number for item in value for number in numbers(item)]
        return [value] if isinstance(value, float) else []

    assert numbers(found) == []  # Every instant has become a text.


def test_a_call_on_the_screen() -> None:
    story, spinner = Story(), Spinner("dots")
    seen = following(live(originated_at=NOW - 2))
    story.tell(seen)
    text = drawn(screens.call_screen(story, seen, spinner, "not seen now"), terminal=True)
    for part in ("queued", "claimed", "dialing or ringing for 3 s", "held by adapter 1a2b3c4d", "not seen now"):
        assert part in text
    done = following(over("busy", "the [line] was busy"))
    story.tell(done)
    text = drawn(screens.call_screen(story, done, spinner))
    assert "the [line] was busy" in text
    assert "held by" not in text
    assert screens.through(following(links=Links())) == "no adapter holds a PBX"
    elsewhere = replace(done, row=replace(done.row, pbx="elsewhere"))
    assert screens.through(elsewhere) == "no adapter holds a PBX"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-5, "0 s"), (59.9, "59 s"), (61, "1 min 01 s"), (3660, "1 h 01 min"), (90_000, "1 d 1 h")],
)
def test_spans(seconds: float, shown: str) -> None:
    assert words.span(seconds) == shown


def test_a_number_of_three_digits_is_hidden_whole() -> None:
    assert words.number(None, "999", full=False) == "…"
    assert words.number(None, "012-345 6700", full=True) == "012-345 6700"
