"""A channel of the simulated PBX, and how AMI writes one down."""

from dataclasses import dataclass

STATES = {0: "Down", 4: "Ring", 5: "Ringing", 6: "Up", 7: "Busy"}
"""Channel states that a leg passes through; Ring and Busy are of the second half of a Local pair."""

CAUSES = {
    0: "Unknown",
    1: "Unallocated (unassigned) number",
    3: "No route to destination",
    4: "Send special information tone",
    16: "Normal Clearing",
    17: "User busy",
    18: "No user responding",
    19: "User alerting, no answer",
    20: "Subscriber absent",
    21: "Call Rejected",
    22: "Number changed",
    23: "Redirected to new destination",
    27: "Destination out of order",
    28: "Invalid number format",
    34: "Circuit/channel congestion",
    38: "Network out of order",
    58: "Bearer capability not available",
    127: "Interworking, unspecified",
}
"""Q.850 causes with Asterisk's words for them (`Cause-txt`)."""

NOBODY = "<unknown>"

PLAIN_VARIABLES = (
    "DIALEDPEERNUMBER",
    "BLKVM_CHANNEL",
    "BRIDGEPEER",
    "INTERCHANNEL",
    "FROM_DID",
    "mikoidconf",
    "conf_1c",
    "1cautoanswer",
    "extenfrom1c",
    "spyee",
    "datafrom1c",
)
"""`channelvars` of MikoPBX's manager.conf that are empty on our calls; the CDR ones follow them."""

Pairs = list[tuple[str, str]]


@dataclass(slots=True, kw_only=True)
class Leg:
    """One channel. Everything in it may change while the call lives."""

    name: str
    uniqueid: str
    context: str
    exten: str
    born: float
    """Epoch of the PBX's clock."""

    linkedid: str = ""
    """Of a leg that is not the first of its call: the first one's id."""

    priority: int = 1
    state: int = 0
    caller: tuple[str, str] = (NOBODY, NOBODY)
    """Number and name."""

    line: tuple[str, str] = (NOBODY, NOBODY)
    """Connected line: number and name."""

    application: str = ""
    cdr_channel: str = ""
    cdr_source: str = ""
    cdr_target: str = ""

    def source(self) -> Pairs:
        """The headers of the channel as the subject of an event or item of a list."""
        return [
            ("Channel", self.name),
            ("ChannelState", str(self.state)),
            ("ChannelStateDesc", STATES[self.state]),
            ("CallerIDNum", self.caller[0]),
            ("CallerIDName", self.caller[1]),
            ("ConnectedLineNum", self.line[0]),
            ("ConnectedLineName", self.line[1]),
            ("Language", "en"),
            ("AccountCode", ""),
            ("Context", self.context),
            ("Exten", self.exten),
            ("Priority", str(self.priority)),
            ("Uniqueid", self.uniqueid),
            ("Linkedid", self.linkedid or self.uniqueid),
            *self.variables(),
        ]

    def variables(self, key: str = "ChanVariable") -> Pairs:
        """The 16 repeated lines that `channelvars` adds."""
        pairs = [(key, f"{name}=") for name in PLAIN_VARIABLES]
        pairs += [
            (key, f"CDR(lastapp)={self.application}"),
            (key, f"CDR(channel)={self.cdr_channel}"),
            (key, f"CDR(src)={self.cdr_source}"),
            (key, f"CDR(dst)={self.cdr_target}"),
            (key, "CDR(recordingfile)="),
        ]
        return pairs

    def target(self) -> Pairs:
        """The channel as the dialed side of a Dial event."""
        return [(f"Dest{key}", value) for key, value in self.source()]
