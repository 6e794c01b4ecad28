"""What may stand in the record, and what never does."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.core.call import EVENTS
from adapter.recorder.masks import HEADERS, KEYS, MAX_TEXT, TOKEN, Masks
from tests.support import transcripts

KEY = bytes(range(32))
SECRET = "s3cret-of-a-test"
UUID = "0f8b6e52-7d42-4c39-9a51-0123456789ab"

masks = Masks(KEY, secrets=(SECRET,))


@pytest.mark.parametrize(
    "written",
    ["+60 12-345 6700", "60123456700", "0123456700", "012-345 6700", "+60123456700", "(012) 345.6700", "012/3456700"],
)
def test_one_person_has_one_token_however_the_number_is_written(written: str) -> None:
    token = masks.number("+60123456700").lstrip("+")
    assert TOKEN.fullmatch(token)
    assert masks.number(written).lstrip("+") == token
    assert token in masks.text(f"call to {written} ended")
    assert "345" not in masks.text(f"call to {written} ended")


def test_another_key_gives_another_token() -> None:
    assert Masks(b"x" * 32).number("60123456700") != masks.number("60123456700")


@pytest.mark.parametrize(
    "text",
    [
        UUID,
        "mikopbx-adapter-0123456789ab-17",
        "2026-01-31 09:00:00",
        "2026-01-31T09:00:00.123456+00:00",
        "SIP-TRUNK-12345678",
        "answered, 34 s; cause 16, SIP 486",
        "within 8 s",
    ],
)
def test_ids_times_and_codes_stay(text: str) -> None:
    assert masks.text(text) == text


@pytest.mark.parametrize(
    ("channel", "kept"),
    [
        ("PJSIP/SIP-TRUNK-12345678-0000001a", "PJSIP/SIP-TRUNK-12345678-0000001a"),
        ("Local/60123456700@all_peers-00000012;2", "Local/{}@all_peers-00000012;2"),
        ("PJSIP/60123456700@SIP-TRUNK-1A2B3C4D", "PJSIP/{}@SIP-TRUNK-1A2B3C4D"),
        ("PJSIP/201-00000012", "PJSIP/201-00000012"),
    ],
)
def test_channels_keep_their_own_number_and_lose_the_persons(channel: str, kept: str) -> None:
    token = masks.number("60123456700")
    assert masks.headers({"Event": "Newchannel", "Channel": channel})["Channel"] == kept.format(token)


def test_secrets_go_by_value_and_by_their_looks() -> None:
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.abc-DEF_123"
    text = masks.text(f"{SECRET} {jwt} sb_secret_abc123 Bearer abc.def Basic dTpw")
    assert text.split() == ["<secret>"] * 5


def test_a_login_and_an_originate_keep_nothing_private() -> None:
    login = masks.headers({"Action": "Login", "Username": "dialer", "Secret": SECRET, "Events": "call"})
    assert login == {"Action": "Login"}
    originate = masks.headers(
        {
            "Action": "Originate",
            "ActionID": UUID,
            "CallerID": "Aminah <60123456700>",
            "Variable": [f"DB(mikopbx-adapter/7)=7:{UUID}", "TIMEOUT(absolute)=930", "CUSTOMER_NAME=Aminah", "x=1"],
        }
    )
    assert originate == {
        "Action": "Originate",
        "ActionID": UUID,
        "Variable": f"DB(mikopbx-adapter/7)=7:{UUID} TIMEOUT(absolute)=930",
    }
    assert masks.headers({"Event": "VarSet", "Variable": "CUSTOMER_NAME", "Value": "AMINAH"}) == {"Event": "VarSet"}


def test_a_body_keeps_the_listed_keys_only() -> None:
    row = {"call_id": UUID, "e164": "+60123456700", "phone_number": "012-345 6700", "customer_name": "Aminah"}
    told = {"rows": [{**row, "variables": {"call_id": "a dog"}, "user_id": UUID}], "novel": [1], "holder": True}
    token = masks.number("60123456700")
    assert masks.body(told) == {
        "rows": [{"call_id": UUID, "e164": f"+{token}", "phone_number": token}],
        "holder": True,
    }


def test_no_private_key_or_header_is_listed() -> None:
    assert not KEYS & {"customer_name", "variables", "user_id", "campaign_id", "contact_id", "prompt_id", "p_nonce"}
    assert not HEADERS.keys() & {"Secret", "Username", "CallerIDName", "CallerIDNum", "ConnectedLineNum", "AppData"}


def test_what_the_core_hears_is_recorded() -> None:
    """Every header of the recordings that the core is tested with comes through, of each event it listens to."""
    for name in transcripts.names():
        for message in transcripts.load(name).messages:
            if message.get("Event") in EVENTS:
                wanted = {k for k, v in message.fields.items() if v and k not in {"OtherChannelId"}}
                assert wanted <= masks.headers(message.fields).keys(), (name, message)


@given(st.text(alphabet="0123456789 +-().,;:/abN", min_size=1, max_size=60))
def test_no_number_gets_through_a_text(text: str) -> None:
    """Five digits with no more than two signs of a phone number between them are one. Dates are kept."""
    left = re.sub(r"<#[0-9a-f]{12}>|(?:19|20)\d\d-[01]\d-[0-3]\d", "", masks.text(text))
    assert not re.search(r"\d(?:[ ().\-/]{0,2}\d){4}", left)


@given(st.text(max_size=2000))
def test_any_text_is_bounded_and_can_be_written(text: str) -> None:
    masked = masks.text(text * 3)
    assert len(masked) <= MAX_TEXT + 1
    json.dumps(masked)
