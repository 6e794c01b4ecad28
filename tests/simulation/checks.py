"""After each world: was any promise broken? Every check returns words about what it found, so that a seed tells."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from adapter.core.hours import is_open, united
from adapter.core.model import Outcome
from adapter.core.outcomes import RULES, SOON, Retry
from adapter.core.witness import ASK_AFTER, LONGEST_RING
from adapter.dialer import FRESH_SECONDS
from tests.simulation import owner
from tests.simulation.carrier import End, Invite, truth
from tests.simulation.loop import Process
from tests.simulation.store_tables import NO_LANE, RetryRule
from tests.simulation.world import Call, Machine, World

FINAL = frozenset({"done", "canceled"})

HANDLERS_NO = frozenset({"voicemail", "no-answer"})
"""Words of the AI handler that make an answered call one with a machine."""

FROZEN_SECONDS = 41.0
"""Longest time for which a PBX is frozen here: it cannot end a call meanwhile."""

FOUND_SECONDS = 75.0
"""After so long a call that is alive is on the board of whoever was told of it: link, back-off, SETTLE."""

HEARD_SECONDS = 25.0
"""After so long a cancel has ended its call: a sweep, and the hang-up."""

SLOW_SECONDS = 5.0
"""After so long an event has reached whoever reads slowly."""

DIALED_SECONDS = 5.0
"""After so long a call that gets no channel has been told as a failure."""

TOLD_SECONDS = 30.0
"""After so long the database was asked, and the answer is in the outbox, where Supabase is there."""

_UNHEARD = frozenset({"Supabase outage", "bad line", "cut line", "lost answer", "disk full", "suspended"})
"""Faults that may keep a witness from telling for long. It may be killed before it could."""

_AWAY = frozenset(
    {
        *("Supabase outage", "bad line", "cut line", "database restored", "lost answer"),
        *("away", "PBX unreachable", "disk full", "STATE_DIR lost", "STATE_DIR cloned", "STATE_DIR rolled back"),
    }
)
"""Faults that may keep a cancel from an adapter."""

TRY_SECONDS = 120.0
"""After so long a cooled trunk is tried again if nothing was heard of the last try."""

_UNBEGUN = frozenset({Outcome.CONGESTION, Outcome.TRUNK_UNAVAILABLE})
"""Outcomes of calls of which no phone can have heard (design, section 5)."""

NOTICED_SECONDS = 30.0
"""After so long a dead connection is noticed by both sides (ping 10 s, its answer 5 s), and the last word is out."""

AGAIN = frozenset(outcome for outcome, rule in RULES.items() if rule.retry is Retry.POLICY)
"""Outcomes after which a person may be called again by the retry policy."""


def look(world: World) -> list[str]:
    """Everything that is wrong in this world."""
    return [f"{_name(check)}: {words}" for check in CHECKS for words in check(world)]


def _name(check: Callable[..., object]) -> str:
    """Under which it tells what it found."""
    return check.__name__.strip("_")


def _uncaught(world: World) -> Iterator[str]:
    """Nothing raised where nobody caught it."""
    for what, error in world.loop.errors:
        yield f"{what}: {error!r}"


# Promise 1


def _sent_once(world: World) -> Iterator[str]:
    """No call id is ever sent to a PBX twice."""
    executed: Counter[str] = Counter()
    for sim in world.pbxs:
        executed.update(sim.originates)
    for call_id, times in executed.items():
        if times > 1:
            yield f"the Originate of {call_id} was executed {times} times"
        if call_id not in world.calls:
            yield f"the Originate of {call_id}, which nobody claimed, was executed"
    for call in world.calls.values():
        if call.written > 1:
            yield f"the Originate of {call.call_id} was written {call.written} times"


def _sent_fresh(world: World) -> Iterator[str]:
    """Only a young claim is sent: an old one may be somebody else's by now."""
    for call in world.calls.values():
        if call.written and call.written_at - call.claimed_at > FRESH_SECONDS + 0.001:
            yield f"{call.call_id} was sent {call.written_at - call.claimed_at:.1f} s after its claim"


def _pace(world: World) -> Iterator[str]:
    """No second at the socket of a PBX holds more Originates than CALLS_PER_SECOND, nor than a trunk of it may have,
    whoever wrote them."""
    limit = math.ceil(float(world.machines[0].settings["CALLS_PER_SECOND"]))
    for sim in world.pbxs:
        yield from _too_fast([at for at, _ in sim.written_ats], limit)
        for trunk in sim.trunks:
            known = world.store.tables.trunks.get((sim.name, trunk))
            if known is not None and known.calls_per_second is not None:
                through = [at for at, way in sim.written_ats if way == trunk]
                yield from (f"{trunk}: {words}" for words in _too_fast(through, math.ceil(known.calls_per_second)))


