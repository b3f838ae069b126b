"""SEND and SKIP, parking, staging and undo. Mirrors native/hub/send.pxi and hub/park.pxi; the theory is there."""

from collections.abc import Callable
from functools import partial
from typing import Any

from chatd.hub.reference import links, rates, rights
from chatd.hub.reference.receipts import on_position
from chatd.hub.reference.sessions import on_login
from chatd.hub.reference.siphash import siphash24
from chatd.hub.reference.state import Answer, Conversation, Device, Member, Need, Parked, Sent, State, Verdict
from chatd.hub.reference.subscriptions import on_subscription, refuse_call
from chatd.storage import journal_codec as journal
from chatd.wire import varint
from chatd.wire.errors import WireError
from chatd.wire.frame import Frame, decode, encode_extensions
from chatd.wire.schema import (
    EXTENSION_SEND_REPLY_TO,
    FLAG_SEND_ACK_DUP,
    FLAG_SEND_ACK_SKIPPED,
    KINDS,
    RETRYABLE,
    SEND_BODY_BYTES_MAX,
    SEND_JUDGED_TAGS,
    Close,
    ErrorCode,
    Op,
)

PARKED_OVERHEAD_BYTES = 24


# -------------------------------------------------------------------- running and parking


def run(hub: State, link: links.Link, record: bytes, checked: Sent | int | None = None) -> None:
    """One SEND, SKIP, LOGIN, POSITION, SUBSCRIBE or UNSUBSCRIBE: do it, or let it wait.

    checked: what the main database said of the cseq that was asked for: a Sent, or that cseq when it is unknown.
    """
    device = None
    if record[0] in {links.S_SEND, links.S_SKIP}:
        _, _, _, _, handle, _, _, device_id, _ = links.SEND.unpack_from(record)
        device = hub.devices.get(device_id)
        waits = device.waits if device is not None and device.is_session(link.shard, handle) else None
        need = waits or on_send(hub, link, record, checked)
    elif record[0] == links.S_LOGIN:
        need = on_login(hub, link, record)
    elif record[0] == links.S_POSITION:
        need = on_position(hub, record)
    else:
        need = on_subscription(hub, link, record)
    if need is None:
        return
    hub.ask(need)
    if not park(hub, need, link, record):
        refuse_parking(hub, link, record)
        if need[0] == "judgement" and not hub.needs[need]:
            del hub.needs[need]
    elif device is not None:
        device.waits = need


def park(hub: State, need: Need, link: links.Link, record: bytes) -> bool:
    cost = sum(PARKED_OVERHEAD_BYTES + len(parked.record) for queue in hub.needs.values() for parked in queue)
    if hub.parked_count >= hub.settings.parked_records_max:
        return False
    if cost + PARKED_OVERHEAD_BYTES + len(record) > hub.settings.parked_bytes_max:
        return False
    hub.needs[need].append(Parked(link, record))
    return True


def refuse_parking(hub: State, link: links.Link, record: bytes) -> None:
    if record[0] == links.S_LOGIN:
        _, _, _, _, handle, user, device, *_ = links.LOGIN.unpack(record)
        link.say_registered(ErrorCode.UNAVAILABLE, handle, user, device)
    elif record[0] == links.S_CALL:
        cid, _ = varint.decode(record, links.CALL.size)
        refuse_call(hub, link, record, cid, ErrorCode.BUSY)
    elif record[0] != links.S_POSITION:
        refuse(hub, Sending(hub, link, record), ErrorCode.BUSY, hub.settings.busy_retry_ms)


def resume(hub: State, need: Need, checked: Sent | int | None = None) -> None:
    """The answer has come: what waited runs again, in order of arrival."""
    queue = hub.needs.pop(need, [])
    for device in hub.devices.values():
        if device.waits == need:
            device.waits = None
    for parked in queue:
        if not parked.cancelled and parked.link.up:
            run(hub, parked.link, parked.record, checked)


# -------------------------------------------------------------------- one SEND or SKIP


