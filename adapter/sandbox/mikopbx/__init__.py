"""A simulated MikoPBX: an AMI server on a real socket that answers and reports calls as an Asterisk 22 does.

What is simulated: the AMI conversation, the callee and the carrier (their behavior is written in the number, see
`adapter.sandbox.scenarios`), and the dialplan as far as form `trunk` needs it. There is no SIP and no audio. Fields,
order and timing of the events are held against recordings of a real Asterisk 22.10 in the tests.
"""

from adapter.sandbox.mikopbx.call import Invite
from adapter.sandbox.mikopbx.pbx import SECOND_TRUNK, SimulatedPbx, TrunkState
from adapter.sandbox.mikopbx.wire import Action

__all__ = ["SECOND_TRUNK", "Action", "Invite", "SimulatedPbx", "TrunkState"]