def _too_fast(ats: list[float], limit: int) -> Iterator[str]:
    for first, at in zip(ats, ats[limit:], strict=False):
        # What is one second apart to the last bit lies in two windows.
        if at - first < 1.0 - 1e-9:
            yield f"{limit + 1} Originates within {at - first:.3f} s of {first:.3f}"


def _rung_again(world: World) -> Iterator[str]:
    """A further call of a row starts only on evidence that the last one cannot have rung, or by the retry policy."""
    by_row: dict[int, list[Invite]] = {}
    for invite in world.carrier.invites:
        by_row.setdefault(world.calls[invite.call_id].row_id, []).append(invite)
    for row_id, invites in by_row.items():
        for before, after in pairwise(invites):
            if (words := _why_not_again(world, before, after)) is not None:
                yield f"row {row_id}: {after.call_id} after {before.call_id}: {words}"


def _why_not_again(world: World, before: Invite, after: Invite) -> str | None:
    if _forgotten(world, before, after):
        return None
    if before.ended_at is None or before.ended_at > after.at:
        return "two calls at once"
    if not before.may_have_rung and before.end is End.CARRIER and before.story.outcome not in AGAIN:
        return None  # Refused before anything rang.
    first, second = world.calls[before.call_id], world.calls[after.call_id]
    if second.attempt <= first.attempt:
        return f"rung again for free (attempts {first.attempt} and {second.attempt})"
    happened = truth(before)
    forgotten = happened is Outcome.CANCELED and world.restored_at is not None  # The database forgot the cancel.
    if forgotten or happened in AGAIN or world.words.get(before.call_id) in HANDLERS_NO:
        return None
    return f"the last one was {happened.value}"


def _forgotten(world: World, before: Invite, after: Invite) -> bool:
    """The database forgot the first call when it was restored, and whoever made the second could not know of it: its
    folder was lost since, or it neither dialed the first (a copy of the folder may have) nor saw a number later than
    the backup."""
    if world.restored_at is None or world.backup is None:
        return False
    first, second = world.calls[before.call_id], world.calls[after.call_id]
    at, backup = world.backup
    if not at <= first.claimed_at <= world.restored_at <= second.claimed_at:
        return False
    machine = world.processes[second.process][0]
    lost_at = world.lost_folders.get(machine.name, math.inf)
    own = world.processes[first.process][1] == world.processes[second.process][1]
    knew = own or machine.seen_before_restore > backup["last_claim"]
    return lost_at <= second.claimed_at or not knew


def _one_call_per_person(world: World) -> Iterator[str]:
    """No person has two calls at once."""
    last: dict[str, Invite] = {}
    for invite in world.carrier.invites:
        before = last.get(invite.number)
        at_once = before is not None and (before.ended_at is None or before.ended_at > invite.at)
        if before is None or not at_once or _forgotten(world, before, invite):
            pass
        elif world.calls[before.call_id].row_id not in world.touched:  # A live row that is deleted holds nobody.
            yield f"{invite.number} is in {before.call_id} and {invite.call_id} at once"
        last[invite.number] = invite


# Promise 2


def _rows_end(world: World) -> Iterator[str]:
    """Every row ends, and with an outcome."""
    for row in world.store.rows.values():
        if row.status not in FINAL:
            yield f"row {row.id} is {row.status} (call {row.call_id})"
        elif row.status == "done" and row.outcome is None:
            yield f"row {row.id} is done without an outcome"


# Promises 3 and 4


def _outcomes_stored(world: World) -> Iterator[str]:
    """What reached the outbox is stored, and is what the carrier did."""
    for call in world.calls.values():
        invites = world.carrier.of(call.call_id)
        words = [word for _, machine, word in (*call.synced, *call.told) if machine in world.kept_folders()]
        known = {word for word in words if word != Outcome.UNKNOWN}
        said = {(teller, word) for _, teller, word in (*call.synced, *call.reported)}
        for teller, word in {(teller, word) for teller, word in said if word != Outcome.UNKNOWN}:
            if not _is_true(world, call, invites, Outcome(word), teller):
                seen = [f"{i.story.name}, ended by {i.end}" for i in invites]
                yield f"{call.call_id} was told as {word}; the carrier: {seen or 'never saw it'}"
        ended = invites[-1].ended_at if invites else 0.0
        for at, _, word in call.told:
            if ended is None or at < ended:
                yield f"{call.call_id} was told as {word} while it went on"
        stored = world.stored(call.call_id)
        # Two adapters may have seen the same call; the first word counts.
        anybodys = {word for _, _, word in (*call.synced, *call.told, *call.reported)} - {Outcome.UNKNOWN}
        if known and stored is not None and stored not in anybodys and not _by_handler(world, call, stored):
            yield f"{call.call_id}: {sorted(known)} reached a disk, {stored} is stored"


