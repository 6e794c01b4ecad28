"""The key is looked at before it is used."""

import logging
import secrets
import time

import pytest

from adapter.log import clean
from adapter.supabase_io.config import KeyKind, SupabaseConfig
from tests.supabase_io.samples import jwt

URL = "https://abcdefgh.supabase.co"


def test_both_kinds_of_key_are_known_and_silent() -> None:
    legacy = SupabaseConfig(url=URL, key=jwt(ref="abcdefgh"))
    assert legacy.key_kind is KeyKind.LEGACY
    assert legacy.warnings(time.time()) == ()
    opaque = SupabaseConfig(url=URL + "/", key="sb_secret_" + secrets.token_urlsafe(24))
    assert opaque.key_kind is KeyKind.OPAQUE
    assert opaque.warnings(time.time()) == ()
    assert opaque.url == URL


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (jwt("anon"), "'anon'"),
        (jwt("authenticated"), "'authenticated'"),
        ("sb_publishable_" + secrets.token_urlsafe(24), "publishable"),
        ("", "empty"),
        (jwt() + "\n", "line break"),
        ("clé-secrète", "foreign"),
    ],
    # Named, since a made key would be another name in each worker of pytest-xdist.
    ids=["anon", "authenticated", "publishable", "empty", "line break", "foreign"],
)
def test_a_key_that_cannot_be_right_is_refused_in_words(key: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        SupabaseConfig(url=URL, key=key)
    assert "service_role" in str(refusal.value)
    assert not key or key not in str(refusal.value)


def test_an_expired_key_and_a_key_of_another_project_are_told_but_tried() -> None:
    config = SupabaseConfig(url=URL, key=jwt(lives=-86_400 * 3, ref="zyxwvuts"))
    expired, foreign = config.warnings(time.time())
    assert "expired 3 days ago" in expired
    assert "zyxwvuts" in foreign
    assert "abcdefgh" in foreign
    # A self-hosted project has no ref in its name.
    assert SupabaseConfig(url="http://192.0.2.7:8000", key=jwt(ref="zyxwvuts")).warnings(time.time()) == ()


def test_an_unknown_kind_of_key_is_tried_with_a_word() -> None:
    config = SupabaseConfig(url=URL, key="any-key-of-a-gateway.a.b")
    assert config.key_kind is KeyKind.OTHER
    assert len(config.warnings(time.time())) == 1


@pytest.mark.parametrize("url", ["abcdefgh.supabase.co", "ftp://example.com", "https://", "https://example.com/?a=b"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="SUPABASE_URL"):
        SupabaseConfig(url=url, key=jwt())


def test_rt_25_the_key_is_neither_in_repr_nor_in_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    key = jwt()
    config = SupabaseConfig(url=URL, key=key)
    assert key not in repr(config)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("any").warning("a library prints %s", key)
    assert key not in clean(caplog.text)
