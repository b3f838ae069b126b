"""Rings between workers: made here, handed to both ends, kept by neither of us.

A ring is never repaired. Whenever one end restarts (or reports corruption) both directions are made anew with a new
epoch, so nothing of a dead writer can be taken for a record of its replacement.
"""

import itertools
import os

from chatd.engine.native import Ring
from chatd.supervisor.child import Child

LINKED = ("hub", "shard")
_epochs = itertools.count(1)


def peers_of(child: Child, children: list[Child]) -> list[Child]:
    """Who shares a link with it: the hub with every shard, every shard with every other."""
    if child.role not in LINKED:
        return []
    return [peer for peer in children if peer is not child and peer.role in LINKED]


async def link(a: Child, b: Child, hub_ring_bytes: int, peer_ring_bytes: int) -> None:
    """Give both children a fresh link to each other. A child that is gone is skipped: its successor gets another."""
    capacity = hub_ring_bytes if "hub" in (a.role, b.role) else peer_ring_bytes
    epoch = next(_epochs)
    with Ring.create(capacity, epoch) as a_to_b, Ring.create(capacity, epoch) as b_to_a:
        await a.send(_told(b, epoch), _descriptors(b_to_a, a_to_b))
        await b.send(_told(a, epoch), _descriptors(a_to_b, b_to_a))


async def unlink(child: Child, gone: Child) -> None:
    await child.send({"do": "unlink", "to": gone.role, "index": gone.index})


def _told(peer: Child, epoch: int) -> dict[str, object]:
    return {"do": "link", "to": peer.role, "index": peer.index, "epoch": epoch}


def _descriptors(ring_in: Ring, ring_out: Ring) -> list[int]:
    return [ring_in.memfd, ring_in.fileno(), ring_out.memfd, ring_out.fileno()]


def attach(epoch: int, descriptors: list[int]) -> tuple[Ring, Ring]:
    """The worker's side: (ring_in, ring_out) from what came beside a "link" packet. Closes the descriptors."""
    try:
        memory_in, event_in, memory_out, event_out = descriptors
        return Ring.attach(memory_in, event_in, epoch), Ring.attach(memory_out, event_out, epoch)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
