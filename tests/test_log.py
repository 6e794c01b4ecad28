"""Log lines: masked numbers, no secrets, one JSON object a line."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from adapter import log as logs
from adapter.log import clean, hide, say, set_up


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logs._mask_numbers = True
    logs._SECRETS.clear()


def _line(style: str, event: str, message: str, **fields: object) -> str:
    out = io.StringIO()
    set_up(style=style, stream=out)
    say(logging.getLogger("test"), logging.INFO, event, message, **fields)
    return out.getvalue()


@pytest.mark.parametrize("number", ["+60123456700", "60123456700", "0123456700", "1234567"])
def test_numbers_are_masked_everywhere(number: str) -> None:
    for style in ("json", "human"):
        line = _line(style, "call.sent", f"dialing PJSIP/{number}@SIP-TRUNK-1A2B3C4D", to=number, digits=int(number))
        assert number.lstrip("+") not in line
        assert number[-3:] in line


def test_ids_and_times_stay() -> None:
    call = "5b0e6d2c-0000-4000-8000-123456789012"
    parsed = json.loads(_line("json", "call.sent", f"call {call}", call=call, row=12345678, seconds=1.5))
    assert parsed["message"] == f"call {call}"
    assert (parsed["call"], parsed["row"], parsed["seconds"]) == (call, 12345678, 1.5)
    assert parsed["event"] == "call.sent"
    assert parsed["level"] == "info"


def test_numbers_can_be_shown_on_request() -> None:
    out = io.StringIO()
    set_up(style="json", numbers="full", stream=out)
    say(logging.getLogger("test"), logging.INFO, "x", "to +60123456700")
    assert "+60123456700" in out.getvalue()


def test_secrets_never_appear() -> None:
    hide("s3cr3t-value")
    line = _line("json", "x", "login with s3cr3t-value failed", call="s3cr3t-value", detail="s3cr3t-value")
    assert "s3cr3t-value" not in line
    assert line.count("<secret>") == 3


def test_a_traceback_is_cleaned() -> None:
    hide("s3cr3t-value")
    out = io.StringIO()
    set_up(style="json", stream=out)
    try:
        int("s3cr3t-value +60123456700")
    except ValueError:
        logging.getLogger("test").exception("failed")
    parsed = json.loads(out.getvalue())
    assert "s3cr3t-value" not in parsed["error"]
    assert "60123456700" not in parsed["error"]


def test_noisy_libraries_are_quiet_even_at_debug() -> None:
    """RT-25, AMI-23: `websockets.client` prints the key, panoramisk whole actions."""
    out = io.StringIO()
    set_up(level="DEBUG", style="json", stream=out)
    for name in ("websockets.client", "httpx", "httpcore.connection", "panoramisk.manager"):
        logging.getLogger(name).debug("GET /?apikey=abc")
        logging.getLogger(name).info("GET /?apikey=abc")
    assert out.getvalue() == ""


def test_a_line_stays_one_line() -> None:
    assert _line("json", "x", "a\nb").count("\n") == 1


def test_clean_leaves_short_numbers() -> None:
    assert clean("port 5038, cause 486, 123456") == "port 5038, cause 486, 123456"
