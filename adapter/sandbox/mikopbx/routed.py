"""One simulated call of form `route`: a Local pair whose second half dials the callee by a route.

Order and causes are those of the two recordings (`localout-*`); scenarios without a recording follow their pattern.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from adapter.sandbox.mikopbx.call import (
    APPLICATION_FLAG,
    MISSING_AI_SECONDS,
    Call,
    Cut,
    Exchange,
    Failure,
    Invite,
    Order,
    Why,
    cut_failure,
    report_failure,
    response,
)
from adapter.sandbox.mikopbx.leg import CAUSES, Leg
from adapter.sandbox.scenarios import Scenario

ON_THE_WAY_SECONDS = 0.2
"""MikoPBX's dialplan waits so long before it looks for a route."""

Extra = tuple[str, str]


@dataclass(slots=True, kw_only=True)
class Pair:
    """The channels of a call by route. `trunk` is None where no leg to a provider can be made."""

    first: Leg
    second: Leg
    trunk: Leg | None
    route: str
    """Context of the route, empty where none takes the number."""


class RoutedCall(Call):
    """A call whose AI side is the first half, and whose callee is behind the second."""

    def __init__(
        self,
        exchange: Exchange,
        order: Order,
        pair: Pair,
        scenario: Scenario,
        invite: Invite,
        *,
        invited: Callable[[Invite], None],
    ) -> None:
        super().__init__(exchange, order, pair.trunk or pair.second, scenario, invite)
        self._pair = pair
        self._invited = invited
        self._dialed = False

    @property
    def legs(self) -> list[Leg]:
        """The halves, and the callee's leg once it was made."""
        halves = [self._pair.first, self._pair.second]
        return [*halves, self.leg] if self._dialed else halves

    def _of(self, leg: Leg, event: str, *extra: Extra) -> None:
        self._exchange.emit(event, "call", [*leg.source(), *extra], self.clock())

    def _of_first(self, event: str, status: str = "") -> None:
        """A Dial event about the first half: it has no caller."""
        extra = [("DialStatus", status)] if status else []
        self._exchange.emit(event, "call", [*self._pair.first.target(), *extra], self.clock())

    def _of_callee(self, event: str, *extra: Extra) -> None:
        """A Dial event about the callee's leg: the second half is its caller."""
        pairs = [*self._pair.second.source(), *self.leg.target(), *extra]
        self._exchange.emit(event, "call", pairs, self.clock())

    def _hang_up(self, leg: Leg, cause: int, *extra: Extra) -> None:
        self._of(leg, "Hangup", ("Cause", str(cause)), ("Cause-txt", CAUSES.get(cause, "Unknown")), *extra)

    def _dial(self) -> None:
        first, second = self._pair.first, self._pair.second
        self._of(first, "Newchannel")
        self._of(second, "Newchannel")
        self._set_variables()
        first.application = "AppDial2"
        ends = [
            (f"Local{n}{key}", value) for n, leg in (("One", first), ("Two", second)) for key, value in leg.source()
        ]
        bridge = [("Context", second.context), ("Exten", second.exten), ("LocalOptimization", "No")]
        self._exchange.emit("LocalBridge", "call", [*ends, *bridge], self.clock())
        self._of_first("DialBegin")

    async def _ring(self) -> Failure | None:
        cut = await self._until(ON_THE_WAY_SECONDS, answer_by=self.order.timeout)
        if cut:
            return cut_failure(cut)
        self._pair.first.state = 5
        self._of(self._pair.first, "Newstate")
        self._of_first("DialState", "RINGING")
        if self._pair.trunk is None:
            return Failure(cause=0, dial_status=None)
        self._dialed = True
        self._invited_at = self._moment()
        self._invite.started = time.time()
        self._invited(self._invite)
        self.leg.born = self.clock()
        self._pair.second.context = self._pair.route
        self._of(self.leg, "Newchannel")
        self.leg.application, self.leg.exten = "AppDial", self.order.number
        self._of_callee("DialBegin")
        return await super()._ring()

    def _progress(self) -> None:
        self._invite.rang = time.time()
        word = "PROGRESS" if self._scenario.early_media else "RINGING"
        if not self._scenario.early_media:
            self.leg.state = 5
            self._of(self.leg, "Newstate")
        self._of_first("DialState", word)
        self._of_callee("DialState", ("DialStatus", word))

    def _fail(self, failure: Failure) -> None:
        first, second = self._pair.first, self._pair.second
        self.answered.set_result(False)
        busy = failure.dial_status == "BUSY"
        if failure.far_end:
            self._end_callee(failure)
            if busy:
                second.state = 7
                self._of(second, "Newstate")
            self._of_first("DialEnd", failure.dial_status or "NOANSWER")
            self._of(second, "HangupRequest", ("Cause", "0"))
            self._of(second, "SoftHangupRequest", ("Cause", APPLICATION_FLAG))
        report_failure(
            self._exchange,
            self.order,
            uniqueid=first.uniqueid,
            clock=self.clock,
            reason=5 if busy else failure.reason,
            spooled=failure.spooled,
            hangup=lambda: self._hang_up(first, 0),
        )
        if self._dialed and not failure.far_end:
            # We end it: the second half loses its caller, and cancels what it had dialed, a moment later.
            self._end_callee(Failure(cause=failure.cause, sip_code=failure.sip_code, dial_status="CANCEL"))
        self._hang_up(second, failure.cause)

    def _end_callee(self, failure: Failure) -> None:
        tech = [("TechCause", str(failure.sip_code))] if failure.sip_code else []
        if failure.far_end:
            self._of(self.leg, "HangupRequest", ("Cause", str(failure.cause)), *tech)
        self._of_callee("DialEnd", ("DialStatus", failure.dial_status or "NOANSWER"))
        self._hang_up(self.leg, failure.cause, *tech)

    def _answer(self) -> None:
        first, second, order = self._pair.first, self._pair.second, self.order
        self._invite.answered = time.time()
        self.leg.state = 6
        self._of(self.leg, "Newstate")
        self._of(self.leg, "MixMonitorStart")
        self._of_callee("DialEnd", ("DialStatus", "ANSWER"))
        second.state = 6
        self._of(second, "Newstate")
        self._exchange.emit("BridgeCreate", "call", [], self.clock())
        first.state = 6
        self._of(first, "Newstate")
        self._of(self.leg, "BridgeEnter")
        self._of_first("DialEnd", "ANSWER")
        self.answered.set_result(True)
        pairs = response(order, "Success", first.name, 4, first.uniqueid)
        self._exchange.emit("OriginateResponse", "call", pairs, self.clock())
        self._of(second, "BridgeEnter")

    async def _talk(self) -> None:
        first, order, scenario = self._pair.first, self.order, self._scenario
        first.context, first.exten = order.context, order.exten
        callee_ends, talk = scenario.ends_by == "callee", scenario.talk
        if self._exchange.has_application(order.context, order.exten):
            first.context = "applications"
        else:
            callee_ends, talk = False, MISSING_AI_SECONDS
        cut = await self._until(self._moment() + talk)
        if callee_ends and cut is None:
            self._callee_left()
        else:
            self._we_left(cut)

    def _callee_left(self) -> None:
        first, second = self._pair.first, self._pair.second
        self._of(self.leg, "HangupRequest", ("Cause", "16"))
        self._part()
        self._of(second, "SoftHangupRequest", ("Cause", APPLICATION_FLAG))
        self._hang_up(self.leg, 16)
        self._of(first, "HangupRequest", ("Cause", "16"))
        self._of(first, "SoftHangupRequest", ("Cause", APPLICATION_FLAG))
        self._hang_up(second, 16)
        self._hang_up(first, 16)

    def _we_left(self, cut: Cut | None) -> None:
        """The AI side is done, or the PBX or somebody on it ended the call."""
        first, second = self._pair.first, self._pair.second
        cause = 0 if cut and cut.why is Why.SHUTDOWN else 16
        self._of(first, "SoftHangupRequest", ("Cause", APPLICATION_FLAG))
        self._hang_up(first, cause)
        self._part()
        self._hang_up(self.leg, cause)
        self._hang_up(second, cause)

    def _part(self) -> None:
        self._of(self.leg, "BridgeLeave")
        self._of(self._pair.second, "BridgeLeave")
        self._exchange.emit("BridgeDestroy", "call", [], self.clock())
