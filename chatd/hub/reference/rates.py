"""What a SEND costs its user. Mirrors native/hub/rates.pxi; the theory is there."""

from typing import TYPE_CHECKING

from chatd.hub.reference.state import Conversation, State
from chatd.wire import varint
from chatd.wire.schema import HEADER_BYTES

if TYPE_CHECKING:
    from chatd.hub.reference.sends import Sending

RECOUNT_MS = 1000
MEMBERS_PER_PRICE = 100
TIME_BYTES = 5


def count_audience(hub: State, conversation: Conversation) -> None:
    if hub.tick_ms < conversation.recount_ms:
        return
    conversation.recount_ms = hub.tick_ms + RECOUNT_MS
    members = [hub.users.get(member.user) for member in conversation.members if member.leave_seq == 0]
    online = [len(user.online) for user in members if user is not None and user.online]
    conversation.online_members, conversation.online_devices = len(online), sum(online)


def charge(hub: State, send: "Sending", conversation: Conversation) -> int:
    """0: paid. Otherwise nothing is charged, and the milliseconds to wait."""
    assert send.frame is not None
    limits, user = hub.settings, hub.users[send.user]
    if not limits.sends_per_s and not limits.amplification_max:
        return 0
    count_audience(hub, conversation)
    numbers = (conversation.cid, conversation.head_seq + 1, send.user, send.frame["kind"])
    head = HEADER_BYTES + TIME_BYTES + sum(len(varint.encode(number)) for number in numbers)
    bytes_in = HEADER_BYTES + len(send.body)
    bytes_out = (head + len(send.content)) * max(0, conversation.online_devices - 1)
    if hub.tick_ms >= user.spread_until_ms:
        user.spread_until_ms = hub.tick_ms + limits.amplification_ms
        user.spread_in = user.spread_out = 0
    is_slow = user.spread_out > limits.amplification_max * user.spread_in
    if limits.amplification_max and is_slow and bytes_out > limits.amplification_max * bytes_in:
        return user.spread_until_ms - hub.tick_ms
    if limits.sends_per_s:
        price = min(1 + conversation.online_members // MEMBERS_PER_PRICE, limits.sends_burst)
        now_ns, interval_ns = hub.tick_ms * 1_000_000, 1_000_000_000 // limits.sends_per_s
        arrival_ns = max(user.arrival_ns, now_ns) + price * interval_ns
        if arrival_ns > now_ns + limits.sends_burst * interval_ns:
            return (arrival_ns - now_ns - limits.sends_burst * interval_ns) // 1_000_000 + 1
        user.arrival_ns = arrival_ns
    user.spread_in += bytes_in
    user.spread_out += bytes_out
    return 0
