"""The local Realtime against recordings of the real one: same messages, same keys, same order.

The files in recordings/ hold facts of each recording: what the client sent, what was done to the database
or the network meanwhile, and each answer's event, topic, ref, keys and telling values. Each story is told again here.
Messages are compared in order per topic: between topics the real server's order is chance.
"""

import asyncio
import base64
import json
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from adapter.sandbox.gateway import Delays
from adapter.sandbox.postgres import Postgres
from tests.sandbox.gateway_support import Client, World, client, world

RECORDINGS = Path(__file__).with_name("recordings")
STORIES = sorted(path.stem for path in RECORDINGS.glob("realtime-*.json") if path.stem != "realtime-handshake")
HANDSHAKES = json.loads((RECORDINGS / "realtime-handshake.json").read_text(encoding="utf-8"))["cases"]

DELAYS = Delays(poll=0.02, subscribe_cold=0.15, resubscribe=0.3)
"""Long enough that what was committed before a subscription came into force is committed before it here, too."""

ROW = "insert into call_queue (phone, payload) select '+60123456700', {payload} from generate_series(1, {count})"

DATABASE: Mapping[str, str] = {
    "insert and roll back": f"begin; {ROW.format(payload='null::jsonb', count=1)}; rollback",
    "update and delete": "update call_queue set status = 'x'; delete from call_queue",
    "send private": "select realtime.send('{}', 'rows', 'call_queue', true)",
    "send public": "select realtime.send('{}', 'rows', 'call_queue', false)",
}


def test_the_recordings_are_there() -> None:
    assert len(STORIES) == 10
    assert len(HANDSHAKES) == 17


@pytest.mark.parametrize("name", STORIES)
async def test_a_recorded_story_is_told_the_same_way(pg_server: Postgres, name: str) -> None:
    steps = json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))["steps"]
    expected = [step["server"] for step in steps if "server" in step]
    async with world(pg_server, delays=DELAYS) as here, AsyncExitStack() as open_now:
        tokens = _tokens(here)
        role = "anon" if name.endswith("-anon") else "service_role"
        speaker = await open_now.enter_async_context(client(here.gateway, key=tokens[role]))
        heard: list[dict[str, Any]] = []
        for place, step in enumerate(steps):
            if "client" in step:
                await _send(speaker, step["client"], tokens)
            elif "database" in step:
                await here.run(_sql(step["database"]))
            elif step.get("network") == "cut":
                assert here.gateway.drop_realtime_connections() == 1
                await open_now.aclose()
                while here.gateway.polling:  # Rows not yet read would still go to a new subscriber, here as there.
                    await asyncio.sleep(0.01)
            elif step.get("network") == "back":
                speaker = await open_now.enter_async_context(client(here.gateway, key=tokens[role]))
            else:
                continue
            answers = _answers(steps, place)
            heard += [await speaker.next() for _ in range(answers)]
        await speaker.silence()
    assert _by_topic([_facts(frame) for frame in heard]) == _by_topic([_comparable(fact) for fact in expected])


def _answers(steps: list[dict[str, Any]], place: int) -> int:
    """How many answers the recording has before the next thing that is done."""
    count = 0
    for step in steps[place + 1 :]:
        if "server" not in step:
            break
        count += 1
    return count


def _tokens(here: World) -> dict[str, str | None]:
    keys = here.gateway.keys
    other = "another secret, just as long as the first one"
    now = {"exp": 4_000_000_000}
    return {
        "service_role": keys.service_role,
        "anon": keys.anon,
        "fresh": keys.token("service_role", seconds=600),
        "wrong signature": jwt.encode({"role": "service_role", **now}, other, "HS256"),
        "malformed": "garbage",
        "expired": keys.token("service_role", seconds=-40),
        "no exp": jwt.encode({"role": "service_role"}, keys.jwt_secret, "HS256"),
        "no role": jwt.encode(now, keys.jwt_secret, "HS256"),
        "empty": "",
        "null": None,
        "opaque": "sb_publishable_x",
    }


async def _send(speaker: Client, said: Mapping[str, Any], tokens: Mapping[str, str | None]) -> None:
    payload: dict[str, Any] = {}
    if said["event"] == "phx_join":
        bindings = [dict(zip(("event", "schema", "table"), binding, strict=True)) for binding in said["bindings"]]
        payload["config"] = {
            "broadcast": {"ack": False, "self": False},
            "presence": {"key": "", "enabled": False},
            "private": said["private"],
            "postgres_changes": bindings,
        }
    elif said["event"] == "broadcast":
        payload = {"type": "broadcast", "event": "rows", "payload": {}}
    if said.get("token", "absent") != "absent":
        payload["access_token"] = tokens[said["token"]]
    await speaker.send(said["topic"], said["event"], payload, ref=said["ref"], join_ref=said["join_ref"])


def _sql(action: str) -> str:
    rows = re.fullmatch(r"insert (\d+)( payload)?", action)
    if rows:
        return ROW.format(count=rows.group(1), payload="""'{"n": 0}'::jsonb""" if rows.group(2) else "null::jsonb")
    return DATABASE[action]