def _by_handler(world: World, call: Call, stored: str) -> bool:
    return stored == Outcome.VOICEMAIL and world.words.get(call.call_id) in HANDLERS_NO


def _may_have_missed(world: World, call: Call, teller: str, ended: float) -> bool:
    """Was something of this call hidden from its claimant, or from this machine that tells of it?"""
    tellers = [process for process, (machine, _, _) in world.processes.items() if machine.name == teller]
    return _missed(world, call, call.claimed_at - NOTICED_SECONDS, world.now, witness=teller) or not any(
        world.watched(process, call.claimed_at, ended) for process in tellers
    )


_COPIED = {"STATE_DIR cloned", "STATE_DIR shared"}


def _is_true(world: World, call: Call, invites: list[Invite], told: Outcome, teller: str) -> bool:
    """Did the carrier do that?"""
    if told is Outcome.BLOCKED:
        return not invites
    if not invites:
        return told in {Outcome.TRUNK_UNAVAILABLE, Outcome.PBX_ERROR, Outcome.CANCELED}
    invite = invites[-1]
    if invite.ended_at is None:
        return False
    if told is Outcome.CANCELED:
        return truth(invite) is told or call.row_id in world.canceled | world.touched
    if {told, truth(invite)} == {Outcome.NO_REPLY, Outcome.NO_ANSWER}:
        # Both spend a try, and are tried again alike; whether it rang may have been missed.
        return _may_have_missed(world, call, teller, invite.ended_at)
    answered = told in {Outcome.ANSWERED, Outcome.AI_FAILED} and invite.answered_at is not None
    # A restored database forgot that it was canceled; and where two processes ran on copies of one folder, the one that
    # was told of it hung up, and the other one saw it.
    unaware = world.restored_at is not None or bool(_COPIED & world.faults.keys())
    hung_up = invite.end is End.HANGUP and unaware
    return truth(invite) is told or answered or hung_up or _refused_late(world, call, invite, told, teller)


def _refused_late(world: World, call: Call, invite: Invite, told: Outcome, teller: str) -> bool:
    """A PBX that stood still sends its INVITE late: what the adapter sees is a refusal after a long silence, which
    counts as no reply, and as no answer where it did not see all of that silence."""
    if invite.end is not End.CARRIER or invite.rang_at is not None or invite.ended_at is None:
        return False
    # One that slept takes the PBX's clock from an event which waited for it, and the call for older than it was.
    tellers = [process for process, (machine, _, _) in world.processes.items() if machine.name == teller]
    slept = any(process.stood_still(call.claimed_at, world.now) for process in tellers)
    late = slept or invite.ended_at - call.claimed_at > SOON
    missed = told is Outcome.NO_ANSWER and _may_have_missed(world, call, teller, invite.ended_at)
    return late and (told is Outcome.NO_REPLY or missed)


def _unknown_only_in_the_dark(world: World) -> Iterator[str]:
    """`unknown` only where something was, or may have been, missed by whoever owned the call."""
    for call in world.calls.values():
        if world.stored(call.call_id) != Outcome.UNKNOWN:
            continue
        if world.restored_at is not None and call.claimed_at < world.restored_at:
            continue  # The database forgot what it had been told.
        if world.deaths.get(call.process, math.inf) <= call.claimed_at:
            continue  # Claimed late for somebody dead: only that one could have said that it was never sent.
        if not call.boot_known or (not call.written and not world.came_back_for(call)):
            continue  # Only its claimant could say that it was never sent, by the journal of a start that it knew.
        if any(machine not in world.kept_folders() for _, machine, _ in (*call.synced, *call.told)):
            continue  # The outcome was seen, and went with its disk before Supabase could be told.
        invites = world.carrier.of(call.call_id)
        ended = invites[-1].ended_at if invites and invites[-1].ended_at is not None else world.now
        if invites and invites[-1].end is End.PBX:
            continue
        # A loss just before is not noticed at once, one just after may have kept the end from being told.
        since, until = call.claimed_at - NOTICED_SECONDS, ended + NOTICED_SECONDS
        if not _missed(world, call, since, until):
            yield f"{call.call_id} ended as unknown though nothing was missed between {since:.1f} and {until:.1f}"


