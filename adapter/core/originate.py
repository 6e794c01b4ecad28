"""One queue row and the way out → the fields of one Originate, proven free of injection.

AMI has no escaping. A line feed in a value starts a header of its own and an empty line a whole new action, executed
with our rights; a comma in a `Variable` value starts the next variable; a line of more than 1022 bytes has the action
refused (mikopbx/outcomes section 4, libraries AMI-14). So nothing is written that has not passed here: numbers and
names by allow-list, free text freed of what would do harm (and given once more, exact, in base64url), every line
measured.

What each Originate carries besides the call itself:

- `TIMEOUT(absolute)`: Asterisk ends the call itself at the longest time allowed, whatever becomes of us.
- `DB(<family>/<slot>)`: the journal. Asterisk writes it before it dials, so the slot tells later whether this action
  was ever executed.
- the words the AI handler reads, inherited and in capitals, and once more in small letters for the app's own
  extension, which copies those.

Form route goes through a Local pair. `/n` keeps Asterisk from taking the pair out of the middle of a conversation
between two bridges (an AI that the extension dials as a SIP client): the longest call is bound to the pair's channels.

EarlyMedia is never asked for: with it Asterisk reports the carrier's announcement as an answer.
"""

import base64
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapter.core.model import SHOWN_NUMBER, WAY_ID, ClaimedRow, Form, NumberStyle, Way
from adapter.core.numbers import Number, NumberRefused, parse, same_number, trunk_form

MAX_LINE_BYTES = 1022
"""Of one AMI line, header name included, without CR LF (asterisk main/manager.c)."""

MAX_HEADERS = 110
"""Asterisk takes 128 lines per action; the rest is for Action, ActionID and what a link may add."""

MAX_NAME_BYTES = 200
"""Of the plain customer name: longer ones are of no use to a voice and no two variables may fill a CDR."""

MAX_NUMBER_BITS = 333
"""Of a variable that is a whole number: a hundred digits, as the database takes. Python writes none of thousands."""

MAX_RING_SECONDS = 600
"""MikoPBX's own outbound routes never ring longer."""

ROUTES = "all_peers"
"""MikoPBX's context that leads to its outgoing routes."""

NO_ANNOUNCEMENT = ("peer_mobile", "1")
"""Form route: not empty, this has MikoPBX hang up once its routes have failed. Without it an announcement would keep a
dead call for 6 s more, and its place among the calls in the air (mikopbx/facts sections 6 and 7). It does not keep
MikoPBX from its next matching route: only the guard does (core/routes.py). Set on both halves, inherited by nobody."""

JOURNAL_SLOTS = 4096
"""Slots of the journal on the PBX: enough that a slot is not written again for hours, few enough to stay small."""

NOT_IN_THE_ROWS_GIFT = frozenset(
    name.upper()
    for name in (
        # Ours.
        *("CALL_ID", "USER_ID", "CAMPAIGN_ID", "PROMPT_ID", "CUSTOMER_NAME", "CUSTOMER_NAME_B64"),
        # MikoPBX's dialplan and CDR code (mikopbx/facts section 7).
        *("IS_ORGNT", "SRC_QUEUE", "SIPADDHEADER", "origCidName", "ALLOW_MULTY_ANSWER", "ringlength", "peer_mobile"),
        *("DOPTIONS", "OFF_ANSWER_SUB", "NEED_RETURN", "DEF_DIAL_COMMAND", "EXTERNALPHONE", "NOCDR", "DISABLE_ANNONCE"),
        *(
            "FROM_CHAN",
            "FROM_PEER",
            "FROM_DID",
            "OLD_LINKEDID",
            "M_CALLID",
            "NEED_MONITOR",
            "PROVIDER_ID",
            "providerID",
        ),
        *("cleanNumber", "DST_NUM", "SRC_NUM", "CALLER_NUM", "CALLER", "NUM", "RESULT", "LINKED"),
        # Asterisk's own.
        *("CALLERID", "CHANNEL", "CONTEXT", "EXTEN", "PRIORITY", "UNIQUEID", "LINKEDID", "LANGUAGE", "ACCOUNTCODE"),
        *("TIMEOUT", "HANGUPCAUSE", "TECH", "DB", "CDR", "SHELL", "ENV", "HASH", "GLOBAL", "SHARED", "BRIDGEPEER"),
        *("FORWARD_CONTEXT", "TRANSFER_CONTEXT", "TRANSFER_EXTEN", "GOTO_ON_BLINDXFR", "ABORT_DIAL", "MACRO_RESULT"),
        *("OUTBOUND_GROUP", "OUTBOUND_GROUP_ONCE", "SIP_CODEC", "PATH", "IFS"),
    )
)
"""Names that a row's own variables may not have, because the PBX acts on them. Compared without case."""