# ---------------------------------------------------------------- frames as facts


def _facts(frame: Mapping[str, Any]) -> dict[str, Any]:
    """The same facts of a frame as the recordings hold."""
    payload = frame["payload"]
    facts: dict[str, Any] = {key: frame[key] for key in ("event", "topic", "ref")}
    values = _VALUES[frame["event"]](payload) if frame["event"] in _VALUES else {}
    return _comparable({**facts, "keys": sorted(_paths(frame)), **({"values": values} if values else {})})


def _comparable(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Without the seconds a token has been expired for."""
    text = json.dumps(facts)
    comparable: dict[str, Any] = json.loads(re.sub(r"expired \d+ seconds ago", "expired N seconds ago", text))
    return comparable


def _by_topic(frames: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    topics: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for frame in frames:
        topics[frame["topic"]].append(frame)
    return topics


def _paths(value: Any, start: str = "") -> list[str]:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return _paths(value[0], f"{start[:-1]}[].")
    if not isinstance(value, dict):
        return []
    paths = []
    for key, inner in value.items():
        paths.append(f"{start}{key}")
        if key != "record":
            paths += _paths(inner, f"{start}{key}.")
    return paths


def _kind(value: Any) -> str:
    names = {bool: "bool", type(None): "null", str: "text", dict: "object", list: "list"}
    return names.get(type(value), "number")


def _reply(payload: Mapping[str, Any]) -> dict[str, Any]:
    response = payload["response"]
    values: dict[str, Any] = {"status": payload["status"]}
    if "reason" in response:
        values["reason"] = response["reason"]
    if "postgres_changes" in response:
        values["bindings"] = [[b["event"], b["schema"], b["table"]] for b in response["postgres_changes"]]
    return values


def _change(payload: Mapping[str, Any]) -> dict[str, Any]:
    data = payload["data"]
    return {
        **{key: data[key] for key in ("table", "type", "schema", "errors")},
        "columns": [[column["name"], column["type"]] for column in data["columns"]],
        "record": {key: _kind(value) for key, value in sorted(data["record"].items())},
        "ids": len(payload["ids"]),
    }


def _broadcast(payload: Mapping[str, Any]) -> dict[str, Any]:
    same = payload["meta"]["id"] == payload["payload"]["id"]
    return {"event": payload["event"], "type": payload["type"], "same_id": same}


_VALUES: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "phx_reply": _reply,
    "system": dict,
    "postgres_changes": _change,
    "broadcast": _broadcast,
}


# ---------------------------------------------------------------- the upgrade


async def test_upgrades_are_answered_as_recorded(pg_server: Postgres) -> None:
    async with world(pg_server, delays=Delays(refusal=0.3)) as here, aiohttp.ClientSession() as session:
        # One after the other they would take as long as their deliberate delays.
        found = await asyncio.gather(*(_answer(session, here, case["case"]) for case in HANDSHAKES))
    assert found == HANDSHAKES


async def _answer(session: aiohttp.ClientSession, here: World, case: str) -> dict[str, Any]:
    path, params, headers = _upgrade(case, here)
    wish = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode()}
    started = time.monotonic()
    async with session.get(f"{here.gateway.url}{path}", params=params, headers={**wish, **key, **headers}) as response:
        answer = {"case": case, "status": response.status, "late": time.monotonic() - started >= 0.3}
        if response.content_type == "application/json":
            answer["body"] = await response.json()
        response.close()
    return answer


def _upgrade(case: str, here: World) -> tuple[str, dict[str, str], dict[str, str]]:
    """Path, query and headers of a case."""
    tokens, path = _tokens(here), "/realtime/v1/websocket"
    good = here.gateway.service_role_key
    keys: dict[str, str | None] = {
        "empty apikey": "",
        "apikey not a JWT": "abc",
        "three dotted garbage parts": "a.b.c",
        "wrong signature": tokens["wrong signature"],
        "expired 60 s ago": tokens["expired"],
        "no role claim": tokens["no role"],
        "no exp claim": tokens["no exp"],
        "anon role (accepted)": tokens["anon"],
        "role unknown to the database (accepted at connect)": here.gateway.token("nobody_role"),
        "sb_secret_ style opaque key, no gateway translation": "sb_secret_" + 16 * "x",
    }
    specials: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
        "no apikey": (path, {"vsn": "1.0.0"}, {}),
        "key in x-api-key header instead of query": (path, {"vsn": "1.0.0"}, {"x-api-key": good}),
        "key in Authorization header only": (path, {"vsn": "1.0.0"}, {"Authorization": f"Bearer {good}"}),
        "vsn missing": (path, {"apikey": good}, {}),
        "vsn=2.0.0": (path, {"apikey": good, "vsn": "2.0.0"}, {}),
        "vsn=3.0.0 unsupported": (path, {"apikey": good, "vsn": "3.0.0"}, {}),
        "wrong path": ("/realtime/v1/nope", {"apikey": good, "vsn": "1.0.0"}, {}),
    }
    return specials[case] if case in specials else (path, {"apikey": str(keys[case]), "vsn": "1.0.0"}, {})
