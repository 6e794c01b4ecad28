"""A Local pair that leads where no dialplan is: both halves come and go within two milliseconds, and nobody rings.

Order, headers and causes are those of the recording `call-to-nobody`.
"""

import time

from adapter.sandbox.mikopbx.call import Exchange, Order, report_failure
from adapter.sandbox.mikopbx.leg import CAUSES, Leg

UNKNOWN = 0
"""Cause of both: nobody chose one."""


def tell(exchange: Exchange, order: Order, *, name: str, uniqueid: str) -> None:
    """The whole life of the pair `name`."""
    number, _, context = order.channel.partition("/")[2].removesuffix("/n").partition("@")
    born = time.time()
    first = Leg(name=f"{name};1", uniqueid=uniqueid, context=context, exten=number, born=born)
    second = Leg(
        name=f"{name};2",
        uniqueid=order.other_id or f"{uniqueid};2",
        linkedid=uniqueid,
        context=context,
        exten=number,
        born=born,
        state=4,
    )
    for leg in (first, second):
        exchange.emit("Newchannel", "call", leg.source())
    first.application = "AppDial2"
    cause = [("Cause", str(UNKNOWN)), ("Cause-txt", CAUSES[UNKNOWN])]
    for leg in (second, first):
        leg.cdr_channel, leg.cdr_target = leg.name, number
        exchange.emit("Hangup", "call", [*leg.source(), *cause])
    report_failure(exchange, order, uniqueid=uniqueid, clock=time.time)
