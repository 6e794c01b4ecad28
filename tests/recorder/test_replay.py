"""Bundles written by hand, for what no short life of a daemon meets."""

import json
from typing import Any

from adapter.core.model import Outcome
from adapter.core.recovery import SETTLE
from adapter.recorder.replay import play

CALL = "00000000-0000-4000-8000-000000000001"
LEG = {"Channel": "PJSIP/SIP-TRUNK-5A0D0001-00000001", "Uniqueid": CALL, "Linkedid": CALL}
AI = {"Channel": "Local/999@applications-00000001;1", "Uniqueid": "mikopbx-1795404246.13", "Linkedid": CALL}
BEGAN = 1_795_404_000.0


def _heard(t: float, session: int, **fields: str) -> dict[str, Any]:
    return {"t": t, "dir": "S", "session": session, **fields}


def _list(t: float, session: int, *legs: dict[str, str]) -> list[dict[str, Any]]:
    shown = [_heard(t, session, Event="CoreShowChannel", ChannelState="6", Duration="00:00:09", **leg) for leg in legs]
    return [*shown, _heard(t, session, Event="CoreShowChannelsComplete")]


def test_a_callee_who_is_gone_while_the_ai_still_waits_is_gone() -> None:
    """As the follower judges it: the legs of the AI alone do not show that the call lives."""
    stamp = f"{BEGAN + 3:.6f}"
    dial = {
        "Action": "Originate",
        "ChannelId": CALL,
        "ActionID": CALL,
        "Channel": "PJSIP/60123456700@SIP-TRUNK-5A0D0001",
    }
    lines: list[dict[str, Any]] = [
        {"story": "by hand", "began": BEGAN, "runs": []},
        *_list(0.0, 1),
        {"t": 0.5, "dir": "C", "session": 1, "Timeout": "30000", **dial},
        _heard(1.0, 1, Event="Newchannel", Timestamp=f"{BEGAN + 1:.6f}", **LEG),
        _heard(3.0, 1, Event="Newstate", ChannelStateDesc="Up", Timestamp=stamp, **LEG),
        _heard(9.0, 1, Closed="the PBX did not answer"),
        *_list(10.0, 2, AI),
        *_list(10.0 + SETTLE, 2, AI),
        _heard(11.0 + SETTLE, 2, Event="DBGetResponse", Val=f"7:{CALL}"),
    ]
    [played] = play("\n".join(map(json.dumps, lines)))
    assert played.ending is not None
    assert (played.ending.outcome, played.ending.estimated) == (Outcome.ANSWERED, True)
