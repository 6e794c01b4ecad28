"""The edge functions end to end: the pages' requests by the real supabase-js, Deno, local Supabase, PostgreSQL."""

import asyncio
import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from adapter.sandbox.gateway import Gateway
from adapter.sandbox.gateway.faults import Forward, lose
from adapter.sandbox.mikopbx import SimulatedPbx
from adapter.sandbox.process import Daemon
from adapter.sandbox.scenarios import number
from adapter.sandbox.world import SETTINGS
from tests.functions.support import Edge, edge
from tests.supabase.helpers import Connection, connected
from tests.support.npm import BIN, installed, placed

SCRIPT = Path(__file__).with_name("edge_client.mjs")

HEADERS = "authorization, x-client-info, apikey, content-type"


async def _user(connection: Connection, *, minutes: float = 100) -> tuple[str, str, str]:
    """A user of the app with a prompt and a session: their ids and the token."""
    user = await connection.fetchval(
        "insert into users (username, trial_balance_minutes) values ($1, $2) returning id::text",
        uuid.uuid4().hex,
        minutes,
    )
    prompt = await connection.fetchval(
        "insert into prompts (user_id, prompt_name, system_prompt) values ($1, 'p', 's') returning id::text", user
    )
    session = uuid.uuid4().hex
    await connection.execute(
        "insert into user_sessions (user_id, session_token, expires_at) values ($1, $2, now() + interval '7 days')",
        user,
        session,
    )
    return user, prompt, session


def _project(gateway: Gateway, **more: str) -> dict[str, str]:
    return {"SUPABASE_URL": gateway.url, "SUPABASE_SERVICE_ROLE_KEY": gateway.service_role_key, **more}


async def _pages(here: Edge, **environment: str) -> Any:
    """What the script of the pages found."""
    process = await asyncio.create_subprocess_exec(
        BIN / "node",
        placed(SCRIPT).name,
        cwd=installed(),
        env={"PATH": os.environ["PATH"], "EDGE_URL": here.url, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), 50)
    except TimeoutError:
        process.kill()
        output, errors = await process.communicate()
    assert process.returncode == 0, (output + errors).decode() + here.process.tail()
    return json.loads(output)


async def _post(here: Edge, fields: Mapping[str, Any], **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=here.url, trust_env=False, timeout=60) as http:
        answer = await http.post("/batch-call", json=fields, headers=headers)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == HEADERS
    return answer


@pytest.mark.timeout(240)  # The first time the packages are fetched.
async def test_the_pages_requests(app_db: str, tmp_path: Path) -> None:
    async with connected(app_db) as connection, Gateway.started(app_db) as gateway:
        user, prompt, session = await _user(connection)
        await connection.execute(
            "update system_settings set setting_value = '100' where setting_key like '%concurrent%'"
        )
        # The project stands behind the function: its rows and its websockets are what is passed on.
        async with edge(tmp_path, **_project(gateway, AI_UPSTREAM=gateway.url)) as here:
            found = await _pages(
                here, SUPABASE_ANON_KEY=gateway.anon_key, USER_ID=user, PROMPT_ID=prompt, SESSION=session
            )
            assert here.said("batch.compat") == 1
            assert here.said("batch.failed") == 0
        rows = {
            row["id"]: dict(row)
            for row in await connection.fetch("select * from call_queue where user_id = $1 order by id", user)
        }
        made = await connection.fetch("select campaign_name, status from campaigns")
        campaigns = {row["campaign_name"]: row["status"] for row in made}
    assert (campaigns["October"], campaigns["October again"]) == ("in_progress", "completed")
    once, again = found["twice"]
    assert (once["status"], once["cors"], once["repeated"], once["counts"]) == (200, "*", False, [3, 2, 1])
    assert once["campaign"] == found["campaign"]
    assert {**again, "repeated": False} == once
    assert {**found["second"], "repeated": False} == once
    assert [rows[row]["e164"] for row in once["rows"]] == ["+601110000001", "+601110000002", None]
    assert [rows[row]["customer_name"] for row in once["rows"]] == ["Aminah", None, None]
    assert [str(rows[row]["campaign_id"]) for row in once["rows"]] == [found["campaign"]] * 3
    assert [rows[row]["outcome"] for row in once["rows"]] == [None, None, "blocked"]

    assert (found["retry"]["error"], found["retry"]["counts"]) == (None, [1, 1, 0])
    assert str(rows[found["retry"]["rows"][0]]["user_id"]) == user
    stranger = found["stranger"]
    assert (stranger["kind"], stranger["status"]) == ("FunctionsHttpError", 401)
    assert "log in" in stranger["error"]

    assert (found["v2"]["status"], found["v2"]["counts"]) == (200, [1, 1, 0])
    wish = rows[found["v2"]["rows"][0]]
    assert (wish["customer_name"], wish["idsale"], str(wish["prompt_id"])) == ("Cik", "S1", prompt)
    assert (wish["max_attempts"], wish["retry_seconds"]) == (3, 300)

    assert found["poor"]["status"] == 402
    assert "Trial balance insufficient" in found["poor"]["error"]
    assert [found[name]["status"] for name in ("nobody", "none", "broken")] == [404, 400, 400]
    assert all(found[name]["error"] and found[name]["cors"] == "*" for name in ("nobody", "none", "broken"))
    assert len(rows) == 5
    assert found["rows"] == ["October", "October again", "Retry Call - 25/11/2026 10:00", "November"]
    assert found["preflight"] == [200, HEADERS, ""]
    assert found["joined"] == "SUBSCRIBED"