def _missed(world: World, call: Call, since: float, until: float, *, witness: str = "") -> bool:
    """Was anything missed, or may have been, where this call was claimed, or by this machine that tells of it?"""
    machine = world.processes[call.process][0]
    owners = [process for process, (one, _, _) in world.processes.items() if one is machine or one.name == witness]
    return any(process.stood_still(since, until) for process in owners) or any(
        since <= at <= until for what in (*owners, machine.pbx) for at in world.disturbances.get(what, ())
    )


def _found_is_followed(world: World) -> Iterator[str]:
    """A call that was alive when its next keeper was told of it does not end as unknown if that one missed nothing."""
    for call in world.calls.values():
        invites = world.carrier.of(call.call_id)
        if world.stored(call.call_id) != Outcome.UNKNOWN or not invites or invites[-1].end in {None, End.PBX}:
            continue
        if world.restored_at is not None and call.claimed_at < world.restored_at:
            continue  # The database forgot what it had been told.
        ended = invites[-1].ended_at or 0.0
        for at, process in call.found:
            if at + FOUND_SECONDS > ended:
                continue
            sim = world.processes[process][0].pbx
            missed = [one for what in (process, sim) for one in world.disturbances.get(what, ())]
            if not any(at - NOTICED_SECONDS <= one <= ended + NOTICED_SECONDS for one in missed):
                yield f"{call.call_id} was found alive by {process.name} at {at:.1f}, and yet it ended as unknown"
                break


def _taken_over_is_ended(world: World) -> Iterator[str]:
    """A call that is not on the PBX is ended by whoever was handed it, not only by its deadline."""
    if world.restored_at is not None or "disk full" in world.faults:
        return
    for call in world.calls.values():
        machine = world.processes[call.process][0]
        invites = world.carrier.of(call.call_id)
        gone_at = (invites[-1].ended_at or math.inf) if invites else 0.0
        for at, process in call.found:
            if world.processes[process][0] is machine or gone_at > at or call.row_id in world.touched:
                continue
            since, until = at - NOTICED_SECONDS, at + FOUND_SECONDS
            troubled = any(since <= one <= until for one in world.disturbances.get(machine.pbx, ()))
            if troubled or not world.watched(process, since, until) or _lived(world, machine, since, until):
                continue
            if not any(told <= until for told, _, _ in call.told):
                yield f"{call.call_id} was handed to {process.name} at {at:.1f}, which did not end it"
                break


def _lived(world: World, machine: Machine, since: float, until: float) -> bool:
    """Was a process of this machine on its PBX meanwhile? It may have ended a call in its own way."""
    mine = [process for process, (one, _, _) in world.processes.items() if one is machine]
    return any(
        world.deaths.get(process, math.inf) > since and any(at < until for at, up in world.links.get(process, ()) if up)
        for process in mine
    )


def _unsent_is_released(world: World) -> Iterator[str]:
    """A row whose Originate no PBX took is no `unknown`, if the claimant came back in time and the journal was kept."""
    for call in world.calls.values():
        if world.stored(call.call_id) != Outcome.UNKNOWN or any(call.call_id in sim.accepted for sim in world.pbxs):
            continue
        machine = world.processes[call.process][0]
        if not call.boot_known or Outcome.UNKNOWN not in {word for _, _, word in call.synced}:
            continue  # The journal of this start proves nothing of it; or the row had met its last bound, ORPHAN_AFTER.
        restarted = any(at > call.claimed_at - NOTICED_SECONDS for at in machine.pbx.downs)
        if not restarted and world.came_back_for(call) and not _went_back(world, call):
            yield f"{call.call_id} was never executed, its claimant came back, and yet it ended as unknown"


def _went_back(world: World, call: Call) -> bool:
    """The database forgot what it knew of this call, or people took its row away."""
    restored = world.restored_at is not None and call.claimed_at < world.restored_at
    return restored or call.row_id in world.touched