class Sending:
    """A SEND or SKIP while it is looked at. frame is None when it is not to be parsed."""

    def __init__(self, hub: State, link: links.Link, record: bytes) -> None:
        self.link = link
        kind, flags, _, _, self.handle, self.token, self.user, device, self.session_epoch = links.SEND.unpack_from(
            record
        )
        self.body = record[links.SEND.size :]
        self.is_skip = kind == links.S_SKIP
        self.device = hub.devices.get(device)
        self.device_id = device
        self.frame: Frame | None = None
        self.content = b""
        """What is stored; has_ext: it begins with the extension block."""
        self.has_ext = False
        self.kind = 0
        self.cseq = self.cid = 0
        try:
            frame = decode(Op.SKIP if self.is_skip else Op.SEND, flags, self.body)
        except WireError:
            return
        if frame["cseq"]:
            self.frame = frame
            if not self.is_skip:
                self.content = encode_extensions(frame.extensions) + frame["payload"]
                self.has_ext = bool(frame.extensions)
                self.kind = frame["kind"]
            self.cseq, self.cid = frame["cseq"], 0 if self.is_skip else frame["cid"]


def on_send(hub: State, link: links.Link, record: bytes, checked: Sent | int | None) -> Need | None:
    """Returns what the record has to wait for, None: it is settled."""
    send = Sending(hub, link, record)
    device = send.device
    if device is None or not device.is_session(link.shard, send.handle):
        return None
    if (device.session_epoch, device.user) != (send.session_epoch, send.user):
        return None
    if send.frame is None:
        return refuse(hub, send, ErrorCode.BAD_REQUEST)
    if send.frame.unknown_extension:
        return refuse(hub, send, ErrorCode.UNSUPPORTED)
    if not device.loaded:
        return ("device", device.device)
    digest = 0 if send.is_skip else siphash24(hub.settings.digest_key, send.body)
    if send.cseq <= device.cseq_max:
        sent = device.find(send.cseq)
        if sent is None and isinstance(checked, Sent) and checked.cseq == send.cseq:
            sent = checked
        if sent is not None:
            return repeat(hub, send, device, sent, digest)
        if send.cseq < device.window_floor and checked != send.cseq:
            hub.asked_cseq[device.device] = send.cseq
            return ("idempotency", device.device)
    if send.is_skip:
        return stage_skip(hub, send, device)
    conversation = hub.conversations.get(send.cid)
    if send.cid == 0:
        return refuse(hub, send, ErrorCode.NOT_FOUND)
    if conversation is None or not conversation.loaded:
        return ("conversation", send.cid)
    code = fault(hub, send, device, conversation)
    if code:
        return refuse(hub, send, code, hub.settings.busy_retry_ms if code in RETRYABLE else 0)
    wait_ms = rights.slow_mode_wait(hub, send, conversation)
    if wait_ms:
        return refuse(hub, send, ErrorCode.RATE_LIMITED, wait_ms)
    if hub.verdict is not None and (hub.verdict.device, hub.verdict.cseq) == (device.device, send.cseq):
        return stage_judged(hub, send, device, conversation, digest, hub.verdict)
    wait_ms = rates.charge(hub, send, conversation)
    if wait_ms:
        return refuse(hub, send, ErrorCode.RATE_LIMITED, wait_ms)
    if is_judged(send.frame):
        hub.asked_cseq[device.device] = send.cseq
        return ("judgement", device.device)
    return stage_send(hub, send, device, conversation, digest)


def is_judged(frame: Frame) -> bool:
    return KINDS[frame["kind"]].judged or any(tag in SEND_JUDGED_TAGS for tag, _ in frame.extensions)


def judgement(hub: State, device: int, cseq: int) -> tuple[Any, ...] | None:
    """The upcall with the send that waits; None: it waits no longer."""
    if ("judgement", device) not in hub.needs or hub.asked_cseq[device] != cseq:
        return None
    parked = hub.needs["judgement", device][0]
    send = Sending(hub, parked.link, parked.record)
    assert send.frame is not None
    has_ext = bool(send.frame.extensions)
    return ("need_judgement", device, cseq, send.user, send.cid, send.frame["kind"], has_ext, send.content)


def stage_judged(
    hub: State, send: Sending, device: Device, conversation: Conversation, digest: int, verdict: Verdict
) -> Need | None:
    """Python has said what becomes of it."""
    if verdict.code:
        retry_ms = hub.settings.busy_retry_ms if verdict.code in RETRYABLE else 0
        return refuse(hub, send, verdict.code, retry_ms, verdict.text)
    if verdict.content is not None:
        send.content, send.has_ext = verdict.content, verdict.has_ext
    send.kind = verdict.kind or send.kind
    stage_send(hub, send, device, conversation, digest)
    verdict.seq = conversation.head_seq
    return None


