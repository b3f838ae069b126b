"""A live session: what each frame of the server does, and what goes out when."""

import math
from typing import TYPE_CHECKING, Any

from chatd.client.errors import refused
from chatd.client.live_streams import LiveStreams
from chatd.client.model import Ephemeral, Event, Followed, Notice, Overview, Receipt, SendFailed, Sent
from chatd.client.presence import Presences
from chatd.client.state import Waiting
from chatd.wire import Frame, make, schema, stub_bytes
from chatd.wire.control import unpack
from chatd.wire.frame import Extensions, decode_extensions
from chatd.wire.layout import Reader
from chatd.wire.schema import EXTENSION_EPHEMERAL_TELEMETRY, EphemeralKind, MemberState, Op
from chatd.wire.time40 import to_unix_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatd.client.session import ClientSession

# Read positions are durable a second after they were sent (contract, clause 9); younger ones are sent again.
READ_DURABLE_S = 2.0
RETRY_MIN_S = 0.2
FRAME_OVERHEAD_BYTES = 30


class Live:
    """Handlers by op, and the SYNC, the subscriptions and the read positions of a session."""

    def __init__(self, session: "ClientSession") -> None:
        self._session = session
        self.syncing = False
        self.synced = False
        self._sync_at: float | None = None
        self._sync_cursor = b""
        self._following: dict[int, int] = {}
        self._follow_at: dict[int, float] = {}
        self._reads: dict[int, tuple[int, float]] = {}
        self.presences = Presences(session)
        self.streams = LiveStreams(session)
        self._handlers: dict[int, Callable[[Frame, float], None]] = {
            Op.DELIVER: self._on_deliver,
            Op.SEND_ACK: self._on_send_ack,
            Op.SEND_NAK: self._on_send_nak,
            Op.LAG: self._on_lag,
            Op.SYNC_PAGE: self._on_sync_page,
            Op.PULL_END: self._on_pull_end,
            Op.REPLY: self._on_reply,
            Op.ERROR: self._on_error,
            Op.EPHEMERAL: self._on_ephemeral,
            Op.RECEIPT: self._on_receipt,
            Op.SUBSCRIBE: self._on_subscribe,
            Op.UNSUBSCRIBE: self._on_unsubscribe,
            Op.NOTICE: self._on_notice,
            Op.STREAM_START: self.streams.on_start,
            Op.STREAM_SNAPSHOT: lambda frame, now: self.streams.on_snapshot(frame),
            Op.STREAM_DELTA: lambda frame, now: self.streams.on_delta(frame),
            Op.STREAM_END: lambda frame, now: self.streams.on_end(frame["cid"], frame["stream"]),
            Op.WELCOME: self._on_reauthenticated,
            Op.PING: self._on_ping,
            Op.GOAWAY: self._on_goaway,
            Op.REDIRECT: self._on_redirect,
            Op.BYE: self._on_bye,
        }

    def on_frame(self, frame: Frame, now: float) -> None:
        """Ops without a handler (CHUNK, which this client never asks for) need nothing."""
        handler = self._handlers.get(frame.op)
        if handler is not None:
            handler(frame, now)

    # ------------------------------------------------------------ begin and end of a live session

    def on_live(self, from_scratch: bool, now: float) -> None:
        """SYNC from our position, follow again what was followed, say again what may not have been kept."""
        self.syncing = False
        self._sync_at = -math.inf
        self._sync_cursor = b"" if from_scratch else self._session.state.cursor
        self._follow_at.clear()
        for cid, topics in self._following.items():
            self._session.emit(make(Op.SUBSCRIBE, cid=cid, topics=topics))
        for cid, (seq, _) in self._reads.items():
            self._session.emit(make(Op.READ, cid=cid, seq=seq))
        self.presences.on_live(now)
        self.streams.on_live()

    def on_lost(self, now: float) -> None:
        self.syncing = self.synced = False
        self.streams.on_lost()
        self._forget_durable_reads(now)

    def plan(self, now: float) -> None:
        """Put everything that may leave now into the connection: requests, sends, SYNC, PULLs, ACK."""
        session = self._session
        if self._sync_at is not None and now >= self._sync_at and not self.syncing:
            self.syncing, self._sync_at = True, None
            session.emit(make(Op.SYNC, cursor=self._sync_cursor, limit=schema.SYNC_ENTRIES_MAX))
        self.presences.plan(now)
        for cid in [cid for cid, due in self._follow_at.items() if now >= due]:
            del self._follow_at[cid]
            self.follow_again(cid)
        for asked in session.requests.due(now):
            session.emit(make(Op.REQUEST, id=asked.id, method=asked.method, params=asked.params))
        # Before the sends: one of them may end a stream, which has to be whole then.
        self.streams.plan(now)
        for row in session.outbox.due(now):
            if row.skip:
                session.emit(make(Op.SKIP, cseq=row.cseq))
            else:
                session.emit(
                    make(
                        Op.SEND,
                        extensions=_extensions(row),
                        cseq=row.cseq,
                        cid=row.cid,
                        kind=row.kind,
                        payload=row.payload,
                    )
                )
        for pull in session.inbox.plan(now, session.outbox.conversations_in_flight()):
            session.emit(pull.frame())
        if session.connection is not None:
            count = session.connection.acks.take(now)
            if count is not None:
                session.emit(make(Op.ACK, count=count))

    def deadline(self) -> float | None:
        session = self._session
        times = [
            None if self.syncing else self._sync_at,
            self.presences.deadline(),
            min(self._follow_at.values(), default=None),
            self.streams.deadline(),
            session.outbox.deadline(),
            session.inbox.deadline(session.outbox.conversations_in_flight()),
            session.connection.acks.due_at() if session.connection is not None else None,
        ]
        return min((time for time in times if time is not None), default=None)

    # ------------------------------------------------------------ wishes of the application

    def follow(self, cid: int, topics: int) -> None:
        self._following[cid] = topics
        if self._session.is_live:
            self._session.emit(make(Op.SUBSCRIBE, cid=cid, topics=topics))

    def follow_again(self, cid: int) -> None:
        """Ask once more: what was refused for now, or for the snapshots of what runs there."""
        if cid in self._following:
            self._session.emit(make(Op.SUBSCRIBE, cid=cid, topics=self._following[cid]))

    def unfollow(self, cid: int) -> None:
        self.streams.unfollowed(cid)
        if self._following.pop(cid, None) is not None and self._session.is_live:
            self._session.emit(make(Op.UNSUBSCRIBE, cid=cid))

    def mark_read(self, cid: int, seq: int, now: float) -> None:
        self._forget_durable_reads(now)
        if seq <= self._reads.get(cid, (0, 0.0))[0]:
            return
        self._reads[cid] = (seq, now)
        self._session.inbox.marked_read(cid, seq)
        if self._session.is_live:
            self._session.emit(make(Op.READ, cid=cid, seq=seq))

    def ephemeral(self, cid: int, kind: int, payload: bytes, extensions: Extensions = ()) -> bool:
        if not self._session.is_live:
            return False
        self._session.emit(make(Op.EPHEMERAL, extensions=extensions, cid=cid, sender=0, kind=kind, payload=payload))
        return True

    def _forget_durable_reads(self, now: float) -> None:
        """Those sent while live and long enough ago; without a session they stay until they could be sent."""
        if self._session.phase == "live":
            self._reads = {cid: read for cid, read in self._reads.items() if now < read[1] + READ_DURABLE_S}

    # ------------------------------------------------------------ events

    def _on_deliver(self, frame: Frame, now: float) -> None:
        connection = self._session.connection
        if connection is None:
            return
        stub = bool(frame.flags & schema.FLAG_DELIVER_STUB)
        payload: bytes = frame["payload"]
        event = Event(
            cid=frame["cid"],
            seq=frame["seq"],
            sender=frame["sender"],
            time_ms=to_unix_ms(frame["time"]),
            kind=frame["kind"],
            payload=b"" if stub else payload,
            own=frame["sender"] == self._session.inbox.me,
            stub=stub,
            size=stub_bytes(payload) if stub else len(payload),
            extensions=dict(frame.extensions),
            tombstone=bool(frame.flags & schema.FLAG_DELIVER_TOMBSTONE),
        )
        self.streams.on_end(event.cid, event.stream)
        size_bytes = len(payload) + FRAME_OVERHEAD_BYTES
        history = bool(frame.flags & schema.FLAG_DELIVER_HISTORY)
        connection.acks.on_received()
        if self._session.inbox.on_event(event, history, size_bytes, connection.generation, now):
            connection.acks.release(size_bytes, now)

    def _on_send_ack(self, frame: Frame, now: float) -> None:
        session = self._session
        if frame.flags & schema.FLAG_SEND_ACK_SKIPPED:
            session.outbox.on_ack(frame["cseq"], None)
            return
        sent = Sent(frame["cid"], frame["seq"], to_unix_ms(frame["time"]), bool(frame.flags & schema.FLAG_SEND_ACK_DUP))
        row = session.outbox.on_ack(frame["cseq"], sent)
        if row is not None:
            payload, stub, size = self.streams.content_of(row, _extensions(row))
            event = Event(
                sent.cid, sent.seq, session.inbox.me, sent.time_ms, row.kind, payload, True, stub, size,
                dict(_extensions(row)),
            )  # fmt: skip
            session.inbox.on_event(event, history=False, size_bytes=0, generation=0, now=now)

    def _on_send_nak(self, frame: Frame, now: float) -> None:
        retryable = bool(frame.flags & schema.FLAG_SEND_NAK_RETRYABLE)
        code, text = frame["code"], frame["text"]
        row = self._session.outbox.on_nak(frame["cseq"], code, text, frame["retry_after_ms"], retryable, now)
        if row is not None:
            self._session.signals.append(SendFailed(row.cid, row.kind, row.payload, refused(code, text)))

    def _on_lag(self, frame: Frame, now: float) -> None:
        if frame["cid"] == 0:
            self._sync_again(now)
        else:
            self._session.inbox.on_lag(frame["cid"], frame["from_seq"], frame["to_seq"])

    # ------------------------------------------------------------ sync and pull

    def _sync_again(self, at: float) -> None:
        self._sync_cursor = self._session.state.cursor
        self._sync_at = at

    def _on_sync_page(self, frame: Frame, now: float) -> None:
        if not self.syncing:
            return
        entries = [overview(entry) for entry in frame["entries"]]
        floors = {entry["cid"]: entry["floor_seq"] for entry in frame["entries"]}
        more = bool(frame.flags & schema.FLAG_SYNC_PAGE_MORE)
        self._session.inbox.on_sync_page(entries, floors, None if more else frame["cursor"])
        self.syncing = False
        self.synced = self.synced or not more
        if more:
            self._sync_cursor, self._sync_at = frame["cursor"], now

    def _on_pull_end(self, frame: Frame, now: float) -> None:
        said: dict[str, Any] = frame.extension(schema.EXTENSION_PULL_END_OMITTED) or {"ranges": ()}
        omitted = tuple((row["from_seq"], row["from_seq"] + row["count"] - 1) for row in said["ranges"])
        end = (frame["cid"], frame["next_seq"], frame["head_seq"], frame["floor_seq"])
        self._session.inbox.on_pull_end(*end, now, omitted)

    # ------------------------------------------------------------ answers and refusals

    def _on_reply(self, frame: Frame, now: float) -> None:
        retryable = bool(frame.flags & schema.FLAG_REPLY_RETRYABLE)
        self._session.requests.on_reply(
            frame["id"], frame["code"], frame["retry_after_ms"], retryable, frame["result"], now
        )

    def _on_error(self, frame: Frame, now: float) -> None:
        session, code, ref = self._session, frame["code"], frame["ref"]
        retryable = bool(frame.flags & schema.FLAG_ERROR_RETRYABLE)
        delay_s = max(RETRY_MIN_S, frame["retry_after_ms"] / 1000)
        error = refused(code, frame["text"], frame["retry_after_ms"], what=f"conversation {ref}")
        if frame["op"] == Op.REAUTH:
            session.on_reauth_error(frame["retry_after_ms"], retryable, now)
        elif frame["op"] == Op.PULL:
            session.inbox.on_pull_refused(ref, error, now + delay_s if retryable else None)
        elif frame["op"] == Op.SYNC:
            self.syncing = False
            self._sync_again(now + delay_s)
        elif frame["op"] == Op.REQUEST:
            session.requests.on_error(ref, code, frame["text"], frame["retry_after_ms"], retryable, now)
        elif frame["op"] in {Op.SEND, Op.SKIP}:
            # It may be stored: the same cseq again finds out.
            session.outbox.on_nak(ref, code, frame["text"], frame["retry_after_ms"], retryable, now)
        elif frame["op"] in (Op.STREAM_START, Op.STREAM_DELTA):
            self.streams.on_error(frame["op"], ref, error, retryable, now + delay_s)
        elif frame["op"] == Op.SUBSCRIBE and retryable:
            self._follow_at[ref] = now + delay_s
        elif frame["op"] == Op.SUBSCRIBE:
            self._following.pop(ref, None)
            session.signals.append(Followed(ref, 0))

    def _on_reauthenticated(self, frame: Frame, now: float) -> None:
        del now
        self._session.on_reauthenticated(frame["ticket"])

    # ------------------------------------------------------------ the ephemeral side

    def _on_ephemeral(self, frame: Frame, now: float) -> None:
        del now
        told = frame.extension(EXTENSION_EPHEMERAL_TELEMETRY) if frame["kind"] == EphemeralKind.TELEMETRY else None
        key: int = told["key"] if told else 0  # type: ignore[assignment]
        self._session.signals.append(Ephemeral(frame["cid"], frame["sender"], frame["kind"], frame["payload"], key))

    def _on_receipt(self, frame: Frame, now: float) -> None:
        del now
        for entry in frame["entries"]:
            receipt = Receipt(frame["cid"], entry["user"], entry["delivered_seq"], entry["read_seq"])
            if receipt.user == self._session.inbox.me:
                self._session.inbox.marked_read(receipt.cid, receipt.read_seq)
            self._session.signals.append(receipt)

    def _on_subscribe(self, frame: Frame, now: float) -> None:
        del now
        self._session.signals.append(Followed(frame["cid"], frame["topics"]))

    def _on_unsubscribe(self, frame: Frame, now: float) -> None:
        del now
        self._following.pop(frame["cid"], None)
        self.streams.unfollowed(frame["cid"])
        self._session.signals.append(Followed(frame["cid"], 0))

    def _on_notice(self, frame: Frame, now: float) -> None:
        del now
        topic, told = frame["topic"], unpack(frame["content"])
        if not self.presences.on_notice(topic, told):
            self._session.signals.append(Notice(topic, told))

    # ------------------------------------------------------------ the connection

    def _on_ping(self, frame: Frame, now: float) -> None:
        del now
        if frame.flags & schema.FLAG_PING_REPLY_WANTED:
            self._session.emit(make(Op.PONG, echo=frame["echo"]))

    def _on_goaway(self, frame: Frame, now: float) -> None:
        self._session.leave(frame["window_ms"], frame["ticket"], now)

    def _on_redirect(self, frame: Frame, now: float) -> None:
        del now
        self._session.on_redirect(frame["host"], frame["port"], frame["retry_after_ms"])

    def _on_bye(self, frame: Frame, now: float) -> None:
        del now
        self._session.on_bye(frame["reason"], frame["retry_after_ms"], frame["text"])


def overview(entry: dict[str, object]) -> Overview:
    """A SYNC entry as the application sees it."""
    values = dict(entry)
    values["member"] = values.pop("state") == MemberState.MEMBER
    values["last_time_ms"] = to_unix_ms(values.pop("last_time"))  # type: ignore[arg-type]
    return Overview(**values)  # type: ignore[arg-type]


def _extensions(row: Waiting) -> Extensions:
    return decode_extensions(Op.SEND, Reader(row.extensions)) if row.extensions else ()