async def test_session_mode(app_db: str, tmp_path: Path) -> None:
    async with connected(app_db) as connection, Gateway.started(app_db) as gateway:
        user, _, session = await _user(connection)
        other, _, _ = await _user(connection)
        ask = {"userId": user, "phoneNumbers": ["0111000 0001"]}
        async with edge(tmp_path, "batch-call-v2", **_project(gateway, BATCH_CALL_AUTH="session")) as here:
            assert (await _post(here, ask)).status_code == 401
            bearer = f"Bearer {session}"
            assert (await _post(here, {**ask, "userId": other}, Authorization=bearer)).status_code == 401
            assert (await _post(here, ask, Authorization=f"Bearer {gateway.anon_key}")).status_code == 401
            assert (await _post(here, ask, Authorization=bearer)).status_code == 200
            assert here.said("batch.compat") == 0
        assert await connection.fetchval("select count(*) from call_queue") == 1


async def test_allowed_origins_and_limits_of_the_environment(app_db: str, tmp_path: Path) -> None:
    async with connected(app_db) as connection, Gateway.started(app_db) as gateway:
        user, _, session = await _user(connection)
        settings = _project(
            gateway,
            BATCH_CALL_ORIGINS="https://app.example.com",
            BATCH_CALL_REQUESTS_PER_HOUR="2",
            BATCH_CALL_NUMBERS_PER_REQUEST="2",
        )

        async def ask(*serials: int, **headers: str) -> int:
            numbers = [number("10", serial) for serial in serials]
            return (await _post(here, {"userId": user, "phoneNumbers": numbers}, **headers)).status_code

        async with edge(tmp_path, **settings) as here:
            page = {"Origin": "https://app.example.com"}
            assert await ask(1, Origin="https://other.example.com") == 403
            assert await ask(1) == 401
            assert await ask(1, Authorization=f"Bearer {session}") == 200
            assert await ask(2, **page) == 200
            assert await ask(3, **page) == 429
            assert await ask(4, 5, 6, **page) == 413
        assert await connection.fetchval("select count(*) from call_queue") == 2


async def test_errors_of_a_project_that_is_not_set_up(empty_db: str, tmp_path: Path) -> None:
    """The SQL was not run, the key is wrong, the project is away: the user learns nothing of it, the operator does."""
    ask = {"userId": str(uuid.uuid4()), "phoneNumbers": ["0111000 0001"]}
    async with Gateway.started(empty_db) as gateway:
        async with edge(tmp_path, "batch-call", **_project(gateway)) as here:
            answers = [await _post(here, ask)]
        wrong = {**_project(gateway), "SUPABASE_SERVICE_ROLE_KEY": gateway.anon_key + "x"}
        async with edge(tmp_path, "batch-call-v2", **wrong) as there:
            answers.append(await _post(there, ask))
            log = there.process.log.read_text(encoding="utf-8")
    assert [answer.status_code for answer in answers] == [500, 500]
    for answer in answers:
        error = answer.json()["error"]
        assert "nobody is called" in error
        assert not {"call_batch_v1", "PGRST", gateway.url, "schema"} & set(error.split())
    assert wrong["SUPABASE_SERVICE_ROLE_KEY"] not in log
    assert here.said("batch.failed") == there.said("batch.failed") == 1