def refuse(hub: State, send: Sending, code: int, retry_after_ms: int = 0, text: str = "") -> Need | None:
    nak(hub, send.device, send.link, send.handle, send.token, send.cseq, send.cid, code, retry_after_ms, text)
    return None


def hold_back(device: Device | None, link: links.Link, handle: int, cid: int, cseq: int) -> None:
    """Later cseqs of this session to cid have to wait for this one."""
    if cid and device is not None and device.is_session(link.shard, handle) and not device.mark(cid, cseq):
        link.say_kick(handle, Close.FLOOD)


def nak(
    hub: State,
    device: Device | None,
    link: links.Link,
    handle: int,
    token: int,
    cseq: int,
    cid: int,
    code: int,
    retry_after_ms: int,
    text: str = "",
) -> None:
    """A retryable refusal holds back later cseqs of the same session and conversation, a final one does not."""
    if code in RETRYABLE:
        hold_back(device, link, handle, cid, cseq)
    elif device is not None and device.is_session(link.shard, handle):
        device.marks.pop(cseq, None)
    link.say_answer(handle, token, links.frame_nak(cseq, cid, code, retry_after_ms, text))


def repeat(hub: State, send: Sending, device: Device, sent: Sent, digest: int) -> Need | None:
    """This cseq is stored (or skipped) already. What is still staged is answered with its batch."""
    if not send.is_skip and (sent.seq == 0 or sent.digest != digest):
        return refuse(hub, send, ErrorCode.CSEQ_REUSE)
    answer = answer_of(send, device)
    if sent.seq == 0:
        answer.flags = FLAG_SEND_ACK_SKIPPED
    else:
        answer.flags = FLAG_SEND_ACK_DUP
        answer.cid, answer.seq, answer.ts_ms = sent.cid, sent.seq, sent.ts_ms
    device.marks.pop(send.cseq, None)
    if device.touched_pos > hub.committed_pos:
        hub.answers.append(answer)
    else:
        ack(answer)
    return None


def answer_of(send: Sending, device: Device) -> Answer:
    return Answer(send.link, send.handle, send.token, device.device, send.cseq, 0, 0, 0, 0)


def ack(answer: Answer) -> None:
    frame = links.frame_ack(answer.cseq, answer.cid, answer.seq, answer.ts_ms, answer.flags)
    answer.link.say_answer(answer.handle, answer.token, frame)


def fault(hub: State, send: Sending, device: Device, conversation: Conversation) -> int:
    """Why this send cannot be stored, 0: it can. The order of the checks is the contract."""
    assert send.frame is not None
    member = conversation.member(send.user)
    if member is None or member.leave_seq:
        return ErrorCode.NOT_FOUND
    refused = rights.write_fault(hub, conversation, member)
    if refused:
        return refused
    if any(cid == send.cid and cseq < send.cseq for cseq, cid in device.marks.items()):
        return ErrorCode.OUT_OF_ORDER
    if len(send.body) > SEND_BODY_BYTES_MAX:
        return ErrorCode.TOO_LARGE
    rule = KINDS.get(send.frame["kind"])
    if rule is None:
        return ErrorCode.UNSUPPORTED
    if not rule.client:
        return ErrorCode.FORBIDDEN
    payload = send.frame["payload"]
    if len(payload) > rule.payload_bytes_max:
        return ErrorCode.TOO_LARGE
    if any(tag == EXTENSION_SEND_REPLY_TO for tag, _ in send.frame.extensions):
        seq = reply_to(send.frame)
        if not seq:
            return ErrorCode.BAD_REQUEST
        if seq > conversation.head_seq or not conversation.may_see(send.user, seq):
            return ErrorCode.NOT_FOUND
    record_bytes = len(journal.encode_event((*(0,) * 9, send.content, 0)))
    is_full = hub.next_pos - hub.first_pos >= hub.settings.tail_records_max
    if is_full or hub.tail_bytes + record_bytes > hub.settings.tail_bytes_max:
        return ErrorCode.BUSY
    return 0


