"""What `status` calls a problem, and what it does not."""

from typing import Any

import pytest

from adapter.commands.view.problems import notes, problems
from adapter.supabase_io.sights import Links
from tests.commands.facts import NOW, OTHER, SOUND, TRUNK, hold, link, overview, sight

DUE = {"queued": 7, "due": 7, "due_since": NOW - 300}


def links(*adapters: Any, holds: Any = SOUND.holds) -> Links:
    return Links(adapters=adapters, holds=holds)


def test_a_sound_system_has_none() -> None:
    seen = overview(queue={**DUE, "due_since": NOW - 20}, air={"dialing": 3, "talking": 40})
    assert (problems(seen), notes(seen)) == ((), ())
    # Rows wait for hours behind a limit, and that is no fault.
    assert problems(overview(queue={**DUE, "due_since": NOW - 9000}, air={"talking": 50})) == ()
    ended = sight(status="done", outcome="busy", ended_at=NOW - 5)
    assert problems(overview(queue={**DUE, "due_since": NOW - 9000}, last=(ended,))) == ()


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        ("no adapter was ever started", {"links": Links()}),
        ("trunk A cools down: 5 of its last 7", {"trunks": ("trunk A cools down: 5 of its last 7 calls failed",)}),
        ("7 rows are due", {"links": Links(), "queue": DUE}),
        ("10,000 or more rows are due", {"links": Links(), "queue": {**DUE, "due": 10_000}}),
        ("adapter 1a2b3c4d is silent, heard of 5 min 00 s ago; 7 rows are due", {
            "links": links(link(heard=300)), "queue": DUE}),
        ("silent, heard of never", {"links": links(link(heard=None))}),
        ("silent, heard of 12 d", {"links": links(link(heard=86_400 * 12 + 1))}),
        ("is not ready: the trunk is down", {"links": links(link(ready=False, problem="the trunk is down"))}),
        ("is not ready: it is connecting", {"links": links(link(ready=False))}),
        ("holds back: the AI is away", {"links": links(link(problem="the AI is away"))}),
        ("its holder 9f8e7d6c is silent and its lease lapsed; adapter 1a2b3c4d takes", {
            "links": links(link(), link(OTHER, heard=90), holds=(hold(OTHER, left=-30),))}),
        ("its lease runs until", {"links": links(link(), link(OTHER, heard=45), holds=(hold(OTHER, left=15),))}),
        ("7 rows due for 5 min 00 s, an adapter is ready, and nothing is dialed", {"queue": DUE}),
        ("2 calls are past the longest life", {"air": {"talking": 2, "overdue": 2}}),
        ("1 row has expired and not ended", {"queue": {"queued": 1, "expired": 1}}),
        ("could not take 2 records", {"links": links(link(refused=2))}),
        ("different trunks: SIP-TRUNK-0123ABCD, SIP-TRUNK-9", {
            "links": links(link(), link(OTHER, trunk="SIP-TRUNK-9"))}),
        (f"trunk {TRUNK} is dialed under the names office, pbx.example.com", {
            "links": links(link(), link(OTHER, pbx="pbx.example.com"),
                           holds=(hold(), hold(OTHER, pbx="pbx.example.com")))}),
        ("reads numbers as of SG, the database as of MY", {"links": links(link(region="SG"))}),
    ],
)  # fmt: skip
def test_each_problem_in_words(words: str, facts: dict[str, Any]) -> None:
    found = problems(overview(**facts))
    assert len(found) == 1, found
    assert words in found[0]


@pytest.mark.parametrize(
    "adapters",
    [
        # A STATE_DIR that was lost leaves its old identity behind; its PBX is served by the new one.
        (link(), link(OTHER, heard=600)),
        # A PBX that was given up or renamed long ago.
        (link(), link(OTHER, heard=90_000, pbx="old")),
        # A witness beside the holder.
        (link(), link(OTHER)),
    ],
)
def test_what_is_no_problem(adapters: tuple[Any, ...]) -> None:
    assert problems(overview(links=Links(adapters=adapters, holds=SOUND.holds))) == ()


def test_notes_need_nobody() -> None:
    two = links(link(bell="the key is refused"), link(OTHER, version="0.2.0"))
    seen = overview(links=two, queue={"queued": 3, "paused": 3})
    assert problems(seen) == ()
    assert [note.split(":")[0] for note in notes(seen)] == [
        "3 rows wait because the user or campaign is paused",
        "adapter 1a2b3c4d hears no inserts, its sweep finds rows all the same",
        "adapters of different versions run",
    ]
