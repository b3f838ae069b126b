"""The door: ReferenceEngine, with the interface of chatd.engine.interface.

One tick of poll: hub ring written, hub and peer rings read, deadlines, pressure, rings written again, queues told of,
doomed connections torn down. Frames are handled inside feed.
"""

import ipaddress
from collections.abc import Iterable
from typing import NoReturn

from chatd.engine.interface import LedgerEntry, Upcall
from chatd.engine.reference import closing, deadlines, output, queues, records, session, topics, uplink
from chatd.engine.reference.records import FromShard, Ring
from chatd.engine.reference.state import Connection, Frame, LinkStage, Stage, State
from chatd.engine.settings import EngineSettings
from chatd.errors import LocalProtocolError
from chatd.wire.schema import HEADER_BYTES, TIME_EPOCH_MS, Close

BYE_TEXT_BYTES_MAX = 64


class ReferenceEngine:
    """Sessions and routes of one shard, without sockets. See docs/internals/engine.md and the theory of the package."""

    def __init__(self, settings: EngineSettings) -> None:
        self._state = State(settings)
        self._state.look_at_clock()
        self._disposed = False
        self._work_left = False

    # -- lifetime --

    def fileno(self) -> int:
        _no_sockets("fileno")

    def listen(self, fd: int, proxy: bool = False) -> None:
        _no_sockets("listen")

    def trust(self, exempt: Iterable[str], balancers: Iterable[str]) -> None:
        _no_sockets("trust")

    def unlisten(self, fd: int) -> None:
        _no_sockets("unlisten")

    def link_hub(self, epoch: int, ring_in: Ring, ring_out: Ring) -> None:
        """Use a fresh pair of rings; an older link is dropped."""
        uplink.link(self._open_state(), ring_in, ring_out)

    def unlink_hub(self) -> None:
        uplink.unlink(self._open_state())

    def link_peer(self, index: int, epoch: int, ring_in: Ring, ring_out: Ring) -> None:
        self._open_state().peers[index] = (ring_in, ring_out)

    def unlink_peer(self, index: int) -> None:
        self._open_state().peers.pop(index, None)

    def poll(self, budget_us: int) -> list[Upcall]:
        """Tick until nothing is found or something needs Python; the budget is not measured."""
        state = self._open_state()
        state.count["polls"] += 1
        while True:
            self._tick(state)
            self._work_left = state.found_work
            if not state.found_work or state.upcalls:
                break
        upcalls, state.upcalls = state.upcalls, []
        return upcalls

    def _tick(self, state: State) -> None:
        state.count["ticks"] += 1
        state.found_work = False
        state.look_at_clock()
        uplink.pump(state)
        uplink.read(state)
        topics.read_peers(state)
        deadlines.run(state)
        self._relieve_pressure(state)
        uplink.pump(state)
        for _, ring_out in state.peers.values():
            ring_out.publish()
        while state.dirty or state.doomed:
            closing.reap(state)
            dirty, state.dirty = state.dirty, {}
            for conn in dirty.values():
                self._tell_readable(state, conn)
        if state.owing:
            uplink.pump(state)

    def _tell_readable(self, state: State, conn: Connection) -> None:
        """Once per filling of the queue."""
        if conn.queue and not conn.readable_told and not conn.doomed:
            conn.readable_told = True
            state.upcalls.append(("readable", conn.handle))

    def _relieve_pressure(self, state: State) -> None:
        """All queues together hold too much: at 90 % the largest one lags, at 100 % it is closed."""
        limit = state.settings.queues_bytes_max
        if 10 * state.queued_bytes <= 9 * limit:
            return
        live = [conn for conn in state.connections.values() if conn.is_live and conn.queue]
        if not live:
            return
        largest = max(live, key=lambda conn: conn.queue_bytes)
        if state.queued_bytes > limit:
            queues.doom(state, largest, Close.SLOW)
        else:
            output.lag_drop_queued(state, largest)

    def busy(self) -> bool:
        return self._work_left

    def timeout_ms(self) -> int:
        state = self._open_state()
        due_ms = deadlines.next_ms(state)
        state.look_at_clock()
        return -1 if due_ms is None else max(0, due_ms - state.now_ms)

    def set_time(self, ns: int, wall_ms: int = 0) -> None:
        """Only with settings.manual_clock. ns never goes back. wall_ms: Unix time, which may; 0: it follows ns."""
        state = self._open_state()
        if not state.settings.manual_clock:
            raise ValueError("set_time without settings.manual_clock")
        if ns < state.now_ns:
            raise ValueError("time does not go back")
        state.set_time(ns, wall_ms or TIME_EPOCH_MS + ns // 1_000_000)

    def counters(self) -> dict[str, int]:
        """Counts since the start, closes by reason as closed_REASON, and gauges of what is held now."""
        state = self._open_state()
        out = dict(state.count)
        out |= {f"closed_{reason.name.lower()}": state.closes[reason] for reason in Close}
        out["connections"] = len(state.connections)
        out["sessions"] = sum(conn.stage == Stage.LIVE for conn in state.connections.values())
        out["preauth"] = len(state.preauth)
        out["subscriptions"] = sum(len(found) for found in state.followers.values())
        out["sends_pending"] = len(state.sends)
        out["sends_pending_bytes"] = state.sends_bytes
        out["queued_bytes"] = state.queued_bytes
        out["parked_bytes"] = sum(len(conn.partial) for conn in state.connections.values())
        out["pool_bytes"] = out["slab_bytes"] = 0
        out["routed_pos"] = state.routed_pos
        return out

    def ledger(self, cid: int, seq: int, user: int | None = None) -> tuple[list[LedgerEntry], bool]:
        """What this shard did with an event, oldest first, and whether older entries have been overwritten."""
        state = self._open_state()
        found = []
        for entry_cid, entry_seq, entry in state.ledger:
            _, _, hop, who, count = entry
            last_seq = entry_seq + count - 1 if hop == "lag_sent" else entry_seq
            if entry_cid == cid and entry_seq <= seq <= last_seq and (not user or who in {0, user}):
                found.append(entry)
        assert state.ledger.maxlen
        return found, state.ledger_written > state.ledger.maxlen

    def drain(self, window_ms: int) -> None:
        state = self._open_state()
        if not state.drain_start_ms:
            state.drain_start_ms = state.now_ms or 1
            state.drain_window_ms = window_ms
            state.drain_list = sorted(state.connections.values(), key=lambda conn: conn.handle & 0xFFFFFFFF)

    def close_all(self, reason: int) -> None:
        _check_reason(reason)
        deadlines.close_all(self._open_state(), reason)

    def dispose(self) -> None:
        """Forget everything. Disposing twice is fine, anything else raises afterwards."""
        self._disposed = True
        self._state = State(self._state.settings)

    # -- commands --

    def terms(self, handle: int) -> tuple[int, int, int, int, int] | None:
        conn = self._find(handle)
        if conn is None or conn.stage < Stage.GREETED:
            return None
        return conn.features, conn.frame_bytes_max, conn.window_frames, conn.window_bytes, conn.heartbeat_ms

    def register(
        self, handle: int, user: int, device: int, token_epoch: int, session_epoch: int, expires_s: int
    ) -> bool:
        """The credential is good: ask the hub."""
        conn = self._find(handle)
        if conn is None or conn.stage != Stage.AUTHENTICATING:
            return False
        conn.user, conn.device, conn.expires_s = user, device, expires_s
        conn.token_epoch, conn.ticket_epoch = token_epoch, session_epoch
        conn.stage = Stage.REGISTERING
        conn.login_due = True
        self._state.owing[handle] = conn
        return True

    def welcome(self, handle: int, frame: bytes) -> bool:
        """Send a complete WELCOME or RESUMED frame; the session is live from here on."""
        _check_frame(frame)
        conn = self._find(handle)
        if conn is None or conn.stage != Stage.REGISTERED or not queues.push(self._state, conn, Frame(frame)):
            return False
        conn.stage = Stage.LIVE
        conn.received_ms = self._state.now_ms
        self._state.count["logins"] += 1
        output.lag_check(self._state, conn)
        if self._state.drain_start_ms:
            deadlines.tell_to_leave(self._state, conn)
        return True

    def refuse(self, handle: int, frame: bytes, close_reason: int = 0) -> bool:
        """Send a complete ERROR frame: the login (or REAUTH) failed. close_reason, or the third failure, closes."""
        _check_frame(frame)
        if close_reason:
            _check_reason(close_reason)
        conn = self._find(handle)
        if conn is None or conn.stage < Stage.AUTHENTICATING:
            return False
        queues.push(self._state, conn, Frame(frame))
        if close_reason:
            queues.doom(self._state, conn, close_reason)
        conn.reauthenticating = False
        if conn.stage != Stage.LIVE:
            self._login_failed(conn)
        return True

    def _login_failed(self, conn: Connection) -> None:
        self._state.count["login_failures"] += 1
        conn.login_due = False
        if conn.attached:
            # Refused although the hub was told of it: the directory must forget the session.
            queues.doom(self._state, conn, Close.AUTH_FAILED)
            return
        conn.user = conn.device = conn.session_epoch = 0
        conn.stage = Stage.GREETED
        conn.failures += 1
        if conn.failures >= self._state.settings.login_failures_max:
            queues.doom(self._state, conn, Close.AUTH_FAILED)

    def reauthenticated(self, handle: int, expires_s: int, frame: bytes) -> bool:
        """The fresh credential is good until expires_s; frame (WELCOME) answers its REAUTH."""
        _check_frame(frame)
        conn = self._find(handle)
        if conn is None or conn.stage != Stage.LIVE:
            return False
        conn.expires_s = expires_s
        conn.expiry_told = conn.reauthenticating = False
        queues.push(self._state, conn, Frame(frame))
        return True

    def close(self, handle: int, reason: int, retry_after_ms: int = 0, text: str = "") -> bool:
        """BYE with reason, then close. text: at most 64 bytes of UTF-8."""
        _check_reason(reason)
        if len(text.encode()) > BYE_TEXT_BYTES_MAX:
            raise ValueError(f"text of {len(text.encode())} bytes; BYE takes {BYE_TEXT_BYTES_MAX}")
        conn = self._find(handle)
        if conn is None:
            return False
        conn.close_retry_ms = retry_after_ms
        if text:
            output.send_bye(self._state, conn, reason, retry_after_ms, text)
        queues.doom(self._state, conn, reason)
        return True

    def rpc(self, call: int, payload: bytes) -> bool:
        """MessagePack to the hub's Python side. False: no hub, or its ring is full."""
        hub = self._open_state().hub
        if hub.stage != LinkStage.READY or hub.ring_out is None:
            return False
        written = hub.ring_out.put(records.RPC.pack(FromShard.RPC, len(payload), call) + payload)
        hub.ring_out.publish()
        return written

    # -- the second door, and here the only one --

    def open(self, address: str = "") -> int:
        """A connection; address is the peer's. Raises MemoryError when there are connections_max already."""
        state = self._open_state()
        if len(state.connections) >= state.settings.connections_max:
            raise MemoryError("no room for another connection")
        slot = state.free_slots.pop() if state.free_slots else len(state.generations)
        if slot == len(state.generations):
            state.generations.append(1)
        handle = slot | state.generations[slot] << 32
        address = str(ipaddress.ip_address(address)) if address else ""
        conn = Connection(handle, address, opened_ms=state.now_ms, received_ms=state.now_ms)
        state.connections[handle] = conn
        state.count["accepted"] += 1
        if len(state.preauth) > state.settings.preauth_connections_max:
            # A real client logs in at once, an attacker's connections grow old.
            oldest = next((found for found in state.preauth if not found.doomed), conn)
            queues.doom(state, oldest, Close.PREAUTH_EVICTED)
        return handle

    def feed(self, handle: int, data: bytes) -> int:
        """Received bytes; returns how many were taken. Fewer: it throttles, "resumed" says when to go on."""
        conn = self._find(handle)
        if conn is None or not data:
            return len(data)
        self._state.look_at_clock()
        if conn.throttled:
            conn.fed_short = True
            return 0
        return session.receive(self._state, conn, bytes(data))

    def take(self, handle: int, limit: int = 65_536) -> bytes:
        """Up to limit bytes to send; empty when there are none. Works until end(), closed session or not."""
        conn = self._open_state().connections.get(handle)
        if conn is None or not conn.queue:
            return b""
        out = queues.take(self._state, conn, limit)
        if not conn.queue:
            conn.readable_told = False
            output.lag_check(self._state, conn)
        return out

    def end(self, handle: int, reason: int = 0) -> None:
        """The transport is gone. reason: a close reason, PEER_CLOSED when 0."""
        conn = self._open_state().connections.get(handle)
        if reason:
            _check_reason(reason)
        if conn is not None:
            queues.doom(self._state, conn, reason or Close.PEER_CLOSED)

    # -- checks --

    def _open_state(self) -> State:
        if self._disposed:
            raise ValueError("operation on a disposed engine")
        return self._state

    def _find(self, handle: int) -> Connection | None:
        conn = self._open_state().connections.get(handle)
        return conn if conn is not None and conn.is_open else None


def _no_sockets(call: str) -> NoReturn:
    message = f"{call}: the reference engine has no sockets; give it bytes with open(), feed() and take()"
    raise LocalProtocolError("INTERNAL", message)


def _check_reason(reason: int) -> None:
    if reason not in set(Close):
        raise ValueError(f"{reason} is not a close reason of the schema")


def _check_frame(frame: bytes) -> None:
    if len(frame) < HEADER_BYTES or len(frame) != HEADER_BYTES + int.from_bytes(frame[:2], "big"):
        raise ValueError("not one complete frame")