def _witnesses_know(world: World) -> Iterator[str]:
    """No call that the PBX took is `unknown` if another adapter was logged in there and missed nothing."""
    for call in world.calls.values():
        if world.stored(call.call_id) != Outcome.UNKNOWN or _went_back(world, call):
            continue
        machine = world.processes[call.process][0]
        taken_at = machine.pbx.accepted.get(call.call_id)
        invites = world.carrier.of(call.call_id)
        if taken_at is None or (invites and invites[-1].end in {None, End.PBX}):
            continue
        # A call that never had a leg is believed only by whoever would have seen one.
        since = taken_at - (NOTICED_SECONDS if invites else LONGEST_RING + NOTICED_SECONDS)
        ended = (invites[-1].ended_at or 0.0) if invites else taken_at + DIALED_SECONDS
        for process, (other, _, second) in world.processes.items():
            if second or other is machine or other.pbx is not machine.pbx or other.name not in world.kept_folders():
                continue
            if world.watched(process, since, ended + SLOW_SECONDS) and _could_tell(world, call, process, ended):
                yield f"{process.name} saw how {call.call_id} ended at {ended:.1f}, and yet it ended as unknown"
                break


def _could_tell(world: World, call: Call, process: Process, ended: float) -> bool:
    """Did this process live for long enough to tell what it saw?"""
    asked = world.testimonies.get((process, call.call_id), math.inf)
    answered = asked + 1.0 if asked > ended else math.inf
    return world.deaths.get(process, math.inf) > min(answered, _told_by(world, ended))


def _told_by(world: World, ended: float) -> float:
    """When a witness has told of a call at the latest."""
    return math.inf if _UNHEARD & world.faults.keys() else ended + ASK_AFTER + TOLD_SECONDS


# Promises 5, 6, 7


def _calls_live_on(world: World) -> Iterator[str]:
    """Only a canceled call is hung up."""
    for invite in world.carrier.invites:
        row = world.calls[invite.call_id].row_id
        if invite.end is End.HANGUP and row not in world.canceled:
            yield f"{invite.call_id} was hung up and nobody had asked for it"


def _cancels_are_heard(world: World) -> Iterator[str]:
    """A live call that is canceled is hung up, if its adapter reaches both sides."""
    if _AWAY & world.faults.keys():
        return
    for at, call_id in world.cancels:
        for invite in world.carrier.of(call_id):
            if not invite.at < at < (invite.ended_at or 0.0) - HEARD_SECONDS or invite.end is End.HANGUP:
                continue
            if not _missed(world, world.calls[call_id], at - NOTICED_SECONDS, at + HEARD_SECONDS):
                yield f"{call_id} was canceled at {at:.1f} and went on until {invite.ended_at:.1f}"


def _longest_call(world: World) -> Iterator[str]:
    """The PBX itself ends a call, whatever becomes of the adapter."""
    settings = world.machines[0].settings
    most = int(settings["RING_SECONDS"]) + int(settings["MAX_CALL_SECONDS"]) + FROZEN_SECONDS
    for invite in world.carrier.invites:
        if (length := (invite.ended_at or world.now) - invite.at) > most:
            yield f"{invite.call_id} lasted {length:.0f} s"


def _limits(world: World) -> Iterator[str]:
    """Limits are kept: calls through a PBX and each of its trunks, of a user, and of a campaign."""
    if world.restored_at is not None:
        return  # The database counts what it knows.
    most = int(world.machines[0].settings["MAX_CALLS"])
    per_user = int(world.machines[0].settings["MAX_CALLS_PER_USER"])
    reserved = int(world.machines[0].settings.get("RESERVED_CHANNELS", "2"))
    limits = {key: of for (kind, key), of in world.store.tables.limits.items() if kind == "campaign"}
    for (name, trunk), known in world.store.tables.trunks.items():
        if known.max_channels is not None:
            limits[f"{trunk} of {name}"] = known.max_channels - reserved
    steps: list[tuple[float, int, Invite]] = []
    for invite in world.carrier.invites:
        if world.calls[invite.call_id].row_id in world.touched:
            continue  # A live row that is deleted counts no more.
        steps += [(invite.at, 1, invite), (invite.ended_at or world.now, -1, invite)]
    live: Counter[str] = Counter()
    for _, step, invite in sorted(steps, key=lambda one: one[:2]):
        user = world.user_of(world.calls[invite.call_id].row_id)
        live[invite.pbx] += step
        live[user] += step
        if live[invite.pbx] > most:
            yield f"{live[invite.pbx]} calls through {invite.pbx} with a limit of {most} ({invite.call_id})"
        if live[user] > per_user:
            yield f"{live[user]} calls of user {user} with a limit of {per_user} ({invite.call_id})"
        for key in (f"{invite.trunk} of {invite.pbx}", world.calls[invite.call_id].campaign):
            if key in limits:
                live[key] += step
                if live[key] > limits[key]:
                    yield f"{live[key]} calls of {key} with a limit of {limits[key]} ({invite.call_id})"


