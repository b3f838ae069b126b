"""ReferenceHubCore: the interface of chatd._native.HubCore over plain tables. Mirrors hub/core.pxi and hub/poll.pxi."""

from collections.abc import Iterable, Sequence
from typing import Any

from chatd.errors import InternalError
from chatd.hub.core_settings import HubCoreSettings
from chatd.hub.reference import links, publishing, receipts, replaying, rights, sends, sessions, subscriptions
from chatd.hub.reference.state import EARLY_SEQ, Conversation, Member, Sent, State, Verdict
from chatd.hub.rights import NOTHING_DENIED
from chatd.storage import journal_codec as journal
from chatd.wire.frame import decode_one
from chatd.wire.schema import BODY_BYTES_MAX, HEADER_BYTES, KINDS, Close, ErrorCode, Feature, Op

READ_MAX = 1024
PREVIEW_BYTES_MAX = 96
DEVICE_REVOKED = 1


class ReferenceHubCore:
    def __init__(self, settings: HubCoreSettings) -> None:
        self._hub = State(settings)

    # ---------------------------------------------------------------- links

    def link(self, shard: int, epoch: int, ring_in: links.Ring, ring_out: links.Ring) -> None:
        self.unlink(shard)
        hub = self._hub
        hub.links[shard] = links.Link(shard, ring_in, ring_out, hub.settings, hub.upcalls)

    def unlink(self, shard: int) -> None:
        link = self._hub.links.get(shard)
        if link is not None and link.up:
            link.up = False
            sessions.forget_shard(self._hub, shard)
            publishing.flush_links(self._hub)

    # ---------------------------------------------------------------- the loop's five calls

    def poll(self, now_ms: int, tick_ms: int) -> list[tuple[Any, ...]]:
        hub = self._hub
        hub.now_ms, hub.tick_ms = now_ms, tick_ms
        receipts.cool(hub)
        sessions.attempt_all(hub)
        publishing.flush_links(hub)
        for _, link in sorted(hub.links.items()):
            if link.is_usable:
                self._read(link)
        receipts.settle(hub)
        publishing.flush_links(hub)
        upcalls = [
            sends.judgement(hub, *upcall[1:]) if upcall[0] == "need_judgement" else upcall for upcall in hub.upcalls
        ]
        hub.upcalls.clear()
        return [upcall for upcall in upcalls if upcall is not None]

    def _read(self, link: links.Link) -> None:
        """Take from one ring: nothing while answers wait for room, at most a budget."""
        settings = self._hub.settings
        for _ in range(READ_MAX):
            is_full = self.staged_count >= settings.batch_records_max or self.staged_bytes >= settings.batch_bytes_max
            if link.outbox or is_full or link.lost:
                return
            try:
                record = link.ring_in.read()
            except InternalError:
                link.give_up()
                return
            if record is None:
                return
            if not links.is_fine(record):
                link.give_up()
                return
            self._take(link, record)

    def _take(self, link: links.Link, record: bytes) -> None:
        hub, kind = self._hub, record[0]
        if kind in {links.S_SEND, links.S_SKIP, links.S_LOGIN, links.S_POSITION}:
            sends.run(hub, link, record)
        elif kind == links.S_CALL:
            _, flags, op, _, _, handle, user, device, *window = links.CALL.unpack_from(record)
            if op in {Op.SUBSCRIBE, Op.UNSUBSCRIBE}:
                sends.run(hub, link, record)
            else:
                body = record[links.CALL.size :]
                hub.upcalls.append(("call", link.shard, handle, user, device, op, flags, *window, body))
        elif kind == links.S_CLOSED:
            sessions.on_closed(hub, link, record)
        elif kind == links.S_RECEIVED:
            link.received_pos = links.RECEIVED.unpack(record)[1]
        elif kind == links.S_READY:
            self._ready(link)
        elif kind == links.S_MARK:
            _, handle, device, cid, cseq = links.MARK.unpack(record)
            sends.hold_back(hub.devices.get(device), link, handle, cid, cseq)
        else:
            call = links.RPC.unpack_from(record)[2]
            hub.upcalls.append(("rpc", link.shard, call, record[links.RPC.size :]))

    def _ready(self, link: links.Link) -> None:
        """All sessions of the shard are known: it gets what is committed after what it has routed."""
        link.ready = True
        link.pushed_pos = link.received_pos
        if not link.devices:
            link.pushed_pos = self._hub.committed_pos
        elif link.pushed_pos > self._hub.committed_pos:
            link.say_lost(self._hub.committed_pos)
            link.pushed_pos = self._hub.committed_pos
        self._hub.upcalls.append(("attached", link.shard, link.received_pos))

    @property
    def staged_count(self) -> int:
        return self._hub.staged_count

    @property
    def staged_bytes(self) -> int:
        return len(self.batch()[2])

    @property
    def committed_pos(self) -> int:
        return self._hub.committed_pos

    def batch(self) -> tuple[int, int, bytes]:
        hub = self._hub
        first = hub.committed_pos + 1
        return first, hub.staged_count, b"".join(hub.tail[pos] for pos in range(first, hub.next_pos))

    def publish(self) -> None:
        publishing.publish(self._hub)

    def reject(self, code: int, retry_after_ms: int) -> None:
        publishing.reject(self._hub, code, retry_after_ms)

    # ---------------------------------------------------------------- what the main database has

    def put_conversation(
        self,
        cid: int,
        kind: int,
        flags: int,
        head_seq: int,
        message_count: int,
        last_ts: int,
        changed_pos: int,
        members: list[tuple[int, int, int, int, int, int, int]],
        slow_mode_s: int = 0,
        denied: Sequence[int] = NOTHING_DENIED,
        muted: Iterable[tuple[int, int]] = (),
        spoke: Iterable[tuple[int, int]] = (),
    ) -> None:
        conversation = self._hub.conversation(cid)
        for user, role, join_seq, leave_seq, delivered_seq, read_seq, read_count in members:
            if conversation.interval(user, join_seq) is None:
                conversation.set_interval(user, join_seq, leave_seq, role)
            newest = conversation.member(user)
            assert newest is not None
            newest.raise_to(delivered_seq, read_seq, read_count)
        conversation.settle_early()
        for user, until_s in muted:
            member = conversation.member(user)
            if member is not None:
                member.muted_until_s = until_s
        for user, ts_ms in spoke:
            member = conversation.member(user)
            if member is not None:
                member.spoke_s = max(member.spoke_s, rights.second_after(ts_ms))
        conversation.kind, conversation.flags = kind, flags
        conversation.slow_mode_s, conversation.denied = slow_mode_s, tuple(denied)
        conversation.touched_pos = max(conversation.touched_pos, changed_pos)
        if head_seq > conversation.head_seq and not conversation.events:
            conversation.head_seq, conversation.message_count = head_seq, message_count
        conversation.last_ts = max(conversation.last_ts, last_ts)
        self._conversation_known(conversation)

    def no_conversation(self, cid: int) -> None:
        conversation = self._hub.conversation(cid)
        self._conversation_known(conversation)
        if not conversation.events and conversation.touched_pos <= self._hub.folded_pos:
            del self._hub.conversations[cid]

    def _conversation_known(self, conversation: Conversation) -> None:
        conversation.loaded = True
        sends.resume(self._hub, ("conversation", conversation.cid))
        publishing.flush_links(self._hub)

    def put_user(self, user: int, token_epoch: int, flags: int) -> None:
        known = self._hub.user(user)
        known.token_epoch = max(known.token_epoch, token_epoch) if known.loaded else token_epoch
        known.loaded = True
        for device in known.online:
            if device.token_epoch < known.token_epoch:
                self._hub.links[device.shard].say_kick(device.handle, Close.REVOKED)
        sends.resume(self._hub, ("user", user))
        publishing.flush_links(self._hub)

    def put_device(self, device: int, user: int, cseq_max: int, flags: int) -> None:
        known = self._hub.device(device)
        if known.handle and (flags & DEVICE_REVOKED or known.user != user):
            self._hub.links[known.shard].say_kick(known.handle, Close.REVOKED)
            if known.user != user:
                sessions.end_session(self._hub, known)
        if not known.loaded:
            known.window_floor = max(known.window_floor, cseq_max + 1)
        known.cseq_max = max(known.cseq_max, cseq_max)
        known.user, known.flags, known.loaded = user, flags, True
        sends.resume(self._hub, ("device", device))
        publishing.flush_links(self._hub)

    def no_device(self, device: int) -> None:
        known = self._hub.devices.get(device)
        if known is not None:
            known.waits = None if known.waits == ("device", device) else known.waits
            if known.handle:
                self._hub.links[known.shard].say_kick(known.handle, Close.REVOKED)
                sessions.end_session(self._hub, known)
        for parked in self._hub.needs.pop(("device", device), []):
            if parked.record[0] == links.S_LOGIN and parked.link.up and not parked.cancelled:
                _, _, _, _, handle, user, *_ = links.LOGIN.unpack(parked.record)
                parked.link.say_registered(ErrorCode.AUTH_FAILED, handle, user, device)
        publishing.flush_links(self._hub)

    def answer_idempotency(
        self, device: int, cseq: int, found: bool, cid: int, seq: int, ts_ms: int, digest: int
    ) -> None:
        if ("idempotency", device) in self._hub.needs and self._hub.asked_cseq[device] == cseq:
            checked = Sent(cseq, cid, seq, ts_ms, digest) if found else cseq
            sends.resume(self._hub, ("idempotency", device), checked)
            publishing.flush_links(self._hub)

    def put_read_count(self, cid: int, user: int, read_seq: int, read_count: int) -> None:
        receipts.put_read_count(self._hub, cid, user, read_seq, read_count)

    def judge(
        self,
        device: int,
        cseq: int,
        code: int,
        text: bytes,
        content: bytes | None = None,
        has_ext: bool = False,
        kind: int = 0,
    ) -> int:
        need = ("judgement", device)
        if need not in self._hub.needs or self._hub.asked_cseq[device] != cseq:
            return 0
        verdict = self._hub.verdict = Verdict(
            device, cseq, code, text.decode(), content, has_ext, kind if kind in KINDS else 0
        )
        sends.resume(self._hub, need)
        publishing.flush_links(self._hub)
        self._hub.verdict = None
        return verdict.seq

    # ---------------------------------------------------------------- durable things made by Python

    def _loaded(self, cid: int) -> Conversation:
        conversation = self._hub.conversations.get(cid)
        if conversation is None or not conversation.loaded:
            raise InternalError(f"conversation {cid} is not loaded: put_conversation comes first")
        return conversation

    def stage_event(self, cid: int, sender: int, kind: int, content: bytes, flags: int) -> int:
        return sends.stage_event(self._hub, self._loaded(cid), sender, kind, content, flags)

    def stage_member(self, cid: int, user: int, role: int, join_seq: int, leave_seq: int) -> int:
        conversation = self._loaded(cid)
        known = conversation.interval(user, join_seq)
        before = None if known is None else (known.leave_seq, known.role)
        touched = conversation.touched_pos
        conversation.set_interval(user, join_seq, leave_seq, role)

        def undo() -> None:
            if before is None:
                conversation.remove_interval(user, join_seq)
            else:
                conversation.set_interval(user, join_seq, *before)
            conversation.touched_pos = touched

        self._hub.undo.append(undo)
        conversation.touched_pos = self._hub.append(journal.encode_member(cid, user, join_seq, leave_seq, role))
        return conversation.touched_pos

    def change_rules(self, cid: int, flags: int, slow_mode_s: int, denied: Sequence[int]) -> None:
        rights.change_rules(self._hub, self._loaded(cid), flags, slow_mode_s, denied)

    def change_mute(self, cid: int, user: int, until_s: int) -> None:
        rights.change_mute(self._hub, self._loaded(cid), user, until_s)

    def put_role_rights(self, words: Sequence[int]) -> None:
        self._hub.role_rights = tuple(words)

    def stage_position(self, cid: int, user: int, delivered_seq: int, read_seq: int) -> int:
        conversation = self._loaded(cid)
        member = conversation.member(user)
        if member is not None:
            receipts.merge(self._hub, conversation, member, delivered_seq, read_seq)
        return self._hub.next_pos - 1

    def stage_row(self, row: bytes) -> int:
        return self._hub.append(journal.encode_row(row))

    def stage_redact(self, cid: int, seq: int, reason: int) -> int:
        return self._hub.append(journal.encode_redact(cid, seq, reason))

    # ---------------------------------------------------------------- to shards

    def _link(self, shard: int) -> links.Link | None:
        link = self._hub.links.get(shard)
        return link if link is not None and link.is_usable else None

    def frames(self, shard: int, handle: int, frames: bytes, done: bool) -> bool:
        link = self._link(shard)
        if link is None:
            return False
        most = link.ring_out.record_bytes_max - 16
        said = True
        while len(frames) > most and said:
            piece = 0
            while piece + (size := 4 + int.from_bytes(frames[piece : piece + 2], "big")) <= most:
                piece += size
            said = piece > 0 and link.say_frames(handle, frames[:piece], done=False)
            frames = frames[piece:]
        said = said and link.say_frames(handle, frames, done)
        link.ring_out.publish()
        return said

    def grant(self, shard: int, handle: int, cid: int, topics: int) -> None:
        link = self._link(shard)
        if link is not None:
            link.say_grant(handle, cid, topics)
            link.ring_out.publish()

    def to_followers(self, cid: int, topics: int, frame: bytes, but_shard: int = 0, but_handle: int = 0) -> int:
        conversation = self._hub.conversations.get(cid)
        if conversation is None:
            return 0
        dropped = subscriptions.push(self._hub, conversation, topics, frame, (but_shard, but_handle))
        for link in self._hub.links.values():
            link.ring_out.publish()
        return dropped

    def streaming(self, cid: int, on: bool) -> None:
        conversation = self._loaded(cid) if on else self._hub.conversations.get(cid)
        if conversation is not None:
            conversation.streaming = on

    def notify(self, user: int, frame: bytes, but_device: int) -> int:
        known = self._hub.users.get(user)
        told = 0
        for device in known.online if known is not None else []:
            may = device.device != but_device and not device.features & Feature.LITE
            if may and len(frame) - HEADER_BYTES <= device.frame_bytes_max:
                told += self.frames(device.shard, device.handle, frame, False)
        return told

    def watch(self, user: int, on: bool) -> None:
        known = self._hub.user(user) if on and user else self._hub.users.get(user)
        if known is not None:
            known.watched = on

    def revoke(self, user: int, cid: int) -> None:
        conversation = self._hub.conversations.get(cid)
        if conversation is not None:
            subscriptions.revoke(self._hub, user, conversation)
            for link in self._hub.links.values():
                link.ring_out.publish()

    def kick(self, shard: int, handle: int, reason: int) -> None:
        link = self._link(shard)
        if link is not None:
            link.say_kick(handle, reason)
            link.ring_out.publish()

    def rpc(self, shard: int, call: int, payload: bytes) -> bool:
        link = self._link(shard)
        if link is None or not link.say_rpc(call, payload):
            return False
        link.ring_out.publish()
        return True

    # ---------------------------------------------------------------- reads

    def conversation(self, cid: int) -> tuple[int, int, int, int, int, int, int] | None:
        known = self._hub.conversations.get(cid)
        if known is None or not known.loaded:
            return None
        head = (known.kind, known.flags, known.head_seq, known.message_count, known.last_ts, known.touched_pos)
        return (*head, known.member_count)

    def touched_pos(self, cid: int) -> int:
        known = self._hub.conversations.get(cid)
        return 0 if known is None else known.touched_pos

    def members(self, cid: int) -> list[tuple[int, int, int, int, int, int, int]] | None:
        known = self._hub.conversations.get(cid)
        if known is None or not known.loaded:
            return None
        return [_interval(known, member) for member in known.members if member.join_seq != EARLY_SEQ]

    def intervals(self, cid: int, user: int) -> list[tuple[int, int, int, int, int, int, int]] | None:
        members = self.members(cid)
        return None if members is None else [member for member in members if member[0] == user]

    def present(self, cid: int, after: int, limit: int) -> list[tuple[int, int, int, int, int, int, int]] | None:
        members = self.members(cid)
        if members is None:
            return None
        return [member for member in members if member[0] > after and not member[3]][:limit]

    def receipt_counts(self, cid: int, seq: int, but_user: int) -> tuple[int, int, int] | None:
        members = self.members(cid)
        if members is None:
            return None
        readers = {user for user, _, join, leave, *_ in members if join <= seq and (leave == 0 or seq <= leave)}
        newest = {member[0]: member for member in members}
        there = [newest[user] for user in readers if newest[user][3] == 0 and user != but_user]
        return (len(there), sum(member[4] >= seq for member in there), sum(member[5] >= seq for member in there))

    def rights(self, cid: int, user: int) -> int | None:
        known = self._hub.conversations.get(cid)
        if known is None or not known.loaded:
            return None
        member = known.member(user)
        return 0 if member is None or member.leave_seq else rights.rights(self._hub, known, member)

    def muted_until_s(self, cid: int, user: int) -> int:
        known = self._hub.conversations.get(cid)
        member = None if known is None else known.member(user)
        return 0 if member is None else member.muted_until_s

    def sessions(self, user: int) -> list[tuple[int, int, int, int]]:
        known = self._hub.users.get(user)
        online = known.online if known is not None else []
        return [(device.shard, device.handle, device.device, device.session_epoch) for device in online]

    def last_event(self, cid: int) -> tuple[int, int, int, int, bytes] | None:
        known = self._hub.conversations.get(cid)
        if known is None or not known.events:
            return None
        event = publishing.event_at(self._hub, known.events[known.head_seq])
        assert event is not None
        shown = decode_one(links.frame_deliver(event.row))["payload"]
        return (event.seq, event.sender, event.ts_ms, event.kind, shown[:PREVIEW_BYTES_MAX])

    def tail_floor(self, cid: int, head: int) -> int:
        known = self._hub.conversations.get(cid)
        return known.tail_floor if known is not None and known.events else head + 1

    def tail_events(
        self,
        cid: int,
        from_seq: int,
        to_seq: int,
        events_max: int,
        bytes_max: int,
        frame_bytes_max: int,
        user: int,
        lite: bool,
    ) -> tuple[bytes, int]:
        known = self._hub.conversations.get(cid)
        frames: list[bytes] = []
        seq = from_seq
        while known is not None and seq in known.events and seq <= to_seq and len(frames) < events_max:
            if known.may_see(user, seq):
                event = publishing.event_at(self._hub, known.events[seq])
                assert event is not None
                frame = links.frame_history(event.row, frame_bytes_max)
                if sum(map(len, frames)) + len(frame) > bytes_max:
                    break
                frames.append(frame)
            seq += 1
        return b"".join(frames), seq

    def encode_events(
        self, rows: list[tuple[int, int, int, int, int, bytes, int]], frame_bytes_max: int = BODY_BYTES_MAX
    ) -> bytes:
        return b"".join(links.frame_history(row, frame_bytes_max) for row in rows)

    # ---------------------------------------------------------------- folding and start

    def freed(self, folded_pos: int) -> None:
        if folded_pos > self._hub.committed_pos:
            raise InternalError(f"folded up to {folded_pos} where {self._hub.committed_pos} is committed")
        publishing.free(self._hub, folded_pos)

    def replay(self, pos: int, count: int, blob: bytes) -> tuple[list[Any], list[Any], list[Any]]:
        return replaying.replay(self._hub, pos, count, blob)


def _interval(conversation: Conversation, member: Member) -> tuple[int, int, int, int, int, int, int]:
    newest = conversation.member(member.user)
    assert newest is not None
    identity = (member.user, member.role, member.join_seq, member.leave_seq)
    return (*identity, newest.delivered_seq, newest.read_seq, newest.read_count)
