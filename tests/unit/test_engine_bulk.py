"""One event for many sockets: written a few at a time, so that who is reached alone does not wait for them."""

import socket

from support import frames
from support.socket_shard import Shard, running

MANY = 150
CHANNEL, DIRECT = 5, 6


def logged_in(shard: Shard, first: int = 1) -> dict[int, socket.socket]:
    """MANY connections by handle."""
    found: dict[int, socket.socket] = {}
    for user in range(first, first + MANY):
        client = shard.login(user)
        client.setblocking(False)
        (handle,) = shard.hub.sessions.keys() - found.keys()
        found[handle] = client
    return found


def take(client: socket.socket) -> list[tuple[int, int]]:
    """(cid, seq) of what has been written to it."""
    try:
        data = client.recv(1 << 16)
    except BlockingIOError:
        return []
    got = [frame.ints(2) for frame in frames.split(data)]
    return [(cid, seq) for cid, seq in got]


def test_who_is_reached_alone_does_not_wait_for_many() -> None:
    with running() as shard:
        clients = logged_in(shard)
        last = list(clients)[-1]
        shard.hub.committed(CHANNEL, 1, frames.deliver(CHANNEL, 1), list(clients))
        shard.hub.committed(DIRECT, 1, frames.deliver(DIRECT, 1), [last])
        shard.engine.poll(0)
        first_tick = {handle: take(client) for handle, client in clients.items()}
        assert first_tick.pop(last) == [(CHANNEL, 1), (DIRECT, 1)], "what waited before it goes with it"
        served = [handle for handle, got in first_tick.items() if got]
        assert 0 < len(served) < MANY / 2
        assert shard.engine.busy(), "the others are not forgotten"
        shard.hub.committed(CHANNEL, 2, frames.deliver(CHANNEL, 2), list(clients))
        while shard.engine.busy():
            shard.engine.poll(0)
        for handle, client in clients.items():
            before = [] if handle == last or first_tick[handle] else [(CHANNEL, 1)]
            assert take(client) == [*before, (CHANNEL, 2)]


def test_who_leaves_while_waiting_gives_the_place_to_somebody_else() -> None:
    with running(connections_max=256) as shard:
        clients = logged_in(shard)
        for seq in (1, 2, 3):
            shard.hub.committed(CHANNEL, seq, frames.deliver(CHANNEL, seq), list(clients))
            shard.engine.poll(0)
            for client in clients.values():
                client.close()
            shard.until("connections", 0)
            shard.hub.sessions.clear()
            clients = logged_in(shard, first=1 + seq * MANY)
            assert not any(take(client) for client in clients.values()), "a push to whoever had the place before"
        shard.hub.committed(CHANNEL, 9, frames.deliver(CHANNEL, 9), list(clients))
        while shard.poll() or shard.engine.busy():
            pass
        assert [take(client) for client in clients.values()] == [[(CHANNEL, 9)]] * MANY
