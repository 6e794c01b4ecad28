"""A real MikoPBX-like Asterisk and a carrier on loopback, for tests and the sandbox.

    async with RealPbx.started() as pbx:
        ...  # AMI at pbx.host:pbx.port for pbx.username and pbx.password; dial out through pbx.trunk
        pbx.calls  # what the carrier saw: one `Invite` per INVITE

Every number of `adapter.sandbox.scenarios` has a callee there who does what its scenario says. `started` never
downloads anything: `scripts/asterisk install` comes first. The README in this folder describes the configuration.
"""

from adapter.sandbox.asterisk.install import AsteriskMissing
from adapter.sandbox.asterisk.instance import AsteriskFailed
from adapter.sandbox.asterisk.pbx import SECOND_TRUNK, TRUNK, TRUNK_DOWN, TRUNK_NO_CONTACT, TRUNK_SILENT, Ports, RealPbx
from adapter.sandbox.asterisk.witness import Invite

__all__ = [
    "SECOND_TRUNK",
    "TRUNK",
    "TRUNK_DOWN",
    "TRUNK_NO_CONTACT",
    "TRUNK_SILENT",
    "AsteriskFailed",
    "AsteriskMissing",
    "Invite",
    "Ports",
    "RealPbx",
]
