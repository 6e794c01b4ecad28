"""Settings: all errors at once, sources, secrets, and the files made from the table."""

import json
import os
import re
from pathlib import Path

import pytest

from adapter.cli import main
from adapter.core.model import Form
from adapter.reference import commands_page, env_example, outcomes_page, settings_page
from adapter.settings import DESK, SETTINGS, SettingsError, read

ROOT = Path(__file__).parents[1]

REQUIRED = {
    "SUPABASE_URL": "https://abcdefgh.supabase.co/",
    "SUPABASE_SERVICE_ROLE_KEY": "key-of-a-test",
    "MIKOPBX_HOST": "192.0.2.10",
    "MIKOPBX_AMI_USERNAME": "dialer",
    "MIKOPBX_AMI_PASSWORD": "p${HOME}#'\"ss word",
    "TRUNK": "SIP-TRUNK-1A2B3C4D",
    "BILLING": "off",
}


def test_required_settings_are_enough() -> None:
    settings = read(REQUIRED)
    assert settings["SUPABASE_URL"] == "https://abcdefgh.supabase.co"
    assert settings["AI_EXTENSION"] == "999"
    assert settings["DIAL_FORM"] is Form.TRUNK
    assert settings["SWEEP_SECONDS"] == 5.0
    assert settings.pbx_name == "192.0.2.10"
    assert settings.sources["MAX_CALLS"] == "default"


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        read({"SUPABASE_URL": "ftp://x", "MIKOPBX_AMI_PORT": "70000", "TRUNK": "my carrier", "RING_SECONDS": "1e3"})
    text = "\n".join(caught.value.problems)
    for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "MIKOPBX_HOST", "MIKOPBX_AMI_USERNAME"):
        assert name in text
    for name in ("MIKOPBX_AMI_PASSWORD", "MIKOPBX_AMI_PORT", "TRUNK", "RING_SECONDS", "BILLING"):
        assert name in text
    assert len(caught.value.problems) == 9


@pytest.mark.parametrize("given", [None, "", "  ", "yes"])
def test_who_charges_must_be_chosen_and_the_choices_are_named(given: str | None) -> None:
    environ = {name: value for name, value in REQUIRED.items() if name != "BILLING"}
    with pytest.raises(SettingsError) as caught:
        read(environ if given is None else {**environ, "BILLING": given})
    (problem,) = caught.value.problems
    assert problem.startswith("BILLING ")
    assert re.search(r"\boff\b", problem)
    assert re.search(r"\bminutes\b", problem)


def test_both_choices_are_taken_and_the_rest_of_it_has_defaults() -> None:
    for word in ("off", "minutes", "Minutes"):
        settings = read({**REQUIRED, "BILLING": word})
        assert settings["BILLING"] == word.lower()
        assert (settings["BILLING_STEP"], settings["LOG_ROWS"]) == (1, "attempt")
    settings = read({**REQUIRED, "BILLING_STEP": "60", "LOG_ROWS": "person"})
    assert (settings["BILLING_STEP"], settings["LOG_ROWS"]) == (60, "person")


