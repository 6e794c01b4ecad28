"""Settings that would end up inside dialplan functions or AMI headers are checked where they are made."""

import pytest

from tests.pbx.helpers import config
from tests.support.ami_server import AmiServer


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("ai_context", "all_peers,999", "AI_CONTEXT"),
        ("ai_context", "", "AI_CONTEXT"),
        ("ai_context", "outgoing", "leads out to the carrier"),
        ("ai_context", "internal-originate", "leads out to the carrier"),
        ("ai_extension", "999,1)", "AI_EXTENSION"),
        ("ai_extension", "", "AI_EXTENSION"),
        ("trunk", "my carrier", "TRUNK"),
        ("trunk", "X)}", "TRUNK"),
        ("password", "a\r\nb", "MIKOPBX_AMI_PASSWORD"),
        ("password", "", "MIKOPBX_AMI_PASSWORD"),
        ("username", "a\x00b", "MIKOPBX_AMI_USERNAME"),
        ("window", 0, "AMI_WINDOW"),
    ],
)
def test_a_bad_setting_is_named(field: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config(AmiServer(username="u", password="p"), **{field: value})


def test_the_password_is_never_printed() -> None:
    assert "hush-hush" not in repr(config(AmiServer(username="u", password="hush-hush")))
