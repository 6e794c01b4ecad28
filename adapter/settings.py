"""Settings: read once from the environment and an explicit `.env`, checked all at once, frozen.

The table `SETTINGS` is the only place where a name, its default and the reason for it stand; `.env.example` and
`docs/reference/settings.md` are made from it (`python -m adapter.reference`). The process environment wins
over the file, as containers expect; the file is read without interpolation (ENV-01: `${` in a password would be
altered silently) and never searched for (ENV-02). A secret may stand in a file of its own, named by `<NAME>_FILE`, as
Docker and Kubernetes hand them over: it then shows in no `docker inspect` and no `/proc/<pid>/environ`.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from phonenumbers import SUPPORTED_REGIONS

from adapter.core.model import Form
from adapter.core.originate import JOURNAL_SLOTS
from adapter.core.outcomes import NO_ANSWER_WORDS

Parse = Callable[[str], Any]

MISSING = object()

ANY_COUNTRY = "*"

FILE = "_FILE"
"""Ending of the name that gives a secret by the file in which it stands."""

SECRET_BYTES = 8192
"""A key is a few hundred bytes. More is the wrong file, and a device such as /dev/zero never ends."""


class SettingsError(Exception):
    """One or more settings are missing or wrong; `problems` has one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the table: environment name, parser, default, why, group for the documentation."""

    name: str
    group: str
    parse: Parse
    why: str
    default: Any = MISSING
    secret: bool = False
    example: str = ""


def _text(value: str) -> str:
    return value


def _matching(pattern: str, words: str) -> Parse:
    compiled = re.compile(pattern)

    def parse(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(words)
        return value

    return parse


def _whole(low: int, high: int) -> Parse:
    def parse(value: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,9}", value) or not low <= int(value) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return parse


def _decimal(low: float, high: float) -> Parse:
    def parse(value: str) -> float:
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", value) or not low <= float(value) <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return float(value)

    return parse


def _one_of(*words: str) -> Parse:
    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ValueError("must be one of " + ", ".join(words))
        return value.lower()

    return parse


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~/-]*)?", value):
        raise ValueError("must be the project's address, like https://abcdefgh.supabase.co")
    if value.startswith("http://") and not re.match(r"http://(localhost|127\.|\[::1\]|[a-z0-9_-]+(:|/|$))", value):
        raise ValueError("must begin with https:// (plain http is taken for this machine and its containers only)")
    return value.rstrip("/")


def _form(value: str) -> Form:
    try:
        return Form(value.lower())
    except ValueError:
        raise ValueError("must be one of " + ", ".join(Form)) from None


def _countries(value: str) -> tuple[str, ...]:
    codes = tuple(dict.fromkeys(value.replace(",", " ").upper().split()))
    unknown = [code for code in codes if code not in SUPPORTED_REGIONS]
    if codes != (ANY_COUNTRY,) and unknown:
        raise ValueError(f"must be country codes of two letters like MY,SG, or * alone; {unknown[0]} is no such code")
    return codes


def _path(value: str) -> Path:
    return Path(value).expanduser()


_SUPABASE = "Supabase"
_PBX = "MikoPBX"
_DIALING = "Dialing"
_APP = "The app"
_LIMITS = "Limits and pace"
_RUN = "Running"

SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="SUPABASE_URL",
        group=_SUPABASE,
        parse=_url,
        example="https://abcdefgh.supabase.co",
        why="Project URL, from the dashboard's page Project Settings, API.",
    ),
    Setting(
        name="SUPABASE_SERVICE_ROLE_KEY",
        group=_SUPABASE,
        parse=_text,
        default="",
        secret=True,
        why="Secret key: the legacy service_role JWT, or an sb_secret_ key. Never the anon or publishable key.",
    ),
    Setting(
        name="SUPABASE_SECRET_KEY",
        group=_SUPABASE,
        parse=_text,
        default="",
        secret=True,
        why="Other name for the same thing; give exactly one of the two.",
    ),
    Setting(
        name="SUPABASE_ANON_KEY",
        group=_SUPABASE,
        parse=_text,
        default="",
        secret=True,
        why="Only for doctor, which then tries what a stranger with this key may read and write: the anon JWT or the "
        "sb_publishable_ key that your web pages carry anyway. Empty: that check is not made.",
    ),
    Setting(
        name="DOORBELL",
        group=_SUPABASE,
        parse=_one_of("auto", "broadcast", "changes", "off"),
        default="auto",
        why="How an insert is heard: auto takes the private broadcast (about 1 ms) where it works and INSERT changes "
        "(10 to 500 ms) else. Rows are dialed by the sweep even when every bell is silent.",
    ),
    Setting(
        name="SWEEP_SECONDS",
        group=_SUPABASE,
        # The heartbeat rides on the sweep, and three of them must fit into a lease of 60 s.
        parse=_decimal(0.2, 20),
        default=5.0,
        why="Longest wait until a row is looked for without a bell. 5 s costs 12 small requests a minute.",
    ),
    Setting(
        name="MIKOPBX_HOST",
        group=_PBX,
        parse=_matching(r"[A-Za-z0-9.:_-]{1,253}", "must be a host name or an address"),
        example="pbx.example.com",
        why="Address, in a private network, a VPN or an SSH tunnel. AMI is clear text: a public address is refused.",
    ),
    Setting(
        name="MIKOPBX_AMI_PORT",
        group=_PBX,
        parse=_whole(1, 65535),
        default=5038,
        why="AMI port; 5038 is MikoPBX's default.",
    ),
    Setting(
        name="MIKOPBX_AMI_USERNAME",
        group=_PBX,
        parse=_matching(r"[!-~]{1,80}", "must be printable characters without spaces"),
        example="dialer",
        why="AMI user with read call, system, user and write originate, call, reporting; nothing more.",
    ),
    Setting(
        name="MIKOPBX_AMI_PASSWORD",
        group=_PBX,
        parse=_matching(r"[^\x00-\x1f\x7f]{1,200}", "must be on one line, without control characters"),
        secret=True,
        why="Secret of that user.",
    ),
    Setting(
        name="PBX_NAME",
        group=_PBX,
        parse=_matching(r"[A-Za-z0-9._:-]{1,64}", "must be 1 to 64 letters, digits, dots, colons or dashes"),
        default="",
        why="Name of this PBX in the database; one adapter dials through one name at a time. Default: MIKOPBX_HOST.",
    ),
    Setting(
        name="TRUNK",
        group=_DIALING,
        parse=_matching(r"[A-Za-z0-9_-]{1,64}", "must be the provider id, like SIP-TRUNK-1A2B3C4D"),
        default="",
        example="SIP-TRUNK-1A2B3C4D",
        why="Provider id (the provider page's address shows it); the display name does not work. Required with "
        "DIAL_FORM=trunk; not used with route, where MikoPBX chooses.",
    ),
    Setting(
        name="DIAL_FORM",
        group=_DIALING,
        parse=_form,
        default=Form.TRUNK,
        why="trunk: the callee first, straight through the provider; the clearest outcomes and no hidden second ring. "
        "route: by MikoPBX's own outgoing routes; a number that two of them match is refused, for it would ring twice.",
    ),
    Setting(
        name="NUMBER_STYLE",
        group=_DIALING,
        parse=_one_of("e164", "plus", "national"),
        default="e164",
        why="How the carrier wants numbers: 60123456700, +60123456700 or 0123456700. Most take the first.",
    ),
    Setting(
        name="CALLER_ID",
        group=_DIALING,
        parse=_matching(r"(\+?[0-9]{3,15})?", "must be 3 to 15 digits, with or without a plus"),
        default="",
        why="Number shown to the callee where the carrier lets it through; empty leaves the provider's own.",
    ),
    Setting(
        name="AI_EXTENSION",
        group=_DIALING,
        parse=_matching(r"[0-9A-Za-z*#]{1,40}", "must be an extension"),
        default="999",
        why="Extension of the AI handler, a dialplan application. 999 is the app's own.",
    ),
    Setting(
        name="AI_CONTEXT",
        group=_DIALING,
        parse=_matching(r"[A-Za-z0-9_-]{1,79}", "must be a dialplan context"),
        default="all_peers",
        why="Context of that extension; MikoPBX finds dialplan applications through all_peers.",
    ),
    Setting(
        name="DEFAULT_REGION",
        group=_DIALING,
        parse=_matching(r"[A-Z]{2}", "must be a country code of two capital letters, like MY"),
        default="MY",
        why="Country of numbers written without one; Malaysia is the app's home.",
    ),
    Setting(
        name="ALLOWED_COUNTRIES",
        group=_DIALING,
        parse=_countries,
        default="",
        example="MY,SG",
        why="Countries that may be called, as codes of two letters. Empty: that of DEFAULT_REGION only, since calls "
        "abroad are what a stolen key is used for. * allows every country, satellites among them.",
    ),
    Setting(
        name="RING_SECONDS",
        group=_DIALING,
        parse=_whole(5, 120),
        default=30,
        why="How long it may ring. 30 s is what the app used; carriers' voice mail often starts after 25 to 30.",
    ),
    Setting(
        name="MAX_CALL_SECONDS",
        group=_DIALING,
        parse=_whole(30, 14_400),
        default=900,
        why="Longest talk. Asterisk itself ends the call then, so it holds even while the adapter is away.",
    ),
    Setting(
        name="NO_ANSWER_WORD",
        group=_DIALING,
        parse=_one_of(*NO_ANSWER_WORDS),
        default="no_answered",
        why="Status of an unanswered call: no_answered fills the app's counters, no_answer its page Failed Calls.",
    ),
    Setting(
        name="AGENT_ID",
        group=_DIALING,
        parse=_matching(r"[!-~]{1,100}", "must be printable characters without spaces"),
        default="mikopbx-adapter",
        why="call_logs.agent_id for rows that name neither an agent nor a prompt; the column may not be empty.",
    ),
    Setting(
        name="BILLING",
        group=_APP,
        parse=_one_of("off", "minutes"),
        # No default: a wrong guess would charge every call twice, or none.
        why="Who takes the minutes of an answered call from the user's balance. off: nobody here, the AI handler "
        "charges; minutes: the adapter does, by seconds of talk, once per call. Choose one.",
    ),
    Setting(
        name="BILLING_STEP",
        group=_APP,
        parse=_whole(1, 3600),
        default=1,
        why="With BILLING=minutes: talk is charged in steps of so many seconds, a started one in full. 1 charges no "
        "second that nobody talked; 60 charges started minutes.",
    ),
    Setting(
        name="LOG_ROWS",
        group=_APP,
        parse=_one_of("attempt", "person"),
        default="attempt",
        why="Rows of call_logs of a person who is called again. attempt: one for each call, as the app always had; "
        "person: the last call's only, with the earlier ones in its metadata, so that pages count people.",
    ),
    Setting(
        name="MAX_CALLS",
        group=_LIMITS,
        parse=_whole(1, 2000),
        default=50,
        why="Calls in the air through this PBX. MikoPBX's default RTP range carries about 100 streams; 50 is safe.",
    ),
    Setting(
        name="MAX_CALLS_PER_USER",
        group=_LIMITS,
        parse=_whole(1, 2000),
        default=10,
        why="Calls in the air of one user; 10 is the app's own pro_max_concurrent_calls.",
    ),
    Setting(
        name="MAX_CALLS_PER_USER_DAY",
        group=_LIMITS,
        parse=_whole(0, 1_000_000),
        default=0,
        why="Calls of one user in a day, by the clock of DEFAULT_REGION. 0: no cap, for we cannot know what is much "
        "for your users; table call_user_caps has others for single ones. His rows wait for the next day.",
    ),
    Setting(
        name="MAX_MINUTES_PER_USER_DAY",
        group=_LIMITS,
        parse=_whole(0, 1_000_000),
        default=0,
        why="Minutes of talk of one user in a day, as above. 0: no cap. A call counts when it has ended, so those in "
        "the air may go on over it.",
    ),
    Setting(
        name="REPEAT_CALLS",
        group=_LIMITS,
        parse=_whole(1, 1000),
        default=6,
        why="One number is called so many times at most within REPEAT_HOURS, whatever user or campaign: the first try "
        "with its three retries, and a second campaign's two. Calls that were refused before it rang do not count.",
    ),
    Setting(
        name="REPEAT_HOURS",
        group=_LIMITS,
        # As long as calls are remembered (call_dials).
        parse=_whole(1, 720),
        default=24,
        why="The time that REPEAT_CALLS is about. A day, as most rules of law count.",
    ),
    Setting(
        name="CALLS_PER_SECOND",
        group=_LIMITS,
        parse=_decimal(0.1, 200),
        default=5.0,
        why="New calls a second, in all. A small PBX sets up about ten a second with media and gives no back-pressure. "
        "This is the limit, also of TRUNK; the pace starts at a quarter of it, and falls while the PBX answers late.",
    ),
    Setting(
        name="MAX_CALLS_IN_SETUP",
        group=_LIMITS,
        parse=_whole(1, 2000),
        default=25,
        why="Calls at once that are not answered yet. Should all of them answer together, a PBX that sets up ten a "
        "second is done within three seconds, and half of MAX_CALLS stays for those who talk.",
    ),
    Setting(
        name="TRUNK_CHANNELS",
        group=_LIMITS,
        parse=_whole(0, 2000),
        default=0,
        why="Calls that the carrier's account behind TRUNK carries at once, those of people among them. 0: "
        "not known, as most carriers tell no number; then only MAX_CALLS counts. Trunks of table call_trunks have it "
        "there, as max_channels.",
    ),
    Setting(
        name="RESERVED_CHANNELS",
        group=_LIMITS,
        parse=_whole(0, 100),
        default=2,
        why="Channels of each trunk that are kept for people, where it is known how many it has: 2 leave room for one "
        "call in and one out at any moment.",
    ),
    Setting(
        name="AMI_WINDOW",
        group=_LIMITS,
        parse=_whole(1, 64),
        default=8,
        why="Originates that may await their Response at once: the most calls that a dying PBX leaves in doubt.",
    ),
    Setting(
        name="ORPHAN_AFTER",
        group=_LIMITS,
        parse=_whole(60, 86_400),
        default=1800,
        why="Seconds past its longest life after which a call that nobody can follow ends as unknown.",
    ),
    Setting(
        name="STATE_DIR",
        group=_RUN,
        parse=_path,
        default=Path("/var/lib/mikopbx-adapter"),
        why="Folder of the lock, the adapter's identity and the outbox; a volume in Docker, never shared by two.",
    ),
    Setting(
        name="DRAIN_SECONDS",
        group=_RUN,
        parse=_decimal(1, 300),
        default=8.0,
        why="Longest stop after SIGTERM; below the 10 s after which Docker kills. Live calls go on by themselves.",
    ),
    Setting(
        name="FLIGHT_MB",
        group=_RUN,
        parse=_whole(0, 4096),
        default=64,
        why="Megabytes in STATE_DIR for the flight recorder, the masked record of what was said on both links "
        "(docs/flight-recorder.md). 64 hold about 8,000 calls or four quiet days; 0 switches it off.",
    ),
    Setting(
        name="LOG_LEVEL",
        group=_RUN,
        parse=lambda value: _one_of("debug", "info", "warning", "error")(value).upper(),
        default="INFO",
        why="debug, info, warning or error; info says each change of state once.",
    ),
    Setting(
        name="LOG_FORMAT",
        group=_RUN,
        parse=_one_of("auto", "json", "human"),
        default="auto",
        why="auto: words on a terminal, JSON else.",
    ),
    Setting(
        name="LOG_NUMBERS",
        group=_RUN,
        parse=_one_of("masked", "full"),
        default="masked",
        why="Phone numbers in logs: masked but for the last three digits, or full.",
    ),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}

EVERYTHING = frozenset(_BY_NAME)
"""Names that `run` and `doctor` need."""

DESK = frozenset(setting.name for setting in SETTINGS if setting.group == _SUPABASE) | {"DEFAULT_REGION"}
"""Names that are enough to queue a call and to look at the queue, on a machine that knows no PBX."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective settings: `settings["MAX_CALLS"]`, and the source of each (`environment`, `file`, `default`, or
    `file …` with the path for a secret)."""

    values: Mapping[str, Any]
    sources: Mapping[str, str]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def supabase_key(self) -> str:
        """The one secret key that was given."""
        return str(self.values["SUPABASE_SERVICE_ROLE_KEY"] or self.values["SUPABASE_SECRET_KEY"])

    @property
    def pbx_name(self) -> str:
        """Name of this PBX in the database."""
        return str(self.values["PBX_NAME"] or self.values["MIKOPBX_HOST"])

    @property
    def countries(self) -> tuple[str, ...]:
        """Countries that may be called; `*` for any."""
        return tuple(self.values["ALLOWED_COUNTRIES"]) or (str(self.values["DEFAULT_REGION"]),)

    @property
    def caps(self) -> Mapping[str, int | None]:
        """How much a user may call in a day, None where there is no cap, and how often a number may be called."""
        return {
            "calls_per_day": self.values["MAX_CALLS_PER_USER_DAY"] or None,
            "minutes_per_day": self.values["MAX_MINUTES_PER_USER_DAY"] or None,
            "repeat": self.values["REPEAT_CALLS"],
            "repeat_hours": self.values["REPEAT_HOURS"],
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and may still be a mistake, in words."""
        if ANY_COUNTRY not in self.countries:
            return ()
        words = (
            "ALLOWED_COUNTRIES is *: every country and satellite may be called, whatever a minute there costs. Name "
            "the countries that your users call"
        )
        return (words,)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must never reach a log."""
        return tuple(str(self.values[s.name]) for s in SETTINGS if s.secret and self.values.get(s.name))


def read(environ: Mapping[str, str], env_file: Path | None = None, *, need: frozenset[str] = EVERYTHING) -> Settings:
    """Settings from `environ` over `env_file`; raises `SettingsError` with every problem found.

    An empty value counts as not given, since a container passes `NAME=` for a variable that nobody set. Only the names
    in `need` are read; the others may be missing or wrong, and are not in the result.
    """
    problems: list[str] = []
    file_values = _file_values(env_file, problems)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting in SETTINGS:
        if setting.name not in need:
            continue
        try:
            raw, source = _given(setting, environ, file_values)
        except ValueError as error:
            problems.append(str(error))
            continue
        if not raw:
            sources[setting.name] = "default"
            if setting.default is MISSING:
                problems.append(f"{setting.name} is missing. {setting.why}")
            else:
                values[setting.name] = setting.default
            continue
        sources[setting.name] = source
        try:
            values[setting.name] = setting.parse(raw)
        except ValueError as error:
            shown = "its value" if setting.secret else repr(raw[:60])
            problems.append(f"{setting.name} {error}; {shown} (from the {source}) is not.")
    for names, rule in _RULES:
        if names <= values.keys():
            problems += rule(values)
    if problems:
        raise SettingsError(problems)
    return Settings(values, sources)


def _given(setting: Setting, environ: Mapping[str, str], file_values: Mapping[str, str | None]) -> tuple[str, str]:
    """What was given for a setting, and where; empty texts if nothing. Raises ValueError with words."""
    for values, source in ((environ, "environment"), (file_values, "file")):
        raw = (values.get(setting.name) or "").strip()
        path = (values.get(setting.name + FILE) or "").strip() if setting.secret else ""
        if raw and path:
            raise ValueError(f"{setting.name} and {setting.name}{FILE} are both given (in the {source}); keep one.")
        if path:
            return _secret_of(Path(path), setting.name + FILE), f"file {path}"
        if raw:
            return raw, source
    return "", ""


def _secret_of(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_BYTES + 1)
        text = content.decode("utf-8-sig").strip()
    except (OSError, UnicodeError) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else "not text in UTF-8"
        raise ValueError(f"{name} names {path}, which cannot be read ({told}).") from None
    if not text or len(content) > SECRET_BYTES:
        what = "is empty" if not text else f"is longer than {SECRET_BYTES} bytes"
        raise ValueError(f"{name} names {path}, which {what}; it must hold the secret and nothing else.")
    return text


def _keys(values: Mapping[str, Any]) -> list[str]:
    given = [name for name in ("SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SECRET_KEY") if values[name]]
    if not given:
        return ["SUPABASE_SERVICE_ROLE_KEY is missing. " + _BY_NAME["SUPABASE_SERVICE_ROLE_KEY"].why]
    if len(given) == 2 and values[given[0]] != values[given[1]]:
        return ["SUPABASE_SERVICE_ROLE_KEY and SUPABASE_SECRET_KEY differ; give only one of them."]
    return []


def _trunk(values: Mapping[str, Any]) -> list[str]:
    if values["DIAL_FORM"] is Form.TRUNK and not values["TRUNK"]:
        return ["TRUNK is missing. " + _BY_NAME["TRUNK"].why]
    return []


def _most_per_user(values: Mapping[str, Any]) -> list[str]:
    if values["MAX_CALLS_PER_USER"] > values["MAX_CALLS"] and values["MAX_CALLS_PER_USER"] != 10:
        return ["MAX_CALLS_PER_USER is above MAX_CALLS; it could never be reached."]
    return []


def _most_in_setup(values: Mapping[str, Any]) -> list[str]:
    if values["MAX_CALLS_IN_SETUP"] > values["MAX_CALLS"] and values["MAX_CALLS_IN_SETUP"] != 25:
        return ["MAX_CALLS_IN_SETUP is above MAX_CALLS; it could never be reached."]
    return []


def _channels(values: Mapping[str, Any]) -> list[str]:
    if 0 < values["TRUNK_CHANNELS"] <= values["RESERVED_CHANNELS"]:
        return ["RESERVED_CHANNELS keeps all of TRUNK_CHANNELS for people: nobody would ever be called. Lower it."]
    return []


def _journal(values: Mapping[str, Any]) -> list[str]:
    # A call that fails writes its journal entry once more at that moment (seen on a real Asterisk). It must not fall on
    # the entry of a later call in the same slot, so all slots may not be used up within one ringing.
    if values["CALLS_PER_SECOND"] * (values["RING_SECONDS"] + 10) > JOURNAL_SLOTS:
        told = (
            f"CALLS_PER_SECOND times RING_SECONDS + 10 must stay below {JOURNAL_SLOTS}, or the journal on the PBX "
            "could no longer prove which call was never made."
        )
        return [told]
    return []


_RULES: tuple[tuple[frozenset[str], Callable[[Mapping[str, Any]], list[str]]], ...] = (
    (frozenset({"SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SECRET_KEY"}), _keys),
    (frozenset({"DIAL_FORM", "TRUNK"}), _trunk),
    (frozenset({"MAX_CALLS", "MAX_CALLS_PER_USER"}), _most_per_user),
    (frozenset({"MAX_CALLS", "MAX_CALLS_IN_SETUP"}), _most_in_setup),
    (frozenset({"TRUNK_CHANNELS", "RESERVED_CHANNELS"}), _channels),
    (frozenset({"CALLS_PER_SECOND", "RING_SECONDS"}), _journal),
)
"""What several settings owe each other: looked at when all of them were read."""


def _file_values(env_file: Path | None, problems: list[str]) -> Mapping[str, str | None]:
    if env_file is None:
        return {}
    try:
        if not env_file.is_file():
            raise FileNotFoundError(f"there is no file {env_file}")
        text = env_file.read_text("utf-8-sig")
    except (OSError, UnicodeError) as error:
        problems.append(f"The settings file {env_file} cannot be read: {error}")
        return {}
    problems += (
        # The line itself is not shown: it may hold a secret.
        f"Line {line} of the settings file {env_file} cannot be read; write NAME=value, quotes closed."
        for line in _unreadable_lines(text)
    )
    return dotenv_values(stream=StringIO(text), interpolate=False)


def _unreadable_lines(text: str) -> list[int]:
    """Lines that python-dotenv would pass over with a word in the log: the setting would silently be its default."""
    return [
        # A statement counts from the empty lines before it.
        binding.original.line + binding.original.string.removesuffix(binding.original.string.lstrip()).count("\n")
        for binding in parse_stream(StringIO(text))
        if binding.error or (binding.value is None and binding.key in _BY_NAME)
    ]


def shown(settings: Settings) -> tuple[tuple[str, str, str], ...]:
    """`(name, value, source)` of every setting, secrets as `(set)` or `(not set)`: for eyes and logs."""
    return tuple(
        (setting.name, _shown(setting, settings.values[setting.name]), settings.sources[setting.name])
        for setting in SETTINGS
    )


def _shown(setting: Setting, value: Any) -> str:
    if setting.secret:
        return "(set)" if value else "(not set)"
    return str(value)


def from_process(env_file: Path | None, *, need: frozenset[str] = EVERYTHING) -> Settings:
    """Settings of this process, those in `need`: its environment over `env_file`."""
    return read(os.environ, env_file, need=need)
