"""Doctor's PBX side against a real Asterisk, sound and with each thing broken in turn. Nobody rings, ever."""

from dataclasses import replace
from typing import Any

import pytest

from adapter.core.numbers import NumberStyle
from adapter.doctor.findings import Finding, Verdict
from adapter.doctor.pbx import CHECKS, look
from adapter.sandbox.asterisk import RealPbx
from tests.asterisk.test_pbx import config

pytestmark = [pytest.mark.asterisk, pytest.mark.asyncio(loop_scope="session")]

NAMES = [check.name for check in CHECKS]

DEFAULTS: dict[str, Any] = {
    "region": "MY",
    "caller_id": None,
    "number_style": NumberStyle.E164,
    "max_calls": 50,
}


async def looked(pbx: RealPbx, *, settings: dict[str, Any] | None = None, **changed: Any) -> dict[str, Finding]:
    """The findings by name. `changed`: of the link; `settings`: of the daemon."""
    before = len(pbx.calls)
    wanted = replace(config(pbx), **changed)
    found = [finding async for finding in look(wanted, **{**DEFAULTS, **(settings or {})})]
    assert [finding.check for finding in found] == NAMES
    for finding in found:
        assert pbx.password not in repr(finding)
        assert bool(finding.mend) is (finding.verdict in (Verdict.WARN, Verdict.FAIL)), finding
        assert finding.found, finding
        assert finding.tried, finding
    assert len(pbx.calls) == before, "somebody rang"
    return {finding.check: finding for finding in found}


RIGHTS = {
    "no-reporting": (Verdict.FAIL, "missing: write reporting"),
    "no-originate": (Verdict.FAIL, "missing: write originate"),
    "no-call": (Verdict.FAIL, "missing: write call"),
    "no-call-events": (Verdict.FAIL, "missing: read call"),
    "no-system-events": (Verdict.FAIL, "missing: read system"),
    "with-command": (Verdict.FAIL, "too many: write command"),
    "with-config": (Verdict.FAIL, "too many: write config"),
    "with-system": (Verdict.FAIL, "too many: write system"),
}


@pytest.mark.parametrize("user", RIGHTS)
async def test_rights_missing_and_too_many(shared_pbx: RealPbx, user: str) -> None:
    found = await looked(shared_pbx, username=user)
    verdict, words = RIGHTS[user]
    assert found["pbx.rights"].verdict is verdict
    assert words in found["pbx.rights"].found
    box = words.removeprefix("missing: ").removeprefix("too many: ")
    assert ("tick " if "missing" in words else "clear ") + box in found["pbx.rights"].mend


async def test_a_sound_pbx(shared_pbx: RealPbx) -> None:
    found = await looked(shared_pbx)
    for name in NAMES[:5]:
        assert found[name].verdict is Verdict.OK, found[name]
