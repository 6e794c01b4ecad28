"""Which live legs are nobody's of ours, by lists and by events."""

from hypothesis import given
from hypothesis import strategies as st

from adapter.core.legs import Legs
from adapter.core.model import AmiEvent, Channel

OURS = frozenset({"11111111-1111-4111-8111-111111111111"})
(CALL,) = OURS


def channel(name: str, uniqueid: str, linkedid: str | None = None) -> Channel:
    """A live leg as listed."""
    return Channel(name=name, uniqueid=uniqueid, linkedid=linkedid or uniqueid, up=True, duration=1)


def event(name: str, leg: str, uniqueid: str, linkedid: str | None = None) -> AmiEvent:
    """An event about a leg."""
    return AmiEvent(name=name, fields={"Channel": leg, "Uniqueid": uniqueid, "Linkedid": linkedid or uniqueid})


def test_legs_of_our_calls_are_not_foreign_whoever_made_them() -> None:
    legs = Legs()
    legs.on_list(
        [
            channel("PJSIP/SIP-A-00000001", CALL),
            channel("PJSIP/SIP-A-00000002", "mikopbx-1.2", CALL),  # A route dialed it for us.
            channel("PJSIP/SIP-A-00000003", CALL, "mikopbx-1.1"),  # Somebody took the callee over.
            channel("PJSIP/SIP-A-00000004", "mikopbx-1.4"),
            channel("PJSIP/SIP-A-B-00000005", "mikopbx-1.5"),
            channel("PJSIP/201-00000006", "mikopbx-1.6", "mikopbx-1.4"),
            channel("Local/999@internal-00000007;1", "mikopbx-1.7"),
            channel("PJSIP/", "mikopbx-1.8"),
            channel("PJSIP/SIP-A-00000009", ""),
        ]
    )
    assert legs.foreign(OURS) == {"SIP-A": 1, "SIP-A-B": 1, "201": 1}


def test_between_two_lists_events_tell() -> None:
    legs = Legs()
    legs.on_list([channel("PJSIP/SIP-A-00000001", "a")])
    legs.on_event(event("Newchannel", "PJSIP/SIP-A-00000002", "b"))
    legs.on_event(event("Newstate", "PJSIP/SIP-A-00000003", "c"))
    legs.on_event(event("Newchannel", "PJSIP/SIP-A-00000004", CALL))
    assert legs.foreign(OURS)["SIP-A"] == 2
    legs.on_event(event("Hangup", "PJSIP/SIP-A-00000001", "a"))
    legs.on_event(event("Hangup", "PJSIP/SIP-A-0000000f", "never seen"))
    assert legs.foreign(OURS)["SIP-A"] == 1
    legs.on_list([])
    assert legs.foreign(OURS) == {}
    assert legs.foreign(OURS)["SIP-A"] == 0


NAMES = st.text(max_size=12) | st.from_regex(r"PJSIP/[A-Z-]{0,5}-[0-9a-f]{8}", fullmatch=True)


@given(st.lists(st.tuples(st.sampled_from(("Newchannel", "Hangup", "Rename")), NAMES, st.text(max_size=3))))
def test_whatever_the_pbx_tells_it_is_counted_or_passed_over(told: list[tuple[str, str, str]]) -> None:
    legs = Legs()
    for name, leg, uniqueid in told:
        legs.on_event(event(name, leg, uniqueid))
    assert sum(legs.foreign(frozenset()).values()) == len(legs) <= len({uniqueid for _, _, uniqueid in told})
