"""installed.json: what `doctor` holds a project against is what install.sql of this version makes."""

from pathlib import Path

import pytest

from adapter import __version__
from adapter.doctor.supabase_project import Shipped
from adapter.sandbox import fingerprints
from tests.supabase.helpers import connected


async def test_it_is_current(db: str) -> None:
    text = fingerprints.text_of(await fingerprints.taken(db))
    assert text == fingerprints.TARGET.read_text(encoding="utf-8"), (
        "run python -m adapter.sandbox.fingerprints after a change of supabase/migrations"
    )


async def test_install_sql_carries_the_version_of_the_adapter(db: str) -> None:
    assert (await fingerprints.taken(db))["version"] == __version__, (
        "v_version in the migration call_doctor and __version__ of the package go together"
    )


async def test_it_is_the_same_beside_the_apps_tables(app_db: str) -> None:
    found, shipped = await fingerprints.taken(app_db), Shipped.read()
    assert found["objects"] == shipped.objects
    assert set(found["execute"]) == shipped.execute
    # The project's default privileges may give the secret key more.
    assert all(words <= set(found["rights"][table]) for table, words in shipped.rights.items())


async def test_it_names_what_there_is(db: str) -> None:
    shipped = Shipped.read()
    async with connected(db) as connection:
        tables = await connection.fetch(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' "
            "and relname ~ '^(do_not_call|call_)' and relname <> 'call_logs'"
        )
        assert shipped.tables == {row[0] for row in tables}
        functions = await connection.fetchval(
            "select count(*) from pg_proc where pronamespace = 'public'::regnamespace"
        )
    assert sum(name.startswith("function ") for name in shipped.objects) == functions
    assert {name.split("(")[0] for name in shipped.execute} >= {"call_sync_v1", "call_doctor_v1", "call_probe_v1"}


def test_check_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def made() -> str:
        return "{}\n"

    monkeypatch.setattr(fingerprints, "made", made)
    monkeypatch.setattr(fingerprints, "TARGET", tmp_path / "installed.json")
    assert fingerprints.main(["--check"]) == 1
    assert "python -m adapter.sandbox.fingerprints" in capsys.readouterr().err
    assert fingerprints.main([]) == 0
    assert fingerprints.main(["--check"]) == 0