def _inside_hours(world: World) -> Iterator[str]:
    """Nobody is claimed to be dialed outside the calling hours."""
    for call in world.calls.values():
        windows = world.store.tables.hours.get(("user", call.user))
        if windows and not is_open(united(windows), ["Asia/Kuala_Lumpur"], world.epoch + call.claimed_at):
            yield f"{call.call_id} was claimed at {call.claimed_at:.1f}, outside the hours of its user"


def _listed_are_left_alone(world: World) -> Iterator[str]:
    """Nobody is claimed to be dialed once his number is on the do-not-call list."""
    for call in world.calls.values():
        # A listing that a restore has made the database forget is not among these.
        entry = world.store.tables.do_not_call.get((call.number, None))
        if entry is not None and world.epoch + call.claimed_at > entry.created_at:
            yield f"{call.call_id} was claimed at {call.claimed_at:.1f}, its number was listed before"


def _pauses_are_kept(world: World) -> Iterator[str]:
    """Nothing of what is paused is claimed, from the commit of the pause to that of its end."""
    if world.restored_at is not None:
        return  # The database forgot pauses, or that they were over.
    for call in world.calls.values():
        at = world.epoch + call.claimed_at
        things = {
            ("all", ""), ("row", str(call.row_id)), ("user", call.user), ("campaign", call.campaign),
            ("trunk", call.trunk),
        }  # fmt: skip
        for stop in world.store.tables.stops.values():
            if (stop.kind, stop.key) in things and stop.began < at and (stop.ended is None or at < stop.ended):
                yield f"{call.call_id} was claimed at {call.claimed_at:.1f} while {stop.kind} {stop.key} was paused"


def _repeats(world: World) -> Iterator[str]:
    """No phone rings more often within REPEAT_HOURS than REPEAT_CALLS."""
    if world.restored_at is not None:
        return  # The database counts what it knows.
    settings = world.machines[0].settings
    most, span = int(settings["REPEAT_CALLS"]), int(settings["REPEAT_HOURS"]) * 3600.0
    rang: dict[str, list[float]] = {}
    for invite in world.carrier.invites:
        if invite.may_have_rung:
            rang.setdefault(world.calls[invite.call_id].number, []).append(world.calls[invite.call_id].claimed_at)
    for number, times in rang.items():
        times.sort()
        for first, last in zip(times, times[most:], strict=False):
            if last - first < span:
                yield f"{number} rang {most + 1} times from {first:.1f} to {last:.1f}"


def _calls_of_a_day(world: World) -> Iterator[str]:
    """No user has more calls on a day than MAX_CALLS_PER_USER_DAY."""
    most = int(world.machines[0].settings.get("MAX_CALLS_PER_USER_DAY", "0"))
    if not most or world.restored_at is not None:
        return  # The database counts what it knows.
    for user, calls in Counter(world.calls[invite.call_id].user for invite in world.carrier.invites).items():
        if calls > most:
            yield f"user {user} had {calls} calls on a day, of {most} that are allowed"


def _rules_of_retries(world: World) -> Iterator[str]:
    """A row that leaves it to the rules is tried as often, and as late, as they say."""
    if world.restored_at is not None:
        return
    for row_id, calls in _by_row(world).items():
        if row_id not in world.rules.ruled or row_id in world.touched:
            continue
        told = [_told_as(call) for call in calls]
        for place, (call, after) in enumerate(pairwise([*calls, None])):
            assert call is not None
            if (outcome := told[place]) in AGAIN:
                said = _rule_of(world, call.user, outcome)
                times = told[: place + 1].count(outcome)
                if after is not None and times > (0 if said is None else said.calls or 0):
                    yield f"row {row_id} was dialed again after {times} times {outcome}"
                delays = said.delays if said is not None else None
                if after is not None and delays:
                    wait = delays[min(times, len(delays)) - 1]
                    if after.claimed_at < call.reported[0][0] + wait - 1e-6:
                        yield f"row {row_id} was dialed again less than {wait} s after {outcome} number {times}"
        yield from _faults_of_carriers(world, row_id, told)


