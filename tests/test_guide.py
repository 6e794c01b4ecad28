"""The owner's guide says what is so: rights, filters, defaults and SQL are held against the tables they come from."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from phonenumbers import SUPPORTED_REGIONS, connects_to_emergency_number

from adapter.core.call import AI_FAILED_WITHIN
from adapter.core.model import NumberStyle
from adapter.core.numbers import trunk_form
from adapter.core.originate import build
from adapter.core.policy import AI_FAILURES, AI_PROBE_SECONDS, AI_QUICK, AI_WINDOW
from adapter.doctor.pbx import box, user
from adapter.exits import EXIT_BUSY, EXIT_CONFIG
from adapter.pbx.rights import NEEDED, RISKY
from adapter.settings import MISSING, SETTINGS
from tests.core.test_originate import PLAN, ROW, variables
from tests.supabase.helpers import connected
from tests.supabase.test_install import INSTALL, SNAPSHOT, snapshot
from tests.support.db import APP_SCHEMA

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "guide"
PAGES = sorted(GUIDE.glob("*.md"))


def page(name: str) -> str:
    """A page of the guide."""
    return (GUIDE / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language; one that stands in a list loses its indent."""
    found = re.finditer(rf"^( *)```{language}\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{match[1]}", "", match[2], flags=re.MULTILINE) for match in found]


def rows(text: str, *columns: str) -> list[list[str]]:
    """The cells of the table with these columns."""
    head = re.escape("| " + " | ".join(columns) + " |")
    match = re.search(rf"^ *{head}\n *\|[-| ]+\|\n((?: *\|.*\n)+)", text, re.MULTILINE)
    assert match, columns
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in match[1].splitlines()]


def test_every_page_is_in_the_index_and_leads_to_the_next() -> None:
    index = page("README.md")
    order = re.findall(r"^\| \d\. \[.+?\]\((\S+)\)", index, re.MULTILINE)
    assert {*order, "README.md", "checklist.md"} == {path.name for path in PAGES}
    assert "(checklist.md)" in index
    for name, following in pairwise(order):
        assert f"]({following})" in page(name).splitlines()[-1], name