NOT_IN_THE_ROWS_GIFT_FAMILIES = (
    *("PT1C_", "ORIGINATE_", "PJSIP", "SIP", "DIAL", "AGI", "ARG", "LOCAL", "GOSUB", "MACRO", "MIXMONITOR", "MONITOR"),
    *("TOUCH_", "LIMIT_", "DYNAMIC_", "BLINDTRANSFER", "ATTENDEDTRANSFER", "BRIDGE_", "CHANSPY", "SPYGROUP", "QUEUE"),
    *("RTPAUDIO", "RTPVIDEO", "CONFBRIDGE", "MASTER_CHANNEL", "SYSTEM", "AST_", "ASTERISK", "SRC_DIAL", "DST_DIAL"),
)
"""Beginnings of such names."""

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""No brackets: `CALLERID(num)=…` and every other function would be executed."""

_CALL_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A UUID in small letters: one length for all, because Asterisk's check for duplicates is a prefix match since 22.5."""

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_CONTEXT = re.compile(r"[A-Za-z0-9_-]{1,79}")
_EXTENSION = re.compile(r"[0-9A-Za-z*#]{1,40}")
_FAMILY = re.compile(r"[a-z0-9-]{1,40}")


class RowRefused(ValueError):
    """This row is not dialed as it stands; the text says why, for the person who wrote the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialPlan:
    """The adapter's own settings, the same for every row; a row that comes with a way of its own goes that way in form,
    trunk and number. Raises `ValueError` for what no PBX would take."""

    trunk: str
    """MikoPBX's provider id, like SIP-TRUNK-1A2B3C4D. Not used in form route, where MikoPBX chooses."""

    ai_context: str = "all_peers"
    ai_extension: str = "999"
    form: Form = Form.TRUNK
    caller_id: str | None = None
    """Digits, with or without a plus; None or empty leaves the provider's own."""

    region: str = "MY"
    number_style: str = NumberStyle.E164
    """A `NumberStyle`."""

    ring_seconds: int = 30
    max_call_seconds: int = 900
    journal_family: str = "mikopbx-adapter"

    @property
    def own_way(self) -> Way:
        """The way of a row that comes with none."""
        by_route = self.form is Form.ROUTE
        return Way(id=ROUTES if by_route else self.trunk, form=self.form, number_style=NumberStyle(self.number_style))

    def __post_init__(self) -> None:
        """Check every value that is written into an action."""
        NumberStyle(self.number_style)
        for what, pattern, value in (
            *((("trunk", WAY_ID, self.trunk),) if self.form is Form.TRUNK else ()),
            ("AI context", _CONTEXT, self.ai_context),
            ("AI extension", _EXTENSION, self.ai_extension),
            ("caller id", SHOWN_NUMBER, self.caller_id or "000"),
            ("journal family", _FAMILY, self.journal_family),
        ):
            if not pattern.fullmatch(value):
                raise ValueError(f"{what} {value!r} cannot stand in an AMI action")
        if not 1 <= self.ring_seconds <= MAX_RING_SECONDS or self.max_call_seconds < 1:
            raise ValueError(f"ring limit 1 to {MAX_RING_SECONDS} s and a longest call of at least 1 s, please")


