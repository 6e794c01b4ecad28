"""The documentation tells what is there: named tests, links between pages, settings."""

import ast
import re
from pathlib import Path

import pytest

from adapter.settings import SETTINGS
from tests.simulation.checks import CHECK_NAMES
from tests.simulation.mutants import MUTANT_NAMES

ROOT = Path(__file__).parents[1]

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", ["guarantees.md", "traps.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / page).read_text("utf-8")))
    found = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", file.read_text("utf-8"))
    }
    assert len(named) > 20
    assert named <= found, sorted(named - found)


def test_every_check_and_every_deliberate_fault_of_the_simulation_stands_with_a_promise() -> None:
    rows = re.findall(r"^\| (.+) \| (`.+`) \| (.+) \|$", (ROOT / "docs/guarantees.md").read_text("utf-8"), re.MULTILINE)
    assert [promise.split(",")[0] for promise, _, _ in rows] == [*"12345678", "all of them"]
    assert sorted(name for _, names, _ in rows for name in re.findall(r"`(\w+)`", names)) == sorted(CHECK_NAMES)
    assert sorted(name for _, _, names in rows for name in names.split("; ")) == sorted(MUTANT_NAMES)


TRAPS = {"RT": 27, "PG": 22, "AMI": 28, "TEN": 8, "ENV": 5, "TST": 3}
"""How many traps of each library are known."""


def test_every_trap_stands_in_its_page_with_a_test_or_a_reason() -> None:
    text = (ROOT / "docs/traps.md").read_text("utf-8")
    rows = re.findall(r"^\| ([A-Z]+-\d\d) \| (.+) \|$", text, re.MULTILINE)
    assert [name for name, _ in rows] == [f"{kind}-{n:02}" for kind, most in TRAPS.items() for n in range(1, most + 1)]
    for name, row in rows:
        _what, concerns, guard = row.split(" | ")
        assert "`test_" in guard or concerns.startswith("no: "), name


def test_no_link_is_tested_against_a_mock() -> None:
    """The traps were found with servers on sockets; a mock of the client would have hidden every one."""
    for file in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names: set[str | None] = set()
            if isinstance(node, ast.Import):
                names = {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
            elif isinstance(node, ast.arg):
                names = {node.arg}
            assert not names & {"unittest.mock", "panoramisk.testing", "mocker"}, file


def _headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_to_headings_that_are_there(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text("utf-8")):
        assert anchor in _headings(page.parent / target if target else page), (target, anchor)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_pages_that_the_adapter_names_exist() -> None:
    named = {
        page
        for file in (ROOT / "adapter").rglob("*.py")
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text("utf-8"))
    }
    assert "docs/guide/pbx.md" in named
    assert [page for page in sorted(named) if not (ROOT / page).exists()] == []


CHANNEL_VARIABLES = {"CALL_ID", "USER_ID", "CAMPAIGN_ID", "PROMPT_ID", "CUSTOMER_NAME", "CUSTOMER_NAME_B64", "NAME_B64"}
"""What a call tells the AI (test_guide.py holds them against core/originate.py): in capitals, but no settings."""

FUNCTION_VARIABLES = {
    name
    for source in (ROOT / "supabase" / "functions").rglob("*.ts")
    for name in re.findall(r'"((?:BATCH_CALL|AI)_[A-Z_]+)"', source.read_text("utf-8"))
}
"""What the edge functions are told (tests/functions/test_guide.py holds their page against them)."""


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_settings_named_in_the_pages_exist(page: Path) -> None:
    known = {setting.name for setting in SETTINGS}
    words = set(re.findall(r"`([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+)`", page.read_text("utf-8")))
    other = {"HTTPS_PROXY", "NO_PROXY"} | CHANNEL_VARIABLES | FUNCTION_VARIABLES
    assert words <= known | other, sorted(words - known)
