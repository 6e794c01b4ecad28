"""Each check that doctor makes is a line of the checklist, and each check that the checklist names is made."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from adapter.doctor import supabase
from adapter.doctor.pbx import CHECKS

ROOT = Path(__file__).parents[1]
CHECKLIST = (ROOT / "docs/guide/checklist.md").read_text(encoding="utf-8")

SOURCES = [*sorted((ROOT / "adapter/doctor").rglob("*.py")), ROOT / "adapter/commands/doctor.py"]

NAME = re.compile(r"settings|(?:state|supabase|pbx)(?:\.[a-z_]+)+")


def _made() -> Iterator[str]:
    """Every name of a check in the sources: a text of its own, or the first argument of ok, warn, fail and skipped."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
                yield node.value
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                built = node.func.id in {"ok", "warn", "fail", "skipped"} and isinstance(node.args[0], ast.JoinedStr)
                assert not built, f"{path}:{node.lineno}: the name of a check stands in one piece, so that it is found"


def test_the_checklist_has_each_check_of_doctor_once_in_its_order() -> None:
    lines = re.findall(r"^- \[ \] .*$", CHECKLIST, re.MULTILINE)
    named = [name for line in lines for name in re.findall(r"\(`([a-z_.]+)`\)", line)]
    assert set(named) == set(_made())
    assert len(named) == len(set(named))
    assert [name for name in named if name.startswith("pbx.")] == [check.name for check in CHECKS]
    assert [name for name in named if name.startswith("supabase.")] == list(supabase.CHECKS)


def test_every_line_is_ticked_by_doctor_or_by_eye_in_one_of_four_phases() -> None:
    phases = re.split(r"^## ", CHECKLIST, flags=re.MULTILINE)[1:]
    assert [phase.split("\n")[0] for phase in phases] == [
        "1. PBX and trunk",
        "2. Supabase",
        "3. First call",
        "4. Batch",
    ]
    for phase in phases:
        assert all(line.startswith("- [ ] ") for line in phase.split("\n")[1:] if line)
        assert phase.count("- [ ] ") >= 5
    assert "pbx." not in "".join(phases[1:]).replace("supabase.pbx", "")


def test_checks_that_the_pages_name_are_made() -> None:
    made = set(_made())
    for page in sorted((ROOT / "docs").rglob("*.md")):
        named = {name for name in re.findall(r"`([a-z_.]+)`", page.read_text(encoding="utf-8")) if NAME.fullmatch(name)}
        assert named <= made, page