@dataclass(frozen=True, slots=True, kw_only=True)
class Originate:
    """One action, ready to be written: everything but `Action` and `ActionID` (which is the call id)."""

    call_id: str
    form: Form
    trunk: str
    """Provider id; empty in form route."""

    number_dialed: str
    """The number as it is written into the action."""

    headers: tuple[tuple[str, str], ...]
    ring_seconds: int
    max_call_seconds: int
    slot: int
    """Of the journal: key `<slot>` of the family."""

    journal_value: str
    """What the slot holds once the PBX has taken the action."""

    number: Number
    """Who is called."""


def slot_of(claim_number: int) -> int:
    """The journal slot of a claim."""
    return claim_number % JOURNAL_SLOTS


def other_id(call_id: str) -> str:
    """Id of the second half of a Local pair: never the call id itself, always the same for the same call, and as long
    as every other id (a shorter one that begins alike would be refused as a duplicate)."""
    return str(uuid.uuid5(uuid.UUID(call_id), "mikopbx-adapter second half"))


def journal_value(row: ClaimedRow) -> str:
    """What the journal slot holds once the PBX has taken this row's action."""
    return f"{row.claim_number}:{row.call_id}"


def build(row: ClaimedRow, plan: DialPlan) -> Originate:
    """The Originate of a claimed row. Raises `RowRefused` with words for the person who wrote the row."""
    _require(_CALL_ID, row.call_id, "call id")
    number = _number(row, plan)
    ring_seconds = _ring_seconds(row, plan)
    slot = slot_of(row.claim_number)
    bound = ring_seconds + plan.max_call_seconds
    way = row.way or plan.own_way
    dialed = _trunk_form(number, way, plan)
    by_route = way.form is Form.ROUTE
    caller_id = _caller_id(row, plan, number)
    headers = (
        ("Channel", f"Local/{dialed}@{ROUTES}/n" if by_route else f"PJSIP/{dialed}@{way.id}"),
        ("Context", plan.ai_context),
        ("Exten", plan.ai_extension),
        ("Priority", "1"),
        ("Timeout", str(ring_seconds * 1000)),
        *((("CallerID", f"<{caller_id}>"),) if caller_id else ()),
        ("Async", "true"),
        ("ChannelId", row.call_id),
        *((("OtherChannelId", other_id(row.call_id)),) if by_route else ()),
        ("Variable", f"DB({plan.journal_family}/{slot})={journal_value(row)}"),
        ("Variable", f"TIMEOUT(absolute)={bound}"),
        *((("Variable", "=".join(NO_ANNOUNCEMENT)),) if by_route else ()),
        *(("Variable", f"{name}={value}") for name, value in _variables(row)),
    )
    for name, value in headers:
        _check_line(name, value)
    if len(headers) > MAX_HEADERS:
        raise RowRefused(f"the row has more variables than one action takes ({MAX_HEADERS} lines)")
    return Originate(
        call_id=row.call_id,
        form=way.form,
        trunk="" if by_route else way.id,
        number_dialed=dialed,
        headers=headers,
        ring_seconds=ring_seconds,
        max_call_seconds=plan.max_call_seconds,
        slot=slot,
        journal_value=journal_value(row),
        number=number,
    )


def _number(row: ClaimedRow, plan: DialPlan) -> Number:
    """The number both the database and `phonenumbers` read out of what was written; they have to agree."""
    try:
        number = parse(row.phone_number, plan.region)
    except NumberRefused as error:
        raise RowRefused(f"the phone number was refused: {error}") from None
    if number.e164 != row.e164:
        raise RowRefused(
            "the phone number is ambiguous: the database and the number library read it differently; "
            "write it with a plus and its country code"
        )
    return number


def _trunk_form(number: Number, way: Way, plan: DialPlan) -> str:
    try:
        return trunk_form(number.e164, way.number_style, plan.region, strip=way.strip, add=way.add)
    except NumberRefused as error:
        raise RowRefused(str(error)) from None


def _ring_seconds(row: ClaimedRow, plan: DialPlan) -> int:
    seconds = plan.ring_seconds if row.ring_seconds is None else row.ring_seconds
    if not 1 <= seconds <= MAX_RING_SECONDS:
        raise RowRefused(f"ring_seconds must be 1 to {MAX_RING_SECONDS}, not {seconds}")
    return seconds