def _faults_of_carriers(world: World, row_id: int, told: list[Outcome | None]) -> Iterator[str]:
    said = world.store.tables.retries.get(("default", NO_LANE, owner.CARRIER))
    faults = sum(outcome in _CARRIERS for outcome in told[:-1])
    # Where there is another trunk, a call goes over to it whatever the rules say.
    if said is not None and said.calls is not None and not world.store.tables.trunks and faults > said.calls:
        yield f"row {row_id} was dialed again after {faults} faults of the carrier, of {said.calls} that are allowed"


def _rule_of(world: World, user: str, outcome: Outcome) -> RetryRule | None:
    rules = world.store.tables.retries
    return rules.get(("user", user, outcome)) or rules.get(("default", NO_LANE, outcome))


_CARRIERS = frozenset({Outcome.REJECTED, Outcome.CONGESTION, Outcome.TRUNK_UNAVAILABLE})


def _by_row(world: World) -> dict[int, list[Call]]:
    """The calls of each row, in the order of their claims."""
    found: dict[int, list[Call]] = {}
    for call in sorted(world.calls.values(), key=lambda call: call.claimed_at):
        found.setdefault(call.row_id, []).append(call)
    return found


def _told_as(call: Call) -> Outcome | None:
    """How the database was told that it ended, by whoever told; None: not at all, or in two ways."""
    words = {word for _, _, word in call.reported}
    return Outcome(words.pop()) if len(words) == 1 else None


def _through_its_trunk(world: World) -> Iterator[str]:
    """Each call goes through the trunk that its claim chose, one that is open to its user and to its number."""
    for call in world.calls.values():
        sim = world.processes[call.process][0].pbx
        went = sim.ways.get(call.call_id)
        if went is not None and went != call.trunk:
            yield f"{call.call_id} was to go through {call.trunk} and went through {went}"
        if call.trunk not in _open_to(world, sim.name, call.user) and world.store.tables.trunks:
            yield f"{call.call_id} of user {call.user} was to go through {call.trunk}, which is not open to that user"
        trunk = world.store.tables.trunks.get((sim.name, call.trunk))
        if trunk is not None and trunk.prefixes and not call.number.lstrip("+").startswith(tuple(trunk.prefixes)):
            yield f"{call.call_id} went through {call.trunk} of {sim.name}, which may not call {call.number}"


def _open_to(world: World, pbx: str, user: str) -> set[str]:
    """The trunks of this user: their own if there are any, else the shared ones."""
    mine = [trunk for (at, _), trunk in world.store.tables.trunks.items() if at == pbx]
    own = {trunk.trunk for trunk in mine if trunk.user_id == user}
    return own or {trunk.trunk for trunk in mine if trunk.user_id is None}


def _trunks_rest(world: World) -> Iterator[str]:
    """Nothing is dialed through a trunk that cools down, and when that is over one call at a time tries it."""
    if world.restored_at is not None:
        return
    claims: dict[tuple[str, str], list[float]] = {}
    for call in world.calls.values():
        at = world.processes[call.process][0].pbx.name, call.trunk
        claims.setdefault(at, []).append(world.epoch + call.claimed_at)
    for at, rests in world.rules.rests.items():
        for rest in rests:
            over = math.inf if rest.over is None else rest.over
            during = sorted(claim for claim in claims.get(at, ()) if rest.since <= claim < over)
            if during and during[0] < rest.until - 1e-6:
                yield f"{at} cools down until {rest.until - world.epoch:.1f}: claim at {during[0] - world.epoch:.1f}"
            for first, second in pairwise(during):
                if second - first < TRY_SECONDS - 1e-6:
                    yield f"{at} was tried by two calls at {first - world.epoch:.1f}, {second - world.epoch:.1f}"


def _fails_over(world: World) -> Iterator[str]:
    """After a call that never began, the next one of its row goes through a trunk that has not been tried."""
    if not world.store.tables.trunks or world.restored_at is not None:
        return
    for row_id, calls in _by_row(world).items():
        tried: set[str] | None = set()
        for call in calls:
            if tried and call.trunk in tried:
                yield f"row {row_id}: {call.call_id} went through {call.trunk} again, others were not tried"
            outcome, others = _told_as(call), _open_to(world, world.processes[call.process][0].pbx.name, call.user)
            if outcome is None or row_id in world.touched:
                tried = None  # Whether it was a failure of its trunk cannot be said.
            elif outcome not in _UNBEGUN:
                tried = set()
            elif tried is not None:
                left = others - tried - {call.trunk}
                tried = tried | {call.trunk} if left else set()