def reply_to(frame: Frame) -> int:
    """0: malformed."""
    try:
        fields = frame.extension(EXTENSION_SEND_REPLY_TO)
    except WireError:
        return 0
    assert fields is not None
    seq: Any = fields["seq"]
    return int(seq)


# -------------------------------------------------------------------- staging


def stage_send(hub: State, send: Sending, device: Device, conversation: Conversation, digest: int) -> Need | None:
    assert send.frame is not None
    seq, ts_ms = conversation.head_seq + 1, max(hub.now_ms, conversation.last_ts)
    stage_sent(hub, device, Sent(send.cseq, send.cid, seq, ts_ms, digest))
    kind = send.kind
    flags = (KINDS[kind].message and journal.EVENT_MESSAGE) | (send.has_ext and journal.EVENT_EXT)
    stage_event(hub, conversation, send.user, kind, send.content, flags, (device.device, send.cseq, digest))
    if rights.is_slowed(conversation, kind):
        rights.note(hub, conversation, send.user, ts_ms)
    answer = answer_of(send, device)
    answer.cid, answer.seq, answer.ts_ms = send.cid, seq, ts_ms
    hub.answers.append(answer)
    return None


def stage_skip(hub: State, send: Sending, device: Device) -> Need | None:
    stage_sent(hub, device, Sent(send.cseq, 0, 0, 0, 0))
    hub.append(journal.encode_skip(device.device, send.cseq))
    answer = answer_of(send, device)
    answer.flags = FLAG_SEND_ACK_SKIPPED
    hub.answers.append(answer)
    return None


def stage_sent(hub: State, device: Device, sent: Sent) -> None:
    """Into the window; the mark of this cseq goes."""
    hub.undo.append(device.put(sent))
    hub.undo.append(partial(setattr, device, "touched_pos", device.touched_pos))
    device.touched_pos = hub.next_pos
    cid = device.marks.pop(sent.cseq, None)
    if cid is not None:
        hub.undo.append(restore_mark(device, device.session_epoch, cid, sent.cseq))


def restore_mark(device: Device, session_epoch: int, cid: int, cseq: int) -> Callable[[], None]:
    def undo() -> None:
        if device.handle and device.session_epoch == session_epoch:
            device.mark(cid, cseq)

    return undo


def stage_event(
    hub: State,
    conversation: Conversation,
    sender: int,
    kind: int,
    content: bytes,
    flags: int,
    sent: tuple[int, int, int] = (0, 0, 0),
) -> int:
    """Append an event: seq, ts, record, heads, the sender's own positions. sent: device, cseq, digest."""
    message = bool(flags & journal.EVENT_MESSAGE)
    before = (conversation.head_seq, conversation.message_count, conversation.last_ts, conversation.touched_pos)

    def undo() -> None:
        del conversation.events[conversation.head_seq]
        (conversation.head_seq, conversation.message_count, conversation.last_ts, conversation.touched_pos) = before

    hub.undo.append(undo)
    conversation.head_seq += 1
    conversation.message_count += message
    conversation.last_ts = max(hub.now_ms, conversation.last_ts)
    conversation.touched_pos = hub.next_pos
    conversation.events[conversation.head_seq] = hub.next_pos
    member = conversation.member(sender) if message else None
    if member is not None and member.leave_seq == 0:
        hub.undo.append(restore_positions(conversation, member))
        member.raise_to(conversation.head_seq, conversation.head_seq, conversation.message_count)
    seq, device, cseq, digest = conversation.head_seq, *sent
    fields = (conversation.cid, seq, conversation.last_ts, sender, device, cseq, kind, conversation.message_count)
    signed = digest - (1 << 64) if digest >> 63 else digest
    hub.append(journal.encode_event((*fields, signed, content, flags)))
    return seq


def restore_positions(conversation: Conversation, member: Member) -> Callable[[], None]:
    user, before = member.user, (member.delivered_seq, member.read_seq, member.read_count)

    def undo() -> None:
        newest = conversation.member(user)
        assert newest is not None
        newest.delivered_seq, newest.read_seq, newest.read_count = before

    return undo


def undo_all(hub: State) -> None:
    while hub.undo:
        hub.undo.pop()()