def test_the_example_file_chooses_for_nobody() -> None:
    assert "\nBILLING=\n" in env_example()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_CALLS", "0"),
        ("MAX_CALLS", "٣"),
        ("SWEEP_SECONDS", "0"),
        ("SWEEP_SECONDS", "nan"),
        ("DEFAULT_REGION", "my"),
        ("AI_EXTENSION", "999,1"),
        ("AI_CONTEXT", "all peers"),
        ("CALLER_ID", "me"),
        ("DOORBELL", "loud"),
        ("DIAL_FORM", "agent-first"),
        ("BILLING", "on"),
        ("BILLING_STEP", "0"),
        ("LOG_ROWS", "call"),
        ("SUPABASE_URL", "http://abcdefgh.supabase.co"),
        ("MIKOPBX_AMI_USERNAME", "a\r\nb"),
        ("MIKOPBX_AMI_PASSWORD", "a\nb"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read({**REQUIRED, name: value})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(name)


def test_a_wrong_secret_is_never_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        read({**REQUIRED, "MIKOPBX_AMI_PASSWORD": "hush\x01hush"})
    assert "hush" not in str(caught.value)


def test_env_03_a_file_is_read_without_interpolation_and_the_environment_wins(tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_text(
        "MIKOPBX_AMI_PASSWORD='p${HOME}$$w'\nTRUNK=SIP-TRUNK-0000AAAA\nMAX_CALLS=7 # few\nUNKNOWN_NAME=1\n", "utf-8"
    )
    environ = {k: v for k, v in REQUIRED.items() if k != "MIKOPBX_AMI_PASSWORD"}
    settings = read(environ, file)
    assert settings["MIKOPBX_AMI_PASSWORD"] == "p${HOME}$$w"
    assert settings["TRUNK"] == "SIP-TRUNK-1A2B3C4D"
    assert settings["MAX_CALLS"] == 7
    assert settings.sources["MAX_CALLS"] == "file"
    assert settings.sources["TRUNK"] == "environment"


def test_env_01_env_04_values_are_taken_as_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_bytes(
        b"\xef\xbb\xbfTRUNK=SIP-TRUNK-0000AAAA # the carrier\r\n"
        b"MIKOPBX_AMI_PASSWORD='a #${HOME}\\n$$b'\r\n\r\n# a comment\r\nexport AGENT_ID=abc#def\r\nCALLER_ID=\r\n"
    )
    environ = {k: v for k, v in REQUIRED.items() if k not in ("MIKOPBX_AMI_PASSWORD", "TRUNK")}
    settings = read(environ, file)
    assert settings["TRUNK"] == "SIP-TRUNK-0000AAAA"
    assert settings["MIKOPBX_AMI_PASSWORD"] == "a #${HOME}\\n$$b"
    assert settings["AGENT_ID"] == "abc#def"
    assert settings["CALLER_ID"] == ""


@pytest.mark.parametrize(
    "line",
    ["MAX_CALLS: 7", "MAX_CALLS 7", "MAX_CALLS", "MIKOPBX_AMI_PASSWORD='hush", 'MIKOPBX_AMI_PASSWORD="hush" hush'],
)
def test_env_04_a_line_that_would_be_passed_over_is_an_error(tmp_path: Path, line: str) -> None:
    file = tmp_path / "settings"
    file.write_text(f"TRUNK=SIP-TRUNK-0000AAAA\n\n{line}\nMAX_CALLS_PER_USER=5\n", "utf-8")
    with pytest.raises(SettingsError) as caught:
        read(REQUIRED, file)
    (problem,) = caught.value.problems
    assert problem.startswith("Line 3 of the settings file")
    assert "hush" not in problem


def test_env_02_no_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("MAX_CALLS=7\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert read(REQUIRED)["MAX_CALLS"] == 50


def test_env_05_an_explicit_file_is_read_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings"
    file.write_text("MAX_CALLS=7\n", "utf-8")
    monkeypatch.setenv("PYTHON_DOTENV_DISABLED", "1")
    before = dict(os.environ)
    assert read(REQUIRED, file)["MAX_CALLS"] == 7
    assert dict(os.environ) == before, "nothing is put into the process's own environment"


def test_an_empty_variable_counts_as_absent() -> None:
    assert read({**REQUIRED, "CALLER_ID": "", "MAX_CALLS": " "})["MAX_CALLS"] == 50


def test_env_02_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no file"):
        read(REQUIRED, tmp_path / "absent")


def test_a_file_that_is_not_text_is_an_error_in_words(tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_bytes(b"TRUNK=\xff\xfe\n")
    with pytest.raises(SettingsError, match="cannot be read"):
        read(REQUIRED, file)


def test_either_name_of_the_key_is_taken() -> None:
    environ = {k: v for k, v in REQUIRED.items() if k != "SUPABASE_SERVICE_ROLE_KEY"}
    assert read({**environ, "SUPABASE_SECRET_KEY": "other"}).supabase_key == "other"
    with pytest.raises(SettingsError, match="differ"):
        read({**REQUIRED, "SUPABASE_SECRET_KEY": "other"})


def test_the_journal_must_outlast_a_ringing() -> None:
    with pytest.raises(SettingsError, match="journal"):
        read({**REQUIRED, "CALLS_PER_SECOND": "110"})
    assert read({**REQUIRED, "CALLS_PER_SECOND": "100"})["CALLS_PER_SECOND"] == 100


def test_more_calls_in_setup_than_calls_is_a_mistake() -> None:
    with pytest.raises(SettingsError, match="MAX_CALLS_IN_SETUP is above MAX_CALLS"):
        read({**REQUIRED, "MAX_CALLS_IN_SETUP": "60"})
    assert read({**REQUIRED, "MAX_CALLS": "10"})["MAX_CALLS_IN_SETUP"] == 25, "the default is in nobody's way"


def test_secrets_are_listed() -> None:
    assert set(read(REQUIRED).secrets) == {"key-of-a-test", REQUIRED["MIKOPBX_AMI_PASSWORD"]}


def test_every_setting_says_why() -> None:
    assert all(len(setting.why) > 15 for setting in SETTINGS)
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)


def test_the_trunk_is_asked_for_only_where_it_is_used() -> None:
    without = {name: value for name, value in REQUIRED.items() if name != "TRUNK"}
    with pytest.raises(SettingsError, match=r"TRUNK is missing.*Required with DIAL_FORM=trunk"):
        read(without)
    settings = read({**without, "DIAL_FORM": "Route"})
    assert (settings["DIAL_FORM"], settings["TRUNK"]) == (Form.ROUTE, "")


def test_generated_files_are_current() -> None:
    assert (ROOT / ".env.example").read_text("utf-8") == env_example()
    assert (ROOT / "docs/reference/settings.md").read_text("utf-8") == settings_page()
    assert (ROOT / "docs/reference/outcomes.md").read_text("utf-8") == outcomes_page()
    assert (ROOT / "docs/reference/commands.md").read_text("utf-8") == commands_page()


def test_the_example_file_is_complete(tmp_path: Path) -> None:
    """Filling in the two secrets of `.env.example`, and who charges, gives settings that work."""
    file = tmp_path / "settings"
    text = env_example()
    text = text.replace("SUPABASE_SERVICE_ROLE_KEY=\n", "SUPABASE_SERVICE_ROLE_KEY=k\n", 1)
    text = text.replace("\nBILLING=\n", "\nBILLING=minutes\n", 1)
    file.write_text(text.replace("MIKOPBX_AMI_PASSWORD=\n", "MIKOPBX_AMI_PASSWORD=p\n", 1), "utf-8")
    assert read({}, file)["TRUNK"] == "SIP-TRUNK-1A2B3C4D"


def _without(name: str) -> dict[str, str]:
    return {key: value for key, value in REQUIRED.items() if key != name}


def test_a_secret_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    secret = tmp_path / "ami"
    secret.write_bytes(b"\xef\xbb\xbf" + "p${HOME}# ss wörd\n".encode())
    settings = read(_without("MIKOPBX_AMI_PASSWORD") | {"MIKOPBX_AMI_PASSWORD_FILE": str(secret)})
    assert settings["MIKOPBX_AMI_PASSWORD"] == "p${HOME}# ss wörd"
    assert settings.sources["MIKOPBX_AMI_PASSWORD"] == f"file {secret}"
    assert "p${HOME}# ss wörd" in settings.secrets


def test_the_environment_wins_over_a_secret_that_the_file_of_settings_names(tmp_path: Path) -> None:
    (tmp_path / "env").write_text(f"MIKOPBX_AMI_PASSWORD_FILE={tmp_path / 'none'}\n")
    assert read(REQUIRED, tmp_path / "env").sources["MIKOPBX_AMI_PASSWORD"] == "environment"


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"\n \n", "is empty"), (b"\xff\xfe", "not text"), (b"a" * 9000, "longer than")],
    ids=["missing", "empty", "binary", "endless"],
)
def test_a_secret_file_that_is_none_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    secret = tmp_path / "ami"
    if content is not None:
        secret.write_bytes(content)
    with pytest.raises(SettingsError, match=words) as caught:
        read(_without("MIKOPBX_AMI_PASSWORD") | {"MIKOPBX_AMI_PASSWORD_FILE": str(secret)})
    (problem,) = caught.value.problems
    assert "MIKOPBX_AMI_PASSWORD_FILE" in problem
    assert str(secret) in problem


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="both given"):
        read(REQUIRED | {"MIKOPBX_AMI_PASSWORD_FILE": str(tmp_path / "ami")})