def _claims_by_the_holder(world: World) -> Iterator[str]:
    """Nothing is claimed without the lease of the PBX."""
    for call_id in world.claims_of_nobody:
        yield f"{call_id} was claimed by an adapter that does not hold the PBX"


def _outbox_goes_first(world: World) -> Iterator[str]:
    """An adapter tells what it knows before it claims or takes over."""
    for what in world.unflushed:
        yield f"{what} while its outbox held outcomes"


def _no_call_into_a_void(world: World) -> Iterator[str]:
    """Nobody is called while the AI is not there."""
    for sim in world.pbxs:
        for call_id in sim.into_void:
            yield f"{call_id} was placed though the AI's extension had long been gone"


# Promise 8


def _dialed_within_a_sweep(world: World) -> Iterator[str]:
    """What could be claimed is claimed within the sweep interval, whatever Realtime does."""
    yield from world.due.late.values()


# Counters and leaks


def _counters_agree(world: World) -> Iterator[str]:
    """The row's count of tries is the number of its calls that spent one."""
    spent: Counter[int] = Counter()
    for call in world.calls.values():
        stored = world.stored(call.call_id)
        invites = world.carrier.of(call.call_id)
        if stored is None:
            continue
        rang = stored == Outcome.CANCELED and any(invite.may_have_rung for invite in invites)
        spent[call.row_id] += RULES[Outcome(stored)].spends_attempt or rang
    for row in world.store.rows.values():
        if row.id in world.touched or world.restored_at is not None or row.id in world.canceled:
            continue
        if row.attempts != spent[row.id]:
            yield f"row {row.id} counts {row.attempts} tries, its calls {spent[row.id]}"
        if row.attempts > row.max_attempts and row.id not in world.rules.ruled:
            yield f"row {row.id} counts {row.attempts} tries of at most {row.max_attempts}"


def _nothing_leaks(world: World) -> Iterator[str]:
    """Once all rows have ended, nothing is left inside an adapter."""
    for machine in world.machines:
        if machine.daemon is None or machine.process is None or not machine.process.alive:
            continue
        for what, count in _inside(machine):
            if count:
                yield f"{machine.name} still holds {count} {what}"


def _inside(machine: Machine) -> Iterator[tuple[str, int]]:
    daemon: Any = machine.daemon
    yield "calls on the board", len(daemon._follower._board)
    yield "doubts", len(daemon._follower._doubts)
    yield "known calls", len(daemon._follower._known)
    yield "hang-ups", len(daemon._follower._hang_ups)
    yield "unsent rows", daemon._dialer.backlog + daemon._dialer.sending
    yield "records", daemon._parts.outbox.count
    yield "places of the window", daemon._parts.link._awaiting


def _nothing_refused(world: World) -> Iterator[str]:
    """The database can take every record."""
    yield from world.refused


def _no_operator_needed(world: World) -> Iterator[str]:
    """Nobody has to move a STATE_DIR away which nobody has touched."""
    if world.moved_away and not world.folder_faults:
        yield f"{world.moved_away} folders had to be moved away"


def _adapters_come_back(world: World) -> Iterator[str]:
    """When all is well again, every adapter that is wanted runs."""
    for machine in world.machines:
        if machine.wanted and world.down(machine):
            yield f"{machine.name} is down; exits {machine.exits[-5:]}"


CHECKS = (
    _uncaught,
    _sent_once,
    _sent_fresh,
    _pace,
    _rung_again,
    _one_call_per_person,
    _rows_end,
    _outcomes_stored,
    _unknown_only_in_the_dark,
    _found_is_followed,
    _taken_over_is_ended,
    _unsent_is_released,
    _witnesses_know,
    _calls_live_on,
    _cancels_are_heard,
    _longest_call,
    _limits,
    _inside_hours,
    _listed_are_left_alone,
    _pauses_are_kept,
    _repeats,
    _calls_of_a_day,
    _rules_of_retries,
    _through_its_trunk,
    _trunks_rest,
    _fails_over,
    _claims_by_the_holder,
    _outbox_goes_first,
    _no_call_into_a_void,
    _dialed_within_a_sweep,
    _counters_agree,
    _nothing_leaks,
    _nothing_refused,
    _no_operator_needed,
    _adapters_come_back,
)

CHECK_NAMES = tuple(_name(check) for check in CHECKS)
"""As docs/guarantees.md names them."""
