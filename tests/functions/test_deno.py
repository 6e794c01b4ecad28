"""The edge functions on the real Deno: types, lint, formatting, their own tests, and nothing from elsewhere."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.functions.support import CONFIG, FUNCTIONS, OFFLINE, QUIET, deno

HERE = Path(__file__).parent
SOURCES = sorted(str(path) for folder in (FUNCTIONS, HERE) for path in folder.rglob("*.ts"))
ENTRIES = ["batch-call", "batch-call-v2"]


def _run(directory: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "DENO_DIR": str(directory / "deno"), **QUIET}
    done = subprocess.run(
        deno(*arguments), check=False, capture_output=True, text=True, env=environment, cwd=directory, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", *CONFIG, *OFFLINE[:2]),
        ("lint", *CONFIG),
        ("fmt", *CONFIG, "--check"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_sources_are_clean(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    _run(tmp_path, *arguments, *SOURCES)


@pytest.mark.timeout(120)
def test_their_own_tests(tmp_path: Path) -> None:
    said = _run(tmp_path, "test", *CONFIG, *OFFLINE, "--allow-net=127.0.0.1", "--allow-env", "--no-check", str(HERE))
    passed = re.search(r"ok \| (\d+) passed .*\| 0 failed", said)
    # As many as are written down: a file that is not found would otherwise be a success.
    written = sum(text.count("Deno.test(") for text in map(Path.read_text, sorted(HERE.glob("*_test.ts"))))
    assert passed, said
    assert int(passed[1]) >= written > 30


def test_nothing_is_imported_from_elsewhere() -> None:
    """Deno Deploy and Supabase would fetch it at deployment, from a registry that then holds our secret key's fate."""
    for source in FUNCTIONS.rglob("*.ts"):
        for name in re.findall(r"""(?:from|import)\s*\(?\s*["']([^"']+)["']""", source.read_text(encoding="utf-8")):
            assert name.startswith(("./", "../")), (source, name)


def test_both_functions_are_the_same_program() -> None:
    texts = {(FUNCTIONS / name / "index.ts").read_text(encoding="utf-8") for name in ENTRIES}
    assert len(texts) == 1
