"""The invariants that a history must satisfy, one function each; docs/contract.md is what they check.

Each yields findings: sentences with the evidence, under a word (LOST, GAP, …) that names the invariant.
A run whose final read is missing proves nothing: that is a finding too, not a pass.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from support.history import Applied, History, Seen, Send, Stored

Findings = Iterator[str]


@dataclass(frozen=True, slots=True)
class Finding:
    word: str
    text: str


def by_place(history: History) -> dict[tuple[int, int], Stored]:
    return {(event.cid, event.seq): event for event in history.stored}


def memberships(history: History) -> Callable[[int, int, int], bool]:
    """member(user, cid, seq): of a conversation whose intervals the history does not have everybody is one."""
    intervals: dict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
    for interval in history.intervals:
        end = interval.leave_seq or float("inf")
        intervals[interval.user, interval.cid].append((interval.join_seq, end))
    known = {cid for _, cid in intervals}

    def member(user: int, cid: int, seq: int) -> bool:
        return cid not in known or any(join <= seq <= leave for join, leave in intervals.get((user, cid), ()))

    return member


def lost(history: History) -> Findings:
    """I1: every acknowledged event is in the final read, at its seq, with its content."""
    stored = by_place(history)
    for send in history.sends:
        if send.outcome == "ok":
            event = stored.get((send.cid, send.seq))
            if event is None or event.hash != send.hash:
                yield f"acked cseq {send.cseq} of device {send.device} is not at {send.cid}:{send.seq}"


def phantom(history: History) -> Findings:
    """I2: nothing is stored that nobody sent, or that was refused for good."""
    sent: dict[tuple[int, int], set[str]] = defaultdict(set)
    refused: set[tuple[int, int]] = set()
    for send in history.sends:
        sent[send.device, send.cseq].add(send.hash)
        if send.outcome == "final":
            refused.add((send.device, send.cseq))
    for event in history.stored:
        if event.device_cseq is None:
            continue
        if event.hash not in sent.get(event.device_cseq, ()) or event.device_cseq in refused:
            yield f"{event.cid}:{event.seq} holds what nobody sent or what was refused: {event.device_cseq}"


def stored_twice(history: History) -> Findings:
    """I3: one event for each (device, cseq)."""
    places: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for event in history.stored:
        if event.device_cseq is not None:
            places[event.device_cseq].append((event.cid, event.seq))
    for key, found in places.items():
        if len(found) > 1:
            yield f"device {key[0]} cseq {key[1]} is stored at {found}"


def diverged(history: History) -> Findings:
    """I4: all observations of one (cid, seq) have one content."""
    hashes: dict[tuple[int, int], set[str]] = defaultdict(set)
    for record in (*history.stored, *history.seen, *history.applied):
        hashes[record.cid, record.seq].add(record.hash)
    for send in history.sends:
        if send.outcome == "ok":
            hashes[send.cid, send.seq].add(send.hash)
    for place, found in hashes.items():
        if len(found) > 1:
            yield f"{place[0]}:{place[1]} was seen with {len(found)} contents"


def gap(history: History) -> Findings:
    """I5: final seqs are 1..N."""
    seqs: dict[int, list[int]] = defaultdict(list)
    for event in history.stored:
        seqs[event.cid].append(event.seq)
    for cid, found in seqs.items():
        if sorted(found) != list(range(1, len(found) + 1)):
            yield f"conversation {cid} has {len(found)} events, highest {max(found)}"


def reorder(history: History) -> Findings:
    """I6: an event sent after another one's ack has the higher seq, across all users."""
    acked: dict[int, list[Send]] = defaultdict(list)
    for send in history.sends:
        if send.outcome == "ok":
            acked[send.cid].append(send)
    for cid, sends in acked.items():
        sends.sort(key=lambda send: send.seq)
        earliest_later = float("inf")
        for send in reversed(sends):
            if send.invoked > earliest_later:
                yield f"{cid}:{send.seq} was sent after a higher seq had been acked"
            earliest_later = min(earliest_later, send.answered)