@pytest.mark.timeout(120)
async def test_a_batch_rings_and_is_told_in_the_apps_words(app_db: str, tmp_path: Path) -> None:
    """Function, database, daemon, PBX and back: each number rings once, though the request came twice."""
    callees = {number("10", 1): "answered", number("20", 1): "no_answered"}
    async with (
        connected(app_db) as connection,
        Gateway.started(app_db) as gateway,
        SimulatedPbx.started(speed=20) as pbx,
        edge(tmp_path, **_project(gateway)) as here,
    ):
        user, prompt, _ = await _user(connection)
        daemon = Daemon(
            {
                **SETTINGS,
                **_project(gateway),
                "MIKOPBX_HOST": "127.0.0.1",
                "MIKOPBX_AMI_PORT": str(pbx.port),
                "MIKOPBX_AMI_USERNAME": pbx.username,
                "MIKOPBX_AMI_PASSWORD": pbx.password,
                "BILLING": "off",
                "TRUNK": pbx.trunk,
                "STATE_DIR": str(tmp_path / "state"),
            },
            tmp_path / "daemon.log",
        )
        await daemon.start()
        try:
            ask = {"userId": user, "promptId": prompt, "campaignName": "All", "phoneNumbers": list(callees)}
            answers = [await _post(here, ask), await _post(here, ask)]
            assert [answer.json()["summary"]["successful"] for answer in answers] == [2, 2]
            async with asyncio.timeout(60):
                while await connection.fetchval("select exists (select from call_queue where status <> 'done')"):
                    await connection.execute("update call_queue set settle_at = now() where settle_at > now()")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(daemon.tail(30)) from None
        finally:
            await daemon.stop()
        logs = await connection.fetch(
            "select q.e164, l.status, l.campaign_id, l.prompt_id, l.user_id from call_logs l "
            "join call_queue q on q.call_id::text = l.call_id"
        )
    campaign = answers[0].json()["campaign_id"]
    assert {row["e164"]: row["status"] for row in logs} == callees
    assert {(str(row["campaign_id"]), str(row["prompt_id"]), str(row["user_id"])) for row in logs} == {
        (campaign, prompt, user)
    }
    assert sorted(call.number[-10:] for call in pbx.calls) == sorted(each[-10:] for each in callees)


@pytest.mark.timeout(120)
async def test_ten_thousand_numbers_are_one_request_of_seconds(app_db: str, tmp_path: Path) -> None:
    most = {f"BATCH_CALL_NUMBERS_PER_{scope}": "10000" for scope in ("REQUEST", "HOUR")}
    numbers = [number("10", serial) for serial in range(10_000)]
    paths: list[str] = []

    async def counted(request: web.Request, forward: Forward) -> web.StreamResponse:
        paths.append(request.path)
        return await forward()

    async with (
        connected(app_db) as connection,
        Gateway.started(app_db) as gateway,
        edge(tmp_path, **_project(gateway, **most)) as here,
    ):
        user, _, _ = await _user(connection, minutes=20_000)
        await connection.execute("update system_settings set setting_value = '10000' where setting_key ~ 'concurrent'")
        gateway.http_fault = counted
        ask = {
            "userId": user,
            "campaignName": "All",
            "phoneNumbers": numbers,
            "phoneNumbersWithNames": [{"phone_number": each, "customer_name": f"Person {each}"} for each in numbers],
        }
        began = time.monotonic()
        answers = [await _post(here, ask), await _post(here, ask)]
        seconds = time.monotonic() - began
        assert [answer.json()["summary"]["successful"] for answer in answers] == [10_000, 10_000], answers[0].text[:500]
        assert (
            await connection.fetchval("select count(*) from call_queue where customer_name = 'Person ' || e164")
            == 10_000
        )
    assert paths == ["/rest/v1/rpc/call_batch_v1"] * 2
    assert seconds < 60, "the page gives up"


async def test_an_answer_that_is_lost_can_be_asked_for_again(app_db: str, tmp_path: Path) -> None:
    """The rows are there, the function does not know it: the user is told to send it again, and gets the same rows."""

    async def lost(request: web.Request, forward: Forward) -> web.StreamResponse:
        await forward()
        return lose(request)

    async with (
        connected(app_db) as connection,
        Gateway.started(app_db) as gateway,
        edge(tmp_path, **_project(gateway)) as here,
    ):
        user, prompt, _ = await _user(connection)
        ask = {"userId": user, "promptId": prompt, "phoneNumbers": [number("10", 1)]}
        gateway.http_fault = lost
        first = await _post(here, ask)
        gateway.http_fault = None
        again = await _post(here, ask)
        assert (first.status_code, first.json()["success"]) == (503, False)
        assert "nobody is called twice" in first.json()["error"]
        assert (again.status_code, again.json()["repeated"]) == (200, True)
        assert await connection.fetchval("select count(*) from call_queue") == 1


async def test_what_is_no_text_is_nobodys_number(app_db: str, tmp_path: Path) -> None:
    """Each is refused for itself, with a row that says why; the good one beside them is queued."""
    odd = [None, True, {"a": 60123456700}, [60123456700], 60123456700.5, -60123456700]
    async with (
        connected(app_db) as connection,
        Gateway.started(app_db) as gateway,
        edge(tmp_path, **_project(gateway)) as here,
    ):
        user, _, _ = await _user(connection)
        await connection.execute("update system_settings set setting_value = '10' where setting_key ~ 'concurrent'")
        answer = await _post(here, {"userId": user, "phoneNumbers": [*odd, 601110000001]})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert [result["success"] for result in found["results"]] == [False] * len(odd) + [True]
        assert all(result["error"] for result in found["results"][:-1])
        queued = await connection.fetch("select e164 from call_queue where status = 'queued'")
        assert [row["e164"] for row in queued] == ["+601110000001"]
        assert await connection.fetchval("select count(*) from call_queue where outcome = 'blocked'") == len(odd)
