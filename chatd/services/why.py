# Why did a message (not) reach somebody? The hub's core and every shard keep a bounded ledger of hops; this merges
# them. What a ledger has forgotten is said ("aged out"), never guessed. The event itself and the membership of the
# user come from the log and never age out: they answer "was it stored" and "was it for this user" for ever.
"""ADMIN_WHY: the hops of one event towards one user."""

from typing import Any

import trio

from chatd.hub import reads
from chatd.hub.frames import CallError
from chatd.services.caller import Caller, Result

Hop = tuple[int, str, str]
"""time_ms, hop, detail"""

AGED_OUT = "aged out"
HOPS_MAX = 500
SHARD_TIMEOUT_S = 1.0


async def why(caller: Caller, cid: int, seq: int, user: int) -> Result:
    """ADMIN_WHY"""
    hub = caller.hub
    stored = await _stored(caller, cid, seq)
    if stored is None:
        return {1: [[0, "not stored", f"conversation {cid} has no event {seq}"]], 2: False}
    hops: list[Hop] = [stored, await _membership(caller, cid, seq, user)]
    ledger = hub.core.ledger(cid, seq, user)
    hops += ledger
    aged_out = not ledger

    async def ask(shard: int) -> None:
        nonlocal aged_out
        try:
            found, complete = await hub.rpc.ask(shard, "ledger", cid, seq, user, stored[0], timeout_s=SHARD_TIMEOUT_S)
        except CallError as refusal:
            hops.append((0, "shard silent", f"shard {shard}: {refusal.text}"))
            aged_out = True
            return
        hops.extend((time_ms, hop, f"shard {shard}: {detail}") for time_ms, hop, detail in found)
        aged_out = aged_out or not complete

    async with trio.open_nursery() as nursery:
        for shard in sorted(hub.shards):
            nursery.start_soon(ask, shard)
    if aged_out:
        hops.append((0, AGED_OUT, "a ledger has forgotten hops of this time, or its process was restarted"))
    listed: list[list[Any]] = [list(hop) for hop in sorted(hops, key=lambda hop: hop[0])]
    return {1: listed[:HOPS_MAX], 2: aged_out}


async def _stored(caller: Caller, cid: int, seq: int) -> Hop | None:
    hop = _in_tail(caller, cid, seq)
    if hop is not None:
        return hop
    rows = await caller.hub.loader.read(lambda view: view.events(cid, seq, seq, 1, 1))
    if rows:
        return (rows[0].ts_ms, "stored", f"by user {rows[0].sender}, kind {rows[0].kind}")
    # Committed while the thread was reading.
    return _in_tail(caller, cid, seq)


def _in_tail(caller: Caller, cid: int, seq: int) -> Hop | None:
    """Seen through the eyes of anybody who was a member then: the tail shows an event to members only."""
    for user, _, join_seq, leave_seq, *_ in caller.core.members(cid) or ():
        if join_seq <= seq and (not leave_seq or seq <= leave_seq):
            event = reads.tail_event(caller.core, cid, seq, user)
            if event is None:
                return None
            return (event[2], "stored", f"by user {event[1]}, kind {event[3]}; not folded yet")
    return None


async def _membership(caller: Caller, cid: int, seq: int, user: int) -> Hop:
    try:
        found = await caller.hub.lookup(lambda: reads.intervals(caller.core, cid, user))
    except reads.UnknownConversation:
        return (0, "not for this user", f"user {user} was never a member of conversation {cid}")
    for _, _, join_seq, leave_seq, delivered_seq, read_seq, _ in found:
        if join_seq <= seq and (not leave_seq or seq <= leave_seq):
            positions = f"delivered up to {delivered_seq}, read up to {read_seq}"
            return (0, "for this user", f"member from {join_seq} to {leave_seq or 'now'}; {positions}")
    spans = ", ".join(f"{interval[2]}..{interval[3] or 'now'}" for interval in found)
    return (0, "not for this user", f"user {user} was a member only at {spans}")