def fifo(history: History) -> Findings:
    """I7: per device and conversation, cseq order is seq order."""
    lanes: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for event in history.stored:
        if event.device_cseq is not None:
            lanes[event.device_cseq[0], event.cid].append((event.seq, event.device_cseq[1]))
    for (device, cid), lane in lanes.items():
        lane.sort()
        for (_, earlier), (seq, later) in pairwise(lane):
            if later <= earlier:
                yield f"device {device}: cseq {later} stands at {cid}:{seq} behind cseq {earlier}"


def skipped(history: History) -> Findings:
    """I8: pushed seqs rise by one unless LAG, an own event, HISTORY or a time as no member explains the step."""
    member = memberships(history)
    own: dict[tuple[int, int], set[int]] = defaultdict(set)
    for event in history.stored:
        if event.device_cseq is not None:
            own[event.device_cseq[0], event.cid].add(event.seq)
    lags: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for lag in history.lags:
        lags[lag.connection].append((lag.cid, lag.from_seq, lag.to_seq))
    lanes: dict[tuple[int, int], list[Seen]] = defaultdict(list)
    for seen in history.seen:
        if not seen.history:
            lanes[seen.connection, seen.cid].append(seen)
    for (connection, cid), lane in lanes.items():
        for before, after in pairwise(lane):
            if after.seq == before.seq + 1:
                continue
            for seq in range(before.seq + 1, after.seq):
                explained = (
                    seq in own[after.device, cid]
                    or any(c == 0 or (c == cid and low <= seq <= high) for c, low, high in lags[connection])
                    or not member(after.user, cid, seq)
                )
                if not explained:
                    yield f"connection {connection} got {cid}:{after.seq} after {before.seq}: {seq} is missing"
                    break


def duplicated(history: History) -> Findings:
    """I9: on one connection no live event comes twice or goes back; to an application nothing ever does."""
    last: dict[tuple[int, int], int] = {}
    for seen in history.seen:
        if seen.history:
            continue
        if seen.seq <= last.get((seen.connection, seen.cid), 0):
            yield f"connection {seen.connection} got {seen.cid}:{seen.seq} again or late"
        last[seen.connection, seen.cid] = seen.seq
    applied: dict[tuple[int, int], Applied] = {}
    for event in history.applied:
        previous = applied.get((event.device, event.cid))
        if previous is not None and event.seq != previous.seq + 1:
            yield f"the application of device {event.device} got {event.cid}:{event.seq} after {previous.seq}"
        applied[event.device, event.cid] = event


def stale(history: History) -> Findings:
    """I10: a read begun after an ack returns the event."""
    acked: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for send in history.sends:
        if send.outcome == "ok":
            acked[send.cid].append((send.answered, send.seq))
    for pull in history.pulls:
        have = set(pull.seqs)
        for at, seq in acked[pull.cid]:
            if at < pull.begun and seq >= pull.from_seq and seq not in have:
                yield f"a read of {pull.cid} by user {pull.user} missed {seq}, acked {pull.begun - at:.3f} s before it"


def receipt(history: History) -> Findings:
    """I11: receipts never go back and never pass delivered or the head."""
    last: dict[tuple[int, int, int], tuple[int, int]] = {}
    heads: dict[int, int] = defaultdict(int)
    for event in history.stored:
        heads[event.cid] = max(heads[event.cid], event.seq)
    for r in history.receipts:
        key = (r.connection, r.cid, r.user)
        delivered, read = last.get(key, (0, 0))
        if r.delivered_seq < delivered or r.read_seq < read:
            yield f"receipt of user {r.user} in {r.cid} went back"
        if not r.read_seq <= r.delivered_seq <= heads[r.cid]:
            yield f"receipt of user {r.user} in {r.cid} is beyond: {r.read_seq}, {r.delivered_seq}, {heads[r.cid]}"
        last[key] = (r.delivered_seq, r.read_seq)


def leak(history: History) -> Findings:
    """I12: nobody observes a seq outside of his membership."""
    member = memberships(history)
    for seen in history.seen:
        if not member(seen.user, seen.cid, seen.seq):
            yield f"user {seen.user} saw {seen.cid}:{seen.seq} outside of his membership"


