"""Who follows the ephemeral side of a conversation. Mirrors native/hub/interest.pxi; the theory is there."""

from chatd.hub.reference import links
from chatd.hub.reference.state import Conversation, Device, Need, State, Subscription
from chatd.wire.errors import WireError
from chatd.wire.frame import decode, encode, make
from chatd.wire.schema import RETRYABLE, ErrorCode, Feature, Op, Topic

TOPICS = int(Topic.EPHEMERAL | Topic.RECEIPTS | Topic.STREAMS)
FEATURE_OF = {Topic.RECEIPTS: Feature.RECEIPTS, Topic.STREAMS: Feature.STREAMS}


def interest_changed(hub: State, conversation: Conversation) -> None:
    """Tell the shards concerned when the set of shards with followers has changed."""
    now = 0
    for follower in conversation.followers:
        now |= 1 << follower.device.shard
    before, conversation.shards = conversation.shards, now
    if now == before:
        return
    for shard in range(64):
        if (now | before) >> shard & 1:
            hub.links[shard].say_interest(conversation.cid, now)


def find(device: Device, conversation: Conversation | None) -> Subscription | None:
    return next((follower for follower in device.subscriptions if follower.conversation is conversation), None)


def remove(hub: State, subscription: Subscription) -> None:
    subscription.device.subscriptions.remove(subscription)
    subscription.conversation.followers.remove(subscription)
    interest_changed(hub, subscription.conversation)


def unsubscribe_all(hub: State, device: Device) -> None:
    while device.subscriptions:
        remove(hub, device.subscriptions[0])


def subscribe(hub: State, device: Device, conversation: Conversation) -> int:
    """0, or why not."""
    if find(device, conversation) is not None:
        return 0
    if len(device.subscriptions) >= hub.settings.subscriptions_max:
        return ErrorCode.LIMIT_REACHED
    subscription = Subscription(conversation, device)
    device.subscriptions.insert(0, subscription)
    conversation.followers.insert(0, subscription)
    interest_changed(hub, conversation)
    return 0


def on_subscription(hub: State, link: links.Link, record: bytes) -> Need | None:
    """SUBSCRIBE or UNSUBSCRIBE. Returns what it has to wait for."""
    _, _, op, _, _, handle, _, device_id, *_ = links.CALL.unpack_from(record)
    device = hub.devices.get(device_id)
    if device is None or not device.is_session(link.shard, handle):
        return None
    try:
        frame = decode(op, 0, record[links.CALL.size :])
    except WireError:
        return refuse_call(hub, link, record, 0, ErrorCode.BAD_REQUEST)
    cid = frame["cid"]
    topics = frame["topics"] & TOPICS if op == Op.SUBSCRIBE else 0
    for topic, feature in FEATURE_OF.items():
        if not device.features & feature:
            topics &= ~topic
    conversation = hub.conversations.get(cid)
    if topics == 0:
        known = find(device, conversation)
        if known is not None:
            remove(hub, known)
        if cid:
            link.say_grant(handle, cid, 0)
        link.say_frames(handle, echo(op, cid, 0), done=True)
        return None
    if cid and (conversation is None or not conversation.loaded):
        return ("conversation", cid)
    member = conversation.member(device.user) if conversation is not None else None
    error: int = ErrorCode.NOT_FOUND
    if conversation is not None and member is not None and member.leave_seq == 0:
        error = subscribe(hub, device, conversation)
    if error:
        return refuse_call(hub, link, record, cid, error)
    if not is_reattach(record):
        link.say_grant(handle, cid, topics)
        link.say_frames(handle, echo(op, cid, topics), done=True)
        if conversation is not None and conversation.streaming and topics & Topic.STREAMS:
            hub.upcalls.append(("followed", link.shard, handle, cid, device.frame_bytes_max))
    return None


def push(hub: State, conversation: Conversation, topics: int, frame: bytes, but: tuple[int, int]) -> int:
    """A frame that may be lost, for who follows any of the topics but (shard, handle). How many shards dropped it."""
    dropped = 0
    for shard in range(64):
        if not conversation.shards >> shard & 1:
            continue
        if hub.links[shard].has_spare_room(frame):
            hub.links[shard].say_topic(conversation.cid, topics, frame, but[1] if shard == but[0] else 0)
        else:
            dropped += 1
    return dropped


def is_reattach(record: bytes) -> bool:
    """A subscription that stands already, told to a fresh hub: answered only when it has ended."""
    return bool(record[3])


def say_ended(link: links.Link, handle: int, cid: int) -> None:
    link.say_grant(handle, cid, 0)
    link.say_frames(handle, echo(Op.UNSUBSCRIBE, cid, 0), done=False)


def echo(op: int, cid: int, topics: int) -> bytes:
    if op == Op.SUBSCRIBE:
        return encode(make(Op.SUBSCRIBE, cid=cid, topics=topics))
    return encode(make(Op.UNSUBSCRIBE, cid=cid))


def refuse_call(hub: State, link: links.Link, record: bytes, cid: int, code: int) -> Need | None:
    _, _, op, _, _, handle, *_ = links.CALL.unpack_from(record)
    if is_reattach(record):
        say_ended(link, handle, cid)
        return None
    retry = hub.settings.busy_retry_ms if code in RETRYABLE else 0
    link.say_frames(handle, links.frame_error(code, op, cid, retry), done=True)
    return None


def revoke(hub: State, user: int, conversation: Conversation) -> None:
    """The user has lost the conversation: all devices stop following, and are told."""
    known = hub.users.get(user)
    for device in list(known.online) if known is not None else []:
        subscription = find(device, conversation)
        if subscription is not None:
            remove(hub, subscription)
            say_ended(hub.links[device.shard], device.handle, conversation.cid)