def _caller_id(row: ClaimedRow, plan: DialPlan, number: Number) -> str:
    caller_id = row.caller_id or (row.way and row.way.caller_id) or plan.caller_id or ""
    if not caller_id:
        return ""
    _require(SHOWN_NUMBER, caller_id, "caller_id")
    if same_number(caller_id, number.e164, plan.region):
        raise RowRefused("caller_id is the callee's own number; carriers and people take that for fraud")
    return caller_id


def _variables(row: ClaimedRow) -> Iterator[tuple[str, str]]:
    """Names and values of the channel variables, in order."""
    name = row.customer_name
    words = {
        "CALL_ID": row.call_id,
        "USER_ID": row.user_id,
        "CAMPAIGN_ID": row.campaign_id,
        "PROMPT_ID": row.prompt_id,
    }
    for key, value in words.items():
        if value is not None:
            _require(_ID, value, key.lower())
            yield f"__{key}", value
            yield key.lower(), value
    if name is not None:
        text = _cut(plain(name), MAX_NAME_BYTES)
        yield "__CUSTOMER_NAME", text
        yield "customer_name", text
        yield "__CUSTOMER_NAME_B64", exact(name)
    yield from _row_variables(row.variables)


def _row_variables(variables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A row's own variables, inherited. One whose text had to be changed is given once more, exact, as `<NAME>_B64`."""
    for given, raw in variables.items():
        if not _VARIABLE_NAME.fullmatch(given):
            raise RowRefused(f"variable name {given[:40]!r}: letters, digits and underscores only, at most 64")
        name = given.lstrip("_")
        upper = name.upper()
        if not name or upper in NOT_IN_THE_ROWS_GIFT or upper.startswith(NOT_IN_THE_ROWS_GIFT_FAMILIES):
            raise RowRefused(f"variable name {given!r} means something to the PBX and cannot be set by a row")
        text = _text(given, raw)
        safe = plain(text)
        yield f"__{name}", safe
        if safe != text:
            yield f"__{name}_B64", exact(text)


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > MAX_NUMBER_BITS:
        raise RowRefused(f"variable {name!r} is a number of more digits than a call can carry")
    if isinstance(value, str | int | float):
        return str(value)
    if value is None:
        return ""
    raise RowRefused(f"variable {name!r} must be a text, a number, true, false or null")


def plain(text: str) -> str:
    """Text that can do no harm in a `Variable` header: control characters and commas become spaces, and `${` and
    `$[`, which a dialplan could evaluate, are taken apart."""
    scrubbed = "".join(" " if ch == "," or _is_control(ch) else ch for ch in _encodable(text))
    scrubbed = re.sub(r"\$(?=[{\[])", "$ ", scrubbed)
    return re.sub(r" {2,}", " ", scrubbed).strip()


def exact(text: str) -> str:
    """The text as base64url of its UTF-8."""
    return base64.urlsafe_b64encode(_encodable(text).encode()).decode("ascii")


def _encodable(text: str) -> str:
    """Lone surrogates, which JSON can carry and no wire can, become question marks."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _is_control(ch: str) -> bool:
    return ch < " " or "\x7f" <= ch <= "\x9f" or ch in "\u2028\u2029"


def _cut(text: str, size: int) -> str:
    """The longest beginning of at most `size` bytes of UTF-8."""
    return text.encode()[:size].decode("utf-8", errors="ignore").rstrip()


def _require(pattern: re.Pattern[str], value: str, what: str) -> None:
    if not pattern.fullmatch(value):
        raise RowRefused(f"{what} has a form that cannot stand in an AMI action")


def _check_line(name: str, value: str) -> None:
    """The last gate, for every line whatever made it."""
    line = f"{name}: {value}".encode()
    if any(byte < 0x20 or byte == 0x7F for byte in line):
        raise RowRefused(f"{name} holds a control character")
    if name == "Variable" and "," in value:
        raise RowRefused("a variable's value holds a comma")
    if len(line) > MAX_LINE_BYTES:
        raise RowRefused(f"{value.partition('=')[0].lstrip('_')} is too long: an AMI line takes {MAX_LINE_BYTES} bytes")