class TestPbx:
    """pbx.md against adapter/pbx/rights.py and the AMI user that the tests on a real Asterisk use."""

    CONF = (ROOT / "adapter/sandbox/asterisk/conf/pbx/manager.conf").read_text(encoding="utf-8")
    USER = CONF[CONF.index("[right](!)") : CONF.index("[@USERNAME@]")]

    def ticked(self, column: int) -> set[str]:
        table = rows(page("pbx.md"), "right", "read", "write", "for")
        assert {cell for row in table for cell in row[1:3]} == {"yes", "no"}
        return {row[0].strip("`") for row in table if row[column] == "yes"}

    def of_the_user(self, key: str) -> list[str]:
        return re.findall(rf"^{key} = (.+)$", self.USER, re.MULTILINE)

    def test_write_rights_are_those_that_actions_of_ours_need(self) -> None:
        assert self.ticked(2) == set(NEEDED.values())

    def test_rights_are_those_with_which_real_calls_are_tried(self) -> None:
        assert [self.ticked(1), self.ticked(2)] == [
            set(self.of_the_user(key)[0].split(",")) for key in ("read", "write")
        ]

    def test_the_readme_names_the_same_rights(self) -> None:
        text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
        (named,) = re.findall(r"read ((?:`\w+`(?:, )?)+); write ((?:`\w+`(?:, )?)+)\.", text)
        assert [set(re.findall(r"\w+", kind)) for kind in named] == [self.ticked(1), self.ticked(2)]

    def test_doctor_asks_for_the_same(self) -> None:
        assert [self.ticked(1), self.ticked(2)] == [user.READ, user.WRITE]
        assert list(user.FILTERS) == self.of_the_user("eventfilter")[2:]

    def test_rights_never_to_be_given(self) -> None:
        (line,) = re.findall(r"^Never tick write (.+)\. With", page("pbx.md"), re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", line)) == set(RISKY.values())

    def test_filters_are_those_with_which_real_calls_are_tried(self) -> None:
        (filters,) = [block for block in blocks(page("pbx.md"), "") if block.startswith("!Event")]
        # The first two are MikoPBX's own, which it writes for every user.
        assert filters.split("\n")[:-1] == self.of_the_user("eventfilter")[2:]


class TestSupabase:
    """The SQL of supabase.md, run as it stands there."""

    LOOK, REGION, FUNCTIONS, UNINSTALL = blocks(page("supabase.md"), "sql")

    def test_the_editor_takes_the_whole_file(self) -> None:
        """It refuses more than 0.98 MB before it even sends it (Studio's executeSql)."""
        assert len(INSTALL.encode()) < 980_000

    async def test_the_look_shows_what_the_page_says(self, db: str) -> None:
        # In one statement: the SQL editor shows the result of the last one only.
        assert self.LOOK.count(";") == 1
        async with connected(db) as connection:
            assert [tuple(row) for row in await connection.fetch(self.LOOK)] == [("+60123456700", "MY", None, 1)]
            await connection.execute(self.REGION)
            assert await connection.fetchval("select e164 from call_number_v1('9123 4567')") == "+6591234567"

    async def test_what_was_added_can_be_taken_away(self, empty_db: str) -> None:
        async with connected(empty_db) as connection:
            await connection.execute(APP_SCHEMA.read_text(encoding="utf-8"))
            before = await snapshot(connection, SHAPE)
            await connection.execute(INSTALL)
            there = await snapshot(connection, SHAPE)
            insert = "insert into call_queue (user_id, phone_number) values (gen_random_uuid(), '0123456700')"
            await connection.execute(insert)
            tables = await connection.fetch(
                "select relkind::text, count(*) from pg_class c where relnamespace = 'public'::regnamespace and "
                "relname ~ '^(do_not_)?call' and relname not in ('call_logs', 'call_costs') and relkind in ('r', 'S') "
                "and not exists (select from pg_depend where objid = c.oid and deptype = 'i') group by 1"
            )
            assert {row[0]: row[1] for row in tables} == {"r": 31, "S": 2}
            assert "It adds 31 tables (`do_not_call` and thirty whose names begin with `call_`), two sequences" in page(
                "supabase.md"
            )
            listed = {row["function"] for row in await connection.fetch(self.FUNCTIONS)}
            assert len(listed) == len(there["functions"]) - len(before["functions"])
            await connection.execute(self.UNINSTALL)
            after = await snapshot(connection, SHAPE)
            kept = {name: [row for row in after[name] if row not in before[name]] for name in SHAPE}
            assert all(row in after[name] for name in SHAPE if name != "relations" for row in before[name])
            assert [row[:2] for row in kept.pop("columns")] == [
                ("call_logs", "cost"),
                ("call_logs", "recording_url"),
                ("call_logs", "transcript"),
            ]
            assert [row[0] for row in kept.pop("indexes")] == [
                "CREATE INDEX call_logs_call_id_idx ON public.call_logs USING btree (call_id)"
            ]
            # What a table grants to service_role is the app's affair as well.
            assert {row[0] for row in kept.pop("relations")} <= {"call_logs", "campaigns", "call_logs_call_id_idx"}
            assert not any(kept.values()), kept
            assert await connection.fetchval("select count(*) from call_logs") == 0

            # And it can be had again.
            await connection.execute(INSTALL)
            assert await snapshot(connection, SHAPE) == there


SHAPE = {
    name: query
    for name, query in SNAPSHOT.items()
    if name in {"columns", "constraints", "indexes", "functions", "triggers", "policies", "relations", "publications"}
}
"""What a database is made of, without rows."""


class TestAi:
    """ai.md against core/originate.py, core/policy.py and core/call.py; tests/asterisk/test_guide.py runs its lines."""

    def test_variables_are_those_that_a_call_has(self) -> None:
        listed = rows(page("ai.md"), "variable", "holds")
        named = {name for row in listed for name in re.findall(r"`([A-Z0-9_]+)`", row[0])}
        row = replace(ROW, campaign_id="1", prompt_id="2", customer_name="Aminah")
        given = set(variables(build(row, PLAN)))
        inherited = {name.removeprefix("__") for name in given if name.startswith("__")}
        assert inherited == named
        small = {name for name in given if name.islower() and name.isidentifier() and name != "db"}
        assert small == {name.lower() for name in named if not name.endswith("_B64")}
        assert len(small) == 5  # "The first five are there in small letters, too".

    def test_the_number_it_proposes_is_no_emergency_number_anywhere(self) -> None:
        (number,) = set(re.findall(r"`AI_EXTENSION=(\d+)`", page("ai.md")))
        assert not [region for region in SUPPORTED_REGIONS if connects_to_emergency_number(number, region)]
        assert connects_to_emergency_number("999", "MY")

    def test_when_it_stops_calling(self) -> None:
        text = " ".join(page("ai.md").split())
        assert f"within {words(AI_FAILED_WITHIN)} seconds after the answer ends as `ai_failed`" in text
        told = f"{words(AI_FAILURES)} of the last {words(AI_WINDOW)} answered calls were dropped by our side within"
        assert f"{told} {words(AI_QUICK)} seconds" in text
        assert AI_PROBE_SECONDS == 60


class TestTrunk:
    """trunk.md against settings and the rule in the database."""

    TEXT = " ".join(page("trunk.md").split())

    def test_when_it_stops_calling(self) -> None:
        (migration,) = (ROOT / "supabase" / "migrations").glob("*_call_trunks.sql")
        rule = migration.read_text(encoding="utf-8")
        assert "After 20 calls in a row of which none rang" in self.TEXT
        assert "v_silent constant integer := 20;" in rule
        assert "one call in five minutes" in self.TEXT
        assert "v_every constant interval := '300 seconds';" in rule
        assert "Five failures of ten" in self.TEXT
        assert "v_failures constant integer := 5;" in rule
        quoted = re.findall(r"`([^`]+ neither rang nor were answered; ask the carrier)`", self.TEXT)
        assert quoted
        assert all(words_ in rule for words_ in quoted)

    def test_ports_are_enough_for_the_calls(self) -> None:
        for calls, *ranges in rows(page("trunk.md"), "calls at once", "AI is a program", "AI is a SIP client"):
            for streams, cell in enumerate(ranges, start=1):
                first, last = (int(port) for port in re.findall(r"\d{5}", cell))
                assert last - first >= int(calls) * streams * box.PORTS_OF_STREAM, (calls, cell)

    def test_number_styles(self) -> None:
        shown = dict(re.findall(r"`(\w+)` \((\+?\d{9,})\)", self.TEXT))
        assert set(shown) == set(NumberStyle)
        assert all(trunk_form("+60123456700", style, "MY") == number for style, number in shown.items())


STOPS = [
    statement
    for row in rows(page("first-calls.md"), "what to stop", "how", "what you see")
    for statement in re.findall(r"`((?:select|update|insert) [^`]+;)`", row[1])
]
"""One row, all that wait, one user."""

PAUSE = STOPS[-1]


class TestFirstCalls:
    """first-calls.md: what it quotes is said by the adapter, its SQL runs, its exit codes are those of exits.py."""

    TEXT = page("first-calls.md")

    def test_the_words_it_quotes_are_those_that_the_adapter_says(self) -> None:
        said = " ".join(said_by_the_adapter())
        table = rows(self.TEXT, "what you see", "look at", "mend")
        quoted = [quote for row in table for quote in re.findall(r"`([^`]+ [^`]+ [^`]+)`", row[0])]
        assert len(quoted) >= 6
        for quote in quoted:
            for part in quote.split("…"):
                assert part.strip() in said, quote

    def test_exit_codes(self) -> None:
        table = rows(self.TEXT, "what you see", "look at", "mend")
        told = {int(code) for row in table for code in re.findall(r"with code (\d+)", row[0])}
        assert told == {EXIT_CONFIG, EXIT_BUSY}

    async def test_the_batch_and_the_ways_to_stop_it(self, db: str) -> None:
        (batch,) = blocks(self.TEXT, "sql")
        one, all_that_wait, pause = STOPS
        async with connected(db) as connection:
            await connection.execute(batch)
            assert await connection.fetchval("select count(*) from call_queue where status = 'queued'") == 3
            first = await connection.fetchrow("select id, user_id::text from call_queue order by id")
            assert first is not None
            assert await connection.fetchval(one.replace("42", str(first["id"]))) == "canceled"
            await connection.execute(pause.replace("ID", first["user_id"]))
            assert await connection.fetchval("select bool_and(paused) from call_tenants") is True
            await connection.execute(all_that_wait)
            assert await connection.fetchval("select count(*) from call_queue where status = 'canceled'") == 3
            assert await connection.fetchval("select count(*) from call_logs where status = 'failed'") == 3


def said_by_the_adapter() -> Iterator[str]:
    """Every text in the sources of adapter and database; what is filled in later is left out."""
    for path in (ROOT / "adapter").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [value.value if isinstance(value, ast.Constant) else " " for value in node.values]
                yield "".join(str(part) for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    # Texts of the database, one for each literal, which may be written over several lines.
    for text in re.findall(r"'((?:[^'\n]|'')+'(?:\s*\n\s*'(?:[^'\n]|'')+')*)", INSTALL):
        yield re.sub(r"%s", " ", re.sub(r"'\s*\n\s*'", "", text).rstrip("'"))


def test_what_has_to_be_filled_in_is_listed() -> None:
    needed = {setting.name for setting in SETTINGS if setting.default is MISSING}
    listed = {name for row in rows(page("README.md"), "setting", "from") for name in re.findall(r"`([A-Z_]+)`", row[0])}
    # The key has two names, of which neither alone is required; TRUNK has a form that does without; the default of
    # STATE_DIR is for root.
    assert listed == needed | {"SUPABASE_SERVICE_ROLE_KEY", "TRUNK", "AI_EXTENSION", "STATE_DIR"}


def words(number: float) -> str:
    """A small number as prose has it."""
    return {2: "two", 5: "five", 6: "six", 10: "ten"}[int(number)]


DEFAULTS = {
    "trunk.md": {"MAX_CALLS": r"`MAX_CALLS` \(default (\d+)\)"},
    "supabase.md": {
        "SWEEP_SECONDS": r"`SWEEP_SECONDS` \((\d+) seconds\)",
        "DEFAULT_REGION": r"read as those of `(\w+)`",
    },
    "pbx.md": {"MIKOPBX_AMI_PORT": r"ssh -N -L (\d+):", "DIAL_FORM": r"\| `(\w+)` \(default\)"},
    "ai.md": {"AI_EXTENSION": r"The app's own is (\d+)\."},
    "README.md": {"STATE_DIR": r"The default, `(\S+)`, is right in Docker"},
}
"""Defaults that a page tells, and where."""


@pytest.mark.parametrize(
    ("name", "setting", "pattern"), [(name, *item) for name, told in DEFAULTS.items() for item in told.items()]
)
def test_defaults_are_told_right(name: str, setting: str, pattern: str) -> None:
    (default,) = [str(row.default) for row in SETTINGS if row.name == setting]
    told = set(re.findall(pattern, page(name)))
    assert told == {default.removesuffix(".0")}


@pytest.mark.parametrize("path", PAGES, ids=[path.name for path in PAGES])
def test_nothing_real_stands_in_a_page(path: Path) -> None:
    """No host, address or number that belongs to somebody."""
    text = path.read_text(encoding="utf-8")
    for host in re.findall(r"(?<![\w.-])[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|net|org|my|co)\b", text):
        assert host.endswith("example.com") or host in {"supabase.co"}, host
    for address in re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", text):
        assert address.startswith(("192.0.2.", "127.0.0.1")) or f"`{address}/0`" in text, address
    for number in re.findall(r"\+?\b6?01[0-9][0-9 -]{6,10}\b", text):
        assert re.sub(r"\D", "", number).startswith(("60123456", "0123456", "6011", "011")), number