def test_config_shows_values_and_sources_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in _without("MIKOPBX_AMI_PASSWORD").items():
        monkeypatch.setenv(name, value)
    (tmp_path / "ami").write_text("a-secret-of-a-test\n")
    (tmp_path / "env").write_text(f"MAX_CALLS=7\nMAX_CALLS_PER_USER=5\nMIKOPBX_AMI_PASSWORD_FILE={tmp_path / 'ami'}\n")
    assert main(["config", "--env-file", str(tmp_path / "env"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["MAX_CALLS"] == {"value": "7", "source": "file"}
    assert told["MIKOPBX_HOST"] == {"value": "192.0.2.10", "source": "environment"}
    assert told["RING_SECONDS"] == {"value": "30", "source": "default"}
    assert told["MIKOPBX_AMI_PASSWORD"] == {"value": "(set)", "source": f"file {tmp_path / 'ami'}"}
    assert set(told) == {setting.name for setting in SETTINGS}
    assert main(["config", "--env-file", str(tmp_path / "env")]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == len(SETTINGS)
    for secret in ("a-secret-of-a-test", REQUIRED["SUPABASE_SERVICE_ROLE_KEY"]):
        assert secret not in out + json.dumps(told)


def test_config_tells_what_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MAX_CALLS", "many")
    assert main(["config"]) == 78
    assert "MAX_CALLS must be a whole number" in capsys.readouterr().err


def test_what_is_not_needed_may_be_missing_or_wrong() -> None:
    given = {name: REQUIRED[name] for name in REQUIRED if name.startswith("SUPABASE")}
    settings = read(given | {"MIKOPBX_AMI_PORT": "none"}, need=DESK)
    assert settings["SUPABASE_URL"] == "https://abcdefgh.supabase.co"
    assert set(settings.values) == DESK
    assert settings.secrets == (settings.supabase_key,)
    with pytest.raises(SettingsError) as caught:
        read({}, need=DESK)
    assert {problem.split()[0] for problem in caught.value.problems} == {"SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY"}


def test_channels_that_are_all_kept_for_people_are_refused() -> None:
    with pytest.raises(SettingsError, match="nobody would ever be called"):
        read({**REQUIRED, "TRUNK_CHANNELS": "2"})
    assert read({**REQUIRED, "TRUNK_CHANNELS": "2", "RESERVED_CHANNELS": "1"})["TRUNK_CHANNELS"] == 2
    assert read(REQUIRED)["TRUNK_CHANNELS"] == 0


def test_countries_are_the_default_region_unless_they_are_named() -> None:
    assert read(REQUIRED).countries == ("MY",)
    assert read({**REQUIRED, "DEFAULT_REGION": "SG"}).countries == ("SG",)
    assert read({**REQUIRED, "ALLOWED_COUNTRIES": "my, SG MY"}).countries == ("MY", "SG")
    assert read(REQUIRED).warnings == ()
    anywhere = read({**REQUIRED, "ALLOWED_COUNTRIES": "*"})
    assert anywhere.countries == ("*",)
    assert "every country and satellite may be called" in anywhere.warnings[0]


@pytest.mark.parametrize("value", ["Malaysia", "MY,XX", "MY,*", "60", "* *,MY"])
def test_what_is_no_list_of_countries_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="country codes of two letters"):
        read({**REQUIRED, "ALLOWED_COUNTRIES": value})


def test_no_cap_is_told_as_none() -> None:
    assert read(REQUIRED).caps == {"calls_per_day": None, "minutes_per_day": None, "repeat": 6, "repeat_hours": 24}
    given = {
        "MAX_CALLS_PER_USER_DAY": "40",
        "MAX_MINUTES_PER_USER_DAY": "90",
        "REPEAT_CALLS": "2",
        "REPEAT_HOURS": "48",
    }
    assert read(REQUIRED | given).caps == {"calls_per_day": 40, "minutes_per_day": 90, "repeat": 2, "repeat_hours": 48}
    for wrong in ({"REPEAT_CALLS": "0"}, {"REPEAT_HOURS": "721"}, {"MAX_CALLS_PER_USER_DAY": "-1"}):
        with pytest.raises(SettingsError, match="must be a whole number"):
            read(REQUIRED | wrong)