def crossed(history: History) -> Findings:
    """I14: an event carries the sender and the conversation it was sent with."""
    sent = {(send.device, send.cseq): send for send in history.sends}
    for event in history.stored:
        send = sent.get(event.device_cseq) if event.device_cseq else None
        if send is not None and (send.cid, send.user) != (event.cid, event.sender):
            yield f"{event.cid}:{event.seq} by user {event.sender} was sent to {send.cid} by user {send.user}"


def stuck(history: History) -> Findings:
    """I15: in the end every device that should has every event."""
    heads: dict[int, int] = defaultdict(int)
    have: dict[tuple[int, int], set[int]] = defaultdict(set)
    for event in history.stored:
        heads[event.cid] = max(heads[event.cid], event.seq)
    for applied in history.applied:
        have[applied.device, applied.cid].add(applied.seq)
    for cid, devices in history.expected_online.items():
        for device in devices:
            missing = set(range(1, heads[cid] + 1)) - have[device, cid]
            if missing:
                yield f"device {device} never got {len(missing)} of {heads[cid]} events of {cid}, first {min(missing)}"


def backwards(history: History) -> Findings:
    """I16: ts never falls with seq."""
    lanes: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for event in history.stored:
        lanes[event.cid].append((event.seq, event.ts))
    for cid, lane in lanes.items():
        lane.sort()
        for (_, earlier), (seq, later) in pairwise(lane):
            if later < earlier:
                yield f"{cid}:{seq} is older than its predecessor"


def ghost(history: History) -> Findings:
    """I17: what was refused for now is stored only if it was sent again."""
    attempts: dict[tuple[int, int], list[Send]] = defaultdict(list)
    for send in history.sends:
        attempts[send.device, send.cseq].append(send)
    kept = {event.device_cseq for event in history.stored if event.device_cseq}
    for key, tries in attempts.items():
        if key in kept and all(send.outcome == "retryable" for send in tries):
            yield f"device {key[0]} cseq {key[1]} was refused every time and is stored all the same"


def twin(history: History) -> Findings:
    """I18: once a newer connection of a device is welcome, nothing sent on an older one is accepted."""
    device_of = {c.connection: c.device for c in history.connections}
    welcomes: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for c in history.connections:
        welcomes[c.device].append((c.at, c.connection))
    opened = {c.connection: c.at for c in history.connections}
    attempts: dict[tuple[int, int], int] = defaultdict(int)
    for send in history.sends:
        attempts[send.device, send.cseq] += 1
    # Sent once and stored: accepted, although the answer may have found nobody.
    once = {event.device_cseq for event in history.stored if event.device_cseq and attempts[event.device_cseq] == 1}
    for send in history.sends:
        device = device_of.get(send.connection)
        if device is None or (send.outcome != "ok" and (send.device, send.cseq) not in once):
            continue
        if any(opened[send.connection] < at < send.transmitted for at, _ in welcomes[device]):
            yield f"device {device}: cseq {send.cseq} was accepted from connection {send.connection} after its takeover"


def unread(history: History) -> Findings:
    """A run without its final read is invalid."""
    read = {event.cid for event in history.stored}
    for cid in {send.cid for send in history.sends if send.outcome == "ok"} - read:
        yield f"conversation {cid} was not read at the end: the run proves nothing"


INVARIANTS: dict[str, Callable[[History], Findings]] = {
    "LOST": lost,
    "PHANTOM": phantom,
    "DUP_LOG": stored_twice,
    "DIVERGED": diverged,
    "GAP": gap,
    "REORDER": reorder,
    "FIFO": fifo,
    "SKIP": skipped,
    "DUP": duplicated,
    "STALE": stale,
    "RECEIPT": receipt,
    "LEAK": leak,
    "CROSS": crossed,
    "STUCK": stuck,
    "TIME": backwards,
    "GHOST": ghost,
    "TWIN": twin,
    "INVALID": unread,
}


def check(history: History) -> list[Finding]:
    """All findings of all invariants; an empty list is a pass."""
    return [Finding(word, text) for word, rule in INVARIANTS.items() for text in rule(history)]
