"""The simulated MikoPBX against a real Asterisk: each question that doctor asks gets an answer of the same form, and
the same words where they are not the machine's own."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from adapter.core.model import NumberStyle
from adapter.doctor.findings import Verdict
from adapter.doctor.pbx import look
from adapter.pbx import PbxConfig
from adapter.pbx.session import Session
from adapter.sandbox.asterisk import RealPbx
from adapter.sandbox.mikopbx import SimulatedPbx

pytestmark = [pytest.mark.asterisk, pytest.mark.asyncio(loop_scope="session")]

OWN = ("rtp.conf", "qualify_frequency")
"""Questions whose answers are each PBX's own; that there is one, and that it is a number, is compared all the same."""

SHORTER = frozenset({"ListCommands", "ShowDialPlan"})
"""Actions of whose lists the simulated one has only what a client of ours looks for."""

Said = dict[tuple[Any, ...], dict[str, Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def newest() -> AsyncIterator[RealPbx]:
    """The release that is simulated."""
    async with RealPbx.started() as pbx:
        yield pbx


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """Question → answer, of every session."""
    asked = Session.ask
    found: Said = {}

    async def ask(self: Session, action: str, *headers: tuple[str, str], **more: Any) -> Any:
        answer = await asked(self, action, *headers, **more)
        words = tuple(value for name, value in headers if name != "ChannelId")
        found[action, *words] = {
            "ok": answer.ok,
            "message": answer.message,
            "fields": dict(answer.fields),
            "items": [dict(item) for item in answer.items],
        }
        return answer

    monkeypatch.setattr(Session, "ask", ask)
    return found


async def _looked(pbx: RealPbx | SimulatedPbx, said: Said) -> tuple[dict[str, Verdict], Said]:
    said.clear()
    config = PbxConfig(
        host=pbx.host,
        port=pbx.port,
        username=pbx.username,
        password=pbx.password,
        trunk=pbx.trunk,
        ai_context=pbx.ai_context,
        ai_extension=pbx.ai_extension,
    )
    verdicts = {
        finding.check: finding.verdict
        async for finding in look(
            config, region="MY", caller_id="60300000000", number_style=NumberStyle.E164, max_calls=50
        )
    }
    return verdicts, {_neutral(question, pbx): _neutral(answer, pbx) for question, answer in said.items()}


def _neutral(thing: Any, pbx: RealPbx | SimulatedPbx) -> Any:
    """The same without names that differ from one PBX to the next."""
    if isinstance(thing, str):
        return thing.replace(pbx.trunk, "<trunk>")
    if isinstance(thing, dict):
        return {name: _neutral(value, pbx) for name, value in thing.items()}
    if isinstance(thing, tuple | list):
        return type(thing)(_neutral(part, pbx) for part in thing)
    return thing


async def test_doctor_is_answered_as_a_real_one_answers(newest: RealPbx, said: Said) -> None:
    before = len(newest.calls)
    real_verdicts, real = await _looked(newest, said)
    assert len(newest.calls) == before
    async with SimulatedPbx.started() as pbx:
        verdicts, simulated = await _looked(pbx, said)
        assert pbx.calls == []
    assert verdicts == real_verdicts
    assert list(simulated) == list(real), "another question follows where an answer differs"
    for question, theirs in real.items():
        ours, (action, *words) = simulated[question], question
        assert (question, ours["ok"], ours["message"]) == (question, theirs["ok"], theirs["message"])
        if action in SHORTER:
            continue
        assert (question, list(ours["fields"])) == (question, list(theirs["fields"]))
        assert [list(item) for item in ours["items"]] == [list(item) for item in theirs["items"]]
        if action != "Getvar":
            continue
        own, value = (answer["fields"].get("Value", "") for answer in (ours, theirs))
        if any(part in words[0] for part in OWN):
            assert own.isdecimal() is value.isdecimal() is True, question
        else:
            # Rights are a set; the file has them in the order of whoever wrote it.
            assert (question, sorted(own.split(","))) == (question, sorted(value.split(",")))


async def test_lists_have_the_form_of_a_real_one(newest: RealPbx, said: Said) -> None:
    _, real = await _looked(newest, said)
    async with SimulatedPbx.started() as pbx:
        _, simulated = await _looked(pbx, said)
    theirs, ours = (answers["ListCommands",]["fields"] for answers in (real, simulated))
    names = [name for name in ours if name not in {"Response", "ActionID"}]
    assert names == [name for name in theirs if name in names], "the same order, and nothing that is not there"
    for name in names:
        assert theirs[name].endswith(ours[name]), name
    for question in (key for key in real if key[0] == "ShowDialPlan"):
        (*lines, last), (*real_lines, real_last) = simulated[question]["items"], real[question]["items"]
        assert {tuple(line) for line in lines} == {tuple(line) for line in real_lines}
        assert list(last) == list(real_last)
        routes = [line["AppData"] for line in lines if line["Application"] == "ExecIf"]
        assert set(routes) <= {line["AppData"] for line in real_lines}
